from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
from trio.testing import check_two_way_stream

from actorq.testing.clock import VirtualClock
from actorq.testing.network import WINDOW, End, Host, Internet, Listener

Body = Callable[["Wires"], Awaitable[None]]


class Wires:
    """A client, a server, and one link between them."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        self.client: Host = internet.host("client")
        self.server: Host = internet.host("server")
        self.listener: Listener
        self.near: trio.abc.Stream
        self.far: trio.abc.Stream

    async def open(self) -> None:
        (listener,) = await self.server.listen("server", 80)
        assert isinstance(listener, Listener)
        self.listener = listener
        self.near = await self.client.open("server", 80)
        self.far = await self.listener.accept()


def play(body: Body, seed: int = 1) -> None:
    async def main() -> None:
        wires = Wires(Internet(Random(seed)))
        await wires.open()
        with trio.fail_after(60):
            await body(wires)

    trio.run(main, clock=VirtualClock())


async def read(stream: trio.abc.Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        if not part:
            break
        data += part
    return data


async def read_all(stream: trio.abc.Stream) -> bytes:
    """What can be read until the connection breaks."""
    data = b""
    while True:
        try:
            data += await stream.receive_some(100)
        except trio.BrokenResourceError:
            return data


async def test_its_streams_keep_what_trio_asks_of_streams() -> None:
    async def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        wires = Wires(Internet(Random(1), latency=(0.0, 0.0)))
        await wires.open()
        await wires.listener.aclose()
        return wires.near, wires.far

    async def clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        one, other = await pair()
        for stream in (one, other):
            with trio.move_on_after(0.01):
                await stream.send_all(bytes(10**6))
        return one, other

    await check_two_way_stream(pair, clogged)


def test_bytes_arrive_in_order_and_later() -> None:
    async def body(wires: Wires) -> None:
        began = trio.current_time()
        for number in range(100):
            await wires.near.send_all(bytes([number]))

        assert await read(wires.far, 100) == bytes(range(100))
        assert trio.current_time() > began

    play(body)


@pytest.mark.parametrize("after", [1, 7, 250, 999])
def test_a_link_breaks_after_any_byte(after: int) -> None:
    async def body(wires: Wires) -> None:
        (link,) = wires.internet.between("client", "server")
        link.cut("near", after)
        await wires.near.send_all(bytes(1_000))

        assert len(await read_all(wires.far)) == after
        await read_all(wires.near)

    play(body)


def test_a_half_open_link_says_nothing_until_it_is_released() -> None:
    async def body(wires: Wires) -> None:
        (link,) = wires.internet.between("server")
        link.hold("near")
        await wires.near.send_all(b"late")
        await wires.far.send_all(b"in time")
        assert await read(wires.near, 7) == b"in time"
        with trio.move_on_after(10) as scope:
            await wires.far.receive_some()
        assert scope.cancelled_caught

        wires.internet.heal()

        assert await read(wires.far, 4) == b"late"

    play(body)


def test_a_writer_waits_for_a_reader_that_does_not_read() -> None:
    async def body(wires: Wires) -> None:
        with trio.move_on_after(10) as scope:
            await wires.near.send_all(bytes(WINDOW + 1))
        assert scope.cancelled_caught
        assert len(await read(wires.far, WINDOW)) == WINDOW

    play(body)


def test_a_half_closed_link_ends_one_direction() -> None:
    async def body(wires: Wires) -> None:
        (link,) = wires.internet.between("server")
        await wires.near.send_all(b"the last")
        link.half_close("near")

        assert await read(wires.far, 8) == b"the last"
        assert await wires.far.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await wires.near.send_all(b"more")
        await wires.far.send_all(b"still here")
        assert await read(wires.near, 10) == b"still here"

    play(body)


def test_a_slow_direction_is_slow() -> None:
    async def body(wires: Wires) -> None:
        (link,) = wires.internet.between("server")
        link.slow_down("near", 5.0)
        await wires.near.send_all(b"x")
        began = trio.current_time()

        await wires.far.receive_some()

        assert trio.current_time() - began > 5

    play(body)


def test_who_dials_is_refused_or_not_answered_as_the_door_says() -> None:
    async def body(wires: Wires) -> None:
        wires.internet.door("client", "server", "refusing")
        with pytest.raises(ConnectionRefusedError):
            await wires.client.open("server", 80)
        wires.internet.door("client", "server", "silent")
        with trio.move_on_after(30) as scope:
            await wires.client.open("server", 80)
        assert scope.cancelled_caught
        wires.internet.heal()
        with pytest.raises(ConnectionRefusedError):
            await wires.client.open("server", 81)
        with pytest.raises(ConnectionRefusedError):
            await wires.client.open("nowhere", 80)

    play(body)


def test_a_host_that_is_killed_is_missed_at_once_or_not_at_all() -> None:
    async def at_once(wires: Wires) -> None:
        wires.server.kill()
        await read_all(wires.near)
        with pytest.raises(ConnectionRefusedError):
            await wires.client.open("server", 80)

    async def silently(wires: Wires) -> None:
        wires.server.kill(silently=True)
        await wires.near.send_all(b"hello?")
        with trio.move_on_after(30) as scope:
            await wires.near.receive_some()
        assert scope.cancelled_caught

    play(at_once)
    play(silently)


def test_another_may_take_its_place() -> None:
    async def body(wires: Wires) -> None:
        with pytest.raises(OSError, match="taken"):
            await wires.internet.host("server").listen("server", 80)
        wires.server.kill()
        (listener,) = await wires.internet.host("server").listen("server", 80)
        near = await wires.client.open("server", 80)
        far = await listener.accept()
        await near.send_all(b"x")
        assert await far.receive_some() == b"x"
        with pytest.raises(OSError, match="is not"):
            await wires.client.listen("server", 80)

    play(body)


def test_a_link_that_both_ends_have_closed_is_forgotten() -> None:
    async def body(wires: Wires) -> None:
        assert isinstance(wires.near, End)
        await wires.near.aclose()
        assert len(wires.internet.links) == 1
        await wires.far.aclose()
        assert wires.internet.links == []

    play(body)
