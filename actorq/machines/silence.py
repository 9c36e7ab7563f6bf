"""Whether a peer has been silent for too long, told by a clock that may have stood still itself.

Somebody looks every so often. A look that comes late says that our own process was held up (a
blocked loop, a suspended machine), and could not have heard anybody: that time does not count.
"""

from __future__ import annotations


class Silence:
    """Measures the silence of one peer; all times are in seconds, of any one clock."""

    __slots__ = ("_heard", "_look_at", "every", "limit")

    def __init__(self, limit: float, every: float, now: float) -> None:
        """Begin at ``now``; it is too long after ``limit``, and looked at ``every`` so often."""
        self.limit: float = limit
        self.every: float = every
        self._heard = now
        self._look_at = now + every

    def heard(self, now: float) -> None:
        """Note that something has come."""
        self._heard = now

    def too_long(self, now: float) -> bool:
        """Look, and say whether it is too long."""
        late = now - self._look_at
        self._look_at = now + self.every
        if late > self.every:
            self._heard = min(now, self._heard + late)
        return now - self._heard >= self.limit
