"""Each store here breaks one sentence of the contract, and the test of that sentence says so."""

from collections.abc import AsyncGenerator, Sequence
from inspect import iscoroutinefunction

import pytest
import trio
from msgspec import UNSET
from msgspec.structs import replace

from actorq.contracts.store import Found
from actorq.model.filters import Filter
from actorq.model.records import Note, Ownership, Record, Write
from actorq.stores.memory import FoundRecords, MemoryStore
from actorq.testing import StoreContract
from actorq.testing.samples import PARTITION
from tests.testing.sentences import SENTENCES, breaks, broken_sentences


def test_every_sentence_is_a_test() -> None:
    assert len(SENTENCES) > 60
    assert all(iscoroutinefunction(getattr(StoreContract, sentence)) for sentence in SENTENCES)


async def test_the_suite_finds_nothing_in_a_store_that_keeps_the_contract() -> None:
    assert await broken_sentences(MemoryStore) == []


async def test_a_store_of_bytes_may_not_take_what_is_none() -> None:
    contract = StoreContract()
    await contract.test_a_record_that_cannot_be_kept_is_named_and_nothing_is_written(MemoryStore())
    contract.keeps_objects = False

    with pytest.raises(AssertionError):
        await contract.test_a_record_that_cannot_be_kept_is_named_and_nothing_is_written(
            MemoryStore()
        )


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
        await super().commit(
            ownership, [write for write in writes if write.head is not None], notes
        )


class LoadsEverything(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        async for piece in super().load(ownership):
            yield piece
        records = await self.fetch(ownership.partition, list(self._partitions[PARTITION].ended))
        yield [record for record in records if record is not None]


class LoadsTwice(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        for _ in range(2):
            async for piece in super().load(ownership):
                yield piece


class LoadsForAnybody(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
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


class LoadsNoBodies(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        async for piece in super().load(ownership):
            yield [Record(record.head) for record in piece]


class LoadsTheFirstPieceOnly(MemoryStore):
    async def load(self, ownership: Ownership) -> AsyncGenerator[Sequence[Record], None]:
        pieces = [piece async for piece in super().load(ownership)]
        yield pieces[0] if pieces else []


class EmptyIsNothing(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        full = [replace(w, body=None) if w.body == b"" else w for w in writes]
        await super().commit(ownership, full, notes)


class LosesLargeBodiesThatChange(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        await super().commit(ownership, writes, notes)
        for write in writes:
            kept = self._partitions[ownership.partition].records.get(write.id)
            if kept is not None and write.body is UNSET and len(kept.body or b"") > 1_000:
                kept.body = None


class EndsWithoutAnOutputAgain(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        await super().commit(ownership, writes, notes)
        for write in writes:
            if write.head is not None and write.head.keep_until is None:
                self._partitions[ownership.partition].outputs.pop(write.id, None)


class IgnoresTheKey(Finder):
    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        return replace(filter, key=None), cursor, limit


class TakesAHundredNames(Finder):
    def ask(self, filter: Filter, cursor: str | None, limit: int) -> tuple[Filter, str | None, int]:
        if len(filter.names or ()) > 100:
            raise ValueError("too many SQL variables")
        return filter, cursor, limit


class FindsNoMoreThanAHundred(Finder):
    def answer(self, page: FoundRecords) -> FoundRecords:
        return FoundRecords(page.records[:100], page.next, page.scanned)


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
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
        (FindsTheOldestFirst, "find_returns_the_newest_ids_first"),
        (FindsOneTooMany, "find_returns_at_most_limit_records"),
        (FindsTheCursorAgain, "find_returns_ids_below_the_cursor"),
        (StopsAfterOnePage, "pages_show_every_match_once"),
        (IgnoresTheQueue, "find_filters_by_every_field"),
        (CountsNothing, "find_returns_at_most_limit_records"),
        (OnePartitionForAll, "partitions_are_strangers"),
        (KnowsNoUnknownPartition, "unknown_partitions_are_empty"),
        (ImmediateInNameOnly, "an_immediate_store_never_suspends"),
        (LoadsNoBodies, "load_yields_bodies_in_pieces"),
        (LoadsTheFirstPieceOnly, "load_yields_bodies_in_pieces"),
        (EmptyIsNothing, "nothing_is_something_else_than_empty"),
        (LosesLargeBodiesThatChange, "a_large_body_is_kept_through_every_change"),
        (EndsWithoutAnOutputAgain, "an_output_is_kept_by_a_record_that_is_live_again"),
        (IgnoresTheKey, "find_filters_by_key"),
        (TakesAHundredNames, "a_filter_may_have_very_many_names_or_ids"),
        (FindsNoMoreThanAHundred, "find_shows_all_that_fits_among_many"),
    ],
)
async def test_a_store_that_breaks_a_sentence_fails_its_test(
    store: type[MemoryStore], sentence: str
) -> None:
    await breaks(store, sentence)
