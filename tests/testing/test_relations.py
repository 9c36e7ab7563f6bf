"""Each promise about several tasks, with a history that breaks it, and no more than that."""

from typing import Any

import pytest

from actorq.model.schedules import tick_id
from actorq.testing.cluster import Fault
from actorq.testing.history import Happening, History
from actorq.testing.nodes import Setup
from actorq.testing.reading import Reading
from actorq.testing.relations import broken_relations
from actorq.testing.workload import QUEUE, Job, Step

NOON = 1_700_000_000.0


class Telling:
    """A history that is told by hand; each task is called as its job."""

    def __init__(
        self, *jobs: Job, step: Step | None = None, faults: tuple[Fault, ...] = ()
    ) -> None:
        self.history = History()
        self.steps = (step or Step(0.0, 0, "submit", jobs),)
        self.faults = faults
        self.at = 0.0
        for job in jobs:
            sources = [*job.after, *job.needs]
            self("asked", step=0, label=job.label, id=job.label, sources=sources)

    def __call__(self, what: str, **details: Any) -> "Telling":
        self.at += 1.0
        self.history.events.append(Happening(self.at, "queue", what, details))
        return self

    def record(self, id: str, status: str, fence: int = 1, **more: Any) -> "Telling":
        return self("record", id=id, status=status, fence=fence, lineage="x", **more)

    def same(self) -> "Telling":
        """What is told next is in the same commit."""
        self.at -= 1.0
        return self

    def run(self, id: str, at: float, given: tuple[str, ...] = ()) -> "Telling":
        more = {"given": list(given)} if given else {}
        details = {"run": len(self.history.events), "id": id, "label": id} | more
        self.history.events.append(Happening(at, "worker-0", "started", details))
        return self

    def collected(self, status: str, label: str = "a", by: str = "x") -> "Telling":
        return self("collected", id="a", status=status, label=label, by=by)

    def tick(self, at: float) -> "Telling":
        return self.record(tick_id("s", NOON + at), "running", schedule="s")

    @property
    def complaints(self) -> list[str]:
        reading = Reading(self.history, Setup(store="disk"), self.steps, self.faults)
        return list(broken_relations(reading))


def two(**options: Any) -> Telling:
    return Telling(Job("a", options=dict(options)), Job("b", options=dict(options)))


def pair(*, needs: bool = False, **options: Any) -> Telling:
    """A task, and one that comes after it."""
    names = ((), ("a",)) if needs else (("a",), ())
    return Telling(Job("a"), Job("b", options=options, after=names[0], needs=names[1]))


def schedule(**more: Any) -> Telling:
    return Telling(step=Step(0.0, 0, "schedule", (Job("s"),), every=2.0, **more))


BAD = [
    (two(key="k").record("a", "running").record("b", "running"), "key k stands for"),
    (pair().record("a", "running").record("b", "running"), "granted before task a (a) had ended"),
    (pair().record("a", "failure").record("b", "running"), "granted though task a (a) was failure"),
    (
        pair(needs=True, on_dependency_failure="run").record("a", "failure").record("b", "running"),
        "granted though task a (a) was failure",
    ),
    (
        pair(needs=True).record("a", "success").record("b", "running").run("b", 9.0, ("c c 1",)),
        "needs [['a', 'a']], and was given [['c', 'c']]",
    ),
    (
        pair()
        .record("a", "success")
        .record("b", "failure")("told", id="b", error="DependencyFailed"),
        "has failed for a dependency, and they were ['success']",
    ),
    (
        two(limit="single").record("a", "running").record("b", "running"),
        "2 tasks with the limit 'single' run",
    ),
    (two(limit="slow").run("a", 1.0).run("b", 1.1).run("a", 1.8), "3 tasks with the limit 'slow'"),
    (two(queue=QUEUE)("paused").record("a", "running"), "its queue is paused"),
    (
        two(queue=QUEUE).record("a", "running")("paused").record("a", "running", fence=2),
        "its queue is paused",
    ),
    (two(callback=True).record("a", "success"), "was success, and its callback was told []"),
    (
        two(callback=True).record("a", "success").collected("failure"),
        "was success, and its callback was told [('failure', 'a')]",
    ),
    (two(callback=True).record("a", "success").collected("success", "b"), "[('success', 'b')]"),
    (
        two(callback=True).record("a", "success").collected("success").collected("success", by="y"),
        "has several callbacks",
    ),
    (schedule().tick(2.0).tick(5.0), "schedule s ticks 3.0 s after its last tick"),
    (schedule(catch_up="all", overlap="queue").tick(2.0).tick(6.0), "leaves out 1 ticks"),
]


@pytest.mark.parametrize(("telling", "said"), BAD)
def test_a_broken_promise_is_told(telling: Telling, said: str) -> None:
    assert [complaint for complaint in telling.complaints if said in complaint], telling.complaints


GOOD = [
    two(key="k").record("a", "running"),
    two().record("a", "running").record("b", "running"),
    pair().record("a", "success").record("b", "running"),
    pair().record("b", "running").same().record("a", "success"),
    pair(on_dependency_failure="run").record("a", "failure").record("b", "running"),
    pair(needs=True).record("a", "success").record("b", "running").run("b", 9.0, ("a a 1",)),
    pair().record("a", "failure").record("b", "failure")("told", id="b", error="DependencyFailed"),
    pair(),
    two(limit="couple").record("a", "running").record("b", "running"),
    two(limit="single").record("a", "running").record("b", "running").same().record("a", "success"),
    two(limit="slow").run("a", 1.0).run("b", 1.1).run("a", 2.1),
    two(limit="single").run("a", 1.0).run("b", 1.1),
    two(queue=QUEUE).record("a", "running")("paused").record("a", "running"),
    two(queue=QUEUE)("paused")("resuming").record("a", "running"),
    two()("paused").record("a", "running"),
    two(callback=True).record("a", "success").collected("success").collected("success"),
    two(callback=True).record("a", "running"),
    two().record("a", "success"),
    schedule().tick(2.0).tick(4.0).tick(8.0),
    schedule(catch_up="all", overlap="queue").tick(2.0).tick(4.0).tick(6.0),
]


@pytest.mark.parametrize("telling", GOOD)
def test_what_has_a_reason_breaks_nothing(telling: Telling) -> None:
    assert telling.complaints == []


def test_what_comes_late_is_no_start_at_that_time() -> None:
    telling = two(limit="slow").run("a", 1.0).run("b", 1.1).run("a", 1.8)
    telling.faults = (Fault(0.0, "disk hangs"),)

    assert telling.complaints == []


def test_a_queue_that_has_lost_its_records_promises_nothing_of_them() -> None:
    telling = two(key="k").record("a", "running").record("b", "running")
    reading = Reading(telling.history, Setup(), telling.steps, (Fault(0.0, "restart queue"),))

    assert list(broken_relations(reading)) == []
