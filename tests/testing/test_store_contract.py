"""Each store here breaks one sentence of the contract, and the test of that sentence says so."""

from collections.abc import AsyncIterator, Collection, Sequence
from inspect import iscoroutinefunction

import pytest
import trio
from msgspec.structs import replace

from actorq.contracts.store import Found
from actorq.errors import Fenced
from actorq.model.filters import Filter
from actorq.model.records import Note, Ownership, Purged, Record, Write
from actorq.stores.memory import FoundRecords, MemoryStore
from actorq.testing import StoreContract
from actorq.testing.samples import PARTITION

SENTENCES = [name for name in dir(StoreContract) if name.startswith("test_")]


async def broken_sentences(store: type[MemoryStore]) -> list[str]:
    """Run the whole suite, with a fresh store for each test; return those that fail."""
    failed = []
    for sentence in SENTENCES:
        try:
            await getattr(StoreContract(), sentence)(store())
        except (AssertionError, Fenced, ExceptionGroup, KeyError, ValueError):
            failed.append(sentence)
    return failed


def test_every_sentence_is_a_test() -> None:
    assert len(SENTENCES) > 30
    assert all(iscoroutinefunction(getattr(StoreContract, sentence)) for sentence in SENTENCES)


async def test_the_suite_finds_nothing_in_a_store_that_keeps_the_contract() -> None:
    assert await broken_sentences(MemoryStore) == []


class Unfenced(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        kept = self._partitions.get(ownership.partition)
        await super().commit((kept and kept.owner) or ownership, writes, notes)


class OwnedByWhoeverComes(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        if ownership.partition not in self._partitions:
            await self.acquire(ownership.partition, ownership.nonce, 60.0)
            ownership = self._partitions[ownership.partition].owner or ownership
        await super().commit(ownership, writes, notes)


class FencedByEpochOnly(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        owner = self._partitions[ownership.partition].owner
        if owner is not None and owner.epoch == ownership.epoch:
            ownership = owner
        await super().commit(ownership, writes, notes)


class FencedTooLate(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        owner = self._partitions[ownership.partition].owner
        if owner is not None and owner != ownership:
            await super().commit(owner, writes, notes)
        await super().commit(ownership, writes, notes)


class EpochsThatStandStill(MemoryStore):
    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        if partition in self._partitions:
            self._partitions[partition].epoch -= 1
        return await super().acquire(partition, nonce, ttl)


class NeverReleased(MemoryStore):
    async def release(self, ownership: Ownership) -> None:
        """Forgotten."""


class ReleasesTheNextOwner(MemoryStore):
    async def release(self, ownership: Ownership) -> None:
        self._partitions[ownership.partition].owner = None


class HalfACommit(MemoryStore):
    immediate = False

    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        for write in writes:
            await super().commit(ownership, [write], notes)
            await trio.lowlevel.checkpoint()


class RefusesTheSameAgain(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        for write in writes:
            if (
                write.head is None
                and (await self.fetch(ownership.partition, [write.id]))[0] is None
            ):
                raise KeyError(write.id)
        await super().commit(ownership, writes, notes)


class UnsetIsNone(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        full = [Write(w.id, w.head, w.body or None, w.output or None) for w in writes]
        await super().commit(ownership, full, notes)


class DeletesNothing(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        await super().commit(ownership, [write for write in writes if write.head is not None], notes)


class LoadsEverything(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncIterator[Sequence[Record]]:
        async for piece in super().load(ownership):
            yield piece
        records = await self.fetch(ownership.partition, list(self._partitions[PARTITION].ended))
        yield [record for record in records if record is not None]


class LoadsTwice(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncIterator[Sequence[Record]]:
        for _ in range(2):
            async for piece in super().load(ownership):
                yield piece


class LoadsForAnybody(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncIterator[Sequence[Record]]:
        async for piece in super().load(self._partitions[ownership.partition].owner or ownership):
            yield piece


class FetchesWhatThereIs(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        return [record for record in await super().fetch(partition, ids) if record is not None]


class FetchesItsOwn(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        await super().fetch(partition, ids)
        kept = self._partitions.get(partition)
        return [kept and kept.records.get(id) for id in ids]


class FetchIsNoUse(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        kept = self._partitions.get(partition)
        before = list(kept.ended) if kept else []
        records = await super().fetch(partition, ids)
        for id in before:
            if kept:
                kept.ended.move_to_end(id)
        return records


class Finder(MemoryStore):
    """Changes the question or the answer of `find`."""

    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        return filter, cursor, limit

    def answer(self, page: FoundRecords) -> FoundRecords:
        return page

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        return self.answer(await super().find(partition, *self.ask(filter, cursor, limit)))


class FindsTheOldestFirst(Finder):
    def answer(self, page: FoundRecords) -> FoundRecords:
        return FoundRecords(page.records[::-1], page.next, page.scanned)


class FindsOneTooMany(Finder):
    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        return filter, cursor, limit + 1


class FindsTheCursorAgain(Finder):
    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        return filter, cursor and cursor + "~", limit


class StopsAfterOnePage(Finder):
    def answer(self, page: FoundRecords) -> FoundRecords:
        return FoundRecords(page.records, None, page.scanned)


class IgnoresTheQueue(Finder):
    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        return replace(filter, queue=None), cursor, limit


class CountsNothing(Finder):
    def answer(self, page: FoundRecords) -> FoundRecords:
        return FoundRecords(page.records, page.next, 0)


class PurgesForAnybody(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        owner = self._partitions[ownership.partition].owner
        return await super().purge(owner or ownership, before, keep, spare)


class PurgesByNumberOnly(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        return await super().purge(ownership, 0.0, keep, spare)


class PurgesByTimeOnly(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        return await super().purge(ownership, before, 1_000_000, spare)


class PurgesALittleEarly(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        return await super().purge(ownership, before + 1, keep, spare)


class PurgesByNumberFirst(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        await super().purge(ownership, 0.0, keep, spare)
        return await super().purge(ownership, before, keep, spare)


class SaysHowManyItForgot(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        ended = len(self._partitions[ownership.partition].ended)
        purged = await super().purge(ownership, before, keep, spare)
        return replace(purged, left=ended - purged.left)


class OnePartitionForAll(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        return await super().fetch(next(iter(self._partitions), partition), ids)

    async def find(self, partition: str, filter: Filter, cursor: str | None, limit: int) -> Found:
        last = next(reversed(self._partitions), partition)
        return await super().find(last, filter, cursor, limit)


class KnowsNoUnknownPartition(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        if partition not in self._partitions:
            raise KeyError(partition)
        return await super().fetch(partition, ids)


class ImmediateInNameOnly(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        await trio.lowlevel.checkpoint()
        await super().commit(ownership, writes, notes)


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (Unfenced, "a_new_ownership_ends_all_earlier_ones"),
        (OwnedByWhoeverComes, "whoever_never_acquired_is_fenced"),
        (OwnedByWhoeverComes, "an_ownership_of_one_partition_is_none_of_another"),
        (FencedByEpochOnly, "ownership_is_compared_by_epoch_and_nonce"),
        (FencedTooLate, "a_fenced_commit_changes_nothing"),
        (EpochsThatStandStill, "a_new_ownership_has_a_higher_epoch_than_every_earlier_one"),
        (EpochsThatStandStill, "two_owners_are_never_alive_at_once"),
        (NeverReleased, "release_gives_the_ownership_up"),
        (ReleasesTheNextOwner, "release_is_harmless_when_the_ownership_is_over"),
        (HalfACommit, "a_commit_is_seen_as_a_whole_or_not_at_all"),
        (HalfACommit, "a_cancelled_commit_applies_all_or_nothing"),
        (RefusesTheSameAgain, "the_same_writes_twice_are_as_good_as_once"),
        (UnsetIsNone, "what_a_write_leaves_unset_is_kept"),
        (DeletesNothing, "a_write_without_a_head_deletes_the_record"),
        (DeletesNothing, "a_deleted_id_may_come_again"),
        (LoadsEverything, "load_yields_exactly_the_live_heads"),
        (LoadsEverything, "a_record_that_ends_is_not_loaded_any_more"),
        (LoadsTwice, "load_yields_exactly_the_live_heads"),
        (LoadsForAnybody, "a_fenced_load_raises"),
        (FetchesWhatThereIs, "fetch_answers_for_each_id_in_its_place"),
        (FetchesItsOwn, "what_fetch_and_find_return_are_copies"),
        (FetchIsNoUse, "an_ended_record_that_is_fetched_counts_as_used"),
        (FindsTheOldestFirst, "find_returns_the_newest_ids_first"),
        (FindsOneTooMany, "find_returns_at_most_limit_records"),
        (FindsTheCursorAgain, "find_returns_ids_below_the_cursor"),
        (StopsAfterOnePage, "pages_show_every_match_once"),
        (IgnoresTheQueue, "find_filters_by_every_field"),
        (CountsNothing, "find_returns_at_most_limit_records"),
        (PurgesForAnybody, "a_fenced_purge_changes_nothing"),
        (PurgesByNumberOnly, "purge_forgets_what_is_to_be_kept_until_then_or_earlier"),
        (PurgesByNumberOnly, "purge_goes_by_the_newest_end"),
        (PurgesByTimeOnly, "purge_leaves_at_most_keep_ended_records"),
        (PurgesALittleEarly, "purge_forgets_what_is_to_be_kept_until_then_or_earlier"),
        (PurgesByNumberFirst, "purge_takes_by_time_first_and_by_number_then"),
        (SaysHowManyItForgot, "purge_counts_no_record_that_was_deleted"),
        (OnePartitionForAll, "partitions_are_strangers"),
        (KnowsNoUnknownPartition, "unknown_partitions_are_empty"),
        (ImmediateInNameOnly, "an_immediate_store_never_suspends"),
    ],
)
async def test_a_store_that_breaks_a_sentence_fails_its_test(
    store: type[MemoryStore], sentence: str
) -> None:
    broken = await broken_sentences(store)

    assert f"test_{sentence}" in broken
    assert len(broken) < len(SENTENCES) / 2, "the other sentences hold"
