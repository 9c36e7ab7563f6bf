"""Tasks for the programs that these tests start, and for the queue nodes in them."""

import datetime as dt
import os
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path, PurePosixPath

import trio

import actorq


@actorq.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@actorq.task
async def fail(message: str = "it is broken") -> None:
    error = ValueError(message)
    error.add_note("as it was told to")
    raise error


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


@actorq.task
async def announced_forever() -> None:
    """Say in which process it runs, and run on."""
    actorq.current().progress(os.getpid())
    await trio.sleep_forever()


@actorq.task
async def second_time() -> int:
    """Return the process that it runs in, the second time; the first time, say it and wait."""
    if actorq.current().attempt == 1:
        actorq.current().progress(os.getpid())
        await trio.sleep_forever()
    return os.getpid()


@actorq.task
async def until(path: str) -> str:
    """Return when there is a file, once this has been said to run."""
    actorq.current().progress(os.getpid())
    while not await trio.Path(path).exists():  # noqa: ASYNC110 - nobody tells of a file
        await trio.sleep(0.02)  # real: it is another process that makes it
    return "seen"


@actorq.task
async def blocked(path: str) -> None:
    """Block the loop for ever, once there is a file that says so."""
    Path(path).touch()  # noqa: ASYNC240 - and blocks from then on
    threading.Event().wait()


@actorq.task
def surroundings() -> tuple[object, str]:
    """Return what the lifespan gives, and what there is to read on standard input."""
    return actorq.current().resources, sys.stdin.read()


@actorq.task
async def odd_values() -> dict[str, object]:
    return {
        "at": dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC),
        "id": uuid.UUID(int=1),
        "path": PurePosixPath("a/b"),
        "bytes": b"\x00",
        "set": {2, 1},
        "decimal": Decimal("1.50"),
    }


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    yield "from the lifespan"


not_callable = 3
