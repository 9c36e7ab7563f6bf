"""Batches of messages to bytes and back.

A batch is a MessagePack array of messages, a message an array of its tag and its fields. Most
messages are their own form; those that hold what the wire has no word for (options, errors, heads)
have a form here. Calls and values are bytes that nobody on the way looks into.

Everything that arrives is checked against its form before anybody sees it. Fields beyond those that
are known are ignored, and so are messages with an unknown tag that begins with ``x-``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from actorq import errors
from actorq.codec.options import pack_options, unpack_options
from actorq.codec.payload import decode_plain, encode_plain
from actorq.errors import ActorqError, RemoteError, SubmitError
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent, TaskEventKind, TrackedEvent
from actorq.model.records import Cancel, Done, Head, Output, Pool, TrackedHead
from actorq.model.results import Progress, Stats, TaskInfo
from actorq.model.status import FailureKind, TaskStatus
from actorq.model.tree import ActorTree


class WireError(ActorqError):
    """What came over a connection is no message."""


# --- forms ---------------------------------------------------------------------------------------


class _Head(Struct, frozen=True, gc=False, array_like=True):
    id: str
    name: str
    options: bytes
    pool: Pool
    scope: str | None
    submitted_at: float
    since: float
    rank: float
    due: float
    status: TaskStatus
    fence: int
    attempts: int
    deaths: int
    worker: str | None
    started_at: float | None
    completed_at: float | None
    keep_until: float | None
    cancel: Cancel | None


class _Output(Struct, frozen=True, gc=False, array_like=True):
    value: bytes | None
    error: RemoteError | None = None
    kind: FailureKind | None = None


class _Task(Struct, frozen=True, gc=False, array_like=True):
    id: str
    name: str
    pool: Pool
    options: bytes
    scope: str | None
    body: bytes


class _Submit(Struct, frozen=True, gc=False, array_like=True, tag="submit"):
    request: int
    tasks: tuple[_Task, ...]
    resent: bool
    lineage: str | None


class _Done(Struct, frozen=True, gc=False, array_like=True):
    head: _Head
    output: _Output | None
    data: bytes


class _Grant(Struct, frozen=True, gc=False, array_like=True, tag="grant"):
    id: str
    name: str
    options: bytes
    pool: Pool
    fence: int
    attempts: int
    remaining: float | None
    body: bytes | None
    done: _Done | None = None


class _Finish(Struct, frozen=True, gc=False, array_like=True, tag="finish"):
    id: str
    fence: int
    cause: m.FinishCause
    output: _Output
    started_at: float | None
    retryable: bool
    delay: float


class _Outcome(Struct, frozen=True, gc=False, array_like=True, tag="outcome"):
    head: _Head
    output: _Output | None


class _Snapshot(Struct, frozen=True, gc=False, array_like=True):
    head: _Head
    output: _Output | None
    progress: Progress | None
    unknown: bool = False


class _Page(Struct, frozen=True, array_like=True):
    tasks: list[_Snapshot]
    next: str | None
    scanned: int


class _Standing(Struct, frozen=True, array_like=True):
    at: float
    counts: dict[TaskStatus, int]
    tasks: tuple[_Snapshot, ...]


class _Event(Struct, frozen=True, gc=False, array_like=True):
    kind: TaskEventKind
    head: _Head
    time: float
    progress: Progress | None
    error: RemoteError | None


class _News(Struct, frozen=True, array_like=True, tag="news"):
    subscription: int
    events: list[_Event]


class _Refusal(Struct, frozen=True, array_like=True):
    type: str
    message: str


class _Reply(Struct, frozen=True, array_like=True, tag="reply"):
    """``kind`` says what ``value`` is; see `_ANSWERS`."""

    request: int
    kind: str
    value: Raw


class Malformed(Struct, frozen=True):
    """A request that was understood, but for its content; it is answered by its ``error``."""

    request: int
    error: SubmitError


_encode = msgspec.msgpack.Encoder().encode


# --- heads, outputs, refusals --------------------------------------------------------------------


def _pack_head(head: Head) -> _Head:
    return _Head(
        head.id,
        head.name,
        pack_options(head.options),
        head.pool,
        head.scope,
        head.submitted_at,
        head.since,
        head.rank,
        head.due,
        head.status,
        head.fence,
        head.attempts,
        head.deaths,
        head.worker,
        head.started_at,
        head.completed_at,
        head.keep_until,
        head.cancel,
    )


def _unpack_head(form: _Head) -> Head:
    options = unpack_options(form.options)
    kind = TrackedHead if options.meta else Head
    return kind(
        form.id,
        form.name,
        options,
        form.pool,
        form.scope,
        form.submitted_at,
        form.since,
        form.rank,
        form.due,
        form.status,
        form.fence,
        form.attempts,
        form.deaths,
        form.worker,
        form.started_at,
        form.completed_at,
        form.keep_until,
        form.cancel,
    )


def _pack_output(output: Output | None) -> _Output | None:
    return None if output is None else _Output(output.value, output.error, output.kind)


def _unpack_output(form: _Output | None) -> Output | None:
    return None if form is None else Output(form.value, form.error, form.kind)


def _pack_snapshot(snapshot: m.Snapshot) -> _Snapshot:
    output = _pack_output(snapshot.output)
    return _Snapshot(_pack_head(snapshot.head), output, snapshot.progress, snapshot.unknown)


def _unpack_snapshot(form: _Snapshot) -> m.Snapshot:
    head, output = _unpack_head(form.head), _unpack_output(form.output)
    return m.Snapshot(head, output, form.progress, form.unknown)


def _pack_error(error: Exception) -> _Refusal:
    if isinstance(error, errors.TaskNotFound):
        return _Refusal("TaskNotFound", error.id)
    return _Refusal(type(error).__name__, str(error))


def _unpack_error(form: _Refusal) -> Exception:
    kind = getattr(errors, form.type, None)
    if isinstance(kind, type) and issubclass(kind, (errors.SubmitError, errors.TaskNotFound)):
        return kind(form.message)
    if kind is errors.ActorDied:
        return errors.ActorDied(form.message)
    return ActorqError(f"{form.type}: {form.message}")


# --- messages ------------------------------------------------------------------------------------


def _pack_submit(submit: m.Submit) -> _Submit:
    tasks = tuple(
        [
            _Task(t.id, t.name, t.pool, pack_options(t.options), t.scope, t.body)
            for t in submit.tasks
        ]
    )
    return _Submit(submit.request, tasks, submit.resent, submit.lineage)


def _unpack_submit(form: _Submit) -> m.Submit | Malformed:
    try:
        tasks = tuple(
            [
                m.Submission(t.id, t.name, t.pool, unpack_options(t.options), t.scope, t.body)
                for t in form.tasks
            ]
        )
    except SubmitError as error:
        return Malformed(form.request, error)
    return m.Submit(form.request, tasks, form.resent, form.lineage)


def _pack_grant(grant: m.Grant) -> _Grant:
    head, body, done = grant.head, grant.body, None
    if type(body) is Done:
        data = encode_plain(body.data, "callback_data")
        done = _Done(_pack_head(body.head), _pack_output(body.output), data)
        body = None
    return _Grant(
        head.id,
        head.name,
        pack_options(head.options),
        head.pool,
        head.fence,
        head.attempts,
        grant.remaining,
        body,
        done,
    )


def _unpack_grant(form: _Grant) -> m.Grant:
    """Return a grant whose head holds no more than a worker needs."""
    body: Any = form.body
    if form.done is not None:
        head, output = _unpack_head(form.done.head), _unpack_output(form.done.output)
        body = Done(None, head, output, decode_plain(form.done.data))
    options = unpack_options(form.options)
    status = TaskStatus.RUNNING
    head = TrackedHead(
        form.id, form.name, options, form.pool, None, 0.0, 0.0, 0.0, 0.0, status, form.fence,
        form.attempts,
    )  # fmt: skip
    return m.Grant(head, body, form.remaining)


def _pack_finish(finish: m.Finish) -> _Finish:
    output = finish.output
    return _Finish(
        finish.id,
        finish.fence,
        finish.cause,
        _Output(output.value, output.error, output.kind),
        finish.started_at,
        finish.retryable,
        finish.delay,
    )


def _unpack_finish(form: _Finish) -> m.Finish:
    output = Output(form.output.value, form.output.error, form.output.kind)
    return m.Finish(
        form.id, form.fence, form.cause, output, form.started_at, form.retryable, form.delay
    )


def _pack_news(news: m.News) -> _News:
    events = [
        _Event(event.kind, _pack_head(event.head), event.time, event.progress, event.error)
        for event in news.events
    ]
    return _News(news.subscription, events)


def _unpack_news(form: _News) -> m.News:
    events: list[TaskEvent] = []
    for item in form.events:
        head = _unpack_head(item.head)
        kind = TrackedEvent if type(head) is TrackedHead else TaskEvent
        events.append(kind(item.kind, head, item.time, item.progress, item.error))
    return m.News(form.subscription, events)


# --- answers -------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _pack_page(page: m.FoundPage) -> _Page:
    return _Page([_pack_snapshot(task) for task in page.tasks], page.next, page.scanned)


def _unpack_page(form: _Page) -> m.FoundPage:
    return m.FoundPage(None, [_unpack_snapshot(t) for t in form.tasks], form.next, form.scanned)


def _pack_standing(standing: m.Standing) -> _Standing:
    tasks = tuple(_pack_snapshot(task) for task in standing.tasks)
    return _Standing(standing.at, standing.counts, tasks)


def _unpack_standing(form: _Standing) -> m.Standing:
    return m.Standing(form.at, form.counts, tuple(_unpack_snapshot(task) for task in form.tasks))


class _Answer(Struct, frozen=True):
    """How one kind of answer travels."""

    kind: str
    pack: Callable[[Any], Any]
    decoder: msgspec.msgpack.Decoder[Any]
    unpack: Callable[[Any], Any]


def _answer(
    kind: str,
    form: Any,
    pack: Callable[[Any], Any] = _same,
    unpack: Callable[[Any], Any] = _same,
) -> _Answer:
    return _Answer(kind, pack, msgspec.msgpack.Decoder(form), unpack)


_ANSWERS: dict[type, _Answer] = {
    type(None): _answer("", None),
    int: _answer("count", int),
    tuple: _answer("ids", tuple[str, ...]),
    m.Snapshot: _answer("task", _Snapshot, _pack_snapshot, _unpack_snapshot),
    m.FoundPage: _answer("page", _Page, _pack_page, _unpack_page),
    m.Standing: _answer("standing", _Standing, _pack_standing, _unpack_standing),
    Stats: _answer("stats", Stats),
    list: _answer("tasks", list[TaskInfo]),
    ActorTree: _answer("tree", ActorTree),
    Exception: _answer("error", _Refusal, _pack_error, _unpack_error),
}
_BY_KIND = {answer.kind: answer for answer in _ANSWERS.values()}
_NONE = Raw(_encode(None))


def _pack_reply(reply: m.Reply) -> _Reply:
    if reply.error is not None:
        return _Reply(reply.request, "error", Raw(_encode(_pack_error(reply.error))))
    if reply.value is None:
        return _Reply(reply.request, "", _NONE)
    answer = _ANSWERS[type(reply.value)]
    return _Reply(reply.request, answer.kind, Raw(_encode(answer.pack(reply.value))))


def _unpack_reply(form: _Reply) -> m.Reply:
    if not form.kind:
        return m.Reply(form.request)
    answer = _BY_KIND.get(form.kind)
    if answer is None:
        why = f"the queue answered by {form.kind!r}, which this version does not know"
        return m.Reply(form.request, error=ActorqError(why))
    value = answer.unpack(answer.decoder.decode(form.value))
    if form.kind == "error":
        return m.Reply(form.request, error=value)
    return m.Reply(form.request, value)


# --- both ways -----------------------------------------------------------------------------------

_PACK: dict[type, Callable[[Any], Any]] = {
    m.Submit: _pack_submit,
    m.Grant: _pack_grant,
    m.Finish: _pack_finish,
    m.Outcome: lambda o: _Outcome(_pack_head(o.head), _pack_output(o.output)),
    m.News: _pack_news,
    m.Reply: _pack_reply,
}
_UNPACK: dict[type, Callable[[Any], Any]] = {
    _Submit: _unpack_submit,
    _Grant: _unpack_grant,
    _Finish: _unpack_finish,
    _Outcome: lambda f: m.Outcome(_unpack_head(f.head), _unpack_output(f.output)),
    _News: _unpack_news,
    _Reply: _unpack_reply,
}

_TO_OWNER = (
    w.Hello | w.BeatHello | w.ParentHello | w.Ping | w.Got | w.Bye
    | m.ClientHello | _Submit | m.Withdraw | m.Forget | m.Watch | m.CancelTask | m.EndScope
    | m.Inspect | m.Find | m.Bulk | m.Subscribe | m.Unsubscribe | m.GetStats | m.GetTasks
    | m.GetTree | m.Join
    | m.WorkerHello | m.Knows | m.Ready | m.Beat | m.Started | m.Report | _Finish | m.WorkerDied
)  # fmt: skip
_FROM_OWNER = (
    w.Accepted | w.Pong
    | m.ClientWelcome | _Reply | _Outcome | _News
    | m.Welcome | _Grant | m.Interrupt | m.Finished
)  # fmt: skip


class _Direction:
    """Reads the batches that go one way."""

    def __init__(self, union: Any) -> None:
        self._batch = msgspec.msgpack.Decoder(list[union])
        self._one = msgspec.msgpack.Decoder(union)

    def decode(self, batch: bytes) -> list[Any]:
        try:
            forms: Iterable[Any] = self._batch.decode(batch)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            forms = self._without_unknown(batch, error)
        messages = []
        try:
            for form in forms:
                unpack = _UNPACK.get(type(form))
                messages.append(form if unpack is None else unpack(form))
        except (msgspec.MsgspecError, ActorqError, RecursionError, ValueError) as error:
            raise WireError(f"a message that makes no sense: {error}") from None
        return messages

    def _without_unknown(self, batch: bytes, error: Exception) -> Iterable[Any]:
        """Read the batch one by one, without the messages that may be ignored."""
        try:
            pieces = _pieces.decode(batch)
            return [self._one.decode(p) for p in pieces if not _tag(p).startswith("x-")]
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise WireError(f"no batch of messages: {error}") from None


class _Tagged(Struct, array_like=True):
    tag: str


_pieces = msgspec.msgpack.Decoder(list[Raw])
_tagged = msgspec.msgpack.Decoder(_Tagged)


def _tag(piece: Raw) -> str:
    return _tagged.decode(piece).tag


_to_owner, _from_owner = _Direction(_TO_OWNER), _Direction(_FROM_OWNER)


def encode(message: Any) -> bytes:
    """Return one message as bytes, to be put into a batch.

    Raises:
        EncodeError: Something in it cannot travel.
    """
    pack = _PACK.get(type(message))
    return _encode(message if pack is None else pack(message))


def join(messages: list[bytes]) -> bytes:
    """Return the batch of some encoded messages."""
    count = len(messages)
    if count < 16:
        header = bytes((0x90 | count,))
    elif count < 0x10000:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return header + b"".join(messages)


def decode_to_owner(batch: bytes) -> list[Any]:
    """Return the messages of a batch that a client or a worker has sent.

    Raises:
        WireError: It is none, or one of its messages is not for this direction.
    """
    return _to_owner.decode(batch)


def decode_from_owner(batch: bytes) -> list[Any]:
    """Return the messages of a batch that the owner has sent.

    Raises:
        WireError: See `decode_to_owner`.
    """
    return _from_owner.decode(batch)
