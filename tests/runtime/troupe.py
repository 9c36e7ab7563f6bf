"""Actors under a private supervisor each, as `System.spawn` keeps them, with no system around."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any

import trio

from actorq.machines.restarts import Backoff
from actorq.machines.supervision import Supervision
from actorq.model.events import EventKind
from actorq.runtime.cell import Cell
from actorq.runtime.engine import Engine
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef
from actorq.runtime.supervisor import Supervisor, open_supervisor


class Troupe:
    """The actors of one test, and all that was said about them."""

    supervisor: Supervisor

    def __init__(self) -> None:
        self.engine = Engine(self._tell, Random(1))
        self.events: list[tuple[EventKind, dict[str, Any]]] = []

    def _tell(self, kind: EventKind, **details: Any) -> None:
        self.events.append((kind, details))

    async def spawn(self, function: Any, *args: Any, **options: Any) -> ActorRef[Any]:
        return await self.supervisor.spawn(function, *args, **options)

    @property
    def dead_letters(self) -> list[tuple[str, object, str]]:
        """Who, what and why, as it was reported."""
        dead = [details for kind, details in self.events if kind is EventKind.DEAD_LETTER]
        assert len(dead) == self.engine.post.dead_letters, "each is counted and reported"
        return [(d["actor"], d["message"], d["why"]) for d in dead]


@asynccontextmanager
async def open_troupe() -> AsyncIterator[Troupe]:
    """Yield a troupe whose crashed actors start again after one second; at the end all is gone."""
    troupe = Troupe()
    rules = Supervision(apart=True, backoff=Backoff(first=1, most=1, jitter=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(troupe.engine.alarms.run)
        async with open_supervisor(troupe.engine, rules, "troupe", []) as troupe.supervisor:
            yield troupe
        assert troupe.engine.cells == {}
        assert len(troupe.engine.alarms) == 0
        nursery.cancel_scope.cancel()


async def collect(inbox: Mailbox[Any], seen: list[Any]) -> None:
    """Note every message; raise those that are errors."""
    async for message in inbox:
        seen.append(message)
        if isinstance(message, BaseException):
            raise message


async def echo(inbox: Mailbox[Any]) -> None:
    """Reply with what was asked; raise those that are errors."""
    async for message in inbox:
        if isinstance(message, BaseException):
            raise message
        inbox.reply(message)


async def busy(inbox: Mailbox[Any], seen: list[Any], seconds: float = 10.0) -> None:
    """Note every message, and take some time over each."""
    async for message in inbox:
        seen.append(message)
        await trio.sleep(seconds)  # virtual


async def gate(inbox: Mailbox[Any], seen: list[Any], bell: trio.Event) -> None:
    """Start, but read nothing before the bell."""
    inbox.started()
    await bell.wait()
    await collect(inbox, seen)


def watchers_of(ref: ActorRef[Any]) -> int:
    """Return how many monitors are set on an actor."""
    cell = ref._life
    assert isinstance(cell, Cell)
    return len(cell._watchers or ())


class Steps(trio.abc.Instrument):
    """How much was counted in each step of one task, that is without a checkpoint."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self.count = 0
        self.seen: list[int] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.seen.append(self.count)
            self.count = 0


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count steps of the present task; the last one, which ends the block, too."""
    steps = Steps(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)
        steps.seen.append(steps.count)
