"""A worker node: how it begins, how it comes back, and how it leaves nothing behind."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.model.events import EventKind
from actorq.system.tokens import Tokens
from actorq.system.worker import open_worker
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
    out_of_reach,
    runs_at,
    three_nodes,
    until,
)

TOKENS = {"client": "client-secret", "worker": "worker-secret"}


# --- beginning -----------------------------------------------------------------------------------


async def test_a_worker_begins_at_once_and_dials_for_ever(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ears = Ears()
    async with open_hand(tasks=[add], instruments=[ears]) as worker:
        assert trio.current_time() == 0
        assert not worker.connected
        await trio.sleep(600)  # virtual
        async with open_queue() as system:
            await worker.wait_connected()

            assert worker.connected
            assert await system.call(add, 1, 2) == 3

    failures = ears.of(EventKind.CONNECT_FAILED)
    assert 5 < len(failures) < 20, "now and then, and not for every attempt"
    assert all(URL in event.details["url"] for event in failures)


async def test_a_worker_that_is_left_at_once_ends(autojump_clock: MockClock) -> None:
    async with open_queue(), open_hand(tasks=[add]):
        pass
    async with open_hand(tasks=[add]):
        pass

    assert trio.current_time() < 1


async def test_a_refused_token_ends_the_block(autojump_clock: MockClock) -> None:
    async def work(token: str) -> None:
        async with open_hand(tasks=[add], token=token) as worker:
            with pytest.raises(actorq.AuthenticationFailed):
                await worker.wait_connected()
            await trio.sleep_forever()

    async with open_queue(tokens=TOKENS):
        for token in ("client-secret", "wrong-secret"):
            with pytest.raises(actorq.AuthenticationFailed):
                await work(token)


async def test_a_token_that_is_refused_later_ends_the_block_too(
    autojump_clock: MockClock,
) -> None:
    tokens = Tokens(TOKENS)

    async def work() -> None:
        async with open_hand(tasks=[add], token="worker-secret") as worker:
            await worker.wait_connected()
            tokens.replace({"worker": "other-secret"})
            cut(worker)
            await trio.sleep_forever()

    async with open_queue(tokens=tokens):
        with pytest.raises(actorq.AuthenticationFailed):
            await work()


def test_two_tasks_of_one_name_are_refused() -> None:
    async def main() -> None:
        async with open_hand(tasks=[add, actorq.task(name="add")(nap.function)]):
            pytest.fail("it must not begin")

    with pytest.raises(actorq.DuplicateTask, match="'add'"):
        trio.run(main)


@pytest.mark.parametrize(
    ("bound", "value"),
    [("concurrency", -1), ("processes", -1), ("drain", -1), ("grace", float("nan"))],
)
async def test_a_bound_that_cannot_be_is_refused(bound: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{bound} must be"):
        async with open_worker(URL, **{"tasks": [add], bound: value}):
            pytest.fail("it must not begin")


async def test_a_worker_may_have_tasks_with_callbacks(autojump_clock: MockClock) -> None:
    told: list[Any] = []

    @actorq.task(name="after")
    async def after(done: actorq.TaskDone) -> None:
        told.append((done.result.value, done.data))

    @actorq.task(name="first", callback=after, callback_data={"user": 7})
    async def first() -> int:
        return 5

    async with three_nodes(first, after) as (system, _, client):
        assert await client.call(first) == 5
        assert await client.call("first") == 5
        await system.join()

    assert told == [(5, {"user": 7})] * 2


async def test_a_task_whose_options_cannot_travel_is_named_when_the_worker_opens(
    autojump_clock: MockClock,
) -> None:
    odd = actorq.task(name="odd", meta={"a": object()})(nap.function)
    async with open_queue():
        with pytest.raises(actorq.EncodeError, match="odd"):
            async with open_hand(tasks=[odd]) as worker:
                await worker.wait_connected()


async def test_it_tells_what_it_knows(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, worker, client):
        assert [(info.name, info.workers) for info in await client.tasks()] == [
            ("add", 1),
            ("nap", 1),
        ]
        (info,) = (await client.tree()).workers
        assert info.worker.rpartition(".")[0] == worker.node
        assert (info.connected, info.remote, info.slots) == (True, True, 10)


# --- while it runs -------------------------------------------------------------------------------


async def test_the_lifespan_lasts_from_before_the_first_task_until_after_the_last(
    autojump_clock: MockClock,
) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan() -> Any:
        steps.append("entered")
        yield {"pool": 7}
        steps.append("left")

    @actorq.task(name="use")
    async def use() -> int:
        steps.append("used")
        pool: int = actorq.current().resources["pool"]
        return pool

    async with open_queue() as system, open_client() as client:
        async with open_hand(tasks=[use], lifespan=lifespan):
            assert await client.call(use) == 7
        assert steps == ["entered", "used", "left"]
        assert (await system.stats()).workers == 0


async def test_a_lifespan_that_fails_ends_the_block(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def lifespan() -> Any:
        raise ZeroDivisionError("no database")
        yield

    with pytest.raises(ZeroDivisionError, match="no database"):
        async with open_hand(tasks=[add], lifespan=lifespan):
            await trio.sleep_forever()


async def test_a_worker_actor_that_crashes_is_started_again_and_its_tasks_run_again(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    async with three_nodes(watched.task) as (_, worker, client):
        handle = await client.submit(watched.task)
        await until(lambda: watched.started)
        first = await client.result(handle.id)
        actor = worker._place._worker
        assert actor is not None

        def break_down(*_: Any) -> None:
            raise ZeroDivisionError("a bug")

        actor._report = break_down  # type: ignore[method-assign]
        await client.submit(add, 1, 2)
        await until(lambda: watched.started == 2)

        result = await client.result(handle.id)
        assert runs_at(result, worker.node)
        assert result.worker != first.worker
        assert (await handle.cancel()).status == "cancelled"


async def test_what_runs_goes_on_through_a_cut(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, worker, client):
        handles = [await client.submit(nap, 3) for _ in range(10)]
        await trio.sleep(1)  # virtual
        cut(worker)

        results = [await handle.wait() for handle in handles]

    assert [(result.value, result.attempts) for result in results] == [(3, 1)] * 10
    assert trio.current_time() == pytest.approx(3, abs=0.5)


async def test_what_ended_while_it_was_out_of_reach_counts(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, worker, client):
        handle = await client.submit(nap, 1)
        await trio.sleep(0.5)  # virtual
        async with out_of_reach(worker):
            await trio.sleep(3)  # virtual

        result = await handle.wait()

    assert (result.value, result.attempts) == (1, 1)


async def test_what_it_had_runs_again_when_it_is_out_of_reach_for_too_long(
    autojump_clock: MockClock,
) -> None:
    watched, ears = Watched(), Ears()
    async with (
        open_queue(instruments=[ears]) as system,
        open_hand(tasks=[watched.task], concurrency=1) as worker,
    ):
        handle = await system.submit(watched.task)
        await until(lambda: watched.started)
        before = trio.current_time()
        async with out_of_reach(worker), open_hand(tasks=[watched.task]) as other:
            await until(lambda: watched.started == 2)
            assert 5 <= trio.current_time() - before < 6.5
            assert runs_at(await system.result(handle.id), other.node)
            (lost,) = ears.of(EventKind.WORKER_LOST)
            assert lost.details["worker"].startswith(f"{worker.node}.")
            result = await handle.cancel()
        await until(lambda: watched.ended)

    assert (result.status, result.attempts) == ("cancelled", 2)


# --- leaving -------------------------------------------------------------------------------------


async def test_leaving_lets_what_runs_end_and_takes_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with open_queue() as system:
        async with open_hand(tasks=[nap], concurrency=1, drain=10):
            first, second = await system.submit(nap, 3), await system.submit(nap, 3)
            await wait_all_tasks_blocked()
            await trio.sleep(1)  # virtual
        assert trio.current_time() == pytest.approx(3, abs=0.5)
        assert await first.value() == 3
        assert await second.status() == "pending"


async def test_what_is_left_after_that_is_handed_back_and_spends_no_attempt(
    autojump_clock: MockClock,
) -> None:
    watched, ears = Watched(), Ears()
    async with open_queue(instruments=[ears]) as system:
        async with open_hand(tasks=[watched.task], drain=2):
            handle = await system.submit(watched.task)
            await until(lambda: watched.started)
        result = await system.result(handle.id)

        assert watched.ended
        assert (result.status, result.attempts) == ("pending", 0)
        assert not ears.of(EventKind.WORKER_LOST)
        assert not ears.of(EventKind.DELIVERY_LOST)
        assert (await system.stats()).lost == 0


async def test_at_most_once_means_that_what_has_started_is_not_handed_back_to_run_again(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    once = watched.task.options(at_most_once=True)
    async with open_queue() as system:
        async with open_hand(tasks=[watched.task], drain=0):
            handle = await system.submit(once)
            await until(lambda: watched.started)
        with pytest.raises(actorq.WorkerLost):
            await handle.value()


async def test_a_worker_can_be_drained_before_it_leaves(autojump_clock: MockClock) -> None:
    async with open_queue() as system, open_hand(tasks=[nap]) as worker:
        handle = await system.submit(nap, 3)
        await wait_all_tasks_blocked()

        assert await worker.drain(10)
        assert await handle.value() == 3
        await system.submit(nap, 3)
        assert (await system.stats()).queues["default"].pending == 1


async def test_a_drain_that_nobody_confirmed_says_so(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, worker, client):
        handle = await client.submit(nap, 1)
        await trio.sleep(0.5)  # virtual
        async with out_of_reach(worker):
            assert not await worker.drain(5)
        await worker.wait_connected()
        await until(lambda: worker.connected)

        assert await handle.status() == "pending"
        async with open_hand(tasks=[nap]):
            assert await handle.value() == 1


@pytest.mark.parametrize("by", ["error", "cancellation"])
async def test_left_in_a_hurry_it_hands_back_what_runs_and_waits_no_longer_than_its_grace(
    autojump_clock: MockClock, by: str
) -> None:
    watched = Watched()
    async with open_queue() as system:
        handle = await system.submit(watched.task)
        with trio.CancelScope() as scope:
            try:
                async with open_hand(tasks=[watched.task], drain=100):
                    await until(lambda: watched.started)
                    before = trio.current_time()
                    if by == "cancellation":
                        scope.cancel()
                        await trio.sleep_forever()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                assert by == "error"

        assert watched.ended
        assert trio.current_time() - before == pytest.approx(1, abs=0.5)
        result = await system.result(handle.id)
        assert (result.status, result.attempts) == ("pending", 0)


async def test_an_error_of_the_block_leaves_it_as_it_is(autojump_clock: MockClock) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_queue(), open_hand(tasks=[add]):
            raise error

    assert caught.value is error


async def test_a_worker_that_nobody_answers_leaves_at_once(autojump_clock: MockClock) -> None:
    async with open_hand(tasks=[add]):
        await trio.sleep(10)  # virtual

    assert trio.current_time() == pytest.approx(10, abs=0.1)


# --- what it cannot take -------------------------------------------------------------------------


@actorq.task(name="inflate")
async def inflate(size: int) -> bytes:
    return b"x" * size


@actorq.task(name="measure")
async def measure(data: bytes) -> int:
    return len(data)


async def test_a_value_that_is_too_large_is_that_tasks_failure(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(inflate, max_message=5_000) as (_, worker, client):
        result = await (await client.submit(inflate, 6_000)).wait()

        assert result.error is not None
        assert result.error.matches(actorq.PayloadTooLarge)
        assert len(await client.call(inflate, 4_000)) == 4_000
        assert worker.connected


async def test_a_call_that_is_too_large_for_a_worker_is_that_tasks_failure(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_queue() as system,
        open_hand(tasks=[measure], max_message=5_000) as worker,
    ):
        result = await (await system.submit(measure, b"x" * 1_000_000)).wait()

        assert result.error is not None
        assert result.error.matches(actorq.PayloadTooLarge)
        assert await system.call(measure, b"x" * 4_000) == 4_000
        assert worker.connected


@actorq.task(name="pid", run_in="process")
def pid() -> int:
    return os.getpid()


async def test_a_worker_whose_tasks_need_an_extra_that_is_missing_does_not_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)

    with pytest.raises(actorq.SubmitError, match=r"task pid: .*actorq\[process\]'.* processes=0 "):
        async with open_worker(URL, tasks=[pid], instruments=()):
            pytest.fail("it must not open")
    async with open_queue() as system, open_worker(URL, tasks=[pid], processes=0, instruments=()):
        handle = await system.submit(pid)  # another worker may have what it needs
        assert await handle.status() == "pending"


async def test_a_worker_node_has_processes_too() -> None:
    async with open_queue() as system, open_worker(URL, tasks=[pid], processes=1, instruments=()):
        assert await system.call(pid) != os.getpid()
