"""Coroutines in the loop: each step in its own context, and thrown away if they do not stop."""

from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar, copy_context

import pytest
import trio
from trio.testing import Sequencer, wait_all_tasks_blocked

import actorq
from actorq.actors.executors.loop import Killed, drive, exhaust
from actorq.actors.slots import Slot

mark: ContextVar[str] = ContextVar("mark", default="outside")


def swallow(error: type[BaseException] = trio.Cancelled) -> suppress:
    return suppress(error)


async def test_every_step_runs_in_the_context_that_was_given() -> None:
    seen = []

    async def task() -> str:
        seen.append(mark.get())
        mark.set("inside")
        await trio.lowlevel.checkpoint()
        seen.append(mark.get())
        return "done"

    context = copy_context()
    coroutine = task()
    trap = context.run(coroutine.send, None)

    assert await drive(coroutine, context, trap, Slot(1.0).condemned) == "done"
    assert (seen, mark.get()) == (["outside", "inside"], "outside")


async def test_steps_of_two_tasks_interleave_without_seeing_each_other(
    autojump_clock: trio.abc.Clock,
) -> None:
    steps, seen = Sequencer(), []

    async def first() -> None:
        async with steps(0):
            mark.set("first")
        async with steps(2):
            seen.append(mark.get())

    async def second() -> None:
        async with steps(1):
            mark.set("second")
        async with steps(3):
            seen.append(mark.get())

    async with actorq.open_system(processes=0, concurrency=2) as system:
        await system.submit(first)
        await system.submit(second)
        await system.join()

    assert seen == ["first", "second"]


async def test_a_task_may_open_nurseries_and_scopes(autojump_clock: trio.abc.Clock) -> None:
    async def busy() -> str:
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        return "done"

    async with actorq.open_system(processes=0) as system:
        assert await system.call(busy) == "done"


async def test_a_task_that_swallows_its_cancellation_once_is_cancelled_at_its_next_checkpoint(
    autojump_clock: trio.abc.Clock,
) -> None:
    steps = []

    async def once() -> None:
        with swallow():
            await trio.sleep_forever()
        steps.append("swallowed")
        await trio.lowlevel.checkpoint()
        steps.append("went on")

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(once)
        await wait_all_tasks_blocked()

        assert (await handle.cancel()).status == "cancelled"

    assert steps == ["swallowed"]


async def test_a_task_that_swallows_its_cancellation_and_returns_keeps_its_value(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def calm() -> str:
        with swallow():
            await trio.sleep_forever()
        return "my own end"

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(calm)
        await wait_all_tasks_blocked()

        assert (await handle.cancel()).value == "my own end"


async def test_a_task_that_swallows_its_cancellation_for_ever_is_thrown_away() -> None:
    left = []

    async def stubborn() -> None:
        try:
            while True:
                with swallow():
                    await trio.sleep_forever()
        finally:
            left.append(True)

    async with actorq.open_system(processes=0, concurrency=1, instruments=()) as system:
        handle = await system.submit(stubborn)
        await wait_all_tasks_blocked()

        assert (await handle.cancel(grace=0.02)).status == "cancelled"
        assert await system.call(len, "the slot is free") == 16

    assert left == [True]


async def test_a_task_with_a_nursery_open_keeps_its_slot_until_it_ends(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def unkillable() -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 60)  # virtual

    async with actorq.open_system(processes=0, concurrency=1, instruments=()) as system:
        handle = await system.submit(unkillable)
        await wait_all_tasks_blocked()

        assert (await handle.cancel(grace=1)).status == "cancelled"
        assert (await system.stats()).pools["main"].free == 0
        await trio.sleep(60)  # virtual
        assert (await system.stats()).pools["main"].free == 1


async def test_a_timeout_that_a_task_swallows_is_no_timeout_if_it_returns(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def partial() -> str:
        with swallow():
            await trio.sleep_forever()
        return "what I have"

    async with actorq.open_system(processes=0) as system:
        assert await system.call(actorq.task(timeout=5)(partial)) == "what I have"


async def test_a_task_that_raises_its_own_cancelled_is_a_failure_and_hurts_nobody(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def confused() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept = cancelled
        raise kept

    async with actorq.open_system(processes=0, concurrency=1) as system:
        result = await (await system.submit(confused)).wait()

        assert result.status.terminal
        assert not result.ok
        assert await system.call(len, "next") == 4


async def test_a_killed_coroutine_may_refuse_even_its_close() -> None:
    async def rude() -> None:
        with suppress(GeneratorExit):
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    slot, context = Slot(0.0), copy_context()
    coroutine = rude()
    slot.interrupt("cancelled", 0.0, "enough")
    caught = []

    async def run() -> None:
        try:
            await drive(coroutine, context, context.run(coroutine.send, None), slot.condemned)
        except Killed:
            caught.append("killed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.cancel_scope.cancel()

    assert caught == ["killed"]


async def test_exhaust_closes_its_generator_even_when_it_is_cancelled(
    autojump_clock: trio.abc.Clock,
) -> None:
    closed = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            closed.append(True)

    with trio.move_on_after(1):
        await exhaust(items())
        pytest.fail("it never ends")

    assert closed == [True]
