"""The composition root: one process with a queue actor, a worker, and a client in hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from math import inf
from secrets import token_hex
from types import ModuleType
from typing import Any, TypeVar, TypeVarTuple

import trio

from actorq.actors.executors.current import forget_task
from actorq.actors.queue import Mail, QueueActor
from actorq.actors.worker import WorkerActor
from actorq.client.client import CHUNK, Client
from actorq.client.session import Session
from actorq.contracts.instrument import Instrument
from actorq.contracts.store import Store
from actorq.errors import ActorDied, ActorError, leaves
from actorq.machines.restarts import Backoff
from actorq.machines.supervision import STRATEGIES, RestartType, Strategy, Supervision
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model.events import Event, EventKind
from actorq.model.options import number, whole
from actorq.model.tree import ActorTree, TaskNode
from actorq.runtime.cell import Cell
from actorq.runtime.clock import AnchoredClock
from actorq.runtime.engine import Engine
from actorq.runtime.exchange import Exchange
from actorq.runtime.future import Future
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef
from actorq.runtime.supervisor import MAILBOX, Supervisor, open_supervisor
from actorq.runtime.tree import take_tree
from actorq.system.backends import open_store
from actorq.system.settings import Settings
from actorq.tasks import Registry, Task
from actorq.telemetry.logging import LogInstrument

M = TypeVar("M")
Ts = TypeVarTuple("Ts")

_CLOSE_SLACK = 5.0
"""Seconds that closing waits for tasks beyond their grace, before it goes on without them."""


class System(Client):
    """A client of the queue and worker that run in this process, and a home for actors.

    See `open_system`.
    """

    def __init__(self, house: _House, session: Session, registry: Registry) -> None:
        settings = house.settings
        super().__init__(
            session,
            registry,
            grace=settings.grace,
            max_message=settings.max_message,
            # A chunk gets in as a whole: a small part of a queue, or it might never fit beside
            # tasks that are due later.
            chunk=max(1, min(CHUNK, settings.max_pending // 10)),
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

    async def tree(self) -> ActorTree:
        """Return a snapshot of all actors; ``print`` draws it."""
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
        )


class _House:
    """What `open_system` puts together."""

    core: Supervisor
    """actorq's own actors."""
    spawned: Supervisor
    """Those of `System.spawn`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None,
        instruments: Iterable[Instrument],
    ) -> None:
        self.settings = settings
        # An actor that is spawned inside a task is not that task.
        self.engine: Engine = Engine(self.tell, context=forget_task)
        self.supervisors: list[Supervisor] = []
        self.exchange: Exchange = Exchange(ended=m.Gone())
        self.queue: QueueActor | None = None
        self._worker: WorkerActor | None = None
        self._store = store
        self._lifespan = lifespan
        self._instruments = tuple(instruments)
        self._clock = AnchoredClock()
        self._node = token_hex(4)
        self._scope = trio.CancelScope(shield=True)
        self._orderly = False
        self.ready: Future[None] = Future()
        """Set when the queue and the worker are up; fails with what kept them down."""
        self.failure: BaseException | None = None
        """What brought the house down."""

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection  # whatever comes, the actors are told to end
    async def open(self, registry: Registry) -> AsyncGenerator[System, None]:
        """Start the actors, yield the client, and end everything; see `open_system`."""
        session = Session(token_hex(8))
        system = System(self, session, registry)
        left_by: BaseException | None = None
        async with trio.open_nursery() as nursery:
            # Before the worker: what the client has asked, closing above all, is sent again first.
            self.exchange.attach(session)
            nursery.start_soon(self.run, nursery.cancel_scope, name="actorq root supervisor")
            try:
                await self.ready.wait()
                yield system
            except BaseException as error:  # noqa: BLE001 - raised again, when all is closed
                left_by = error
            self._orderly = left_by is None
            try:
                if self.failure is None and left_by is None and self.settings.drain:
                    await _let_finish(session, self.settings)
            except BaseException as error:  # noqa: BLE001 - likewise
                left_by = error
            try:
                if self.failure is None:
                    await _end_all(session, self.settings)
            except BaseException as error:  # noqa: BLE001 - a second Ctrl-C ends the waiting
                left_by = error
            self.close()
        # Records are not known to the garbage collector, and a task's function or meta may lead
        # back to this system: nothing must lead from here to them.
        self.queue = self._worker = None
        del self._store
        if self.failure is not None and not isinstance(left_by, KeyboardInterrupt | SystemExit):
            raise self.failure
        if left_by is not None:
            raise left_by

    async def run(self, block: trio.CancelScope) -> None:
        """Keep the actors running until `close`; if that fails, note why and cancel ``block``.

        Shielded: when the block is cancelled from outside, its tasks are ended first, in order.
        """
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    await self._run_actors(nursery)
            except BaseException as error:
                if all(isinstance(member, trio.Cancelled) for member in leaves(error)):
                    raise
                self.failure = cause = _essence(error)
                self.exchange.close(ActorDied(f"the system has failed: {cause!r}"))
                self.ready.fail(cause)
                block.cancel("the system has failed")

    @trio.lowlevel.enable_ki_protection
    async def _run_actors(self, nursery: trio.Nursery) -> None:
        engine = self.engine
        ringing = trio.CancelScope(shield=True)  # until the last actor has ended
        nursery.start_soon(self._ring, ringing, name="actorq alarms")
        self.core = Supervisor(engine, nursery, Supervision(), name="actorq")
        self.spawned = Supervisor(engine, nursery, Supervision(apart=True), name="spawned")
        self.supervisors += [self.core, self.spawned]
        # Both know how to end when they are cancelled, and take the time that their tasks need.
        spawn = partial(self.core.spawn, restart="permanent", shutdown=0.0, kill_after=inf)
        try:
            await spawn(self._run_queue, name="queue actor")
            if self.settings.concurrency or self.settings.processes:
                await spawn(self._run_worker, name="worker actor")
            self.ready.set(None)
            await self.core.failed.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._close_late_supervisors()
                await self.spawned.close(drain=self._orderly, at_once=not self._orderly)
                engine.closed = True
                await self._close_late_supervisors()
                await self.core.close()
            ringing.cancel("the system is closed")

    async def _close_late_supervisors(self) -> None:
        """End those that were opened by somebody outside the block."""
        for supervisor in reversed(self.supervisors[2:]):
            if supervisor.owner is None:
                await supervisor.close(at_once=True)

    async def _ring(self, scope: trio.CancelScope) -> None:
        with scope:
            await self.engine.alarms.run()

    def close(self) -> None:
        """Stop the actors; whoever still waits for an answer is told."""
        try:
            if self.ready.done and self.failure is None:
                self.spawned.stop_restarting()  # until now they may be the callbacks of tasks
            self.exchange.close(ActorDied("the system is closed"))
        finally:
            self._scope.cancel("the system is closed")

    async def _run_queue(self, inbox: Mailbox[Mail]) -> None:
        settings = self.settings
        self.queue = QueueActor(
            token_hex(8),
            store=self._store,
            exchange=self.exchange,
            clock=self._clock,
            limits=Limits(settings.max_pending, settings.result_ttl, settings.grace),
            max_results=settings.max_results,
            tell=self.tell,
        )
        await self.queue.run(inbox)

    async def _run_worker(self, inbox: Mailbox[Any]) -> None:
        settings = self.settings
        self._worker = WorkerActor(
            self._node,
            self.engine.find("worker actor").incarnation,
            concurrency=settings.concurrency,
            processes=settings.processes,
            grace=settings.grace,
            lifespan=self._lifespan,
            clock=self._clock,
            tell=self.tell,
        )
        await self._worker.run(inbox, self.exchange.attach, self.exchange.detach)

    def tree(self) -> ActorTree:
        """See `System.tree`."""

        def tasks(cell: Cell) -> tuple[TaskNode, ...] | None:
            worker = self._worker
            return worker.running() if worker and cell.name == "worker actor" else None

        return take_tree(self.engine, self.supervisors, self._node, tasks)

    def tell(self, kind: EventKind, **details: Any) -> None:
        event = Event(kind, details)
        for instrument in self._instruments:
            with suppress(Exception):  # a listener's trouble is not the system's
                instrument.event(event)


def _essence(error: BaseException) -> BaseException:
    """Return the KeyboardInterrupt or SystemExit in a group, or the one exception that it holds."""
    members = list(leaves(error))
    for member in members:
        if isinstance(member, KeyboardInterrupt | SystemExit):
            return member
    return members[0] if len(members) == 1 else error


@asynccontextmanager
async def open_system(
    store: str | Store = "memory://",
    *,
    tasks: Iterable[Task[..., Any] | ModuleType] = (),
    concurrency: int = 100,
    processes: int | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    max_pending: int = 100_000,
    max_results: int = 10_000,
    result_ttl: float = 3_600.0,
    max_message: int = 4 * 1024 * 1024,
    drain: float = 10.0,
    grace: float = 10.0,
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
        processes: Slots for tasks with ``run_in="process"``; by default one per CPU.
        lifespan: Makes an async context manager that is entered before the first task and left
            after the last; what it yields is ``current().resources``.
        max_pending: Bound of each queue on tasks that wait.
        max_results: Bound on ended tasks that can be looked up by id; least recently used go first.
        result_ttl: Seconds for which they can be.
        max_message: Bound on the encoded arguments of a task in a process, in bytes.
        drain: Seconds that running tasks have to end when the block is left.
        grace: Seconds that a cancelled task has to end before it is recorded as cancelled anyway.
        instruments: Who is told of events; by default the logger ``actorq``.

    Raises:
        TypeError: An argument of the wrong type; the message names it.
        ValueError: One out of range; the message names it.
        DuplicateTask: Two functions under one name in ``tasks``.
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
    )
    if lifespan is not None and not callable(lifespan):
        raise TypeError(f"lifespan must make a context manager when it is called, not {lifespan!r}")
    house = _House(
        settings,
        open_store(store),
        lifespan,
        [LogInstrument()] if instruments is None else instruments,
    )
    async with house.open(Registry(tasks)) as system:
        yield system


async def _let_finish(session: Session, settings: Settings) -> None:
    """Start nothing more, and give what runs some time to end by itself."""
    with trio.move_on_after(settings.drain), suppress(ActorDied):
        await session.ask(m.Close(session.number(), False, 0.0)).wait()


async def _end_all(session: Session, settings: Settings) -> None:
    """Cancel every task that is left and wait for that, not for ever."""
    with trio.move_on_after(settings.grace + _CLOSE_SLACK, shield=True), suppress(ActorDied):
        await session.ask(m.Close(session.number(), True, settings.grace)).wait()
