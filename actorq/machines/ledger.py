"""Every live task, counted and indexed, and what changed since the last flush.

The book-keeping under the queue's rules: it knows which moves exist and keeps tables consistent,
and decides nothing. A task that has ended is in none of the tables.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from actorq.machines.fleet import Worker
from actorq.machines.states import Move
from actorq.model.messages import Snapshot
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output, Pool, Write
from actorq.model.results import Progress, QueueStats
from actorq.model.status import PENDING, RUNNING, SCHEDULED, SUCCESS, WAITING, TaskStatus


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
        self.scopes: dict[str, dict[str, None]] = {}
        """The tasks of each scope, in the order in which they came."""
        self.keys: dict[str, str] = {}
        """Which live task has each key."""
        self.clients: Container[int] = ()
        """The connections of clients."""
        self._counts: dict[str, dict[TaskStatus, int]] = {}
        self._writes: dict[str, Write] = {}

    def open(self, head: Head, body: Any, watch: int | None, *, stored: bool = False) -> Live:
        """Add a live task; unless ``stored``, it is new to the store."""
        live = self.live[head.id] = Live(head, body, watch)
        if head.scope is not None:
            self.scopes.setdefault(head.scope, {})[head.id] = None
        if head.options.key is not None:
            self.keys.setdefault(head.options.key, head.id)
        counts = self._counts.get(head.options.queue)
        if counts is None:
            counts = self._counts[head.options.queue] = dict.fromkeys(_LIVE, 0)
        counts[head.status] += 1
        if not stored:
            self._writes[head.id] = Write(head.id, head, body)
        return live

    def move(self, live: Live, move: Move, **changes: Any) -> None:
        """Move a live task to another live status."""
        head = live.head
        status = move.targets.get(head.status)
        if status is None:
            raise move.broken(head.status)
        counts = self._counts[head.options.queue]
        counts[head.status] -= 1
        counts[status] += 1
        self._change(live, replace(head, status=status, **changes))

    def note(self, live: Live, **changes: Any) -> None:
        """Change a live task's head and not its status."""
        self._change(live, replace(live.head, **changes))

    def _change(self, live: Live, head: Head) -> None:
        live.head, id = head, head.id
        former = self._writes.get(id)
        if former is None:
            self._writes[id] = Write(id, head)
        else:
            self._writes[id] = Write(id, head, former.body, former.output)

    def settle(self, live: Live, pool: Pool, options: TaskOptions, rank: float) -> None:
        """Note what a live task is, of which only the name was known."""
        head = live.head
        former, queue = head.options.queue, options.queue
        if queue != former:
            counts = self._counts[former]
            counts[head.status] -= 1
            if not any(counts.values()):
                del self._counts[former]
            counts = self._counts.setdefault(queue, dict.fromkeys(_LIVE, 0))
            counts[head.status] += 1
        self.note(live, pool=pool, options=options, rank=rank)

    def close(self, live: Live, move: Move, output: Output | None, **changes: Any) -> Head:
        """Move a live task to a terminal status and out of every table; return its last head."""
        head = live.head
        id, queue = head.id, head.options.queue
        status = move.targets.get(head.status)
        if status is None:
            raise move.broken(head.status)
        counts = self._counts[queue]
        counts[head.status] -= 1
        live.head = head = replace(head, status=status, **changes)
        del self.live[id]
        if head.scope is not None:
            members = self.scopes[head.scope]
            members.pop(head.id, None)
            if not members:
                del self.scopes[head.scope]
        if not (counts[PENDING] or counts[RUNNING] or counts[SCHEDULED] or counts[WAITING]):
            del self._counts[queue]
        key = head.options.key
        if key is not None and self.keys.get(key) == id:
            del self.keys[key]
        if key is None and status is SUCCESS:
            body = None  # nothing runs it again, or is compared with it: nothing needs its call
        else:
            former = self._writes.get(id)
            body = UNSET if former is None else former.body
        self._writes[id] = Write(id, head, body, output)
        return head

    def unstarted(self, queue: str) -> int:
        """Return how many tasks of ``queue`` are not running: what `max_pending` bounds."""
        counts = self._counts.get(queue)
        return 0 if counts is None else counts[SCHEDULED] + counts[WAITING] + counts[PENDING]

    def pending(self) -> int:
        """Return how many tasks are ready to run."""
        return sum(counts[PENDING] for counts in self._counts.values())

    def running(self) -> int:
        """Return how many tasks are running."""
        return sum(counts[RUNNING] for counts in self._counts.values())

    def stats(self, parked: dict[str, int]) -> dict[str, QueueStats]:
        """Return the counts of every queue that holds or parks anything."""
        return {
            queue: QueueStats(
                scheduled=counts[SCHEDULED],
                pending=counts[PENDING],
                running=counts[RUNNING],
                parked=parked.get(queue, 0),
                waiting=counts[WAITING],
            )
            for queue in self._counts.keys() | parked.keys()
            for counts in (self._counts.get(queue, _NONE),)
        }

    def changes(self) -> list[Any]:
        """Return and forget one `Write` per changed record, its last state."""
        writes: list[Any] = [*self._writes.values()]
        self._writes.clear()
        return writes

    def reopen(self, head: Head, body: Any) -> Live:
        """Make a terminal task live again as ``head``: its output goes, its body stays stored."""
        live = self.open(head, body, None, stored=True)
        self._writes[head.id] = Write(head.id, head, UNSET, None)
        return live

    def discard(self, id: str) -> None:
        """Have the record of a terminal task forgotten."""
        self._writes[id] = Write(id, None)

    def watch(self, live: Live, connection: int) -> None:
        """Have ``connection`` told how a task ends."""
        watch = live.watch
        if watch is None:
            live.watch = connection
        elif isinstance(watch, int):
            if watch != connection:
                live.watch = (watch, connection)
        elif connection not in watch:
            if len(watch) >= _WATCHES_SWEPT:  # a client has a new number each time it comes back
                watch = tuple(number for number in watch if number in self.clients)
            live.watch = (*watch, connection)

    def tables(self) -> dict[str, int]:
        """Return the size of every table; all are 0 when nothing is live."""
        return {
            "live": len(self.live),
            "scopes": len(self.scopes),
            "keys": len(self.keys),
            "counts": len(self._counts),
            "changes": len(self._writes),
        }


_WATCHES_SWEPT = 8
"""Connections that wait for one task, from which on those are forgotten that have ended."""

_LIVE = (SCHEDULED, WAITING, PENDING, RUNNING)
_NONE = dict.fromkeys(_LIVE, 0)


def snapshot(live: Live) -> Snapshot:
    """Return what is known of a live task now."""
    head, run = live.head, live.run
    if run is None:
        return Snapshot(head, None, None)
    if run.started is not None:
        head = replace(head, started_at=run.started, attempts=head.attempts + 1)
    return Snapshot(head, None, run.progress)
