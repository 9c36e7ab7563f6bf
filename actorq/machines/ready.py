"""Which ready task is granted next: the lowest rank among those that may start on some worker.

Tasks are kept in *lanes*, one per (pool, queue, task name), because a worker is granted only what
it knows; those with a limit in lanes of their own, one for each level, where limits take turns.
What may not start, since its queue is paused or its limit is closed, is in no heap and costs no
grant anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Any, Generic

from actorq.machines.lanes import Apart, E, Key, Lane
from actorq.machines.limits import Gates
from actorq.machines.turns import Line, Turns
from actorq.model.records import Head, Pool

APART: dict[Pool, Apart] = {"main": "main, apart", "process": "process, apart"}
"""Where those wait for a slot of a pool that have their last chance."""

_HEAP_SLACK = 64

AnyLane = Lane[E] | Turns[E]


class Ready(Generic[E]):
    """Every pending task, in the order in which it will be granted.

    Each lane that holds anything that may start has exactly one valid entry in its pool's heap,
    under the rank of its best task at some moment; an entry found to be out of date is corrected
    when it is met.
    """

    __slots__ = ("_lanes", "_numbers", "gates", "heaps", "paused")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.gates: Gates[Line[Any]] = Gates(clock)
        self.paused: dict[str, float] = {}
        """Since when a queue is paused; to look at, not to change."""
        self._lanes: dict[Key, AnyLane[E]] = {}
        self.heaps: dict[Pool | Apart, list[tuple[float, int, AnyLane[E]]]] = {
            "main": [],
            "process": [],
            "any": [],
        }
        """By pool; empty if nothing waits for a slot. To look at, not to change."""
        self.heaps |= {apart: [] for apart in APART.values()}
        self._numbers = 0

    def __len__(self) -> int:
        return sum(lane.alive for lane in self._lanes.values())

    def empty(self, pool: Pool) -> bool:
        """Say whether nothing waits for a slot of ``pool``."""
        return not self.heaps[pool]

    def add(self, entry: E) -> None:
        """Take in a task that has become pending."""
        head = entry.head
        key = _key(head)
        lane = self._lanes.get(key)
        if lane is None:
            self._numbers += 1
            lane = self._new_lane(key)
        rank = lane.add(entry)
        if rank < lane.queued < inf:
            self._queue(lane, rank)
        elif rank < lane.queued:
            lane.queued = rank
            heappush(self.heaps[key[0]], (rank, lane.number, lane))

    def _new_lane(self, key: Key) -> AnyLane[E]:
        number, limited = self._numbers, len(key) > 3
        lane: AnyLane[E] = Turns(key, number, self.gates) if limited else Lane(key, number)
        if self.paused and self._is_paused(key):
            lane.queued = -inf  # so no rank is better, and it is in no heap
        self._lanes[key] = lane
        return lane

    def forget(self, entry: E) -> None:
        """Note that a task in here has ended without being granted; its head must say so."""
        lane = self._lanes[_key(entry.head)]
        lane.bury(entry)
        if not lane.alive:
            self._close(lane)

    def take(self, pool: Pool | Apart, knows: Collection[str] | None = None) -> E | None:
        """Remove and return the task whose turn it is, of those whose name is in ``knows``.

        None for ``knows`` is every name. Returns None if there is no such task.
        """
        heap = self.heaps[pool]
        aside: list[tuple[float, int, AnyLane[E]]] = []
        taken: E | None = None
        while heap and taken is None:
            rank, number, lane = heap[0]
            if rank != lane.queued:  # superseded by a better one, or its lane is out of the heap
                heappop(heap)
                continue
            if knows is not None and lane.name not in knows:
                aside.append(heappop(heap))
                continue
            taken, best = lane.pop(rank)
            if best == inf:
                heappop(heap)
                lane.queued = inf
                if not lane.size:
                    self._close(lane)
            else:
                lane.queued = best
                heapreplace(heap, (best, number, lane))
        for item in aside:
            heappush(heap, item)
        return taken

    # --- limits ----------------------------------------------------------------------------------

    def enter(self, head: Head) -> None:
        """Note that a task is granted, which has a limit."""
        assert head.options.limit is not None  # nobody else has a gate
        self.gates.enter(head.options.limit, head.id)

    def leave(self, head: Head) -> None:
        """Note that the grant of such a task is over; others may start in its stead."""
        assert head.options.limit is not None  # nobody else has a gate
        self._rejoin(self.gates.leave(head.options.limit, head.id))

    def look_at_gates(self) -> None:
        """Let in what may start since time has passed."""
        self._rejoin(self.gates.due())

    def _rejoin(self, lines: Iterable[Line[Any]]) -> None:
        for line in lines:
            self._queue(line.lane, line.lane.rejoin(line))

    def _queue(self, lane: AnyLane[E], rank: float) -> None:
        if rank < lane.queued:
            lane.queued = rank
            heap = self.heaps[lane.key[0]]
            heappush(heap, (rank, lane.number, lane))
            # Each task that overtakes all others of its lane leaves one more entry of those here.
            if len(heap) > 2 * len(self._lanes) + _HEAP_SLACK:
                self._sweep(lane.key[0])

    # --- pauses ----------------------------------------------------------------------------------

    def pause(self, queue: str, at: float) -> None:
        """Take all lanes of a queue out of their heaps, and those that it will have."""
        self.paused[queue] = at
        for lane in self._lanes.values():
            if self._is_paused(lane.key):
                lane.queued = -inf
        for pool in self.heaps:
            self._sweep(pool)

    def resume(self, queue: str) -> None:
        """Put them back."""
        del self.paused[queue]
        for lane in self._lanes.values():
            if lane.queued == -inf and not self._is_paused(lane.key):
                lane.queued = inf
                self._queue(lane, lane.best())

    def _is_paused(self, key: Key) -> bool:
        # What a task is of which only the name is known, and of what queue, is not settled yet.
        return key[1] in self.paused and key[0] != "any"

    # --- to look at ------------------------------------------------------------------------------

    def waiting(self) -> dict[str, int]:
        """Return how many tasks wait under each name."""
        counts: dict[str, int] = {}
        for lane in self._lanes.values():
            counts[lane.name] = counts.get(lane.name, 0) + lane.alive
        return counts

    def oldest(self) -> dict[str, float]:
        """Return for each queue since when the oldest of its tasks has been due.

        Of each lane only those are looked at that are first in some line.
        """
        oldest: dict[str, float] = {}
        for lane in self._lanes.values():
            at = min(max(entry.head.due, entry.head.since) for entry in lane.first())
            queue = lane.key[1]
            oldest[queue] = min(at, oldest.get(queue, inf))
        return oldest

    def idle(self, pool: Pool | Apart, knows: Collection[str] | None) -> str | None:
        """Return the name of a task that may start on a free slot, if there is one."""
        for lane in self._lanes.values():
            fits = lane.key[0] == pool and (knows is None or lane.name in knows)
            if fits and not self._is_paused(lane.key) and lane.idle():
                return lane.name
        return None

    # ---------------------------------------------------------------------------------------------

    def _close(self, lane: AnyLane[E]) -> None:
        lane.queued = inf
        del self._lanes[lane.key]
        if len(self.heaps[lane.key[0]]) > 2 * len(self._lanes) + _HEAP_SLACK or not self._lanes:
            self._sweep(lane.key[0])

    def _sweep(self, pool: Pool | Apart) -> None:
        self.heaps[pool][:] = [
            (lane.queued, lane.number, lane)
            for lane in self._lanes.values()
            if lane.key[0] == pool and -inf < lane.queued < inf
        ]
        heapify(self.heaps[pool])


def _key(head: Head) -> Key:
    options, pool = head.options, head.pool
    place: Pool | Apart = APART[pool] if head.deaths and has_last_chance(head) else pool
    if options.limit is None or pool == "any":
        return place, options.queue, head.name
    return place, options.queue, head.name, options.priority


def has_last_chance(head: Head) -> bool:
    """Say whether one more death of a worker ends a task under which others have died.

    No worker holds two of these, so that the one that kills workers takes none of those with it
    that only were there.
    """
    return head.deaths > 0 and head.deaths + 1 >= head.options.max_deliveries
