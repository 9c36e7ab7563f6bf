"""Task ids: time-ordered, unique per client, and naming the partition that owns the task."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

PARTITION = "00"
"""The one partition of this version, as the first two hex digits of every task id."""


class IdSource:
    """Makes task ids: partition (2 hex digits), microseconds (13), random tail (16).

    31 characters: one more would cost 16 bytes more of memory for each pending task. Ids of one
    source are unique and strictly increasing, whatever the wall clock does.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, rng: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._bits = (rng or random.SystemRandom()).getrandbits
        self._last = 0
        self._tail = self._bits(64)

    def next(self) -> str:
        """Return a new id."""
        now = int(self._clock() * 1_000_000)
        self._last = now = now if now > self._last else self._last + 1
        # A multiplicative step over a random start: as unlikely to meet another source's tail as
        # fresh random bits (which cost 1 us from the system), and never 0 twice in a row.
        self._tail = tail = (self._tail * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & _MASK
        return f"{PARTITION}{now:013x}{tail:016x}"


_MASK = (1 << 64) - 1
