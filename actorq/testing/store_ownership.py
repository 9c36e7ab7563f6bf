"""The sentences of the contract about owners, their notes, and what comes before and after."""

from __future__ import annotations

from msgspec.structs import replace

from actorq.contracts.store import Store
from actorq.model.records import Ownership, Pause, Window
from actorq.testing.samples import (
    NOW,
    PARTITION,
    TTL,
    deleted,
    ended,
    everything,
    fenced,
    fetched,
    head,
    limit,
    live,
    loaded,
    noted,
    own,
    pause,
    paused,
    record,
)  # fmt: skip


class OwnershipSentences:
    """A part of `StoreContract`."""

    # --- ownership -------------------------------------------------------------------------------

    async def test_a_new_ownership_has_a_higher_epoch_than_every_earlier_one(
        self, store: Store
    ) -> None:
        """And it carries the partition and the nonce that it was asked for."""
        former: list[int] = []
        for nonce in ("a", "b", "c"):
            ownership = await own(store, nonce)
            assert (ownership.partition, ownership.nonce) == (PARTITION, nonce)
            assert all(ownership.epoch > epoch for epoch in former)
            former.append(ownership.epoch)
            await store.release(ownership)

    async def test_two_owners_are_never_alive_at_once(self, store: Store) -> None:
        """A second one is refused, or it ends the first."""
        first = await own(store, "a")
        second = await store.acquire(PARTITION, "b", TTL)
        if second is None:
            await store.commit(first, [live(1)])
        else:
            assert second.epoch > first.epoch
            assert await fenced(store.commit(first, [live(1)]))

    async def test_whoever_owns_it_may_begin_anew_at_once(self, store: Store) -> None:
        """By the same store object nobody else can be alive: nothing has to be waited for."""
        first = await own(store, "a")
        second = await own(store, "b")

        assert second.epoch > first.epoch
        assert await fenced(store.commit(first, [live(1)]))
        await store.commit(second, [live(2)])

    async def test_a_new_ownership_ends_all_earlier_ones(self, store: Store) -> None:
        """The first is over too when a third has come."""
        first = await own(store, "a", ttl=0.0)
        second = await own(store, "b", ttl=0.0)
        await own(store, "c")

        assert await fenced(store.commit(first, [live(1)]))
        assert await fenced(store.commit(second, [live(1)]))

    async def test_ownership_is_compared_by_epoch_and_nonce(self, store: Store) -> None:
        """Either alone is not enough: a store that fails over may hand out an epoch twice."""
        owner = await own(store, "a")

        assert await fenced(store.commit(replace(owner, nonce="b"), [live(1)]))
        assert await fenced(store.commit(replace(owner, epoch=owner.epoch + 1), [live(1)]))
        assert await fenced(store.commit(replace(owner, epoch=owner.epoch - 1), [live(1)]))
        await store.commit(owner, [live(1)])

    async def test_whoever_never_acquired_is_fenced(self, store: Store) -> None:
        """Also where nobody ever did."""
        assert await fenced(store.commit(Ownership(PARTITION, 1, "a"), [live(1)]))

    async def test_an_ownership_of_one_partition_is_none_of_another(self, store: Store) -> None:
        """Even with the same epoch and nonce."""
        owner = await own(store, "a")

        assert await fenced(store.commit(replace(owner, partition="01"), [live(1)]))

    async def test_a_fenced_commit_changes_nothing(self, store: Store) -> None:
        """Neither what it would add nor what it would change or delete."""
        former = await own(store, "a", ttl=0.0)
        await store.commit(former, [live(1), ended(2)])
        before = await everything(store)
        owner = await own(store, "b")

        assert await fenced(store.commit(former, [ended(1), deleted(2), live(3)]))
        assert await everything(store) == before
        assert await loaded(store, owner) == [head(1)]

    async def test_a_fenced_purge_changes_nothing(self, store: Store) -> None:
        """It raises, and every record is still there."""
        former = await own(store, "a", ttl=0.0)
        await store.commit(former, [ended(1)])
        await own(store, "b")

        assert await fenced(store.purge(former, NOW * 2, 0))
        assert len(await everything(store)) == 1

    async def test_a_fenced_load_raises(self, store: Store) -> None:
        """Rather than to show a partition that somebody else is changing."""
        former = await own(store, "a", ttl=0.0)
        await own(store, "b")

        assert await fenced(loaded(store, former))

    async def test_release_gives_the_ownership_up(self, store: Store) -> None:
        """Another one can acquire at once, and the former owner is fenced."""
        former = await own(store, "a")
        await store.release(former)

        assert await fenced(store.commit(former, [live(1)]))
        assert await store.acquire(PARTITION, "b", TTL) is not None

    async def test_release_is_harmless_when_the_ownership_is_over(self, store: Store) -> None:
        """It may come twice, and late: the next owner stays."""
        former = await own(store, "a")
        await store.release(former)
        await store.release(former)
        owner = await own(store, "b")
        await store.release(former)

        await store.commit(owner, [live(1)])

    async def test_records_outlive_their_owner(self, store: Store) -> None:
        """The next one finds what the former one wrote."""
        former = await own(store, "a")
        await store.commit(former, [live(1), ended(2)])
        await store.release(former)
        owner = await own(store, "b")

        assert await loaded(store, owner) == [head(1)]
        assert await fetched(store, 2) == [record(ended(2))]

    # --- what an ownership says ------------------------------------------------------------------

    async def test_every_owner_of_a_partition_is_told_the_same_lineage(self, store: Store) -> None:
        """It names the records, so it lasts as long as they do."""
        former = await own(store, "a")
        await store.commit(former, [live(1)])
        await store.release(former)
        owner = await own(store, "b")

        assert owner.lineage == former.lineage != ""

    async def test_an_owner_is_told_when_the_newest_record_was_submitted(
        self, store: Store
    ) -> None:
        """Of all that were ever kept, also if it was forgotten since."""
        former = await own(store, "a")
        assert former.stamp == 0.0
        await store.commit(former, [live(1), ended(7), live(3)])
        await store.commit(former, [deleted(7), live(2)])
        await store.release(former)

        assert (await own(store, "b")).stamp == NOW + 7

    async def test_an_owner_is_told_until_when_records_were_forgotten(self, store: Store) -> None:
        """The newest one that was deleted, live or ended; what is there still does not count."""
        former = await own(store, "a")
        assert former.forgotten_until == 0.0
        await store.commit(former, [live(1), ended(2), live(3), ended(4)])
        await store.commit(former, [deleted(2), deleted(9)])
        await store.release(former)
        second = await own(store, "b")
        assert second.forgotten_until == NOW + 2
        await store.commit(second, [deleted(3), deleted(1)])
        await store.release(second)

        assert (await own(store, "c")).forgotten_until == NOW + 3

    # --- notes -----------------------------------------------------------------------------------

    async def test_a_note_is_kept_until_it_is_deleted(self, store: Store) -> None:
        """Under its kind and its name; a newer one replaces it."""
        owner = await own(store)
        await store.commit(owner, [], [pause("a"), pause("b"), limit("a", (NOW, 1))])
        await store.commit(owner, [live(1)], [pause("a", NOW + 1), paused("b", None)])

        assert await noted(store, owner) == [limit("a", (NOW, 1)), pause("a", NOW + 1)]

    async def test_the_same_notes_twice_are_as_good_as_once(self, store: Store) -> None:
        """Also those that delete."""
        owner = await own(store)
        await store.commit(owner, [], [pause("a")])
        for _ in range(2):
            await store.commit(owner, [], [paused("a", None), pause("b"), paused("c", None)])

        assert await noted(store, owner) == [pause("b")]

    async def test_notes_outlive_their_owner(self, store: Store) -> None:
        """The next one finds them; the former one does not any more."""
        former = await own(store, "a")
        await store.commit(former, [], [pause("a")])
        await store.release(former)
        owner = await own(store, "b")

        assert await noted(store, owner) == [pause("a")]
        assert await fenced(store.notes(former))

    async def test_a_fenced_commit_changes_no_note(self, store: Store) -> None:
        """Neither what it would add nor what it would delete."""
        former = await own(store, "a", ttl=0.0)
        await store.commit(former, [], [pause("a")])
        owner = await own(store, "b")

        assert await fenced(store.commit(former, [], [pause("b"), paused("a", None)]))
        assert await noted(store, owner) == [pause("a")]

    async def test_notes_of_partitions_are_strangers(self, store: Store) -> None:
        """Also under the same name."""
        owner = await own(store, "a")
        other = await store.acquire("01", "b", TTL)
        assert other is not None
        await store.commit(owner, [], [pause("a")])
        await store.commit(other, [], [pause("a", NOW + 1), pause("b")])

        assert await noted(store, owner) == [pause("a")]

    async def test_notes_are_what_they_were(self, store: Store) -> None:
        """Every kind, in every detail."""
        owner = await own(store)
        notes = [limit("key", (NOW, 2), (NOW + 0.25, 1)), pause("queue", NOW + 0.125)]
        await store.commit(owner, [], notes)
        window, since = await noted(store, owner)

        assert isinstance(window.value, Window)
        assert isinstance(since.value, Pause)
        assert [window, since] == notes

    # --- open, close and describe ----------------------------------------------------------------

    async def test_open_and_close_are_harmless_twice(self, store: Store) -> None:
        """In any order."""
        await store.open()
        await store.open()
        await store.close()
        await store.close()
        await store.open()

        assert await everything(store) == []

    async def test_a_store_that_was_closed_has_what_was_committed(self, store: Store) -> None:
        """Records, notes, and what an owner is told."""
        former = await own(store, "a")
        await store.commit(former, [live(1), ended(2), live(3)], [pause("a")])
        await store.commit(former, [deleted(3)])
        await store.release(former)
        await store.close()
        await store.open()
        owner = await own(store, "b")

        assert owner.epoch > former.epoch
        assert (owner.lineage, owner.forgotten_until) == (former.lineage, NOW + 3)
        assert await everything(store) == [record(ended(2)), record(live(1))]
        assert await noted(store, owner) == [pause("a")]

    async def test_everybody_can_ask_what_a_store_is(self, store: Store) -> None:
        """Where it is, and whether anybody owns it."""
        assert (await store.describe()).owner is None
        owner = await own(store)
        info = await store.describe()
        assert "://" in info.url
        assert info.owner
        await store.release(owner)

        assert (await store.describe()).owner is None
