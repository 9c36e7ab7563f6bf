"""Nodes that a test plays, message by message, and a queue actor that only writes down."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from actorq.codec.envelope import decode_from_owner, encode, join
from actorq.contracts.transport import Connection, Transport
from actorq.errors import ConnectionLost
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.runtime.exchange import Exchange

HELLO = w.Hello((w.PROTOCOL, w.PROTOCOL), 1, "a node", "0.1")
CLIENT = m.ClientHello("client", True)
WORKER = m.WorkerHello("node.1", "node", (), {"main": 1}, {"task": "digest"})
BEATS = w.BeatHello("node")
PARENT = w.ParentHello("parent")


class Caller:
    """One connection, from the end of a node."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got: list[Any] = []
        """What has come and was not looked at yet."""

    async def say(self, *messages: Any) -> None:
        """Send one batch of these."""
        await self.say_bytes(join([encode(message) for message in messages]))

    async def say_bytes(self, batch: bytes) -> None:
        """Send these bytes."""
        await self.connection.send(batch)

    async def hear(self, kind: type[Any] | None = None) -> Any:
        """Return the next message, or the next of its kind."""
        while True:
            while not self.got:
                self.got += decode_from_owner(await self.connection.receive())
            message = self.got.pop(0)
            if kind is None or isinstance(message, kind):
                return message

    async def end(self) -> tuple[int, str]:
        """Wait for the end of the connection; return its code and reason."""
        try:
            while True:
                self.got += decode_from_owner(await self.connection.receive())
        except ConnectionLost as lost:
            return lost.code, lost.reason

    async def ping_on(self) -> None:
        """Ping each second until the end."""
        try:
            while True:
                await trio.sleep(1)  # virtual
                await self.say(w.Ping())
        except ConnectionLost:
            pass


@asynccontextmanager
async def calling(
    transport: Transport, *messages: Any, token: str | None = None
) -> AsyncGenerator[Caller]:
    """Connect, and send one batch of these."""
    async with transport.connect(token) as connection:
        caller = Caller(connection)
        if messages:
            await caller.say(*messages)
        yield caller


class Clerk:
    """Stands for the queue actor: it writes down its mail, and says what the test wants."""

    def __init__(self) -> None:
        self.exchange = Exchange(ended=m.Gone())
        self.mail: list[tuple[int, tuple[Any, ...]]] = []
        self.open()

    def open(self) -> None:
        """Be up."""
        self.exchange.open(self._post)

    def crash(self) -> None:
        """Go down, for a moment."""
        self.exchange.close()

    def _post(self, origin: int, messages: tuple[Any, ...]) -> None:
        self.mail.append((origin, messages))

    @property
    def messages(self) -> list[Any]:
        """All that came, but for beats."""
        return [
            message
            for _, messages in self.mail
            for message in messages
            if not isinstance(message, m.Beat)
        ]

    @property
    def beats(self) -> list[float]:
        """The lags that came."""
        return [x.lag for _, messages in self.mail for x in messages if isinstance(x, m.Beat)]

    def say(self, *messages: Any, to: int | None = None) -> None:
        """Tell these to a connection, by default to the one that came last."""
        origin = max(self.exchange.connected) if to is None else to
        for message in messages:
            self.exchange.connected[origin].received(message)
