"""Records to bytes and back, for stores that keep bytes.

Each piece is a MessagePack array that begins with the version of its form. New fields come last and
have defaults, so that what an older version has written can be read; a form that changes in another
way gets another version.

What is read was written by us, so only its types are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actorq.codec.options import pack_options, unpack_options
from actorq.codec.payload import decode_plain, encode_plain
from actorq.codec.schedules import ScheduleForm, pack_schedule, unpack_schedule
from actorq.errors import ActorqError, CorruptStore, EncodeError, RemoteError
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
from actorq.model.status import FailureKind, TaskStatus

_VERSION = 1
_BYTES, _DONE = b"\x00", b"\x01"
_SHARED_MAX = 10_000


class _Head(Struct, frozen=True, gc=False, array_like=True):
    """A `Head` without its id; times that are as usual are left out."""

    version: int
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


class _Versioned(Struct, frozen=True, gc=False, array_like=True):
    """What every form begins with."""

    version: int


class _Output(Struct, frozen=True, gc=False, array_like=True):
    version: int
    value: bytes | None
    error: RemoteError | None
    kind: FailureKind | None


class _Done(Struct, frozen=True, gc=False, array_like=True):
    """A `Done`: its call is the task's own, whose name the head of its record has."""

    version: int
    id: str
    head: bytes
    output: bytes | None
    data: bytes


class _Pause(Struct, frozen=True, gc=False, array_like=True):
    version: int
    at: float


class _Window(Struct, frozen=True, gc=False, array_like=True):
    version: int
    starts: tuple[tuple[float, int], ...]
    per: float = 0.0


class _Schedule(Struct, frozen=True, array_like=True):
    version: int
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
_read_pause = msgspec.msgpack.Decoder(_Pause).decode
_read_window = msgspec.msgpack.Decoder(_Window).decode
_read_schedule = msgspec.msgpack.Decoder(_Schedule).decode

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
            "written by a newer one; upgrade"
        )
    return CorruptStore(f"{what} cannot be read: {why}")


class Records:
    """Implements `actorq.contracts.store.RecordCodec`.

    What packs raises `EncodeError` or ValueError for what cannot be kept.
    """

    def __init__(self) -> None:
        self._shared: dict[str, str] = {}
        """Strings that many heads have, so that a million of them have one of each."""

    # --- heads -----------------------------------------------------------------------------------

    def pack_head(self, head: Head) -> bytes:
        """Return a head, but for its id."""
        at = head.submitted_at
        return _encode(
            _Head(
                _VERSION,
                head.name,
                pack_options(head.options),
                head.pool,
                head.scope,
                at,
                None if head.since == at else head.since,
                head.rank,
                None if head.due == at else head.due,
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
        )

    def unpack_head(self, id: str, data: bytes) -> Head:
        """Return the head of the record with this id."""
        try:
            form = _read_head(data)
            options = unpack_options(form.options)
        except _ERRORS as error:
            raise _unreadable(f"the head of task {id}", data, error) from None
        if form.version != _VERSION:
            raise _unreadable(f"the head of task {id}", data)
        at, scope, worker = form.submitted_at, form.scope, form.worker
        opaque = options.meta or options.callback is not None or options.callback_data is not None
        kind = TrackedHead if opaque else Head
        return kind(
            id,
            self._share(form.name),
            options,
            form.pool,
            None if scope is None else self._share(scope),
            at,
            at if form.since is None else form.since,
            form.rank,
            at if form.due is None else form.due,
            form.status,
            form.fence,
            form.attempts,
            form.deaths,
            None if worker is None else self._share(worker),
            form.started_at,
            form.completed_at,
            form.keep_until,
            form.cancel,
            form.needs,
        )

    def _share(self, text: str) -> str:
        shared = self._shared.get(text)
        if shared is None:
            if len(self._shared) >= _SHARED_MAX:
                self._shared.clear()
            shared = self._shared[text] = text
        return shared

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
            return _DONE + _encode(_Done(_VERSION, body.head.id, head, output, data))
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
        if form.version != _VERSION:
            raise _unreadable("a call", data[1:])
        return Done(None, head, output, content)

    def pack_output(self, output: Output) -> bytes:
        """Return how a task ended."""
        value = output.value
        if value is not None and type(value) is not bytes:
            raise EncodeError(f"a value must be bytes to be kept, not {type(value).__name__}")
        return _encode(_Output(_VERSION, value, output.error, output.kind))

    def unpack_output(self, data: bytes) -> Output:
        """Return how it ended."""
        try:
            form = _read_output(data)
        except _ERRORS as error:
            raise _unreadable("an outcome", data, error) from None
        if form.version != _VERSION:
            raise _unreadable("an outcome", data)
        return Output(form.value, form.error, form.kind)

    # --- notes -----------------------------------------------------------------------------------

    def pack_note(self, note: Note) -> bytes:
        """Return the value of a note."""
        value = note.value
        match value:
            case Pause():
                return _encode(_Pause(_VERSION, value.at))
            case Window():
                return _encode(_Window(_VERSION, value.starts, value.per))
            case Schedule():
                form = pack_schedule(value)
                return _encode(
                    _Schedule(_VERSION, form, value.paused, value.anchor, value.cursor, value.last)
                )
            case _:
                raise EncodeError(f"no value of a note: {value!r}")

    def unpack_note(self, kind: NoteKind, name: str, data: bytes) -> Note:
        """Return the note."""
        unpack = _NOTES.get(kind)
        if unpack is None:
            raise CorruptStore(f"the note {name!r} is of a kind that is not known here: {kind!r}")
        what = f"the {kind} {name!r}"
        try:
            if _read_version(data).version != _VERSION:
                raise _unreadable(what, data)
            return Note(kind, name, unpack(self, name, data))
        except CorruptStore:
            raise
        except _ERRORS as error:
            raise _unreadable(what, data, error) from None

    def _unpack_pause(self, name: str, data: bytes) -> Pause:  # noqa: ARG002 - as the others
        return Pause(_read_pause(data).at)

    def _unpack_window(self, name: str, data: bytes) -> Window:  # noqa: ARG002 - as the others
        form = _read_window(data)
        return Window(form.starts, form.per)

    def _unpack_schedule(self, name: str, data: bytes) -> Schedule:  # noqa: ARG002 - as the others
        form = _read_schedule(data)
        return replace(
            unpack_schedule(form.schedule),
            paused=form.paused,
            anchor=form.anchor,
            cursor=form.cursor,
            last=form.last,
        )


_NOTES: dict[str, Callable[[Records, str, bytes], Struct]] = {
    "pause": Records._unpack_pause,
    "limit": Records._unpack_window,
    "schedule": Records._unpack_schedule,
}
