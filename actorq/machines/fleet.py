"""The workers: who is connected, what each holds, and how many slots are free.

Free slots are credits. A worker says one cumulative number per connection and pool, the grants it
has received on it plus its slots that are free now, so that a repeated or late word cannot be
counted twice.
"""

from __future__ import annotations

from actorq.model.records import Pool

POOLS: tuple[Pool, ...] = ("main", "process")


class Worker:
    """A worker (one incarnation of a node), connected or not, and the ids of what it holds."""

    __slots__ = ("connection", "free", "granted", "held", "name", "slots")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.connection: int | None = None
        self.slots: dict[Pool, int] = {}
        self.granted: dict[Pool, int] = {}
        self.free: dict[Pool, int] = {}
        self.held: set[str] = set()


class Fleet:
    """All workers that hold something or are connected."""

    def __init__(self) -> None:
        self.by_connection: dict[int, Worker] = {}
        self.free: dict[Pool, int] = dict.fromkeys(POOLS, 0)
        """Free slots by pool, over all workers."""
        self._by_node: dict[str, Worker] = {}

    def expect(self, name: str) -> Worker:
        """Return the worker of that name, which a loaded task says it is held by."""
        node = name.rpartition(".")[0]
        return self._by_node.setdefault(node, Worker(name))

    def known(self, node: str) -> Worker | None:
        """Return the newest incarnation of a node that is known."""
        return self._by_node.get(node)

    def connect(self, origin: int, node: str, name: str, slots: dict[Pool, int]) -> Worker:
        """Begin a worker's connection: nothing is granted on it yet, and nothing offered."""
        worker = self._by_node.get(node)
        if worker is None or worker.name != name:
            worker = Worker(name)
        self.disconnect(worker)
        self._by_node[node] = self.by_connection[origin] = worker
        worker.connection = origin
        worker.slots = dict(slots)
        worker.granted = dict.fromkeys(slots, 0)
        worker.free = dict.fromkeys(slots, 0)
        return worker

    def disconnect(self, worker: Worker) -> None:
        """End a worker's connection, if it has one; what it holds stays its own for now."""
        if worker.connection is not None:
            del self.by_connection[worker.connection]
            worker.connection = None
            for pool, free in worker.free.items():
                self.free[pool] -= free

    def offer(self, worker: Worker, pool: Pool, credit: int) -> None:
        """Note a worker's cumulative credit."""
        free = max(0, credit - worker.granted[pool])
        self.free[pool] += free - worker.free[pool]
        worker.free[pool] = free

    def charge(self, worker: Worker, pool: Pool, id: str) -> None:
        """Note a grant."""
        worker.held.add(id)
        worker.granted[pool] += 1
        worker.free[pool] -= 1
        self.free[pool] -= 1

    def freest(self, pool: Pool) -> Worker:
        """Return the worker with most free slots, so that equal workers share evenly."""
        workers = self.by_connection.values()
        if len(workers) == 1:
            return next(iter(workers))
        return max(workers, key=lambda worker: worker.free.get(pool, 0))

    def slots(self, pool: Pool) -> int:
        """Return how many slots the connected workers have."""
        return sum(worker.slots.get(pool, 0) for worker in self.by_connection.values())

    def held(self) -> int:
        """Return how many grants are out."""
        return sum(len(worker.held) for worker in self._by_node.values())
