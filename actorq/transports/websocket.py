"""Connections over WebSockets; the only module that knows trio-websocket and wsproto.

What trio-websocket 0.12 leaves open is closed here: a send that is cancelled has corrupted the
stream without an error, closing and waiting for a handshake can take for ever, an exception of one
connection would end the whole listener, and a message in a million fragments fills the memory.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus

import trio
import trio_websocket
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    TextMessage,
)

from actorq.contracts.transport import Authorize, Connection, Serve
from actorq.errors import ConnectFailed, ConnectionLost, IncompatiblePeer, TransportError, leaves
from actorq.transports.addresses import Address
from actorq.transports.network import SOCKETS, Network, peer_of, port_of
from actorq.transports.serving import (
    ABNORMAL,
    GOING_AWAY,
    NORMAL,
    TOO_BIG,
    UNSUPPORTED,
    attend,
    check_size,
    cut,
    judged,
    logger,
    refusal,
)
from actorq.transports.tls import Tls, context_to_connect, context_to_listen, secured

SUBPROTOCOL = "actorq.v1"
MAX_BATCH = 8 * 2**20
HANDSHAKE_TIMEOUT = 5.0
HANDSHAKES = 128  # of strangers, at once
CLOSE_TIMEOUT = 2.0

# Measured with batches of 64 KiB and 1 MiB: a quarter faster than with 64 KiB, twice than with 4.
_RECEIVE_BYTES = 2**18
_PIECE = 1024
_QUEUED = 4  # received batches; more of them cost memory and were no faster

_trio_websocket_logger = logging.getLogger("trio-websocket")
if _trio_websocket_logger.level == logging.NOTSET:  # it has several debug records for a message
    _trio_websocket_logger.setLevel(logging.INFO)


class WebSocketTransport:
    """Implements `actorq.contracts.transport.Transport` for ``ws``, ``wss`` and ``ws+unix`` URLs.

    Args:
        url: ``ws://HOST:PORT[/PATH]``, ``wss://...`` or ``ws+unix:///PATH/OF/SOCKET``. Port 0 is
            any free one, to listen at. A listener with a path serves no other.
        tls: To listen at ``wss``, a context or the paths ``(certfile, keyfile)``; to connect to it,
            a context or the path of a file of CAs. None: whom the system trusts.
        insecure: Let tokens go in the clear to other machines, or come from them; say so only
            where something else encrypts, as a proxy that ends TLS does.
        max_batch: The largest batch to send or to receive.
        handshake_timeout: Seconds from dialing, or from the peer's arrival, to a connection.
        network: What opens streams; a simulation has its own.

    Raises:
        ValueError: The URL or ``tls`` makes no sense; nothing of the URL is repeated.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: Tls | None = None,
        insecure: bool = False,
        max_batch: int = MAX_BATCH,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        network: Network = SOCKETS,
    ) -> None:
        self._address = Address.parse(url)
        if tls is not None and not self._address.encrypted:
            raise ValueError("tls= is for wss:// URLs: this one is not encrypted")
        self.url: str = self._address.url
        self.threadsafe: bool = network is SOCKETS
        self._tls = tls
        self._insecure = insecure
        self._max_batch = max_batch
        self._handshake_timeout = handshake_timeout
        self._network = network

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        """See `Transport.connect`.

        Raises:
            ValueError: The token would go in the clear to another machine, or cannot be one.
        """
        self._check_token(token)
        deadline = trio.current_time() + self._handshake_timeout
        stream = await self._dial(deadline)
        credentials = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
        socket = _WebSocket(
            stream, self._address, deadline, self._max_batch, self.url, credentials=credentials
        )
        async with socket.running():
            if not await socket.upgraded():
                raise self._turned_away(socket, shown=token is not None)
            yield socket

    def _check_token(self, token: str | None) -> None:
        if token is None:
            return
        if self._address.exposed and not self._insecure:
            raise ValueError(
                f"a token for {self.url} could be read by everybody on the way: use wss://, or "
                "insecure=True if something else encrypts"
            )
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("a token is printable ASCII without spaces; None is no token")

    async def _dial(self, deadline: float) -> trio.abc.Stream:
        address = self._address
        context = context_to_connect(self._tls) if address.encrypted else None
        try:
            with trio.fail_at(deadline):
                stream = await self._network.open(address.host, address.port)
                return await secured(stream, context, address.host) if context else stream
        except trio.TooSlowError:
            raise ConnectFailed(
                f"{self.url} has not answered within {self._handshake_timeout:g} s"
            ) from None
        except (OSError, UnicodeError) as error:  # trio has a group of the attempts as the cause
            told = ", ".join(dict.fromkeys(str(leaf) for leaf in leaves(error.__cause__ or error)))
            raise ConnectFailed(f"nobody answers at {self.url}: {told}") from None

    def _turned_away(self, socket: _WebSocket, *, shown: bool) -> TransportError:
        """Return the error of a connection that was not upgraded."""
        if isinstance(socket.failure, trio_websocket.ConnectionRejected):
            return refusal(self.url, socket.failure.status_code, shown=shown)
        if socket.failure is not None or socket.is_open:
            return IncompatiblePeer(
                f"{self.url} answers, but does not speak {SUBPROTOCOL} over WebSocket"
            )
        if socket.ended:
            return ConnectFailed(f"{self.url} ended the connection during the handshake")
        return ConnectFailed(
            f"{self.url} has not finished the handshake within {self._handshake_timeout:g} s"
        )

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Transport.listen`.

        Raises:
            ValueError: Others could read the tokens that come, or there is no certificate.
        """
        address = self._address
        if address.exposed and not self._insecure:
            raise ValueError(
                f"tokens sent to {self.url} could be read by everybody on the way: listen at "
                "wss://, or with insecure=True behind a proxy that ends TLS"
            )
        context = context_to_listen(self._tls) if address.encrypted else None
        waiting = _WaitingRoom(HANDSHAKES)

        async def handle(stream: trio.abc.Stream) -> None:
            peer = peer_of(stream)
            if context:
                stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            deadline = trio.current_time() + self._handshake_timeout
            socket = _WebSocket(stream, None, deadline, self._max_batch, peer)
            async with socket.running():
                with waiting.admitting(socket.handshake):
                    welcome = await socket.admitted(authorize, address.path)
                if welcome:
                    await attend(serve, socket)

        listeners = list(await self._network.listen(address.host, address.port))
        task_status.started(address.at(port_of(listeners[0], address.port)).url)
        await trio.serve_listeners(handle, listeners)


class _WaitingRoom:
    """Those who are not authorized yet. When it is full the oldest has to go.

    An honest peer is done in no time: who fills the room with silent ones does not keep it out.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: dict[trio.CancelScope, None] = {}

    @contextmanager
    def admitting(self, handshake: trio.CancelScope) -> Generator[None]:
        if len(self._waiting) >= self._size:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cancel()
        self._waiting[handshake] = None
        try:
            yield
        finally:
            self._waiting.pop(handshake, None)


class _WebSocket:
    """Implements `actorq.contracts.transport.Connection` over any stream.

    trio-websocket has a reader task for each connection, which lives in `running` and is shielded:
    without it there is no farewell, and the owner of the connection may well be cancelled when it
    comes to that. The reader ends when the stream is closed; whatever ends it closes the stream.

    Attributes:
        handshake: The scope of the handshake, which the end of the reader ends too.
        failure: What the reader died of, if it was not an ordinary end.
        ended: Whether nothing is read any more.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        dialed: Address | None,
        deadline: float,
        max_batch: int,
        peer: str,
        *,
        credentials: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.peer: str = peer
        self.role: str = ""
        self.handshake = trio.CancelScope(deadline=deadline)
        self.failure: Exception | None = None
        self.ended: bool = False
        self._stream = stream
        self._max_batch = max_batch
        self._protocol = _Protocol(ConnectionType.CLIENT if dialed else ConnectionType.SERVER)
        self._ws = trio_websocket.WebSocketConnection(
            stream,
            self._protocol,
            host=dialed.authority if dialed else None,
            path=dialed.path if dialed else None,
            client_subprotocols=[SUBPROTOCOL],
            client_extra_headers=credentials,
            message_queue_size=_QUEUED,
            max_message_size=max_batch,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        self._reading = trio.CancelScope(shield=True)
        self._farewell = trio.CancelScope()
        self._closing = False
        self._nothing_left = trio.Event()
        self._end: tuple[int, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the peer has agreed to the upgrade, on whatever terms."""
        return self._ws._open_handshake.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Read for the length of the block, then close. What the block raises is in no group."""
        error: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            try:
                yield
            except BaseException as raised:  # noqa: BLE001 - it is raised below
                error = raised
            with trio.CancelScope(shield=True):
                await self.aclose(GOING_AWAY if error else NORMAL)
                await self._nothing_left.wait()
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it would refer to itself, through its traceback

    async def _read(self) -> None:
        try:
            with self._reading:
                await self._ws._reader_task()
                if self._ws.closed and self._ws.closed.code == TOO_BIG:
                    await self._read_on()
        except Exception as error:  # noqa: BLE001 - a peer can make it raise nearly everything
            self.failure = error
        finally:
            self.ended = True
            self.handshake.cancel()
            self._farewell.cancel()
            await self._abort()
            self._nothing_left.set()  # last, or `running` is cancelled while it waits for the task

    async def _read_on(self) -> None:
        """Wait for the answer to our farewell.

        trio-websocket stops reading after a message that is too big. Closed with bytes that nobody
        has read, TCP resets the connection, and the peer may never get to see why.
        """
        while not any(isinstance(event, CloseConnection) for event in self._protocol.events()):
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if not data:
                return
            self._protocol.receive_data(bytes(data))

    async def upgraded(self) -> bool:
        """Wait, at the end that dialed, for the answer to the handshake."""
        with self.handshake:
            await self._ws._open_handshake.wait()
        return self.is_open and self._ws.subprotocol == SUBPROTOCOL

    async def admitted(self, authorize: Authorize, path: str) -> bool:
        """Do the handshake of the end that listens; say whether it came to a connection."""
        try:
            with self.handshake:
                request = await self._ws._get_request()
                role = _judged(request, authorize, path)
                if isinstance(role, str):
                    await request.accept(subprotocol=SUBPROTOCOL)
                    self.role = role
                    return True
                # Of a standby that is all day long, by everybody who knows its address too.
                level = logging.DEBUG if role == HTTPStatus.SERVICE_UNAVAILABLE else logging.INFO
                logger.log(level, "%s was refused: HTTP %d", self.peer, role)
                proof = (
                    [(b"www-authenticate", b"Bearer")] if role == HTTPStatus.UNAUTHORIZED else None
                )
                await request.reject(role, extra_headers=proof)
        except Exception as error:  # noqa: BLE001 - as for the reader
            self.failure = error
        await self._abort()
        return False

    async def send(self, batch: bytes) -> None:
        """See `Connection.send`."""
        check_size(batch, self._max_batch)
        if self._end is not None:
            raise self._lost()
        try:
            await self._ws.send_message(batch)
        except trio_websocket.ConnectionClosed:
            raise self._lost() from None
        except (trio.Cancelled, KeyboardInterrupt):
            self._ends(ABNORMAL, "a send was cancelled")
            await self._abort()
            raise

    async def receive(self) -> bytes:
        """See `Connection.receive`."""
        if self._end is not None:
            raise self._lost()
        try:
            batch = await self._ws.get_message()
        except trio_websocket.ConnectionClosed:
            raise self._lost() from None
        if isinstance(batch, bytes):
            return batch
        await self.aclose(UNSUPPORTED, "a batch is a binary message, not text")
        raise self._lost()

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """See `Connection.aclose`."""
        self._ends(code, reason)
        first, self._closing = not self._closing, True
        try:
            if first:
                self._farewell.deadline = trio.current_time() + CLOSE_TIMEOUT
                with self._farewell:
                    await self._ws.aclose(code, cut(reason))
                    if self._lost().code == TOO_BIG:
                        await self._nothing_left.wait()
            else:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await self._nothing_left.wait()
        finally:
            await self._abort()

    async def _abort(self) -> None:
        """Close the stream at once, with whatever is on its way."""
        self._reading.cancel()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _ends(self, code: int, reason: str) -> None:
        """Note why this end has ended it, unless the peer was first."""
        if self._end is None and self._ws.closed is None:
            self._end = code, cut(reason)

    def _lost(self) -> ConnectionLost:
        if self._end is not None:
            return ConnectionLost(*self._end)
        said = self._ws.closed
        return ConnectionLost(int(said.code), said.reason or "") if said else ConnectionLost()


def _judged(request: trio_websocket.WebSocketRequest, authorize: Authorize, path: str) -> str | int:
    """Return the role of one who asks for a connection, or the status of the refusal."""
    headers = dict(request.headers)
    if b"origin" in headers:  # no page in somebody's browser may talk to a local queue node
        return HTTPStatus.FORBIDDEN
    if path not in ("/", request.path):
        return HTTPStatus.NOT_FOUND
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if not token.isascii() or (scheme and scheme.lower() != b"bearer"):
        return HTTPStatus.UNAUTHORIZED
    role = judged(authorize, token.strip().decode() if scheme else None)
    if isinstance(role, str) and SUBPROTOCOL not in request.proposed_subprotocols:
        return HTTPStatus.BAD_REQUEST
    return role


class _Protocol(WSConnection):
    """What trio-websocket gets to hear of its peer: nothing that it could not bear."""

    def __init__(self, kind: ConnectionType) -> None:
        super().__init__(kind)
        self._small = bytearray()

    def events(self) -> Generator[Event, None, None]:
        """Yield what has happened since the last call."""
        for event in super().events():
            if isinstance(event, RejectConnection):  # its body may never end
                yield RejectConnection(status_code=event.status_code, has_body=False)
            elif not isinstance(event, Message | Ping):
                yield event
            elif self.state is not ConnectionState.OPEN:
                pass  # nobody waits for it any more, and to answer it would be an error
            elif isinstance(event, TextMessage):
                yield TextMessage("")  # `receive` refuses it, whatever it says
            elif not isinstance(event, BytesMessage):
                yield event
            elif (piece := self._gathered(event)) is not None:
                yield piece

    def _gathered(self, event: BytesMessage) -> BytesMessage | None:
        """Return a piece of a message that is worth an object of its own, or the last one.

        trio-websocket keeps a list of pieces: of a message in a million fragments, or of one that
        trickles in, it would be many times as large as the message.
        """
        if not self._small and (event.message_finished or len(event.data) >= _PIECE):
            return event
        self._small += event.data
        if not event.message_finished and len(self._small) < _PIECE:
            return None
        data, self._small = bytes(self._small), bytearray()
        return BytesMessage(data, message_finished=event.message_finished)
