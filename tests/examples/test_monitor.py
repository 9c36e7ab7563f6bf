"""`examples/monitor.py` from its first line to its last, in virtual time."""

import io
import re
from collections import Counter

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

import actorq
from examples import monitor


def watch(console: Console) -> list[str]:
    printed = console.file
    assert isinstance(printed, io.StringIO)
    trio.run(monitor.main, console, clock=MockClock(autojump_threshold=0))
    return printed.getvalue().splitlines()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return watch(Console(file=io.StringIO(), markup=False, highlight=False))


def story(lines: list[str], label: str) -> list[str]:
    found = [line.partition(label)[2].split() for line in lines if label in line]
    return [words[0] for words in found if words[0] != "progress"]


def test_it_begins_with_how_things_stand(lines: list[str]) -> None:
    assert lines[0] == "at first: 0 scheduled, 0 waiting, 0 pending, 1 running"


def test_what_happens_is_told_in_order(lines: list[str]) -> None:
    again = ["started", "retrying", "due"]

    assert story(lines, "upload backup") == ["submitted", *again, *again, "started", "ended"]
    assert story(lines, "download news") == ["submitted", "due", "started", "ended"]
    for said in [
        "upload backup +retrying +scheduled +the other end hung up",
        "convert notes +ended +failure +that is no picture",
        "download movie +ended +cancelled +cancelled by user: nobody wants to see it",
    ]:
        assert re.search(said, "\n".join(lines))
    assert [line.split()[-3:] for line in lines if re.search("song +progress", line)] == [
        [str(done), "of", "6"] for done in range(6)
    ]


def test_it_misses_events_and_no_end(lines: list[str]) -> None:
    missed = [int(line.split()[1]) for line in lines if line.startswith("(missed")]
    ends = Counter(line.partition(" ended ")[2].split()[0] for line in lines if " ended " in line)

    assert sum(missed) >= monitor.BUFFER  # twice as many came at once
    assert ends == {"success": 3 + 2 * monitor.BUFFER, "failure": 1, "cancelled": 1}


def test_a_terminal_gets_a_table_of_what_is_live_and_what_went_wrong() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=90, color_system=None)
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in watch(console)]
    lines = [line for line in plain if line]

    last = lines[max(n for n, line in enumerate(lines) if "At first: " in line) :]
    rows = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in last if line[0] in "│┃"]
    assert [(task, status, tries, note) for task, status, tries, _, note in rows] == [
        ("Task", "Status", "Tries", ""),
        ("convert notes", "failure", "1", "that is no picture"),
        ("download movie", "cancelled", "1", "cancelled by user: n…"),
    ]
    assert "At first: 0 scheduled, 0 waiting, 0 pending, 1 running" in last[0]
    assert "Since then: 23 success, 1 failure, 1 cancelled; missed " in last[-1]


async def test_a_row_says_how_far_its_task_is(autojump_clock: MockClock) -> None:
    board, console = monitor.Board(), Console(file=io.StringIO(), width=90)
    async with actorq.open_system() as system, system.subscribe() as events:
        await system.submit(monitor.download.options(meta={"file": "song"}), 6)
        with trio.move_on_after(1.5):
            async for told in events:
                board.take(told)

    console.print(board.table())
    assert isinstance(console.file, io.StringIO)
    assert re.search(r"download song +│ running +│ 1 +│ ━+ +│ 3 of 6", console.file.getvalue())
