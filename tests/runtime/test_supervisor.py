from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.errors import RestartIntensityExceeded
from actorq.machines.supervision import Backoff, RestartBudget
from actorq.model.events import EventKind
from actorq.runtime.supervisor import ChildSpec, Supervisor

pytestmark = pytest.mark.bound(10)
Body = Callable[["Family", str, int], Any]
STEADY = Backoff(first=1, most=1, jitter=0)


class Family:
    """Children that log what they do, and crash when they are told to."""

    def __init__(self, *names: str, body: Body | None = None, **options: Any) -> None:
        self.log: list[str] = []
        self.events: list[tuple[EventKind, dict[str, Any]]] = []
        self.starts: Counter[str] = Counter()
        self.started_at: list[float] = []
        self.trouble: dict[str, BaseException] = {}
        self._bells: dict[str, trio.Event] = {}
        self._body = body or Family.live
        specs = [ChildSpec(name, partial(self._make, name)) for name in names]
        self.supervisor = Supervisor(specs, tell=self._tell, **{"backoff": STEADY} | options)

    def _tell(self, kind: EventKind, **details: Any) -> None:
        self.events.append((kind, details))

    def _make(self, name: str, incarnation: int) -> Any:
        self.starts[name] += 1
        self.started_at.append(trio.current_time())
        return partial(self._body, self, name, incarnation)

    async def live(self, name: str, incarnation: int, task_status: Any) -> None:
        bell = self._bells[name] = trio.Event()
        await trio.lowlevel.checkpoint()
        self.log.append(f"{name} started")
        task_status.started()
        try:
            await bell.wait()
            if self.trouble[name] is not None:
                raise self.trouble.pop(name)
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            self.log.append(f"{name} stopped")

    async def crash(self, name: str, error: BaseException | None = None) -> None:
        self.trouble[name] = error or ValueError(f"{name} is broken")
        self._bells[name].set()
        await wait_all_tasks_blocked()

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.supervisor.run()


# --- start and stop ------------------------------------------------------------------------------


async def test_children_start_one_after_the_other_and_stop_in_reverse(
    autojump_clock: MockClock,
) -> None:
    family = Family("a", "b", "c")
    await family.run_for(1)

    assert family.log == [
        "a started", "b started", "c started", "c stopped", "b stopped", "a stopped",
    ]  # fmt: skip


async def test_it_says_that_it_is_ready_when_its_children_are(autojump_clock: MockClock) -> None:
    family = Family("a", "b")
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        assert family.log == ["a started", "b started"]
        nursery.cancel_scope.cancel()


async def test_a_first_start_that_fails_stops_those_before_it_and_is_raised(
    autojump_clock: MockClock,
) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        if name == "b":
            raise KeyError("no such port")
        await family.live(name, incarnation, task_status=task_status)

    family = Family("a", "b", "c", body=body)
    with pytest.raises(KeyError, match="no such port"):
        await family.supervisor.run()

    assert family.log == ["a started", "a stopped"]
    assert (family.starts["b"], family.starts["c"]) == (1, 0)


async def test_a_first_start_that_never_gets_ready_can_be_cancelled(
    autojump_clock: MockClock,
) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        if name == "b":
            await trio.sleep_forever()
        await family.live(name, incarnation, task_status=task_status)

    family = Family("a", "b", body=body)
    await family.run_for(1)

    assert family.log == ["a started", "a stopped"]


async def test_a_restart_that_never_gets_ready_can_be_cancelled(
    autojump_clock: MockClock,
) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        if incarnation == 2:
            await trio.sleep_forever()
        await family.live(name, incarnation, task_status=task_status)

    family = Family("a", body=body)
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        await family.crash("a")
        await trio.sleep(5)  # virtual
        nursery.cancel_scope.cancel()

    assert family.starts["a"] == 2


async def test_it_can_be_stopped_while_a_child_waits_for_its_restart(
    autojump_clock: MockClock,
) -> None:
    family = Family("a", "b")
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        await family.crash("b")
        nursery.cancel_scope.cancel()

    assert family.log == ["a started", "b started", "b stopped", "a stopped"]


async def test_a_child_has_the_time_that_it_needs_to_stop(autojump_clock: MockClock) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)  # virtual
            family.log.append(f"{name} {trio.current_time() - start:g}")

    start = trio.current_time()
    family = Family("a", "b", body=body)
    await family.run_for(1)

    assert family.log == ["b 6", "a 11"]


async def test_a_child_that_fails_while_it_stops_is_told_and_stops_nobody_else_from_stopping(
    autojump_clock: MockClock,
) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        try:
            await family.live(name, incarnation, task_status=task_status)
        finally:
            if name == "b":
                raise ValueError("cannot clean up")

    family = Family("a", "b", body=body)
    await family.run_for(1)

    details = {"actor": "b", "error": "ValueError('cannot clean up')"}
    assert family.events == [(EventKind.ACTOR_DIED, details)]
    assert family.log[-1] == "a stopped"


# --- restarts ------------------------------------------------------------------------------------


async def test_only_the_child_that_crashed_is_restarted(autojump_clock: MockClock) -> None:
    family = Family("a", "b")
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        await family.crash("a")
        await trio.sleep(2)  # virtual
        assert family.starts == {"a": 2, "b": 1}
        nursery.cancel_scope.cancel()

    assert family.log == [
        "a started", "b started", "a stopped", "a started", "b stopped", "a stopped",
    ]  # fmt: skip


async def test_a_restart_is_told(autojump_clock: MockClock) -> None:
    family = Family("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        await family.crash("a", KeyError("why"))
        await trio.sleep(2)  # virtual
        nursery.cancel_scope.cancel()

    details = {"actor": "a", "incarnation": 2, "error": "KeyError('why')"}
    assert family.events == [(EventKind.ACTOR_RESTARTED, details)]


async def test_a_child_that_ends_by_itself_is_restarted(autojump_clock: MockClock) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        task_status.started()
        if incarnation == 2:
            await trio.sleep_forever()

    family = Family("a", body=body)
    await family.run_for(10)

    assert family.starts["a"] == 2
    assert "ended, which it should not" in family.events[0][1]["error"]


async def test_an_exception_group_is_a_crash_like_any_other(autojump_clock: MockClock) -> None:
    family = Family("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        await family.crash("a", BaseExceptionGroup("both", [ValueError(), GeneratorExit()]))
        await trio.sleep(2)  # virtual
        nursery.cancel_scope.cancel()

    assert family.starts["a"] == 2


async def test_the_waits_before_restarts_grow_up_to_a_bound(autojump_clock: MockClock) -> None:
    family = Family("a", body=crash_at_once, backoff=Backoff(first=1, most=5, jitter=0),
                    budget=RestartBudget(intensity=100))  # fmt: skip
    await family.run_for(20)

    assert waits(family) == [1, 2, 4, 5, 5]


async def test_a_child_that_ran_for_long_waits_as_if_it_were_the_first_time(
    autojump_clock: MockClock,
) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        task_status.started()
        await trio.sleep(100 if incarnation == 4 else 0)  # virtual

    backoff = Backoff(first=1, most=30, jitter=0, reset=60)
    family = Family("a", body=body, backoff=backoff, budget=RestartBudget(intensity=100))
    await family.run_for(120)

    assert waits(family)[:5] == [1, 2, 4, 101, 2]


async def test_the_waits_are_spread(autojump_clock: MockClock) -> None:
    options = {"backoff": Backoff(first=1, most=1, jitter=0.1)}
    family = Family("a", body=crash_at_once, budget=RestartBudget(intensity=100), **options)
    await family.run_for(20)

    assert len(set(waits(family))) > 1
    assert all(0.9 <= wait <= 1.1 for wait in waits(family))


async def test_a_child_that_waits_for_its_restart_does_not_hold_up_another(
    autojump_clock: MockClock,
) -> None:
    family = Family("a", "b", backoff=Backoff(first=1, most=60, jitter=0),
                    budget=RestartBudget(intensity=100))  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(family.supervisor.run)
        for wait in (1, 2, 4, 8):
            await family.crash("a")
            await trio.sleep(wait + 1)  # virtual
        await family.crash("a")
        await family.crash("b")
        await trio.sleep(2)  # virtual
        assert family.starts == {"a": 5, "b": 2}
        nursery.cancel_scope.cancel()


# --- giving up -----------------------------------------------------------------------------------


async def test_more_crashes_than_the_intensity_within_the_period_bring_it_down(
    autojump_clock: MockClock,
) -> None:
    family = Family("a", body=crash_at_once, budget=RestartBudget(intensity=3, period=5))
    with pytest.raises(RestartIntensityExceeded, match="a crashed more than 3 times") as caught:
        await family.supervisor.run()

    assert family.starts["a"] == 4
    assert [str(failure) for failure in caught.value.failures] == ["1", "2", "3", "4"]
    assert family.events[-1] == (EventKind.ACTOR_DIED, {"actor": "a", "error": "ValueError(4)"})


async def test_the_period_slides(autojump_clock: MockClock) -> None:
    family = Family("a", body=crash_at_once, budget=RestartBudget(intensity=3, period=3))
    await family.run_for(100)

    assert family.starts["a"] == 100


async def test_the_intensity_counts_the_crashes_of_all_children(
    autojump_clock: MockClock,
) -> None:
    family = Family("a", "b", body=crash_at_once, budget=RestartBudget(intensity=3, period=5))
    with pytest.raises(RestartIntensityExceeded):
        await family.supervisor.run()

    assert family.starts == {"a": 2, "b": 2}


async def test_a_restart_that_fails_counts_as_a_crash(autojump_clock: MockClock) -> None:
    async def body(family: Family, name: str, incarnation: int, task_status: Any) -> None:
        if incarnation == 1:
            task_status.started()
        raise ValueError(incarnation)

    family = Family("a", body=body, budget=RestartBudget(intensity=3, period=5))
    with pytest.raises(RestartIntensityExceeded) as caught:
        await family.supervisor.run()

    assert len(caught.value.failures) == 4


async def test_giving_up_stops_the_children_that_are_well(autojump_clock: MockClock) -> None:
    family = Family("a", "b", budget=RestartBudget(intensity=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash_soon, family, "b")
        with pytest.raises(RestartIntensityExceeded):
            await family.supervisor.run()

    assert family.log == ["a started", "b started", "b stopped", "a stopped"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
async def test_interrupts_cross_and_stop_everything(
    autojump_clock: MockClock, kind: type[BaseException], grouped: bool
) -> None:
    error = BaseExceptionGroup("both", [kind(), ValueError()]) if grouped else kind()
    family = Family("a", "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash_soon, family, "b", error)
        with pytest.raises(BaseExceptionGroup) as caught:
            await family.supervisor.run()

    assert caught.group_contains(kind)
    assert family.log == ["a started", "b started", "b stopped", "a stopped"]
    assert family.events == []


async def crash_at_once(family: Family, name: str, incarnation: int, task_status: Any) -> None:
    task_status.started()
    await trio.lowlevel.checkpoint()
    raise ValueError(incarnation)


async def crash_soon(family: Family, name: str, error: BaseException | None = None) -> None:
    await wait_all_tasks_blocked()
    await family.crash(name, error)


def waits(family: Family) -> list[float]:
    """Return the seconds between starts."""
    times = family.started_at
    return [round(b - a, 6) for a, b in pairwise(times)]
