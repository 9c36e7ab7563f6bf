"""What a queue that others may own survives: crashes, bad rows, take-overs, and what is asked."""

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actorq
from actorq.errors import Fenced, OwnedElsewhere, RowRefused
from actorq.model.events import Event, EventKind
from actorq.model.records import Note, Ownership, Record, Write
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore

open_quietly = partial(actorq.open_system, processes=0, instruments=())

starts: list[int] = []
let_fail: set[int] = set()


@actorq.task(name="ownership.echo")
async def echo(number: int) -> int:
    return number


@actorq.task(name="ownership.flaky")
async def flaky(number: int) -> int:
    if number in let_fail:
        raise ValueError(number)
    return number


@actorq.task(name="ownership.long")
async def long(number: int) -> int:
    starts.append(number)
    await trio.sleep(number)  # virtual
    return number


@actorq.task(name="ownership.note")
async def note(done: actorq.TaskDone) -> None:
    starts.append(done.data["number"])


TASKS: list[actorq.Task[..., Any]] = [echo, flaky, long, note]


async def map_all(system: actorq.System) -> list[int]:
    async with system.map(echo, range(3)) as values:
        return [value async for value in values]


class Kept(MemoryStore):
    """A store in memory that is used as one that lasts."""

    durable = True


class Contested(FaultyStore):
    """One that somebody else can take over."""

    def __init__(self) -> None:
        super().__init__(Kept(), suspends=True)
        self.taken = False

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        await trio.lowlevel.checkpoint()
        return None if self.taken else await super().acquire(partition, nonce, ttl)

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        if self.taken:
            await trio.lowlevel.checkpoint()
            raise Fenced("somebody else owns it")
        await super().commit(ownership, writes, notes)


class Told:
    """An instrument that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def count(self, kind: EventKind) -> int:
        return sum(event.kind is kind for event in self.events)


@pytest.fixture(autouse=True)
def nothing_has_started() -> None:
    starts.clear()
    let_fail.clear()


async def test_a_retry_of_many_that_fails_in_the_middle_leaves_nobody_waiting_for_ever(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    let_fail.update(range(1_002))
    async with open_quietly(store, tasks=TASKS) as system:
        handles = await system.submit_many(flaky.message(n) for n in range(1_001))
        for handle in handles:
            await handle.wait()
        source = await system.submit(flaky, 1_001)
        await source.wait()
        follower = await system.submit(flaky.options(after=[source]), 5_000)
        assert (await follower.wait()).status == "failure"
        let_fail.clear()
        store.fail("find", 2, times=inf)
        with pytest.raises(actorq.StoreUnavailable):
            await system.retry(status="failure")
        store.heal()
        await trio.sleep(5)  # virtual

        assert (await system.result(source.id)).status == "success"
        assert (await system.result(follower.id)).status == "success"


async def test_results_with_a_key_do_not_drive_out_the_others(autojump_clock: MockClock) -> None:
    async with open_quietly(MemoryStore(), tasks=TASKS, max_results=20) as system:
        for number in range(25):
            await (await system.submit(echo.options(key=f"key {number}"), number)).wait()
        handle = await system.submit(echo, 1)
        await handle.wait()

        assert (await system.result(handle.id)).value == 1


async def test_where_nothing_ends_nothing_is_forgotten_again_and_again(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    async with open_quietly(store, tasks=TASKS, max_results=20) as system:
        for number in range(25):
            await (await system.submit(echo.options(key=f"key {number}"), number)).wait()
        await trio.sleep(1)  # virtual
        store.fail("purge", 3, times=inf)  # two more are fine
        before = store.faults
        for _ in range(20):
            await system.stats()

        assert store.faults == before


@pytest.mark.parametrize("error", [RuntimeError, lambda why: RowRefused(why, id="x")])
async def test_after_a_crash_the_ownership_is_not_given_away(
    autojump_clock: MockClock, error: Any
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    store.fail("release", times=inf)
    async with open_quietly(store, tasks=TASKS) as system:
        handle = await system.submit(long, 5)
        await trio.sleep(1)  # virtual
        store.fail("commit", error=lambda: error("a crash"))
        assert await system.call(echo, 2) == 2
        assert store.faults == 1

        assert await handle.value() == 5
    assert starts == [5]


async def test_any_number_of_bad_rows_at_once_is_no_crash(autojump_clock: MockClock) -> None:
    told, store = Told(), FaultyStore(Kept(), suspends=True)
    async with open_quietly(store, tasks=TASKS, instruments=[told]) as system:
        for number in range(12):
            store.fail("commit", error=partial(RowRefused, "no", id=f"x {number}"))
            assert await system.call(echo, number) == number

    assert told.count(EventKind.ACTOR_RESTARTED) == 0


async def test_a_callback_whose_record_is_refused_costs_neither_the_outcome_nor_the_system(
    autojump_clock: MockClock,
) -> None:
    class Picky(Kept):
        async def commit(
            self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
        ) -> None:
            for write in writes:
                if write.head is not None and write.head.name == note.name:
                    raise RowRefused("no callbacks here", id=write.id)
            await super().commit(ownership, writes, notes)

    store = FaultyStore(Picky(), suspends=True)
    async with open_quietly(store, tasks=TASKS) as system:
        message = echo.options(callback=note, callback_data={"number": 7}).message(1)
        handle = await system.submit(message)
        with trio.fail_after(10):
            assert await handle.value() == 1
            await system.join()
    assert starts == []


async def test_what_a_callback_gets_is_what_was_there_at_the_submit(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    data: dict[str, Any] = {}
    async with open_quietly(store, tasks=TASKS) as system:
        for number in range(3):
            data["number"] = number
            await system.submit(echo.options(callback=note, callback_data=data, delay=1), 0)
        data["number"] = object()
        await system.join()

    assert sorted(starts) == [0, 1, 2]


async def test_a_former_owner_keeps_nobody_waiting_and_stops_what_it_runs(
    autojump_clock: MockClock,
) -> None:
    store = Contested()
    async with open_quietly(store, tasks=TASKS) as system:
        handle = await system.submit(long, 1_000)
        await trio.sleep(1)  # virtual
        store.taken = True
        with trio.fail_after(6), pytest.raises(OwnedElsewhere):
            await handle.value()
        await trio.sleep(1)  # virtual
        assert (await system.tree()).find("worker actor").tasks == ()
        began = trio.current_time()
    assert trio.current_time() - began < 1


async def test_a_block_in_a_former_owner_is_left_at_once(autojump_clock: MockClock) -> None:
    store = Contested()
    async with open_quietly(store, tasks=TASKS) as system:
        store.taken = True
        await trio.sleep(5)  # virtual
        began = trio.current_time()
        with pytest.raises(OwnedElsewhere):
            await map_all(system)

        assert trio.current_time() - began < 1
        assert system.tables()["unanswered"] == 0


@pytest.mark.parametrize("seconds", [1, 60], ids=["ended meanwhile", "cut short"])
async def test_an_owner_that_comes_back_before_anybody_wrote_starts_nothing_twice(
    autojump_clock: MockClock, seconds: int
) -> None:
    store = Contested()
    async with open_quietly(store, tasks=TASKS) as system:
        handle = await system.submit(long.options(at_most_once=True), seconds)
        await trio.sleep(0.5)  # virtual
        store.taken = True
        await trio.sleep(5)  # virtual
        store.taken = False
        await trio.sleep(15)  # virtual
        result = await system.result(handle.id)

    assert starts == [seconds]
    assert result.status == ("success" if seconds == 1 else "failure")


@pytest.mark.parametrize("verb", ["load", "notes"])
async def test_a_store_that_cannot_be_read_for_a_moment_is_loaded_after_it(
    autojump_clock: MockClock, verb: Any
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    async with open_quietly(store, tasks=TASKS) as system:
        handle = await system.submit(echo.options(delay=30), 3)
        store.fail(verb, times=6)
        store.fail("commit", error=lambda: RuntimeError("a crash"))

        assert await system.call(echo, 1) == 1
        assert await handle.value() == 3


@pytest.mark.parametrize("verb", ["describe", "find"])
async def test_a_question_of_people_that_the_store_does_not_answer_holds_up_nobody(
    autojump_clock: MockClock, verb: Any
) -> None:
    told, store = Told(), FaultyStore(Kept(), suspends=True)
    async with open_quietly(store, tasks=TASKS, instruments=[told]) as system:
        store.fail(verb, times=inf)

        async def ask() -> None:
            if verb == "describe":
                assert (await system.stats()).store is None
            else:
                with pytest.raises(actorq.StoreUnavailable):
                    await system.find()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.1)  # virtual
            with trio.fail_after(2):
                assert await system.call(echo, 1) == 1

    assert told.count(EventKind.ACTOR_RESTARTED) == 0


@pytest.mark.parametrize("verb", ["result", "cancel", "why", "wait"])
async def test_what_is_no_text_is_the_id_of_no_task(autojump_clock: MockClock, verb: str) -> None:
    async with open_quietly(FaultyStore(Kept(), suspends=True), tasks=TASKS) as system:
        bad = "\ud800"
        ask = system.handle(bad).wait if verb == "wait" else partial(getattr(system, verb), bad)
        with pytest.raises(actorq.TaskNotFound):
            await ask()


async def test_the_first_verb_of_a_standby_that_is_the_owner_now_is_answered(
    autojump_clock: MockClock,
) -> None:
    async def free(store: Contested) -> None:
        await trio.sleep(1)  # virtual
        store.taken = False

    for _ in range(8):  # trio draws who runs first
        store = Contested()
        store.taken = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(free, store)
            async with open_quietly(store, tasks=TASKS) as system:
                assert await system.call(echo, 1) == 1


async def test_results_of_an_earlier_incarnation_are_forgotten_though_nothing_new_ends(
    autojump_clock: MockClock,
) -> None:
    store = Kept()
    async with open_quietly(store, tasks=TASKS, result_ttl=30) as system:
        await system.call(echo, 1)
    async with open_quietly(store, tasks=TASKS, result_ttl=30):
        await trio.sleep(200)  # virtual
        assert store.tables()["records"] == 0


async def test_what_is_revived_keeps_its_call_though_results_are_forgotten_in_the_same_turn(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(Kept(), suspends=True)
    let_fail.update(range(4))
    async with open_quietly(store, tasks=TASKS, max_results=4) as system:
        running = await system.submit(long, 10)
        handles = [await system.submit(flaky, number) for number in range(4)]
        for handle in handles:
            await handle.wait()
        await system.pause("default")
        async with trio.open_nursery() as nursery:
            with store.commits_held():
                nursery.start_soon(system.submit, echo.options(queue="other", delay=3_600), 1)
                await trio.sleep(20)  # virtual: `running` ends, and waits to be written
                nursery.start_soon(partial(system.retry, status="failure"))
                await trio.sleep(1)  # virtual
        await trio.sleep(1)  # virtual
        assert (await running.wait()).ok
        kept: list[Record | None] = await store.fetch("00", [handle.id for handle in handles])

    assert all(record is not None and record.body is not None for record in kept)
