"""Files with many tasks in them, and the child processes of durable.py that open such a file.

They are filled through the store itself, in commits of ten thousand copies of what a queue node has
written of one task. As a script: ``open URL`` says how long it takes to open one, and what memory;
``drain URL FIRST LAST`` how long those take that are swallowed between the two.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import trio

import actorq
import durable_tasks
from actorq.model.ids import PARTITION, IdSource
from actorq.model.records import Record, Write
from actorq.system.backends import open_store
from durable_tasks import Swallowed, noop, swallow, swallowed
from remote_children import say

BATCH = 10_000
PAYLOAD = 200
BOUNDS: dict[str, Any] = {"max_pending": 10_000_000, "max_results": 10_000_000, "result_ttl": 1e7}
"""Of a system that opens such a file: nothing in it is to be forgotten."""


async def fill(url: str, pending: int, finished: int) -> None:
    """Make a file with so many tasks that wait, and that have ended, the older ones first."""
    with TemporaryDirectory() as folder:
        examples = await _examples(f"sqlite:///{folder}/example.db")
    store = open_store(url)
    await store.open()
    try:
        ownership = await store.acquire(PARTITION, "benchmark", 3_600.0)
        assert ownership is not None
        now = time.time()
        writes = _writes(examples, pending, finished, now)
        while batch := list(islice(writes, BATCH)):
            await store.commit(ownership, batch)
        await store.release(ownership)
    finally:
        await store.close()


async def _examples(url: str) -> tuple[Record, Record]:
    """Return what a queue node writes of a task that waits, and of one that has ended."""
    async with actorq.open_system(
        url, tasks=[durable_tasks], concurrency=0, processes=0, **BOUNDS
    ) as system:
        pending = await system.submit(swallow, os.urandom(PAYLOAD))
    async with actorq.open_system(
        url, tasks=[noop], concurrency=1, processes=0, **BOUNDS
    ) as system:
        finished = await system.submit(noop)
        await finished.wait()
    store = open_store(url)
    await store.open()
    try:
        first, second = await store.fetch(PARTITION, [pending.id, finished.id])
    finally:
        await store.close()
    assert first is not None
    assert second is not None
    assert second.output is not None
    return first, second


def _writes(
    examples: tuple[Record, Record], pending: int, finished: int, now: float
) -> Iterator[Write]:
    wait, done = examples
    times = iter(range(-finished - pending, 0))
    when = 0.0
    ids = IdSource(lambda: when)
    for _ in range(finished):
        when = now + next(times) * 1e-3
        head = msgspec.structs.replace(
            done.head, id=ids.next(), submitted_at=when, since=when, rank=when, due=when,
            started_at=when, completed_at=when,
        )  # fmt: skip
        yield Write(head.id, head, done.body, done.output)
    for _ in range(pending):
        when = now + next(times) * 1e-3
        head = msgspec.structs.replace(
            wait.head, id=ids.next(), submitted_at=when, since=when, rank=when, due=when
        )
        yield Write(head.id, head, wait.body)


# --- in a child ----------------------------------------------------------------------------------


def resident() -> int:
    """Return bytes in memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def measure_opening(url: str) -> None:
    with TemporaryDirectory() as folder:  # what is imported for it is not the file's
        small = f"sqlite:///{folder}/small.db"
        async with actorq.open_system(small, concurrency=0, processes=0, **BOUNDS):
            pass
    before = resident()
    start = time.perf_counter()
    async with actorq.open_system(url, concurrency=0, processes=0, **BOUNDS) as system:
        seconds = time.perf_counter() - start
        pending = (await system.stats()).queues["backlog"].pending
        say(
            {
                "seconds": seconds,
                "pending": pending,
                "bytes": resident() - before,
                "of SQLite": apsw.memory_used(),
            }
        )


async def measure_draining(url: str, first: int, last: int) -> None:
    swallowed.append(Swallowed(first, last))
    async with actorq.open_system(
        url, tasks=[durable_tasks], concurrency=100, processes=0, **BOUNDS
    ):
        await swallowed[0].done.wait()
        say({"seconds": swallowed[0].seconds})


if __name__ == "__main__":
    what, address, *numbers = sys.argv[1:]
    if what == "open":
        trio.run(measure_opening, address)
    else:
        trio.run(measure_draining, address, *map(int, numbers))
