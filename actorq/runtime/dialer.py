"""The end of a connection that dials: again and again, and says hello each time.

There is no session to resume. A peer keeps what was not answered, says hello on each new connection
and sends it again; what a new connection is about is settled between its hello and the owner's
welcome. So all that happens here is dialling, with a little patience, and listening for silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Any

import trio
from msgspec.structs import replace

from actorq.codec.envelope import decode_from_owner, encode
from actorq.contracts.link import Peer
from actorq.contracts.transport import Connection, Transport
from actorq.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    EncodeError,
    IncompatiblePeer,
    PayloadTooLarge,
    RemoteError,
    StoreUnavailable,
    SubmitError,
    TransportError,
    readable,
)
from actorq.machines.silence import Silence
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.model.records import Output
from actorq.model.status import FailureKind
from actorq.runtime.future import Future
from actorq.runtime.wire import Wire, message_max

BACKOFF_FIRST, BACKOFF_MAX = 0.05, 1.0
"""Seconds between two attempts: at most one, or a window could pass between them."""

GOT_EVERY = 32
"""Durable messages after which the owner is told that they came, without waiting for a ping."""

_GOT_BYTES = 64 * 1024

_GOOD_SECONDS = 1.0
"""After which a connection has shown that dialling is worth it."""

_LEAVE_SECONDS = 4.0


class Dialer:
    """Keeps one peer connected to whichever of some addresses answers.

    Attributes:
        accepted: What the owner said of itself, once it first did.
        quiet: See ``quiet`` below; may be changed.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        token: str | None,
        peer: Peer,
        *,
        node: str,
        library: str,
        max_message: int | None = None,
        tell: Callable[..., None],
        random: Random,
        introduce: Sequence[Any] = (),
        quiet: float | None = None,
    ) -> None:
        """Dial nobody yet.

        Args:
            transports: The addresses, tried in turn.
            token: What to show there.
            peer: Whom to connect.
            node: What it is called, for people.
            library: The version of this library.
            max_message: The bound of its transports on one call or value, in bytes.
            tell: Reports events.
            random: For the jitter of the backoff.
            introduce: What to say after the hello, if the peer does not do that itself.
            quiet: The peer says so much by itself that no pings are needed; seconds of silence
                after which the connection is dialled again all the same.
        """
        self.accepted: Future[w.Accepted] = Future()
        self._transports = transports
        self._token = token
        self._peer = peer
        self._node = node
        self._library = library
        self._max_message = max_message
        self._tell = tell
        self._random = random
        self._introduce = introduce
        self.quiet: float | None = quiet
        self._numbers = 0
        self._attempts = 0
        self._good_after = inf
        """When the connection that stands has lasted long enough to be called good."""
        self._last_error: Exception | None = None
        self._wire: Wire | None = None
        self._ended = trio.Event()
        """Set when that connection has ended."""

    @property
    def connected(self) -> bool:
        """Whether it is connected now, and was accepted."""
        return self._wire is not None and self._good_after < inf

    def why_not(self) -> str:
        """Return why it is not connected, as far as that is known."""
        return str(self._last_error) if self._last_error else "no answer yet"

    async def run(self) -> None:
        """Dial until cancelled.

        Raises:
            AuthenticationFailed: The token is refused.
            IncompatiblePeer: The other end speaks something else, or found that we do.
        """
        try:
            while True:
                for transport in self._transports:
                    await self._dial(transport)
                    await trio.sleep(self._backoff())
        except TransportError as error:
            self.accepted.fail(error)
            self._peer.disconnected(error)
            raise

    def cut(self, reason: str) -> None:
        """End the connection, to dial again."""
        if self._wire is not None:
            self._wire.close(w.Close.NORMAL, reason)

    async def leave(self) -> None:
        """Say goodbye, and return when the connection has ended, once all is sent; shielded."""
        if self._wire is not None:
            self._wire.send(encode(w.Bye()))
            self._wire.close(w.Close.NORMAL, "the peer leaves", flush=True)
            with trio.move_on_after(_LEAVE_SECONDS, shield=True):
                await self._ended.wait()

    def _backoff(self) -> float:
        most = min(BACKOFF_FIRST * 2.0 ** min(self._attempts, 10), BACKOFF_MAX)
        return most * (0.5 + 0.5 * self._random.random())

    async def _dial(self, transport: Transport) -> None:
        try:
            async with transport.connect(self._token) as connection:
                code, reason = await self._talk(connection)
        except (ConnectFailed, ConnectionLost) as error:
            self._note_failure(transport, error)
            return
        if code in w.FATAL:
            kind = AuthenticationFailed if code == w.Close.FORBIDDEN else IncompatiblePeer
            raise kind(f"{transport.url}: {reason} ({code})")
        if code == w.Close.UNAVAILABLE:
            self._peer.suspended(StoreUnavailable(f"{transport.url}: {reason}"))
        lost = ConnectionLost(code, reason)
        if self._good_after == inf:
            self._note_failure(transport, lost)
            return
        # Let in and cut at once, again and again: that is no reason to hurry either.
        short = trio.current_time() < self._good_after
        self._attempts = self._attempts + 1 if short else 0
        self._last_error = lost

    def _note_failure(self, transport: Transport, error: Exception) -> None:
        self._last_error = error
        self._attempts += 1
        if self._attempts & (self._attempts - 1) == 0:  # 1, 2, 4, 8, ...: not every second
            self._tell(
                EventKind.CONNECT_FAILED,
                url=transport.url,
                error=str(error),
                attempts=self._attempts,
            )

    async def _talk(self, connection: Connection) -> tuple[int, str]:
        """Say hello and hand on what comes, until the connection ends."""
        talk = _Talk(self, connection, self._peer)
        self._numbers += 1
        versions = (w.PROTOCOL, w.PROTOCOL)
        hello = w.Hello(versions, self._numbers, self._node, self._library, self._max_message)
        talk.wire.send(encode(hello))
        for message in self._introduce:
            talk.wire.send(encode(message))
        self._wire, self._ended = talk.wire, trio.Event()
        self._good_after = inf
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk.listen_for_silence)
                self._peer.connected(talk)
                code, reason = await talk.wire.run()
                nursery.cancel_scope.cancel("the connection has ended")
        finally:
            talk.over = True
            self._wire = None
            self._ended.set()
            self._peer.disconnected(None)
            if talk.accepted is not None:
                self._tell(EventKind.DISCONNECTED, peer=connection.peer, node=talk.accepted.node)
        return code, reason

    def _welcome(self, talk: _Talk, accepted: w.Accepted) -> None:
        self._good_after = trio.current_time() + _GOOD_SECONDS
        self.accepted.set(accepted)
        self._tell(
            EventKind.CONNECTED,
            peer=talk.wire.peer,
            node=accepted.node,
            library=accepted.library,
        )


class _Talk:
    """One connection of a dialer. Implements `actorq.contracts.link.Port`."""

    def __init__(self, dialer: Dialer, connection: Connection, peer: Peer) -> None:
        self._dialer = dialer
        self._peer = peer
        self.wire: Wire = Wire(connection, self._decode, self._receive)
        self.accepted: w.Accepted | None = None
        self.over = False
        self._got = self._told = 0
        self._batch = 0

    def send(self, *messages: Any) -> None:
        """Send messages to the owner."""
        if self.over:
            return
        for message in messages:
            try:
                data = encode(message)
            except Exception as error:  # noqa: BLE001 - a text that is none, a number too large
                self._refuse(message, EncodeError, f"it cannot be encoded: {error}")
                continue
            most = self._most()
            if len(data) > most:
                why = f"it takes {len(data)} bytes, and the queue takes {most}"
                self._refuse(message, PayloadTooLarge, why)
            else:
                self.wire.send(data)

    def _most(self) -> float:
        return inf if self.accepted is None else message_max(self.accepted.max_message)

    def _refuse(self, message: Any, kind: type[SubmitError], why: str) -> None:
        """Answer for the owner, which cannot get this; an attempt ends by it."""
        why = f"{type(message).__name__}: {readable(why)}"
        if isinstance(message, m.Finish):
            error = RemoteError.made_of(kind, why)
            output = Output(error=error, kind=FailureKind.ERROR)
            cause: m.FinishCause = "failed" if message.cause == "ok" else message.cause
            self.wire.send(encode(replace(message, cause=cause, output=output)))
        elif (request := getattr(message, "request", None)) is not None:
            self._peer.received(m.Reply(request, error=kind(why)))
        else:
            self.wire.close(w.Close.BROKEN, why)

    async def listen_for_silence(self) -> None:
        """Ping, and close the connection when nothing comes back for too long."""
        pings = self._dialer.quiet is None
        silence = Silence(w.SILENCE_AT_DIALLER, w.PING_SECONDS, trio.current_time())
        began = heard = trio.current_time()
        while True:
            await trio.sleep(silence.every)
            await trio.lowlevel.checkpoint()  # what has come meanwhile is read first
            now = trio.current_time()
            silence.limit = self._dialer.quiet or w.SILENCE_AT_DIALLER
            if self.wire.heard_at > heard:
                heard = self.wire.heard_at
                silence.heard(heard)
            if silence.too_long(now):
                self.wire.close(w.Close.SILENT, f"nothing came for {silence.limit:g} s")
            elif self.accepted is None and now - began >= w.HELLO_SECONDS:
                self.wire.close(w.Close.HELLO_TIMEOUT, "the hello was not answered")
            elif pings and self.accepted is not None:
                self._told = self._got
                self.wire.send_first(w.Ping(self._got))

    def _decode(self, batch: bytes) -> list[Any]:
        self._batch = len(batch)
        return decode_from_owner(batch)

    def _receive(self, messages: list[Any]) -> None:
        received = self._peer.received
        for message in messages:
            kind = type(message)
            if kind is w.Accepted:
                self.accepted = message
                self._dialer._welcome(self, message)
            elif kind is not w.Pong:
                if kind is m.Outcome or kind is m.Reply:
                    self._got += 1
                received(message)
        if self._got - self._told >= GOT_EVERY or (
            self._batch > _GOT_BYTES and self._got > self._told
        ):
            self._told = self._got
            self.wire.send_first(w.Got(self._got))
