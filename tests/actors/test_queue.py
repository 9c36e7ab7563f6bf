"""The queue actor crashes wherever it can, and nobody outside notices more than a short wait."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.actors.queue import QueueActor
from actorq.errors import Fenced
from actorq.machines.queue import QueueMachine
from actorq.model.events import Event, EventKind
from actorq.stores.memory import MemoryStore
from actorq.system import system as system_module
from actorq.testing.faults import FaultyStore

pytestmark = pytest.mark.usefixtures("autojump_clock")
open_quietly = partial(actorq.open_system, processes=0, instruments=())

PATHS = pytest.mark.parametrize("suspends", [False, True], ids=["immediate", "suspending"])
MOMENTS = pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])


@pytest.fixture(params=[False, True], ids=["immediate", "suspending"])
def store(request: pytest.FixtureRequest) -> FaultyStore:
    return FaultyStore(MemoryStore(), suspends=request.param)


class Workload:
    """One of everything that a task can go through, and what must have come of it."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.seen: dict[str, Any] = {}

    async def work(self, name: str, seconds: float = 0.0) -> str:
        self.runs[name] += 1
        await trio.sleep(seconds)  # virtual
        return name

    async def fail_twice(self, name: str) -> str:
        self.runs[name] += 1
        if self.runs[name] < 3:
            raise ValueError(name)
        return name

    async def run(self, system: actorq.System) -> None:
        work = actorq.task(self.work)
        async with trio.open_nursery() as nursery:
            for verb in (self.one_by_one, self.many, self.retried, self.cancelled, self.block):
                nursery.start_soon(verb, system, work)
        await system.join()

    async def one_by_one(self, system: actorq.System, work: Any) -> None:
        long = await system.submit(work, "long", 20)
        for number in range(3):
            self.seen[f"waiter {number}"] = await system.call(work, f"called {number}", number / 4)
        delayed = await system.submit(work.options(delay=3), "delayed")
        async with trio.open_nursery() as nursery:
            for handle in (long, delayed):
                for _ in range(3):
                    nursery.start_soon(handle.value)
        self.seen["long"] = await long.value()
        self.seen["delayed"] = (await system.result(delayed.id)).value

    async def many(self, system: actorq.System, work: Any) -> None:
        handles = await system.submit_many(work.message(f"many {n}", n % 3) for n in range(10))
        self.seen["many"] = sorted([r.value async for r in system.as_completed(handles)])

    async def retried(self, system: actorq.System, work: Any) -> None:
        retry = actorq.Retry(attempts=3, delay=1, jitter=0)
        stubborn = actorq.task(retry=retry)(self.fail_twice)
        self.seen["retried"] = await system.call(stubborn, "retried")

    async def cancelled(self, system: actorq.System, work: Any) -> None:
        waiting = await system.submit(work.options(delay=1000), "never run")
        running = await system.submit(work, "cut short", 1000)
        await trio.sleep(1)  # virtual
        results = [await waiting.cancel(), await running.cancel()]
        self.seen["cancelled"] = [str(result.status) for result in results]

    async def block(self, system: actorq.System, work: Any) -> None:
        async with system.open_nursery() as nursery:
            handles = [await nursery.submit(work, f"owned {n}", n) for n in range(3)]
        self.seen["owned"] = [await handle.value() for handle in handles]

    def check(self) -> None:
        once = {
            "long": 1, "delayed": 1, "cut short": 1, "retried": 3,
            **{f"called {n}": 1 for n in range(3)},
            **{f"many {n}": 1 for n in range(10)},
            **{f"owned {n}": 1 for n in range(3)},
        }  # fmt: skip
        assert self.runs == once
        assert self.seen == {
            **{f"waiter {n}": f"called {n}" for n in range(3)},
            "long": "long",
            "delayed": "delayed",
            "many": [f"many {n}" for n in range(10)],
            "retried": "retried",
            "cancelled": ["cancelled", "cancelled"],
            "owned": [f"owned {n}" for n in range(3)],
        }


async def survive(store: FaultyStore, concurrency: int = 30) -> None:
    """Run the workload on a store that fails somewhere, and check all that it leaves."""
    workload = Workload()
    async with open_quietly(store, concurrency=concurrency) as system:
        with trio.fail_after(300):
            await workload.run(system)
        tables = system.tables()
        stats = await system.stats()
    workload.check()
    assert {name: size for name, size in tables.items() if size} == {}
    assert all(pool.free == pool.slots for pool in stats.pools.values())


def each_call() -> Iterator[int]:
    """Yield 1, 2, ...; whoever iterates stops at the first call that never came."""
    return count(1)


# --- a crash at every commit ---------------------------------------------------------------------


@MOMENTS
@PATHS
async def test_a_crash_at_any_commit_loses_nothing_and_doubles_nothing(
    suspends: bool, applied: bool
) -> None:
    for number in each_call():
        store = FaultyStore(MemoryStore(), suspends=suspends)
        store.fail("commit", number, applied=applied)
        try:
            await survive(store)
        except BaseException as error:
            error.add_note(f"the crash was at commit {number}")
            raise
        if not store.faults:
            break

    assert number > 10


@PATHS
@pytest.mark.parametrize("verb", ["fetch", "find", "purge", "load", "acquire", "release"])
async def test_a_crash_at_any_other_call_of_the_store_is_survived_too(
    suspends: bool, verb: Any
) -> None:
    for number in each_call():
        store = FaultyStore(MemoryStore(), suspends=suspends)
        store.fail("commit", 5)  # so that there is something to load
        store.fail(verb, number + (verb in {"acquire", "load"}))  # the first start may fail
        try:
            await survive(store)
        except BaseException as error:
            error.add_note(f"the crash was at {verb} {number}")
            raise
        if store.faults < 2:
            break


@PATHS
async def test_an_owner_that_was_fenced_takes_the_partition_back(suspends: bool) -> None:
    store = FaultyStore(MemoryStore(), suspends=suspends)
    store.fail("commit", 4, error=lambda: Fenced("somebody else owns it"))

    await survive(store)

    assert store.faults == 1
