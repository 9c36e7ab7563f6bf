"""Each store here breaks one sentence about what has ended, and its test says so."""

from collections.abc import Collection, Sequence

import pytest
from msgspec.structs import replace

from actorq.model.filters import Filter
from actorq.model.records import Ownership, Purged, Record
from actorq.stores.memory import MemoryStore
from tests.testing.sentences import breaks


class FetchIsNoUse(MemoryStore):
    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        kept = self._partitions.get(partition)
        before = list(kept.ended) if kept else []
        records = await super().fetch(partition, ids)
        for id in before:
            if kept:
                kept.ended.move_to_end(id)
        return records


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


class FindsLiveKeys(MemoryStore):
    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        page = await self.find(partition, Filter(), None, 1_000)
        by_key = {record.head.options.key: record for record in reversed(page.records)}
        return [by_key.get(key) for key in keys]


class FindsTheOldestOfAKey(MemoryStore):
    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        kept = self._partitions.get(partition)
        ids = {key: ids[0] for key, ids in kept.keyed.items()} if kept else {}
        return [(await self.fetch(partition, [ids[k]]))[0] if k in ids else None for k in keys]


class KeysOfAllPartitions(MemoryStore):
    async def fetch_keyed(self, partition: str, keys: Sequence[str]) -> list[Record | None]:
        return await super().fetch_keyed(next(iter(self._partitions), partition), keys)


class SparesNothing(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        return await super().purge(ownership, before, keep)


class CountsWhatItSpares(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        ended = self._partitions[ownership.partition].ended
        spared = sum(id in ended for id in spare)
        purged = await super().purge(ownership, before, max(keep - spared, 0), spare)
        return replace(purged, left=len(ended))


class CountsKeys(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        kept = self._partitions[ownership.partition]
        purged = await super().purge(ownership, before, max(keep - kept.keyed_count, 0), spare)
        return replace(purged, left=purged.left + kept.keyed_count)


class PurgesKeysToo(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        purged = await super().purge(ownership, before, keep, spare)
        kept = self._partitions[ownership.partition]
        for id in [id for ids in kept.keyed.values() for id in ids][keep:]:
            kept.forget(id)
        return purged


class ForgetsSilently(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        kept = self._partitions[ownership.partition]
        until = kept.forgotten_until
        purged = await super().purge(ownership, before, keep, spare)
        kept.forgotten_until = until
        return replace(purged, forgotten_until=until)


class SaysNothingOfKeys(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        purged = await super().purge(ownership, before, keep, spare)
        return purged if purged.left else replace(purged, next=None)


class PurgesTheFirstFewOnly(MemoryStore):
    async def purge(
        self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
    ) -> Purged:
        ended = self._partitions[ownership.partition].ended_count
        return await super().purge(ownership, 0.0, max(keep, ended - 500), spare)


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (FetchIsNoUse, "an_ended_record_that_is_fetched_counts_as_used"),
        (PurgesForAnybody, "a_fenced_purge_changes_nothing"),
        (PurgesByNumberOnly, "purge_forgets_what_is_to_be_kept_until_then_or_earlier"),
        (PurgesByNumberOnly, "purge_goes_by_the_newest_end"),
        (PurgesByTimeOnly, "purge_leaves_at_most_keep_ended_records"),
        (PurgesALittleEarly, "purge_forgets_what_is_to_be_kept_until_then_or_earlier"),
        (PurgesByNumberFirst, "purge_takes_by_time_first_and_by_number_then"),
        (SaysHowManyItForgot, "purge_counts_no_record_that_was_deleted"),
        (FindsLiveKeys, "an_ended_record_is_found_by_its_key"),
        (FindsLiveKeys, "a_key_follows_every_change_of_its_record"),
        (FindsTheOldestOfAKey, "of_several_records_with_one_key_the_last_to_end_is_found"),
        (KeysOfAllPartitions, "keys_of_partitions_are_strangers"),
        (SparesNothing, "purge_takes_nothing_that_is_to_be_spared"),
        (CountsWhatItSpares, "purge_takes_nothing_that_is_to_be_spared"),
        (CountsWhatItSpares, "what_is_kept_anyway_pushes_nothing_out"),
        (CountsKeys, "what_is_kept_anyway_pushes_nothing_out"),
        (PurgesKeysToo, "purge_never_takes_a_keyed_record_before_its_time"),
        (SaysNothingOfKeys, "purge_says_when_the_next_record_is_over"),
        (ForgetsSilently, "purge_says_until_when_records_were_forgotten"),
        (PurgesTheFirstFewOnly, "purge_forgets_any_number_in_the_end"),
    ],
)
async def test_a_store_that_breaks_a_sentence_fails_its_test(
    store: type[MemoryStore], sentence: str
) -> None:
    await breaks(store, sentence)
