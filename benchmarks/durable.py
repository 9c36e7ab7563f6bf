"""Speed on SQLite, with an fsync for each commit, as ratios to C; local.py says what C is.

Everything is one process, on a file in the folder for temporary files (TMPDIR), which must be on a
disk for the figures to mean anything. Beside it, in the same run: a bare fenced commit, which is
what the store does of it; huey on SQLite, with an fsync for each commit, too; and procrastinate on
a PostgreSQL that is started for it, as it comes.

A *large file* has a million tasks that wait, and a million that have ended.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

import actorq
from common import Figures, Measure, Plan, callers, compare, latency, mapped, run
from durable_commits import open_commits
from durable_files import BOUNDS, fill
from durable_postgres import lacks_postgres, open_postgres
from durable_tasks import noop, swallow, take
from local import bare_pool
from remote_children import open_child, script

IN_FLIGHT = 100
FOLDER = Path()
"""Of all files; set in the main program."""

_numbers = count(1)


def new_file() -> str:
    """Return the URL of a file that is not there yet."""
    return f"sqlite:///{FOLDER}/{next(_numbers)}.db"


# --- one file ------------------------------------------------------------------------------------


async def calling(system: actorq.System, count: int) -> float:
    return await callers(system, noop, count, at_once=IN_FLIGHT)


async def mapping(system: actorq.System, count: int) -> float:
    return await mapped(system, take, count, at_once=IN_FLIGHT)


async def ratio(
    subject: Callable[[actorq.System, int], Awaitable[float]], count: int, slices: int
) -> Figures:
    async with actorq.open_system(new_file(), tasks=[noop, take], **BOUNDS) as system:
        return await compare(partial(subject, system), bare_pool, count, slices, to="C")


async def enqueued(count: int) -> float:
    """`submit_many` into a new file, with nobody to take the tasks."""
    async with actorq.open_system(
        new_file(), tasks=[swallow], concurrency=0, processes=0, **BOUNDS
    ) as system:
        payload = os.urandom(200)
        start = time.perf_counter()
        await system.submit_many(swallow.message(payload) for _ in range(count))
        return count / (time.perf_counter() - start)


async def enqueuing(count: int, slices: int) -> Figures:
    return await compare(enqueued, bare_pool, count, slices, to="C")


async def call_latency(count: int, slices: int) -> Figures:
    """`call`, one at a time, beside bare fenced commits."""
    async with (
        actorq.open_system(new_file(), tasks=[noop], **BOUNDS) as system,
        open_commits(FOLDER / "commits.db") as commit,
    ):
        calls, bases, ratios = [], [], []
        for _ in range(slices):
            before = await latency(commit, count)
            calls.append(await latency(lambda: system.call(noop), count))
            after = await latency(commit, count)
            bases.append((before["p50 ms"] + after["p50 ms"]) / 2)
            ratios.append(calls[-1]["p50 ms"] / bases[-1])
    return {
        "p50 ms": statistics.median(figures["p50 ms"] for figures in calls),
        "p99 ms": statistics.median(figures["p99 ms"] for figures in calls),
        "commit p50 ms": statistics.median(bases),
        "ratio to it": statistics.median(ratios),
    }


# --- a large file --------------------------------------------------------------------------------


class Files:
    """A large file and small ones, made when they are first needed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._made: dict[tuple[int, int], str] = {}

    async def large(self) -> str:
        return await self._make(self.size, self.size)

    async def small(self) -> str:
        return await self._make(1_000, 1_000)

    async def _make(self, pending: int, finished: int) -> str:
        if (pending, finished) not in self._made:
            url = new_file()
            await fill(url, pending, finished)
            self._made[pending, finished] = url
        return self._made[pending, finished]


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[actorq.System, None]:
    """Open a file; nobody here knows the tasks that wait in it."""
    async with actorq.open_system(url, tasks=[noop, take], instruments=(), **BOUNDS) as system:
        yield system


async def in_flight(files: Files, count: int, slices: int) -> Figures:
    """Callers on the large file against callers on the small one, which is open, too."""
    async with opened(await files.large()) as large, opened(await files.small()) as small:
        figures = await compare(
            partial(calling, large), partial(calling, small), count, slices, to="small file"
        )
    cost = 1 / figures["ratio to small file"]
    return {"cost against small file": cost, **figures}


async def drained(url: str, first: int, last: int) -> float:
    """Return seconds per task."""
    numbers = (str(first), str(last))
    async with open_child("drain", *script("durable_files.py", "drain", url, *numbers)) as child:
        return float((await child.line())["seconds"]) / (last - first)


async def draining(files: Files, slices: int) -> Figures:
    """Tasks that wait in the large file, against those in files with nothing else in them."""
    large, ratios, costs = await files.large(), [], []

    async def small() -> float:
        url = new_file()
        await fill(url, 20_000, 0)
        return await drained(url, 2_000, 18_000)

    for _ in range(slices):
        before = await small()
        costs.append(await drained(large, 2_000, 18_000))
        after = await small()
        ratios.append(2 * costs[-1] / (before + after))
    return {
        "cost against small file": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "us a task": statistics.median(costs) * 1e6,
    }


async def opening(files: Files) -> Figures:
    url = await files.large()
    async with open_child("open", *script("durable_files.py", "open", url)) as child:
        seen = await child.line()
    return {
        "seconds": seen["seconds"],
        "bytes a task that waits": seen["bytes"] / seen["pending"],
        "of these SQLite's": seen["of SQLite"] / seen["pending"],
        "MB of the file": sum(path.stat().st_size for path in _parts(url)) / 1e6,
    }


def _parts(url: str) -> list[Path]:
    path = Path(url.removeprefix("sqlite:///"))
    return list(path.parent.glob(f"{path.name}*"))


# --- others --------------------------------------------------------------------------------------


async def huey(count: int, slices: int) -> Figures:
    """Measure it, with a tenth of the items that C takes."""
    environment = {"BENCH_FILE": str(FOLDER / "huey.db"), "BENCH_IN_FLIGHT": str(IN_FLIGHT)}
    async with open_child("huey", *script("durable_huey.py"), environment=environment) as child:

        async def subject(count: int) -> float:
            return float(await child.ask(max(count // 10, IN_FLIGHT)))

        return await compare(subject, bare_pool, count, slices, to="C")


async def procrastinate(what: str, count: int, slices: int) -> Figures:
    """Measure it, with a tenth of the items that C takes; all of them where it only enqueues."""
    program = "import asyncio, durable_procrastinate as d; asyncio.run(d.main())"
    share = 10 if what == "rate" else 1
    async with open_postgres() as postgres:
        environment = {"BENCH_POSTGRES": postgres, "BENCH_IN_FLIGHT": str(IN_FLIGHT)}
        command = (sys.executable, "-c", program)
        async with open_child("procrastinate", *command, environment=environment) as child:

            async def subject(count: int) -> float:
                return float(await child.ask([what, max(count // share, IN_FLIGHT)]))

            return await compare(subject, bare_pool, count, slices, to="C")


# --- all of it -----------------------------------------------------------------------------------

BOUND_SECONDS = 1_500.0
"""For each measurement."""


def bounded(measure: Measure) -> Measure:
    async def within() -> Figures:
        with trio.move_on_after(BOUND_SECONDS):
            return await measure()
        raise SystemExit(f"this has not ended within {BOUND_SECONDS:g} s")

    return within


def plan(quick: bool) -> Plan:
    slices, count = (3, 5_000) if quick else (9, 20_000)
    files = Files(100_000 if quick else 1_000_000)
    peers = min(slices, 5)
    measures: Plan = [
        ("sqlite, 100 callers", partial(ratio, calling, count, slices)),
        ("sqlite, map", partial(ratio, mapping, count, slices)),
        ("sqlite, call", partial(call_latency, count // 10, slices)),
        ("sqlite, submit_many, enqueue only", partial(enqueuing, count, slices)),
        ("sqlite, large file, opening", partial(opening, files)),
        ("sqlite, large file, 100 callers", partial(in_flight, files, count // 2, slices)),
        ("sqlite, large file, draining", partial(draining, files, min(slices, 5))),
        ("others: huey on SQLite", partial(huey, count, peers)),
        ("others: procrastinate", partial(procrastinate, "rate", count // 2, peers)),
        (
            "others: procrastinate, enqueue only",
            partial(procrastinate, "enqueue", count, peers),
        ),
    ]
    return [(name, bounded(measure)) for name, measure in measures]


def lacks(names: list[str]) -> str | None:
    return lacks_postgres() if any("procrastinate" in name for name in names) else None


if __name__ == "__main__":
    # Either signal ends the other processes, too, also where a shell has said to ignore the first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = False
    with TemporaryDirectory(prefix="actorq-bench-") as folder:
        FOLDER = Path(folder)
        try:
            run(__doc__, plan, lacks)
        except* KeyboardInterrupt:  # alone or in groups
            interrupted = True
    if interrupted:
        sys.exit(130)
