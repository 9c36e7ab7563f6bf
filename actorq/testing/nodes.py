"""The nodes of a simulated cluster: how each of them lives, starts and dies.

Each is opened as users open it, over the real WebSocket transport; only the network below that, and
the disk below the store, are simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Literal

import attrs
import trio

from actorq.client.client import Client
from actorq.codec.records import Records
from actorq.contracts.store import Store
from actorq.errors import ActorqError, leaves
from actorq.model.records import Head, Note, Ownership, Write
from actorq.stores.memory import MemoryStore
from actorq.system.remote import connect, open_parent
from actorq.system.system import System, open_system
from actorq.system.worker import open_worker
from actorq.testing.clock import current_clock
from actorq.testing.disk import Disk
from actorq.testing.faults import FaultyStore
from actorq.testing.history import History
from actorq.testing.network import Host, Internet
from actorq.testing.processes import Process
from actorq.testing.workload import TASKS, Doer, Step, resume, unschedule
from actorq.transports.websocket import WebSocketTransport

PORT = 7717
GRACE = 4.0
QUEUES = ("queue", "standby")
"""The roles of queue nodes, and the names of their hosts."""

_LATENCY = 0.0002, 0.003


@attrs.frozen
class Setup:
    """How large a cluster is, and its settings.

    Attributes:
        store: Whether records live in the memory of the queue node, or on a disk.
        standby: Whether there is a second queue node on that disk.
        locks: Whether it sees at once that an owner is dead; see `Disk`.
        home: Slots in each queue node itself.
        skew: Seconds by which the clock of the standby is ahead.
        namesakes: Whether a worker that takes the place of another one has its name.
    """

    clients: int = 2
    workers: int = 3
    slots: int = 2
    lease: float = 15.0
    suspends: bool = False
    max_pending: int = 1_000
    max_results: int = 10_000
    parent: bool = True
    store: Literal["memory", "disk"] = "memory"
    standby: bool = False
    locks: bool = True
    home: int = 0
    skew: float = 0.0
    namesakes: bool = False

    @property
    def queues(self) -> Sequence[str]:
        """The roles of its queue nodes."""
        return QUEUES if self.standby else QUEUES[:1]


class WatchedStore(FaultyStore):
    """Notes every record that is written, each state once."""

    def __init__(
        self, inner: Store, wrote: Callable[[Ownership, Head], None], *, suspends: bool = False
    ) -> None:
        super().__init__(inner, suspends=suspends)
        self._wrote = wrote
        self._heads: dict[str, Head] = {}

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """See `Store.commit`."""
        before = len(self.commits)
        try:
            await super().commit(ownership, writes, notes)
        finally:
            if len(self.commits) > before:
                self._note(ownership, writes)

    def _note(self, ownership: Ownership, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.head is not None and write.head != self._heads.get(write.id):
                self._heads[write.id] = write.head
                self._wrote(ownership, write.head)


class Node:
    """A process on a host of its own."""

    def __init__(self, role: str, name: str, internet: Internet, skew: float = 0.0) -> None:
        self.role = role
        self.host: Host = internet.host(role if role in QUEUES else name)
        self.process: Process = Process(name, skew)
        self.leave: trio.Event = trio.Event()
        self.system: System | None = None
        """A queue node's, once it has been the owner; for those who look at its tables."""
        self.store: FaultyStore | None = None

    @property
    def gone(self) -> bool:
        """Whether it is dead, or about to be."""
        return self.process.dead or self.leave.is_set()

    def transport(self, role: str) -> WebSocketTransport:
        """Return the way to a queue node from here, or, at that node, from elsewhere."""
        return WebSocketTransport(f"ws://{role}:{PORT}", network=self.host, insecure=True)


class Nodes:
    """All of them. Everything here is outside of all processes.

    Attributes:
        nodes: The newest node of each role.
        disk: What queue nodes share, if they do.
        clients: By their role.
    """

    def __init__(self, setup: Setup, steps: Sequence[Step], random: Random) -> None:
        self.history: History = History()
        self.internet: Internet = Internet(random)
        self.nodes: dict[str, Node] = {}
        self.disk: Disk | None = None
        if setup.store == "disk":
            self.disk = Disk(
                random=random,
                latency=_LATENCY,
                locks=setup.locks,
                codec=Records(),
                wrote=self._wrote,
            )
        self.clients: dict[str, Client] = {}
        self._setup = setup
        self._steps = list(enumerate(steps))
        self._open: dict[str, set[int]] = {}
        self._all: list[Node] = []
        self._numbers: dict[str, int] = {}
        self._deaths, self._news = trio.open_memory_channel[str](inf)
        self._nursery: trio.Nursery
        self._quiet = False

    def _start_all(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        setup = self._setup
        for role in setup.queues:
            self.start(role)
        if setup.parent:
            self.start("parent")
        for number in range(setup.workers):
            self.start(f"worker-{number}")
        for number in range(setup.clients):
            self.start(f"client-{number}")

    def start(self, role: str) -> Node:
        """Start a new node of that role."""
        number = self._numbers[role] = self._numbers.get(role, 0) + 1
        name = role if number == 1 else f"{role}.{number}"
        skew = self._setup.skew if role == "standby" else 0.0
        node = Node(role, name, self.internet, skew)
        self.nodes[role] = node
        self._all.append(node)
        mains = dict.fromkeys(QUEUES, self._be_queue)
        mains |= {"parent": self._be_parent, "client": self._be_client, "janitor": self._be_janitor}
        main = mains.get(role.partition("-")[0], self._be_worker)
        self._nursery.start_soon(node.process.run, lambda: main(node))
        return node

    def _addresses(self, node: Node) -> list[WebSocketTransport]:
        return [node.transport(role) for role in self._setup.queues]

    async def _be_queue(self, node: Node) -> None:
        setup, process = self._setup, node.process
        if self.disk is not None:
            disk_store = self.disk.store(process.name, lambda: not process.dead)
            store = node.store = FaultyStore(disk_store)
        else:
            memory = MemoryStore()
            store = node.store = WatchedStore(
                memory,
                lambda *written: self._wrote(process.name, *written),
                suspends=setup.suspends,
            )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._leave_early, node, nursery.cancel_scope)
                async with open_system(
                    store,
                    tasks=TASKS,
                    concurrency=setup.home,
                    processes=0,
                    drain=2.0,
                    listen=node.transport(node.role),
                    insecure=True,
                    lease=setup.lease,
                    grace=GRACE,
                    max_pending=setup.max_pending,
                    max_results=setup.max_results,
                    instruments=[self.history],
                ) as system:
                    node.system = system
                    await node.leave.wait()
                nursery.cancel_scope.cancel()
        except* ActorqError as errors:
            self.history.note("failed", error=repr(next(leaves(errors))))
            if not self._quiet:
                self.kill(node, told=True, reported=False)
                self._start_later(node)

    async def _leave_early(self, node: Node, scope: trio.CancelScope) -> None:
        """Have one leave that never was the owner, and waits for that."""
        await node.leave.wait()
        if node.system is None:
            scope.cancel()

    def _start_later(self, node: Node) -> None:
        """Have whoever looks after a node see that it is dead, and start another."""

        def succeed() -> None:
            if self.nodes[node.role] is node and not self._quiet:
                self.start(node.role)

        # Not from here: a task that is started by the dead is one of them.
        current_clock().at(trio.current_time() + 0.5, succeed)

    def _wrote(self, name: str, ownership: Ownership, head: Head) -> None:
        schedule = head.options.meta.get("schedule")
        more = {} if schedule is None else {"schedule": schedule}
        self.history.put(
            name, "record", id=head.id, status=str(head.status), fence=head.fence,
            attempts=head.attempts, deaths=head.deaths, worker=head.worker,
            cancel=None if head.cancel is None else head.cancel.by,
            epoch=ownership.epoch, lineage=ownership.lineage, **more,
        )  # fmt: skip

    async def _be_worker(self, node: Node) -> None:
        async with open_worker(
            self._addresses(node),
            tasks=TASKS,
            concurrency=self._setup.slots,
            processes=0,
            drain=2.0,
            grace=GRACE,
            instruments=[self.history],
            node=node.role if self._setup.namesakes else node.process.name,
        ):
            await node.leave.wait()
        self.history.note("left")

    async def _be_parent(self, node: Node) -> None:
        async with (
            open_parent(self._addresses(node), insecure=True, instruments=[self.history]) as parent,
            trio.open_nursery() as nursery,
        ):
            async for name in self._news:
                nursery.start_soon(parent.died, name)

    async def _be_client(self, node: Node) -> None:
        number = int(node.role.partition("-")[2])
        mine = [(n, step) for n, step in self._steps if step.client == number]
        self._open[node.role] = {n for n, _ in mine}
        async with connect(
            self._addresses(node),
            tasks=TASKS,
            connect_timeout=None,
            grace=GRACE,
            instruments=[self.history],
        ) as client:
            self.clients[node.role] = client
            doer = Doer(client, self.history)
            async with trio.open_nursery() as nursery:
                for n, step in mine:
                    nursery.start_soon(self._do, node, doer, n, step)
            await node.leave.wait()

    async def _be_janitor(self, node: Node) -> None:
        """End what dead clients have begun, and nobody else would end."""
        dead = {node.process.name for node in self._all if node.process.dead}
        begun = [e for e in self.history.events if e.where in dead]
        instruments = [self.history]
        async with connect(
            self._addresses(node), connect_timeout=None, instruments=instruments
        ) as client:
            for event in begun:
                if event.what == "scheduling":
                    await unschedule(client, event.details["name"])
                elif event.what == "pausing":
                    await resume(client)
        self.history.note("tidied")

    async def _do(self, node: Node, doer: Doer, number: int, step: Step) -> None:
        await doer.do(number, step)
        self._open[node.role].discard(number)

    def kill(self, node: Node, *, told: bool, reported: bool, applied: bool = True) -> None:
        """End a node's process at once.

        Args:
            node: Which.
            told: Whether the network says so, and not only the silence.
            reported: Whether a worker's parent does.
            applied: Whether what it has asked of the disk still arrives there.
        """
        if node.process.dead:
            return
        node.process.die()
        node.host.kill(silently=not told)
        if self.disk is not None and not applied:
            self.disk.lose(node.process.name)
        if reported and node.role.startswith("worker"):
            self._deaths.send_nowait(node.process.name)

    async def _bury(self) -> None:
        self.history.open = False
        self._quiet = True
        if self.disk is not None:
            self.disk.close()
        order = sorted(self._all, key=lambda node: (not node.process.dead, node.role in QUEUES))
        async with trio.open_nursery() as nursery:
            for node in order:
                if node.role not in QUEUES or node.process.dead:
                    nursery.start_soon(node.process.bury)
        for node in order:
            if not node.process.ended.is_set():
                await node.process.bury()
