"""Many results: `as_completed`, `map` and `map_results`."""

import gc
import itertools

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


@actorq.task
async def after(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


async def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number


class Running:
    """A task that remembers which items it has begun and which were cancelled."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        try:
            await trio.sleep(item)  # virtual
        except trio.Cancelled:
            self.cancelled.append(item)
            raise
        return item


async def test_results_come_as_their_tasks_end(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        handles = [await system.submit(after, seconds) for seconds in (3, 1, 2)]

        values = [result.value async for result in system.as_completed(handles)]

        assert values == [1, 2, 3]


async def test_as_completed_takes_handles_that_have_ended_or_come_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(after, 1)
        await handle.wait()

        values = [result.value async for result in system.as_completed([handle, handle])]

        assert values == [1, 1]


async def test_leaving_as_completed_early_touches_no_task(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        handles = [await system.submit(after, seconds) for seconds in (1, 2)]

        async for _ in system.as_completed(handles):
            break

        assert await handles[1].value() == 2


async def test_as_completed_says_which_id_is_unknown(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskNotFound, match="'nobody'"):
            await anext(system.as_completed([system.handle("nobody")]))


async def test_map_yields_values_in_the_order_of_the_items(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        async with system.map(after, [3, 1, 2]) as values:
            assert [value async for value in values] == [3, 1, 2]

        assert trio.current_time() == pytest.approx(3)


async def test_an_unordered_map_yields_values_as_their_tasks_end(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map(after, [3, 1, 2], ordered=False) as values,
    ):
        assert [value async for value in values] == [1, 2, 3]


async def test_map_over_nothing_yields_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map(after, []) as values,
    ):
        assert [value async for value in values] == []


async def test_map_reads_ahead_no_further_than_its_limit(autojump_clock: trio.abc.Clock) -> None:
    taken, running = itertools.count(1), Running()
    async with (
        actorq.open_system(processes=0) as system,
        system.map(running, taken, limit=3) as values,
    ):
        assert [await anext(values), await anext(values)] == [1, 2]
        await trio.sleep(100)  # virtual

        assert sorted(running.begun) == [1, 2, 3, 4]


async def test_map_goes_on_beyond_the_bound_of_a_queue(autojump_clock: trio.abc.Clock) -> None:
    async with (
        actorq.open_system(processes=0, concurrency=2, max_pending=5) as system,
        system.map(after, [0] * 50, limit=20) as values,
    ):
        assert [value async for value in values] == [0] * 50


async def test_map_raises_the_first_failure_at_its_turn(autojump_clock: trio.abc.Clock) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map(fail_at_two, range(5)) as values,
    ):
        assert [await anext(values), await anext(values)] == [0, 1]

        with pytest.raises(actorq.TaskFailed, match="two"):
            await anext(values)


async def test_leaving_a_map_cancels_the_rest_and_waits_for_that(
    autojump_clock: trio.abc.Clock,
) -> None:
    running = Running()
    async with actorq.open_system(processes=0) as system:
        async with system.map(running, [1, 5, 6], limit=3) as values:
            assert await anext(values) == 1

        assert sorted(running.cancelled) == [5, 6]
        assert not any(system.tables().values())


async def test_a_cancelled_map_cancels_its_tasks(autojump_clock: trio.abc.Clock) -> None:
    running = Running()
    async with actorq.open_system(processes=0) as system:
        with trio.move_on_after(1) as scope:
            async with system.map(running, [5, 6]) as values:
                await anext(values)

        assert scope.cancelled_caught
        assert sorted(running.cancelled) == [5, 6]
        assert not any(system.tables().values())


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_cancelled_step_of_a_map_loses_no_value(
    autojump_clock: trio.abc.Clock, ordered: bool
) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map(after, [2, 3, 4], limit=2, ordered=ordered) as values,
    ):
        for _ in range(3):
            with trio.move_on_after(0.5):
                await anext(values)

        assert [value async for value in values] == [2, 3, 4]


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_step_of_a_map_that_is_cancelled_from_the_start_loses_no_value(
    autojump_clock: trio.abc.Clock, ordered: bool
) -> None:
    seen = []
    async with (
        actorq.open_system(processes=0) as system,
        system.map(after, [1, 2, 3], limit=2, ordered=ordered) as values,
    ):
        while trio.current_time() < 10:
            with trio.CancelScope() as scope:
                scope.cancel()
                seen.append(await anext(values, "the end"))
            await trio.sleep(1)  # virtual

        seen += [value async for value in values]

    assert seen == [1, 2, 3]


async def test_map_results_yields_failures_too(autojump_clock: trio.abc.Clock) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map_results(fail_at_two, range(4)) as results,
    ):
        assert [result.ok async for result in results] == [True, True, False, True]


async def test_map_results_yields_tasks_that_somebody_cancelled(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    async with (
        actorq.open_system(processes=0) as system,
        system.map_results(after, [5, 6]) as results,
    ):
        nursery.start_soon(anext, results)
        await wait_all_tasks_blocked()

        assert await system.cancel_many(task=after) == 2

        assert [result.status async for result in results] == ["cancelled"]


async def test_a_map_is_for_one_use(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        mapped = system.map(after, [1])
        with pytest.raises(RuntimeError, match="enter it first"):
            aiter(mapped)
        async with mapped:
            pass
        with pytest.raises(RuntimeError, match="for one use"):
            async with mapped:
                pass


async def test_a_limit_of_none_at_all_is_refused(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ValueError, match="limit must be 1"):
            system.map(after, [1], limit=0)


async def test_wrong_items_are_refused_when_their_turn_comes(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def two_arguments(first: int, second: int) -> None: ...

    async with (
        actorq.open_system(processes=0) as system,
        system.map(two_arguments, [1]) as values,
    ):
        with pytest.raises(actorq.InvalidArguments, match="'second'"):
            await anext(values)


@pytest.mark.parametrize("how", ["map", "as_completed"])
async def test_the_collector_of_garbage_takes_nothing_that_is_awaited(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, how: str
) -> None:
    async def collect() -> None:
        await trio.sleep(1)  # virtual
        gc.collect()

    async with actorq.open_system(processes=0) as system:
        nursery.start_soon(collect)
        if how == "map":
            async with system.map(after, [2, 3], ordered=False) as values:
                assert len([value async for value in values]) == 2
        else:
            handles = await system.submit_many(after.message(n) for n in [2, 3])
            results = system.as_completed(handles)
            del handles
            assert len([result async for result in results]) == 2


async def test_a_handle_may_be_listed_twice(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(after, 1)

        assert len([r async for r in system.as_completed([handle, handle])]) == 2


async def test_a_map_goes_on_beside_tasks_that_are_due_later(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, max_pending=3, drain=0) as system:
        for _ in range(2):
            await system.submit(actorq.task(trio.sleep).options(delay=1000), 0)

        with trio.fail_after(100):
            async with system.map(after, [1, 2, 3, 4], limit=4) as values:
                assert len([value async for value in values]) == 4
