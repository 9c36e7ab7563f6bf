"""The rules of the wire protocol: each with the fault that shows it, and what happens without it.

(Rule 15 is about stores that several owners share: see test_durability.py.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from actorq.actors.guests import Guest
from actorq.actors.slots import SlotPool
from actorq.actors.worker import WorkerActor
from actorq.client.session import Session
from actorq.errors import SubmitError, TaskError, TaskNotFound
from actorq.machines.attending import Attending
from actorq.machines.fleet import Fleet, Worker
from actorq.machines.granting import Granting
from actorq.machines.queue import QueueMachine
from actorq.machines.states import Move
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.records import Cancel, Pool
from actorq.testing.cluster import Fault
from actorq.testing.nodes import Setup
from actorq.testing.promises import broken
from actorq.testing.workload import Job, message_of
from tests.simulation.stage import Scenario, Stage, play

Patch = pytest.MonkeyPatch
FEW = Setup(clients=1, workers=2, slots=2, parent=False)
ONE = Setup(clients=1, workers=1, slots=2, parent=False)


async def a_lost_grant_is_granted_again_at_once(stage: Stage) -> None:
    links = stage.hold("worker-0", "far") + stage.hold("worker-1", "far")
    handle = await stage.submit(Job("a", seconds=0.1, options={"at_most_once": True}))
    await trio.sleep(0.1)  # virtual
    for link in links:
        link.reset()

    with trio.fail_after(2):
        result = await handle.wait()

    assert result.ok
    assert result.attempts == 1
    assert stage.deaths("a") == 0
    assert len(stage.happened("started", "a")) == 1


def without_rule_1(patch: Patch) -> None:
    """A hello is taken to list everything that the owner has granted."""
    hello = QueueMachine._worker_hello

    def trusting(self: QueueMachine, origin: int, message: m.WorkerHello) -> None:
        known = self._fleet.known(message.node)
        held = () if known is None else known.held
        listed = tuple((id, self._live[id].head.fence) for id in held)
        hello(self, origin, replace(message, running=(*message.running, *listed)))

    patch.setattr(QueueMachine, "_worker_hello", trusting)


async def a_finish_is_said_again_until_it_is_answered(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=0.5, options={"at_most_once": True}))
    await trio.sleep(0.2)  # virtual
    links = stage.hold(stage.worker_of("a"), "near")
    await trio.sleep(0.5)  # virtual
    for link in links:
        link.reset()

    with trio.fail_after(2):
        result = await handle.wait()

    assert result.ok
    assert len(stage.happened("started", "a")) == 1


def without_rule_2(patch: Patch) -> None:
    """A worker that has said `Finish` has nothing more to do with it."""

    class Nothing(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            pass

    init = WorkerActor.__init__

    def forgetful(self: WorkerActor, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._unanswered = Nothing()

    patch.setattr(WorkerActor, "__init__", forgetful)


async def nobody_is_granted_more_than_there_are_slots_for(stage: Stage) -> None:
    messages = [message_of(Job(f"t{n}", seconds=n % 7 / 1_000)) for n in range(40)]
    handles = await stage.client.submit_many(messages)
    for handle in handles:
        assert (await handle.wait()).ok

    assert broken(stage.cluster.history, FEW, (), ()) == []


def without_rule_3(patch: Patch) -> None:
    """A worker says how many slots are free, not counting what is on its way to it."""

    def offer(self: Fleet, worker: Worker, pool: Pool, credit: int) -> None:
        self.free[pool] += credit - worker.free[pool]
        worker.free[pool] = credit

    patch.setattr(Fleet, "offer", offer)
    patch.setattr(SlotPool, "credit", property(lambda self: max(0, self.free)))


async def a_cancel_does_not_overtake_its_grant(stage: Stage) -> None:
    message = message_of(Job("a", seconds=3.0))
    stage.ids["a"] = message.id
    session = stage.client.session
    submission = stage.client._submission(message, None)
    # In one breath, so that grant and cancel are in one batch too.
    session.ask(m.Submit(session.number(), (submission,), False, session.lineage))
    answer = session.ask(m.CancelTask(session.number(), message.id, Cancel("user"), 10.0))

    with trio.fail_after(1):
        ended = await answer.wait()

    assert ended.head.status == "cancelled"
    assert not [run for run in stage.happened("ended", "a") if run.details["how"] == "returned"]


def without_rule_4(patch: Patch) -> None:
    """Interrupts go before everything else."""
    received = Guest.received

    def hasty(self: Guest, message: Any) -> None:
        if isinstance(message, m.Interrupt) and self.wire is not None:
            self.wire.send_first(message)
        else:
            received(self, message)

    patch.setattr(Guest, "received", hasty)


async def an_outcome_that_is_gone_from_the_store_still_arrives(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=0.5))
    links = stage.hold("client-0", "far")
    await trio.sleep(1.0)  # virtual
    for link in links:
        link.reset()

    with trio.fail_after(3):
        assert (await handle.wait()).ok


def without_rule_5(patch: Patch) -> None:
    """What was sent is not kept until it has come."""

    def careless(self: Guest, data: bytes) -> None:
        if self.wire is not None:
            self.wire.send(data)

    patch.setattr(Guest, "_keep", careless)


async def what_may_have_run_elsewhere_is_refused(stage: Stage) -> None:
    stage.hold("client-0", "far")
    stage.strike(Fault(0.8, "restart queue", seconds=0.5))

    refused = False
    with trio.fail_after(8):
        try:
            await stage.submit(Job("a", seconds=5.0, options={"at_most_once": True}))
        except SubmitError:
            refused = True
    await trio.sleep(5.0)  # virtual: for it to start there

    assert refused
    assert len(stage.happened("started", "a")) == 1


def without_rule_6(patch: Patch) -> None:
    """What is sent again is new to whoever does not know it."""
    patch.setattr(QueueMachine, "_doubt", lambda *_: None)


async def the_end_of_an_old_connection_says_nothing(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=12.0))
    await trio.sleep(0.2)  # virtual
    stage.hold(stage.worker_of("a"), "near")  # silent: it is dialled again

    result = await handle.wait()

    assert result.ok
    assert len(stage.happened("started", "a")) == 1
    assert stage.deaths("a") == 0


def without_rule_7(patch: Patch) -> None:
    """The end of any connection of a node is the end of its connection."""

    def unbind(self: Guest, wire: Any) -> None:
        self.wire = None
        self.parted.set()
        if self._port is not None:
            self._port.send(m.Away())

    patch.setattr(Guest, "unbind", unbind)


async def a_silent_connection_is_dialled_again(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=1.0))
    await trio.sleep(0.2)  # virtual
    stage.hold(stage.worker_of("a"), "near", "far")

    with trio.fail_after(8):
        assert (await handle.wait()).ok

    assert len(stage.happened("started", "a")) == 1


def without_rule_8(patch: Patch) -> None:
    """Nobody minds silence at the end that dialled."""
    patch.setattr(w, "SILENCE_AT_DIALLER", 1e9)


async def a_blocked_loop_keeps_its_tasks(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=1.0))
    await trio.sleep(0.2)  # virtual
    stage.strike(Fault(0.0, "block", stage.worker_of("a"), 25.0))

    with trio.fail_after(30):
        assert (await handle.wait()).ok

    assert len(stage.happened("started", "a")) == 1


def without_rule_8_for_beats(patch: Patch) -> None:
    """A beat with a lag does not excuse the silence of the main connection."""
    patch.setattr(Guest, "heard_by_beat", property(lambda _: False, lambda *_: None), raising=False)


async def silent_beats_are_dialled_again(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=10.0))
    await trio.sleep(0.2)  # virtual
    worker = stage.worker_of("a")
    beats = stage.beats(worker)
    beats.hold("near")
    beats.hold("far")
    await trio.sleep(8.5)  # virtual
    stage.strike(Fault(0.0, "block", worker, 25.0))

    with trio.fail_after(35):
        assert (await handle.wait()).ok

    assert len(stage.happened("started", "a")) == 1


def without_rule_9(patch: Patch) -> None:
    """Nobody minds unanswered beats."""
    patch.setattr(w, "BEAT_SILENCE", 1e9)


async def a_scope_survives_a_short_cut(stage: Stage) -> None:
    values: list[str] = []

    async def block() -> None:
        async with stage.client.open_nursery() as nursery:
            handle = await nursery.submit(message_of(Job("a", seconds=3.0)))
            values.append(await handle.value())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(block)
        await trio.sleep(0.5)  # virtual
        for link in stage.links("client-0"):
            link.reset()

    assert values
    assert len(stage.happened("started", "a")) == 1


def without_rule_10(patch: Patch) -> None:
    """Only scopes that the hello of a client names are alive: after any cut, none."""
    hello = QueueMachine._client_hello

    def strict(self: QueueMachine, origin: int, message: m.ClientHello) -> None:
        if message.session in self._sessions:
            self._lose_session(message.session)
        hello(self, origin, message)

    patch.setattr(QueueMachine, "_client_hello", strict)


async def the_end_of_a_scope_is_said_until_it_is_answered(stage: Stage) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await trio.sleep(0.5)  # virtual
                links = stage.hold("client-0", "near")
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.2)  # virtual
                for link in links:
                    link.reset()

            nursery.start_soon(cancel)
            with trio.fail_after(3):
                async with stage.client.open_nursery() as tasks:
                    await tasks.submit(message_of(Job("a", seconds=30.0)))

    assert [run.details["how"] for run in stage.happened("ended", "a")] == ["cancelled"]


def without_rule_10_for_ends(patch: Patch) -> None:
    """The end of a scope is said once."""
    ask = Session.ask

    def once(self: Session, request: Any, done: Any = None) -> Any:
        answer = ask(self, request, done)
        if isinstance(request, m.EndScope):
            self._unanswered.pop(request.request, None)
        return answer

    patch.setattr(Session, "ask", once)


async def after_a_restart_there_is_a_window_to_come_back_in(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=10.0))
    await trio.sleep(0.2)  # virtual
    stage.strike(Fault(0.0, "refuse", stage.worker_of("a"), 4.0))
    stage.strike(Fault(0.0, "crash actor"))
    other = await stage.submit(Job("b"))  # the commit that fails

    assert (await other.wait()).ok
    assert (await handle.wait()).ok
    assert len(stage.happened("started", "a")) == 1


def without_rule_11(patch: Patch) -> None:
    """Whoever is not back yet is not alive."""
    meet = Attending._meet

    def hurried(self: Attending) -> None:
        expected = sorted(self._expected)
        meet(self)
        for key in expected:
            self._until.set(key, self._now + 0.5)

    patch.setattr(Attending, "_meet", hurried)


async def a_cancel_that_was_lost_is_said_again(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=30.0))
    await trio.sleep(0.2)  # virtual
    links = stage.hold(stage.worker_of("a"), "far")

    async def cut() -> None:
        await trio.sleep(0.5)  # virtual
        for link in links:
            link.reset()

    stage.nursery.start_soon(cut)
    with trio.fail_after(3):
        result = await handle.cancel(grace=20.0)

    assert result.status == "cancelled"
    assert [run.details["how"] for run in stage.happened("ended", "a")] == ["cancelled"]


def without_rule_12(patch: Patch) -> None:
    """When a worker is back it is told what to keep and what to drop, but of no cancel."""
    hello = QueueMachine._worker_hello

    def silent(self: QueueMachine, origin: int, message: m.WorkerHello) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(QueueMachine, "_interrupt", lambda *_: None)
            hello(self, origin, message)

    patch.setattr(QueueMachine, "_worker_hello", silent)


async def a_cancelled_task_whose_worker_dies_is_cancelled(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=30.0))
    await trio.sleep(0.2)  # virtual
    worker = stage.worker_of("a")
    stage.hold(worker, "near", "far")
    stage.nursery.start_soon(partial(handle.cancel, grace=40.0))
    await trio.sleep(0.2)  # virtual
    stage.cluster.kill(stage.cluster.nodes[worker], told=True, reported=False)

    with trio.fail_after(20):
        result = await handle.wait()

    assert result.status == "cancelled"
    assert len(stage.happened("started", "a")) == 1


def without_rule_13(patch: Patch) -> None:
    """A lost worker's tasks run again, whatever somebody wished for meanwhile."""
    lose = QueueMachine._lose

    def blind(self: QueueMachine, live: Any) -> None:
        self._ledger.note(live, cancel=None)
        lose(self, live)

    patch.setattr(QueueMachine, "_lose", blind)


async def a_poison_task_dies_though_nobody_saw_it_start(stage: Stage) -> None:
    handle = await stage.submit(Job("a", "poison", times=10))

    result = await handle.wait()

    assert result.status == "failure"
    assert result.error is not None
    assert result.error.type.endswith("WorkerLost")
    assert len(stage.happened("poisoned", "a")) == 3


def without_rule_14(patch: Patch) -> None:
    """Only what is known to have started can have killed its worker."""
    lose = QueueMachine._lose

    def lenient(self: QueueMachine, live: Any) -> None:
        if live.run.started is None:
            self._put_back(live, Move.LOSE)
        else:
            lose(self, live)

    patch.setattr(QueueMachine, "_lose", lenient)


async def a_stall_of_the_owner_expires_nobody(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=25.0))
    await trio.sleep(0.2)  # virtual
    stage.strike(Fault(0.0, "stall", "queue", 20.0))

    assert (await handle.wait()).ok
    assert len(stage.happened("started", "a")) == 1
    assert not stage.happened("event", kind="worker_lost")


def without_rule_16(patch: Patch) -> None:
    """The time that the owner has slept through counts."""
    look = Attending._look_at_clock

    def exact(self: Attending) -> None:
        self._pulse = self._now
        look(self)

    patch.setattr(Attending, "_look_at_clock", exact)


async def the_late_result_of_a_lost_worker_is_refused(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=8.0))
    await trio.sleep(0.2)  # virtual
    stage.strike(Fault(0.0, "stall", stage.worker_of("a"), 20.0))

    result = await handle.wait()

    first, second = stage.happened("started", "a")
    assert result.worker is not None
    assert result.worker.startswith(second.where)
    assert str(result.value).endswith(f" {second.details['run']}")
    assert first.where != second.where


def without_fences(patch: Patch) -> None:
    """Whoever says that it has finished a task has."""

    def anybody(self: Granting, origin: int, id: str, fence: int) -> Any:
        live = self._live.get(id)
        return live if live is not None and live.head.status == "running" else None

    patch.setattr(Granting, "_held", anybody)


RULES: list[tuple[str, Scenario, Callable[[Patch], None], Setup]] = [
    ("1", a_lost_grant_is_granted_again_at_once, without_rule_1, FEW),
    ("2", a_finish_is_said_again_until_it_is_answered, without_rule_2, FEW),
    ("3", nobody_is_granted_more_than_there_are_slots_for, without_rule_3, FEW),
    ("4", a_cancel_does_not_overtake_its_grant, without_rule_4, FEW),
    (
        "5",
        an_outcome_that_is_gone_from_the_store_still_arrives,
        without_rule_5,
        Setup(clients=1, workers=1, parent=False, max_results=0),
    ),
    ("6", what_may_have_run_elsewhere_is_refused, without_rule_6, FEW),
    ("7", the_end_of_an_old_connection_says_nothing, without_rule_7, FEW),
    ("8", a_silent_connection_is_dialled_again, without_rule_8, FEW),
    ("8b", a_blocked_loop_keeps_its_tasks, without_rule_8_for_beats, FEW),
    ("9", silent_beats_are_dialled_again, without_rule_9, FEW),
    ("10", a_scope_survives_a_short_cut, without_rule_10, FEW),
    ("10b", the_end_of_a_scope_is_said_until_it_is_answered, without_rule_10_for_ends, FEW),
    ("11", after_a_restart_there_is_a_window_to_come_back_in, without_rule_11, FEW),
    ("12", a_cancel_that_was_lost_is_said_again, without_rule_12, FEW),
    ("13", a_cancelled_task_whose_worker_dies_is_cancelled, without_rule_13, FEW),
    ("14", a_poison_task_dies_though_nobody_saw_it_start, without_rule_14, FEW),
    ("16", a_stall_of_the_owner_expires_nobody, without_rule_16, ONE),
    ("fences", the_late_result_of_a_lost_worker_is_refused, without_fences, FEW),
]
each = pytest.mark.parametrize(
    ("scenario", "without", "setup"),
    [pytest.param(*rest, id=f"rule {name}: {rest[0].__name__}") for name, *rest in RULES],
)


@each
def test_with_the_rule(scenario: Scenario, without: Callable[[Patch], None], setup: Setup) -> None:
    play(scenario, setup)


@each
def test_without_the_rule_it_fails(
    scenario: Scenario, without: Callable[[Patch], None], setup: Setup, monkeypatch: Patch
) -> None:
    without(monkeypatch)

    with pytest.raises((AssertionError, trio.TooSlowError, TaskNotFound, TaskError)):
        play(scenario, setup)
