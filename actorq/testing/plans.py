"""What a seed stands for: a plan of what clients do, and of what goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import Random
from typing import Any

import attrs

from actorq.testing.cluster import Fault, FaultKind
from actorq.testing.faults import StoreVerb
from actorq.testing.network import Side
from actorq.testing.nodes import Setup
from actorq.testing.workload import LIMITS, QUEUE, Job, Kind, Step, Verb


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


def plan_of(seed: int) -> Plan:
    """Return the plan that a seed stands for."""
    return _Planner(seed).plan()


# What is drawn most often is named most often.
_CALM = [1.0, 2.0, 3.0, 4.0, 6.0, 12.0]
_CALM_WITH_DISK = [3.0, 6.0, 16.0, 25.0]
_FAULTS = [0, 1, 2, 3, 4, 6, 8]
_VERBS: list[Verb] = [
    "submit", "submit", "many", "call", "call", "map", "nursery", "nursery", "cancel", "by id",
    "subscribe", "schedule", "pause",
]  # fmt: skip
_JOBS_MAX: dict[Verb, int] = {"many": 8, "map": 6, "nursery": 4, "call": 2}
_PATIENCE = [inf, inf, 0.0, 0.01, 0.5, 2.0]
_KINDS: list[Kind] = [
    "ok", "ok", "ok", "ok", "ok", "fail", "flaky", "flaky", "later", "give up", "poison", "linger",
]  # fmt: skip
_SECONDS = [0.0, 0.0, 0.01, 0.3, 1.0, 3.0, 5.0]
_SIZES = [0, 0, 0, 0, 0, 2_000, 100_000]
_OPTIONS: list[tuple[float, str, list[Any]]] = [
    (0.1, "timeout", [0.2, 2.0]),
    (0.1, "deadline", [0.5, 3.0, 10.0]),
    (0.1, "delay", [0.2, 2.0]),
    (0.05, "expires", [0.5, 3.0]),
    (0.1, "priority", ["low", "high"]),
    (0.1, "result_ttl", [0.0, 1.0]),
    (0.05, "max_deliveries", [1, 2]),
    (0.15, "queue", [QUEUE]),
    (0.15, "limit", list(LIMITS)),
    (0.15, "callback", [True]),
]
_KEYS = ["k1", "k2", "k3"]
_CALLS: list[StoreVerb] = [
    "acquire", "load", "notes", "commit", "fetch", "fetch_keyed", "find", "purge", "release",
    "describe",
]  # fmt: skip
_SKEWS = [-8.0, -0.5, 0.5, 8.0]
_EVERY = [0.5, 1.0, 3.0]
_WRONGS: list[FaultKind] = [
    "cut", "cut", "cut", "cut", "hold", "hold", "half close", "slow", "refuse", "silence", "stall",
    "stall", "block", "crash", "crash", "drain", "crash actor", "restart queue",
]  # fmt: skip
_WRONGS_WITH_DISK: list[FaultKind] = [
    *_WRONGS, "restart queue", "restart queue", "restart queue", "drain", "disk full",
    "disk hangs", "disk slow", "disk fails", "disk fails", "stop in commit", "stop in commit",
    "die in commit", "die in commit", "die in commit", "die in commit", "call fails", "call fails",
]  # fmt: skip
_LASTING = [0.1, 1.0, 3.0, 5.5, 8.0, 16.0]
_LASTING_FOR_OWNERS = [0.5, 5.0, 11.0, 13.0]
_WORKERS = ["worker-0", "worker-1", "worker-2"]
_OTHERS = ["client-0", "client-0", "client-1", "parent", "queue"]
_OWNERS = ["owner", "owner", "owner", "queue", "standby"]
_SIDES: list[Side | None] = ["near", "far", None]


class _Planner:
    """Draws a plan."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(f"plan {seed}")
        self._labels = 0
        self._keyed: dict[str, Job] = {}

    def plan(self) -> Plan:
        draw = self._random.choice
        disk = self._happens(0.5)
        calm = draw(_CALM_WITH_DISK if disk else _CALM)
        setup = Setup(
            clients=draw([1, 1, 2]),
            slots=draw([1, 2, 4]),
            lease=draw([6.0, 15.0]),
            suspends=self._happens(0.2),
            max_pending=draw([5, 1_000, 1_000]),
            max_results=draw([3, 10_000, 10_000]),
            parent=self._happens(0.4),
            store="disk" if disk else "memory",
            standby=disk and self._happens(0.6),
            locks=not disk or self._happens(0.6),
            home=2 if disk and self._happens(0.3) else 0,
            skew=draw(_SKEWS) if disk and self._happens(0.3) else 0.0,
        )
        steps = [self._step(setup, calm) for _ in range(self._random.randint(2, 8))]
        pauses = [step for step in steps if step.verb == "pause"]
        steps = [step for step in steps if step not in pauses[1:]]  # or nobody could say when
        moments = [step.at for step in steps]
        moments += [step.at + job.seconds for step in steps for job in step.jobs]
        count = draw(_FAULTS) + (2 if disk else 0)
        faults = [self._fault(setup, calm, moments) for _ in range(count)]
        return Plan(
            self._seed,
            setup,
            tuple(sorted(steps, key=lambda step: step.at)),
            tuple(sorted(faults, key=lambda fault: fault.at)),
            calm,
        )

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def _step(self, setup: Setup, calm: float) -> Step:
        draw = self._random.choice
        verb = draw(_VERBS)
        patience = draw(_PATIENCE)
        if verb in ("cancel", "by id") and patience == inf:
            patience = 1.0
        at = self._random.uniform(0.0, calm * 0.8)
        client = self._random.randrange(setup.clients)
        if verb == "pause":
            return Step(at, 0, verb, (), draw([0.1, 1.0, 5.0]))
        if verb == "schedule":
            return self._schedule(at, client)
        jobs: list[Job] = []
        for _ in range(self._random.randint(1, _JOBS_MAX.get(verb, 3))):
            job = self._job()
            if jobs:
                job = self._related(job, jobs)
            if verb in ("submit", "many") and not job.after + job.needs and self._happens(0.1):
                job = self._with_key(job)
            jobs.append(job)
        return Step(at, client, verb, tuple(jobs), patience)

    def _schedule(self, at: float, client: int) -> Step:
        draw = self._random.choice
        self._labels += 1
        options = {"result_ttl": 0.0} if self._happens(0.5) else {}
        job = Job(f"t{self._labels}", draw(["ok", "fail"]), draw([0.0, 0.3, 2.0]), options=options)
        return Step(
            at,
            client,
            "schedule",
            (job,),
            draw([1.0, 4.0, 12.0]),
            every=draw(_EVERY),
            catch_up=draw(["last", "skip", "all"]),
            overlap=draw(["skip", "queue"]),
        )

    def _related(self, job: Job, earlier: list[Job]) -> Job:
        """Have a job come after others, now and then, or need their values."""
        labels = [other.label for other in earlier if "key" not in other.options]
        if not labels or not self._happens(0.3):
            return job
        sources = tuple(self._random.sample(labels, min(len(labels), self._random.randint(1, 2))))
        if self._happens(0.4):
            return attrs.evolve(job, needs=sources)
        if self._happens(0.3):
            job = attrs.evolve(job, options=job.options | {"on_dependency_failure": "run"})
        return attrs.evolve(job, after=sources)

    def _with_key(self, job: Job) -> Job:
        """Give a job a key; if another one has that, it is mostly the same call."""
        key = self._random.choice(_KEYS)
        options = job.options | {"key": key}
        options.pop("result_ttl", None)
        if key in self._keyed and self._happens(0.7):
            return attrs.evolve(self._keyed[key], options=options)
        self._keyed[key] = job = attrs.evolve(job, options=options)
        return job

    def _job(self) -> Job:
        draw = self._random.choice
        self._labels += 1
        kind = draw(_KINDS)
        seconds = draw(_SECONDS)
        times = draw([1, 1, 2, 4]) if kind in ("flaky", "later", "poison") else 0
        options = {name: draw(values) for share, name, values in _OPTIONS if self._happens(share)}
        if kind != "later" and self._happens(0.15):
            options["at_most_once"] = True
        elif kind == "flaky":
            options["retry"] = draw([1, 2, 3])
        if kind != "ok":
            seconds = min(seconds, 3.0 if kind == "linger" else 0.5)
        return Job(f"t{self._labels}", kind, seconds, times, draw(_SIZES), options)

    def _fault(self, setup: Setup, calm: float, moments: list[float]) -> Fault:
        """Draw what goes wrong; mostly when something is under way, at one of the ``moments``."""
        draw, number = self._random.choice, self._random.randrange
        disk = setup.store == "disk"
        kind, at = draw(_WRONGS_WITH_DISK if disk else _WRONGS), self._random.uniform(0, calm * 0.9)
        if self._happens(0.7):
            soon = draw([0.01, 0.01, 0.2])
            at = min(max(0.0, draw(moments) + self._random.uniform(-soon, soon)), calm)
        told, seconds = self._happens(0.6), draw(_LASTING)
        owner = draw(_OWNERS) if disk and setup.standby else "owner" if disk else "queue"
        if kind == "crash actor":
            return Fault(at, kind, owner, after=number(4), applied=told)
        if disk and kind == "stall" and self._happens(0.6):
            return Fault(at, kind, "owner", draw(_LASTING_FOR_OWNERS))
        if kind == "call fails":
            verb = draw(_CALLS)
            return Fault(at, kind, owner, after=number(3), applied=told, verb=verb)
        if kind == "restart queue":
            seconds, applied = min(seconds, 3.0), self._happens(0.5)
            return Fault(at, kind, owner, seconds, told=told, applied=applied)
        if kind.endswith("in commit"):
            after, applied = draw([0, 0, number(8)]), self._happens(0.5)
            seconds = draw(_LASTING_FOR_OWNERS)
            return Fault(at, kind, "owner", seconds, after=after, told=told, applied=applied)
        if kind.startswith("disk"):
            return Fault(at, kind, "owner", seconds, applied=told)
        whom = draw([*_WORKERS, *_OTHERS])
        if whom == "queue":
            whom = owner
        if kind == "drain" and disk and self._happens(0.5):
            whom = owner
        elif kind in ("drain", "block") or (whom == owner and kind not in ("stall", "cut", "hold")):
            whom = draw(_WORKERS)
        if kind in ("crash", "drain"):
            seconds = min(seconds, 3.0)
        return Fault(
            at,
            kind,
            whom,
            seconds,
            side=draw(_SIDES),
            link=draw([None, None, 0, 1]),
            after=draw([0, number(200), number(2_000), number(100_000)]),
            told=told,
            reported=self._happens(0.4),
        )


def smaller(plan: Plan) -> Iterator[Plan]:
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
