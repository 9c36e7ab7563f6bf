"""Batches of messages to bytes and back.

A batch is a MessagePack array of messages, a message an array of its tag and its fields. Most
messages are their own form; those that hold what the wire has no word for (options, errors, heads)
have one here, and a function that writes such fields. Calls and values are bytes that nobody on the
way looks into.

Everything that arrives is checked against its form before anybody sees it. Fields beyond those that
are known are ignored, and so are messages with an unknown tag that begins with ``x-``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from actorq.codec.answers import (
    HeadForm,
    ReplyForm,
    checked,
    pack_head,
    pack_reply,
    unpack_head,
    unpack_reply,
)  # fmt: skip
from actorq.codec.options import pack_options, unpack_options
from actorq.codec.payload import decode_plain, encode_plain
from actorq.codec.schedules import ScheduleForm, pack_schedule, unpack_schedule
from actorq.errors import ActorqError, RemoteError, SubmitError
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent, TaskEventKind, TrackedEvent
from actorq.model.options import AFTER_MAX
from actorq.model.records import Done, Output, Pool, TrackedHead
from actorq.model.results import Progress
from actorq.model.status import TaskStatus

MESSAGES_MAX = 4_096
"""In one batch; ours have a small part of that. A million empty ones would cost 70 MB."""


Needs = Annotated[tuple[m.Name, ...], Meta(max_length=AFTER_MAX)]


class WireError(ActorqError):
    """What came over a connection is no message."""


class _Task(Struct, frozen=True, gc=False, array_like=True):
    id: m.Name
    name: m.Name
    pool: Pool
    options: bytes
    scope: m.Name | None
    body: bytes
    needs: Needs = ()


class _Submit(Struct, frozen=True, gc=False, array_like=True, tag="submit"):
    request: int
    tasks: tuple[_Task, ...]
    resent: bool
    lineage: str | None
    stamp: m.Moment | None = None


class _Done(Struct, frozen=True, gc=False, array_like=True):
    head: HeadForm
    output: Output | None
    data: bytes


class _Grant(Struct, frozen=True, gc=False, array_like=True, tag="grant"):
    id: m.Name
    name: m.Name
    options: bytes
    pool: Pool
    fence: int
    attempts: int
    remaining: float | None
    body: bytes | None
    done: _Done | None = None
    inputs: dict[m.Name, bytes] = {}


class _Finish(Struct, frozen=True, gc=False, array_like=True, tag="finish"):
    id: m.Name
    fence: int
    cause: m.FinishCause
    output: Output
    started_at: m.Moment | None
    retryable: bool
    delay: m.Seconds


class _Outcome(Struct, frozen=True, gc=False, array_like=True, tag="outcome"):
    head: HeadForm
    output: Output | None


class _Event(Struct, frozen=True, gc=False, array_like=True):
    kind: TaskEventKind
    head: HeadForm
    time: float
    progress: Progress | None
    error: RemoteError | None


class _News(Struct, frozen=True, array_like=True, tag="news"):
    subscription: int
    events: list[_Event]


class _Declare(Struct, frozen=True, array_like=True, tag="declare"):
    request: int
    schedule: ScheduleForm


class _Declared(Struct, frozen=True, array_like=True):
    pool: Literal["main", "process"]
    options: bytes
    schedule: ScheduleForm | None = None


class _WorkerHello(Struct, frozen=True, array_like=True, tag="worker"):
    worker: m.Name
    node: m.Name
    running: tuple[tuple[m.Name, int], ...]
    slots: dict[Pool, m.Count]
    tasks: dict[m.Name, m.Name]
    declared: dict[m.Name, _Declared] = {}


class _Knows(Struct, frozen=True, array_like=True, tag="knows"):
    tasks: dict[m.Name, m.Name]
    declared: dict[m.Name, _Declared] = {}


class Malformed(Struct, frozen=True):
    """A request that was understood, but for its content; it is answered by its ``error``."""

    request: int
    error: SubmitError


_encode = msgspec.msgpack.Encoder().encode


# --- messages ------------------------------------------------------------------------------------


def _pack_submit(submit: m.Submit) -> tuple[Any, ...]:
    tasks = [
        (t.id, t.name, t.pool, pack_options(t.options), t.scope, t.body, t.needs)
        for t in submit.tasks
    ]
    return "submit", submit.request, tasks, submit.resent, submit.lineage, submit.stamp


def _unpack_submit(form: _Submit) -> m.Submit | Malformed:
    try:
        tasks = tuple(
            [
                m.Submission(
                    t.id, t.name, t.pool, unpack_options(t.options), t.scope, t.body, t.needs
                )
                for t in form.tasks
            ]
        )
    except SubmitError as error:
        return Malformed(form.request, error)
    return m.Submit(form.request, tasks, form.resent, form.lineage, form.stamp)


def _pack_grant(grant: m.Grant) -> tuple[Any, ...]:
    head, body, done = grant.head, grant.body, None
    if type(body) is Done:
        data = encode_plain(body.data, "callback_data")
        done = pack_head(body.head), body.output, data
        body = None
    options = pack_options(head.options)
    return (
        "grant", head.id, head.name, options, head.pool, head.fence, head.attempts,
        grant.remaining, body, done, grant.inputs,
    )  # fmt: skip


def _unpack_grant(form: _Grant) -> m.Grant:
    """Return a grant whose head holds no more than a worker needs."""
    body: Any = form.body
    if form.done is not None:
        head, output = unpack_head(form.done.head), checked(form.done.output)
        body = Done(None, head, output, decode_plain(form.done.data))
    options = unpack_options(form.options)
    status = TaskStatus.RUNNING
    head = TrackedHead(
        form.id, form.name, options, form.pool, None, 0.0, 0.0, 0.0, 0.0, status, form.fence,
        form.attempts,
    )  # fmt: skip
    return m.Grant(head, body, form.remaining, form.inputs)


def _pack_finish(f: m.Finish) -> tuple[Any, ...]:
    return "finish", f.id, f.fence, f.cause, f.output, f.started_at, f.retryable, f.delay


def _unpack_finish(f: _Finish) -> m.Finish:
    checked(f.output)
    return m.Finish(f.id, f.fence, f.cause, f.output, f.started_at, f.retryable, f.delay)


def _pack_news(news: m.News) -> tuple[Any, ...]:
    events = [(e.kind, pack_head(e.head), e.time, e.progress, e.error) for e in news.events]
    return "news", news.subscription, events


def _unpack_news(form: _News) -> m.News:
    events: list[TaskEvent] = []
    for item in form.events:
        head = unpack_head(item.head)
        kind = TrackedEvent if type(head) is TrackedHead else TaskEvent
        events.append(kind(item.kind, head, item.time, item.progress, item.error))
    return m.News(form.subscription, events)


def _unpack_declare(form: _Declare) -> m.Declare | Malformed:
    try:
        return m.Declare(form.request, unpack_schedule(form.schedule))
    except SubmitError as error:
        return Malformed(form.request, error)


def _pack_declared(declared: dict[str, m.Declared]) -> dict[str, tuple[Any, ...]]:
    forms: dict[str, tuple[Any, ...]] = {}
    for name, said in declared.items():
        if said.pool != "any":
            schedule = None if said.schedule is None else pack_schedule(said.schedule)
            forms[name] = said.pool, pack_options(said.options), schedule
    return forms


def _unpack_declared(forms: dict[str, _Declared]) -> dict[str, m.Declared]:
    declared: dict[str, m.Declared] = {}
    for name, form in forms.items():
        schedule = None if form.schedule is None else unpack_schedule(form.schedule)
        declared[name] = m.Declared(form.pool, unpack_options(form.options), schedule)
    return declared


def _pack_worker(hello: m.WorkerHello) -> tuple[Any, ...]:
    declared = _pack_declared(hello.declared)
    tasks = hello.tasks or {}
    return "worker", hello.worker, hello.node, hello.running, hello.slots, tasks, declared


def _unpack_worker(f: _WorkerHello) -> m.WorkerHello:
    declared = _unpack_declared(f.declared)
    return m.WorkerHello(f.worker, f.node, f.running, f.slots, f.tasks, declared=declared)


# --- both ways -----------------------------------------------------------------------------------

_PACK: dict[type, Callable[[Any], Any]] = {
    m.Submit: _pack_submit,
    m.Grant: _pack_grant,
    m.Finish: _pack_finish,
    m.Outcome: lambda o: ("outcome", pack_head(o.head), o.output),
    m.News: _pack_news,
    m.Declare: lambda d: ("declare", d.request, pack_schedule(d.schedule)),
    m.WorkerHello: _pack_worker,
    m.Knows: lambda k: ("knows", k.tasks, _pack_declared(k.declared)),
    m.Reply: pack_reply,
}
_UNPACK: dict[type, Callable[[Any], Any]] = {
    _Submit: _unpack_submit,
    _Grant: _unpack_grant,
    _Finish: _unpack_finish,
    _Outcome: lambda f: m.Outcome(unpack_head(f.head), checked(f.output)),
    _News: _unpack_news,
    _Declare: _unpack_declare,
    _WorkerHello: _unpack_worker,
    _Knows: lambda f: m.Knows(f.tasks, _unpack_declared(f.declared)),
    ReplyForm: unpack_reply,
}

_TO_OWNER = (
    w.Hello | w.BeatHello | w.ParentHello | w.Ping | w.Got | w.Bye
    | m.ClientHello | _Submit | m.Withdraw | m.Forget | m.Watch | m.CancelTask | m.EndScope
    | m.Inspect | m.Find | m.Bulk | m.Subscribe | m.Unsubscribe | m.GetStats | m.GetTasks
    | m.GetTree | m.Join | m.Why | m.PauseQueue | _Declare | m.ControlSchedule | m.GetSchedules
    | _WorkerHello | _Knows | m.Ready | m.Beat | m.Started | m.Report | _Finish | m.WorkerDied
)  # fmt: skip
_FROM_OWNER = (
    w.Accepted | w.Pong
    | m.ClientWelcome | ReplyForm | _Outcome | _News
    | m.Welcome | _Grant | m.Interrupt | m.Finished
)  # fmt: skip


_COUNT_BYTES = {b"\xdc": 2, b"\xdd": 4}
"""By the first byte of an array of more than 15."""


class _Direction:
    """Reads the batches that go one way."""

    def __init__(self, union: Any) -> None:
        self._all = msgspec.msgpack.Decoder(list[union]).decode
        self._one = msgspec.msgpack.Decoder(union).decode

    def decode(self, batch: bytes) -> list[Any]:
        """Return the messages of a batch.

        Raises:
            WireError: It is none, or one of its messages is not for this direction.
        """
        size = _COUNT_BYTES.get(batch[:1])
        if size and int.from_bytes(batch[1 : 1 + size], "big") > MESSAGES_MAX:
            raise WireError(f"a batch of more than {MESSAGES_MAX} messages")
        try:
            forms: Iterable[Any] = self._all(batch)
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
            pieces = _pieces(batch)
            return [self._one(p) for p in pieces if not _tagged(p).tag.startswith("x-")]
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise WireError(f"no batch of messages: {error}") from None


class _Tagged(Struct, array_like=True):
    tag: str


_pieces = msgspec.msgpack.Decoder(list[Raw]).decode
_tagged = msgspec.msgpack.Decoder(_Tagged).decode


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


decode_to_owner: Callable[[bytes], list[Any]] = _Direction(_TO_OWNER).decode
"""Return the messages of a batch that a client or a worker has sent."""

decode_from_owner: Callable[[bytes], list[Any]] = _Direction(_FROM_OWNER).decode
"""Return the messages of a batch that the owner has sent."""
