"""Many results, one after the other: `as_completed`, `map` and `map_results`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, Self, TypeVar
from weakref import ref

import trio

from actorq.client.base import BaseClient
from actorq.client.handle import TaskHandle
from actorq.model.results import TaskResult
from actorq.runtime.future import Future
from actorq.tasks import Task, TaskMessage

T = TypeVar("T")
R = TypeVar("R")


BURST = 32
"""Results that are handed out in a row, if they are there, before the rest of the program runs."""


class _Pace:
    """Makes a checkpoint of each step: of cancellation always, of the scheduler now and then.

    A pass of the scheduler for every value that is there already costs a quarter of what a task
    does.
    """

    def __init__(self) -> None:
        self._steps = 0

    async def step(self) -> None:
        """Go on, unless cancelled."""
        self._steps += 1
        if self._steps % BURST:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()


class _Ready(Generic[R]):
    """Handles in the order in which their tasks end."""

    def __init__(self) -> None:
        self._pace = _Pace()
        # Kept here, as the session knows them weakly: without this, nobody might.
        self._waiting: dict[object, TaskHandle[R]] = {}
        self._ended: deque[TaskHandle[R]] = deque()
        self._more: Future[None] = Future()

    def add(self, handle: TaskHandle[R]) -> None:
        """Take in a handle; the same one as often as you like."""
        key = object()
        self._waiting[key] = handle
        # Weak, for a loop may be left early and its handles kept.
        us = ref(self)

        def ended() -> None:
            ready = us()
            if ready is not None:
                ready._ended.append(ready._waiting.pop(key))
                ready._more.set(None)

        handle.watch().call_when_done(ended)

    @property
    def any(self) -> bool:
        """Whether one has ended and was not popped yet."""
        return bool(self._ended)

    async def first(self) -> TaskHandle[R]:
        """Wait for the first that is not popped yet; a checkpoint. Cancelled, it loses nothing."""
        if self._ended:
            await self._pace.step()
        while not self._ended:
            if self._more.done:
                self._more = Future()
            await self._more.wait()
        return self._ended[0]

    def pop(self) -> None:
        """Take out the first."""
        self._ended.popleft()


class Completed(Generic[R]):
    """The iterator of `Client.as_completed`."""

    def __init__(self, handles: list[TaskHandle[R]]) -> None:
        self._ready: _Ready[R] = _Ready()
        self._left = len(handles)
        for handle in handles:
            self._ready.add(handle)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskResult[R]:
        if not self._left:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        handle = await self._ready.first()
        self._ready.pop()
        self._left -= 1
        return handle.peek()


class _Window(Generic[T, R]):
    """A block that owns the tasks of a bounded piece of the items."""

    def __init__(
        self, client: BaseClient, task: Task[..., R], items: Iterable[T], limit: int, ordered: bool
    ) -> None:
        self._client = client
        self._task = task
        self._items: Iterator[T] = iter(items)
        self._limit = limit
        self._ordered = ordered
        self._scope: str | None = None
        self._pace = _Pace()
        self._line: deque[TaskHandle[R]] = deque()
        self._ready: _Ready[R] = _Ready()
        self._taken: list[TaskMessage[R]] = []
        self._open = 0
        self._drained = False
        self._unsettled = False
        """Whether the last submit failed or was cancelled, and a part of it may run."""

    async def __aenter__(self) -> Self:
        if self._scope is not None:
            raise RuntimeError("a map is for one use; call map() again")
        self._scope = self._client.session.new_scope()
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._drained = True
        if self._scope is not None and (self._open or self._unsettled):
            await self._client.end_scope(self._scope)
        await trio.lowlevel.checkpoint_if_cancelled()

    def __aiter__(self) -> Self:
        if self._scope is None:
            raise RuntimeError("enter it first: 'async with system.map(...) as values'")
        return self

    async def _next(self) -> TaskHandle[R]:
        """Keep the window full; return the next that has ended. Cancelled, it loses nothing."""
        # As long as there is something to hand out, what comes next can be submitted together.
        if not self._is_ready() or self._open <= self._limit // 2:
            await self._fill()
        if not (self._line if self._ordered else self._open):
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        if self._ordered:
            handle = self._line.popleft()
            ending = handle.watch()
            try:
                await (self._pace.step() if ending.done else ending.wait())
            except BaseException:
                self._line.appendleft(handle)
                raise
        else:
            handle = await self._ready.first()
            self._ready.pop()
        self._open -= 1
        return handle

    def _is_ready(self) -> bool:
        """Whether the next result is there."""
        if self._ordered:
            return bool(self._line) and self._line[0].watch().done
        return self._ready.any

    async def _fill(self) -> None:
        assert self._scope is not None  # __aiter__ has seen to it
        while not self._drained and self._open < self._limit:
            # One message for all that there is room for, in chunks that fit the owner's bounds.
            # What was taken and not accepted, because the step was cancelled, is submitted next.
            room = min(self._limit - self._open, self._client.chunk)
            items = islice(self._items, room - len(self._taken))
            self._taken += [self._task.message(item) for item in items]
            if not self._taken:
                self._drained = True
                return
            self._unsettled = True
            # Cancelled, they may run already; the same messages are submitted by the next step.
            handles = await self._client.submit_chunk(self._taken, self._scope, withdraw=False)
            self._unsettled = False
            self._taken.clear()
            self._open += len(handles)
            if self._ordered:
                self._line.extend(handles)
            else:
                for handle in handles:
                    self._ready.add(handle)


class Mapped(_Window[T, R]):
    """The block of `Client.map`: an async iterator of values."""

    async def __anext__(self) -> R:
        return (await self._next()).peek_value()


class Outcomes(_Window[T, R]):
    """The block of `Client.map_results`: an async iterator of results."""

    async def __anext__(self) -> TaskResult[R]:
        return (await self._next()).peek()
