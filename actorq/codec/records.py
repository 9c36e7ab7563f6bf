"""Records to bytes and back, for stores that keep bytes.

Each piece is a MessagePack array that begins with the version of its form. New fields come last and
have defaults, so that what an older version has written can be read; a form that changes in another
way gets another version.

What is read was written by us, so only its types are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, fields, replace

from actorq.codec.options import are_newer, pack_options, unpack_options
from actorq.codec.payload import decode_plain, encode_plain
from actorq.codec.schedules import ScheduleForm, pack_schedule, unpack_schedule
from actorq.errors import ActorqError, CorruptStore, EncodeError, RemoteError
from actorq.model.options import TaskOptions
from actorq.model.records import (
    Cancel,
    Done,
    Head,
    Note,
    NoteKind,
    Output,
    Pause,
    Pool,
    TrackedHead,
    Window,
)  # fmt: skip
from actorq.model.schedules import Schedule
from actorq.model.status import RUNNING, FailureKind, TaskStatus

_VERSION = 1
_BYTES, _DONE = b"\x00", b"\x01"
_SHARED_MAX = 10_000
_FENCE_MAX = 1 << 40

UNKNOWN = "?"
"""The name of a task whose name is lost."""


class _Versioned(Struct, frozen=True, gc=False, array_like=True):
    """What the forms of every version begin with."""

    version: int


class _Form(Struct, frozen=True, gc=False, array_like=True):
    """What those of this version begin with; of another one, they cannot be decoded."""

    version: Literal[1]


class _Head(_Form, frozen=True):
    """A `Head` with its version for its id; times that are as usual are left out."""

    name: str
    options: bytes
    pool: Pool
    scope: str | None
    submitted_at: float
    since: float | None
    rank: float
    due: float | None
    status: TaskStatus
    fence: int
    attempts: int
    deaths: int
    worker: str | None
    started_at: float | None
    completed_at: float | None
    keep_until: float | None
    cancel: Cancel | None = None
    needs: tuple[str, ...] = ()


_ID, _OPTIONS, _SINCE, _DUE = map(Head.__struct_fields__.index, ("id", "options", "since", "due"))


class _Output(_Form, frozen=True):
    value: bytes | None
    error: RemoteError | None
    kind: FailureKind | None


class _Done(_Form, frozen=True):
    """A `Done`: its call is the task's own, whose name the head of its record has."""

    id: str
    head: bytes
    output: bytes | None
    data: bytes


class _Pause(_Form, frozen=True):
    at: float


class _Window(_Form, frozen=True):
    starts: tuple[tuple[float, int], ...]
    per: float = 0.0


class _Schedule(_Form, frozen=True):
    schedule: ScheduleForm
    paused: bool
    anchor: float
    cursor: float
    last: str | None


_encode = msgspec.msgpack.Encoder().encode
_read_head = msgspec.msgpack.Decoder(_Head).decode
_read_version = msgspec.msgpack.Decoder(_Versioned).decode
_read_output = msgspec.msgpack.Decoder(_Output).decode
_read_done = msgspec.msgpack.Decoder(_Done).decode

_read_pieces = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_FIELDS = fields(_Head)

_ERRORS = (msgspec.MsgspecError, ActorqError, ValueError, TypeError, RecursionError)


def _unreadable(what: str, data: bytes, why: object = "") -> CorruptStore:
    """Return the error for bytes that are no known form of something."""
    try:
        version = _read_version(data).version
    except _ERRORS:
        version = _VERSION
    if version != _VERSION:
        return CorruptStore(
            f"{what} has form {version}, and this version of actorq knows {_VERSION}: it was "
            "written by a newer one; upgrade",
            newer=True,
        )
    return CorruptStore(f"{what} cannot be read: {why}", newer=getattr(why, "newer", False))


class _Shared(dict[str, str]):
    """Strings that many heads have, so that a million of them have one of each."""

    def __missing__(self, text: str) -> str:
        if len(self) >= _SHARED_MAX:
            self.clear()
        self[text] = text
        return text


class Records:
    """Implements `actorq.contracts.store.RecordCodec`.

    What packs raises `EncodeError` or ValueError for what cannot be kept.
    """

    def __init__(self) -> None:
        self._shared = _Shared()

    # --- heads -----------------------------------------------------------------------------------

    def pack_head(self, head: Head) -> bytes:
        """Return a head, but for its id."""
        values = [*astuple(head)]
        values[_ID] = _VERSION
        values[_OPTIONS] = pack_options(head.options)
        if head.since == head.submitted_at:
            values[_SINCE] = None
        if head.due == head.submitted_at:
            values[_DUE] = None
        return _encode(values)

    def unpack_head(self, id: str, data: bytes) -> Head:
        """Return the head of the record with this id."""
        try:
            form = _read_head(data)
        except _ERRORS as error:
            raise _unreadable(f"the head of task {id}", data, error) from None
        try:
            options = unpack_options(form.options)
        except _ERRORS as error:
            what, newer = f"the head of task {id} cannot be read", are_newer(form.options)
            upgrade = " (a newer version has written it; upgrade)" if newer else ""
            raise CorruptStore(f"{what}: {error}{upgrade}", newer=newer) from None
        at, scope, worker, shared = form.submitted_at, form.scope, form.worker, self._shared
        opaque = options.meta or options.callback is not None or options.callback_data is not None
        kind = TrackedHead if opaque else Head
        return kind(
            id,
            shared[form.name],
            options,
            form.pool,
            None if scope is None else shared[scope],
            at,
            at if form.since is None else form.since,
            form.rank,
            at if form.due is None else form.due,
            form.status,
            form.fence,
            form.attempts,
            form.deaths,
            None if worker is None else shared[worker],
            form.started_at,
            form.completed_at,
            form.keep_until,
            form.cancel,
            form.needs,
        )

    def salvage_head(self, id: str, data: bytes) -> Head:
        """Return what is left of a damaged head: a running task of no worker, without times.

        Its name and its options as far as they can be read, and a fence above all its grants.
        """
        left: dict[str, Any] = {}
        try:
            for field, piece in zip(_FIELDS, _read_pieces(data), strict=False):
                with suppress(*_ERRORS):
                    left[field.name] = msgspec.msgpack.decode(piece, type=field.type)
        except _ERRORS:
            pass
        try:
            options = unpack_options(left["options"])
        except (KeyError, *_ERRORS):
            options = TaskOptions()
        fence = left.get("fence", _FENCE_MAX)
        fence = min(fence + 1, _FENCE_MAX) if fence > 0 else 0  # (0: it was never granted)
        name, pool = left.get("name") or UNKNOWN, left.get("pool", "any")
        return TrackedHead(id, name, options, pool, None, 0, 0, 0, 0, RUNNING, fence)

    # --- bodies and outputs ----------------------------------------------------------------------

    def pack_body(self, body: Any) -> bytes | None:
        """Return a body: bytes as they are, after one that says so."""
        if type(body) is bytes:
            return _BYTES + body
        if body is None:
            return None
        if type(body) is Done:
            output = None if body.output is None else self.pack_output(body.output)
            data = encode_plain(body.data, "callback_data")
            head = self.pack_head(body.head)
            return _DONE + _encode((_VERSION, body.head.id, head, output, data))
        raise EncodeError(f"a call must be bytes to be kept, not {type(body).__name__}")

    def unpack_body(self, data: bytes | None) -> Any:
        """Return the body."""
        if data is None:
            return None
        if data[:1] == _BYTES:
            return data[1:]
        if data[:1] != _DONE:
            raise CorruptStore("a call cannot be read: it does not begin as one")
        try:
            form = _read_done(data[1:])
            head = self.unpack_head(form.id, form.head)
            output = None if form.output is None else self.unpack_output(form.output)
            content = decode_plain(form.data)
        except _ERRORS as error:
            raise _unreadable("a call", data[1:], error) from None
        return Done(None, head, output, content)

    def pack_output(self, output: Output) -> bytes:
        """Return how a task ended."""
        value = output.value
        if value is not None and type(value) is not bytes:
            raise EncodeError(f"a value must be bytes to be kept, not {type(value).__name__}")
        return _encode((_VERSION, value, output.error, output.kind))

    def unpack_output(self, data: bytes) -> Output:
        """Return how it ended."""
        try:
            form = _read_output(data)
        except _ERRORS as error:
            raise _unreadable("an outcome", data, error) from None
        return Output(form.value, form.error, form.kind)

    # --- notes -----------------------------------------------------------------------------------

    def pack_note(self, note: Note) -> bytes:
        """Return the value of a note."""
        value = note.value
        match value:
            case Pause():
                return _encode((_VERSION, value.at))
            case Window():
                return _encode((_VERSION, value.starts, value.per))
            case Schedule():
                form = pack_schedule(value)
                progress = value.paused, value.anchor, value.cursor, value.last
                return _encode((_VERSION, form, *progress))
            case _:
                raise EncodeError(f"no value of a note: {value!r}")

    def unpack_note(self, kind: NoteKind, name: str, data: bytes) -> Note:
        """Return the note."""
        if kind not in _NOTES:
            why = f"the note {name!r} is of a kind that is not known here: {kind!r}; upgrade"
            raise CorruptStore(why, newer=True)
        decode, value_of = _NOTES[kind]
        try:
            return Note(kind, name, value_of(decode(data)))
        except _ERRORS as error:
            raise _unreadable(f"the {kind} {name!r}", data, error) from None


def _schedule_of(form: _Schedule) -> Schedule:
    return replace(
        unpack_schedule(form.schedule),
        paused=form.paused,
        anchor=form.anchor,
        cursor=form.cursor,
        last=form.last,
    )


_NOTES: dict[str, tuple[Callable[[bytes], _Form], Callable[[Any], Struct]]] = {
    "pause": (msgspec.msgpack.Decoder(_Pause).decode, lambda form: Pause(form.at)),
    "limit": (
        msgspec.msgpack.Decoder(_Window).decode,
        lambda form: Window(form.starts, form.per),
    ),
    "schedule": (msgspec.msgpack.Decoder(_Schedule).decode, _schedule_of),
}
