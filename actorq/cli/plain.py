"""From values to what JSON can say, and to text that a terminal may show."""

from __future__ import annotations

import json
import math
import reprlib
import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import attrs

_DEPTH_MAX = 200
"""Deeper ones are written as text: the encoder is recursive, and values are other people's."""


def to_json(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON can say it.

    Dates and times are ISO strings, a `UUID`, path or decimal is its string, a set a list, an attrs
    class an object. What JSON has no word for is ``{"$type": "bytes", "$repr": "b'...'"}``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return to_json(value.value, depth)
    if isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _as_repr(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | PurePath | Decimal):
        return str(value)
    if depth >= _DEPTH_MAX:
        return {"$type": type(value).__qualname__, "$repr": reprlib.repr(value)}
    return _container_to_json(value, depth + 1)


def _container_to_json(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {_key(key): to_json(item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, depth) for item in value]
    if isinstance(value, AbstractSet):
        return [to_json(item, depth) for item in _in_order(value)]
    if attrs.has(type(value)):
        return {
            field.name: to_json(getattr(value, field.name), depth)
            for field in attrs.fields(type(value))
            if not field.name.startswith("_")
        }
    return _as_repr(value)


def _in_order(value: AbstractSet[Any]) -> list[Any]:
    """Return the members in an order that is the same every time, if they have one."""
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=repr)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    plain = to_json(key)
    return plain if isinstance(plain, str) else repr(key)


def _as_repr(value: Any) -> dict[str, str]:
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return {"$type": name, "$repr": repr(value)}


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return the value as JSON text in ASCII, which every pipe and every terminal can carry."""
    return json.dumps(to_json(value), indent=indent, allow_nan=False)


def shown(value: Any) -> str:
    """Return a task's value as people read it: JSON, in their own letters."""
    return printable(json.dumps(to_json(value), indent=2, allow_nan=False, ensure_ascii=False))


def printable(text: str) -> str:
    """Return text that cannot command a terminal: names and messages are other people's."""
    if text.isprintable():
        return text
    return "".join(
        char if char in "\n\t" or unicodedata.category(char)[0] != "C" else _escaped(char)
        for char in text
    )


def one_line(text: str) -> str:
    """Return it on one line, each run of white space as one space."""
    return printable(" ".join(text.split()))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
