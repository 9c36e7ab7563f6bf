"""Simulations of a whole cluster, each from one seed: `simulate` it, or run many from the shell.

::

    python -m actorq.testing.simulation --seeds 1000 --start 5000

A seed gives a plan: what clients do, and what goes wrong meanwhile. The plan is played in virtual
time, the promises are checked against what happened, and if one is broken the plan is made as short
as it can be while it still breaks one. The same seed is the same history, every time.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from math import inf
from random import Random
from typing import Any

import attrs
import trio

from actorq.testing.clock import VirtualClock
from actorq.testing.cluster import Cluster, Fault, Setup
from actorq.testing.history import History
from actorq.testing.processes import seeded
from actorq.testing.promises import broken
from actorq.testing.workload import Job, Step

BOUND = 40.0
"""Virtual seconds after the last fault within which everybody must have been answered."""

_LAST_WORDS = 20.0  # until a client is given up that fell silent, and all is acknowledged


@attrs.frozen
class Plan:
    """One simulation.

    Attributes:
        seed: Of all chance that is left: latencies, jitter, names, the order of trio's tasks.
        setup: The cluster.
        steps: What clients do.
        faults: What goes wrong.
        calm: From when on nothing goes wrong.
    """

    seed: int
    setup: Setup
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    calm: float


def play(plan: Plan) -> History:
    """Play a plan; return what happened."""
    with seeded(plan.seed) as random:
        cluster = Cluster(plan.setup, plan.steps, random)
        trio.run(_play, plan, cluster, clock=VirtualClock())
    return cluster.history


async def _play(plan: Plan, cluster: Cluster) -> None:
    async def body() -> None:
        async with trio.open_nursery() as nursery:
            for fault in plan.faults:
                nursery.start_soon(cluster.strike, fault)
            await trio.sleep_until(plan.calm)
            nursery.cancel_scope.cancel()
        cluster.calm()
        with trio.move_on_after(BOUND):
            while cluster.waiting() or cluster.busy():
                await trio.sleep(0.5)
        with trio.move_on_after(_LAST_WORDS):
            while cluster.busy(at_all=True):
                await trio.sleep(0.5)
        for role, steps in cluster.waiting().items():
            cluster.history.note("hangs", role=role, steps=steps)
        if tables := cluster.tables():
            cluster.history.note("leak", **tables)

    await cluster.run(body)


# --- plans ---------------------------------------------------------------------------------------


def plan_of(seed: int) -> Plan:
    """Return the plan that a seed stands for."""
    return _Planner(seed).plan()


class _Planner:
    """Draws a plan."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(f"plan {seed}")
        self._labels = 0

    def plan(self) -> Plan:
        random = self._random
        calm = random.choice([2.0, 3.0, 4.0, 6.0, 8.0, 16.0])
        setup = Setup(
            clients=random.choice([1, 1, 2]),
            slots=random.choice([1, 2, 4]),
            lease=random.choice([6.0, 15.0]),
            suspends=random.random() < 0.2,
            max_pending=random.choice([5, 1_000, 1_000]),
            parent=random.random() < 0.4,
        )
        faults = [self._fault(calm) for _ in range(random.choice([0, 1, 1, 2, 3, 4, 6]))]
        steps = [self._step(setup, calm) for _ in range(random.randint(3, 10))]
        by_time = sorted(steps, key=lambda step: step.at)
        return Plan(
            self._seed, setup, tuple(by_time), tuple(sorted(faults, key=lambda f: f.at)), calm
        )

    def _step(self, setup: Setup, calm: float) -> Step:
        random = self._random
        verb = random.choice(
            ["submit", "submit", "many", "call", "call", "nursery", "cancel", "by id", "subscribe"]
        )
        most = {"many": 8, "nursery": 4, "call": 2, "map": 4}.get(verb, 3)
        patience = random.choice([inf, inf, 0.0, 0.01, 0.5, 2.0])
        if verb in ("cancel", "by id") and patience == inf:
            patience = 1.0
        jobs = tuple(self._job() for _ in range(random.randint(1, most)))
        at = random.uniform(0.0, calm * 0.8)
        return Step(at, random.randrange(setup.clients), verb, jobs, patience)

    def _job(self) -> Job:
        random = self._random
        self._labels += 1
        kind = random.choice(
            ["ok", "ok", "ok", "ok", "ok", "fail", "flaky", "flaky", "later", "give up", "poison",
             "linger"]
        )  # fmt: skip
        seconds = random.choice([0.0, 0.0, 0.01, 0.3, 1.0, 3.0, 8.0 if kind == "ok" else 0.5])
        times = random.choice([1, 1, 2, 4]) if kind in ("flaky", "later", "poison") else 0
        options: dict[str, Any] = {}
        if kind == "flaky":
            options["retry"] = random.choice([1, 2, 3])
        if random.random() < 0.15 and kind != "later":
            options["at_most_once"] = True
            options.pop("retry", None)
        if random.random() < 0.1:
            options["timeout"] = random.choice([0.2, 2.0])
        if random.random() < 0.1:
            options["deadline"] = random.choice([0.5, 3.0, 10.0])
        if random.random() < 0.1:
            options["delay"] = random.choice([0.2, 2.0])
        if random.random() < 0.05:
            options["expires"] = random.choice([0.5, 3.0])
        if random.random() < 0.1:
            options["priority"] = random.choice(["low", "high"])
        return Job(f"t{self._labels}", kind, seconds, times, options)

    def _fault(self, calm: float) -> Fault:
        random = self._random
        kind = random.choice(
            ["cut", "cut", "cut", "cut", "hold", "hold", "half close", "slow", "refuse", "silence",
             "stall", "stall", "block", "crash", "crash", "drain", "crash actor", "restart queue"]
        )  # fmt: skip
        at = random.uniform(0.0, calm * 0.9)
        whom = random.choice(["worker-0", "worker-0", "worker-1", "worker-2", "client-0", "client-0", "client-1"])
        seconds = random.choice([0.1, 1.0, 3.0, 5.5, 8.0, 16.0])
        if kind == "crash actor":
            return Fault(at, kind, after=random.randrange(4), applied=random.random() < 0.5)
        if kind == "restart queue":
            return Fault(at, kind, seconds=min(seconds, 3.0), told=random.random() < 0.7)
        if kind in ("drain", "block") or (kind == "crash" and random.random() < 0.7):
            whom = random.choice(["worker-0", "worker-1", "worker-2"])
        if kind == "stall" and random.random() < 0.3:
            whom = "queue"
        return Fault(
            at,
            kind,
            whom,
            min(seconds, 3.0) if kind in ("crash", "drain") else seconds,
            side=random.choice(["near", "far", None]),
            after=random.choice([0, random.randrange(200), random.randrange(2_000)]),
            told=random.random() < 0.6,
            reported=random.random() < 0.4,
        )


# --- verdicts ------------------------------------------------------------------------------------


class Failure(AssertionError):
    """A promise was broken."""


def verdict(plan: Plan) -> tuple[list[str], History]:
    """Play a plan; return what it breaks, and what happened."""
    history = play(plan)
    return broken(history, plan.setup, plan.steps, plan.faults), history


def simulate(plan: Plan) -> None:
    """Play a plan.

    Raises:
        Failure: It breaks a promise; with the shortest history that does.
    """
    complaints, _ = verdict(plan)
    if complaints:
        raise Failure(report(shortest(plan)))


def report(plan: Plan) -> str:
    """Return what a plan is, what it breaks, and all that happens."""
    complaints, history = verdict(plan)
    return "\n".join(
        [
            f"seed {plan.seed} breaks {len(complaints)} promises:",
            *(f"  - {said}" for said in complaints),
            f"{plan.setup}, calm={plan.calm}",
            *map(str, plan.steps),
            *map(str, plan.faults),
            history.story(),
        ]
    )


def shortest(plan: Plan, tries: int = 200) -> Plan:
    """Return a plan that fails in the same way, and mostly does not without any of its parts."""
    kind = _kind(verdict(plan)[0][0])
    while True:
        for smaller in _smaller(plan):
            tries -= 1
            if tries < 0:
                return plan
            if any(_kind(said) == kind for said in verdict(smaller)[0]):
                plan = smaller
                break
        else:
            return plan


def _kind(complaint: str) -> str:
    """Return what a complaint is about, without names and numbers."""
    return re.sub(r"task \w+ \(\w+\)|[\d.]+|'.*?'", "", complaint)[:40]


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Iterate over plans with one part less."""
    for size in (len(plan.steps) // 2, 1):
        for start in range(0, len(plan.steps), size or 1):
            if size and len(plan.steps) > size:
                rest = plan.steps[:start] + plan.steps[start + size :]
                yield attrs.evolve(plan, steps=rest)
    for start in range(len(plan.faults)):
        yield attrs.evolve(plan, faults=plan.faults[:start] + plan.faults[start + 1 :])
    for index, step in enumerate(plan.steps):
        for job in range(len(step.jobs) if len(step.jobs) > 1 else 0):
            fewer = attrs.evolve(step, jobs=step.jobs[:job] + step.jobs[job + 1 :])
            yield attrs.evolve(plan, steps=(*plan.steps[:index], fewer, *plan.steps[index + 1 :]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many seeds; print what breaks. Return 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m actorq.testing.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--brief", action="store_true", help="do not look for the shortest history")
    given = parser.parse_args(arguments)
    failed: list[int] = []
    began = time.process_time()
    for seed in range(given.start, given.start + given.seeds):
        plan = plan_of(seed)
        try:
            complaints, _ = verdict(plan)
        except Exception as error:  # noqa: BLE001 - that is a finding too
            complaints = ["".join(traceback.format_exception(error))]
        if complaints:
            failed.append(seed)
            print(f"seed {seed}:", *complaints, sep="\n  - ")
            if not given.keep_going:
                if not given.brief:
                    print(report(shortest(plan)))
                break
    seconds = time.process_time() - began
    print(f"{given.seeds} seeds in {seconds:.1f} s of CPU time; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
