"""Heads, outputs and answers on the wire: what the owner tells of its tasks.

What is written of each is its fields, in order. A form says what they must be where they arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple, force_setattr

from actorq import errors
from actorq.codec.options import pack_options, unpack_options
from actorq.errors import ActorqError
from actorq.model import messages as m
from actorq.model.records import Cancel, Head, Output, Pool, TrackedHead
from actorq.model.results import Progress, ScheduleInfo, Stats, TaskInfo
from actorq.model.status import TaskStatus
from actorq.model.tree import ActorTree


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


class SnapshotForm(Struct, frozen=True, gc=False, array_like=True):
    """A `Snapshot`."""

    head: HeadForm
    output: Output | None
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


class RefusalForm(Struct, frozen=True, array_like=True):
    """An error that refuses a request: its class, if it is one of ours, and what it says."""

    type: str
    message: str
    name: str = ""
    """Whose, if the error has a name."""


class ReplyForm(Struct, frozen=True, array_like=True, tag="reply"):
    """``kind`` says what ``value`` is, see `_ANSWERS`; '': there is none."""

    request: int
    kind: str
    value: Raw


_OPTIONS, _SCOPE = map(Head.__struct_fields__.index, ("options", "scope"))


def pack_head(head: Head) -> list[Any]:
    """Return the fields of a head."""
    fields = [*astuple(head)]
    fields[_OPTIONS] = pack_options(head.options)
    fields[_SCOPE] = None  # whose block owns it is its secret: the name is all it takes to be them
    return fields


def unpack_head(form: HeadForm) -> Head:
    """Return the head of a form, which is used up."""
    options = unpack_options(form.options)
    force_setattr(form, "options", options)  # the shortest way to all of its fields but one
    return TrackedHead(*astuple(form)) if options.meta else Head(*astuple(form))


def checked(output: Output | None) -> Output | None:
    """Return an output as it arrived, if its value is still encoded.

    Raises:
        ValueError: It is not.
    """
    if output is not None and output.value is not None and type(output.value) is not bytes:
        raise ValueError(f"a value must be bytes, not {type(output.value).__name__}")
    return output


def _pack_snapshot(snapshot: m.Snapshot) -> tuple[Any, ...]:
    return pack_head(snapshot.head), snapshot.output, snapshot.progress, snapshot.unknown


def _unpack_snapshot(form: SnapshotForm) -> m.Snapshot:
    return m.Snapshot(unpack_head(form.head), checked(form.output), form.progress, form.unknown)


def _pack_page(page: m.FoundPage) -> tuple[Any, ...]:
    return [_pack_snapshot(task) for task in page.tasks], page.next, page.scanned


def _unpack_page(form: PageForm) -> m.FoundPage:
    return m.FoundPage(None, [_unpack_snapshot(t) for t in form.tasks], form.next, form.scanned)


def _pack_standing(standing: m.Standing) -> tuple[Any, ...]:
    return standing.at, standing.counts, [_pack_snapshot(task) for task in standing.tasks]


def _unpack_standing(form: StandingForm) -> m.Standing:
    return m.Standing(form.at, form.counts, tuple(_unpack_snapshot(task) for task in form.tasks))


def _pack_error(error: Exception) -> tuple[str, str, str]:
    said = error.id if isinstance(error, errors.TaskNotFound) else str(error)
    name = ""
    if isinstance(error, errors.ScheduleNotFound):
        name = error.name
    elif isinstance(error, errors.RowRefused):
        name = error.id
    return type(error).__name__, said, name


def _unpack_error(form: RefusalForm) -> Exception:
    kind = getattr(errors, form.type, None)
    if kind is errors.ScheduleNotFound:
        return errors.ScheduleNotFound(form.message, name=form.name)
    if kind is errors.RowRefused:
        return errors.RowRefused(form.message, id=form.name)
    if isinstance(kind, type) and issubclass(kind, _REFUSALS):
        return cast(type[ActorqError], kind)(form.message)
    return ActorqError(f"{form.type}: {form.message}")


_REFUSALS = (errors.SubmitError, errors.TaskNotFound, errors.StoreError, errors.ActorDied)
"""What is made of nothing but a message (or an id)."""


def _same(value: Any) -> Any:
    return value


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
    int: _answer("count", int),
    tuple: _answer("ids", tuple[str, ...]),
    m.Admitted: _answer("admitted", m.Admitted),
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


def pack_reply(reply: m.Reply) -> tuple[Any, ...]:
    """Return the fields of an answer."""
    if reply.error is not None:
        return "reply", reply.request, "error", _pack_error(reply.error)
    if reply.value is None:
        return "reply", reply.request, "", None
    answer = _ANSWERS[type(reply.value)]
    return "reply", reply.request, answer.kind, answer.pack(reply.value)


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
