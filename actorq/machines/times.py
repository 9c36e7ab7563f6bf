"""When a task's turn comes, and when it is too late for it."""

from __future__ import annotations

from math import inf

from actorq.model.records import Head
from actorq.model.status import TaskPriority

AGING = 3600.0
"""Seconds of waiting that weigh as much as one level of priority."""

_NORMAL = TaskPriority.NORMAL


def rank(priority: TaskPriority, due: float) -> float:
    """Return the place in line: the due time, moved by an hour for each level off normal."""
    if priority is _NORMAL:
        return due  # the same float object, which matters times a million
    return due - (priority - _NORMAL) * AGING


def deadline(head: Head) -> float | None:
    """Return when the task's life is over, or None."""
    seconds = head.options.deadline
    return None if seconds is None else head.since + seconds


def expiry(head: Head) -> float | None:
    """Return when it is too late to start, or None; a task that once started is never too late."""
    seconds = head.options.expires
    return None if seconds is None or head.started_at is not None else head.due + seconds


def over(head: Head) -> float:
    """Return when it is too late to start, for either reason, or inf."""
    ends, expires = deadline(head), expiry(head)
    return min(inf if ends is None else ends, inf if expires is None else expires)
