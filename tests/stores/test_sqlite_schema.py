import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest
import trio

from actorq.codec.records import Records
from actorq.errors import CorruptStore, StoreUnavailable
from actorq.model.records import Record
from actorq.stores.sqlite import SqliteStore
from actorq.stores.sqlite_report import examine
from actorq.stores.sqlite_schema import (
    APPLICATION,
    BUSY,
    STEPS,
    configure,
    damaged,
    read_version,
)
from actorq.testing.samples import ended, everything, live, own, record

NEXT = (*STEPS, "ALTER TABLE live ADD COLUMN colour TEXT; CREATE TABLE more(a);")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def opens(path: Path, steps: Sequence[str] = STEPS) -> list[Record]:
    """Open a file and return what is in it."""
    return trio.run(_opens, path, steps)


async def _opens(path: Path, steps: Sequence[str]) -> list[Record]:
    store = SqliteStore(path, Records(), steps=steps)
    try:
        await store.open()
        return await everything(store)
    finally:
        await store.close()


def fill(path: Path) -> None:
    """Make a file with some records, and give it up."""
    trio.run(_fill, path)


async def _fill(path: Path) -> None:
    store = SqliteStore(path, Records())
    await store.open()
    owner = await own(store)
    for start in range(0, 600, 300):
        await store.commit(owner, [live(n) for n in range(start, start + 300)])
    await store.release(owner)
    await store.close()


def header(path: Path) -> tuple[int, int, int]:
    """Return program, version, and number of tables of a database."""
    db = apsw.Connection(str(path))
    try:
        tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").get
        return db.pragma("application_id"), db.pragma("user_version"), tables
    finally:
        db.close()


# --- where it is ----------------------------------------------------------------------------------


def test_a_file_is_made_where_there_is_none(path: Path) -> None:
    opens(path)

    assert header(path)[:2] == (APPLICATION, len(STEPS))
    assert sorted(file.name for file in path.parent.iterdir()) == ["tasks.db"]


def test_a_missing_directory_is_named(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is no directory .*/missing: create it"):
        opens(path.parent / "missing" / "tasks.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is a directory: give the path of a file in it"):
        opens(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to_is_named(path: Path) -> None:
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreUnavailable, match="cannot be written to, and SQLite keeps a log"):
            opens(path)
    finally:
        path.parent.chmod(stat.S_IRWXU)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_written_is_named(path: Path) -> None:
    fill(path)
    path.chmod(stat.S_IRUSR)
    with pytest.raises(StoreUnavailable, match=r"tasks\.db cannot be read and written by this us"):
        opens(path)


# --- what is there --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello", b"x" * 5_000, os.urandom(100_000)])
def test_what_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptStore, match=r"tasks\.db is no SQLite database: give another path"):
        opens(path)

    assert path.read_bytes() == content


@pytest.mark.parametrize("beside", ["-wal", ".lock"])
def test_what_was_a_database_of_ours_and_is_none_is_damaged(path: Path, beside: str) -> None:
    Path(f"{path}{beside}").touch()
    path.write_bytes(b"x" * 5_000)

    with pytest.raises(CorruptStore, match=r"tasks\.db is damaged: file is not a database"):
        opens(path)


def test_the_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE theirs(a)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match="is the database of another program"):
        opens(path)

    assert path.read_bytes() == before


def test_a_file_that_somebody_makes_right_now_is_read_as_before_or_as_after(path: Path) -> None:
    for number in range(6):
        db, statements = apsw.Connection(str(path)), iter(range(6))

        def made(_: object, __: str, ___: object) -> bool:
            if next(statements) == number:  # noqa: B023 - it is called in this round
                opens(path)
            return True

        db.exec_trace = made
        assert read_version(db, path) in (0, len(STEPS))
        db.close()
        for file in path.parent.iterdir():
            file.unlink()


def test_a_file_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    opens(path, NEXT)
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match=r"newer version of actorq \(its layout is 2.*: upgrade"):
        opens(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_found_out(path: Path, share: float) -> None:
    fill(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    path.with_name("tasks.db.lock").touch()
    with pytest.raises(CorruptStore, match=r"restore a backup"):
        opens(path)

    assert path.read_bytes() == content[: int(len(content) * share)]


def test_a_large_file_that_is_cut_off_is_found_out_without_reading_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actorq.stores.sqlite_schema._CHECKED_MAX", 0)
    fill(path)
    content = path.read_bytes()
    path.write_bytes(content[:-4_096])
    with pytest.raises(CorruptStore, match=r"tasks\.db is damaged: .* malformed"):
        opens(path)


def test_a_file_with_garbage_in_it_is_found_out_with_advice(path: Path) -> None:
    fill(path)
    content = bytearray(path.read_bytes())
    content[8_192:12_288] = os.urandom(4_096)
    path.write_bytes(content)
    with pytest.raises(CorruptStore) as caught:
        opens(path)

    assert "Nothing was changed" in str(caught.value)
    assert "restore a backup" in str(caught.value)
    assert f"sqlite3 {path} .dump | " in str(caught.value)
    assert path.read_bytes() == content


def test_a_log_without_its_file_is_not_thrown_away(path: Path) -> None:
    log = path.with_name("tasks.db-wal")
    log.write_bytes(b"what was written last")
    with pytest.raises(CorruptStore, match=r"is missing or empty, but tasks\.db-wal beside it"):
        opens(path)

    assert log.read_bytes() == b"what was written last"
    assert not path.exists()


def test_a_damaged_record_damages_no_other(path: Path) -> None:
    fill(path)
    db = apsw.Connection(str(path))
    db.execute("UPDATE live SET head = x'c1' WHERE id = ?", (live(7).id,))
    db.close()

    assert len(opens(path)) == 600


@pytest.mark.parametrize("table", ["owner", "live", "body", "done", "note"])
def test_tables_that_were_dropped_are_damage(path: Path, table: str) -> None:
    fill(path)
    db = apsw.Connection(str(path))
    db.execute(f"DROP TABLE {table}")
    db.close()

    with pytest.raises(CorruptStore, match=f"is damaged: no such table: {table}"):
        opens(path)
    with pytest.raises(CorruptStore, match=f"is damaged: no such table: {table}"):
        examine(path)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the advice is to use sqlite3")
def test_the_advice_saves_what_can_be_read(path: Path) -> None:
    fill(path)
    content = bytearray(path.read_bytes())
    db = apsw.Connection(str(path))
    page = db.execute(
        "SELECT max(pageno) FROM dbstat WHERE name = 'live' AND pagetype = 'leaf'"
    ).get
    db.close()
    content[(page - 1) * 4_096 : page * 4_096] = os.urandom(4_096)
    path.write_bytes(content)
    with pytest.raises(CorruptStore) as caught:
        opens(path)
    _, _, advice = str(caught.value).partition("save what can be read: ")
    subprocess.run(advice, shell=True, check=True, cwd=path.parent)

    assert 500 < len(opens(path.with_name("recovered.db"))) < 600


def test_an_error_of_damage_names_the_file_and_the_way_out() -> None:
    assert "Stop every process that uses it" in str(damaged(Path("/x/tasks.db"), "a hole"))


def test_where_there_can_be_no_log_there_is_no_store() -> None:
    db = apsw.Connection(":memory:")
    with pytest.raises(StoreUnavailable, match="cannot have a write-ahead log: give the path of a"):
        configure(db)
    db.close()


def test_a_commit_is_on_the_disk_and_a_lock_is_waited_for(path: Path) -> None:
    db = apsw.Connection(str(path))
    configure(db)

    assert (db.pragma("journal_mode"), db.pragma("synchronous")) == ("wal", 2)
    assert db.pragma("busy_timeout") == BUSY
    db.close()


# --- from one layout to the next ------------------------------------------------------------------


def test_an_older_file_is_brought_forward_with_a_backup_beside_it(path: Path) -> None:
    fill(path)
    former = header(path)
    opens(path, NEXT)

    assert header(path) == (APPLICATION, 2, former[2] + 1)
    backup = path.with_name("tasks.db.v1.bak")
    assert header(backup) == former
    assert sorted(f.name for f in path.parent.iterdir()) == [
        "tasks.db", "tasks.db.lock", "tasks.db.v1.bak"
    ]  # fmt: skip
    assert len(opens(backup)) == 600


async def test_a_file_that_is_brought_forward_can_be_owned_at_once(path: Path) -> None:
    await _fill(path)
    store = SqliteStore(path, Records(), steps=NEXT)
    await store.open()
    try:
        owner = await own(store)
        await store.commit(owner, [ended(1)])

        assert (await everything(store))[-2] == record(ended(1))
    finally:
        await store.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    fill(path)
    before = header(path)
    with pytest.raises(apsw.SQLError, match="no such table: nowhere"):
        opens(path, (*NEXT, "INSERT INTO nowhere VALUES(1)"))
    assert header(path) == before

    opens(path, NEXT)
    assert header(path)[1] == 2


async def test_a_layout_does_not_change_under_a_living_owner(path: Path) -> None:
    older, newer = SqliteStore(path, Records()), SqliteStore(path, Records(), steps=NEXT)
    await older.open()
    owner = await own(older)
    with pytest.raises(StoreUnavailable, match=f"in use by process {os.getpid()} on .*: stop that"):
        await newer.open()
    await older.commit(owner, [live(1)])
    await older.release(owner)
    await newer.open()
    await newer.close()
    await older.close()

    assert header(path)[1] == 2


def test_a_new_file_has_every_step_and_no_backup(path: Path) -> None:
    opens(path, NEXT)

    assert header(path)[1] == 2
    assert sorted(file.name for file in path.parent.iterdir()) == ["tasks.db"]
