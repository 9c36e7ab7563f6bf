"""`ls`, `why`, `tasks`, `stats` and `tree`, against a queue node over a real socket."""

import json

import pytest

from actorq.cli.looking import stored
from actorq.model.results import StoreStats

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


def test_ls_finds_tasks_by_their_key(cli):
    with_key = cli("submit", f"{CHORE}add", "--args", "[1]", "--key", "order-7").out.strip()
    submit(cli, "add", "--args", "[1]")

    assert listed(cli, "--key", "order-7") == [with_key]
    assert listed(cli, "--key", "order-8") == []


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


# --- why ------------------------------------------------------------------------------------


def test_why_says_in_words_why_a_task_does_not_run(cli):
    id = cli("submit", "nobody:knows_it").out.strip()

    done = cli("why", id)

    assert (done.code, done.err) == (0, "")
    assert "no worker knows 'nobody:knows_it'" in done.out
    assert json.loads(cli("why", id, "--json").out) == {"id": id, "why": done.out.strip()}


def test_why_of_a_task_that_nobody_knows_is_exit_code_5(cli):
    done = cli("why", "nothing")

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)


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


def test_stats_shows_a_queue_that_is_paused_and_how_long_its_oldest_task_waits(cli):
    cli("pause", "held")
    id = submit(cli, "add", "--args", "[1]", "--queue", "held")

    shown = [row.split() for row in cli("stats").out.splitlines()]
    found = json.loads(cli("stats", "--json").out)["queues"]["held"]

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
    found = json.loads(cli("tree", "--json").out)

    assert "queue actor" in drawn
    assert [actor["name"] for actor in found["supervisors"][0]["children"]] == [
        "queue actor",
        "worker actor",
        "gateway actor",
    ]
