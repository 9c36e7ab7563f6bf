"""The sentences of the contract about what has ended: results by key, and their retention."""

from __future__ import annotations

from actorq.contracts.store import Store
from actorq.model.records import Purged
from actorq.testing.samples import (
    NOW,
    TTL,
    deleted,
    ended,
    fetched,
    found,
    keyed,
    live,
    own,
    purged,
    record,
    task_id,
)  # fmt: skip


class RetentionSentences:
    """A part of `StoreContract`."""

    notes_uses: bool = True
    """Whether a fetch counts as a use; for a store that writes to do so, that costs too much."""

    # --- results by key --------------------------------------------------------------------------

    async def test_an_ended_record_is_found_by_its_key(self, store: Store) -> None:
        """Each in the place of its key; a live one is not, nor is one without a key."""
        owner = await own(store)
        await store.commit(
            owner, [ended(1, key="a"), ended(2), live(3, key="c"), ended(4, key="d")]
        )

        assert await keyed(store, "d", "x", "c", "a", "d") == [
            record(ended(4, key="d")),
            None,
            None,
            record(ended(1, key="a")),
            record(ended(4, key="d")),
        ]

    async def test_of_several_records_with_one_key_the_last_to_end_is_found(
        self, store: Store
    ) -> None:
        """Whatever their ids say, which go by the clocks of clients; then the one before."""
        owner = await own(store)
        await store.commit(owner, [ended(3, key="a")])
        await store.commit(owner, [ended(2, key="a"), live(1, key="a")])
        assert await keyed(store, "a") == [record(ended(2, key="a"))]
        await store.commit(owner, [ended(1, key="a")])
        assert await keyed(store, "a") == [record(ended(1, key="a"))]
        await store.commit(owner, [deleted(1)])
        assert await keyed(store, "a") == [record(ended(2, key="a"))]
        await store.commit(owner, [deleted(2), deleted(3)])

        assert await keyed(store, "a") == [None]

    async def test_a_key_follows_every_change_of_its_record(self, store: Store) -> None:
        """One that is live again is not found, until it has ended again."""
        owner = await own(store)
        await store.commit(owner, [ended(1, key="a"), live(2, key="b")])
        await store.commit(owner, [live(1, key="a"), ended(2, key="b")])
        assert await keyed(store, "a", "b") == [None, record(ended(2, key="b"))]
        await store.commit(owner, [ended(1, key="a"), ended(2, key="b")])
        await store.commit(owner, [ended(2, key="b")])

        assert await keyed(store, "a") == [record(ended(1, key="a"))]
        assert (await purged(store, owner, NOW * 2, 100)).left == 0
        assert await keyed(store, "a", "b") == [None, None]

    async def test_keys_of_partitions_are_strangers(self, store: Store) -> None:
        """And those of an unknown one are not there."""
        other = await store.acquire("01", "b", TTL)
        assert other is not None
        await store.commit(other, [ended(1, key="a")])

        assert await keyed(store, "a") == [None]
        assert await store.fetch_keyed("7f", ["a", "b"]) == [None, None]

    # --- purge -----------------------------------------------------------------------------------

    async def test_purge_forgets_what_is_to_be_kept_until_then_or_earlier(
        self, store: Store
    ) -> None:
        """And nothing else; it returns how many records are left that a number could bound."""
        owner = await own(store)
        keep = {1: NOW + 10, 2: NOW + 30, 3: NOW + 20, 4: NOW + 20.5}
        await store.commit(owner, [ended(n, keep_until=until) for n, until in keep.items()])

        assert (await purged(store, owner, NOW + 20, 100)).left == 2
        assert await found(store) == [4, 2]

    async def test_purge_never_forgets_a_live_record(self, store: Store) -> None:
        """Nor one that has been made live again since it ended, nor does it count them."""
        owner = await own(store)
        await store.commit(owner, [live(1), ended(2)])
        await store.commit(owner, [live(2)])

        assert (await purged(store, owner, NOW * 2, 0)).left == 0
        assert await found(store) == [2, 1]

    async def test_purge_goes_by_the_newest_end(self, store: Store) -> None:
        """A record that was retried and ended again is kept until its new time."""
        owner = await own(store)
        await store.commit(owner, [ended(1, keep_until=NOW + 10)])
        await store.commit(owner, [live(1)])
        await store.commit(owner, [ended(1, keep_until=NOW + 50)])

        assert (await purged(store, owner, NOW + 20, 100)).left == 1
        assert (await purged(store, owner, NOW + 50, 100)).left == 0
        assert await found(store) == []

    async def test_purge_leaves_at_most_keep_ended_records(self, store: Store) -> None:
        """The least recently used go first: here those that ended first."""
        owner = await own(store)
        for number in (3, 1, 4, 2):
            await store.commit(owner, [ended(number)])

        assert (await purged(store, owner, 0.0, 2)).left == 2
        assert await found(store) == [4, 2]
        assert (await purged(store, owner, 0.0, 0)).left == 0
        assert await found(store) == []

    async def test_an_ended_record_that_is_fetched_counts_as_used(self, store: Store) -> None:
        """So it is kept longer than one that nobody asked for."""
        owner = await own(store)
        for number in (1, 2, 3):
            await store.commit(owner, [ended(number)])
        await fetched(store, 1)

        assert (await purged(store, owner, 0.0, 2)).left == 2
        assert await found(store) == ([3, 1] if self.notes_uses else [3, 2])

    async def test_purge_takes_by_time_first_and_by_number_then(self, store: Store) -> None:
        """What is over does not push out what is not."""
        owner = await own(store)
        for number, until in ((1, NOW + 50), (2, NOW + 10), (3, NOW + 10), (4, NOW + 50)):
            await store.commit(owner, [ended(number, keep_until=until)])

        assert (await purged(store, owner, NOW + 10, 2)).left == 2
        assert await found(store) == [4, 1]

    async def test_purge_says_when_the_next_record_is_over(self, store: Store) -> None:
        """Of all that have ended, also of those with a key or to be spared; None if none has."""
        owner = await own(store)
        assert (await purged(store, owner, NOW, 9)).next is None
        keep = ((1, "a", NOW + 10), (2, None, NOW + 20), (3, None, NOW + 30), (4, "b", NOW + 40))
        for number, key, until in keep:
            await store.commit(owner, [ended(number, key=key, keep_until=until)])
        assert (await purged(store, owner, NOW, 9)).next == NOW + 10
        await store.commit(owner, [live(1), deleted(2)])
        assert (await purged(store, owner, NOW, 9)).next == NOW + 30
        assert (await purged(store, owner, NOW + 30, 9, [task_id(3)])).next == NOW + 30
        assert (await purged(store, owner, NOW, 0)).next == NOW + 40

        assert (await purged(store, owner, NOW + 40, 0)).next is None

    async def test_purge_counts_no_record_that_was_deleted(self, store: Store) -> None:
        """Deleting one makes room for another."""
        owner = await own(store)
        await store.commit(owner, [ended(1), ended(2), ended(3)])
        await store.commit(owner, [deleted(3)])

        assert (await purged(store, owner, 0.0, 2)).left == 2
        assert await found(store) == [2, 1]

    async def test_purge_never_takes_a_keyed_record_before_its_time(self, store: Store) -> None:
        """However many there are; when its time has come it goes like any other."""
        owner = await own(store)
        await store.commit(owner, [ended(1, key="a"), ended(2, key="b", keep_until=NOW + 10)])
        await store.commit(owner, [ended(3)])

        assert (await purged(store, owner, 0.0, 0)).left == 0
        assert await found(store) == [2, 1]
        assert (await purged(store, owner, NOW + 10, 0)).left == 0
        assert await found(store) == [1]

    async def test_what_is_kept_anyway_pushes_nothing_out(self, store: Store) -> None:
        """Neither records with a key nor those to be spared count, however many there are."""
        owner = await own(store)
        await store.commit(owner, [ended(n, key=str(n)) for n in range(5)])
        await store.commit(owner, [ended(n) for n in range(5, 10)])
        needed = frozenset(task_id(n) for n in (2, 5, 6, 7, 20))

        assert await purged(store, owner, 0.0, 2, needed) == Purged(2, 0.0, next=NOW + 3_600)
        assert await found(store) == list(range(9, -1, -1))
        assert (await purged(store, owner, 0.0, 1, needed)).left == 1
        assert await found(store) == [9, *range(7, -1, -1)]
        await store.commit(owner, [live(9), deleted(0), ended(10), ended(1), ended(11, key="11")])
        assert (await purged(store, owner, 0.0, 2, needed)).left == 2
        await store.commit(owner, [ended(12, key="12")])
        assert (await purged(store, owner, 0.0, 5, needed)).left == 5

    async def test_purge_takes_nothing_that_is_to_be_spared(self, store: Store) -> None:
        """Neither by time nor by number; once nobody needs it, it goes."""
        owner = await own(store)
        writes = [ended(n, keep_until=NOW + 10) for n in (1, 2)] + [ended(n) for n in (3, 4, 5)]
        for write in writes:
            await store.commit(owner, [write])
        needed = frozenset({task_id(1), task_id(3), task_id(9)})

        assert (await purged(store, owner, NOW + 10, 2, needed)).left == 2
        assert await found(store) == [5, 4, 3, 1]
        assert (await purged(store, owner, 0.0, 0, needed)).left == 0
        assert await found(store) == [3, 1]
        assert (await purged(store, owner, NOW + 10, 1)).left == 1
        assert await found(store) == [3]
        assert (await purged(store, owner, NOW + 10, 0)).left == 0

    async def test_purge_says_until_when_records_were_forgotten(self, store: Store) -> None:
        """By time, by number or by a delete; it never goes back, and the next owner is told."""
        owner = await own(store)
        await store.commit(owner, [ended(n, keep_until=NOW + 100 - n) for n in (1, 2, 3, 4)])
        await store.commit(owner, [ended(5)])
        assert (await purged(store, owner, 0.0, 10)).forgotten_until == 0.0
        assert (await purged(store, owner, NOW + 96, 10)).forgotten_until == NOW + 4
        assert (await purged(store, owner, 0.0, 3)).forgotten_until == NOW + 4
        assert (await purged(store, owner, 0.0, 0)).forgotten_until == NOW + 5
        await store.commit(owner, [live(6)])
        await store.commit(owner, [deleted(6)])
        assert (await purged(store, owner, 0.0, 0)).forgotten_until == NOW + 6
        await store.release(owner)

        assert (await own(store, "b")).forgotten_until == NOW + 6

    async def test_purge_forgets_any_number_in_the_end(self, store: Store) -> None:
        """Whoever is told that there is more calls it again."""
        owner = await own(store)
        for start in range(0, 1_300, 650):
            numbers = range(start, start + 650)
            await store.commit(owner, [ended(n, keep_until=NOW + n % 2) for n in numbers])

        assert (await purged(store, owner, 0.0, 100)).left == 100
        assert await found(store) == list(range(1_299, 1_199, -1))
        assert (await purged(store, owner, NOW, 100)).left == 50
        assert await found(store) == list(range(1_299, 1_199, -2))
