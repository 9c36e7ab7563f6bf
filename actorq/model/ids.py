"""Task ids: time-ordered, unique per client, and naming the partition that owns the task."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from hashlib import blake2b
from secrets import token_hex

PARTITION = "00"
"""The one partition of this version, as the first two hex digits of every task id."""

HOME = "@"
"""What the node of a worker begins with that is in the owner's process, and dies with it."""

ID_MAX = 200
"""Characters of anything that can be asked for as an id."""


def can_be_id(id: str) -> bool:
    """Say whether a task can have this id: it has some characters, all of which can be stored."""
    return 0 < len(id) <= ID_MAX and "\0" not in id and not _is_odd(id)


def is_made(id: str) -> bool:
    """Say whether it is an id as they are made here, by whomever."""
    return _MADE.fullmatch(id) is not None


_MADE = re.compile("[0-9a-f]{31,32}")  # the 32nd is of use from the year 2112 on


def _is_odd(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def derived(what: str, at: float) -> str:
    """Return the id of what the owner itself submits: of the same cause it is the same one.

    ``at``, in seconds since the epoch, puts it in order with other tasks.
    """
    digest = blake2b(what.encode(), digest_size=8).hexdigest()
    return f"{PARTITION}{round(at * 1_000_000):013x}{digest}"


class IdSource:
    """Makes task ids: partition (2 hex digits), microseconds (13), the source's random tail (16).

    31 characters: one more would cost 16 bytes more of memory for each pending task. The ids of one
    source are strictly increasing, whatever the wall clock does, and so unique; those of different
    sources differ by 64 random bits.
    """

    def __init__(self, clock: Callable[[], float] = time.time, tail: str | None = None) -> None:
        self._clock = clock
        self._last = 0
        self._tail: str = tail or token_hex(8)

    def renew(self) -> None:
        """Be another source from now on."""
        self._tail = token_hex(8)

    def next(self) -> str:
        """Return a new id."""
        now = int(self._clock() * 1_000_000)
        self._last = now = now if now > self._last else self._last + 1
        return f"{PARTITION}{now:013x}{self._tail}"
