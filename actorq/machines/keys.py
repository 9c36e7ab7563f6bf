"""Whether two submissions under one key are the same: then the second is the first."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actorq.errors import KeyConflict


class Holder(Struct, frozen=True):
    """The task that has a key."""

    id: str
    name: str
    body: Any


def same_call(one: object, other: object) -> bool:
    """Say whether two calls are the same, as far as they can tell.

    In a closed system they hold users' objects, whose ``==`` may raise or return anything at all.
    """
    try:
        return (one == other) is True
    except Exception:  # noqa: BLE001 - it is somebody's code
        return False


def conflict(key: str, name: str, body: object, holder: Holder) -> KeyConflict | None:
    """Return why the task ``holder`` cannot stand for a submission under its key, if it cannot."""
    if name != holder.name:
        why = f"so it cannot stand for task {name} too"
    elif not same_call(body, holder.body):
        why = "which was submitted with other arguments"
    else:
        return None
    return KeyConflict(
        f"key {key!r} is that of task {holder.name} ({holder.id}), {why}: use another key, or "
        "wait until that task's result has expired or discard it"
    )
