"""The verbs. A `Client` is the same over memory and over a wire; a `System` is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import islice
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

import trio

from actorq.client.base import NOT_ACCEPTED, why
from actorq.client.batches import Completed, Mapped, Outcomes
from actorq.client.feed import Subscription
from actorq.client.handle import TaskHandle
from actorq.client.nursery import TaskNursery, open_task_nursery
from actorq.client.operating import OperatingClient
from actorq.errors import ActorqError
from actorq.model import messages as m
from actorq.model.checks import whole
from actorq.model.filters import PAGE_MAX, FilterDict, SubscriptionDict, build_filter
from actorq.model.ids import is_made
from actorq.model.records import Cancel
from actorq.model.results import Page, Stats, TaskInfo, TaskResult
from actorq.model.status import TaskStatus
from actorq.model.tree import ActorTree
from actorq.tasks import Task, TaskMessage

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_FITTING: Mapping[m.Verb, frozenset[TaskStatus]] = {
    "cancel": frozenset(status for status in TaskStatus if not status.terminal),
    "retry": frozenset({TaskStatus.FAILURE, TaskStatus.CANCELLED}),
    "discard": frozenset(status for status in TaskStatus if status.terminal),
}
"""Which tasks each verb can be about."""


class Client(OperatingClient):
    """Submits tasks to an owner, and asks about them.

    Every verb is idempotent by id, and asks again after a lost connection. While the store cannot
    be read or written, each raises `StoreUnavailable` (`OwnedElsewhere`, if another process owns
    it): what was asked may have been done, and may be asked again.
    """

    # --- submitting ------------------------------------------------------------------------------

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
        """Hand a task over and return its handle once it is accepted.

        Waits while the queue is full, unless the task says ``when_full="raise"``. Cancelled before
        it was accepted, it also cancels the task; afterwards it returns, and the task goes on.

        Args:
            task: A task, any other callable, a registered name, or a message.
            *args: The function's own arguments.
            **kwargs: Likewise.

        Raises:
            SubmitError: It was not accepted; the subclass says why.
            TaskNotFound: It comes after a task, or needs the output of one, that is not known.
            StoreUnavailable: Nobody knows whether it was accepted; the same message
                (``task.message(...)``) may be submitted again, and is accepted once.
            ActorDied: The system has failed or is closed.
        """
        return await self.submit_one(self.message(task, args, kwargs))

    async def submit_many(self, messages: Iterable[TaskMessage[R]]) -> list[TaskHandle[R]]:
        """Hand many tasks over and return their handles, in order.

        They go in chunks of up to 1 000, each of which is accepted as a whole; at a full queue it
        waits between chunks. Cancelled, the chunk under way is withdrawn and the earlier ones go
        on.

        Raises:
            SubmitError: A chunk was not accepted; ``accepted`` has the handles of those before it.
            TaskNotFound: Likewise: one comes after a task, or needs the output of one, that is not
                known.
            StoreUnavailable: Likewise, as far as is known: see `submit`.
            ActorDied: The system has failed or is closed.
        """
        handles: list[TaskHandle[R]] = []
        source = iter(messages)
        try:
            while chunk := list(islice(source, self.chunk)):
                handles += await self.submit_chunk(chunk, None)
        except NOT_ACCEPTED as error:
            error.accepted = [*handles, *error.accepted]
            raise
        return handles

    @overload
    async def call(self, task: TaskMessage[R], /) -> R: ...
    @overload
    async def call(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(
        self, task: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
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
        message = self.message(task, args, kwargs)
        scope = self.session.new_scope()
        try:
            (handle,) = await self.submit_chunk((message,), scope, to_end=True)
            return handle.peek_value() if handle.watch().done else await handle.value()
        except trio.Cancelled:
            # Its scope holds the task, unless that was somebody else's, or has ended.
            with suppress(ActorqError):
                await self.end_scope(scope, "its caller was cancelled")
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
        self, task: Task[[T], R], items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Mapped[T, R]: ...
    @overload
    def map(
        self,
        task: Callable[[T], AsyncIterator[Any]],
        items: Iterable[T],
        *,
        limit: int = 100,
        ordered: bool = True,
    ) -> Mapped[T, None]: ...
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
    @overload
    def map(
        self, task: str, items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Mapped[T, Any]: ...

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
        self, task: Task[[T], R], items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Outcomes[T, R]: ...
    @overload
    def map_results(
        self,
        task: Callable[[T], AsyncIterator[Any]],
        items: Iterable[T],
        *,
        limit: int = 100,
        ordered: bool = True,
    ) -> Outcomes[T, None]: ...
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
    @overload
    def map_results(
        self, task: str, items: Iterable[T], *, limit: int = 100, ordered: bool = True
    ) -> Outcomes[T, Any]: ...

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
        if cursor is not None and not isinstance(cursor, str):
            raise TypeError(f"cursor must be the 'next' of another page, not {cursor!r}")
        if cursor is not None and not is_made(cursor):  # or it would be the first page for ever
            raise ValueError(f"cursor must be the 'next' of another page, not {cursor!r}")
        found = await self.ask(m.Find(self.session.number(), wanted, cursor, size))
        tasks = [self.session.result(task) for task in found.tasks]
        return Page(tasks, found.next, found.scanned)

    @asynccontextmanager
    async def subscribe(
        self, *, buffer: int = 1_000, **which: Unpack[SubscriptionDict]
    ) -> AsyncGenerator[Subscription, None]:
        """Open a block in which one can iterate over what happens to tasks.

        First comes a `Snapshot`, then a `TaskEvent` for everything that happens from that moment
        on, in order and with no gap. A reader that is more than ``buffer`` events behind gets
        `Lagged` with the number of those that were dropped, and goes on; events that say that a
        task has ended are never dropped. After a crash of the queue actor there is another
        snapshot, and then every end that was missed.

        A filter by ``task`` or ``status`` counts the live tasks one by one for its snapshot.

        Args:
            buffer: Events that wait for the reader, besides those that say that a task has ended.
            **which: See `SubscriptionDict`; none of them is about all tasks.

        Raises:
            ActorDied: In the loop: the system has failed or is closed.
            trio.BusyResourceError: In the loop: another coroutine waits for the next event already.
            trio.ClosedResourceError: In the loop: the block was left.
            TypeError: A keyword of the wrong type; the message names it.
            ValueError: One out of range; the message names it.
        """
        unknown = which.keys() - SubscriptionDict.__annotations__.keys()
        if unknown:
            known = ", ".join(SubscriptionDict.__annotations__)
            raise TypeError(f"subscribe: unknown keyword {min(unknown)!r}; there are {known}")
        wanted = build_filter(**which)
        subscription = Subscription(self.session, wanted, whole("buffer", buffer))
        await trio.lowlevel.checkpoint()
        number = self.session.listen(subscription)
        try:
            yield subscription
        finally:
            self.session.stop_listening(number)

    async def cancel_many(
        self, *, dry_run: bool = False, reason: str | None = None, **which: Unpack[FilterDict]
    ) -> int:
        """Cancel every live task that fits; return how many, without waiting for running ones.

        With ``dry_run`` it only counts. See `find` for the keywords, and for what they raise; ask
        for everything by ``status=["scheduled", "waiting", "pending", "running"]``. No keyword at
        all, or a status of tasks that have ended, is a ValueError.
        """
        return await self._bulk("cancel", which, dry_run, Cancel("user", why(reason)))

    async def retry(self, *, dry_run: bool = False, **which: Unpack[FilterDict]) -> int:
        """Start a new run of every failed or cancelled task that fits; return how many.

        The id stays; attempts, deadline and expiry begin again. A handle that has seen an outcome
        keeps it. With ``dry_run`` it only counts. See `find` for the keywords, and for what they
        raise; ask for everything that failed by ``status="failure"``. No keyword at all, or a
        status of tasks that neither failed nor were cancelled, is a ValueError.
        """
        return await self._bulk("retry", which, dry_run)

    async def discard(self, *, dry_run: bool = False, **which: Unpack[FilterDict]) -> int:
        """Forget every ended task that fits, its result included; return how many.

        With ``dry_run`` it only counts. See `find` for the keywords, and for what they raise. No
        keyword at all, or a status of live tasks, is a ValueError.
        """
        return await self._bulk("discard", which, dry_run)

    async def _bulk(
        self, verb: m.Verb, which: FilterDict, dry_run: bool, cancel: Cancel | None = None
    ) -> int:
        wanted = build_filter(**which)
        if wanted.everything:
            raise ValueError(
                f"{verb}: say which tasks, by status=, task=, queue=, key=, ids= or a time"
            )
        wrong = (wanted.statuses or frozenset()) - _FITTING[verb]
        if wrong:
            words = ", ".join(repr(str(s)) for s in TaskStatus if s in _FITTING[verb])
            raise ValueError(f"{verb}: filter 'status' must be of {words}, not {str(min(wrong))!r}")
        count: int = await self.ask(
            m.Bulk(self.session.number(), verb, wanted, dry_run, cancel, self.grace)
        )
        return count

    # --- the whole -------------------------------------------------------------------------------

    async def stats(self) -> Stats:
        """Return counts of tasks by queue and of slots by pool.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        return cast(Stats, await self.ask(m.GetStats(self.session.number())))

    async def tree(self) -> ActorTree:
        """Return a snapshot of the queue node's actors and of its workers; ``print`` draws it.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        return cast(ActorTree, await self.ask(m.GetTree(self.session.number())))

    async def tasks(self) -> list[TaskInfo]:
        """Return every task's name that a worker knows or a submission waits under.

        Workers of a closed system run whatever is submitted, so there are none but those that wait.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        return cast(list[TaskInfo], await self.ask(m.GetTasks(self.session.number())))

    async def join(self) -> None:
        """Wait until no task is live: none scheduled, waiting, pending or running.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        await self.ask(m.Join(self.session.number()))
