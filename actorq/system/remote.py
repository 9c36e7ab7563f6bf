"""Clients elsewhere: `connect`, and the connection of a worker's parent process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from math import inf
from random import Random
from secrets import token_hex
from types import ModuleType
from typing import Any

import trio

from actorq.client.client import Client
from actorq.client.session import Session
from actorq.contracts.instrument import Instrument
from actorq.contracts.transport import Transport
from actorq.errors import ActorDied, ConnectFailed, TransportError
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.checks import number
from actorq.registry import Registry
from actorq.runtime.dialer import Dialer
from actorq.system.backends import TLS, open_dialled
from actorq.system.settings import library
from actorq.system.tokens import own_token
from actorq.system.values import decoder
from actorq.tasks import Task
from actorq.telemetry.events import teller

MAX_MESSAGE = 4 * 1024 * 1024

Addresses = str | Transport | Iterable[str | Transport]


@asynccontextmanager
async def connect(
    url: Addresses,
    *,
    token: str | None = None,
    tasks: Iterable[Task[..., Any] | ModuleType] = (),
    tls: TLS = None,
    insecure: bool = False,
    connect_timeout: float | None = 30.0,
    max_message: int = MAX_MESSAGE,
    grace: float = 10.0,
    instruments: Iterable[Instrument] | None = None,
) -> AsyncGenerator[Client, None]:
    """Connect to a queue node elsewhere, and yield a client of it.

    A lost connection is dialled again, and whatever was not answered is asked again, so verbs only
    take longer; use cancel scopes to bound that. Tasks that belong to a block (`Client.call`,
    `Client.map`, nurseries) are cancelled when this program is out of the queue's reach for more
    than 5 seconds.

    Args:
        url: Where it listens: ``"ws://..."``, ``"wss://..."``, ``"ws+unix:///path"``; or several,
            which are tried in turn.
        token: What to show there; by default the environment variable ``ACTORQ_TOKEN``.
        tasks: Tasks, and modules with tasks, that are submitted by name, or whose values are asked
            for by id: they say of which types those are.
        tls: For ``wss://``: an `ssl.SSLContext`, or the path of the authority's certificate; by
            default those that the system trusts.
        insecure: Send the token to another machine without TLS.
        connect_timeout: Seconds within which somebody must answer; None waits for ever.
        max_message: Bound on the encoded arguments of one task, in bytes, if the queue's is not
            lower.
        grace: Seconds that a cancelled task has to end before it is recorded as cancelled anyway.
        instruments: Who is told of events; by default the logger ``actorq``.

    Raises:
        ConnectFailed: Nobody has answered in time.
        AuthenticationFailed: The token was refused.
        IncompatiblePeer: Whoever answers there speaks something else.
        ValueError: A URL or a bound that cannot be; the message names it.
    """
    transports = open_dialled(url, max_message, tls=tls, insecure=insecure)
    grace = number("grace", grace)
    if connect_timeout is not None:
        connect_timeout = number("connect_timeout", connect_timeout)
    registry = Registry(tasks, closed=False)
    session = Session(token_hex(8), decoder(registry), leased=True)
    tell = teller(instruments)
    dialer = Dialer(
        transports, own_token(token), session,
        node=f"client {session.name[:8]}", library=library(), max_message=max_message, tell=tell,
        random=Random(),
    )  # fmt: skip
    async with _dialling(dialer, session, connect_timeout) as accepted:
        yield Client(
            session,
            registry,
            grace=grace,
            max_message=min(max_message, accepted.max_message),
            chunk=accepted.chunk,
            encode=True,
            slack=accepted.window,
        )


@asynccontextmanager
@trio.lowlevel.enable_ki_protection  # whatever comes, the dialer is told to end
async def _dialling(
    dialer: Dialer, session: Session, seconds: float | None
) -> AsyncGenerator[w.Accepted, None]:
    """Dial as long as the block lasts; it begins when somebody has answered."""
    left_by: BaseException | None = None

    # Shielded, for whoever leaves by a cancellation has something to say, too.
    dialling = trio.CancelScope(shield=True)

    async def dial() -> None:
        try:
            with dialling:
                await dialer.run()
        except (TransportError, ValueError) as error:  # or its transport does not take the token
            session.disconnected(error)
            dialer.accepted.fail(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, name="actorq dialer")
        try:
            with trio.move_on_after(inf if seconds is None else seconds):
                await dialer.accepted.wait()
            if not dialer.accepted.done:
                raise ConnectFailed(f"nobody has answered in {seconds} s: {dialer.why_not()}")
            yield dialer.accepted.peek()
        except BaseException as error:  # noqa: BLE001 - raised again, outside the nursery
            left_by = error
        try:
            await dialer.leave()
        except BaseException as error:  # noqa: BLE001 - a second Ctrl-C ends the waiting
            left_by = error
        finally:
            session.disconnected(ActorDied("this client is closed"))
            dialling.cancel("the client leaves")
    if left_by is not None:
        raise left_by


class Parent:
    """What `open_parent` yields."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def died(self, node: str) -> None:
        """Tell the queue that the process of this worker node has ended; return once it knows."""
        await self._session.ask(m.WorkerDied(self._session.number(), node)).wait()


@asynccontextmanager
async def open_parent(
    url: Addresses,
    *,
    token: str | None = None,
    tls: TLS = None,
    insecure: bool = False,
    instruments: Iterable[Instrument] | None = None,
) -> AsyncGenerator[Parent, None]:
    """Connect as the parent process of workers; see `connect` for the arguments.

    The block begins at once, whether somebody answers or not.

    Raises:
        ValueError: A URL that cannot be.
    """
    name = token_hex(8)
    session = Session(name, leased=True, hello=w.ParentHello(name))
    dialer = Dialer(
        open_dialled(url, MAX_MESSAGE, tls=tls, insecure=insecure), own_token(token), session,
        node=f"parent {name[:8]}", library=library(), tell=teller(instruments), random=Random(),
    )  # fmt: skip
    dialer.accepted.set(w.Accepted(w.PROTOCOL, "", "", 0, 0.0, 0.0))  # nobody waits for it
    async with _dialling(dialer, session, None):
        yield Parent(session)
