"""A queue node as a whole: how it begins and ends for those who are elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.transports.memory import MemoryTransport
from tests.actors.callers import CLIENT, HELLO, calling
from tests.nodes import (
    Ears,
    Watched,
    add,
    cut,
    nap,
    open_client,
    open_hand,
    open_queue,
    three_nodes,
    until,
)

QUEUE = MemoryTransport("queue")


# --- beginning -----------------------------------------------------------------------------------


async def test_it_may_listen_at_several_addresses(autojump_clock: MockClock) -> None:
    ears = Ears()
    async with (
        open_queue(
            listen=["memory://one", MemoryTransport("two")], concurrency=1, tasks=[add],
            instruments=[ears],
        ) as system,
        actorq.connect("memory://one", instruments=()) as one,
        actorq.connect("memory://two", instruments=()) as two,
    ):  # fmt: skip
        assert system.addresses == ["memory://one", "memory://two"]
        assert await one.call(add, 1, 2) == await two.call(add, 1, 2) == 3
        assert [event.details["url"] for event in ears.of(EventKind.LISTENING)] == system.addresses


async def test_an_address_that_cannot_be_had_keeps_it_from_opening(
    autojump_clock: MockClock,
) -> None:
    async with open_queue():
        with pytest.raises(OSError, match="somebody listens"):
            async with open_queue():
                pytest.fail("it must not open")


async def test_one_that_does_not_listen_has_no_address(autojump_clock: MockClock) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        assert system.addresses == []


async def test_one_that_listens_encodes_what_is_submitted_here_too(
    autojump_clock: MockClock,
) -> None:
    """Whether a task runs here or elsewhere is nobody's business."""
    seen: list[Any] = []

    @actorq.task(name="keep")
    async def keep(value: list[int]) -> list[int]:
        seen.append(value)
        return value

    mine = [1, 2]
    for options in ({"listen": "memory://queue"}, {"encode": True}):
        async with actorq.open_system(processes=0, instruments=(), **options) as system:
            value = await system.call(keep, mine)
            assert value == mine
            assert seen.pop() is not mine
            assert value is not mine
            with pytest.raises(actorq.InvalidArguments, match="'value'"):
                await system.submit(keep, object())  # type: ignore[arg-type]


async def test_a_task_that_was_submitted_here_can_run_here_and_others_are_told(
    autojump_clock: MockClock,
) -> None:
    learnt = actorq.task(name="learnt")(add.function)
    async with open_queue(concurrency=1) as system, open_client() as client:
        assert [info.name for info in await client.tasks()] == []
        assert await system.call(learnt, 1, 2) == 3
        assert [info.name for info in await client.tasks()] == ["learnt"]
        assert await client.call("learnt", 3, 4) == 7


# --- while it runs -------------------------------------------------------------------------------


async def test_its_own_worker_and_others_share(autojump_clock: MockClock) -> None:
    async with (
        open_queue(concurrency=5, tasks=[nap]) as system,
        open_hand(tasks=[nap], concurrency=5) as worker,
    ):
        await worker.wait_connected()
        await system.submit_many(nap.message(1) for _ in range(100))
        await system.join()

        workers = [task.worker for task in (await system.find(limit=1_000)).tasks]
        assert len(set(workers)) == 2
        assert 40 <= workers.count(workers[0]) <= 60


async def test_the_gateway_is_started_again_and_those_who_were_there_come_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ears = Ears()
    async with three_nodes(instruments=[ears]) as (system, _, client):
        handle = await client.submit(nap, 3)
        node = system._house.engine.find("gateway actor")
        assert node.scope is not None
        node.scope.cancel()
        assert await handle.value() == 3
        assert await client.call(add, 1, 2) == 3
        (restarted,) = ears.of(EventKind.ACTOR_RESTARTED)
        assert restarted.details["actor"] == "gateway actor"


async def test_tables_count_what_is_kept_for_others(autojump_clock: MockClock) -> None:
    async with open_queue() as system, calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        await caller.say(m.GetStats(1))
        await caller.hear(m.Reply)
        assert system.tables()["guests"] == 1
        await caller.say(w.Got(1))
        await wait_all_tasks_blocked()
        assert system.tables()["guests"] == 0


# --- ending --------------------------------------------------------------------------------------


async def test_everybody_is_told_that_it_closes_and_waits_for_the_next(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    codes: list[int] = []

    async def listen() -> None:
        async with calling(QUEUE, HELLO, CLIENT) as caller:
            code, reason = await caller.end()
            codes.append(code)
            assert reason == "the system is closed"

    async with open_queue():
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()

    assert codes == [w.Close.GOING_AWAY]


async def test_what_still_runs_is_drained_and_its_outcome_reaches_the_client(
    autojump_clock: MockClock,
) -> None:
    done, left = trio.Event(), trio.Event()

    async def queue() -> None:
        async with open_queue(drain=10):
            await done.wait()
        left.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue)
        async with open_hand(tasks=[nap]), open_client() as client:
            handle = await client.submit(nap, 3)
            await trio.sleep(1)  # virtual
            done.set()
            assert await handle.value() == 3
            await left.wait()
            assert trio.current_time() == pytest.approx(3, abs=0.5)


async def test_what_does_not_end_in_time_is_cancelled_and_the_client_is_told(
    autojump_clock: MockClock,
) -> None:
    watched, done = Watched(), trio.Event()

    async def queue() -> None:
        async with open_queue(drain=1):
            await done.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue)
        async with open_hand(tasks=[watched.task]), open_client() as client:
            running, waiting = await client.submit(watched.task), await client.submit("nobody")
            await until(lambda: watched.started)
            done.set()

            results = [await handle.wait() for handle in (running, waiting)]

            assert [result.status for result in results] == ["cancelled", "cancelled"]
            assert watched.ended
            assert results[0].reason is not None
            assert "shutdown" in results[0].reason


async def test_one_that_closes_takes_no_more_from_afar(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    done, refused = trio.Event(), trio.Event()

    async def queue() -> None:
        async with open_queue(drain=5):
            await done.wait()

    nursery.start_soon(queue)
    async with open_hand(tasks=[nap]), open_client() as client:
        running = await client.submit(nap, 3)
        await trio.sleep(1)  # virtual
        done.set()
        await trio.sleep(1)  # virtual
        with pytest.raises(actorq.ActorDied, match="takes no new tasks"):
            await client.submit(nap, 1)
        refused.set()
        assert await running.value() == 3
    assert refused.is_set()


async def test_a_node_that_does_not_read_holds_up_the_end_for_two_seconds_at_most(
    autojump_clock: MockClock,
) -> None:
    async with open_queue() as system, calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        for number in range(200):
            await caller.say(m.GetStats(number))
        (guest,) = system._house.guests
        assert guest.wire is not None
        for _ in range(100):
            guest.wire.send(b"\x91" * 100_000)
        before = trio.current_time()
    assert trio.current_time() - before <= 4.5


async def test_a_crash_of_the_queue_actor_for_ever_is_told_to_everybody(
    autojump_clock: MockClock,
) -> None:
    """Whoever is elsewhere waits for the next queue node; whoever is here gets the error."""

    async def break_it() -> None:
        async with open_queue() as system:
            while True:
                queue = system._house.queue
                if queue is not None:
                    queue._crash(ZeroDivisionError("a bug"))
                await trio.sleep(0.2)  # virtual

    with pytest.raises(actorq.RestartIntensityExceeded):
        await break_it()


async def test_a_client_may_open_and_close_any_number_of_times(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(concurrency=1, tasks=[add]) as system:
        for number in range(50):
            async with open_client() as client:
                assert await client.call(add, number, 1) == number + 1
                if number % 5 == 0:
                    cut(client)
        await wait_all_tasks_blocked()
        await trio.sleep(10)  # virtual

        assert len(system._house.guests) == 0
        assert len(system._house.exchange._peers) == 2
        assert not any(system.tables().values())
