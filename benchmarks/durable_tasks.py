"""The tasks of durable.py."""

from __future__ import annotations

import time

import trio

import actorq


@actorq.task
async def noop() -> None:
    pass


@actorq.task
async def take(number: int) -> None:
    pass


class Swallowed:
    """How many payloads were swallowed in this process, and how long some of them took."""

    def __init__(self, first: int, last: int) -> None:
        self.seconds: float = 0.0
        self.done = trio.Event()
        self._first = first
        self._last = last
        self._count = 0
        self._began = 0.0

    def one_more(self) -> None:
        self._count += 1
        if self._count == self._first:
            self._began = time.perf_counter()
        elif self._count == self._last:
            self.seconds = time.perf_counter() - self._began
            self.done.set()


swallowed: list[Swallowed] = []


@actorq.task(queue="backlog")
async def swallow(payload: bytes) -> None:  # noqa: ARG001 - its size is what matters
    for counter in swallowed:
        counter.one_more()
