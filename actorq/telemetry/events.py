"""How a node reports events to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from actorq.contracts.instrument import Instrument
from actorq.model.events import Event, EventKind
from actorq.telemetry.logging import LogInstrument


def teller(instruments: Iterable[Instrument] | None) -> Callable[..., None]:
    """Return what reports events to these instruments; None is the logger ``actorq``."""
    listeners = [LogInstrument()] if instruments is None else list(instruments)

    def tell(kind: EventKind, **details: Any) -> None:
        event = Event(kind, details)
        for instrument in listeners:
            with suppress(Exception):  # a listener's trouble is not the node's
                instrument.event(event)

    return tell
