"""The options of a submission as bytes: only those that were given, by name.

Submissions of one task share one object of options, and their bytes are equal; so both ways are
looked up before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actorq.codec.payload import decode_plain, encode_plain
from actorq.errors import SubmitError
from actorq.model.options import Limit, OptionsDict, Retry, TaskOptions
from actorq.model.records import Follow
from actorq.model.status import TaskPriority

_CALLBACK = {"callback", "callback_data"}
_OBJECTS = {"meta", "callback_data"}  # which users may change, and so nobody else may get
_UNIQUE = ("key", "after")  # nobody asks for these twice
_SINGLE = _OBJECTS.union(_UNIQUE)
_CACHED_MAX = 1_024
_CACHED_BYTES = 1_024

_packed: dict[int, tuple[TaskOptions, bytes]] = {}
_unpacked: dict[bytes, TaskOptions] = {}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


def are_newer(data: bytes) -> bool:
    """Say whether these are options of which this version does not know one."""
    try:
        return not _decode(data).keys() <= OptionsDict.__annotations__.keys()
    except msgspec.MsgspecError:
        return False


def pack_options(options: TaskOptions) -> bytes:
    """Return options as bytes.

    Raises:
        EncodeError: ``meta`` or ``callback_data`` cannot travel.
    """
    known = _packed.get(id(options))
    if known is not None:  # its options are kept, so nobody else has this id
        return known[1]
    fields = {
        name: _PACK.get(name, _same)(getattr(options, name)) for name in sorted(options.given)
    }
    data = _encode(fields)
    if not options.given & _SINGLE and len(data) <= _CACHED_BYTES:
        if len(_packed) >= _CACHED_MAX:
            _packed.clear()
        _packed[id(options)] = (options, data)
    return data


def copied(options: TaskOptions) -> TaskOptions:
    """Return options in which nothing is the caller's, who may go on changing it.

    Raises:
        EncodeError: See `pack_options`.
    """
    return unpack_options(pack_options(options)) if options.given & _OBJECTS else options


def unpack_options(data: bytes) -> TaskOptions:
    """Return what `pack_options` made, checked like anybody's options.

    Raises:
        SubmitError: They are none, or this version does not know one of them.
    """
    known = _unpacked.get(data)
    if known is not None:
        return known
    try:
        raw = _decode(data)
        single = {name: raw.pop(name) for name in _UNIQUE if name in raw}
        if single:  # the rest is what many have: so that is three times as fast
            return unpack_options(_encode(raw)).with_also(single)
        fields = {name: _UNPACK.get(name, _same)(value) for name, value in raw.items()}
        follow, its_data = fields.get("callback"), fields.get("callback_data")
        # (None is a callback too, for somebody else's may be the alternative.)
        for name in fields.keys() & _CALLBACK:
            fields[name] = None
        options = TaskOptions(**fields)
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise SubmitError(f"the queue does not understand the options: {error}") from None
    if follow is not None:
        options = options.with_callback(follow, its_data)
    if not options.given & _SINGLE and len(data) <= _CACHED_BYTES:
        if len(_unpacked) >= _CACHED_MAX:
            _unpacked.clear()
        _unpacked[data] = options
    return options


def _same(value: Any) -> Any:
    return value


def _pack_retry(retry: Retry) -> list[Any]:
    on, never = sorted(retry.on_names), sorted(retry.never_names)
    numbers = [retry.attempts, retry.delay, retry.factor, retry.max_delay, retry.jitter]
    return [*numbers, on, never]


def _pack_limit(limit: Limit | None) -> list[Any] | None:
    return None if limit is None else [limit.key, limit.concurrency, limit.rate, limit.per]


def _unpack_limit(form: list[Any] | None) -> Limit | None:
    if form is None:
        return None
    key, concurrency, rate, per = form
    return Limit(key, concurrency=concurrency, rate=rate, per=per)


def _pack_follow(follow: Follow | None) -> list[Any] | None:
    if follow is None:
        return None
    return [follow.name, follow.pool, pack_options(follow.options)]


def _unpack_follow(form: list[Any] | None) -> Follow | None:
    if form is None:
        return None
    name, pool, options = form
    if not isinstance(name, str) or pool not in ("main", "process"):
        raise TypeError(f"no callback: {form!r}")
    return Follow(name, pool, unpack_options(options), None)


_PACK: dict[str, Callable[[Any], Any]] = {
    "retry": _pack_retry,
    "priority": int,
    "limit": _pack_limit,
    "callback": _pack_follow,
    "callback_data": lambda value: encode_plain(value, "option 'callback_data'"),
    "meta": lambda value: encode_plain(dict(value), "option 'meta'"),
}
_UNPACK: dict[str, Callable[[Any], Any]] = {
    "retry": lambda form: Retry(*form),
    "priority": TaskPriority,
    "limit": _unpack_limit,
    "callback": _unpack_follow,
    "callback_data": decode_plain,
    "meta": decode_plain,
}
