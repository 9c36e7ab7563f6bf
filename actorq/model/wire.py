"""What two nodes say to each other about their connection, around the messages that it carries.

Whoever dials says `Hello` and then its own hello, as the first batch; the other end answers with
`Accepted`, or closes with a code from `Close`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from actorq.model.bounds import Label

PROTOCOL = 1
"""The version of the protocol that this library speaks, as in ``actorq.v1``."""

HELLO_SECONDS = 5.0
"""Within which a hello must come, and be answered."""

PING_SECONDS = 1.0
"""Between two pings of whoever has dialled."""

SILENCE_AT_DIALLER = 4.0
"""Seconds without a byte after which whoever has dialled dials again; less than the window."""

SILENCE_AT_LISTENER = 9.0
"""The same for whoever listens."""

BEAT_SILENCE = 6.0
"""Seconds after which an unanswered beat connection is dialled again."""


class Close(IntEnum):
    """Why a connection is closed, as the WebSocket protocol numbers it for applications."""

    NORMAL = 1000
    GOING_AWAY = 1001
    """The system is closed, or the worker has drained."""
    BROKEN = 1011
    """An error of the node that closes."""
    AGAIN = 1012
    """The queue actor starts again; come back at once."""
    BAD_MESSAGE = 4400
    """What came was no message, or not one for this connection. Coming back does not help."""
    FORBIDDEN = 4403
    """The token is not for this role. Coming back does not help."""
    HELLO_TIMEOUT = 4408
    SUPERSEDED = 4409
    """The same peer has a newer connection."""
    SILENT = 4410
    """Nothing came for too long."""
    VERSION = 4426
    """No common version of the protocol. Coming back does not help."""
    TOO_SLOW = 4429
    """The peer reads much more slowly than there is to say."""
    LOST = 4430
    """The peer was given up; it begins anew."""
    UNAVAILABLE = 4503
    """The store cannot be written for now; the reason says why. Come back later."""


FATAL = frozenset({Close.BAD_MESSAGE, Close.FORBIDDEN, Close.VERSION})
"""After which dialling again would only do the same again."""


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """The first envelope of every connection.

    Attributes:
        versions: The lowest and the highest version of the protocol that the peer speaks.
        number: Grows with each connection of the same peer, so that an old one is known as such.
        node: The peer's name for people.
        library: Its version of this library.
        max_message: Its bound on one call or value, in bytes, if that is not the owner's.
        features: What it can do besides; unknown ones are ignored.
    """

    versions: tuple[int, int]
    number: Annotated[int, Meta(ge=1)]
    node: Label = ""
    library: Label = ""
    max_message: Annotated[int, Meta(ge=1_024)] | None = None
    features: tuple[str, ...] = ()


class BeatHello(Struct, frozen=True, array_like=True, tag="beats"):
    """This connection carries the beats of ``node``, from a thread of its own."""

    node: Label


class ParentHello(Struct, frozen=True, array_like=True, tag="parent"):
    """This connection tells of workers' processes that have ended."""

    session: Label


class Accepted(Struct, frozen=True, array_like=True, tag="accepted"):
    """The answer to `Hello`.

    Attributes:
        version: The version of the protocol that both speak from now on.
        node: The owner's name for people.
        library: Its version of this library.
        max_message: Its bound on one call or value, in bytes.
        lease: Its lease, in seconds.
        window: Its reattach window, in seconds.
        chunk: How many tasks it takes in one step.
        features: What it can do besides; unknown ones are ignored.
    """

    version: int
    node: str
    library: str
    max_message: int
    lease: float
    window: float
    chunk: int = 1_000
    features: tuple[str, ...] = ()


class Ping(Struct, frozen=True, array_like=True, tag="ping"):
    """Say `Pong`. ``got``: how many durable messages (outcomes, replies) came here so far."""

    got: int = 0


class Got(Struct, frozen=True, array_like=True, tag="got"):
    """So many durable messages came on this connection. Has no answer."""

    got: int


class Pong(Struct, frozen=True, array_like=True, tag="pong"):
    """The answer to `Ping`, and to a beat."""


class Bye(Struct, frozen=True, array_like=True, tag="bye"):
    """The peer leaves for good; what it has is over at once."""
