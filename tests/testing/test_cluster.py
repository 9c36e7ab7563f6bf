from collections.abc import Awaitable, Callable
from random import Random

import attrs
import pytest
import trio

from actorq.testing.clock import VirtualClock
from actorq.testing.cluster import Cluster, Fault, FaultKind
from actorq.testing.nodes import Setup
from actorq.testing.processes import seeded
from actorq.testing.workload import Job, Step

SETUP = Setup(clients=1, workers=2, parent=True)
DURABLE = attrs.evolve(SETUP, store="disk", standby=True)
LONG = Step(0.5, 0, "submit", (Job("a", seconds=6.0),))


def play(
    body: Callable[[Cluster], Awaitable[None]],
    steps: tuple[Step, ...] = (LONG,),
    setup: Setup = SETUP,
) -> Cluster:
    with seeded(1) as random:
        cluster = Cluster(setup, steps, Random(random.random()))
        trio.run(cluster.run, lambda: body(cluster), clock=VirtualClock())
    return cluster


async def until_done(cluster: Cluster) -> None:
    for _ in range(120):
        await trio.sleep(0.5)  # virtual
        if not cluster.waiting() and not cluster.busy():
            return
    raise AssertionError(f"not done after a minute: {cluster.waiting()}")


def news(cluster: Cluster, what: str) -> list[str]:
    return [event.where for event in cluster.history.of(what)]


def test_a_cluster_does_its_steps_and_ends() -> None:
    cluster = play(until_done)

    assert len(news(cluster, "told")) == 1
    assert len(news(cluster, "started")) == 1


def test_it_says_who_waits_and_which_tables_are_not_empty() -> None:
    async def body(cluster: Cluster) -> None:
        assert cluster.busy()  # nobody knows yet
        await trio.sleep(1)  # virtual
        assert cluster.waiting() == {"client-0": [0]}
        assert cluster.busy()
        assert cluster.tables()["queue live"] == 1
        await until_done(cluster)
        assert cluster.waiting() == {}
        await trio.sleep(2)  # virtual: what came is acknowledged
        assert cluster.tables() == {}
        assert not cluster.busy(at_all=True)

    play(body)


FAULTS = [
    Fault(1.0, "cut", "worker-0", after=100),
    Fault(1.0, "cut", "client-0", side="far"),
    Fault(1.0, "hold", "worker-0", 7.0),
    Fault(1.0, "half close", "client-0", side="near"),
    Fault(1.0, "slow", "worker-0", 5.0),
    Fault(1.0, "refuse", "worker-0", 3.0),
    Fault(1.0, "silence", "client-0", 3.0),
    Fault(1.0, "stall", "worker-0", 3.0),
    Fault(1.0, "stall", "queue", 3.0),
    Fault(1.0, "block", "worker-0", 3.0),
    Fault(1.0, "crash", "worker-0", 1.0, reported=True),
    Fault(1.0, "crash", "worker-0", 1.0, told=False),
    Fault(1.0, "drain", "worker-0", 1.0),
    Fault(0.4, "crash actor"),
    Fault(0.4, "crash actor", applied=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_what_went_wrong_gets_right_again(fault: Fault) -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.strike(fault)
        await until_done(cluster)

    cluster = play(body)

    (told,) = cluster.history.of("told")
    assert told.details["status"] == "success"
    assert [event.details["kind"] for event in cluster.history.of("fault")] == [fault.kind]


DURABLE_FAULTS = [
    Fault(1.0, "restart queue", "owner", 1.0),
    Fault(1.0, "restart queue", "owner", 1.0, told=False, applied=True),
    Fault(1.0, "restart queue", "standby", 1.0),
    Fault(1.0, "stall", "owner", 14.0),
    Fault(1.0, "drain", "owner", 1.0),
    Fault(1.0, "drain", "queue", 1.0),
    Fault(1.0, "drain", "standby", 1.0),
    Fault(0.4, "crash actor", "owner"),
    Fault(0.4, "crash actor", "owner", applied=True),
    Fault(0.4, "disk full", "owner", 3.0),
    Fault(0.4, "disk hangs", "owner", 3.0),
    Fault(0.4, "disk slow", "owner", 3.0),
    Fault(0.4, "disk fails", "owner", 3.0),
    Fault(0.4, "disk fails", "owner", 3.0, applied=True),
    Fault(0.4, "stop in commit", "owner", 14.0),
    Fault(0.4, "stop in commit", "owner", 14.0, applied=True),
    Fault(0.4, "refuse", "client-0", 3.0),
    Fault(0.4, "die in commit", "owner"),
    Fault(0.4, "die in commit", "owner", after=1, applied=True),
    Fault(0.4, "call fails", "owner", verb="commit", applied=True),
    Fault(0.4, "call fails", "owner", verb="purge"),
]


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("fault", DURABLE_FAULTS, ids=str)
def test_what_went_wrong_with_a_disk_gets_right_again(fault: Fault, locks: bool) -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.strike(fault)
        await until_done(cluster)

    cluster = play(body, setup=attrs.evolve(DURABLE, locks=locks))

    (told,) = cluster.history.of("told")
    assert told.details["status"] == "success"
    assert len({event.details["lineage"] for event in cluster.history.of("record")}) == 1


def test_the_other_queue_node_takes_over() -> None:
    async def body(cluster: Cluster) -> None:
        await trio.sleep(1)  # virtual
        first = cluster.owner
        assert cluster.system is first.system
        assert cluster.store is first.store
        await cluster.strike(Fault(1.0, "restart queue", "owner", 0.5))
        assert cluster.owner is not first
        assert cluster.owner.role != first.role
        assert cluster.system is not None
        await until_done(cluster)

    cluster = play(body, setup=DURABLE)

    epochs = [event.details["epoch"] for event in cluster.history.of("record")]
    assert (epochs[0], epochs[-1]) == (1, 2)


def test_a_memory_store_knows_nothing_of_disks() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.strike(Fault(1.0, "disk full", "owner", 1e6))
        await until_done(cluster)

    play(body)


@pytest.mark.parametrize("kind", ["crash", "restart queue"])
def test_the_dead_are_replaced(kind: FaultKind) -> None:
    whom = "queue" if kind == "restart queue" else "worker-0"

    async def body(cluster: Cluster) -> None:
        first = cluster.nodes[whom]
        await cluster.strike(Fault(1.0, kind, whom, 1.0))
        assert cluster.nodes[whom] is not first
        assert first.process.dead
        assert not first.host.alive

    play(body, ())


def test_a_client_is_not_replaced() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.strike(Fault(1.0, "crash", "client-0"))
        cluster.calm()
        assert cluster.nodes["client-0"].process.dead
        assert cluster.waiting() == {}

    play(body)


def test_a_poisoned_worker_is_replaced() -> None:
    async def body(cluster: Cluster) -> None:
        await until_done(cluster)
        await trio.sleep(1)  # virtual

    cluster = play(body, (Step(0.5, 0, "submit", (Job("a", "poison", times=1),)),))

    assert news(cluster, "poisoned") == news(cluster, "started")[:1]
    assert len(news(cluster, "started")) == 2
    assert max(cluster._numbers.values()) == 2


def test_calm_ends_everything_that_lasts() -> None:
    async def body(cluster: Cluster) -> None:
        async with trio.open_nursery() as nursery:
            for fault in (
                Fault(1.0, "stall", "worker-0", 1e6),
                Fault(1.0, "hold", "worker-1", 1e6),
                Fault(1.0, "silence", "client-0", 1e6),
                Fault(1.0, "restart queue", "queue", 1e6),
            ):
                nursery.start_soon(cluster.strike, fault)
            await trio.sleep(2)  # virtual
            nursery.cancel_scope.cancel()
        cluster.calm()
        with trio.fail_after(20):
            assert await cluster.clients["client-0"].stats()

    play(body, ())


def test_every_record_is_noted_that_is_written_and_no_other() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.strike(Fault(0.4, "crash actor", applied=False))
        await until_done(cluster)

    cluster = play(body)

    statuses = [event.details["status"] for event in cluster.history.of("record")]
    assert statuses[-1] == "success"
    assert statuses.count("success") == 1
    store = cluster.nodes["queue"].store
    assert store is not None
    assert len(statuses) == sum(len(commit) for commit in store.commits)
