"""`examples/index_tree.py` as its user meets it: a program with output, files and an exit code."""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import actorq
from examples import index_tree

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-W", "error", str(ROOT / "examples" / "index_tree.py")]

CHAIN = """\
class Sorter:
    def sort(self, x):
        if x < 0:
            return "negative"
        elif x == 0:
            return "zero"
        elif x > 9:
            return "large"
        else:
            for _ in range(x):
                pass


async def short(): ...
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs process groups or a pty")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "chain.py").write_text(CHAIN)
    (folder / "package" / "notes.txt").write_text("no Python")
    (folder / "broken.py").write_text("def broken(:\n")
    (folder / "[red].py").write_text("x = 1\n")  # would vanish if taken for markup
    (folder / "latin.py").write_bytes("\n\n# déjà vu\n".encode("latin-1"))
    (folder / "site-packages").mkdir()
    (folder / "site-packages" / "other.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def done(tree: Path) -> subprocess.CompletedProcess[str]:
    done = run(tree, "--processes", "2", "--json", tree / "index.json")
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.fixture
def index(tree: Path, done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads((tree / "index.json").read_text(encoding="utf-8"))


def test_every_python_file_but_those_of_site_packages_is_indexed(index: Any) -> None:
    assert set(index["modules"]) == {"package/__init__.py", "package/chain.py", "[red].py"}
    assert index["summary"]["files"] == 5
    assert index["summary"]["lines"] == 15
    assert index["summary"]["processes"] == 2
    assert index["summary"]["tasks_per_second"] > 0
    assert 0 <= index["summary"]["busy"] < 1


def test_an_elif_is_no_deeper_than_its_if(index: Any) -> None:
    assert index["modules"]["package/chain.py"] == {
        "lines": 14,
        "functions": 2,
        "classes": 1,
        "nesting": 4,  # class, def, if, for
        "longest_function": "sort",
        "longest_lines": 10,
    }


def test_files_that_cannot_be_parsed_are_listed_with_their_errors(index: Any) -> None:
    assert index["summary"]["failed"] == 2
    assert index["failures"]["broken.py"].startswith("SyntaxError: ")
    assert index["failures"]["latin.py"].startswith("UnicodeDecodeError: ")


def test_output_to_a_file_is_plain_and_complete(done: subprocess.CompletedProcess[str]) -> None:
    assert "5 of 5 files" in done.stdout
    assert "[red].py" in done.stdout
    assert "SyntaxError" in done.stdout
    assert "5 files (2 failed)" in done.stdout
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


def test_packages_come_first_and_no_file_is_missing_however_many_there_are(tmp_path: Path) -> None:
    window = 100
    for number in range(window + 20):
        (tmp_path / f"{number:03}").mkdir()
        (tmp_path / f"{number:03}" / "__init__.py").touch()
        (tmp_path / f"{number:03}.py").touch()

    done = run(tmp_path, "--processes", "1", "--json", tmp_path / "index.json")

    assert (done.returncode, done.stderr) == (0, "")
    order = list(json.loads((tmp_path / "index.json").read_text())["modules"])
    assert len(order) == 2 * (window + 20)
    late = [place for place, name in enumerate(order) if name.endswith("__init__.py")]
    assert late[-1] <= window + 20  # one other may have begun before them


async def test_a_report_that_would_miss_a_file_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(index_tree.Report, "add", add)
    options = argparse.Namespace(folder=tree, files=[tree / "[red].py"], processes=1)

    with pytest.raises(actorq.ActorDied) as caught:
        await index_tree.index_files(options, Console(file=io.StringIO()))

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@posix
def test_a_terminal_gets_a_bar(tree: Path) -> None:
    reader, writer = os.openpty()
    try:
        program = subprocess.Popen(
            [*PROGRAM, tree, "--limit", "1"], stdout=writer, env=os.environ | {"TERM": "xterm"}
        )
        os.close(writer)
        output = b"".join(read_all(reader))
    finally:
        os.close(reader)

    assert program.wait() == 0
    assert b"indexing" in output
    assert b"\x1b[" in output


def read_all(terminal: int) -> Iterator[bytes]:
    with suppress(OSError):  # how Linux says that the other end is closed
        while content := os.read(terminal, 4096):
            yield content


@pytest.mark.parametrize("folder", ["nowhere", "broken.py", "empty"])
def test_a_folder_that_cannot_be_indexed_gets_one_line_and_exit_code_2(
    tree: Path, folder: str
) -> None:
    (tree / "empty").mkdir(exist_ok=True)

    refused = run(tree / folder)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert folder in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tree: Path) -> None:
    refused = run(tree, "--json", tree / "nowhere" / "index.json")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1


@posix
def test_ctrl_c_stops_it_and_leaves_no_process() -> None:
    program = subprocess.Popen(  # the standard library: enough to be interrupted
        [*PROGRAM, "--processes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        assert "files" in program.stdout.readline()  # it is under way

        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: the processes get it too
        _, errors = program.communicate()  # ends when nobody has these pipes any more

        assert program.returncode == 130
        assert errors == "interrupted\n"
        assert commands_of(program.pid) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def commands_of(session: int) -> list[bytes]:
    """What still runs in a session; a process that is ending has no command any more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):  # Linux
        with suppress(OSError):
            if os.getsid(int(process.name)) == session:
                found.append((process / "cmdline").read_bytes())
    return [command for command in found if command]
