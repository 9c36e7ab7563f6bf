"""What is told of a file without owning it, and without changing anything in it."""

from pathlib import Path

import apsw
import pytest

from actorq.codec.records import Records
from actorq.errors import CorruptStore, StoreUnavailable
from actorq.stores.sqlite import SqliteStore
from actorq.stores.sqlite_report import Report, examine
from actorq.stores.sqlite_schema import STEPS
from actorq.testing.samples import PARTITION, ended, live


def contents(folder: Path) -> dict[str, bytes]:
    """Return what every file holds that is not SQLite's own scratch paper."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")
    }


async def filled(path: Path) -> SqliteStore:
    """Return an open store with two live records and an ended one, which somebody owns."""
    store = SqliteStore(path, Records())
    await store.open()
    ownership = await store.acquire(PARTITION, "0" * 16, 10.0)
    assert ownership is not None
    await store.commit(ownership, [live(1), live(2), ended(3)])
    return store


async def test_a_file_in_use_is_described_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await filled(path)
    before = contents(tmp_path)

    found = examine(path, deep=True)

    assert (found.live, found.ended) == (2, 1)
    assert found.layout == found.newest == len(STEPS)
    assert found.owner is not None
    assert found.owner.startswith("process ")
    assert found.size is not None
    assert found.size > 10_000
    assert contents(tmp_path) == before
    await store.close()


async def test_an_owner_that_has_left_in_order_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = SqliteStore(path, Records())
    await store.open()
    ownership = await store.acquire(PARTITION, "0" * 16, 10.0)
    assert ownership is not None
    await store.release(ownership)
    await store.close()

    assert examine(path).owner is None


def test_no_file_is_no_error_and_none_is_made(tmp_path: Path) -> None:
    assert examine(tmp_path / "tasks.db") == Report(None)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_has_no_layout_yet(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").touch()

    assert examine(tmp_path / "tasks.db") == Report(0)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"no database at all " * 100, "is no SQLite database: give another path"),
        (b"SQLite format 3\0" + b"x" * 5_000, "is damaged"),
    ],
)
def test_what_is_no_database_is_told(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "tasks.db"
    path.write_bytes(data)

    with pytest.raises(CorruptStore, match=what):
        examine(path)

    assert contents(tmp_path) == {"tasks.db": data}


def test_the_database_of_another_program_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE other(a)")
    db.close()

    with pytest.raises(CorruptStore, match="another program"):
        examine(path)


async def test_a_newer_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await filled(path)
    await store.close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", len(STEPS) + 1)
    db.close()

    with pytest.raises(CorruptStore, match="newer version of actorq"):
        examine(path)


async def test_damage_inside_is_found_by_reading_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await filled(path)
    await store.close()
    data = bytearray(path.read_bytes())
    db = apsw.Connection(str(path))
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'live'").get
    size = db.pragma("page_size")
    db.close()
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)

    with pytest.raises(CorruptStore, match="is damaged"):
        examine(path, deep=True)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no directory"):
        examine(tmp_path / "nowhere" / "tasks.db")
