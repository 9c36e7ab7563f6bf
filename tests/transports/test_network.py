import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from actorq.transports.network import SOCKETS, peer_of, port_of

Stream = trio.abc.Stream


@asynccontextmanager
async def met(host: str) -> AsyncIterator[tuple[Stream, Stream]]:
    """Open a stream to a listener; yield both ends."""
    [listener] = await SOCKETS.listen(host, 0)
    async with (
        listener,
        await SOCKETS.open(host, port_of(listener, 0)) as near,
        await listener.accept() as far,
    ):
        yield near, far


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_stream_leads_to_the_listener(host: str) -> None:
    async with met(host) as (near, far):
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"
        await far.send_all(b"back")
        assert await near.receive_some() == b"back"


async def test_a_path_is_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with met(str(path)) as (near, far):
        assert path.is_socket()
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"
        assert peer_of(far) == str(path)

    assert not path.exists()


async def test_nobody_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"all attempts to connect to 127\.0\.0\.1:1 failed"):
        await SOCKETS.open("127.0.0.1", 1)
    with pytest.raises(FileNotFoundError):
        await SOCKETS.open(str(tmp_path / "nobody"), 0)


async def test_an_address_that_is_taken_is_an_oserror(tmp_path: Path) -> None:
    for host in ("127.0.0.1", str(tmp_path / "socket")):
        [listener] = await SOCKETS.listen(host, 0)
        async with listener:
            with pytest.raises(OSError, match="in use"):
                await SOCKETS.listen(host, port_of(listener, 0))
            async with await SOCKETS.open(host, port_of(listener, 0)):
                pass


async def test_a_socket_that_a_crash_has_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
        crashed.listen()
    assert path.is_socket()

    async with met(str(path)) as (near, far):
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"


async def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await SOCKETS.listen(str(path), 0)

    assert path.read_text() == "precious"


async def test_a_listener_leaves_the_socket_of_another_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    [first] = await SOCKETS.listen(str(path), 0)
    path.rename(tmp_path / "moved")
    [second] = await SOCKETS.listen(str(path), 0)
    await first.aclose()
    assert path.is_socket()
    await second.aclose()

    assert not path.exists()


async def test_a_socket_that_somebody_has_removed_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    [listener] = await SOCKETS.listen(str(path), 0)
    path.unlink()
    await listener.aclose()


async def test_port_0_is_one_port_of_a_host_with_several_addresses() -> None:
    class Twice(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: object, port: object, *_: object) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))] * 2

        async def getnameinfo(self, *_: object) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Twice())
    [listener] = await SOCKETS.listen("twice", 0)
    await listener.aclose()


async def test_a_path_that_is_too_long_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        await SOCKETS.listen(str(tmp_path / ("x" * 200)), 0)


async def test_without_unix_sockets_there_is_another_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    for verb in (SOCKETS.open, SOCKETS.listen):
        with pytest.raises(OSError, match=r"use ws://127\.0\.0\.1") as error:
            await verb(str(tmp_path / "socket"), 0)
        assert error.value.errno == errno.EAFNOSUPPORT


async def test_a_host_that_vanishes_is_noticed_by_the_kernel_at_both_ends() -> None:
    async with met("127.0.0.1") as ends:
        for end in ends:
            assert isinstance(end, trio.SocketStream)
            assert end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                timeout = end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert timeout > 60_000, "a worker may block so long"


async def test_an_option_that_the_system_does_not_know_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "TCP_KEEPIDLE", 12_345)
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)

    async with met("127.0.0.1") as (near, far):
        await near.send_all(b"there")
        assert await far.receive_some() == b"there"


async def test_a_peer_has_a_name_for_people() -> None:
    async with met("127.0.0.1") as (near, far):
        assert isinstance(near, trio.SocketStream)
        assert peer_of(far) == f"127.0.0.1:{near.socket.getsockname()[1]}"
        await far.aclose()
        assert peer_of(far) == "unknown"
    assert peer_of(memory_stream_pair()[0]) == "StapledStream"


@pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
async def test_a_peer_over_ipv6_is_written_as_in_a_url() -> None:
    try:
        [listener] = await SOCKETS.listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 address here")
    async with (
        listener,
        await SOCKETS.open("::1", port_of(listener, 0)),
        await listener.accept() as far,
    ):
        assert peer_of(far).startswith("[::1]:")


async def test_a_listener_without_a_socket_has_the_port_that_was_asked_for() -> None:
    class Elsewhere(trio.abc.Listener[Stream]):
        async def accept(self) -> Stream:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise NotImplementedError

    assert port_of(Elsewhere(), 7717) == 7717
