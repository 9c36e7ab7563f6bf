"""A bare fenced commit: the least that a durable queue must do on SQLite for one step of a task.

In a file of actorq's own layout and settings, in a thread as its store has it, and nothing else:
look whether we are still the owner, add one record, change another one, and have it on the disk.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import apsw
import apsw.aio
import trio

from actorq.stores.sqlite_schema import STEPS, configure

_OWN = "INSERT INTO owner VALUES('00', 1, 'me', '', 0.0, 0.0, 0.0, 10.0, 1, 0, '')"
_RENEW = (
    "UPDATE owner SET expires_at = ? + ttl WHERE partition = '00' AND epoch = 1 AND nonce = 'me'"
)
_INSERT = "INSERT INTO live(partition, id, head, body) VALUES('00', ?, ?, ?)"
_UPDATE = "UPDATE live SET head = ? WHERE partition = '00' AND id = ?"


@asynccontextmanager
async def open_commits(path: Path) -> AsyncGenerator[Callable[[], Awaitable[None]], None]:
    """Yield what makes one commit."""
    connection = await apsw.Connection.as_async(str(path))
    head, body, numbers = os.urandom(100), os.urandom(200), count(1)

    def begin() -> None:
        for step in STEPS:
            connection.execute(step)
        connection.execute(_OWN)
        configure(connection)

    def write(number: int) -> None:
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        execute(_RENEW, (float(number),))
        if connection.changes() != 1:
            raise RuntimeError("somebody else is the owner")
        execute(_INSERT, (f"{number:031x}", head, body))
        execute(_UPDATE, (head, f"{number - 1:031x}"))
        execute("COMMIT")

    async def commit() -> None:
        await connection.async_run(write, next(numbers))

    try:
        await connection.async_run(begin)
        yield commit
    finally:
        with trio.CancelScope(shield=True):
            await connection.aclose()
