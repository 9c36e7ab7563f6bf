"""The workers: who is connected, what each knows and holds, and how many slots are free.

Free slots are credits. A worker says one cumulative number per connection and pool, the grants it
has received on it plus its slots that are free now, so that a repeated or late word cannot be
counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from actorq.model.messages import Declared
from actorq.model.records import Pool
from actorq.model.results import WorkerInfo

POOLS: tuple[Pool, ...] = ("main", "process")
Names = frozenset[str]


class Worker:
    """A worker (one incarnation of a node), connected or not, and the ids of what it holds."""

    __slots__ = (
        "connection", "declared", "digests", "free", "granted", "held", "knows", "last", "leased",
        "name", "node", "origin", "slots", "suspended", "turn",
    )  # fmt: skip

    def __init__(self, node: str, name: str) -> None:
        self.node: str = node
        self.name: str = name
        self.connection: int | None = None
        self.origin: int | None = None
        """Its connection, or the last one that it had."""
        self.slots: dict[Pool, int] = {}
        self.granted: dict[Pool, int] = {}
        self.free: dict[Pool, int] = {}
        self.held: dict[str, None] = {}
        """In the order of the grants."""
        self.last: str | None = None
        """What was granted to it last of those that have their last chance."""
        self.knows: Names | None = None
        """The names of the tasks that it can run; None is all."""
        self.digests: Mapping[str, str] = {}
        self.declared: Mapping[str, Declared] = {}
        self.leased: bool = False
        """Whether it is elsewhere, and lost when it is not heard of."""
        self.turn: int = 0
        """When it was granted something last, as a number that grows."""
        self.suspended: bool = False
        """Whether its loop stands still, so that it is offered nothing new."""

    @property
    def spare(self) -> bool:
        """Whether it may be granted a task that has its last chance."""
        return not self.suspended and self.last not in self.held


class Fleet:
    """All workers that hold something or are connected."""

    def __init__(self) -> None:
        self.by_connection: dict[int, Worker] = {}
        self.free: dict[Pool, int] = dict.fromkeys(POOLS, 0)
        """Free slots by pool, over all workers that are not suspended."""
        self._by_node: dict[str, Worker] = {}
        self._unions: dict[frozenset[int], Names] = {}
        self._turns = 0

    def expect(self, name: str) -> Worker:
        """Return the worker of that name, which a loaded task says it is held by."""
        node = name.rpartition(".")[0]
        return self._by_node.setdefault(node, Worker(node, name))

    def known(self, node: str) -> Worker | None:
        """Return the newest incarnation of a node that is known."""
        return self._by_node.get(node)

    def connect(self, origin: int, node: str, name: str, slots: dict[Pool, int]) -> Worker:
        """Begin a worker's connection: nothing is granted on it yet, and nothing offered."""
        worker = self._by_node.get(node)
        if worker is None or worker.name != name:
            worker = Worker(node, name)
        self.disconnect(worker)
        self._by_node[node] = self.by_connection[origin] = worker
        worker.connection = worker.origin = origin
        worker.slots = {pool: slots.get(pool, 0) for pool in POOLS}
        worker.granted = dict.fromkeys(POOLS, 0)
        worker.free = dict.fromkeys(POOLS, 0)
        return worker

    def disconnect(self, worker: Worker) -> None:
        """End a worker's connection, if it has one; what it holds stays its own for now."""
        if worker.connection is not None:
            self.resume(worker)
            del self.by_connection[worker.connection]
            worker.connection = None
            for pool, free in worker.free.items():
                self.free[pool] -= free

    def forget(self, worker: Worker) -> None:
        """Take out a worker that holds nothing and will not be back."""
        self.disconnect(worker)
        if self._by_node.get(worker.node) is worker:
            del self._by_node[worker.node]
            self._intern()

    def learn(
        self,
        worker: Worker,
        tasks: Mapping[str, str] | None,
        declared: Mapping[str, Declared],
    ) -> None:
        """Note which tasks a worker knows, by name and digest; None is all."""
        worker.digests = tasks or {}
        worker.declared = {name: d for name, d in declared.items() if d.pool in POOLS}
        worker.knows = None if tasks is None else frozenset(tasks)
        self._intern()

    def _intern(self) -> None:
        """Make equal sets of names one object, so that comparing them costs nothing."""
        sets: dict[Names, Names] = {}
        for worker in self._by_node.values():
            if worker.knows is not None:
                worker.knows = sets.setdefault(worker.knows, worker.knows)
        self._unions.clear()

    # --- credit ----------------------------------------------------------------------------------

    def offer(self, worker: Worker, pool: Pool, credit: int) -> None:
        """Note a worker's cumulative credit."""
        if pool not in worker.granted:
            return
        free = max(0, credit - worker.granted[pool])
        if not worker.suspended:
            self.free[pool] += free - worker.free[pool]
        worker.free[pool] = free

    def charge(self, worker: Worker, pool: Pool, id: str) -> None:
        """Note a grant."""
        worker.held[id] = None
        self._turns += 1
        worker.turn = self._turns
        worker.granted[pool] += 1
        worker.free[pool] -= 1
        self.free[pool] -= 1

    def suspend(self, worker: Worker) -> None:
        """Offer nothing new to a worker for now."""
        if not worker.suspended and worker.connection is not None:
            worker.suspended = True
            for pool, free in worker.free.items():
                self.free[pool] -= free

    def resume(self, worker: Worker) -> None:
        """Offer work to it again."""
        if worker.suspended:
            worker.suspended = False
            for pool, free in worker.free.items():
                self.free[pool] += free

    # --- who is granted what ---------------------------------------------------------------------

    def able(self, pool: Pool, *, apart: bool = False) -> Names | None:
        """Return the names that some worker with a free slot knows; None is all.

        ``apart``: of those that hold nothing that has its last chance.
        """
        workers = self.by_connection.values()
        if apart:
            names = [w.knows for w in workers if w.free.get(pool) and w.spare]
            return None if None in names else frozenset(n for some in names for n in some or ())
        if len(workers) == 1:
            return next(iter(workers)).knows
        kinds = {id(w.knows): w.knows for w in workers if w.free.get(pool) and not w.suspended}
        union: Names | None = None
        if id(None) in kinds or not kinds:
            return None
        if len(kinds) == 1:
            return next(iter(kinds.values()))
        key = frozenset(kinds)
        union = self._unions.get(key)
        if union is None:
            known = [names for names in kinds.values() if names is not None]
            union = self._unions[key] = frozenset[str]().union(*known)
        return union

    def freest(self, pool: Pool, name: str, *, apart: bool = False) -> Worker | None:
        """Return the worker with most free slots that knows ``name``, so that equals share evenly.

        Of several, the one that was granted something longest ago; None if there is none.
        """
        best, most = None, 0
        for worker in self.by_connection.values():
            free = worker.free.get(pool, 0)
            if free < most or free == 0 or worker.suspended or (apart and not worker.spare):
                continue
            if best is None or free > most or worker.turn < best.turn:
                knows = worker.knows
                if knows is None or name in knows:
                    best, most = worker, free
        return best

    def declared(self, name: str) -> Declared | None:
        """Return what a worker that is connected says of a task."""
        for worker in self.by_connection.values():
            if (found := worker.declared.get(name)) is not None:
                return found
        return None

    def knows(self, name: str) -> bool:
        """Say whether a worker that is connected knows ``name``."""
        return any(w.knows is None or name in w.knows for w in self.by_connection.values())

    def names(self) -> Names | None:
        """Return the names that some worker knows that is connected; None is all."""
        known = [worker.knows for worker in self.by_connection.values()]
        return None if None in known else frozenset(n for some in known for n in some or ())

    # --- to look at ------------------------------------------------------------------------------

    def slots(self, pool: Pool) -> int:
        """Return how many slots the connected workers have."""
        return sum(worker.slots.get(pool, 0) for worker in self.by_connection.values())

    def held(self) -> int:
        """Return how many grants are out."""
        return sum(len(worker.held) for worker in self._by_node.values())

    def workers(self) -> list[Worker]:
        """Return every worker that is known."""
        return list(self._by_node.values())

    def infos(self) -> list[WorkerInfo]:
        """Return what people see of the workers."""
        return [
            WorkerInfo(
                worker=w.name,
                connected=w.connection is not None,
                remote=w.leased,
                slots=sum(w.slots.values()),
                running=len(w.held),
            )
            for w in self._by_node.values()
        ]
