"""`submit`, `result` and `cancel`, against a queue node over a real socket."""

import json
import signal
import subprocess
import sys

import pytest

from actorq.cli.exits import Exit, Failure
from actorq.cli.submitting import _ended
from tests.cli.programs import CHORES, ROOT

# --- submit ---------------------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else(cli):
    done = cli("submit", f"{CHORES}:add", "--args", "[1, 2]")

    assert (done.code, done.err) == (0, "")
    assert cli("result", done.out.strip(), "--wait").code == 0


def test_submit_and_wait_prints_the_value_as_json(cli):
    assert cli("submit", f"{CHORES}:add", "--args", "[1, 2]", "--wait").out == "3\n"
    keywords = ("--kwargs", '{"b": 9}')
    assert cli("submit", f"{CHORES}:add", "--args", "[1]", *keywords, "--wait").out == "10\n"


def test_what_json_has_no_word_for_comes_as_a_string_or_with_a_hint(cli):
    assert cli.json("submit", f"{CHORES}:odd_values", "--wait")["value"] == {
        "at": "2026-03-01T12:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "a/b",
        "bytes": {"$type": "bytes", "$repr": "b'\\x00'"},
        "set": [1, 2],
        "decimal": "1.50",
    }


def test_json_without_waiting_is_the_id_and_the_name(cli):
    found = cli.json("submit", f"{CHORES}:add", "--args", "[1]")

    assert found["name"] == f"{CHORES}:add"
    assert found["id"]


def test_a_task_that_fails_is_one_line_and_exit_code_1(cli):
    done = cli("submit", f"{CHORES}:fail", "--wait")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"actorq: task {CHORES}:fail failed: ValueError: it is broken (")
    assert done.err.count("\n") == 1


def test_a_failure_as_json_has_the_type_the_notes_and_the_traceback(cli):
    done = cli("submit", f"{CHORES}:fail", "--wait", "--json")

    error = done.json["error"]
    assert done.code == 1
    assert error["type"] == "builtins.ValueError"
    assert error["notes"] == ["as it was told to"]
    assert "in fail" in error["traceback"]


def test_the_options_reach_the_queue(cli):
    id = cli.submit(
        "add", "--args", "[1]", "--queue", "slow", "--delay", "600", "--priority", "high",
        "--timeout", "5", "--deadline", "900",
    )  # fmt: skip

    known = cli.json("result", id)
    assert (known["queue"], known["status"]) == ("slow", "scheduled")
    assert known["reason"].startswith("due at ")


def test_a_name_that_nobody_knows_is_accepted_and_waits(cli):
    done = cli("submit", "nobody:knows_it")

    known = cli("result", done.out.strip())
    assert (done.code, known.code) == (0, 6)
    assert "no worker that is connected knows this task" in known.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--args", "5"], "--args must be a JSON array"),
        (["--args", "[1"], "--args must be a JSON array"),
        (["--args", "[" * 100_000], "nested too deeply"),
        (["--kwargs", "[]"], "--kwargs must be a JSON object"),
        (["--timeout", "0"], "option 'timeout' must be more than 0"),
        (["--timeout", "soon"], "--timeout"),
        (["--priority", "huge"], "--priority"),
        (["--queue", ""], "option 'queue' must be 1 to 200 characters"),
        (["--prio", "low"], "--prio"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2_and_one_line(cli, arguments, said):
    done = cli("submit", f"{CHORES}:add", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.startswith("actorq: ")
    assert done.err.count("\n") == 1


def test_arguments_over_the_queues_bound_are_refused_with_exit_code_1(cli):
    done = cli("submit", f"{CHORES}:add", "--args", json.dumps(["x" * (5 * 1024 * 1024)]))

    assert done.code == 1
    assert "over max_message=" in done.err


# --- result ---------------------------------------------------------------------------------


def test_result_shows_all_that_is_known(cli):
    id = cli.submit("add", "--args", "[1, 2]", "--wait")

    lines = cli("result", id).out.splitlines()

    assert f"id         {id}" in lines
    assert "status     success" in lines
    assert lines[-2:] == ["value", "3"]


def test_result_of_a_failure_shows_notes_and_traceback(cli):
    id = cli.submit("fail", "--wait")

    done = cli("result", id)

    assert done.code == 1
    assert "error      ValueError: it is broken" in done.out
    assert "as it was told to" in done.out
    assert "in fail" in done.out


def test_result_does_not_wait_unless_asked_to(cli):
    id = cli.submit("forever")

    done = cli("result", id, "--json")

    assert done.code == 6
    assert done.json["status"] in ("pending", "running")
    cli("cancel", id)


def test_an_unknown_id_is_exit_code_5(cli):
    for verb in (["result"], ["result", "--wait"], ["why"], ["cancel"]):
        done = cli(*verb, "nope")
        assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
        assert done.err.startswith("actorq: no task 'nope'")


def test_what_a_task_says_cannot_command_the_terminal(cli):
    message = "\x1b[31mred\r\x07 [bold]markup[/]"
    id = cli.submit("fail", "--args", json.dumps([message]), "--wait")

    done = cli("result", id)

    assert "\x1b" not in done.out + done.err
    assert "\\x1b[31mred" in done.out
    assert "[bold]markup[/]" in done.out


# --- cancel ---------------------------------------------------------------------------------


def test_cancel_returns_when_the_task_has_ended(cli):
    id = cli.submit("forever")

    done = cli("cancel", id, "--reason", "enough")

    assert (done.code, done.out) == (0, f"{id} cancelled: cancelled by user: enough\n")
    known = cli("result", id)
    assert known.code == 1
    assert "reason     cancelled by user: enough" in known.out
    assert cli("cancel", id).code == 0


def test_cancel_says_that_a_task_had_ended_before(cli):
    id = cli.submit("add", "--args", "[1]", "--wait")

    done = cli("cancel", id, "--json")

    assert (done.code, done.json["status"]) == (1, "success")


# --- Ctrl-C ---------------------------------------------------------------------------------


class Interrupted:
    """The handle of a task whose waiter is interrupted."""

    id = "an-id"

    async def wait(self):
        raise KeyboardInterrupt


async def test_whoever_interrupts_a_wait_is_told_that_the_task_goes_on():
    with pytest.raises(Failure, match="task an-id goes on: actorq result an-id --wait") as caught:
        await _ended(Interrupted())

    assert caught.value.code is Exit.INTERRUPTED


def test_an_interrupt_ends_the_verb_and_not_the_task(cli, node):
    with subprocess.Popen(
        [sys.executable, "-m", "actorq", "submit", f"{CHORES}:forever", "--wait", "--url", node],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        found = []
        while not found:
            found = cli.json("ls", "--task", f"{CHORES}:forever", "--status", "running")["tasks"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (process.returncode, out, err.count("\n")) == (130, "", 1)
    assert cli("result", found[0]["id"]).code == 6
    cli("cancel", found[0]["id"])


# --- keys and dependencies ------------------------------------------------------------------


def test_the_same_call_under_the_same_key_is_one_task(cli):
    first = cli.submit("add", "--args", "[1]", "--key", "order-1")
    second = cli.submit("add", "--args", "[1]", "--key", "order-1")

    assert first == second

    other = cli("submit", f"{CHORES}:add", "--args", "[2]", "--key", "order-1")
    assert (other.code, other.out, other.err.count("\n")) == (1, "", 1)
    assert "order-1" in other.err


def test_a_task_comes_after_others(cli):
    first = cli.submit("add", "--args", "[1]", "--delay", "900")
    second = cli.submit("add", "--args", "[2]", "--after", first)

    assert first in cli("why", second).out
    cli("cancel", first)
    assert cli.json("result", second, "--wait")["status"] == "failure"


def test_a_task_cannot_come_after_one_that_nobody_knows(cli):
    done = cli("submit", f"{CHORES}:add", "--args", "[1]", "--after", "nothing")

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
