"""The forms of heads, outputs and answers: what the owner tells of its tasks, on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct

from actorq import errors
from actorq.codec.options import pack_options, unpack_options
from actorq.errors import ActorqError, RemoteError
from actorq.model import messages as m
from actorq.model.records import Cancel, Head, Output, Pool, TrackedHead
from actorq.model.results import Progress, ScheduleInfo, Stats, TaskInfo
from actorq.model.status import FailureKind, TaskStatus
from actorq.model.tree import ActorTree

_encode = msgspec.msgpack.Encoder().encode


class HeadForm(Struct, frozen=True, gc=False, array_like=True):
    """A `Head`."""

    id: str
    name: str
    options: bytes
    pool: Pool
    scope: str | None
    submitted_at: m.Moment
    since: m.Moment
    rank: float
    due: float
    status: TaskStatus
    fence: int
    attempts: int
    deaths: int
    worker: str | None
    started_at: m.Moment | None
    completed_at: m.Moment | None
    keep_until: m.Moment | None
    cancel: Cancel | None
    needs: tuple[str, ...] = ()


class OutputForm(Struct, frozen=True, gc=False, array_like=True):
    """An `Output`, whose value is bytes."""

    value: bytes | None
    error: RemoteError | None = None
    kind: FailureKind | None = None


class SnapshotForm(Struct, frozen=True, gc=False, array_like=True):
    """A `Snapshot`."""

    head: HeadForm
    output: OutputForm | None
    progress: Progress | None
    unknown: bool = False


class PageForm(Struct, frozen=True, array_like=True):
    """A `FoundPage`, without what was asked."""

    tasks: list[SnapshotForm]
    next: str | None
    scanned: int


class StandingForm(Struct, frozen=True, array_like=True):
    """A `Standing`."""

    at: float
    counts: dict[TaskStatus, int]
    tasks: tuple[SnapshotForm, ...]


class AdmittedForm(Struct, frozen=True, array_like=True):
    """An `Admitted`."""

    known: tuple[str, ...]
    instead: dict[str, str] = {}


class RefusalForm(Struct, frozen=True, array_like=True):
    """An error that refuses a request: its class, if it is one of ours, and what it says."""

    type: str
    message: str
    name: str = ""
    """Whose, if the error has a name."""


class ReplyForm(Struct, frozen=True, array_like=True, tag="reply"):
    """``kind`` says what ``value`` is; see `_ANSWERS`."""

    request: int
    kind: str
    value: Raw


def pack_head(head: Head) -> HeadForm:
    """Return the form of a head."""
    return HeadForm(
        head.id,
        head.name,
        pack_options(head.options),
        head.pool,
        None,  # whose block owns it is nobody else's business: the name is all it takes to be them
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
        head.needs,
    )


def unpack_head(form: HeadForm) -> Head:
    """Return the head of a form."""
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
        form.needs,
    )


def pack_output(output: Output | None) -> OutputForm | None:
    """Return the form of an output."""
    return None if output is None else OutputForm(output.value, output.error, output.kind)


def unpack_output(form: OutputForm | None) -> Output | None:
    """Return the output of a form."""
    return None if form is None else Output(form.value, form.error, form.kind)


def _pack_snapshot(snapshot: m.Snapshot) -> SnapshotForm:
    output = pack_output(snapshot.output)
    return SnapshotForm(pack_head(snapshot.head), output, snapshot.progress, snapshot.unknown)


def _unpack_snapshot(form: SnapshotForm) -> m.Snapshot:
    head, output = unpack_head(form.head), unpack_output(form.output)
    return m.Snapshot(head, output, form.progress, form.unknown)


def _pack_error(error: Exception) -> RefusalForm:
    if isinstance(error, errors.TaskNotFound):
        return RefusalForm("TaskNotFound", error.id)
    name = ""
    if isinstance(error, errors.ScheduleNotFound):
        name = error.name
    elif isinstance(error, errors.RowRefused):
        name = error.id
    return RefusalForm(type(error).__name__, str(error), name)


def _unpack_error(form: RefusalForm) -> Exception:
    kind = getattr(errors, form.type, None)
    if isinstance(kind, type) and issubclass(kind, (errors.SubmitError, errors.TaskNotFound)):
        return kind(form.message)
    if kind is errors.ScheduleNotFound:
        return errors.ScheduleNotFound(form.message, name=form.name)
    if kind is errors.RowRefused:
        return errors.RowRefused(form.message, id=form.name)
    if kind is errors.ActorDied or (isinstance(kind, type) and issubclass(kind, errors.StoreError)):
        return cast(type[ActorqError], kind)(form.message)
    return ActorqError(f"{form.type}: {form.message}")


def _same(value: Any) -> Any:
    return value


def _pack_page(page: m.FoundPage) -> PageForm:
    return PageForm([_pack_snapshot(task) for task in page.tasks], page.next, page.scanned)


def _unpack_page(form: PageForm) -> m.FoundPage:
    return m.FoundPage(None, [_unpack_snapshot(t) for t in form.tasks], form.next, form.scanned)


def _pack_standing(standing: m.Standing) -> StandingForm:
    tasks = tuple(_pack_snapshot(task) for task in standing.tasks)
    return StandingForm(standing.at, standing.counts, tasks)


def _unpack_standing(form: StandingForm) -> m.Standing:
    return m.Standing(form.at, form.counts, tuple(_unpack_snapshot(task) for task in form.tasks))


def _pack_admitted(admitted: m.Admitted) -> AdmittedForm:
    return AdmittedForm(admitted.known, admitted.instead)


def _unpack_admitted(form: AdmittedForm) -> m.Admitted:
    return m.Admitted(form.known, form.instead)


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
    m.Admitted: _answer("admitted", AdmittedForm, _pack_admitted, _unpack_admitted),
    m.Snapshot: _answer("task", SnapshotForm, _pack_snapshot, _unpack_snapshot),
    m.FoundPage: _answer("page", PageForm, _pack_page, _unpack_page),
    m.Standing: _answer("standing", StandingForm, _pack_standing, _unpack_standing),
    Stats: _answer("stats", Stats),
    list: _answer("tasks", list[TaskInfo]),
    dict: _answer("schedules", dict[str, ScheduleInfo]),
    str: _answer("text", str),
    ActorTree: _answer("tree", ActorTree),
    Exception: _answer("error", RefusalForm, _pack_error, _unpack_error),
}
_BY_KIND = {answer.kind: answer for answer in _ANSWERS.values()}
_NONE = Raw(_encode(None))


def pack_reply(reply: m.Reply) -> ReplyForm:
    """Return the form of an answer."""
    if reply.error is not None:
        return ReplyForm(reply.request, "error", Raw(_encode(_pack_error(reply.error))))
    if reply.value is None:
        return ReplyForm(reply.request, "", _NONE)
    answer = _ANSWERS[type(reply.value)]
    return ReplyForm(reply.request, answer.kind, Raw(_encode(answer.pack(reply.value))))


def unpack_reply(form: ReplyForm) -> m.Reply:
    """Return the answer of a form."""
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
