"""`schedule ls`, `run`, `pause`, `resume` and `remove`, against a queue node over a real socket."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import trio

import actorq
from actorq.cli.scheduling import _row
from actorq.model.results import ScheduleInfo
from tests.cli import chores
from tests.cli.programs import CHORES


async def declare(url: str, name: str) -> None:
    async with actorq.connect(url, instruments=()) as client:
        await client.schedule(chores.add.message(1, b=2), actorq.Every(3_600), name=name)


@pytest.fixture
def nightly(node: str, cli) -> Iterator[str]:
    """A schedule that ticks in an hour."""
    trio.run(declare, node, "nightly")
    yield "nightly"
    cli("schedule", "remove", "nightly")


def listed(cli):
    found = cli.json("schedule", "ls")["schedules"]
    return {info["name"]: info for info in found}


def test_ls_shows_what_is_submitted_when_and_when_it_was_last(cli, nightly):
    heading, row = cli("schedule", "ls").out.splitlines()
    found = listed(cli)[nightly]

    assert heading.split() == ["NAME", "TASK", "TIMING", "NEXT", "LAST", "CATCH", "UP", "OVERLAP"]
    assert row.startswith(f"nightly  {CHORES}:add  every ")
    assert found["task"] == f"{CHORES}:add"
    assert found["last_id"] is None
    assert found["paused"] is False
    assert datetime.fromisoformat(found["next_at"]) > datetime.now(UTC)


def test_run_submits_the_task_now_and_prints_its_id(cli, nightly):
    done = cli("schedule", "run", nightly)
    found = cli.json("schedule", "run", nightly)

    assert (done.code, done.err) == (0, "")
    assert cli.json("result", done.out.strip(), "--wait")["value"] == 3
    assert found["name"] == f"{CHORES}:add"
    assert cli.json("result", found["id"], "--wait")["value"] == 3


def test_pause_and_resume_are_seen_in_the_list(cli, nightly):
    assert cli("schedule", "pause", nightly).out == "nightly is paused\n"
    assert listed(cli)[nightly]["paused"] is True
    assert " paused " in cli("schedule", "ls").out

    done = cli("schedule", "resume", nightly, "--json")

    assert done.json == {"schedule": "nightly", "done": "resume"}
    assert listed(cli)[nightly]["paused"] is False


def test_remove_forgets_it(cli, nightly):
    assert cli("schedule", "remove", nightly).out == "nightly is removed\n"
    assert listed(cli) == {}


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "remove"])
def test_a_schedule_that_there_is_not_is_exit_code_5(cli, nightly, verb):
    done = cli("schedule", verb, "weekly")

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
    assert "weekly" in done.err
    assert "nightly" in done.err


def test_what_cannot_be_the_name_of_one_is_exit_code_2(cli):
    done = cli("schedule", "pause", "")

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_row_says_in_how_long_and_how_long_ago():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    info = ScheduleInfo(
        "nightly", "shop:count", "every 60 s", now + timedelta(seconds=30),
        now - timedelta(seconds=30), "s1", paused=False, catch_up="last", overlap="skip",
    )  # fmt: skip

    assert _row(info, now)[3:] == ("in 30s", "30s", "last", "skip")
