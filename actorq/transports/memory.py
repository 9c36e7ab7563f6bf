"""Connections between the parts of one program: for tests, and where no wire is needed."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from actorq.contracts.transport import Authorize, Connection, Serve
from actorq.errors import ConnectFailed, ConnectionLost
from actorq.transports.serving import (
    ABNORMAL,
    GOING_AWAY,
    NORMAL,
    TOO_BIG,
    attend,
    check_size,
    cut,
    judged,
    refusal,
)

MAX_BATCH = 8 * 2**20
_ON_THE_WAY = 16  # batches, in either direction

Outbox = trio.MemorySendChannel[bytes]
Inbox = trio.MemoryReceiveChannel[bytes]


class MemoryTransport:
    """Implements `actorq.contracts.transport.Transport` for ``memory://name``.

    Transports of the same name meet, within one call of `trio.run`.
    """

    def __init__(self, name: str, *, max_batch: int = MAX_BATCH) -> None:
        self.url: str = f"memory://{name}"
        self.threadsafe: bool = False
        self._max_batch = max_batch

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        """See `Transport.connect`."""
        await trio.lowlevel.checkpoint()
        connection = self._dial(token)
        code, reason = GOING_AWAY, ""
        try:
            yield connection
            code = NORMAL
        finally:
            connection.end(code, reason)

    def _dial(self, token: str | None) -> MemoryConnection:
        listener = _listeners().get(self.url)
        if listener is None:
            raise ConnectFailed(f"nobody listens at {self.url} in this program")
        role = judged(listener.authorize, token)
        if isinstance(role, int):
            raise refusal(self.url, role, shown=token is not None)
        end = _End()
        questions, asked = trio.open_memory_channel[bytes](_ON_THE_WAY)
        answers, answered = trio.open_memory_channel[bytes](_ON_THE_WAY)
        near = MemoryConnection(self.url, "", questions, answered, end, self._max_batch)
        far = MemoryConnection("memory", role, answers, asked, end, listener.max_batch)
        listener.nursery.start_soon(attend, listener.serve, far)
        return near

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Transport.listen`."""
        listeners = _listeners()
        if self.url in listeners:
            raise OSError(errno.EADDRINUSE, f"somebody listens at {self.url} already")
        async with trio.open_nursery() as nursery:
            listeners[self.url] = _Listener(serve, authorize, nursery, self._max_batch)
            try:
                task_status.started(self.url)
                await trio.sleep_forever()
            finally:
                del listeners[self.url]


class MemoryConnection:
    """Implements `actorq.contracts.transport.Connection`: two memory channels and one end."""

    def __init__(
        self, peer: str, role: str, outbox: Outbox, inbox: Inbox, end: _End, max_batch: int
    ) -> None:
        self.peer: str = peer
        self.role: str = role
        self._outbox = outbox
        self._inbox = inbox
        self._end = end
        self._max_batch = max_batch

    async def send(self, batch: bytes) -> None:
        """See `Connection.send`."""
        check_size(batch, self._max_batch)
        try:
            await self._outbox.send(batch)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._end.error() from None
        except (trio.Cancelled, KeyboardInterrupt):
            self.end(ABNORMAL, "a send was cancelled")
            raise

    async def receive(self) -> bytes:
        """See `Connection.receive`."""
        try:
            batch = await self._inbox.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise self._end.error() from None
        if len(batch) > self._max_batch:
            self.end(TOO_BIG, f"a batch is over {self._max_batch} bytes")
            raise self._end.error()
        return batch

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """See `Connection.aclose`."""
        self.end(code, reason)
        await trio.lowlevel.checkpoint()

    def end(self, code: int, reason: str) -> None:
        """End it at once; the peer can still receive what was sent before."""
        if not self._end.over:
            self._end.over, self._end.code, self._end.reason = True, code, cut(reason)
        self._outbox.close()
        self._inbox.close()


@attrs.define
class _End:
    """Why both ends of a connection have ended."""

    over: bool = False
    code: int = ABNORMAL
    reason: str = ""

    def error(self) -> ConnectionLost:
        return ConnectionLost(self.code, self.reason)


@attrs.frozen
class _Listener:
    serve: Serve
    authorize: Authorize
    nursery: trio.Nursery
    max_batch: int


_in_this_run = trio.lowlevel.RunVar[dict[str, _Listener]]("actorq.transports.memory")


def _listeners() -> dict[str, _Listener]:
    try:
        return _in_this_run.get()
    except LookupError:
        listeners: dict[str, _Listener] = {}
        _in_this_run.set(listeners)
        return listeners
