"""`retry`, `discard`, `pause` and `resume`, against a queue node over a real socket."""

import pytest


def failed(cli, *more):
    """Return the id of a task that has failed."""
    return cli.submit("fail", "--wait", *more)


def status(cli, id):
    return cli.json("result", id, "--wait")["status"]


# --- retry ----------------------------------------------------------------------------------


def test_retry_starts_those_that_failed_again_and_no_others(cli):
    ids = [failed(cli, "--queue", "again") for _ in range(2)]
    cli.submit("add", "--args", "[1]", "--queue", "again", "--wait")
    before = cli.json("stats")["failure"]

    done = cli("retry", "--queue", "again")

    assert (done.code, done.out, done.err) == (0, "2 tasks started again\n", "")
    assert {status(cli, id) for id in ids} == {"failure"}
    assert cli.json("stats")["failure"] == before + 2


def test_a_dry_run_only_counts(cli):
    failed(cli, "--queue", "dry")
    before = cli.json("stats")["failure"]

    done = cli("retry", "--queue", "dry", "--dry-run")

    assert (done.code, done.out) == (0, "1 task would be started again\n")
    assert cli.json("retry", "--queue", "dry", "--dry-run") == {"count": 1, "dry_run": True}
    assert cli.json("stats")["failure"] == before


def test_all_is_every_task_that_failed(cli):
    failed(cli)

    assert cli.json("retry", "--all", "--dry-run")["count"] >= 1


def test_a_task_that_was_cancelled_is_started_again_by_its_id(cli):
    id = cli.submit("add", "--args", "[1]", "--delay", "900")
    cli("cancel", id)

    assert cli("retry", "--id", id).code == 0
    assert cli.json("result", id)["status"] in ("pending", "success")


# --- discard --------------------------------------------------------------------------------


def test_discard_forgets_those_that_failed_and_no_others(cli):
    gone = failed(cli, "--queue", "rubbish")
    kept = cli.submit("add", "--args", "[1]", "--queue", "rubbish", "--wait")

    done = cli("discard", "--queue", "rubbish")

    assert (done.code, done.out, done.err) == (0, "1 task discarded\n", "")
    assert cli("result", gone).code == 5
    assert cli("result", kept).code == 0


def test_discard_takes_others_by_their_status_or_id(cli):
    id = cli.submit("add", "--args", "[1]", "--wait")

    assert cli("discard", "--id", id, "--dry-run").out == "1 task would be discarded\n"
    assert cli("discard", "--id", id, "--status", "success").code == 0
    assert cli("result", id).code == 5


# --- both -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "other"), [("retry", "cancelled"), ("discard", "success")])
def test_that_only_failed_tasks_were_looked_at_is_said_where_there_is_none(cli, verb, other):
    cli.submit("add", "--args", "[1]", "--key", verb, "--wait")

    done = cli(verb, "--key", verb)

    assert (done.code, done.out.split()[0]) == (0, "0")
    assert done.err.startswith("actorq: only tasks that failed were looked at")
    assert f"--status {other}" in done.err
    assert cli(verb, "--key", verb, "--status", "failure").err == ""


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_a_named_task_that_cannot_be_done_is_exit_code_1(cli, verb):
    id = cli.submit("add", "--args", "[1]", "--delay", "900")

    done = cli(verb, "--id", id, "--id", "nothing")

    assert (done.code, done.out.split()[0]) == (1, "0")
    assert done.err.startswith("actorq: of 2 tasks, 2 are unknown, or")
    assert cli(verb, "--id", id).err.startswith("actorq: that task is unknown, or is not ")
    cli("cancel", id)


@pytest.mark.parametrize("verb", ["retry", "discard"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which tasks by a filter"),
        (["--all", "--queue", "a"], "--all is for every task that failed"),
        (["--after", "soon"], "--after must be a time"),
        (["--status", "failure", "--status", "running"], "--status must be cancelled or "),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(cli, verb, arguments, said):
    done = cli(verb, *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


# --- pause and resume -----------------------------------------------------------------------


def test_a_queue_that_is_paused_starts_nothing_until_it_is_resumed(cli):
    assert cli("pause", "held").out == "held is paused\n"
    id = cli.submit("add", "--args", "[1]", "--queue", "held")

    assert "paused" in cli("why", id).out
    assert cli.json("resume", "held") == {"queue": "held", "paused": False}
    assert status(cli, id) == "success"


def test_a_queue_can_be_paused_twice(cli):
    assert cli("pause", "twice").code == 0
    assert cli("pause", "twice").code == 0
    assert cli("resume", "twice").out == "twice goes on\n"
    assert cli("resume", "twice").code == 0


def test_what_cannot_be_a_queue_is_exit_code_2(cli):
    done = cli("pause", "")

    assert (done.code, done.err.count("\n")) == (2, 1)
