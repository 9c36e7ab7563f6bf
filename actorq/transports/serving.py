"""What every transport does with those who come: it asks who they are, serves or refuses them."""

from __future__ import annotations

import logging
from http import HTTPStatus

import trio

from actorq.contracts.transport import Authorize, Connection, Serve
from actorq.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    IncompatiblePeer,
    TransportError,
)

logger: logging.Logger = logging.getLogger("actorq.transports")

NORMAL = 1000
GOING_AWAY = 1001
UNSUPPORTED = 1003
ABNORMAL = 1006  # never said, only concluded
TOO_BIG = 1009
INTERNAL_ERROR = 1011

_REASON_BYTES = 123  # what a close frame has room for


def judged(authorize: Authorize, token: str | None) -> str | int:
    """Return the role that the token gives, or the status of the refusal."""
    try:
        return authorize(token)
    except Exception:
        logger.exception("a connection was refused because authorize() raised")
        return HTTPStatus.INTERNAL_SERVER_ERROR


def refusal(url: str, status: int, *, shown: bool = True) -> TransportError:
    """Return the error of one who was refused with an HTTP status; ``shown``: a token was.

    That of a server, or of a proxy whose server is away for now, is no verdict on the one who asks.
    """
    told = f"HTTP {status}"
    if status in set(HTTPStatus):
        told += f", {HTTPStatus(status).phrase}"
    if status == HTTPStatus.UNAUTHORIZED and not shown:
        return AuthenticationFailed(
            f"{url} asks for a token ({told}), and none was shown: set ACTORQ_TOKEN, or give token="
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AuthenticationFailed(f"{url} refused the token ({told}): give one that it knows")
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        return ConnectFailed(f"{url} takes no connections now ({told}): a standby, or overloaded")
    return IncompatiblePeer(
        f"{url} answers, but not as a queue node does ({told}): check the address and the versions"
    )


async def attend(serve: Serve, connection: Connection) -> None:
    """Serve one connection until it is closed. Only cancellation and Ctrl-C leave it."""
    code, reason = GOING_AWAY, "the listener is closing"
    try:
        await serve(connection)
        code, reason = NORMAL, ""
    except* ConnectionLost:
        code, reason = NORMAL, ""
    except* Exception as errors:
        logger.exception("serving %s failed", connection.peer, exc_info=errors)
        code, reason = INTERNAL_ERROR, "an internal error: see the other node's log"
    finally:
        with trio.CancelScope(shield=True):  # aclose() is bounded
            await connection.aclose(code, reason)


def cut(reason: str) -> str:
    """Return as much of a reason as a close frame has room for."""
    return reason.encode(errors="replace")[:_REASON_BYTES].decode(errors="ignore")


def check_size(batch: bytes, max_batch: int) -> None:
    """Refuse a batch before anything of it is sent: it would cost the connection.

    Raises:
        ValueError: It is over ``max_batch``.
    """
    if len(batch) > max_batch:
        raise ValueError(f"a batch of {len(batch)} bytes is over max_batch, {max_batch} bytes")
