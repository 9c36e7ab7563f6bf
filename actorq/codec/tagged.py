"""Plain values as wires that describe themselves: each comes back equal, and of the same type.

Only exact types have a form. A subclass would come back as its base, so it is refused, like
everything else that has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from msgspec.msgpack import Ext

from actorq.codec.packed import (
    BIG_INT,
    BYTEARRAY,
    COMPLEX,
    DATE,
    DATETIME,
    DECIMAL,
    FROZENSET,
    INT_BYTES_MAX,
    LABELLED,
    NATIVE,
    PAIRS,
    PATH,
    SET,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID_,
    Kind,
    Refusal,
    Step,
    deeper,
    each,
    each_value,
    join_items,
    join_pairs,
    open_items,
    pack,
    shown,
    spelled,
    split_label,
    unpack,
)
from actorq.codec.references import MISPLACED, Blank, Reference

DECIMAL_CHARS_MAX = 65_536


def no_form(kind: type) -> str:
    """Return why values of this exact type are refused."""
    if kind is Reference:
        return MISPLACED
    base = next((base for base in kind.__mro__ if base in _FORMS), None)
    would = f"would arrive as {spelled(base)}" if base else "cannot travel"
    return (
        f"{spelled(kind)} {would}: send plain values, or annotate it with its own class, if that "
        "is an attrs class, a dataclass, an enum, a NamedTuple or a TypedDict"
    )


# --- There -------------------------------------------------------------------------------


def tag(value: Any, depth: int = 0) -> Any:
    """Return the wire of a plain value.

    Raises:
        Refusal: It, or a part of it, is no plain value.
    """
    kind = type(value)
    if kind in NATIVE:
        return value
    form = _FORMS.get(kind)
    if form is None:
        raise Refusal(no_form(kind))
    return form(value, depth)


def _tag_items(value: Collection[Any], depth: int) -> Any:
    depth = deeper(depth)
    plain = NATIVE.issuperset(map(type, value))
    return join_items(type(value), value if plain else each(tag, value, depth))


def _tag_dict(value: dict[Any, Any], depth: int) -> Any:
    depth = deeper(depth)
    if NATIVE.issuperset(map(type, value)):
        if NATIVE.issuperset(map(type, value.values())):
            return value
        keys: Collection[Any] = value
    else:
        keys = each(tag, value, depth)
    return join_pairs(keys, each_value(tag, value, value.values(), depth))


def _tag_datetime(value: datetime, _depth: int) -> Ext:
    day = (value.year, value.month, value.day)
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return Ext(DATETIME, pack([*day, *clock, value.fold, _zone_wire(value.tzinfo)]))


def _tag_time(value: time, _depth: int) -> Ext:
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return Ext(TIME, pack([*clock, value.fold, _zone_wire(value.tzinfo)]))


def _zone_wire(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        return [
            offset // timedelta(microseconds=1),
            None if name == timezone(offset).tzname(None) else name,
        ]
    if type(zone) is ZoneInfo and zone.key and _known(zone.key) and ZoneInfo(zone.key) is zone:
        return zone.key
    raise Refusal(f"the time zone {shown(zone)} cannot travel: use timezone or ZoneInfo(key)")


def _tag_decimal(value: Decimal, _depth: int) -> Ext:
    text = str(value)
    if len(text) > DECIMAL_CHARS_MAX:
        raise Refusal(f"a Decimal of over {DECIMAL_CHARS_MAX} characters is too large")
    return Ext(DECIMAL, text.encode())


def _tag_path(value: Any, _depth: int) -> Ext:
    # File names need not be UTF-8; Python shows the bytes that are not as lone surrogates.
    try:
        return Ext(PATH, _FLAVOURS[type(value)] + str(value).encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise Refusal(f"cannot be written: {error}") from None


_FLAVOURS: dict[type, bytes] = {
    PosixPath: b"P",
    WindowsPath: b"W",
    PurePosixPath: b"p",
    PureWindowsPath: b"w",
}
_FORMS: dict[type, Step] = {
    **dict.fromkeys(NATIVE, lambda value, _: value),
    **dict.fromkeys((list, tuple, set, frozenset), _tag_items),
    dict: _tag_dict,
    bytearray: lambda value, _: Ext(BYTEARRAY, bytes(value)),
    complex: lambda value, _: Ext(COMPLEX, pack([value.real, value.imag])),
    datetime: _tag_datetime,
    date: lambda value, _: Ext(DATE, pack([value.year, value.month, value.day])),
    time: _tag_time,
    timedelta: lambda value, _: Ext(
        TIMEDELTA, pack([value.days, value.seconds, value.microseconds])
    ),
    UUID: lambda value, _: Ext(UUID_, value.bytes),
    Decimal: _tag_decimal,
    **dict.fromkeys(_FLAVOURS, _tag_path),
    Blank: lambda value, _: value.wire,  # of ours: no user has one
}
KINDS: dict[type, frozenset[Kind]] = {
    **{kind: frozenset({kind}) for kind in (*NATIVE, list)},
    int: frozenset({int, BIG_INT}),
    dict: frozenset({dict, PAIRS}),
    **{kind: frozenset({PATH}) for kind in _FLAVOURS},
    tuple: frozenset({TUPLE}),
    set: frozenset({SET}),
    frozenset: frozenset({FROZENSET}),
    bytearray: frozenset({BYTEARRAY}),
    complex: frozenset({COMPLEX}),
    datetime: frozenset({DATETIME}),
    date: frozenset({DATE}),
    time: frozenset({TIME}),
    timedelta: frozenset({TIMEDELTA}),
    UUID: frozenset({UUID_}),
    Decimal: frozenset({DECIMAL}),
}
"""Every type of plain values, with what their wires may be."""


# --- And back ----------------------------------------------------------------------------


def untag(wire: Any, depth: int = 0) -> Any:
    """Return the plain value of a wire; of a user's object, its fields as a dict.

    What cannot be put into a set, or be a key, once it is such a dict, comes in a list instead.
    """
    kind = type(wire)
    if kind in NATIVE:
        return wire
    if kind is list:
        return _untag_all(wire, depth)
    if kind is dict:
        deeper(depth)
        if NATIVE.issuperset(map(type, wire)) and NATIVE.issuperset(map(type, wire.values())):
            return wire
        return _untag_dict(wire.keys(), wire.values(), depth)
    if kind is Ext:
        try:
            back = _BACK[wire.code]
        except KeyError:
            raise Refusal(f"extension type {wire.code} is not known here") from None
        return back(wire.data, depth)
    raise Refusal(f"{spelled(kind)} is nothing that actorq sends")


def _untag_all(wires: Collection[Any], depth: int) -> Collection[Any]:
    depth = deeper(depth)
    return wires if NATIVE.issuperset(map(type, wires)) else each(untag, wires, depth)


def _untag_set(kind: type, data: memoryview, depth: int) -> Any:
    members = _untag_all(open_items(data), depth)
    try:
        return kind(members)
    except TypeError:
        return members


def _untag_dict(keys: Collection[Any], wires: Collection[Any], depth: int) -> Any:
    keys = _untag_all(keys, depth)
    values = list(each_value(untag, keys, wires, deeper(depth)))
    try:
        return dict(zip(keys, values, strict=True))
    except TypeError:
        return [list(pair) for pair in zip(keys, values, strict=True)]


def _untag_pairs(data: memoryview, depth: int) -> Any:
    halves = open_items(data)
    return _untag_dict(halves[::2], halves[1::2], depth)


def _untag_int(data: memoryview, _depth: int) -> int:
    if len(data) > INT_BYTES_MAX:
        raise Refusal("is too large an integer")
    return int.from_bytes(data, "big", signed=True)


def _untag_date(data: memoryview, _depth: int) -> date:
    year, month, day = unpack(data)  # of bytes alone, as pickle has them, it makes the 255th of May
    return date(year, month, day)


def _untag_datetime(data: memoryview, _depth: int) -> datetime:
    *parts, fold, zone = unpack(data)
    year, month, day, hour, minute, second, microsecond = parts
    return datetime(year, month, day, hour, minute, second, microsecond, _zone_of(zone), fold=fold)


def _untag_time(data: memoryview, _depth: int) -> time:
    hour, minute, second, microsecond, fold, zone = unpack(data)
    return time(hour, minute, second, microsecond, _zone_of(zone), fold=fold)


def _zone_of(wire: Any) -> tzinfo | None:
    if wire is None:
        return None
    if type(wire) is list:
        microseconds, name = wire
        offset = timedelta(microseconds=microseconds)
        return timezone(offset) if name is None else timezone(offset, name)
    if type(wire) is str and _known(wire):
        return ZoneInfo(wire)
    raise Refusal(f"the time zone {shown(wire)} is not known here")


@lru_cache(256)
def _known(key: str) -> bool:
    """Say whether a time zone is there, before ZoneInfo opens or imports what it is told to."""
    if not re.fullmatch(r"(?=.{1,64}\Z)[\w+-]+(/[\w+-]+)*", key, re.ASCII):
        return False
    return any(Path(folder, key).is_file() for folder in TZPATH) or key in available_timezones()


def _untag_timedelta(data: memoryview, _depth: int) -> timedelta:
    days, seconds, microseconds = unpack(data)
    return timedelta(days, seconds, microseconds)


def _untag_complex(data: memoryview, _depth: int) -> complex:
    real, imaginary = unpack(data)
    return complex(real, imaginary)


def _decimal(text: str) -> Decimal:
    if len(text) > DECIMAL_CHARS_MAX:
        raise Refusal("is too large a Decimal")
    return Decimal(text, _STRICT)


_STRICT = Context(traps=[InvalidOperation])  # else nonsense is a NaN where users do not trap it


def _untag_path(data: memoryview, _depth: int) -> Any:
    flavour = _FLAVOURS_BACK[bytes(data[:1])]
    if issubclass(flavour, Path) and flavour is not type(Path()):
        raise Refusal(f"a {flavour.__name__} cannot be used on this system: send a pure path")
    return flavour(str(data[1:], "utf-8", "surrogateescape"))


_FLAVOURS_BACK = {letter: kind for kind, letter in _FLAVOURS.items()}
_BACK: dict[int, Callable[[memoryview, int], Any]] = {
    TUPLE: lambda data, depth: tuple(_untag_all(open_items(data), depth)),
    SET: lambda data, depth: _untag_set(set, data, depth),
    FROZENSET: lambda data, depth: _untag_set(frozenset, data, depth),
    PAIRS: _untag_pairs,
    BIG_INT: _untag_int,
    BYTEARRAY: lambda data, _: bytearray(data),
    COMPLEX: _untag_complex,
    DATETIME: _untag_datetime,
    DATE: _untag_date,
    TIME: _untag_time,
    TIMEDELTA: _untag_timedelta,
    UUID_: lambda data, _: UUID(bytes=bytes(data)),
    DECIMAL: lambda data, _: _decimal(str(data, "ascii")),
    PATH: _untag_path,
    LABELLED: lambda data, depth: untag(split_label(data)[1], depth),
}
TEXTS: dict[Any, Callable[[str], Any]] = {
    **{kind: kind for kind in (Path, PurePath, PurePosixPath, PureWindowsPath, UUID)},
    **{kind: kind.fromisoformat for kind in (datetime, date, time)},
    Decimal: _decimal,
}
"""How people write values of these classes where there is only text, as in JSON."""
