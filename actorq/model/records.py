"""What a store keeps of a task, and who may write it.

A record is a *head* (who the task is and how far it got), a *body* (its call: opaque, written once)
and an *output* (how it ended). Heads are immutable, so that the queue's machine and the memory
store share them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actorq.errors import RemoteError
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

    by: Annotated[str, Meta(max_length=200)]
    reason: Annotated[str, Meta(max_length=10_000)] | None = None


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


class TrackedHead(Head, frozen=True, gc=True):
    """The head of a task whose options hold users' objects, which may hold what holds this head."""


class Output(Struct, frozen=True):
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


class Ownership(Struct, frozen=True):
    """The right to write one partition. Both numbers are compared by every commit.

    The nonce is there because a store that fails over can hand out the same epoch twice.
    """

    partition: str
    epoch: int
    nonce: str
