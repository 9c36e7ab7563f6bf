"""What the benchmarks share: ratios of alternating slices, latencies, and the command line."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Awaitable, Callable

import trio

import actorq

Figures = dict[str, float]
Measure = Callable[[], Awaitable[Figures]]
Plan = list[tuple[str, Measure]]
Rate = Callable[[int], Awaitable[float]]
"""Does so many of a thing, and returns how many it did in a second."""


async def compare(subject: Rate, base: Rate, count: int, slices: int, *, to: str) -> Figures:
    """Measure ``subject`` against ``base``, called ``to``, in alternating slices.

    The median of the paired ratios counts: rates drift with whatever else a machine does.
    """
    ratios, rates, bases = [], [], []
    await base(count // 10)
    await subject(count // 10)
    for _ in range(slices):
        before = await base(count)
        rate = await subject(count)
        after = await base(count)
        ratios.append(2 * rate / (before + after))
        rates.append(rate)
        bases.append((before + after) / 2)
    return {
        f"ratio to {to}": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "per second": statistics.median(rates),
        to: statistics.median(bases),
    }


async def callers(
    client: actorq.Client, task: actorq.AsyncTask[[], None], count: int, *, at_once: int
) -> float:
    """So many coroutines that each `call` one after the other."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await client.call(task)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(caller)
    return count / (time.perf_counter() - start)


async def mapped(
    client: actorq.Client, task: actorq.AsyncTask[[int], None], count: int, *, at_once: int
) -> float:
    """One coroutine that reads `map`."""
    start = time.perf_counter()
    async with client.map(task, range(count), limit=at_once) as values:
        async for _ in values:
            pass
    return count / (time.perf_counter() - start)


async def latency(once: Callable[[], Awaitable[object]], count: int) -> Figures:
    """Milliseconds of one at a time."""
    times = []
    for index in range(count + 200):
        start = time.perf_counter()
        await once()
        if index >= 200:
            times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {"p50 ms": times[len(times) // 2], "p99 ms": times[len(times) * 99 // 100]}


def run(
    doc: str | None,
    plan: Callable[[bool], Plan],
    lacks: Callable[[list[str]], str | None] = lambda _: None,
) -> None:
    """Measure what the command line asks for of ``plan(quick)``, and print it.

    ``lacks`` is asked first what is missing to measure those of these names.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller slices")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--only", default="", help="only the measurements with this in their name")
    arguments = parser.parse_args()
    chosen = [(name, does) for name, does in plan(arguments.quick) if arguments.only in name]
    if not chosen:
        parser.error(f"there is no measurement with {arguments.only!r} in its name")
    if missing := lacks([name for name, _ in chosen]):
        parser.error(missing)
    results: dict[str, Figures] = {}
    for name, measure in chosen:
        results[name] = trio.run(measure)
        if not arguments.json:
            figures = "  ".join(f"{key} {value:,.4g}" for key, value in results[name].items())
            print(f"{name:42s} {figures}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))
