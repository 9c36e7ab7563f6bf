"""A commit as rows, before anything is written: what cannot be kept is found here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct

from actorq.contracts.store import RecordCodec
from actorq.errors import RowRefused
from actorq.model.records import Head, Note, Write

INLINE_MAX = 512
"""Bytes of a body up to which it lies in its record's row, which is rewritten with each change."""

APART = 1
"""Stands there for a body that does not."""


class Row(Struct, frozen=True, gc=False):
    """A `Write` as bytes; ``head`` is kept for what columns are made of."""

    id: str
    head: Head | None
    data: bytes
    body: Any
    output: Any


class Batch(Struct, frozen=True, gc=False):
    """The writes and notes of one commit, as bytes."""

    rows: list[Row]
    notes: list[tuple[str, str, bytes | None]]
    stamp: float


def pack(codec: RecordCodec, writes: Sequence[Write], notes: Sequence[Note]) -> Batch:
    """Return a commit as bytes, so that what cannot be kept is known before anything is written.

    Raises:
        RowRefused: One record cannot.
    """
    rows: list[Row] = []
    stamp = 0.0
    for write in writes:
        id, head, body, output = write.id, write.head, write.body, write.output
        try:
            if not id.isascii():
                id.encode()
            if head is None:
                rows.append(Row(id, None, b"", None, None))
                continue
            if body is not UNSET:
                body = codec.pack_body(body)
            packed: Any = output
            if output is not None and output is not UNSET:
                packed = codec.pack_output(output)
            rows.append(Row(id, head, codec.pack_head(head), body, packed))
            if head.submitted_at > stamp:
                stamp = head.submitted_at
        except Exception as error:  # whatever it is, the other records are not to blame
            raise refused(id, error) from error
    packed_notes: list[tuple[str, str, bytes | None]] = []
    for note in notes:
        try:
            value = None if note.value is None else codec.pack_note(note)
            packed_notes.append((note.kind, note.name, value))
        except Exception as error:  # likewise
            raise refused(f"{note.kind} {note.name}", error) from error
    return Batch(rows, packed_notes, stamp)


def refused(id: str, error: Exception) -> RowRefused:
    """Return the error for one record."""
    return RowRefused(f"{id!r} cannot be kept: {error}", id=id)


class Plan:
    """The rows of a commit by what is expected of them, each as its statement takes it.

    Attributes:
        new: Live records that nothing is known of yet.
        changed: Heads of live ones.
        ended: Records that end, and leave their body or get one.
        moved: Those that end and keep it.
        gone: Ids of both, which are live no more.
        keyless: How many of those have no key.
        bodies: What lies apart.
        bodiless: Ids of those that end and have nothing there.
        newest: The highest id of what ends.
        odd: All the others, one by one.
        late: Whether something ends among those, which would get its number after the others.
    """

    def __init__(self, partition: str, rows: Sequence[Row], number: int) -> None:
        """Sort them; what ends gets the numbers from ``number`` on."""
        self.new: list[tuple[Any, ...]] = []
        self.changed: list[tuple[Any, ...]] = []
        self.ended: list[tuple[Any, ...]] = []
        self.moved: list[tuple[Any, ...]] = []
        self.gone: list[tuple[str, str]] = []
        self.keyless: int = 0
        self.bodies: list[tuple[str, str, bytes]] = []
        self.bodiless: list[tuple[str, str]] = []
        self.newest: str = ""
        self.odd: list[Row] = []
        self.late: bool = False
        for row in rows:
            head, body, output = row.head, row.body, row.output
            if head is None:
                self.odd.append(row)
            elif head.keep_until is not None:
                if output is UNSET:
                    self.odd.append(row)
                    self.late = True
                else:
                    self._end(partition, row, head, number)
                    number += 1
            elif body is UNSET and output is UNSET:
                self.changed.append((row.data, partition, row.id))
            elif body is not UNSET and (output is UNSET or output is None):
                body = self._inline(partition, row.id, body)
                self.new.append((partition, row.id, row.data, body))
            else:
                self.odd.append(row)

    def _end(self, partition: str, row: Row, head: Head, number: int) -> None:
        id, body = row.id, row.body
        columns = done_columns(partition, row, head, number)
        self.gone.append((partition, id))
        if head.options.key is None:
            self.keyless += 1
        if id > self.newest:
            self.newest = id
        if body is UNSET:
            self.moved.append((*columns, row.output, partition, id))
            return
        body = self._inline(partition, id, body)
        self.ended.append((*columns, row.output, body))
        if body != APART:
            self.bodiless.append((partition, id))

    def _inline(self, partition: str, id: str, body: bytes | None) -> bytes | int | None:
        if body is None or len(body) <= INLINE_MAX:
            return body
        self.bodies.append((partition, id, body))
        return APART


def done_columns(partition: str, row: Row, head: Head, number: int | None) -> tuple[Any, ...]:
    """Return the columns of an ended record, up to its head."""
    options = head.options
    return (
        number, partition, row.id, head.status, head.name, options.queue, options.key,
        head.submitted_at, head.completed_at, head.keep_until, row.data,
    )  # fmt: skip
