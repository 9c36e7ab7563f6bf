from typing import Any

import pytest
import trio

from actorq.contracts.transport import Transport
from actorq.errors import AuthenticationFailed, ConnectionLost
from actorq.testing.meetings import (
    BATCH,
    TOO_MANY,
    Flood,
    Meeting,
    error_of,
    idle,
    listening,
    lost,
    numbered,
    pair,
    refusal_of,
    rest_of,
    send_all,
    tasks_left,
    welcome,
)
from actorq.transports.memory import MemoryTransport


def make(at: str | None = None, *, listens: bool = False, max_batch: int = BATCH) -> Transport:
    return MemoryTransport("meetings", max_batch=max_batch)


def test_numbered_batches_are_of_one_size_and_all_different() -> None:
    batches = [numbered(n) for n in range(300)]

    assert {len(batch) for batch in batches} == {BATCH}
    assert len(set(batches)) == 300


def test_the_tests_let_in_who_brings_their_token() -> None:
    assert welcome("token") == "client"
    assert welcome(None) == welcome("other") == 401


async def test_a_pair_has_met() -> None:
    async with pair(make) as (near, far):
        await send_all(near, [b"1", b"2"])
        assert [await far.receive(), await far.receive()] == [b"1", b"2"]
        await far.send(b"3")
        assert await near.receive() == b"3"


async def test_the_rest_is_what_came_before_the_end() -> None:
    async with pair(make) as (near, far):
        await send_all(near, [b"1", b"2"])
        await near.aclose(4000, "why")
        batches, error = await rest_of(far)

    assert batches == [b"1", b"2"]
    assert (error.code, error.reason) == (4000, "why")


async def test_a_meeting_hands_over_each_connection_that_comes() -> None:
    met = Meeting()
    async with listening(make, met.serve) as address:
        for number in (b"1", b"2"):
            async with make(address).connect("token") as near:
                await near.send(number)
                assert await (await met.next()).receive() == number


async def test_a_flood_ends_at_its_limit_by_cancellation_or_with_the_connection() -> None:
    async with pair(make) as (near, far), trio.open_nursery() as nursery:
        flood = Flood()
        assert flood.limit == TOO_MANY
        flood.limit = 3
        await flood.run(near)
        assert flood.ended.is_set()
        assert (flood.sent, flood.error) == (3, None)
        cancelled = Flood()
        cancelled.scope.cancel()
        await cancelled.run(near)
        over = Flood()
        nursery.start_soon(over.run, near)
        await far.aclose()
        await over.ended.wait()

        assert isinstance(over.error, ConnectionLost)


async def test_errors_are_returned_and_their_absence_is_an_error() -> None:
    async def fail() -> None:
        raise KeyError("k")

    async def end() -> None:
        raise ConnectionLost(4000)

    async def succeed() -> None:
        await trio.lowlevel.checkpoint()

    assert isinstance(await error_of(fail()), KeyError)
    assert (await lost(end())).code == 4000
    with pytest.raises(AssertionError, match="KeyError"):
        await lost(fail())
    with pytest.raises(AssertionError, match="it did not raise"):
        await error_of(succeed())


async def test_a_refusal_is_returned_and_its_absence_is_an_error() -> None:
    async with listening(make, idle) as address:
        assert type(await refusal_of(make(address), "other")) is AuthenticationFailed
        with pytest.raises(AssertionError, match="it connected"):
            await refusal_of(make(address))


async def test_tasks_are_counted_when_nothing_moves_any_more() -> None:
    before = await tasks_left()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.lowlevel.checkpoint)
        assert await tasks_left() == before + 1
        nursery.cancel_scope.cancel()

    assert await tasks_left(before) == before


async def test_a_listener_that_hangs_fails_the_test(autojump_clock: trio.abc.Clock) -> None:
    async def hang(transport: Any) -> None:
        async with listening(make, idle):
            await trio.sleep_forever()

    assert isinstance(await error_of(hang(make())), trio.TooSlowError)
