"""Which ready task is granted next: the lowest rank among those that a worker can run.

Tasks are kept in *lanes*, one per (pool, queue, task name), because a worker is granted only what
it knows. Within a lane there is a deque per priority, which new tasks join at the end, and a heap
for what comes back with an old rank (retries, lost deliveries, late due times). A task that was
cancelled in here stays as a dead entry until it is reached or the dead outnumber the living.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Generic, Protocol, TypeVar

from actorq.model.records import Head, Pool
from actorq.model.status import PENDING

_LANE_SLACK = 64
_HEAP_SLACK = 64


class Entry(Protocol):
    """What is kept here: anything with a head that changes when its task does."""

    head: Head


E = TypeVar("E", bound=Entry)


class _Lane(Generic[E]):
    __slots__ = ("back", "dead", "fresh", "name", "number", "queued", "size", "where")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.fresh: tuple[deque[E], ...] = (deque(), deque(), deque(), deque())
        self.back: list[tuple[float, str, E]] = []
        self.size = 0
        self.dead = 0
        self.queued = inf
        """Rank of this lane's one valid entry in its pool's heap."""
        self.where: deque[E] | None = None
        """The deque whose first entry had that rank, if it was one."""

    def add(self, entry: E) -> None:
        head = entry.head
        line = self.fresh[head.options.priority]
        if line and line[-1].head.rank > head.rank:
            heappush(self.back, (head.rank, head.id, entry))
        else:
            line.append(entry)
        self.size += 1

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

    def bury(self) -> None:
        """Count an entry whose task is no longer pending, and sweep once they are the majority."""
        self.dead += 1
        if self.dead <= _LANE_SLACK or self.dead * 2 <= self.size:
            return
        for line in self.fresh:
            alive = [entry for entry in line if entry.head.status is PENDING]
            line.clear()
            line.extend(alive)
        self.back = [item for item in self.back if item[2].head.status is PENDING]
        heapify(self.back)
        self.size = sum(map(len, self.fresh)) + len(self.back)
        self.dead = 0

    def _drop_dead(self) -> None:
        self.size -= 1
        self.dead -= 1


class Ready(Generic[E]):
    """Every pending task, in the order in which it will be granted.

    Each lane that holds anything has exactly one valid entry in its pool's heap, under the rank of
    its best task at some moment; an entry found to be out of date is corrected when it is met.
    """

    __slots__ = ("_lanes", "_numbers", "heaps")

    def __init__(self) -> None:
        self._lanes: dict[tuple[Pool, str, str], _Lane[E]] = {}
        self.heaps: dict[Pool, list[tuple[float, int, _Lane[E]]]] = {
            "main": [],
            "process": [],
            "any": [],
        }
        """By pool; empty if nothing waits. To look at, not to change."""
        self._numbers = 0

    def __len__(self) -> int:
        return sum(lane.size - lane.dead for lane in self._lanes.values())

    def empty(self, pool: Pool) -> bool:
        """Say whether nothing waits for ``pool``."""
        return not self.heaps[pool]

    def add(self, entry: E) -> None:
        """Take in a task that has become pending."""
        head = entry.head
        key = _key(head)
        lane = self._lanes.get(key)
        if lane is None:
            self._numbers += 1
            lane = self._lanes[key] = _Lane(head.name, self._numbers)
        lane.add(entry)
        if head.rank < lane.queued:
            lane.queued = head.rank
            lane.where = None
            heappush(self.heaps[key[0]], (head.rank, lane.number, lane))

    def forget(self, entry: E) -> None:
        """Note that a task in here has ended without being granted; its head must say so."""
        key = _key(entry.head)
        lane = self._lanes[key]
        lane.bury()
        if lane.size == lane.dead:
            self._close(key, lane)

    def take(self, pool: Pool, knows: Collection[str] | None = None) -> E | None:
        """Remove and return the task of lowest rank, of those whose name is in ``knows``.

        None for ``knows`` is every name. Returns None if there is no such task.
        """
        heap = self.heaps[pool]
        aside: list[tuple[float, int, _Lane[E]]] = []
        taken: E | None = None
        while heap and taken is None:
            rank, number, lane = heap[0]
            if rank != lane.queued:  # superseded by a better one, or its lane is closed
                heappop(heap)
                continue
            if knows is not None and lane.name not in knows:
                aside.append(heappop(heap))
                continue
            taken, best = lane.pop(rank)
            if best == inf:
                heappop(heap)
                if taken is not None:
                    self._close(_key(taken.head), lane)
            else:
                lane.queued = best
                heapreplace(heap, (best, number, lane))
        for item in aside:
            heappush(heap, item)
        return taken

    def waiting(self) -> dict[str, int]:
        """Return how many tasks wait under each name."""
        counts: dict[str, int] = {}
        for lane in self._lanes.values():
            counts[lane.name] = counts.get(lane.name, 0) + lane.size - lane.dead
        return counts

    def _close(self, key: tuple[Pool, str, str], lane: _Lane[E]) -> None:
        lane.queued = inf
        del self._lanes[key]
        heap = self.heaps[key[0]]
        if len(heap) > 2 * len(self._lanes) + _HEAP_SLACK or not self._lanes:
            heap[:] = [item for item in heap if item[0] == item[2].queued]
            heapify(heap)


def _key(head: Head) -> tuple[Pool, str, str]:
    return head.pool, head.options.queue, head.name
