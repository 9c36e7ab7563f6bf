"""Speed of the local system, as ratios to C measured in the same run.

C is the rate of a bare trio pool: one submitter makes a `trio.Event` per item, sends into a memory
channel of buffer 100, then awaits every Event; ten workers iterate the channel and, for each item,
open a `CancelScope`, await a no-op and set the Event. C and the subject alternate in slices, and
the median of the paired ratios counts, since these rates drift with whatever else a machine does.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import actorq


@actorq.task
async def noop() -> None:
    pass


@actorq.task
async def take(payload: bytes) -> None:
    pass


async def _noop() -> None:
    pass


async def bare_pool(count: int) -> float:
    """Return C: items per second through ten bare workers."""
    send, receive = trio.open_memory_channel[trio.Event](100)

    async def work() -> None:
        async for event in receive:
            with trio.CancelScope():
                await _noop()
            event.set()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(work)
        start = time.perf_counter()
        events = []
        for _ in range(count):
            event = trio.Event()
            await send.send(event)
            events.append(event)
        for event in events:
            await event.wait()
        elapsed = time.perf_counter() - start
        send.close()
    return count / elapsed


async def one_by_one(system: actorq.System, count: int) -> float:
    """One coroutine submits one after the other, then awaits every value."""
    start = time.perf_counter()
    handles = [await system.submit(noop) for _ in range(count)]
    for handle in handles:
        await handle.value()
    return count / (time.perf_counter() - start)


async def many(system: actorq.System, count: int) -> float:
    """`submit_many`, then every value."""
    start = time.perf_counter()
    handles = await system.submit_many(noop.message() for _ in range(count))
    for handle in handles:
        await handle.value()
    return count / (time.perf_counter() - start)


async def ratio(
    subject: Callable[[actorq.System, int], Awaitable[float]], count: int, slices: int
) -> dict[str, float]:
    """Measure the subject against C in alternating slices."""
    ratios, rates, bases = [], [], []
    async with actorq.open_system() as system:
        await bare_pool(2_000)
        await subject(system, 2_000)
        for _ in range(slices):
            before = await bare_pool(count)
            rate = await subject(system, count)
            after = await bare_pool(count)
            base = (before + after) / 2
            ratios.append(rate / base)
            rates.append(rate)
            bases.append(base)
    return {
        "ratio to C": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "per second": statistics.median(rates),
        "C": statistics.median(bases),
    }


async def latency(count: int) -> dict[str, float]:
    """Milliseconds of one `call` at a time."""
    times = []
    async with actorq.open_system() as system:
        for index in range(count + 200):
            start = time.perf_counter()
            await system.call(noop)
            if index >= 200:
                times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {"p50 ms": times[len(times) // 2], "p99 ms": times[len(times) * 99 // 100]}


async def sleeps(count: int, seconds: float, concurrency: int, repeats: int) -> dict[str, float]:
    """A thousand tasks that sleep, against the time that they need at best."""
    ratios = []
    async with actorq.open_system(concurrency=concurrency) as system:
        await system.call(noop)
        for _ in range(repeats):
            start = time.perf_counter()
            await system.submit_many(actorq_sleep.message(seconds) for _ in range(count))
            await system.join()
            ratios.append((time.perf_counter() - start) / (count * seconds / concurrency))
    return {"elapsed / ideal": statistics.median(ratios), "lowest": min(ratios)}


@actorq.task
async def actorq_sleep(seconds: float) -> None:
    await trio.sleep(seconds)


async def drain(count: int) -> float:
    """Return seconds per task to drain ``count`` pending tasks with nobody waiting for them."""
    gate = trio.Event()

    async def hold() -> None:
        await gate.wait()

    async with actorq.open_system(concurrency=1, max_pending=count + 10) as system:
        holder = await system.submit(hold)
        await system.submit_many(noop.message() for _ in range(count))
        gc.collect()
        start = time.perf_counter()
        gate.set()
        await holder.wait()
        await system.join()
        return (time.perf_counter() - start) / count


async def draining(count: int, repeats: int) -> dict[str, float]:
    """Cost per task of draining many pending tasks over that of draining 1 000, paired."""
    ratios, costs = [], []
    for _ in range(repeats):
        small = statistics.median([await drain(1_000) for _ in range(5)])
        large = await drain(count)
        again = statistics.median([await drain(1_000) for _ in range(5)])
        ratios.append(large / ((small + again) / 2))
        costs.append(large * 1e6)
    return {"large / small": statistics.median(ratios), "us a task": statistics.median(costs)}


async def memory(count: int, payload: int) -> dict[str, float]:
    """Bytes per pending task, without the caller's handles."""
    async with actorq.open_system(concurrency=0, processes=0, max_pending=count + 10) as system:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count // 1_000):
            await system.submit_many(take.message(bytes(payload)) for _ in range(1_000))
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return {"bytes a task": (after - before) / count}


async def main(arguments: argparse.Namespace) -> dict[str, Any]:
    quick = arguments.quick
    results: dict[str, Any] = {}
    plan: list[tuple[str, Callable[[], Awaitable[dict[str, float]]]]] = [
        ("one by one", lambda: ratio(one_by_one, 20_000, 3 if quick else 9)),
        ("submit_many", lambda: ratio(many, 20_000, 3 if quick else 9)),
        ("call", lambda: latency(2_000 if quick else 10_000)),
        (
            "1000 sleeps of 100 ms, concurrency 100",
            lambda: sleeps(1_000, 0.1, 100, 5 if quick else 15),
        ),
        ("draining", lambda: draining(50_000 if quick else 1_000_000, 1 if quick else 3)),
        ("memory, 200 B payload", lambda: memory(100_000 if quick else 1_000_000, 200)),
    ]
    for name, measure in plan:
        if arguments.only and arguments.only not in name:
            continue
        results[name] = await measure()
        if not arguments.json:
            figures = "  ".join(f"{key} {value:,.4g}" for key, value in results[name].items())
            print(f"{name:42s} {figures}", flush=True)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller slices")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--only", default="", help="only the measurements with this in their name")
    arguments = parser.parse_args()
    results = trio.run(main, arguments)
    if arguments.json:
        print(json.dumps(results, indent=2))
