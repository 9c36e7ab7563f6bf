from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.machines.supervision import Supervision
from actorq.model.tree import ActorTree, SupervisorNode, TaskNode
from actorq.runtime.cell import Cell
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.supervisor import Supervisor, open_supervisor
from actorq.runtime.tree import take_tree
from tests.runtime.troupe import Troupe, busy, echo, gate, open_troupe


def no_tasks(cell: Cell) -> None:
    """Nobody is a worker."""


@pytest.fixture
async def troupe(autojump_clock: MockClock) -> AsyncIterator[Troupe]:
    async with open_troupe() as troupe:
        yield troupe


def look(troupe: Troupe, *more: Supervisor, tasks: Any = no_tasks) -> ActorTree:
    return take_tree(troupe.engine, [troupe.supervisor, *more], "node", tasks)


async def test_a_tree_has_every_supervisor_and_actor_in_order(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    for name in "cab":
        await troupe.spawn(echo, name=name)
    tree = look(troupe)

    assert (tree.name, tree.dead_letters) == ("node", 0)
    (supervisor,) = tree.supervisors
    assert (supervisor.name, supervisor.strategy) == ("troupe", "apart")
    assert [actor.name for actor in supervisor.children] == ["c", "a", "b"]


async def test_an_actor_that_waits_for_mail_is_idle_and_one_that_handles_some_is_busy(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    idle = await troupe.spawn(echo)
    worker = await troupe.spawn(busy, [])
    for number in range(3):
        await worker.tell(number)
    await wait_all_tasks_blocked()
    tree = look(troupe)

    assert (tree.find(idle.name).state, tree.find(idle.name).mailbox) == ("idle", 0)
    assert (tree.find(worker.name).state, tree.find(worker.name).mailbox) == ("busy", 2)


async def test_an_actor_that_has_not_started_yet_is_starting(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def slow(inbox: Mailbox[Any]) -> None:
        await trio.sleep(5)  # virtual
        await echo(inbox)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(troupe.spawn, slow)
        await wait_all_tasks_blocked()
        assert look(troupe).find("slow").state == "starting"

    await wait_all_tasks_blocked()
    assert look(troupe).find("slow").state == "idle"


async def test_an_actor_that_waits_for_its_restart_is_restarting(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    await ref.tell(ValueError("boom"))
    await trio.sleep(0.5)  # virtual
    node = look(troupe).find("echo")
    assert (node.state, node.incarnation, node.restarts) == ("restarting", 1, 0)
    await trio.sleep(1)  # virtual

    node = look(troupe).find("echo")
    assert (node.state, node.incarnation, node.restarts) == ("idle", 2, 1)


async def test_an_actor_that_was_told_to_stop_is_stopping(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    bell = trio.Event()
    ref = await troupe.spawn(gate, [], bell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.stop)
        await wait_all_tasks_blocked()
        assert look(troupe).find("gate").state == "stopping"
        bell.set()

    with pytest.raises(KeyError):
        look(troupe).find("gate")


async def test_a_worker_has_its_tasks_and_is_busy_with_them(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    task = TaskNode("1", "job", 1, 0.5)
    await troupe.spawn(echo, name="free")
    await troupe.spawn(echo, name="full")

    def tasks(cell: Cell) -> tuple[TaskNode, ...]:
        return (task,) if cell.name == "full" else ()

    tree = look(troupe, tasks=tasks)

    assert (tree.find("free").state, tree.find("free").tasks) == ("idle", ())
    assert (tree.find("full").state, tree.find("full").tasks) == ("busy", (task,))


async def test_a_supervisor_that_an_actor_has_opened_is_inside_that_actor(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    opened: list[Supervisor] = []

    async def boss(inbox: Mailbox[Any]) -> None:
        async with open_supervisor(
            troupe.engine, Supervision("rest_for_one"), "pool", opened
        ) as supervisor:
            await supervisor.spawn(echo, name="child")
            await echo(inbox)

    await troupe.spawn(boss)
    tree = look(troupe, *opened)

    assert [supervisor.name for supervisor in tree.supervisors] == ["troupe"]
    (pool,) = tree.find("boss").children
    assert isinstance(pool, SupervisorNode)
    assert (pool.name, pool.strategy) == ("pool", "rest_for_one")
    assert [child.name for child in pool.children] == ["child"]


async def test_a_supervisor_that_no_actor_has_opened_is_a_root(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    opened: list[Supervisor] = []
    async with open_supervisor(troupe.engine, Supervision(), "pool", opened):
        assert [s.name for s in look(troupe, *opened).supervisors] == ["troupe", "pool"]

    assert opened == []


async def test_a_tree_counts_dead_letters(troupe: Troupe, autojump_clock: MockClock) -> None:
    ref = await troupe.spawn(echo)
    await ref.stop()
    await ref.tell("too late")

    assert look(troupe).dead_letters == 1
