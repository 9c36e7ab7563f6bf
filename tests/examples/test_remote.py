"""`examples/remote` as its user meets it: a program of five processes, one of which is killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    lost = re.search(r"queue: worker_lost worker='ben.1' tasks=(\d)", output)
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
