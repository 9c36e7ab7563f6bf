"""The command line as a program of its own, for tests that need a real process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import actorq

ROOT = Path(__file__).parents[2]
CHORES = "tests.cli.chores"


class Program:
    """``python -m actorq ...`` with ``--json``; each line of its output is an event."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.stderr = ""
        self.silent = trio.Event()
        """Set when it and all processes of its own have ended."""
        self._more = trio.Event()
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            data = await self.process.stdout.receive_some()
            assert data, f"it has ended: {self.stderr}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    async def event(self, kind: str) -> dict[str, Any]:
        """Return the next event of that kind."""
        while True:
            event: dict[str, Any] = json.loads(await self.line())
            if event["event"] == kind:
                return event

    async def end(self) -> int:
        """Return its exit code, when it has ended; read on meanwhile."""
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            self._rest += data
        return await self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def read_stderr(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.stderr += data.decode()
            self._more.set()
            self._more = trio.Event()
        self.silent.set()

    async def said(self, text: str) -> None:
        """Return when it has written this to stderr."""
        while text not in self.stderr:
            await self._more.wait()


@asynccontextmanager
async def program(*arguments: str, cwd: Path = ROOT, **environment: str) -> AsyncIterator[Program]:
    """Start it; it has ended when the block has."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ACTORQ_")}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "actorq", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), "ACTORQ_STORE": "memory://", **environment},
    )
    try:
        async with trio.open_nursery() as nursery:
            started = Program(process)
            nursery.start_soon(started.read_stderr)
            try:
                yield started
            finally:
                process.kill()  # and stderr ends when its own processes have
    finally:
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                await pipe.aclose()


@asynccontextmanager
async def queue_node(**options: Any) -> AsyncIterator[actorq.System]:
    """Open a queue node in this process that works no task itself."""
    settings = {"concurrency": 0, "processes": 0, "listen": "ws://127.0.0.1:0", **options}
    async with actorq.open_system(**settings) as system:
        yield system


async def said_by(system: actorq.System, id: str) -> int:
    """Return what a task says first by its progress."""
    async with system.subscribe(ids=[id]) as events:
        async for event in events:
            if isinstance(event, actorq.TaskEvent) and event.progress is not None:
                return int(event.progress.done)
            if isinstance(event, actorq.Snapshot):
                known = await system.handle(id).progress()
                if known is not None:
                    return int(known.done)
    raise AssertionError("the subscription has ended")


async def appears(path: Path) -> None:
    """Return when there is a file."""
    while not await trio.Path(path).exists():  # noqa: ASYNC110 - nobody tells of a file
        await trio.sleep(0.02)  # real: it is another process that makes it
