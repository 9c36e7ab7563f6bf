"""What becomes of worker processes; these are none, so time is virtual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actorq.cli import pipe
from actorq.cli.crew import Crew
from actorq.cli.exits import Exit, Failure
from actorq.cli.stopping import Stopping


class FakeChild:
    """Runs until it is told how to end; as a `Child`, it stops when it is cancelled."""

    pid = 7

    def __init__(self, node: str, again: bool) -> None:
        self.node = node
        self.again = again
        self.began = trio.current_time()
        self.code = 0
        self.failure: pipe.Failed | None = None
        self.changed: tuple[str, ...] = ()
        self.orders: list[pipe.Order] = []
        self._ended = trio.Event()
        self._heard: Any = None

    def say(self, order: pipe.Order) -> None:
        self.orders.append(order)

    async def run(self, heard: Any) -> None:
        self._heard = heard
        try:
            await self._ended.wait()
        except trio.Cancelled:
            self.code = 3
            raise

    def report(self, report: pipe.Report) -> None:
        if isinstance(report, pipe.Changed):
            self.changed = report.files
        elif isinstance(report, pipe.Failed):
            self.failure = report
        self._heard(self, report)

    def end(self, code: int) -> None:
        self.code = code
        self._ended.set()


class FakeTeller:
    """Keeps who died; the telling itself takes for ever, and nothing waits for it."""

    def __init__(self) -> None:
        self.dead: list[str] = []

    def died(self, node: str) -> None:
        self.dead.append(node)

    async def run(self) -> None:
        await trio.sleep_forever()

    async def finish(self, seconds: float) -> None:
        await trio.sleep(seconds)  # virtual


class Stage:
    def __init__(self, count: int) -> None:
        self.children: list[FakeChild] = []
        self.started = trio.Event()
        self.teller = FakeTeller()
        self.stopping = Stopping(30.0, at_once_seconds=1_000)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.code: Exit | None = None
        self.crew = Crew(
            self._start,
            count,
            self.stopping,
            self.teller,
            patience=50.0,
            random=lambda: 0.0,
            tell=lambda event, **details: self.events.append((event, details)),
        )

    async def _start(self, node: str, again: bool) -> Any:
        await trio.lowlevel.checkpoint()
        self.children.append(FakeChild(node, again))
        self.started.set()
        return self.children[-1]

    async def run(self) -> None:
        self.code = await self.crew.run()

    def finish(self) -> None:
        """Have all of them end in order."""
        self.stopping.ask()
        for child in self.children:
            child.end(0)

    @property
    def child(self) -> FakeChild:
        return self.children[-1]


@asynccontextmanager
async def crew_of(count: int) -> AsyncIterator[Stage]:
    stage = Stage(count)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await wait_all_tasks_blocked()
            yield stage
    finally:
        if stage.stopping.watchdog is not None:
            stage.stopping.watchdog.cancel()


# --- restarts -------------------------------------------------------------------------------


async def test_a_process_that_dies_is_reported_and_started_again_with_a_new_node(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with crew_of(2) as stage:
        first, _ = stage.children
        first.end(-9)
        await wait_all_tasks_blocked()
        assert stage.teller.dead == [first.node]
        assert len(stage.children) == 2

        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()

        assert len(stage.children) == 3
        assert len({child.node for child in stage.children}) == 3
        stage.finish()
        mock_clock.autojump_threshold = 0


async def test_the_wait_before_a_restart_doubles_and_begins_anew_after_a_while(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with crew_of(1) as stage:
        waits = []
        for seconds in (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60):
            await trio.sleep(seconds)  # virtual
            at = trio.current_time()
            stage.started = trio.Event()
            stage.child.end(1)
            await stage.started.wait()
            waits.append(stage.child.began - at)

        assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
        assert waits[9] == pytest.approx(30)
        assert waits[10] == pytest.approx(0.1)
        stage.finish()


async def test_a_process_that_ends_in_order_is_not_reported_as_dead(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with crew_of(1) as stage:
        stage.child.end(0)
        await trio.sleep(1)  # virtual

        assert len(stage.children) == 2
        assert stage.teller.dead == []
        stage.finish()


async def test_after_a_change_of_the_sources_it_starts_again_at_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with crew_of(1) as stage:
        for _ in range(20):
            stage.child.report(pipe.Changed(("tasks.py",)))
            stage.child.end(0)
            await wait_all_tasks_blocked()

        assert len(stage.children) == 21
        assert trio.current_time() == 0
        stage.finish()


# --- failures -------------------------------------------------------------------------------


async def test_a_first_start_that_fails_ends_the_crew_and_says_why_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    with pytest.RaisesGroup(Failure, flatten_subgroups=True) as caught:
        async with crew_of(3) as stage:
            stage.children[1].report(pipe.Failed("no module named shop", "details"))
            await trio.sleep_forever()

    (failure,) = flat(caught.value)
    assert (str(failure), failure.details) == ("no module named shop", "details")
    assert len(stage.children) == 3


async def test_a_failure_after_one_has_worked_is_told_and_tried_again(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with crew_of(1) as stage:
        assert not stage.child.again
        stage.child.report(pipe.Ready())
        stage.child.report(pipe.Failed("the token was refused"))
        stage.child.end(1)
        await trio.sleep(1)  # virtual

        assert len(stage.children) == 2
        assert stage.child.again
        assert caplog.text.count("the token was refused") == 1
        stage.finish()


def flat(group: BaseException) -> list[Any]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for member in group.exceptions for leaf in flat(member)]
    return [group]


# --- the end --------------------------------------------------------------------------------


async def test_all_are_asked_to_drain_and_none_is_started_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with crew_of(2) as stage:
        stage.stopping.ask()
        await wait_all_tasks_blocked()
        assert [child.orders for child in stage.children] == [[pipe.Drain()]] * 2

        for child in stage.children:
            child.end(0)

    assert (stage.code, len(stage.children), stage.teller.dead) == (Exit.OK, 2, [])


async def test_one_that_waits_to_be_started_again_is_not(autojump_clock: trio.abc.Clock) -> None:
    async with crew_of(1) as stage:
        stage.child.end(-9)
        await wait_all_tasks_blocked()
        stage.stopping.ask()

    assert (stage.code, len(stage.children)) == (Exit.OK, 1)


@pytest.mark.parametrize("code", [3, -9])
async def test_one_that_did_not_finish_is_told_by_the_exit_code(
    code: int, autojump_clock: trio.abc.Clock
) -> None:
    async with crew_of(2) as stage:
        stage.stopping.ask()
        stage.children[0].end(0)
        stage.children[1].end(code)

    assert stage.code is Exit.CUT_OFF
    assert stage.teller.dead == [stage.children[1].node]


async def test_those_that_do_not_end_in_time_are_stopped(autojump_clock: trio.abc.Clock) -> None:
    async with crew_of(2) as stage:
        stage.stopping.ask()
        stage.children[0].end(0)

    assert stage.code is Exit.CUT_OFF
    assert trio.current_time() == pytest.approx(50 + 2)


async def test_told_to_hurry_it_stops_them_at_once(autojump_clock: trio.abc.Clock) -> None:
    async with crew_of(2) as stage:
        stage.stopping.ask()
        stage.stopping.hurry()

    assert stage.code is Exit.CUT_OFF
    assert trio.current_time() == pytest.approx(2)
    assert set(stage.teller.dead) == {child.node for child in stage.children}


async def test_everything_that_happens_is_reported(autojump_clock: trio.abc.Clock) -> None:
    async with crew_of(1) as stage:
        stage.child.report(pipe.Ready())
        stage.child.report(pipe.Changed(("tasks.py",)))
        stage.stopping.ask()
        await wait_all_tasks_blocked()
        stage.finish()

    node = {"process": 1, "node": stage.child.node, "pid": 7}
    assert stage.events == [
        ("started", node),
        ("ready", node),
        ("changed", {**node, "files": ("tasks.py",)}),
        ("draining", {"seconds": 30.0}),
        ("ended", {**node, "code": 0}),
    ]
