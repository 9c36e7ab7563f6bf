"""How a file becomes one of ours: what is in it, of which version, and what is done about that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from actorq.errors import CorruptStore, StoreUnavailable

APPLICATION = 0x61637471
"""``actq``, in the header of the file: nothing else is taken for one of ours."""

_HEADER = b"SQLite format 3\0"

_FIRST = """
CREATE TABLE owner(
    partition TEXT PRIMARY KEY, epoch INTEGER NOT NULL, nonce TEXT NOT NULL,
    lineage TEXT NOT NULL, forgotten_until REAL NOT NULL, stamp REAL NOT NULL,
    expires_at REAL NOT NULL, ttl REAL NOT NULL, locked INTEGER NOT NULL,
    pid INTEGER NOT NULL, host TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE live(
    partition TEXT NOT NULL, id TEXT NOT NULL, head BLOB NOT NULL, body, output BLOB,
    PRIMARY KEY(partition, id)
) WITHOUT ROWID;
CREATE TABLE body(
    partition TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY(partition, id)
);
CREATE TABLE done(
    number INTEGER PRIMARY KEY, partition TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
    name TEXT NOT NULL, queue TEXT NOT NULL, key TEXT, submitted_at REAL, completed_at REAL,
    keep_until REAL NOT NULL, head BLOB NOT NULL, body, output BLOB,
    UNIQUE(partition, id)
);
CREATE INDEX done_by_time ON done(partition, keep_until);
CREATE INDEX done_by_key ON done(partition, key, id) WHERE key IS NOT NULL;
CREATE INDEX done_without_success ON done(partition, id) WHERE status <> 'success';
CREATE TABLE note(
    partition TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY(partition, kind, name)
) WITHOUT ROWID;
"""
# Ids are time-ordered, so `live` grows at one end. `done.number` is the order in which they ended.
# `body` has what is too large to lie in the rows of the others, whose column is 1 then: rows of
# `live` are rewritten with each change of a task.

STEPS: tuple[str, ...] = (_FIRST,)
"""What makes each version of the layout of the one before it; their number is the newest."""

_TABLES = ("owner", "live", "body", "done", "note")

# Not `.recover`, which the `sqlite3` of some systems lacks: that of Debian 12 makes an empty file.
_SAVE = (
    "sqlite3 {} .dump | sed 's/^ROLLBACK;.*/COMMIT;/' | sqlite3 recovered.db && sqlite3 "
    f"recovered.db 'PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {len(STEPS)}'"
)

_CHECKED_MAX = 128 * 1024 * 1024
"""Bytes up to which a whole file is checked when it is opened: about half a second."""

BUSY = 2_000
"""Milliseconds that a statement waits for somebody else's write."""

_AGAIN = 5
"""Milliseconds between two attempts where SQLite does not wait itself."""

_WAL_PAGES = 2_000
"""Pages after which a commit also moves what the log has into the file: 8 MB, some 30 ms."""


def damaged(path: Path, what: object) -> CorruptStore:
    """Return the error for a file that is broken, with what can be done."""
    return CorruptStore(
        f"{path} is damaged: {what}. Nothing was changed. Stop every process that uses it, keep a "
        f"copy of it and of {path.name}-wal, then restore a backup, or save what can be read: "
        f"{_SAVE.format(path)}"
    )


def newer(path: Path, version: int, newest: int) -> CorruptStore:
    """Return the error for a file with a layout that is not known here."""
    return CorruptStore(
        f"{path} was written by a newer version of actorq (its layout is {version}, this one knows "
        f"{newest}): upgrade actorq"
    )


def is_none(path: Path) -> CorruptStore:
    """Return the error for a file that is something else."""
    return CorruptStore(
        f"{path} is no SQLite database: give another path, or, if it was one, restore a backup. "
        "Nothing was changed"
    )


def check_place(path: Path) -> None:
    """Find out what is wrong with a path, before anything is opened.

    Raises:
        StoreUnavailable: There can be no file.
        CorruptStore: The file has been lost, or is something else.
    """
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"store: there is no directory {folder}: create it first")
    if path.is_dir():
        raise StoreUnavailable(f"store: {path} is a directory: give the path of a file in it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"store: the directory {folder} cannot be written to, and SQLite keeps a log beside "
            "its file"
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"store: {path} cannot be read and written by this user")
    # In this order, as somebody else may be making them right now: first the file, then the lock.
    had_owner = Path(f"{path}.lock").exists()
    size = path.stat().st_size if path.exists() else 0
    log = Path(f"{path}-wal")
    if not size and log.exists() and log.stat().st_size:
        raise CorruptStore(
            f"{path} is missing or empty, but {log.name} beside it has what was written last: "
            f"restore a backup of both; or, to begin anew, delete {log.name} too"
        )
    if not size and had_owner and path.exists():
        raise CorruptStore(
            f"{path} is empty, but has been in use: restore a backup; or, to begin anew, delete it"
        )
    if size and not had_owner and not log.exists() and not _has_header(path):
        raise is_none(path)


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def prepare(
    db: apsw.Connection,
    path: Path,
    in_use: Callable[[], str | None],
    steps: Sequence[str] = STEPS,
) -> None:
    """Check a file that has just been opened, and bring it to the newest version.

    ``in_use`` says who owns it, if anybody does; only asked where its layout has to change.

    Raises:
        CorruptStore: It is none of ours, damaged, or newer than ``steps``.
        StoreUnavailable: Its layout must change, and it is in use.
    """
    db.set_busy_timeout(BUSY)
    version, newest = read_version(db, path), len(steps)
    if version > newest:
        raise newer(path, version, newest)
    if version:
        check_tables(db, path)
        _check(db, path)
    if version < newest:
        if version:
            who = in_use()
            if who is not None:
                raise StoreUnavailable(
                    f"{path} has the layout of an older version of actorq, which is in use by "
                    f"{who}: stop that one first"
                )
            _back_up(db, Path(f"{path}.v{version}.bak"))
        _upgrade(db, path, version, steps)
    configure(db)


def configure(db: apsw.Connection, cache: int = 64) -> None:
    """Set what each connection has to be told; ``cache`` is in megabytes.

    Raises:
        StoreUnavailable: It is no file on an ordinary disk.
    """
    db.set_busy_timeout(BUSY)
    _use_log(db)
    db.pragma("synchronous", "full")  # with less, a power cut takes the last commits
    db.pragma("fullfsync", True)  # only macOS knows it: its plain fsync is none
    db.pragma("cache_size", -1_024 * cache)
    db.pragma("temp_store", "memory")
    db.pragma("wal_autocheckpoint", _WAL_PAGES)
    db.pragma("journal_size_limit", 4 * _WAL_PAGES * 4_096)


def _use_log(db: apsw.Connection) -> None:
    for _ in range(BUSY // _AGAIN):
        try:
            if db.pragma("journal_mode", "wal") != "wal":
                raise StoreUnavailable(
                    f"store: {db.filename or 'a database in memory'} cannot have a write-ahead "
                    "log: give the path of a file on a disk of this machine"
                )
            return
        except apsw.BusyError:  # for this one lock SQLite does not wait
            time.sleep(_AGAIN / 1_000)
    db.pragma("journal_mode", "wal")


def read_version(db: apsw.Connection, path: Path) -> int:
    """Return the version of the layout, 0 in an empty file.

    Raises:
        CorruptStore: It is the database of another program.
    """
    # All at one moment, as somebody else may be making it right now.
    row = db.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    application, version, tables = row or (0, 0, 0)
    if application != APPLICATION and (application or version or tables):
        raise CorruptStore(f"{path} is the database of another program: give another path")
    assert isinstance(version, int)  # as it is in every file
    return version


def check_tables(db: apsw.Connection, path: Path) -> None:
    """Find out whether all of them are there.

    Raises:
        CorruptStore: One is not.
    """
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    for table in _TABLES:
        if table not in there:
            raise damaged(path, f"no such table: {table}")


def _check(db: apsw.Connection, path: Path) -> None:
    # (That the file is shorter than it should be SQLite sees without being asked.)
    if path.stat().st_size <= _CHECKED_MAX:
        found = db.pragma("quick_check")
        if found != "ok":
            raise damaged(path, str(found).partition("\n")[0])


def _upgrade(db: apsw.Connection, path: Path, version: int, steps: Sequence[str]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if read_version(db, path) == version:  # or somebody else was faster
            for step in steps[version:]:
                db.execute(step)
            db.pragma("application_id", APPLICATION)
            db.pragma("user_version", len(steps))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _back_up(db: apsw.Connection, backup: Path) -> None:
    """Copy a database, all or nothing, onto the disk."""
    draft = Path(f"{backup}.part")
    draft.unlink(missing_ok=True)
    copy = apsw.Connection(str(draft))
    try:
        with copy.backup("main", db, "main") as work:
            while not work.done:
                work.step(1_000)
        copy.pragma("journal_mode", "delete")  # so that it is one file
    finally:
        copy.close()
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(backup)
