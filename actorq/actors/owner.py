"""The right to write a partition: how it is got, kept and lost, and what becomes of a commit.

A commit is the same whenever it is tried, so one that fails, or whose outcome nobody knows, is
tried again for as long as the ownership lasts. It is never cancelled in the middle, and has no time
limit of its own: cut off, its outcome would be unknown to whoever looks next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar

import trio

from actorq.contracts.store import Store
from actorq.errors import OwnedElsewhere, StoreError, StoreUnavailable
from actorq.model.events import EventKind
from actorq.model.ids import PARTITION
from actorq.model.records import Note, Ownership, Purged, Write
from actorq.model.results import StoreStats

OWNERSHIP_TTL = 10.0
"""Seconds that an ownership lasts after the last commit began."""

RENEW_EVERY = OWNERSHIP_TTL / 3
"""Seconds after which an idle owner makes a commit of nothing."""

LOOK_EVERY = 0.1
"""Seconds between two looks of a standby whether the owner is gone."""

PEOPLE_WAIT = 1.0
"""Seconds for which a question of people is put to the store."""

_PATIENCE = 1.0
"""Seconds for which a store that cannot be had is nobody's business."""

_FRESH = 0.6 * OWNERSHIP_TTL
_AGAIN_FIRST, _AGAIN_MAX = 0.02, 0.5
_RELEASE_MAX = 5.0


T = TypeVar("T")


class GivenUp(StoreUnavailable):
    """The store could not be had for as long as the ownership lasted."""


class Owner:
    """One incarnation of the owner of a partition, before, while and after it is that."""

    def __init__(self, store: Store, nonce: str, tell: Callable[..., None]) -> None:
        self.store: Store = store
        self.ownership: Ownership | None = None
        self._nonce = nonce
        self._tell = tell
        self._competes = store.durable
        self._began = -inf
        """When the last commit that succeeded began."""
        self._commits = self._writes = 0
        self._seconds = self._slowest = 0.0

    @property
    def renew_at(self) -> float:
        """When a commit of nothing is due, in trio's time; never if nobody can take it over."""
        return self._began + RENEW_EVERY if self._competes else inf

    @property
    def fresh(self) -> bool:
        """Whether nobody else can be the owner by now, so that answers are still true.

        A process that was stopped and goes on may have been succeeded.
        """
        return not self._competes or trio.current_time() - self._began < _FRESH

    async def acquire(self, stand_by: Callable[[StoreUnavailable], None], *, first: bool) -> None:
        """Return as the owner; until then say by ``stand_by``, each time it changes, why not.

        Raises:
            StoreUnavailable: At the ``first`` look: then somebody should know.
            CorruptStore: There is nothing to be owned.
        """
        said = ""
        why: StoreUnavailable
        trouble: float | None = None
        while True:
            now = trio.current_time()
            try:
                self.ownership = await self.store.acquire(PARTITION, self._nonce, OWNERSHIP_TTL)
                if self.ownership is not None:
                    self._began = now
                    return
                why = OwnedElsewhere(f"another process owns the store{await self._by_whom()}")
                trouble = None
            except StoreUnavailable as error:
                if first:
                    raise
                why = error
                trouble = now if trouble is None else trouble
            first = False
            passing = trouble is not None and now - trouble < _PATIENCE
            if str(why) != said and not passing:
                said = str(why)
                self._tell(EventKind.STANDING_BY, why=said)
                stand_by(why)
            await trio.sleep(LOOK_EVERY)

    async def _by_whom(self) -> str:
        try:
            owner = (await self.store.describe()).owner
        except StoreUnavailable:
            owner = None
        return f" ({owner})" if owner else ""

    async def commit(self, writes: Sequence[Write], notes: Sequence[Note] = ()) -> None:
        """Write all of it, however often it takes.

        Raises:
            GivenUp: It did not succeed while the ownership lasted.
            Fenced: Somebody else is the owner.
            RowRefused: One record cannot be kept.
        """
        assert self.ownership is not None  # or there would be nothing to write
        ownership = self.ownership

        async def commit() -> float:
            began = trio.current_time()
            with trio.CancelScope(shield=True):
                await self.store.commit(ownership, writes, notes)
            return began

        self._began = began = await self.insist(commit)
        self._count(len(writes), trio.current_time() - began)

    async def renew(self) -> None:
        """Make a commit of nothing, if it is time for that."""
        if trio.current_time() >= self.renew_at:
            await self.commit(())

    async def insist(self, verb: Callable[[], Awaitable[T]], *, patience: float = inf) -> T:
        """Return what a verb of the store returns, however often it has to be tried.

        Raises:
            GivenUp: It did not succeed while the ownership lasted.
            StoreUnavailable: It did not succeed within ``patience`` seconds: for what only people
                want to know, and nobody else should wait for.
        """
        if self.store.immediate:
            return await verb()
        first = trio.current_time()
        wait, since = _AGAIN_FIRST, max(self._began, first - OWNERSHIP_TTL / 2)
        while True:
            began = trio.current_time()
            try:
                return await verb()
            except StoreUnavailable as error:
                if trio.current_time() >= first + patience:
                    raise
                if began >= since + OWNERSHIP_TTL:
                    raise GivenUp(str(error)) from error
                if wait == _AGAIN_FIRST:
                    self._tell(EventKind.STORE_UNAVAILABLE, error=str(error))
            await trio.sleep(wait)
            wait = min(2 * wait, _AGAIN_MAX)

    def _count(self, writes: int, seconds: float) -> None:
        self._commits += 1
        self._writes += writes
        self._seconds += seconds
        self._slowest = max(self._slowest, seconds)

    async def purge(self, before: float, keep: int, spare: Collection[str]) -> Purged | None:
        """Have results forgotten; None if it cannot be done now."""
        assert self.ownership is not None  # as for `commit`
        if self.store.immediate:
            return await self.store.purge(self.ownership, before, keep, spare)
        with suppress(StoreUnavailable), trio.CancelScope(shield=True):
            return await self.store.purge(self.ownership, before, keep, spare)
        return None

    async def stats(self) -> StoreStats | None:
        """Return what people see of the store; None if it does not tell now."""
        try:
            info = await self.insist(self.store.describe, patience=PEOPLE_WAIT)
        except StoreUnavailable:
            return None
        return StoreStats(
            url=info.url,
            size=info.size,
            commits=self._commits,
            seconds=self._seconds,
            slowest=self._slowest,
            writes=self._writes,
        )

    async def release(self) -> None:
        """Let the next one be the owner at once, if that can be done."""
        if self.ownership is None:
            return
        with trio.move_on_after(_RELEASE_MAX, shield=True), suppress(StoreError):
            await self.store.release(self.ownership)
