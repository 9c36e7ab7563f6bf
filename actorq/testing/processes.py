"""Processes of one simulated cluster, in one trio loop: each can be held, go on, or die.

A process is all tasks under one. While it is held none of them runs, though its timers go off and
bytes arrive for it, as at a process that is stopped (SIGSTOP): it finds all of that at once when it
goes on. One that is dead never runs again; nothing of it gets to say goodbye.

Everything that differs from run to run in trio and in this library is drawn from one seed.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import trio
from trio._core import _run as trio_run

EPOCH = 1_700_000_000.0
"""The time of day at which every simulation begins."""

_here: ContextVar[Process | None] = ContextVar("actorq.testing.process", default=None)


def here() -> Process | None:
    """Return the process that is running now."""
    return _here.get()


class Process:
    """One process; `start` it in a nursery outside of all processes.

    Attributes:
        name: For people.
        skew: Seconds by which its clock is ahead.
        state: Whether it runs, is held, or is dead.
    """

    def __init__(self, name: str, skew: float = 0.0) -> None:
        self.name: str = name
        self.skew: float = skew
        self.held: bool = False
        self.dead: bool = False
        self.scope: trio.CancelScope = trio.CancelScope()
        self.ended: trio.Event = trio.Event()
        self._gate: _Gate | None = None

    async def run(self, main: Callable[[], Awaitable[object]]) -> None:
        """Run ``main`` as this process, to its end."""
        _here.set(self)
        try:
            with self.scope:
                await main()
        finally:
            self.ended.set()

    def hold(self, apart: Callable[[trio.lowlevel.Task], bool] = lambda _: False) -> None:
        """Let nothing of it run, but for tasks that stand ``apart``, as other threads do."""
        if not self.held:
            self.held = True
            self._gate = _Gate(self, apart)

    def go_on(self) -> None:
        """Let it run again."""
        if self.held and not self.dead:
            self._release()

    def die(self) -> None:
        """Let nothing of it run ever again; the task that calls this runs to its next wait."""
        self.hold()
        self.dead = True

    async def bury(self) -> None:
        """Clean up after it, when nobody looks any more: its tasks are cancelled, and end."""
        self.dead = True
        self.scope.cancel("the simulation is over")
        self._release()
        with trio.CancelScope(shield=True):
            await self.ended.wait()

    def _release(self) -> None:
        self.held = False
        if self._gate is not None:
            self._gate.open()
            self._gate = None


class _Gate(trio.abc.Instrument):
    """Keeps the tasks of a process off trio's queue of those that are to run next."""

    def __init__(self, process: Process, apart: Callable[[trio.lowlevel.Task], bool]) -> None:
        self._process = process
        self._apart = apart
        # trio has no other way to hold a task that was woken.
        self._queue: deque[trio.lowlevel.Task] = cast(Any, trio_run).GLOBAL_RUN_CONTEXT.runner.runq
        self._kept: list[trio.lowlevel.Task] = []
        for task in list(self._queue):
            if self._stops(task):
                self._queue.remove(task)
                self._kept.append(task)
        trio.lowlevel.add_instrument(self)

    def _stops(self, task: trio.lowlevel.Task) -> bool:
        return task.context.get(_here) is self._process and not self._apart(task)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Take it out again: it has just been put at the end."""
        if self._stops(task):
            assert self._queue.pop() is task
            self._kept.append(task)

    def open(self) -> None:
        trio.lowlevel.remove_instrument(self)
        self._queue.extend(self._kept)
        self._kept.clear()


@contextmanager
def seeded(seed: int) -> Generator[Random, None, None]:
    """Draw all chance inside the block from ``seed``, the order in which trio runs tasks too.

    Yields a source for whoever needs more of it. Cyclic garbage is collected afterwards, for what
    ends when it is collected ends at no certain moment.
    """
    random = Random(seed)
    patches = _patches(random)
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    state = trio_run._r.getstate()
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()  # so that a collection looks only at what the block has made
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        trio_run._r.seed(random.random())
        yield Random(random.random())
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        trio_run._r.setstate(state)
        gc.unfreeze()
        if collecting:
            gc.enable()


def _patches(random: Random) -> list[tuple[Any, str, Any]]:
    """Return what is put in place of what: owner, name, value."""
    import actorq.model.ids as ids
    import actorq.runtime.clock as clock
    import actorq.runtime.engine as engine
    import actorq.stores.memory as memory
    import actorq.system.house as house
    import actorq.system.remote as remote
    import actorq.system.system as system
    import actorq.system.worker as worker
    import actorq.tasks as tasks

    names = Random(random.random())

    def token_hex(size: int) -> str:
        return names.randbytes(size).hex()

    def another() -> Random:
        return Random(names.random())

    def wall() -> float:
        process = here()
        return EPOCH + trio.current_time() + (process.skew if process else 0.0)

    patches: list[tuple[Any, str, Any]] = [
        (trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        (tasks, "_IDS", ids.IdSource(wall, token_hex(8))),
        (clock, "time", SimpleNamespace(time=wall, monotonic=time.monotonic)),
    ]
    named = (house, memory, remote, system, worker)
    patches += [(module, "token_hex", token_hex) for module in named]
    patches += [(module, "Random", another) for module in (engine, remote, worker)]
    return patches
