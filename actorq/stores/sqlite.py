"""The store in one file of this machine, by SQLite.

Everything that the owner does runs in the thread of one connection, a whole transaction in one
call, and what people look for in the thread of another one, so that no commit waits for it. On
return a commit is on the disk. Two processes may open one file: one of them owns it, the other one
takes over when the lock of the first is free, which is as soon as its process has ended.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from pathlib import Path

import apsw
import trio

from actorq.contracts.store import RecordCodec
from actorq.errors import StoreError, StoreUnavailable
from actorq.model.filters import Filter
from actorq.model.records import Note, Ownership, Purged, Record, StoreInfo, Write
from actorq.stores.locks import OwnerLock, networked
from actorq.stores.sqlite_batch import pack
from actorq.stores.sqlite_connection import Connection
from actorq.stores.sqlite_owners import Owners, owner_in_words
from actorq.stores.sqlite_rows import FoundRows, Reader
from actorq.stores.sqlite_schema import BUSY, STEPS, check_place, configure, prepare
from actorq.stores.sqlite_writes import Writer

_LOAD_CHUNK = 1_000
_CACHE_OF_OTHERS = 8


class _Opened:
    """What there is while the file is open."""

    def __init__(
        self, owner: Connection, others: Connection, writer: Writer, owners: Owners
    ) -> None:
        self.owner = owner
        self.others = others
        self.writer = writer
        self.owners = owners


class SqliteStore:
    """Implements `actorq.contracts.store.Store` in the file at ``path``."""

    immediate = False
    durable = True

    def __init__(
        self,
        path: str | Path,
        codec: RecordCodec,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        steps: Sequence[str] = STEPS,
    ) -> None:
        """Open nothing yet.

        Args:
            path: The file; it is made if there is none.
            codec: From records to bytes.
            clock: The time of this machine.
            monotonic: How time passes, whatever the clock is set to.
            steps: What makes each version of the layout of the one before it.
        """
        self._path = Path(os.path.realpath(path))  # its lock and its log lie beside the file itself
        self._codec = codec
        self._clock = clock
        self._monotonic = monotonic
        self._steps = steps
        self._opened: _Opened | None = None
        self._tidy = True

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def url(self) -> str:
        """Where it is."""
        return f"sqlite:///{self._path}"

    # --- open and close --------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, or make it; see `Store`."""
        if self._opened is not None:
            return
        check_place(self._path)
        with trio.CancelScope(shield=True):  # or a connection would be left, and its thread
            owner = await Connection.open(self._path, self._who)
            try:
                writer, owners = await owner.run(self._prepare)
                others = await Connection.open(self._path, self._who)
                self._opened = _Opened(owner, others, writer, owners)
                await others.run(configure, _CACHE_OF_OTHERS)
            except BaseException:
                if self._opened is None:
                    await owner.close()
                await self.close()
                raise

    def _prepare(self, db: apsw.Connection) -> tuple[Writer, Owners]:
        """Check the file in the thread of its connection; return who writes it."""
        clocks = {"clock": self._clock, "monotonic": self._monotonic}
        owners = Owners(db, self._path, OwnerLock(self._path), len(self._steps), **clocks)
        try:
            prepare(db, self._path, owners.in_use, self._steps)
        finally:
            owners.free()  # the lock was needed while the layout changed
        return Writer(db, self._codec, owners), owners

    def _who(self, db: apsw.Connection) -> str | None:
        return owner_in_words(db, self._clock())

    async def close(self) -> None:
        """Close the file, and let go of the owner's lock; see `Store`."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with trio.CancelScope(shield=True):
                try:
                    await opened.owner.run(lambda _: opened.owners.free())
                finally:
                    try:
                        await opened.others.close()
                    finally:
                        await opened.owner.close()

    def _open_file(self) -> _Opened:
        if self._opened is None:
            raise StoreUnavailable(f"{self._path} is not open")
        self._opened.owners.alive_at = self._monotonic()
        return self._opened

    # --- for the owner ---------------------------------------------------------------------------

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """Become the owner, or return None; see `Store`."""
        file = self._open_file()
        return await file.owner.run(lambda _: file.owners.acquire(partition, nonce, ttl))

    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        """Yield every live record, the oldest first; see `Store`."""
        file, after = self._open_file(), ""

        def load(db: apsw.Connection) -> list[Record]:
            file.owners.check(ownership)
            return Reader(db, self._codec).load(ownership.partition, after, _LOAD_CHUNK)

        while records := await file.owner.run(load):
            after = records[-1].head.id
            yield records

    async def notes(self, ownership: Ownership) -> list[Note]:
        """Return every note; see `Store`."""
        file = self._open_file()

        def notes(db: apsw.Connection) -> list[Note]:
            file.owners.check(ownership)
            return Reader(db, self._codec).notes(ownership.partition)

        return await file.owner.run(notes)

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """Write all of it, onto the disk; see `Store`."""
        file = self._open_file()

        def commit(_: apsw.Connection) -> None:
            file.writer.commit(ownership, pack(self._codec, writes, notes))

        await file.owner.run(commit)
        if writes or notes:
            self._tidy = False
        elif not self._tidy:
            self._tidy = True
            trio.lowlevel.spawn_system_task(self._tidy_up, file)

    async def _tidy_up(self, file: _Opened) -> None:
        """Give the room of the log back, when nothing else is to be done."""
        try:
            await file.others.run(_empty_log)
        except StoreError:  # next time, then
            self._tidy = False

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id; see `Store`. Uses are not noted."""
        file = self._open_file()
        return await file.owner.run(lambda db: Reader(db, self._codec).fetch(partition, ids))

    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """Return the record of each key that ended last; see `Store`."""
        file = self._open_file()
        return await file.owner.run(lambda db: Reader(db, self._codec).fetch_keyed(partition, keys))

    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        """Forget some of the expired and surplus results; see `Store`."""
        file = self._open_file()
        return await file.owner.run(lambda _: file.writer.purge(ownership, before, keep, spare))

    async def release(self, ownership: Ownership) -> None:
        """Give the ownership up; see `Store`."""
        file = self._open_file()
        await file.owner.run(lambda _: file.owners.release(ownership))

    # --- for people ------------------------------------------------------------------------------

    async def find(
        self, partition: str, filter: Filter, cursor: str | None, limit: int
    ) -> FoundRows:
        """Return one page of matching records; see `Store`."""
        file = self._open_file()
        return await file.others.run(
            lambda db: Reader(db, self._codec).find(partition, filter, cursor, limit)
        )

    async def describe(self) -> StoreInfo:
        """Return what there is to say; see `Store`."""
        return await self._open_file().others.run(self._describe)

    def _describe(self, db: apsw.Connection) -> StoreInfo:
        log = Path(f"{self._path}-wal")
        log_size = log.stat().st_size if log.exists() else 0
        detail = {
            "bytes in the log": log_size,
            "bytes free on the disk": shutil.disk_usage(self._path.parent).free,
            "pages": db.pragma("page_count"),
            "free pages": db.pragma("freelist_count"),
            "page size": db.pragma("page_size"),
        }
        return StoreInfo(
            self.url,
            self._path.stat().st_size + log_size,
            int(db.pragma("user_version")),
            owner_in_words(db, self._clock()),
            {name: str(value) for name, value in detail.items()},
            networked(self._path),
        )

    async def check(self) -> list[str]:
        """Read the whole file and return what is wrong with it; that takes long if it is large."""
        rows = await self._open_file().others.run(
            lambda db: db.execute("PRAGMA integrity_check(20)").fetchall()
        )
        return [str(text) for (text,) in rows if text != "ok"]


def _empty_log(db: apsw.Connection) -> None:
    """Move the log into the file, and give its room back unless somebody is using it now."""
    db.set_busy_timeout(0)
    try:
        # First what may take long, during which others can write; then there is nothing left to do.
        for mode in (apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_TRUNCATE):
            db.wal_checkpoint(mode=mode)
    finally:
        db.set_busy_timeout(BUSY)
