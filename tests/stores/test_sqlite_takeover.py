"""Who may own a file, whatever becomes of its lock, its name, its clock and its processes."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actorq.codec.records import Records
from actorq.errors import CorruptStore, Fenced
from actorq.model.filters import Filter
from actorq.model.status import TaskStatus
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite import SqliteStore
from actorq.testing.samples import NOW, PARTITION, TTL, ended, live

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="an open file has one name")


class Time:
    """The time of a machine."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(path: Path, clock: Time | None = None) -> AsyncGenerator[SqliteStore, None]:
    store = SqliteStore(path, Records(), clock=clock or Time())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


# --- locks --------------------------------------------------------------------------------


@needs_fork
def test_a_child_that_was_forked_does_not_keep_it(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path / "a.db"), OwnerLock(tmp_path / "a.db")
    assert first.take()
    ready_out, ready_in = os.pipe()
    stay_out, stay_in = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stay_in)
        os.write(ready_in, b"x")
        os.read(stay_out, 1)
        os._exit(0)
    os.read(ready_out, 1)

    os.close(os.open(tmp_path / "a.db.lock", os.O_RDWR))  # (closing another one changes nothing)
    assert not second.take()
    first.free()
    assert second.take()

    second.free()
    os.close(stay_in)
    os.waitpid(child, 0)
    for end in (ready_out, ready_in, stay_out):
        os.close(end)


# --- which lock it is that is free --------------------------------------------------------


@needs_links
async def test_by_a_link_it_is_the_same_store_with_the_same_lock(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "other.db"
    async with opened(path) as store:
        assert await store.acquire(PARTITION, "a" * 16, TTL) is not None
        link.symlink_to(path)
        async with opened(link) as other:
            assert await other.acquire(PARTITION, "b" * 16, TTL) is None


@needs_links
async def test_a_lock_file_that_was_deleted_does_not_mean_that_its_owner_is_dead(
    path: Path,
) -> None:
    async with opened(path) as store, opened(path) as other:
        ownership = await store.acquire(PARTITION, "a" * 16, TTL)
        assert ownership is not None
        os.unlink(f"{path}.lock")  # noqa: PTH108 - in an async function either way blocks

        assert await other.acquire(PARTITION, "b" * 16, TTL) is None
        await store.commit(ownership, [live(1)])
        assert await other.acquire(PARTITION, "b" * 16, TTL) is None


# --- without a lock -----------------------------------------------------------------------


async def test_where_there_are_no_locks_an_owner_succeeds_itself_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnerLock, "take", lambda _: False)
    async with opened(path) as store, opened(path) as other:
        first = await store.acquire(PARTITION, "a" * 16, TTL)
        assert first is not None
        assert await other.acquire(PARTITION, "b" * 16, TTL) is None
        second = await store.acquire(PARTITION, "c" * 16, TTL)

        assert second is not None
        assert second.epoch == first.epoch + 1
        with pytest.raises(Fenced):
            await store.commit(first, [live(1)])


# --- clocks -------------------------------------------------------------------------------


async def test_a_clock_that_is_set_forward_does_not_depose_an_owner_that_has_its_lock(
    path: Path,
) -> None:
    """A standby has to see for a TTL of its own monotonic clock that nothing is renewed."""
    clock = Time()
    async with opened(path, clock) as store, opened(path, clock) as standby:
        ownership = await store.acquire(PARTITION, "a" * 16, TTL)
        assert ownership is not None
        assert await standby.acquire(PARTITION, "b" * 16, TTL) is None
        clock.now += 2 * TTL

        assert await standby.acquire(PARTITION, "b" * 16, TTL) is None
        await store.commit(ownership, [live(1)])


# --- a question that SQLite does not take ---------------------------------------------------


async def test_a_search_for_any_number_of_names_is_no_damage(path: Path) -> None:
    async with opened(path) as store:
        ownership = await store.acquire(PARTITION, "a" * 16, TTL)
        assert ownership is not None
        await store.commit(ownership, [live(1), ended(2)])
        names = frozenset(f"t{n}" for n in range(300_000)) | {"task"}
        try:
            page = await store.find(PARTITION, Filter(names=names), None, 10)
        except CorruptStore as error:
            pytest.fail(str(error))
        assert len(page.records) == 2


# --- keys and the number of results ---------------------------------------------------------


async def test_what_has_a_key_does_not_take_the_place_of_what_has_none(path: Path) -> None:
    """For StoreContract: ``keep`` is about those without a key."""
    async with opened(path) as store:
        ownership = await store.acquire(PARTITION, "a" * 16, TTL)
        assert ownership is not None
        await store.commit(ownership, [ended(n, key=f"key {n}") for n in range(1, 6)])
        await store.commit(ownership, [ended(n) for n in range(6, 9)])
        await store.purge(ownership, NOW, 2)

        found = await store.find(
            PARTITION, Filter(statuses=frozenset([TaskStatus.SUCCESS])), None, 99
        )
        keys = [record.head.options.key for record in found.records]
        assert keys.count(None) == 2
        assert len(keys) == 7
