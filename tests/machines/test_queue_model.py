"""The queue's machine beside a model, in any order of events, crashes of the owner included.

The model is a dictionary of heads and one function that says what may become of a task. Every step
of the machine is held against it: each change of a head must have a reason, and only the change
that the reason allows; grants must come in order, fit the credit and go to a worker that knows the
task; nobody may be given up before or long after the time that is due to it. At the end everything
is finished, and nothing may be left: no task, no table entry, nobody who waits for an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace

from actorq.machines.effects import Effect, Searched, Send, Tell
from actorq.machines.ready import has_last_chance
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import Retry, TaskOptions
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
from tests.machines.stage import BOOM, Guest, Stage, Worker, task

MAX_PENDING = 6
MAIN, GUEST = "main", "guest"
PATIENCE = 100
"""Rounds of two seconds after which everything has ended, if nothing holds it up."""
HOUR = 3600
WAITING = {SCHEDULED, PENDING}


def ends_at(head: Head) -> float:
    """Return when a task's deadline is over."""
    return inf if head.options.deadline is None else head.since + head.options.deadline


class OwnerCrashed(Exception):
    """The owner died, before or after the commit of what was said to it."""


@dataclass
class Term:
    """When a peer may be given up, and when it must be; in seconds that the owner was awake."""

    earliest: float
    latest: float

    def cut(self, awake: float, window: float, spare_until: float) -> Term:
        """Return the term of a worker whose connection is cut."""
        return Term(
            min(self.earliest, awake + window), min(self.latest, max(awake + window, spare_until))
        )


@dataclass
class Link:
    """What a worker has said on its connection."""

    worker: str
    leased: bool
    knows: set[str]
    credit: dict[str, int] = field(default_factory=lambda: {"main": 0, "process": 0})
    granted: dict[str, int] = field(default_factory=lambda: {"main": 0, "process": 0})
    stands_still: bool = False

    @property
    def node(self) -> str:
        return self.worker.partition(".")[0]

    def free(self, pool: str) -> int:
        return max(0, self.credit[pool] - self.granted[pool])


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
        self.slept = 0.0
        """Seconds for which the owner stood still."""
        self.links: dict[int, Link] = {}
        self.terms: dict[str, Term] = {}
        """By worker's node, or session."""
        self.guest_at: int | None = None
        """The connection of the client elsewhere, as far as the owner has heard."""
        self.spare_until = 0.0
        self.parted: str | None = None
        """Whose connection it was that the step is about, if that is a worker elsewhere."""
        self.given_up: set[str] = set()
        """Who was given up in this step."""
        self.sound = True

    @property
    def awake(self) -> float:
        return self.now - self.slept

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
        self.guest_at = None
        self.links.clear()
        self.terms.clear()
        self.spare_until = self.awake + self.limits.window
        for head in self.heads.values():
            if head.status is RUNNING:
                self.terms[node_of(head)] = Term(self.spare_until, self.spare_until)
            if not head.status.terminal and head.scope is not None:
                session = head.scope.partition(":")[0]
                self.terms[session] = Term(self.spare_until, self.spare_until)

    def stall(self, seconds: float) -> None:
        """Have the owner stand still; it need not notice what is shorter than twice its look."""
        super().stall(seconds)
        self.slept += seconds
        for term in self.terms.values():
            term.earliest -= 2 * self.limits.look

    # --- who is there ----------------------------------------------------------------------------

    def note_peers(self, origin: int, message: Any) -> None:
        """Note what a message says about who is there, before the machine is told."""
        lease, link = self.awake + self.limits.lease, self.links.get(origin)
        match message:
            case m.WorkerHello():
                self.links = {
                    at: other for at, other in self.links.items() if other.node != message.node
                }
                knows = set(message.tasks or {})
                self.links[origin] = Link(message.worker, message.leased, knows)
                self.terms.pop(message.node, None)
                if message.leased:
                    self.terms[message.node] = Term(lease, lease)
            case m.ClientHello(session=session) if session == GUEST:
                self.guest_at = origin
                self.terms.pop(GUEST, None)
            case m.ClientHello():
                self.terms.pop(message.session, None)
            case _ if link is not None:
                self.note_link(origin, link, message)
            case m.Away() if origin == self.guest_at:
                window = self.awake + self.limits.window
                self.terms[GUEST] = Term(window, max(window, self.spare_until))
            case m.Gone() | m.GiveUp() if origin == self.guest_at:
                self.guest_at = None
                self.terms.pop(GUEST, None)

    def note_link(self, origin: int, link: Link, message: Any) -> None:
        """Note what a worker says on its connection."""
        limits = self.limits
        match message:
            case m.Knows():
                link.knows = set(message.tasks)
            case m.Ready():
                link.credit[message.pool] = message.credit
            case m.Beat() if link.leased:
                link.stands_still = message.lag > limits.beat
                if message.lag <= limits.max_block:
                    lease = self.awake + limits.lease
                    self.terms[link.node] = Term(lease, lease)
            case m.Away():
                del self.links[origin]
                term = self.terms[link.node]
                self.terms[link.node] = term.cut(self.awake, limits.window, self.spare_until)
            case m.Gone():
                del self.links[origin]
                self.terms.pop(link.node, None)

    def note_losses(self, messages: Sequence[Any], effects: list[Effect]) -> None:
        """Hold every loss against the time that was due to the peer."""
        for effect in effects:
            match effect:
                case Tell(EventKind.CLIENT_LOST, {"session": session}):
                    self.given_up.add(session)
                    self.guest_at = None
                    if not any(isinstance(message, m.Gone | m.GiveUp) for message in messages):
                        self.check_term(session)
                    at = self.now + self.limits.grace
                    self.wishes.append(("scope", f"{session}:1", at))
                case Tell(EventKind.WORKER_LOST, {"worker": worker}):
                    self.given_up.add(worker.partition(".")[0])
                    self.links = {
                        at: link for at, link in self.links.items() if link.worker != worker
                    }

    def check_term(self, name: str) -> None:
        term = self.terms.get(name)
        assert term is not None, f"{name} was given up though it has no term"
        assert self.awake >= term.earliest - 1e-3, f"{name} was given up too early"

    def check_overdue(self) -> None:
        """The owner was awake until now: nobody may be waited for beyond the latest time."""
        overdue = {name for name, term in self.terms.items() if self.awake > term.latest + 1e-3}
        held = {node_of(head) for head in self.heads.values() if head.status is RUNNING}
        owning = {
            str(head.scope).partition(":")[0]
            for head in self.heads.values()
            if head.status in WAITING and head.scope is not None
        }
        assert not overdue & held, "a lost worker keeps its tasks"
        assert not overdue & owning, "a lost client keeps its tasks"

    # --- every step ------------------------------------------------------------------------------

    def step(self, origin: int, messages: Sequence[Any]) -> list[Effect]:
        before, line = dict(self.heads), self.machine.tables()["parked"]
        holders = {at: link.worker for at, link in self.links.items() if link.leased}
        for message in messages:
            self.note_wishes(message)
            self.note_peers(origin, message)
        effects = super().step(origin, messages)
        self.sound = False  # until every check has passed
        self.given_up = set()
        self.note_losses(messages, effects)
        self.parted = holders.get(origin)
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
        live = [head for head in self.heads.values() if not head.status.terminal]
        pending = [head for head in live if head.status is PENDING]
        self.check_links(effects, pending)
        self.check_order(effects, pending, exempt=new if line else [])
        tables = self.machine.tables()
        assert tables["live"] == len(live), "lost or kept too long"
        assert tables["held"] == sum(head.status is RUNNING for head in live)
        for id in before.keys() & self.heads.keys():
            head = self.heads[id]
            if head.status in WAITING and head.scope is not None:
                owner = head.scope.partition(":")[0]
                assert owner not in self.given_up, "a lost client keeps its tasks"
        greeted = {message.node for message in messages if isinstance(message, m.WorkerHello)}
        for name in self.given_up - greeted:
            self.terms.pop(name, None)
        self.sound = True
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
        node, started = node_of(old), key in self.starts
        if new.deaths > old.deaths and any(isinstance(message, m.Tick) for message in messages):
            self.check_term(node)
            self.given_up.add(node)
            lost = self.after_loss(taken(old), started)
            client_too = str(old.scope).partition(":")[0] in self.given_up
            return replace(lost, status=CANCELLED) if client_too and new.cancel else lost
        for message in messages:
            match message:
                case m.WorkerHello() if message.node == node and message.worker != old.worker:
                    return self.after_loss(taken(old), started)
                case m.WorkerDied() if message.node == node:
                    return self.after_loss(taken(old), started)
                case m.Gone() if self.parted == old.worker:
                    return self.after_loss(taken(old), started)
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
        started = finish.started_at is not None
        spent = started and finish.cause not in {"later", "handed back"}
        head = replace(old, attempts=old.attempts + spent)
        if finish.cause == "handed back" and head.cancel is None:
            over = started and head.options.at_most_once
            return replace(head, status=FAILURE if over else PENDING)
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

    def check_links(self, effects: list[Effect], pending: list[Head]) -> None:
        """Every grant must fit its worker, and no slot may be idle that somebody waits for."""
        for to, grant in grants_of(effects):
            link = self.links[to]
            assert grant.worker == link.worker
            assert grant.name in link.knows, "granted to one who does not know it"
            assert not link.stands_still, "granted to one whose loop stands still"
            link.granted[grant.pool] += 1
            assert link.granted[grant.pool] <= link.credit[grant.pool], "granted beyond its credit"
        for head in pending:
            for link in self.links.values():
                if head.name in link.knows:
                    assert head.pool != "any", "nobody asked the one who knows it"
                    idle = link.free(head.pool) > 0 and not link.stands_still
                    if has_last_chance(head) and self.last_chances(link):
                        idle = False
                    assert not idle, "it waits for nothing"
        for link in self.links.values():
            assert len(self.last_chances(link)) <= 1, "they would end together"

    def last_chances(self, link: Link) -> list[str]:
        """Return what runs on this worker of which nobody can say that it kills no workers."""
        return [
            head.id
            for head in self.heads.values()
            if head.status is RUNNING and head.worker == link.worker and has_last_chance(head)
        ]

    def check_order(self, effects: list[Effect], pending: list[Head], exempt: list[str]) -> None:
        """What a worker was granted came before all that it was not, of what it knows."""
        granted: dict[tuple[int, str, bool], list[float]] = {}
        for to, head in grants_of(effects):
            line = (to, head.pool, has_last_chance(head))
            granted.setdefault(line, []).append(head.rank)
        for (to, pool, last), ranks in granted.items():
            knows = self.links[to].knows
            for head in pending:
                if head.id in exempt or head.name not in knows:
                    continue
                if (head.pool, has_last_chance(head)) == (pool, last):
                    assert max(ranks) <= head.rank, "out of order"
            assert exempt or ranks == sorted(ranks), "out of order"


def grants_of(effects: list[Effect]) -> list[tuple[int, Head]]:
    return [
        (effect.to, effect.message.head)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, m.Grant)
    ]


def node_of(head: Head) -> str:
    return str(head.worker).partition(".")[0]


def taken(head: Head) -> Head:
    """Return the head of a task whose grant was taken away: what still comes of that is refused."""
    return replace(head, fence=head.fence + 1)


FATES = st.sampled_from(["lives"] * 8 + ["dies before the commit", "dies after the commit"])
SEEDS = st.integers(0, 2**32)
"""For most choices; drawn one by one, they would vary too little."""


def some_options(rng: Random) -> dict[str, Any]:
    return {
        "name": rng.choice("ffgh"),
        "pool": rng.choice(["main", "main", "process", "any"]),
        "scope": rng.choice([None, None, f"{MAIN}:1", f"{MAIN}:2", f"{GUEST}:1"]),
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
    cause = rng.choice(
        ["ok", "ok", "failed", "failed", "failed", "timeout", "later", "lost", "handed back"]
    )
    return {
        "cause": cause,
        "output": Output("value") if cause == "ok" else BOOM,
        "retryable": cause in {"failed", "timeout"} and rng.random() < 0.7,
        "delay": 2.0,
    }


TROUBLES = [
    "a worker dies",
    "a worker's process dies",
    "a worker is away",
    "mail to a worker is lost",
    "a worker reconnects",
    "a worker learns",
    "the owner dies",
]

DECLARED = {
    "f": m.Declared("main", TaskOptions()),
    "g": m.Declared("process", TaskOptions(timeout=9)),
    "h": m.Declared("main", TaskOptions()),
}


class QueueBesideModel(RuleBasedStateMachine):
    """What can happen around a queue's owner."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Referee()
        self.connections = count(10)
        self.ids = count()
        self.stage.say(self.stage.client, m.ClientHello(MAIN))
        self.guest = Guest(self.stage, GUEST, at=next(self.connections))
        self.guest_is_there = True
        self.workers = [self.worker("u", "fg", True), self.worker("v", "gh", True)]
        self.workers.append(self.worker("here", "f", False))

    def worker(self, node: str, names: str, leased: bool) -> Worker:
        return Worker(
            self.stage, 2, 1, name=f"{node}.0", at=next(self.connections),
            tasks=names, declared={name: DECLARED[name] for name in names}, leased=leased,
        )  # fmt: skip

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
        connected = [worker for worker in self.workers if worker.connected]
        stage.crash()
        stage.client = next(self.connections)
        stage.say(stage.client, m.ClientHello(MAIN), *self.unanswered())
        at_once = stage.crashes % 2 == 0
        for worker in connected:
            if at_once or not worker.leased:
                worker.connect(next(self.connections))
        if self.guest_is_there and at_once:
            self.guest.connect(next(self.connections))
        else:
            self.guest_is_there = False

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

    @rule(
        scope=st.sampled_from([f"{MAIN}:1", f"{MAIN}:2", f"{GUEST}:1"]),
        grace=st.sampled_from([0.0, 2.0]),
        fate=FATES,
    )
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
        """Finish some of what was granted, which was started or not; who was away may be back."""
        rng = Random(seed)
        for worker in self.workers:
            if not worker.connected and rng.random() < 0.7:
                worker.connect(next(self.connections))
            if worker.connected:
                for id in [id for id in worker.grants if rng.random() < 0.5]:
                    self.stage.starts.add((id, worker.grants[id].head.fence))
                    worker.start(id)
        for _ in range(rng.randint(0, 4)):
            worker = rng.choice(self.workers)
            if worker.grants:
                id, ending = rng.choice(list(worker.grants)), some_ending(rng)
                note(f"task {id} ends: {ending}")
                if worker.connected:
                    self.during(fate, partial(worker.finish, id, **ending))
                else:  # to be said when it is back
                    finish = m.Finish(
                        id, worker.grants.pop(id).head.fence, started_at=self.stage.now, **ending
                    )
                    worker.unanswered[id, finish.fence] = finish

    @rule()
    def obey(self) -> None:
        for worker in self.workers:
            for interrupt in worker.interrupts:
                if interrupt.id in worker.grants and worker.connected:
                    worker.finish(interrupt.id, "cancelled")
            worker.interrupts.clear()

    @rule(n=st.integers(0, 2), lag=st.sampled_from([0.0, 0.0, 4.0, 61.0]))
    def beat(self, n: int, lag: float) -> None:
        if self.workers[n].connected:
            self.workers[n].beat(lag)

    # --- the world -------------------------------------------------------------------------------

    @rule(n=st.integers(0, 2), what=st.sampled_from(TROUBLES))
    def trouble(self, n: int, what: str) -> None:
        worker = self.workers[n]
        match what:
            case "a worker dies":
                worker.vanish(next(self.connections))
            case "a worker's process dies" if worker.leased:
                self.stage.ask(m.WorkerDied, worker.node, origin=self.stage.client)
                worker.restart(next(self.connections))
            case "a worker is away" if worker.leased:
                worker.cut()
            case "a worker is away":
                self.stage.disconnect(worker.connection)
            case "mail to a worker is lost":
                self.stage.workers.pop(worker.connection, None)
            case "a worker reconnects":
                worker.connect(next(self.connections))
            case "a worker learns" if worker.connected:
                worker.declared = DECLARED
                worker.learn(*DECLARED)
            case "the owner dies":
                self.owner_restarts()

    @rule(what=st.sampled_from(["is away", "is back", "is back", "leaves", "is given up"]))
    def the_guest(self, what: str) -> None:
        match what:
            case "is away" if self.guest_is_there:
                self.guest.cut()
            case "is back":
                self.guest.connect(next(self.connections))
            case "leaves":
                self.guest.leave()
            case "is given up":
                self.stage.say(self.guest.connection, m.GiveUp())
        self.guest_is_there = what == "is back"

    @rule(seed=SEEDS, seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def a_busy_while(self, seed: int, seconds: float) -> None:
        self.submit(seed, "lives")
        self.work(seed, "lives")
        self.time_passes(seconds, True)

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 30.0]), beating=st.booleans())
    def time_passes(self, seconds: float, beating: bool) -> None:
        end = self.stage.now + seconds
        while self.stage.now < end:
            self.stage.pass_time(min(2.0 if beating else inf, end - self.stage.now))
            self.stage.check_overdue()
            for worker in self.workers if beating else ():
                if worker.connected:
                    worker.beat()

    @rule(seconds=st.sampled_from([0.9, 1.9, 6.0, 40.0]), beating=st.booleans())
    def the_owner_stands_still(self, seconds: float, beating: bool) -> None:
        self.stage.stall(seconds)
        for worker in self.workers if beating else ():
            if worker.connected:
                worker.beat()
        self.stage.tick()

    def teardown(self) -> None:
        stage = self.stage
        if not stage.sound:
            return  # the failure is known already
        stage.fate = "lives"
        for _ in range(PATIENCE):
            for worker in self.workers:
                if worker.connected:
                    worker.beat()
                else:
                    worker.connect(next(self.connections))
                for id in list(worker.grants):
                    worker.finish(id, output=Output("value"))
            tables = stage.machine.tables()
            if not tables["live"] and not tables["parked"]:
                break
            stage.pass_time(2.0)
        for worker in self.workers:
            if worker.leased:
                stage.disconnect(worker.connection)
        self.guest.connect(next(self.connections))
        self.guest.leave()
        assert stage.left() == {}, "stuck"
        assert stage.machine.next_deadline() is None
        assert [info.worker for info in stage.machine.workers()] == [
            worker.name for worker in self.workers if not worker.leased
        ]
        assert all(record.head.status.terminal for record in stage.records.values())
        assert {len(question.replies) for question in stage.questions} <= {1}
        assert stage.accepted - stage.informed <= stage.discarded, "somebody waits for ever"
        assert stage.accepted - stage.records.keys() <= stage.discarded, "a task was lost"


@pytest.mark.bound(180)  # so that a failure can be cut down to a short story
class TestQueueBesideModel(QueueBesideModel.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40)
