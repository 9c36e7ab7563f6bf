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
    """How a verb has ended; `MEANINGS` says what each code means. Scripts rely on it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CUT_OFF = 3
    UNREACHABLE = 4
    NOT_FOUND = 5
    NOT_ENDED = 6
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done; a task that was waited for has succeeded",
    Exit.FAILED: "the task failed, was cancelled or refused; `doctor` found a problem; `serve` or "
    "`worker` could not start, or broke down; `retry` or `discard` of a task that is not such a "
    "one; the output cannot be written",
    Exit.USAGE: "the command line makes no sense; nothing was done",
    Exit.CUT_OFF: "`serve` or `worker` ended before all was finished or handed back",
    Exit.UNREACHABLE: "no queue node answered, or it refused the token or the version",
    Exit.NOT_FOUND: "there is no task with that id, or no schedule of that name",
    Exit.NOT_ENDED: "`result` without `--wait`: the task has not ended yet",
    Exit.INTERRUPTED: "Ctrl-C; a task that was waited for goes on",
}


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
def usage(culprit: str = "") -> Generator[None]:
    """What is wrong with an argument in here is wrong with the command line.

    ``culprit`` is named, if the error does not.

    Raises:
        Failure: With `Exit.USAGE`.
    """
    try:
        yield
    except Exception as error:
        wrong = next(leaves(error))
        if isinstance(wrong, ActorqError) or not isinstance(wrong, _WRONG):
            raise
        said = spoken(str(wrong))
        where = "" if culprit in said else f"{culprit}: "
        raise Failure(f"{where}{said}", Exit.USAGE) from error


_WRONG = (TypeError, ValueError, OSError)

_SPOKEN = {
    "insecure=True": "--insecure",
    "open it with processes=0": "give --cpu-processes 0",
    "processes: they need": "--cpu-processes needs",
    "tokens=": "--token-file",
    "give token=": "give --token-file",
    "metrics: write": "--metrics: write",
    "tls= takes the file of": "--ca takes the certificate of",
}


def spoken(text: str) -> str:
    """Return a message of the library in the words of the command line."""
    for ours, theirs in _SPOKEN.items():
        text = text.replace(ours, theirs)
    return text
