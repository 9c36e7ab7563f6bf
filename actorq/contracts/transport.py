"""How nodes reach each other: connections that carry batches of bytes, in order.

A transport knows addresses, handshakes and frames. It does not know what the bytes say, who may say
it (it asks `Authorize`), or what to do when a connection ends: whoever uses it dials again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

Authorize = Callable[[str | None], str | int]
"""From the token that a peer brought, if any, to its role, or to the HTTP status of its refusal.

If it raises, the peer is refused with 500.
"""


class Connection(Protocol):
    """One connection, from either end. Exactly one coroutine sends, and exactly one receives.

    Attributes:
        peer: The other end's address, for people.
        role: At the end that listens: what `Authorize` said; otherwise "".
    """

    @property
    def peer(self) -> str:
        """See above."""
        ...

    @property
    def role(self) -> str:
        """See above."""
        ...

    async def send(self, batch: bytes) -> None:
        """Send one batch; return when it is on its way, which says nothing of its arrival.

        It waits while the peer does not read. Batches arrive whole and in order, or the connection
        ends. Cancelled, it ends the connection: half a batch must not pass for anything else.

        Raises:
            ConnectionLost: The connection has ended.
            ValueError: The batch is over ``max_batch``; nothing was sent.
        """

    async def receive(self) -> bytes:
        """Return the next batch. Cancelled, it loses nothing.

        Always have somebody receive, or the end of the connection may not be noticed.

        Raises:
            ConnectionLost: The connection has ended; ``code`` and ``reason`` say why. What the peer
                sent before it ended the connection comes first. A batch that is over ``max_batch``
                ends it (1009).
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the connection, and tell the peer why if it still listens. Twice is once.

        What was sent before arrives first, if the peer reads it in time. A reason is cut to 123
        bytes of UTF-8.

        Bounded: it returns within two seconds, whatever the peer does; cancelled, at once, and the
        connection has ended then, too.
        """


Serve = Callable[[Connection], Awaitable[None]]
"""What a listener does with each connection; when it returns, the connection is closed (1000).

`ConnectionLost` may leave it: that is a return. After another exception the code is 1011, when the
listener is cancelled 1001.
"""


class Transport(Protocol):
    """One address, to dial or to listen at.

    Attributes:
        url: The address, for people: it holds no secret.
        threadsafe: Whether a loop in another thread of this program may dial it, too.
    """

    @property
    def url(self) -> str:
        """See above."""
        ...

    @property
    def threadsafe(self) -> bool:
        """See above."""
        ...

    def connect(self, token: str | None) -> AbstractAsyncContextManager[Connection]:
        """Dial it once; the connection lives as long as the block.

        Leaving the block closes it, bounded as `Connection.aclose` is, also when it is left by
        cancellation: whoever is in a hurry ends the connection first, by an `aclose` that is
        cancelled. What the block raises comes out as it is, in no group.

        Raises:
            AuthenticationFailed: The token was refused; trying again will not help.
            IncompatiblePeer: Something answers that does not speak this protocol.
            ConnectFailed: Nobody answers, or not now (a standby, a full house).
        """
        ...

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve every connection until cancelled; the status is the address that it listens at.

        Nothing that a peer does before it is authorized reaches ``serve``, and nothing that one
        peer does ends the others: not even an exception of ``serve``, which closes its connection.

        Raises:
            OSError: The address cannot be had.
        """
