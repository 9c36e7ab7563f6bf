"""Processes that own a file: what is killed, stopped or limited in the tests of the SQLite store.

``python -m tests.stores.owners MODE PATH``. Each says a word on a line for what it has done.
"""

import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

import trio

from actorq.codec.records import Records
from actorq.contracts.store import Store
from actorq.errors import StoreError
from actorq.model.records import Ownership, Write
from actorq.stores.sqlite import SqliteStore
from actorq.testing.samples import NOW, PARTITION, TTL, head, live, own, task_id

ROOT = Path(__file__).parents[2]
LARGE = b"x" * 100_000
SHORT_TTL = 0.6


class Clocks(TypedDict):
    """The clocks of a machine, as a store takes them."""

    clock: Callable[[], float]
    monotonic: Callable[[], float]


class Time:
    """The time of a machine: what its clock says, and how much has passed."""

    def __init__(self) -> None:
        self.now = NOW
        self.passed = 0.0

    @property
    def clocks(self) -> Clocks:
        """What shows it."""
        return Clocks(clock=lambda: self.now, monotonic=lambda: self.passed)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.passed += seconds


class Owner:
    """Such a process, for the test that has started it."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._in, self._out = process.stdin, process.stdout
        self._rest = b""

    async def line(self) -> str:
        """Return the next line that it says, or an empty one at its end."""
        while b"\n" not in self._rest:
            data = await self._out.receive_some()
            if not data:
                return ""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    async def ask(self, line: str) -> str:
        """Say something, and return its answer."""
        await self._in.send_all(line.encode() + b"\n")
        return await self.line()


@asynccontextmanager
async def started(mode: str, path: Path) -> AsyncGenerator[Owner, None]:
    """Start one, and kill it in the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.stores.owners", mode, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    owner = Owner(process)
    try:
        yield owner
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await owner._in.aclose()
            await owner._out.aclose()


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def storm(store: Store, owner: Ownership) -> None:
    """Commit one record after the other, for ever."""
    number = 0
    while True:
        await store.commit(owner, [live(number)])
        say(number)
        number += 1


async def obey(store: Store, owner: Ownership) -> None:
    """Commit the record of each number that is asked for."""
    say("owner")
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        try:
            await store.commit(owner, [live(int(line))])
            say("committed")
        except StoreError as error:
            say(type(error).__name__)


async def begin(store: SqliteStore, owner: Ownership) -> None:
    """Stay in the middle of a transaction."""
    await store.commit(owner, [live(1)])
    await store._open_file().owner.run(lambda db: db.execute("BEGIN IMMEDIATE"))
    say("begun")
    await trio.sleep_forever()


async def limited(store: SqliteStore, owner: Ownership) -> None:
    """Find no room, wait for it, and go on."""
    number, soft = 0, store.path.stat().st_size + 500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
    while True:
        writes = [Write(task_id(number), head(number), LARGE)]
        try:
            await store.commit(owner, writes)
        except StoreError as error:
            say(number, type(error).__name__, error)
            break
        number += 1
    there = await store.fetch(PARTITION, [task_id(n) for n in range(number + 1)])
    say([record is not None for record in there] == [True] * number + [False])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.commit(owner, writes)
    say("committed")
    await trio.sleep_forever()


async def stand_still(store: SqliteStore, owner: Ownership) -> None:
    """Commit the record of each number that is asked for, and have the loop wait for the next."""
    say("stands still")
    while line := sys.stdin.readline():
        try:
            await store.commit(owner, [live(int(line))])
            say("committed")
        except StoreError as error:
            say(type(error).__name__)
        say("stands still")


MODES = {
    "storm": storm, "obey": obey, "begin": begin, "limited": limited, "stands still": stand_still,
}  # fmt: skip


async def main(mode: str, path: str) -> None:
    store = SqliteStore(path, Records())
    await store.open()
    try:
        ttl = SHORT_TTL if mode == "stands still" else TTL
        await MODES[mode](store, await own(store, "child", ttl))
    finally:
        await store.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
