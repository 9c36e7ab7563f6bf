"""What is counted and measured for an operator, whoever publishes it; see `prometheus`.

Nothing here grows with the number of tasks, and no more than `QUEUES_MAX` queues are told apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from actorq.model.events import Event, EventKind
from actorq.model.feed import TaskEvent
from actorq.model.records import Head
from actorq.model.results import QueueStats

QUEUES_MAX = 100
"""Queues that are told apart: anybody who may submit may name a new one."""

OTHER_QUEUES = "(others)"
"""What all further ones are counted under."""

DURATIONS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3_600.0,
)  # fmt: skip
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


_EMPTY = QueueStats()


class Histogram:
    """How often something took how long.

    One thread observes; others may read at any time.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """Return how many took at most so long, for each bound; the last is infinite."""
        total = 0
        found: list[tuple[float, int]] = []
        for bound, count in zip((*self._bounds, inf), tuple(self._counts), strict=True):
            total += count
            found.append((bound, total))
        return found


class QueueMeter:
    """What has become of one queue's tasks."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.attempts: int = 0
        self.wait: Histogram = Histogram(DURATIONS)
        self.run: Histogram = Histogram(DURATIONS)

    def count(self, head: Head) -> None:
        """Count a task that has ended."""
        self.ended[head.status.value] += 1
        self.attempts += head.attempts
        if head.started_at is not None and head.completed_at is not None:
            # Clocks that were set back make no negative durations.
            self.wait.observe(max(0.0, head.started_at - head.due))
            self.run.observe(max(0.0, head.completed_at - head.started_at))


class Meter:
    """Implements `actorq.contracts.instrument.Instrument`, and takes the ends of tasks."""

    def __init__(self) -> None:
        self._queues: dict[str, QueueMeter] = {}
        self._events: Counter[EventKind] = Counter()
        self.lag: Histogram = Histogram(LAGS)

    def event(self, event: Event) -> None:
        """Count an event."""
        self._events[event.kind] += 1

    def ended(self, event: TaskEvent) -> None:
        """Count a task that has ended."""
        self.queue(event.queue).count(event.head)

    def queue(self, name: str) -> QueueMeter:
        """Return the meter of a queue."""
        found = self._queues.get(name)
        if found is None:
            found = self._queues.setdefault(self.label(name), QueueMeter())
        return found

    def label(self, queue: str) -> str:
        """Return what a queue is counted under."""
        if queue in self._queues or len(self._queues) < QUEUES_MAX:
            return queue
        return OTHER_QUEUES

    def standing(self, queues: Mapping[str, QueueStats]) -> dict[str, QueueStats]:
        """Return how queues stand, by what they are counted under; those that are empty too."""
        for name in queues:
            self.queue(name)
        found = dict.fromkeys(self._queues, _EMPTY)
        for name, stats in queues.items():
            label = self.label(name)
            found[label] = stats if found[label] is _EMPTY else _sum(found[label], stats)
        return found

    def queues(self) -> list[tuple[str, QueueMeter]]:
        """Return every queue that was ever seen, with its meter."""
        return sorted(self._queues.copy().items())

    def events(self) -> Iterator[tuple[str, int]]:
        """Yield how many events of each kind there were, those that never happened too."""
        for kind in EventKind:
            yield kind.value, self._events[kind]


def _sum(one: QueueStats, other: QueueStats) -> QueueStats:
    return QueueStats(
        scheduled=one.scheduled + other.scheduled,
        pending=one.pending + other.pending,
        running=one.running + other.running,
        parked=one.parked + other.parked,
        waiting=one.waiting + other.waiting,
        paused=one.paused or other.paused,
        oldest=min((at for at in (one.oldest, other.oldest) if at is not None), default=None),
    )
