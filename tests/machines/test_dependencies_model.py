"""Keys and dependencies beside a model, in any order of events, crashes of the owner included.

The model is a dictionary of tasks and one function that says what has become of those that wait,
by looking at all of them until nothing changes. It knows nothing of look-ups, pins and cascades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec.structs import replace

from actorq.errors import KeyConflict, TaskNotFound
from actorq.model import messages as m
from actorq.model.filters import Filter
from actorq.model.records import Output, Write
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SUCCESS,
    WAITING,
    FailureKind,
    TaskStatus,
)
from tests.machines.stage import BOOM, CLIENT, Question, Stage, Worker, task

TTL = 10.0
EXPIRES = 15.0
READY = PENDING
"""In the model, also for what is running."""


class OwnerCrashed(Exception):
    """The owner died before or after a commit."""


class FragileStage(Stage):
    """A stage whose owner may die at one of its next commits, before or after that."""

    fate: tuple[int, str] | None = None

    def commit(self, writes: list[Write]) -> None:
        if self.fate is None:
            super().commit(writes)
            return
        left, when = self.fate
        self.fate = (left - 1, when)
        if left == 0 and when == "before":
            raise OwnerCrashed
        super().commit(writes)
        if left == 0:
            raise OwnerCrashed


@dataclass
class Known:
    """What the model knows of a task."""

    submission: m.Submission
    after: tuple[str, ...]
    needs: dict[str, str]
    """By the name that the call has for it."""
    submitted: float
    status: TaskStatus = WAITING
    value: object = None
    until: float = 0.0
    """Until when its result is kept."""
    spared: bool = False
    scope: str | None = None

    @property
    def live(self) -> bool:
        return not self.status.terminal

    @property
    def sources(self) -> set[str]:
        return {*self.after, *self.needs.values()}

    @property
    def holds(self) -> set[str]:
        """What must not be forgotten because of it."""
        if self.status is WAITING:
            return self.sources
        return set(self.needs.values()) if self.live else set()


class Model:
    """All tasks that are not forgotten."""

    def __init__(self) -> None:
        self.tasks: dict[str, Known] = {}
        self.now = 0.0

    def is_kept(self, id: str) -> bool:
        one = self.tasks.get(id)
        return one is not None and (one.live or one.until > self.now)

    def pinned(self) -> set[str]:
        held = {id for one in self.tasks.values() for id in one.holds}
        return {id for id in held if id in self.tasks and not self.tasks[id].live}

    def holder(self, key: str) -> str | None:
        """Return the task that has a key: a live one, or the newest that is kept."""
        having = [
            id for id, one in self.tasks.items()
            if one.submission.options.key == key and self.is_kept(id)
        ]  # fmt: skip
        return max(having, key=lambda id: (self.tasks[id].live, id), default=None)

    def submit(self, tasks: tuple[m.Submission, ...]) -> m.Admitted | Exception | None:
        """Accept all of these or none, and return the answer."""
        new: dict[str, Known] = {}
        keys: dict[str, m.Submission] = {}
        instead: dict[str, str] = {}
        for one in tasks:
            key = one.options.key
            if key is not None:
                id = self.holder(key)
                there = keys.get(key) if id is None else self.tasks[id].submission
                if there is not None:
                    if (there.name, there.body) != (one.name, one.body):
                        return KeyConflict(key)
                    instead[one.id] = there.id
                    continue
                keys[key] = one
            for id in (*one.options.after, *one.needs):
                real = instead.get(id, id)
                if not (real in new or self.is_kept(real) or real in self.pinned()):
                    return TaskNotFound(id)
            after = tuple(instead.get(id, id) for id in one.options.after)
            needs = {id: instead.get(id, id) for id in one.needs}
            new[one.id] = Known(one, after, needs, self.now, scope=one.scope)
        for key in keys:
            expired = [id for id, one in self.tasks.items() if one.submission.options.key == key]
            if expired and max(expired) not in self.pinned():  # an older one is of no account
                del self.tasks[max(expired)]
        self.tasks |= new
        self.settle()
        return m.Admitted((), instead) if instead else None

    def copies(self) -> dict[str, Known]:
        return {id: Known(**vars(one)) for id, one in self.tasks.items()}

    def forget(self, ids: Iterator[str]) -> None:
        for id in list(ids):
            del self.tasks[id]

    def end(self, id: str, status: TaskStatus, value: object = None) -> None:
        one = self.tasks[id]
        one.status, one.value, one.until = status, value, self.now + TTL

    def settle(self) -> None:
        """Decide about all that wait, until nothing changes any more."""
        while sum(self.decide(id) for id, one in self.tasks.items() if one.status is WAITING):
            pass

    def decide(self, id: str) -> bool:
        one = self.tasks[id]
        waits = False
        for source in one.sources:
            other = self.tasks.get(source)
            if other is not None and other.live:
                waits = True
            elif other is None or other.status is not SUCCESS:
                forgiven = other is None and one.spared
                policy = one.submission.options.on_dependency_failure
                if source in one.needs.values() or (policy == "fail" and not forgiven):
                    self.end(id, FAILURE)
                    return True
        if not waits:
            one.status = READY
        return not waits

    def retry(self, heads: dict[str, bool]) -> None:
        """Start these anew, with whether they were granted before, and then look at all."""
        for id, spared in heads.items():
            one = self.tasks[id]
            one.spared, one.submitted, one.scope = spared, self.now, None
            one.status = WAITING if one.sources else READY
        self.settle()


SEEDS = st.integers(0, 2**32)


class DependenciesBesideModel(RuleBasedStateMachine):
    """What can happen to tasks that have to do with others."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = FragileStage(result_ttl=TTL, grace=0.0)
        self.model = Model()
        self.model.now = self.stage.now
        self.ids = (f"{n:04}" for n in count())
        self.values = count()
        self.connections = count(200)
        self.worker = Worker(self.stage, 4, leased=True)
        self.seen = 0
        self.sound = True

    # --- the owner's deaths ----------------------------------------------------------------------

    def during(self, fate: tuple[int, str] | None, action: Callable[[], object]) -> bool:
        """Do something while the owner may die of it; say whether it lived."""
        self.stage.fate = fate
        try:
            action()
        except OwnerCrashed:
            self.restart()
            return False
        finally:
            self.stage.fate = None
        return True

    def restart(self) -> None:
        stage = self.stage
        stage.fate = None
        stage.crash()
        open_ones = [question for question in stage.questions if not question.answered]
        stage.say(CLIENT, m.ClientHello("main"), *map(sent_again, open_ones))
        self.worker.connect(next(self.connections))

    # --- clients ---------------------------------------------------------------------------------

    def some_task(self, rng: Random, before: list[str]) -> m.Submission:
        everybody = [*self.model.tasks, *before, *before]
        some = lambda most: tuple(  # noqa: E731
            rng.choice(everybody) for _ in range(rng.randint(0, most)) if everybody
        )
        ties = rng.random() < 0.7
        unknown = ("nobody",) if rng.random() < 0.03 else ()
        return task(
            next(self.ids),
            name=rng.choice("fffg"),
            body=rng.choice(["call", "call", "call", "other"]),
            scope=rng.choice([None, None, "main:1"]),
            key=rng.choice([None, None, None, "k", "l"]),
            after=[*dict.fromkeys(some(3)), *unknown] if ties else [],
            needs=tuple(dict.fromkeys(some(2))) if ties and rng.random() < 0.5 else (),
            on_dependency_failure=rng.choice(["fail", "fail", "run"]),
            expires=rng.choice([None, None, None, EXPIRES]),
        )

    def some_submit(self, rng: Random) -> Question:
        tasks: list[m.Submission] = []
        for _ in range(rng.randint(1, 4)):
            tasks.append(self.some_task(rng, [one.id for one in tasks]))
        note(f"tasks: {[(t.id, t.options, t.needs, t.body) for t in tasks]}")
        return self.stage.question(m.Submit, tuple(tasks))

    def submit(self, seed: int, fate: tuple[int, str] | None) -> None:
        question = self.some_submit(Random(seed))
        expected = self.model.submit(question.message.tasks)
        lived = self.during(fate, lambda: self.stage.say(CLIENT, question.message))
        assert is_explained(question, expected, lived=lived)
        self.check()

    @rule(seed=SEEDS)
    def submits(self, seed: int) -> None:
        self.submit(seed, None)

    @rule(seed=SEEDS, left=st.integers(0, 2), when=st.sampled_from(["before", "after"]))
    def submit_and_die(self, seed: int, left: int, when: str) -> None:
        self.submit(seed, (left, when))

    @rule(seed=SEEDS)
    def submit_twice_at_once(self, seed: int) -> None:
        """The second, and an end, come before the store has answered for the first."""
        rng, stage = Random(seed), self.stage
        one, two = self.some_submit(rng), self.some_submit(rng)
        effects = stage.step(CLIENT, [one.message])
        if self.worker.grants and rng.random() < 0.5:
            id = rng.choice(list(self.worker.grants))
            grant = self.worker.grants.pop(id)
            ok, value = rng.random() < 0.6, next(self.values)
            output, cause = (Output(value), "ok") if ok else (BOOM, "failed")
            finish = m.Finish(id, grant.head.fence, cause, output, stage.now)
            effects += stage.step(self.worker.connection, [finish, self.worker.ready("main")])
            self.model.end(id, SUCCESS if ok else FAILURE, value)
            self.model.settle()
        effects += stage.step(CLIENT, [two.message])
        crashes = rng.random() < 0.3
        if crashes:
            stage.commit([effect for effect in effects if isinstance(effect, Write)])
            self.restart()
        else:
            stage.do(effects)
        # One may have been decided before the other, as only one had to be asked about.
        tasks = self.model.copies()
        for order in ((one, two), (two, one)):
            self.model.tasks = tasks
            tasks = self.model.copies()
            expected = [self.model.submit(question.message.tasks) for question in order]
            if all(
                is_explained(question, answer, lived=not crashes)
                for question, answer in zip(order, expected, strict=True)
            ):
                break
        else:
            raise AssertionError(f"neither order explains {one.replies} and {two.replies}")
        self.check()

    @rule(seed=SEEDS, left=st.none() | st.integers(0, 2), when=st.sampled_from(["before", "after"]))
    def cancel(self, seed: int, left: int | None, when: str) -> None:
        live = sorted(id for id, one in self.model.tasks.items() if one.live)
        if live:
            id = Random(seed).choice(live)
            self.model.end(id, CANCELLED)
            self.model.settle()
            fate = None if left is None else (left, when)
            self.during(fate, lambda: (self.stage.cancel(id, grace=0.0), self.stage.tick()))
            self.stage.tick()
            self.worker.grants.pop(id, None)
            self.worker.connect(self.worker.connection)
            self.check()

    @rule()
    def end_scope(self) -> None:
        for id, one in self.model.tasks.items():
            if one.live and one.scope == "main:1":
                self.model.end(id, CANCELLED)
                self.worker.grants.pop(id, None)
        self.model.settle()
        self.stage.ask(m.EndScope, "main:1", 0.0)
        self.stage.tick()
        self.worker.connect(self.worker.connection)
        self.check()

    @rule(seed=SEEDS, verb=st.sampled_from(["retry", "retry", "discard"]))
    def bulk(self, seed: int, verb: m.Verb) -> None:
        rng = Random(seed)
        ids = frozenset(id for id in self.model.tasks if rng.random() < 0.6)
        fitting = {
            id for id in ids
            if not self.model.tasks[id].live and self.model.is_kept(id)
        }  # fmt: skip
        if verb == "retry":
            failed = {id for id in fitting if self.model.tasks[id].status is not SUCCESS}
            fitting = {id for id in failed if not self.has_rival(id)}
            self.model.retry({id: self.stage.head(id).fence > 0 for id in sorted(fitting)})
        else:
            fitting -= self.model.pinned()
            self.model.forget(iter(fitting))
        assert self.stage.bulk(verb, Filter(ids=ids)).value == len(fitting)
        self.check()

    def has_rival(self, id: str) -> bool:
        key = self.model.tasks[id].submission.options.key
        return key is not None and self.model.holder(key) != id

    # --- the worker, and the world ---------------------------------------------------------------

    @rule(seed=SEEDS, left=st.none() | st.integers(0, 2), when=st.sampled_from(["before", "after"]))
    def work(self, seed: int, left: int | None, when: str) -> None:
        rng = Random(seed)
        for _ in range(rng.randint(1, 4)):
            if self.worker.grants:
                id, value = rng.choice(list(self.worker.grants)), next(self.values)
                ok = rng.random() < 0.7
                output, cause = (Output(value), "ok") if ok else (BOOM, "failed")
                self.model.end(id, SUCCESS if ok else FAILURE, value)
                self.model.settle()
                fate = None if left is None else (left, when)
                finish = lambda id=id, cause=cause, output=output: self.worker.finish(  # noqa: E731
                    id, cause, output=output
                )
                self.during(fate, finish)
                self.check()

    @rule()
    def the_owner_dies(self) -> None:
        self.restart()
        self.check()

    @rule(seconds=st.sampled_from([2.0, 6.0, 11.0]), purge=st.booleans())
    def time_passes(self, seconds: float, purge: bool) -> None:
        self.worker.beat()
        self.stage.pass_time(seconds)
        self.worker.beat()
        self.model.now = self.stage.now
        for id, one in self.model.tasks.items():
            head = self.stage.head(id)
            output = self.stage.output(id)
            if one.live and output is not None and output.kind is FailureKind.EXPIRED:
                assert one.submission.options.expires == EXPIRES
                assert self.stage.now >= one.submitted + EXPIRES
                assert head.completed_at is not None
                self.model.end(id, FAILURE)
                one.until = head.completed_at + TTL
        self.model.settle()
        for id, one in self.model.tasks.items():
            completed_at = self.stage.head(id).completed_at
            if completed_at is not None:  # it may have been within these seconds
                one.until = completed_at + TTL
        if purge:
            gone = {id for id in self.model.tasks if not self.model.is_kept(id)}
            self.model.forget(iter(gone - self.model.pinned()))
            self.stage.purge()
        self.check()

    # --- checks ----------------------------------------------------------------------------------

    def check(self) -> None:
        self.sound = False
        stage = self.stage
        assert stage.records.keys() == self.model.tasks.keys()
        for id, one in self.model.tasks.items():
            status = stage.status(id)
            assert (READY if status is RUNNING else status) is one.status, id
        assert stage.machine.pinned() & stage.records.keys() == self.model.pinned()
        for id, grant in self.worker.grants.items():
            needs = self.model.tasks[id].needs
            inputs = {name: self.model.tasks[real].value for name, real in needs.items()}
            assert grant.inputs == inputs, id
        self.sound = True

    def teardown(self) -> None:
        if not self.sound:
            return
        while self.worker.grants:
            id = next(iter(self.worker.grants))
            value = next(self.values)
            self.model.end(id, SUCCESS, value)
            self.model.settle()
            self.worker.finish(id, output=Output(value))
        self.check()
        assert not any(one.live for one in self.model.tasks.values())
        self.stage.disconnect(self.worker.connection)
        assert self.stage.left() == {}
        assert all(question.answered for question in self.stage.questions)


def sent_again(question: Question) -> Any:
    message = question.message
    return replace(message, resent=True) if isinstance(message, m.Submit) else message


def is_explained(
    question: Question, expected: m.Admitted | Exception | None, *, lived: bool
) -> bool:
    """Say whether an answer is the expected one; after a crash, all of it may be known already."""
    if isinstance(expected, Exception):
        return isinstance(question.error, type(expected))
    if question.error is not None:
        return False
    if lived:
        return bool(question.value == expected)
    instead = {} if expected is None else expected.instead
    answer = question.value or m.Admitted(())
    ids = {task.id for task in question.message.tasks} - instead.keys()
    return answer.instead == instead and set(answer.known) in (set(), ids)


@pytest.mark.bound(180)  # so that a failure can be cut down to a short story
class TestDependenciesBesideModel(DependenciesBesideModel.TestCase):
    settings = settings(max_examples=100, stateful_step_count=40)
