"""The store that lasts as long as its process: dictionaries.

It survives a crash of the queue actor, not of the process. Nothing in it ever suspends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Sequence
from heapq import heapify, heappop, heappush
from secrets import token_hex
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from actorq.errors import Fenced
from actorq.model.filters import Filter
from actorq.model.records import (
    Head,
    Note,
    Output,
    Ownership,
    Purged,
    Record,
    StoreInfo,
    Write,
)  # fmt: skip

_LOAD_CHUNK = 1_000


class FoundRecords(Struct, frozen=True):
    """One page of `MemoryStore.find`."""

    records: list[Record]
    next: str | None
    scanned: int


class _Kept(Struct, gc=False):
    """What there is of a task before it ends; a third field would cost it 8 bytes more."""

    head: Head
    body: Any = None


class _Partition:
    def __init__(self) -> None:
        self.owner: Ownership | None = None
        self.epoch = 0
        self.lineage = token_hex(8)
        self.forgotten_until = 0.0
        self.stamp = 0.0
        self.records: dict[str, _Kept] = {}
        self.outputs: dict[str, Output] = {}
        self.notes: dict[tuple[str, str], Note] = {}
        self.ended: OrderedDict[str, None] = OrderedDict()
        """Ids of terminal records without a key, least recently used first. (Taking the first of a
        plain dict that is emptied from its front gets slower and slower.)"""
        self.keyed: dict[str, tuple[str, ...]] = {}
        """Those of terminal records with a key, by their key, in the order in which they ended: one
        each, in an orderly queue."""
        self.keyed_count = 0
        self.expiries: list[tuple[float, str]] = []
        self._order: list[str] | None = None

    def in_order(self) -> list[str]:
        """Return every id in order; kept between the pages of one search."""
        if self._order is None:
            self._order = sorted(self.records)  # ids are time-ordered, so this is nearly sorted
        return self._order

    def record(self, id: str, kept: _Kept) -> Record:
        """Return a copy of what is kept, as a store gives it back."""
        return Record(kept.head, kept.body, self.outputs.get(id))

    def add(self, id: str, head: Head) -> _Kept:
        """Keep a record that is new."""
        self._order = None
        if head.submitted_at > self.stamp:
            self.stamp = head.submitted_at
        record = self.records[id] = _Kept(head)
        return record

    def forget(self, id: str) -> None:
        """Drop a record, if it is there."""
        self.outputs.pop(id, None)
        record = self.records.pop(id, None)
        if record is not None:
            self._order = None
            self.forgotten_until = max(self.forgotten_until, record.head.submitted_at)
            if record.head.keep_until is not None:
                self.unlist(record.head)

    def list_by_key(self, id: str, key: str) -> None:
        """List a terminal record that has a key, and may be listed already."""
        ids = self.keyed.get(key, ())
        if id not in ids:
            self.keyed[key] = (*ids, id)
            self.keyed_count += 1

    def unlist(self, head: Head) -> None:
        """Take a terminal record off the lists; from the heap it goes when its time has come."""
        key = head.options.key
        if key is None:
            del self.ended[head.id]
            return
        self.keyed_count -= 1
        others = tuple(id for id in self.keyed[key] if id != head.id)
        if others:
            self.keyed[key] = others
        else:
            del self.keyed[key]

    def next_expiry(self) -> float | None:
        """Return when the next terminal record is over, which is the first in the heap then."""
        while self.expiries:
            when, id = self.expiries[0]
            record = self.records.get(id)
            if record is not None and record.head.keep_until == when:
                return when
            heappop(self.expiries)  # a retried or discarded task leaves its old entry behind
        return None

    @property
    def ended_count(self) -> int:
        """How many records are terminal."""
        return len(self.ended) + self.keyed_count


class MemoryStore:
    """Implements `actorq.contracts.store.Store`.

    There can be one process only, and in it a supervisor sees to it that the former owner is gone;
    so `acquire` always succeeds at once and fences the former one.
    """

    immediate = True
    durable = False

    def __init__(self) -> None:
        self._partitions: dict[str, _Partition] = {}

    async def open(self) -> None:
        """Do nothing; see `Store`."""

    async def close(self) -> None:
        """Do nothing: what is kept is kept as long as this object; see `Store`."""

    async def acquire(
        self,
        partition: str,
        nonce: str,
        ttl: float,  # noqa: ARG002 - nobody competes
    ) -> Ownership | None:
        """Take the partition over; see `Store`."""
        kept = self._partitions.setdefault(partition, _Partition())
        kept.epoch += 1
        kept.owner = Ownership(
            partition, kept.epoch, nonce, kept.lineage, kept.forgotten_until, kept.stamp
        )
        return kept.owner

    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        """Yield every live record; see `Store`."""
        kept = self._owned(ownership)
        live = [
            kept.record(id, record)
            for id, record in kept.records.items()
            if record.head.keep_until is None
        ]
        for start in range(0, len(live), _LOAD_CHUNK):
            yield live[start : start + _LOAD_CHUNK]

    async def notes(self, ownership: Ownership) -> list[Note]:
        """Return every note; see `Store`."""
        return list(self._owned(ownership).notes.values())

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """Apply all writes and notes; see `Store`."""
        kept = self._owned(ownership)
        records, outputs, ended = kept.records, kept.outputs, kept.ended
        for write in writes:
            id, head = write.id, write.head
            if head is None:
                kept.forget(id)
                continue
            record = records.get(id)
            if record is None:
                record = kept.add(id, head)
            else:
                former, record.head = record.head, head
                if former.keep_until is not None and (
                    head.keep_until is None or former.options.key != head.options.key
                ):
                    kept.unlist(former)
            if write.body is not UNSET:
                record.body = write.body
            if write.output is None:
                outputs.pop(id, None)
            elif not isinstance(write.output, UnsetType):
                outputs[id] = write.output
            if head.keep_until is not None:
                heappush(kept.expiries, (head.keep_until, id))
                key = head.options.key
                if key is None:
                    ended[id] = None
                else:
                    kept.list_by_key(id, key)
        for note in notes:
            if note.value is None:
                kept.notes.pop((note.kind, note.name), None)
            else:
                kept.notes[note.kind, note.name] = note

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id; see `Store`."""
        kept = self._partitions.get(partition)
        if kept is None:
            return [None] * len(ids)
        found: list[Record | None] = []
        for id in ids:
            record = kept.records.get(id)
            if id in kept.ended:
                kept.ended.move_to_end(id)
            found.append(None if record is None else kept.record(id, record))
        return found

    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """Return the record of each key that ended last; see `Store`."""
        kept = self._partitions.get(partition) or _Partition()
        found: list[Record | None] = []
        for key in keys:
            ids = kept.keyed.get(key)
            id = ids[-1] if ids else None
            found.append(None if id is None else kept.record(id, kept.records[id]))
        return found

    async def find(
        self, partition: str, filter: Filter, cursor: str | None, limit: int
    ) -> FoundRecords:
        """Return one page of matching records; see `Store`."""
        kept = self._partitions.get(partition) or _Partition()
        ids = kept.in_order() if filter.ids is None else sorted(filter.ids)
        page: list[Record] = []
        scanned = 0
        for at in range((len(ids) if cursor is None else bisect_left(ids, cursor)) - 1, -1, -1):
            record = kept.records.get(ids[at])
            scanned += 1
            if record is not None and filter.matches(record.head):
                if len(page) == limit:
                    return FoundRecords(page, page[-1].head.id, scanned)
                page.append(kept.record(ids[at], record))
        return FoundRecords(page, None, scanned)

    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        """Forget expired and surplus results; see `Store`."""
        kept = self._owned(ownership)
        self._forget_expired(kept, before, spare)
        left = len(kept.ended)
        if left > keep:
            left -= sum(id in kept.ended for id in spare)
        while left > keep:
            id = next(iter(kept.ended))
            if id in spare:
                kept.ended.move_to_end(id)  # what is needed counts as used
            else:
                kept.forget(id)
                left -= 1
        if len(kept.expiries) > 2 * kept.ended_count + 64:
            kept.expiries = [
                (record.head.keep_until, id)
                for id, record in kept.records.items()
                if record.head.keep_until is not None
            ]
            heapify(kept.expiries)
        return Purged(left, kept.forgotten_until, next=kept.next_expiry())

    def _forget_expired(self, kept: _Partition, before: float, spare: Collection[str]) -> None:
        spared: list[tuple[float, str]] = []
        while (when := kept.next_expiry()) is not None and when <= before:
            _, id = heappop(kept.expiries)
            if id in spare:
                spared.append((when, id))
            else:
                kept.forget(id)
        for entry in spared:
            heappush(kept.expiries, entry)

    async def release(self, ownership: Ownership) -> None:
        """Give the ownership up; see `Store`."""
        kept = self._partitions.get(ownership.partition)
        if kept is not None and _same(kept.owner, ownership):
            kept.owner = None

    async def describe(self) -> StoreInfo:
        """Return what there is to say; see `Store`."""
        owners = [
            f"epoch {kept.epoch}, in this process"
            for kept in self._partitions.values()
            if kept.owner is not None
        ]
        counts = {name: str(count) for name, count in self.tables().items()}
        return StoreInfo("memory://", owner=", ".join(owners) or None, detail=counts)

    def tables(self) -> dict[str, int]:
        """Return how many records, and how many of ended tasks, are kept."""
        return {
            "records": sum(len(kept.records) for kept in self._partitions.values()),
            "ended": sum(kept.ended_count for kept in self._partitions.values()),
        }

    def _owned(self, ownership: Ownership) -> _Partition:
        kept = self._partitions.get(ownership.partition)
        if kept is None or not _same(kept.owner, ownership):
            raise Fenced(
                f"partition {ownership.partition!r}: epoch {ownership.epoch} is no longer its owner"
            )
        return kept


def _same(owner: Ownership | None, ownership: Ownership) -> bool:
    return owner is ownership or (
        owner is not None and (owner.epoch, owner.nonce) == (ownership.epoch, ownership.nonce)
    )
