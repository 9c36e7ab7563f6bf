"""Each store here breaks one sentence about owners and notes, and its test says so."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from actorq.model.records import Note, Ownership, Pause, StoreInfo, Write
from actorq.stores.memory import MemoryStore
from tests.testing.sentences import breaks


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


class WaitsForItself(MemoryStore):
    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        kept = self._partitions.get(partition)
        if kept is not None and kept.owner is not None and ttl:
            return None
        return await super().acquire(partition, nonce, ttl)


class NeverReleased(MemoryStore):
    async def release(self, ownership: Ownership) -> None:
        """Forgotten."""


class ReleasesTheNextOwner(MemoryStore):
    async def release(self, ownership: Ownership) -> None:
        self._partitions[ownership.partition].owner = None


class AnotherLineageEachTime(MemoryStore):
    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        owner = await super().acquire(partition, nonce, ttl)
        return owner and replace(owner, lineage=nonce)


class ForgetsWhatItForgot(MemoryStore):
    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        owner = await super().acquire(partition, nonce, ttl)
        return owner and replace(owner, forgotten_until=0.0)


class StampsWhatIsThereOnly(MemoryStore):
    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        owner = await super().acquire(partition, nonce, ttl)
        records = self._partitions[partition].records.values()
        return owner and replace(
            owner, stamp=max((kept.head.submitted_at for kept in records), default=0.0)
        )


class NotesForAnybody(MemoryStore):
    async def notes(self, ownership: Ownership) -> list[Note]:
        return list(self._partitions[ownership.partition].notes.values())


class NotesByName(MemoryStore):
    async def notes(self, ownership: Ownership) -> list[Note]:
        return list({note.name: note for note in await super().notes(ownership)}.values())


class NotesAreForever(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        await super().commit(ownership, writes, [note for note in notes if note.value is not None])


class NotesOfOthers(MemoryStore):
    async def notes(self, ownership: Ownership) -> list[Note]:
        await super().notes(ownership)
        return [note for kept in self._partitions.values() for note in kept.notes.values()]


class NotesBeforeItLooks(MemoryStore):
    async def commit(
        self, ownership: Ownership, writes: Sequence[Write], notes: Sequence[Note] = ()
    ) -> None:
        kept = self._partitions.get(ownership.partition)
        for note in notes:
            if kept is not None and note.value is not None:
                kept.notes[note.kind, note.name] = note
        await super().commit(ownership, writes, notes)


class RoundsItsNotes(MemoryStore):
    async def notes(self, ownership: Ownership) -> list[Note]:
        return [
            replace(note, value=Pause(round(note.value.at)))
            if isinstance(note.value, Pause)
            else note
            for note in await super().notes(ownership)
        ]


class EmptyWhenClosed(MemoryStore):
    async def close(self) -> None:
        for kept in self._partitions.values():
            kept.records.clear()


class ClosedForGood(MemoryStore):
    closed = False

    async def close(self) -> None:
        self.closed = True

    async def open(self) -> None:
        if self.closed:
            raise ValueError("it was closed")


class OwnedByNobody(MemoryStore):
    async def describe(self) -> StoreInfo:
        return replace(await super().describe(), owner=None)


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
        (WaitsForItself, "whoever_owns_it_may_begin_anew_at_once"),
        (NeverReleased, "release_gives_the_ownership_up"),
        (ReleasesTheNextOwner, "release_is_harmless_when_the_ownership_is_over"),
        (AnotherLineageEachTime, "every_owner_of_a_partition_is_told_the_same_lineage"),
        (ForgetsWhatItForgot, "an_owner_is_told_until_when_records_were_forgotten"),
        (StampsWhatIsThereOnly, "an_owner_is_told_when_the_newest_record_was_submitted"),
        (NotesForAnybody, "notes_outlive_their_owner"),
        (NotesByName, "a_note_is_kept_until_it_is_deleted"),
        (NotesAreForever, "a_note_is_kept_until_it_is_deleted"),
        (NotesAreForever, "the_same_notes_twice_are_as_good_as_once"),
        (NotesOfOthers, "notes_of_partitions_are_strangers"),
        (NotesBeforeItLooks, "a_fenced_commit_changes_no_note"),
        (RoundsItsNotes, "notes_are_what_they_were"),
        (EmptyWhenClosed, "a_store_that_was_closed_has_what_was_committed"),
        (ClosedForGood, "open_and_close_are_harmless_twice"),
        (OwnedByNobody, "everybody_can_ask_what_a_store_is"),
    ],
)
async def test_a_store_that_breaks_a_sentence_fails_its_test(
    store: type[MemoryStore], sentence: str
) -> None:
    await breaks(store, sentence)
