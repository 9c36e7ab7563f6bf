"""What the owner writes: plain functions for the thread of its connection, a transaction each.

A transaction takes the lock for writing first, and then the owner's row has to be as the owner
knows it: whoever has been succeeded changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Any

import apsw
from msgspec import UNSET, Struct

from actorq.contracts.store import RecordCodec
from actorq.model.records import Head, Ownership, Purged
from actorq.stores.sqlite_batch import APART, INLINE_MAX, Batch, Plan, Row, done_columns, refused
from actorq.stores.sqlite_owners import Owners, transact
from actorq.stores.sqlite_rows import as_json

_PURGED_MAX = 1_000

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
_THE_DONE = (
    "SELECT body, output, submitted_at, key IS NULL FROM done WHERE partition = ? AND id = ?"
)
_DELETE_DONE = "DELETE FROM done WHERE partition = ? AND id = ?"
_IS_DONE = "SELECT 1 FROM done WHERE partition = ? AND id = ?"
_ENDED = "SELECT number, id, submitted_at, key IS NULL FROM done WHERE partition = ?"
_EXPIRED = f"{_ENDED} AND keep_until <= ? ORDER BY keep_until"
_OLDEST = f"{_ENDED} AND key IS NULL AND number >= ? ORDER BY number"
# (Both numbers are those of entries in an index; to look for NULL would read all rows.)
_COUNT = (
    "SELECT (SELECT count(*) FROM done WHERE partition = ?1)"
    " - (SELECT count(*) FROM done WHERE partition = ?1 AND key IS NOT NULL)"
)
_AFTER_PURGE = (
    "SELECT forgotten_until, (SELECT min(keep_until) FROM done WHERE partition = ?1)"
    " FROM owner WHERE partition = ?1"
)
_COUNT_THESE = (
    "SELECT count(*) FROM done WHERE partition = ? AND key IS NULL"
    " AND id IN (SELECT value FROM json_each(?))"
)


class _Unexpected(Exception):
    """A record is not where it was expected."""


_ROW_ERRORS = (
    apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError,
    OverflowError, ValueError, TypeError,
)  # fmt: skip
"""What SQLite, or the way to it, has against one row."""


class _Known(Struct):
    """What an owner knows of its partition without asking, as nobody else writes it.

    Attributes:
        owner: Its epoch and nonce.
        newest: No ended record has a higher id.
        number: The highest number of one.
        apart: Whether any body lies apart.
        ended: How many without a key have ended, if they have been counted.
        evict_from: Those with lower numbers all have a key.
    """

    owner: tuple[int, str]
    newest: str
    number: int
    apart: bool
    ended: int | None = None
    evict_from: int = 0


class Writer:
    """Writes by one connection."""

    def __init__(self, db: apsw.Connection, codec: RecordCodec, owners: Owners) -> None:
        self._db = db
        self._codec = codec
        self._owners = owners
        self._known: dict[str, _Known] = {}

    # --- commits ---------------------------------------------------------------------------------

    def commit(self, ownership: Ownership, batch: Batch) -> None:
        """Write all of it; see `Store.commit`."""
        self._owners.check_file()
        known = self._take_known(ownership)

        def write(each: Callable[[str, _Known, Sequence[Row]], int]) -> int:
            self._owners.renew(ownership, batch.stamp)
            more = each(ownership.partition, known, batch.rows)
            self._write_notes(ownership.partition, batch.notes)
            return more

        try:
            more = transact(self._db, lambda: write(self._write))
        except (_Unexpected, *_ROW_ERRORS):
            more = transact(self._db, lambda: write(self._write_each))
        if known.ended is not None:
            known.ended += more
        self._known[ownership.partition] = known

    def _take_known(self, ownership: Ownership) -> _Known:
        """Return what is known, which it is no more should the transaction fail."""
        partition, owner = ownership.partition, (ownership.epoch, ownership.nonce)
        known = self._known.pop(partition, None)
        if known is None or known.owner != owner:
            newest = self._db.execute(
                "SELECT id FROM done WHERE partition = ? ORDER BY id DESC LIMIT 1", (partition,)
            ).get
            number = self._db.execute("SELECT max(number) FROM done").get
            apart = self._db.execute("SELECT EXISTS(SELECT 1 FROM body)").get
            known = _Known(owner, str(newest or ""), number or 0, bool(apart))
        return known

    def _write(self, partition: str, known: _Known, rows: Sequence[Row]) -> int:
        """Write what is new, changes or ends, as it is expected.

        Returns how many more without a key have ended.

        Raises:
            _Unexpected: A new record is not new, or a changed one not there; or they are such that
                they would not be numbered in their order.
            apsw.ConstraintError: Likewise.
        """
        db, plan = self._db, Plan(partition, rows, known.number + 1)
        if plan.late and plan.gone:
            raise _Unexpected
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
        return plan.keyless + self._write_each(partition, known, plan.odd)

    def _are_new(self, plan: Plan, newest: str) -> None:
        """Find out whether something new has ended already; most ids are newer than all those."""
        for row in plan.new:
            if row[1] <= newest and self._db.execute(_IS_DONE, row[:2]).fetchone():
                raise _Unexpected

    def _write_each(self, partition: str, known: _Known, rows: Sequence[Row]) -> int:
        """Write records one by one, whatever is there; return what `_write` does.

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
            return -_keyless(done)
        if live:
            db.execute(_DELETE_LIVE, where)
        if done and not _keyless(done):
            known.evict_from = 0  # it may have no key any more, and keeps its number
        known.number += 1
        known.newest = max(known.newest, row.id)
        db.execute(_PUT_DONE, (*done_columns(partition, row, head, known.number), output, body))
        return (head.options.key is None) - _keyless(done)

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
        return -_keyless(done)

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
        self._owners.check_file()
        known = self._take_known(ownership)

        def purge() -> Purged:
            self._owners.check(ownership)
            return self._purge(ownership.partition, known, before, keep, spare)

        purged = transact(self._db, purge)
        self._known[ownership.partition] = known
        return purged

    def _purge(
        self, partition: str, known: _Known, before: float, keep: int, spare: Collection[str]
    ) -> Purged:
        db = self._db
        ended, spared = known.ended, 0
        if ended is None:
            ended = int(db.execute(_COUNT, (partition,)).get)
        doomed = self._choose(_EXPIRED, (partition, before), spare, _PURGED_MAX, {})
        surplus = ended - keep - sum(row[2] for row in doomed.values())
        if surplus > 0 and spare:
            spared = int(db.execute(_COUNT_THESE, (partition, as_json(spare))).get)
            surplus -= spared
        if surplus > 0:
            oldest = db.execute(f"{_OLDEST} LIMIT 1", (partition, known.evict_from)).get
            known.evict_from = known.number + 1 if oldest is None else oldest[0]
            most = min(len(doomed) + surplus, _PURGED_MAX)
            self._choose(_OLDEST, (partition, known.evict_from), spare, most, doomed)
        db.executemany("DELETE FROM done WHERE number = ?", [(number,) for number in doomed])
        if known.apart:
            db.executemany(_DELETE_BODY, [(partition, id) for id, _, _ in doomed.values()])
        if doomed:
            db.execute(_FORGOTTEN, (max(at for _, at, _ in doomed.values()), partition))
        known.ended = ended = ended - sum(row[2] for row in doomed.values())
        until, after = db.execute(_AFTER_PURGE, (partition,)).get
        return Purged(ended - spared, until, len(doomed) >= _PURGED_MAX, after)

    def _choose(
        self,
        sql: str,
        values: tuple[Any, ...],
        spare: Collection[str],
        most: int,
        chosen: dict[int, tuple[str, float, int]],
    ) -> dict[int, tuple[str, float, int]]:
        """Add to what is chosen until there are so many; return it."""
        with closing(self._db.execute(sql, values)) as rows:
            for number, *row in rows:
                if len(chosen) >= most:
                    break
                if row[0] not in spare:
                    chosen[number] = tuple(row)
        return chosen


def _keyless(done: tuple[Any, ...] | None) -> int:
    """Return 1 for the row of an ended record without a key."""
    return 0 if done is None else int(done[3])
