"""The exit codes, and which error ends a verb with which of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

from actorq.errors import (
    ActorDied,
    ActorqError,
    ScheduleNotFound,
    TaskNotFound,
    TransportError,
    leaves,
)


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
    """There is no task with that id, or no schedule of that name."""
    NOT_ENDED = 6
    """``result`` without ``--wait``: the task has not ended yet."""
    INTERRUPTED = 130
    """Ctrl-C; a task that was waited for goes on."""


class Failure(Exception):
    """A verb cannot do what it was asked for; the message is the one line that people see.

    Attributes:
        code: What the program exits with.
        details: More lines, if it is about somebody's code: where that raised.
    """

    def __init__(self, message: str, code: Exit = Exit.FAILED, *, details: str = "") -> None:
        super().__init__(message)
        self.code: Exit = code
        self.details: str = details


def code_of(error: ActorqError) -> Exit:
    """Return the exit code that tells scripts of an error."""
    if isinstance(error, TransportError | ActorDied):
        return Exit.UNREACHABLE
    if isinstance(error, TaskNotFound | ScheduleNotFound):
        return Exit.NOT_FOUND
    return Exit.FAILED


@contextmanager
def usage() -> Generator[None]:
    """What is wrong with an argument in here is wrong with the command line.

    Raises:
        Failure: With `Exit.USAGE`.
    """
    try:
        yield
    except Exception as error:
        wrong = next(leaves(error))
        if isinstance(wrong, ActorqError) or not isinstance(wrong, _WRONG):
            raise
        raise Failure(spoken(str(wrong)), Exit.USAGE) from error


_WRONG = (TypeError, ValueError, OSError)

_SPOKEN = {
    "insecure=True": "--insecure",
    "tokens=": "--token-file",
    "metrics: write": "--metrics: write",
    "tls= takes the file of": "--ca takes the certificate of",
}


def spoken(text: str) -> str:
    """Return a message of the library in the words of the command line."""
    for ours, theirs in _SPOKEN.items():
        text = text.replace(ours, theirs)
    return text
