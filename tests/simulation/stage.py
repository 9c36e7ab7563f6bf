"""Scenarios: one cluster, one story, in virtual time."""

from collections.abc import Awaitable, Callable
from typing import cast

import trio

from actorq.client.client import Client
from actorq.client.handle import TaskHandle
from actorq.errors import leaves
from actorq.testing.clock import VirtualClock
from actorq.testing.cluster import Cluster, Fault
from actorq.testing.disk import Disk
from actorq.testing.history import Happening
from actorq.testing.network import Link, Side
from actorq.testing.nodes import Node, Setup
from actorq.testing.processes import seeded
from actorq.testing.workload import Job, message_of

PATIENCE = 60.0  # virtual seconds, for a whole scenario


class Stage:
    """A cluster that is up, and short words for what a scenario does to it."""

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.nursery = nursery
        self.ids: dict[str, str] = {}

    @property
    def client(self) -> Client:
        client: Client = self.cluster.clients["client-0"]
        return client

    async def submit(self, job: Job) -> TaskHandle[str]:
        message = message_of(job)
        self.ids[job.label] = message.id
        return await self.client.submit(message)

    @property
    def disk(self) -> Disk:
        assert self.cluster.disk is not None
        return self.cluster.disk

    def kill_owner(self) -> Node:
        """Let the owner die now."""
        owner = self.cluster.owner
        self.cluster.kill(owner, told=True, reported=False)
        return owner

    def kill_owner_in_commit(self, *, applied: bool) -> None:
        """Let the owner die in its next commit that has writes."""
        self.disk.stop_at_commit(lambda _: void(self.kill_owner()), applied=applied)

    async def until(self, true: Callable[[], bool], seconds: float = 10.0) -> None:
        """Look now and then, for so long."""
        for _ in range(int(seconds / 0.01)):
            if true():
                return
            await trio.sleep(0.01)  # virtual
        raise AssertionError("that never came true")

    def epoch(self) -> int:
        """How many owners there have been."""
        return max(event.details["epoch"] for event in self.happened("event", kind="owning"))

    def links(self, whom: str) -> list[Link]:
        """The links of a node with queue nodes."""
        return self.cluster.internet.between(self.cluster.nodes[whom].host.name)

    def beats(self, worker: str) -> Link:
        """The link of a worker's beats, which says least."""
        own, beats = sorted(self.links(worker), key=lambda link: -link.bytes)
        assert own.bytes > beats.bytes
        return beats

    def hold(self, whom: str, *sides: Side) -> list[Link]:
        links = self.links(whom)
        for link in links:
            for side in sides:
                link.hold(side)
        return links

    def strike(self, fault: Fault) -> None:
        self.nursery.start_soon(self.cluster.strike, fault)

    def happened(self, what: str, label: str | None = None, **details: object) -> list[Happening]:
        if label is not None:
            details["id" if what == "record" else "label"] = (
                self.ids[label] if what == "record" else label
            )
        return list(self.cluster.history.of(what, **details))

    def worker_of(self, label: str) -> str:
        """The role of the worker that has started a task last."""
        return self.happened("started", label)[-1].where.partition(".")[0]

    def deaths(self, label: str) -> int:
        deaths: int = self.happened("record", label)[-1].details["deaths"]
        return deaths


def void(_: object) -> None:
    pass


Scenario = Callable[[Stage], Awaitable[None]]


def play(scenario: Scenario, setup: Setup | None = None) -> None:
    """Play a scenario. What it raises comes out, and TooSlowError if it hangs."""
    failure: Exception | None = None
    with seeded(1) as random:
        cluster = Cluster(setup or Setup(clients=1, workers=2, parent=False), (), random)

        async def body() -> None:
            nonlocal failure
            try:
                with trio.fail_after(PATIENCE):
                    async with trio.open_nursery() as nursery:
                        await trio.sleep(0.5)  # virtual: until everybody is there
                        await scenario(Stage(cluster, nursery))
                        nursery.cancel_scope.cancel()
            except* Exception as errors:  # noqa: BLE001 - raised below, when all is cleaned up
                failure = cast(Exception, next(leaves(errors)))
            cluster.calm()

        trio.run(cluster.run, body, clock=VirtualClock())
    if failure is not None:
        failure.add_note(cluster.history.story())
        raise failure
