"""`retry`, `discard`, `pause` and `resume`, against a queue node over a real socket."""

import json

import pytest

CHORE = "tests.cli.chores:"


def failed(cli, *more):
    """Return the id of a task that has failed."""
    done = cli("submit", f"{CHORE}fail", "--wait", "--json", *more)
    return json.loads(done.out)["id"]


def count(done):
    return json.loads(done.out)["count"]


def status(cli, id):
    return json.loads(cli("result", id, "--json", "--wait").out)["status"]


def attempts_ended(cli):
    return json.loads(cli("stats", "--json").out)["failure"]


# --- retry ----------------------------------------------------------------------------------


def test_retry_starts_those_that_failed_again_and_no_others(cli):
    ids = [failed(cli, "--queue", "again") for _ in range(2)]
    cli("submit", f"{CHORE}add", "--args", "[1]", "--queue", "again", "--wait")
    before = attempts_ended(cli)

    done = cli("retry", "--queue", "again")

    assert (done.code, done.out, done.err) == (0, "2 tasks started again\n", "")
    assert {status(cli, id) for id in ids} == {"failure"}
    assert attempts_ended(cli) == before + 2


def test_a_dry_run_only_counts(cli):
    failed(cli, "--queue", "dry")
    before = attempts_ended(cli)

    done = cli("retry", "--queue", "dry", "--dry-run")

    assert (done.code, done.out) == (0, "1 task would be started again\n")
    assert count(cli("retry", "--queue", "dry", "--dry-run", "--json")) == 1
    assert attempts_ended(cli) == before


def test_retry_all_is_every_task_that_failed(cli):
    failed(cli)

    done = cli("retry", "--all", "--dry-run", "--json")

    assert json.loads(done.out)["dry_run"] is True
    assert count(done) >= 1


def test_a_task_that_was_cancelled_is_started_again_by_its_id(cli):
    id = cli("submit", f"{CHORE}add", "--args", "[1]", "--delay", "900").out.strip()
    cli("cancel", id)

    assert cli("retry", "--id", id).code == 0
    assert json.loads(cli("result", id, "--json").out)["status"] in ("pending", "success")


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_a_named_task_that_cannot_be_done_is_exit_code_1(cli, verb):
    id = cli("submit", f"{CHORE}add", "--args", "[1]", "--delay", "900").out.strip()

    done = cli(verb, "--id", id, "--id", "nothing")

    assert (done.code, done.out.split()[0]) == (1, "0")
    assert done.err.startswith("actorq: of 2 tasks, 2 are unknown, or")
    cli("cancel", id)


# --- discard --------------------------------------------------------------------------------


def test_discard_forgets_those_that_failed_and_no_others(cli):
    gone = failed(cli, "--queue", "rubbish")
    kept = cli("submit", f"{CHORE}add", "--args", "[1]", "--queue", "rubbish", "--wait", "--json")

    done = cli("discard", "--queue", "rubbish")

    assert (done.code, done.out) == (0, "1 task discarded\n")
    assert cli("result", gone).code == 5
    assert cli("result", json.loads(kept.out)["id"]).code == 0


def test_discard_takes_others_by_their_status_or_id(cli):
    kept = cli("submit", f"{CHORE}add", "--args", "[1]", "--wait", "--json")
    id = json.loads(kept.out)["id"]

    assert cli("discard", "--id", id, "--dry-run").out == "1 task would be discarded\n"
    assert cli("discard", "--id", id, "--status", "success").code == 0
    assert cli("result", id).code == 5


# --- both -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["retry", "discard"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which tasks by a filter"),
        (["--all", "--queue", "a"], "--all is for every task that failed"),
        (["--after", "soon"], "--after must be a time"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(cli, verb, arguments, said):
    done = cli(verb, *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


# --- pause and resume -----------------------------------------------------------------------


def test_a_queue_that_is_paused_starts_nothing_until_it_is_resumed(cli):
    assert cli("pause", "held").out == "held is paused\n"
    id = cli("submit", f"{CHORE}add", "--args", "[1]", "--queue", "held").out.strip()

    assert "paused" in cli("why", id).out
    assert json.loads(cli("resume", "held", "--json").out) == {"queue": "held", "paused": False}
    assert status(cli, id) == "success"


def test_a_queue_can_be_paused_twice(cli):
    assert cli("pause", "twice").code == 0
    assert cli("pause", "twice").code == 0
    assert cli("resume", "twice").out == "twice goes on\n"
    assert cli("resume", "twice").code == 0


def test_what_cannot_be_a_queue_is_exit_code_2(cli):
    done = cli("pause", "")

    assert (done.code, done.err.count("\n")) == (2, 1)
