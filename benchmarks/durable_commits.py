"""A bare fenced commit: the least that a durable queue must do on SQLite for one step of a task.

The same thread, layout and settings as actorq's store has, and nothing else: look whether we are
still the owner, write one record, and have it on the disk.
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

_SETTINGS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-64000"
_TABLES = """
CREATE TABLE owner (epoch INTEGER, nonce TEXT, until REAL);
INSERT INTO owner VALUES (1, 'me', 0);
CREATE TABLE live (key INTEGER PRIMARY KEY, head BLOB);
CREATE TABLE body (key INTEGER PRIMARY KEY, data BLOB);
"""


@asynccontextmanager
async def open_commits(path: Path) -> AsyncGenerator[Callable[[], Awaitable[None]], None]:
    """Yield what makes one commit: the owner's row, a new record, and a change of an older one."""
    connection = await apsw.Connection.as_async(str(path))
    head, body, keys = os.urandom(100), os.urandom(200), count(1)

    def write(key: int) -> None:
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        execute("UPDATE owner SET until = ? WHERE epoch = 1 AND nonce = 'me'", (float(key),))
        if connection.changes() != 1:
            raise RuntimeError("somebody else is the owner")
        execute("INSERT INTO live VALUES (?, ?)", (key, head))
        execute("INSERT INTO body VALUES (?, ?)", (key, body))
        execute("UPDATE live SET head = ? WHERE key = ?", (head, key - 1))
        execute("COMMIT")

    async def commit() -> None:
        await connection.async_run(write, next(keys))

    try:
        await connection.async_run(lambda: connection.execute(_SETTINGS).fetchall())
        await connection.async_run(lambda: connection.execute(_TABLES).fetchall())
        yield commit
    finally:
        with trio.CancelScope(shield=True):
            await connection.aclose()
