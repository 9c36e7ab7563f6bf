"""The nodes of a cluster as processes of their own, the tasks that they run, and who starts them.

To import this library takes a second or more, so one process does that, and the nodes are forked
from it. What happens in any of them is written into one named pipe, the *diary*, so that a test
waits for what happens and not for time; and tasks wait at named pipes, *gates*, until it opens
them. Both work whatever state the processes are in: stopped, cut off, about to be killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import trio

import actorq

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


# --- in the nodes -----------------------------------------------------------------------------


def folder() -> Path:
    return Path(os.environ["ACTORQ_TEST_FOLDER"])


def note(what: str, key: str = "") -> None:
    """Write into the diary; shorter than what a pipe takes at once, so it is never torn."""
    line = json.dumps({"what": what, "key": key, "pid": os.getpid(), "at": time.monotonic()})
    pipe = os.open(folder() / "diary", os.O_WRONLY)
    try:
        os.write(pipe, line.encode() + b"\n")
    finally:
        os.close(pipe)


@actorq.task
async def hold(key: str, again: str | None = None) -> int:
    """Wait at a gate, perhaps at another one in a later attempt; return the process that did."""
    note("began", key)
    name = again if again and actorq.current().attempt > 1 else key
    try:
        gate = os.open(folder() / name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            await trio.lowlevel.wait_readable(gate)
        finally:
            os.close(gate)
    except trio.Cancelled:
        note("cancelled", key)
        raise
    note("returned", key)
    return os.getpid()


@actorq.task
async def block(key: str) -> int:
    """Wait at a gate, as a coroutine should not: nothing else in its loop runs meanwhile."""
    note("began", key)
    with (folder() / key).open("rb", buffering=0) as gate:
        gate.read(1)
    return os.getpid()


@actorq.task
async def linger(key: str, seconds: float) -> int:
    note("began", key)
    await trio.sleep(seconds)  # real: it is the length of a task that is tested
    return os.getpid()


@actorq.task
async def kill_yourself(key: str) -> None:
    note("began", key)
    os.kill(os.getpid(), signal.SIGKILL)


@actorq.task
async def square(number: int) -> int:
    note("began", str(number))
    return number * number


@actorq.task
async def where() -> int:
    """Return the process that it runs in."""
    return os.getpid()


class Noting:
    """Writes what its node is told into the diary. Implements `actorq.Instrument`."""

    def event(self, event: actorq.Event) -> None:
        note(f"told {event.kind}", str(event.details.get("seconds", "")))


async def worker(url: str, concurrency: int = 10) -> None:
    async with actorq.open_worker(
        url,
        tasks=[sys.modules[__name__]],
        concurrency=concurrency,
        processes=0,
        instruments=(),
    ):
        await trio.sleep_forever()


async def queue(url: str, lease: float, concurrency: int) -> None:
    async with actorq.open_system(
        tasks=[sys.modules[__name__]],
        listen=url,
        lease=lease,
        concurrency=concurrency,
        processes=0,
        instruments=[Noting()],
    ) as system:
        note("listening", system.addresses[0])
        await trio.sleep_forever()


async def client(url: str, keys: list[str]) -> None:
    """Hold at each of these gates, in a block."""
    async with actorq.connect(url, instruments=()) as client, client.open_nursery() as nursery:
        for key in keys:
            await nursery.submit(hold, key)


async def make_id() -> None:
    note("id", where.message().id)


ROLES = {role.__name__: role for role in (worker, queue, client, make_id)}


def launch() -> None:
    """Fork a node for each line of standard input, until it ends; then kill those that are left."""
    pids: set[int] = set()
    try:
        for line in sys.stdin.buffer:
            for pid in list(pids):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    pids.discard(pid)
            pid = os.fork()
            if pid == 0:
                _be(**json.loads(line))
            pids.add(pid)
            print(pid, flush=True)  # noqa: T201 - it is read by who has asked
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def _be(role: str, arguments: list[Any], folder: str) -> None:
    """Be a node, and end with it."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.environ["ACTORQ_TEST_FOLDER"] = folder
        trio.run(ROLES[role], *arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as another
        traceback.print_exc()
    finally:
        os._exit(code)


# --- in the test ------------------------------------------------------------------------------


class Log(Generic[T]):
    """What has happened so far; one can wait for more of it."""

    def __init__(self) -> None:
        self.entries: list[T] = []
        self._news = trio.Event()

    def add(self, entry: T) -> None:
        self.entries.append(entry)
        self._news.set()
        self._news = trio.Event()

    def all(self, fits: Callable[[T], bool]) -> list[T]:
        return [entry for entry in self.entries if fits(entry)]

    async def wait(self, fits: Callable[[T], bool], count: int = 1) -> T:
        """Return the ``count``-th entry that fits, once there are so many."""
        while len(found := self.all(fits)) < count:
            await self._news.wait()
        return found[count - 1]


@attrs.frozen
class Entry:
    """A line of the diary; ``at`` is by the clock that all processes of a machine share."""

    what: str
    key: str
    pid: int
    at: float

    @classmethod
    def read(cls, line: bytes) -> "Entry":
        return cls(**json.loads(line))


class Node:
    """A process that a `Launcher` has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def send(self, number: signal.Signals) -> float:
        """Send it a signal; return when."""
        signal.pidfd_send_signal(self._descriptor, number)
        return time.monotonic()

    async def wait(self) -> None:
        """Return when it has ended."""
        await trio.lowlevel.wait_readable(self._descriptor)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        os.close(self._descriptor)


class Launcher:
    """The process that forks nodes."""

    def __init__(self) -> None:
        program = f"from {__name__} import launch; launch()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )

    @contextmanager
    def node(self, role: Callable[..., Any], *arguments: Any) -> Generator[Node]:
        """Start a node; it has been killed when the block has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"role": role.__name__, "arguments": arguments, "folder": str(folder())}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        node = Node(int(self._process.stdout.readline()))
        try:
            yield node
        finally:
            node.end()

    def end(self) -> None:
        with self._process:
            pass  # which closes its standard input, and waits for it


class Crew:
    """``actorq worker``: a parent and its worker processes."""

    def __init__(self, process: trio.Process) -> None:
        self.pid = process.pid
        self.log = Log[dict[str, Any]]()
        self._stdout = process.stdout

    async def read(self) -> None:
        assert self._stdout is not None
        rest = b""
        async for data in self._stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.log.add(json.loads(line))

    async def wait(self, event: str, count: int = 1) -> dict[str, Any]:
        return await self.log.wait(lambda entry: entry["event"] == event, count)

    def kill(self) -> float:
        """Kill all of them together, the parent first; return when."""
        at = time.monotonic()
        ended = {entry["pid"] for entry in self.log.all(lambda entry: entry["event"] == "ended")}
        started = {entry["pid"] for entry in self.log.all(lambda entry: "pid" in entry)}
        for pid in (self.pid, *(started - ended)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return at


@asynccontextmanager
async def crew(url: str, *, processes: int, concurrency: int) -> AsyncGenerator[Crew]:
    """Run ``actorq worker``; all of its processes have been killed when the block has ended."""
    process = await trio.lowlevel.open_process(
        [
            *(sys.executable, "-m", "actorq", "worker", __name__, "--url", url, "--json"),
            *("--processes", str(processes), "--concurrency", str(concurrency)),
            *("--cpu-processes", "0", "--drain", "0", "--log-level", "error"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    found = Crew(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.read)
            yield found
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            found.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()
