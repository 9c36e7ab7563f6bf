import signal
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from actorq.testing.chaos import CLIENTS, WORKERS, Chaos, Launcher, main, plan_of
from actorq.testing.chaos_verdict import Notes

linux = pytest.mark.skipif(sys.platform != "linux", reason="nodes are held by their pidfd")


def test_a_seed_is_a_plan() -> None:
    assert plan_of(3) == plan_of(3)
    assert plan_of(3) != plan_of(4)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_strikes_only_those_who_are_there(seed: int) -> None:
    plan = plan_of(seed, 60)

    places = {f"worker-{n}" for n in range(WORKERS)} | {f"client-{n}" for n in range(CLIENTS)}
    for number, strike in enumerate(plan.rounds):
        alone = number < plan.standby_from
        queues = {"queue-0"} if alone else {"queue-0", "queue-1"}
        assert set(strike.whom) | set(strike.also) <= places | queues
        assert not set(strike.whom) & set(strike.also)
    struck = {place for strike in plan.rounds for place in strike.whom}
    assert {"queue-0", "queue-1", "worker-0", "worker-1"} <= struck


@linux
async def test_a_node_notes_that_it_runs_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    notes = Notes(tmp_path)
    try:
        node = launcher.start("worker", "worker-0.1", urls=["ws://127.0.0.1:9"])
        while not notes.read():  # noqa: ASYNC110 - nobody tells of a file
            await trio.sleep(0.01)  # real: it is another process that writes
        node.send(signal.SIGTERM)
        await node.wait()
        node.send(signal.SIGTERM)  # it does not mind
        node.close()
    finally:
        launcher.end()
    notes.read()

    assert [note.what for note in notes.all if note.what != "event"] == ["started", "gone"]


@linux
async def test_a_node_that_crashes_notes_why_and_the_run_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chaos, "store", "no://store")
    complaints = await Chaos(plan_of(1, 2), tmp_path).run()

    assert any(said.startswith("queue-") and "has crashed" in said for said in complaints)
    assert any("no store for" in said for said in complaints)


@linux
async def test_a_launcher_takes_its_nodes_with_it(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    node = launcher.start("worker", "worker-0.1", urls=["ws://127.0.0.1:9"])
    node.send(signal.SIGSTOP)

    launcher.end()

    await node.wait()
    node.close()


# --- from the shell ------------------------------------------------------------------------------


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Chaos]:
    """The runs that were made, of which the second breaks something."""
    played: list[Chaos] = []

    async def run(self: Chaos) -> list[str]:
        await trio.lowlevel.checkpoint()
        played.append(self)
        self.kills, self.seconds = len(self._plan.rounds), 3.0
        return ["a promise"] if len(played) == 2 else []

    monkeypatch.setattr(Chaos, "run", run)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return played


def test_rounds_are_played_from_one_seed_after_the_other(
    played: list[Chaos], tmp_path: Path
) -> None:
    assert main(["--rounds", "100", "--seed", "7"]) == 0

    assert [(run._plan.seed, run.kills) for run in played] == [(7, 100)]
    assert list(tmp_path.iterdir()) == []


def test_what_breaks_a_promise_ends_it_and_is_kept_with_its_seed(
    played: list[Chaos], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--rounds", "250", "--seed", "7"]) == 1

    assert [run._plan.seed for run in played] == [7, 8]
    (folder,) = tmp_path.iterdir()
    assert (folder / "story").exists()
    said = capsys.readouterr().out
    assert "seed 8: 100 kills" in said
    assert "- a promise" in said
    assert str(folder) in said
