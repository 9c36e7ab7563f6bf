"""The rules of durable queues: each with the fault that shows it, and what happens without it.

Two queue nodes share a disk, and take over from one another. (Rules 5, 6 and 16 are the
machine's alone; see tests/machines.)
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

import pytest
import trio
from attrs import evolve
from msgspec.structs import replace

from actorq.actors.owner import Owner
from actorq.actors.queue import QueueActor
from actorq.actors.worker import WorkerActor
from actorq.client.session import Session
from actorq.errors import ActorqError, RowRefused, StoreError, StoreUnavailable, SubmitError
from actorq.machines import attending
from actorq.machines.effects import Effect, Send
from actorq.machines.limits import Gates
from actorq.machines.queue import Mail, QueueMachine
from actorq.machines.schedules import Schedules
from actorq.machines.states import Move
from actorq.machines.tables import Tables
from actorq.model import messages as m
from actorq.model.records import Note, Write
from actorq.model.schedules import Every
from actorq.runtime.exchange import Exchange, Post
from actorq.tasks import TaskMessage
from actorq.testing.cluster import Fault
from actorq.testing.nodes import Setup
from actorq.testing.workload import Job, message_of, perform
from tests.simulation.stage import Scenario, Stage, play

Patch = pytest.MonkeyPatch
ALONE = Setup(clients=1, workers=2, slots=2, parent=False, store="disk")
PAIR = evolve(ALONE, standby=True)


async def a_restart_of_the_owner_is_a_lost_connection_for_everybody(stage: Stage) -> None:
    running = await stage.submit(Job("a", seconds=1.0))
    stage.strike(Fault(0.0, "crash actor", "owner"))
    await trio.sleep(0.01)  # virtual

    with trio.fail_after(5):
        handle = await stage.submit(Job("b"))
        assert (await handle.wait()).ok
        assert (await running.wait()).ok

    assert stage.happened("event", kind="actor_restarted")
    assert len(stage.happened("started")) == 2


def without_rule_1(patch: Patch) -> None:
    """Connections outlive the incarnation of the actor that they were made with."""
    close, connect = Exchange.close, Exchange.open

    def keep(self: Exchange, error: BaseException | None = None) -> None:
        if error is not None:
            close(self, error)
        self._post = None

    def go_on(self: Exchange, post: Post) -> None:
        if not self.connected:
            connect(self, post)
        self._post = post
        for port in self._peers.values():
            if port is not None:
                port.post = post

    patch.setattr(Exchange, "close", keep)
    patch.setattr(Exchange, "open", go_on)


async def a_finish_that_is_said_again_comes_before_new_grants(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=0.5, options={"at_most_once": True}))
    await trio.sleep(0.2)  # virtual
    stage.kill_owner_in_commit(applied=False)

    with trio.fail_after(5):
        assert (await handle.wait()).ok

    assert stage.epoch() == 2
    assert len(stage.happened("started", "a")) == 1


def without_rule_2(patch: Patch) -> None:
    """A worker's hello lists what it runs, not what it has not been answered about."""
    connected = WorkerActor.connected

    class Curt:
        def __init__(self, port: Any, unanswered: Any) -> None:
            self.port, self.unanswered = port, unanswered

        def send(self, hello: Any, *rest: Any) -> None:
            if isinstance(hello, m.WorkerHello):
                running = tuple(key for key in hello.running if key not in self.unanswered)
                hello = replace(hello, running=running)
            self.port.send(hello, *rest)

    def curtly(self: WorkerActor, port: Any) -> None:
        connected(self, Curt(port, set(self._unanswered)))

    patch.setattr(WorkerActor, "connected", curtly)


async def a_grant_that_is_being_written_does_not_follow_its_worker(stage: Stage) -> None:
    stage.disk.hang()
    with trio.fail_after(8):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.submit, Job("a", seconds=0.5, options={"at_most_once": True}))
            await trio.sleep(0.1)  # virtual
            for link in (*stage.links("worker-0"), *stage.links("worker-1")):
                link.reset()
            await trio.sleep(1.0)  # virtual: both are back
            stage.disk.heal()
        assert (await stage.client.handle(stage.ids["a"], perform).wait()).ok
    await trio.sleep(1.0)  # virtual

    assert len(stage.happened("started", "a")) == 1


def without_rule_2_for_grants(patch: Patch) -> None:
    """A worker has one number, over whatever connection it comes."""
    patch.setattr(Exchange, "renew", lambda self, peer: self._peers[peer])


async def what_was_granted_and_never_sent_is_granted_again(stage: Stage) -> None:
    stage.kill_owner_in_commit(applied=True)

    with trio.fail_after(5):
        handle = await stage.submit(Job("a", seconds=0.5, options={"at_most_once": True}))
        result = await handle.wait()

    assert result.ok
    assert result.attempts == 1
    assert stage.epoch() == 2
    assert stage.deaths("a") == 0
    assert len(stage.happened("started", "a")) == 1


def without_rule_3(patch: Patch) -> None:
    """A hello is taken to list everything that the store says."""
    hello = QueueMachine._worker_hello

    def trusting(self: QueueMachine, origin: int, message: m.WorkerHello) -> None:
        known = self._fleet.known(message.node)
        held = () if known is None else known.held
        listed = tuple((id, self._live[id].head.fence) for id in held)
        hello(self, origin, replace(message, running=(*message.running, *listed)))

    patch.setattr(QueueMachine, "_worker_hello", trusting)


async def a_finish_is_answered_after_its_commit(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=0.5, options={"at_most_once": True}))
    await trio.sleep(0.2)  # virtual
    stage.disk.hang()
    await trio.sleep(1.0)  # virtual: it has ended, and cannot be stored
    owner = stage.kill_owner()
    stage.disk.lose(owner.process.name)
    stage.disk.heal()

    with trio.fail_after(5):
        assert (await handle.wait()).ok
        await trio.sleep(2.0)  # virtual

    assert stage.epoch() == 2
    assert len(stage.happened("started", "a")) == 1


def without_rule_3_for_effects(patch: Patch) -> None:
    """What is decided is said, and then written."""
    carry_out = QueueActor._carry_out

    async def hasty(self: QueueActor, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if type(effect) is Send and (peer := self._exchange.connected.get(effect.to)):
                peer.received(effect.message)
        return await carry_out(self, [effect for effect in effects if type(effect) is not Send])

    patch.setattr(QueueActor, "_carry_out", hasty)


async def a_refused_task_fails_its_own_submit_and_no_other(stage: Stage) -> None:
    labels = ("first", "bad", "good")
    stage.disk.refuses = lambda head: head.id == stage.ids["bad"]
    stage.strike(Fault(0.0, "disk slow", "owner", 5.0))
    await trio.sleep(0.01)  # virtual
    refused: dict[str, str] = {}

    async def submit(label: str) -> None:
        try:
            handle = await stage.submit(Job(label, seconds=0.5, options={"limit": "single"}))
            assert (await handle.wait()).ok
        except StoreError as error:
            refused[label] = str(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for label in labels:  # the last two in one commit
                nursery.start_soon(submit, label)
                await trio.sleep(0.1)  # virtual

    assert refused.keys() == {"bad"}
    assert stage.ids["bad"] in refused["bad"]
    assert [len(stage.happened("started", label)) for label in labels] == [1, 0, 1]


def without_rule_4(patch: Patch) -> None:
    """What is refused is left out, and all the rest written."""
    commit = Owner.commit

    async def cut_out(self: Owner, writes: Sequence[Write], notes: Sequence[Note] = ()) -> None:
        while True:
            try:
                await commit(self, writes, notes)
            except RowRefused as error:
                writes = [write for write in writes if write.id != error.id]
            else:
                return

    patch.setattr(Owner, "commit", cut_out)


async def a_refused_outcome_is_a_failure_of_its_task(stage: Stage) -> None:
    stage.disk.refuses = lambda head: head.status == "success" and head.id == stage.ids["a"]
    with trio.fail_after(10):
        handle = await stage.submit(Job("a", seconds=0.1))
        other = await stage.submit(Job("b", seconds=0.1))
        result = await handle.wait()
        assert (await other.wait()).ok

    assert result.error is not None
    assert result.error.type.endswith("RowRefused")
    assert len(stage.happened("started", "a")) == 1


def without_rule_4_for_outcomes(patch: Patch) -> None:
    """Nobody remembers what was refused."""
    patch.setattr(Tables, "refuse", lambda *_: None)


async def hand_backs_and_take_overs_are_no_deaths(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=6.0, options={"max_deliveries": 2}))
    for _ in range(2):
        await trio.sleep(1.0)  # virtual
        stage.strike(Fault(0.0, "drain", stage.worker_of("a")))
        await trio.sleep(3.0)  # virtual
        stage.strike(Fault(0.0, "restart queue", "owner", 0.5))
    await trio.sleep(1.0)  # virtual
    stage.strike(Fault(0.0, "crash", stage.worker_of("a")))

    assert (await handle.wait()).ok
    assert stage.deaths("a") == 1
    assert stage.happened("record", "a")[-1].details["fence"] >= 4


def without_rule_7(patch: Patch) -> None:
    """Every grant but the first is taken for a death."""
    lose = QueueMachine._lose

    def by_fence(self: QueueMachine, live: Any) -> None:
        self._ledger.note(live, deaths=live.head.fence - 1)
        lose(self, live)

    patch.setattr(QueueMachine, "_lose", by_fence)


async def what_nobody_reclaims_after_a_take_over_is_a_death(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=20.0, options={"max_deliveries": 1}))
    await trio.sleep(0.5)  # virtual
    worker = stage.cluster.nodes[stage.worker_of("a")]
    stage.kill_owner()
    stage.cluster.kill(worker, told=True, reported=False)

    with trio.fail_after(8):
        result = await handle.wait()

    assert result.error is not None
    assert result.error.type.endswith("WorkerLost")
    assert len(stage.happened("started", "a")) == 1


def without_rule_7_at_load(patch: Patch) -> None:
    """Of what runs at load nobody knows anything, so it is delivered again."""

    def put_back(self: QueueMachine, live: Any) -> None:
        self._put_back(live, Move.HAND_BACK)

    patch.setattr(QueueMachine, "_lose", put_back)


async def a_finish_that_is_said_again_is_accepted_again(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=0.5))
    await trio.sleep(0.2)  # virtual
    stage.kill_owner_in_commit(applied=True)

    with trio.fail_after(5):
        assert (await handle.wait()).ok
    await trio.sleep(2.0)  # virtual

    assert stage.epoch() == 2
    assert not stage.happened("event", kind="stale_result")
    assert len(stage.happened("started", "a")) == 1


def without_rule_8(patch: Patch) -> None:
    """What has ended has no fence any more."""
    answer = QueueMachine._answer_late_finish

    def strict(self: QueueMachine, origin: int, finish: m.Finish, head: Any) -> None:
        answer(self, origin, finish, None if head is None else replace(head, fence=0))

    patch.setattr(QueueMachine, "_answer_late_finish", strict)


async def what_may_have_been_forgotten_is_not_run_again(stage: Stage) -> None:
    stage.hold("client-0", "far")
    refusals: list[str] = []

    async def submit() -> None:
        try:
            await stage.submit(Job("a", options={"result_ttl": 0.0}))
        except SubmitError as error:
            refusals.append(str(error))

    with trio.fail_after(8):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await trio.sleep(1.0)  # virtual: it has ended, and is forgotten
            assert stage.happened("record", "a")[-1].details["status"] == "success"
            stage.kill_owner()

    assert ["nobody knows whether it has run" in said for said in refusals] == [True]
    assert len(stage.happened("started", "a")) == 1


def without_rule_9(patch: Patch) -> None:
    """Nobody remembers that anything was ever forgotten."""
    patch.setattr(Tables, "forgot", lambda *_: None)


async def what_is_forgotten_does_not_depend_on_whose_clock_is_right(stage: Stage) -> None:
    first = stage.cluster.owner
    assert first.process.skew > 0
    stage.hold("client-0", "near")
    refusals: list[str] = []

    async def submit() -> None:
        try:
            await stage.submit(Job("a", options={"result_ttl": 0.0}))
        except SubmitError as error:
            refusals.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        await trio.sleep(0.5)  # virtual
        stage.kill_owner()  # which has not heard of it
        stage.cluster.start(first.role)
        stage.disk.extra = 0.5
        peer = "ws://queue:7717"
        await stage.until(
            lambda: len(stage.happened("connection", kind="connected", peer=peer)) == 3
        )
        await trio.sleep(0.1)  # virtual: all are there, and it has been said again
        stage.cluster.internet.door("client-0", "queue", "refusing")
        stage.hold("client-0", "far")
        await trio.sleep(16.0)  # virtual: it has ended, and is forgotten
        assert stage.happened("record", "a")[-1].details["status"] == "success"
        assert stage.disk.records.tables()["records"] == 0
        stage.disk.heal()
        stage.kill_owner()
        await trio.sleep(5.0)  # virtual

    assert stage.cluster.owner.role == first.role
    assert ["nobody knows whether it has run" in said for said in refusals] == [True]
    assert len(stage.happened("started", "a")) == 1


def without_rule_9_for_clocks(patch: Patch) -> None:
    """What is said again has the stamp that it was first said with, of whoever was the owner."""
    stamp = Session.stamp
    stamped: set[Session] = set()

    def first(self: Session) -> float | None:
        if self in stamped:
            return inf
        stamped.add(self)
        return stamp(self)

    patch.setattr(Session, "stamp", first)


async def a_window_outlives_its_owner(stage: Stage) -> None:
    jobs = [Job(f"t{n}", options={"limit": "single slow"}) for n in range(7)]  # 3 in 2 s
    handles = await stage.client.submit_many([message_of(job) for job in jobs])
    await trio.sleep(0.5)  # virtual: three of them have started
    stage.kill_owner()
    with trio.fail_after(10):
        for handle in handles:
            assert (await handle.wait()).ok

    times = [run.at for run in stage.happened("started")]
    assert stage.epoch() == 2
    assert len(times) == 7
    assert all(last - first > 1.9 for first, last in zip(times, times[3:], strict=False))


def without_rule_10(patch: Patch) -> None:
    """Nobody knows what an earlier owner has started."""
    patch.setattr(Gates, "load", lambda *_: None)


async def a_tick_that_is_forgotten_does_not_come_again(stage: Stage) -> None:
    message = message_of(Job("tick", options={"result_ttl": 0.0}))
    await stage.client.schedule(message, Every(3.0), name="s")
    await trio.sleep(3.5)  # virtual: it has ticked, and that is forgotten
    assert len(stage.happened("started", "tick")) == 1
    stage.kill_owner()
    await trio.sleep(4.0)  # virtual

    assert stage.epoch() == 2
    ids = [run.details["id"] for run in stage.happened("started", "tick")]
    assert len(ids) == len(set(ids)) == 2


def without_rule_11(patch: Patch) -> None:
    """What ticks is kept, but not how far its schedule has got by that."""
    tick = Schedules.tick

    def forgetful(self: Schedules, now: float) -> None:
        before = len(self._out)
        tick(self, now)
        self._out[before:] = [effect for effect in self._out[before:] if type(effect) is not Note]

    patch.setattr(Schedules, "tick", forgetful)


async def a_former_owner_does_not_say_what_was_true_once(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=3.0))
    await trio.sleep(0.5)  # virtual
    former = stage.cluster.owner
    assert former.system is not None
    stage.strike(Fault(0.0, "stall", former.role, 14.0))
    await trio.sleep(13.0)  # virtual
    assert stage.cluster.owner is not former
    assert stage.happened("record", "a")[-1].details["status"] == "success"

    try:  # as whoever lives in the same process, and is awake before the queue is
        seen = str((await former.system.result(handle.id)).status)
    except StoreUnavailable:
        seen = "not known here"

    assert seen == "not known here"
    assert (await handle.wait()).ok


def without_rule_12(patch: Patch) -> None:
    """Whoever was the owner a moment ago is the owner."""
    patch.setattr(Owner, "fresh", property(lambda _: True))


async def a_commit_has_each_record_once(stage: Stage) -> None:
    stage.strike(Fault(0.0, "disk slow", "owner", 5.0))
    await trio.sleep(0.01)  # virtual
    async with trio.open_nursery() as nursery:
        for label in "ab":
            nursery.start_soon(stage.submit, Job(label, seconds=0.1))
            await trio.sleep(0.05)  # virtual
        nursery.start_soon(stage.client.cancel, stage.ids["b"])
        await trio.sleep(5.0)  # virtual

    assert not stage.happened("event", kind="actor_restarted")
    assert stage.happened("record", "b")[-1].details["status"] == "cancelled"


def without_rule_13(patch: Patch) -> None:
    """A commit has everything in the order in which it was decided."""
    turn, carry_out, commit = QueueMachine.turn, QueueActor._carry_out, Owner.commit
    decided: list[list[Write]] = []

    def one_by_one(self: QueueMachine, mail: Iterable[Mail], now: float) -> list[Effect]:
        return [effect for item in mail for effect in turn(self, (item,), now)]

    async def note(self: QueueActor, effects: list[Effect]) -> list[Effect]:
        decided.append([effect for effect in effects if type(effect) is Write])
        return await carry_out(self, effects)

    async def commit_all(self: Owner, writes: Sequence[Write], notes: Sequence[Note] = ()) -> None:
        await commit(self, decided.pop() if writes else writes, notes)

    patch.setattr(QueueMachine, "turn", one_by_one)
    patch.setattr(QueueActor, "_carry_out", note)
    patch.setattr(Owner, "commit", commit_all)


async def what_an_owner_ran_itself_is_run_again_at_once(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=1.0))
    await trio.sleep(0.5)  # virtual
    assert stage.worker_of("a") == stage.kill_owner().role

    with trio.fail_after(3):
        assert (await handle.wait()).ok

    assert len(stage.happened("started", "a")) == 2


def without_rule_14(patch: Patch) -> None:
    """A worker in the process of an owner is one like the others, who may come back."""
    patch.setattr(attending, "HOME", "nobody is called that")


async def a_new_incarnation_ends_what_the_former_one_held(stage: Stage) -> None:
    handle = await stage.submit(Job("a", seconds=1.0))
    await trio.sleep(0.5)  # virtual
    worker = stage.cluster.nodes[stage.worker_of("a")]
    stage.kill_owner()
    stage.cluster.kill(worker, told=False, reported=False)
    stage.cluster.start(worker.role)

    with trio.fail_after(3):
        assert (await handle.wait()).ok


def without_rule_14_for_workers(patch: Patch) -> None:
    """Whoever held a task may come back for it, whoever else has come."""
    hello = QueueMachine._worker_hello

    def patient(self: QueueMachine, origin: int, message: m.WorkerHello) -> None:
        former = self._fleet.known(message.node)
        if former is not None and former.name != message.worker:
            self._fleet._by_node[former.name] = self._fleet._by_node.pop(former.node)
            former.node = former.name
            self._until.set("worker " + former.name, self._now + self._limits.window)
        hello(self, origin, message)

    patch.setattr(QueueMachine, "_worker_hello", patient)


async def nobody_waits_without_end_for_a_disk_that_is_full(stage: Stage) -> None:
    running = await stage.submit(Job("a", seconds=2.0, options={"at_most_once": True}))
    await trio.sleep(0.5)  # virtual
    stage.disk.full = True
    message = message_of(Job("b"))

    async def is_taken(message: TaskMessage[str]) -> bool:
        try:
            await stage.client.submit(message)
        except StoreUnavailable:
            return False
        return True

    with trio.fail_after(15):
        assert not await is_taken(message)
    with trio.fail_after(1):
        assert not await is_taken(message_of(Job("c")))
    await trio.sleep(10.0)  # virtual
    stage.disk.heal()
    with trio.fail_after(8):
        assert (await running.wait()).ok
        assert (await (await stage.client.submit(message)).wait()).ok

    assert [len(stage.happened("started", label)) for label in "abc"] == [1, 1, 0]


def without_rule_15(patch: Patch) -> None:
    """Whoever has asked waits until it can be done."""
    patch.setattr(Exchange, "suspend", lambda *_: None)


RULES: list[tuple[str, Scenario, Callable[[Patch], None], Setup]] = [
    ("1", a_restart_of_the_owner_is_a_lost_connection_for_everybody, without_rule_1, ALONE),
    ("2", a_finish_that_is_said_again_comes_before_new_grants, without_rule_2, PAIR),
    (
        "2b",
        a_grant_that_is_being_written_does_not_follow_its_worker,
        without_rule_2_for_grants,
        ALONE,
    ),
    ("3", what_was_granted_and_never_sent_is_granted_again, without_rule_3, PAIR),
    ("3b", a_finish_is_answered_after_its_commit, without_rule_3_for_effects, PAIR),
    ("4", a_refused_task_fails_its_own_submit_and_no_other, without_rule_4, ALONE),
    ("4b", a_refused_outcome_is_a_failure_of_its_task, without_rule_4_for_outcomes, ALONE),
    ("7", hand_backs_and_take_overs_are_no_deaths, without_rule_7, PAIR),
    ("7b", what_nobody_reclaims_after_a_take_over_is_a_death, without_rule_7_at_load, PAIR),
    ("8", a_finish_that_is_said_again_is_accepted_again, without_rule_8, PAIR),
    ("9", what_may_have_been_forgotten_is_not_run_again, without_rule_9, PAIR),
    (
        "9b",
        what_is_forgotten_does_not_depend_on_whose_clock_is_right,
        without_rule_9_for_clocks,
        evolve(PAIR, skew=8.0),
    ),
    ("10", a_window_outlives_its_owner, without_rule_10, PAIR),
    ("11", a_tick_that_is_forgotten_does_not_come_again, without_rule_11, PAIR),
    ("12", a_former_owner_does_not_say_what_was_true_once, without_rule_12, PAIR),
    ("13", a_commit_has_each_record_once, without_rule_13, ALONE),
    (
        "14",
        what_an_owner_ran_itself_is_run_again_at_once,
        without_rule_14,
        evolve(PAIR, workers=0, home=2),
    ),
    (
        "14b",
        a_new_incarnation_ends_what_the_former_one_held,
        without_rule_14_for_workers,
        evolve(PAIR, workers=1, namesakes=True),
    ),
    ("15", nobody_waits_without_end_for_a_disk_that_is_full, without_rule_15, ALONE),
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

    with pytest.raises((AssertionError, trio.TooSlowError, ActorqError)):
        play(scenario, setup)
