"""`examples/self_healing.py` from its first line to its last, in virtual time."""

import io
import re
from contextlib import redirect_stdout

import pytest
import trio
from trio.testing import MockClock

from examples.self_healing import LINES, Reading, main

LOST = ["basel mild", "basel", "chur 451"]


@pytest.fixture(scope="module")
def run() -> tuple[list[Reading], list[str]]:
    with redirect_stdout(io.StringIO()) as printed:
        readings = trio.run(main, clock=MockClock(autojump_threshold=0))
    return readings, printed.getvalue().splitlines()


@pytest.fixture
def readings(run: tuple[list[Reading], list[str]]) -> list[Reading]:
    return run[0]


@pytest.fixture
def transcript(run: tuple[list[Reading], list[str]]) -> list[str]:
    return run[1]


def test_nothing_is_lost_or_overtaken_but_what_was_in_hand(
    readings: list[Reading], transcript: list[str]
) -> None:
    sound = [line.split() for line in LINES if line not in LOST]

    assert readings == [Reading(place, float(celsius)) for place, celsius in sound]
    assert transcript[-4:] == ["50 lines, 47 readings; lost:", *(f"  {line!r}" for line in LOST)]


def test_a_crash_takes_down_those_that_send_to_the_stage_and_no_other(
    transcript: list[str],
) -> None:
    crashes = [n for n, line in enumerate(transcript) if "crashed: " in line]
    after = [[line.split(",")[0].strip() for line in transcript[n + 1 : n + 4]] for n in crashes]

    assert [transcript[n].split()[0] for n in crashes] == ["parser", "parser", "sink"]
    assert [names[:2] for names in after[:2]] == [["parser", "source"]] * 2
    assert after[2] == ["sink", "parser", "source"]


def test_the_tree_shows_the_stages_before_and_after(transcript: list[str]) -> None:
    stages = [line for line in transcript if re.match(r"[ │]*[├└]── (sink|parser|source): ", line)]

    assert [line.split("── ")[1] for line in stages] == [
        "sink: idle",
        "parser: busy, 8 in its mailbox",
        "source: busy",
        "sink: idle, restarts 1",
        "parser: idle, restarts 3",
        "source: idle, restarts 3",
    ]
