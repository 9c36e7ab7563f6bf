"""Wall time, as the owner sees it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time that stamps, due times and retention are measured in."""

    horizon: float
    """Seconds after which it must be asked again by those who wait for a time: it may have been set
    meanwhile, or the machine suspended."""

    jumped: float
    """By how many seconds it has been set forward in all, as far as `now` has told."""

    def now(self) -> float:
        """Return seconds since the epoch; never less than the time before."""
        ...
