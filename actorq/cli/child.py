"""A worker process, as its parent sees it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import trio

from actorq.cli import pipe

_READ_BYTES = 64 * 1024

KILL_SECONDS = 7.0
"""After which a process that was told to stop at once is killed."""


class Child:
    """One worker process.

    Attributes:
        node: The id of its node; each process has a new one.
        pid: Its process id.
        failure: Why it could not work, if it said so.
        changed: The source files because of which it ends.
    """

    def __init__(self, node: str, process: trio.Process, line: socket.socket) -> None:
        self.node: str = node
        self.pid: int = process.pid
        self.failure: pipe.Failed | None = None
        self.changed: tuple[str, ...] = ()
        self._process = process
        self._line = line

    @classmethod
    async def start(
        cls, node: str, modules: Sequence[str], work: pipe.Work, **options: Any
    ) -> Child:
        """Start a process; ``options`` are those of `subprocess.Popen`."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "actorq.cli.process", node, *modules],
                stdin=theirs,
                # Ctrl-C is for the parent alone: what tasks have started is not to die of it.
                process_group=0,
                **options,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        child = cls(node, process, ours)
        child.say(work)
        return child

    def say(self, order: pipe.Order) -> None:
        """Give it an order; one that is gone does not mind."""
        with suppress(OSError):
            self._line.send(pipe.line_of(order))

    @property
    def code(self) -> int:
        """Its exit code; negative is the number of the signal that killed it."""
        code = self._process.returncode
        assert code is not None, "it has not ended"
        return code

    async def run(self, heard: Callable[[Child, pipe.Report], None]) -> None:
        """Hand on what it says, and return once it has ended.

        Cancelled, it stops the process first.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, heard)
                await self._process.wait()
                # What it has said last is in the socket's buffer.
                nursery.cancel_scope.deadline = trio.current_time() + 1.0
        finally:
            with trio.CancelScope(shield=True):
                await self._end()
            self._line.close()

    async def _listen(self, heard: Callable[[Child, pipe.Report], None]) -> None:
        rest = b""
        while True:
            await trio.lowlevel.wait_readable(self._line)
            try:
                data = self._line.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except ConnectionResetError:  # it has died with an order unread
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line, heard)

    def _hear(self, line: bytes, heard: Callable[[Child, pipe.Report], None]) -> None:
        try:
            report = pipe.read_report(line)
        except msgspec.DecodeError:
            return
        if isinstance(report, pipe.Failed):
            self.failure = report
        elif isinstance(report, pipe.Changed):
            self.changed = report.files
        heard(self, report)

    async def _end(self) -> None:
        """Stop it now, and return when it has ended; one that has ended does not mind."""
        if self._process.returncode is None:
            self.say(pipe.Stop())
            with trio.move_on_after(KILL_SECONDS):
                await self._process.wait()
        self._process.kill()
        await self._process.wait()


def ending(code: int) -> str:
    """Return in words how a process has ended."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
