"""The exit codes, and which error ends a verb with which of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from actorq.errors import ActorDied, ActorqError, TaskNotFound, TransportError


class Exit(IntEnum):
    """What the exit code of every verb means; scripts rely on it."""

    OK = 0
    """Done; a task that was waited for has succeeded."""
    FAILED = 1
    """The task failed, was cancelled or refused; ``doctor`` found a problem; ``serve`` or
    ``worker`` could not start or broke down."""
    USAGE = 2
    """The command line does not make sense; nothing was done."""
    CUT_OFF = 3
    """``serve`` or ``worker`` ended before all was finished or handed back."""
    UNREACHABLE = 4
    """No queue node answered, or it refused the token or the version."""
    NOT_FOUND = 5
    """There is no task with that id."""
    NOT_ENDED = 6
    """``result`` without ``--wait``: the task has not ended yet."""
    INTERRUPTED = 130
    """Ctrl-C; a task that was waited for goes on."""


class Failure(Exception):
    """A verb cannot do what it was asked for; the message is the one line that people see."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code: Exit = code


def code_of(error: ActorqError) -> Exit:
    """Return the exit code that tells scripts of an error."""
    if isinstance(error, TransportError | ActorDied):
        return Exit.UNREACHABLE
    if isinstance(error, TaskNotFound):
        return Exit.NOT_FOUND
    return Exit.FAILED


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong with an argument in here is wrong with the command line.

    Raises:
        Failure: With `Exit.USAGE`.
    """
    try:
        yield
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, ActorqError):
            raise
        raise Failure(str(error), Exit.USAGE) from error
