"""A whole cluster in one trio loop: clients, queue nodes, workers and a parent, on one network.

What happens to it is a list of faults.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import attrs
import trio

from actorq.client.client import Client
from actorq.system.system import System
from actorq.testing.clock import current_clock
from actorq.testing.disk import DiskStore
from actorq.testing.faults import FaultyStore, StoreVerb
from actorq.testing.network import Door, Side
from actorq.testing.nodes import QUEUES, Node, Nodes
from actorq.testing.processes import Process
from actorq.testing.workload import World, set_world

FaultKind = Literal[
    "cut", "hold", "half close", "slow", "refuse", "silence", "stall", "block", "crash", "drain",
    "crash actor", "restart queue", "disk full", "disk hangs", "disk slow", "disk fails",
    "stop in commit", "die in commit", "call fails",
]  # fmt: skip


@attrs.frozen
class Fault:
    """Something that goes wrong.

    Attributes:
        at: When.
        kind: ``cut``, ``hold``, ``half close`` and ``slow`` are about the links of ``whom`` with
            queue nodes, in the direction from ``side``; ``refuse`` and ``silence`` about its dials;
            ``stall`` and ``crash`` (of a queue node: ``restart queue``) about its process;
            ``block`` is a stall of a worker's loop that leaves its beats alone; ``drain`` ends a
            node in order; ``crash actor`` has one of the queue actor's next commits fail in a way
            that it does not survive. ``disk full`` has the disk take nothing more, ``disk hangs``
            answer nothing, ``disk slow`` take its time, ``disk fails`` fail every commit; ``stop in
            commit`` is a stall of the owner that begins with its next commit; ``die in commit`` is
            its end; ``call fails`` has two of its calls of the store fail.
        whom: A node by the name of its role, as ``worker-1``; ``owner`` is the queue node that
            owns the records then.
        seconds: How long it lasts; after a crash or a drain, how soon there is a new one.
        side: See ``kind``; None is both.
        link: Which of the node's links, the oldest first; None is all. (A worker has two, its own
            and that of its beats.)
        after: With ``cut``: bytes that still arrive. With ``crash actor`` and those in a commit:
            commits that succeed. With ``call fails``: calls that do.
        told: With ``crash``: whether the network says so, and not only the silence. With ``hold``:
            whether what was held arrives in the end; otherwise it is lost with its link.
        reported: With ``crash``: whether its parent says so.
        applied: Whether a commit that fails, in which the owner is stopped, or that is under way
            when it dies, is stored all the same; or what else fails is done.
        verb: With ``call fails``: what is asked.
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
    verb: StoreVerb = "commit"


class Cluster(Nodes):
    """Runs one, and lets go wrong in it what is to go wrong."""

    async def run(self, body: Callable[[], Awaitable[None]]) -> None:
        """Open it, run ``body``, and clean up."""
        set_world(World(self.history, self._kill_from_inside))
        async with trio.open_nursery() as nursery:
            self._start_all(nursery)
            try:
                await body()
            finally:
                with trio.CancelScope(shield=True):
                    await self._bury()

    # --- looking at it ---------------------------------------------------------------------------

    @property
    def owner(self) -> Node:
        """The queue node that owns the records; if there is none, the first."""
        name = None if self.disk is None else self.disk.owner
        nodes = [self.nodes[role] for role in self._setup.queues]
        return next((node for node in nodes if node.process.name == name), nodes[0])

    @property
    def system(self) -> System | None:
        """The owner's, if it is alive, for those who look at its tables."""
        node = self.owner
        return None if node.process.dead else node.system

    @property
    def store(self) -> FaultyStore | None:
        """The owner's, if it is alive."""
        node = self.owner
        return None if node.process.dead else node.store

    def waiting(self) -> dict[str, list[int]]:
        """Return the steps that are not done, by the client that is alive and does them."""
        return {
            role: sorted(steps)
            for role, steps in self._open.items()
            if steps and not self.nodes[role].process.dead
        }

    def busy(self, *, at_all: bool = False) -> bool:
        """Say whether a task is live, or nobody knows; ``at_all``: whether anything goes on."""
        system, janitor = self.system, self.nodes.get("janitor")
        if system is None or (janitor is not None and not janitor.process.ended.is_set()):
            return True
        tables = system.tables()
        if not at_all:
            return bool(tables["live"] if self.disk is None else self.disk.live())
        asking = (client.session.tables()["unanswered"] for client in self._living_clients())
        return any(tables.values()) or any(asking)

    def _living_clients(self) -> list[Client]:
        alive = {role for role, node in self.nodes.items() if not node.process.dead}
        return [client for role, client in self.clients.items() if role in alive]

    def tables(self) -> dict[str, int]:
        """Return every internal table that is not empty, of the queue nodes and the clients."""
        if found := self._tables():
            gc.collect()  # what only a cycle keeps is garbage, not a leak
            found = self._tables()
        return found

    def _tables(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for role, node in self.nodes.items():
            if node.system is not None and not node.process.dead:
                found |= {f"{role} {name}": size for name, size in node.system.tables().items()}
        for role, client in self.clients.items():
            if not self.nodes[role].process.dead:
                tables = client.session.tables()
                found |= {f"{role} {name}": size for name, size in tables.items()}
        return {name: size for name, size in found.items() if size}

    # --- faults ----------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Let it go wrong at its time, and get right again when that is over."""
        await trio.sleep_until(fault.at)
        node = self.owner if fault.whom == "owner" else self.nodes.get(fault.whom)
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
            self._crash_actor(node, fault)
        elif fault.kind == "call fails":
            if self.disk is not None and node.store is not None:
                node.store.fail(fault.verb, fault.after + 1, times=2, applied=fault.applied)
        elif fault.kind.endswith("in commit") or fault.kind.startswith("disk"):
            await self._harm_disk(fault)
        elif fault.kind in ("refuse", "silence"):
            await self._close_door(node, fault)
        else:
            await self._harm_links(node, fault)

    async def _stall(self, node: Node, fault: Fault) -> None:
        node.process.hold(_beats if fault.kind == "block" else _nobody)
        await trio.sleep(fault.seconds)
        node.process.go_on()

    async def _crash(self, node: Node, fault: Fault) -> None:
        self.kill(node, told=fault.told, reported=fault.reported, applied=fault.applied)
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

    def _crash_actor(self, node: Node, fault: Fault) -> None:
        if node.store is None:
            return
        if self.disk is None:
            node.store.fail("commit", fault.after + 1, applied=fault.applied)
        else:  # what the store says is unavailable is tried again
            node.store.fail("commit", fault.after + 1, applied=fault.applied, error=_unforeseen)

    async def _harm_disk(self, fault: Fault) -> None:
        disk = self.disk
        if disk is None:
            return
        if fault.kind.endswith("in commit"):
            stop = partial(self._stop, fault)
            disk.stop_at_commit(stop, applied=fault.applied, after=fault.after)
            return
        if fault.kind == "disk full":
            disk.full = True
        elif fault.kind == "disk hangs":
            disk.hang()
        elif fault.kind == "disk slow":
            disk.extra = fault.seconds / 10
        else:
            disk.fails = "after" if fault.applied else "before"
        await trio.sleep(fault.seconds)
        disk.heal()

    def _stop(self, fault: Fault, store: DiskStore) -> None:
        """Stop the owner in its commit, or end it there."""
        for node in self._all:
            if node.process.name != store.name or node.process.dead or self._quiet:
                continue
            if fault.kind == "die in commit":
                self.kill(node, told=fault.told, reported=False)
                self._start_later(node)
            else:
                node.process.hold(_nobody)
                current_clock().at(trio.current_time() + fault.seconds, node.process.go_on)

    async def _close_door(self, node: Node, fault: Fault) -> None:
        door: Door = "refusing" if fault.kind == "refuse" else "silent"
        for role in self._setup.queues:
            self.internet.door(node.host.name, role, door)
            for link in self.internet.between(node.host.name, role):
                link.cut("near")
        await trio.sleep(fault.seconds)
        for role in self._setup.queues:
            self.internet.door(node.host.name, role, "open")

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

    def _kill_from_inside(self, process: Process) -> None:
        """A task has brought its worker down; whoever looks after it starts another."""
        for node in self._all:
            if node.process is process and not self._quiet:
                self.kill(node, told=True, reported=True)
                self._start_later(node)

    def calm(self) -> None:
        """Let nothing go wrong from now on."""
        self.history.note("calm")
        self.internet.heal()
        if self.disk is not None:
            self.disk.heal()
        for role, node in list(self.nodes.items()):
            node.process.go_on()
            if node.store is not None:
                node.store.heal()
            if node.gone and not role.startswith("client"):
                if role in QUEUES:  # there is but one port
                    self.kill(node, told=True, reported=False)
                self.start(role)
        if any(step.verb in ("schedule", "pause") for _, step in self._steps):
            self.start("janitor")


def _unforeseen() -> Exception:
    return RuntimeError("a fault was injected here")


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
