"""Ctrl-C at any line of the engine ends the program, and leaves nothing.

A child process runs one program again and again, and presses Ctrl-C each time at a later line of
`actorq.runtime`. It is a process of its own since a tracer is what counts the lines, and since a
program that hangs can only be ended from outside.
"""

import faulthandler
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actorq
from actorq.errors import leaves
from actorq.runtime import engine
from tests.end_to_end.test_actors import busy

ROOT = Path(__file__).parents[2]
ENGINE = str(Path(engine.__file__).parent)
CHILDREN = 3
EVERY = 13  # lines from one Ctrl-C to the next, of some 3 400
CHILD_SECONDS = 25.0
PATIENCE_SECONDS = 20.0  # virtual: the `shutdown` of an actor and the grace of its task, and more


class CtrlC:
    """A tracer that presses Ctrl-C at one line of the engine, counted from the start."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.where = ""

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> Any:
        return self.line if frame.f_code.co_filename.startswith(ENGINE) else None

    def line(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self.line


async def program(opened: list[actorq.System]) -> None:
    async with actorq.open_system(processes=0, concurrency=3, drain=1, instruments=()) as system:
        opened.append(system)
        await busy(system)


def interrupt(line: int) -> str:
    """Run the program, and interrupt it; return where that was, or nothing if it was too short."""
    ctrl_c, clock, caught = CtrlC(line), MockClock(autojump_threshold=0), None
    opened: list[actorq.System] = []
    sys.settrace(ctrl_c)
    try:
        trio.run(program, opened, clock=clock)
    except BaseException as error:  # noqa: BLE001 - it is looked at below
        caught = error
    finally:
        sys.settrace(None)
    if ctrl_c.where:
        assert caught is not None, ctrl_c.where
        assert KeyboardInterrupt in map(type, leaves(caught)), f"{ctrl_c.where}: {caught!r}"
    else:
        assert caught is None
    for system in opened:
        left = {name: size for name, size in system.tables().items() if size}
        assert left == {}, ctrl_c.where
    assert clock.current_time() < PATIENCE_SECONDS, ctrl_c.where
    return ctrl_c.where


def main(line: int, every: int) -> None:
    faulthandler.dump_traceback_later(CHILD_SECONDS, exit=True)  # whatever it hangs in
    while where := interrupt(line):
        print(f"Ctrl-C at line {line}: {where}", flush=True)  # noqa: T201 - the test counts them
        line += every


@pytest.mark.parametrize("child", range(CHILDREN))
def test_ctrl_c_at_any_line_of_the_engine_ends_the_program_and_leaves_nothing(child: int) -> None:
    arguments = [str(1 + child * EVERY), str(CHILDREN * EVERY)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.end_to_end.test_interrupts", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("Ctrl-C") > 1_000 / (CHILDREN * EVERY)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
