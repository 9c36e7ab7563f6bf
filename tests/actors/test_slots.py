"""Slots: who is free, who runs what, and how an attempt is told to stop."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actorq.actors.executors.current import Current
from actorq.actors.slots import Slot, SlotPool
from actorq.model.messages import Grant
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.status import TaskStatus


def grant(id: str, fence: int = 1) -> Grant:
    running = TaskStatus.RUNNING
    head = Head(id, "name", TaskOptions(), "main", None, 0.0, 0.0, 0.0, 0.0, running, fence)
    return Grant(head, None, None)


def test_credit_counts_grants_and_what_is_free() -> None:
    pool = SlotPool("main", 3)

    pool.put(grant("a"))
    pool.put(grant("b"))

    assert (pool.credit, pool.free) == (3, 1)


def test_credit_begins_again_with_a_new_connection_and_waiting_grants_are_forgotten() -> None:
    pool = SlotPool("main", 3)
    pool.put(grant("a"))

    pool.reconnect()

    assert (pool.credit, pool.free) == (3, 3)
    assert pool.take_back("a", 1) is None


def test_a_grant_that_no_slot_has_taken_can_be_taken_back_by_id_and_fence() -> None:
    pool = SlotPool("main", 2)
    pool.put(grant("a", fence=2))

    assert pool.take_back("a", 1) is None
    assert pool.take_back("b", 2) is None
    assert pool.take_back("a", 2) is not None
    assert pool.take_back("a", 2) is None


async def test_a_parked_slot_is_woken_with_its_grant(nursery: trio.Nursery) -> None:
    pool, slot = SlotPool("main", 1), Slot(1.0)
    nursery.start_soon(pool.fill, slot)
    await wait_all_tasks_blocked()

    pool.put(grant("a"))
    await wait_all_tasks_blocked()

    assert slot.grant is not None
    assert slot.grant.head.id == "a"


async def test_waiting_grants_are_taken_first_come_first_served() -> None:
    pool, slot = SlotPool("main", 2), Slot(1.0)
    pool.put(grant("a"))
    pool.put(grant("b"))

    await pool.fill(slot)

    assert slot.grant is not None
    assert slot.grant.head.id == "a"


async def test_a_parked_slot_that_is_cancelled_takes_nothing_any_more(
    autojump_clock: trio.abc.Clock,
) -> None:
    pool, slot = SlotPool("main", 1), Slot(1.0)
    with trio.move_on_after(1):
        await pool.fill(slot)

    pool.put(grant("a"))

    assert slot.grant is None
    assert pool.take_back("a", 1) is not None


async def test_an_interrupt_sets_the_flag_cancels_the_scope_and_keeps_the_first_cause() -> None:
    slot = Slot(1.0)
    slot.current = Current("id", "name", 1, None, {})

    slot.interrupt("deadline", 5.0, "too late")
    slot.interrupt("cancelled", 5.0, "not needed")

    assert slot.current.cancelled
    assert slot.scope.cancel_called
    assert slot.stop == "deadline"


async def test_patience_only_shrinks(autojump_clock: trio.abc.Clock) -> None:
    slot = Slot(1.0)

    slot.interrupt("cancelled", 5.0, "first")
    slot.interrupt("cancelled", 2.0, "sooner")
    slot.interrupt("cancelled", 9.0, "later")

    assert slot.patience == pytest.approx(2.0)


async def condemned(slot: Slot, *, with_a_nursery: bool = False) -> bool:
    """Ask in a coroutine of its own: the test's has a nursery open, pytest-trio's."""

    async def ask(task_status: trio.TaskStatus[bool]) -> None:
        if with_a_nursery:
            async with trio.open_nursery():
                task_status.started(slot.condemned())
        else:
            task_status.started(slot.condemned())

    async with trio.open_nursery() as nursery:
        answer: bool = await nursery.start(ask)
    return answer


async def test_a_slot_is_condemned_once_its_grace_is_over(autojump_clock: trio.abc.Clock) -> None:
    slot = Slot(1.0)
    assert not await condemned(slot)
    slot.interrupt("cancelled", 5.0, "enough")
    assert not await condemned(slot)

    await trio.sleep(5)  # virtual

    assert await condemned(slot)


async def test_a_slot_with_a_nursery_open_is_never_condemned(
    autojump_clock: trio.abc.Clock,
) -> None:
    slot = Slot(1.0)
    slot.interrupt("cancelled", 5.0, "enough")

    await trio.sleep(6)  # virtual

    assert not await condemned(slot, with_a_nursery=True)
    assert await condemned(slot)


async def test_a_scope_that_its_deadline_cancelled_has_a_grace_from_then_on(
    autojump_clock: trio.abc.Clock,
) -> None:
    slot = Slot(3.0)
    with slot.scope:
        slot.scope.deadline = trio.current_time() + 1
        await trio.sleep_forever()
    assert not await condemned(slot)

    await trio.sleep(3)  # virtual

    assert await condemned(slot)
