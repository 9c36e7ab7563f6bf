"""A client elsewhere: how it begins, what it is told when that fails, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.model.events import EventKind
from actorq.system.remote import connect, open_parent
from actorq.system.tokens import Tokens
from actorq.transports.memory import MemoryTransport
from tests.nodes import (
    URL,
    Ears,
    Watched,
    add,
    cut,
    nap,
    open_client,
    open_hand,
    open_queue,
    runs_at,
    three_nodes,
    until,
)

TOKENS = {"client": "client-secret", "worker": "worker-secret"}


# --- beginning -----------------------------------------------------------------------------------


async def test_a_client_is_a_client_like_any_other(autojump_clock: MockClock) -> None:
    async with open_queue(concurrency=1, tasks=[add]) as system, open_client() as client:
        assert type(client) is actorq.Client
        assert await client.call(add, 1, 2) == 3
        assert system.addresses == [URL]


async def test_a_client_that_was_started_first_waits_for_the_queue(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    values: list[int] = []

    async def ask() -> None:
        async with open_client() as client:
            values.append(await client.call(add, 1, 2))

    nursery.start_soon(ask)
    await trio.sleep(20)  # virtual
    async with open_queue(concurrency=1, tasks=[add]):
        await until(lambda: values)

    assert values == [3]


async def test_it_waits_no_longer_than_it_was_told_to(autojump_clock: MockClock) -> None:
    with pytest.raises(actorq.ConnectFailed, match=r"nobody has answered in 3\.0 s: nobody"):
        async with open_client(connect_timeout=3):
            pytest.fail("it must not begin")

    assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_it_may_wait_for_ever_and_that_can_be_cancelled(autojump_clock: MockClock) -> None:
    with trio.move_on_after(3_600):
        async with open_client(connect_timeout=None):
            pytest.fail("it must not begin")

    assert trio.current_time() == pytest.approx(3_600)


async def test_a_refused_token_is_an_error_at_once(autojump_clock: MockClock) -> None:
    async with open_queue(tokens=TOKENS):
        for token in (None, "wrong-secret", "worker-secret"):
            before = trio.current_time()
            with pytest.raises(actorq.AuthenticationFailed):
                async with open_client(token=token):
                    pytest.fail("it must not begin")
            assert trio.current_time() - before < 1


async def test_the_token_may_come_from_the_environment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTORQ_TOKEN", "client-secret")

    async with open_queue(tokens=TOKENS), open_client() as client:
        assert (await client.stats()).workers == 0


async def test_a_token_is_not_sent_in_the_clear() -> None:
    with pytest.raises(ValueError, match="could be read by everybody on the way"):
        async with connect("ws://192.0.2.1:7717", token="client-secret", instruments=()):
            pytest.fail("it must not begin")


async def test_one_of_several_addresses_is_enough(autojump_clock: MockClock) -> None:
    async with (
        open_queue(concurrency=1, tasks=[add]),
        connect(["memory://standby", MemoryTransport("queue")], instruments=()) as client,
    ):
        assert await client.call(add, 1, 2) == 3


async def test_no_address_is_refused() -> None:
    for block in (
        connect([], instruments=()),
        open_parent([], instruments=()),
        actorq.open_worker([], tasks=[add], instruments=()),
    ):
        with pytest.raises(ValueError, match="address"):
            async with block:  # type: ignore[attr-defined]
                pytest.fail("it must not begin")


@pytest.mark.parametrize(
    ("bound", "value"),
    [
        ("connect_timeout", -1),
        ("connect_timeout", "soon"),
        ("max_message", 0),
        ("max_message", "large"),
        ("grace", -1),
        ("grace", float("nan")),
    ],
)
async def test_a_bound_that_cannot_be_is_refused_before_anybody_is_dialled(
    autojump_clock: MockClock, bound: str, value: Any
) -> None:
    more = {"connect_timeout": 1} | {bound: value}
    with pytest.raises((TypeError, ValueError), match=f"^{bound} must be"):
        async with open_client(**more):
            pytest.fail("it must not begin")

    assert trio.current_time() == 0


# --- bounds of the owner -------------------------------------------------------------------------


async def test_calls_are_bounded_by_whichever_of_the_two_is_stricter(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(max_message=5_000):
        async with open_client(tasks=[add], max_message=2_000) as client:
            with pytest.raises(actorq.PayloadTooLarge, match="max_message=2000"):
                await client.submit("any", b"x" * 3_000)
        async with open_client(max_message=10_000_000) as client:
            with pytest.raises(actorq.PayloadTooLarge, match="max_message=5000"):
                await client.submit("any", b"x" * 6_000)
            await client.submit("any", b"x" * 3_000)


async def test_many_go_in_chunks_that_the_owner_takes(autojump_clock: MockClock) -> None:
    async with (
        open_queue(concurrency=1, tasks=[add], max_pending=50) as system,
        open_client() as client,
    ):
        assert client.chunk == 5
        handles = await client.submit_many(add.message(n, 1) for n in range(200))

        assert [await handle.value() for handle in handles] == [n + 1 for n in range(200)]
        assert (await system.stats()).success == 200


# --- going on ------------------------------------------------------------------------------------


async def test_what_happens_to_the_connection_is_told(autojump_clock: MockClock) -> None:
    ears = Ears()
    async with open_queue(concurrency=1, tasks=[add]), open_client(instruments=[ears]) as client:
        cut(client)
        assert await client.call(add, 1, 2) == 3

    assert ears.kinds == [
        EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.CONNECTED, EventKind.DISCONNECTED,
    ]  # fmt: skip


async def test_a_token_that_is_replaced_ends_nobodys_connection_and_lets_nobody_back(
    autojump_clock: MockClock,
) -> None:
    tokens = Tokens(TOKENS)
    async with (
        open_queue(concurrency=10, tasks=[add, nap], tokens=tokens),
        open_client(token="client-secret") as client,
    ):
        tokens.replace({"client": "other-secret"})
        assert await client.call(add, 1, 2) == 3

        waiting = await client.submit(nap, 100)
        cut(client)
        with pytest.raises(actorq.AuthenticationFailed):
            await waiting.value()
        with pytest.raises(actorq.AuthenticationFailed):
            await client.call(add, 1, 2)
        async with open_client(token="other-secret") as other:
            assert await other.call(add, 1, 2) == 3


async def test_two_who_wait_get_two_errors(autojump_clock: MockClock) -> None:
    """A traceback belongs to one raise."""
    tokens, errors = Tokens(TOKENS), []
    async with (
        open_queue(concurrency=10, tasks=[nap], tokens=tokens),
        open_client(token="client-secret") as client,
    ):
        handles = [await client.submit(nap, 100) for _ in range(2)]
        tokens.replace({"client": "other-secret"})
        cut(client)
        for handle in handles:
            with pytest.raises(actorq.AuthenticationFailed) as caught:
                await handle.value()
            errors.append(caught.value)

    assert errors[0] is not errors[1]


# --- ending --------------------------------------------------------------------------------------


async def test_a_client_that_leaves_is_forgotten_and_its_plain_tasks_go_on(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes() as (system, _, client):
        async with open_client() as other:
            handle = await other.submit(nap, 5)
            assert len(system._house.guests) == 3
        await wait_all_tasks_blocked()

        assert len(system._house.guests) == 2
        assert (await client.handle(handle.id, nap).value()) == 5


async def test_who_still_waits_when_the_client_leaves_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    told: list[str] = []

    async def wait(handle: actorq.TaskHandle[float]) -> None:
        with pytest.raises(actorq.ActorDied, match="this client is closed"):
            await handle.value()
        told.append("told")

    async with open_queue(concurrency=1, tasks=[nap]):
        async with open_client() as client:
            nursery.start_soon(wait, await client.submit(nap, 1_000))
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert told == ["told"]
        with pytest.raises(actorq.ActorDied, match="this client is closed"):
            await client.call(nap, 1)


async def test_a_client_whose_queue_is_gone_leaves_at_once(autojump_clock: MockClock) -> None:
    opened = trio.Event()
    gone = trio.Event()

    async def queue() -> None:
        async with open_queue():
            await opened.wait()
        gone.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue)
        async with open_client() as client:
            await client.stats()
            opened.set()
            await gone.wait()
            await trio.sleep(1)  # virtual
            before = trio.current_time()
        assert trio.current_time() == before


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("mine", [KeyError("x")])])
async def test_an_error_of_the_block_leaves_it_as_it_is(
    autojump_clock: MockClock, error: Exception
) -> None:
    with pytest.raises(type(error)) as caught:
        async with open_queue(), open_client():
            raise error

    assert caught.value is error


async def test_leaving_by_a_cancellation_is_quick_and_says_goodbye(
    autojump_clock: MockClock,
) -> None:
    async with open_queue() as system:
        with trio.move_on_after(5):
            async with open_client():
                await trio.sleep_forever()
        await wait_all_tasks_blocked()

        assert trio.current_time() == pytest.approx(5, abs=0.1)
        assert len(system._house.guests) == 0


async def test_what_a_client_withdrew_as_it_left_does_not_run(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with open_queue(max_pending=1) as system:
        async with open_client() as client:
            await client.submit("other")
            with trio.move_on_after(1):
                await client.submit(watched.task)  # waits for room
        assert await system.cancel_many(task="other") == 1
        async with open_hand(tasks=[watched.task]):
            await trio.sleep(1)  # virtual

            assert watched.started == 0


# --- the parent of workers -----------------------------------------------------------------------


async def test_a_parent_begins_whether_somebody_answers_or_not(autojump_clock: MockClock) -> None:
    async with open_parent("memory://nobody", instruments=()):
        assert trio.current_time() == 0


async def test_what_a_dead_worker_had_runs_elsewhere_at_once(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with (
        open_queue() as system,
        open_parent(URL, instruments=()) as parent,
        open_hand(tasks=[watched.task], node="doomed"),
        open_hand(tasks=[watched.task], concurrency=1) as other,
    ):
        await other.wait_connected()
        handle = await system.submit(watched.task)
        await until(lambda: watched.started)
        assert str((await system.result(handle.id)).worker).startswith("doomed.")
        before = trio.current_time()

        await parent.died("doomed")
        await until(lambda: watched.started == 2)

        assert trio.current_time() - before < 1
        assert runs_at(await system.result(handle.id), other.node)
        await handle.cancel()


async def test_a_death_that_the_queue_could_not_be_told_of_is_told_when_it_is_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    told = trio.Event()
    async with open_parent(URL, instruments=()) as parent:

        async def tell() -> None:
            await parent.died("unknown")
            told.set()

        nursery.start_soon(tell)
        await trio.sleep(10)  # virtual
        assert not told.is_set()
        async with open_queue():
            await told.wait()


async def test_a_parent_needs_the_token_of_a_worker(autojump_clock: MockClock) -> None:
    async with (
        open_queue(tokens=TOKENS),
        open_parent(URL, token="client-secret", instruments=()) as wrong,
        open_parent(URL, token="worker-secret", instruments=()) as right,
    ):
        await right.died("unknown")
        with pytest.raises(actorq.AuthenticationFailed):
            await wrong.died("unknown")
