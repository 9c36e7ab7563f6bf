"""The options that several verbs share, as the command line knows them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import attrs
import trio
from cyclopts import Group, Parameter, validators

from actorq.cli.credentials import read_token
from actorq.cli.dialling import DEFAULT_URL, dialled
from actorq.cli.exits import Exit, Failure, usage
from actorq.client.client import Client
from actorq.contracts.instrument import Instrument
from actorq.contracts.transport import Transport
from actorq.system.remote import connect
from actorq.system.tokens import Role

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""Within which a question that takes no time is answered, or given up."""

CONNECTION = Group("Connection", sort_key=10)
SECONDS = validators.Number(gte=0, lte=10_000_000_000)

Json = Annotated[bool, Parameter(help="Print JSON, for programs.")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Parameter(env_var="ACTORQ_LOG_LEVEL", help="What is written to stderr at least."),
]
Lifespan = Annotated[
    str | None,
    Parameter(help="module:attribute of the async context manager around all tasks of a process."),
]
Drain = Annotated[
    float,
    Parameter(
        env_var="ACTORQ_DRAIN",
        validator=SECONDS,
        help="Seconds that running tasks have to finish after SIGTERM.",
    ),
]


@Parameter(name="*", group=CONNECTION)
@attrs.frozen
class Way:
    """How a program finds the queue, and what it shows there."""

    url: Annotated[
        tuple[str, ...],
        Parameter(
            env_var="ACTORQ_URL",
            help="Where the queue node listens. Several are tried in turn (in the environment "
            "variable, with commas between them).",
        ),
    ] = (DEFAULT_URL,)
    token_file: Annotated[
        Path | None,
        Parameter(
            env_var="ACTORQ_TOKEN_FILE",
            help="A file with the token to show, alone or in a line role:token. Without it, the "
            "token is that of the environment variable ACTORQ_TOKEN.",
        ),
    ] = None
    ca: Annotated[
        Path | None,
        Parameter(
            env_var="ACTORQ_CA",
            help="For wss://: the certificate of the authority that signed the queue node's; by "
            "default those that this system trusts.",
        ),
    ] = None
    insecure: Annotated[
        bool, Parameter(help="Send the token to another machine without TLS, over ws://.")
    ] = False

    def token(self, role: Role) -> str | None:
        """Return the token to show as this; see `read_token`."""
        return read_token(self.token_file, role)

    def transports(self, token: str | None) -> Sequence[Transport]:
        """Return what dials the addresses, and may show this token there; see `dialled`."""
        return dialled(self.url, self.ca, insecure=self.insecure, secret=token is not None)


@Parameter(name="*", group=CONNECTION)
@attrs.frozen
class Connection(Way):
    """How a verb finds the queue."""

    connect_timeout: Annotated[
        float,
        Parameter(validator=SECONDS, help="Seconds within which a queue node must answer."),
    ] = 5.0

    @asynccontextmanager
    async def open(self, *instruments: Instrument) -> AsyncGenerator[Client, None]:
        """Connect as a client.

        Raises:
            Failure: An option that makes no sense.
            TransportError: Nobody answers, or refuses.
        """
        token = self.token("client")
        connection = connect(
            self.transports(token),
            token=token,
            connect_timeout=self.connect_timeout,
            instruments=instruments,
        )
        async with AsyncExitStack() as stack:
            with usage():
                client = await stack.enter_async_context(connection)
            yield client

    def ask(self, question: Callable[[Client], Awaitable[T]], seconds: float = ANSWER_SECONDS) -> T:
        """Connect, ask, and return the answer.

        Raises:
            Failure: What it asks for makes no sense, or it has taken too long.
            ActorqError: See `open`, and the question.
        """

        async def main() -> T:
            async with self.open() as client:
                return await answered(question(client), seconds)

        return trio.run(main)


async def answered(question: Awaitable[T], seconds: float = ANSWER_SECONDS) -> T:
    """Return the answer; a queue that has gone away may be long in coming back.

    Raises:
        Failure: The question makes no sense, or it has taken too long.
    """
    with trio.move_on_after(seconds), usage():
        return await question
    raise Failure(f"the queue node has not answered in {seconds:g} s", Exit.UNREACHABLE)
