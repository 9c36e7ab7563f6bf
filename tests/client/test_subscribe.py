"""Subscribing to what happens, end to end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import actorq
from actorq import Lagged, Snapshot, TaskEvent
from actorq.client.feed import Subscription
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore


@actorq.task
async def echo(value: object = None) -> object:
    return value


@actorq.task(queue="naps")
async def nap(seconds: float) -> None:
    await trio.sleep(seconds)  # virtual


@actorq.task
async def broken() -> None:
    raise ValueError("no")


@actorq.task
async def count_to(number: int) -> None:
    for done in range(number):
        actorq.current().progress(done, number, f"step {done}")
        await trio.sleep(1)  # virtual


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[actorq.System]:
    async with actorq.open_system(processes=0, max_results=1_000_000) as system:
        yield system
        assert not any(system.tables().values())


async def read(events: Subscription) -> list[Any]:
    """Return all that there is to read now."""
    found = []
    with trio.move_on_after(0.01):
        while True:
            found.append(await anext(events))
    return found


async def stories(events: Subscription) -> dict[str, list[str]]:
    """Return what has happened, by the name of the task."""
    told: dict[str, list[str]] = {}
    for event in await read(events):
        if isinstance(event, TaskEvent):
            told.setdefault(event.name.rpartition(":")[2], []).append(f"{event.kind}")
    return told


# --- what one gets -------------------------------------------------------------------------------


async def test_a_subscriber_gets_a_snapshot_and_then_the_story_of_each_task(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    long = await system.submit(nap, 50)
    await trio.sleep(1)  # virtual

    async with system.subscribe() as events:
        handle = await system.submit(nap.options(delay=1), 2)
        await handle.wait()
        snapshot, *told = await read(events)

    assert snapshot == Snapshot({"scheduled": 0, "waiting": 0, "pending": 0, "running": 1})
    assert [(event.kind, event.status) for event in told] == [
        ("submitted", "scheduled"), ("due", "pending"), ("started", "running"), ("ended", "success")
    ]  # fmt: skip
    assert {event.id for event in told} == {handle.id}
    await long.cancel()


async def test_an_event_has_what_the_task_has(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as events:
        handle = await system.submit(nap.options(meta={"user": 7}), 3)
        result = await handle.wait()
        *_, ended = await read(events)

    assert (ended.id, ended.name, ended.queue, ended.status) == (
        handle.id, nap.name, "naps", "success"
    )  # fmt: skip
    assert (ended.at, ended.attempts, ended.worker) == (
        result.completed_at, result.attempts, result.worker
    )  # fmt: skip
    assert ended.meta == {"user": 7}


async def test_a_failure_says_what_went_wrong_at_each_attempt(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as events:
        result = await (await system.submit(broken.options(retry=actorq.Retry(2)))).wait()
        told = [event for event in await read(events) if isinstance(event, TaskEvent)]

    errors = {str(event.kind): event.error for event in told if event.error is not None}
    assert errors.keys() == {"retrying", "ended"}
    assert errors["retrying"].matches(ValueError)
    assert errors["ended"] == result.error


async def test_an_attempt_that_never_waits_does_not_start_but_ends(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe(task=echo) as events:
        await system.call(echo, 1)
        told = await stories(events)

    assert told == {"echo": ["submitted", "ended"]}


async def test_progress_is_told_and_can_be_asked_for(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as events:
        handle = await system.submit(count_to, 3)
        await trio.sleep(1.5)  # virtual
        assert await handle.progress() == actorq.Progress(1, 3, "step 1")
        await handle.wait()
        told = [e.progress for e in await read(events) if getattr(e, "kind", "") == "progress"]

    assert told == [actorq.Progress(done, 3, f"step {done}") for done in range(3)]


async def test_progress_of_a_thread_is_told(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    told, go_on = [], threading.Event()

    def counts() -> None:
        actorq.current().progress(1, 2)
        go_on.wait()

    async with system.subscribe() as events:
        handle = await system.submit(counts)
        async for event in events:
            if isinstance(event, TaskEvent) and event.kind == "progress":
                told.append(event.progress)
                break
        go_on.set()
        await handle.wait()

    assert told == [actorq.Progress(1, 2)]


async def test_a_retried_task_is_followed_through_its_new_run(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    handle = await system.submit(broken)
    await handle.wait()

    async with system.subscribe(ids=[handle.id]) as events:
        await system.retry(ids=[handle.id])
        await system.join()
        snapshot, *told = await read(events)

    assert [task.status for task in snapshot.tasks] == ["failure"]
    assert [event.kind for event in told] == ["submitted", "ended"]


# --- filters -------------------------------------------------------------------------------------


async def test_without_a_filter_everything_is_told(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as events:
        await system.call(echo)
        await system.call(nap, 1)
        told = await stories(events)

    assert told == {"echo": ["submitted", "ended"], "nap": ["submitted", "started", "ended"]}


@pytest.mark.parametrize(
    "which",
    [
        {"task": nap},
        {"task": nap.name},
        {"task": [nap, broken]},
        {"queue": "naps"},
        {"task": nap, "queue": "naps", "status": ["pending", "running", "success"]},
    ],
    ids=str,
)
async def test_a_filter_by_task_or_queue_lets_only_those_through(
    autojump_clock: MockClock, system: actorq.System, which: Any
) -> None:
    async with system.subscribe(**which) as events:
        await system.call(echo)
        await system.call(nap, 1)
        told = await stories(events)

    assert told == {"nap": ["submitted", "started", "ended"]}


async def test_a_filter_by_status_lets_through_what_brings_a_task_there(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe(status=["failure", actorq.TaskStatus.CANCELLED]) as events:
        await system.call(nap, 1)
        await (await system.submit(broken)).wait()
        await (await system.submit(nap, 100)).cancel()
        told = await stories(events)

    assert told == {"broken": ["ended"], "nap": ["ended"]}


async def test_a_filter_by_ids_also_takes_one_that_comes_later(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    message, other = nap.message(1), nap.message(1)

    async with system.subscribe(ids=[message.id]) as events:
        await system.submit_many([other, message])
        await system.join()
        snapshot, *told = await read(events)

    assert snapshot.tasks == ()
    assert [(event.kind, event.id) for event in told] == [
        (kind, message.id) for kind in ("submitted", "started", "ended")
    ]


async def test_a_snapshot_of_ids_says_what_results_say(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    ended, runs = await system.submit(echo, 5), await system.submit(nap, 10)
    await ended.wait()
    await trio.sleep(1)  # virtual

    async with system.subscribe(ids=[ended.id, runs.id, "unknown"]) as events:
        [snapshot] = await read(events)

    known = {task.id: task for task in snapshot.tasks}
    assert known.keys() == {ended.id, runs.id}
    assert known[ended.id] == await system.result(ended.id)
    assert known[runs.id] == await system.result(runs.id)
    await runs.cancel()


@pytest.mark.parametrize(
    ("which", "error", "said"),
    [
        ({"before": 3}, TypeError, r"unknown keyword 'before'; there are status, task, queue, ids"),
        ({"limit": 3}, TypeError, "unknown keyword 'limit'"),
        ({"name": "x"}, TypeError, "unknown keyword 'name'"),
        ({"status": "done"}, ValueError, "'status'"),
        ({"task": 3}, TypeError, "'task'"),
        ({"queue": ""}, ValueError, "'queue'"),
        ({"ids": "one"}, TypeError, "'ids'"),
        ({"buffer": 0}, ValueError, "buffer"),
        ({"buffer": 1.5}, TypeError, "buffer"),
        ({"buffer": None}, TypeError, "buffer"),
    ],
)
async def test_a_wrong_keyword_is_refused_by_name(
    autojump_clock: MockClock, system: actorq.System, which: Any, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        async with system.subscribe(**which):
            pytest.fail("it was let in")

    assert not any(system.tables().values())


# --- many subscribers ----------------------------------------------------------------------------


async def test_several_subscribers_each_get_everything(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as one, system.subscribe() as two, system.subscribe() as three:
        await system.call(nap, 1)
        told = [await stories(events) for events in (one, two, three)]

    assert told == [{"nap": ["submitted", "started", "ended"]}] * 3


async def test_a_slow_subscriber_misses_what_it_was_told_it_missed_and_slows_nobody(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe(buffer=5) as slow, system.subscribe() as fast:
        handles = await system.submit_many(nap.message(1) for _ in range(50))
        before = trio.current_time()
        await system.join()
        assert trio.current_time() - before == 1
        everything, [_, *rest] = await read(fast), await read(slow)

    assert len(everything) == 1 + 3 * 50
    [lagged] = [item for item in rest if isinstance(item, Lagged)]
    assert lagged.count + len(rest) - 1 == 3 * 50
    assert {e.id for e in rest if getattr(e, "kind", "") == "ended"} == {h.id for h in handles}
    assert [item for item in everything if item in rest] == [e for e in rest if e != lagged]


async def test_a_subscriber_that_never_reads_holds_nothing_up(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe(buffer=1):
        values = [await system.call(echo, number) for number in range(100)]

    assert values == list(range(100))


async def test_a_subscriber_is_told_nothing_of_before_and_nothing_of_after(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    await system.call(echo)
    async with system.subscribe() as events:
        pass
    await system.call(echo)

    assert isinstance(await anext(events), Snapshot)
    with trio.fail_after(1), pytest.raises(trio.ClosedResourceError):
        await anext(events)


# --- coming and going ----------------------------------------------------------------------------


async def test_a_block_that_is_open_is_seen_in_the_tables(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async with system.subscribe() as events:
        await anext(events)
        left = {name: size for name, size in system.tables().items() if size}

    assert left == {"subscriptions": 1, "listeners": 1}


@pytest.mark.parametrize("which", [{}, {"task": echo}, {"queue": "naps"}, {"ids": ["unknown"]}])
async def test_leaving_the_block_by_an_error_unsubscribes(
    autojump_clock: MockClock, system: actorq.System, which: Any
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with system.subscribe(**which):
            raise ZeroDivisionError

    assert not any(system.tables().values())


async def test_leaving_the_block_by_a_cancellation_unsubscribes(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    with trio.move_on_after(1) as scope:
        async with system.subscribe() as events:
            async for _ in events:
                pass

    assert scope.cancelled_caught
    assert not any(system.tables().values())


async def test_leaving_while_the_store_is_asked_unsubscribes(autojump_clock: MockClock) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with actorq.open_system(store, processes=0) as system:
        async with system.subscribe(ids=["unknown"]):
            pass
        await wait_all_tasks_blocked()

        assert not any(system.tables().values())


async def test_entering_is_a_checkpoint_and_can_be_cancelled(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    with assert_checkpoints():
        async with system.subscribe():
            pass

    with trio.CancelScope() as scope:
        scope.cancel()
        async with system.subscribe():
            pytest.fail("it was let in")
    assert not any(system.tables().values())


async def test_a_subscriber_in_a_system_that_is_gone_is_told(autojump_clock: MockClock) -> None:
    async with actorq.open_system(processes=0) as system:
        pass

    with pytest.raises(actorq.ActorDied):
        async with system.subscribe() as events:
            await anext(events)


async def test_two_readers_of_one_subscription_are_one_too_many(
    autojump_clock: MockClock, system: actorq.System, nursery: trio.Nursery
) -> None:
    async with system.subscribe() as events:
        await anext(events)
        nursery.start_soon(events.__anext__)
        await wait_all_tasks_blocked()

        with pytest.raises(trio.BusyResourceError):
            await anext(events)
        await system.call(echo)


async def test_what_keeps_the_events_of_its_task_can_be_collected(
    autojump_clock: MockClock,
) -> None:
    class Job:
        def __init__(self) -> None:
            self.events: list[object] = []

    async with actorq.open_system(processes=0, result_ttl=0) as system:
        job = Job()
        async with system.subscribe() as events:
            await system.call(nap.options(meta={"job": job}), 1)
            job.events += await read(events)
        gone = weakref.ref(job)
        del job, events
        await trio.sleep(100)  # virtual
        await system.call(echo)
        gc.collect()

        assert gone() is None
