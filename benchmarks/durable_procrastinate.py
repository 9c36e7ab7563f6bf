"""The no-op of durable.py in procrastinate, on a PostgreSQL that fsyncs each commit.

It keeps no results, so whoever waits is told by the task itself, which runs in the same program:
more than procrastinate offers, and free of cost.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

from procrastinate import App, PsycopgConnector

from remote_children import serve_asyncio

IN_FLIGHT = int(os.environ["BENCH_IN_FLIGHT"])

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))
ran: dict[int, asyncio.Event] = {}


@app.task(name="noop", queue="noops")
async def noop(number: int) -> None:
    ran.pop(number).set()


@app.task(name="nobody", queue="nobody")
async def nobody() -> None:
    pass


async def rate(count: int) -> float:
    """So many coroutines, each of which defers a task and waits for it; tasks per second."""
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            event = ran[number] = asyncio.Event()
            await noop.defer_async(number=number)
            await event.wait()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - start)


async def enqueued(count: int) -> float:
    """Defer tasks that nobody takes, a thousand in a statement; tasks per second."""
    start = time.perf_counter()
    for _ in range(0, count, 1_000):
        await nobody.batch_defer_async(*({} for _ in range(1_000)))
    return count / (time.perf_counter() - start)


async def answer(question: tuple[str, int]) -> float:
    what, count = question
    return await (rate(count) if what == "rate" else enqueued(count))


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(
                queues=["noops"], concurrency=IN_FLIGHT, install_signal_handlers=False
            )
        )
        try:
            await serve_asyncio(answer)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
