"""The words for where a task is and how urgent it is."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TaskStatus(StrEnum):
    """Where a task is in its life. The last three are terminal."""

    SCHEDULED = "scheduled"
    """Due later: delayed, or backing off between two attempts."""
    WAITING = "waiting"
    """For other tasks, which it comes after or whose results it needs."""
    PENDING = "pending"
    """Ready, waiting for a free slot."""
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"

    # Enum's own __hash__ is a Python function; these are hashed several times per task.
    __hash__ = str.__hash__

    @property
    def terminal(self) -> bool:
        """Whether nothing but an explicit retry, discard or the retention changes it."""
        return self in _TERMINAL


# As names of this module they cost 0.02 us to read, as attributes of the enum 0.2, and the queue's
# machine reads ten of them for each task.
SCHEDULED = TaskStatus.SCHEDULED
WAITING = TaskStatus.WAITING
PENDING = TaskStatus.PENDING
RUNNING = TaskStatus.RUNNING
SUCCESS = TaskStatus.SUCCESS
FAILURE = TaskStatus.FAILURE
CANCELLED = TaskStatus.CANCELLED

_TERMINAL = frozenset({SUCCESS, FAILURE, CANCELLED})


class TaskPriority(IntEnum):
    """How urgent a task is. Every option also takes the lower-case word."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class FailureKind(StrEnum):
    """Why a task's status is ``failure``."""

    ERROR = "error"
    """Its function raised."""
    TIMEOUT = "timeout"
    """It ran past its timeout, or lived past its deadline."""
    EXPIRED = "expired"
    """It was not started in time."""
    LOST = "lost"
    """Its worker died under it too often."""
    DEPENDENCY = "dependency"
    """A task that it needs did not succeed."""
    STORE = "store"
    """Its outcome is something that the store cannot keep."""
