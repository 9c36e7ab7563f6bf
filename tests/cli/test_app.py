"""The command line as a whole: help, usage, and errors as one line with an exit code."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from actorq.cli.app import explained, run
from actorq.cli.exits import Exit, Failure
from actorq.errors import ConnectFailed, TaskNotFound
from tests.cli.programs import ROOT

VERBS = [
    "serve", "worker", "submit", "result", "why", "cancel", "ls", "retry", "discard", "pause",
    "resume", "tasks", "stats", "tree", "top", "doctor",
]  # fmt: skip
SCHEDULE_VERBS = [f"schedule {verb}" for verb in ("ls", "run", "pause", "resume", "remove")]


@pytest.mark.parametrize("verb", [*VERBS, *SCHEDULE_VERBS])
def test_every_verb_has_help_and_json(verb, capsys):
    assert run([*verb.split(), "--help"]) == 0

    shown = capsys.readouterr().out
    assert f"Usage: actorq {verb}" in shown
    assert "--json" in shown


def test_the_help_lists_every_verb_and_every_exit_code(capsys):
    assert run([]) == 0

    shown = capsys.readouterr().out
    assert all(f" {verb} " in shown for verb in [*VERBS, "schedule"])
    assert all(f"• {code.value} " in shown for code in Exit)


def test_the_version_is_the_librarys(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["submit"], ["submit", "a", "b"], ["ls", "--bogus"], ["result", "--x"]]
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_exit_code_2(arguments, capsys):
    assert run(arguments) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("actorq: ")
    assert "--help" in printed.err
    assert printed.err.count("\n") == 1


def test_nobody_there_is_one_line_and_exit_code_4(capsys):
    assert run(["ls", "--url", "ws://127.0.0.1:1", "--connect-timeout", "0.1"]) == 4

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nobody answers at ws://127.0.0.1:1" in printed.err
    assert printed.err.count("\n") == 1


def test_an_error_in_a_group_is_found():
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [TaskNotFound("x")])])

    assert explained(group).code is Exit.NOT_FOUND
    assert explained(ConnectFailed("gone")).code is Exit.UNREACHABLE
    assert explained(Failure("so", Exit.USAGE)).code is Exit.USAGE


def test_an_interrupt_is_exit_code_130_whatever_else_went_wrong():
    group = BaseExceptionGroup("both", [ConnectFailed("gone"), KeyboardInterrupt()])

    assert explained(group).code is Exit.INTERRUPTED


def test_a_bug_keeps_its_traceback():
    assert explained(RuntimeError("ours")) is None
    assert explained(trio.BrokenResourceError()) is None


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_letter_that_the_output_cannot_say_is_an_escape(encoding, monkeypatch, tmp_path):
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding=encoding))
    (tmp_path / "Łódź").mkdir()

    assert run(["doctor", "--store", f"sqlite:///{tmp_path}/Łódź/tasks.db"]) == 0

    assert rb"\u0141" in screen.getvalue()


def printing(stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actorq", "doctor", "--json", "--connect-timeout", "0"],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip


def test_a_reader_that_has_had_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = printing(writing)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_one_line_and_exit_code_1():
    with Path("/dev/full").open("w") as full:
        done = printing(full.fileno())

    assert done.returncode == 1
    assert done.stderr == "actorq: the output cannot be written: No space left on device\n"


def test_whoever_closes_the_output_still_gets_the_exit_code():
    command = f"{sys.executable} -m actorq doctor --connect-timeout 0 >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (4, "")
