"""A worker node: one worker, in a program of its own, and its way to the queue."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from math import inf
from random import Random
from secrets import token_hex
from types import ModuleType
from typing import Any

import trio

from actorq.actors.calls import Encoded
from actorq.actors.executors.current import forget_task
from actorq.actors.worker import WorkerActor
from actorq.contracts.instrument import Instrument
from actorq.contracts.link import Peer, Port
from actorq.contracts.transport import Transport
from actorq.errors import leaves
from actorq.machines.supervision import Supervision
from actorq.model.checks import name as check_name
from actorq.model.ids import HOME
from actorq.registry import Registry
from actorq.runtime.clock import AnchoredClock
from actorq.runtime.dialer import Dialer
from actorq.runtime.engine import Engine
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.supervisor import Supervisor
from actorq.system.backends import TLS, open_dialled
from actorq.system.beats import Lag, beat, beating_in_thread
from actorq.system.remote import MAX_MESSAGE, Addresses
from actorq.system.settings import Settings, library
from actorq.system.tokens import own_token
from actorq.tasks import Task
from actorq.telemetry.events import teller


class WorkerNode:
    """What `open_worker` yields.

    Attributes:
        node: The node's id; the worker is called ``node.incarnation``.
    """

    node: str

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.node = place.node

    @property
    def connected(self) -> bool:
        """Whether a queue has accepted it, and the connection stands."""
        return self._place.dialer.connected

    async def wait_connected(self) -> None:
        """Wait until a queue has accepted it for the first time.

        Raises:
            TransportError: It was refused.
        """
        await self._place.dialer.accepted.wait()

    async def drain(self, seconds: float | None = None) -> bool:
        """Take no more work, let what runs end for so long, and hand back the rest.

        Args:
            seconds: By default ``drain`` of `open_worker`.

        Returns:
            Whether the queue has confirmed all of it.
        """
        return await self._place.drain(self._place.drain_seconds if seconds is None else seconds)


class _Relay:
    """Connects whichever incarnation of the worker is alive. Implements `Peer`."""

    def __init__(self) -> None:
        self.cut: Callable[[str], None] = lambda _: None
        self._port: Port | None = None
        self._worker: Peer | None = None
        self._greeted = False

    def attach(self, worker: Peer) -> None:
        """This one, from now on."""
        self._worker = worker
        if self._port is not None:
            self.connected(self._port)

    def detach(self, worker: Peer) -> None:
        """No longer; what it held is settled by the hello of the next one."""
        if self._worker is worker:
            self._worker = None
            if self._greeted:
                self.cut("the worker starts again")

    def connected(self, port: Port) -> None:
        """Have the worker say hello."""
        self._port = port
        if self._worker is not None:
            self._greeted = True
            self._worker.connected(port)

    def received(self, message: Any) -> None:
        """Hand it on."""
        if self._worker is not None:
            self._worker.received(message)

    def disconnected(self, error: BaseException | None) -> None:
        """Have it wait."""
        self._port = None
        self._greeted = False
        if self._worker is not None:
            self._worker.disconnected(error)

    def suspended(self, error: Exception) -> None:
        """Hand it on."""
        if self._worker is not None:
            self._worker.suspended(error)


class _Place:
    """What `open_worker` puts together."""

    def __init__(
        self,
        transports: Sequence[Transport],
        token: str | None,
        registry: Registry,
        settings: Settings,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None,
        tell: Callable[..., None],
        node: str,
        process: str,
        random: Random,
    ) -> None:
        self.node = node
        self._process = process
        self.drain_seconds: float = settings.drain
        self._settings = settings
        self._registry = registry
        self._lifespan = lifespan
        self._transports = transports
        self._token = token
        self._random = random
        self._tell = tell
        self._clock = AnchoredClock()
        self._calls = Encoded(registry, settings.max_message)
        self._engine = Engine(tell, context=forget_task)
        self._relay = _Relay()
        self._worker: WorkerActor | None = None
        self.dialer: Dialer = Dialer(
            transports, token, self._relay,
            node=f"worker {node}", library=library(), max_message=settings.max_message,
            tell=tell, random=random,
        )  # fmt: skip
        self._relay.cut = self.dialer.cut
        self.failure: BaseException | None = None
        self.scope: trio.CancelScope = trio.CancelScope(shield=True)

    async def drain(self, seconds: float) -> bool:
        """See `WorkerNode.drain`."""
        return True if self._worker is None else await self._worker.drain(seconds)

    async def run(self, block: trio.CancelScope) -> None:
        """Work until cancelled; if that fails, note why and cancel ``block``."""
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ring, name="actorq alarms")
                    nursery.start_soon(self._dial, name="actorq dialer")
                    nursery.start_soon(self._beat, name="actorq beats")
                    nursery.start_soon(self._heed, name="actorq bounds")
                    await self._supervise(nursery)
            except BaseException as error:
                found = [e for e in leaves(error) if not isinstance(e, trio.Cancelled)]
                if not found:
                    raise
                self.failure = found[0]
                block.cancel("the worker has failed")

    async def _supervise(self, nursery: trio.Nursery) -> None:
        core = Supervisor(self._engine, nursery, Supervision(), name="actorq")
        try:
            await core.spawn(
                self._run_worker,
                name="worker actor",
                restart="permanent",
                shutdown=0.0,
                kill_after=inf,
            )
            await core.failed.wait()
        finally:
            with trio.CancelScope(shield=True):
                await core.close()

    async def _run_worker(self, inbox: Mailbox[Any]) -> None:
        settings = self._settings
        self._worker = worker = WorkerActor(
            self.node,
            f"{self._process}{self._engine.find('worker actor').incarnation}",
            concurrency=settings.concurrency,
            processes=settings.processes,
            grace=settings.grace,
            lifespan=self._lifespan,
            calls=self._calls,
            registry=self._registry,
            clock=self._clock,
            tell=self._tell,
        )
        await worker.run(inbox, self._relay.attach, self._relay.detach)

    async def _dial(self) -> None:
        await self.dialer.run()

    async def _beat(self) -> None:
        """Beat, from before the node says hello: its first task may block the loop."""
        threads = all(transport.threadsafe for transport in self._transports)
        real = type(trio.lowlevel.current_clock()).__name__ == "SystemClock"
        send = partial(beat, self._transports, self._token, self.node)
        if threads and real:
            lag = Lag(time.monotonic)
            async with beating_in_thread(partial(send, lag.seconds, self._random)):
                await lag.keep()
        # A loop in virtual time, or connections within this one: no thread could beat.
        lag = Lag(trio.current_time)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, lag.seconds, self._random, name="actorq beat")
            await lag.keep()

    async def _heed(self) -> None:
        """Keep to the owner's bound, once one has answered."""
        accepted = await self.dialer.accepted.wait()
        self._calls.limit(accepted.max_message)

    async def _ring(self) -> None:
        await self._engine.alarms.run()

    @trio.lowlevel.enable_ki_protection  # whatever comes, the node is told to end
    async def close(self, left_by: BaseException | None) -> BaseException | None:
        """End the node, whose block was left by this; return what to raise."""
        try:
            if self.failure is None and left_by is None:
                await self.drain(self.drain_seconds)
        except BaseException as error:  # noqa: BLE001 - raised when all is closed
            left_by = error
        try:
            with trio.CancelScope(shield=True):
                if self.failure is None:
                    await self.drain(0.0)
                await self.dialer.leave()
        except BaseException as error:  # noqa: BLE001 - a second Ctrl-C ends the waiting
            left_by = error
        finally:
            self.scope.cancel("the worker node is closed")
        return left_by


@asynccontextmanager
@trio.lowlevel.enable_ki_protection  # whatever comes, the node is told to end
async def open_worker(
    url: Addresses,
    *,
    tasks: Iterable[Task[..., Any] | ModuleType],
    concurrency: int = 100,
    processes: int | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    token: str | None = None,
    tls: TLS = None,
    insecure: bool = False,
    max_message: int = MAX_MESSAGE,
    drain: float = 30.0,
    grace: float = 10.0,
    instruments: Iterable[Instrument] | None = None,
    node: str | None = None,
) -> AsyncGenerator[WorkerNode, None]:
    """Run tasks for a queue node elsewhere, as long as the block lasts.

    The block begins at once; a queue that does not answer is dialled for ever, and that is
    reported. Leaving it takes no more work; what runs gets ``drain`` seconds to end (none if the
    block is left by an error or a cancellation), and what is left is stopped and handed back to the
    queue, which spends no attempt.

    Args:
        url: Where the queue listens, one address or several; see `connect`.
        tasks: Tasks, and modules with tasks: all that it will run.
        concurrency: Slots for coroutines and threads.
        processes: Slots for tasks with ``run_in="process"``; by default one per CPU. 0 leaves them
            to others.
        lifespan: Makes an async context manager that is entered before the first task and left
            after the last; what it yields is ``current().resources``.
        token: What to show there; by default the environment variable ``ACTORQ_TOKEN``.
        tls: See `connect`.
        insecure: See `connect`.
        max_message: Bound on one encoded value, in bytes, if the queue's is not lower.
        drain: Seconds that running tasks have to end when the block is left.
        grace: Seconds that a task has to stop when it is handed back.
        instruments: Who is told of events; by default the logger ``actorq``.
        node: Its id, if a parent process is to know it; by default random.

    Raises:
        AuthenticationFailed: The token was refused; the block is cancelled.
        IncompatiblePeer: Whoever answers there speaks something else; likewise.
        RestartIntensityExceeded: The worker crashed again and again; likewise.
        DuplicateTask: Two functions under one name in ``tasks``.
        EncodeError: The options of one of them cannot travel.
        SubmitError: One of them needs the extra ``actorq[process]``, which is not installed.
        ValueError: An argument out of range; the message names it.
    """
    settings = Settings.checked(
        concurrency=concurrency,
        processes=processes,
        max_pending=1,
        max_results=0,
        result_ttl=0.0,
        max_message=max_message,
        drain=drain,
        grace=grace,
        lease=15.0,
    )
    transports = open_dialled(url, max_message, tls=tls, insecure=insecure)
    registry = Registry(tasks, closed=False)
    registry.declared()  # or nobody would ever accept the worker
    if processes is None and concurrency:
        registry.check_installed()
    if node is not None:
        check_name("node", node)
        if node.startswith(HOME):
            why = f"node: must not begin with {HOME!r}, as those do that die with the queue"
            raise ValueError(why)
    # Another process of the same name is another worker: what its predecessor ran, it has not.
    process = "" if node is None else token_hex(3)
    place = _Place(
        transports, own_token(token), registry, settings, lifespan,
        teller(instruments), node or token_hex(4), process, Random(),
    )  # fmt: skip
    left_by: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.run, nursery.cancel_scope, name="actorq worker node")
        try:
            yield WorkerNode(place)
        except BaseException as error:  # noqa: BLE001 - raised again, when all is closed
            left_by = error
        left_by = await place.close(left_by)
    if place.failure is not None and not isinstance(left_by, KeyboardInterrupt | SystemExit):
        raise place.failure
    if left_by is not None:
        raise left_by
