"""At rest every table is empty, and a system that is gone has left nothing."""

import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio

import actorq


class Cancelling(trio.abc.Instrument):
    """Cancels a scope after so many steps of the program."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.scope = scope
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def work(number: int) -> int:
    if number % 3:
        await trio.sleep(number % 7)  # virtual
    return number


async def broken(number: int) -> int:
    await trio.lowlevel.checkpoint()
    raise ValueError(number)


async def forever(number: int) -> None:
    await trio.sleep_forever()


RETRY = actorq.Retry(attempts=3, delay=2, on=(ValueError,))
KINDS = [
    actorq.task(work),
    actorq.task(work).options(priority="critical", queue="urgent"),
    actorq.task(work).options(delay=5, priority="low"),
    actorq.task(broken),
    actorq.task(broken).options(retry=RETRY, queue="flaky"),
    actorq.task(forever).options(timeout=3),
    actorq.task(forever).options(deadline=20, queue="slow"),
    actorq.task(forever).options(expires=1, timeout=2),
    actorq.task(work).options(deadline=90, expires=60, meta={"user": 7}),
    *[actorq.task(work)] * 21,  # most go well, and tracebacks are slow to format
]


async def test_ten_thousand_mixed_tasks_leave_every_table_empty(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    async def call(number: int) -> None:
        with trio.move_on_after(number % 5):
            await system.call(forever, number)

    async with actorq.open_system(processes=0, concurrency=200, max_pending=3_000) as system:
        messages = (KINDS[number % len(KINDS)].message(number) for number in range(9_000))
        handles = await system.submit_many(messages)
        await system.cancel_many(ids=[handle.id for handle in handles[-300::3]])
        for number in range(500):
            nursery.start_soon(call, number)
        async with system.map_results(work, range(300), limit=50, ordered=False) as results:
            for _ in range(100):
                await anext(results)
        with trio.move_on_after(3):
            async with system.open_nursery() as tasks:
                for number in range(200):
                    await tasks.submit(forever, number)
        await system.join()

        statuses = {(await handle.wait()).status for handle in handles}
        assert statuses == {"success", "failure", "cancelled"}
        assert {name: size for name, size in system.tables().items() if size} == {}
        stats = await system.stats()
        assert stats.pools["main"].free == 200
        assert stats.queues == {}


async def busy(system: actorq.System) -> None:
    handle = await system.submit(work, 1)
    await system.submit_many(kind.message(1) for kind in KINDS)
    async with system.open_nursery() as tasks, system.map(work, [1, 2]) as values:
        await tasks.submit(work, 4)
        await anext(values)
    await system.call(work, 2)
    await handle.cancel()
    await system.find(status="failure")
    await system.cancel_many(task="nobody")


async def cancel_at_every_checkpoint(work: Callable[[actorq.System], Awaitable[None]]) -> int:
    """Do the work in one system after the other, each cancelled a step later; return how many."""
    before = trio.lowlevel.current_statistics().tasks_living
    steps, cancelled, opened = 0, True, None
    while cancelled:
        steps += 1
        with trio.CancelScope() as scope:
            instrument = Cancelling(scope, steps)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with actorq.open_system(
                    processes=0, concurrency=3, drain=1, instruments=()
                ) as opened:
                    await work(opened)
            finally:
                trio.lowlevel.remove_instrument(instrument)
        cancelled = scope.cancelled_caught or scope.cancel_called
        assert trio.lowlevel.current_statistics().tasks_living == before
        if opened is not None:
            assert {name: size for name, size in opened.tables().items() if size} == {}
    return steps


@pytest.mark.bound(60)
async def test_a_system_cancelled_at_any_checkpoint_leaves_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    assert await cancel_at_every_checkpoint(busy) > 50


async def test_fifty_systems_opened_and_closed_in_a_row_leave_nothing() -> None:
    before = trio.lowlevel.current_statistics().tasks_living

    for number in range(50):
        async with actorq.open_system() as system:
            assert await system.call(len, "x" * number) == number

    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_service_that_keeps_its_handles_can_be_collected(
    autojump_clock: trio.abc.Clock,
) -> None:
    class Service:
        async def start(self, system: actorq.System) -> None:
            self.kept = [await system.submit(work) for work in (self.fail, self.give)]
            self.message = actorq.task(self.fail).message()
            for handle in self.kept:
                await handle.wait()

        async def fail(self) -> None:
            await trio.sleep(1)  # virtual
            raise ValueError("mine")

        async def give(self) -> object:
            return self

    async with actorq.open_system(processes=0, concurrency=1, result_ttl=0) as system:
        service = Service()
        await service.start(system)
        gone = weakref.ref(service)
        del service
        await system.call(abs, -1)

        gc.collect()

        assert gone() is None


async def test_a_system_is_forgotten_though_a_task_that_failed_knew_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def opened() -> weakref.ref[object]:
        async with actorq.open_system(processes=0) as system:

            async def knows_it() -> None:
                await system.stats()
                raise ValueError

            await (await system.submit(knows_it)).wait()
            return weakref.ref(system)

    gone = await opened()
    gc.collect()

    assert gone() is None
