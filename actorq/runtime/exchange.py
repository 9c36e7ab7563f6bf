"""Connects peers to whichever incarnation of an actor is alive, by numbered connections.

The exchange outlives the actor. Each time the actor opens, every peer gets a new connection; when
it closes or crashes, all of them end at once, and mail of an ended connection is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actorq.contracts.link import Peer

Post = Callable[[int, tuple[Any, ...]], None]
"""How the actor takes mail: connection number and messages. Never waits and never raises."""


class MemoryPort:
    """A connection in memory; see `actorq.contracts.link.Port`."""

    __slots__ = ("number", "post")

    def __init__(self, number: int, post: Post) -> None:
        self.number: int = number
        self.post: Post | None = post

    def send(self, *messages: Any) -> None:
        """Hand the messages to the actor, unless the connection has ended."""
        if self.post is not None:
            self.post(self.number, messages)


class Exchange:
    """The peers of one actor, and their current connections."""

    def __init__(self, ended: Any) -> None:
        """``ended`` is the message that tells the actor that a connection is gone."""
        self._ended = ended
        self._numbers = 0
        self._post: Post | None = None
        self._error: BaseException | None = None
        self._peers: dict[Peer, MemoryPort | None] = {}
        self.suspended: Exception | None = None
        """Why the actor cannot open for now."""
        self.connected: dict[int, Peer] = {}
        """The peer on each open connection, for the actor to deliver to."""

    def attach(self, peer: Peer) -> None:
        """Add a peer; it is connected as soon as the actor is open."""
        self._peers[peer] = None
        if self._error is not None:
            peer.disconnected(self._error)
        elif self._post is not None:
            self._connect(peer, self._post)
        elif self.suspended is not None:
            peer.suspended(self.suspended)

    def detach(self, peer: Peer) -> None:
        """Remove a peer; the actor is told that its connection has ended."""
        port = self._peers.pop(peer, None)
        if port is not None and port.post is not None:
            post, port.post = port.post, None
            del self.connected[port.number]
            post(port.number, (self._ended,))

    def renew(self, peer: Peer) -> MemoryPort | None:
        """Return a new connection for a peer: what was born on the old one finds nobody.

        None if the actor is not open.
        """
        port = self._peers.get(peer)
        if port is None or port.post is None:
            return None
        post, port.post = port.post, None
        del self.connected[port.number]
        return self._number(peer, post)

    def open(self, post: Post) -> None:
        """The actor is open: connect every peer, in the order in which they came."""
        self._post = post
        self.suspended = None
        for peer in list(self._peers):
            if self._post is not post:
                return  # it crashed over an earlier hello
            self._connect(peer, post)

    def suspend(self, error: Exception) -> None:
        """The actor is closed, and cannot open for now; ``error`` is what callers should get."""
        self.suspended = error
        for peer in list(self._peers):
            peer.suspended(error)

    def close(self, error: BaseException | None = None) -> None:
        """The actor is closed: end every connection; with an error, for ever."""
        self._post = None
        self._error = error
        self.connected.clear()
        for peer, port in list(self._peers.items()):
            if port is not None:
                port.post = None
            self._peers[peer] = None
            peer.disconnected(error)

    def _connect(self, peer: Peer, post: Post) -> None:
        peer.connected(self._number(peer, post))

    def _number(self, peer: Peer, post: Post) -> MemoryPort:
        self._numbers += 1
        port = self._peers[peer] = MemoryPort(self._numbers, post)
        self.connected[port.number] = peer
        return port
