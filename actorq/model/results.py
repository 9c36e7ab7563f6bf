"""What people see of a task: its result, its progress, pages and counts of many."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, cast

import attrs

from actorq.errors import (
    DependencyFailed,
    RemoteError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from actorq.model.status import FailureKind, TaskStatus

R_co = TypeVar("R_co", covariant=True)

CatchUp = Literal["last", "skip", "all"]
Overlap = Literal["skip", "queue"]

_ERRORS: dict[FailureKind | None, type[TaskError]] = {
    FailureKind.TIMEOUT: TaskTimeout,
    FailureKind.EXPIRED: TaskExpired,
    FailureKind.LOST: WorkerLost,
    FailureKind.DEPENDENCY: DependencyFailed,
}


@attrs.frozen
class Progress:
    """How far a running task says it is; the units are the task's own."""

    done: float
    total: float | None = None
    message: str | None = None


@attrs.frozen
class TaskResult(Generic[R_co]):
    """A snapshot of a task; final once ``status.terminal``.

    Attributes:
        value: What the function returned, if ``status`` is ``success``.
        error: What went wrong, if ``status`` is ``failure``.
        attempts: How many times the function was started.
        worker: The worker that has or had it last, ``node.incarnation``.
        submitted_at: When the owner accepted it (UTC, like the next two).
        started_at: When its last attempt started, or None.
        completed_at: When it became terminal, or None.
        reason: Why it waits, was cancelled (and by whom) or is dead, in words.
    """

    id: str
    name: str
    queue: str
    status: TaskStatus
    value: R_co | None
    error: RemoteError | None
    attempts: int
    worker: str | None
    submitted_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    meta: Mapping[str, Any]
    reason: str | None
    _by: tuple[str, str | None] | None = attrs.field(repr=False, eq=False, default=None, alias="by")
    """Who cancelled it, and why."""
    _kind: FailureKind | None = attrs.field(repr=False, eq=False, default=None, alias="kind")
    _cause: BaseException | None = attrs.field(repr=False, eq=False, default=None, alias="cause")

    @property
    def ok(self) -> bool:
        """Whether the task succeeded."""
        return self.status is TaskStatus.SUCCESS

    def unwrap(self) -> R_co:
        """Return the value of a task that succeeded.

        Raises:
            TaskError: The subclass that says how it ended otherwise.
            ValueError: It has not ended yet.
        """
        if self.status is TaskStatus.SUCCESS:
            return cast(R_co, self.value)
        if not self.status.terminal:
            raise ValueError(f"task {self.name} ({self.id}) is {self.status}, so it has no value")
        raise self._exception() from self._cause

    def _exception(self) -> TaskError:
        label = f"task {self.name} ({self.id})"
        if self.status is TaskStatus.CANCELLED:
            by, why = self._by or ("user", None)
            said = f"{label} was cancelled by {by}" + (f": {why}" if why else "")
            return TaskCancelled(said, id=self.id, name=self.name, by=by, reason=why)
        error = self.error
        said = f"{label} failed: {error.type}: {error.message}" if error else f"{label} failed"
        kind = _ERRORS.get(self._kind)
        if kind is None:
            failed = TaskFailed(said, id=self.id, name=self.name, error=error)
            if self._cause is None and error is not None and error.traceback:
                failed.add_note(f"where it was raised:\n{error.traceback.rstrip()}")
            return failed
        return kind(
            f"{label}: {error.message if error else kind.__name__}",
            id=self.id,
            name=self.name,
            error=error,
        )


@attrs.frozen
class TaskDone:
    """What a callback gets: an actor as a message, a task as its argument.

    Attributes:
        result: How the task ended, well or not.
        data: The ``callback_data`` of its submission, unchanged.
    """

    result: TaskResult[Any]
    data: Any


@attrs.frozen
class Page:
    """One page of `Client.find`: newest submissions first.

    Attributes:
        tasks: What matched.
        next: Pass it as ``cursor=`` for the page after, or None if there is none.
        scanned: How many records were looked at to fill the page.
    """

    tasks: list[TaskResult[Any]]
    next: str | None
    scanned: int


@attrs.frozen
class QueueStats:
    """How many of one queue's tasks are where."""

    scheduled: int = 0
    pending: int = 0
    running: int = 0
    parked: int = 0
    """Submissions that wait for room."""
    waiting: int = 0
    """Those that wait for other tasks."""
    paused: bool = False
    """Whether nothing of it is started; see `Client.pause`."""
    oldest: datetime | None = None
    """Since when the oldest of those that are pending has been due (UTC)."""


@attrs.frozen
class PoolStats:
    """How many slots a kind of work has over all workers, and how many of them are free."""

    slots: int = 0
    free: int = 0


@attrs.frozen
class WorkerInfo:
    """One worker, as the owner knows it.

    Attributes:
        worker: Its name, ``node.incarnation``.
        connected: Whether it is, now; one that is not may be back soon, or is given up.
        remote: Whether it is in another process than the queue actor.
        slots: How many tasks it can run at once.
        running: How many it has been granted and not reported.
    """

    worker: str
    connected: bool
    remote: bool
    slots: int
    running: int


@attrs.frozen
class TaskInfo:
    """A task's name, as the owner knows it.

    Attributes:
        name: The name.
        workers: How many connected workers know it.
        waiting: How many submissions of it are pending.
        versions: How many different signatures it has among those workers; more than one is worth
            a look.
    """

    name: str
    workers: int
    waiting: int
    versions: int


@attrs.frozen
class ScheduleInfo:
    """One schedule, as the owner knows it.

    Attributes:
        name: Its name.
        task: The name of the task that each tick submits.
        timing: When it ticks, in words, as ``cron 0 3 * * * (Europe/Zurich)`` or ``every 60 s``.
        next_at: The nominal time of its next tick (UTC, like the next), or None if it is paused.
        last_at: The nominal time of the newest tick that submitted a task, or None.
        last_id: The id of that task; its result may have expired.
        paused: Whether it is.
        catch_up: See `Client.schedule`.
        overlap: See `Client.schedule`.
    """

    name: str
    task: str
    timing: str
    next_at: datetime | None
    last_at: datetime | None
    last_id: str | None
    paused: bool
    catch_up: CatchUp
    overlap: Overlap


@attrs.frozen
class StoreStats:
    """What the owner has written to its store since it opened.

    Attributes:
        url: Where the store is, without a password.
        size: Bytes on its disk, or None if it has none.
        commits: How many commits there were.
        seconds: What all of them took.
        slowest: What the slowest of them took, in seconds.
        writes: How many records were written by them.
    """

    url: str
    size: int | None = None
    commits: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    writes: int = 0


@attrs.frozen
class Stats:
    """A snapshot of the owner: live tasks by queue, slots by pool, outcomes since it opened.

    Attributes:
        queues: Counts of live tasks, by queue.
        pools: Slots of the connected workers, by pool.
        workers: How many workers are connected.
        unknown: How many tasks are pending that none of them knows, by name.
        store: What was written to its store.
    """

    queues: Mapping[str, QueueStats]
    pools: Mapping[str, PoolStats]
    workers: int
    success: int
    failure: int
    cancelled: int
    retries: int
    lost: int
    unknown: Mapping[str, int] = attrs.field(factory=dict)
    store: StoreStats | None = None
