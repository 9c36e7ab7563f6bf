"""What a store keeps of a task, and who may write it.

A record is a *head* (who the task is and how far it got), a *body* (its call: opaque, written once)
and an *output* (how it ended). Heads are immutable, so that the queue's machine and the memory
store share them.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from msgspec import UNSET, Struct, UnsetType

from actorq.errors import RemoteError
from actorq.model.bounds import Label, Reason
from actorq.model.options import TaskOptions
from actorq.model.status import FailureKind, TaskStatus

Pool = Literal["main", "process", "any"]
"""Which of a worker's two pools of slots a task needs; ``any`` until somebody is there who knows
the task, of which the submitter had only the name."""

# Structs with gc=False are not tracked by the cycle collector, which saves 16 bytes each and a good
# part of its time with a million of them. It is safe where a struct cannot be part of a cycle: a
# head, or what only the queue and the store hold. What users get hold of, and what holds their
# values, is tracked; so is the head of a task with ``meta`` or a callback.


class Cancel(Struct, frozen=True, gc=False):
    """A recorded wish that a task be cancelled: who (``user``, ``scope``, ``shutdown``) and why."""

    by: Label
    reason: Reason | None = None


class Head(Struct, frozen=True, gc=False):
    """One state of one task. Times are seconds since the epoch on the owner's clock.

    Attributes:
        since: Start of this run: the submission, or the `retry` verb that started it again.
        rank: The order in which ready tasks are granted, lowest first; kept for the whole run.
        due: When it may start next.
        fence: Grows with each grant, and when one is taken away; only who holds a grant with the
            newest may say anything about it.
        attempts: How many times its function was started in this run.
        deaths: How many workers died under it in this run.
        worker: The ``node.incarnation`` that has or had it last.
        keep_until: When a terminal task's record may be forgotten.
    """

    id: str
    name: str
    options: TaskOptions
    pool: Pool
    scope: str | None
    submitted_at: float
    since: float
    rank: float
    due: float
    status: TaskStatus
    fence: int = 0
    attempts: int = 0
    deaths: int = 0
    worker: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    keep_until: float | None = None
    cancel: Cancel | None = None
    needs: tuple[str, ...] = ()
    """The tasks whose results its arguments stand for (``handle.output``); see `needs_of`."""


class TrackedHead(Head, frozen=True, gc=True):
    """The head of a task whose options hold users' objects, which may hold what holds this head."""


class Tied(Protocol):
    """What comes after other tasks: a head, or a submission."""

    @property
    def options(self) -> TaskOptions:
        """Its options."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The tasks whose results its arguments stand for."""
        ...


_ALIAS = "\0"


def alias(name: str, id: str) -> str:
    """Return the need of a task whose call says ``name`` for ``id``, which has that one's key."""
    return f"{name}{_ALIAS}{id}"


def needs_of(task: Tied) -> dict[str, str]:
    """Return the tasks whose results a task needs, by the ids that its call has for them."""
    needs = {}
    for need in task.needs:
        name, _, id = need.partition(_ALIAS)
        needs[name] = id or name
    return needs


def sources_of(task: Tied) -> tuple[str, ...]:
    """Return the tasks that a task comes after, each once."""
    return tuple(dict.fromkeys((*task.options.after, *needs_of(task).values())))


class Output(Struct, frozen=True, array_like=True):
    """How a task ended: a value, or an error and its kind."""

    value: Any = None
    error: RemoteError | None = None
    kind: FailureKind | None = None


class Follow(Struct, frozen=True):
    """The task that is submitted when another one has ended: a callback, as the owner keeps it.

    ``call`` is its call, but for the one argument.
    """

    name: str
    pool: Pool
    options: TaskOptions
    call: Any


class Done(Struct, frozen=True):
    """The body of a callback task: a call that takes how another task has ended."""

    call: Any
    head: Head
    output: Output | None
    data: Any


class Record(Struct, gc=False):
    """A task as a store gives it back."""

    head: Head
    body: Any = None
    output: Output | None = None
    damage: str | None = None
    """Why it cannot be read, if it is so: then the rest is what is left of it."""


class Write(Struct, frozen=True, gc=False):
    """One record's change inside a commit. UNSET keeps what is there; ``head=None`` deletes all."""

    id: str
    head: Head | None
    body: Any = UNSET
    output: Output | UnsetType | None = UNSET

    def over(self, earlier: Write) -> Write:
        """Return this write as it must be when it stands for ``earlier`` too."""
        if self.head is None or (self.body is not UNSET and self.output is not UNSET):
            return self
        body, output = earlier.body, earlier.output
        if earlier.head is None:  # what was deleted is not there to be kept
            body = output = None
        return Write(
            self.id,
            self.head,
            body if self.body is UNSET else self.body,
            output if self.output is UNSET else self.output,
        )


class Note(Struct, frozen=True):
    """Something small that the owner keeps besides tasks; ``value=None`` deletes it.

    ``pause``: a paused queue, by its name. ``limit``: the recent starts under a limit's key.
    ``schedule``: a schedule, by its name.
    """

    kind: NoteKind
    name: str
    value: Struct | None


NoteKind = Literal["pause", "limit", "schedule"]


class Pause(Struct, frozen=True):
    """The value of a ``pause`` note: since when."""

    at: float


class Window(Struct, frozen=True):
    """The value of a ``limit`` note: when how many tasks were started, the oldest first.

    ``per``: for how many seconds that matters.
    """

    starts: tuple[tuple[float, int], ...]
    per: float = 0.0


class Ownership(Struct, frozen=True):
    """The right to write one partition; epoch and nonce are compared by every commit.

    The nonce is there because a store that fails over can hand out the same epoch twice.

    Attributes:
        lineage: What these records are called: a store that has lost them gets another name.
        forgotten_until: The largest ``submitted_at`` of any record that was ever forgotten.
        stamp: The largest ``submitted_at`` of any record that was ever kept.
    """

    partition: str
    epoch: int
    nonce: str
    lineage: str = ""
    forgotten_until: float = 0.0
    stamp: float = 0.0


class Purged(Struct, frozen=True):
    """What a purge has done.

    Attributes:
        left: How many ended records without a key there are now; where these are more than were to
            be kept, without those that were to be spared.
        forgotten_until: `Ownership.forgotten_until` now.
        more: Whether there is more to forget.
        next: The earliest ``keep_until`` of all that is kept, or None if nothing is.
    """

    left: int
    forgotten_until: float
    more: bool = False
    next: float | None = None


class StoreInfo(Struct, frozen=True):
    """What people may want to know of a store.

    Attributes:
        url: Where it is.
        size: Bytes on its disk, or None.
        schema: The version of its layout.
        owner: Who owns it, in words, or None.
        detail: Anything else, by name.
        warning: Why it had better not be where it is, in words, or None.
    """

    url: str
    size: int | None = None
    schema: int | None = None
    owner: str | None = None
    detail: dict[str, str] = {}
    warning: str | None = None
