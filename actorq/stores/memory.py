"""The store that lasts as long as its process: dictionaries.

It survives a crash of the queue actor, not of the process. Nothing in it ever suspends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from heapq import heappop, heappush
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from actorq.errors import Fenced
from actorq.model.filters import Filter
from actorq.model.records import Head, Output, Ownership, Record, Write


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
        self.records: dict[str, _Kept] = {}
        self.outputs: dict[str, Output] = {}
        self.ended: OrderedDict[str, None] = OrderedDict()
        """Ids of terminal records, least recently used first. (Taking the first of a plain dict
        that is emptied from its front gets slower and slower.)"""
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

    def changed(self) -> None:
        """Note that the set of ids has changed."""
        self._order = None

    def forget(self, id: str) -> None:
        """Drop a record, if it is there."""
        self.outputs.pop(id, None)
        if self.records.pop(id, None) is not None:
            self.ended.pop(id, None)
            self.changed()


class MemoryStore:
    """Implements `actorq.contracts.store.Store`.

    There can be one process only, and in it a supervisor sees to it that the former owner is gone;
    so `acquire` always succeeds at once and fences the former one.
    """

    immediate = True

    def __init__(self) -> None:
        self._partitions: dict[str, _Partition] = {}

    async def acquire(
        self,
        partition: str,
        nonce: str,
        ttl: float,  # noqa: ARG002 - nobody competes
    ) -> Ownership | None:
        """Take the partition over; see `Store`."""
        kept = self._partitions.setdefault(partition, _Partition())
        kept.epoch += 1
        kept.owner = Ownership(partition, kept.epoch, nonce)
        return kept.owner

    async def load(self, ownership: Ownership) -> AsyncIterator[Head]:
        """Yield the head of every live record; see `Store`."""
        kept = self._owned(ownership)
        for id, record in list(kept.records.items()):
            if id not in kept.ended:
                yield record.head

    async def commit(self, ownership: Ownership, writes: Sequence[Write]) -> None:
        """Apply all writes; see `Store`."""
        kept = self._owned(ownership)
        records, ended = kept.records, kept.ended
        for write in writes:
            id, head = write.id, write.head
            if head is None:
                kept.forget(id)
                continue
            record = records.get(id)
            if record is None:
                record = records[id] = _Kept(head)
                kept.changed()
            else:
                record.head = head
            if write.body is not UNSET:
                record.body = write.body
            if write.output is None:
                kept.outputs.pop(id, None)
            elif not isinstance(write.output, UnsetType):
                kept.outputs[id] = write.output
            if head.keep_until is not None:
                ended[id] = None
                heappush(kept.expiries, (head.keep_until, id))
            elif id in ended:
                del ended[id]

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id; see `Store`."""
        kept = self._partitions.get(partition)
        if kept is None:
            return [None] * len(ids)
        found: list[Record | None] = []
        for id in ids:
            record = kept.records.get(id)
            if record is not None and id in kept.ended:
                kept.ended.move_to_end(id)
            found.append(None if record is None else kept.record(id, record))
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

    async def purge(self, ownership: Ownership, before: float, keep: int) -> int:
        """Forget expired and surplus results; see `Store`."""
        kept = self._owned(ownership)
        expiries = kept.expiries
        while expiries and expiries[0][0] <= before:
            when, id = heappop(expiries)
            record = kept.records.get(id)
            # A retried or discarded task leaves its old entry behind.
            if record is not None and record.head.keep_until == when:
                kept.forget(id)
        while len(kept.ended) > keep:
            kept.forget(next(iter(kept.ended)))
        if len(expiries) > 2 * len(kept.ended) + 64:
            kept.expiries = sorted(
                (r.head.keep_until, id)
                for id in kept.ended
                if (r := kept.records[id]).head.keep_until is not None
            )
        return len(kept.ended)

    async def release(self, ownership: Ownership) -> None:
        """Give the ownership up; see `Store`."""
        kept = self._partitions.get(ownership.partition)
        if kept is not None and kept.owner == ownership:
            kept.owner = None

    def tables(self) -> dict[str, int]:
        """Return how many records, and how many of ended tasks, are kept."""
        return {
            "records": sum(len(kept.records) for kept in self._partitions.values()),
            "ended": sum(len(kept.ended) for kept in self._partitions.values()),
        }

    def _owned(self, ownership: Ownership) -> _Partition:
        kept = self._partitions.get(ownership.partition)
        if kept is None or kept.owner != ownership:
            raise Fenced(
                f"partition {ownership.partition!r}: epoch {ownership.epoch} is no longer its owner"
            )
        return kept
