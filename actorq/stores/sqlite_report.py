"""What can be told of a file without owning it, and without changing anything in it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw
from msgspec import Struct

from actorq.errors import StoreUnavailable
from actorq.stores.sqlite_owners import owner_in_words
from actorq.stores.sqlite_schema import (
    BUSY,
    STEPS,
    check_place,
    check_tables,
    damaged,
    newer,
    read_version,
)


class Report(Struct, frozen=True):
    """What was found.

    Attributes:
        size: Bytes of the file and its log, or None if there is no file.
        layout: The version of its layout; 0 if it is empty.
        newest: The newest that is known here.
        live: How many tasks have not ended.
        ended: How many have, and are kept.
        owner: Who owns it, or who did last and has not given it up, in words, or None.
    """

    size: int | None
    layout: int = 0
    newest: int = len(STEPS)
    live: int = 0
    ended: int = 0
    owner: str | None = None


def examine(path: Path, *, deep: bool = False) -> Report:
    """Look at a file, which somebody may be using; with ``deep`` read all of it.

    Raises:
        CorruptStore: It is none of ours, damaged, or newer than what is known here.
        StoreUnavailable: It cannot be had, or not now.
    """
    path = path.resolve()  # as the store does
    check_place(path)
    if not path.exists():
        return Report(None)
    with _opened(path) as db:
        layout = read_version(db, path)
        if layout > len(STEPS):
            raise newer(path, layout, len(STEPS))
        if layout == 0:
            return Report(_size(path))
        check_tables(db, path)
        if deep:
            found = str(db.pragma("quick_check"))
            if found != "ok":
                raise damaged(path, found.partition("\n")[0])
        live = db.execute("SELECT count(*) FROM live").get
        ended = db.execute("SELECT count(*) FROM done").get
        owner = owner_in_words(db, time.time())
        return Report(_size(path), layout, live=live, ended=ended, owner=owner)


@contextmanager
def _opened(path: Path) -> Generator[apsw.Connection]:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        with closing(apsw.Connection(f"file:{quote(str(path))}?mode=ro", flags=flags)) as db:
            db.set_busy_timeout(BUSY)
            yield db
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damaged(path, error) from error
    except apsw.Error as error:
        raise StoreUnavailable(f"{path} cannot be read now: {error}") from error


def _size(path: Path) -> int:
    log = Path(f"{path}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
