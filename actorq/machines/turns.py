"""The tasks of one name, queue and level that have a limit: their limits take turns.

There is a *line* for each limit, in which tasks stand by rank. A line whose limit is closed is out
of the round, and takes up nobody's time, until its limit is open again.

Turns are a matter among these lines alone. The tasks of other lanes must not wait longer because of
them: so whoever's turn it is starts in the *place* of the oldest that could start, who gets the
other's place for it. One that comes with a hundred thousand tasks has as many early places, and the
others of its lane use some of them.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict, deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Any, Generic

from actorq.machines.lanes import E, Entry, Key
from actorq.machines.limits import Gates
from actorq.model.options import Limit
from actorq.model.status import PENDING

_SLACK = 64


class Line(Generic[E]):
    """What waits under one limit."""

    __slots__ = ("lane", "limit", "number", "places", "tasks", "waits")

    def __init__(self, lane: Turns[E], limit: Limit, number: int) -> None:
        self.lane: Turns[E] = lane
        self.limit: Limit = limit
        self.number: int = number
        self.tasks: deque[E] = deque()
        """By rank; some may be dead."""
        self.places: list[float] = []
        """A heap, with a place for each task that is alive."""
        self.waits: bool = False
        """Whether it is out of the round, for its limit to open."""

    def add(self, entry: E) -> None:
        """Take in a task, with its rank as its place."""
        rank, tasks = entry.head.rank, self.tasks
        if tasks and tasks[-1].head.rank > rank:
            insort(tasks, entry, key=_rank)
        else:
            tasks.append(entry)
        heappush(self.places, rank)

    def take(self) -> E:
        """Take out the first task, but no place."""
        while True:
            entry = self.tasks.popleft()
            if entry.head.status is PENDING:
                return entry

    def bury(self) -> None:
        """Drop the place of a task that is no longer pending, and sweep if most are like it."""
        self.places.pop()  # one of the latest: those that are left move up
        if len(self.tasks) > 2 * len(self.places) + _SLACK:
            self.tasks = deque(entry for entry in self.tasks if entry.head.status is PENDING)


class Turns(Generic[E]):
    """A lane of tasks with limits."""

    __slots__ = (
        "_gates", "_lines", "_numbers", "_order", "_round", "key", "name", "number", "queued",
        "size",
    )  # fmt: skip

    def __init__(self, key: Key, number: int, gates: Gates[Line[Any]]) -> None:
        self.key: Key = key
        self.name: str = key[2]
        self.number: int = number
        self.queued: float = inf
        """As of a `Lane`."""
        self.size: int = 0
        """Tasks."""
        self._gates = gates
        self._lines: dict[Limit, Line[E]] = {}
        self._numbers = count()
        self._round: OrderedDict[Line[E], None] = OrderedDict()
        """The lines that do not wait, whose turn it is first; some may have closed by now."""
        self._order: list[tuple[float, int, Line[E]]] = []
        """A heap of the first place of each of them, and of places that it has no longer."""

    @property
    def alive(self) -> int:
        """How many tasks there are."""
        return self.size

    def add(self, entry: E) -> float:
        """Take in a task; return the best place at which the lane must be queued."""
        limit = entry.head.options.limit
        assert limit is not None  # or it would be in another lane
        line = self._lines.get(limit)
        if line is None:
            line = self._lines[limit] = Line(self, limit, next(self._numbers))
            self._round[line] = None
        line.add(entry)
        self.size += 1
        if line.waits or line.places[0] != entry.head.rank:
            return inf
        return self._enlist(line)

    def rejoin(self, line: Line[E]) -> float:
        """Take a line that has waited into the round, at its end; return as `add` does."""
        line.waits = False
        self._round[line] = None
        return self._enlist(line)

    def best(self) -> float:
        """Return the first place of what need not wait, as far as that is known; inf if none."""
        oldest = self._oldest()
        return inf if oldest is None else oldest.places[0]

    def pop(self, rank: float) -> tuple[E | None, float]:
        """Take out the task whose turn it is if ``rank`` is the first place that can be had.

        Returns:
            The task, and the first place that is left.
        """
        while True:
            oldest = self._oldest()
            if oldest is None:
                return None, inf
            if oldest.places[0] != rank:
                return None, oldest.places[0]
            if not self._puts_off(oldest):
                break
        line = next(iter(self._round))
        while line is not oldest and self._puts_off(line):
            line = next(iter(self._round))
        return self._take(line, oldest), self.best()

    def _take(self, line: Line[E], oldest: Line[E]) -> E:
        """Take the first task of a line, in the place of the oldest."""
        entry = line.take()
        self.size -= 1
        own = heappop(line.places)
        if line is not oldest:
            heapreplace(oldest.places, own)
            self._enlist(oldest)
        if line.places:
            self._round.move_to_end(line)
            self._enlist(line)
        else:
            self._drop(line)
        return entry

    def bury(self, entry: E) -> None:
        """Note that a task in here is no longer pending."""
        limit = entry.head.options.limit
        assert limit is not None  # or it would be in another lane
        line = self._lines[limit]
        line.bury()
        self.size -= 1
        if not line.places:
            self._drop(line)

    def first(self) -> list[E]:
        """Return the first task of each line."""
        return [next(e for e in x.tasks if e.head.status is PENDING) for x in self._lines.values()]

    def idle(self) -> bool:
        """Say whether something in here could start, if only a slot were free."""
        return any(not self._gates.closed(limit) for limit in self._lines)

    def _oldest(self) -> Line[E] | None:
        order = self._order
        while order:
            place, _, line = order[0]
            if not line.waits and line.places and line.places[0] == place:
                return line
            heappop(order)
        return None

    def _enlist(self, line: Line[E]) -> float:
        """Note a line's first place, which may be another one than before."""
        place, order = line.places[0], self._order
        heappush(order, (place, line.number, line))
        if len(order) > 2 * len(self._round) + _SLACK:
            order[:] = [(line.places[0], line.number, line) for line in self._round]
            heapify(order)
        return place

    def _puts_off(self, line: Line[E]) -> bool:
        """Let a line wait if its limit is closed; say whether."""
        if not self._gates.closed(line.limit):
            return False
        line.waits = True
        del self._round[line]
        self._gates.wait(line.limit, line)
        return True

    def _drop(self, line: Line[E]) -> None:
        del self._lines[line.limit]
        if line.waits:
            self._gates.forget(line.limit, line)
        else:
            del self._round[line]


def _rank(entry: Entry) -> float:
    return entry.head.rank
