import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec import Struct

from actorq.codec.records import Records
from actorq.errors import CorruptStore, Fenced, RowRefused, StoreUnavailable
from actorq.model.records import Note, Ownership, Record, Write
from actorq.stores.sqlite import SqliteStore
from actorq.testing.samples import (
    EVERYTHING,
    PARTITION,
    TTL,
    deleted,
    ended,
    everything,
    fenced,
    fetched,
    found,
    head,
    live,
    loaded,
    noted,
    own,
    pause,
    task_id,
)  # fmt: skip
from actorq.testing.store_contract import StoreContract
from tests.stores.owners import LARGE, Time, started

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be stopped")


@asynccontextmanager
async def opened(path: Path, clock: Time | None = None) -> AsyncGenerator[SqliteStore, None]:
    codec = Records()
    store = SqliteStore(path, codec, **clock.clocks) if clock else SqliteStore(path, codec)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


class TestSqliteStore(StoreContract):
    notes_uses = False
    keeps_objects = False

    @pytest.fixture
    async def store(self, path: Path) -> AsyncIterator[SqliteStore]:
        async with opened(path) as store:
            yield store


# --- owners ---------------------------------------------------------------------------------------


async def stood_by(store: SqliteStore, clock: Time, seconds: float) -> Ownership | None:
    """Look while time passes, as a standby does; return what is had in the end, or earlier."""
    for left in range(int(seconds), -1, -1):
        owner = await store.acquire(PARTITION, "b", TTL)
        if owner is not None or not left:
            return owner
        clock.advance(1.0)
    raise AssertionError("no time has passed")


async def succeeded(store: SqliteStore, clock: Time) -> Ownership:
    """Become the owner after somebody who says nothing any more."""
    owner = await stood_by(store, clock, TTL)
    assert owner is not None
    return owner


async def test_an_owner_that_keeps_its_lock_is_not_succeeded_before_its_time(path: Path) -> None:
    clock = Time()
    async with opened(path, clock) as store, opened(path, clock) as other:
        owner = await own(store, "a", TTL)
        assert await stood_by(other, clock, TTL - 1) is None
        await store.commit(owner, [live(1)])
        assert await stood_by(other, clock, TTL - 1) is None

        assert (await succeeded(other, clock)).epoch == owner.epoch + 1


async def test_an_owner_that_was_held_up_for_too_long_writes_nothing(path: Path) -> None:
    clock = Time()
    async with opened(path, clock) as store, opened(path, clock) as other:
        former = await own(store, "a", TTL)
        await store.commit(former, [live(1)])
        owner = await succeeded(other, clock)
        with pytest.raises(Fenced, match="epoch 1 is no longer its owner"):
            await store.commit(former, [deleted(1), live(2)])
        await other.commit(owner, [live(3)])

        assert await found(other) == [3, 1]


def has_lock(store: SqliteStore) -> bool:
    return store._open_file().owners._lock.held


async def test_a_former_owner_leaves_the_lock_to_the_next_one(path: Path) -> None:
    clock = Time()
    async with opened(path, clock) as store, opened(path, clock) as other:
        former = await own(store, "a", TTL)
        owner = await succeeded(other, clock)  # the former one has its lock still
        await other.commit(owner, [])
        assert (has_lock(store), has_lock(other)) == (True, False)
        assert await fenced(store.commit(former, []))
        await other.commit(owner, [])
        assert (has_lock(store), has_lock(other)) == (False, True)
        assert await store.acquire(PARTITION, "c", TTL) is None
        await other.close()

        assert (await own(store, "c")).epoch == owner.epoch + 1


async def test_without_a_lock_only_the_time_tells(path: Path) -> None:
    clock = Time()
    path.with_name("tasks.db.lock").mkdir()  # so that nobody can have it
    async with opened(path, clock) as store:
        owner = await own(store, "a", TTL)
        await store.commit(owner, [live(1)])
    async with opened(path, clock) as other:
        assert await other.acquire(PARTITION, "b", TTL) is None
        clock.advance(TTL)
        second = await own(other, "b", TTL)
        assert second.epoch == owner.epoch + 1
        await other.release(second)

        await own(other, "c")


async def test_an_owner_that_starts_anew_in_its_process_need_not_wait(path: Path) -> None:
    async with opened(path) as store:
        former = await own(store, "a", TTL)
        owner = await own(store, "b", TTL)
        assert await fenced(store.commit(former, [live(1)]))
        await store.commit(owner, [live(2)])

        async with opened(path) as other:
            assert await other.acquire(PARTITION, "c", TTL) is None


async def test_a_standby_leaves_the_lock_to_the_owner(path: Path) -> None:
    clock, locked = Time(), path.with_name("tasks.db.lock")
    locked.mkdir()
    async with opened(path, clock) as store, opened(path, clock) as other:
        owner = await own(store, "a", TTL)
        locked.rmdir()
        assert await other.acquire(PARTITION, "b", TTL) is None
        await store.commit(owner, [])  # now it has it

        assert await stood_by(other, clock, TTL - 1) is None


@needs_signals
async def test_a_killed_owner_is_succeeded_at_once_and_nothing_is_lost(path: Path) -> None:
    async with started("storm", path) as child:
        while (line := await child.line()) != "25":
            assert line.isdigit()
        async with opened(path) as store:
            assert await store.acquire(PARTITION, "b", TTL) is None
            child.process.kill()
            said = 25
            while line := await child.line():
                said = int(line)
            await child.process.wait()
            owner = await own(store, "b", TTL)  # its time would have lasted for a minute

            numbers = [int(h.id[2:15], 16) for h in await loaded(store, owner)]
            assert numbers in (list(range(said + 1)), list(range(said + 2)))
            assert await store.check() == []


@needs_signals
async def test_a_stopped_owner_is_succeeded_after_its_time_and_writes_nothing(path: Path) -> None:
    clock = Time()
    async with started("obey", path) as child, opened(path) as store:
        assert await child.line() == "owner"
        assert await child.ask("1") == "committed"
        child.process.send_signal(signal.SIGSTOP)
        assert await store.acquire(PARTITION, "b", TTL) is None
        async with opened(path, clock) as other:
            owner = await succeeded(other, clock)
            await other.commit(owner, [live(2)])
            child.process.send_signal(signal.SIGCONT)
            assert await child.ask("3") == "Fenced"

            assert await found(other) == [2, 1]


@needs_signals
async def test_whoever_holds_the_file_and_is_stopped_is_named(path: Path) -> None:
    clock = Time()
    async with started("begin", path) as child, opened(path, clock) as store:
        assert await child.line() == "begun"
        child.process.send_signal(signal.SIGSTOP)
        await wait_until_stopped(child.process.pid)
        with pytest.raises(StoreUnavailable) as caught:
            await stood_by(store, clock, TTL)

        pid = child.process.pid
        assert "locked by another process" in str(caught.value)
        assert f"process {pid} on " in str(caught.value)
        if sys.platform == "linux":
            assert f"`kill -CONT {pid}` lets it go on" in str(caught.value)


@needs_signals
async def test_a_loop_that_stands_still_keeps_its_ownership_and_a_stopped_process_does_not(
    path: Path,
) -> None:
    clock = Time()
    async with started("stands still", path) as child, opened(path, clock) as other:
        assert await child.line() == "stands still"
        before = await expiry(other)
        for _ in range(3):  # it is renewed again and again
            while (renewed := await expiry(other)) == before:
                assert await other.acquire(PARTITION, "b", TTL) is None
            before = renewed
            clock.advance(TTL)
        assert await child.ask("1") == "committed"
        assert await child.line() == "stands still"

        child.process.send_signal(signal.SIGSTOP)
        await wait_until_stopped(child.process.pid)
        await succeeded(other, clock)
        child.process.send_signal(signal.SIGCONT)
        assert await child.ask("2") == "Fenced"
        assert await found(other) == [1]


async def expiry(store: SqliteStore) -> float:
    """Return until when the owner's row says that it lasts."""
    row = await store._open_file().others.run(
        lambda db: db.execute("SELECT expires_at FROM owner").get
    )
    return float(row)


async def wait_until_stopped(pid: int) -> None:
    """Wait as a parent does; the signal takes its time."""
    await trio.to_thread.run_sync(os.waitpid, pid, os.WUNTRACED)


def size_of(path: Path) -> int:
    return path.stat().st_size


# --- what can go wrong ----------------------------------------------------------------------------


@needs_signals
async def test_a_full_disk_is_an_error_that_can_be_tried_again(path: Path) -> None:
    async with started("limited", path) as child:
        number, error, _, what = re.split(r"[ ]", await child.line(), maxsplit=3)
        assert int(number) > 0
        assert error == "StoreUnavailable"
        assert "is there room on the disk" in what
        assert await child.line() == "True", "what was committed is there, and no more"
        assert await child.line() == "committed"
        child.process.kill()
        await child.process.wait()
        async with opened(path) as store:
            assert await found(store) == list(range(int(number), -1, -1))
            [last] = await fetched(store, int(number))
            assert last == Record(head(int(number)), LARGE)


async def test_a_log_that_is_torn_lacks_only_its_end(path: Path, tmp_path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
        for number in range(20):
            await store.commit(owner, [live(number)])
        files = {name: path.with_name(name).read_bytes() for name in ("tasks.db", "tasks.db-wal")}
    log = files["tasks.db-wal"]
    assert len(log) > 20 * 4_096
    seen = set[int]()
    for cut in (*range(len(log) // 2, len(log), 4_096 + 511), len(log) - 1, len(log)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "tasks.db").write_bytes(files["tasks.db"])
        (folder / "tasks.db-wal").write_bytes(log[:cut])
        async with opened(folder / "tasks.db") as store:
            numbers = await found(store)
            assert numbers == list(range(len(numbers) - 1, -1, -1))
            seen.add(len(numbers))
        shutil.rmtree(folder)

    assert {19, 20} <= seen
    assert len(seen) > 5


async def test_a_file_that_is_moved_away_takes_no_more_commits(path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
        await store.commit(owner, [live(1)])
        moved = await trio.Path(path).rename(path.with_name("moved.db"))
        with pytest.raises(CorruptStore, match="was moved, deleted or replaced while it was open"):
            await store.commit(owner, [live(2)])
        await moved.rename(path)

        await store.commit(owner, [live(3)])
        assert await found(store) == [3, 1]


async def test_one_record_that_cannot_be_kept_is_named_and_nothing_is_written(path: Path) -> None:
    class Odd(Struct, frozen=True):
        at: float

    bad: list[tuple[Write, str]] = [
        (Write("\ud800", head(1), b""), "surrogates"),
        (Write(task_id(2), head(2, name="\ud800"), b""), "surrogates"),
        (Write(task_id(2), head(2), object()), "a call must be bytes to be kept, not object"),
        (Write(task_id(2), head(2, fence=2**64), b""), "cannot be kept"),
        (Write(task_id(2), head(2, keep_until=float("nan")), None, None), "NOT NULL"),
    ]
    async with opened(path) as store:
        owner = await own(store)
        await store.commit(owner, [live(1)])
        before = await everything(store)
        for write, why in bad:
            with pytest.raises(RowRefused, match=why) as caught:
                await store.commit(owner, [ended(1), write, live(3)], [pause("a")])
            assert caught.value.id == write.id
        with pytest.raises(RowRefused, match="no value of a note"):
            await store.commit(owner, [live(3)], [Note("pause", "a", Odd(1.0))])

        assert await everything(store) == before
        assert await noted(store, owner) == []
        await store.commit(owner, [ended(1), live(3)])


async def test_a_commit_of_nothing_gives_the_room_of_the_log_back(path: Path) -> None:
    log = path.with_name("tasks.db-wal")
    async with opened(path) as store:
        owner = await own(store)
        for number in range(50):
            await store.commit(owner, [live(number)])
        assert log.stat().st_size > 100_000
        await store.commit(owner, [])
        while log.stat().st_size:
            await store.find(PARTITION, EVERYTHING, None, 1)  # comes after it, in its thread

        assert await found(store) == list(range(49, -1, -1))


async def test_people_who_look_do_not_hold_up_commits(path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
        await store.commit(owner, [live(1)])
        looked = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store._open_file().others.run, lambda _: looked.wait())
            await store.commit(owner, [live(2)])
            assert len(await fetched(store, 1, 2)) == 2
            looked.set()


async def test_a_cancelled_commit_is_over_before_the_next_call(path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.commit(owner, [live(n) for n in range(2_000)])
        there = await found(store, EVERYTHING)

        await store.commit(owner, [live(5_000)])
        assert await found(store) == [5_000, *there]


async def test_a_deadline_does_not_break_a_commit_in_the_middle(path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
        with trio.fail_after(0), trio.CancelScope(shield=True):
            await store.commit(owner, [live(1)])

        assert await found(store) == [1]


async def test_several_can_make_one_file_at_once(path: Path) -> None:
    stores = [SqliteStore(path, Records()) for _ in range(4)]
    try:
        async with trio.open_nursery() as nursery:
            for store in stores:
                nursery.start_soon(store.open)
        owners = [await store.acquire(PARTITION, str(n), TTL) for n, store in enumerate(stores)]

        assert [owner is not None for owner in owners] == [True, False, False, False]
    finally:
        for store in stores:
            await store.close()


async def test_whatever_is_asked_of_it_is_a_sign_of_life(path: Path) -> None:
    clock = Time()
    async with opened(path, clock) as store:
        owner = await own(store)
        for ask in (
            lambda: store.commit(owner, []),
            lambda: store.fetch(PARTITION, []),
            store.describe,
            lambda: found(store),
            lambda: loaded(store, owner),
        ):
            clock.advance(100.0)
            await ask()
            assert store._open_file().owners.alive_at == clock.passed


async def test_an_owner_leaves_no_thread_and_no_file_behind(path: Path) -> None:
    before = threading.active_count()
    for over in ("release", "close", "fence"):
        async with opened(path) as store, opened(path) as other:
            owner = await own(store, over)
            renewal = store._open_file().owners._mine[PARTITION]
            assert "actorq renewal" in [thread.name for thread in threading.enumerate()]
            if over == "release":
                await store.release(owner)
            elif over == "close":
                await store.close()
            else:
                await other._open_file().others.run(
                    lambda db: db.execute("UPDATE owner SET nonce = 'another'")
                )
                assert await fenced(store.commit(owner, []))
            assert not renewal._thread.is_alive()

    while threading.active_count() > before:  # their last words have been said
        await trio.lowlevel.checkpoint()
    assert sorted(file.name for file in path.parent.iterdir()) == ["tasks.db", "tasks.db.lock"]


async def test_what_is_closed_says_so(path: Path) -> None:
    async with opened(path) as store:
        owner = await own(store)
    with pytest.raises(StoreUnavailable, match=r"tasks\.db is not open"):
        await store.commit(owner, [live(1)])
    with pytest.raises(StoreUnavailable, match=r"tasks\.db is not open"):
        await store.describe()


async def test_it_says_what_it_is(path: Path) -> None:
    clock = Time()
    async with opened(path, clock) as store:
        owner = await own(store, "a", TTL)
        await store.commit(owner, [live(1)])
        info = await store.describe()
        assert info.url == store.url == f"sqlite:///{path}"
        assert info.schema == 1
        assert info.owner is not None
        assert info.owner.startswith(f"process {os.getpid()} on ")
        size, log = size_of(path), size_of(path.with_name("tasks.db-wal"))
        assert info.size == size + log
        assert info.detail["bytes in the log"] == str(log)
        clock.advance(TTL + 5)

        assert (await store.describe()).owner == f"{info.owner}, whose time is over"
