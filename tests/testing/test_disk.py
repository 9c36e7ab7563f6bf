"""The simulated disk keeps the contract of stores, and fails as it is told."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
import trio

from actorq.codec.records import Records
from actorq.errors import RowRefused, StoreUnavailable
from actorq.model.records import Head, Ownership
from actorq.testing import StoreContract
from actorq.testing.clock import VirtualClock
from actorq.testing.disk import Disk, DiskStore
from actorq.testing.samples import (
    PARTITION,
    deleted,
    ended,
    fenced,
    fetched,
    head,
    live,
    loaded,
    own,
    pause,
    record,
    task_id,
)


class TestDiskWithLocks(StoreContract):
    @pytest.fixture
    def store(self) -> DiskStore:
        return Disk().store()


class TestDiskWithoutLocks(StoreContract):
    @pytest.fixture
    def store(self) -> DiskStore:
        return Disk(locks=False).store()


class TestDiskOfBytes(StoreContract):
    @pytest.fixture
    def store(self) -> DiskStore:
        return Disk(codec=Records()).store()


def play(body: Callable[[Disk], Awaitable[None]], **arguments: Any) -> None:
    """Run on a disk on which everything takes a second there, and a second back."""
    arguments.setdefault("latency", (1.0, 1.0))

    async def main() -> None:
        with trio.fail_after(1_000):
            await body(Disk(random=Random(1), **arguments))

    trio.run(main, clock=VirtualClock())


async def wait(seconds: float) -> None:
    await trio.sleep(seconds)  # virtual


def test_the_lock_of_a_dead_owner_is_free_at_once() -> None:
    async def body(disk: Disk) -> None:
        living = {"first"}
        first, second = disk.store("first", lambda: "first" in living), disk.store("second")
        await own(first, "a")
        assert disk.owner == "first"
        assert await second.acquire(PARTITION, "b", 10.0) is None
        living.clear()
        assert disk.owner is None
        assert await second.acquire(PARTITION, "b", 10.0) is not None
        assert disk.owner == "second"

    play(body)


def test_a_store_that_is_closed_lets_go_of_its_lock() -> None:
    async def body(disk: Disk) -> None:
        first, second = disk.store("first"), disk.store("second")
        await own(first, "a")
        await first.close()
        assert await second.acquire(PARTITION, "b", 10.0) is not None

    play(body)


def test_whoever_has_the_lock_may_own_it_again() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        former = await own(store, "a")
        await own(store, "b")
        assert await fenced(store.commit(former, [live(1)]))

    play(body)


def test_without_locks_the_dead_own_it_until_their_time_is_over() -> None:
    async def body(disk: Disk) -> None:
        living = {"first"}
        first, second = disk.store("first", lambda: "first" in living), disk.store("second")
        await first.acquire(PARTITION, "a", 10.0)
        living.clear()
        assert await second.acquire(PARTITION, "b", 10.0) is None
        await wait(8.0)
        assert await second.acquire(PARTITION, "b", 10.0) is not None

    play(body, locks=False)


def test_a_commit_renews_an_ownership_from_its_start() -> None:
    async def body(disk: Disk) -> None:
        first, second = disk.store("first"), disk.store("second")
        ownership = await first.acquire(PARTITION, "a", 10.0)
        assert ownership is not None
        await wait(6.0)  # it is 8.0 now
        await first.commit(ownership, [])
        assert await second.acquire(PARTITION, "b", 10.0) is None
        await wait(4.9)  # its question arrives at 17.9
        assert await second.acquire(PARTITION, "b", 10.0) is None
        assert await second.acquire(PARTITION, "b", 10.0) is not None

    play(body, locks=False)


def test_what_is_asked_of_it_takes_time_both_ways() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, ownership, [live(1)])
            await wait(0.9)
            assert disk.live() == 0
            await wait(0.2)
            assert disk.live() == 1
        assert trio.current_time() == began + 2.0

    play(body)


def test_nothing_overtakes_what_a_process_has_asked_before() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        for number in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.commit, ownership, [live(number)])
                await wait(1e-6)
                assert await fetched(store, number) == [record(live(number))]

    play(body, latency=(0.0, 5.0))


def test_what_is_on_its_way_arrives_though_its_process_has_died() -> None:
    """Unless it is lost with it."""

    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        with trio.move_on_after(0.5):
            await store.commit(ownership, [live(1)])
        await wait(1.0)
        assert disk.live() == 1
        with trio.move_on_after(0.5):
            await store.commit(ownership, [live(2)])
        disk.lose("first")
        await wait(1.0)
        assert disk.live() == 1

    play(body)


def test_the_dead_ask_for_nothing() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first", lambda: False)
        with pytest.raises(StoreUnavailable, match="first is dead"):
            await store.acquire(PARTITION, "a", 10.0)

    play(body)


def test_a_full_disk_can_be_read_and_renewed_and_takes_nothing_more() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        await store.commit(ownership, [live(1)])
        disk.full = True
        for refused in (
            store.commit(ownership, [live(2)]),
            store.commit(ownership, [], [pause("q")]),
            store.purge(ownership, 0.0, 0),
        ):
            with pytest.raises(StoreUnavailable, match="full"):
                await refused
        await store.commit(ownership, [])
        assert await loaded(store, ownership) == [head(1)]
        disk.heal()
        await store.commit(ownership, [live(2)])

    play(body)


def test_a_full_disk_fences_all_the_same() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        former = await own(store, "a")
        await own(store, "b")
        disk.full = True
        assert await fenced(store.commit(former, [live(1)]))
        assert await fenced(store.purge(former, 0.0, 0))

    play(body)


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_a_commit_fails_before_or_after_it_is_applied(when: Any, kept: int) -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        disk.fails = when
        with pytest.raises(StoreUnavailable):
            await store.commit(ownership, [live(1)])
        assert disk.live() == kept

    play(body)


def test_what_a_disk_refuses_spoils_its_commit_and_no_other() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        disk.refuses = lambda head: head.id == task_id(2)
        with pytest.raises(RowRefused) as refused:
            await store.commit(ownership, [live(1), live(2)])
        assert refused.value.id == task_id(2)
        assert disk.live() == 0
        await store.commit(ownership, [live(1)])

    play(body)


def test_a_disk_that_hangs_does_it_all_once_it_is_healed() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        disk.hang()
        disk.hang()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, ownership, [live(1)])
            await wait(100.0)
            assert disk.live() == 0
            disk.heal()
        assert disk.live() == 1

    play(body)


def test_a_slow_disk_takes_its_time() -> None:
    async def body(disk: Disk) -> None:
        disk.extra = 5.0
        await own(disk.store("first"))
        assert trio.current_time() == 7.0

    play(body)


@pytest.mark.parametrize("applied", [True, False])
def test_a_process_is_stopped_in_its_next_commit(applied: bool) -> None:
    async def body(disk: Disk) -> None:
        stopped: list[tuple[str, int]] = []
        store = disk.store("first")
        ownership = await own(store)
        disk.stop_at_commit(
            lambda store: stopped.append((store.name, disk.live())), applied=applied
        )
        await store.commit(ownership, [])
        assert stopped == []
        await store.commit(ownership, [live(1)])
        await store.commit(ownership, [live(2)])
        assert stopped == [("first", int(applied))]

    play(body)


@pytest.mark.parametrize("applied", [True, False])
def test_a_process_is_stopped_in_a_later_commit(applied: bool) -> None:
    async def body(disk: Disk) -> None:
        stopped: list[int] = []
        store = disk.store("first")
        ownership = await own(store)
        disk.stop_at_commit(lambda _: stopped.append(disk.live()), applied=applied, after=2)
        for number in range(5):
            await store.commit(ownership, [live(number)])
        assert stopped == [2 + int(applied)]

    play(body)


def test_nobody_waits_for_a_disk_that_is_closed() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        disk.lose("first")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(StoreUnavailable, match="no answer"):
                    await own(store)

            nursery.start_soon(ask)
            await wait(5.0)
            disk.close()

    play(body)


def test_each_state_is_told_once_to_whoever_watches() -> None:
    told: list[tuple[str, int, str]] = []

    def wrote(name: str, ownership: Ownership, head: Head) -> None:
        told.append((name, ownership.epoch, str(head.status)))

    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        for _ in range(2):
            await store.commit(ownership, [live(1), ended(2), deleted(3)])
        await store.commit(ownership, [ended(1)])

    play(body, wrote=wrote)

    assert told == [("first", 1, "pending"), ("first", 1, "success"), ("first", 1, "success")]


def test_a_commit_with_one_record_twice_is_an_error_of_its_owner() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        ownership = await own(store)
        with pytest.raises(AssertionError, match=task_id(1)):
            await store.commit(ownership, [live(1), ended(1)])
        assert disk.live() == 0

    play(body)


def test_it_says_who_owns_it() -> None:
    async def body(disk: Disk) -> None:
        store = disk.store("first")
        assert (await store.describe()).owner is None
        await own(store)
        assert (await store.describe()).owner == "first"

    play(body)


def test_notes_come_back_from_bytes() -> None:
    store = Disk(codec=Records()).store()

    async def body() -> None:
        ownership = await own(store)
        await store.commit(ownership, [], [pause("q", 5.0)])
        assert await store.notes(ownership) == [pause("q", 5.0)]

    trio.run(body)
