"""How a node reports events to whoever listens."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from actorq.contracts.instrument import Instrument
from actorq.model.events import Event, EventKind
from actorq.telemetry.logging import LogInstrument


class Teller:
    """Reports events to instruments when it is called.

    Attributes:
        instruments: Those; others may join, and leave, at any time.
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.instruments: list[Instrument] = list(instruments)

    def __call__(self, kind: EventKind, **details: Any) -> None:
        """Report an event."""
        event = Event(kind, details)
        for instrument in tuple(self.instruments):
            with suppress(Exception):  # a listener's trouble is not the node's
                instrument.event(event)


def teller(instruments: Iterable[Instrument] | None) -> Teller:
    """Return what reports events to these instruments; None is the logger ``actorq``."""
    return Teller([LogInstrument()] if instruments is None else instruments)
