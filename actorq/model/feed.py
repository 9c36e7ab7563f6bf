"""What subscribers get: a snapshot first, then what happens to tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import attrs
from msgspec import Struct

from actorq.errors import RemoteError
from actorq.model.outcomes import reason_of
from actorq.model.records import Head
from actorq.model.results import Progress, TaskResult
from actorq.model.status import TaskStatus


class TaskEventKind(StrEnum):
    """What can happen to a task."""

    SUBMITTED = "submitted"
    """It was accepted, or started anew by `Client.retry`."""
    DUE = "due"
    """It was scheduled, and its time has come."""
    STARTED = "started"
    """An attempt has started. Left out for an attempt that ends without ever waiting."""
    PROGRESS = "progress"
    """It said how far it is."""
    RETRYING = "retrying"
    """An attempt has failed, and there will be another."""
    LOST = "lost"
    """Its worker died under it, and it is delivered again."""
    ENDED = "ended"
    """It is terminal."""


class TaskEvent(Struct, frozen=True, gc=False):
    """Something has happened to a task.

    Attributes:
        kind: What.
        progress: With ``progress``: how far it is.
        error: What went wrong, with ``retrying`` and with ``ended`` of a failure.
    """

    kind: TaskEventKind
    head: Head
    time: float
    progress: Progress | None = None
    error: RemoteError | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return self.head.id

    @property
    def run(self) -> tuple[str, float]:
        """What tells one run of a task from another that `Client.retry` started."""
        return self.head.id, self.head.since

    @property
    def name(self) -> str:
        """The task's name."""
        return self.head.name

    @property
    def queue(self) -> str:
        """The queue that it is in."""
        return self.head.options.queue

    @property
    def status(self) -> TaskStatus:
        """The status that it has by this."""
        return self.head.status

    @property
    def at(self) -> datetime:
        """When it happened, by the owner's clock (UTC)."""
        return datetime.fromtimestamp(self.time, UTC)

    @property
    def attempts(self) -> int:
        """How many attempts have started so far."""
        return self.head.attempts

    @property
    def worker(self) -> str | None:
        """The worker that has or had it last."""
        return self.head.worker

    @property
    def reason(self) -> str | None:
        """Why it waits, was cancelled (and by whom) or is dead, in words."""
        return reason_of(self.head, self.error)

    @property
    def meta(self) -> Mapping[str, Any]:
        """What was submitted with it."""
        return self.head.options.meta

    def __repr__(self) -> str:
        more = f" {self.progress}" if self.progress else ""
        return f"<TaskEvent {self.kind} {self.name} {self.id}: {self.status}{more}>"


class TrackedEvent(TaskEvent, frozen=True, gc=True):
    """An event of a task whose head is tracked; see `actorq.model.records.TrackedHead`."""


@attrs.frozen
class Snapshot:
    """How things stand at the moment from which on a subscriber gets every event.

    Attributes:
        counts: How many live tasks fit the subscription, by status.
        tasks: With ``ids=``: what is known of each of them; unknown ones are left out. If that is
            more than ``max_message`` of a client elsewhere takes, it is without their values,
            progress and most options, and errors are cut; ask for the `result` of those that
            matter.
    """

    counts: Mapping[TaskStatus, int]
    tasks: tuple[TaskResult[Any], ...] = ()


@attrs.frozen
class Lagged:
    """The subscriber read too slowly: ``count`` events that were not ``ended`` were dropped."""

    count: int
