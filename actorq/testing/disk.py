"""A durable store in memory that several processes share, in virtual time: a disk, or a server.

What a process asks for is on its way for a moment, is done at the disk at one instant, and its
answer is on its way again. So whoever is stopped or dies in between does not know what was done,
and what was done is there for the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from random import Random
from typing import Any, Generic, Literal, TypeVar

import attrs
import trio

from actorq.contracts.store import Found, RecordCodec
from actorq.errors import RowRefused, StoreUnavailable
from actorq.model.filters import Filter
from actorq.model.records import Head, Note, Ownership, Purged, Record, StoreInfo, Write
from actorq.stores.memory import FoundRecords, MemoryStore
from actorq.testing.clock import current_clock
from actorq.testing.samples import at_once

T = TypeVar("T")

Wrote = Callable[[str, Ownership, Head], None]
"""Who has written it, as which owner, and what is kept now."""


class Disk:
    """What is kept, whoever comes and goes.

    Attributes:
        records: All of it.
        full: Whether nothing more can be written; what is written already can be read.
        fails: Whether every commit fails, before or after it is applied.
        refuses: Says of a record that it cannot be kept, now and always.
        extra: Seconds that everything takes besides.
    """

    def __init__(
        self,
        *,
        random: Random | None = None,
        latency: tuple[float, float] = (0.0, 0.0),
        locks: bool = True,
        codec: RecordCodec | None = None,
        wrote: Wrote = lambda *_: None,
    ) -> None:
        """Keep nothing yet.

        Args:
            random: Where all chance is drawn from.
            latency: Seconds that a question, and an answer, take: drawn between the two. With any
                latency, the run must have a `VirtualClock`.
            locks: Whether the death of an owner is seen at once, as by a lock that the system
                frees; otherwise only its time shows that it is gone.
            codec: Makes of every record what it is after it was bytes.
            wrote: Told of every head that is new, when it is written.
        """
        self.records: MemoryStore = MemoryStore()
        self.full: bool = False
        self.fails: Literal["before", "after"] | None = None
        self.refuses: Callable[[Head], bool] = lambda _: False
        self.extra: float = 0.0
        self._random = random or Random(0)
        self._latency = latency
        self._locks = locks
        self._codec = codec
        self._wrote = wrote
        self._leases: dict[str, _Lease] = {}
        self._lost: set[str] = set()
        self._waiting: dict[_Errand[Any], None] = {}
        self._hung: list[_Errand[Any]] | None = None
        self._stop: tuple[Callable[[DiskStore], None], bool] | None = None
        self._stop_after = 0

    def store(self, name: str = "somebody", alive: Callable[[], bool] = lambda: True) -> DiskStore:
        """Return the way to it for a process of this name, for as long as it is ``alive``."""
        return DiskStore(self, name, alive)

    @property
    def owner(self) -> str | None:
        """The name of the process that owns its first partition now, if one does."""
        for lease in self._leases.values():
            if not self._is_over(lease):
                return lease.store.name
        return None

    def live(self) -> int:
        """Return how many records are not terminal."""
        kept = self.records.tables()
        return kept["records"] - kept["ended"]

    # --- trouble ---------------------------------------------------------------------------------

    def hang(self) -> None:
        """Do nothing of what is asked until `heal`."""
        if self._hung is None:
            self._hung = []

    def lose(self, name: str) -> None:
        """Let nothing arrive of what this process has asked for."""
        self._lost.add(name)

    def stop_at_commit(
        self, stop: Callable[[DiskStore], None], *, applied: bool, after: int = 0
    ) -> None:
        """Have ``stop`` called at the next commit that has writes.

        Args:
            stop: Is told whose commit it is.
            applied: Once the disk has done it, and the answer is on its way; otherwise before it
                has left the process, which may be held then.
            after: How many commits with writes come before it.
        """
        self._stop, self._stop_after = (stop, applied), after

    def heal(self) -> None:
        """Let nothing be wrong from now on; what hung is done now."""
        self.full, self.fails, self.extra, self._stop = False, None, 0.0, None
        hung, self._hung = self._hung or [], None
        for errand in hung:
            self._run(errand)

    def close(self) -> None:
        """Let nobody wait any more, when nobody looks any more; the dead may have, for ever."""
        self.heal()
        for errand in self._waiting:
            errand.done.set()

    # --- what comes from processes ---------------------------------------------------------------

    async def carry(self, errand: _Errand[T], store: DiskStore) -> T:
        """Have it done; return the answer."""
        await trio.lowlevel.checkpoint()
        if not any(self._latency):
            errand.run()
            await trio.lowlevel.checkpoint()
            return errand.answer()
        clock, now = current_clock(), trio.current_time()
        store.busy_until = max(store.busy_until, now + self._delay() + self.extra)
        clock.at(store.busy_until, lambda: self._arrive(errand))
        self._waiting[errand] = None
        try:
            await errand.done.wait()
        finally:
            del self._waiting[errand]
        return errand.answer()

    def _delay(self) -> float:
        return self._random.uniform(*self._latency)

    def _arrive(self, errand: _Errand[Any]) -> None:
        if self._hung is not None:
            self._hung.append(errand)
        else:
            self._run(errand)

    def _run(self, errand: _Errand[Any]) -> None:
        if errand.store.name not in self._lost:
            errand.run()
            current_clock().at(trio.current_time() + self._delay(), errand.done.set)

    def stopped(self, store: DiskStore, *, applied: bool) -> bool:
        """Stop whoever commits, if that is due here."""
        if self._stop is None or self._stop[1] is not applied:
            return False
        self._stop_after -= 1
        if self._stop_after >= 0:
            return False
        stop, self._stop = self._stop[0], None
        stop(store)
        return True

    # --- what is done, each at one instant -------------------------------------------------------

    def acquire(
        self, store: DiskStore, partition: str, nonce: str, began: float, ttl: float
    ) -> Ownership | None:
        """See `Store.acquire`."""
        lease = self._leases.get(partition)
        if lease is not None and not self._is_over(lease) and lease.store is not store:
            return None
        ownership = at_once(self.records.acquire(partition, nonce, ttl))
        assert ownership is not None  # as the store in memory says
        self._leases[partition] = _Lease(store, ownership, ttl, began + ttl)
        return ownership

    def _is_over(self, lease: _Lease) -> bool:
        gone = self._locks and not lease.store.holds
        return gone or trio.current_time() >= lease.until

    def commit(
        self,
        store: DiskStore,
        ownership: Ownership,
        writes: Sequence[Write],
        notes: Sequence[Note],
        began: float,
    ) -> None:
        """See `Store.commit`."""
        twice = [id for id, count in Counter(w.id for w in writes).items() if count > 1]
        assert not twice, f"tried again, this would not be the same: {twice}"
        kept = self.records._owned(ownership)
        if writes or notes:
            self._check_room()
        if self.fails == "before":
            raise StoreUnavailable("the disk has failed")
        for write in writes:
            if write.head is not None and self.refuses(write.head):
                raise RowRefused(f"task {write.id} cannot be kept here", id=write.id)
        before = {w.id: kept.records[w.id].head for w in writes if w.id in kept.records}
        at_once(self.records.commit(ownership, writes, notes))
        lease = self._leases[ownership.partition]
        lease.until = max(lease.until, began + lease.ttl)
        for write in writes:
            # Written twice, since an answer was lost, is written once.
            if write.head is not None and write.head != before.get(write.id):
                self._wrote(store.name, ownership, write.head)
        if writes:
            self.stopped(store, applied=True)
        if self.fails == "after":
            raise StoreUnavailable("the disk may have failed")

    def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str]
    ) -> Purged:
        """See `Store.purge`."""
        self.records._owned(ownership)
        self._check_room()
        return at_once(self.records.purge(ownership, before, keep, spare))

    def _check_room(self) -> None:
        if self.full:
            raise StoreUnavailable("the disk is full")

    def release(self, ownership: Ownership) -> None:
        """See `Store.release`."""
        at_once(self.records.release(ownership))
        lease = self._leases.get(ownership.partition)
        if lease is not None and lease.ownership == ownership:
            del self._leases[ownership.partition]

    def load(self, ownership: Ownership) -> list[Sequence[Record]]:
        """See `Store.load`."""

        async def load() -> list[Sequence[Record]]:
            return [[self.read(r) for r in piece] async for piece in self.records.load(ownership)]

        return at_once(load())

    def notes(self, ownership: Ownership) -> list[Note]:
        """See `Store.notes`."""
        notes, codec = at_once(self.records.notes(ownership)), self._codec
        if codec is None:
            return notes
        return [codec.unpack_note(note.kind, note.name, codec.pack_note(note)) for note in notes]

    def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> FoundRecords:
        """See `Store.find`."""
        page = at_once(self.records.find(partition, filter, cursor, limit))
        return FoundRecords([self.read(r) for r in page.records], page.next, page.scanned)

    def read(self, record: Record) -> Record:
        """Return a record as it comes back from bytes."""
        codec = self._codec
        if codec is None:
            return record
        head, output = record.head, record.output
        return Record(
            codec.unpack_head(head.id, codec.pack_head(head)),
            codec.unpack_body(codec.pack_body(record.body)),
            None if output is None else codec.unpack_output(codec.pack_output(output)),
        )

    def describe(self) -> StoreInfo:
        """See `Store.describe`."""
        return StoreInfo("disk://", owner=self.owner)


@attrs.define
class _Lease:
    store: DiskStore
    ownership: Ownership
    ttl: float
    until: float


class _Errand(Generic[T]):
    """Something that a process wants done at the disk."""

    def __init__(self, store: DiskStore, act: Callable[[], T]) -> None:
        self.store = store
        self.done: trio.Event = trio.Event()
        self._act = act
        self._answer: tuple[T] | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._answer = (self._act(),)
        except Exception as error:  # noqa: BLE001 - whoever asked for it gets it
            self._error = error

    def answer(self) -> T:
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise StoreUnavailable("there was no answer")
        return self._answer[0]


class DiskStore:
    """A process's way to a `Disk`. Implements `actorq.contracts.store.Store`.

    Attributes:
        name: Of the process.
        busy_until: When the last of what it has asked for arrives: nothing overtakes it.
    """

    immediate = False
    durable = True

    def __init__(self, disk: Disk, name: str, alive: Callable[[], bool]) -> None:
        self.name: str = name
        self.busy_until: float = 0.0
        self._disk = disk
        self._alive = alive
        self._closed = False

    @property
    def holds(self) -> bool:
        """Whether it can still have the lock of an owner."""
        return self._alive() and not self._closed

    async def open(self) -> None:
        """Get ready; see `Store`."""
        self._closed = False
        await self._ask(lambda: None)

    async def close(self) -> None:
        """Let go of the lock, as the end of its process does; see `Store`."""
        self._closed = True

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """See `Store.acquire`."""
        began, acquire = trio.current_time(), self._disk.acquire
        return await self._ask(lambda: acquire(self, partition, nonce, began, ttl))

    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        """See `Store.load`."""
        for piece in await self._ask(lambda: self._disk.load(ownership)):
            yield piece

    async def notes(self, ownership: Ownership) -> list[Note]:
        """See `Store.notes`."""
        return await self._ask(lambda: self._disk.notes(ownership))

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """See `Store.commit`."""
        began, commit = trio.current_time(), self._disk.commit
        if writes and self._disk.stopped(self, applied=False):
            await trio.lowlevel.checkpoint()  # until somebody lets it go on
        await self._ask(lambda: commit(self, ownership, writes, notes, began))

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """See `Store.fetch`."""
        found = await self._ask(lambda: at_once(self._disk.records.fetch(partition, ids)))
        return [None if record is None else self._disk.read(record) for record in found]

    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """See `Store.fetch_keyed`."""
        found = await self._ask(lambda: at_once(self._disk.records.fetch_keyed(partition, keys)))
        return [None if record is None else self._disk.read(record) for record in found]

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        """See `Store.find`."""
        return await self._ask(lambda: self._disk.find(partition, filter, cursor, limit))

    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        """See `Store.purge`."""
        return await self._ask(lambda: self._disk.purge(ownership, before, keep, spare))

    async def release(self, ownership: Ownership) -> None:
        """See `Store.release`."""
        await self._ask(lambda: self._disk.release(ownership))

    async def describe(self) -> StoreInfo:
        """See `Store.describe`."""
        return await self._ask(self._disk.describe)

    async def _ask(self, act: Callable[[], T]) -> T:
        if not self._alive():
            raise StoreUnavailable(f"{self.name} is dead")
        return await self._disk.carry(_Errand(self, act), self)
