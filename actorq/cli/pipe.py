"""What a worker's parent and its processes say to each other, over a pair of sockets.

The process has its end as its standard input when it starts. A line is a message. The first one
tells the process what to do, so that nothing secret is in its arguments or its environment; that
the connection ends tells it that its parent is gone.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct


class Work(Struct, frozen=True, tag="work"):
    """What a process is to do: the options of ``actorq worker``, and more.

    Attributes:
        cpu_processes: Its own share of them.
        again: Whether it has worked before: then, with ``reload``, modules that cannot be imported
            are tried again when they change.
    """

    url: tuple[str, ...]
    token: str | None
    ca: str | None
    insecure: bool
    concurrency: int
    cpu_processes: int | None
    drain: float
    grace: float
    lifespan: str | None
    log_level: str
    reload: bool
    again: bool

    def __repr__(self) -> str:
        return f"<Work for {', '.join(self.url)}>"  # no token in it


class Drain(Struct, frozen=True, tag="drain"):
    """Take no more work, finish, and end."""


class Stop(Struct, frozen=True, tag="stop"):
    """End now."""


class Ready(Struct, frozen=True, tag="ready"):
    """The process has been accepted by a queue."""


class Failed(Struct, frozen=True, tag="failed"):
    """The process cannot work, and ends.

    Attributes:
        message: Why, in one line.
        details: More lines, if it is about somebody's code.
    """

    message: str
    details: str = ""


class Changed(Struct, frozen=True, tag="changed"):
    """These source files have changed; the process ends, to be started again."""

    files: tuple[str, ...]


Order = Work | Drain | Stop
Report = Ready | Failed | Changed

read_order: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode
"""Returns what a parent's line says."""

read_report: Callable[[bytes], Report] = msgspec.json.Decoder(Report).decode
"""Returns what a process's line says."""


def line_of(message: Order | Report) -> bytes:
    """Return the line that says it."""
    return msgspec.json.encode(message) + b"\n"
