import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

from actorq.contracts.transport import Connection, Transport
from actorq.errors import AuthenticationFailed, ConnectFailed, ConnectionLost, IncompatiblePeer
from actorq.testing.meetings import (
    BATCH,
    Make,
    Meeting,
    idle,
    listening,
    lost,
    pair,
    refusal_of,
    rest_of,
    tasks_left,
    welcome,
)
from actorq.testing.transport_contract import TransportContract
from actorq.transports.network import Network
from actorq.transports.tls import Tls
from actorq.transports.websocket import HANDSHAKES, WebSocketTransport, _Protocol

Stream = trio.abc.Stream


class Streams:
    """A network of memory streams: with it the whole WebSocket code runs in virtual time."""

    def __init__(self, pair: Callable[[], tuple[Stream, Stream]] = memory_stream_pair) -> None:
        self.listening: dict[tuple[str, int], trio.MemorySendChannel[Stream]] = {}
        self._pair = pair

    async def open(self, host: str, port: int) -> Stream:
        await trio.lowlevel.checkpoint()
        if (host, port) not in self.listening:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody there")
        near, far = self._pair()
        await self.listening[host, port].send(far)
        return near

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Stream]]:
        if (host, port) in self.listening:
            raise OSError(errno.EADDRINUSE, "taken")
        return [Arrivals(self, (host, port))]


class Arrivals(trio.abc.Listener[Stream]):
    def __init__(self, network: Streams, where: tuple[str, int]) -> None:
        self._network, self._where = network, where
        network.listening[where], self._arrived = trio.open_memory_channel[Stream](1_000)

    async def accept(self) -> Stream:
        return await self._arrived.receive()

    async def aclose(self) -> None:
        del self._network.listening[self._where]
        self._arrived.close()
        await trio.lowlevel.checkpoint()


def over(network: Network, **options: Any) -> Make:
    ports = count(1)

    def make(at: str | None = None, *, listens: bool = False, max_batch: int = BATCH) -> Transport:
        url = at or f"ws://localhost:{next(ports)}"
        return WebSocketTransport(url, network=network, max_batch=max_batch, **options)

    return make


# --- the contract --------------------------------------------------------------------------------


class TestOverTcp(TransportContract):
    @pytest.fixture
    def make(self) -> Make:
        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            return WebSocketTransport(at or "ws://127.0.0.1:0", max_batch=max_batch)

        return make


class TestOverTls(TransportContract):
    @pytest.fixture
    def make(self, certificates: Path) -> Make:
        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            pair = (certificates / "cert.pem", certificates / "key.pem")
            tls = pair if at is None or listens else certificates / "ca.pem"
            return WebSocketTransport(at or "wss://localhost:0", tls=tls, max_batch=max_batch)

        return make


class TestOverUnixSockets(TransportContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        names = count()

        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            url = at or f"ws+unix://{tmp_path}/{next(names)}"
            return WebSocketTransport(url, max_batch=max_batch)

        return make


@pytest.mark.parametrize("sentence", [n for n in dir(TransportContract) if n[:5] == "test_"])
async def test_the_contract_holds_in_virtual_time(
    sentence: str, autojump_clock: trio.abc.Clock
) -> None:
    await getattr(TransportContract(), sentence)(over(Streams(lockstep_stream_pair)))


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with what a listener at "localhost" needs, and those who dial it."""
    ca = trustme.CA()
    mine = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


# --- addresses and tokens ------------------------------------------------------------------------


async def test_the_status_of_a_listener_has_the_real_port() -> None:
    async with trio.open_nursery() as nursery:
        transport = WebSocketTransport("ws://localhost:0/queue")
        address = await nursery.start(transport.listen, idle, welcome)
        port = int(address.removeprefix("ws://localhost:").removesuffix("/queue"))
        assert port
        async with WebSocketTransport(f"ws://localhost:{port}/queue").connect("token"):
            nursery.cancel_scope.cancel()


async def test_a_listener_with_a_path_serves_no_other() -> None:
    make = over(Streams())
    async with listening(make, idle, at="ws://localhost:1/queue"):
        for path in ("", "/other"):
            error = await refusal_of(make(f"ws://localhost:1{path}"))
            assert isinstance(error, IncompatiblePeer)
            assert "404" in str(error)
        async with make("ws://localhost:1/queue").connect("token"):
            pass


async def test_a_listener_without_a_path_serves_them_all() -> None:
    make = over(Streams())
    behind_a_proxy = make("ws://localhost:1/some/where")
    async with listening(make, idle, at="ws://localhost:1"), behind_a_proxy.connect("token"):
        pass


@pytest.mark.parametrize("host", ["10.0.0.1", "queue.example.com", "0.0.0.0", "[::]"])
async def test_tokens_do_not_travel_in_the_clear(host: str) -> None:
    network = Streams()
    transport = WebSocketTransport(f"ws://{host}:7717", network=network)
    with pytest.raises(ValueError, match="use wss://, or insecure=True") as dialing:
        async with transport.connect("hush-hush"):
            pass
    with pytest.raises(ValueError, match="listen at wss://, or with insecure=True"):
        await transport.listen(idle, welcome)

    assert "hush" not in str(dialing.value)
    assert not network.listening


async def test_who_says_insecure_may_send_them_in_the_clear() -> None:
    make = over(Streams(), insecure=True)
    url = "ws://10.0.0.1:7717"
    async with listening(make, idle, at=url), make(url).connect("token"):
        pass


async def test_without_a_token_there_is_nothing_to_hide() -> None:
    error = await refusal_of(WebSocketTransport("ws://10.0.0.1:1", network=Streams()), None)

    assert isinstance(error, ConnectFailed)


@pytest.mark.parametrize("token", ["", "two words", "line\r\nx-evil: 1", "\x00", "clé"])
async def test_what_cannot_be_a_token_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="a token is printable ASCII without spaces") as error:
        async with WebSocketTransport("ws://localhost:1").connect(token):
            pass

    assert not token or token not in str(error.value)


def test_tls_is_for_wss_only() -> None:
    with pytest.raises(ValueError, match="tls= is for wss:// URLs"):
        WebSocketTransport("ws://localhost:1", tls="ca.pem")


# --- whoever dials -------------------------------------------------------------------------------


async def test_nobody_there_is_told_with_the_cause() -> None:
    error = await refusal_of(WebSocketTransport("ws://127.0.0.1:1"))

    assert isinstance(error, ConnectFailed)
    assert "nobody answers at ws://127.0.0.1:1" in str(error)
    assert "refused" in str(error).lower()


async def test_an_unknown_host_is_connect_failed() -> None:
    transport = WebSocketTransport("ws://no-such-host.invalid:1", insecure=True)

    assert isinstance(await refusal_of(transport), ConnectFailed)


async def answered(
    answer: Callable[[Stream], Awaitable[object]], url: str = "ws://localhost:1"
) -> Exception:
    """Dial somebody who answers like that; return the error."""
    network = Streams()

    async def serve() -> None:
        [listener] = await network.listen("localhost", 1)
        async with listener, await listener.accept() as stream:
            await answer(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        error = await refusal_of(WebSocketTransport(url, network=network))
        nursery.cancel_scope.cancel()
    return error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", IncompatiblePeer),
        (b"\x15\x03\x03\x00\x02\x02\x46", IncompatiblePeer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", IncompatiblePeer),
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://elsewhere/\r\n\r\n", IncompatiblePeer),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", IncompatiblePeer),
        (b"HTTP/1.1 100 Continue\r\n\r\n", IncompatiblePeer),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000\r\n\r\nnot all", AuthenticationFailed),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ConnectFailed),
        (b"HTTP/1.1 999 Whatever\r\nContent-Length: 0\r\n\r\n", ConnectFailed),
        (b"HTTP/1.1 101 Switching", ConnectFailed),
        (b"", ConnectFailed),
    ],
)
async def test_an_answer_of_somebody_else_is_told_as_what_it_is(
    text: bytes, expected: type[Exception]
) -> None:
    async def answer(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(text)

    error = await answered(answer)

    assert type(error) is expected
    assert "ws://localhost:1" in str(error)


async def test_an_upgrade_to_another_protocol_is_refused() -> None:
    async def answer(stream: Stream) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        protocol.receive_data(bytes(await stream.receive_some()))
        await stream.send_all(protocol.send(AcceptConnection()))
        await stream.receive_some()

    assert isinstance(await answered(answer), IncompatiblePeer)


async def test_silence_is_connect_failed_in_time(autojump_clock: trio.abc.Clock) -> None:
    async def never(stream: Stream) -> None:
        await trio.sleep_forever()

    error = await answered(never)

    assert isinstance(error, ConnectFailed)
    assert "within 5 s" in str(error)
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_network_that_never_connects_is_connect_failed_in_time(
    autojump_clock: trio.abc.Clock,
) -> None:
    class Nowhere(Streams):
        async def open(self, host: str, port: int) -> Stream:
            return await trio.sleep_forever()

    transport = WebSocketTransport("ws://localhost:1", network=Nowhere(), handshake_timeout=3)

    assert "within 3 s" in str(await refusal_of(transport))
    assert trio.current_time() == pytest.approx(3.0)


async def test_a_handshake_can_be_cancelled(autojump_clock: trio.abc.Clock) -> None:
    network = Streams()
    await network.listen("localhost", 1)
    with trio.move_on_after(1) as scope:
        async with WebSocketTransport("ws://localhost:1", network=network).connect("token"):
            pass

    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1.0)


async def test_a_connection_outlives_the_time_of_its_handshake(
    autojump_clock: trio.abc.Clock,
) -> None:
    network = Streams()

    async def serve(connection: Connection) -> None:
        await trio.sleep(3_600)  # virtual
        await connection.send(await connection.receive())

    async with trio.open_nursery() as nursery:
        transport = WebSocketTransport("ws://localhost:1", network=network)
        address = await nursery.start(transport.listen, serve, welcome)
        async with WebSocketTransport(address, network=network).connect("token") as connection:
            await connection.send(b"an hour later")
            assert await connection.receive() == b"an hour later"
        nursery.cancel_scope.cancel()


# --- TLS -----------------------------------------------------------------------------------------


async def tls_refusal(certificates: Path, host: str, tls: Tls | None) -> Exception:
    """Dial a real TLS listener as ``host``; return the error."""
    mine = (certificates / "cert.pem", certificates / "key.pem")
    async with trio.open_nursery() as nursery:
        transport = WebSocketTransport("wss://127.0.0.1:0", tls=mine)
        address = await nursery.start(transport.listen, idle, welcome)
        there = address.replace("127.0.0.1", host)
        error = await refusal_of(WebSocketTransport(there, tls=tls))
        here = address.replace("127.0.0.1", "localhost")
        async with WebSocketTransport(here, tls=certificates / "ca.pem").connect("token"):
            nursery.cancel_scope.cancel()
    return error


async def test_a_certificate_of_another_ca_is_refused(certificates: Path) -> None:
    trustme.CA().cert_pem.write_to_path(certificates / "other.pem")
    for tls in (certificates / "other.pem", None):
        error = await tls_refusal(certificates, "localhost", tls)

        assert isinstance(error, IncompatiblePeer)
        assert "the certificate of localhost was not accepted: unable to get local" in str(error)


async def test_a_certificate_of_another_host_is_refused(certificates: Path) -> None:
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    error = await tls_refusal(certificates, "127.0.0.1", context)

    assert isinstance(error, IncompatiblePeer)
    assert "IP address mismatch" in str(error)


async def test_a_listener_without_tls_is_told_as_that(certificates: Path) -> None:
    async with trio.open_nursery() as nursery:
        transport = WebSocketTransport("ws://127.0.0.1:0")
        address = await nursery.start(transport.listen, idle, welcome)
        url = address.replace("ws:", "wss:")
        error = await refusal_of(WebSocketTransport(url, tls=certificates / "ca.pem"))
        nursery.cancel_scope.cancel()

    assert isinstance(error, IncompatiblePeer)
    assert "does it listen at wss://" in str(error)


async def test_a_listener_with_tls_is_not_taken_for_one_without(certificates: Path) -> None:
    mine = (certificates / "cert.pem", certificates / "key.pem")
    async with trio.open_nursery() as nursery:
        transport = WebSocketTransport("wss://127.0.0.1:0", tls=mine)
        address = await nursery.start(transport.listen, idle, welcome)
        error = await refusal_of(WebSocketTransport(address.replace("wss:", "ws:")))
        nursery.cancel_scope.cancel()

    assert isinstance(error, IncompatiblePeer | ConnectFailed)


async def test_listening_at_wss_takes_a_certificate() -> None:
    with pytest.raises(ValueError, match=r"takes tls=\(certfile, keyfile\)"):
        await WebSocketTransport("wss://127.0.0.1:0").listen(idle, welcome)


# --- whoever comes -------------------------------------------------------------------------------


class Raw:
    """A client that says what the test wants."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.CLIENT)

    async def ask(self, *headers: tuple[bytes, bytes], subprotocol: str = "actorq.v1") -> Event:
        """Send a handshake; return the answer."""
        request = Request("localhost", "/", extra_headers=list(headers), subprotocols=[subprotocol])
        await self.say(request)
        return await self.hear()

    async def join(self) -> None:
        """Do a handshake as others do."""
        answer = await self.ask((b"authorization", b"Bearer token"))
        assert isinstance(answer, AcceptConnection)

    async def say(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.protocol.send(event) for event in events))

    async def hear(self) -> Event:
        """Return the next event; an EOF is a CloseConnection with 1006."""
        while True:
            for event in self.protocol.events():
                return event
            data = await self.stream.receive_some()
            self.protocol.receive_data(bytes(data) or None)


@pytest.fixture
def streams() -> Streams:
    return Streams()


async def raw(streams: Streams) -> Raw:
    return Raw(await streams.open("localhost", 1))


async def closed(stream: Stream) -> None:
    """Wait until the other end has closed the stream."""
    while await stream.receive_some():
        pass


BEARER = (b"authorization", b"Bearer token")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([(b"authorization", b"Bearer wrong")], 401),
        ([(b"authorization", b"Bearer")], 401),
        ([(b"authorization", b"Basic dG9rZW4=")], 401),
        ([(b"authorization", b"Bearer \xe9")], 401),
        ([(b"authorization", b"bearer token")], 101),
        ([BEARER, (b"origin", b"https://evil.example")], 403),
    ],
)
async def test_who_may_not_come_gets_a_status_and_no_upgrade(
    streams: Streams,
    autojump_clock: trio.abc.Clock,
    headers: list[tuple[bytes, bytes]],
    status: int,
) -> None:
    async with listening(over(streams), idle):
        answer = await (await raw(streams)).ask(*headers)

    assert isinstance(answer, RejectConnection if status != 101 else AcceptConnection)
    assert getattr(answer, "status_code", 101) == status


async def test_an_unknown_subprotocol_is_refused(streams: Streams) -> None:
    async with listening(over(streams), idle):
        answer = await (await raw(streams)).ask(BEARER, subprotocol="actorq.v9")

    assert isinstance(answer, RejectConnection)
    assert answer.status_code == 400


async def test_refusals_are_logged_without_the_token(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with listening(over(streams), idle):
            await (await raw(streams)).ask((b"authorization", b"Bearer hush-hush"))

    assert "refused: HTTP 401" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: webso",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: \xff\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100_000,
        b"GET /" + b"a" * 100_000,
    ],
)
async def test_strangers_do_not_reach_serve_and_disturb_nobody(
    streams: Streams, autojump_clock: trio.abc.Clock, said: bytes
) -> None:
    met, make = Meeting(), over(streams)
    async with listening(make, met.serve) as address, make(address).connect("token") as near:
        far = await met.next()
        started = trio.current_time()
        stranger = await streams.open("localhost", 1)
        await stranger.send_all(said)
        await closed(stranger)
        assert trio.current_time() - started <= 5.0

        await near.send(b"undisturbed")
        assert await far.receive() == b"undisturbed"
        async with make(address).connect("token"):
            await met.next()
    assert met._arrived.statistics().current_buffer_used == 0


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_disturb_a_listener(said: bytes, joined: bool) -> None:
    """Before the handshake or after it."""

    async def serve(connection: Connection) -> None:
        while True:
            await connection.send(await connection.receive())

    async def converse() -> None:
        streams = Streams()
        make = over(streams)
        async with listening(make, serve) as address, make(address).connect("token") as near:
            stranger = await raw(streams)
            if joined:
                await stranger.join()
            await stranger.stream.send_all(said)
            await stranger.stream.aclose()
            async with make(address).connect("token") as other:
                for connection in (near, other):
                    await connection.send(b"undisturbed")
                    assert await connection.receive() == b"undisturbed"

    trio.run(converse, clock=MockClock(autojump_threshold=0))


async def test_a_handshake_that_trickles_in_is_ended_too(
    streams: Streams, autojump_clock: trio.abc.Clock
) -> None:
    async with listening(over(streams), idle):
        stranger = await streams.open("localhost", 1)

        async def trickle() -> None:
            while True:
                await stranger.send_all(b"G")
                await trio.sleep(0.5)  # virtual

        with pytest.raises(trio.BrokenResourceError):
            await trickle()

    assert trio.current_time() <= 6.0


async def test_who_leaves_during_the_handshake_is_forgotten_at_once(streams: Streams) -> None:
    async with listening(over(streams), idle):
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        stranger = await streams.open("localhost", 1)
        await wait_all_tasks_blocked()
        await stranger.aclose()
        await wait_all_tasks_blocked()

        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_silent_strangers_do_not_keep_others_out(streams: Streams) -> None:
    make = over(streams)
    async with listening(make, idle) as address:
        silent = [await streams.open("localhost", 1) for _ in range(HANDSHAKES)]
        await wait_all_tasks_blocked()
        async with make(address).connect("token"):
            await closed(silent[0])
            assert len(silent) == HANDSHAKES
            with trio.move_on_after(0) as scope:
                await silent[1].receive_some()
            assert scope.cancelled_caught, "only the oldest had to make room"


async def test_a_listener_survives_a_lack_of_descriptors(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Scarce(Arrivals):
        missing = 3

        async def accept(self) -> Stream:
            if self.missing:
                self.missing -= 1
                raise OSError(errno.EMFILE, "too many open files")
            return await super().accept()

    class Limited(Streams):
        async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Stream]]:
            return [Scarce(self, (host, port))]

    make = over(Limited())
    async with listening(make, idle) as address, make(address).connect("token"):
        pass

    assert "EMFILE" in caplog.text


async def test_text_ends_the_connection_with_1003(streams: Streams) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        client = await raw(streams)
        await client.join()
        far = await met.next()
        await client.say(TextMessage("no ", message_finished=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest_of, far)
            told = await client.hear()
            await client.say(CloseConnection(1003))

        assert isinstance(told, CloseConnection)
        assert told.code == 1003
        assert (await lost(far.receive())).code == 1003


async def test_frames_against_the_protocol_end_the_connection_with_a_reason(
    streams: Streams,
) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        for frame in (b"\x82\x05plain", b"\xff\xff" * 10, b"\x83\x80\x00\x00\x00\x00"):
            client = await raw(streams)
            await client.join()
            far = await met.next()
            await client.stream.send_all(frame)
            error = await lost(far.receive())
            await closed(client.stream)

            assert error.code == 1002
            assert error.reason


async def test_whoever_sends_too_much_at_once_is_told_so() -> None:
    """Over TCP, where unread bytes would have reset the connection before it is told."""

    def make(at: str | None = None, *, listens: bool = False, max_batch: int = 0) -> Transport:
        return WebSocketTransport(at or "ws://127.0.0.1:0", max_batch=max_batch)

    async def send(near: Connection) -> None:
        with suppress(ConnectionLost):  # it may come to its end
            await near.send(bytes(2**25))

    async with (
        pair(make, listens=1_000, dials=2**26) as (near, far),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send, near)
        nursery.start_soon(rest_of, far)
        assert (await rest_of(near))[1].code == 1009


async def test_a_message_in_many_fragments_is_one_batch(
    streams: Streams, autojump_clock: trio.abc.Clock
) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        client = await raw(streams)
        await client.join()
        far = await met.next()
        fragments = [BytesMessage(b"%04d" % n, message_finished=False) for n in range(5_000)]
        await client.say(*fragments, BytesMessage(b"", message_finished=True))
        await client.say(BytesMessage(b"next"))

        assert await far.receive() == b"".join(b"%04d" % n for n in range(5_000))
        assert await far.receive() == b"next"


def test_fragments_without_end_are_few_pieces() -> None:
    client, protocol = WSConnection(ConnectionType.CLIENT), _Protocol(ConnectionType.SERVER)
    protocol.receive_data(client.send(Request("localhost", "/")))
    assert [type(event) for event in protocol.events()] == [Request]
    client.receive_data(protocol.send(AcceptConnection()))
    assert [type(event) for event in client.events()] == [AcceptConnection]

    pieces: list[Event] = []
    for data in (b"", b"x"):
        fragment = BytesMessage(data, message_finished=False)
        protocol.receive_data(b"".join(client.send(fragment) for _ in range(5_000)))
        pieces += protocol.events()

    assert len(pieces) <= 5_000 / 1_024


async def test_a_ping_during_our_close_is_harmless(streams: Streams) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        client = await raw(streams)
        await client.join()
        far = await met.next()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.aclose, 4000, "bye")
            assert isinstance(await client.hear(), CloseConnection)
            assert client.protocol.state is ConnectionState.REMOTE_CLOSING
            await client.stream.send_all(b"\x89\x80\x00\x00\x00\x00")
            await wait_all_tasks_blocked()
            await client.say(CloseConnection(4000))
            await closed(client.stream)

        assert (await lost(far.receive())).code == 4000


async def test_pings_are_answered(streams: Streams, autojump_clock: trio.abc.Clock) -> None:
    async with listening(over(streams), idle):
        client = await raw(streams)
        await client.join()
        await client.say(Ping(b"there?"))

        assert type(await client.hear()).__name__ == "Pong"


async def test_a_peer_that_does_not_answer_a_close_is_left(
    streams: Streams, autojump_clock: trio.abc.Clock
) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        client = await raw(streams)
        await client.join()
        far = await met.next()
        started = trio.current_time()
        await far.aclose(4000, "bye")

        assert trio.current_time() - started == pytest.approx(2.0)
        await closed(client.stream)


async def test_a_peer_that_vanishes_is_1006(streams: Streams) -> None:
    met = Meeting()
    async with listening(over(streams), met.serve):
        client = await raw(streams)
        await client.join()
        far = await met.next()
        await client.stream.aclose()

        assert (await lost(far.receive())).code == 1006
        await lost(far.send(b"late"))


async def test_an_error_of_serve_is_logged(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(connection: Connection) -> None:
        raise KeyError("a bug")

    make = over(streams)
    async with listening(make, serve) as address, make(address).connect("token") as near:
        await lost(near.receive())

    assert "KeyError: 'a bug'" in caplog.text


def test_the_debug_log_of_trio_websocket_costs_nothing() -> None:
    assert not logging.getLogger("trio-websocket").isEnabledFor(logging.DEBUG)


async def test_cancelling_at_any_moment_leaves_nothing(streams: Streams) -> None:
    """Neither an error, nor a task, nor a listener that has suffered."""

    async def serve(connection: Connection) -> None:
        while True:
            await connection.send(await connection.receive())

    async def cancel(scope: trio.CancelScope, moment: int) -> None:
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    finished = 0
    make = over(streams)
    async with listening(make, serve) as address:
        before = await tasks_left()
        for moment in range(100):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel, scope, moment)
                    async with make(address).connect("token") as near:
                        for batch in (b"1", b"2", b"3"):
                            await near.send(batch)
                            assert await near.receive() == batch
                    nursery.cancel_scope.cancel()
            finished += not scope.cancelled_caught
            assert await tasks_left(before) == before

    assert 0 < finished < 100


@pytest.mark.parametrize("way", ["there", "back"])
async def test_a_stream_that_is_cut_at_any_byte_loses_no_order(way: str) -> None:
    """From the first byte of the handshake: whole batches in order, then ConnectionLost."""
    batches = [bytes([n]) * 10 for n in range(20)]

    async def ask(transport: Transport, answers: list[bytes]) -> None:
        async with transport.connect("token") as near:
            for batch in batches:
                await near.send(batch)
                answers.append(await near.receive())

    for cut in range(0, 400, 3):
        received: list[bytes] = []
        answers: list[bytes] = []

        async def serve(connection: Connection, received: list[bytes] = received) -> None:
            while True:
                received.append(await connection.receive())
                await connection.send(received[-1])

        make = over(Cutting(way, cut))
        async with listening(make, serve) as address:
            with pytest.raises((ConnectionLost, ConnectFailed)):
                await ask(make(address), answers)

        assert received == batches[: len(received)]
        assert answers == received[: len(answers)]


class Cutting(Streams):
    """Cuts every stream after so many bytes, there or back."""

    def __init__(self, way: str, after: int) -> None:
        super().__init__()
        self._way, self._after = way, after

    async def open(self, host: str, port: int) -> Stream:
        return CutStream(await super().open(host, port), self._way, self._after)


class CutStream(Stream):
    def __init__(self, inner: Stream, way: str, after: int) -> None:
        self._inner, self._way, self._left = inner, way, after

    def _passed(self, way: str, data: bytes) -> bytes:
        if way != self._way:
            return data
        passed = data[: self._left]
        self._left -= len(passed)
        return passed

    async def _cut(self) -> None:
        if self._left == 0:
            await self._inner.aclose()
            raise trio.BrokenResourceError("cut")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(self._passed("there", bytes(data)))
        await self._cut()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._cut()
        return self._passed("back", bytes(await self._inner.receive_some(max_bytes)))

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()
