"""One connection at work: what is to be sent waits here in two lanes, what arrives is handed on.

Sending is a plain call. One coroutine writes, which puts into one batch whatever has gathered while
the last one was under way: no timer, so a lone message leaves at once, and a burst goes together.
Another one reads, and never waits for anything but the next batch: two peers that both wait for the
other to read would wait for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from actorq.codec.envelope import WireError, encode, join
from actorq.contracts.transport import Connection
from actorq.errors import ConnectionLost, leaves
from actorq.model.wire import Close

BATCH_MESSAGES = 256
BATCH_BYTES = 64 * 1024

BATCH_SLACK = 256 * 1024
"""Bytes that a message may have beyond the call or the value that it carries."""

BACKLOG_MAX = 256 * 1024 * 1024
"""Bytes that may wait for a peer to read them; it is cut then."""

_FLUSH_SECONDS = 2.0


def message_max(max_message: int) -> int:
    """Return how large a message may be: a value, and ``meta`` as large beside it, and more."""
    return 2 * max_message + BATCH_SLACK


def batch_max(max_message: int) -> int:
    """Return how large a batch may be: one message of any size beside small ones."""
    return message_max(max_message) + BATCH_SLACK


class Wire:
    """A connection; `run` it, and send meanwhile.

    Attributes:
        peer: The other end, for people.
        heard_at: When something came last, in `trio.current_time`.
    """

    def __init__(
        self,
        connection: Connection,
        decode: Callable[[bytes], list[Any]],
        receive: Callable[[list[Any]], None],
    ) -> None:
        self.peer: str = connection.peer
        self.heard_at: float = trio.current_time()
        self._connection = connection
        self._decode = decode
        self._receive = receive
        self._control: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._waiting = 0
        self._writer: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()
        self._end: tuple[int, str] | None = None
        self._leaving = False
        self._error: Exception | None = None
        """What the reader of the messages has raised."""

    def send(self, data: bytes) -> None:
        """Send an encoded message, after those that were sent before."""
        self._data.append(data)
        self._waiting += len(data)
        if self._writer is not None:
            self._wake()
        elif self._waiting > BACKLOG_MAX:
            self.close(Close.TOO_SLOW, f"{self._waiting} bytes wait to be read")

    def send_first(self, message: Any) -> None:
        """Send a message about the connection itself, before all others.

        One that waits already is not sent twice: who pings and does not read gets one answer.
        """
        data = encode(message)
        if data in self._control:
            return
        self._control.append(data)
        if self._writer is not None:
            self._wake()

    def close(self, code: int, reason: str, *, flush: bool = False) -> None:
        """End the connection; with ``flush``, once all that waits is sent.

        A batch that is under way may get through first, or the peer would never see the code;
        neither takes more than two seconds. Only the first call counts.
        """
        if self._end is not None:
            return
        self._end = (code, reason)
        if not flush:
            self._control.clear()
            self._data.clear()
        self._leaving = True
        self._scope.deadline = trio.current_time() + _FLUSH_SECONDS
        self._wake()

    async def run(self) -> tuple[int, str]:
        """Read and write until the connection ends; return the code and the reason of that.

        Cancelling it ends the connection.

        Raises:
            Exception: What ``receive`` has raised, once the peer was told that something broke.
        """
        try:
            end = self._end = await self._pump()
        finally:
            await self._connection.aclose(*(self._end or (Close.GOING_AWAY, "")))
        if self._error is not None:
            raise self._error
        return end

    async def _pump(self) -> tuple[int, str]:
        code, reason = Close.NORMAL.value, ""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
        except* ConnectionLost as group:
            for lost in leaves(group):
                assert isinstance(lost, ConnectionLost)  # both directions say the same
                code, reason = lost.code, lost.reason
        return self._end or (code, reason)

    async def _read(self) -> None:
        receive = self._connection.receive
        while True:
            batch = await receive()
            self.heard_at = trio.current_time()
            try:
                self._receive(self._decode(batch))
            except WireError as error:
                self.close(Close.BAD_MESSAGE, str(error), flush=True)
                await trio.sleep_forever()
            except Exception as error:  # noqa: BLE001 - raised again, when the peer was told
                self._error = error
                self.close(Close.BROKEN, "an error of this node", flush=True)
                await trio.sleep_forever()

    async def _write(self) -> None:
        send = self._connection.send
        while True:
            while not self._control and not self._data:
                if self._leaving:
                    self._scope.cancel("all is sent")
                await self._wait()
            try:
                await send(self._take())
            except ConnectionLost:  # the reader notices too, and may be in the middle of a farewell
                await trio.sleep_forever()

    def _take(self) -> bytes:
        """Return the next batch: control first, then data, up to a bound."""
        control, data = self._control, self._data
        messages = list(control)
        control.clear()
        size = 0
        while data and size < BATCH_BYTES and len(messages) < BATCH_MESSAGES:
            message = data.popleft()
            size += len(message)
            messages.append(message)
        self._waiting -= size
        return join(messages)

    @trio.lowlevel.enable_ki_protection
    async def _wait(self) -> None:
        self._writer = trio.lowlevel.current_task()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        if self._writer is not None:
            trio.lowlevel.reschedule(self._writer)
            self._writer = None
