"""What is read from a file: plain functions for the thread of a connection."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from heapq import merge
from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actorq.contracts.store import RecordCodec
from actorq.errors import CorruptStore, RemoteError
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Note, NoteKind, Output, Record
from actorq.model.status import SUCCESS, FailureKind, TaskStatus

BEHIND_ALL = b""
"""Behind every id: SQLite sorts bytes behind texts."""

_RECORD = "head, body, output FROM {} WHERE partition = ?1 AND id = ?2"
_FETCH = f"SELECT {_RECORD.format('live')} UNION ALL SELECT {_RECORD.format('done')}"
_KEYED = (
    "SELECT id, head, body, output FROM done"
    " WHERE partition = ? AND key = ? AND key IS NOT NULL ORDER BY +number DESC LIMIT 1"
)
_LOAD = "SELECT id, head, body, output FROM live WHERE partition = ? AND id > ? ORDER BY id LIMIT ?"
_COLUMNS = (
    "SELECT name, status, queue, key, submitted_at, completed_at, keep_until FROM done"
    " WHERE partition = ? AND id = ?"
)
LOST = b""
"""Is read for a call that is not there, or damaged: who is to run it says that it is lost."""

_BODY = "SELECT data FROM body WHERE partition = ? AND id = ?"
_FIRST_WINDOW = 64
_LIVE_WINDOW = 2_048
_DONE_WINDOW = 16_384
_SCANNED_MAX = 20_000
"""Records after which a search takes a rest; those that have not ended count ten times, as each
of their heads has to be unpacked: some 20 ms."""


_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of calls and outcomes after which a page ends, as all of it is in memory at once."""

_Row = tuple[str, bytes, Any, Any, int]
"""Id, head, body, output, and whether it has ended."""


class FoundRows(Struct, frozen=True):
    """One page of `find`."""

    records: list[Record]
    next: str | None
    scanned: int


class Reader:
    """Reads records by one connection."""

    def __init__(self, db: apsw.Connection, codec: RecordCodec) -> None:
        self._db = db
        self._codec = codec

    def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id, or None."""
        found: list[Record | None] = []
        for id in ids:
            row = self._db.execute(_FETCH, (partition, id)).fetchone()
            found.append(None if row is None else self._record(partition, id, *row))
        return found

    def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """Return the record of each key that ended last, or None."""
        found: list[Record | None] = []
        for key in keys:
            row = self._db.execute(_KEYED, (partition, key)).fetchone()
            found.append(None if row is None else self._record(partition, *row))
        return found

    def load(self, partition: str, after: str, limit: int) -> list[Record]:
        """Return so many of the live records with ids above ``after``, in order."""
        rows = self._db.execute(_LOAD, (partition, after, limit))
        return [self._loaded(partition, *row) for row in rows]

    def _loaded(self, partition: str, id: str, head: bytes, body: Any, output: Any) -> Record:
        """Return a live record, or what is left of it."""
        try:
            return self._record(partition, id, head, body, output)
        except CorruptStore as error:
            if error.newer:
                raise
            left = self._codec.salvage_head(id, head)
            lost = "" if left.options.key else "; if it had a key, that is lost with it"
            return Record(left, self._body(partition, id, body)[0], None, f"{error}{lost}")

    def notes(self, partition: str) -> list[Note]:
        """Return every note; what is damaged has no value."""
        sql = "SELECT kind, name, value FROM note WHERE partition = ?"
        rows = self._db.execute(sql, (partition,))
        return [self._note(kind, name, value) for kind, name, value in rows]

    def _note(self, kind: NoteKind, name: str, value: bytes) -> Note:
        try:
            return self._codec.unpack_note(kind, name, value)
        except CorruptStore as error:
            if error.newer:
                raise
            return Note(kind, name, None)

    def _record(self, partition: str, id: str, head: bytes, body: Any, output: Any) -> Record:
        return self._with_head(partition, self._codec.unpack_head(id, head), body, output)

    def _with_head(self, partition: str, head: Head, body: Any, output: Any) -> Record:
        try:
            left = None if output is None else self._codec.unpack_output(output)
        except CorruptStore as error:
            why = f"the record of task {head.id} is damaged: {error}"
            raise CorruptStore(why, newer=error.newer) from None
        body, damage = self._body(partition, head.id, body)
        return Record(head, body, left, damage)

    def _body(self, partition: str, id: str, body: Any) -> tuple[Any, str | None]:
        """Return a call, and what is wrong with it if it cannot be read: then it is lost."""
        if type(body) is int:
            body = self._db.execute(_BODY, (partition, id)).get
            if body is None:
                return LOST, f"the call of task {id} is not there"
        try:
            return self._codec.unpack_body(body), None
        except CorruptStore as error:
            why = f"the record of task {id} is damaged: {error}"
            if error.newer:
                raise CorruptStore(why, newer=True) from None
            return LOST, why

    # --- searching -------------------------------------------------------------------------------

    def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> FoundRows:
        """Return a page of what fits, newest ids first."""
        if filter.ids is not None:
            return self._find_ids(partition, filter, filter.ids, cursor, limit)
        search = _Search(self._db, partition, filter)
        self._db.execute("BEGIN")  # so that nothing is seen before and after it has ended
        try:
            return self._search(search, cursor, limit)
        finally:
            self._db.execute("COMMIT")

    def _find_ids(
        self, partition: str, filter: Filter, ids: frozenset[str], cursor: str | None, limit: int
    ) -> FoundRows:
        page: list[Record] = []
        scanned = size = 0
        for id in sorted(ids, reverse=True):
            if cursor is not None and id >= cursor:
                continue
            row = self._db.execute(_FETCH, (partition, id)).fetchone()
            record = None if row is None else self._found(partition, filter, id, *row)
            scanned += 1
            if record is not None:
                if len(page) == limit:
                    return FoundRows(page, page[-1].head.id, scanned)
                page.append(record)
                size += _size(record)
            if scanned >= _SCANNED_MAX // 10 or size >= _PAGE_BYTES:
                return FoundRows(page, id, scanned)
        return FoundRows(page, None, scanned)

    def _found(
        self, partition: str, filter: Filter, id: str, data: bytes, body: Any, output: Any
    ) -> Record | None:
        """Return a record if it fits, or what is left of it: who looks at many wants the others."""
        try:
            head = self._codec.unpack_head(id, data)
            fits = filter.matches(head)
            return self._with_head(partition, head, body, output) if fits else None
        except CorruptStore as error:
            if error.newer:
                raise
            why = str(error)
        left = self._left(partition, id, data)
        if not filter.matches(left):
            return None
        lost = Output(error=RemoteError.made_of(CorruptStore, why), kind=FailureKind.STORE)
        return Record(left, self._body(partition, id, body)[0], lost, why)

    def _left(self, partition: str, id: str, data: bytes) -> Head:
        """Return what is known of a task by its head, or else by the columns beside it."""
        try:
            return self._codec.unpack_head(id, data)
        except CorruptStore:
            left = self._codec.salvage_head(id, data)
        columns = self._db.execute(_COLUMNS, (partition, id)).fetchone()
        if columns is None:
            return left
        name, status, queue, key, submitted_at, completed_at, keep_until = columns
        try:
            status, options = TaskStatus(status), TaskOptions(queue=queue, key=key)
        except (ValueError, TypeError):
            return left
        return replace(
            left,
            name=str(name),
            status=status,
            options=left.options.merge(options),
            submitted_at=float(submitted_at or 0),
            completed_at=float(completed_at or 0),
            keep_until=keep_until,
        )

    def _search(self, search: _Search, cursor: str | None, limit: int) -> FoundRows:
        """Look through one window of ids after the other, from the newest on."""
        page: list[Record] = []
        upper: str | bytes = BEHIND_ALL if cursor is None else cursor
        size, left = min(limit + 1, _FIRST_WINDOW), _PAGE_BYTES
        while True:
            lower = search.lower(upper, size)
            with closing(search.window(lower, upper)) as rows:
                for id, data, body, output, _ in rows:
                    record = self._found(search.partition, search.filter, id, data, body, output)
                    if record is None:
                        continue
                    if len(page) == limit or left <= 0:
                        last = page[-1].head.id
                        search.passed(last, upper)
                        return FoundRows(page, last, search.scanned)
                    page.append(record)
                    left -= _size(record)
            search.passed(lower, upper)
            if not lower:
                return FoundRows(page, None, search.scanned)
            if search.cost >= _SCANNED_MAX:
                return FoundRows(page, lower, search.scanned)
            upper, size = lower, size * 4


class _Search:
    """What SQL has to do with a filter.

    Live records are looked at one by one, since all that can be asked about them is in their heads;
    of those that have ended, only what fits is read.
    """

    def __init__(self, db: apsw.Connection, partition: str, filter: Filter) -> None:
        self.partition = partition
        self.filter = filter
        self.scanned = self.cost = 0
        self._db = db
        statuses = filter.statuses
        self._live = filter.ended_since is None and (
            statuses is None or not all(status.terminal for status in statuses)
        )
        self._done = statuses is None or any(status.terminal for status in statuses)
        self._where, self._values = _conditions(filter)
        # The term for which there is an index that has only what fits it.
        self._only, self._only_values = "", list[Any]()
        if filter.key is not None:
            self._only, self._only_values = " AND key = ? AND key IS NOT NULL", [filter.key]
        elif statuses is not None and SUCCESS not in statuses:
            self._only = " AND status <> 'success'"

    def lower(self, upper: str | bytes, size: int) -> str:
        """Return the lowest id of a window that has about so many records, or ``""`` for all."""
        lowest = ""
        if self._live:
            lowest = self._nth("live", "", [], upper, min(size, _LIVE_WINDOW))
        if self._done:
            size = min(size, _DONE_WINDOW)
            lowest = max(lowest, self._nth("done", self._only, self._only_values, upper, size))
        return lowest

    def _nth(self, table: str, only: str, values: list[Any], upper: str | bytes, size: int) -> str:
        sql = f"SELECT id FROM {table} WHERE partition = ? AND id < ?{only} ORDER BY id DESC"
        values = [self.partition, upper, *values, size - 1]
        found = self._db.execute(f"{sql} LIMIT 1 OFFSET ?", values).get
        return "" if found is None else str(found)

    def window(self, lower: str, upper: str | bytes) -> Generator[_Row, None, None]:
        """Yield what may fit of the ids from ``lower`` to below ``upper``, newest first."""
        between = (self.partition, lower, upper)
        sql = "SELECT id, head, body, output, {} FROM {} WHERE partition = ? AND id >= ? AND id < ?"
        cursors: list[apsw.Cursor] = []
        if self._live:
            live = f"{sql.format(0, 'live')} ORDER BY id DESC"
            cursors.append(self._db.execute(live, between))
        if self._done:
            done = f"{sql.format(1, 'done')}{self._only}{self._where} ORDER BY id DESC"
            values = (*between, *self._only_values, *self._values)
            cursors.append(self._db.execute(done, values))
        try:
            yield from merge(*cursors, key=_id, reverse=True)
        finally:
            for cursor in cursors:
                cursor.close()

    def passed(self, lower: str, upper: str | bytes) -> None:
        """Count what is in a window that has been looked through."""
        live = self._count("live", "", [], lower, upper) if self._live else 0
        done = 0
        if self._done:
            done = self._count("done", self._only, self._only_values, lower, upper)
        self.scanned += live + done
        self.cost += 10 * live + done

    def _count(
        self, table: str, only: str, values: list[Any], lower: str, upper: str | bytes
    ) -> int:
        sql = f"SELECT count(*) FROM {table} WHERE partition = ? AND id >= ? AND id < ?{only}"
        return int(self._db.execute(sql, (self.partition, lower, upper, *values)).get)


def as_json(values: Collection[str]) -> str:
    """Return any number of values as a single one, for ``json_each``."""
    return msgspec.json.encode(list(values)).decode()


def _size(record: Record) -> int:
    """Return about how many bytes the call and the value take that a record has."""
    output = record.output
    parts = (record.body, None if output is None else output.value)
    return sum(len(part) for part in parts if type(part) is bytes)


def _id(row: _Row) -> str:
    return row[0]


def _conditions(filter: Filter) -> tuple[str, list[Any]]:
    """Return what an ended record has to fit, as SQL."""
    terms: list[str] = []
    values: list[Any] = []
    for column, wanted in (("status", filter.statuses), ("name", filter.names)):
        if wanted is not None:
            terms.append(f"{column} IN (SELECT value FROM json_each(?))")  # there may be many
            values.append(as_json(wanted))
    for term, value in (
        ("queue = ?", filter.queue),
        ("key = ?", filter.key),
        ("submitted_at < ?", filter.before),
        ("submitted_at > ?", filter.after),
        ("completed_at >= ?", filter.ended_since),
    ):
        if value is not None:
            terms.append(term)
            values.append(value)
    return "".join(f" AND {term}" for term in terms), values
