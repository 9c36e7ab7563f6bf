"""The queue node: keeps the tasks and hands them out, and runs none itself.

    python queue_node.py TOKEN_FILE

It prints where it listens, and ends when it is told to. `actorq serve` is this program, grown up.
"""

import logging
import signal
import sys

import trio

import actorq


async def main(token_file: str) -> None:
    async with actorq.open_system(
        concurrency=0, listen="ws://127.0.0.1:0", tokens=actorq.Tokens(file=token_file)
    ) as system:
        print(*system.addresses, flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")  # warnings only
    trio.run(main, sys.argv[1])
