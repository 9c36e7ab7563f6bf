"""The queue actor crashes wherever it can, and nobody outside notices more than a short wait."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.actors.owner import OWNERSHIP_TTL
from actorq.actors.queue import MAIL_MAX, QueueActor
from actorq.errors import Fenced, RowRefused
from actorq.machines.queue import QueueMachine
from actorq.model.events import Event, EventKind
from actorq.model.records import Note, Ownership, Record, Write
from actorq.model.status import TaskStatus
from actorq.runtime.clock import AnchoredClock
from actorq.stores.memory import MemoryStore
from actorq.system import house
from actorq.testing.faults import FaultyStore

open_quietly = partial(actorq.open_system, processes=0, instruments=())

PATHS = pytest.mark.parametrize("suspends", [False, True], ids=["immediate", "suspending"])
MOMENTS = pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])


@pytest.fixture(params=[False, True], ids=["immediate", "suspending"])
def store(request: pytest.FixtureRequest) -> FaultyStore:
    return FaultyStore(MemoryStore(), suspends=request.param)


class Broken(Exception):
    """A crash that trying again does not help against."""


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
    autojump_clock: MockClock, suspends: bool, applied: bool
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
    autojump_clock: MockClock, suspends: bool, verb: Any
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
async def test_an_owner_that_was_fenced_takes_the_partition_back(
    autojump_clock: MockClock, suspends: bool
) -> None:
    store = FaultyStore(MemoryStore(), suspends=suspends)
    store.fail("commit", 4, error=lambda: Fenced("somebody else owns it"))

    await survive(store)

    assert store.faults == 1


@PATHS
async def test_a_crash_in_any_step_of_the_machine_is_survived(
    autojump_clock: MockClock, suspends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in each_call():
        steps = count(1)

        class Broken(QueueMachine):
            def turn(self, *args: Any) -> Any:
                effects = super().turn(*args)
                if next(steps) == number:  # noqa: B023 - called in this round only
                    raise ZeroDivisionError("a rule is broken")
                return effects

        monkeypatch.setattr(house, "QueueActor", partial(QueueActor, machine=Broken))
        try:
            await survive(FaultyStore(MemoryStore(), suspends=suspends))
        except BaseException as error:
            error.add_note(f"the crash was in step {number}")
            raise
        if next(steps) <= number:
            break

    assert number > 10


# --- what a crash leaves alone -------------------------------------------------------------------


async def test_what_runs_goes_on_while_the_queue_actor_is_down(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store) as system:
        running = await system.submit(nap, 5)
        store.fail("commit")
        await system.call(nap, 0)
        result = await running.wait()

    assert (result.value, result.attempts, store.faults) == (5, 1, 1)


async def test_a_grant_that_was_stored_but_never_arrived_is_granted_again_and_spends_no_attempt(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    once = actorq.task(at_most_once=True)(nap)
    store.fail("commit", applied=True)
    async with open_quietly(store) as system:
        handle = await system.submit(once, 1)
        result = await handle.wait()

    assert (result.value, result.attempts) == (1, 1)


async def test_a_finish_whose_answer_was_lost_is_recorded_once(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store) as system:
        handle = await system.submit(nap, 1)
        store.fail("commit", applied=True)
        value = await handle.value()
        stats = await system.stats()

    assert (value, stats.lost, stats.retries, store.faults) == (1, 0, 0, 1)


async def test_an_outcome_reaches_its_waiter_though_its_result_was_to_be_kept_for_no_time(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store, result_ttl=0) as system:
        handle = await system.submit(nap, 1)
        store.fail("commit", applied=True)

        assert await handle.value() == 1


async def test_a_submit_that_was_parked_when_the_queue_actor_crashed_gets_its_outcome(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    handles = []
    async with open_quietly(store, concurrency=1, max_pending=1) as system:
        first = [await system.submit(nap, 5), await system.submit(nap, 1)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: collect(handles, system.submit, nap, 2))
            await wait_all_tasks_blocked()
            store.fail("commit")
            nursery.start_soon(system.submit, actorq.task(queue="other")(nap), 0)
        values = [await handle.value() for handle in (*first, *handles)]

    assert (values, store.faults) == ([5, 1, 2], 1)


async def test_a_submit_that_is_cancelled_while_the_queue_actor_is_down_leaves_no_task(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store, concurrency=1) as system:
        store.fail("commit", applied=True)
        with trio.move_on_after(0.01) as scope:
            await system.submit(nap, 1000)
        with trio.fail_after(20):
            await system.join()
        page = await system.find()

    assert scope.cancelled_caught
    assert [str(task.status) for task in page.tasks] == ["cancelled"]


async def test_a_crash_while_closing_starts_nothing(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    started = []

    async def note(name: str) -> None:
        started.append(name)
        await trio.sleep(5)  # virtual

    async with open_quietly(store, concurrency=1) as system:
        running, waiting = await system.submit(note, "runs"), await system.submit(note, "waits")
        store.fail("commit")

    assert (started, store.faults) == (["runs"], 1)
    assert [(await handle.wait()).status for handle in (running, waiting)] == [
        "success",
        "cancelled",
    ]


async def test_what_waits_keeps_its_order_through_a_crash(autojump_clock: MockClock) -> None:
    class LoadsBackwards(MemoryStore):
        async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
            async for piece in super().load(ownership):
                yield piece[::-1]

    store, order = FaultyStore(LoadsBackwards()), []

    async def note(number: int) -> None:
        order.append(number)
        await trio.sleep(1)  # virtual

    async with open_quietly(store, concurrency=1) as system:
        for number in range(10):
            await system.submit(note, number)
        store.fail("commit")
        await system.join()

    assert (order, store.faults) == (list(range(10)), 1)


async def test_a_commit_in_flight_is_never_cancelled(autojump_clock: MockClock) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)

    async def block() -> None:
        async with open_quietly(store, concurrency=0) as system:
            await system.submit(nap, 0)

    async with trio.open_nursery() as nursery:
        with store.commits_held():
            nursery.start_soon(block)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(60)  # virtual: longer than closing waits for anything

    assert len(store.commits) >= 1


async def test_instruments_are_told_of_a_restart(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    told = Told()
    store.fail("commit", error=Broken)
    async with open_quietly(store, instruments=[told]) as system:
        await system.call(nap, 0)

    [event] = told.events
    assert event.kind is EventKind.ACTOR_RESTARTED
    assert event.details["actor"] == "queue actor"
    assert event.details["incarnation"] == 2
    assert "Broken" in event.details["error"]


# --- when it does not come back ------------------------------------------------------------------


async def test_when_its_restarts_are_spent_every_waiter_is_told_and_the_block_raises(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    told: list[str] = []

    async def waits(verb: Callable[..., Awaitable[object]], *args: Any) -> None:
        with pytest.raises(actorq.ActorDied):
            await verb(*args)
        told.append(verb.__name__)

    async def block(system: actorq.System) -> None:
        handle = await system.submit(nap, 1000)
        async with trio.open_nursery() as nursery:
            for verb in (handle.value, handle.wait, system.join):
                nursery.start_soon(waits, verb)
            await wait_all_tasks_blocked()
            store.fail("commit", times=inf, error=Broken)
            nursery.start_soon(waits, system.submit, nap, 0)
            nursery.start_soon(waits, system.call, nap, 0)

    error = await restarts_spent(store, block)

    assert sorted(told) == ["call", "join", "submit", "value", "wait"]
    assert len(error.failures) == 4


async def test_a_block_that_ends_by_itself_when_the_restarts_are_spent_raises_too(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async def block(system: actorq.System) -> None:
        store.fail("commit", times=inf, error=Broken)
        with pytest.raises(actorq.ActorDied):
            await system.submit(nap, 0)

    await restarts_spent(store, block)


async def test_a_block_that_fails_when_the_restarts_are_spent_raises_the_cause(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async def block(system: actorq.System) -> None:
        store.fail("commit", times=inf, error=Broken)
        await system.submit(nap, 0)

    await restarts_spent(store, block)


async def test_a_system_that_spends_its_restarts_while_closing_raises(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async def block(system: actorq.System) -> None:
        await system.submit(nap, 1)
        store.fail("commit", times=inf, error=Broken)

    await restarts_spent(store, block)


async def test_a_store_that_fails_at_the_start_is_the_error_of_the_block(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    store.fail("acquire", error=lambda: OSError("no such disk"))

    with pytest.raises(OSError, match="no such disk"):
        async with open_quietly(store):
            pass


async def test_whoever_opens_a_store_that_somebody_else_owns_waits_for_it_and_says_so(
    autojump_clock: MockClock,
) -> None:
    class Owned(MemoryStore):
        async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
            return await super().acquire(partition, nonce, ttl) if free.is_set() else None

    free, told = trio.Event(), Told()
    began = trio.current_time()

    async def leave() -> None:
        await trio.sleep(60)  # virtual
        free.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        async with open_quietly(Owned(), instruments=[told]) as system:
            assert await system.call(nap, 0) == 0

    assert 60 <= trio.current_time() - began < 61
    [event] = told.events
    assert event.kind is EventKind.STANDING_BY
    assert "another process owns" in event.details["why"]


async def test_a_block_that_waits_for_its_store_can_be_cancelled(
    autojump_clock: MockClock,
) -> None:
    class Owned(MemoryStore):
        async def acquire(self, partition: str, nonce: str, ttl: float) -> None:
            return None

    began = trio.current_time()
    with trio.move_on_after(5) as waited:
        async with open_quietly(Owned()):
            raise AssertionError("nobody owns this store")

    assert waited.cancelled_caught
    assert trio.current_time() - began == 5


# --- a store that cannot be written --------------------------------------------------------------


async def test_a_commit_that_fails_for_a_while_is_tried_again_and_nobody_notices(
    autojump_clock: MockClock,
) -> None:
    store, told = FaultyStore(MemoryStore(), suspends=True), Told()
    async with open_quietly(store, instruments=[told]) as system:
        for applied in (False, True):
            store.fail("commit", times=5, applied=applied)
            assert await system.call(nap, 0) == 0

    assert [event.kind for event in told.events] == 2 * [EventKind.STORE_UNAVAILABLE]
    assert store.faults == 10


async def test_while_a_store_cannot_be_written_whoever_submits_is_told_and_nothing_is_lost(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with open_quietly(store) as system:
        before = await system.submit(nap, 30)
        store.fail("commit", times=inf)
        began = trio.current_time()
        with pytest.raises(actorq.StoreUnavailable, match="a fault was injected"):
            await system.submit(nap, 0)
        assert OWNERSHIP_TTL <= trio.current_time() - began < 2 * OWNERSHIP_TTL
        store.heal()
        await trio.sleep(1)  # virtual
        after = await system.submit(nap, 0)
        assert (await before.wait()).ok
        assert (await after.wait()).ok


async def test_a_store_that_says_it_is_immediate_and_suspends_is_found_out(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    store.immediate = True

    with pytest.raises(actorq.RestartIntensityExceeded, match="says it is immediate"):
        async with open_quietly(store) as system:
            await system.submit(nap, 0)


# --- turns and commits ---------------------------------------------------------------------------


async def test_submits_that_arrive_while_a_commit_is_in_flight_share_the_next_one(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with open_quietly(store, concurrency=0) as system:
        async with trio.open_nursery() as nursery:
            with store.commits_held():
                nursery.start_soon(system.submit, nap, 0)
                await wait_all_tasks_blocked()
                for _ in range(50):
                    nursery.start_soon(system.submit, nap, 0)
                await wait_all_tasks_blocked()

        assert [len(writes) for writes in store.commits] == [1, 50]


async def test_a_commit_takes_no_more_mail_than_its_bound(autojump_clock: MockClock) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with open_quietly(store, concurrency=0) as system:
        async with trio.open_nursery() as nursery:
            with store.commits_held():
                for _ in range(MAIL_MAX + 10):
                    nursery.start_soon(system.submit, nap, 0)
                await wait_all_tasks_blocked()

        sizes = [len(writes) for writes in store.commits]
        assert sum(sizes) == MAIL_MAX + 10
        assert max(sizes) <= MAIL_MAX


async def test_nothing_is_answered_or_started_before_it_is_stored(
    autojump_clock: MockClock,
) -> None:
    store, said = FaultyStore(MemoryStore(), suspends=True), []

    async def work() -> None:
        said.append("started")

    async with open_quietly(store) as system, trio.open_nursery() as nursery:
        with store.commits_held():
            nursery.start_soon(lambda: collect(said, system.submit, work))
            await trio.sleep(60)  # virtual
            assert said == []
        await system.join()
        await wait_all_tasks_blocked()

        assert len(said) == 2


async def test_accepting_and_granting_share_a_commit_when_a_slot_is_free(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store) as system:
        await system.submit(nap, 1)

        assert [[w.head and w.head.status for w in c] for c in store.commits] == [["running"]]


async def test_mail_that_arrived_in_time_counts_however_late_it_is_read(
    autojump_clock: MockClock,
) -> None:
    store, told = FaultyStore(MemoryStore(), suspends=True), Told()
    async with open_quietly(store, instruments=[told]) as system, trio.open_nursery() as nursery:
        handle = await system.submit(nap, 1000)
        nursery.start_soon(lambda: handle.cancel(grace=5))
        await wait_all_tasks_blocked()
        with store.commits_held():
            await trio.sleep(20)  # virtual: its cancel is confirmed, and waits for the actor

    assert told.events == []


async def test_results_are_forgotten_when_their_time_is_over(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store, result_ttl=100) as system:
        for _ in range(3):
            await system.call(nap, 1)
        await trio.sleep(200)  # virtual

        assert (await system.find()).scanned == 0


async def test_results_beyond_their_number_are_forgotten_least_recently_used_first(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store, max_results=2) as system:
        handles = []
        for number in range(2):
            handles.append(await system.submit(nap, number))
            await handles[-1].value()
        await system.result(handles[0].id)
        await system.call(nap, 3)

        assert (await system.result(handles[0].id)).value == 0
        with pytest.raises(actorq.TaskNotFound):
            await system.result(handles[1].id)


async def restarts_spent(
    store: FaultyStore, block: Callable[[actorq.System], Awaitable[None]]
) -> actorq.RestartIntensityExceeded:
    """Return what `open_system` raises when its block breaks the store for ever."""
    with pytest.raises(actorq.RestartIntensityExceeded) as caught:
        async with open_quietly(store, concurrency=1) as system:
            await block(system)
    with pytest.raises(actorq.ActorDied):
        await system.stats()
    return caught.value


async def nap(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


async def collect(into: list[Any], verb: Callable[..., Awaitable[object]], *args: Any) -> None:
    into.append(await verb(*args))


class Told:
    """An instrument that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)


async def test_a_cancel_that_nobody_waits_for_any_more_is_not_lost_in_a_crash(
    autojump_clock: trio.abc.Clock,
) -> None:
    store = FaultyStore(MemoryStore())
    async with actorq.open_system(store, processes=0) as system:
        handle = await system.submit(trio.sleep, 100)
        store.fail("commit", 1)
        with trio.move_on_after(0.01):
            await handle.cancel()

        assert (await handle.wait()).status == "cancelled"


@pytest.mark.parametrize("verbs", [("discard", "retry"), ("retry", "discard")])
async def test_a_bulk_verb_sees_what_the_one_before_has_done(
    verbs: tuple[str, str], autojump_clock: MockClock
) -> None:
    """However close they come: what is discarded is not run again, without its call."""
    runs = 0

    @actorq.task
    async def fail(label: str) -> None:
        nonlocal runs
        runs += 1
        raise ValueError(label)

    store = FaultyStore(MemoryStore(), suspends=True)
    async with open_quietly(store) as system:
        for handle in await system.submit_many(fail.message("it") for _ in range(5)):
            await handle.wait()
        counts: dict[str, int] = {}

        async def do(verb: str) -> None:
            counts[verb] = await getattr(system, verb)(status="failure")

        async with trio.open_nursery() as nursery:
            with store.commits_held():
                nursery.start_soon(system.pause, "default")
                await wait_all_tasks_blocked()
                for verb in verbs:
                    nursery.start_soon(do, verb)
                    await wait_all_tasks_blocked()
        await system.resume("default")
        await system.join()
        left = (await system.find(status="failure")).tasks

    assert (counts, runs) == ({verbs[0]: 5, verbs[1]: 0}, 5 + counts["retry"])
    assert [result.reason for result in left] == ["it"] * counts["retry"]


# --- rows that a store cannot keep ---------------------------------------------------------------


class Picky(FaultyStore):
    """Refuses the record of every task with this name, whenever it is new."""

    def __init__(self, name: str, *, ended: bool = False) -> None:
        super().__init__(MemoryStore(), suspends=True)
        self._refuses = name
        self._ended = ended

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        for write in writes:
            head = write.head
            if (
                head is not None
                and head.name == self._refuses
                and (head.status is TaskStatus.SUCCESS if self._ended else not head.status.terminal)
            ):
                raise RowRefused("its name", id=write.id)
        await super().commit(ownership, writes, notes)


def called(name: str) -> actorq.AsyncTask[[], None]:
    @actorq.task(name=name)
    async def nothing() -> None:
        pass

    return nothing


async def test_one_bad_row_fails_only_its_own_submit_however_many_there_are(
    autojump_clock: MockClock,
) -> None:
    store, told = Picky("bad"), Told()
    bad, good = called("bad"), called("good")
    refused: list[BaseException] = []

    async def submit_bad(system: actorq.System) -> None:
        with pytest.raises(actorq.StoreError) as caught:
            await system.submit(bad)
        refused.append(caught.value)

    async with (
        open_quietly(store, instruments=[told]) as system,
        trio.open_nursery() as nursery,
    ):
        for _ in range(6):
            nursery.start_soon(submit_bad, system)
            nursery.start_soon(system.call, good)

    assert len(refused) == 6
    kinds = [event.kind for event in told.events]
    assert EventKind.ROW_REFUSED in kinds
    assert EventKind.ACTOR_RESTARTED not in kinds


async def test_an_outcome_that_cannot_be_kept_is_a_failure_of_its_task_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_quietly(Picky("bad", ended=True)) as system:
        handle = await system.submit(called("bad"))
        await system.call(called("good"))
        result = await handle.wait()

    assert result.error is not None
    assert "its outcome cannot be kept" in result.error.message


# --- what is forgotten, and when -----------------------------------------------------------------


async def test_what_is_revived_is_not_forgotten_in_the_same_turn(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    fail = actorq.task(name="fails")(raise_value_error)
    async with open_quietly(store, max_results=64, concurrency=1) as system:
        old = [await system.submit(fail, str(n)) for n in range(8)]
        await system.join()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(system.retry, task="fails"))
            for n in range(80):
                nursery.start_soon(system.call, nap, n / 100)
        await system.join()
        store.fail("commit", error=Broken)
        await system.retry(ids=[handle.id for handle in old])
        await system.join()
        found = await system.find(task="fails")

    # Whatever is still kept has run again with the arguments that it had.
    assert all(
        result.error and result.error.type == "builtins.ValueError" for result in found.tasks
    )


async def test_results_of_an_earlier_incarnation_are_forgotten_in_their_time(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with open_quietly(store, result_ttl=100) as system:
        for _ in range(5):
            await system.call(nap, 0)
        store.fail("commit", error=Broken)
        await system.call(nap, 0)
        await trio.sleep(300)  # virtual
        assert system.tables()["live"] == 0
        inner = store._inner
        assert isinstance(inner, MemoryStore)
        assert inner.tables()["records"] == 0


async def raise_value_error(which: str) -> None:
    raise ValueError(which)


async def test_what_could_start_and_does_not_is_told_and_not_too_often(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules never let it come to that, so the machine is made to say so."""
    monkeypatch.setattr(QueueMachine, "stuck", lambda _: "a is ready, and 3 slots are free")
    told = Told()
    async with open_quietly(instruments=[told]) as system:
        for _ in range(20):
            await (await system.submit(actorq.task(nap).options(delay=1), 0)).wait()

    stuck = [event for event in told.events if event.kind is EventKind.STUCK]
    assert 3 <= len(stuck) <= 5
    assert {event.details["why"] for event in stuck} == {"a is ready, and 3 slots are free"}


# --- the clock -----------------------------------------------------------------------------------


async def test_a_clock_that_is_set_ahead_opens_no_window(
    autojump_clock: MockClock, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "AnchoredClock", SettableClock)
    starts: list[float] = []

    async def start() -> None:
        starts.append(trio.current_time() - began)

    began = trio.current_time()
    limited = actorq.task(start).options(limit=actorq.Limit("k", rate=2, per=600))
    async with open_quietly(store) as system:
        handles = await system.submit_many(limited.message() for _ in range(5))
        await trio.sleep(100)  # virtual
        SettableClock.ahead = 3_600.0
        handles.append(await system.submit(limited))
        for handle in handles:
            await handle.wait()

    assert starts[:2] == [0, 0]
    assert starts[2] >= 600  # in the time that has really passed, not by the clock
    assert all(later - earlier >= 600 for earlier, later in zip(starts, starts[2:], strict=False))


class SettableClock(AnchoredClock):
    """Is ahead by so much as soon as anybody looks."""

    ahead = 0.0

    def now(self) -> float:
        ahead, SettableClock.ahead = SettableClock.ahead, 0.0
        self._offset += ahead
        self.jumped += ahead
        return super().now()
