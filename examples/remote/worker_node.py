"""A worker node: runs tasks for a queue elsewhere, here two at a time.

    ACTORQ_TOKEN=... python worker_node.py URL NAME

Told to end, it takes no more work and finishes what it has. `actorq worker` is this program, grown
up.
"""

import logging
import signal
import sys

import trio
from tasks import index

import actorq


async def main(url: str, name: str) -> None:
    async with actorq.open_worker(url, tasks=[index], concurrency=0, processes=2, node=name):
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    trio.run(main, sys.argv[1], sys.argv[2])
