"""Whether two submissions under one key are the same: then the second is the first."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, msgpack

from actorq.errors import KeyConflict

_REORDERED_MAX = 65_536
"""Bytes of a call up to which it is looked for another order; as it takes time of everybody."""


class Holder(Struct, frozen=True):
    """The task that has a key."""

    id: str
    name: str
    body: Any
    new: bool = False
    """Whether it is of the same submit, which is accepted as a whole, or not."""


def same_call(one: object, other: object) -> bool:
    """Say whether two calls are the same, as far as they can tell.

    In a closed system they hold users' objects, whose ``==`` may raise or return anything at all.
    Elsewhere they are bytes, in which keywords and keys of dicts have an order that says nothing.
    """
    try:
        return (one == other) is True or (
            type(one) is bytes
            and type(other) is bytes
            and len(one) == len(other) <= _REORDERED_MAX
            and msgpack.decode(one) == msgpack.decode(other)
            and sorted(one) == sorted(other)  # else True was sent, and 1, which are equal
        )
    except Exception:  # noqa: BLE001 - it is somebody's code, or no call
        return False


def conflict(key: str, name: str, body: object, holder: Holder) -> KeyConflict | None:
    """Return why the task ``holder`` cannot stand for a submission under its key, if it cannot."""
    if name != holder.name:
        why = f"so it cannot stand for task {name} too"
    elif not same_call(body, holder.body):
        why = "which was submitted with other arguments"
    else:
        return None
    if holder.new:
        return KeyConflict(
            f"key {key!r} is also that of another task of the same submit, {holder.name}, {why}: "
            "use another key"
        )
    return KeyConflict(
        f"key {key!r} is that of task {holder.name} ({holder.id}), {why}: use another key, or "
        "wait until that task's result has expired or discard it"
    )
