"""The no-op of remote.py in streaq: its worker imports this, and its client is this script."""

from __future__ import annotations

import asyncio
import os
import time

from streaq import Worker

from remote_children import IN_FLIGHT, serve_asyncio

# Whoever waits for a result holds a connection and takes another one to look first: with the 64
# that there are by default, 200 who wait at once wait for ever.
worker = Worker(
    redis_url=os.environ["BENCH_REDIS"],
    redis_kwargs={"max_connections": 2 * IN_FLIGHT + 50},
    concurrency=IN_FLIGHT,
)


@worker.task(silent=True)
async def noop() -> None:
    pass


async def rate(count: int) -> float:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            task = await noop.enqueue()
            result = await task.result(timeout=60)
            assert result.success

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(caller())
    return count / (time.perf_counter() - start)


async def main() -> None:
    async with worker:
        await serve_asyncio(rate)


if __name__ == "__main__":
    asyncio.run(main())
