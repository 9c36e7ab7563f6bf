import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

import actorq
from actorq.model.events import Event, EventKind
from actorq.testing import chaos_nodes
from actorq.testing.chaos_nodes import Pen, Storms, merge, told, work
from actorq.testing.chaos_verdict import Notes, broken


@pytest.fixture
def pen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pen of a node, which this process is meanwhile."""
    pen = Pen(tmp_path, "node")
    monkeypatch.setattr(chaos_nodes, "_pens", [pen])
    yield pen
    pen.close()


def noted(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(note.what, note.details) for note in Notes(folder).read()]


def test_a_note_is_in_the_file_when_it_has_been_made(tmp_path: Path, pen: Pen) -> None:
    pen.note("sent", id="a")

    (line,) = (tmp_path / "node.notes").read_bytes().splitlines()
    note = json.loads(line)
    assert (note["node"], note["what"], note["details"]) == ("node", "sent", {"id": "a"})


def test_events_are_noted_but_for_those_that_every_kill_brings(tmp_path: Path, pen: Pen) -> None:
    pen.event(Event(EventKind.CONNECT_FAILED, {"url": "x"}))
    pen.event(Event(EventKind.ACTOR_RESTARTED, {"actor": "a", "exception": ValueError("b")}))

    assert noted(tmp_path) == [
        ("event", {"kind": "actor_restarted", "actor": "a", "exception": "b"})
    ]


async def test_each_run_of_a_task_notes_its_beginning_and_its_end(
    tmp_path: Path, pen: Pen, autojump_clock: trio.abc.Clock
) -> None:
    async with actorq.open_system(processes=0) as system:
        retry = actorq.Retry(attempts=2, delay=1)
        handle = await system.submit(work.options(retry=retry), 3, 0.1, 1)
        value = await handle.value()
        total = await system.call(merge, [value, [1, "other"]])

    happened = [(what, details.get("how")) for what, details in noted(tmp_path)]
    assert happened == [
        ("began", None), ("ended", "raised"), ("began", None), ("ended", "returned"),
        ("began", None), ("ended", "returned"),
    ]  # fmt: skip
    runs = [details["run"] for _, details in noted(tmp_path)]
    assert value == [9, runs[2]]
    assert total == [10, runs[4]]


async def test_a_run_that_is_cancelled_says_so(
    tmp_path: Path, pen: Pen, autojump_clock: trio.abc.Clock
) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(work, 3, 100.0)
        await trio.testing.wait_all_tasks_blocked()
        await handle.cancel()

    assert [details.get("how") for _, details in noted(tmp_path)] == [None, "cancelled"]


WAYS = ["one_by_one", "at_once", "call", "map", "cancel", "merge", "keyed", "limited"]


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_a_client_does_breaks_nothing_where_nothing_goes_wrong(
    tmp_path: Path, pen: Pen, autojump_clock: trio.abc.Clock, way: str
) -> None:
    async with actorq.open_system(tasks=[chaos_nodes], encode=True, processes=0) as system:
        storms = Storms(system, pen, Random(1))
        for _ in range(5):
            await getattr(storms, way)()
        await storms.ask_again()
        await system.join()
        stored = {result.id: told(result) for result in (await system.find(limit=1_000)).tasks}

    notes = Notes(tmp_path).read()
    assert {note.what for note in notes} >= {"sent", "began", "ended", "told"}
    assert broken(notes, stored) == []


async def test_a_client_submits_until_it_is_calm(
    tmp_path: Path, pen: Pen, autojump_clock: trio.abc.Clock
) -> None:
    calm = tmp_path / "calm"

    async def calm_down() -> None:
        await trio.sleep(5)  # virtual
        calm.touch()

    async with (
        actorq.open_system(tasks=[chaos_nodes], encode=True, processes=0) as system,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(calm_down)
        await Storms(system, pen, Random(2)).run(calm)

    assert trio.current_time() >= 5
    assert "error" not in {what for what, _ in noted(tmp_path)}
