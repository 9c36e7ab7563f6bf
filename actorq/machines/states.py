"""The life of a task as a table: every move that exists, from where, to where.

The diagram in the documentation is generated from this table; a move that is not in it is a broken
rule of the machine, never a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from actorq.model.status import TaskStatus

_S = TaskStatus


class BrokenRule(AssertionError):
    """The machine was asked for a move that does not exist: a bug, so its state is not trusted.

    The queue actor crashes on it and starts again from the store.
    """


class Move(Enum):
    """What can happen to a task."""

    ACCEPT = "accept"
    DEFER = "accept for later"
    FALL_DUE = "fall due"
    GRANT = "grant"
    SUCCEED = "succeed"
    FAIL = "fail"
    BACK_OFF = "back off"
    LOSE = "lose the worker"
    HAND_BACK = "hand back"
    CANCEL = "cancel"
    EXPIRE = "expire"
    TIME_OUT = "time out"
    REVIVE = "retry"

    # As for TaskStatus: Enum's own __hash__ is a Python function.
    __hash__ = object.__hash__


TRANSITIONS: Mapping[Move, Mapping[TaskStatus | None, TaskStatus]] = {
    Move.ACCEPT: {None: _S.PENDING},
    Move.DEFER: {None: _S.SCHEDULED},
    Move.FALL_DUE: {_S.SCHEDULED: _S.PENDING},
    Move.GRANT: {_S.PENDING: _S.RUNNING},
    Move.SUCCEED: {_S.RUNNING: _S.SUCCESS},
    Move.FAIL: {_S.RUNNING: _S.FAILURE},
    Move.BACK_OFF: {_S.RUNNING: _S.SCHEDULED},
    Move.LOSE: {_S.RUNNING: _S.PENDING},
    Move.HAND_BACK: {_S.RUNNING: _S.PENDING},
    Move.CANCEL: {
        _S.SCHEDULED: _S.CANCELLED,
        _S.PENDING: _S.CANCELLED,
        _S.RUNNING: _S.CANCELLED,
    },
    Move.EXPIRE: {_S.SCHEDULED: _S.FAILURE, _S.PENDING: _S.FAILURE},
    Move.TIME_OUT: {_S.SCHEDULED: _S.FAILURE, _S.PENDING: _S.FAILURE, _S.RUNNING: _S.FAILURE},
    Move.REVIVE: {_S.FAILURE: _S.PENDING, _S.CANCELLED: _S.PENDING},
}


def target(move: Move, status: TaskStatus | None) -> TaskStatus:
    """Return where ``move`` leads from ``status``.

    Raises:
        BrokenRule: It does not exist from there.
    """
    try:
        return TRANSITIONS[move][status]
    except KeyError:
        raise BrokenRule(f"{move.value!r} is no move of a task that is {status}") from None
