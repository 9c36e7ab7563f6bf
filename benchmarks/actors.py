"""Speed of actors, as ratios to bare trio, or to pykka, measured in the same run.

Each subject alternates with what does the same work without it, and the median of the paired
ratios counts. To measure a new subject, write a `Rate` of it and one of its base, and add a line to
`plan`.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pykka
import trio
import trio.testing

import actorq
from common import Figures, Plan, Rate, compare, latency, run
from local import many, one_by_one

ACTORS = 10
ASKERS = 100

# --- tell ----------------------------------------------------------------------------------------


async def count_down(messages: Any, count: int, done: trio.Event) -> None:
    """Read so many messages of a mailbox, or of a memory channel."""
    async for _ in messages:
        count -= 1
        if not count:
            done.set()


async def set_each(messages: Any) -> None:
    """Read events, and set them."""
    async for event in messages:
        event.set()


async def send_bursts(send: Any, count: int, done: trio.Event) -> float:
    """Send as fast as it goes; `tell` lets the rest of the program run after each 64."""
    start = time.perf_counter()
    for _ in range(count):
        await send(None)
    await done.wait()
    return count / (time.perf_counter() - start)


async def send_singly(send: Any, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        event = trio.Event()
        await send(event)
        await event.wait()
    return count / (time.perf_counter() - start)


async def tell_in_bursts(system: actorq.System, count: int) -> float:
    done = trio.Event()
    ref = await system.spawn(count_down, count, done)
    rate = await send_bursts(ref.tell, count, done)
    await ref.stop()
    return rate


async def channel_in_bursts(count: int) -> float:
    done = trio.Event()
    send, receive = trio.open_memory_channel[None](1_024)
    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(count_down, receive, count, done)
        return await send_bursts(send.send, count, done)


async def tell_singly(system: actorq.System, count: int) -> float:
    ref = await system.spawn(set_each)
    rate = await send_singly(ref.tell, count)
    await ref.stop()
    return rate


async def channel_singly(count: int) -> float:
    send, receive = trio.open_memory_channel[trio.Event](1_024)
    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(set_each, receive)
        return await send_singly(send.send, count)


async def tell(subject: Any, base: Rate, count: int, slices: int) -> Figures:
    async with actorq.open_system() as system:
        return await compare(partial(subject, system), base, count, slices, to="channel")


# --- ask -----------------------------------------------------------------------------------------


async def echo(inbox: actorq.Mailbox[int]) -> None:
    async for message in inbox:
        inbox.reply(message)


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: int) -> int:
        return message


async def ask_latency(count: int) -> Figures:
    async with actorq.open_system() as system:
        ref = await system.spawn(echo)
        return await latency(lambda: ref.ask(1), count)


async def ask_singly(count: int, slices: int) -> Figures:
    async with actorq.open_system() as system:
        ref = await system.spawn(echo)
        other = Echo.start()

        async def subject(count: int) -> float:
            start = time.perf_counter()
            for number in range(count):
                await ref.ask(number)
            return count / (time.perf_counter() - start)

        async def base(count: int) -> float:
            start = time.perf_counter()
            for number in range(count):
                other.ask(number, block=True)
            return count / (time.perf_counter() - start)

        try:
            return await compare(subject, base, count, slices, to="pykka")
        finally:
            other.stop()


async def ask_together(count: int, slices: int) -> Figures:
    """100 askers of ten actors, against as many futures as there are questions."""
    async with actorq.open_system() as system:
        refs = [await system.spawn(echo) for _ in range(ACTORS)]
        others = [Echo.start() for _ in range(ACTORS)]

        async def asker(ref: actorq.ActorRef[int], count: int) -> None:
            for number in range(count):
                await ref.ask(number)

        async def subject(count: int) -> float:
            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for index in range(ASKERS):
                    nursery.start_soon(asker, refs[index % ACTORS], count // ASKERS)
            return count / (time.perf_counter() - start)

        async def base(count: int) -> float:
            start = time.perf_counter()
            pykka.get_all(
                others[number % ACTORS].ask(number, block=False) for number in range(count)
            )
            return count / (time.perf_counter() - start)

        try:
            return await compare(subject, base, count, slices, to="pykka")
        finally:
            for other in others:
                other.stop()


# --- spawn and stop ------------------------------------------------------------------------------


async def idle(inbox: actorq.Mailbox[None]) -> None:
    async for _ in inbox:
        pass


async def spawn_and_stop(system: actorq.System) -> None:
    ref = await system.spawn(idle)
    await ref.stop()


async def start_and_end(nursery: trio.Nursery) -> None:
    """Do with a bare nursery what `spawn_and_stop` does: start, park, be told, end."""
    told, ended = trio.Event(), trio.Event()

    async def parked(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await told.wait()
        ended.set()

    await nursery.start(parked)
    told.set()
    await ended.wait()


async def run_noop(nursery: trio.Nursery) -> None:
    """The least that a task can cost."""
    ended = trio.Event()

    async def noop() -> None:
        ended.set()

    nursery.start_soon(noop)
    await ended.wait()


async def times_over(once: Any, count: int, at_a_time: int) -> float:
    async def some() -> None:
        for _ in range(count // at_a_time):
            await once()

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_a_time):
            nursery.start_soon(some)
    return count / (time.perf_counter() - start)


async def spawning(bare: Any, at_a_time: int, count: int, slices: int) -> Figures:
    async with actorq.open_system() as system, trio.open_nursery() as nursery:

        async def subject(count: int) -> float:
            return await times_over(partial(spawn_and_stop, system), count, at_a_time)

        async def base(count: int) -> float:
            return await times_over(partial(bare, nursery), count, at_a_time)

        return await compare(subject, base, count, slices, to="bare")


# --- memory --------------------------------------------------------------------------------------


async def spawn_idle(system: actorq.System, count: int) -> None:
    """Spawn actors that have all had some mail, and wait for more."""
    for _ in range(count):
        ref = await system.spawn(idle)
        await ref.tell(None)
    await trio.testing.wait_all_tasks_blocked()


async def idle_traced(count: int) -> float:
    """Bytes that Python has allocated for each."""
    async with actorq.open_system(processes=0) as system:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await spawn_idle(system, count)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return (after - before) / count


async def idle_resident(count: int) -> float:
    """Bytes by which the process grows with each; in a process that has freed nothing yet."""
    async with actorq.open_system(processes=0) as system:
        gc.collect()
        before = resident()
        await spawn_idle(system, count)
        gc.collect()
        return (resident() - before) / count


def resident() -> int:
    """Bytes that the system has in memory for this process, as Linux tells."""
    kilobytes = Path("/proc/self/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()[0]
    return int(kilobytes) * 1024


async def memory(count: int) -> Figures:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        grown = pool.apply(trio.run, (idle_resident, count))
    return {"traced bytes an actor": await idle_traced(count), "resident bytes an actor": grown}


# --- subscribers ---------------------------------------------------------------------------------

EVERYTHING: list[dict[str, Any]] = [{}]
OTHERS: list[dict[str, Any]] = [
    *({"task": f"other {number}"} for number in range(40)),
    *({"ids": [f"other {number}"]} for number in range(40)),
    *({"queue": f"other {number}"} for number in range(20)),
]
"""A hundred filters that fit none of the tasks."""


async def follow(system: actorq.System, which: dict[str, Any], *, task_status: Any) -> None:
    async with system.subscribe(**which) as events:
        await anext(events)
        task_status.started()
        async for _ in events:
            pass


async def watched(
    rate: Callable[[actorq.System, int], Awaitable[float]],
    filters: list[dict[str, Any]],
    count: int,
    slices: int,
) -> Figures:
    """Measure the queue with subscribers that read all they get, against without."""
    async with actorq.open_system() as system:

        async def subject(count: int) -> float:
            async with trio.open_nursery() as nursery:
                for which in filters:
                    await nursery.start(follow, system, which)
                result = await rate(system, count)
                nursery.cancel_scope.cancel()
            return result

        return await compare(subject, partial(rate, system), count, slices, to="without")


# --- all of it -----------------------------------------------------------------------------------


def plan(quick: bool) -> Plan:
    slices, part = (3, 4) if quick else (7, 1)
    return [
        (
            "tell, bursts of 64",
            partial(tell, tell_in_bursts, channel_in_bursts, 40_000 // part, slices),
        ),
        ("tell, one at a time", partial(tell, tell_singly, channel_singly, 10_000 // part, slices)),
        ("ask, latency", partial(ask_latency, 20_000 // part)),
        ("ask, one at a time", partial(ask_singly, 10_000 // part, slices)),
        ("ask, 100 askers", partial(ask_together, 20_000, slices)),
        *(
            (f"{what}, {how}", partial(spawning, bare, at_a_time, 2_000 // part, slices))
            for what, bare in (("spawn and stop", start_and_end), ("against a no-op", run_noop))
            for how, at_a_time in (("one at a time", 1), ("100 at a time", 100))
        ),
        *(
            (f"{who}, {how}", partial(watched, rate, filters, 10_000 // part, slices))
            for who, filters in (("one subscriber", EVERYTHING), ("100 filtered ones", OTHERS))
            for how, rate in (("submit_many", many), ("one by one", one_by_one))
        ),
        ("idle actors", partial(memory, 100_000 // (part * part))),
    ]


if __name__ == "__main__":
    run(__doc__, plan)
