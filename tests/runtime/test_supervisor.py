"""Supervisors with real actors; the rules alone are in tests/machines/test_supervision.py."""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from contextvars import ContextVar
from itertools import pairwise
from math import inf
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.errors import ActorDied, ActorError, RestartIntensityExceeded, leaves
from actorq.machines.restarts import Backoff
from actorq.machines.supervision import STRATEGIES, Strategy, Supervision
from actorq.model.events import EventKind
from actorq.runtime.engine import Engine
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef, Down
from actorq.runtime.supervisor import Supervisor, open_supervisor
from tests.runtime.troupe import busy, collect, echo

STEADY = Backoff(first=1, most=1, jitter=0)
AT_ONCE = Backoff(first=0, most=0, jitter=0)


class Family:
    """Actors that log what they do, and crash or return when they are told to."""

    def __init__(self) -> None:
        self.engine = Engine(self._tell, Random(1))
        self.supervisors: list[Supervisor] = []
        self.log: list[str] = []
        self.events: list[tuple[EventKind, dict[str, Any]]] = []
        self.starts: Counter[str] = Counter()
        self.started_at: list[float] = []
        self.bad_starts: dict[str, Exception] = {}
        """What the next incarnation of an actor raises before it has started."""
        self.slow_starts: dict[str, float] = {}
        """How long those of an actor take to start."""
        self.slow_ends: dict[str, float] = {}
        """How long they take to end, whatever they are told."""
        self._start = trio.current_time()

    def _tell(self, kind: EventKind, **details: Any) -> None:
        self.events.append((kind, details))

    @property
    def now(self) -> float:
        return trio.current_time() - self._start

    def supervise(
        self, strategy: Strategy = "one_for_one", *, backoff: Backoff = STEADY, **options: Any
    ) -> AbstractAsyncContextManager[Supervisor]:
        machine = Supervision(strategy, backoff=backoff, **options)
        return open_supervisor(self.engine, machine, "family", self.supervisors)

    async def spawn(
        self, supervisor: Supervisor, names: str, **options: Any
    ) -> dict[str, ActorRef[Any]]:
        return {
            name: await supervisor.spawn(self.live, name, name=name, **options) for name in names
        }

    async def live(self, inbox: Mailbox[Any], name: str) -> None:
        self.starts[name] += 1
        self.started_at.append(self.now)
        await trio.sleep(self.slow_starts.get(name, 0))  # virtual
        if name in self.bad_starts:
            raise self.bad_starts.pop(name)
        self.log.append(f"{name} up")
        try:
            async for message in inbox:
                if message == "return":
                    return
                if isinstance(message, BaseException):
                    raise message
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.slow_ends.get(name, 0))  # virtual
            self.log.append(f"{name} down")

    async def crash(self, ref: ActorRef[Any], error: BaseException | None = None) -> None:
        await ref.tell(error or ValueError(f"{ref.name} is broken"))
        await wait_all_tasks_blocked()

    def take_log(self) -> list[str]:
        log, self.log = self.log, []
        return log

    def kinds(self) -> list[EventKind]:
        return [kind for kind, _ in self.events]


@pytest.fixture
async def family(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Family]:
    family = Family()
    nursery.start_soon(family.engine.alarms.run)
    yield family
    assert family.engine.cells == {}
    assert family.supervisors == []
    assert len(family.engine.alarms) == 0


@contextmanager
def raises_group_of(
    *kinds: type[BaseException], flat: bool = False
) -> Iterator[list[BaseException]]:
    """Expect a group of exceptions of just these kinds; ``flat``: whatever groups are inside."""
    members: list[BaseException] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        yield members
    members += leaves(caught.value) if flat else caught.value.exceptions
    assert {type(member) for member in members} == set(kinds)


# --- the first start ------------------------------------------------------------------------------


async def test_spawn_returns_when_the_actor_reads_its_first_message(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_starts["a"] = 3
    async with family.supervise() as supervisor:
        await family.spawn(supervisor, "a")

        assert (family.now, family.log) == (3, ["a up"])


async def test_spawn_returns_when_the_actor_says_that_it_has_started(
    family: Family, autojump_clock: MockClock
) -> None:
    async def worker(inbox: Mailbox[Any]) -> None:
        await trio.sleep(3)  # virtual
        inbox.started("port 80")
        await trio.sleep(3)  # virtual
        await echo(inbox)

    async with family.supervise() as supervisor:
        ref = await supervisor.spawn(worker)

        assert (family.now, ref.started_value) == (3, "port 80")


async def test_spawn_returns_the_ref_of_an_actor_that_returns_at_once(
    family: Family, autojump_clock: MockClock
) -> None:
    async def brief(inbox: Mailbox[Any]) -> None:
        pass

    async with family.supervise() as supervisor:
        ref = await supervisor.spawn(brief)

        assert not ref.alive
    assert family.events == []


@pytest.mark.parametrize(
    "error", [KeyError("no such port"), ExceptionGroup("both", [ValueError(), OSError()])]
)
async def test_a_first_start_that_fails_is_raised_by_spawn_and_leaves_no_trace(
    family: Family, error: Exception, autojump_clock: MockClock
) -> None:
    family.bad_starts["b"] = error
    async with family.supervise("one_for_all", intensity=0) as supervisor:
        await family.spawn(supervisor, "a")
        with pytest.raises(type(error)) as caught:
            await family.spawn(supervisor, "b")

        assert caught.value is error
        assert (list(supervisor.cells), family.events) == (["a"], [])
        assert family.starts == {"a": 1, "b": 1}
        await family.spawn(supervisor, "b")  # its name is free


async def test_a_spawn_that_is_cancelled_cancels_the_actor_and_waits_for_it(
    family: Family, autojump_clock: MockClock
) -> None:
    reasons: list[object] = []

    async def slow(inbox: Mailbox[Any]) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            reasons.append(cancelled.reason)
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)  # virtual

    async with family.supervise() as supervisor:
        with trio.move_on_after(3) as scope:
            await supervisor.spawn(slow)

        assert (scope.cancelled_caught, family.now) == (True, 4)
        assert (supervisor.cells, family.events) == ({}, [])
    assert reasons == ["its start was cancelled"]


async def test_a_spawn_that_is_cancelled_beforehand_leaves_no_trace(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise() as supervisor:
        with trio.CancelScope() as scope:
            scope.cancel()
            await family.spawn(supervisor, "a")

        assert scope.cancelled_caught
        assert (supervisor.cells, family.log) == ({}, [])


async def test_a_spawn_whose_actor_ignores_its_cancellation_is_reported(
    family: Family, autojump_clock: MockClock
) -> None:
    async def stubborn(inbox: Mailbox[Any]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)  # virtual

    async with family.supervise() as supervisor:
        with trio.move_on_after(1):
            await supervisor.spawn(stubborn, kill_after=10)

        ((kind, details),) = family.events
        assert (kind, details["actor"], family.now) == (EventKind.UNKILLABLE, "stubborn", 100)
        assert "in stubborn" in details["stack"]


async def test_an_actor_that_neither_reads_nor_says_that_it_has_started_is_told_of(
    family: Family, autojump_clock: MockClock
) -> None:
    async def ticker(inbox: Mailbox[Any]) -> None:
        await trio.sleep_forever()

    async with family.supervise() as supervisor:
        with trio.move_on_after(60):
            await supervisor.spawn(ticker)

    assert family.events == [(EventKind.SLOW_START, {"actor": "ticker", "seconds": 5.0})]


async def test_a_spawn_whose_actor_is_stopped_before_it_has_started_is_told(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_starts["a"] = inf

    async def stop() -> None:
        await wait_all_tasks_blocked()
        await supervisor.cells["a"].ref.stop()

    async with family.supervise() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        with pytest.raises(ActorDied, match="'a' has ended: it was stopped"):
            await family.spawn(supervisor, "a", shutdown=1)


async def test_an_actor_may_spawn_a_sibling_before_it_has_started(
    family: Family, autojump_clock: MockClock
) -> None:
    async def first(inbox: Mailbox[Any]) -> None:
        if inbox.ref.incarnation == 1:
            await family.spawn(supervisor, "b")
        await echo(inbox)

    async with family.supervise("one_for_all") as supervisor:
        ref = await supervisor.spawn(first)
        await family.crash(ref)
        await trio.sleep(2)  # virtual

        assert (ref.incarnation, family.starts["b"]) == (2, 2)


async def test_names_are_unique_over_all_supervisors(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise() as one, family.supervise() as other:
        await family.spawn(one, "a")
        with pytest.raises(ActorError, match="'a' is alive"):
            await family.spawn(other, "a")

        assert other.cells == {}


async def test_a_thousand_that_are_spawned_at_once_are_all_up_with_names_of_their_own(
    family: Family, autojump_clock: MockClock
) -> None:
    refs: list[ActorRef[Any]] = []

    async def spawn() -> None:
        refs.append(await supervisor.spawn(echo))

    async with family.supervise("rest_for_one") as supervisor:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(spawn)

        assert len({ref.name for ref in refs}) == 1000
        assert [await ref.ask("?") for ref in refs] == ["?"] * 1000


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_actors_start_one_after_the_other_and_stop_in_reverse(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"b": 4}
    async with family.supervise(strategy) as supervisor:
        await family.spawn(supervisor, "abc")

    assert family.log == ["a up", "b up", "c up", "c down", "b down", "a down"]
    assert family.now == 4


async def test_each_has_the_time_that_it_needs(family: Family, autojump_clock: MockClock) -> None:
    async def tidy(inbox: Mailbox[Any], name: str) -> None:
        await collect(inbox, [])
        await trio.sleep(100)  # virtual
        family.log.append(f"{name} {family.now:g}")

    async with family.supervise() as supervisor:
        for name in "ab":
            await supervisor.spawn(tidy, name, shutdown=inf)

    assert family.log == ["b 100", "a 200"]


async def test_each_is_cancelled_when_its_time_is_up(
    family: Family, autojump_clock: MockClock
) -> None:
    async def deaf(inbox: Mailbox[Any], name: str) -> None:
        inbox.started()
        try:
            await trio.sleep_forever()
        finally:
            family.log.append(f"{name} {family.now:g}")

    async with family.supervise() as supervisor:
        await supervisor.spawn(deaf, "a", shutdown=3)
        await supervisor.spawn(deaf, "b", shutdown=0)
        await supervisor.spawn(deaf, "c")

    assert family.log == ["c 5", "b 5", "a 8"]


@pytest.mark.parametrize("name", ["start of x", "stop of x", "supervisor 1"])
async def test_no_name_keeps_an_actor_from_being_cancelled_when_its_time_is_up(
    family: Family, name: str, autojump_clock: MockClock
) -> None:
    async def deaf(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await trio.sleep(50)  # virtual

    family.slow_starts = {"x": 2}
    async with family.supervise() as supervisor:
        ref = await supervisor.spawn(deaf, name=name, shutdown=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.stop)
            await wait_all_tasks_blocked()
            await family.spawn(supervisor, "x")

        assert family.now == 3


async def test_one_that_fails_while_it_stops_is_told_and_keeps_nobody_else_from_stopping(
    family: Family, autojump_clock: MockClock
) -> None:
    async def untidy(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        raise ValueError("cannot clean up")

    async with family.supervise() as supervisor:
        await family.spawn(supervisor, "a")
        await supervisor.spawn(untidy)

    ((kind, details),) = family.events
    assert (kind, details["actor"]) == (EventKind.ACTOR_DIED, "untidy")
    assert "cannot clean up" in details["error"]
    assert family.log == ["a up", "a down"]


async def test_they_handle_what_is_in_their_mailboxes_if_the_block_is_left_in_order(
    family: Family, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    async with family.supervise() as supervisor:
        ref = await supervisor.spawn(collect, seen)
        for number in range(3):
            await ref.tell(number)

    assert seen == [0, 1, 2]


async def test_they_do_not_if_the_block_is_left_by_an_error(
    family: Family, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    with raises_group_of(OSError):
        async with family.supervise() as supervisor:
            ref = await supervisor.spawn(collect, seen)
            await ref.tell("unread")
            raise OSError("the block failed")

    assert seen == []
    assert family.engine.post.dead_letters == 1


async def test_a_block_that_is_cancelled_stops_them_in_reverse_all_the_same(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"a": 3, "b": 4}
    with trio.move_on_after(1) as scope:
        async with family.supervise() as supervisor:
            await family.spawn(supervisor, "ab")
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert family.log == ["a up", "b up", "b down", "a down"]
    assert family.now == 8


async def test_a_supervisor_that_is_closing_or_closed_takes_no_more_actors(
    family: Family, autojump_clock: MockClock
) -> None:
    async def late(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        with pytest.raises(ActorDied, match="'family' is closing or closed, and takes no more"):
            await family.spawn(supervisor, "b")
        family.log.append("refused")

    async with family.supervise() as supervisor:
        await supervisor.spawn(late)
    with pytest.raises(ActorDied, match="'family' is closing or closed, and takes no more"):
        await family.spawn(supervisor, "b")

    assert family.log == ["refused"]
    assert family.events == []


async def test_an_actor_that_starts_while_it_closes_is_stopped_and_its_spawn_is_told(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_starts["a"] = inf

    async def spawn() -> None:
        with pytest.raises(ActorDied, match="'a' has ended: it was stopped"):
            await family.spawn(supervisor, "a", shutdown=1)
        family.log.append("told")

    async with trio.open_nursery() as nursery, family.supervise() as supervisor:
        nursery.start_soon(spawn)
        await wait_all_tasks_blocked()

    assert (family.log, family.now) == (["told"], 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("after", [0.5, 1.5])
async def test_it_can_be_left_while_actors_wait_for_a_restart_or_start_again(
    family: Family, strategy: Strategy, after: float, autojump_clock: MockClock
) -> None:
    async with family.supervise(strategy) as supervisor:
        refs = await family.spawn(supervisor, "ab", shutdown=2)
        family.slow_starts["a"] = inf
        await family.crash(refs["a"])
        await trio.sleep(after)  # virtual

    assert family.starts["a"] == (2 if after > 1 else 1)
    assert not any(ref.alive for ref in refs.values())


async def test_an_actor_that_waits_for_its_restart_can_be_stopped(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise() as supervisor:
        refs = await family.spawn(supervisor, "a")
        await family.crash(refs["a"])
        await refs["a"].stop()

        assert len(family.engine.alarms) == 0
        await trio.sleep(10)  # virtual
    assert family.starts["a"] == 1


async def test_all_may_be_told_to_stop_at_the_same_time(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"a": 3, "b": 2, "c": 1}
    async with family.supervise() as supervisor:
        await family.spawn(supervisor, "abc")
        family.take_log()
        await supervisor.close(at_once=True)

        assert (family.take_log(), family.now) == (["c down", "b down", "a down"], 3)


async def test_closing_waits_for_those_that_are_left_though_all_others_ended_before(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"b": 3}
    async with family.supervise() as supervisor:
        refs = await family.spawn(supervisor, "a")
        await refs["a"].stop()
        await family.spawn(supervisor, "b")
        await supervisor.close()

        assert (supervisor.cells, family.now) == ({}, 3)


async def test_a_supervisor_that_does_not_restart_any_more_lets_the_others_live(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("one_for_all", intensity=0) as supervisor:
        refs = await family.spawn(supervisor, "ab")
        supervisor.stop_restarting()
        await family.crash(refs["a"])
        await trio.sleep(10)  # virtual

        assert [ref.alive for ref in refs.values()] == [False, True]
        assert family.kinds() == [EventKind.ACTOR_DIED]
        with pytest.raises(ActorDied, match="takes no more actors"):
            await family.spawn(supervisor, "c")


async def test_an_engine_that_is_closed_opens_no_supervisor(
    family: Family, autojump_clock: MockClock
) -> None:
    family.engine.closed = True

    with pytest.raises(ActorDied, match="the system is closed"):
        async with family.supervise():
            pytest.fail("it must not open")


# --- restarts -------------------------------------------------------------------------------------


async def test_one_for_one_restarts_only_the_actor_that_crashed(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("one_for_one") as supervisor:
        refs = await family.spawn(supervisor, "abc")
        family.take_log()
        await family.crash(refs["b"])
        await trio.sleep(1)  # virtual
        await wait_all_tasks_blocked()

        assert family.take_log() == ["b down", "b up"]
        assert [ref.incarnation for ref in refs.values()] == [1, 2, 1]


async def test_one_for_all_restarts_everybody_in_order(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"c": 2}
    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "abc")
        family.take_log()
        family.slow_starts = {"a": 3}
        await family.crash(refs["b"])
        await trio.sleep(10)  # virtual

        assert family.take_log() == ["b down", "c down", "a down", "a up", "b up", "c up"]
        assert [ref.incarnation for ref in refs.values()] == [2, 2, 2]
        assert family.started_at[3:] == [2, 5, 5]


async def test_rest_for_one_restarts_those_that_were_started_after_it(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("rest_for_one") as supervisor:
        refs = await family.spawn(supervisor, "abcd")
        family.take_log()
        await family.crash(refs["b"])
        await trio.sleep(2)  # virtual

        assert family.take_log() == ["b down", "d down", "c down", "b up", "c up", "d up"]
        assert [ref.incarnation for ref in refs.values()] == [1, 2, 2, 2]


async def test_a_bystander_that_will_not_stop_is_cancelled_and_then_restarted(
    family: Family, autojump_clock: MockClock
) -> None:
    async def deaf(inbox: Mailbox[Any]) -> None:
        inbox.started(family.now)
        await trio.sleep_forever()

    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "a")
        ref = await supervisor.spawn(deaf, shutdown=3)
        await family.crash(refs["a"])
        await trio.sleep(10)  # virtual

        assert (ref.incarnation, ref.started_value) == (2, 3)


async def test_a_temporary_bystander_ends_with_the_others(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "a")
        refs |= await family.spawn(supervisor, "b", restart="temporary")
        await family.crash(refs["a"])
        await trio.sleep(2)  # virtual

        assert [ref.alive for ref in refs.values()] == [True, False]
    assert family.starts == {"a": 2, "b": 1}


async def test_mail_is_kept_over_the_restart_of_a_bystander(
    family: Family, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "a")
        ref = await supervisor.spawn(collect, seen)
        await family.crash(refs["a"])
        await ref.tell("while it is down")
        await trio.sleep(2)  # virtual

        assert seen == ["while it is down"]


@pytest.mark.parametrize("behind", ["", "z"])
async def test_one_that_goes_down_with_another_may_be_stopped_and_drained_meanwhile(
    family: Family, autojump_clock: MockClock, behind: str
) -> None:
    seen: list[Any] = []
    family.slow_ends = {"z": 2}  # which it waits for, before it is told to make way itself
    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "a")
        ref = await supervisor.spawn(busy, seen, 1)
        refs |= await family.spawn(supervisor, behind)
        for number in range(3):
            await ref.tell(number)
        await family.crash(refs["a"])
        await ref.stop(drain=True)

        assert (seen, ref.alive, family.now) == ([0, 1, 2], False, 3)
        await trio.sleep(2)  # virtual
        assert [other.incarnation for other in refs.values()] == [2] * len(refs)
    assert family.kinds() == [EventKind.ACTOR_RESTARTED]


async def test_a_monitor_tells_a_crash_from_going_down_with_another(
    family: Family, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def watch(inbox: Mailbox[Any], *refs: ActorRef[Any]) -> None:
        for ref in refs:
            inbox.monitor(ref)
        await collect(inbox, seen)

    async with family.supervise() as other, family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "ab")
        await other.spawn(watch, *refs.values())
        await family.crash(refs["a"], error := ValueError("a is broken"))
        await trio.sleep(2)  # virtual

    assert seen == [Down(refs["a"], 1, "crash", error), Down(refs["b"], 1, "shutdown")]


async def test_a_restart_is_told(family: Family, autojump_clock: MockClock) -> None:
    error = KeyError("why")
    async with family.supervise() as supervisor:
        refs = await family.spawn(supervisor, "a")
        await family.crash(refs["a"], error)

        details = {"actor": "a", "incarnation": 2, "error": "KeyError('why')", "exception": error}
        assert family.events == [(EventKind.ACTOR_RESTARTED, details)]


async def test_a_permanent_actor_that_returns_is_started_again(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise() as supervisor:
        refs = await family.spawn(supervisor, "a", restart="permanent")
        await refs["a"].tell("return")
        await trio.sleep(2)  # virtual

        assert family.starts["a"] == 2
        assert family.events[0][1]["error"] == "it returned"


async def test_a_permanent_actor_that_returns_before_it_reads_is_started_again(
    family: Family, autojump_clock: MockClock
) -> None:
    starts: list[float] = []

    async def brief(inbox: Mailbox[Any]) -> None:
        starts.append(family.now)

    async with family.supervise(intensity=100) as supervisor:
        ref = await supervisor.spawn(brief, restart="permanent")
        await trio.sleep(2.5)  # virtual

        assert (ref.alive, starts) == (True, [0, 1, 2])


async def test_a_transient_actor_that_returns_has_ended(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("one_for_all") as supervisor:
        refs = await family.spawn(supervisor, "ab")
        await refs["a"].tell("return")
        await refs["a"].join()
        await trio.sleep(10)  # virtual

        assert family.starts == {"a": 1, "b": 1}
    assert family.events == []


async def test_the_crash_of_a_temporary_actor_touches_nobody_and_is_told(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise("one_for_all", intensity=0) as supervisor:
        refs = await family.spawn(supervisor, "a", restart="temporary")
        refs |= await family.spawn(supervisor, "b")
        await family.crash(refs["a"])
        await trio.sleep(10)  # virtual

        assert family.starts == {"a": 1, "b": 1}
        assert family.kinds() == [EventKind.ACTOR_DIED]


async def test_an_exception_group_is_a_crash_like_any_other(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise() as supervisor:
        refs = await family.spawn(supervisor, "a")
        error = BaseExceptionGroup("both", [ValueError(), GeneratorExit()])
        await family.crash(refs["a"], error)
        await trio.sleep(2)  # virtual

        assert family.starts["a"] == 2


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise ValueError("no words")


async def test_an_error_that_cannot_be_described_hurts_nobody(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded):
        async with family.supervise(intensity=1) as supervisor:
            refs = await family.spawn(supervisor, "a")
            await family.crash(refs["a"], Unspeakable())
            await trio.sleep(2)  # virtual
            assert family.starts["a"] == 2
            await family.crash(refs["a"], Unspeakable())
            await trio.sleep_forever()

    assert all("Unspeakable" in details["error"] for _, details in family.events)


async def test_the_waits_before_restarts_grow_up_to_a_bound(
    family: Family, autojump_clock: MockClock
) -> None:
    backoff = Backoff(first=1, most=5, jitter=0)
    async with family.supervise(backoff=backoff, intensity=100) as supervisor:
        await supervisor.spawn(crash_at_once, family)
        await trio.sleep(20)  # virtual

        assert waits(family) == [1, 2, 4, 5, 5]


async def test_the_waits_are_spread(family: Family, autojump_clock: MockClock) -> None:
    backoff = Backoff(first=1, most=1, jitter=0.1)
    async with family.supervise(backoff=backoff, intensity=100) as supervisor:
        await supervisor.spawn(crash_at_once, family)
        await trio.sleep(20)  # virtual

    assert len(set(waits(family))) > 10
    assert all(0.9 <= wait <= 1.1 for wait in waits(family))


async def test_an_actor_that_ran_for_long_waits_as_if_it_were_the_first_time(
    family: Family, autojump_clock: MockClock
) -> None:
    async def flaky(inbox: Mailbox[Any]) -> None:
        family.started_at.append(family.now)
        inbox.started()
        await trio.sleep(100 if inbox.ref.incarnation == 4 else 0)  # virtual
        raise ValueError

    backoff = Backoff(first=1, most=30, jitter=0, reset=60)
    async with family.supervise(backoff=backoff, intensity=100) as supervisor:
        await supervisor.spawn(flaky)
        await trio.sleep(120)  # virtual

    assert waits(family)[:5] == [1, 2, 4, 101, 2]


async def test_an_actor_that_waits_for_its_restart_does_not_hold_up_another(
    family: Family, autojump_clock: MockClock
) -> None:
    backoff = Backoff(first=1, most=60, jitter=0)
    async with family.supervise(backoff=backoff, intensity=100) as supervisor:
        refs = await family.spawn(supervisor, "ab")
        for wait in (1, 2, 4, 8):
            await family.crash(refs["a"])
            await trio.sleep(wait + 1)  # virtual
        await family.crash(refs["a"])
        await family.crash(refs["b"])
        await trio.sleep(2)  # virtual

        assert family.starts == {"a": 5, "b": 2}


async def test_a_thousand_that_crash_at_once_are_all_up_again(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise(intensity=1000, period=1) as supervisor:
        refs = [await supervisor.spawn(echo) for _ in range(1000)]
        for ref in refs:
            await ref.tell(ValueError("boom"))
        await trio.sleep(2)  # virtual

        assert {ref.incarnation for ref in refs} == {2}
        assert [await ref.ask("?") for ref in refs] == ["?"] * 1000


async def test_a_restart_begins_in_the_context_of_the_spawn(
    family: Family, autojump_clock: MockClock
) -> None:
    color: ContextVar[str] = ContextVar("color")
    seen: list[str] = []

    async def paint(inbox: Mailbox[Any]) -> None:
        seen.append(color.get())
        color.set("red")
        await echo(inbox)

    async with family.supervise() as supervisor:
        color.set("blue")
        ref = await supervisor.spawn(paint)
        color.set("green")
        await family.crash(ref)
        await trio.sleep(2)  # virtual

    assert seen == ["blue", "blue"]


# --- giving up ------------------------------------------------------------------------------------


async def test_more_crashes_than_the_intensity_leave_the_block_after_all_have_ended(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"a": 3}
    with raises_group_of(RestartIntensityExceeded) as members:
        async with family.supervise(intensity=3, period=5) as supervisor:
            await family.spawn(supervisor, "a")
            await supervisor.spawn(crash_at_once, family)
            await trio.sleep_forever()

    (error,) = members
    assert isinstance(error, RestartIntensityExceeded)
    assert "gave up after more than 3 crashes in 5 s, the last one of 'crash_at_once'" in str(error)
    assert [str(failure) for failure in error.failures] == ["1", "2", "3", "4"]
    assert error.__cause__ is error.failures[-1]
    assert (family.log, family.now) == (["a up", "a down"], 6)
    assert family.kinds() == [EventKind.ACTOR_RESTARTED] * 3 + [EventKind.ACTOR_DIED]


async def test_giving_up_stops_the_actors_that_are_well_in_reverse(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded):
        async with family.supervise(intensity=0) as supervisor:
            refs = await family.spawn(supervisor, "abcd")
            family.take_log()
            await family.crash(refs["c"])

    assert family.log == ["c down", "d down", "b down", "a down"]


async def test_what_the_block_raises_meanwhile_is_raised_too(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded, OSError):
        async with family.supervise(intensity=0) as supervisor:
            refs = await family.spawn(supervisor, "ab")
            family.slow_ends = {"a": 3}
            await family.crash(refs["b"])
            raise OSError("the block failed, too")


async def test_giving_up_is_not_lost_if_the_block_is_cancelled_meanwhile(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded), trio.move_on_after(1):
        async with family.supervise(intensity=0) as supervisor:
            refs = await family.spawn(supervisor, "ab")
            family.slow_ends = {"a": 3}
            await family.crash(refs["b"])
            await trio.sleep_forever()


async def test_giving_up_while_the_block_is_left_is_raised_too(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded):
        async with family.supervise(intensity=0) as supervisor:
            refs = await family.spawn(supervisor, "ab")
            family.slow_ends = {"a": 3}
            await family.crash(refs["b"])

    assert family.now == 3


async def test_the_period_slides(family: Family, autojump_clock: MockClock) -> None:
    async with family.supervise(intensity=3, period=3) as supervisor:
        ref = await supervisor.spawn(crash_at_once, family)
        await trio.sleep(99.5)  # virtual

        assert ref.incarnation == 100


async def test_the_intensity_counts_the_crashes_of_all_actors(
    family: Family, autojump_clock: MockClock
) -> None:
    with raises_group_of(RestartIntensityExceeded):
        async with family.supervise(intensity=3, period=5) as supervisor:
            refs = [
                await supervisor.spawn(crash_at_once, family, name=f"crash {n}") for n in range(2)
            ]
            await trio.sleep_forever()

    assert [ref.incarnation for ref in refs] == [2, 2]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_restart_that_fails_counts_as_a_crash(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async def fail_later(inbox: Mailbox[Any]) -> None:
        if inbox.ref.incarnation == 1:
            await inbox.receive()
        raise ValueError(inbox.ref.incarnation)

    with raises_group_of(RestartIntensityExceeded) as members:
        async with family.supervise(strategy, intensity=3, period=5) as supervisor:
            ref = await supervisor.spawn(fail_later)
            await ref.tell("now")
            await trio.sleep_forever()

    (error,) = members
    assert isinstance(error, RestartIntensityExceeded)
    assert [str(failure) for failure in error.failures] == ["1", "2", "3", "4"]


async def test_a_supervisor_that_has_given_up_takes_no_more_actors(
    family: Family, autojump_clock: MockClock
) -> None:
    family.slow_ends = {"a": 10}
    with raises_group_of(RestartIntensityExceeded):
        async with family.supervise(intensity=0) as supervisor:
            refs = await family.spawn(supervisor, "ab")
            await family.crash(refs["b"])
            with pytest.raises(ActorDied, match="takes no more actors"):
                await family.spawn(supervisor, "c")
            await trio.sleep_forever()


async def test_those_who_wait_for_an_answer_when_it_gives_up_are_told(
    family: Family, autojump_clock: MockClock
) -> None:
    errors: list[Exception] = []

    async def ask(ref: ActorRef[Any]) -> None:
        try:
            await ref.ask(ValueError("boom"))
        except ActorError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        with raises_group_of(RestartIntensityExceeded):
            async with family.supervise(intensity=0) as supervisor:
                ref = await supervisor.spawn(echo)
                for _ in range(2):
                    nursery.start_soon(ask, ref)
                await trio.sleep_forever()

    assert len(errors) == 2


async def test_apart_nobody_else_is_hurt_by_an_actor_that_has_spent_its_restarts(
    family: Family, autojump_clock: MockClock
) -> None:
    async with family.supervise(intensity=2, apart=True) as supervisor:
        refs = await family.spawn(supervisor, "ab")
        ref = await supervisor.spawn(crash_at_once, family)
        await family.crash(refs["a"])
        await ref.join()
        await trio.sleep(10)  # virtual

        assert [ref.incarnation for ref in (ref, *refs.values())] == [3, 2, 1]
        assert family.kinds().count(EventKind.ACTOR_DIED) == 1
        assert list(supervisor.cells) == ["a", "b"]


# --- nested, and what ends the program ------------------------------------------------------------


async def test_a_supervisor_inside_an_actor_that_gives_up_crashes_that_actor(
    family: Family, autojump_clock: MockClock
) -> None:
    async def boss(inbox: Mailbox[Any]) -> None:
        async with family.supervise(intensity=0, backoff=AT_ONCE) as inner:
            (child,) = (await family.spawn(inner, "b")).values()
            inbox.started(child)
            await echo(inbox)

    async with family.supervise(intensity=1) as supervisor:
        ref = await supervisor.spawn(boss)
        first = ref.started_value
        await family.crash(first)
        await trio.sleep(2)  # virtual

        assert (ref.incarnation, first.alive, ref.started_value.alive) == (2, False, True)
        (exception,) = leaves(family.events[-1][1]["exception"])
        assert isinstance(exception, RestartIntensityExceeded)


async def test_an_actor_that_is_stopped_stops_those_inside_it_first(
    family: Family, autojump_clock: MockClock
) -> None:
    async def boss(inbox: Mailbox[Any]) -> None:
        async with family.supervise() as inner:
            await family.spawn(inner, "bc")
            await collect(inbox, [])
        family.log.append("boss down")

    async with family.supervise() as supervisor:
        await family.spawn(supervisor, "a")
        await supervisor.spawn(boss)
        family.take_log()

    assert family.log == ["c down", "b down", "boss down", "a down"]


async def test_an_actor_that_has_to_be_killed_still_stops_those_inside_it_in_order(
    family: Family, autojump_clock: MockClock
) -> None:
    async def deaf_boss(inbox: Mailbox[Any]) -> None:
        async with family.supervise() as inner:
            await family.spawn(inner, "ab")
            inbox.started()
            await trio.sleep_forever()

    family.slow_ends = {"a": 1, "b": 1}
    async with family.supervise() as supervisor:
        await supervisor.spawn(deaf_boss, shutdown=2)

    assert family.log == ["a up", "b up", "b down", "a down"]
    assert family.now == 4
    assert [kind for kind, _ in family.events] == [EventKind.ACTOR_KILLED]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_ends_the_program_leaves_the_block_after_all_have_ended(
    family: Family, kind: type[BaseException], grouped: bool, autojump_clock: MockClock
) -> None:
    errors = [kind(), ValueError()] if grouped else [kind()]
    error = BaseExceptionGroup("both", errors) if grouped else errors[0]
    with raises_group_of(*map(type, errors), flat=True) as caught:
        async with family.supervise() as supervisor:
            refs = await family.spawn(supervisor, "abc")
            family.take_log()
            await family.crash(refs["b"], error)
            await trio.sleep_forever()

    assert caught == errors
    assert family.log == ["b down", "c down", "a down"]
    assert family.events == []


async def test_what_ends_the_program_leaves_nested_blocks(
    family: Family, autojump_clock: MockClock
) -> None:
    async def boss(inbox: Mailbox[Any]) -> None:
        async with family.supervise() as inner:
            refs = await family.spawn(inner, "b")
            inbox.started(refs["b"])
            await trio.sleep_forever()

    with raises_group_of(KeyboardInterrupt, flat=True):
        async with family.supervise() as supervisor:
            ref = await supervisor.spawn(boss)
            await family.crash(ref.started_value, KeyboardInterrupt())
            await trio.sleep_forever()

    assert family.log == ["b up", "b down"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_program_in_a_first_start_keeps_nobody_waiting(
    family: Family, kind: type[BaseException], autojump_clock: MockClock
) -> None:
    async def start(inbox: Mailbox[Any]) -> None:
        raise kind

    with raises_group_of(kind, flat=True):
        async with family.supervise() as supervisor:
            await family.spawn(supervisor, "a")
            await supervisor.spawn(start)

    assert family.log == ["a up", "a down"]


def test_a_supervisor_that_is_interrupted_while_it_closes_is_forgotten() -> None:
    families: list[Family] = []

    @trio.lowlevel.enable_ki_protection
    def press_ctrl_c() -> None:
        signal.raise_signal(signal.SIGINT)  # which trio then raises in its main task

    async def slow(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        press_ctrl_c()
        await trio.sleep(1)  # virtual

    async def main() -> None:
        family = Family()
        families.append(family)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(family.engine.alarms.run)
            async with family.supervise() as supervisor:
                await supervisor.spawn(slow)

    with raises_group_of(KeyboardInterrupt, flat=True):
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert families[0].engine.cells == {}
    assert families[0].supervisors == []


# --- everything at random -------------------------------------------------------------------------


MOVES = ["spawn"] * 2 + ["tell"] * 8 + ["wait"] * 3 + ["stop"]


class Census:
    """Who runs at the moment, each at most once."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.running: set[str] = set()
        self.closed = False
        self.well = False
        """Whether nothing goes wrong any more."""

    async def live(self, inbox: Mailbox[Any], name: str) -> None:
        """Start, handle mail and stop, each well or badly, in some time or none."""
        assert not self.closed
        assert name not in self.running, "two incarnations at once"
        self.running.add(name)
        try:
            await self.work()
            inbox.started()
            async for _ in inbox:
                await self.work()
            await self.work()
        finally:
            with trio.CancelScope(shield=self.rng.random() < 0.5):
                try:
                    await self.work()
                finally:
                    self.running.remove(name)

    async def work(self) -> None:
        if self.well:
            return
        if self.rng.random() < 0.15:
            raise ValueError("boom")
        if self.rng.random() < 0.3:
            await trio.sleep(self.rng.choice([0, 0.1, 1, 3, 30]))  # virtual


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_happens_each_runs_at_most_once_is_up_if_it_should_and_ends(
    family: Family, seed: int, strategy: Strategy, autojump_clock: MockClock
) -> None:
    census, rng = Census(seed), Random(f"{seed} {strategy}")
    refs: list[ActorRef[Any]] = []

    async def spawn(name: str) -> None:
        restart = rng.choice(["permanent", "transient", "transient", "temporary"])
        shutdown = rng.choice([0, 1, 5, inf])
        with trio.move_on_after(rng.choice([0, 1, 100, 100])), suppress(ValueError, ActorDied):
            refs.append(
                await supervisor.spawn(
                    census.live, name, name=name, restart=restart, shutdown=shutdown
                )
            )

    backoff = rng.choice([AT_ONCE, STEADY, Backoff()])
    intensity = rng.choice([3, 1000, 1000])
    with suppress_group_of(RestartIntensityExceeded):
        async with (
            trio.open_nursery() as nursery,
            family.supervise(strategy, intensity=intensity, backoff=backoff) as supervisor,
        ):
            for number in range(300):
                alive = [ref for ref in refs if ref.alive]
                move = rng.choice(MOVES)
                if move == "wait":
                    await trio.sleep(rng.choice([0, 0.5, 2]))  # virtual
                elif move == "spawn" or not alive:
                    nursery.start_soon(spawn, f"actor {number}")
                elif move == "tell":
                    await rng.choice(alive).tell("work")
                else:
                    nursery.start_soon(rng.choice(alive).stop)
            census.well = True
            await trio.sleep(200)  # virtual
            assert census.running == {ref.name for ref in refs if ref.alive}
    census.closed = True
    await trio.sleep(100)  # virtual

    assert census.running == set()
    assert not any(ref.alive for ref in refs)


@contextmanager
def suppress_group_of(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except* kind:
        pass


async def crash_at_once(inbox: Mailbox[Any], family: Family) -> None:
    family.started_at.append(family.now)
    inbox.started()
    await trio.lowlevel.checkpoint()
    raise ValueError(inbox.ref.incarnation)


def waits(family: Family) -> list[float]:
    """Return the seconds between starts."""
    return [round(b - a, 6) for a, b in pairwise(family.started_at)]
