from typing import Any

import pytest

from actorq.machines.queue import QueueMachine
from actorq.machines.states import Move
from actorq.testing import simulation
from actorq.testing.cluster import Fault
from actorq.testing.nodes import Setup
from actorq.testing.plans import Plan
from actorq.testing.simulation import Failure, main, play, report, shortest, simulate, verdict
from actorq.testing.workload import Job, Step

SETUP = Setup(clients=1, workers=2, parent=False)
CALM = Plan(1, SETUP, (Step(0.5, 0, "submit", (Job("a"), Job("b", seconds=0.5))),), (), 1.0)
ONCE = Job("c", seconds=2.0, options={"at_most_once": True})
LOST_WORKER = Plan(
    2,
    SETUP,
    (Step(0.3, 0, "many", (Job("a"), Job("b"))), Step(0.5, 0, "submit", (ONCE,))),
    (Fault(0.4, "slow", "client-0", 0.1), Fault(0.7, "crash", "worker-0"),
     Fault(0.8, "crash", "worker-1")),
    1.5,
)  # fmt: skip


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner delivers again whatever a lost worker held."""

    def lose(self: QueueMachine, live: Any) -> None:
        self._put_back(live, Move.LOSE)

    monkeypatch.setattr(QueueMachine, "_lose", lose)


def test_a_plan_is_played_to_its_end() -> None:
    history = play(CALM)

    told = {event.details["status"] for event in history.of("told")}
    assert told == {"success"}
    assert len(list(history.of("done"))) == 1
    assert list(history.of("calm"))


def test_a_plan_that_keeps_every_promise_fails_nothing() -> None:
    simulate(CALM)
    simulate(LOST_WORKER)


@pytest.mark.usefixtures("careless")
def test_a_broken_promise_is_told_with_the_shortest_history_that_breaks_it() -> None:
    with pytest.raises(Failure) as failure:
        simulate(LOST_WORKER)

    told = str(failure.value)
    assert "seed 2 breaks" in told
    assert "started 2 times" in told
    assert "label=c" in told
    assert "label=a" not in told
    assert "kind=slow" not in told


@pytest.mark.usefixtures("careless")
def test_the_search_for_the_shortest_ends_when_its_tries_are_spent() -> None:
    plan = shortest(LOST_WORKER, tries=0)

    assert plan == LOST_WORKER


@pytest.mark.usefixtures("careless")
def test_a_report_has_the_plan_and_the_history() -> None:
    complaints, history = verdict(LOST_WORKER)

    told = report(LOST_WORKER)

    assert all(said in told for said in complaints)
    assert history.story() in told
    assert str(LOST_WORKER.faults[0]) in told


def test_many_seeds_are_played_from_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[int] = []

    def plan_of(seed: int) -> Plan:
        played.append(seed)
        return CALM

    monkeypatch.setattr(simulation, "plan_of", plan_of)

    assert main(["--seeds", "2", "--start", "40"]) == 0
    assert played == [40, 41]
    assert "2 seeds" in capsys.readouterr().out


@pytest.mark.usefixtures("careless")
def test_seeds_that_fail_are_named_and_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "plan_of", lambda _: LOST_WORKER)

    assert main(["--seeds", "1", "--start", "9", "--keep-going"]) == 1
    said = capsys.readouterr().out
    assert "seed 9:" in said
    assert "failed: [9]" in said


def test_an_exception_of_the_cluster_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verdict(_: Plan) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(simulation, "verdict", verdict)

    assert main(["--seeds", "1", "--keep-going"]) == 1
    assert "ValueError: broken" in capsys.readouterr().out
