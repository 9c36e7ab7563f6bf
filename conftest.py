"""Every test ends, and every Python block of the README and the docs is a test.

**The bound.** A test that takes more than 30 seconds of real time fails, with the stacks of its
trio tasks; `@pytest.mark.bound(seconds)` sets another bound. `trio.fail_after` would not do: it
counts trio's clock, which a test may hold still. So an alarm rings in real time and passes for
Ctrl-C, the one interruption that trio delivers safely into a running loop. What survives that (a
shielded wait, say) ends the whole run ten seconds later, with the stacks of all threads. Where
there is no alarm (Windows), only this last resort is left.

**The snippets.** The `python` blocks of one document share a namespace, in which they run as
`__main__`. A block with a `__name__ == "__main__"` guard is a program of its own and runs in a new
interpreter, as process tasks need. An `output` block is what the block before it prints, where
`...` stands for anything. `<!-- skip: next "reason" -->` leaves the next block out.
"""

import doctest
import faulthandler
import io
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, ModuleType
from typing import Any

import hypothesis
import pytest
import trio
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser, SkipParser

BOUND_SECONDS = 30.0
LAST_RESORT_SECONDS = 10.0
terminal = pytest.StashKey[int]()

if "CI" not in os.environ:  # there, Hypothesis has a profile of its own, without deadlines too
    hypothesis.settings.register_profile("bounded", deadline=None)
    hypothesis.settings.load_profile("bounded")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[terminal] = os.dup(2)  # pytest redirects the real one while a test runs


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[terminal])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    faulthandler.dump_traceback_later(
        bound_of(item) + LAST_RESORT_SECONDS, exit=True, file=item.config.stash[terminal]
    )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with ended_within(bound_of(item), item.nodeid, item.config.stash[terminal]):
        return (yield)


def pytest_enter_pdb() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("bound")
    return float(marker.args[0]) if marker else BOUND_SECONDS


@contextmanager
def ended_within(seconds: float, name: str, output: int) -> Iterator[None]:
    """Interrupt the body after so many seconds of real time, and fail."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    report = ""

    def interrupt(_signum: int, frame: FrameType | None) -> None:
        nonlocal report
        if report:
            os.write(output, f"\nnot ended by an interrupt: {report}\n".encode())
        report = f"{name} took longer than its bound of {seconds:g} s\n{stacks(frame)}"
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c):
            ctrl_c(signal.SIGINT, frame)

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, LAST_RESORT_SECONDS / 2)
    try:
        yield
    except BaseException:
        if not report:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if report:
        raise pytest.fail.Exception(report, pytrace=False) from None


def stacks(frame: FrameType | None) -> str:
    """Where Python is, then the tree of trio's tasks; without the frames of the tools."""
    lines = ours(traceback.walk_stack(frame))[::-1]
    try:
        todo = [(1, trio.lowlevel.current_root_task())]
    except RuntimeError:  # no trio program is running
        todo = []
    while todo:
        depth, task = todo.pop()
        if task is not None:
            inside = ours(task.iter_await_frames())
            lines += ["  " * depth + line for line in (f"task {task.name}", *inside)]
            todo += [(depth + 1, child) for n in task.child_nurseries for child in n.child_tasks]
    return "\n".join(lines)


def ours(frames: Iterable[tuple[FrameType, int]]) -> list[str]:
    return [
        f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
        for frame, line in frames
        if not {"trio", "_pytest", "pytest", "pluggy", "pytest_trio", "runpy"}
        & {str(frame.f_globals.get("__name__")).partition(".")[0]}
    ]


def run_python(example: Example) -> str | None:
    """Run a block; what it prints is kept for the `output` block after it."""
    if '__name__ == "__main__"' in example.parsed:
        printed, failure = run_program(example.parsed)
    else:
        printed, failure = run_here(example), None
    example.namespace["printed"] = printed
    sys.stdout.write(printed)
    return failure


def run_here(example: Example) -> str:
    main = example.namespace.setdefault("main", ModuleType("__main__"))
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setitem(sys.modules, "__main__", main)
        exec(compile(source, example.path, "exec", dont_inherit=True), main.__dict__)
    return printed.getvalue()


def run_program(source: str) -> tuple[str, str | None]:
    with TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.stdout, done.stderr or f"exit code {done.returncode}" if done.returncode else None


def check_output(example: Example) -> str | None:
    checker, printed = doctest.OutputChecker(), example.namespace.get("printed", "")
    expected = doctest.Example("", example.parsed)
    if checker.check_output(expected.want, printed, doctest.ELLIPSIS):
        return None
    return checker.output_difference(expected, printed, doctest.ELLIPSIS | doctest.REPORT_NDIFF)


parsers: list[Any] = [
    CodeBlockParser("python", run_python),
    CodeBlockParser("output", check_output),
    SkipParser(),
]
pytest_collect_file = Sybil(parsers, pattern="*.md").pytest()
