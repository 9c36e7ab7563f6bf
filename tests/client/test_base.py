"""What every verb rests on: accepting tasks, scopes, and questions by id."""

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


@actorq.task
async def echo(value: object) -> object:
    return value


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


@pytest.fixture
async def system(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    async with actorq.open_system(processes=0) as system:
        yield system


@pytest.fixture
async def idle(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    """A system without a worker, so that whatever is accepted stays pending."""
    async with actorq.open_system(concurrency=0, max_pending=3) as system:
        yield system


def nothing_is_left(system: actorq.System) -> bool:
    return not any(system.tables().values())


# --- accepting ------------------------------------------------------------------------------


async def test_a_submit_cancelled_before_it_began_submits_nothing(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await idle.submit(echo, 1)

    assert scope.cancelled_caught
    assert nothing_is_left(idle)


async def test_a_submit_cancelled_while_it_waits_for_room_is_never_accepted(
    autojump_clock: trio.abc.Clock,
    idle: actorq.System,
) -> None:
    await idle.submit_many(echo.message(number) for number in range(3))
    message = echo.message(4)

    with trio.move_on_after(1) as scope:
        await idle.submit(message)

    assert scope.cancelled_caught
    assert (await idle.stats()).queues["default"].parked == 0
    with pytest.raises(actorq.TaskNotFound):
        await idle.result(message.id)


async def test_a_submit_cancelled_once_its_task_is_accepted_returns_the_handle(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    with trio.CancelScope() as scope:

        async def cancel_the_submitter() -> str:
            scope.cancel()
            return "done"

        handle = await system.submit(cancel_the_submitter)

    assert not scope.cancelled_caught
    assert await handle.value() == "done"


async def test_a_cancelled_question_leaves_no_entry_behind(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    async def slow_to_leave() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # virtual

    handle = await system.submit(slow_to_leave)
    await wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await handle.cancel()

    await handle.wait()

    assert nothing_is_left(system)


# --- scopes ---------------------------------------------------------------------------------


async def test_ending_a_scope_cancels_its_tasks_and_no_other(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    mine, other = system.session.new_scope(), system.session.new_scope()
    (doomed,) = await system.submit_chunk([forever.message()], mine)
    (spared,) = await system.submit_chunk([forever.message()], other)

    await system.end_scope(mine)

    assert (await doomed.wait()).status == "cancelled"
    assert await spared.status() == "running"


async def test_ending_a_scope_is_not_cut_short_by_a_cancellation(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    scope = system.session.new_scope()
    (handle,) = await system.submit_chunk([forever.message()], scope)
    await wait_all_tasks_blocked()

    with trio.CancelScope() as outer:
        outer.cancel()
        await system.end_scope(scope)

    assert (await handle.wait()).status == "cancelled"
    assert nothing_is_left(system)


# --- by id ----------------------------------------------------------------------------------


async def test_a_handle_by_id_gets_the_result(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    submitted = await system.submit(echo, 1)
    await submitted.wait()

    handle = system.handle(submitted.id, echo)

    assert handle.name == echo.name
    assert await handle.value() == 1


async def test_a_result_is_a_snapshot_and_never_waits(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(forever)
    await wait_all_tasks_blocked()

    result = await system.result(handle.id)

    assert (result.status, result.attempts, result.completed_at) == ("running", 1, None)
    assert result.started_at is not None
    with pytest.raises(ValueError, match="is running, so it has no value"):
        result.unwrap()


@pytest.mark.parametrize("verb", ["result", "cancel", "status", "wait", "value", "progress"])
async def test_an_unknown_id_is_task_not_found_everywhere(
    autojump_clock: trio.abc.Clock, system: actorq.System, verb: str
) -> None:
    handle = system.handle("nobody")
    calls = {
        "result": lambda: system.result("nobody"),
        "cancel": handle.cancel,
        "status": handle.status,
        "wait": handle.wait,
        "value": handle.value,
        "progress": handle.progress,
    }

    with pytest.raises(actorq.TaskNotFound, match="'nobody'"):
        await calls[verb]()


async def test_what_is_no_id_is_a_type_error(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    with pytest.raises(TypeError, match="id must be a task's id"):
        await system.result(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reason must be a string"):
        await system.cancel("nobody", 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace must be at least 0"):
        await system.cancel("nobody", grace=-1)


async def test_a_cancelled_pending_task_never_runs(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    handle = await idle.submit(echo, 1)

    result = await handle.cancel("not needed")

    assert (result.status, result.attempts) == ("cancelled", 0)
    with pytest.raises(actorq.TaskCancelled, match="by user: not needed") as caught:
        await handle.value()
    assert (caught.value.by, caught.value.reason) == ("user", "not needed")


async def test_a_cancelled_running_task_runs_its_finally_before_cancel_returns(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    steps = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            steps.append("finally")

    handle = await system.submit(careful)
    await wait_all_tasks_blocked()

    result = await handle.cancel()

    assert steps == ["finally"]
    assert (result.status, result.attempts) == ("cancelled", 1)


async def test_a_finished_task_keeps_its_result_when_it_is_cancelled(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    handle = await system.submit(echo, 1)
    await handle.wait()

    assert (await handle.cancel()).unwrap() == 1


async def test_a_task_that_ends_by_itself_while_it_is_cancelled_keeps_its_value(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)  # virtual
        return "done"

    handle = await system.submit(stubborn)
    await wait_all_tasks_blocked()

    assert (await handle.cancel()).value == "done"


async def test_a_failing_task_that_was_cancelled_is_cancelled_and_not_retried(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    async def rude() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ValueError("no") from None

    handle = await system.submit(actorq.task(retry=actorq.Retry(attempts=5))(rude))
    await wait_all_tasks_blocked()

    result = await handle.cancel()

    assert (result.status, result.attempts) == ("cancelled", 1)


async def test_a_cancel_that_is_cancelled_is_not_taken_back(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    async def slow_to_leave() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # virtual

    handle = await system.submit(slow_to_leave)
    await wait_all_tasks_blocked()

    with trio.move_on_after(1) as scope:
        await handle.cancel()

    assert scope.cancelled_caught
    assert (await handle.wait()).status == "cancelled"
    assert nothing_is_left(system)


async def test_a_task_that_ignores_its_cancel_is_cancelled_unconfirmed_after_its_grace(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)  # virtual
        return "too late"

    async with actorq.open_system(processes=0, instruments=()) as system:
        handle = await system.submit(stubborn)
        await wait_all_tasks_blocked()

        result = await handle.cancel(grace=2)

        assert trio.current_time() == pytest.approx(2)
        assert result.status == "cancelled"
        await trio.sleep(30)  # virtual
        assert (await system.result(handle.id)).status == "cancelled"
