"""The no-op of durable.py in huey, on SQLite with an fsync for each commit: client and worker.

huey's worker threads take tasks one by one, and ask again after a while when there are none; so
does whoever waits for a result. Both wait a millisecond here, not a tenth of a second.
"""

from __future__ import annotations

import os
import time
from collections import deque

from huey import SqliteHuey
from huey.api import Result

from remote_children import serve_blocking

IN_FLIGHT = int(os.environ["BENCH_IN_FLIGHT"])
THREADS = int(os.environ.get("BENCH_THREADS", "8"))
ASK_SECONDS = 0.001

huey = SqliteHuey(filename=os.environ["BENCH_FILE"], fsync=True, store_none=True)


@huey.task(name="noop")
def noop() -> None:
    pass


def rate(count: int) -> float:
    """Keep so many in flight, wait for the oldest, and return tasks per second."""
    waiting: deque[Result] = deque()
    start = time.perf_counter()
    for _ in range(count):
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().get(blocking=True, max_delay=ASK_SECONDS)
        waiting.append(noop())
    for result in waiting:
        result.get(blocking=True, max_delay=ASK_SECONDS)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    consumer = huey.create_consumer(
        workers=THREADS, initial_delay=ASK_SECONDS, max_delay=ASK_SECONDS, periodic=False
    )
    consumer.start()
    serve_blocking(rate)
    consumer.stop(graceful=True)
