"""What `actorq.open_system` puts together: the actors, and how they begin and end."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from math import inf
from secrets import token_hex
from typing import Any

import trio
from attrs import evolve

from actorq.actors.calls import Calls, Direct, Encoded
from actorq.actors.executors.current import forget_task
from actorq.actors.gateway import Gateway
from actorq.actors.guests import Guests
from actorq.actors.queue import Memory, QueueActor
from actorq.actors.worker import WorkerActor
from actorq.client.session import Session
from actorq.contracts.instrument import Instrument
from actorq.contracts.store import Store
from actorq.contracts.transport import Authorize, Transport
from actorq.errors import (
    ActorDied,
    ActorqError,
    OwnedElsewhere,
    RowRefused,
    StoreError,
    StoreUnavailable,
    leaves,
)
from actorq.machines.queue import Mail
from actorq.machines.supervision import Supervision
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.ids import HOME
from actorq.model.tree import ActorTree, TaskNode
from actorq.registry import Registry
from actorq.runtime.cell import Cell
from actorq.runtime.clock import AnchoredClock
from actorq.runtime.engine import Engine
from actorq.runtime.exchange import Exchange
from actorq.runtime.future import Future
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.supervisor import Supervisor
from actorq.runtime.tree import take_tree
from actorq.system.settings import MAX_RESULTS, Settings, library
from actorq.telemetry.events import Teller, teller

_CLOSE_SLACK = 5.0
"""Seconds that closing waits for tasks beyond their grace, before it goes on without them."""

_GOODBYE_SECONDS = 2.0
"""Within which other nodes are told that the system closes, and all that they are to know."""


_in_use: list[Store] = []
"""What the systems of this process keep their tasks in."""


class House:
    """One queue node."""

    core: Supervisor
    """actorq's own actors."""
    spawned: Supervisor
    """Those of `System.spawn`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        registry: Registry,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None,
        instruments: Iterable[Instrument] | None,
        transports: Sequence[Transport] = (),
        authorize: Authorize = lambda _: "admin",
        *,
        closed: bool = True,
    ) -> None:
        """Build it; `open` runs it. ``closed``: calls are passed by reference."""
        self.settings = settings
        self.tell: Teller = teller(instruments)
        # An actor that is spawned inside a task is not that task.
        self.engine: Engine = Engine(self.tell, context=forget_task)
        self.supervisors: list[Supervisor] = []
        self.exchange: Exchange = Exchange(ended=m.Gone())
        self.queue: QueueActor | None = None
        self._worker: WorkerActor | None = None
        self._store = store
        self._registry = registry
        self._lifespan = lifespan
        self._transports = transports
        self._role = authorize
        self._closed = closed
        self._limits = Limits(
            settings.max_pending, settings.result_ttl, settings.grace, settings.lease
        )
        self.guests: Guests = Guests(self.exchange, settings.max_message)
        self.gateway: Gateway | None = None
        self._clock = AnchoredClock()
        self._node = token_hex(4)
        self._memory = Memory()
        self._scope = trio.CancelScope(shield=True)
        self._orderly = False
        self.ready: Future[None] = Future()
        """Set when the queue and the worker are up; fails with what kept them down."""
        self.failure: BaseException | None = None
        """What brought the house down."""

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection  # whatever comes, the actors are told to end
    async def open(self, session: Session) -> AsyncGenerator[None, None]:
        """Start the actors with this client, and end everything; see `actorq.open_system`."""
        if any(store is self._store for store in _in_use):
            raise StoreUnavailable(
                f"store: {getattr(self._store, 'url', self._store)} is in use by another system of "
                "this process, which would lose it: give each a Store of its own, or a URL"
            )
        _in_use.append(self._store)
        try:
            await self._store.open()
            await self._warn_of_store()
            async with self._run_block(session):
                yield
        finally:
            _in_use.remove(self._store)
            with trio.CancelScope(shield=True):
                await self._store.close()
            del self._store

    async def _warn_of_store(self) -> None:
        """Say so if the store had better not be where it is."""
        if self._store.durable:
            with suppress(StoreError):
                warning = (await self._store.describe()).warning
                if warning is not None:
                    self.tell(EventKind.STORE_UNSAFE, why=warning)

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def _run_block(self, session: Session) -> AsyncGenerator[None, None]:
        left_by: BaseException | None = None
        async with trio.open_nursery() as nursery:
            # Before the worker: what the client has asked, closing above all, is sent again first.
            self.exchange.attach(session)
            nursery.start_soon(self.run, nursery.cancel_scope, name="actorq root supervisor")
            try:
                await self.ready.wait()
                yield
            except BaseException as error:  # noqa: BLE001 - raised again, when all is closed
                left_by = error
            self._orderly = left_by is None
            try:
                if self.failure is None and left_by is None and self.settings.drain:
                    await self._let_finish(session)
            except BaseException as error:  # noqa: BLE001 - likewise
                left_by = error
            try:
                if self.failure is None:
                    await self._end_all(session)
                    await self._say_goodbye()
            except BaseException as error:  # noqa: BLE001 - a second Ctrl-C ends the waiting
                left_by = error
            self.close()
        # Records are not known to the garbage collector, and a task's function or meta may lead
        # back to this system: nothing must lead from here to them.
        self.queue = self._worker = None
        if self.failure is not None and not isinstance(left_by, KeyboardInterrupt | SystemExit):
            raise self.failure
        if left_by is not None:
            raise left_by

    async def _let_finish(self, session: Session) -> None:
        """Start nothing more, and give what runs some time to end by itself."""
        if isinstance(self.exchange.suspended, OwnedElsewhere):
            return
        keep = self._store.durable
        close = m.Close(session.number(), cancel=False, grace=0.0, keep=keep)
        with trio.move_on_after(self.settings.drain), suppress(ActorqError):
            if self.exchange.suspended is None:
                await session.ask(close).wait()
            if keep and self._worker is not None:
                await self._worker.finish()

    async def _end_all(self, session: Session) -> None:
        """End what is left, in a bounded time: what a durable store holds is handed back to it."""
        if self.exchange.suspended is not None:
            return  # whoever owns the store sees to what is in it
        grace = self.settings.grace
        with trio.move_on_after(grace + _CLOSE_SLACK, shield=True), suppress(ActorqError):
            if self._store.durable:
                if self._worker is not None:
                    await self._worker.drain(0.0)
            else:
                await session.ask(m.Close(session.number(), cancel=True, grace=grace)).wait()

    async def _say_goodbye(self) -> None:
        """Let other nodes have what waits for them, and tell them why it is over."""
        with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
            for guest in self.guests:
                guest.disconnected(ActorDied("the system is closed"))
            for guest in self.guests:
                if guest.wire is not None:
                    await guest.parted.wait()

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
            if self._transports:
                await spawn(self._run_gateway, name="gateway actor")
            # A standby is up without being ready; others know it already.
            self._memory.owned.call_when_done(lambda: self.ready.set(None))
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

    def _max_results(self) -> int:
        if self.settings.max_results is not None:
            return self.settings.max_results
        return sys.maxsize if self._store.durable else MAX_RESULTS

    @property
    def _home(self) -> str:
        """The node of the worker in this process."""
        return HOME + self._node

    def _authorize(self, token: str | None) -> str | int:
        role = self._role(token)
        away = not self._memory.owned.done or isinstance(self.exchange.suspended, OwnedElsewhere)
        return HTTPStatus.SERVICE_UNAVAILABLE if away and isinstance(role, str) else role

    async def _run_queue(self, inbox: Mailbox[Mail]) -> None:
        while True:
            try:
                await self._run_one_queue(inbox)
            except RowRefused as error:
                # What is on the way is asked again, and this one record is refused by itself then.
                # That is no crash: everybody can have bad luck with a row, as often as it is new.
                if not self._memory.refuse(error.id, str(error)):
                    raise
                self.tell(EventKind.ROW_REFUSED, id=error.id, why=str(error))

    async def _run_one_queue(self, inbox: Mailbox[Mail]) -> None:
        self.queue = QueueActor(
            token_hex(8),
            store=self._store,
            exchange=self.exchange,
            clock=self._clock,
            limits=self._limits,
            max_results=self._max_results(),
            home=self._home,
            memory=self._memory,
            tell=self.tell,
        )
        await self.queue.run(inbox)

    async def _run_worker(self, inbox: Mailbox[Any]) -> None:
        settings = self.settings
        registry = self._registry
        direct = self._closed
        calls: Calls = Direct() if direct else Encoded(registry, settings.max_message)
        self._worker = worker = WorkerActor(
            self._home,
            str(self.engine.find("worker actor").incarnation),
            concurrency=settings.concurrency,
            processes=settings.processes,
            grace=settings.grace,
            lifespan=self._lifespan,
            calls=calls,
            registry=None if direct else registry,
            scheduled=registry.scheduled() if direct else None,
            clock=self._clock,
            tell=self.tell,
        )
        registry.on_change = None if direct else worker.knows_more
        await worker.run(inbox, self.exchange.attach, self.exchange.detach)

    async def _run_gateway(self, inbox: Mailbox[Any]) -> None:
        self.gateway = Gateway(
            self._transports,
            self._authorize,
            self.guests,
            node=self._node,
            library=library(),
            limits=self._limits,
            max_message=self.settings.max_message,
            chunk=self.settings.chunk,
            tree=self.tree,
            tell=self.tell,
        )
        await self.gateway.run(inbox)

    def tree(self) -> ActorTree:
        """See `System.tree`."""

        def tasks(cell: Cell) -> tuple[TaskNode, ...] | None:
            worker = self._worker
            return worker.running() if worker and cell.name == "worker actor" else None

        workers = self.queue.machine.workers() if self.queue else []
        remote = tuple(worker for worker in workers if worker.remote)
        return evolve(take_tree(self.engine, self.supervisors, self._node, tasks), workers=remote)


def _essence(error: BaseException) -> BaseException:
    """Return the KeyboardInterrupt or SystemExit in a group, or the one exception that it holds."""
    members = list(leaves(error))
    for member in members:
        if isinstance(member, KeyboardInterrupt | SystemExit):
            return member
    return members[0] if len(members) == 1 else error
