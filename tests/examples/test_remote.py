"""What several processes do together: `examples/remote`, and the tutorial docs/tutorial/remote.md.

Both are run as their reader would, and a worker is killed in both.
"""

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-W", "error", str(ROOT / "examples" / "remote" / "run.py")]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that take long enough to be in hand when their worker is killed."""
    for number in range(12):
        (tmp_path / f"{number:02}.py").write_text("x = [1, (2, 3), {4: 5}]\n" * 3_000)
    (tmp_path / "broken.py").write_text("def broken(:\n")
    return tmp_path


@contextmanager
def started(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield the program, and a mark by which all of its processes can be found."""
    mark = uuid4().hex
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ACTORQ_TEST_MARK": mark},
    ) as program:
        try:
            yield program, mark
        finally:
            for pid in marked(mark):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """What still runs with this in its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):  # Linux
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


@pytest.mark.bound(60)
def test_a_worker_is_killed_and_nothing_is_lost(tree: Path) -> None:
    with started(tree) as (program, mark):
        output, errors = program.communicate()

        assert (program.returncode, errors) == (0, "")
        assert marked(mark) == []
    killed = re.search(r"kill -9 \d+: ben had (\d) tasks in hand", output)
    lost = re.search(r"queue: worker_lost worker='ben\.\w+' tasks=(\d)", output)
    assert killed
    assert lost
    assert "13 files, 13 results (1 do not parse); the queue has counted 13 ends." in output
    assert f"{lost[1]} tasks were lost with ben, and run again." in output
    assert 1 <= int(lost[1]) <= int(killed[1])
    assert re.search(r"anna .* connected", output)
    assert re.search(r"ben .* given up", output)


@pytest.mark.bound(60)
def test_ctrl_c_ends_every_process(tree: Path) -> None:
    with started(tree) as (program, mark):
        assert program.stdout is not None
        while "files" not in program.stdout.readline():  # it is under way
            pass

        program.send_signal(signal.SIGINT)
        _, errors = program.communicate()

        assert program.returncode == 130
        assert errors.splitlines()[-1] == "interrupted"
        assert marked(mark) == []


def test_a_folder_without_python_files_is_refused(tmp_path: Path) -> None:
    with started(tmp_path) as (program, _):
        output, errors = program.communicate()

    assert (program.returncode, output) == (2, "")
    assert "no Python files" in errors


# --- The tutorial ------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "tutorial" / "remote.md").read_text(encoding="utf-8")
ID, PID = "00660d9574807c88526e12b465de945", "6223"  # as the page has them


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def steps(console: str) -> list[tuple[str, str]]:
    """What is typed, and what is printed."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)
    return [(command, printed) for command, printed in found]


class Terminals:
    """Where the page's commands are typed, in one folder and against one queue."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.env = os.environ | {"ACTORQ_LISTEN": "ws://127.0.0.1:0"}
        self._stack = stack

    def start(self, command: str) -> subprocess.Popen[str]:
        """Type a command that goes on, in a terminal of its own; it is stopped at the end."""
        process = subprocess.Popen(
            argv(command), cwd=self.folder, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        return process

    def type(self, command: str) -> str:
        done = subprocess.run(
            argv(command), cwd=self.folder, env=self.env, text=True, check=True, capture_output=True
        )
        return done.stdout


def argv(command: str) -> list[str]:
    program, *arguments = shlex.split(command)
    python = {"actorq": [sys.executable, "-m", "actorq"], "python": [sys.executable]}
    return [*python.get(program, [program]), *arguments]


def line_with(text: str, lines: Iterator[str]) -> str:
    return next(line for line in lines if text in line)


def check(printed: str, expected: str) -> None:
    assert doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS), printed


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    with ExitStack() as stack:
        yield Terminals(tmp_path, stack)


@pytest.mark.bound(90)
def test_the_tutorial_works_as_it_is_written(terminals: Terminals) -> None:
    shop, buy = blocks("python")
    serving, working, verbs, buying, killing = map(steps, blocks("console"))
    (terminals.folder / "shop.py").write_text(shop)

    [(command, expected)] = serving
    queue = terminals.start(command)
    assert queue.stdout is not None
    url = queue.stdout.readline().split()[-1]
    assert "listening at ws://127.0.0.1:7717\n" in expected
    terminals.env["ACTORQ_URL"] = url
    (terminals.folder / "buy.py").write_text(buy.replace("ws://127.0.0.1:7717", url))

    [(command, _)] = working
    worker = terminals.start(command)
    assert worker.stderr is not None
    log = iter(worker.stderr)
    pid = re.search(r"pid (\d+)", line_with("is ready", log))

    for command, expected in [*verbs, *buying]:
        check(terminals.type(command), expected)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "put back what was taken off the shelves\n"

    (submitting, _), (kill, _), (asking, expected) = killing
    id = terminals.type(submitting.replace("20", "2")).strip()
    assert pid
    terminals.type(kill.replace(PID, pid[1]))
    check(terminals.type(asking.replace(ID, id)), expected.replace(ID, id))
