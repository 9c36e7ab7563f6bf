"""The no-op of remote.py in dramatiq: its worker imports this, and its client is this script."""

from __future__ import annotations

import os
import time
from collections import deque

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from remote_children import IN_FLIGHT, serve_blocking

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop() -> None:
    pass


def rate(count: int) -> float:
    """One thread sends, and blocks for the oldest result when enough are in flight."""
    waiting: deque[dramatiq.Message[None]] = deque()
    start = time.perf_counter()
    for _ in range(count):
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().get_result(block=True)
        waiting.append(noop.send())
    for message in waiting:
        message.get_result(block=True)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    serve_blocking(rate)
