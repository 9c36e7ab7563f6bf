"""A handle: waiting is woken, never polled, and touches no task."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


@actorq.task
async def echo(value: object) -> object:
    return value


async def wait_for(event: trio.Event) -> str:
    await event.wait()
    return "done"


class Steps(trio.abc.Instrument):
    """Counts how often any trio task was run."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_a_failed_task_is_a_result_too(autojump_clock: trio.abc.Clock) -> None:
    async def broken() -> None:
        raise ValueError("no")

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(broken)

        result = await handle.wait()

        assert not result.ok
        assert (result.error.type, result.error.message) == ("builtins.ValueError", "no")
        assert "in broken" in result.error.traceback


async def test_a_thousand_waiters_all_wake_and_so_does_a_late_one(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    gate, values = trio.Event(), []

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(wait_for, gate)

        async def wait() -> None:
            values.append(await handle.value())

        for _ in range(1_000):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()

        assert values == ["done"] * 1_000
        assert await handle.value() == "done"


async def test_a_thousand_waiters_cost_their_wake_ups_and_no_more(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    gate, steps = trio.Event(), Steps()
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(wait_for, gate)
        for _ in range(1_000):
            nursery.start_soon(handle.wait)
        await wait_all_tasks_blocked()

        trio.lowlevel.add_instrument(steps)
        await trio.sleep(3_600)  # virtual
        idle_steps = steps.count
        gate.set()
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)

        assert idle_steps < 10
        assert steps.count - idle_steps < 1_050


async def test_a_cancelled_wait_does_not_touch_the_task(autojump_clock: trio.abc.Clock) -> None:
    gate = trio.Event()
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(wait_for, gate)

        for verb in (handle.wait, handle.value):
            with trio.move_on_after(1) as scope:
                await verb()
            assert scope.cancelled_caught

        gate.set()
        assert await handle.value() == "done"


async def test_a_handle_by_id_of_a_live_task_waits_for_it(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        id = (await system.submit(echo.options(delay=60), 1)).id

        assert await system.handle(id, echo).value() == 1
        assert trio.current_time() == pytest.approx(60)


async def test_the_newest_progress_can_be_asked_for(autojump_clock: trio.abc.Clock) -> None:
    gate = trio.Event()

    async def worker() -> None:
        actorq.current().progress(1, 3)
        actorq.current().progress(2, 3, "two of three")
        await gate.wait()

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(worker)
        await wait_all_tasks_blocked()

        progress = await handle.progress()
        gate.set()
        await handle.wait()

        assert (progress.done, progress.total, progress.message) == (2, 3, "two of three")
        assert await handle.progress() is None


async def test_a_handle_names_its_task(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(echo, 1)

        assert repr(handle) == f"<TaskHandle {echo.name} {handle.id}>"


async def test_a_task_whose_handle_nobody_keeps_goes_on(autojump_clock: trio.abc.Clock) -> None:
    ran = trio.Event()

    async with actorq.open_system(processes=0) as system:
        await system.submit(actorq.task(delay=5)(_set), ran)
        await ran.wait()

        assert trio.current_time() == pytest.approx(5)


async def _set(event: trio.Event) -> None:
    event.set()
