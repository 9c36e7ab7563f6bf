"""What a store must do. `actorq.testing.StoreContract` checks each sentence of it.

A store keeps records for one owner. It knows ids, heads and opaque bodies, and no rule of the
queue. It is divided into partitions; this version has one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from actorq.model.filters import Filter
from actorq.model.records import Head, Ownership, Record, Write


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


class Store(Protocol):
    """Where a queue actor keeps what must survive it.

    Every method may raise `StoreUnavailable`; those that take an ownership raise `Fenced` once it
    is over. Unknown partitions are empty.
    """

    immediate: bool
    """Whether no method ever suspends, so that the queue actor may run its turn inside a call."""

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """Become the owner, or return None while another one is alive.

        A new ownership has a higher epoch than every earlier one and ends them all. It lasts
        ``ttl`` seconds from now, and from the start of each commit. The same nonce may not be used
        by two owners.
        """
        ...

    def load(self, ownership: Ownership) -> AsyncIterator[Head]:
        """Yield the head of every live record, in no particular order."""
        ...

    async def commit(self, ownership: Ownership, writes: Sequence[Write]) -> None:
        """Apply all writes or none; durable, and visible to every later call, on return.

        Writing the same writes twice is the same as writing them once. Each id appears once. Raises
        `Fenced`, having changed nothing, if the ownership is not the newest.
        """
        ...

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """Return the record of each id, live or ended, or None; ended ones count as used now."""
        ...

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        """Return at most ``limit`` matching records with ids below ``cursor``, newest ids first."""
        ...

    async def purge(self, ownership: Ownership, before: float, keep: int) -> int:
        """Forget ended records, and return how many are left.

        First those whose ``keep_until`` is ``before`` or earlier, then the least recently used ones
        until ``keep`` are left.
        """
        ...

    async def release(self, ownership: Ownership) -> None:
        """Give the ownership up, so that `acquire` succeeds at once; harmless when it is over."""
        ...
