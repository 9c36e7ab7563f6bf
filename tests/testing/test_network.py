from random import Random

import trio
from trio.testing import check_two_way_stream

from actorq.testing.network import Internet


async def pair(internet: Internet) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    (listener,) = await internet.host("server").listen("server", 80)
    near = await internet.host("client").open("server", 80)
    far = await listener.accept()
    await listener.aclose()
    return near, far


async def test_its_streams_keep_what_trio_asks_of_streams() -> None:
    internet = Internet(Random(1), latency=(0.0, 0.0))

    async def clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        one, other = await pair(internet)
        for stream in (one, other):
            with trio.move_on_after(0.01):
                await stream.send_all(bytes(10**6))
        return one, other

    await check_two_way_stream(lambda: pair(internet), clogged)
    assert internet.links == []
