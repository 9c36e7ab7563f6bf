"""The supervision machine beside a fake shell, which obeys late, and a model of what must hold.

The shell keeps what really runs. A child that was told to start says that it is up some time later,
or fails; one that was told to stop ends some time later. Everything that the machine wants is held
against what runs at that moment. At the end all is given time, and then whoever should be up is up,
and after closing nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actorq.machines.restarts import Backoff
from actorq.machines.supervision import (
    RESTART_TYPES,
    Died,
    Effect,
    GaveUp,
    Remove,
    Restarting,
    RestartType,
    Start,
    Stop,
    Strategy,
    Supervision,
)

MOST_CHILDREN = 6
RARELY = 0.05


@dataclass(eq=False)
class Child:
    """What really runs, and what the rules say of it."""

    id: str
    restart: RestartType
    starts: int = 0
    running: bool = False
    up: bool = False
    told: str | None = None
    """What it was told: ``stop`` (with another) or ``end`` (for good)."""
    goes_down: bool = False
    """Whether it has to end before those that it goes down with are started again."""
    went_down: bool = False
    """Whether it had to when it ended."""
    crashed: bool = False
    """Whether it ended by an error, unasked, and nobody has been told of that yet."""
    wanted: bool = True
    """Whether it is to come up again when it goes down with another, or crashes."""
    restarts: list[float] = field(default_factory=list)

    @property
    def first_start(self) -> bool:
        return self.running and not self.up and self.starts == 1


class Shell:
    """Obeys the machine, and minds what it wants."""

    def __init__(
        self,
        strategy: Strategy,
        *,
        intensity: int,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        period: float = 5.0,
        apart: bool = False,
    ) -> None:
        self.strategy = strategy
        self.apart = apart
        self.period = period
        self.intensity = intensity
        self.machine = Supervision(
            strategy, intensity=intensity, period=period, backoff=backoff, apart=apart
        )
        self.now = 1000.0
        self.children: dict[str, Child] = {}
        """All that have not been removed, in the order of their first start."""
        self.removed: dict[str, Child] = {}
        self.closing = False
        self.in_order = True
        """Whether it closes one child after the other."""
        self.retired = False
        self.over = False
        self.sound = True
        """Whether all that the machine wanted was in order."""
        self.restarts: list[float] = []

    # --- what the machine wants ------------------------------------------------------------------

    def obey(self, effects: list[Effect], asked: Child | None = None) -> None:
        """Carry it out; ``asked`` is whom a user wants to end."""
        self.sound = False
        for effect in effects:
            assert not self.over, "it gave up before"
            if isinstance(effect, GaveUp):
                assert not self.apart, "each dies alone"
                assert not self.children, "it gave up before all had ended"
                assert len(effect.failures) == self.intensity + 1
                self.over = True
                continue
            child = self.children[effect.id]
            match effect:
                case Start():
                    self.start(child)
                case Stop():
                    self.stop(child, final=effect.final, asked=child is asked)
                case Restarting():
                    self.crashed(child)
                case Died():
                    self.died(child)
                case Remove():
                    self.remove(child)
        self.sound = True

    def start(self, child: Child) -> None:
        assert not child.running, "two incarnations at once"
        assert child.wanted, "it was to end for good"
        assert not self.winds_up, "started while closing"
        assert child.starts == 0 or child.restart != "temporary", "a temporary child came back"
        if child.starts and self.strategy != "one_for_one":
            for other in self.behind(child):
                in_the_way = other.goes_down and not other.first_start
                assert not in_the_way, f"{child.id} is started before {other.id} has ended"
            for other in self.before(child):
                fine = other.up or other.first_start or not other.wanted
                assert fine, f"{child.id} is started before {other.id} is up"
        child.running, child.up, child.told = True, False, None
        child.starts += 1

    def stop(self, child: Child, *, final: bool, asked: bool) -> None:
        assert child.running, "it does not run"
        assert child.told != ("end" if final else "stop"), "told twice"
        assert child.told != "end", "told to end before"
        if not asked and self.in_order:
            assert self.closing or child.goes_down, "stopped without a reason"
            assert final == (self.closing or child.restart == "temporary")
            for other in self.behind(child):
                in_the_way = self.closing or (other.goes_down and not other.first_start)
                assert not in_the_way, f"{child.id} is stopped before {other.id} has ended"
        if final:
            child.wanted = False
        child.told = "end" if final else "stop"

    def crashed(self, child: Child) -> None:
        assert child.wanted, "it was to end for good"
        child.crashed = False
        if child.went_down:
            return  # it would have come up again anyway, so this counts for nothing
        restarts = child.restarts if self.apart else self.restarts
        restarts.append(self.now)
        assert self.recent(restarts) <= self.intensity, "more restarts than the budget allows"
        for other in self.affected(child):
            other.goes_down = other.running

    def died(self, child: Child) -> None:
        assert child.crashed or child.restart == "permanent", "it ended well"
        if child.wanted and not self.winds_up:
            restarts = child.restarts if self.apart else self.restarts
            assert self.recent(restarts) >= self.intensity, "it died with restarts to spare"
            self.closing = not self.apart
        child.wanted = child.crashed = False

    def remove(self, child: Child) -> None:
        assert not child.running, "forgotten, but it runs"
        assert self.winds_up or not child.wanted, "it was to be started again"
        assert not child.crashed, "it died, and that was not told"
        self.removed[child.id] = self.children.pop(child.id)

    def recent(self, restarts: list[float]) -> int:
        return sum(at > self.now - self.period for at in restarts)

    @property
    def winds_up(self) -> bool:
        """Whether nothing is started any more."""
        return self.closing or self.retired

    # --- who goes with whom ----------------------------------------------------------------------

    def before(self, child: Child) -> list[Child]:
        siblings = list(self.children.values())
        return siblings[: siblings.index(child)]

    def behind(self, child: Child) -> list[Child]:
        siblings = list(self.children.values())
        return siblings[siblings.index(child) + 1 :]

    def affected(self, child: Child) -> list[Child]:
        """Return those that go down with a child."""
        if self.strategy == "one_for_one":
            return []
        return self.behind(child) + (self.before(child) if self.strategy == "one_for_all" else [])

    # --- what happens ----------------------------------------------------------------------------

    def spawn(self, restart: RestartType) -> Child:
        child = Child(str(len(self.children) + len(self.removed)), restart)
        self.children[child.id] = child
        self.obey(self.machine.adopt(child.id, restart, self.now))
        return child

    def ready(self, child: Child) -> None:
        child.up = True
        self.obey(self.machine.started(child.id, self.now))

    def exit(self, child: Child, failure: Exception | None, spread: float = 0.0) -> None:
        """End a child, for whatever reason; see the rules of restart types."""
        again = child.restart == "permanent" or (
            child.restart == "transient" and failure is not None
        )
        child.crashed = failure is not None and child.told is None and not child.first_start
        if child.first_start or (not again and child.told != "stop"):
            child.wanted = False
        child.went_down, child.told = child.goes_down, None
        child.running = child.up = child.goes_down = False
        self.obey(self.machine.exited(child.id, self.now, failure, spread))

    def abandon(self, child: Child) -> None:
        """End a child by what ends the whole program."""
        child.running = child.up = child.goes_down = child.wanted = False
        child.told = None
        self.obey(self.machine.abandoned(child.id, self.now))

    def end(self, child: Child) -> None:
        """Have a user end a child for good."""
        child.wanted = False
        self.obey(self.machine.stop(child.id, self.now), asked=child)

    def close(self, *, at_once: bool = False) -> None:
        self.closing, self.in_order = True, not at_once
        self.obey(self.machine.close(self.now, at_once=at_once))

    def retire(self) -> None:
        self.retired = True
        self.obey(self.machine.retire())

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.obey(self.machine.tick(self.now))

    def wait_for_deadline(self) -> None:
        deadline = self.machine.next_deadline()
        assert deadline is not None
        assert deadline < self.now + 100
        self.wait(max(deadline - self.now, 0.0))

    def settle(self) -> None:
        """Let everything happen that was wanted, and no more crashes."""
        for _ in range(1000):
            told = [child for child in self.children.values() if child.told]
            starting = [child for child in self.children.values() if child.running > child.up]
            if told:
                self.exit(told[0], None)
            elif starting:
                self.ready(starting[0])
            elif self.machine.next_deadline() is not None:
                self.wait_for_deadline()
            else:
                break
        else:
            raise AssertionError("it never settles")
        for child in self.children.values():
            assert child.up, "it should be up"
            assert self.retired or not child.goes_down, "it should have gone down"


def crash(shell: Shell, child: Child, rng: Random) -> None:
    shell.exit(child, ValueError(child.id), rng.uniform(-1, 1))


def starting(child: Child) -> bool:
    return child.running and not child.up


def stopping(child: Child) -> bool:
    return child.told is not None


Move = tuple[Callable[[Child], bool], Callable[[Shell, Child, Random], None]]
MOVES: dict[str, Move] = {
    "is up": (starting, lambda shell, child, _: shell.ready(child)),
    "crashes": (lambda child: child.running, crash),
    "fails to start": (starting, crash),
    "fails to stop": (stopping, crash),
    "returns": (lambda child: child.up, lambda shell, child, _: shell.exit(child, None)),
    "has stopped": (stopping, lambda shell, child, _: shell.exit(child, None)),
    "ends the program": (
        lambda child: child.running,
        lambda shell, child, _: shell.abandon(child),
    ),
    "is to end": (lambda _: True, lambda shell, child, _: shell.end(child)),
}
LIKELY = ["is up"] * 4 + ["has stopped"] * 4 + ["crashes"] * 4 + [*MOVES]
SEEDS = st.integers(0, 2**32)
TYPES = st.sampled_from(RESTART_TYPES + ("permanent",) * 2)
GROUPS = st.sampled_from(["one_for_all", "rest_for_one", "rest_for_one", "one_for_one", "apart"])


class SupervisionBesideAShell(RuleBasedStateMachine):
    """What can happen to a supervisor and its children."""

    shell: Shell

    @initialize(
        strategy=GROUPS,
        intensity=st.sampled_from([0, 1, 3, 100, 100, 100]),
        backoff=st.sampled_from([Backoff(0, 0), Backoff(1, 4, 0, 10), Backoff(0.5, 20, 0.5, 30)]),
        types=st.lists(TYPES, min_size=2, max_size=MOST_CHILDREN),
    )
    def open(
        self, strategy: Any, intensity: int, backoff: Backoff, types: list[RestartType]
    ) -> None:
        apart = strategy == "apart"
        self.shell = Shell(
            "one_for_one" if apart else strategy, intensity=intensity, backoff=backoff, apart=apart
        )
        for restart in types:
            self.shell.ready(self.shell.spawn(restart))

    @precondition(lambda self: not self.shell.winds_up)
    @rule(restart=TYPES)
    def spawn(self, restart: RestartType) -> None:
        if len(self.shell.children) < MOST_CHILDREN:
            self.shell.spawn(restart)

    @rule(move=st.sampled_from(sorted(MOVES)), seed=SEEDS)
    def happen(self, move: str, seed: int) -> None:
        """Let a child do something."""
        self.move(move, Random(seed))

    @rule(seed=SEEDS, many=st.integers(5, 20))
    def happen_at_once(self, seed: int, many: int) -> None:
        """Let children do much, and some time pass; others take the places of those that end."""
        rng, shell = Random(seed), self.shell
        for _ in range(many):
            possible = [move for move in LIKELY if self.fit(move)]
            if rng.random() < 0.2 and shell.machine.next_deadline() is not None:
                shell.wait_for_deadline()
            elif not shell.winds_up and len(shell.children) < rng.randint(0, MOST_CHILDREN):
                shell.spawn(rng.choice(RESTART_TYPES))
            elif possible:
                self.move(rng.choice(possible), rng)

    def move(self, move: str, rng: Random) -> None:
        children = self.fit(move)
        if children:
            MOVES[move][1](self.shell, rng.choice(children), rng)

    def fit(self, move: str) -> list[Child]:
        """Return the children that may make a move."""
        return [child for child in self.shell.children.values() if MOVES[move][0](child)]

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.shell.wait(seconds)

    @rule()
    def settle(self) -> None:
        """With no more crashes, whoever should be up is up."""
        self.shell.settle()

    @precondition(lambda self: not self.shell.closing)
    @rule(seed=SEEDS)
    def wind_up(self, seed: int) -> None:
        chance = Random(seed).random()
        if chance < RARELY:
            self.shell.close(at_once=chance < RARELY / 2)
        elif chance < 2 * RARELY:
            self.shell.retire()

    @invariant()
    def the_machine_knows_whom_it_has(self) -> None:
        shell = self.shell
        assert len(shell.machine) == len(shell.children)
        for child in shell.children.values():
            assert child.running or child.wanted, "it has ended for good, and is kept"

    @invariant()
    def who_waits_is_not_forgotten(self) -> None:
        """If anybody is down, then it is due, or somebody else is on the way."""
        shell = self.shell
        down = [child for child in shell.children.values() if not child.running]
        moving = [child for child in shell.children.values() if child.told or not child.up]
        if down:
            assert shell.machine.next_deadline() is not None or len(moving) > len(down)

    def teardown(self) -> None:
        shell = self.shell
        if not shell.sound:
            return
        shell.settle()
        shell.close()
        shell.settle()
        assert (len(shell.children), len(shell.machine)) == (0, 0)
        assert shell.machine.next_deadline() is None
        assert not any(child.running for child in shell.removed.values())


@pytest.mark.bound(180)  # so that a failure can be cut down to a short story
class TestSupervisionBesideAShell(SupervisionBesideAShell.TestCase):
    settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
