"""Faults at the seam: a wrapper that makes any store fail, suspend or wait where a test says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Literal

import attrs
import trio

from actorq.contracts.store import Found, Store
from actorq.errors import StoreUnavailable
from actorq.model.filters import Filter
from actorq.model.records import Note, Ownership, Purged, Record, StoreInfo, Write

StoreVerb = Literal[
    "open", "acquire", "load", "notes", "commit", "fetch", "fetch_keyed", "find", "purge",
    "release", "describe",
]  # fmt: skip


@attrs.define
class _Fault:
    verb: StoreVerb
    skip: int
    times: float
    applied: bool
    error: Callable[[], Exception]


def _unavailable() -> Exception:
    return StoreUnavailable("a fault was injected here")


class FaultyStore:
    """Implements `actorq.contracts.store.Store` around another store, and fails when told to.

    ::

        store = FaultyStore(MemoryStore(), suspends=True)
        store.fail("commit", 3, applied=True)  # the third from now: stored, but the answer is lost
        with store.commits_held():  # those that come wait until the end of the block
            ...

    Attributes:
        immediate: As the inner store's, unless it was made to suspend.
        durable: As the inner store's.
        commits: The writes of each commit that was applied, oldest first.
        noted: The notes of each of them.
        faults: How many faults were injected so far.
    """

    def __init__(self, inner: Store, *, suspends: bool = False) -> None:
        """Wrap ``inner``; with ``suspends`` every method has a checkpoint before and after."""
        self.immediate: bool = inner.immediate and not suspends
        self.durable: bool = inner.durable
        self.commits: list[tuple[Write, ...]] = []
        self.noted: list[tuple[Note, ...]] = []
        self.faults: int = 0
        self._inner = inner
        self._suspends = suspends
        self._planned: list[_Fault] = []
        self._gate: trio.Event | None = None

    def fail(
        self,
        verb: StoreVerb,
        number: int = 1,
        *,
        times: float = 1,
        applied: bool = False,
        error: Callable[[], Exception] = _unavailable,
    ) -> None:
        """Have the ``number``-th call of ``verb`` from now on fail, and those after it.

        Args:
            verb: The method's name.
            number: 1 is the next call.
            times: How many calls in a row fail; ``math.inf`` for all that follow.
            applied: Whether the inner store does it before the call fails: the outcome is unknown
                to the caller.
            error: Makes what the call raises; by default `StoreUnavailable`.
        """
        self._planned.append(_Fault(verb, number - 1, times, applied, error))

    def heal(self) -> None:
        """Inject none of the planned faults from now on."""
        self._planned.clear()

    @contextmanager
    def commits_held(self) -> Generator[None, None, None]:
        """Let commits wait, before anything is applied, until the block is left."""
        if self.immediate:
            raise RuntimeError("an immediate store cannot wait: open it with suspends=True")
        gate = self._gate = trio.Event()
        try:
            yield
        finally:
            self._gate = None
            gate.set()

    async def open(self) -> None:
        """See `Store.open`."""
        fault = await self._before("open")
        await self._inner.open()
        await self._after(fault)

    async def close(self) -> None:
        """See `Store.close`; it never fails."""
        await self._inner.close()

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """See `Store.acquire`."""
        fault = await self._before("acquire")
        ownership = await self._inner.acquire(partition, nonce, ttl)
        await self._after(fault)
        return ownership

    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        """See `Store.load`; a fault that is applied comes after the last record."""
        fault = await self._before("load")
        async with aclosing(self._inner.load(ownership)) as pieces:
            async for piece in pieces:
                yield piece
                if self._suspends:
                    await trio.lowlevel.checkpoint()
        await self._after(fault)

    async def notes(self, ownership: Ownership) -> list[Note]:
        """See `Store.notes`."""
        fault = await self._before("notes")
        notes = await self._inner.notes(ownership)
        await self._after(fault)
        return notes

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        """See `Store.commit`."""
        fault = await self._before("commit")
        if self._gate is not None:
            await self._gate.wait()
        await self._inner.commit(ownership, writes, notes)
        self.commits.append(tuple(writes))
        self.noted.append(tuple(notes))
        await self._after(fault)

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        """See `Store.fetch`."""
        fault = await self._before("fetch")
        records = await self._inner.fetch(partition, ids)
        await self._after(fault)
        return records

    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        """See `Store.fetch_keyed`."""
        fault = await self._before("fetch_keyed")
        records = await self._inner.fetch_keyed(partition, keys)
        await self._after(fault)
        return records

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        """See `Store.find`."""
        fault = await self._before("find")
        found = await self._inner.find(partition, filter, cursor, limit)
        await self._after(fault)
        return found

    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        """See `Store.purge`."""
        fault = await self._before("purge")
        purged = await self._inner.purge(ownership, before, keep, spare)
        await self._after(fault)
        return purged

    async def release(self, ownership: Ownership) -> None:
        """See `Store.release`."""
        fault = await self._before("release")
        await self._inner.release(ownership)
        await self._after(fault)

    async def describe(self) -> StoreInfo:
        """See `Store.describe`."""
        fault = await self._before("describe")
        info = await self._inner.describe()
        await self._after(fault)
        return info

    async def _before(self, verb: StoreVerb) -> _Fault | None:
        """Raise what was planned for this call; return it instead if it comes after the call."""
        fault = self._due(verb)
        if self._suspends:
            await trio.lowlevel.checkpoint()
        if fault is not None and not fault.applied:
            raise fault.error()
        return fault

    async def _after(self, fault: _Fault | None) -> None:
        if self._suspends:
            await trio.lowlevel.checkpoint()
        if fault is not None:
            raise fault.error()

    def _due(self, verb: StoreVerb) -> _Fault | None:
        """Count a call; return the first fault that was planned for it."""
        due: _Fault | None = None
        for fault in [planned for planned in self._planned if planned.verb == verb]:
            if fault.skip:
                fault.skip -= 1
            else:
                due = due or fault
                fault.times -= 1
                if not fault.times:
                    self._planned.remove(fault)
        self.faults += due is not None
        return due
