"""One story in which everything happens once, and an owner that dies, or stops, in each commit."""

import pytest

from actorq.testing.cluster import Fault, FaultKind
from actorq.testing.nodes import Setup
from actorq.testing.plans import Plan
from actorq.testing.simulation import Failure, report, verdict
from actorq.testing.workload import QUEUE, Job, Step

SETUP = Setup(clients=2, workers=2, parent=False, store="disk", standby=True)
BACK = {"callback": True}
TWICE = {"retry": 2}
STORY = (
    Step(1.0, 0, "submit", (Job("a", options=BACK), Job("b", needs=("a",)), Job("c", "fail"))),
    Step(1.3, 1, "submit", (Job("k", seconds=0.3, options={"key": "k"}),)),
    Step(1.4, 0, "submit", (Job("k", seconds=0.3, options={"key": "k"}),)),
    Step(1.6, 0, "many", tuple(Job(f"l{n}", options={"limit": "single slow"}) for n in range(4))),
    Step(1.7, 1, "nursery", (Job("n", seconds=0.2), Job("m", "flaky", 0.1, 1, options=TWICE))),
    Step(1.8, 0, "schedule", (Job("s", options={"result_ttl": 0.0}),), 2.5, every=1.0),
    Step(2.0, 1, "pause", (), 0.5),
    Step(2.1, 0, "many", (Job("q", options={"queue": QUEUE}), Job("r", after=("q",)))),
    Step(2.3, 1, "call", (Job("left", seconds=9.0),), 0.5),
    Step(2.4, 1, "submit", (Job("once", seconds=0.3, options={"at_most_once": True}),)),
    Step(2.5, 0, "cancel", (Job("d", "linger", seconds=5.0),), 0.2),
    Step(2.9, 0, "by id", (Job("i", seconds=0.1, options={"result_ttl": 1.0}),), 0.3),
)  # fmt: skip
CALM = 6.0
COMMITS = 30
"""At least so many has the story; where a node stops in one, all of the others change."""


def play(kind: FaultKind, number: int, *, applied: bool) -> bool:
    """Play it with that fault in one commit; say whether there was that commit."""
    fault = Fault(0.5, kind, "owner", 12.0, after=number, applied=applied)
    plan = Plan(number, SETUP, STORY, (fault,), CALM if kind == "die in commit" else CALM + 10.0)
    complaints, history = verdict(plan)
    if complaints:
        raise Failure(report(plan))
    return len({event.details["epoch"] for event in history.of("event", kind="owning")}) > 1


def test_the_story_is_told_to_its_end() -> None:
    complaints, history = verdict(Plan(1, SETUP, STORY, (), CALM))

    assert complaints == []
    assert len(list(history.of("done"))) == len(STORY)
    assert not list(history.of("error", error="StoreUnavailable"))


@pytest.mark.parametrize("first", [0, 1])
def test_an_owner_may_die_in_any_of_its_commits(first: int) -> None:
    """It is applied, or is not, by turns."""
    number, applied = first, bool(first)
    while play("die in commit", number, applied=applied):
        number, applied = number + 2, not applied

    assert number >= COMMITS


@pytest.mark.parametrize("applied", [True, False])
def test_an_owner_may_stop_in_any_of_its_commits_and_go_on_when_there_is_another(
    applied: bool,
) -> None:
    stopped = [play("stop in commit", number, applied=applied) for number in range(0, COMMITS, 3)]

    assert all(stopped)
