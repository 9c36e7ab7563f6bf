"""actorq: background tasks for trio programs."""

from actorq.actors.executors.current import Current as Current
from actorq.actors.executors.current import current as current
from actorq.client.client import Client as Client
from actorq.client.handle import TaskHandle as TaskHandle
from actorq.client.nursery import TaskNursery as TaskNursery
from actorq.errors import *  # noqa: F403
from actorq.model.options import Retry as Retry
from actorq.model.options import TaskOptions as TaskOptions
from actorq.model.results import TaskResult as TaskResult
from actorq.model.status import TaskPriority as TaskPriority
from actorq.model.status import TaskStatus as TaskStatus
from actorq.system.system import System as System
from actorq.system.system import open_system as open_system
from actorq.tasks import task as task
