"""Every live task, counted and indexed, and what changed since the last flush.

The book-keeping under the queue's rules: it knows which moves exist and keeps tables consistent,
and decides nothing. A task that has ended is in none of the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct

from actorq.machines.states import Move, target
from actorq.model.records import Head, Output, Write, replace
from actorq.model.results import Progress, QueueStats
from actorq.model.status import TaskStatus


class Worker:
    """A worker (one incarnation of a node), connected or not, and what it holds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection: int | None = None
        self.slots: dict[str, int] = {}
        self.credit: dict[str, int] = {}
        self.granted: dict[str, int] = {}
        self.held: set[str] = set()

    def free(self, pool: str) -> int:
        """Return how many grants it can take now: its credit is cumulative per connection."""
        if self.connection is None:
            return 0
        return self.credit.get(pool, 0) - self.granted.get(pool, 0)


class Run(Struct, gc=False):
    """What is known of a running task and not stored."""

    worker: Worker
    started: float | None = None
    progress: Progress | None = None
    patience: float | None = None
    """When an unconfirmed cancel is recorded without the worker."""


class Live(Struct, gc=False):
    """A task that has not ended."""

    head: Head
    body: Any
    watch: int | tuple[int, ...] | None = None
    """The connections that are told how it ends; mostly one."""
    run: Run | None = None


class Ledger:
    """The tables. ``changes()`` empties the list of what a store must be told."""

    def __init__(self) -> None:
        self.live: dict[str, Live] = {}
        self.scopes: dict[str, set[str]] = {}
        self._counts: dict[str, dict[TaskStatus, int]] = {}
        self._heads: dict[str, Head | None] = {}
        self._bodies: dict[str, Any] = {}
        self._outputs: dict[str, Output | None] = {}

    def open(self, head: Head, body: Any, watch: int | None, *, stored: bool = False) -> Live:
        """Add a live task; unless ``stored``, it is new to the store."""
        live = self.live[head.id] = Live(head, body, watch)
        if head.scope is not None:
            self.scopes.setdefault(head.scope, set()).add(head.id)
        counts = self._counts.get(head.options.queue)
        if counts is None:
            counts = self._counts[head.options.queue] = dict.fromkeys(_LIVE, 0)
        counts[head.status] += 1
        if not stored:
            self._heads[head.id] = head
            self._bodies[head.id] = body
        return live

    def move(self, live: Live, move: Move, **changes: Any) -> None:
        """Move a live task to another live status."""
        head = live.head
        status = target(move, head.status)
        counts = self._counts[head.options.queue]
        counts[head.status] -= 1
        counts[status] += 1
        live.head = self._heads[head.id] = replace(head, status=status, **changes)

    def note(self, live: Live, **changes: Any) -> None:
        """Change a live task's head and not its status."""
        live.head = self._heads[live.head.id] = replace(live.head, **changes)

    def close(self, live: Live, move: Move, output: Output | None, **changes: Any) -> Head:
        """Move a live task to a terminal status and out of every table; return its last head."""
        head = live.head
        status = target(move, head.status)
        queue = head.options.queue
        counts = self._counts[queue]
        counts[head.status] -= 1
        live.head = head = self._heads[head.id] = replace(head, status=status, **changes)
        del self.live[head.id]
        if head.scope is not None:
            members = self.scopes[head.scope]
            members.discard(head.id)
            if not members:
                del self.scopes[head.scope]
        if not any(counts.values()):
            del self._counts[queue]
        self._outputs[head.id] = output
        if status is TaskStatus.SUCCESS:
            self._bodies[head.id] = None  # nothing runs it again, so nothing needs its call
        return head

    def waiting(self, queue: str) -> int:
        """Return how many tasks of ``queue`` are scheduled or pending: what `max_pending` bounds."""
        counts = self._counts.get(queue)
        return 0 if counts is None else counts[_SCHEDULED] + counts[_PENDING]

    def running(self) -> int:
        """Return how many tasks are running."""
        return sum(counts[_RUNNING] for counts in self._counts.values())

    def stats(self, parked: dict[str, int]) -> dict[str, QueueStats]:
        """Return the counts of every queue that holds or parks anything."""
        return {
            queue: QueueStats(
                scheduled=counts[_SCHEDULED],
                pending=counts[_PENDING],
                running=counts[_RUNNING],
                parked=parked.get(queue, 0),
            )
            for queue in self._counts.keys() | parked.keys()
            for counts in (self._counts.get(queue, _NONE),)
        }

    def changes(self) -> Iterable[Write]:
        """Return and forget one write per changed record, its last state."""
        heads = self._heads
        if len(heads) == 1:  # most steps change one task
            id, head = heads.popitem()
            return (Write(id, head, self._bodies.pop(id, UNSET), self._outputs.pop(id, UNSET)),)
        bodies, outputs = self._bodies, self._outputs
        self._heads, self._bodies, self._outputs = {}, {}, {}
        return [
            Write(id, head, bodies.get(id, UNSET), outputs.get(id, UNSET))
            for id, head in heads.items()
        ]

    def reopen(self, head: Head, body: Any) -> Live:
        """Make a terminal task live again as ``head``: its output goes, its body stays stored."""
        live = self.open(head, body, None, stored=True)
        self._heads[head.id] = head
        self._outputs[head.id] = None
        return live

    def discard(self, id: str) -> None:
        """Have the record of a terminal task forgotten."""
        self._heads[id] = None

    def tables(self) -> dict[str, int]:
        """Return the size of every table; all are 0 when nothing is live."""
        return {
            "live": len(self.live),
            "scopes": len(self.scopes),
            "counts": len(self._counts),
            "changes": len(self._heads) + len(self._bodies) + len(self._outputs),
        }


_SCHEDULED, _PENDING, _RUNNING = TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.RUNNING
_LIVE = (_SCHEDULED, _PENDING, _RUNNING)
_NONE = dict.fromkeys(_LIVE, 0)


def add_watch(live: Live, connection: int) -> None:
    """Have ``connection`` told how this task ends."""
    watch = live.watch
    if watch is None:
        live.watch = connection
    elif isinstance(watch, int):
        if watch != connection:
            live.watch = (watch, connection)
    elif connection not in watch:
        live.watch = (*watch, connection)
