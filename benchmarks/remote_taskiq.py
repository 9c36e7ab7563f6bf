"""The no-op of remote.py in taskiq: its worker imports this, and its client is this script."""

from __future__ import annotations

import asyncio
import os
import time

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from remote_children import IN_FLIGHT, serve_asyncio

CHECK_SECONDS = float(os.environ.get("BENCH_CHECK", "0.2"))
"""How often it asks for a result; 0.2 is taskiq's default."""

URL = os.environ["BENCH_REDIS"]

# Without a size the pool has 50 connections, and everybody in flight queues for one of them.
broker = RedisStreamBroker(URL, max_connection_pool_size=IN_FLIGHT).with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=60, max_connection_pool_size=IN_FLIGHT)
)


@broker.task(task_name="noop")  # else it is called after the file, in the client
async def noop() -> None:
    pass


async def rate(count: int) -> float:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            task = await noop.kiq()
            result = await task.wait_result(check_interval=CHECK_SECONDS, timeout=60)
            result.raise_for_error()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - start)


async def main() -> None:
    await broker.startup()
    try:
        await serve_asyncio(rate)
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
