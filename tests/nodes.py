"""A queue node, workers and clients in one program, over memory: for tests of several nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

import actorq
from actorq.model.events import Event, EventKind
from actorq.system.remote import connect
from actorq.system.system import System, open_system
from actorq.system.worker import WorkerNode, open_worker

URL = "memory://queue"


class Ears:
    """Listens to events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        """See `Instrument`."""
        self.events.append(event)

    def of(self, kind: EventKind) -> list[Event]:
        """Return those of one kind."""
        return [event for event in self.events if event.kind is kind]

    @property
    def kinds(self) -> list[EventKind]:
        """Return their kinds, in order."""
        return [event.kind for event in self.events]


@actorq.task(name="add")
async def add(a: int, b: int) -> int:
    """Never waits."""
    return a + b


@actorq.task(name="nap")
async def nap(seconds: float) -> float:
    """Take some time."""
    await trio.sleep(seconds)  # virtual
    return seconds


class Watched:
    """A task that never ends by itself, and takes a second to stop."""

    def __init__(self, name: str = "watched") -> None:
        self.steps: list[str] = []
        self.started = 0

        @actorq.task(name=name)
        async def watched() -> None:
            self.started += 1
            self.steps.append("begun")
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)  # virtual
                self.steps.append("finally")

        self.task = watched

    @property
    def ended(self) -> bool:
        """Whether whatever began has ended."""
        return self.steps.count("begun") == self.steps.count("finally")


open_queue = partial(open_system, listen=URL, concurrency=0, processes=0, instruments=())
"""A queue node without a worker."""

open_client = partial(connect, URL, instruments=())
open_hand = partial(open_worker, URL, processes=0, instruments=())
"""A worker node."""


@asynccontextmanager
async def three_nodes(
    *tasks: actorq.Task[..., Any], concurrency: int = 10, **options: Any
) -> AsyncGenerator[tuple[System, WorkerNode, actorq.Client]]:
    """Open a queue node, a worker node that knows these tasks, and a client node."""
    async with (
        open_queue(**options) as system,
        open_hand(tasks=[add, nap, *tasks], concurrency=concurrency) as worker,
        open_client() as client,
    ):
        await worker.wait_connected()
        yield system, worker, client


async def until(condition: Callable[[], object]) -> None:
    """Wait in virtual time, or in small steps of the real one, until it is so."""
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
        await trio.sleep(0.005)  # virtual


def runs_at(result: actorq.TaskResult[Any], node: str) -> bool:
    """Say whether a task runs, or ran last, at a node."""
    return result.worker is not None and result.worker.rpartition(".")[0] == node


def cut(node: Any) -> None:
    """Cut the connection of a client or a worker node, if there is one now."""
    if isinstance(node, WorkerNode):
        node._place.dialer.cut("a test cuts it")
    elif node.session._port is not None:
        node.session._port._dialer.cut("a test cuts it")


@asynccontextmanager
async def out_of_reach(node: Any) -> AsyncGenerator[None]:
    """Cut a node off for the length of the block: it dials, and nobody answers."""
    if not isinstance(node, WorkerNode):
        await until(lambda: node.session._port)
    dialer = node._place.dialer if isinstance(node, WorkerNode) else node.session._port._dialer
    transports, dialer._transports = dialer._transports, [Nowhere()]
    dialer.cut("a test cuts it off")
    await until(lambda: not dialer.connected)
    try:
        yield
    finally:
        dialer._transports = transports


class Nowhere:
    """Implements `actorq.contracts.transport.Transport` where nobody answers."""

    url = "memory://nowhere"

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Any]:
        """See `Transport.connect`."""
        await trio.lowlevel.checkpoint()
        raise actorq.ConnectFailed("nobody answers")
        yield
