"""Connections of which a test holds the other end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from actorq.codec.envelope import encode, join
from actorq.contracts.transport import Connection
from actorq.errors import ConnectionLost


async def until(condition: Callable[[], object]) -> None:
    """Wait in virtual time, or in small steps of the real one, until it is so."""
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
        await trio.sleep(0.005)  # virtual


class FakeConnection:
    """Implements `actorq.contracts.transport.Connection`: nothing is sent while it is held up."""

    def __init__(self, role: str = "admin") -> None:
        self.peer: str = "somewhere"
        self.role: str = role
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.sending = 0
        self._open = trio.Event()
        self._open.set()
        self._mail, self._inbox = trio.open_memory_channel[bytes](1_000)
        self._lost: ConnectionLost | None = None

    # --- for the test ---

    def hold_up(self) -> None:
        """Let no batch pass from now on."""
        if self._open.is_set():
            self._open = trio.Event()

    def let_pass(self) -> None:
        """Let them pass again."""
        self._open.set()

    def deliver(self, *messages: Any) -> None:
        """Have the peer send one batch of these."""
        self.deliver_bytes(join([encode(message) for message in messages]))

    def deliver_bytes(self, batch: bytes) -> None:
        """Have the peer send these bytes."""
        self._mail.send_nowait(batch)

    def lose(self, code: int = 1006, reason: str = "") -> None:
        """Have the peer end it."""
        self._lost = ConnectionLost(code, reason)
        self._mail.close()
        self._open.set()

    # --- implements `Connection` ---

    async def send(self, batch: bytes) -> None:
        """See `Connection.send`."""
        assert self.closed is None, "nothing is sent after the end"
        self.sending += 1
        assert self.sending == 1, "only one coroutine sends"
        try:
            await trio.lowlevel.checkpoint()
            await self._open.wait()
        finally:
            self.sending -= 1
        if self._lost is not None:
            raise ConnectionLost(self._lost.code, self._lost.reason)
        self.sent.append(batch)

    async def receive(self) -> bytes:
        """See `Connection.receive`."""
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            assert self._lost is not None
            raise ConnectionLost(self._lost.code, self._lost.reason) from None

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`."""
        if self.closed is None:
            self.closed = (code, reason)
        await trio.lowlevel.checkpoint()


class FakeTransport:
    """Implements `actorq.contracts.transport.Transport` for dialling: what comes of it is planned.

    Attributes:
        plan: What the next dials find: a connection, or an error. Beyond it nobody answers, for
            ever.
        dials: When it was dialled, and with which token.
    """

    def __init__(self, *plan: FakeConnection | Exception, url: str = "fake://here") -> None:
        self.url: str = url
        self.plan: list[FakeConnection | Exception] = list(plan)
        self.dials: list[tuple[float, str | None]] = []

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        """See `Transport.connect`."""
        self.dials.append((trio.current_time(), token))
        await trio.lowlevel.checkpoint()
        if not self.plan:
            await trio.sleep_forever()
        found = self.plan.pop(0)
        if isinstance(found, Exception):
            raise found
        try:
            yield found
        finally:
            with trio.CancelScope(shield=True):
                await found.aclose()

    async def listen(self, serve: Any, authorize: Any, *, task_status: Any = None) -> None:
        """Nobody dials this one."""
        raise NotImplementedError
