"""What a step of the queue's machine wants done, besides `Write`s; carried out in order.

All of these leave only after the writes of their step are committed.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.messages import Reply, Request
from actorq.model.records import Note, Record, Write
from actorq.model.results import Stats


class Send(Struct, frozen=True, gc=False):
    """Deliver ``message`` to the peer on this connection, if it is still there."""

    to: int
    message: Any


class Lookup(Struct, frozen=True, gc=False):
    """Fetch these records and step with `Found`: the machine knows only live tasks.

    ``keys``: also those of ended tasks that were submitted under one of these keys.
    """

    to: int
    message: Any
    ids: tuple[str, ...]
    keys: tuple[str, ...] = ()


class Found(Struct, frozen=True, gc=False):
    """The answer to a `Lookup`: what the store has under each id, and each key, that it has."""

    message: Any
    records: dict[str, Record]
    keyed: dict[str, Record] = {}


class Search(Struct, frozen=True, gc=False):
    """Let the store look for records and step with `Searched`."""

    to: int
    message: Any
    filter: Filter
    cursor: str | None
    limit: int
    total: int = 0


class Searched(Struct, frozen=True, gc=False):
    """The answer to a `Search`; ``total`` is what it carried. With ``error``: there is none."""

    message: Any
    records: list[Record]
    next: str | None
    scanned: int
    total: int
    error: Exception | None = None


class Complete(Struct, frozen=True, gc=False):
    """Answer a `GetStats` with these, and with what is known of the store."""

    to: int
    request: int
    stats: Stats


class Tell(Struct, frozen=True, gc=False):
    """Report an event to the instruments."""

    kind: EventKind
    details: dict[str, Any]


Effect = Write | Note | Send | Lookup | Search | Complete | Tell


class Outbox(list[Effect]):
    """Gathers the effects of one step, in order."""

    def send(self, to: int, message: Any) -> None:
        """Add a `Send`."""
        self.append(Send(to, message))

    def reply(
        self, to: int, request: Request, value: Any = None, *, error: Exception | None = None
    ) -> None:
        """Add the answer to a request."""
        self.append(Send(to, Reply(request.request, value, error)))

    def lookup(self, to: int, message: Any, *ids: str, keys: tuple[str, ...] = ()) -> None:
        """Add a `Lookup`."""
        self.append(Lookup(to, message, ids, keys))

    def search(
        self, to: int, message: Any, filter: Filter, cursor: str | None, limit: int, total: int = 0
    ) -> None:
        """Add a `Search`."""
        self.append(Search(to, message, filter, cursor, limit, total))

    def tell(self, kind: EventKind, **details: Any) -> None:
        """Add a `Tell`."""
        self.append(Tell(kind, details))
