"""What clients, the owner (the queue actor) and workers say to each other.

The same messages go through memory in one process and, encoded, over a wire. Whoever sends a
*request* keeps it until it is answered and sends it again on a new connection; so every message
here can arrive twice, and its meaning is bound to ids: a task's id, or (id, fence) for one grant.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from actorq.model.feed import TaskEvent
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Output, Pool
from actorq.model.results import Progress
from actorq.model.status import TaskStatus

# --- client to owner -----------------------------------------------------------------------------


class ClientHello(Struct, frozen=True):
    """The first message of a client's connection."""

    session: str


class Submission(Struct, frozen=True, gc=False):
    """One task inside a `Submit`."""

    id: str
    name: str
    pool: Pool
    options: TaskOptions
    scope: str | None
    body: Any


class Submit(Struct, frozen=True, gc=False):
    """Accept all of these or none, and tell this client how each of them ends.

    Answered by `Reply` once stored; at a full queue it waits for room first.
    """

    request: int
    tasks: tuple[Submission, ...]
    resent: bool = False


class Withdraw(Struct, frozen=True):
    """Nobody waits for the answer to the request ``submit`` any more: forget it.

    If its tasks have been accepted, cancel them. Answered at once.
    """

    request: int
    submit: int
    ids: tuple[str, ...]
    grace: float


class Forget(Struct, frozen=True):
    """Nobody waits for the answer to this question any more.

    Has no answer.
    """

    request: int


class Watch(Struct, frozen=True):
    """Tell this client how these tasks end. Answered by the ids that are unknown."""

    request: int
    ids: tuple[str, ...]
    resent: bool = False


class CancelTask(Struct, frozen=True):
    """Cancel this task; answered by its terminal result, at the latest after ``grace``."""

    request: int
    id: str
    cancel: Cancel
    grace: float


class EndScope(Struct, frozen=True):
    """Cancel every task of this scope in one step; answered when all of them are terminal."""

    request: int
    scope: str
    grace: float


class Inspect(Struct, frozen=True):
    """Answer with a `Snapshot` of this task, or None if it is unknown."""

    request: int
    id: str


class Find(Struct, frozen=True):
    """Answer with a page of matching tasks."""

    request: int
    filter: Filter
    cursor: str | None
    limit: int


Verb = Literal["cancel", "retry", "discard"]


class Bulk(Struct, frozen=True):
    """Do this to every matching task; answered by their number."""

    request: int
    verb: Verb
    filter: Filter
    dry_run: bool
    cancel: Cancel | None = None
    grace: float = 0.0


class Subscribe(Struct, frozen=True):
    """Answer with `Standing`, and send `News` of every task that fits from that moment on.

    ``since``: until when this subscriber was told by an earlier connection; what has ended from
    then on is told anew.
    """

    request: int
    subscription: int
    filter: Filter
    since: float | None = None


class Unsubscribe(Struct, frozen=True):
    """Send no more `News`. Has no answer."""

    subscription: int


class GetStats(Struct, frozen=True):
    """Answer with `Stats`."""

    request: int


class Join(Struct, frozen=True):
    """Answer when no task is live."""

    request: int


class Close(Struct, frozen=True):
    """Start no task from now on; with ``cancel`` also end every live one.

    Answered when no task is running; with ``cancel`` when none is live.
    """

    request: int
    cancel: bool
    grace: float


Request = (
    Submit
    | Withdraw
    | Watch
    | CancelTask
    | EndScope
    | Inspect
    | Find
    | Bulk
    | Subscribe
    | GetStats
    | Join
    | Close
)

# --- owner to client -----------------------------------------------------------------------------


class Reply(Struct, frozen=True):
    """The answer to a request: a value, or the error that refuses it."""

    request: int
    value: Any = None
    error: Exception | None = None


class Outcome(Struct, frozen=True):
    """A task that this client submitted or watches is terminal.

    ``cause`` is the original exception, which only a client in the same process can get.
    """

    head: Head
    output: Output | None
    cause: BaseException | None = None


class Snapshot(Struct, frozen=True):
    """What the owner knows of one task now."""

    head: Head
    output: Output | None
    progress: Progress | None


class Standing(Struct, frozen=True):
    """How things stand at the beginning of a subscription.

    Attributes:
        at: The owner's time.
        counts: Live tasks that fit, by status.
        tasks: With a filter by ids: those of them that are known.
    """

    at: float
    counts: dict[TaskStatus, int]
    tasks: tuple[Snapshot, ...]


class News(Struct, frozen=True):
    """What has happened to the tasks of one subscription, in order."""

    subscription: int
    events: list[TaskEvent]


# --- worker to owner -----------------------------------------------------------------------------


class WorkerHello(Struct, frozen=True):
    """The first message of a worker's connection.

    Attributes:
        worker: ``node.incarnation``.
        node: The part of it that a restarted worker keeps.
        running: Every (id, fence) that runs here or whose `Finish` was not yet answered.
        slots: Slots by pool.
    """

    worker: str
    node: str
    running: tuple[tuple[str, int], ...]
    slots: dict[Pool, int]


class Ready(Struct, frozen=True, gc=False):
    """Cumulative credit of one pool: grants received on this connection, plus slots free now."""

    pool: Pool
    credit: int


class Started(Struct, frozen=True, gc=False):
    """An attempt has started and did not end at once. Has no answer and is not stored."""

    id: str
    fence: int
    at: float


class Report(Struct, frozen=True, gc=False):
    """A running task's progress. Has no answer and is not stored."""

    id: str
    fence: int
    progress: Progress


FinishCause = Literal["ok", "failed", "timeout", "deadline", "cancelled", "later", "lost"]


class Finish(Struct, frozen=True):
    """A grant is over. Kept by the worker until it is answered by `Finished`.

    Attributes:
        cause: ``ok``; ``failed`` (it raised); ``timeout`` and ``deadline`` (the worker stopped it);
            ``cancelled`` (as the owner asked); ``later`` (it raised `RetryLater`);
            ``lost`` (its process died).
        retryable: Whether its retry policy covers the error.
        delay: Seconds, with ``later``.
    """

    id: str
    fence: int
    cause: FinishCause
    output: Output
    started_at: float | None
    retryable: bool = False
    delay: float = 0.0
    exception: BaseException | None = None


# --- owner to worker -----------------------------------------------------------------------------


class Welcome(Struct, frozen=True):
    """The answer to a worker's hello: which of its running grants are no longer its own."""

    revoked: tuple[tuple[str, int], ...]


class Grant(Struct, frozen=True):
    """Run this task once. ``remaining`` is what is left of its deadline, in seconds."""

    head: Head
    body: Any
    remaining: float | None


class Interrupt(Struct, frozen=True):
    """Stop this attempt and say `Finish`, within ``grace`` seconds."""

    id: str
    fence: int
    cancel: Cancel
    grace: float


class Finished(Struct, frozen=True, gc=False):
    """A `Finish` was recorded, or (not ``accepted``) refused since its grant is not the newest."""

    id: str
    fence: int
    accepted: bool


# --- owner to itself -----------------------------------------------------------------------------


class Gone(Struct, frozen=True):
    """This connection has ended."""


class Tick(Struct, frozen=True):
    """Nothing but time has passed."""
