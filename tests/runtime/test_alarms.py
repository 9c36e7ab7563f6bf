from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.runtime.alarms import Alarms


class Ringing:
    """Alarms that run, and a log of what rang and when."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.log: list[tuple[str, float]] = []
        self._start = trio.current_time()

    @property
    def now(self) -> float:
        return trio.current_time() - self._start

    def set(self, key: str, seconds: float, call: Callable[[], None] | None = None) -> None:
        def ring() -> None:
            self.log.append((key, self.now))
            if call is not None:
                call()

        self.alarms.set(key, trio.current_time() + seconds, ring)


@pytest.fixture
async def ringing(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Ringing]:
    ringing = Ringing()
    nursery.start_soon(ringing.alarms.run)
    yield ringing
    assert len(ringing.alarms) == 0


async def test_calls_are_made_when_they_are_due_the_earliest_first(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    for key, seconds in {"c": 3, "a": 1, "b": 2}.items():
        ringing.set(key, seconds)
    await trio.sleep(10)  # virtual

    assert ringing.log == [("a", 1), ("b", 2), ("c", 3)]


async def test_an_earlier_alarm_that_is_set_later_comes_first(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("late", 100)
    await wait_all_tasks_blocked()  # it sleeps until then
    ringing.set("early", 1)
    await trio.sleep(200)  # virtual

    assert ringing.log == [("early", 1), ("late", 100)]


async def test_an_alarm_that_is_due_already_is_called_by_the_coroutine_and_not_at_once(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("a", -1)
    assert ringing.log == []
    await wait_all_tasks_blocked()

    assert ringing.log == [("a", 0)]


async def test_an_alarm_that_is_set_again_is_moved(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("a", 1)
    ringing.set("b", 5)
    ringing.set("a", 7)
    ringing.set("b", 2)
    await trio.sleep(10)  # virtual

    assert ringing.log == [("b", 2), ("a", 7)]


async def test_an_alarm_that_is_set_again_makes_the_new_call(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    calls: list[str] = []
    ringing.set("a", 1, lambda: calls.append("old"))
    ringing.set("a", 2, lambda: calls.append("new"))
    await trio.sleep(10)  # virtual

    assert calls == ["new"]


async def test_an_alarm_that_is_cleared_is_forgotten(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("a", 1)
    ringing.set("b", 2)
    ringing.alarms.clear("a")
    ringing.alarms.clear("unknown")
    assert len(ringing.alarms) == 1
    await trio.sleep(10)  # virtual

    assert ringing.log == [("b", 2)]


async def test_a_call_may_set_its_own_alarm_again(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    def again() -> None:
        if len(ringing.log) < 3:
            ringing.set("a", 2, again)

    ringing.set("a", 2, again)
    await trio.sleep(10)  # virtual

    assert ringing.log == [("a", 2), ("a", 4), ("a", 6)]


async def test_a_call_may_clear_another_alarm_that_is_due_at_the_same_moment(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("a", 1, lambda: ringing.alarms.clear("b"))
    ringing.set("b", 1)
    ringing.set("c", 1)
    await trio.sleep(10)  # virtual

    assert ringing.log == [("a", 1), ("c", 1)]


async def test_a_call_may_put_off_another_alarm_that_is_due_at_the_same_moment(
    ringing: Ringing, autojump_clock: MockClock
) -> None:
    ringing.set("a", 1, lambda: ringing.set("b", 5))
    ringing.set("b", 1)
    await trio.sleep(10)  # virtual

    assert ringing.log == [("a", 1), ("b", 6)]


async def test_without_alarms_nothing_wakes_up(ringing: Ringing, autojump_clock: MockClock) -> None:
    ringing.set("a", 1)
    await trio.sleep(2)  # virtual
    steps: list[str] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(task.name)

    trio.lowlevel.add_instrument(instrument := Steps())
    await trio.sleep(1000)  # virtual
    trio.lowlevel.remove_instrument(instrument)

    assert steps
    assert not [name for name in steps if "Alarms" in name]


async def test_alarms_that_were_set_before_they_run_are_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ringing = Ringing()
    ringing.set("a", 1)
    await trio.sleep(5)  # virtual
    nursery.start_soon(ringing.alarms.run)
    await wait_all_tasks_blocked()

    assert ringing.log == [("a", 5)]
