"""What a store must do. `actorq.testing.StoreContract` checks each sentence of it.

A store keeps records for one owner. It knows ids, heads and opaque bodies, and no rule of the
queue. It is divided into partitions; this version has one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any, Protocol

from actorq.model.filters import Filter
from actorq.model.records import (
    Head,
    Note,
    NoteKind,
    Output,
    Ownership,
    Purged,
    Record,
    StoreInfo,
    Write,
)


class Found(Protocol):
    """One page of `Store.find`."""

    @property
    def records(self) -> list[Record]:
        """What matched, newest ids first."""
        ...

    @property
    def next(self) -> str | None:
        """The cursor of the next page, or None."""
        ...

    @property
    def scanned(self) -> int:
        """How many records were looked at."""
        ...


class RecordCodec(Protocol):
    """From what a record consists of to bytes and back, for stores that keep bytes.

    What unpacks raises `CorruptStore` for bytes that it cannot read; ``newer`` if a newer version
    has written them.
    """

    def pack_head(self, head: Head) -> bytes:
        """Return a head, but for its id."""
        ...

    def unpack_head(self, id: str, data: bytes) -> Head:
        """Return the head of the record with this id."""
        ...

    def salvage_head(self, id: str, data: bytes) -> Head:
        """Return what is left of a damaged head: a running task of no worker, without times."""
        ...

    def pack_body(self, body: Any) -> bytes | None:
        """Return a body, which is bytes already in most cases."""
        ...

    def unpack_body(self, data: bytes | None) -> Any:
        """Return the body."""
        ...

    def pack_output(self, output: Output) -> bytes:
        """Return how a task ended."""
        ...

    def unpack_output(self, data: bytes) -> Output:
        """Return how it ended."""
        ...

    def pack_note(self, note: Note) -> bytes:
        """Return the value of a note."""
        ...

    def unpack_note(self, kind: NoteKind, name: str, data: bytes) -> Note:
        """Return the note."""
        ...


class Store(Protocol):
    """Where a queue actor keeps what must survive it.

    Every method may raise `StoreUnavailable` (it did not happen, or nobody knows: try again) and
    `CorruptStore`; those that take an ownership raise `Fenced` once it is over. Unknown partitions
    are empty.
    """

    immediate: bool
    """Whether no method ever suspends, so that the queue actor may run its turn inside a call."""

    durable: bool
    """Whether records outlive the process: what waits stays when a system is left."""

    async def open(self) -> None:
        """Get ready, before anything else is asked; what is there is checked now.

        Raises `CorruptStore`, having changed nothing, for what is no store, is damaged, or is newer
        than this version.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; harmless twice, and before `open`. It may be opened again."""
        ...

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """Become the owner, or return None while another one is alive.

        A new ownership has a higher epoch than every earlier one and ends them all. It lasts
        ``ttl`` seconds from now, and from the start of each commit. The same nonce may not be used
        by two owners. Where it can be known that the former owner is dead, or was this very store
        object, it is over at once.
        """
        ...

    def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        """Yield every live record with its body, in pieces of any size, in no particular order.

        One that is damaged by itself keeps nobody from the others: it says so (`Record.damage`).
        """
        ...

    async def notes(self, ownership: Ownership) -> list[Note]:
        """Return every note; one that is damaged has no value."""
        ...

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """Apply all writes and notes or none; durable, and visible to every later call, on return.

        Writing the same twice is the same as writing it once. Each id appears once, and each note.
        Raises `Fenced`, having changed nothing, if the ownership is not the newest; `RowRefused`,
        likewise, if one record cannot be kept; `StoreUnavailable` also if it may have happened.
        """
        ...

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id, live or ended, or None; ended ones count as used now."""
        ...

    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """Return, for each key, the *ended* record whose options have it, or None.

        Of several the one that ended last, whatever their ids say.
        """
        ...

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        """Return at most ``limit`` matching records with ids below ``cursor``, newest ids first.

        Where it may take long it returns fewer, with a cursor to go on from.
        """
        ...

    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        """Forget ended records, and return what is left.

        First those whose ``keep_until`` is ``before`` or earlier, then the least recently used ones
        (where uses are not noted: those that ended first) until ``keep`` are left. None whose id is
        in ``spare`` is forgotten; those, and those with a key, ``keep`` does not count. Where there
        are many it forgets some of them and may be called again: `Purged.more`.
        """
        ...

    async def release(self, ownership: Ownership) -> None:
        """Give the ownership up, so that `acquire` succeeds at once; harmless when it is over."""
        ...

    async def describe(self) -> StoreInfo:
        """Return what people may want to know; also for a store that somebody else owns."""
        ...
