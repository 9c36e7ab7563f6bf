"""Speed of the local system, as ratios to C measured in the same run.

C is the rate of a bare trio pool: one submitter makes a `trio.Event` per item, sends into a memory
channel of buffer 100, then awaits every Event; ten workers iterate the channel and, for each item,
open a `CancelScope`, await a no-op and set the Event. C and the subject alternate in slices, and
the median of the paired ratios counts, since these rates drift with whatever else a machine does.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial

import trio

import actorq
from common import Figures, Plan, compare, latency, run


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
) -> Figures:
    """Measure the subject against C in alternating slices."""
    async with actorq.open_system() as system:
        return await compare(partial(subject, system), bare_pool, count, slices, to="C")


async def call_latency(count: int) -> Figures:
    async with actorq.open_system() as system:
        return await latency(lambda: system.call(noop), count)


async def sleeps(count: int, seconds: float, concurrency: int, repeats: int) -> Figures:
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


async def draining(count: int, repeats: int) -> Figures:
    """Cost per task of draining many pending tasks over that of draining 1 000, paired."""
    ratios, costs = [], []
    for _ in range(repeats):
        small = statistics.median([await drain(1_000) for _ in range(5)])
        large = await drain(count)
        again = statistics.median([await drain(1_000) for _ in range(5)])
        ratios.append(large / ((small + again) / 2))
        costs.append(large * 1e6)
    return {"large / small": statistics.median(ratios), "us a task": statistics.median(costs)}


async def memory(count: int, payload: int) -> Figures:
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


def plan(quick: bool) -> Plan:
    return [
        ("one by one", lambda: ratio(one_by_one, 20_000, 3 if quick else 9)),
        ("submit_many", lambda: ratio(many, 20_000, 3 if quick else 9)),
        ("call", lambda: call_latency(2_000 if quick else 10_000)),
        (
            "1000 sleeps of 100 ms, concurrency 100",
            lambda: sleeps(1_000, 0.1, 100, 5 if quick else 15),
        ),
        ("draining", lambda: draining(50_000 if quick else 1_000_000, 1 if quick else 3)),
        ("memory, 200 B payload", lambda: memory(100_000 if quick else 1_000_000, 200)),
    ]


if __name__ == "__main__":
    run(__doc__, plan)
