"""What every verb of a client rests on: accepting tasks, scopes, and questions by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar, overload

import trio

from actorq.client.handle import TaskHandle
from actorq.client.session import Ending, Session, lost_scope
from actorq.codec import payload
from actorq.codec.options import copied, pack_options
from actorq.codec.pickled import encode_call
from actorq.codec.references import ALIVE, blanked, check_places
from actorq.errors import (
    ActorqError,
    EncodeError,
    OwnedElsewhere,
    PayloadTooLarge,
    StoreUnavailable,
    SubmitError,
    TaskNotFound,
    readable,
)
from actorq.model import messages as m
from actorq.model.checks import number
from actorq.model.ids import ID_MAX, can_be_id
from actorq.model.records import Cancel
from actorq.model.results import TaskDone, TaskResult
from actorq.registry import Registry, check_installed
from actorq.runtime.future import Future
from actorq.runtime.ref import ActorRef
from actorq.tasks import Call, EncodedCall, NamedTask, Task, TaskMessage

R = TypeVar("R")

REASON_MAX = 10_000

NOT_ACCEPTED = (SubmitError, TaskNotFound, StoreUnavailable)
"""What says that a submit was refused, and what was accepted before it."""

CANCEL_SLACK = 5.0
"""Seconds that a cancel waits for its answer beyond its grace, before it gives up."""


class BaseClient:
    """The part of a `actorq.Client` that its handles and blocks use.

    Attributes:
        session: Its side of the connection.
        grace: Seconds that a cancelled task has by default.
        chunk: The most tasks that are accepted in one step.
    """

    def __init__(
        self,
        session: Session,
        registry: Registry,
        *,
        grace: float,
        max_message: int,
        chunk: int,
        encode: bool = False,
        slack: float = 0.0,
    ) -> None:
        """See the class for the attributes.

        Args:
            session: See the class.
            registry: The tasks that are known here.
            grace: See the class.
            max_message: Bound on an encoded call, in bytes.
            chunk: See the class.
            encode: Whether calls travel, and are encoded when they are submitted.
            slack: Seconds that an answer may take longer because the owner is elsewhere.
        """
        self.session = session
        self._registry = registry
        self.grace = grace
        self._max_message = max_message
        self.chunk = chunk
        self._encode = encode
        self._slack = CANCEL_SLACK + slack

    def message(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskMessage[Any]:
        """Return the message that a verb's arguments stand for."""
        if isinstance(task, TaskMessage):
            if args or kwargs:
                raise TypeError("a message has its arguments already; submit it without any")
            return task
        return self._registry.resolve(task).message(*args, **kwargs)

    def _submission(self, message: TaskMessage[Any], scope: str | None) -> m.Submission:
        if not isinstance(message, TaskMessage):
            raise TypeError(f"a batch takes messages, as of task.message(...), not {message!r}")
        call = message.call
        needs: tuple[str, ...] = ()
        if ALIVE:
            args, kwargs, needs = blanked(call.args, call.kwargs)
            call = Call(call.task, args, kwargs) if needs else call
        if self._encode:
            return self._encoded(message.id, call, scope, needs)
        task = call.task
        body: Call[Any] | EncodedCall = call
        if task.pool == "process":
            check_installed(task)  # in a closed system nobody else can run it
            encoded = encode_call(task.name, call.args, call.kwargs)
            encode_call(task.name, (), {"meta": dict(task.settings.meta)})  # it travels too
            self._check_size(task.name, len(encoded))
            body = EncodedCall(task, encoded)
        elif ALIVE:
            check_places(task.name, call.args, call.kwargs)
        options = task.settings
        if options.callback is not None:
            options = self._registry.keepable(options, encode=self._encode)
        return m.Submission(message.id, task.name, task.pool, options, scope, body, needs)

    def _encoded(
        self, id: str, call: Call[Any], scope: str | None, needs: tuple[str, ...]
    ) -> m.Submission:
        """Return a submission that can go anywhere."""
        task = call.task
        if isinstance(task, NamedTask):
            body = payload.encode_call(task.name, call.args, call.kwargs)
        else:
            self._registry.learn(task)
            body = task.signature.encode_call(call.args, call.kwargs)
        options = task.settings
        if options.callback is not None:
            options = self._registry.keepable(options, encode=self._encode)
        options = copied(options)
        submission = m.Submission(id, task.name, task.pool, options, scope, body, needs)
        self._check_size(task.name, _size(submission))
        return submission

    def _check_size(self, name: str, size: int) -> None:
        if size > self._max_message:
            raise PayloadTooLarge(
                f"task {name}: its arguments take {size} bytes, over max_message="
                f"{self._max_message}: pass a path or a key to large data instead"
            )

    def _call_back(
        self, message: TaskMessage[Any], ending: Future[Ending], actor: ActorRef[TaskDone]
    ) -> None:
        """Have an actor told how a task has ended; from here, where the actor is."""
        data = message.task.settings.callback_data

        def tell() -> None:
            try:
                outcome = ending.peek()
            except ActorqError as error:
                actor._dead_letter(message, str(error))
                return
            try:
                result = self.session.result(outcome)
            except EncodeError as error:
                actor._dead_letter(message, str(error))
                return
            actor._deliver(TaskDone(result, data))

        self.session.keep(ending)
        ending.call_when_done(tell)

    async def submit_one(self, message: TaskMessage[R]) -> TaskHandle[R]:
        """Have one task accepted."""
        return (await self.submit_chunk((message,), None))[0]

    async def submit_chunk(
        self,
        messages: Sequence[TaskMessage[R]],
        scope: str | None,
        *,
        to_end: bool = False,
        withdraw: bool = True,
    ) -> list[TaskHandle[R]]:
        """Have at most one chunk of tasks accepted; they end with ``scope``.

        In one step, or, if they are too large for one message, in several.
        Not cancelled once they are: then it returns, after a checkpoint like any other verb.
        Cancelled before, it withdraws them, unless the caller submits the same messages again, or
        ends their scope.

        With ``to_end`` it may return only when this one task has ended, to be woken once and not
        twice; if it returns before that, the caller has its checkpoint when it waits for the end.
        """
        if self.session.is_lost(scope):
            raise lost_scope()
        submissions = [self._submission(message, scope) for message in messages]
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._encode or len(messages) == 1:
            return await self._submit(messages, submissions, withdraw, to_end)
        handles: list[TaskHandle[R]] = []
        for part in self._fitting(submissions):
            try:
                handles += await self._submit(messages[part], submissions[part], withdraw)
            except NOT_ACCEPTED as error:
                error.accepted = handles
                raise
            except trio.Cancelled:
                if withdraw:
                    ours = tuple(handle.id for handle in handles if not handle.existing)
                    self.session.withdraw_all(ours, self.grace)
                raise
        return handles

    def _fitting(self, submissions: Sequence[m.Submission]) -> Iterator[slice]:
        """Cut a chunk into pieces of which each fits into one message."""
        start = size = 0
        for place, submission in enumerate(submissions):
            one = _size(submission)
            if size + one > self._max_message and place > start:
                yield slice(start, place)
                start, size = place, 0
            size += one
        yield slice(start, len(submissions))

    def _request(
        self, messages: Sequence[TaskMessage[Any]], submissions: Sequence[m.Submission]
    ) -> m.Submit:
        """Return the request that these are accepted, with what is known of an earlier one."""
        session = self.session
        resent = False
        lineage, stamp = session.lineage, session.stamp()
        for message in messages:
            if message.sent:
                # An answer to the first time may have come, or been given up: of both, the records
                # tell and nothing else.
                resent, lineage = True, (message.lineage or "").partition("/")[0] or None
                stamp = _earlier(stamp, session.begun if message.stamp is None else message.stamp)
            else:
                message.sent, message.lineage, message.stamp = True, session.lineage, stamp
        return m.Submit(session.number(), tuple(submissions), resent, lineage, stamp)

    async def _submit(
        self,
        messages: Sequence[TaskMessage[R]],
        submissions: Sequence[m.Submission],
        withdraw: bool,
        to_end: bool = False,
    ) -> list[TaskHandle[R]]:
        session = self.session
        request = self._request(messages, submissions)
        endings = [session.ending(message.id) for message in messages]
        answer = session.ask(request)
        admitted: m.Admitted | None
        try:
            if answer.done:
                if not to_end or endings[0].done:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                admitted = answer.peek()
            else:
                admitted = await (
                    _answer_or_end(messages[0], answer, endings[0]) if to_end else answer.wait()
                )
        except trio.Cancelled:
            # What was accepted long ago is not ours to cancel.
            ours = tuple(message.id for message in messages if not message.accepted)
            session.withdraw(request, ours if withdraw else (), self.grace)
            raise
        except (SubmitError, TaskNotFound):
            if not request.resent:
                for message in messages:
                    message.sent = message.accepted  # the owner does not know what it refuses
            raise
        known: tuple[str, ...] = ()
        instead: dict[str, str] = {}
        if admitted is not None:
            known, instead = admitted.known, admitted.instead
        handles: list[TaskHandle[R]] = []
        for message, ending in zip(messages, endings, strict=True):
            name = message.call.task.name
            if instead and message.id in instead:
                message.sent = request.resent  # the owner does not know it
                id = instead[message.id]
                handles.append(TaskHandle(self, id, name, session.ending(id), existing=True))
                continue
            existing = message.accepted and message.id in known
            handles.append(TaskHandle(self, message.id, name, ending, existing=existing))
            callback = message.call.task.settings.callback
            if callback is not None and not existing and isinstance(callback, ActorRef):
                self._call_back(message, ending, callback)
            message.accepted = True
            message.lineage = message.lineage or session.lineage
        if instead:
            session.watch(tuple(dict.fromkeys(instead.values())))
        return handles

    async def end_scope(self, scope: str, reason: str | None = None) -> None:
        """Cancel what is left of a scope and wait for that, shielded but not for ever."""
        # (Another owner ends by itself what a client has open that does not come.)
        bound = trio.move_on_after(self.grace + self._slack, shield=True)
        with bound, suppress(OwnedElsewhere):
            await self.ask(m.EndScope(self.session.number(), scope, self.grace, reason))

    # --- by id -----------------------------------------------------------------------------------

    @overload
    def handle(self, id: str, task: Task[..., R]) -> TaskHandle[R]: ...
    @overload
    def handle(self, id: str, task: None = None) -> TaskHandle[Any]: ...

    def handle(self, id: str, task: Task[..., Any] | None = None) -> TaskHandle[Any]:
        """Return a handle of a task by its id, without asking anybody.

        Args:
            id: The task's id.
            task: Whose value it has: for the type checker, and to read it by.
        """
        name = "" if task is None else task.name
        read = None if task is None or not self._encode else task.signature.decode_value
        ending = self.session.ending(id)
        return TaskHandle(self, id, name, ending, existing=True, watched=False, read=read)

    async def result(self, id: str) -> TaskResult[Any]:
        """Return what is known of a task now; never waits for it.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        snapshot = await self.snapshot(id)
        return self.session.result(snapshot)

    async def snapshot(self, id: str) -> m.Snapshot:
        """Return the owner's own view of a task, for handles."""
        snapshot: m.Snapshot = await self.ask(m.Inspect(self.session.number(), _task_id(id)))
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
        patience = self.grace if grace is None else number("grace", grace)
        snapshot: m.Snapshot = await self.ask(
            m.CancelTask(self.session.number(), _task_id(id), Cancel("user", why(reason)), patience)
        )
        return self.session.result(snapshot)

    async def ask(self, request: m.Request) -> Any:
        """Ask and wait for the answer; always a checkpoint, and cancellable."""
        await trio.lowlevel.checkpoint_if_cancelled()
        answer = self.session.ask(request)
        try:
            return await answer.wait()
        except trio.Cancelled:
            self.session.forget(request)
            raise


async def _answer_or_end(
    message: TaskMessage[Any], answer: Future[m.Admitted | None], ending: Future[Ending]
) -> m.Admitted | None:
    """Return the answer to a submit; a plain yes not before the task has ended.

    Cancelled after that yes, it returns it.
    """
    news: Future[None] = Future()

    def look() -> None:
        if answer.plain:
            message.accepted = True  # for those who submit it too, meanwhile
        else:
            news.set(None)

    answer.call_when_done(look)
    ending.call_when_done(lambda: news.set(None))
    try:
        await news.wait()
    except trio.Cancelled:
        if not answer.done:
            raise
    return answer.peek() if answer.done else await answer.wait()


def _size(submission: m.Submission) -> int:
    """Return the bytes of a submission that travels.

    Raises:
        EncodeError: An option cannot travel.
    """
    size = len(submission.body) + len(pack_options(submission.options))
    if submission.needs:
        size += sum(len(id.encode()) + 2 for id in submission.needs)
    return size


def _earlier(stamp: float | None, other: float | None) -> float | None:
    """Return the earlier of two times of which one or both may not be known."""
    if stamp is None or other is None:
        return other if stamp is None else stamp
    return min(stamp, other)


def _task_id(id: object) -> str:
    if not isinstance(id, str):
        raise TypeError(f"id must be a task's id, a string, not {id!r}")
    if not can_be_id(id):
        raise TaskNotFound(readable(id[:ID_MAX]))
    return id


def why(reason: str | None) -> str | None:
    """Return a reason as it can go anywhere: text, and not too much of it.

    Raises:
        TypeError: It is no text.
    """
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason must be a string, not {reason!r}")
    return None if reason is None else readable(reason)[:REASON_MAX]
