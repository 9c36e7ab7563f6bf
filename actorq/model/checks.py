"""Checks of what users write down: it is returned as it should be, or refused by its name."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from actorq.model.bounds import NAME_MAX

_W = TypeVar("_W", bound=str)


def number(
    what: str, value: object, *, least: float = 0.0, most: float = 1e10, above: bool = False
) -> float:
    """Return ``value`` as a float in ``least``..``most``, or raise naming ``what``.

    Raises:
        TypeError: It is not a number (a bool is not one either).
        ValueError: It is out of range or NaN; with ``above``, ``least`` itself is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not (least < value if above else least <= value) or not value <= most:
        bound = f"more than {least:g}" if above else f"at least {least:g}"
        raise ValueError(f"{what} must be {bound} and at most {most:g}, not {value!r}")
    return float(value)


def whole(what: str, value: object, *, least: int = 1, most: int = 1_000_000_000) -> int:
    """Return ``value`` as an int in ``least``..``most``, or raise naming ``what``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be {least} to {most}, not {value}")
    return value


def text(what: str, value: object) -> str:
    """Return ``value`` if it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {value!r}")
    return value


def name(what: str, value: object) -> str:
    """Return ``value`` if it can be an indexed name: 1 to 200 characters, UTF-8, no NUL."""
    value = text(what, value)
    if not 0 < len(value) <= NAME_MAX or "\0" in value:
        raise ValueError(f"{what} must be 1 to {NAME_MAX} characters without NUL, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid UTF-8, not {value!r}") from None
    return value


def flag(what: str, value: object) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return value


def word(what: str, value: object, *words: _W) -> _W:
    """Return ``value`` if it is one of these words."""
    for one in words:
        if value == one:
            return one
    *most, last = map(repr, words)
    raise ValueError(f"{what} must be {', '.join(most)} or {last}, not {value!r}")


def aware(what: str, value: object) -> datetime:
    """Return ``value`` if it is a datetime with a time zone."""
    if not isinstance(value, datetime):
        raise TypeError(f"{what} must be an aware datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"{what} must be an aware datetime: {value!r} has no time zone; "
            "write datetime(..., tzinfo=timezone.utc) or .astimezone()"
        )
    return value
