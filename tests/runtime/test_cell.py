"""One actor without a supervisor: how it runs, how it is stopped, and what is told when it ends."""

from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.errors import ActorDied, ActorError, NoReply
from actorq.model.events import EventKind
from actorq.runtime.alarms import Alarms
from actorq.runtime.cell import Cell
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import Down, Post
from tests.runtime.troupe import collect, echo

BOOM = ValueError("boom")


class Boss:
    """Keeps what its cells tell; a cell that has ended stays so until it is started again."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.alarms = Alarms()
        self.log: list[Any] = []
        self.events: list[tuple[EventKind, dict[str, Any]]] = []
        self._ends: dict[Cell, trio.Event] = {}
        self._start = trio.current_time()
        nursery.start_soon(self.alarms.run)

    @property
    def now(self) -> float:
        return trio.current_time() - self._start

    def cell_ready(self, cell: Cell) -> None:
        self.log.append("ready")

    def cell_exited(self, cell: Cell, failure: BaseException | None, *, crossing: bool) -> None:
        self.log.append(("crossing" if crossing else "exited", failure))
        if cell.final:
            cell.finish()
        self._ends[cell].set()

    def stop_cell(self, cell: Cell, drain: bool) -> None:
        cell.drain = drain
        cell.order_stop(final=True)

    def tell(self, kind: EventKind, **details: Any) -> None:
        self.events.append((kind, details))

    def make(
        self, function: Any, *args: Any, shutdown: float = 5.0, kill_after: float = 5.0
    ) -> Cell:
        return Cell(
            "one",
            function,
            args,
            context=copy_context(),
            boss=self,
            post=Post(lambda *_: None),
            alarms=self.alarms,
            tell=self.tell,
            shutdown=shutdown,
            kill_after=kill_after,
            capacity=10,
        )

    async def run(self, function: Any, *args: Any, **options: float) -> Cell:
        cell = self.make(function, *args, **options)
        await self.start(cell)
        return cell

    async def start(self, cell: Cell) -> None:
        self.begin(cell)
        await cell.wait_until_ready()

    def begin(self, cell: Cell, nursery: trio.Nursery | None = None) -> None:
        self._ends[cell] = trio.Event()
        cell.start(nursery or self.nursery)

    async def until_down(self, cell: Cell) -> None:
        await self._ends[cell].wait()

    async def end(self, cell: Cell, *, final: bool = True) -> Down:
        """Order it to stop, and return how that went."""
        cell.order_stop(final=final)
        await self.until_down(cell)
        assert cell.down is not None
        return cell.down


@pytest.fixture
async def boss(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Boss]:
    boss = Boss(nursery)
    yield boss
    assert len(boss.alarms) == 0


async def deaf(inbox: Mailbox[Any], seconds: float = inf) -> None:
    """Never read, until it is cancelled."""
    inbox.started()
    await trio.sleep(seconds)  # virtual


async def stubborn(inbox: Mailbox[Any], seconds: float) -> None:
    """Never read, and do not mind being cancelled for some time."""
    inbox.started()
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)  # virtual
    await trio.lowlevel.checkpoint_if_cancelled()


async def brief(inbox: Mailbox[Any]) -> None:
    """Return at once."""


async def broken(inbox: Mailbox[Any]) -> None:
    raise BOOM


def failure_of(cell: Cell) -> BaseException | None:
    assert cell.down is not None
    return cell.down.error


# --- starting -------------------------------------------------------------------------------------


async def test_it_is_ready_when_it_reads(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(echo)

    assert boss.log == ["ready"]
    assert cell.is_ready
    await boss.end(cell)


async def test_it_is_not_ready_before_it_says_so(boss: Boss, autojump_clock: MockClock) -> None:
    async def slow(inbox: Mailbox[Any]) -> None:
        await trio.sleep(3)  # virtual
        inbox.started("here")
        inbox.started("again")
        await echo(inbox)

    cell = boss.make(slow)
    boss.begin(cell)
    assert not cell.is_ready
    await cell.wait_until_ready()

    assert (boss.now, cell.started_value, boss.log) == (3, "here", ["ready"])
    await boss.end(cell)


async def test_one_that_ends_before_it_is_ready_keeps_nobody_waiting(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(broken)

    assert boss.log == [("exited", BOOM)]
    assert cell.is_ready
    assert not cell.came_up


async def test_one_that_returns_at_once_was_up(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(brief)

    assert boss.log == [("exited", None)]
    assert cell.came_up


async def test_a_function_that_is_not_async_is_named(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(lambda inbox: 3)

    assert isinstance(failure_of(cell), TypeError)
    assert "an actor must be an async function, and 'one' is not" in str(failure_of(cell))


async def test_every_incarnation_is_counted_and_begins_afresh(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf, shutdown=0)
    await boss.end(cell, final=False)
    await boss.start(cell)

    assert cell.incarnation == 2
    assert (cell.down, cell.stopping) == (None, False)
    await trio.sleep(100)  # virtual
    assert cell.down is None  # the end of the first one did not reach it
    await boss.end(cell)


async def test_each_incarnation_has_the_context_of_the_first_start(
    boss: Boss, autojump_clock: MockClock
) -> None:
    color: ContextVar[str] = ContextVar("color")
    seen: list[str] = []

    async def paint(inbox: Mailbox[Any]) -> None:
        seen.append(color.get())
        color.set("red")

    color.set("blue")
    cell = await boss.run(paint)
    color.set("green")
    await boss.start(cell)

    assert seen == ["blue", "blue"]
    assert color.get() == "green"


async def test_nothing_but_its_supervisor_stops_it(boss: Boss, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        cell = boss.make(deaf, 10)
        boss.begin(cell, nursery)
        await cell.wait_until_ready()
        nursery.cancel_scope.cancel()

    assert cell.down == Down(cell.ref, 1, "normal")
    assert boss.now == 10


# --- how it ends ----------------------------------------------------------------------------------


async def test_one_that_returns_has_ended_normally(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(brief)

    assert cell.down == Down(cell.ref, 1, "normal")
    assert cell.alive


async def test_one_that_raises_has_crashed(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(broken)

    assert cell.down == Down(cell.ref, 1, "crash", BOOM)
    assert boss.events == []


@pytest.mark.parametrize(
    "error", [GeneratorExit(), BaseExceptionGroup("both", [BOOM, GeneratorExit()])]
)
async def test_whatever_it_raises_is_a_crash(
    boss: Boss, error: BaseException, autojump_clock: MockClock
) -> None:
    async def fail(inbox: Mailbox[Any]) -> None:
        raise error

    cell = await boss.run(fail)

    assert boss.log == [("exited", error)]
    assert cell.down == Down(cell.ref, 1, "crash", error)


async def test_one_that_stops_when_it_is_told_to_is_shut_down(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(echo)

    assert await boss.end(cell) == Down(cell.ref, 1, "shutdown")
    assert boss.log == ["ready", ("exited", None)]


async def test_one_that_has_to_be_cancelled_is_killed(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf)

    assert await boss.end(cell) == Down(cell.ref, 1, "killed")
    assert boss.log == ["ready", ("exited", None)]


async def test_one_that_fails_while_it_stops_has_crashed_and_that_is_told(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def untidy(inbox: Mailbox[Any]) -> None:
        await echo(inbox)
        raise BOOM

    cell = await boss.run(untidy)

    assert await boss.end(cell) == Down(cell.ref, 1, "crash", BOOM)
    ((kind, details),) = boss.events
    assert kind is EventKind.ACTOR_DIED
    assert (details["actor"], details["error"]) == ("one", "ValueError('boom')")


async def test_one_that_fails_while_it_is_cancelled_has_crashed_and_that_is_told(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def untidy(inbox: Mailbox[Any]) -> None:
        try:
            await deaf(inbox)
        finally:
            raise BOOM

    cell = await boss.run(untidy)
    down = await boss.end(cell)

    assert (down.reason, down.error) == ("crash", BOOM)
    assert [kind for kind, _ in boss.events] == [EventKind.ACTOR_KILLED, EventKind.ACTOR_DIED]


async def test_an_end_of_channel_ends_it_well_only_if_it_was_told_to_stop(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def reader(inbox: Mailbox[Any]) -> None:
        await inbox.receive()
        raise trio.EndOfChannel

    told, untold = await boss.run(reader), await boss.run(reader)
    await untold.ref.tell("go on")
    await boss.until_down(untold)

    assert (await boss.end(told)).reason == "shutdown"
    assert untold.down is not None
    assert untold.down.reason == "crash"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_ends_the_program_leaves_the_task(
    boss: Boss, autojump_clock: MockClock, kind: type[BaseException], grouped: bool
) -> None:
    error = BaseExceptionGroup("both", [kind(), BOOM]) if grouped else kind()

    async def fail(inbox: Mailbox[Any]) -> None:
        raise error

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            boss.begin(boss.make(fail), nursery)

    assert caught.value.split(kind)[0] is not None
    assert boss.log == [("crossing", error)]


async def test_what_ends_the_program_while_it_stops_is_no_failure_to_clean_up(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def fail(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        raise KeyboardInterrupt

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cell = boss.make(fail)
            boss.begin(cell, nursery)
            await cell.wait_until_ready()
            cell.order_stop(final=True)

    with pytest.raises(BaseExceptionGroup):
        await run()

    assert boss.log[-1][0] == "crossing"
    assert boss.events == []


async def test_those_who_asked_are_told_first_then_monitors_then_the_supervisor(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def asked(inbox: Mailbox[Any]) -> None:
        await inbox.receive()
        await trio.sleep(1)  # virtual
        raise BOOM

    async def ask() -> None:
        with pytest.raises(NoReply):
            await cell.ref.ask("?")
        boss.log.append("asked")

    cell = await boss.run(asked)
    answers: list[bool] = []
    cell.watch("key", lambda down: answers.append(watcher_sees_an_answer()))

    def watcher_sees_an_answer() -> bool:
        boss.log.append("monitor")
        return cell.inbox._in_hand is None

    boss.nursery.start_soon(ask)
    await boss.until_down(cell)
    await wait_all_tasks_blocked()

    assert boss.log == ["ready", "monitor", ("exited", BOOM), "asked"]
    assert answers == [True]


# --- the ladder -----------------------------------------------------------------------------------


async def test_it_is_asked_first(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(echo)
    await boss.end(cell)

    assert boss.now < 5
    assert boss.events == []


async def test_it_is_cancelled_when_its_time_is_up_and_that_is_told(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf, shutdown=3)
    await cell.ref.tell("unread")
    await boss.end(cell)

    assert boss.now == 3
    ((kind, details),) = boss.events
    assert kind is EventKind.ACTOR_KILLED
    assert (details["actor"], details["seconds"], details["left"]) == ("one", 3, 1)
    assert "in deaf" in details["stack"]


async def test_its_cancellation_says_why(boss: Boss, autojump_clock: MockClock) -> None:
    reasons: list[object] = []

    async def curious(inbox: Mailbox[Any]) -> None:
        try:
            await deaf(inbox)
        except trio.Cancelled as cancelled:
            reasons.append(cancelled.reason)
            raise

    cell = await boss.run(curious, shutdown=3)
    await boss.end(cell)

    assert reasons == ["actor one did not stop within 3 s"]


async def test_one_that_ignores_its_cancellation_is_reported_once_with_its_stack(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(stubborn, 100, shutdown=3, kill_after=2)
    cell.order_stop(final=True)
    await trio.sleep(4.9)  # virtual
    assert [kind for kind, _ in boss.events] == [EventKind.ACTOR_KILLED]
    await trio.sleep(0.1)  # virtual
    await wait_all_tasks_blocked()

    _, (kind, details) = boss.events
    assert (kind, details["actor"]) == (EventKind.UNKILLABLE, "one")
    assert "in stubborn" in details["stack"]
    await boss.until_down(cell)
    assert boss.now == 100
    assert len(boss.events) == 2


async def test_one_that_ends_just_in_time_is_not_reported(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(stubborn, 4.5, shutdown=3, kill_after=2)
    await boss.end(cell)
    await trio.sleep(10)  # virtual

    assert [kind for kind, _ in boss.events] == [EventKind.ACTOR_KILLED]


async def test_shutdown_of_zero_cancels_at_once(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(deaf, shutdown=0)
    cell.order_stop(final=True)
    assert cell.scope.cancel_called
    await wait_all_tasks_blocked()

    assert (cell.down, boss.now) == (Down(cell.ref, 1, "killed"), 0)


async def test_infinite_shutdown_never_cancels(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(deaf, 1e6, shutdown=inf)
    down = await boss.end(cell)

    assert (down.reason, boss.now) == ("shutdown", 1e6)


async def test_infinite_kill_after_never_reports(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(stubborn, 1e6, shutdown=0, kill_after=inf)
    await boss.end(cell)

    assert boss.events == []


async def test_one_that_swallows_its_cancellation_and_returns_was_shut_down(
    boss: Boss, autojump_clock: MockClock
) -> None:
    async def swallow(inbox: Mailbox[Any]) -> None:
        try:
            await deaf(inbox)
        except trio.Cancelled:
            return

    cell = await boss.run(swallow, shutdown=0)

    assert (await boss.end(cell)).reason == "shutdown"


async def test_a_second_order_does_not_buy_time(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(deaf, shutdown=3)
    cell.order_stop(final=False)
    await trio.sleep(2)  # virtual
    cell.order_stop(final=True)
    await boss.until_down(cell)

    assert boss.now == 3
    assert not cell.alive


async def test_one_that_is_to_come_back_keeps_taking_mail(
    boss: Boss, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    cell = await boss.run(collect, seen)
    cell.order_stop(final=False)
    cell.ref.try_tell("later")
    await boss.until_down(cell)
    assert seen == []
    await boss.start(cell)
    await wait_all_tasks_blocked()

    assert seen == ["later"]
    await boss.end(cell)


async def test_only_one_that_ends_for_good_drains(boss: Boss, autojump_clock: MockClock) -> None:
    seen: list[Any] = []
    cell = await boss.run(collect, seen)
    cell.drain = True
    cell.ref.try_tell("later")
    await boss.end(cell, final=False)
    assert seen == []
    await boss.start(cell)
    cell.ref.try_tell("and this")
    await boss.end(cell)

    assert seen == ["later", "and this"]


async def test_one_that_ends_for_good_takes_no_more_mail(
    boss: Boss, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    cell = await boss.run(collect, seen)
    cell.drain = True
    cell.order_stop(final=True)
    cell.ref.try_tell("too late")
    await boss.until_down(cell)

    assert seen == []


async def test_killing_what_has_ended_does_nothing(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(brief)
    cell.kill()

    assert len(boss.alarms) == 0
    assert not cell.stopping


async def test_a_stack_says_where_it_stands(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(deaf)
    await wait_all_tasks_blocked()

    assert "in deaf" in cell.stack()
    await boss.end(cell)
    assert cell.stack() == ""


# --- those who wait for its end -------------------------------------------------------------------


async def test_a_watcher_is_called_once_when_the_incarnation_ends(
    boss: Boss, autojump_clock: MockClock
) -> None:
    downs: list[Down] = []
    cell = await boss.run(echo)
    cell.watch("key", downs.append)
    await boss.end(cell, final=False)
    await boss.start(cell)
    await boss.end(cell)

    assert downs == [Down(cell.ref, 1, "shutdown")]


async def test_a_watcher_of_what_has_ended_for_good_is_called_at_once(
    boss: Boss, autojump_clock: MockClock
) -> None:
    downs: list[Down] = []
    cell = await boss.run(echo)
    await boss.end(cell)
    cell.watch("key", downs.append)

    assert downs == [Down(cell.ref, 1, "shutdown")]


async def test_a_watcher_of_what_waits_for_its_restart_is_called_about_the_next_one(
    boss: Boss, autojump_clock: MockClock
) -> None:
    downs: list[Down] = []
    cell = await boss.run(broken)
    cell.watch("key", downs.append)
    assert downs == []
    await boss.start(cell)

    assert downs == [Down(cell.ref, 2, "crash", BOOM)]


async def test_a_watcher_is_called_if_there_is_no_next_one(
    boss: Boss, autojump_clock: MockClock
) -> None:
    downs: list[Down] = []
    cell = await boss.run(broken)
    cell.watch("key", downs.append)
    cell.finish()

    assert downs == [Down(cell.ref, 1, "crash", BOOM)]


async def test_one_who_does_not_watch_any_more_is_not_called(
    boss: Boss, autojump_clock: MockClock
) -> None:
    downs: list[Down] = []
    cell = await boss.run(echo)
    cell.watch("a", downs.append)
    cell.unwatch("a")
    cell.unwatch("b")
    await boss.end(cell)

    assert downs == []


async def test_join_waits_for_the_end_for_good(boss: Boss, autojump_clock: MockClock) -> None:
    cell = await boss.run(broken)
    with trio.move_on_after(10):
        await cell.join()
    assert boss.now == 10
    cell.finish()
    await cell.join()

    assert boss.now == 10


async def test_stop_waits_for_the_end_and_is_fine_after_it(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf)
    await cell.stop(drain=False)
    assert boss.now == 5
    await cell.stop(drain=False)

    assert boss.now == 5


async def test_a_stop_that_is_cancelled_is_not_taken_back(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf)
    with trio.move_on_after(1):
        await cell.stop(drain=False)
    await boss.until_down(cell)

    assert boss.now == 5


@pytest.mark.parametrize("verb", ["stop", "join"])
async def test_an_actor_that_waits_for_its_own_end_is_told(
    boss: Boss, verb: str, autojump_clock: MockClock
) -> None:
    async def odd(inbox: Mailbox[Any]) -> None:
        await getattr(inbox.ref, verb)()

    cell = await boss.run(odd)

    assert isinstance(failure_of(cell), ActorError)
    assert "actor 'one' would wait for its own end for ever" in str(failure_of(cell))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (brief, "actor 'one' has ended: it returned"),
        (broken, "actor 'one' has ended: it crashed"),
        (echo, "actor 'one' has ended: it was stopped"),
        (deaf, "actor 'one' has ended: it was stopped, and cancelled as that took too long"),
    ],
)
async def test_those_who_ask_afterwards_are_told_how_it_ended(
    boss: Boss, function: Any, text: str, autojump_clock: MockClock
) -> None:
    cell = await boss.run(function)
    if cell.down is None:
        await boss.end(cell)
    else:
        cell.finish()
    with pytest.raises(ActorDied) as caught:
        await cell.ref.ask("?")

    assert str(caught.value) == text
    assert caught.value.__cause__ is failure_of(cell)


async def test_those_who_ask_while_it_ends_are_told_so(
    boss: Boss, autojump_clock: MockClock
) -> None:
    cell = await boss.run(deaf)
    cell.order_stop(final=True)

    assert str(cell.died()) == "actor 'one' is ending"
    await boss.until_down(cell)
