"""The other processes of a benchmark: they are asked over pipes, and ended by their ids."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryFile
from typing import Any, NoReturn

import trio

HERE = Path(__file__).parent
IN_FLIGHT = 200
"""How many tasks are under way at once, wherever rates are measured."""

STOP_SECONDS = 4.0
"""From the end of its input to SIGTERM, and from there to SIGKILL."""


class Child:
    """A process; what it says are lines of JSON.

    Attributes:
        pid: Its id.
    """

    def __init__(self, name: str, process: trio.Process) -> None:
        self.pid: int = process.pid
        self._name = name
        self._process = process
        self._read = b""

    async def ask(self, question: object) -> Any:
        """Return its answer.

        Raises:
            RuntimeError: It has ended.
        """
        assert self._process.stdin is not None
        with suppress(trio.BrokenResourceError):  # told below
            await self._process.stdin.send_all(json.dumps(question).encode() + b"\n")
        return await self.line()

    async def line(self) -> Any:
        """Return the next that it says; see `ask`."""
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            piece = await self._process.stdout.receive_some()
            if not piece:
                await self._ended()
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    async def answering(self, host: str, port: int) -> None:
        """Wait until it can be reached there; see `ask`."""
        while True:
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError:
                if self._process.poll() is not None:
                    await self._ended()
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return

    async def _ended(self) -> NoReturn:
        with trio.move_on_after(STOP_SECONDS):
            await self._process.wait()
        raise RuntimeError(f"{self._name} has ended ({self._process.returncode})")

    def memory(self, what: str) -> int:
        """Return bytes that it has in memory now (``VmRSS``) or had at most (``VmHWM``)."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(status.split(f"{what}:")[1].split()[0]) * 1024


@asynccontextmanager
async def open_child(
    name: str,
    *command: str,
    listens: bool = True,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> AsyncGenerator[Child, None]:
    """Run a command as long as the block lasts, in a session of its own: Ctrl-C is for us.

    One that ``listens`` can be asked, and ends with its input if the block is left in order; others
    get a signal. What it has started itself ends with it. An exception that leaves the block gets a
    note of what it has said.
    """
    with TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=PIPE if listens else DEVNULL,
            stdout=PIPE if listens else errors,
            stderr=errors,
            cwd=HERE,
            env=os.environ | dict(environment or {}),
            user=user,
            start_new_session=True,
        )
        ended_well = False
        try:
            yield Child(name, process)
            ended_well = True
        except Exception as error:
            errors.seek(0)
            if told := errors.read().decode(errors="replace").strip():
                error.add_note(f"{name} has said last:\n{told[-4_000:]}")
            raise
        finally:
            with trio.CancelScope(shield=True):
                await _end(process, patiently=listens and ended_well)


async def _end(process: trio.Process, *, patiently: bool) -> None:
    try:
        if process.stdin is not None:
            await process.stdin.aclose()
        if not (patiently and await _ends(process)):
            process.terminate()
            await _ends(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _ends(process: trio.Process) -> bool:
    with trio.move_on_after(STOP_SECONDS):
        await process.wait()
    return process.returncode is not None


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a script of this folder."""
    return (sys.executable, str(HERE / name), *arguments)


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module's command line."""
    return (sys.executable, "-m", name, *arguments)


def say(value: object) -> None:
    """In a child: answer."""
    print(json.dumps(value), flush=True)


def serve_blocking(answer: Callable[[Any], object]) -> None:
    """In a child: answer until there are no more questions."""
    for line in sys.stdin:
        say(answer(json.loads(line)))


async def serve_trio(answer: Callable[[Any], Awaitable[object]]) -> None:
    """The same in trio's loop."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        say(await answer(json.loads(line)))


async def serve_asyncio(answer: Callable[[Any], Awaitable[object]]) -> None:
    """The same in asyncio's."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(await answer(json.loads(line)))
