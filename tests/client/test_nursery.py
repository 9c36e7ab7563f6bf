"""A task nursery: tasks do not outlive the block that owns them."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


@actorq.task
async def after(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


async def broken(seconds: float = 0) -> None:
    await trio.sleep(seconds)  # virtual
    raise ValueError("no")


async def test_leaving_waits_for_every_task(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        async with system.open_nursery() as nursery:
            first, second = await nursery.submit(after, 1), await nursery.submit(after, 2)

        assert trio.current_time() == pytest.approx(2)
        assert [await first.value(), await second.value()] == [1, 2]


async def test_an_empty_nursery_ends_at_once(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system, system.open_nursery():
        pass

    assert trio.current_time() == pytest.approx(0)


async def test_the_first_failure_cancels_the_block_and_the_other_tasks(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with system.open_nursery() as nursery:
                other = await nursery.submit(after, 60)
                await nursery.submit(broken, 1)
                await trio.sleep_forever()

        assert trio.current_time() == pytest.approx(1)
        assert [type(error) for error in caught.value.exceptions] == [actorq.TaskFailed]
        assert (await other.wait()).status == "cancelled"


async def test_a_failure_while_leaving_cancels_the_others(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - the block raises
            async with system.open_nursery() as nursery:
                other = await nursery.submit(after, 60)
                await nursery.submit(broken, 1)

        assert (await other.wait()).reason.startswith("cancelled by scope")


async def test_tasks_that_fail_together_are_all_in_the_group(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with system.open_nursery() as nursery:
                for _ in range(3):
                    await nursery.submit(broken, 1)

        assert len(caught.value.exceptions) == 3


async def test_what_had_not_started_when_the_block_is_cancelled_never_starts(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        async with system.open_nursery() as nursery:
            await nursery.submit(after, 60)
            later = [await nursery.submit(after, 1) for _ in range(5)]
            nursery.cancel_scope.cancel()

        results = [await handle.wait() for handle in later]
        assert {(result.status, result.attempts) for result in results} == {("cancelled", 0)}


async def test_an_error_of_the_block_cancels_its_tasks_and_is_in_the_group(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with system.open_nursery() as nursery:
                handle = await nursery.submit(after, 60)
                raise KeyError("mine")

        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert (await handle.wait()).status == "cancelled"
        assert trio.current_time() == pytest.approx(0)


async def test_outer_cancellation_cancels_the_tasks_and_is_no_group(
    autojump_clock: trio.abc.Clock,
) -> None:
    cleaned_up = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(True)

    async with actorq.open_system(processes=0) as system:
        with trio.move_on_after(1) as scope:
            async with system.open_nursery() as nursery:
                await nursery.submit(careful)

        assert scope.cancelled_caught
        assert cleaned_up == [True]
        assert not any(system.tables().values())


async def test_its_cancel_scope_cancels_the_block_and_its_tasks_without_an_error(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        async with system.open_nursery() as nursery:
            handle = await nursery.submit(after, 60)
            nursery.cancel_scope.cancel()

        assert (await handle.wait()).status == "cancelled"
        assert trio.current_time() == pytest.approx(0)


async def test_a_task_that_somebody_else_cancels_does_not_cancel_the_others(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        async with system.open_nursery() as nursery:
            doomed, other = await nursery.submit(after, 60), await nursery.submit(after, 2)
            await doomed.cancel()

        assert await other.value() == 2


async def test_it_takes_no_task_once_the_block_has_ended(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        async with system.open_nursery() as nursery:
            pass

        with pytest.raises(RuntimeError, match="not open"):
            await nursery.submit(after, 1)


async def test_tasks_of_the_block_may_submit_more_while_it_waits(
    autojump_clock: trio.abc.Clock,
) -> None:
    values = []
    async with actorq.open_system(processes=0) as system:
        async with system.open_nursery() as nursery:

            async def one_more() -> None:
                values.append(await (await nursery.submit(after, 5)).value())

            await nursery.submit(one_more)

        assert values == [5]


async def test_a_submit_that_waits_for_room_ends_with_the_block(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(concurrency=0, max_pending=1) as system:
        with trio.move_on_after(1) as scope:
            async with system.open_nursery() as nursery:
                await nursery.submit(after, 1)
                await nursery.submit(after, 2)

        assert scope.cancelled_caught
        assert not any(system.tables().values())


async def test_leaving_does_not_cancel_a_task_that_it_did_not_create(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        message = after.message(60)
        handle = await system.submit(message)

        async with system.open_nursery() as nursery:
            assert (await nursery.submit(message)).existing
            nursery.cancel_scope.cancel()

        assert await handle.status() == "running"


async def test_a_task_that_ignores_its_cancel_does_not_hold_the_block_for_ever(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)  # virtual

    async with actorq.open_system(processes=0, grace=2, instruments=()) as system:
        async with system.open_nursery() as nursery:
            await nursery.submit(stubborn)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

        assert trio.current_time() == pytest.approx(2)


async def test_nurseries_nest(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - the block raises
            async with system.open_nursery() as outer:
                outside = await outer.submit(after, 60)
                async with system.open_nursery() as inner:
                    await inner.submit(broken, 1)

        assert (await outside.wait()).status == "cancelled"
