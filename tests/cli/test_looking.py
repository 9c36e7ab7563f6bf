"""`ls`, `tasks`, `stats` and `tree`, against a queue node over a real socket."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from actorq.cli.exits import Exit, Failure
from actorq.cli.looking import moment

CHORE = "tests.cli.chores:"


def submit(cli, name, *more):
    return cli("submit", f"{CHORE}{name}", *more).out.strip()


def listed(cli, *filters):
    return [task["id"] for task in json.loads(cli("ls", "--json", *filters).out)["tasks"]]


# --- ls -------------------------------------------------------------------------------------


def test_ls_prints_one_line_for_each_task_however_long(cli):
    submit(cli, "fail", "--args", json.dumps(["a long message " * 40]), "--wait")

    heading, first = cli("ls", "--limit", "1").out.splitlines()

    assert heading.split() == ["ID", "NAME", "QUEUE", "STATUS", "TRIES", "AGE", "REASON"]
    assert first.endswith("a long message")
    assert len(first) > 500


def test_ls_says_why_a_task_waits(cli):
    id = cli("submit", "nobody:knows_it").out.strip()

    done = cli("ls", "--id", id)

    assert done.out.splitlines()[1].endswith("no worker that is connected knows this task")


def test_a_task_must_fit_every_filter(cli):
    ids = [submit(cli, "add", "--args", "[1]", "--queue", "mine", "--wait", "--json")]
    ids = [json.loads(id)["id"] for id in ids]
    later = submit(cli, "add", "--args", "[1]", "--queue", "mine", "--delay", "900")

    assert listed(cli, "--queue", "mine") == [later, *ids]
    assert listed(cli, "--queue", "mine", "--status", "success") == ids
    assert listed(cli, "--queue", "mine", "--status", "success", "--status", "scheduled") == [
        later,
        *ids,
    ]
    assert listed(cli, "--queue", "mine", "--task", f"{CHORE}fail") == []
    assert listed(cli, "--id", later) == [later]
    assert listed(cli, "--queue", "mine", "--before", "1h") == []
    assert listed(cli, "--queue", "mine", "--after", "1h") == [later, *ids]


def test_a_long_list_goes_on_where_it_ended(cli):
    ids = [submit(cli, "add", "--args", "[1]", "--queue", "long") for _ in range(3)]

    page = json.loads(cli("ls", "--queue", "long", "--limit", "2", "--json").out)
    rest = listed(cli, "--queue", "long", "--cursor", page["next"])

    assert [task["id"] for task in page["tasks"]] + rest == ids[::-1]


def test_that_there_are_more_is_said_beside_the_list(cli):
    for _ in range(2):
        submit(cli, "add", "--args", "[1]", "--queue", "two")

    done = cli("ls", "--queue", "two", "--limit", "1")

    assert len(done.out.splitlines()) == 2
    assert done.err.startswith("actorq: there are more: --cursor ")


@pytest.mark.parametrize(
    "arguments", [["--limit", "0"], ["--limit", "1001"], ["--status", "done"], ["--before", "soon"]]
)
def test_a_filter_that_makes_no_sense_is_exit_code_2(cli, arguments):
    done = cli("ls", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert arguments[0] in done.err


def test_a_time_is_a_moment_or_how_long_ago():
    now = datetime.now(UTC)

    for text, ago in (("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200), ("1w", 604_800)):
        found = moment("--after", text)
        assert abs(now - timedelta(seconds=ago) - found) < timedelta(seconds=10)
    assert moment("--after", "2026-03-01T12:00+02:00") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert moment("--after", "2026-03-01").astimezone() == datetime(2026, 3, 1).astimezone()
    assert moment("--after", None) is None


@pytest.mark.parametrize("text", ["", "soon", "1y", "9999999999999d", "-1h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(Failure, match=r"^--after must be a time") as caught:
        moment("--after", text)

    assert caught.value.code is Exit.USAGE


# --- the whole ------------------------------------------------------------------------------


def test_tasks_shows_who_knows_each_name(cli):
    cli("submit", "nobody:knows_it")

    rows = {row.split()[0]: row.split() for row in cli("tasks").out.splitlines()}
    found = {info["name"]: info for info in json.loads(cli("tasks", "--json").out)["tasks"]}

    assert rows[f"{CHORE}add"][1:] == ["1", "0"]
    assert rows["nobody:knows_it"][1] == "0"
    assert found[f"{CHORE}add"] == {
        "name": f"{CHORE}add",
        "workers": 1,
        "waiting": 0,
        "versions": 1,
    }
    assert found["nobody:knows_it"]["waiting"] >= 1


def test_stats_counts_tasks_and_slots(cli):
    before = json.loads(cli("stats", "--json").out)
    submit(cli, "add", "--args", "[1]", "--wait")
    cli("submit", "nobody:asked_before")

    found = json.loads(cli("stats", "--json").out)
    shown = cli("stats")

    assert found["success"] == before["success"] + 1
    assert found["pools"]["main"]["slots"] == 5
    assert found["workers"] == 1
    assert found["unknown"]["nobody:asked_before"] == 1
    assert "main         5" in shown.out
    assert "a worker that knows nobody:asked_before" in shown.err


def test_tree_draws_the_actors(cli):
    drawn = cli("tree").out
    found = json.loads(cli("tree", "--json").out)

    assert "queue actor" in drawn
    assert [actor["name"] for actor in found["supervisors"][0]["children"]] == [
        "queue actor",
        "worker actor",
        "gateway actor",
    ]
