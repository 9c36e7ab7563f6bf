"""What workers and the owner say to each other; a part of `actorq.model.messages`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from actorq.model.bounds import Count, Moment, Name, Seconds
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Output, Pool
from actorq.model.results import Progress
from actorq.model.schedules import Schedule

# --- worker to owner -----------------------------------------------------------------------------


class Declared(Struct, frozen=True):
    """What a task's decorator says, for those who submit it by name."""

    pool: Pool
    options: TaskOptions
    schedule: Schedule | None = None
    """When it is to be run without anybody asking."""


class WorkerHello(Struct, frozen=True):
    """The first message of a worker's connection.

    Attributes:
        worker: ``node.incarnation``.
        node: The part of it that a restarted worker keeps.
        running: Every (id, fence) that runs here or whose `Finish` was not yet answered.
        slots: Slots by pool.
        tasks: The names that it knows, each with a digest of its signature; None if it runs
            whatever it is granted.
        leased: Whether it is elsewhere, so that what it holds is lost without its beats.
        declared: What these tasks say of themselves.
    """

    worker: Name
    node: Name
    running: tuple[tuple[Name, int], ...]
    slots: dict[Pool, Count]
    tasks: dict[str, str] | None = None
    leased: bool = False
    declared: dict[str, Declared] = {}


class Knows(Struct, frozen=True):
    """The worker has got to know more tasks: all of its names now, as in its hello."""

    tasks: dict[str, str]
    declared: dict[str, Declared] = {}


class Beat(Struct, frozen=True, gc=False, array_like=True, tag="beat"):
    """The worker's process is alive; its loop has not come round for ``lag`` seconds."""

    lag: Seconds


class Ready(Struct, frozen=True, gc=False, array_like=True, tag="ready"):
    """Cumulative credit of one pool: grants received on this connection, plus slots free now."""

    pool: Pool
    credit: Count


class Started(Struct, frozen=True, gc=False, array_like=True, tag="started"):
    """An attempt has started and did not end at once. Has no answer and is not stored."""

    id: Name
    fence: int
    at: Moment


class Report(Struct, frozen=True, gc=False, array_like=True, tag="progress"):
    """A running task's progress. Has no answer and is not stored."""

    id: Name
    fence: int
    progress: Progress


FinishCause = Literal[
    "ok", "failed", "timeout", "deadline", "cancelled", "later", "lost", "handed back"
]


class Finish(Struct, frozen=True):
    """A grant is over. Kept by the worker until it is answered by `Finished`.

    Attributes:
        cause: ``ok``; ``failed`` (it raised); ``timeout`` and ``deadline`` (the worker stopped it);
            ``cancelled`` (as the owner asked); ``later`` (it raised `RetryLater`);
            ``lost`` (its process died); ``handed back`` (the worker stops, others are to run it).
        retryable: Whether its retry policy covers the error.
        delay: Seconds, with ``later``.
    """

    id: Name
    fence: int
    cause: FinishCause
    output: Output
    started_at: float | None
    retryable: bool = False
    delay: float = 0.0
    exception: BaseException | None = None


# --- owner to worker -----------------------------------------------------------------------------


class Welcome(Struct, frozen=True, array_like=True, tag="welcome"):
    """The answer to a worker's hello: which of its running grants are no longer its own."""

    revoked: tuple[tuple[str, int], ...]


class Grant(Struct, frozen=True):
    """Run this task once. ``remaining`` is what is left of its deadline, in seconds."""

    head: Head
    body: Any
    remaining: float | None
    inputs: dict[str, Any] = {}
    """The values of the tasks that it needs, by id."""


class Interrupt(Struct, frozen=True, array_like=True, tag="interrupt"):
    """Stop this attempt and say `Finish`, within ``grace`` seconds."""

    id: Name
    fence: int
    cancel: Cancel
    grace: Seconds


class Finished(Struct, frozen=True, gc=False, array_like=True, tag="finished"):
    """A `Finish` was recorded, or (not ``accepted``) refused since its grant is not the newest."""

    id: Name
    fence: int
    accepted: bool
