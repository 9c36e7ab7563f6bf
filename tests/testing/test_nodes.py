from collections.abc import Awaitable, Callable
from math import inf
from random import Random

import pytest
import trio

from actorq.errors import StoreUnavailable
from actorq.model.records import Head, Ownership
from actorq.stores.memory import MemoryStore
from actorq.testing.clock import VirtualClock
from actorq.testing.cluster import Cluster, Fault
from actorq.testing.network import Internet
from actorq.testing.nodes import Node, Setup, WatchedStore
from actorq.testing.processes import EPOCH, seeded
from actorq.testing.samples import ended, fenced, live, own
from actorq.testing.workload import QUEUE, Job, Step

PAIR = Setup(clients=1, workers=1, parent=False, store="disk", standby=True)


def play(
    body: Callable[[Cluster], Awaitable[None]], setup: Setup = PAIR, steps: tuple[Step, ...] = ()
) -> Cluster:
    with seeded(1) as random:
        cluster = Cluster(setup, steps, Random(random.random()))
        trio.run(cluster.run, lambda: body(cluster), clock=VirtualClock())
    return cluster


async def wait(seconds: float) -> None:
    await trio.sleep(seconds)  # virtual


async def test_each_state_is_noted_once_however_often_it_is_written() -> None:
    noted: list[str] = []

    def wrote(ownership: Ownership, head: Head) -> None:
        noted.append(f"{head.status} {ownership.epoch}")

    store = WatchedStore(MemoryStore(), wrote)
    ownership = await own(store)
    store.fail("commit", applied=True)
    with pytest.raises(StoreUnavailable):
        await store.commit(ownership, [live(1)])
    await store.commit(ownership, [live(1)])
    await store.commit(ownership, [ended(1)])

    assert noted == ["pending 1", "success 1"]


async def test_what_is_not_written_is_not_noted() -> None:
    noted: list[Head] = []
    store = WatchedStore(MemoryStore(), lambda _, head: noted.append(head))
    former = await own(store, "a")
    await own(store, "b")

    assert await fenced(store.commit(former, [live(1)]))
    assert noted == []


def test_queue_nodes_keep_their_address() -> None:
    internet = Internet(Random(1))

    assert Node("standby", "standby.3", internet).host.name == "standby"
    assert Node("worker-1", "worker-1.3", internet).host.name == "worker-1.3"


def test_one_queue_node_owns_and_the_other_stands_by() -> None:
    async def body(cluster: Cluster) -> None:
        await wait(1)
        systems = [cluster.nodes[role].system for role in ("queue", "standby")]
        assert sum(system is not None for system in systems) == 1
        assert cluster.disk is not None
        assert cluster.disk.owner == cluster.owner.process.name

    play(body)


def test_a_queue_node_that_never_was_the_owner_leaves_at_once() -> None:
    async def body(cluster: Cluster) -> None:
        await wait(1)
        other = next(
            node for node in cluster.nodes.values()
            if node.role in ("queue", "standby") and node is not cluster.owner
        )  # fmt: skip
        other.leave.set()
        await wait(0.5)
        assert other.process.ended.is_set()
        assert not cluster.owner.process.ended.is_set()

    play(body)


def test_a_queue_node_that_fails_is_replaced() -> None:
    async def body(cluster: Cluster) -> None:
        await wait(1)
        node = cluster.nodes["queue"]
        assert node.store is not None
        node.store.fail("commit", error=lambda: RuntimeError("broken"))
        node.store.fail("load", times=inf, error=lambda: RuntimeError("broken"))
        await wait(20)
        assert node.process.dead
        assert cluster.nodes["queue"] is not node
        assert cluster.system is not None

    cluster = play(body, Setup(clients=1, workers=1, parent=False, store="disk"))

    assert [event.where for event in cluster.history.of("failed")] == ["queue"]


def test_the_clock_of_a_standby_may_be_ahead() -> None:
    async def body(cluster: Cluster) -> None:
        await wait(1)
        for role, ahead in (("queue", 0.0), ("standby", 5.0)):
            process = cluster.nodes[role].process
            assert process.skew == ahead
        system = cluster.owner.system
        assert system is not None
        expected = EPOCH + 1.0 + cluster.owner.process.skew
        assert system._house._clock.now() == pytest.approx(expected)

    play(body, Setup(clients=1, workers=1, parent=False, store="disk", standby=True, skew=5.0))


def test_queue_nodes_may_have_slots_of_their_own() -> None:
    async def body(cluster: Cluster) -> None:
        while cluster.waiting() or cluster.busy():
            await wait(0.5)

    setup = Setup(clients=1, workers=0, parent=False, store="disk", home=2)
    cluster = play(body, setup, (Step(0.5, 0, "submit", (Job("a"),)),))

    assert [event.where for event in cluster.history.of("started")] == ["queue"]


@pytest.mark.parametrize("namesakes", [True, False])
def test_a_worker_may_have_the_name_of_the_one_before(namesakes: bool) -> None:
    async def body(cluster: Cluster) -> None:
        await wait(1)
        await cluster.strike(Fault(1.0, "crash", "worker-0", 0.5))
        await wait(1)
        assert cluster.system is not None
        (worker,) = [worker for worker in (await cluster.system.tree()).workers if worker.connected]
        assert worker.worker.rpartition(".")[0] == ("worker-0" if namesakes else "worker-0.2")

    play(body, Setup(clients=1, workers=1, parent=False, namesakes=namesakes))


def test_what_the_dead_have_begun_is_ended() -> None:
    steps = (
        Step(0.5, 0, "pause", (), 1e6),
        Step(0.5, 0, "schedule", (Job("a"),), 1e6),
        Step(0.5, 1, "schedule", (Job("b"),), 1e6),
    )

    async def body(cluster: Cluster) -> None:
        await wait(1)
        await cluster.strike(Fault(1.0, "crash", "client-0"))
        cluster.calm()
        assert cluster.busy()
        while not list(cluster.history.of("tidied")):
            await wait(0.1)
        assert cluster.system is not None
        assert [info.name for info in await cluster.system.schedules()] == ["b"]
        assert QUEUE not in (await cluster.system.stats()).queues

    play(body, Setup(clients=2, workers=1, parent=False), steps)


@pytest.mark.parametrize(("applied", "kept"), [(True, 1), (False, 0)])
def test_what_a_dead_process_has_asked_for_arrives_or_not(applied: bool, kept: int) -> None:
    async def body(cluster: Cluster) -> None:
        disk = cluster.disk
        assert disk is not None
        await wait(1)
        disk.hang()
        await wait(0.5)
        cluster.kill(cluster.owner, told=True, reported=False, applied=applied)
        disk.heal()
        assert disk.live() == kept

    play(body, PAIR, (Step(1.0, 0, "submit", (Job("a", seconds=9.0),)),))
