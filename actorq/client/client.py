"""The verbs. A `Client` is the same over memory and over a wire; a `System` is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

import trio

from actorq.client.batches import Completed, Mapped, Outcomes
from actorq.client.handle import TaskHandle
from actorq.client.nursery import TaskNursery, open_task_nursery
from actorq.client.session import Session
from actorq.codec.pickled import encode_call
from actorq.errors import PayloadTooLarge, SubmitError
from actorq.model import messages as m
from actorq.model.filters import PAGE_MAX, FilterDict, build_filter
from actorq.model.options import number, whole
from actorq.model.records import Cancel
from actorq.model.results import Page, Stats, TaskResult, task_result
from actorq.tasks import EncodedCall, Registry, Task, TaskMessage

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CHUNK = 1_000
"""Tasks that `submit_many` has accepted in one step."""

CANCEL_SLACK = 5.0
"""Seconds that a cancel waits for its answer beyond its grace, before it gives up."""


class Client:
    """Submits tasks to an owner, and asks about them.

    Every verb is idempotent by id, and asks again after a lost connection.
    """

    def __init__(
        self, session: Session, registry: Registry, *, grace: float, max_message: int, chunk: int
    ) -> None:
        self.session = session
        self._registry = registry
        self._grace = grace
        self._max_message = max_message
        self.chunk = chunk
        self._scopes = 0

    # --- submitting ------------------------------------------------------------------------------

    @overload
    async def submit(self, task: TaskMessage[R], /) -> TaskHandle[R]: ...
    @overload
    async def submit(
        self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]: ...
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
        """Hand a task over and return its handle once it is accepted.

        Waits while the queue is full, unless the task says ``when_full="raise"``. Cancelled before
        it was accepted, it also cancels the task; afterwards it returns, and the task goes on.

        Args:
            task: A task, any other callable, a registered name, or a message.
            *args: The function's own arguments.
            **kwargs: Likewise.

        Raises:
            SubmitError: It was not accepted; the subclass says why.
            ActorDied: The system has failed or is closed.
        """
        return await self._submit_one(self.message(task, args, kwargs))

    async def submit_many(self, messages: Iterable[TaskMessage[R]]) -> list[TaskHandle[R]]:
        """Hand many tasks over and return their handles, in order.

        They go in chunks of up to 1 000, each of which is accepted as a whole; at a full queue it
        waits between chunks. Cancelled, the chunk under way is withdrawn and the earlier ones go
        on.

        Raises:
            SubmitError: A chunk was not accepted; ``accepted`` has the handles of those before it.
            ActorDied: The system has failed or is closed.
        """
        handles: list[TaskHandle[R]] = []
        source = iter(messages)
        try:
            while chunk := list(islice(source, self.chunk)):
                handles += await self._submit_chunk(chunk, None)
        except SubmitError as error:
            error.accepted = handles
            raise
        return handles

    def message(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskMessage[Any]:
        """Return the message that a verb's arguments stand for."""
        if isinstance(task, TaskMessage):
            if args or kwargs:
                raise TypeError("a message has its arguments already; submit it without any")
            return task
        return self._registry.resolve(task).message(*args, **kwargs)

    def _submission(self, message: TaskMessage[Any], scope: str | None) -> m.Submission:
        task = message.task
        body: Any = message
        if task.pool == "process":
            call = encode_call(task.name, message.args, message.kwargs)
            if len(call) > self._max_message:
                raise PayloadTooLarge(
                    f"task {task.name}: its arguments take {len(call)} bytes, over max_message="
                    f"{self._max_message}: pass a path or a key to large data instead"
                )
            body = EncodedCall(task, call)
        return m.Submission(message.id, task.name, task.pool, task.settings, scope, body)

    async def _submit_one(self, message: TaskMessage[Any]) -> TaskHandle[Any]:
        submission = self._submission(message, None)
        await trio.lowlevel.checkpoint_if_cancelled()
        ending = self.session.ending(message.id)
        existing = await self._accepted((submission,), message.sent)
        message.sent = True
        return TaskHandle(self, message.id, message.task.name, ending, existing=bool(existing))

    async def _submit_chunk(
        self, messages: Sequence[TaskMessage[Any]], scope: str | None
    ) -> list[TaskHandle[Any]]:
        submissions = tuple([self._submission(message, scope) for message in messages])
        await trio.lowlevel.checkpoint_if_cancelled()
        endings = [self.session.ending(message.id) for message in messages]
        existing = await self._accepted(submissions, any(message.sent for message in messages))
        for message in messages:
            message.sent = True
        return [
            TaskHandle(self, sent.id, sent.task.name, ending, existing=sent.id in existing)
            for sent, ending in zip(messages, endings, strict=True)
        ]

    async def _accepted(self, tasks: tuple[m.Submission, ...], resent: bool) -> Collection[str]:
        """Have these accepted in one step; return the ids of those that had been before.

        Not cancelled once they are: then it returns, after a checkpoint like any other verb.
        """
        session = self.session
        request = m.Submit(session.number(), tasks, resent)
        answer = session.ask(request)
        if answer.done:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return answer.peek() or ()
        try:
            return await answer.wait() or ()
        except trio.Cancelled:
            session.withdraw(request, self._grace)
            raise

    @overload
    async def call(self, task: TaskMessage[R], /) -> R: ...
    @overload
    async def call(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(
        self, task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def call(self, task: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, task: str, /, *args: Any, **kwargs: Any) -> Any: ...

    async def call(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Submit a task, wait for it and return its value, like a function call.

        Cancelling it cancels the task, and waits until that is done: its ``finally`` has run, or
        its grace is over.

        Args:
            task: A task, any other callable, a registered name, or a message.
            *args: The function's own arguments.
            **kwargs: Likewise.

        Raises:
            SubmitError: It was not accepted.
            TaskError: It ended without a value; the subclass says how.
            ActorDied: The system has failed or is closed.
        """
        handle = await self._submit_one(self.message(task, args, kwargs))
        try:
            return await handle.value()
        except trio.Cancelled:
            if not handle.existing:
                with trio.move_on_after(self._grace + CANCEL_SLACK, shield=True):
                    await self._ask(
                        m.CancelTask(
                            self.session.number(),
                            handle.id,
                            Cancel("scope", "its caller was cancelled"),
                            self._grace,
                        )
                    )
            raise

    # --- many ------------------------------------------------------------------------------------

    def as_completed(self, handles: Iterable[TaskHandle[R]]) -> AsyncIterator[TaskResult[R]]:
        """Iterate over the results of tasks in the order in which they end.

        Leaving the loop early does not touch the tasks.

        Raises:
            TaskNotFound: In the loop: one of the ids is unknown or has expired.
            ActorDied: In the loop: the system has failed or is closed.
        """
        return Completed(list(handles))

    @overload
    def map(
        self,
        task: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        limit: int = 100,
        ordered: bool = True,
    ) -> Mapped[T, R]: ...
    @overload
    def map(
        self, task: Callable[[T], R], items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Mapped[T, R]: ...

    def map(
        self, task: Any, items: Iterable[Any], *, limit: int = 100, ordered: bool = True
    ) -> Any:
        """Run a task for every item and iterate over the values; use it with ``async with``.

        At most ``limit`` items are submitted and not yet yielded, so a slow reader holds back the
        tasks, and an endless ``items`` is fine. The first task that fails raises its error at its
        turn. Leaving the block cancels what is still running and waits for that.

        Args:
            task: A task or any other callable of one argument.
            items: Taken one by one, as there is room.
            limit: How far it reads ahead.
            ordered: Whether values come in the order of the items, or as their tasks end.
        """
        return Mapped(self, self._registry.resolve(task), items, whole("limit", limit), ordered)

    @overload
    def map_results(
        self,
        task: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        limit: int = 100,
        ordered: bool = True,
    ) -> Outcomes[T, R]: ...
    @overload
    def map_results(
        self, task: Callable[[T], R], items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Outcomes[T, R]: ...

    def map_results(
        self, task: Any, items: Iterable[Any], *, limit: int = 100, ordered: bool = True
    ) -> Any:
        """Like `map`, but yields every task's `TaskResult`: a failed one is no error."""
        return Outcomes(self, self._registry.resolve(task), items, whole("limit", limit), ordered)

    def open_nursery(self) -> AbstractAsyncContextManager[TaskNursery]:
        """Open a block that owns tasks; ``async with system.open_nursery() as nursery``.

        Like a trio nursery: leaving waits for all of its tasks; the first failure cancels the
        others and the block, and an ExceptionGroup is raised when all of them have ended.
        """
        return open_task_nursery(self)

    def new_scope(self) -> str:
        """Return the name of a new scope, unique for this client."""
        self._scopes += 1
        return f"{self.session.name}:{self._scopes}"

    async def submit_scoped(
        self, messages: Sequence[TaskMessage[R]], scope: str
    ) -> list[TaskHandle[R]]:
        """Submit at most one chunk of tasks that end with ``scope``."""
        return await self._submit_chunk(messages, scope)

    async def end_scope(self, scope: str) -> None:
        """Cancel what is left of a scope and wait for that, shielded but not for ever."""
        with trio.move_on_after(self._grace + CANCEL_SLACK, shield=True):
            await self._ask(m.EndScope(self.session.number(), scope, self._grace))

    # --- by id -----------------------------------------------------------------------------------

    @overload
    def handle(self, id: str, task: Task[..., R]) -> TaskHandle[R]: ...
    @overload
    def handle(self, id: str, task: None = None) -> TaskHandle[Any]: ...

    def handle(self, id: str, task: Task[..., Any] | None = None) -> TaskHandle[Any]:
        """Return a handle of a task by its id, without asking anybody.

        Args:
            id: The task's id.
            task: Whose value it has, for the type checker's sake.
        """
        name = "" if task is None else task.name
        return TaskHandle(self, id, name, self.session.ending(id), existing=True, watched=False)

    async def result(self, id: str) -> TaskResult[Any]:
        """Return what is known of a task now; never waits for it.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        snapshot = await self.snapshot(id)
        return task_result(snapshot.head, snapshot.output)

    async def snapshot(self, id: str) -> m.Snapshot:
        """Return the owner's own view of a task, for handles."""
        snapshot: m.Snapshot = await self._ask(m.Inspect(self.session.number(), _task_id(id)))
        return snapshot

    async def cancel(
        self, id: str, reason: str | None = None, *, grace: float | None = None
    ) -> TaskResult[Any]:
        """Cancel a task and return its terminal result.

        One that waits never runs. A coroutine is cancelled and its ``finally`` runs; a process is
        killed; a thread is flagged (``current().cancelled``) and abandoned after ``grace``. A task
        that has ended, or ends by itself meanwhile, keeps its result.

        Cancelling this verb does not take the cancel back.

        Args:
            id: The task's id.
            reason: What to tell those who ask why.
            grace: Seconds after which it is recorded as cancelled though it has not confirmed it;
                by default the system's.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason must be a string, not {reason!r}")
        patience = self._grace if grace is None else number("grace", grace)
        snapshot: m.Snapshot = await self._ask(
            m.CancelTask(self.session.number(), _task_id(id), Cancel("user", reason), patience)
        )
        return task_result(snapshot.head, snapshot.output)

    # --- by filter -------------------------------------------------------------------------------

    async def find(
        self, *, limit: int = 100, cursor: str | None = None, **which: Unpack[FilterDict]
    ) -> Page:
        """Return a page of the tasks that fit every keyword, newest first.

        Args:
            limit: The page's size, up to 1 000.
            cursor: The ``next`` of the page before.
            **which: See `FilterDict`.

        Raises:
            TypeError: A keyword of the wrong type; the message names it.
            ValueError: One out of range; the message names it.
            ActorDied: The system has failed or is closed.
        """
        wanted = build_filter(**which)
        size = whole("limit", limit, most=PAGE_MAX)
        found = await self._ask(m.Find(self.session.number(), wanted, cursor, size))
        tasks = [task_result(record.head, record.output) for record in found.records]
        return Page(tasks, found.next, found.scanned)

    async def cancel_many(
        self, *, dry_run: bool = False, reason: str | None = None, **which: Unpack[FilterDict]
    ) -> int:
        """Cancel every live task that fits; return how many, without waiting for running ones.

        With ``dry_run`` it only counts. See `find` for the keywords; ask for everything by
        ``status=["scheduled", "pending", "running"]``.
        """
        return await self._bulk("cancel", which, dry_run, Cancel("user", reason))

    async def retry(self, *, dry_run: bool = False, **which: Unpack[FilterDict]) -> int:
        """Start a new run of every failed or cancelled task that fits; return how many.

        The id stays; attempts, deadline and expiry begin again. A handle that has seen an outcome
        keeps it. With ``dry_run`` it only counts. See `find` for the keywords; ask for everything
        by ``status="failure"``.
        """
        return await self._bulk("retry", which, dry_run)

    async def discard(self, *, dry_run: bool = False, **which: Unpack[FilterDict]) -> int:
        """Forget every ended task that fits, its result included; return how many.

        With ``dry_run`` it only counts. See `find` for the keywords.
        """
        return await self._bulk("discard", which, dry_run)

    async def _bulk(
        self, verb: m.Verb, which: FilterDict, dry_run: bool, cancel: Cancel | None = None
    ) -> int:
        wanted = build_filter(**which)
        if wanted.everything:
            raise ValueError(f"{verb}: say which tasks, by status=, task=, queue=, ids= or a time")
        count: int = await self._ask(
            m.Bulk(self.session.number(), verb, wanted, dry_run, cancel, self._grace)
        )
        return count

    # --- the whole -------------------------------------------------------------------------------

    async def stats(self) -> Stats:
        """Return counts of tasks by queue and of slots by pool.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        return cast(Stats, await self._ask(m.GetStats(self.session.number())))

    async def join(self) -> None:
        """Wait until no task is live: none scheduled, pending or running.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        await self._ask(m.Join(self.session.number()))

    async def _ask(self, request: m.Request) -> Any:
        """Ask and wait for the answer; always a checkpoint, and cancellable."""
        await trio.lowlevel.checkpoint_if_cancelled()
        answer = self.session.ask(request)
        try:
            return await answer.wait()
        except trio.Cancelled:
            self.session.forget(request)
            raise


def _task_id(id: object) -> str:
    if not isinstance(id, str):
        raise TypeError(f"id must be a task's id, a string, not {id!r}")
    return id
