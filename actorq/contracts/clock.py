"""Wall time, as the owner sees it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time that stamps, due times and retention are measured in."""

    def now(self) -> float:
        """Return seconds since the epoch; never less than the time before."""
        ...
