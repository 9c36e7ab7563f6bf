"""The owner's clock: wall time at opening, moved by trio's clock from then on.

So due times and retention run in virtual time under a `trio.testing.MockClock`, and are not
disturbed by small corrections of the system's clock. When the two are more than a second apart
(somebody set the clock, or the machine was suspended), it is anchored again.
"""

from __future__ import annotations

import time
from math import inf

from trio.lowlevel import current_clock

_DRIFT_MAX = 1.0
_HORIZON = 10.0


class AnchoredClock:
    """Implements `actorq.contracts.clock.Clock`; open it inside a trio run."""

    def __init__(self) -> None:
        clock = current_clock()
        # trio's own clock class is private; any other clock is virtual, and has no drift.
        self._real = type(clock).__name__ == "SystemClock"
        self.horizon: float = _HORIZON if self._real else inf
        self.jumped: float = 0.0
        self._trio_now = clock.current_time
        self._offset = time.time() - self._trio_now()
        self._last = 0.0
        self._check_at = 0.0
        self._checked = self._trio_now()

    def now(self) -> float:
        """Return seconds since the epoch; never less than the time before."""
        now = self._trio_now() + self._offset
        if now >= self._check_at:
            now = self._check(now)
        if now > self._last:
            self._last = now
        return self._last

    def _check(self, now: float) -> float:
        """Anchor again if the two clocks have parted; return the time."""
        if self._real:
            ran, self._checked = self._trio_now() - self._checked, self._trio_now()
            ahead = now - time.time()
            if ahead < -_DRIFT_MAX:
                self._offset -= ahead
                self.jumped -= ahead
                now -= ahead
            elif ahead > _DRIFT_MAX:
                # Set back: time goes on, at half its speed until it is right again. Going back, or
                # standing still, would break order and stop everything that waits.
                back = min(ahead, ran / 2)
                self._offset -= back
                now -= back
        self._check_at = now + _DRIFT_MAX
        return now
