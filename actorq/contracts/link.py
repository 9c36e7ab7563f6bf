"""How a client or a worker is connected to the owner: in memory now, over a wire elsewhere.

A connection has a number. Mail belongs to its connection: what was sent on one that has ended is
dropped, in both directions, and each side says hello and sends again what was not answered.
"""

from __future__ import annotations

from typing import Any, Protocol


class Port(Protocol):
    """One connection to the owner, as its peer holds it."""

    def send(self, *messages: Any) -> None:
        """Send in order. Never waits and never raises; dropped if the connection has ended.

        The answers may be delivered before it returns.
        """


class Peer(Protocol):
    """Whoever is connected to the owner: a client's session or a worker.

    All four are plain calls in the middle of the owner's turn: they may not wait or raise.
    """

    def connected(self, port: Port) -> None:
        """A new connection stands; the first message on it is a hello."""

    def received(self, message: Any) -> None:
        """A message of the owner has arrived."""

    def disconnected(self, error: BaseException | None) -> None:
        """The connection has ended; with an error it is for ever, otherwise a new one follows."""

    def suspended(self, error: Exception) -> None:
        """There will be no connection for some time; ``error`` is for those who would submit."""
