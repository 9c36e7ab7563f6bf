"""Callbacks, end to end: an actor or a task that is told how a task has ended, well or not."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq import ActorRef, Mailbox, TaskDone
from actorq.model.events import Event, EventKind
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore

open_quietly = partial(actorq.open_system, processes=0, instruments=())

PATHS = pytest.mark.parametrize("suspends", [False, True], ids=["immediate", "suspending"])
MOMENTS = pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])


@actorq.task
async def echo(value: object = None) -> object:
    return value


@actorq.task
async def broken(value: object = None) -> None:
    raise ValueError(value)


@actorq.task
async def nap(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


async def collect(inbox: Mailbox[TaskDone], seen: list[TaskDone]) -> None:
    while True:
        seen.append(await inbox.receive())


async def settled() -> None:
    """Wait until every message that is under way has been handled."""
    await trio.sleep(0.001)  # virtual
    await wait_all_tasks_blocked()


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[actorq.System]:
    async with open_quietly(concurrency=20) as system:
        yield system
        await system.join()
        left = {name for name, size in system.tables().items() if size}
        assert left <= {"actors"}


@pytest.fixture
def seen() -> list[TaskDone]:
    return []


@pytest.fixture
async def actor(
    autojump_clock: MockClock, system: actorq.System, seen: list[TaskDone]
) -> ActorRef[TaskDone]:
    return await system.spawn(collect, seen)


# --- actors: every end ---------------------------------------------------------------------------


Submit = Callable[[actorq.System, Any], Awaitable[Any]]


async def succeeds(system: actorq.System, how: Any) -> None:
    await system.submit(nap.options(**how), 1)


async def fails(system: actorq.System, how: Any) -> None:
    await system.submit(broken.options(**how), "no")


async def times_out(system: actorq.System, how: Any) -> None:
    await system.submit(nap.options(timeout=1, **how), 5)


async def overruns(system: actorq.System, how: Any) -> None:
    await system.submit(nap.options(deadline=1, **how), 5)


async def expires(system: actorq.System, how: Any) -> None:
    for _ in range(20):
        await system.submit(nap, 10)
    await system.submit(nap.options(expires=1, **how), 5)


async def is_cancelled(system: actorq.System, how: Any) -> None:
    handle = await system.submit(nap.options(**how), 5)
    await trio.sleep(1)  # virtual
    await handle.cancel("enough")


async def never_starts(system: actorq.System, how: Any) -> None:
    await (await system.submit(nap.options(delay=50, **how), 5)).cancel()


async def ends_with_its_block(system: actorq.System, how: Any) -> None:
    with trio.move_on_after(1):
        async with system.open_nursery() as nursery:
            await nursery.submit(nap.options(**how), 5)


async def ends_with_its_caller(system: actorq.System, how: Any) -> None:
    with trio.move_on_after(1):
        await system.call(nap.options(**how), 5)


ENDS = [
    (succeeds, "success", None),
    (fails, "failure", actorq.TaskFailed),
    (times_out, "failure", actorq.TaskTimeout),
    (overruns, "failure", actorq.TaskTimeout),
    (expires, "failure", actorq.TaskExpired),
    (is_cancelled, "cancelled", actorq.TaskCancelled),
    (never_starts, "cancelled", actorq.TaskCancelled),
    (ends_with_its_block, "cancelled", actorq.TaskCancelled),
    (ends_with_its_caller, "cancelled", actorq.TaskCancelled),
]


@pytest.mark.parametrize(("submit", "status", "error"), ENDS)
async def test_an_actor_is_told_once_how_its_task_has_ended(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
    submit: Submit,
    status: str,
    error: Any,
) -> None:
    data = object()

    await submit(system, {"callback": actor, "callback_data": data})
    await system.join()
    await settled()

    [done] = seen
    assert (done.result.status, done.data) == (status, data)
    assert done.data is data
    assert done.result == await system.result(done.result.id)
    if error is not None:
        with pytest.raises(error):
            done.result.unwrap()


@pytest.mark.parametrize(("submit", "status", "error"), ENDS)
async def test_a_callback_task_runs_once_however_its_task_has_ended(
    autojump_clock: MockClock, system: actorq.System, submit: Submit, status: str, error: Any
) -> None:
    seen: list[TaskDone] = []
    data = object()

    async def note(done: TaskDone) -> None:
        seen.append(done)

    await submit(system, {"callback": note, "callback_data": data})
    await system.join()

    [done] = seen
    assert done.data is data
    assert done.result == await system.result(done.result.id)
    assert done.result.status == status
    if error is not None:
        with pytest.raises(error):
            done.result.unwrap()


async def test_an_actor_is_told_of_every_task_however_quickly_it_ends(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    for number in range(100):
        await system.submit(echo.options(callback=actor, callback_data=number), number)
    await system.join()
    await settled()

    assert sorted(done.data for done in seen) == list(range(100))


async def test_an_actor_gets_the_error_itself_as_the_cause(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    handle = await system.submit(broken.options(callback=actor), "no")
    await handle.wait()
    await settled()

    with pytest.raises(actorq.TaskFailed) as caught:
        seen[0].result.unwrap()
    assert repr(caught.value.__cause__) == "ValueError('no')"


async def test_an_actor_is_told_though_nobody_keeps_the_handle(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    await system.submit(nap.options(callback=actor), 5)
    gc.collect()
    await trio.sleep(6)  # virtual

    assert [done.result.value for done in seen] == [5]


async def test_a_task_that_is_retried_is_one_end(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    retry = actorq.Retry(attempts=3, delay=1)

    await (await system.submit(broken.options(callback=actor, retry=retry))).wait()
    await settled()

    assert [(done.result.status, done.result.attempts) for done in seen] == [("failure", 3)]


async def test_ends_are_told_in_their_order(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    await system.submit_many(nap.options(callback=actor).message(n) for n in (3, 1, 2))
    await system.join()
    await settled()

    assert [done.result.value for done in seen] == [1, 2, 3]


@pytest.mark.parametrize(("kind", "times"), [("actor", 1), ("task", 2)])
async def test_a_run_that_the_retry_verb_starts_calls_back_a_task_and_not_an_actor(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
    kind: str,
    times: int,
) -> None:
    async def note(done: TaskDone) -> None:
        seen.append(done)

    handle = await system.submit(broken.options(callback=actor if kind == "actor" else note))
    await system.join()

    await system.retry(ids=[handle.id])
    await system.join()
    await settled()

    assert [done.result.id for done in seen] == [handle.id] * times


# --- actors: every verb --------------------------------------------------------------------------


async def test_submit_many_calls_back_for_each(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    task = echo.options(callback=actor, callback_data="data")

    handles = await system.submit_many(task.message(number) for number in range(2_500))
    await system.join()
    await settled()

    assert Counter(done.result.id for done in seen) == Counter(handle.id for handle in handles)
    assert {done.data for done in seen} == {"data"}


async def test_call_map_and_a_nursery_call_back(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    task = echo.options(callback=actor)

    assert await system.call(task, 1) == 1
    async with system.map(task, [2, 3]) as values:
        assert [value async for value in values] == [2, 3]
    async with system.map_results(task, [4]) as results:
        assert [result.value async for result in results] == [4]
    async with system.open_nursery() as nursery:
        await nursery.submit(task, 5)
    await settled()

    assert sorted(done.result.value for done in seen) == [1, 2, 3, 4, 5]


async def test_what_a_map_that_is_left_cancels_is_told_too(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    async with system.map(nap.options(callback=actor), [1, 100, 100], ordered=False) as values:
        await anext(values)
    await settled()

    assert [str(done.result.status) for done in seen] == ["success", "cancelled", "cancelled"]


@pytest.mark.parametrize("seconds", [0, 5])
async def test_a_message_that_is_submitted_twice_calls_back_once(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
    seconds: float,
) -> None:
    message = nap.options(callback=actor).message(seconds)

    for _ in range(3):
        await system.submit(message)
    await system.join()
    await system.submit(message)
    await settled()

    assert len(seen) == 1


async def test_a_message_that_is_twice_in_a_batch_calls_back_once(
    autojump_clock: MockClock,
    system: actorq.System,
    actor: ActorRef[TaskDone],
    seen: list[TaskDone],
) -> None:
    runs: list[TaskDone] = []

    async def note(done: TaskDone) -> None:
        runs.append(done)

    one, two = nap.options(callback=actor).message(1), nap.options(callback=note).message(1)

    await system.submit_many([one, two, one, two])
    await system.join()
    await settled()

    assert (len(seen), len(runs)) == (1, 1)


async def test_a_submit_that_was_cancelled_and_made_again_calls_back_once(
    autojump_clock: MockClock, seen: list[TaskDone]
) -> None:
    async with open_quietly(concurrency=0, max_pending=1) as system:
        actor = await system.spawn(collect, seen)
        first = await system.submit(nap, 1)
        message = nap.options(callback=actor).message(1)
        with trio.move_on_after(1):
            await system.submit(message)
        await first.cancel()
        handle = await system.submit(message)
        await handle.cancel()
        await settled()

        assert [done.result.id for done in seen] == [message.id]


# --- actors in trouble ---------------------------------------------------------------------------


async def test_an_actor_that_raises_touches_neither_the_result_nor_the_next_message(
    autojump_clock: MockClock,
    system: actorq.System,
) -> None:
    seen: list[object] = []

    async def fragile(inbox: Mailbox[TaskDone]) -> None:
        async for done in inbox:
            seen.append(done.data)
            if done.data == 0:
                raise RuntimeError("the callback is broken")

    actor = await system.spawn(fragile)
    handles = [
        await system.submit(echo.options(callback=actor, callback_data=n), n) for n in range(3)
    ]
    await trio.sleep(5)  # virtual

    assert seen == [0, 1, 2]
    assert [await handle.value() for handle in handles] == [0, 1, 2]
    assert actor.incarnation == 2


async def test_an_actor_that_is_slow_slows_nobody_and_misses_nothing(
    autojump_clock: MockClock,
    system: actorq.System,
) -> None:
    seen: list[object] = []

    async def slow(inbox: Mailbox[TaskDone]) -> None:
        async for done in inbox:
            await trio.sleep(10)  # virtual
            seen.append(done.data)

    actor = await system.spawn(slow, mailbox=1)
    before = trio.current_time()
    for number in range(50):
        await system.call(echo.options(callback=actor, callback_data=number))

    assert trio.current_time() == before
    await trio.sleep(501)  # virtual
    assert seen == list(range(50))


async def test_an_actor_that_hangs_holds_nothing_up(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async def hangs(inbox: Mailbox[TaskDone]) -> None:
        await inbox.receive()
        await trio.sleep_forever()

    hanging, seen = await system.spawn(hangs, mailbox=1), []
    other = await system.spawn(collect, seen)

    for number in range(10):
        await system.call(echo.options(callback=hanging), number)
        await system.call(echo.options(callback=other), number)
    await settled()

    assert [done.result.value for done in seen] == list(range(10))


async def test_a_mailbox_that_is_full_takes_callbacks_and_still_holds_back_senders(
    autojump_clock: MockClock,
    system: actorq.System,
) -> None:
    async def hangs(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await trio.sleep_forever()

    actor: ActorRef[Any] = await system.spawn(hangs, mailbox=1)
    await actor.tell("it is full now")

    await system.call(echo.options(callback=actor), 1)
    await settled()

    assert system.dead_letters == 0
    with pytest.raises(actorq.MailboxFull):
        actor.try_tell("no room")
    await actor.stop()
    assert system.dead_letters == 2


async def test_an_actor_that_has_ended_makes_a_dead_letter_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    told: list[Event] = []

    class Instrument:
        def event(self, event: Event) -> None:
            told.append(event)

    async with actorq.open_system(processes=0, instruments=[Instrument()]) as system:
        actor = await system.spawn(collect, [])
        handle = await system.submit(nap.options(callback=actor), 5)
        await actor.stop()
        quick = await system.submit(echo.options(callback=actor), 7)

        assert (await handle.value(), await quick.value()) == (5, 7)
        await settled()
        assert system.dead_letters == 2

    [letter, _] = [event.details for event in told if event.kind is EventKind.DEAD_LETTER]
    assert isinstance(letter["message"], TaskDone)
    assert letter["actor"] == actor.name


async def test_an_actor_that_dies_for_good_makes_a_dead_letter_of_every_end_that_it_missed(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    async def dies(inbox: Mailbox[TaskDone]) -> None:
        raise RuntimeError(await inbox.receive())

    actor = await system.spawn(dies, restart="temporary")
    handles = [await system.submit(nap.options(callback=actor), n) for n in (1, 1, 1, 3)]
    await trio.sleep(5)  # virtual

    assert [await handle.value() for handle in handles] == [1, 1, 1, 3]
    assert system.dead_letters == 3


async def test_when_the_queue_has_failed_for_good_the_end_that_nobody_knows_is_a_dead_letter(
    autojump_clock: MockClock, seen: list[TaskDone]
) -> None:
    store = FaultyStore(MemoryStore())
    systems: list[actorq.System] = []

    async def block() -> None:
        async with open_quietly(store) as system:
            systems.append(system)
            actor = await system.spawn(collect, seen)
            await system.submit(nap.options(callback=actor), 5)
            store.fail("commit", times=inf, error=RuntimeError)
            await trio.sleep(100)  # virtual

    with pytest.raises(actorq.RestartIntensityExceeded):
        await block()

    assert (seen, systems[0].dead_letters) == ([], 1)


# --- tasks ---------------------------------------------------------------------------------------


async def test_any_callable_of_one_argument_will_do(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    seen: list[TaskDone] = []

    async def note(done: TaskDone, more: int = 3) -> None:
        seen.append(done)

    def note_in_a_thread(done: TaskDone) -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(done)

    async def stream(done: TaskDone) -> AsyncIterator[int]:
        seen.append(done)
        yield 1

    callbacks = [note, actorq.task(note), note_in_a_thread, stream, seen.append, partial(note)]
    for number, callback in enumerate(callbacks):
        await system.submit(echo.options(callback=callback, callback_data=number), number)
        await system.join()

    assert [done.data for done in seen] == list(range(6))
    assert [done.result.value for done in seen] == list(range(6))
    assert (await system.stats()).failure == 0


async def test_a_callback_task_can_be_found_like_any_task(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    @actorq.task(name="report", queue="reports", meta={"of": "echo"})
    async def report(done: TaskDone) -> object:
        await trio.sleep(1)  # virtual
        return done.data

    handle = await system.submit(echo.options(callback=report, callback_data=7), 1)
    await system.join()

    [task] = (await system.find(task="report")).tasks
    assert (task.status, task.value, task.queue) == ("success", 7, "reports")
    assert task.meta == {"of": "echo"}
    assert task.id != handle.id
    assert await system.handle(task.id, report).value() == 7


async def test_a_callback_task_is_retried_and_timed_like_any_task(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    attempts: list[int] = []

    @actorq.task(name="report", timeout=1, retry=actorq.Retry(attempts=3, delay=1))
    async def report(done: TaskDone) -> None:
        attempts.append(actorq.current().attempt)
        if len(attempts) == 1:
            await trio.sleep(5)  # virtual
        if len(attempts) == 2:
            raise ValueError

    await system.call(echo.options(callback=report), 1)
    await system.join()

    assert attempts == [1, 2, 3]
    assert [task.status for task in (await system.find(task="report")).tasks] == ["success"]


class Leave(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), Leave(), GeneratorExit()])
async def test_a_callback_task_that_raises_is_a_failure_of_its_own(
    autojump_clock: MockClock, system: actorq.System, error: BaseException
) -> None:
    seen: list[TaskDone] = []

    @actorq.task(name="raises")
    async def raises(done: TaskDone) -> None:
        raise error

    async def note(done: TaskDone) -> None:
        seen.append(done)

    first = await system.submit(echo.options(callback=raises), 1)
    await system.submit(echo.options(callback=note), 2)
    await system.join()

    assert (await system.result(first.id)).value == 1
    assert [done.result.value for done in seen] == [2]
    [failed] = (await system.find(status="failure")).tasks
    assert (failed.name, failed.attempts) == ("raises", 1)


async def test_a_callback_task_that_hangs_holds_up_no_more_than_a_slot(
    autojump_clock: MockClock,
) -> None:
    async def hangs(done: TaskDone) -> None:
        await trio.sleep_forever()

    async with open_quietly(concurrency=2, drain=0) as system:
        await system.submit(echo.options(callback=hangs), 1)
        await settled()

        assert [await system.call(echo, number) for number in range(5)] == list(range(5))


async def test_a_failed_callback_task_can_be_retried_with_what_it_was_told(
    autojump_clock: MockClock,
    system: actorq.System,
) -> None:
    told: list[TaskDone] = []

    @actorq.task(name="report")
    async def report(done: TaskDone) -> None:
        told.append(done)
        if len(told) == 1:
            raise ValueError

    await system.call(echo.options(callback=report, callback_data=7), 1)
    await system.join()

    assert await system.retry(task="report") == 1
    await system.join()

    assert len(told) == 2
    assert told[0] == told[1]


async def test_a_callback_task_outlives_the_block_of_its_task(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    seen: list[TaskDone] = []

    async def report(done: TaskDone) -> None:
        await trio.sleep(5)  # virtual
        seen.append(done)

    async with system.open_nursery() as nursery:
        await nursery.submit(echo.options(callback=report), 1)
    assert seen == []
    await system.join()

    assert [done.result.value for done in seen] == [1]


async def test_a_callback_may_have_a_callback(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    seen: list[TaskDone] = []

    async def second(done: TaskDone) -> None:
        seen.append(done)

    async def first(done: TaskDone) -> object:
        return (done.data, done.result.value)

    follow = actorq.task(first).options(callback=second, callback_data="inner")
    await system.call(echo.options(callback=follow, callback_data="outer"), 7)
    await system.join()

    assert [(done.data, done.result.value) for done in seen] == [("inner", ("outer", 7))]


async def test_options_of_a_call_can_take_a_callback_away(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    seen: list[TaskDone] = []
    task = echo.options(callback=seen.append)

    await system.call(task.options(callback=None), 1)
    await system.join()

    assert seen == []


# --- processes -----------------------------------------------------------------------------------


@actorq.task(run_in="process")
def identify(value: object = None) -> tuple[int, object]:
    return os.getpid(), value


@actorq.task(run_in="process")
def write_down(done: TaskDone) -> str:
    assert os.getpid() != done.data["parent"]
    done.data["path"].write_text(f"{done.result.status} {done.result.value}")
    return done.result.id


async def test_a_callback_task_may_run_in_a_process(tmp_path: Path) -> None:
    data = {"parent": os.getpid(), "path": tmp_path / "note"}
    async with actorq.open_system(processes=1, instruments=()) as system:
        handle = await system.submit(echo.options(callback=write_down, callback_data=data), 7)
        await system.join()
        [task] = (await system.find(task=write_down)).tasks

    assert (task.status, task.value) == ("success", handle.id)
    assert data["path"].read_text() == "success 7"


async def test_a_task_in_a_process_may_call_back() -> None:
    seen: list[TaskDone] = []
    noted: list[TaskDone] = []

    async def note(done: TaskDone) -> None:
        noted.append(done)

    async with actorq.open_system(processes=1, instruments=()) as system:
        actor = await system.spawn(collect, seen)
        data = object()
        await system.call(identify.options(callback=actor, callback_data=data), 1)
        await system.call(identify.options(callback=note, callback_data=data), 2)
        await system.join()

    assert [done.result.value[1] for done in (*seen, *noted)] == [1, 2]
    assert {done.data for done in (*seen, *noted)} == {data}


@pytest.mark.parametrize("what", ["value", "data"])
async def test_an_outcome_that_cannot_go_to_a_process_fails_the_callback_alone(what: str) -> None:
    lock = threading.Lock()
    async with actorq.open_system(processes=1, instruments=()) as system:
        value, data = (lock, 1) if what == "value" else (1, lock)
        task = echo.options(callback=write_down, callback_data=data)
        assert await system.call(task, value) is value
        await system.join()
        [failed] = (await system.find(status="failure")).tasks

    assert failed.name == write_down.name
    assert failed.error is not None
    assert failed.error.matches(actorq.EncodeError)


# --- what is left ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["actor", "task"])
async def test_a_system_that_is_gone_is_forgotten_though_its_callbacks_knew_it(
    autojump_clock: MockClock, kind: str
) -> None:
    async def opened() -> weakref.ref[object]:
        async with open_quietly() as system:

            async def note(done: TaskDone) -> None:
                await system.stats()

            callback = await system.spawn(collect, []) if kind == "actor" else note
            await system.call(echo.options(callback=callback), 1)
            await system.join()
            return weakref.ref(callback)

    gone = await opened()
    gc.collect()

    assert gone() is None


@pytest.mark.parametrize("kind", ["actor", "task"])
async def test_a_service_that_is_its_own_callback_data_can_be_collected(
    autojump_clock: MockClock, kind: str
) -> None:
    class Service:
        async def start(self, system: actorq.System, callback: Any) -> None:
            task = echo.options(callback=callback, callback_data=self)
            self.handles = [await system.submit(task, number) for number in range(3)]
            await system.join()

    async def note(done: TaskDone) -> None: ...

    async def forget(inbox: Mailbox[TaskDone]) -> None:
        while True:
            await inbox.receive()

    async with open_quietly(concurrency=1, result_ttl=0) as system:
        service = Service()
        await service.start(system, await system.spawn(forget) if kind == "actor" else note)
        gone = weakref.ref(service)
        del service
        await trio.sleep(100)  # virtual
        await system.call(echo)
        gc.collect()

        assert gone() is None


# --- what is refused -----------------------------------------------------------------------------


def no_argument() -> None: ...
def two_arguments(done: TaskDone, other: int) -> None: ...
def a_keyword(done: TaskDone, *, other: int) -> None: ...


@pytest.mark.parametrize(
    "callback",
    [no_argument, two_arguments, a_keyword, actorq.task(two_arguments)],
    ids=["none", "two", "a keyword", "a task"],
)
async def test_a_callback_with_a_wrong_signature_is_refused_at_submit(
    autojump_clock: MockClock, system: actorq.System, callback: Any
) -> None:
    task = echo.options(callback=callback)

    for verb in (system.submit, system.call):
        with pytest.raises(actorq.InvalidArguments, match="argument"):
            await verb(task, 1)
    with pytest.raises(actorq.InvalidArguments):
        await system.submit_many([task.message(1)])
    assert (await system.find()).tasks == []


async def test_a_wrong_callback_of_a_callback_is_refused_at_submit(
    autojump_clock: MockClock, system: actorq.System
) -> None:
    task = echo.options(callback=actorq.task(two_arguments))
    nested = echo.options(callback=actorq.task(print).options(callback=no_argument))

    for wrong in (task, nested):
        with pytest.raises(actorq.InvalidArguments):
            await system.submit(wrong, 1)


async def test_an_actor_as_the_callback_of_a_callback_is_refused_at_submit(
    autojump_clock: MockClock, system: actorq.System, actor: ActorRef[TaskDone]
) -> None:
    task = echo.options(callback=actorq.task(print).options(callback=actor))

    with pytest.raises(actorq.SubmitError, match="an actor cannot be the callback of a callback"):
        await system.submit(task, 1)


@pytest.mark.parametrize("callback", [3, "a name", object(), [], echo.message(1)], ids=repr)
def test_a_callback_of_a_wrong_type_is_refused_by_the_options(callback: Any) -> None:
    with pytest.raises(TypeError, match="option 'callback'"):
        echo.options(callback=callback)
    with pytest.raises(TypeError, match="option 'callback'"):
        actorq.TaskOptions(callback=callback)


def test_what_only_looks_like_a_ref_is_refused_by_the_options() -> None:
    class Proxy:
        def try_tell(self, message: TaskDone) -> None: ...

    with pytest.raises(TypeError, match="option 'callback'"):
        echo.options(callback=Proxy())


# --- crashes of the queue actor ------------------------------------------------------------------


class Callbacks:
    """Tasks of every kind with callbacks of both kinds, and what must come of them."""

    def __init__(self) -> None:
        self.told: list[TaskDone] = []
        self.noted: list[TaskDone] = []

    async def note(self, done: TaskDone) -> None:
        self.noted.append(done)
        await trio.sleep(1)  # virtual
        if done.data == 0 and actorq.current().attempt == 1:
            raise ValueError("the second attempt is better")

    async def run(self, system: actorq.System) -> None:
        actor = await system.spawn(collect, self.told)
        note = actorq.task(name="note", retry=actorq.Retry(2, delay=1, jitter=0))(self.note)
        self.handles = {kind: await self.submit(system, callback)
                        for kind, callback in (("told", actor), ("noted", note))}  # fmt: skip
        await system.join()
        await settled()
        self.notes = (await system.find(task="note", limit=1_000)).tasks

    async def submit(self, system: actorq.System, callback: Any) -> list[str]:
        how: list[dict[str, Any]] = [{"callback": callback, "callback_data": n} for n in range(9)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(system.call, nap.options(**how[0]), 2))
            nursery.start_soon(partial(system.call, echo.options(**how[1]), 2))
        handles = [
            await system.submit(echo.options(**how[2]), 2),
            await system.submit(broken.options(**how[3]), 2),
            await system.submit(nap.options(timeout=1, **how[4]), 9),
            *await system.submit_many(nap.options(**how[n]).message(n % 2) for n in (5, 6, 7)),
        ]
        cancelled = await system.submit(nap.options(**how[8]), 100)
        await cancelled.cancel()
        return [handle.id for handle in (*handles, cancelled)]

    def check(self) -> None:
        told = Counter(done.data for done in self.told)
        assert told == dict.fromkeys(range(9), 1)
        assert [str(task.status) for task in self.notes] == ["success"] * 9
        assert Counter(done.data for done in self.noted) == dict.fromkeys(range(9), 1) | {0: 2}
        for done in (*self.told, *self.noted):
            ok = done.data not in {3, 4, 8}
            assert done.result.ok is ok


@MOMENTS
@PATHS
@pytest.mark.bound(60)
async def test_a_crash_at_any_commit_loses_no_callback_and_doubles_no_callback_task(
    autojump_clock: MockClock, suspends: bool, applied: bool
) -> None:
    for number in count(1):
        store = FaultyStore(MemoryStore(), suspends=suspends)
        store.fail("commit", number, applied=applied, error=RuntimeError)
        callbacks = Callbacks()
        try:
            async with open_quietly(store) as system:
                await callbacks.run(system)
                left = {name for name, size in system.tables().items() if size}
            callbacks.check()
        except BaseException as error:
            error.add_note(f"the crash was at commit {number}")
            raise
        assert left == {"actors"}
        if not store.faults:
            break

    assert number > 20


async def test_a_crash_while_an_actor_waits_for_news_of_its_task_is_not_its_affair(
    autojump_clock: MockClock, seen: list[TaskDone]
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with open_quietly(store, result_ttl=0) as system:
        actor = await system.spawn(collect, seen)
        await system.submit(nap.options(callback=actor), 5)
        store.fail("commit", applied=True, error=RuntimeError)
        await trio.sleep(20)  # virtual

    assert [done.result.value for done in seen] == [5]


# --- closing -------------------------------------------------------------------------------------


async def test_what_closing_ends_is_told_to_an_actor_before_it_ends(
    autojump_clock: MockClock,
) -> None:
    seen: list[object] = []

    async def notes(inbox: Mailbox[TaskDone]) -> None:
        try:
            async for done in inbox:
                await trio.sleep(0.1)  # virtual
                seen.append((done.data, str(done.result.status)))
        finally:
            seen.append("it ends")

    async with open_quietly(concurrency=1, drain=0) as system:
        actor = await system.spawn(notes)
        for number in range(3):
            await system.submit(nap.options(callback=actor, callback_data=number), 100)

    *told, last = seen
    assert last == "it ends"
    assert sorted(told, key=str) == [(n, "cancelled") for n in range(3)]


async def test_what_ends_by_itself_while_the_system_drains_is_told_too(
    autojump_clock: MockClock, seen: list[TaskDone]
) -> None:
    async with open_quietly(drain=10) as system:
        actor = await system.spawn(collect, seen)
        await system.submit(nap.options(callback=actor), 5)

    assert [done.result.value for done in seen] == [5]


async def test_a_callback_task_that_closing_brings_about_is_ended_with_the_rest(
    autojump_clock: MockClock,
) -> None:
    noted: list[TaskDone] = []

    async def note(done: TaskDone) -> None:
        noted.append(done)

    async with open_quietly(drain=10) as system:
        handle = await system.submit(nap.options(callback=actorq.task(note)), 5)
        before = trio.current_time()

    assert (await handle.value(), noted) == (5, [])
    assert trio.current_time() - before == 5


async def test_closing_waits_for_no_actor_longer_than_its_shutdown(
    autojump_clock: MockClock,
) -> None:
    async def hangs(inbox: Mailbox[TaskDone]) -> None:
        await inbox.receive()
        await trio.sleep_forever()

    async with open_quietly(drain=0) as system:
        actor = await system.spawn(hangs, shutdown=3)
        for _ in range(5):
            await system.submit(nap.options(callback=actor), 100)
        before = trio.current_time()

    assert trio.current_time() - before == 3


async def test_a_block_that_fails_ends_its_tasks_and_leaves_no_callback_behind(
    autojump_clock: MockClock, seen: list[TaskDone]
) -> None:
    systems: list[actorq.System] = []

    async def block() -> None:
        async with open_quietly() as system:
            systems.append(system)
            actor = await system.spawn(collect, seen)
            await system.submit(nap.options(callback=actor), 100)
            await settled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()

    [system] = systems
    assert not any(system.session.tables().values())
    assert {str(done.result.status) for done in seen} <= {"cancelled"}
    assert len(seen) + system.dead_letters == 1
