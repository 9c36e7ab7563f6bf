"""`examples/monitor.py` from its first line to its last, in virtual time: in lines, and as a table."""

import io
import re
from collections import Counter

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

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
    assert lines[0] == "at first: 0 scheduled, 0 pending, 1 running"


def test_what_happens_is_told_in_order(lines: list[str]) -> None:
    again = ["started", "retrying", "due"]

    assert story(lines, "upload backup") == ["submitted", *again, *again, "started", "ended"]
    assert story(lines, "download news") == ["submitted", "due", "started", "ended"]
    assert re.search(
        "upload backup +retrying +scheduled +ConnectionError: the ot", "\n".join(lines)
    )
    assert [line.split()[-3:] for line in lines if re.search("song +progress", line)] == [
        [str(done), "of", "6"] for done in range(6)
    ]


def test_it_misses_events_and_no_end(lines: list[str]) -> None:
    missed = [int(line.split()[1]) for line in lines if line.startswith("(missed")]
    ends = Counter(line.split()[-1] for line in lines if re.search(" ended +(succ|canc)", line))

    assert len(missed) == 1
    assert missed[0] >= 2 * monitor.BUFFER - monitor.BUFFER
    assert ends == {"success": 3 + 2 * monitor.BUFFER, "cancelled": 1}
    assert len([line for line in lines if "convert notes" in line and "no picture" in line]) == 1


def test_a_terminal_gets_a_table_of_what_is_live_and_what_went_wrong() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=90, color_system=None)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in watch(console)]

    last = lines[max(n for n, line in enumerate(lines) if "At first: " in line) :]
    assert "At first: 0 scheduled, 0 pending, 1 running" in last[0]
    assert "Since then: 23 success, 1 failure, 1 cancelled; missed " in last[-1]
    rows = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in last if line[:1] in "│┃"]
    assert [row[:3] for row in rows] == [
        ["Task", "Status", "Attempts"],
        ["convert notes", "failure", "1"],
        ["download movie", "cancelled", "1"],
    ]
    assert "ValueError: that is no picture" in last[3]
