"""Threads: asked to stop, waited for, then abandoned."""

import functools
import threading
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.actors.executors.thread import ProgressFromThreads
from actorq.actors.queue import QueueActor
from actorq.machines.queue import QueueMachine
from actorq.model.events import Event, EventKind
from actorq.model.results import Progress

colour: ContextVar[str] = ContextVar("colour", default="none")


class Gate:
    """A function for a thread, which says when it has begun and ends when it is let."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.opened = threading.Event()
        self.token = trio.lowlevel.current_trio_token()

    def __call__(self) -> str:
        self.token.run_sync_soon(self.begun.set)
        assert self.opened.wait(30)
        return "through"


class Noted:
    """An instrument that says when a thread was abandoned."""

    def __init__(self) -> None:
        self.abandoned = trio.Event()

    def event(self, event: Event) -> None:
        if event.kind is EventKind.THREAD_ABANDONED:
            self.abandoned.set()


async def test_a_plain_function_runs_in_a_thread() -> None:
    async with actorq.open_system(processes=0) as system:
        thread = await system.call(threading.get_ident)

    assert thread != threading.get_ident()


async def test_threads_and_coroutines_share_the_slots_exactly() -> None:
    lock, running = threading.Lock(), []
    most = []

    def count() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        rendezvous.wait()
        with lock:
            running.pop()

    rendezvous = threading.Barrier(3)  # each three must run at once, or nobody goes on
    async with actorq.open_system(processes=0, concurrency=3) as system:
        await system.submit_many(actorq.task(count).message() for _ in range(12))
        await system.join()

    assert max(most) == 3


async def test_an_error_in_a_thread_is_that_of_the_task() -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed, match="invalid literal") as caught:
            await system.call(int, "x")

    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_flagged_thread_may_end_by_itself_and_its_value_counts() -> None:
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()
    asked = threading.Event()

    def polite() -> str:
        token.run_sync_soon(begun.set)
        while not actorq.current().cancelled:
            asked.wait(0.001)
        return "tidied up"

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(polite)
        await begun.wait()

        assert (await handle.cancel()).value == "tidied up"


async def test_a_flagged_thread_that_raises_is_cancelled() -> None:
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def polite() -> None:
        token.run_sync_soon(begun.set)
        while not actorq.current().cancelled:
            pass
        raise InterruptedError

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(polite)
        await begun.wait()

        assert (await handle.cancel()).status == "cancelled"


async def test_a_timeout_flags_the_thread() -> None:
    def polite() -> None:
        while not actorq.current().cancelled:
            pass
        raise InterruptedError

    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskTimeout):
            await system.call(actorq.task(timeout=0.01)(polite))


async def test_a_thread_that_does_not_look_is_abandoned_and_keeps_its_slot_until_it_ends() -> None:
    gate, noted = Gate(), Noted()
    async with actorq.open_system(processes=0, concurrency=1, instruments=[noted]) as system:
        handle = await system.submit(gate)
        await gate.begun.wait()

        assert (await handle.cancel(grace=0.02)).status == "cancelled"
        waiting = await system.submit(len, "next")
        await noted.abandoned.wait()
        assert await waiting.status() == "pending"
        gate.opened.set()

        assert await waiting.value() == 4
        assert (await system.result(handle.id)).status == "cancelled"


async def test_a_thread_that_outlives_its_system_hurts_nobody() -> None:
    gate = Gate()
    async with actorq.open_system(processes=0, drain=0, grace=0.02, instruments=()) as system:
        handle = await system.submit(gate)
        await gate.begun.wait()

    assert (await handle.wait()).status == "cancelled"
    gate.opened.set()


async def test_a_thread_sees_the_context_of_the_worker_and_changes_only_its_own() -> None:
    seen = []

    def paint() -> None:
        seen.append(colour.get())
        colour.set("red")

    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.call(paint)
        await system.call(paint)

    assert seen == ["none", "none"]


async def test_a_function_that_returns_a_coroutine_is_told_what_is_wrong() -> None:
    async def coroutine(number: int) -> None: ...

    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed, match="must be an 'async def' itself"):
            await system.call(lambda: coroutine(1))


async def test_a_stop_iteration_in_a_thread_is_an_error_like_any_other() -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed) as caught:
            await system.call(next, iter(()))

    assert caught.value.matches(StopIteration)


async def test_progress_of_a_thread_reaches_the_handle() -> None:
    gate = Gate()

    def work() -> str:
        actorq.current().progress(1, 2, "half")
        return gate()

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(work)
        await gate.begun.wait()

        assert await handle.progress() == Progress(1, 2, "half")
        gate.opened.set()


async def test_a_burst_of_progress_becomes_its_newest() -> None:
    delivered: list[tuple[str, Progress, int]] = []
    reports = ProgressFromThreads(
        lambda key, progress: delivered.append((key[0], progress, threading.get_ident()))
    )

    def work() -> None:
        for number in range(1_000):
            reports.report(("a", 1), Progress(number))
        reports.report(("b", 1), Progress(7))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()  # the loop stands still meanwhile
    await wait_all_tasks_blocked()

    here = threading.get_ident()
    assert delivered == [("a", Progress(999), here), ("b", Progress(7), here)]


async def test_progress_is_reported_in_the_loop_wherever_it_is_made() -> None:
    async def aside() -> None:
        current = actorq.current()
        await trio.to_thread.run_sync(current.progress, 1)
        stepped.clear()
        current.progress(2)

    stepped: set[int] = set()

    class Watching(QueueMachine):
        def turn(self, mail: Any, now: float) -> Any:
            stepped.add(threading.get_ident())
            return super().turn(mail, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "actorq.system.house.QueueActor", functools.partial(QueueActor, machine=Watching)
        )
        async with actorq.open_system(processes=0) as system:
            await system.call(aside)
            await system.call(lambda: actorq.current().progress(1))

    assert stepped == {threading.get_ident()}


async def test_a_task_may_call_back_into_trio_from_its_thread() -> None:
    async def double(number: int) -> int:
        return 2 * number

    def work() -> int:
        return trio.from_thread.run(double, 21)

    async with actorq.open_system(processes=0) as system:
        assert await system.call(work) == 42
