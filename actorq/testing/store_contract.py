"""The sentences of `actorq.contracts.store`, each as a test that a store passes or fails."""

from __future__ import annotations

import trio

from actorq.contracts.store import Store
from actorq.model.filters import SEVERAL_MAX, Filter
from actorq.model.records import Output, Record, Write
from actorq.model.status import TaskStatus
from actorq.testing.samples import (
    EVERYTHING,
    NOW,
    PARTITION,
    TTL,
    at_once,
    deleted,
    ended,
    everything,
    fenced,
    fetched,
    found,
    head,
    live,
    loaded,
    loaded_records,
    noted,
    own,
    pause,
    paused,
    record,
    refused,
    task_id,
)  # fmt: skip
from actorq.testing.store_ownership import OwnershipSentences
from actorq.testing.store_retention import RetentionSentences

_CANCELLED_AT_MOST = 8
_LOOKS_AT_MOST = 10_000


class StoreContract(OwnershipSentences, RetentionSentences):
    """Proves a store. Subclass it in a test file, with a fixture that opens an empty store.

    ::

        class TestMyStore(StoreContract):
            @pytest.fixture
            async def store(self, tmp_path):
                async with open_my_store(tmp_path / "tasks.db") as store:
                    yield store

    pytest-trio runs it in its ``trio_mode``. To see in full what a failed assertion compared, call
    ``pytest.register_assert_rewrite("actorq.testing.store_contract")`` in ``conftest.py``; its
    neighbours are `actorq.testing.store_ownership` and `actorq.testing.store_retention`.
    """

    keeps_objects: bool = True
    """Whether a body may be any object; a store that keeps bytes refuses what is not a call."""

    # --- commit ----------------------------------------------------------------------------------

    async def test_a_commit_is_visible_to_every_later_call(self, store: Store) -> None:
        """To `load`, `fetch` and `find`."""
        owner = await own(store)
        await store.commit(owner, [live(1)])

        assert await loaded(store, owner) == [head(1)]
        assert await fetched(store, 1) == [record(live(1))]
        assert await everything(store) == [record(live(1))]

    async def test_a_commit_is_seen_as_a_whole_or_not_at_all(self, store: Store) -> None:
        """By those who look while it is under way."""
        owner = await own(store)
        ids = [task_id(n) for n in range(100)]
        seen: set[int] = set()

        async def look() -> None:
            for _ in range(_LOOKS_AT_MOST):
                seen.add(sum(r is not None for r in await store.fetch(PARTITION, ids)))
                if 100 in seen:
                    return
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.lowlevel.checkpoint()
            await store.commit(owner, [live(n) for n in range(100)])

        assert 100 in seen
        assert seen <= {0, 100}

    async def test_a_cancelled_commit_applies_all_or_nothing(self, store: Store) -> None:
        """Wherever it is cancelled, and the same writes again succeed."""
        owner = await own(store)
        for wait in range(_CANCELLED_AT_MOST):
            numbers = range(wait * 10, wait * 10 + 10)
            writes = [live(n) for n in numbers]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.commit, owner, writes)
                for _ in range(wait):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            there = [record is not None for record in await fetched(store, *numbers)]
            assert all(there) or not any(there)
            await store.commit(owner, writes)
            assert None not in await fetched(store, *numbers)

    async def test_the_same_writes_twice_are_as_good_as_once(self, store: Store) -> None:
        """As an owner does that has lost the answer: everything is as before."""
        owner = await own(store)
        await store.commit(owner, [live(1), live(2), ended(3), ended(4)])
        writes = [ended(1), live(2, name="changed"), deleted(3), live(5)]
        await store.commit(owner, writes)
        once = await everything(store), await loaded(store, owner)
        await store.commit(owner, writes)

        assert (await everything(store), await loaded(store, owner)) == once
        assert (await store.purge(owner, 0.0, 100)).left == 2

    async def test_a_record_that_cannot_be_kept_is_named_and_nothing_is_written(
        self, store: Store
    ) -> None:
        """Neither it nor what came with it; without it, the same commit succeeds."""
        if self.keeps_objects:
            return
        owner = await own(store)
        await store.commit(owner, [live(1)], [pause("a")])
        odd = Write(task_id(3), head(3), object())
        notes = [pause("b"), paused("a", None)]

        assert await refused(store.commit(owner, [ended(1), odd, live(2)], notes)) == task_id(3)
        assert await everything(store) == [record(live(1))]
        assert await noted(store, owner) == [pause("a")]
        await store.commit(owner, [ended(1), live(2)])

    async def test_a_commit_without_writes_is_a_commit(self, store: Store) -> None:
        """It only shows that the ownership lasts."""
        owner = await own(store)
        await store.commit(owner, [])
        await store.release(owner)

        assert await fenced(store.commit(owner, []))

    async def test_what_a_write_leaves_unset_is_kept(self, store: Store) -> None:
        """The body of the first write stays until one replaces it."""
        owner = await own(store)
        await store.commit(owner, [live(1)])
        running = head(1, TaskStatus.RUNNING, fence=1, worker="node.1")
        await store.commit(owner, [Write(task_id(1), running)])
        done = head(1, TaskStatus.SUCCESS, fence=1, keep_until=NOW + 60)
        await store.commit(owner, [Write(task_id(1), done, output=Output(b"value"))])
        await store.commit(owner, [Write(task_id(1), done)])

        assert await fetched(store, 1) == [Record(done, b"body 1", Output(b"value"))]

    async def test_a_write_replaces_what_it_has(self, store: Store) -> None:
        """Body and output can also be replaced by None."""
        owner = await own(store)
        await store.commit(owner, [ended(1)])
        await store.commit(owner, [Write(task_id(1), head(1), body=None, output=None)])

        assert await fetched(store, 1) == [Record(head(1), None, None)]

    async def test_a_write_without_a_head_deletes_the_record(self, store: Store) -> None:
        """Live or ended; and one that is not there stays so."""
        owner = await own(store)
        await store.commit(owner, [live(1), ended(2), live(3)])
        await store.commit(owner, [deleted(1), deleted(2), deleted(4)])

        assert await everything(store) == [record(live(3))]
        assert await loaded(store, owner) == [head(3)]

    async def test_a_deleted_id_may_come_again(self, store: Store) -> None:
        """As a new record that has nothing of the old one."""
        owner = await own(store)
        await store.commit(owner, [ended(1)])
        await store.commit(owner, [deleted(1)])
        await store.commit(owner, [Write(task_id(1), head(1))])

        assert await fetched(store, 1) == [Record(head(1), None, None)]

    async def test_a_large_body_is_kept_through_every_change(self, store: Store) -> None:
        """As long as no write says otherwise; and another one can take its place."""
        owner = await own(store)
        failed = ended(1, TaskStatus.FAILURE)
        assert failed.head is not None
        await store.commit(owner, [Write(task_id(1), head(1), _LARGE)])
        await store.commit(owner, [Write(task_id(1), head(1, TaskStatus.RUNNING, fence=1))])
        await store.commit(owner, [Write(task_id(1), failed.head, output=Output(_LARGE))])
        assert await fetched(store, 1) == [Record(failed.head, _LARGE, Output(_LARGE))]
        await store.commit(owner, [Write(task_id(1), head(1), output=None)])
        assert await loaded_records(store, owner) == [Record(head(1), _LARGE)]
        await store.commit(owner, [Write(task_id(1), head(1), b"small")])
        assert await fetched(store, 1) == [Record(head(1), b"small")]
        await store.commit(owner, [Write(task_id(1), head(1), _LARGE + b"!")])
        assert await everything(store) == [Record(head(1), _LARGE + b"!")]
        await store.commit(owner, [ended(1)])
        assert await fetched(store, 1) == [record(ended(1))]
        await store.commit(owner, [deleted(1)])
        await store.commit(owner, [Write(task_id(1), head(1))])

        assert await fetched(store, 1) == [Record(head(1))]

    async def test_an_output_is_kept_by_a_record_that_is_live_again(self, store: Store) -> None:
        """Unless the write says otherwise."""
        owner = await own(store)
        await store.commit(owner, [ended(1)])
        await store.commit(owner, [Write(task_id(1), head(1))])
        assert await loaded_records(store, owner) == [Record(head(1), None, Output(b"value 1"))]
        again = ended(1, keep_until=NOW + 7).head
        await store.commit(owner, [Write(task_id(1), again)])

        assert again is not None
        assert await fetched(store, 1) == [Record(again, None, Output(b"value 1"))]

    async def test_nothing_is_something_else_than_empty(self, store: Store) -> None:
        """A body or a value of no bytes is told from one that is not there."""
        owner = await own(store)
        for number, (body, value) in enumerate(((b"", b""), (b"", None), (None, b""))):
            done = ended(number).head
            await store.commit(owner, [Write(task_id(number), done, body, Output(value))])

        assert [
            (found.body, found.output and found.output.value)
            for found in await fetched(store, 0, 1, 2)
            if found is not None
        ] == [(b"", b""), (b"", None), (None, b"")]

    # --- load ------------------------------------------------------------------------------------

    async def test_load_yields_exactly_the_live_heads(self, store: Store) -> None:
        """Each once, in any order, with every field as it was written."""
        owner = await own(store)
        statuses = (TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.RUNNING)
        heads = [
            head(n, status, fence=n, attempts=n, deaths=1, worker="node.1", scope="client:1")
            for n, status in enumerate(statuses)
        ]
        await store.commit(owner, [Write(h.id, h, body=b"") for h in heads])
        await store.commit(owner, [ended(7), ended(8, TaskStatus.CANCELLED)])

        assert await loaded(store, owner) == heads

    async def test_load_yields_bodies_in_pieces(self, store: Store) -> None:
        """However many there are, each record once, with the body that it has."""
        owner = await own(store)
        for start in range(0, 1_200, 600):
            await store.commit(owner, [live(n) for n in range(start, start + 600)])
        large = Write(task_id(7), head(7), _LARGE)
        await store.commit(owner, [large, Write(task_id(8), head(8), None), deleted(9)])
        records = await loaded_records(store, owner)

        assert len(records) == 1_199
        assert records[7:9] == [Record(head(7), _LARGE), Record(head(8), None)]
        assert records[9:] == [record(live(n)) for n in range(10, 1_200)]

    async def test_a_record_that_ends_is_not_loaded_any_more(self, store: Store) -> None:
        """And one that is made live again is."""
        owner = await own(store)
        await store.commit(owner, [live(1), ended(2)])
        await store.commit(owner, [ended(1), live(2)])

        assert await loaded(store, owner) == [head(2)]

    # --- fetch -----------------------------------------------------------------------------------

    async def test_fetch_answers_for_each_id_in_its_place(self, store: Store) -> None:
        """The record, live or ended, or None; also for an id that is asked for twice."""
        owner = await own(store)
        await store.commit(owner, [live(1), ended(2)])

        assert await fetched(store, 2, 9, 1, 2) == [
            record(ended(2)),
            None,
            record(live(1)),
            record(ended(2)),
        ]
        assert await fetched(store) == []

    async def test_what_fetch_and_find_return_are_copies(self, store: Store) -> None:
        """Neither does a later commit change it, nor does changing it change the store."""
        owner = await own(store)
        await store.commit(owner, [live(1)])
        [mine] = await fetched(store, 1)
        assert mine is not None
        await store.commit(owner, [ended(1)])
        assert mine == record(live(1))
        mine.body = b"changed"
        (await everything(store))[0].body = b"changed"

        assert await fetched(store, 1) == [record(ended(1))]

    # --- find ------------------------------------------------------------------------------------

    async def test_find_returns_the_newest_ids_first(self, store: Store) -> None:
        """Whatever the order of the writes, live and ended ones alike."""
        owner = await own(store)
        await store.commit(owner, [live(2), ended(4), live(1), ended(3)])

        assert await found(store) == [4, 3, 2, 1]

    async def test_find_returns_at_most_limit_records(self, store: Store) -> None:
        """And a cursor if there are more."""
        owner = await own(store)
        await store.commit(owner, [live(n) for n in range(5)])
        page = await store.find(PARTITION, EVERYTHING, None, 2)

        assert [record.head.id for record in page.records] == [task_id(4), task_id(3)]
        assert page.next is not None
        assert 2 <= page.scanned <= 5, "it looked at all that it returns, and at none twice"

    async def test_pages_show_every_match_once(self, store: Store) -> None:
        """From the first to one without a cursor, also when a page is exactly full."""
        owner = await own(store)
        await store.commit(owner, [live(n, queue="odd" if n % 2 else "even") for n in range(20)])
        for limit in (1, 3, 5, 10, 11):
            cursor: str | None = None
            pages: list[list[str]] = []
            while not pages or cursor is not None:
                page = await store.find(PARTITION, Filter(queue="even"), cursor, limit)
                pages.append([record.head.id for record in page.records])
                cursor = page.next
                assert len(pages) < 20
            assert [id for ids in pages for id in ids] == [task_id(n) for n in range(18, -1, -2)]

    async def test_find_returns_ids_below_the_cursor(self, store: Store) -> None:
        """Not the cursor itself; it need not be the id of any record."""
        owner = await own(store)
        await store.commit(owner, [live(1), live(3), live(5)])

        assert await found(store, cursor=task_id(3)) == [1]
        assert await found(store, cursor=task_id(4)) == [3, 1]
        assert await found(store, cursor=task_id(1)) == []

    async def test_new_records_do_not_disturb_the_next_page(self, store: Store) -> None:
        """What was written since is newer than the cursor."""
        owner = await own(store)
        await store.commit(owner, [live(1), live(2), live(3)])
        page = await store.find(PARTITION, EVERYTHING, None, 1)
        await store.commit(owner, [live(4), deleted(3)])

        assert await found(store, cursor=page.next) == [2, 1]

    async def test_find_filters_by_every_field(self, store: Store) -> None:
        """Status, name, queue, ids and time; a record must fit all that are given."""
        owner = await own(store)
        await store.commit(owner, [live(1), live(2, name="other"), live(3, queue="q"), ended(4)])
        ids = frozenset((task_id(1), task_id(4), task_id(9)))

        assert await found(store, Filter(statuses=frozenset({TaskStatus.SUCCESS}))) == [4]
        assert await found(store, Filter(names=frozenset({"other", "unknown"}))) == [2]
        assert await found(store, Filter(queue="q")) == [3]
        assert await found(store, Filter(ids=ids)) == [4, 1]
        assert await found(store, Filter(ids=ids), cursor=task_id(4)) == [1]
        assert await found(store, Filter(ids=frozenset())) == []
        assert await found(store, Filter(before=NOW + 2)) == [1]
        assert await found(store, Filter(after=NOW + 2)) == [4, 3]
        assert await found(store, Filter(after=NOW + 2, queue="q")) == [3]
        assert await found(store, Filter(ended_since=NOW)) == [4]

    async def test_find_filters_by_key(self, store: Store) -> None:
        """Live records and those that have ended."""
        owner = await own(store)
        await store.commit(owner, [live(1, key="a"), ended(2, key="a"), ended(3, key="b"), live(4)])

        assert await found(store, Filter(key="a")) == [2, 1]
        assert await found(store, Filter(key="a", statuses=frozenset({_SUCCESS}))) == [2]
        assert await found(store, Filter(key="c")) == []

    async def test_a_filter_may_have_very_many_names_or_ids(self, store: Store) -> None:
        """As many as can be asked for, of live records and of ended ones."""
        owner = await own(store)
        await store.commit(owner, [live(1), ended(2), live(3, name="other"), ended(4)])
        names = frozenset(f"name {n}" for n in range(SEVERAL_MAX - 1))
        ids = frozenset(task_id(n) for n in range(2, SEVERAL_MAX + 2))

        assert await found(store, Filter(names=names)) == []
        assert await found(store, Filter(names=names | {"task"})) == [4, 2, 1]
        assert await found(store, Filter(ids=ids)) == [4, 3, 2]

    async def test_find_shows_all_that_fits_among_many(self, store: Store) -> None:
        """Whatever is live and what has ended, however it lies, and in pages of any size."""
        owner = await own(store)
        statuses = list(TaskStatus)
        for start in range(0, 600, 100):
            writes = [
                ended(n, status, queue=f"queue {n % 3}")
                if (status := statuses[n * n % 11 % len(statuses)]).terminal
                else live(n, status=status, queue=f"queue {n % 3}")
                for n in range(start, start + 100)
            ]
            await store.commit(owner, writes)
        all_of_them = await everything(store)
        assert len(all_of_them) == 600
        for filter in (
            Filter(queue="queue 1"),
            Filter(statuses=frozenset({_SUCCESS})),
            Filter(statuses=frozenset({TaskStatus.FAILURE, TaskStatus.CANCELLED})),
            Filter(statuses=frozenset({TaskStatus.FAILURE, TaskStatus.RUNNING}), queue="queue 0"),
            Filter(statuses=frozenset({TaskStatus.WAITING}), before=NOW + 300),
            Filter(after=NOW + 100, before=NOW + 110),
            Filter(ended_since=NOW, queue="queue 2"),
        ):
            fitting = [r.head.id for r in all_of_them if filter.matches(r.head)]
            for limit in (1_000, 37):
                assert await _paged(store, filter, limit) == fitting

    async def test_find_follows_every_change_of_a_record(self, store: Store) -> None:
        """It fits by what it is now."""
        owner = await own(store)
        wanted = Filter(statuses=frozenset({TaskStatus.PENDING}))
        await store.commit(owner, [live(1), live(2)])
        assert await found(store, wanted) == [2, 1]
        await store.commit(owner, [ended(1), deleted(2), live(3)])

        assert await found(store, wanted) == [3]

    # --- the rest --------------------------------------------------------------------------------

    async def test_unknown_partitions_are_empty(self, store: Store) -> None:
        """They can be asked about, and owned."""
        page = await store.find("7f", EVERYTHING, None, 10)
        assert (list(page.records), page.next, page.scanned) == ([], None, 0)
        assert await store.fetch("7f", [task_id(1), task_id(2)]) == [None, None]
        owner = await store.acquire("7f", "a", TTL)

        assert owner is not None
        assert await loaded(store, owner) == []
        assert (await store.purge(owner, NOW * 2, 0)).left == 0

    async def test_partitions_are_strangers(self, store: Store) -> None:
        """Each has its own owner and its own records, also under the same id."""
        owner = await own(store, "a")
        other = await store.acquire("01", "b", TTL)
        assert other is not None
        await store.commit(owner, [live(1)])
        await store.commit(other, [ended(1), ended(2)])

        assert await everything(store) == [record(live(1))]
        assert (await store.purge(other, NOW * 2, 0)).left == 0
        assert await everything(store) == [record(live(1))]

    async def test_an_immediate_store_never_suspends(self, store: Store) -> None:
        """The queue actor runs its methods inside a plain call, if it says so."""
        if store.immediate:
            owner = at_once(store.acquire(PARTITION, "a", TTL))
            assert owner is not None
            at_once(store.commit(owner, [live(1), ended(2)]))
            assert at_once(loaded(store, owner)) == [head(1)]
            assert at_once(fetched(store, 1, 2)) == [record(live(1)), record(ended(2))]
            assert at_once(found(store)) == [2, 1]
            assert at_once(store.purge(owner, 0.0, 0)).left == 0
            at_once(store.release(owner))


_LARGE = bytes(range(256)) * 400
_SUCCESS = TaskStatus.SUCCESS


async def _paged(store: Store, filter: Filter, limit: int) -> list[str]:
    """Return the ids of what fits, from pages of at most so many."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.find(PARTITION, filter, cursor, limit)
        assert len(page.records) <= limit
        ids += [record.head.id for record in page.records]
        if page.next is None:
            return ids
        cursor = page.next
