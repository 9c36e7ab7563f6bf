"""What the tests of a transport are made of: two ends that have met, floods, and what is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Protocol

import trio
from trio.testing import wait_all_tasks_blocked

from actorq.contracts.transport import Authorize, Connection, Serve, Transport
from actorq.errors import ConnectionLost, TransportError

BATCH = 2**16
"""The ``max_batch`` of these tests."""
TOO_MANY = 4_000  # of BATCH bytes each: no buffer is that large
_PATIENCE = 15.0


class Make(Protocol):
    """What the fixture ``make`` is."""

    def __call__(
        self, at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
    ) -> Transport:
        """Return a transport: one to listen with at a new address, or one for the address ``at``.

        Args:
            at: What a listener has reported.
            listens: Whether it is to listen there; otherwise it is to dial.
            max_batch: The largest batch to send or to receive.
        """
        ...


class Meeting:
    """Serves connections by handing them to the test."""

    def __init__(self) -> None:
        self._there, self._arrived = trio.open_memory_channel[Connection](10)

    async def serve(self, connection: Connection) -> None:
        """Hand it over; the test closes it, or the end of the listener does."""
        await self._there.send(connection)
        await trio.sleep_forever()

    async def next(self) -> Connection:
        """Return the next one that comes."""
        return await self._arrived.receive()


class Flood:
    """Sends numbered batches until the connection ends, or it has sent ``limit``."""

    def __init__(self) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.ended: trio.Event = trio.Event()
        self.limit: int = TOO_MANY
        self.sent: int = 0
        self.error: ConnectionLost | None = None

    async def run(self, connection: Connection) -> None:
        """Send."""
        with self.scope:
            try:
                while self.sent < self.limit:
                    await connection.send(numbered(self.sent))
                    self.sent += 1
            except ConnectionLost as error:
                self.error = error
        self.ended.set()


def welcome(token: str | None) -> str | int:
    """Let in whoever brings the token of these tests."""
    return "client" if token == "token" else 401


async def idle(connection: Connection) -> None:
    """Serve by waiting for the end."""
    while True:
        await connection.receive()


def numbered(number: int) -> bytes:
    """Return a batch that is like no other."""
    return number.to_bytes(4, "big") * (BATCH // 4)


async def send_all(connection: Connection, batches: list[bytes]) -> None:
    """Send them in order."""
    for batch in batches:
        await connection.send(batch)


async def rest_of(connection: Connection) -> tuple[list[bytes], ConnectionLost]:
    """Receive until the end; return what came, and how it ended."""
    batches: list[bytes] = []
    while True:
        try:
            batches.append(await connection.receive())
        except ConnectionLost as error:
            return batches, error


async def error_of(call: Awaitable[object]) -> Exception:
    """Return what it raises."""
    try:
        await call
    except Exception as error:  # noqa: BLE001 - it is for the test to judge
        return error
    raise AssertionError("it did not raise")


async def lost(call: Awaitable[object]) -> ConnectionLost:
    """Return the ConnectionLost that it raises."""
    error = await error_of(call)
    assert isinstance(error, ConnectionLost), repr(error)
    return error


async def refusal_of(transport: Transport, token: str | None = "token") -> TransportError:
    """Return the error with which it does not connect."""
    try:
        async with transport.connect(token):
            raise AssertionError("it connected")
    except TransportError as error:
        return error


async def tasks_left(expected: int = 0) -> int:
    """Return how many tasks there are when nothing moves any more, or as soon as ``expected``."""
    for _ in range(100):  # a network may deliver a little later
        await wait_all_tasks_blocked()
        if trio.lowlevel.current_statistics().tasks_living == expected:
            break
    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def listening(
    make: Make,
    serve: Serve,
    authorize: Authorize = welcome,
    *,
    at: str | None = None,
    max_batch: int = BATCH,
) -> AsyncGenerator[str]:
    """Listen for the length of the block; yields the address."""
    with trio.fail_after(_PATIENCE):
        async with trio.open_nursery() as nursery:
            transport = make(at, listens=True, max_batch=max_batch)
            address: str = await nursery.start(transport.listen, serve, authorize)
            yield address
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(
    make: Make,
    *,
    token: str | None = "token",
    authorize: Authorize = welcome,
    listens: int = BATCH,
    dials: int = BATCH,
) -> AsyncGenerator[tuple[Connection, Connection]]:
    """Connect; yields the end that dialed and the end that listened, whose ``max_batch`` differ."""
    met = Meeting()
    async with (
        listening(make, met.serve, authorize, max_batch=listens) as address,
        make(address, max_batch=dials).connect(token) as near,
    ):
        yield near, await met.next()
