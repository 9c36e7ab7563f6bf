"""What clients, the owner (the queue actor) and workers say to each other.

The same messages go through memory in one process and, by `actorq.codec.envelope`, over a wire.
Whoever sends a *request* keeps it until it is answered and sends it again on a new connection; so
every message here can arrive twice, and its meaning is bound to ids: a task's id, or (id, fence)
for one grant.

A message that has a tag is its own form on the wire: an array of the tag and its fields. New fields
come last and have defaults, as older peers leave them out, and ignore those that they do not know.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from actorq.model.bounds import Count as Count
from actorq.model.bounds import Moment as Moment
from actorq.model.bounds import Name as Name
from actorq.model.bounds import PageSize as PageSize
from actorq.model.bounds import Reason as Reason
from actorq.model.bounds import Seconds as Seconds
from actorq.model.feed import TaskEvent
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Output, Pool
from actorq.model.results import Progress
from actorq.model.schedules import Schedule
from actorq.model.status import TaskStatus
from actorq.model.work import Beat as Beat
from actorq.model.work import Declared as Declared
from actorq.model.work import Finish as Finish
from actorq.model.work import FinishCause as FinishCause
from actorq.model.work import Finished as Finished
from actorq.model.work import Grant as Grant
from actorq.model.work import Interrupt as Interrupt
from actorq.model.work import Knows as Knows
from actorq.model.work import Ready as Ready
from actorq.model.work import Report as Report
from actorq.model.work import Started as Started
from actorq.model.work import Welcome as Welcome
from actorq.model.work import WorkerHello as WorkerHello

# --- client to owner -----------------------------------------------------------------------------


class ClientHello(Struct, frozen=True, array_like=True, tag="client"):
    """The first message of a client's connection. Answered by `ClientWelcome`.

    Attributes:
        session: The client's name, as its scopes begin.
        leased: Whether it is elsewhere, so that its scopes end when it is out of reach for too
            long.
    """

    session: Name
    leased: bool = False


class Submission(Struct, frozen=True, gc=False):
    """One task inside a `Submit`."""

    id: Name
    name: str
    pool: Pool
    options: TaskOptions
    scope: Name | None
    body: Any
    needs: tuple[Name, ...] = ()
    """The tasks whose results its arguments stand for; it comes after them too."""


class Submit(Struct, frozen=True, gc=False):
    """Accept all of these or none, and tell this client how each of them ends.

    Answered once stored, with None if all are new, or else with `Admitted`; at a full queue it
    waits for room first.
    """

    request: int
    tasks: tuple[Submission, ...]
    resent: bool = False
    lineage: str | None = None
    """The records (`ClientWelcome.lineage`) among which it was first sent."""
    stamp: Moment | None = None
    """The owner's time before which it was not sent, as far as its client knows."""


class Withdraw(Struct, frozen=True, array_like=True, tag="withdraw"):
    """Nobody waits for the answer to the request ``submit`` any more: forget it.

    If its tasks have been accepted, cancel them. Answered at once.
    """

    request: int
    submit: int
    ids: tuple[Name, ...]
    grace: Seconds


class Forget(Struct, frozen=True, array_like=True, tag="forget"):
    """Nobody waits for the answer to this question any more.

    Has no answer.
    """

    request: int


class Watch(Struct, frozen=True, array_like=True, tag="watch"):
    """Tell this client how these tasks end. Answered by the ids that are unknown."""

    request: int
    ids: tuple[Name, ...]
    resent: bool = False


class CancelTask(Struct, frozen=True, array_like=True, tag="cancel"):
    """Cancel this task; answered by its terminal result, at the latest after ``grace``."""

    request: int
    id: Name
    cancel: Cancel
    grace: Seconds


class EndScope(Struct, frozen=True, array_like=True, tag="end"):
    """Cancel every task of this scope in one step; answered when all of them are terminal."""

    request: int
    scope: Name
    grace: Seconds
    reason: Reason | None = None


class Inspect(Struct, frozen=True, array_like=True, tag="inspect"):
    """Answer with a `Snapshot` of this task; refused with `TaskNotFound` if it is unknown."""

    request: int
    id: Name


class Find(Struct, frozen=True, array_like=True, tag="find"):
    """Answer with a page of matching tasks."""

    request: int
    filter: Filter
    cursor: Name | None
    limit: PageSize


class Why(Struct, frozen=True, array_like=True, tag="why"):
    """Answer in words why this task is not running; refused with `TaskNotFound`."""

    request: int
    id: Name


class PauseQueue(Struct, frozen=True, array_like=True, tag="pause"):
    """Start nothing of this queue from now on, or, with ``paused`` false, go on. No value."""

    request: int
    queue: Name
    paused: bool


class Declare(Struct, frozen=True):
    """Keep this schedule from now on; one that is the same goes on as it was. No value."""

    request: int
    schedule: Schedule


ScheduleVerb = Literal["run", "pause", "resume", "remove"]


class ControlSchedule(Struct, frozen=True, array_like=True, tag="schedule"):
    """Do this to the schedule of that name; refused with `ScheduleNotFound`.

    Answered by the id and the name of the task that ``run`` submits, or else with no value.
    """

    request: int
    name: Name
    verb: ScheduleVerb
    id: Name | None = None
    """The id of the task that ``run`` submits."""
    resent: bool = False


class GetSchedules(Struct, frozen=True, array_like=True, tag="schedules"):
    """Answer with a `ScheduleInfo` for each schedule, by name."""

    request: int


Verb = Literal["cancel", "retry", "discard"]


class Bulk(Struct, frozen=True, array_like=True, tag="bulk"):
    """Do this to every matching task; answered by their number.

    ``resent``: an earlier owner may have done a part of it.
    """

    request: int
    verb: Verb
    filter: Filter
    dry_run: bool
    cancel: Cancel | None = None
    grace: Seconds = 0.0
    resent: bool = False


class Subscribe(Struct, frozen=True, array_like=True, tag="subscribe"):
    """Answer with `Standing`, and send `News` of every task that fits from that moment on.

    ``since``: until when this subscriber was told by an earlier connection; what has ended from
    then on is told anew. ``away``: how long ago that was, whatever clock the owner had then.
    """

    request: int
    subscription: int
    filter: Filter
    since: Moment | None = None
    away: Seconds | None = None


class Unsubscribe(Struct, frozen=True, array_like=True, tag="unsubscribe"):
    """Send no more `News`. Has no answer."""

    subscription: int


class GetStats(Struct, frozen=True, array_like=True, tag="stats"):
    """Answer with `Stats`."""

    request: int


class GetTasks(Struct, frozen=True, array_like=True, tag="tasks"):
    """Answer with a `TaskInfo` for every name that a worker knows or a task waits under."""

    request: int


class GetTree(Struct, frozen=True, array_like=True, tag="tree"):
    """Answer with the `ActorTree` of the node that the queue actor is on, and of its workers."""

    request: int


class Join(Struct, frozen=True, array_like=True, tag="join"):
    """Answer when no task is live."""

    request: int


class Close(Struct, frozen=True):
    """Start no task from now on; with ``cancel`` also end every live one.

    Answered when no task is running; with ``cancel`` when none is live; with ``keep`` at once.
    """

    request: int
    cancel: bool
    grace: Seconds
    keep: bool = False
    """Whether what is live stays in the store."""


class WorkerDied(Struct, frozen=True, array_like=True, tag="died"):
    """This worker's process has ended: all that it holds is lost. Said by its parent."""

    request: int
    node: Name


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
    | Why
    | PauseQueue
    | Declare
    | ControlSchedule
    | GetSchedules
    | GetStats
    | GetTasks
    | GetTree
    | Join
    | WorkerDied
    | Close
)

# --- owner to client -----------------------------------------------------------------------------


class ClientWelcome(Struct, frozen=True, array_like=True, tag="hail"):
    """The answer to a client's hello; now the client sends again what was not answered.

    Attributes:
        lineage: Names the records that this owner rests on (another one knows nothing of what was
            accepted under this name), and after a slash its incarnation.
        losses: How often this client was given up, and all of its scopes with it.
    """

    lineage: str
    losses: int
    at: Moment = 0.0
    """The owner's time."""


class Admitted(Struct, frozen=True, array_like=True):
    """The answer to a `Submit` of which something was there already.

    Attributes:
        known: The ids that had been accepted before.
        instead: By the id of what was submitted, the id of the task that has its key.
    """

    known: tuple[str, ...]
    instead: dict[str, str] = {}


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
    unknown: bool = False
    """Whether it waits, and no worker that is connected knows its name."""


class FoundPage(Struct, frozen=True):
    """The answer to `Find`."""

    asked: Find | None
    tasks: list[Snapshot]
    next: str | None
    scanned: int


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


# --- owner to whoever stands for a node elsewhere -----------------------------------------------


class GiveUp(Struct, frozen=True):
    """Whoever stands for this client gives it up: there is more to say than it reads."""


class Lost(Struct, frozen=True):
    """The peer was out of reach for too long and is given up; told to whoever stands for it."""


# --- owner to itself -----------------------------------------------------------------------------


class Resolve(Struct, frozen=True):
    """Take in how these tasks have ended, which are not live: live ones come after them."""

    ids: tuple[str, ...]


class Away(Struct, frozen=True):
    """This peer's connection is cut; the peer may be back on another one."""


class Gone(Struct, frozen=True):
    """This connection has ended, and its peer with it."""


class Tick(Struct, frozen=True):
    """Nothing but time has passed."""
