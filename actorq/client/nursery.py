"""A block that owns tasks, as a trio nursery owns coroutines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, overload

import trio

from actorq.client.base import BaseClient
from actorq.client.handle import TaskHandle
from actorq.runtime.future import Future
from actorq.tasks import Task, TaskMessage

P = ParamSpec("P")
R = TypeVar("R")


class TaskNursery:
    """What `Client.open_nursery` yields: submits tasks that belong to the block.

    Attributes:
        cancel_scope: Cancel it to cancel the block and all of its tasks.
    """

    def __init__(self, client: BaseClient) -> None:
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self._client = client
        self._scope = client.session.new_scope()
        self._open: dict[str, TaskHandle[Any]] = {}
        self._errors: list[Exception] = []
        self._change: Future[None] = Future()
        self._closed = False
        self._submitting = 0
        self._gave_up = False
        """Whether a submit was cancelled, so that a task of the block may run without a handle."""

    @overload
    async def submit(self, task: TaskMessage[R], /) -> TaskHandle[R]: ...
    @overload
    async def submit(
        self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
    @overload
    async def submit(
        self, task: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[None]: ...
    @overload
    async def submit(
        self, task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
    @overload
    async def submit(
        self, task: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
    @overload
    async def submit(self, task: str, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...

    async def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submit a task that belongs to this block; see `Client.submit`.

        Raises:
            RuntimeError: The block is not open.
        """
        if self._closed:
            raise RuntimeError("this task nursery is not open")
        message = self._client.message(task, args, kwargs)
        handle: TaskHandle[Any]
        self._submitting += 1
        try:
            (handle,) = await self._client.submit_chunk([message], self._scope)
        except trio.Cancelled:
            self._gave_up = True
            raise
        finally:
            self._submitting -= 1
            self._change.set(None)
        if not handle.existing:
            self._open[handle.id] = handle
            handle.watch().call_when_done(lambda: self._ended(handle))
        return handle

    def _ended(self, handle: TaskHandle[Any]) -> None:
        del self._open[handle.id]
        error = handle.failure()
        if error is not None:
            self._errors.append(error)
            self.cancel_scope.cancel(f"task {handle.name} ({handle.id}) failed")
        self._change.set(None)

    async def _wait(self) -> None:
        """Wait until every task of the block has ended; for its one owner."""
        while self._open or self._submitting:
            self._change = Future()
            await self._change.wait()

    async def _close(self) -> list[Exception]:
        """Take no more tasks, cancel those that are left, and return the failures."""
        self._closed = True
        if self._open or self._gave_up or self._submitting:
            await self._client.end_scope(self._scope)
        return self._errors


@asynccontextmanager
async def open_task_nursery(client: BaseClient) -> AsyncGenerator[TaskNursery, None]:
    """See `Client.open_nursery`."""
    nursery = TaskNursery(client)
    errors: list[BaseException] = []
    try:
        with nursery.cancel_scope:
            yield nursery
            await nursery._wait()
    except BaseException as error:  # noqa: BLE001 - raised again, below
        errors.append(error)
    try:
        errors += await nursery._close()
    except Exception as error:  # noqa: BLE001 - raised below, with what came before it
        errors.append(error)
    if len(errors) == 1 and isinstance(errors[0], trio.Cancelled):
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("exceptions from a task nursery", errors)
    await trio.lowlevel.checkpoint_if_cancelled()
