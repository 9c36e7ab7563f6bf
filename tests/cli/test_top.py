"""`top`, against a queue node over a real socket, and against one that goes away."""

import io
import json
import signal
import socket

import pytest
import trio

from actorq.cli import top as module
from actorq.cli.options import Connection
from actorq.cli.output import Out
from actorq.cli.top import _ROWS, Reading, _cut, _rates, _show, _tables
from actorq.model.results import PoolStats, QueueStats, Stats, StoreStats, TaskInfo, WorkerInfo
from tests.cli.programs import program, queue_node


def reading(at=0.0, success=0, commits=0, workers=(), tasks=()):
    return Reading(
        at,
        Stats(
            queues={"default": QueueStats(pending=3, paused=True)},
            pools={"main": PoolStats(slots=5, free=4)},
            workers=1, success=success, failure=1, cancelled=0, retries=2, lost=0,
            store=StoreStats("sqlite:///a.db", 2_000_000, commits, commits / 500, 0.01, commits),
        ),
        tasks,
        workers,
    )  # fmt: skip


def text_of(before, now):
    """Return what a pipe gets."""
    file = io.StringIO()
    _show(Out(file=file), None, Connection(), before, now)
    return file.getvalue()


# --- over a socket --------------------------------------------------------------------------


def test_it_shows_so_many_frames(cli):
    id = cli.submit("nobody:knows_it")

    done = cli("top", "--count", "2", "--interval", "0.1")

    assert (done.code, done.err) == (0, "")
    assert done.out.count("QUEUE  ") == 2
    assert "\nmain        0      5\n" in done.out
    assert "nobody:knows_it        1  nobody knows it" in done.out
    cli("cancel", id)


def test_a_program_gets_one_document_for_each_frame(cli):
    done = cli("top", "--count", "2", "--interval", "0.1", "--json")

    first, second = map(json.loads, done.out.splitlines())
    assert first["answered"] is True
    assert first["per_second"] is None
    assert second["per_second"]["success"] == 0
    assert second["stats"]["pools"]["main"] == {"slots": 5, "free": 5}
    assert second["tasks"]
    assert second["workers"] == []


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--count", "0"]])
def test_what_makes_no_sense_is_exit_code_2(cli, arguments):
    done = cli("top", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


async def test_ctrl_c_is_how_one_leaves_it() -> None:
    async with (
        queue_node(instruments=()) as system,
        program("top", "--json", "--interval", "0.1", "--url", system.addresses[0]) as shown,
    ):
        await shown.line()
        shown.process.send_signal(signal.SIGINT)

        assert await shown.end() == 0
        assert shown.stderr == ""


async def test_it_says_that_nobody_answers_and_goes_on_when_somebody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        async with queue_node(listen=url, instruments=()):
            shown = await nursery.start(_shown, url)
            assert json.loads(await shown.line())["answered"] is True

        while json.loads(await shown.line())["answered"]:
            pass
        async with queue_node(listen=url, instruments=()):
            while not json.loads(await shown.line())["answered"]:
                pass
        nursery.cancel_scope.cancel()


async def _shown(url: str, task_status: trio.TaskStatus[object]) -> None:
    async with program("top", "--json", "--interval", "0.1", "--url", url) as shown:
        task_status.started(shown)
        await trio.sleep_forever()


# --- a frame --------------------------------------------------------------------------------


def test_a_frame_says_how_fast_tasks_end_and_commits_are_made():
    found = text_of(reading(10.0, success=100, commits=1_000), reading(12.0, 150, 1_500))

    heading, store = found.splitlines()[:2]
    assert heading.endswith(
        "  workers 1  success 150 (+25.0/s)  failure 1  cancelled 0  retries 2  lost 0"
    )
    assert store == (
        "sqlite:///a.db, 2.0 MB, 1500 commits, 2.0 ms each, slowest 10.0 ms, 250 commits/s"
    )


def test_counts_that_began_anew_are_no_negative_speed():
    rates = _rates(reading(10.0, success=100), reading(12.0, success=5))

    assert rates is not None
    assert rates["success"] == 0


def test_workers_elsewhere_are_shown_with_those_that_are_out_of_reach():
    away = WorkerInfo("w.1", connected=False, remote=True, slots=5, running=1)

    assert "w.1           1      5  out of reach" in text_of(None, reading(workers=[away]))


def test_names_that_wait_are_shown_those_with_the_most_first():
    tasks = [
        TaskInfo("shop:buy", workers=2, waiting=1, versions=1),
        TaskInfo("shop:sell", workers=1, waiting=7, versions=1),
        TaskInfo("shop:look", workers=1, waiting=0, versions=1),
    ]

    *_, names = _tables(reading(tasks=tasks))

    assert [row[0] for row in names.cells] == ["shop:sell", "shop:buy"]


def test_nobody_there_is_a_frame_too():
    assert text_of(None, None).rstrip().endswith("nobody answers at ws://127.0.0.1:7717")


def test_a_table_is_cut_before_it_leaves_the_terminal():
    rows = [(str(number), 1) for number in range(_ROWS + 5)]

    assert _cut(rows[:_ROWS], 2) == rows[:_ROWS]
    assert _cut(rows, 2)[-2:] == [(str(_ROWS - 2), 1), ("and 6 more", "")]
    assert len(_cut(rows, 2)) == _ROWS


def test_a_terminal_gets_one_frame_in_place_of_the_other(terminal):
    file = terminal(80)
    out = Out(file=file)

    with module._screen(out) as screen:
        _show(out, screen, Connection(), None, reading())
        once = file.getvalue()
        _show(out, screen, Connection(), None, reading())

    assert "PENDING" in once
    assert "\x1b[1A" in file.getvalue().removeprefix(once)  # back up to where it began
