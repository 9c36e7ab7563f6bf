from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import get_args

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actorq.errors import Fenced, StoreUnavailable
from actorq.model.records import Note, Ownership, Write
from actorq.stores.memory import MemoryStore
from actorq.testing import FaultyStore, StoreContract
from actorq.testing.faults import StoreVerb
from actorq.testing.samples import (
    EVERYTHING,
    PARTITION,
    ended,
    everything,
    fetched,
    found,
    live,
    loaded,
    own,
    pause,
)  # fmt: skip


class TestFaultyStore(StoreContract):
    @pytest.fixture(params=[False, True], ids=["immediate", "suspending"])
    def store(self, request: pytest.FixtureRequest) -> FaultyStore:
        return FaultyStore(MemoryStore(), suspends=request.param)


async def test_a_call_that_is_to_fail_changes_nothing() -> None:
    store = FaultyStore(MemoryStore())
    owner = await own(store)
    store.fail("commit")
    with pytest.raises(StoreUnavailable, match="injected"):
        await store.commit(owner, [live(1)])

    assert await found(store) == []
    assert (store.commits, store.faults) == ([], 1)


async def test_a_call_whose_answer_is_lost_was_applied() -> None:
    store = FaultyStore(MemoryStore())
    owner = await own(store)
    store.fail("commit", applied=True)
    with pytest.raises(StoreUnavailable):
        await store.commit(owner, [live(1)])

    assert await found(store) == [1]
    assert store.commits == [(live(1),)]


async def test_what_was_committed_is_noted_in_order() -> None:
    store = FaultyStore(MemoryStore())
    owner = await own(store)
    await store.commit(owner, [live(1), live(2)], [pause("a")])
    await store.commit(owner, [])

    assert store.commits == [(live(1), live(2)), ()]
    assert store.noted == [(pause("a"),), ()]


def test_it_is_as_durable_as_what_it_wraps() -> None:
    inner = MemoryStore()
    assert not FaultyStore(inner).durable
    inner.durable = True

    assert FaultyStore(inner).durable


async def test_calls_are_counted_from_now_on() -> None:
    store = FaultyStore(MemoryStore())
    owner = await own(store)
    await store.commit(owner, [live(1)])
    store.fail("commit", 2)

    await store.commit(owner, [live(2)])
    with pytest.raises(StoreUnavailable):
        await store.commit(owner, [live(3)])
    await store.commit(owner, [live(4)])


async def test_several_calls_in_a_row_can_fail() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("fetch", times=2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await fetched(store, 1)

    assert await fetched(store, 1) == [None]
    assert store.faults == 2


async def test_a_store_can_fail_until_it_is_healed() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("find", times=inf)
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await found(store)
    store.heal()

    assert await found(store) == []


async def test_the_error_can_be_chosen() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("acquire", error=lambda: Fenced("chosen"))

    with pytest.raises(Fenced, match="chosen"):
        await own(store)


async def test_two_faults_for_one_call_are_one() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("acquire", 2, error=lambda: Fenced("planned first"))
    store.fail("acquire", 2)
    await own(store)
    with pytest.raises(Fenced):
        await own(store)

    await own(store)
    assert store.faults == 1


@pytest.mark.parametrize("applied", [False, True])
async def test_every_verb_can_fail(applied: bool) -> None:
    store = FaultyStore(MemoryStore())
    owner = await own(store)
    calls: dict[StoreVerb, Callable[[], Awaitable[object]]] = {
        "open": store.open,
        "describe": store.describe,
        "load": lambda: loaded(store, owner),
        "notes": lambda: store.notes(owner),
        "fetch_keyed": lambda: store.fetch_keyed(PARTITION, []),
        "commit": lambda: store.commit(owner, []),
        "fetch": lambda: store.fetch(PARTITION, []),
        "find": lambda: store.find(PARTITION, EVERYTHING, None, 1),
        "purge": lambda: store.purge(owner, 0.0, 0),
        "release": lambda: store.release(owner),
        "acquire": lambda: own(store, "other"),
    }
    assert calls.keys() == set(get_args(StoreVerb))
    for verb, call in calls.items():
        store.fail(verb, applied=applied)
        with pytest.raises(StoreUnavailable):
            await call()

    assert store.faults == len(calls)


async def test_every_method_of_a_suspending_store_is_a_checkpoint() -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    with assert_checkpoints():
        await store.open()
    with assert_checkpoints():
        await store.describe()
    with assert_checkpoints():
        owner = await own(store)
    with assert_checkpoints():
        await store.notes(owner)
    with assert_checkpoints():
        await store.fetch_keyed(PARTITION, ["a"])
    with assert_checkpoints():
        await store.commit(owner, [live(1), ended(2)])
    with assert_checkpoints():
        await loaded(store, owner)
    with assert_checkpoints():
        await fetched(store, 1)
    with assert_checkpoints():
        await everything(store)
    with assert_checkpoints():
        await store.purge(owner, 0.0, 0)
    with assert_checkpoints():
        await store.release(owner)

    assert not store.immediate
    assert FaultyStore(MemoryStore()).immediate


async def test_a_commit_of_a_suspending_store_can_be_cancelled_before_it_is_applied() -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    owner = await own(store)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.commit(owner, [live(1)])

    assert scope.cancelled_caught
    assert await found(store) == []


async def test_a_commit_of_a_suspending_store_can_be_cancelled_when_it_is_applied() -> None:
    class CancelsWhenItIsDone(MemoryStore):
        async def commit(
            self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
        ) -> None:
            await super().commit(ownership, writes, notes)
            scope.cancel()

    store = FaultyStore(CancelsWhenItIsDone(), suspends=True)
    owner = await own(store)
    with trio.CancelScope() as scope:
        await store.commit(owner, [live(1)])

    assert scope.cancelled_caught
    assert await found(store) == [1]


async def test_commits_can_be_held_before_they_are_applied() -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    owner = await own(store)
    async with trio.open_nursery() as nursery:
        with store.commits_held():
            nursery.start_soon(store.commit, owner, [live(1)])
            nursery.start_soon(store.commit, owner, [live(2)])
            await wait_all_tasks_blocked()
            assert await found(store) == []

    assert await found(store) == [2, 1]


async def test_an_immediate_store_cannot_hold_anything() -> None:
    store = FaultyStore(MemoryStore())

    with pytest.raises(RuntimeError, match="suspends=True"), store.commits_held():
        pass
