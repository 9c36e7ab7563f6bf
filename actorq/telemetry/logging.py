"""Events as log records of the logger ``actorq``; quiet while nothing goes wrong."""

from __future__ import annotations

import logging
import reprlib

from actorq.model.events import Event, EventKind

_LEVELS = {
    EventKind.ACTOR_DIED: logging.ERROR,
    EventKind.ACTOR_RESTARTED: logging.ERROR,
    EventKind.UNKILLABLE: logging.ERROR,
    EventKind.STUCK: logging.ERROR,
    EventKind.RECORD_DAMAGED: logging.ERROR,
    EventKind.DEAD_LETTER: logging.INFO,  # a storm of them belongs to many a program's end
    EventKind.TICK_DROPPED: logging.INFO,  # as its schedule wants it
    EventKind.OWNING: logging.INFO,
    EventKind.STANDING_BY: logging.INFO,
    EventKind.LISTENING: logging.INFO,
    EventKind.CONNECTED: logging.INFO,
    EventKind.DISCONNECTED: logging.INFO,
}


class LogInstrument:
    """Implements `actorq.contracts.instrument.Instrument`; configures no logging by itself."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("actorq")

    def event(self, event: Event) -> None:
        """Log the event: an error with its traceback if an actor crashed, mostly a warning."""
        level = _LEVELS.get(event.kind, logging.WARNING)
        if not self._logger.isEnabledFor(level):
            return  # a message may take long to describe
        details = " ".join(
            f"{key}={reprlib.repr(value) if key == 'message' else repr(value)}"
            for key, value in event.details.items()
            if key != "exception"
        )
        self._logger.log(
            level,
            "%s %s",
            event.kind.value,
            details,
            exc_info=event.details.get("exception"),
            extra={"actorq": event},
        )
