"""Speed across processes, as ratios to C measured in the same run; local.py says what C is.

Two processes: a queue node with the client in it, and a worker. Three: each in its own. Beside them
dramatiq, taskiq and streaq do the same on a Redis that is started for them: one client process that
has 200 no-ops in flight and takes every result, and one worker process.

Everything is on this machine, over the loopback interface; the other processes end with this one.
The Redis needs `redis-server` on the PATH (Debian: apt-get install redis-server).
"""

from __future__ import annotations

import shutil
import signal
import socket
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory

import trio
import trio_websocket

import actorq
import remote_tasks
from common import Figures, Measure, Plan, callers, compare, latency, mapped, run
from local import bare_pool
from remote_children import IN_FLIGHT, Child, module, open_child, script
from remote_tasks import noop, take

SetUp = Callable[[], AbstractAsyncContextManager[actorq.Client]]

# --- actorq --------------------------------------------------------------------------------------


@asynccontextmanager
async def open_worker(url: str) -> AsyncGenerator[Child, None]:
    command = script("remote_nodes.py", "worker", url, str(IN_FLIGHT))
    async with open_child("worker", *command) as worker:
        await worker.line()
        yield worker


@asynccontextmanager
async def two_processes() -> AsyncGenerator[actorq.Client, None]:
    async with (
        actorq.open_system(
            concurrency=0, listen="ws://127.0.0.1:0", tasks=[remote_tasks]
        ) as system,
        open_worker(system.addresses[0]),
    ):
        yield system


@asynccontextmanager
async def three_processes() -> AsyncGenerator[actorq.Client, None]:
    async with open_child("queue node", *script("remote_nodes.py", "queue")) as queue:
        url = await queue.line()
        async with open_worker(url), actorq.connect(url) as client:
            yield client


async def calling(client: actorq.Client, count: int) -> float:
    return await callers(client, noop, count, at_once=IN_FLIGHT)


async def mapping(client: actorq.Client, count: int) -> float:
    return await mapped(client, take, count, at_once=IN_FLIGHT)


async def ratio(
    set_up: SetUp,
    subject: Callable[[actorq.Client, int], Awaitable[float]],
    count: int,
    slices: int,
) -> Figures:
    async with set_up() as client:
        return await compare(partial(subject, client), bare_pool, count, slices, to="C")


async def call_latency(set_up: SetUp, count: int, slices: int) -> Figures:
    """`call`, one at a time, beside 200 bytes that another process sends back."""
    payload = bytes(200)
    async with (
        set_up() as client,
        open_child("echo", *script("remote_nodes.py", "echo")) as echo,
        trio_websocket.open_websocket_url(await echo.line()) as websocket,
    ):

        async def there_and_back() -> None:
            await websocket.send_message(payload)
            await websocket.get_message()

        calls, bases, ratios = [], [], []
        for _ in range(slices):
            before = await latency(there_and_back, count)
            calls.append(await latency(lambda: client.call(noop), count))
            after = await latency(there_and_back, count)
            bases.append((before["p50 ms"] + after["p50 ms"]) / 2)
            ratios.append(calls[-1]["p50 ms"] / bases[-1])
    return {
        "p50 ms": statistics.median(figures["p50 ms"] for figures in calls),
        "p99 ms": statistics.median(figures["p99 ms"] for figures in calls),
        "round trip p50 ms": statistics.median(bases),
        "ratio to it": statistics.median(ratios),
    }


# --- large results -------------------------------------------------------------------------------

MEGABYTE = 1024 * 1024
AT_ONCE = 100
LEASE_SECONDS = 5.0
"""A worker beats five times in a lease: each second."""


async def large_results(rounds: int) -> Figures:
    """A hundred tasks at once return 1 MiB each, to a client that reads once all have ended.

    The queue node keeps 100 results for look-ups, so what it must hold at most are those, and the
    100 that the client has not read. It notes when the worker's beats come in.
    """
    options = ("queue", str(LEASE_SECONDS), str(AT_ONCE))
    async with open_child("queue node", *script("remote_nodes.py", *options)) as queue:
        url = await queue.line()
        async with (
            open_worker(url),
            open_child("client", *script("remote_nodes.py", "client", url)) as client,
        ):
            await client.line()
            before, peaks = queue.memory("VmRSS"), []
            for number in range(rounds):
                await client.ask([number * AT_ONCE, AT_ONCE, MEGABYTE])
                await queue.ask("join")
                await client.ask("read")
                peaks.append(queue.memory("VmHWM"))
            seen = await queue.ask("report")
    times = [when for when, _ in seen["beats"]] + [seen["now"]]
    return {
        "MB before": before / 1e6,
        "MB at most": peaks[-1] / 1e6,
        "grown / (kept + in flight)": (peaks[-1] - before) / (2 * AT_ONCE * MEGABYTE),
        "last peak / middle": peaks[-1] / peaks[(rounds - 1) // 2],
        "beats": len(times) - 1,
        "s between beats": max(after - before for before, after in pairwise(times)),
        "s the worker lagged": max(lag for _, lag in seen["beats"]),
        "incidents": sum(seen["incidents"].values()),
    }


# --- others --------------------------------------------------------------------------------------

OTHERS = {
    "dramatiq": module("dramatiq", "remote_dramatiq", "--processes", "1"),
    "taskiq": module(
        "taskiq", "worker", "remote_taskiq:broker", "--workers", "1",
        "--max-async-tasks", str(IN_FLIGHT), "--log-level", "WARNING",
    ),
    "streaq": module("streaq", "run", "remote_streaq:worker"),
}  # fmt: skip
"""The command of each one's worker. dramatiq has 8 threads: with 64 it was slower."""


@asynccontextmanager
async def open_redis() -> AsyncGenerator[str, None]:
    """Run a Redis that keeps nothing, and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        command = (
            "redis-server", "--bind", "127.0.0.1", "--port", str(port),
            "--dir", folder, "--save", "", "--appendonly", "no",
        )  # fmt: skip
        async with open_child("redis-server", *command, listens=False) as redis:
            await redis.answering("127.0.0.1", port)
            yield f"redis://127.0.0.1:{port}"


async def other(name: str, environment: dict[str, str], count: int, slices: int) -> Figures:
    """Measure one of them, with a tenth of the items that C takes."""
    async with open_redis() as url:
        environment = environment | {"BENCH_REDIS": url}
        async with (
            open_child(f"{name}'s worker", *OTHERS[name], listens=False, environment=environment),
            open_child(name, *script(f"remote_{name}.py"), environment=environment) as client,
        ):

            async def subject(count: int) -> float:
                return float(await client.ask(count // 10))

            return await compare(subject, bare_pool, count, slices, to="C")


# --- all of it -----------------------------------------------------------------------------------

BOUND_SECONDS = 900.0
"""For each measurement."""


def bounded(measure: Measure) -> Measure:
    async def within() -> Figures:
        with trio.move_on_after(BOUND_SECONDS):
            return await measure()
        raise SystemExit(f"this has not ended within {BOUND_SECONDS:g} s")

    return within


def plan(quick: bool) -> Plan:
    slices, count = (3, 5_000) if quick else (9, 20_000)
    set_ups: dict[str, SetUp] = {"two": two_processes, "three": three_processes}
    measures: Plan = []
    for name, set_up in set_ups.items():
        measures += [
            (f"{name} processes, 200 callers", partial(ratio, set_up, calling, count, slices)),
            (f"{name} processes, map", partial(ratio, set_up, mapping, count, slices)),
            (f"{name} processes, call", partial(call_latency, set_up, count // 10, slices)),
        ]
    measures.append(("three processes, 1 MiB results", partial(large_results, 10 if quick else 30)))
    for name, environment in (
        ("dramatiq", {}),
        ("taskiq", {}),
        ("taskiq, asking each 10 ms", {"BENCH_CHECK": "0.01"}),
        ("streaq", {}),
    ):
        measure = partial(other, name.partition(",")[0], environment, count, min(slices, 5))
        measures.append((f"redis: {name}", measure))
    return [(name, bounded(measure)) for name, measure in measures]


def lacks(names: list[str]) -> str | None:
    if any(name.startswith("redis") for name in names) and not shutil.which("redis-server"):
        return (
            "redis-server is not on the PATH (Debian: apt-get install redis-server); "
            "without it: --only processes"
        )
    return None


if __name__ == "__main__":
    # Either signal ends the other processes, too, also where a shell has said to ignore the first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = False
    try:
        run(__doc__, plan, lacks)
    except* KeyboardInterrupt:  # alone or in groups
        interrupted = True
    if interrupted:
        sys.exit(130)
