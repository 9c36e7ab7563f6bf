"""The queue's machine beside a model, in any order of events, crashes of the owner included.

The model is a dictionary of heads and one function that says what may become of a task. Every step
of the machine is held against it: each change of a head must have a reason, and only the change
that the reason allows; grants must come in order and fit the credit. At the end everything is
finished, and nothing may be left: no task, no table entry, nobody who waits for an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from math import inf
from random import Random
from typing import Any

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace

from actorq.machines.effects import Effect, Searched, Send
from actorq.model import messages as m
from actorq.model.filters import Filter
from actorq.model.options import Retry
from actorq.model.records import Head, Output, Write
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SCHEDULED,
    SUCCESS,
    TaskPriority,
)
from tests.machines.stage import BOOM, Stage, Worker, task

MAX_PENDING = 6
HOUR = 3600
WAITING = {SCHEDULED, PENDING}


def ends_at(head: Head) -> float:
    """Return when a task's deadline is over."""
    return inf if head.options.deadline is None else head.since + head.options.deadline


class OwnerCrashed(Exception):
    """The owner died, before or after the commit of what was said to it."""


class Referee(Stage):
    """A stage on which every step of the machine is held against the model."""

    def __init__(self) -> None:
        super().__init__(max_pending=MAX_PENDING, result_ttl=1e9)
        self.client = 1
        self.fate = "lives"
        self.heads: dict[str, Head] = {}
        self.starts: set[tuple[str, int]] = set()
        self.wishes: list[tuple[str, str, float]] = []
        """Which id or scope shall be cancelled, and when that may happen without the worker."""
        self.revived: dict[str, int] = {}
        """How many of the wishes were about an earlier run of a task."""
        self.granted: set[tuple[str, int]] = set()
        self.entered: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.accepted: set[str] = set()
        self.informed: set[str] = set()
        self.discarded: set[str] = set()

    # --- crashes ---------------------------------------------------------------------------------

    def say(self, origin: int, *messages: Any) -> None:
        if self.fate == "dies before the commit":
            raise OwnerCrashed
        super().say(origin, *messages)
        if self.fate == "dies after the commit":
            raise OwnerCrashed

    def deliver(self, to: int, message: Any) -> None:
        if self.fate == "lives":
            if isinstance(message, m.Outcome) and to == self.client:
                self.informed.add(message.head.id)
            super().deliver(to, message)

    def crash(self) -> None:
        super().crash()
        self.fate = "lives"
        self.starts.clear()
        self.heads = {id: record.head for id, record in self.records.items()}

    # --- every step ------------------------------------------------------------------------------

    def step(self, origin: int, messages: Sequence[Any]) -> list[Effect]:
        before, line = dict(self.heads), self.machine.tables()["parked"]
        for message in messages:
            self.note_wishes(message)
        effects = super().step(origin, messages)
        writes = [effect for effect in effects if isinstance(effect, Write)]
        for write in writes:
            self.check(before.get(write.id), write, messages)
        grants = [
            effect.message.head
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message, m.Grant)
        ]
        new = [id for id in self.heads if id not in before]
        for grant in grants:
            assert (grant.id, grant.fence) not in self.granted, "granted twice"
            assert self.heads[grant.id] == grant, "granted before it is written"
            self.granted.add((grant.id, grant.fence))
        if not line:
            self.check_room(before, new)
        self.check_order(grants, exempt=new if line else [])
        live = [head for head in self.heads.values() if not head.status.terminal]
        tables = self.machine.tables()
        assert tables["live"] == len(live), "lost or kept too long"
        assert tables["held"] == sum(head.status is RUNNING for head in live)
        return effects

    def note_wishes(self, message: Any) -> None:
        match message:
            case m.CancelTask():
                self.wishes.append(("id", message.id, self.now + message.grace))
            case m.EndScope():
                self.wishes.append(("scope", message.scope, self.now + message.grace))
            case Searched() if getattr(message.message, "verb", "") == "cancel":
                at = self.now + message.message.grace
                self.wishes += [("id", record.head.id, at) for record in message.records]

    def wished(self, head: Head) -> float:
        """Return when a task may be cancelled without its worker, at the earliest."""
        return min(
            (
                at
                for what, value, at in self.wishes[self.revived.get(head.id, 0) :]
                if getattr(head, what) == value
            ),
            default=inf,
        )

    def check(self, old: Head | None, write: Write, messages: Sequence[Any]) -> None:
        new = write.head
        if new is None:
            assert old is not None
            assert old.status.terminal, "a live task was deleted"
            del self.heads[write.id]
            self.discarded.add(write.id)
            return
        if old is None:
            expected = self.after_accept(new)
        else:
            expected = self.after_reason(old, new, messages)
            assert new.rank == expected.rank, "it lost its place"
            assert new.fence >= old.fence
        if expected.status in WAITING and new.status is FAILURE:
            assert self.too_late(new), "it ended for no reason"
            expected = replace(expected, status=FAILURE)
        if expected.status is PENDING and new.status is RUNNING:
            expected = replace(expected, status=RUNNING, fence=expected.fence + 1)
        for what in ("status", "fence", "attempts", "deaths"):
            assert getattr(new, what) == getattr(expected, what), what
        assert new.deaths <= new.options.max_deliveries
        assert new.attempts <= new.options.retry.attempts + new.deaths
        if new.cancel is not None:
            assert self.wished(new) < inf, "cancelled by nobody"
        self.heads[new.id] = new

    def after_accept(self, new: Head) -> Head:
        number, queue = self.numbers[new.id], new.options.queue
        assert number >= self.entered.get(queue, -1), "it overtook in the line for room"
        self.entered[queue] = number
        self.accepted.add(new.id)
        delay = new.options.delay or 0
        place = self.now + delay - (new.options.priority - TaskPriority.NORMAL) * HOUR
        assert abs(new.rank - place) < 0.001
        return replace(new, status=SCHEDULED if delay else PENDING, fence=0, attempts=0, deaths=0)

    def after_reason(self, old: Head, new: Head, messages: Sequence[Any]) -> Head:
        """Return what must have become of a task before it was granted, if it was."""
        if old.status.terminal:
            return self.after_retry(old, new, messages)
        if old.status is RUNNING:
            return self.after_running(old, new, messages)
        if new.status is CANCELLED and self.wished(old) < inf:
            return replace(old, status=CANCELLED)
        if old.status is SCHEDULED and self.now >= old.due:
            return replace(old, status=PENDING)
        return old

    def after_retry(self, old: Head, new: Head, messages: Sequence[Any]) -> Head:
        assert old.status is not SUCCESS
        assert any(getattr(getattr(x, "message", x), "verb", "") == "retry" for x in messages)
        assert new.scope is None
        self.revived[old.id] = len(self.wishes)
        return replace(old, status=PENDING, attempts=0, deaths=0, rank=new.rank)

    def after_running(self, old: Head, new: Head, messages: Sequence[Any]) -> Head:
        if new.status is RUNNING and new.fence == old.fence:
            return old
        key = (old.id, old.fence)
        node = str(old.worker).partition(".")[0]
        for message in messages:
            match message:
                case m.WorkerHello() if message.node == node and message.worker != old.worker:
                    return self.after_loss(old, key in self.starts)
                case m.WorkerHello() if message.node == node and key not in message.running:
                    return replace(old, status=CANCELLED if old.cancel else PENDING)
                case m.Finish() if (message.id, message.fence) == key:
                    return self.after_finish(old, message)
        attempts = old.attempts + (key in self.starts)
        if old.cancel is None:
            assert self.now >= ends_at(old) + self.limits.grace, "it left its worker for no reason"
            return replace(old, status=FAILURE, fence=old.fence + 1, attempts=attempts)
        assert self.now >= self.wished(old), "its grace was cut short"
        return replace(old, status=CANCELLED, fence=old.fence + 1, attempts=attempts)

    def too_late(self, head: Head) -> bool:
        """Say whether a task that waits may be over by now."""
        expires = inf if head.options.expires is None else head.options.expires
        expired = head.started_at is None and self.now >= head.due + expires
        return expired or self.now >= ends_at(head)

    def after_finish(self, old: Head, finish: m.Finish) -> Head:
        if finish.cause == "lost" and old.cancel is None:
            return self.after_loss(old, finish.started_at is not None)
        spent = finish.started_at is not None and finish.cause != "later"
        head = replace(old, attempts=old.attempts + spent)
        policy = head.options.retry
        again = finish.cause == "later" or (finish.retryable and head.attempts < policy.attempts)
        if finish.cause == "ok":
            return replace(head, status=SUCCESS)
        if head.cancel is not None:
            return replace(head, status=CANCELLED)
        wait = finish.delay if finish.cause == "later" else policy.delay * 2 ** (head.attempts - 1)
        in_time = self.now + wait < ends_at(head)
        return replace(head, status=SCHEDULED if again and in_time else FAILURE)

    def after_loss(self, old: Head, started: bool) -> Head:
        head = replace(old, deaths=old.deaths + 1, attempts=old.attempts + started)
        status = PENDING
        if head.options.at_most_once or head.deaths >= head.options.max_deliveries:
            status = FAILURE
        return replace(head, status=CANCELLED if head.cancel else status)

    def check_room(self, before: dict[str, Head], new: list[str]) -> None:
        for queue in {self.heads[id].options.queue for id in new}:
            waited = [
                head
                for head in before.values()
                if head.options.queue == queue and head.status in WAITING
            ]
            came = [id for id in new if self.heads[id].options.queue == queue]
            assert len(waited) + len(came) <= MAX_PENDING, "the queue holds more than it may"

    def check_order(self, grants: list[Head], exempt: list[str]) -> None:
        for pool in ("main", "process"):
            ranks = [head.rank for head in grants if head.pool == pool]
            left = [
                head.rank
                for head in self.heads.values()
                if head.pool == pool and head.status is PENDING and head.id not in exempt
            ]
            assert max(ranks, default=-1e99) <= min(left, default=1e99), "out of order"
            assert exempt or ranks == sorted(ranks), "out of order"


FATES = st.sampled_from(["lives"] * 8 + ["dies before the commit", "dies after the commit"])
SEEDS = st.integers(0, 2**32)
"""For most choices; drawn one by one, they would vary too little."""


def some_options(rng: Random) -> dict[str, Any]:
    return {
        "name": rng.choice("fg"),
        "pool": rng.choice(["main", "main", "process"]),
        "scope": rng.choice([None, None, "s", "t"]),
        "queue": rng.choice(["one", "one", "two"]),
        "priority": rng.choice(list(TaskPriority)),
        "delay": rng.choice([None, None, 0, 3]),
        "expires": rng.choice([None, None, None, 7]),
        "deadline": rng.choice([None, None, None, 20]),
        "at_most_once": rng.random() < 0.2,
        "max_deliveries": rng.randint(1, 3),
        "when_full": rng.choice(["wait", "wait", "raise"]),
        "retry": Retry(attempts=rng.randint(1, 3), delay=rng.choice([0, 2]), jitter=0),
    }


def some_ending(rng: Random) -> dict[str, Any]:
    cause = rng.choice(["ok", "ok", "failed", "failed", "failed", "timeout", "later", "lost"])
    return {
        "cause": cause,
        "output": Output("value") if cause == "ok" else BOOM,
        "retryable": cause in {"failed", "timeout"} and rng.random() < 0.7,
        "delay": 2.0,
    }


TROUBLES = [
    "a worker dies",
    "a worker is away",
    "mail to a worker is lost",
    "a worker reconnects",
    "the owner dies",
]


class QueueBesideModel(RuleBasedStateMachine):
    """What can happen around a queue's owner."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Referee()
        self.connections = count(10)
        self.ids = count()
        self.workers = [
            Worker(self.stage, 2, 1, name=f"{node}.0", at=next(self.connections)) for node in "uv"
        ]

    def during(self, fate: str, action: Callable[[], object]) -> None:
        """Do something while the owner may die of it."""
        self.stage.fate = fate
        try:
            action()
        except OwnerCrashed:
            self.owner_restarts()
        self.stage.fate = "lives"

    def owner_restarts(self) -> None:
        stage = self.stage
        connected = [worker for worker in self.workers if worker.connection in stage.workers]
        stage.crash()
        stage.client = next(self.connections)
        stage.say(stage.client, m.ClientHello("session"), *self.unanswered())
        for worker in connected:
            worker.connect(next(self.connections))

    def unanswered(self) -> list[Any]:
        """Return what a client sends again: a watch for what it awaits, and all open requests."""
        stage = self.stage
        awaited = tuple(sorted(stage.accepted - stage.informed))
        watch = stage.question(m.Watch, awaited, True).message
        return [watch] + [
            replace(question.message, resent=True)
            if isinstance(question.message, m.Submit)
            else question.message
            for question in stage.questions[:-1]
            if not question.answered
        ]

    # --- clients ---------------------------------------------------------------------------------

    @rule(seed=SEEDS, fate=FATES)
    def submit(self, seed: int, fate: str) -> None:
        rng = Random(seed)
        tasks = [
            task(f"{next(self.ids):04}", **some_options(rng)) for _ in range(rng.randint(1, 4))
        ]
        note(f"tasks: {tasks}")
        number = len(self.stage.questions)
        self.stage.numbers |= {one.id: number for one in tasks}
        self.during(fate, lambda: self.stage.submit(*tasks, origin=self.stage.client))

    @precondition(lambda self: self.stage.heads)
    @rule(data=st.data(), grace=st.sampled_from([0.0, 2.0, 8.0]), fate=FATES)
    def cancel(self, data: st.DataObject, grace: float, fate: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.stage.heads)))
        self.during(fate, lambda: self.stage.cancel(id, grace=grace, origin=self.stage.client))

    @rule(scope=st.sampled_from(["s", "t"]), grace=st.sampled_from([0.0, 2.0]), fate=FATES)
    def end_scope(self, scope: str, grace: float, fate: str) -> None:
        before = [id for id, head in self.stage.heads.items() if head.scope == scope]
        ask = m.EndScope, scope, grace
        self.during(fate, lambda: self.stage.ask(*ask, origin=self.stage.client))
        if fate == "lives":  # in one step: what was not running never will be
            assert WAITING.isdisjoint(self.stage.heads[id].status for id in before)

    @rule(
        verb=st.sampled_from(["retry", "retry", "discard", "cancel"]),
        name=st.sampled_from(["f", "g"]),
        dry_run=st.booleans(),
        fate=FATES,
    )
    def bulk(self, verb: m.Verb, name: str, dry_run: bool, fate: str) -> None:
        ask = m.Bulk, verb, Filter(names=frozenset({name})), dry_run, None, 8.0
        self.during(fate, lambda: self.stage.ask(*ask, origin=self.stage.client))

    # --- workers ---------------------------------------------------------------------------------

    @rule(seed=SEEDS, fate=FATES)
    def work(self, seed: int, fate: str) -> None:
        """Finish some of what was granted, which was started or not; who was away is back."""
        rng = Random(seed)
        for worker in self.workers:
            if worker.connection not in self.stage.workers:
                worker.connect(next(self.connections))
            for id in [id for id in worker.grants if rng.random() < 0.5]:
                self.stage.starts.add((id, worker.grants[id].head.fence))
                worker.start(id)
        for _ in range(rng.randint(0, 4)):
            worker = rng.choice(self.workers)
            if worker.grants:
                id, ending = rng.choice(list(worker.grants)), some_ending(rng)
                note(f"task {id} ends: {ending}")
                self.during(fate, partial(worker.finish, id, **ending))

    @rule()
    def obey(self) -> None:
        for worker in self.workers:
            for interrupt in worker.interrupts:
                if interrupt.id in worker.grants:
                    worker.finish(interrupt.id, "cancelled")
            worker.interrupts.clear()

    # --- the world -------------------------------------------------------------------------------

    @rule(n=st.integers(0, 1), what=st.sampled_from(TROUBLES))
    def trouble(self, n: int, what: str) -> None:
        worker = self.workers[n]
        match what:
            case "a worker dies":
                worker.vanish(next(self.connections))
            case "a worker is away":
                self.stage.disconnect(worker.connection)
            case "mail to a worker is lost":
                self.stage.workers.pop(worker.connection, None)
            case "a worker reconnects":
                worker.connect(next(self.connections))
            case "the owner dies":
                self.owner_restarts()

    @rule(seed=SEEDS, seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def a_busy_while(self, seed: int, seconds: float) -> None:
        self.submit(seed, "lives")
        self.work(seed, "lives")
        self.stage.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.pass_time(seconds)

    def teardown(self) -> None:
        stage = self.stage
        stage.fate = "lives"
        for worker in self.workers:
            worker.connect(next(self.connections))
        while stage.machine.tables()["live"] or stage.machine.tables()["parked"]:
            before = stage.now, len(stage.granted), stage.machine.tables()
            for worker in self.workers:
                for id in list(worker.grants):
                    worker.finish(id, output=Output("value"))
            stage.pass_time(60.0 if stage.machine.next_deadline() else 0.0)
            assert before != (stage.now, len(stage.granted), stage.machine.tables()), "stuck"
        assert stage.left() == {}
        assert all(record.head.status.terminal for record in stage.records.values())
        assert {len(question.replies) for question in stage.questions} <= {1}
        assert stage.accepted - stage.informed <= stage.discarded, "somebody waits for ever"
        assert stage.accepted - stage.records.keys() <= stage.discarded, "a task was lost"


TestQueueBesideModel = QueueBesideModel.TestCase
TestQueueBesideModel.settings = settings(max_examples=60, stateful_step_count=40)
