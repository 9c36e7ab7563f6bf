"""The tasks of remote.py, which its client submits and its worker runs."""

from __future__ import annotations

import actorq


@actorq.task
async def noop() -> None:
    pass


@actorq.task
async def take(number: int) -> None:
    pass


@actorq.task
async def blob(number: int, size: int) -> bytes:
    return number.to_bytes(8, "big").ljust(size, b"\0")
