"""Opening and closing a system: everything is answered, and nothing is left."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import ModuleType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.model.events import Event


@actorq.task
async def echo(value: object) -> object:
    return value


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


async def nap(seconds: float) -> str:
    await trio.sleep(seconds)  # virtual
    return "rested"


class Noted:
    """An instrument that keeps what it was told, and fails."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @property
    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    def event(self, event: Event) -> None:
        self.events.append(event)
        raise ValueError("an instrument's own failure is nobody else's")


def module_with(*tasks: object) -> ModuleType:
    module = ModuleType("some_tasks")
    vars(module).update({f"task_{number}": task for number, task in enumerate(tasks)})
    return module


# --- opening --------------------------------------------------------------------------------


async def test_tasks_and_modules_may_be_submitted_by_name(autojump_clock: trio.abc.Clock) -> None:
    named = actorq.task(name="rest")(nap)

    async with actorq.open_system(processes=0, tasks=[echo, module_with(named)]) as system:
        assert await system.call(echo.name, 1) == 1
        assert await system.call("rest", 1) == "rested"


async def test_an_unknown_name_is_refused_with_the_known_ones(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, tasks=[echo]) as system:
        with pytest.raises(actorq.UnknownTask, match="'nobody'") as caught:
            await system.submit("nobody")

        assert str(caught.value).endswith(f"lists: {echo.name}")


async def test_two_functions_under_one_name_do_not_open(autojump_clock: trio.abc.Clock) -> None:
    other = actorq.task(name=echo.name)(nap)

    with pytest.raises(actorq.DuplicateTask, match=r"two tasks are named .*echo"):
        async with actorq.open_system(tasks=[echo, other]):
            pytest.fail("it must not open")


async def test_one_function_may_be_listed_twice(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(
        processes=0, tasks=[echo, echo.options(priority="high"), module_with(echo)]
    ) as system:
        assert await system.call(echo.name, 1) == 1


async def test_what_is_no_task_cannot_be_listed() -> None:
    with pytest.raises(TypeError, match="tasks= takes tasks and modules"):
        async with actorq.open_system(tasks=[nap]):  # type: ignore[list-item]
            pytest.fail("it must not open")


async def test_a_function_that_is_not_decorated_is_no_task_of_its_module(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, tasks=[module_with(nap)]) as system:
        with pytest.raises(actorq.UnknownTask, match="lists: none"):
            await system.submit("some_tasks:nap")


async def test_systems_in_one_program_are_strangers(autojump_clock: trio.abc.Clock) -> None:
    async with (
        actorq.open_system(processes=0) as first,
        actorq.open_system(processes=0) as second,
    ):
        handle = await first.submit(echo, 1)

        with pytest.raises(actorq.TaskNotFound):
            await second.result(handle.id)


# --- lifespan -------------------------------------------------------------------------------


async def test_a_lifespan_is_entered_before_the_first_task_and_left_after_the_last(
    autojump_clock: trio.abc.Clock,
) -> None:
    steps = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        steps.append("entered")
        yield "a pool"
        await trio.sleep(1)  # virtual
        steps.append("left")

    async def use() -> None:
        await trio.sleep(1)  # virtual
        steps.append(actorq.current().resources)

    async with actorq.open_system(processes=0, lifespan=lifespan) as system:
        await system.submit(use)

    assert steps == ["entered", "a pool", "left"]


async def test_a_lifespan_that_fails_to_start_keeps_the_system_from_opening(
    autojump_clock: trio.abc.Clock,
) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(ConnectionError, match="no database"):
        async with actorq.open_system(processes=0, lifespan=lifespan):
            pytest.fail("it must not open")


# --- leaving --------------------------------------------------------------------------------


async def test_leaving_lets_running_tasks_end(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, drain=10) as system:
        handle = await system.submit(nap, 9)
        await wait_all_tasks_blocked()

    assert await handle.value() == "rested"
    assert trio.current_time() == pytest.approx(9)


async def test_leaving_cancels_what_still_runs_after_the_drain(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, drain=10) as system:
        handle = await system.submit(nap, 11)
        await wait_all_tasks_blocked()

    result = await handle.wait()
    assert (result.status, result.attempts) == ("cancelled", 1)
    assert result.reason == "cancelled by shutdown: its system was closed"
    assert trio.current_time() == pytest.approx(10)


async def test_leaving_starts_nothing_that_was_waiting(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        running = await system.submit(nap, 5)
        waiting = await system.submit(nap, 5)
        later = await system.submit(echo.options(delay=1), 1)
        await wait_all_tasks_blocked()

    assert await running.value() == "rested"
    for handle in (waiting, later):
        result = await handle.wait()
        assert (result.status, result.attempts) == ("cancelled", 0)


async def test_leaving_by_an_error_does_not_drain_and_raises_that_error(
    autojump_clock: trio.abc.Clock,
) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - the block raises
        async with actorq.open_system(processes=0) as system:
            handle = await system.submit(nap, 5)
            await wait_all_tasks_blocked()
            raise KeyError("mine")

    assert (await handle.wait()).status == "cancelled"
    assert trio.current_time() == pytest.approx(0)


async def test_outer_cancellation_does_not_drain_and_runs_every_finally(
    autojump_clock: trio.abc.Clock,
) -> None:
    cleaned_up = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)  # virtual
            cleaned_up.append(True)

    with trio.move_on_after(1) as scope:
        async with actorq.open_system(processes=0) as system:
            handle = await system.submit(careful)
            await handle.wait()

    assert scope.cancelled_caught
    assert cleaned_up == [True]
    assert trio.current_time() == pytest.approx(3)


async def test_cancelled_while_it_drains_it_stops_draining(autojump_clock: trio.abc.Clock) -> None:
    with trio.move_on_after(1) as scope:
        async with actorq.open_system(processes=0, drain=100) as system:
            handle = await system.submit(nap, 50)
            await wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert (await handle.wait()).status == "cancelled"
    assert trio.current_time() == pytest.approx(1)


async def test_a_task_that_swallows_its_cancellation_for_ever_does_not_hold_the_shutdown() -> None:
    async def stubborn() -> None:
        while True:
            with suppress(trio.Cancelled):
                await trio.sleep_forever()

    async with actorq.open_system(processes=0, drain=0, grace=0.05, instruments=()) as system:
        handle = await system.submit(stubborn)
        await wait_all_tasks_blocked()

    assert (await handle.wait()).status == "cancelled"


async def test_a_task_that_cannot_be_thrown_away_is_reported_with_its_stack(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted = Noted()

    async def unkillable() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)  # virtual

    async with actorq.open_system(processes=0, drain=0, grace=3, instruments=[noted]) as system:
        handle = await system.submit(unkillable)
        await wait_all_tasks_blocked()

    assert (await handle.wait()).status == "cancelled"
    assert noted.kinds[:2] == ["cancel_unconfirmed", "unkillable"]
    assert "in unkillable" in noted.events[1].details["stack"]


async def test_everybody_who_waits_is_answered_when_the_system_closes(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    answers: list[str] = []

    async def wait(handle: actorq.TaskHandle[None]) -> None:
        answers.append((await handle.wait()).status)

    async def join(system: actorq.System) -> None:
        await system.join()
        answers.append("joined")

    async def submit(system: actorq.System) -> None:
        with pytest.raises(actorq.ActorDied, match="closing"):
            await system.submit(forever)
        answers.append("refused")

    async with actorq.open_system(processes=0, concurrency=1, max_pending=1, drain=0) as system:
        for _ in range(2):
            nursery.start_soon(wait, await system.submit(forever))
        nursery.start_soon(join, system)
        nursery.start_soon(submit, system)
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()

    assert sorted(answers) == ["cancelled", "cancelled", "joined", "refused"]


async def test_a_closing_system_takes_no_new_task(autojump_clock: trio.abc.Clock) -> None:
    refused = []

    async def submit_late(system: actorq.System) -> None:
        await trio.sleep(1)  # virtual
        try:
            await system.submit(echo, 1)
        except actorq.ActorDied as error:
            refused.append(str(error))

    async with actorq.open_system(processes=0) as system:
        await system.submit(submit_late, system)
        await wait_all_tasks_blocked()

    assert refused == ["this system is closing and takes no new tasks"]


# --- the whole ------------------------------------------------------------------------------


async def test_instruments_are_told_and_may_fail(autojump_clock: trio.abc.Clock) -> None:
    noted = Noted()

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)  # virtual

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        handle = await system.submit(stubborn)
        await wait_all_tasks_blocked()
        assert (await handle.cancel(grace=1)).status == "cancelled"
        await trio.sleep(200)  # virtual

    assert noted.kinds == ["cancel_unconfirmed", "task_killed"]


async def test_an_idle_system_does_not_wake(autojump_clock: trio.abc.Clock) -> None:
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += 1

    steps = Steps()
    async with actorq.open_system(processes=0):
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(3_600)  # virtual
        trio.lowlevel.remove_instrument(steps)

    assert steps.count <= 2
