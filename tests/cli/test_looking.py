"""`ls`, `why`, `tasks`, `stats` and `tree`, against a queue node over a real socket."""

import json

import pytest

from actorq.cli.looking import stored
from actorq.model.results import StoreStats
from tests.cli.programs import CHORES


def listed(cli, *filters):
    return [task["id"] for task in cli.json("ls", *filters)["tasks"]]


# --- ls -------------------------------------------------------------------------------------


def test_ls_prints_one_line_for_each_task_however_long(cli):
    cli.submit("fail", "--args", json.dumps(["a long message " * 40]), "--wait")

    heading, first = cli("ls", "--limit", "1").out.splitlines()

    assert heading.split() == ["ID", "NAME", "QUEUE", "STATUS", "TRIES", "AGE", "REASON"]
    assert first.endswith("a long message")
    assert len(first) > 500


def test_ls_says_why_a_task_waits(cli):
    id = cli.submit("nobody:knows_it")

    done = cli("ls", "--id", id)

    assert done.out.splitlines()[1].endswith("no worker that is connected knows this task")


def test_a_task_must_fit_every_filter(cli):
    ended = cli.submit("add", "--args", "[1]", "--queue", "mine", "--wait")
    later = cli.submit("add", "--args", "[1]", "--queue", "mine", "--delay", "900")

    both, done = [later, ended], ("--status", "success")
    assert listed(cli, "--queue", "mine") == both
    assert listed(cli, "--queue", "mine", *done) == [ended]
    assert listed(cli, "--queue", "mine", *done, "--status", "scheduled") == both
    assert listed(cli, "--queue", "mine", "--task", f"{CHORES}:fail") == []
    assert listed(cli, "--id", later) == [later]
    assert listed(cli, "--queue", "mine", "--before", "1h") == []
    assert listed(cli, "--queue", "mine", "--after", "1h") == both


def test_ls_finds_tasks_by_their_key(cli):
    with_key = cli.submit("add", "--args", "[1]", "--key", "order-7")
    cli.submit("add", "--args", "[1]")

    assert listed(cli, "--key", "order-7") == [with_key]
    assert listed(cli, "--key", "order-8") == []


def test_a_long_list_goes_on_where_it_ended(cli):
    ids = [cli.submit("add", "--args", "[1]", "--queue", "long") for _ in range(3)]

    page = cli.json("ls", "--queue", "long", "--limit", "2")
    rest = listed(cli, "--queue", "long", "--cursor", page["next"])

    assert [task["id"] for task in page["tasks"]] + rest == ids[::-1]


def test_that_there_are_more_is_said_beside_the_list(cli):
    for _ in range(2):
        cli.submit("add", "--args", "[1]", "--queue", "two")

    done = cli("ls", "--queue", "two", "--limit", "1")

    assert len(done.out.splitlines()) == 2
    assert done.err.startswith("actorq: there are more: --cursor ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("limit", "0"), ("limit", "1001"), ("status", "done"), ("before", "soon"), ("queue", ""),
        ("queue", "\udcff"), ("key", ""), ("task", ""), ("cursor", ""), ("cursor", "zzz"),
    ],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_exit_code_2(cli, option, value):
    done = cli("ls", f"--{option}", value)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert option in done.err


# --- why ------------------------------------------------------------------------------------


def test_why_says_in_words_why_a_task_does_not_run(cli):
    id = cli.submit("nobody:knows_it")

    done = cli("why", id)

    assert (done.code, done.err) == (0, "")
    assert "no worker knows 'nobody:knows_it'" in done.out
    assert cli.json("why", id) == {"id": id, "why": done.out.strip()}


# --- the whole ------------------------------------------------------------------------------


def test_tasks_shows_who_knows_each_name(cli):
    cli("submit", "nobody:knows_it")

    rows = {row.split()[0]: row.split() for row in cli("tasks").out.splitlines()}
    found = {info["name"]: info for info in cli.json("tasks")["tasks"]}

    assert rows[f"{CHORES}:add"][1:] == ["1", "0"]
    assert rows["nobody:knows_it"][1] == "0"
    known = {"name": f"{CHORES}:add", "workers": 1, "waiting": 0, "versions": 1}
    assert found[f"{CHORES}:add"] == known
    assert found["nobody:knows_it"]["waiting"] >= 1


def test_stats_counts_tasks_and_slots(cli):
    before = cli.json("stats")
    cli.submit("add", "--args", "[1]", "--wait")
    cli("submit", "nobody:asked_before")

    found = cli.json("stats")
    shown = cli("stats")

    assert found["success"] == before["success"] + 1
    assert found["pools"]["main"]["slots"] == 5
    assert found["workers"] == 1
    assert found["unknown"]["nobody:asked_before"] == 1
    assert "main         5" in shown.out
    assert "a worker that knows nobody:asked_before" in shown.err


def test_stats_shows_a_queue_that_is_paused_and_how_long_its_oldest_task_waits(cli):
    cli("pause", "held")
    id = cli.submit("add", "--args", "[1]", "--queue", "held")

    shown = [row.split() for row in cli("stats").out.splitlines()]
    found = cli.json("stats")["queues"]["held"]

    (row,) = [row for row in shown if row[:1] == ["held"]]
    assert row[1] == "1"
    assert row[-1] == "paused"
    assert (found["pending"], found["paused"]) == (1, True)
    assert found["oldest"] is not None
    cli("resume", "held")
    cli("result", id, "--wait")


def test_what_a_store_has_done_is_one_line():
    stats = StoreStats("sqlite:///a.db", 2_500_000, commits=4, seconds=0.01, slowest=0.007)

    assert stored(stats) == "sqlite:///a.db, 2.5 MB, 4 commits, 2.5 ms each, slowest 7.0 ms"
    assert stored(StoreStats("memory://")) == "memory://"


def test_tree_draws_the_actors(cli):
    drawn = cli("tree").out
    found = cli.json("tree")

    assert "queue actor" in drawn
    assert [actor["name"] for actor in found["supervisors"][0]["children"]] == [
        "queue actor",
        "worker actor",
        "gateway actor",
    ]
