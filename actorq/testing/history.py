"""What has happened in a simulated cluster, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import trio

from actorq.model.events import Event, EventKind
from actorq.testing.processes import here

_NOISE = frozenset({EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.CONNECT_FAILED})


@attrs.frozen
class Happening:
    """One thing that has happened.

    Attributes:
        at: Virtual seconds since the beginning.
        where: The process, or "" for what came from outside.
        what: Of which kind.
        details: What there is to say of it.
    """

    at: float
    where: str
    what: str
    details: dict[str, Any]

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.at:9.4f}  {self.where or '-':<10} {self.what:<10} {said}"


class History:
    """Happenings, oldest first. The dead are not heard."""

    def __init__(self) -> None:
        self.events: list[Happening] = []
        self.open: bool = True

    def note(self, what: str, **details: Any) -> None:
        """Note what happens now, where it happens."""
        process = here()
        if process is None or not process.dead:
            self.put("" if process is None else process.name, what, **details)

    def put(self, where: str, what: str, **details: Any) -> None:
        """Note what happens now on behalf of somebody, who may be dead by now."""
        if self.open:
            self.events.append(Happening(trio.current_time(), where, what, details))

    def event(self, event: Event) -> None:
        """Take note of what a node reports. Implements `Instrument`."""
        details = {name: value for name, value in event.details.items() if name != "exception"}
        self.note("connection" if event.kind in _NOISE else "event", kind=event.kind, **details)

    def of(self, what: str, **details: Any) -> Iterator[Happening]:
        """Iterate over the happenings of one kind that have these details."""
        wanted = details.items()
        return (e for e in self.events if e.what == what and wanted <= e.details.items())

    def story(self) -> str:
        """Return all of it, for people."""
        return "\n".join(str(event) for event in self.events)
