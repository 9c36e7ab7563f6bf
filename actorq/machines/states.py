"""The life of a task as a table: every move that exists, from where, to where.

The diagram in the documentation is generated from this table; a move that is not in it is a broken
rule of the machine, never a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from actorq.model.status import TaskStatus

_S = TaskStatus


class BrokenRule(AssertionError):
    """The machine was asked for a move that does not exist: a bug, so its state is not trusted.

    The queue actor crashes on it and starts again from the store.
    """


class Move(Enum):
    """What can happen to a task: the word for it, and where it leads from where."""

    ACCEPT = "accept", {None: _S.PENDING}
    DEFER = "accept for later", {None: _S.SCHEDULED}
    WAIT = "accept to wait", {None: _S.WAITING}
    RELEASE = "have all it waits for", {_S.WAITING: _S.PENDING}
    RELEASE_EARLY = "have it before it is due", {_S.WAITING: _S.SCHEDULED}
    DEPEND = "miss what it needs", {_S.WAITING: _S.FAILURE, _S.PENDING: _S.FAILURE}
    FALL_DUE = "fall due", {_S.SCHEDULED: _S.PENDING}
    GRANT = "grant", {_S.PENDING: _S.RUNNING}
    SUCCEED = "succeed", {_S.RUNNING: _S.SUCCESS}
    FAIL = "fail", {_S.RUNNING: _S.FAILURE}
    BACK_OFF = "back off", {_S.RUNNING: _S.SCHEDULED}
    LOSE = "lose the worker", {_S.RUNNING: _S.PENDING}
    HAND_BACK = "hand back", {_S.RUNNING: _S.PENDING}
    CANCEL = (
        "cancel",
        dict.fromkeys((_S.SCHEDULED, _S.WAITING, _S.PENDING, _S.RUNNING), _S.CANCELLED),
    )
    EXPIRE = "expire", dict.fromkeys((_S.SCHEDULED, _S.WAITING, _S.PENDING), _S.FAILURE)
    TIME_OUT = (
        "time out",
        dict.fromkeys((_S.SCHEDULED, _S.WAITING, _S.PENDING, _S.RUNNING), _S.FAILURE),
    )
    SPOIL = (
        "lose its record",
        dict.fromkeys((_S.SCHEDULED, _S.WAITING, _S.PENDING, _S.RUNNING), _S.FAILURE),
    )
    REVIVE = "retry", {_S.FAILURE: _S.PENDING, _S.CANCELLED: _S.PENDING}
    REVIVE_TO_WAIT = "retry, to wait", {_S.FAILURE: _S.WAITING, _S.CANCELLED: _S.WAITING}

    def __init__(self, word: str, targets: Mapping[Any, TaskStatus]) -> None:
        self.word = word
        self.targets = targets

    def broken(self, status: TaskStatus | None) -> BrokenRule:
        """Return the error for a move that does not exist from ``status``."""
        return BrokenRule(f"{self.word!r} is no move of a task that is {status}")


# See `actorq.model.status` for why these are names of the module too.
GRANT = Move.GRANT
SUCCEED = Move.SUCCEED


def target(move: Move, status: TaskStatus | None) -> TaskStatus:
    """Return where ``move`` leads from ``status``.

    Raises:
        BrokenRule: It does not exist from there.
    """
    try:
        return move.targets[status]
    except KeyError:
        raise move.broken(status) from None
