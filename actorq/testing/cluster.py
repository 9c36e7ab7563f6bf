"""A whole cluster in one trio loop: clients, a queue node, workers and a parent, on one network.

Each node is opened as users open it, over the real WebSocket transport; only the network below that
is simulated. What happens to it is a list of faults.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from random import Random
from typing import Any, Literal

import attrs
import trio

from actorq.client.client import Client
from actorq.contracts.store import Store
from actorq.model.records import Ownership, Write
from actorq.stores.memory import MemoryStore
from actorq.system.remote import connect, open_parent
from actorq.system.system import System, open_system
from actorq.system.worker import open_worker
from actorq.testing.clock import current_clock
from actorq.testing.faults import FaultyStore
from actorq.testing.history import History
from actorq.testing.network import Host, Internet, Side
from actorq.testing.processes import Process
from actorq.testing.workload import Doer, Step, World, perform, set_world
from actorq.transports.websocket import WebSocketTransport

ADDRESS = "ws://queue:7717"
GRACE = 4.0

FaultKind = Literal[
    "cut", "hold", "half close", "slow", "refuse", "silence", "stall", "block", "crash", "drain",
    "crash actor", "restart queue",
]  # fmt: skip


@attrs.frozen
class Fault:
    """Something that goes wrong.

    Attributes:
        at: When.
        kind: ``cut``, ``hold``, ``half close`` and ``slow`` are about the links of ``whom`` with
            the queue node, in the direction from ``side``; ``refuse`` and ``silence`` about its
            dials; ``stall`` and ``crash`` about its process; ``block`` is a stall of a worker's
            loop that leaves its beats alone; ``drain`` ends a worker in order; ``crash actor`` has
            the queue actor's next commits fail.
        whom: A node by the name of its role, as ``worker-1``.
        seconds: How long it lasts; after a crash or a drain, how soon there is a new one.
        side: See ``kind``; None is both.
        link: Which of the node's links, the oldest first; None is all. (A worker has two, its own
            and that of its beats.)
        after: With ``cut``: bytes that still arrive. With ``crash actor``: commits that succeed.
        told: With ``crash``: whether the network says so, and not only the silence. With ``hold``:
            whether what was held arrives in the end; otherwise it is lost with its link.
        reported: With ``crash``: whether its parent says so.
        applied: With ``crash actor``: whether the commit is stored all the same.
    """

    at: float
    kind: FaultKind
    whom: str = "queue"
    seconds: float = 0.0
    side: Side | None = None
    link: int | None = None
    after: int = 0
    told: bool = True
    reported: bool = False
    applied: bool = False


@attrs.frozen
class Setup:
    """How large a cluster is, and its settings."""

    clients: int = 2
    workers: int = 3
    slots: int = 2
    lease: float = 15.0
    suspends: bool = False
    max_pending: int = 1_000
    max_results: int = 10_000
    parent: bool = True


class WatchedStore(FaultyStore):
    """Notes every record that is written."""

    def __init__(self, inner: Store, history: History, *, suspends: bool = False) -> None:
        super().__init__(inner, suspends=suspends)
        self._history = history

    async def commit(self, ownership: Ownership, writes: Sequence[Write]) -> None:
        """See `Store.commit`."""
        before = len(self.commits)
        try:
            await super().commit(ownership, writes)
        finally:
            if len(self.commits) > before:
                self._note(ownership, writes)

    def _note(self, ownership: Ownership, writes: Sequence[Write]) -> None:
        for write in writes:
            head = write.head
            if head is not None:
                self._history.note(
                    "record", id=write.id, status=str(head.status), fence=head.fence,
                    attempts=head.attempts, deaths=head.deaths, worker=head.worker,
                    cancel=None if head.cancel is None else head.cancel.by, epoch=ownership.epoch,
                )  # fmt: skip


class Node:
    """A process on a host of its own."""

    def __init__(self, role: str, name: str, internet: Internet) -> None:
        self.role = role
        self.host: Host = internet.host("queue" if role == "queue" else name)
        self.process: Process = Process(name)
        self.leave: trio.Event = trio.Event()

    def transport(self) -> WebSocketTransport:
        """Return the way to the queue from here, or, at the queue, from elsewhere."""
        return WebSocketTransport(ADDRESS, network=self.host, insecure=True)


class Cluster:
    """Runs one. Everything here is outside of all processes.

    Attributes:
        nodes: The newest node of each role.
        system: The queue node's, for those who look at its tables.
    """

    def __init__(self, setup: Setup, steps: Sequence[Step], random: Random) -> None:
        self.history: History = History()
        self.internet: Internet = Internet(random)
        self.nodes: dict[str, Node] = {}
        self.system: System | None = None
        self.store: WatchedStore | None = None
        self.clients: dict[str, Client] = {}
        self._setup = setup
        self._steps = list(enumerate(steps))
        self._open: dict[str, set[int]] = {}
        self._all: list[Node] = []
        self._numbers: dict[str, int] = {}
        self._deaths, self._news = trio.open_memory_channel[str](inf)
        self._nursery: trio.Nursery
        self._quiet = False

    # --- the life of a cluster -------------------------------------------------------------------

    async def run(self, body: Callable[[], Awaitable[None]]) -> None:
        """Open it, run ``body``, and clean up."""
        set_world(World(self.history, self._kill_from_inside))
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.start("queue")
            if self._setup.parent:
                self.start("parent")
            for number in range(self._setup.workers):
                self.start(f"worker-{number}")
            for number in range(self._setup.clients):
                self.start(f"client-{number}")
            try:
                await body()
            finally:
                with trio.CancelScope(shield=True):
                    await self._bury()

    async def _bury(self) -> None:
        self.history.open = False
        self._quiet = True
        order = sorted(self._all, key=lambda node: (not node.process.dead, node.role == "queue"))
        async with trio.open_nursery() as nursery:
            for node in order:
                if node.role != "queue" or node.process.dead:
                    nursery.start_soon(node.process.bury)
        for node in order:
            if not node.process.ended.is_set():
                await node.process.bury()

    def start(self, role: str) -> Node:
        """Start a new node of that role."""
        number = self._numbers[role] = self._numbers.get(role, 0) + 1
        node = Node(role, role if number == 1 else f"{role}.{number}", self.internet)
        self.nodes[role] = node
        self._all.append(node)
        mains = {"queue": self._be_queue, "parent": self._be_parent, "client": self._be_client}
        main = mains.get(role.partition("-")[0], self._be_worker)
        self._nursery.start_soon(node.process.run, lambda: main(node))
        return node

    async def _be_queue(self, node: Node) -> None:
        setup = self._setup
        self.store = WatchedStore(MemoryStore(), self.history, suspends=setup.suspends)
        async with open_system(
            self.store,
            concurrency=0,
            processes=0,
            listen=node.transport(),
            insecure=True,
            lease=setup.lease,
            grace=GRACE,
            max_pending=setup.max_pending,
            max_results=setup.max_results,
            instruments=[self.history],
        ) as system:
            self.system = system
            await node.leave.wait()

    async def _be_worker(self, node: Node) -> None:
        async with open_worker(
            node.transport(),
            tasks=[perform],
            concurrency=self._setup.slots,
            processes=0,
            drain=2.0,
            grace=GRACE,
            instruments=[self.history],
            node=node.process.name,
        ):
            await node.leave.wait()
        self.history.note("left")

    async def _be_parent(self, node: Node) -> None:
        async with (
            open_parent(node.transport(), insecure=True, instruments=[self.history]) as parent,
            trio.open_nursery() as nursery,
        ):
            async for name in self._news:
                nursery.start_soon(parent.died, name)

    async def _be_client(self, node: Node) -> None:
        number = int(node.role.partition("-")[2])
        mine = [(n, step) for n, step in self._steps if step.client == number]
        self._open[node.role] = {n for n, _ in mine}
        async with connect(
            node.transport(),
            tasks=[perform],
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

    async def _do(self, node: Node, doer: Doer, number: int, step: Step) -> None:
        await doer.do(number, step)
        self._open[node.role].discard(number)

    # --- looking at it ---------------------------------------------------------------------------

    def waiting(self) -> dict[str, list[int]]:
        """Return the steps that are not done, by the client that is alive and does them."""
        return {
            role: sorted(steps)
            for role, steps in self._open.items()
            if steps and not self.nodes[role].process.dead
        }

    def busy(self, *, at_all: bool = False) -> bool:
        """Say whether a task is live, or nobody knows; ``at_all``: whether anything goes on."""
        if self.system is None:
            return True
        tables = self.system.tables()
        if not at_all:
            return bool(tables["live"])
        asking = (client.session.tables()["unanswered"] for client in self._living_clients())
        return any(tables.values()) or any(asking)

    def _living_clients(self) -> list[Client]:
        alive = {role for role, node in self.nodes.items() if not node.process.dead}
        return [client for role, client in self.clients.items() if role in alive]

    def tables(self) -> dict[str, int]:
        """Return every internal table that is not empty, of the queue node and the clients."""
        if found := self._tables():
            gc.collect()  # what only a cycle keeps is garbage, not a leak
            found = self._tables()
        return found

    def _tables(self) -> dict[str, int]:
        found: dict[str, int] = {}
        if self.system is not None:
            found |= {f"queue {name}": size for name, size in self.system.tables().items()}
        for role, client in self.clients.items():
            if not self.nodes[role].process.dead:
                tables = client.session.tables()
                found |= {f"{role} {name}": size for name, size in tables.items()}
        return {name: size for name, size in found.items() if size}

    # --- faults ----------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Let it go wrong at its time, and get right again when that is over."""
        await trio.sleep_until(fault.at)
        node = self.nodes.get(fault.whom)
        if node is None or self._quiet:
            return
        self.history.note("fault", kind=fault.kind, whom=node.process.name, **_said(fault))
        if fault.kind in ("stall", "block"):
            await self._stall(node, fault)
        elif fault.kind in ("crash", "restart queue"):
            await self._crash(node, fault)
        elif fault.kind == "drain":
            await self._drain(node, fault)
        elif fault.kind == "crash actor":
            if self.store is not None:
                self.store.fail("commit", fault.after + 1, applied=fault.applied)
        elif fault.kind in ("refuse", "silence"):
            await self._close_door(node, fault)
        else:
            await self._harm_links(node, fault)

    async def _stall(self, node: Node, fault: Fault) -> None:
        node.process.hold(_beats if fault.kind == "block" else _nobody)
        await trio.sleep(fault.seconds)
        node.process.go_on()

    async def _crash(self, node: Node, fault: Fault) -> None:
        self.kill(node, told=fault.told, reported=fault.reported)
        await trio.sleep(fault.seconds)
        if not node.role.startswith("client") and self.nodes[node.role] is node:
            self.start(node.role)

    async def _drain(self, node: Node, fault: Fault) -> None:
        node.leave.set()
        await node.process.ended.wait()
        node.host.kill()
        node.process.dead = True
        await trio.sleep(fault.seconds)
        if self.nodes[node.role] is node and not self._quiet:
            self.start(node.role)

    async def _close_door(self, node: Node, fault: Fault) -> None:
        pair = node.host.name, "queue"
        self.internet.door(*pair, "refusing" if fault.kind == "refuse" else "silent")
        for link in self.internet.between(*pair):
            link.cut("near")
        await trio.sleep(fault.seconds)
        self.internet.door(*pair, "open")

    async def _harm_links(self, node: Node, fault: Fault) -> None:
        sides: list[Side] = ["near", "far"] if fault.side is None else [fault.side]
        links = self.internet.between(node.host.name)
        if fault.link is not None:
            links = links[fault.link : fault.link + 1]
        for link in links:
            for side in sides:
                if fault.kind == "cut":
                    link.cut(side, fault.after)
                elif fault.kind == "hold":
                    link.hold(side)
                elif fault.kind == "half close":
                    link.half_close(side)
                else:
                    link.slow_down(side, fault.seconds / 10)
        if fault.kind in ("hold", "slow"):
            await trio.sleep(fault.seconds)
            for link in links:
                for side in sides:
                    link.slow_down(side, 0.0)
                if fault.kind == "hold" and not fault.told:
                    link.reset()
                link.release()

    def kill(self, node: Node, *, told: bool, reported: bool) -> None:
        """End a node's process at once."""
        if node.process.dead:
            return
        node.process.die()
        node.host.kill(silently=not told)
        if node.role == "queue":
            self.system = self.store = None
        if reported and node.role.startswith("worker"):
            self._deaths.send_nowait(node.process.name)

    def _kill_from_inside(self, process: Process) -> None:
        """A task has brought its worker down; whoever looks after it starts another."""
        for node in self._all:
            if node.process is process and not self._quiet:
                self.kill(node, told=True, reported=True)
                # Not from here: a task that is started by the dead is one of them.
                current_clock().at(trio.current_time() + 0.5, partial(self._succeed, node))

    def _succeed(self, node: Node) -> None:
        if self.nodes[node.role] is node and not self._quiet:
            self.start(node.role)

    def calm(self) -> None:
        """Let nothing go wrong from now on."""
        self.history.note("calm")
        self.internet.heal()
        if self.store is not None:
            self.store.heal()
        for role, node in list(self.nodes.items()):
            node.process.go_on()
            gone = node.process.dead or node.leave.is_set()
            if gone and not role.startswith("client"):
                self.start(role)


def _nobody(_: trio.lowlevel.Task) -> bool:
    return False


def _beats(task: trio.lowlevel.Task) -> bool:
    """Say whether a task is one of those that are in a thread of their own in real time."""
    above: trio.lowlevel.Task | None = task
    while above is not None and above.name != "actorq beat":
        nursery = above.parent_nursery
        above = None if nursery is None else nursery.parent_task
    return above is not None


def _said(fault: Fault) -> dict[str, Any]:
    """Return what there is to say of a fault but for its kind and whom it hits."""
    fields = attrs.asdict(fault)
    plain = attrs.asdict(Fault(fault.at, fault.kind, fault.whom))
    return {name: value for name, value in fields.items() if value != plain[name]}
