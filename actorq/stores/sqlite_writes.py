"""What the owner writes: plain functions for the thread of its connection, a transaction each.

A transaction takes the lock for writing first, and then the owner's row has to be as the owner
knows it: whoever has been succeeded changes nothing.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import apsw
from msgspec import UNSET, Struct

from actorq.contracts.store import RecordCodec
from actorq.errors import CorruptStore, Fenced
from actorq.model.records import Head, Ownership, Purged
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite_batch import APART, INLINE_MAX, Batch, Plan, Row, done_columns, refused
from actorq.stores.sqlite_schema import BUSY

T = TypeVar("T")

_PURGED_MAX = 1_000
_ACQUIRE_BUSY = 300
"""Milliseconds: somebody who holds the lock for longer is stopped, or no owner of ours."""

_OWNER = "SELECT epoch, nonce, lineage, forgotten_until, stamp FROM owner WHERE partition = ?"
_HOLDER = "SELECT pid, host, expires_at, locked FROM owner WHERE partition = ?"
_RENEW = (
    "UPDATE owner SET expires_at = ? + ttl, stamp = max(stamp, ?), locked = ?"
    " WHERE partition = ? AND epoch = ? AND nonce = ?"
)
_OWN = (
    "INSERT OR REPLACE INTO owner(partition, epoch, nonce, lineage, forgotten_until, stamp,"
    " expires_at, ttl, locked, pid, host) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FORGOTTEN = "UPDATE owner SET forgotten_until = max(forgotten_until, ?) WHERE partition = ?"

_INSERT_LIVE = "INSERT INTO live(partition, id, head, body) VALUES(?, ?, ?, ?)"
_CHANGE_LIVE = "UPDATE live SET head = ? WHERE partition = ? AND id = ?"
_DELETE_LIVE = "DELETE FROM live WHERE partition = ? AND id = ?"
_PUT_LIVE = (
    "INSERT INTO live(partition, id, head, body, output) VALUES(?, ?, ?, ?, ?)"
    " ON CONFLICT(partition, id) DO UPDATE"
    " SET head = excluded.head, body = excluded.body, output = excluded.output"
)
_DONE = (
    "INSERT INTO done(number, partition, id, status, name, queue, key, submitted_at, completed_at,"
    " keep_until, head, output, body) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {})"
)
_INSERT_DONE = _DONE.format("?")
_MOVE_TO_DONE = _DONE.format("(SELECT body FROM live WHERE partition = ? AND id = ?)")
_PUT_DONE = (
    _INSERT_DONE + " ON CONFLICT(partition, id) DO UPDATE SET status = excluded.status,"
    " name = excluded.name, queue = excluded.queue, key = excluded.key,"
    " submitted_at = excluded.submitted_at, completed_at = excluded.completed_at,"
    " keep_until = excluded.keep_until, head = excluded.head, output = excluded.output,"
    " body = excluded.body"
)
_PUT_BODY = "INSERT OR REPLACE INTO body(partition, id, data) VALUES(?, ?, ?)"
_DELETE_BODY = "DELETE FROM body WHERE partition = ? AND id = ?"
_PUT_NOTE = "INSERT OR REPLACE INTO note(partition, kind, name, value) VALUES(?, ?, ?, ?)"
_DELETE_NOTE = "DELETE FROM note WHERE partition = ? AND kind = ? AND name = ?"
_THE_LIVE = "SELECT body, output FROM live WHERE partition = ? AND id = ?"
_THE_DONE = "SELECT body, output, submitted_at FROM done WHERE partition = ? AND id = ?"
_DELETE_DONE = "DELETE FROM done WHERE partition = ? AND id = ?"
_IS_DONE = "SELECT 1 FROM done WHERE partition = ? AND id = ?"
_ENDED = "SELECT number, id, submitted_at FROM done WHERE partition = ?"
_EXPIRED = f"{_ENDED} AND keep_until <= ? ORDER BY keep_until"
_OLDEST = f"{_ENDED} AND key IS NULL AND number >= ? ORDER BY number"


class _Unexpected(Exception):
    """A record is not where it was expected."""


_ROW_ERRORS = (
    apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError,
    OverflowError, ValueError, TypeError,
)  # fmt: skip
"""What SQLite, or the way to it, has against one row."""


class _Known(Struct):
    """What this owner knows of its partition without asking, as nobody else writes it.

    Attributes:
        newest: No ended record has a higher id.
        number: The highest number of one.
        apart: Whether any body lies apart.
        ended: How many have ended, if it has been counted.
        evict_from: Those with lower numbers all have a key.
    """

    newest: str
    number: int
    apart: bool
    ended: int | None = None
    evict_from: int = 0


class Writer:
    """Writes by one connection."""

    def __init__(
        self, db: apsw.Connection, path: Path, codec: RecordCodec, lock: OwnerLock
    ) -> None:
        self._db = db
        self._path = path
        self._codec = codec
        self._lock = lock
        self._known: dict[str, _Known] = {}
        self._mine: dict[str, tuple[int, str]] = {}
        """Epoch and nonce by partition."""
        self._file = path.stat()

    # --- ownership -------------------------------------------------------------------------------

    def acquire(self, partition: str, nonce: str, ttl: float, now: float) -> Ownership | None:
        """Become the owner, unless another one is alive."""
        self._check_file()
        if self._is_owned(partition, now):
            return None
        self._db.set_busy_timeout(_ACQUIRE_BUSY)
        try:
            return self._transact(lambda: self._acquire(partition, nonce, ttl, now))
        finally:
            self._db.set_busy_timeout(BUSY)
            self._free_if_idle()

    def _acquire(self, partition: str, nonce: str, ttl: float, now: float) -> Ownership | None:
        if self._is_owned(partition, now):  # somebody was faster
            return None
        row = self._db.execute(_OWNER, (partition,)).fetchone()
        epoch, _, lineage, forgotten_until, stamp = row or (0, "", token_hex(8), 0.0, 0.0)
        owner = Ownership(partition, epoch + 1, nonce, lineage, forgotten_until, stamp)
        self._db.execute(
            _OWN,
            (
                partition, owner.epoch, nonce, lineage, forgotten_until, stamp,
                now + ttl, ttl, self._lock.held, os.getpid(), platform.node(),
            ),
        )  # fmt: skip
        self._known.pop(partition, None)
        self._mine[partition] = (owner.epoch, nonce)
        return owner

    def _is_owned(self, partition: str, now: float) -> bool:
        """Say whether somebody else may be alive.

        Whoever had the lock, which is free now, is dead. Of one who has it still, or who never
        could get it, only the time tells. (It is that of this machine, the one thing that all who
        open this file have in common: not a clock that begins anew when it is started.)
        """
        has_lock = self._lock.take()
        row = self._db.execute(_HOLDER, (partition,)).fetchone()
        if row is None:
            return False
        _, _, expires_at, locked = row
        owned = bool(now < expires_at and not (has_lock and locked))
        if owned:
            self._free_if_idle()  # who owns it may get it yet
        return owned

    def in_use(self, now: float) -> str | None:
        """Return who owns any partition now, in words, or None; then the lock is held."""
        for (partition,) in self._db.execute("SELECT partition FROM owner").fetchall():
            if self._is_owned(str(partition), now):
                return owner_in_words(self._db, now)
        return None

    def release(self, ownership: Ownership) -> None:
        """Let the next one have it at once."""
        self._db.execute(
            "UPDATE owner SET expires_at = 0, nonce = '' WHERE partition = ? AND epoch = ?"
            " AND nonce = ?",
            (ownership.partition, ownership.epoch, ownership.nonce),
        )
        if self._db.changes():
            self._lost(ownership.partition)

    def free(self) -> None:
        """Let go of the lock: everything is over."""
        self._mine.clear()
        self._lock.free()

    def check(self, ownership: Ownership) -> None:
        """Find out whether it is still the owner's.

        Raises:
            Fenced: It is not.
        """
        row = self._db.execute(_OWNER, (ownership.partition,)).fetchone()
        if row is None or row[:2] != (ownership.epoch, ownership.nonce):
            raise self._fenced(ownership)

    def _fenced(self, ownership: Ownership) -> Fenced:
        partition = ownership.partition
        if self._mine.get(partition) == (ownership.epoch, ownership.nonce):
            self._lost(partition)
        return Fenced(f"partition {partition!r}: epoch {ownership.epoch} is no longer its owner")

    def _lost(self, partition: str) -> None:
        """Let the next owner have the lock."""
        self._mine.pop(partition, None)
        self._known.pop(partition, None)
        self._free_if_idle()

    def _free_if_idle(self) -> None:
        if not self._mine:
            self._lock.free()

    def _check_file(self) -> None:
        """Find out whether the file is still where it was: else what is written would be lost."""
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            there = False
        if not there:
            raise CorruptStore(
                f"{self._path} was moved, deleted or replaced while it was open: put it back, with "
                f"{self._path.name}-wal, and start again"
            )

    # --- transactions ----------------------------------------------------------------------------

    def _transact(self, work: Callable[[], T]) -> T:
        """Do all of it or nothing."""
        db = self._db
        if db.in_transaction:  # the last one could not even be taken back
            db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # after some errors SQLite has taken it back itself
                with suppress(apsw.Error):
                    db.execute("ROLLBACK")
            raise
        return result

    def commit(self, ownership: Ownership, batch: Batch, now: float) -> None:
        """Write all of it; see `Store.commit`."""
        self._check_file()
        locked = self._lock.take()
        known = self._what_is_known(ownership.partition)

        def write(each: Callable[[str, _Known, Sequence[Row]], int]) -> int:
            renewed = (now, batch.stamp, locked, ownership.partition, ownership.epoch)
            self._db.execute(_RENEW, (*renewed, ownership.nonce))
            if self._db.changes() != 1:
                raise self._fenced(ownership)
            more = each(ownership.partition, known, batch.rows)
            self._write_notes(ownership.partition, batch.notes)
            return more

        ended, known.ended = known.ended, None  # unknown, should it fail
        try:
            more = self._transact(lambda: write(self._write))
        except (_Unexpected, *_ROW_ERRORS):
            more = self._transact(lambda: write(self._write_each))
        known.ended = None if ended is None else ended + more

    def _what_is_known(self, partition: str) -> _Known:
        known = self._known.get(partition)
        if known is None:
            newest = self._db.execute(
                "SELECT id FROM done WHERE partition = ? ORDER BY id DESC LIMIT 1", (partition,)
            ).get
            number = self._db.execute("SELECT max(number) FROM done").get
            apart = self._db.execute("SELECT EXISTS(SELECT 1 FROM body)").get
            known = self._known[partition] = _Known(str(newest or ""), number or 0, bool(apart))
        return known

    def _write(self, partition: str, known: _Known, rows: Sequence[Row]) -> int:
        """Write what is new, changes or ends, as it is expected; return how many more have ended.

        Raises:
            _Unexpected: A new record is not new, or a changed one not there.
            apsw.ConstraintError: Likewise.
        """
        db, plan = self._db, Plan(partition, rows, known.number + 1)
        known.number += len(plan.gone)
        self._are_new(plan, known.newest)
        known.newest = max(known.newest, plan.newest)
        if plan.bodies:
            known.apart = True
            db.executemany(_PUT_BODY, plan.bodies)
        if plan.new:
            db.executemany(_INSERT_LIVE, plan.new)
        if plan.changed:
            before = db.total_changes()
            db.executemany(_CHANGE_LIVE, plan.changed)
            if db.total_changes() - before != len(plan.changed):
                raise _Unexpected
        if plan.ended:
            db.executemany(_INSERT_DONE, plan.ended)
        if plan.moved:
            db.executemany(_MOVE_TO_DONE, plan.moved)
        if plan.gone:
            db.executemany(_DELETE_LIVE, plan.gone)
        if plan.bodiless and known.apart:
            db.executemany(_DELETE_BODY, plan.bodiless)
        return len(plan.gone) + self._write_each(partition, known, plan.odd)

    def _are_new(self, plan: Plan, newest: str) -> None:
        """Find out whether something new has ended already; most ids are newer than all those."""
        for row in plan.new:
            if row[1] <= newest and self._db.execute(_IS_DONE, row[:2]).fetchone():
                raise _Unexpected

    def _write_each(self, partition: str, known: _Known, rows: Sequence[Row]) -> int:
        """Write records one by one, whatever is there; return how many more have ended.

        Raises:
            RowRefused: One cannot be kept.
        """
        more = 0
        for row in rows:
            try:
                if row.head is None:
                    more += self._delete(partition, row.id)
                else:
                    more += self._put(partition, known, row, row.head)
            except _ROW_ERRORS as error:
                raise refused(row.id, error) from error
        return more

    def _put(self, partition: str, known: _Known, row: Row, head: Head) -> int:
        db, where = self._db, (partition, row.id)
        live = db.execute(_THE_LIVE, where).fetchone()
        done = db.execute(_THE_DONE, where).fetchone()
        former_body, former_output = (live or done or (None, None))[:2]
        output = former_output if row.output is UNSET else row.output
        body = row.body
        if body is UNSET:
            body = former_body
        else:
            if former_body == APART:
                db.execute(_DELETE_BODY, where)
            if body is not None and len(body) > INLINE_MAX:
                known.apart = True
                db.execute(_PUT_BODY, (*where, body))
                body = APART
        if head.keep_until is None:
            if done:
                db.execute(_DELETE_DONE, where)
            db.execute(_PUT_LIVE, (*where, row.data, body, output))
            return -1 if done else 0
        if live:
            db.execute(_DELETE_LIVE, where)
        known.number += 1
        known.newest = max(known.newest, row.id)
        db.execute(_PUT_DONE, (*done_columns(partition, row, head, known.number), output, body))
        return 0 if done else 1

    def _delete(self, partition: str, id: str) -> int:
        db, where = self._db, (partition, id)
        live = db.execute("SELECT head FROM live WHERE partition = ? AND id = ?", where).get
        done = db.execute(_THE_DONE, where).fetchone()
        if live is not None:
            submitted_at = self._codec.unpack_head(id, live).submitted_at
        elif done:
            submitted_at = done[2]
        else:
            return 0
        db.execute(_FORGOTTEN, (submitted_at, partition))
        for statement in (_DELETE_LIVE, _DELETE_DONE, _DELETE_BODY):
            db.execute(statement, where)
        return -1 if done else 0

    def _write_notes(self, partition: str, notes: Sequence[tuple[str, str, bytes | None]]) -> None:
        for kind, name, value in notes:
            if value is None:
                self._db.execute(_DELETE_NOTE, (partition, kind, name))
            else:
                self._db.execute(_PUT_NOTE, (partition, kind, name, value))

    # --- forgetting ------------------------------------------------------------------------------

    def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str]
    ) -> Purged:
        """Forget some of what has ended; see `Store.purge`."""
        self._check_file()
        known = self._what_is_known(ownership.partition)
        ended, known.ended = known.ended, None  # unknown, should it fail

        def purge() -> tuple[Purged, int]:
            self.check(ownership)
            return self._purge(ownership.partition, known, ended, before, keep, spare)

        purged, known.evict_from = self._transact(purge)
        known.ended = purged.left
        return purged

    def _purge(
        self,
        partition: str,
        known: _Known,
        ended: int | None,
        before: float,
        keep: int,
        spare: Collection[str],
    ) -> tuple[Purged, int]:
        db = self._db
        if ended is None:
            ended = int(
                db.execute("SELECT count(*) FROM done WHERE partition = ?", (partition,)).get
            )
        doomed = self._choose(_EXPIRED, (partition, before), spare, _PURGED_MAX, {})
        evict_from = known.evict_from
        surplus = min(ended - len(doomed) - keep, _PURGED_MAX - len(doomed))
        if surplus > 0:
            oldest = db.execute(f"{_OLDEST} LIMIT 1", (partition, evict_from)).fetchone()
            evict_from = known.number + 1 if oldest is None else oldest[0]
            self._choose(_OLDEST, (partition, evict_from), spare, len(doomed) + surplus, doomed)
        db.executemany("DELETE FROM done WHERE number = ?", [(number,) for number in doomed])
        if known.apart:
            db.executemany(_DELETE_BODY, [(partition, id) for id, _ in doomed.values()])
        if doomed:
            db.execute(_FORGOTTEN, (max(at for _, at in doomed.values()), partition))
        row = db.execute(_OWNER, (partition,)).fetchone()
        assert row is not None  # it has been checked
        left = ended - len(doomed)
        return Purged(left, row[3], len(doomed) >= _PURGED_MAX), evict_from

    def _choose(
        self,
        sql: str,
        values: tuple[Any, ...],
        spare: Collection[str],
        most: int,
        chosen: dict[int, tuple[str, float]],
    ) -> dict[int, tuple[str, float]]:
        """Add to what is chosen until there are so many; return it."""
        with closing(self._db.execute(sql, values)) as rows:
            for number, id, submitted_at in rows:
                if len(chosen) >= most:
                    break
                if id not in spare:
                    chosen[number] = (id, submitted_at)
        return chosen


def owner_in_words(db: apsw.Connection, now: float) -> str | None:
    """Return who has a partition, or None."""
    row = db.execute("SELECT pid, host, expires_at FROM owner ORDER BY expires_at DESC").fetchone()
    if row is None or not row[2]:
        return None
    pid, host, expires_at = row
    words = f"process {pid} on {host}"
    if host == platform.node():
        words += _state_of(pid)
    return words if now < expires_at else f"{words}, since {now - expires_at:.0f} s no more"


def _state_of(pid: int) -> str:
    """Say what is special about a process of this machine, where the system tells."""
    try:
        _, _, state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")
    except OSError:
        return ""
    stopped = f", which is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it"
    return stopped if state[:1] in ("T", "t") else ""
