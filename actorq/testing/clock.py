"""Virtual time: a clock that stands still while anybody has something to do, and then jumps.

As `trio.testing.MockClock` with its autojump, in half the time, and with a timetable for what is to
happen without a task that waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

import trio


class VirtualClock(trio.abc.Clock):
    """Give it to `trio.run`; nothing in that run may wait for the world outside."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def start_clock(self) -> None:
        """See `trio.abc.Clock`."""

    def current_time(self) -> float:
        """See `trio.abc.Clock`."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump, for trio asks this when nobody has anything to do."""
        due = self._due
        when = due[0][0] if due else inf
        if min(when, deadline) == inf:
            return inf
        self._now = max(self._now, min(when, deadline))
        while due and due[0][0] <= self._now:
            heappop(due)[2]()
        return 0.0

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have ``act`` called then, or as soon as nobody has anything to do.

        Those of one moment are called in the order in which they came. It is a plain call between
        two passes of trio's loop: it may wake tasks, but there is no current one, and whatever it
        raises ends the run.
        """
        heappush(self._due, (when, next(self._order), act))


def current_clock() -> VirtualClock:
    """Return the clock of this run.

    Raises:
        TypeError: It is another one.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, VirtualClock):
        raise TypeError(f"this needs trio.run(..., clock=VirtualClock()), not {clock!r}")
    return clock
