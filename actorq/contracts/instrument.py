"""Who listens to what the system reports."""

from __future__ import annotations

from typing import Protocol

from actorq.model.events import Event


class Instrument(Protocol):
    """Receives every event, in the order in which things happened."""

    def event(self, event: Event) -> None:
        """Take note of ``event``. A plain call in the middle of the system's work: return soon.

        Whatever it raises is dropped.
        """
