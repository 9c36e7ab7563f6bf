"""The composition root: one process with a queue actor, a worker, and a client in hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from secrets import token_hex
from types import ModuleType
from typing import Any, TypeVar, TypeVarTuple

import trio

from actorq.client.client import Client
from actorq.client.session import Session
from actorq.contracts.instrument import Instrument
from actorq.contracts.store import Store
from actorq.contracts.transport import Transport
from actorq.errors import ActorError
from actorq.machines.restarts import Backoff
from actorq.machines.supervision import STRATEGIES, RestartType, Strategy, Supervision
from actorq.model.checks import number, whole
from actorq.model.tree import ActorTree
from actorq.registry import Registry
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef
from actorq.runtime.supervisor import MAILBOX, Supervisor, open_supervisor
from actorq.system.backends import TLS, open_store, open_transports
from actorq.system.house import House
from actorq.system.settings import Settings
from actorq.system.tokens import TokensLike, read_tokens
from actorq.system.values import decoder
from actorq.tasks import Task

M = TypeVar("M")
Ts = TypeVarTuple("Ts")


class System(Client):
    """A client of the queue and worker that run in this process, and a home for actors.

    See `open_system`.
    """

    def __init__(self, house: House, session: Session, registry: Registry, *, encode: bool) -> None:
        settings = house.settings
        super().__init__(
            session,
            registry,
            grace=settings.grace,
            max_message=settings.max_message,
            chunk=settings.chunk,
            encode=encode,
        )
        self._house = house

    async def spawn(
        self,
        function: Callable[[Mailbox[M], *Ts], Coroutine[Any, Any, object]],
        *args: *Ts,
        name: str | None = None,
        restart: RestartType = "transient",
        shutdown: float = 5.0,
        kill_after: float = 5.0,
        mailbox: int = MAILBOX,
    ) -> ActorRef[M]:
        """Start an actor under a private supervisor; return its ref once it has started.

        When it has crashed more than three times within five seconds it is dead (`Down`, event
        ``actor_died``), and the system goes on. It ends with the system, after the tasks: if the
        block is left in order, the last one first, and each handles what is in its mailbox first,
        for at most ``shutdown`` seconds.

        See `Supervisor.spawn` for the arguments and what is raised.
        """
        if isinstance(function, Task):
            raise TypeError(f"{function!r} is a task, not an actor: submit it")
        return await self._house.spawned.spawn(
            function,
            *args,
            name=name,
            restart=restart,
            shutdown=shutdown,
            kill_after=kill_after,
            mailbox=mailbox,
        )

    def supervise(
        self,
        strategy: Strategy = "one_for_one",
        *,
        intensity: int = 3,
        period: float = 5.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        name: str = "supervisor",
    ) -> AbstractAsyncContextManager[Supervisor]:
        """Open a block that supervises actors; ``async with system.supervise(...) as supervisor``.

        Leaving it stops them, the last first; if it is left in order, each handles what is in its
        mailbox first, for at most its ``shutdown`` seconds. Supervisors nest: open one inside an
        actor, and that actor crashes with it. It is a nursery: what the block raises leaves it in
        an ExceptionGroup.

        Args:
            strategy: Who goes down, and comes up again, with an actor that crashes: only itself
                (``"one_for_one"``), everybody (``"one_for_all"``), or itself and those that were
                started after it (``"rest_for_one"``).
            intensity: Restarts that it makes within ``period``; one more, and it stops everybody
                and raises.
            period: Seconds.
            backoff: How long it waits before each restart.
            name: What it is called in the tree.

        Raises:
            RestartIntensityExceeded: Out of the block, in an ExceptionGroup: its restarts are
                spent. The block was cancelled, and all of its actors have ended.
            ActorDied: The system is closed.
            TypeError: An argument of the wrong type; the message names it.
            ValueError: One out of range; the message names it.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if not isinstance(backoff, Backoff):
            raise TypeError(f"backoff must be an actorq.Backoff, not {backoff!r}")
        machine = Supervision(
            strategy,
            intensity=whole("intensity", intensity, least=0),
            period=number("period", period, above=True),
            backoff=backoff,
        )
        return open_supervisor(self._house.engine, machine, name, self._house.supervisors)

    def actor(self, name: str) -> ActorRef[Any]:
        """Return the ref of the actor of that name.

        Raises:
            ActorDied: None of that name is alive.
            ActorError: It is one of actorq's own.
        """
        if name in self._house.core.cells:
            raise ActorError(f"the {name} is actorq's own, and takes no messages but its own")
        return self._house.engine.find(name).ref

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the port that it was given where port 0 was asked for."""
        gateway = self._house.gateway
        return [] if gateway is None else list(gateway.addresses)

    @property
    def instruments(self) -> list[Instrument]:
        """Who is told of events: a list that may be changed at any time."""
        return self._house.tell.instruments

    async def tree(self) -> ActorTree:
        """Return a snapshot of all actors, and of the workers elsewhere; ``print`` draws it."""
        await trio.lowlevel.checkpoint()
        return self._house.tree()

    @property
    def dead_letters(self) -> int:
        """How many messages, and answers, have found no reader; each was an event, too."""
        return self._house.engine.post.dead_letters

    def tables(self) -> dict[str, int]:
        """Return the size of every internal table; all are 0 when no task and no actor is live."""
        house = self._house
        queue = house.queue
        actors = len(house.engine.cells) - len(house.core.cells)
        return (
            self.session.tables()
            | (queue.machine.tables() if queue else {})
            | {"actors": actors, "alarms": len(house.engine.alarms)}
            | {"guests": sum(sum(guest.tables().values()) for guest in house.guests)}
        )


@asynccontextmanager
async def open_system(
    store: str | Store = "memory://",
    *,
    tasks: Iterable[Task[..., Any] | ModuleType] = (),
    concurrency: int = 100,
    processes: int | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    max_pending: int = 100_000,
    max_results: int | None = None,
    result_ttl: float = 3_600.0,
    max_message: int = 4 * 1024 * 1024,
    drain: float = 10.0,
    grace: float = 10.0,
    listen: str | Transport | Iterable[str | Transport] = (),
    tokens: TokensLike = None,
    tls: TLS = None,
    insecure: bool = False,
    lease: float = 15.0,
    encode: bool = False,
    instruments: Iterable[Instrument] | None = None,
) -> AsyncGenerator[System, None]:
    """Open a queue and a worker in this process, and yield the client of them.

    Leaving the block takes no new work and starts none; running tasks get ``drain`` seconds (none
    if the block is left by an error or a cancellation), and are then cancelled, like all that had
    not started. When it returns, every task has ended, every waiter has been answered, and no
    coroutine or process is left; threads that did not stop when asked may be.

    Args:
        store: Where tasks are kept: ``"memory://"``, or a `Store`.
        tasks: Tasks, and modules with tasks, that may be submitted by name.
        concurrency: Slots for coroutines and threads; 0 hosts none.
        processes: Slots for tasks with ``run_in="process"``; by default one per CPU. 0 leaves them
            to others.
        lifespan: Makes an async context manager that is entered before the first task and left
            after the last; what it yields is ``current().resources``.
        max_pending: Bound of each queue on tasks that wait.
        max_results: Bound on ended tasks that can be looked up by id; by default 10 000 in memory,
            where the least recently used go first, and none in a durable store.
        result_ttl: Seconds for which they can be.
        max_message: Bound on the encoded arguments of one task, and on its encoded value, in bytes;
            in a closed system only for a task in a process.
        drain: Seconds that running tasks have to end when the block is left.
        grace: Seconds that a cancelled task has to end before it is recorded as cancelled anyway.
        listen: Where other nodes may connect: ``"ws://127.0.0.1:7717"``, ``"wss://..."``,
            ``"ws+unix:///path"``; one address or several. Port 0 takes a free one; see
            `System.addresses`.
        tokens: What other nodes must show, by role: `Tokens`, a mapping such as
            ``{"client": "...", "worker": ["...", "..."]}``, or the path of a file with lines
            ``role:token``. Without any, everybody who can connect may do everything.
        tls: For ``wss://``: an `ssl.SSLContext`, or the paths of the certificate and the key.
        insecure: Listen without TLS, or without tokens, on more than the loopback interface.
        lease: Seconds after which a worker elsewhere is given up if it is not heard of.
        encode: Encode calls and values as a system that listens does, though this one does not:
            for tests. A *closed* system, with a store in memory and no other nodes, passes them by
            reference.
        instruments: Who is told of events; by default the logger ``actorq``.

    Raises:
        TypeError: An argument of the wrong type; the message names it.
        ValueError: One out of range; the message names it.
        DuplicateTask: Two functions under one name in ``tasks``.
        SubmitError: One of them cannot be submitted, or needs the extra ``actorq[process]``, which
            is not installed.
        RestartIntensityExceeded: The queue or the worker crashed again and again; the block was
            cancelled, and everybody who waited got `ActorDied`.
    """
    settings = Settings.checked(
        concurrency=concurrency,
        processes=processes,
        max_pending=max_pending,
        max_results=max_results,
        result_ttl=result_ttl,
        max_message=max_message,
        drain=drain,
        grace=grace,
        lease=lease,
    )
    if lifespan is not None and not callable(lifespan):
        raise TypeError(f"lifespan must make a context manager when it is called, not {lifespan!r}")
    keys = read_tokens(tokens)
    transports = open_transports(
        listen, max_message, tls=tls, insecure=insecure, open_to_all=not keys
    )
    kept = open_store(store)
    encode = encode or bool(transports) or kept.durable
    registry = Registry(tasks, closed=not transports and not kept.durable)
    if encode:
        registry.declared()  # what cannot travel is refused now
    else:
        registry.scheduled()  # and what cannot be submitted
    if processes is None and concurrency:
        registry.check_installed()
    house = House(
        settings,
        kept,
        registry,
        lifespan,
        instruments,
        transports,
        keys.role,
        closed=not encode,
    )
    session = Session(token_hex(8), decoder(registry)) if encode else Session(token_hex(8))
    async with house.open(session):
        yield System(house, session, registry, encode=encode)
