"""Limits and pauses beside a model, in any order of events, crashes of the owner included.

The model is a dictionary of running tasks and a list of starts for each key. Every grant is held
against it; and after every step nothing may wait that could start. A window is exact up to so many
starts as there are here; of more starts, see test_limits.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from actorq.machines.effects import Effect, Send
from actorq.machines.ready import has_last_chance
from actorq.model import messages as m
from actorq.model.options import Limit, Retry
from actorq.model.records import Head, Write
from actorq.model.status import PENDING, RUNNING, TaskPriority
from tests.machines.stage import Stage, Worker, task

LIMITS = [
    None,
    Limit("a", concurrency=1),
    Limit("a", concurrency=3),
    Limit("b", rate=2, per=5),
    Limit("b", rate=5, per=5, concurrency=2),
    Limit("c", rate=3, per=1, concurrency=2),
    Limit("d", rate=1, per=30),
    Limit("e", concurrency=1_000),
]
PER = {limit.key: limit.per for limit in LIMITS if limit is not None}
QUEUES = ["one", "two"]
PATIENCE = 500
"""Rounds of ten seconds after which everything has ended."""


class OwnerCrashed(Exception):
    """The owner died, before or after the commit of what was said to it."""


class Referee(Stage):
    """A stage on which every grant is held against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.fate = "lives"
        self.heads: dict[str, Head] = {}
        self.paused: set[str] = set()
        self.starts: dict[str, list[float]] = {}
        """By key, the starts of those with a rate."""
        self.over: dict[str, list[float]] = {}
        """Starts that were over when the clock was set back: they may count once more."""

    def say(self, origin: int, *messages: Any) -> None:
        if self.fate == "dies before the commit":
            raise OwnerCrashed
        super().say(origin, *messages)
        if self.fate == "dies after the commit":
            raise OwnerCrashed

    def deliver(self, to: int, message: Any) -> None:
        if self.fate == "lives":
            super().deliver(to, message)

    def crash(self, set_back: float = 0.0) -> None:
        super().crash()
        self.fate = "lives"
        late, self.now = self.now, self.now - set_back
        for key, starts in self.starts.items():  # nothing starts in the future
            over = [start for start in starts if start + PER[key] <= late]
            self.over[key] = [min(at, self.now) for at in (*self.over.get(key, ()), *over)]
            self.starts[key] = [min(at, self.now) for at in starts if at + PER[key] > late]
        self.heads = {id: record.head for id, record in self.records.items()}

    def step(self, origin: int, messages: Any) -> list[Effect]:
        for message in messages:
            if isinstance(message, m.PauseQueue):
                (self.paused.add if message.paused else self.paused.discard)(message.queue)
        before = dict(self.heads)
        effects = super().step(origin, messages)
        for effect in effects:
            if isinstance(effect, Write) and effect.head is not None:
                self.heads[effect.id] = effect.head
        # What was running and is not, or runs once more, has left its slot before any grant.
        running = {
            id
            for id, head in before.items()
            if head.status is RUNNING
            and self.heads[id].status is RUNNING
            and self.heads[id].fence == head.fence
        }
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, m.Grant):
                self.check(effect.message.head, running)
                running.add(effect.message.head.id)
        return effects

    def check(self, head: Head, running: set[str]) -> None:
        """Hold one grant against the rules."""
        assert head.options.queue not in self.paused, "granted from a paused queue"
        limit = head.options.limit
        if limit is not None:
            assert self.open(limit, running), "granted beyond its limit"
            if limit.rate is not None:
                self.starts.setdefault(limit.key, []).append(self.now)

    def open(self, limit: Limit, running: set[str], *, surely: bool = False) -> bool:
        """Say whether one more task with this limit may start; ``surely``: whether it must."""
        if limit.concurrency is not None:
            limits = [self.heads[id].options.limit for id in running]
            slots = sum(other is not None and other.key == limit.key for other in limits)
            if slots >= limit.concurrency:
                return False
        if limit.rate is not None:
            starts = self.starts.get(limit.key, [])
            if surely:
                starts = starts + self.over.get(limit.key, [])
            return sum(at + limit.per > self.now for at in starts) < limit.rate
        return True

    def check_nothing_waits_for_nothing(self) -> None:
        last = {
            head.worker
            for head in self.heads.values()
            if head.status is RUNNING and has_last_chance(head)
        }
        free = {
            (pool, apart)
            for worker in self.workers.values()
            for pool in ("main", "process")
            if worker.free(pool) > 0
            for apart in ([False] if worker.name in last else [False, True])
        }
        running = {id for id, head in self.heads.items() if head.status is RUNNING}
        for head in self.heads.values():
            if head.status is PENDING and (head.pool, has_last_chance(head)) in free:
                queue, limit = head.options.queue, head.options.limit
                held = queue in self.paused or (
                    limit and not self.open(limit, running, surely=True)
                )
                assert held, f"{head.id} waits for nothing"
        assert self.machine.stuck() is None


FATES = st.sampled_from(["lives"] * 8 + ["dies before the commit", "dies after the commit"])
SEEDS = st.integers(0, 2**32)
"""For most choices; drawn one by one, they would vary too little."""


def some_options(rng: Random) -> dict[str, Any]:
    return {
        "limit": rng.choice(LIMITS),
        "name": rng.choice("fg"),
        "pool": rng.choice(["main", "main", "process"]),
        "queue": rng.choice(QUEUES),
        "priority": rng.choice(list(TaskPriority)),
        "delay": rng.choice([None, None, 0, 3]),
        "expires": rng.choice([None, None, None, 7]),
        "deadline": rng.choice([None, None, None, 20]),
        "at_most_once": rng.random() < 0.2,
        "max_deliveries": rng.randint(1, 3),
        "retry": Retry(attempts=rng.randint(1, 3), delay=rng.choice([0, 2]), jitter=0),
    }


class LimitsBesideModel(RuleBasedStateMachine):
    """What can happen to tasks with limits."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Referee()
        self.connections = count(10)
        self.ids = count()
        self.workers = [
            Worker(self.stage, 3, 1, name=f"{node}.0", at=next(self.connections)) for node in "uv"
        ]

    def during(self, fate: str, action: Callable[[], object]) -> None:
        """Do something while the owner may die of it; then see that nothing is forgotten."""
        self.stage.fate = fate
        try:
            action()
        except OwnerCrashed:
            self.owner_dies(0.0)
        self.stage.fate = "lives"
        self.stage.check_nothing_waits_for_nothing()

    @rule(set_back=st.sampled_from([0.0, 0.0, 4.0, 100.0]))
    def owner_dies(self, set_back: float) -> None:
        self.stage.crash(set_back)
        self.stage.tick()
        for worker in self.workers:
            worker.connect(next(self.connections))
        self.stage.tick()
        self.stage.check_nothing_waits_for_nothing()

    @rule(seed=SEEDS, many=st.sampled_from([1, 4, 12]), fate=FATES)
    def submit(self, seed: int, many: int, fate: str) -> None:
        rng = Random(seed)
        tasks = [task(f"{next(self.ids):04}", **some_options(rng)) for _ in range(many)]
        note(f"tasks: {tasks}")
        self.during(fate, partial(self.stage.submit, *tasks))

    @rule(seed=SEEDS, fate=FATES)
    def work(self, seed: int, fate: str) -> None:
        """Let some of what was granted end, in any way."""
        rng = Random(seed)
        for worker in self.workers:
            for id in [id for id in worker.grants if rng.random() < 0.5]:
                if id in worker.grants:  # the owner may have died of the one before
                    causes: list[m.FinishCause] = ["ok", "failed", "later", "lost", "handed back"]
                    ending: dict[str, Any] = {
                        "cause": rng.choice(causes),
                        "retryable": rng.random() < 0.7,
                        "delay": 2.0,
                    }
                    note(f"task {id} ends: {ending}")
                    self.during(fate, partial(worker.finish, id, **ending))

    @rule(n=st.integers(0, 1), what=st.sampled_from(["dies", "is lost", "reconnects"]))
    def trouble(self, n: int, what: str) -> None:
        worker = self.workers[n]
        match what:
            case "dies":
                worker.vanish(next(self.connections))
            case "is lost":  # what was on its way to it, too
                self.stage.workers.pop(worker.connection, None)
                worker.grants.clear()
                worker.connect(next(self.connections))
            case _:
                worker.connect(next(self.connections))
        self.stage.check_nothing_waits_for_nothing()

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans(), fate=FATES)
    def pause(self, queue: str, paused: bool, fate: str) -> None:
        self.during(fate, partial(self.stage.ask, m.PauseQueue, queue, paused))

    @precondition(lambda self: self.stage.heads)
    @rule(data=st.data(), grace=st.sampled_from([0.0, 2.0]), fate=FATES)
    def cancel(self, data: st.DataObject, grace: float, fate: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.stage.heads)))
        self.during(fate, partial(self.stage.cancel, id, grace=grace))
        for worker in self.workers:
            for interrupt in worker.interrupts:
                if interrupt.id in worker.grants and grace:
                    self.during("lives", partial(worker.finish, interrupt.id, "cancelled"))
            worker.interrupts.clear()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.stage.now + seconds
        while self.stage.now < end:
            self.stage.pass_time(min(0.7, end - self.stage.now))
            self.stage.check_nothing_waits_for_nothing()

    def teardown(self) -> None:
        stage = self.stage
        for queue in QUEUES:
            stage.ask(m.PauseQueue, queue, False)
        for _ in range(PATIENCE):
            for worker in self.workers:
                for id in list(worker.grants):
                    worker.finish(id)
            if not stage.machine.tables()["live"]:
                break
            stage.pass_time(10.0)
        stage.pass_time(30.0)  # until every window is over
        assert stage.left() == {}, "stuck"
        assert stage.notes == {}
        assert stage.machine.next_deadline() is None


@pytest.mark.bound(180)  # so that a failure can be cut down to a short story
class TestLimitsBesideModel(LimitsBesideModel.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40)
