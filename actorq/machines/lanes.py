"""The tasks of one name in one queue that wait for a slot, the lowest rank first.

New tasks join the end of a deque, one for each priority; what comes back with an old rank (retries,
lost deliveries, late due times) goes into a heap. A task that was cancelled in here stays as a dead
entry until it is reached or the dead outnumber the living.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Literal, Protocol, TypeVar

from actorq.model.records import Head, Pool
from actorq.model.status import PENDING, TaskPriority

_SLACK = 64

Apart = Literal["main, apart", "process, apart"]

Key = tuple[Pool | Apart, str, str] | tuple[Pool | Apart, str, str, TaskPriority]
"""What a lane is for: pool, queue and name, and of tasks with a limit the level."""


class Entry(Protocol):
    """What is kept here: anything with a head that changes when its task does."""

    head: Head


E = TypeVar("E", bound=Entry)


class Lane(Generic[E]):
    """The tasks without a limit."""

    __slots__ = ("back", "dead", "fresh", "key", "name", "number", "queued", "size", "where")

    def __init__(self, key: Key, number: int) -> None:
        self.key: Key = key
        self.name: str = key[2]
        self.number: int = number
        self.queued: float = inf
        """Rank of this lane's one valid entry in its pool's heap, as `Ready` says."""
        self.size: int = 0
        """Entries, the dead ones included."""
        self.dead: int = 0
        self.fresh: tuple[deque[E], ...] = (deque(), deque(), deque(), deque())
        self.back: list[tuple[float, str, E]] = []
        self.where: deque[E] | None = None
        """The deque whose first entry had that rank, if it was one."""

    @property
    def alive(self) -> int:
        """How many tasks there are."""
        return self.size - self.dead

    def add(self, entry: E) -> float:
        """Take in a task; return the best rank at which the lane must be queued."""
        head = entry.head
        rank = head.rank
        line = self.fresh[head.options.priority]
        if line and line[-1].head.rank > rank:
            heappush(self.back, (rank, head.id, entry))
        else:
            line.append(entry)
        self.size += 1
        if rank < self.queued:
            self.where = None
        return rank

    def best(self) -> float:
        """Return the lowest rank; inf if empty."""
        return self.peek()[0]

    def peek(self) -> tuple[float, deque[E] | None]:
        """Return the lowest rank and the deque that it is in (None: the heap); inf if empty."""
        best, where = inf, None
        for line in self.fresh:
            while line and line[0].head.status is not PENDING:
                line.popleft()
                self._drop_dead()
            if line and line[0].head.rank < best:
                best, where = line[0].head.rank, line
        back = self.back
        while back and back[0][2].head.status is not PENDING:
            heappop(back)
            self._drop_dead()
        if back and back[0][0] < best:
            best, where = back[0][0], None
        return best, where

    def pop(self, rank: float) -> tuple[E | None, float]:
        """Take out the best entry if it has ``rank``; return it, and the rank of the best left."""
        where = self.where
        # Nearly always the best is where it was; looking everywhere is five times slower.
        if not where or where[0].head.rank != rank or where[0].head.status is not PENDING:
            best, where = self.peek()
            if best != rank:
                self.where = where
                return None, best
        taken = heappop(self.back)[2] if where is None else where.popleft()
        self.size -= 1
        if where and len(where) == self.size and where[0].head.status is PENDING:
            self.where = where
            return taken, where[0].head.rank
        best, self.where = self.peek()
        return taken, best

    def bury(self, _: E) -> None:
        """Count an entry whose task is no longer pending, and sweep once they are the majority."""
        self.dead += 1
        if self.dead <= _SLACK or self.dead * 2 <= self.size:
            return
        for line in self.fresh:
            alive = [entry for entry in line if entry.head.status is PENDING]
            line.clear()
            line.extend(alive)
        self.back = [item for item in self.back if item[2].head.status is PENDING]
        heapify(self.back)
        self.size = sum(map(len, self.fresh)) + len(self.back)
        self.dead = 0

    def first(self) -> list[E]:
        """Return the first task of each level, and the first of those that came back."""
        self.peek()  # so that none of them is dead
        firsts = [line[0] for line in self.fresh if line]
        return [*firsts, self.back[0][2]] if self.back else firsts

    def idle(self) -> bool:
        """Say whether something in here could start, if only a slot were free."""
        return self.size > self.dead

    def _drop_dead(self) -> None:
        self.size -= 1
        self.dead -= 1
