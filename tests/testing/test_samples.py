from collections.abc import Collection

import pytest
import trio
from msgspec.structs import replace

from actorq.errors import Fenced, RowRefused
from actorq.model.filters import Filter
from actorq.model.records import Note, Ownership, Pause, Purged, Window
from actorq.model.status import TaskStatus
from actorq.stores.memory import FoundRecords, MemoryStore
from actorq.testing.samples import (
    at_once,
    deleted,
    ended,
    everything,
    fenced,
    fetched,
    found,
    head,
    keyed,
    limit,
    live,
    loaded,
    loaded_records,
    noted,
    own,
    pause,
    paused,
    purged,
    record,
    refused,
    task_id,
)  # fmt: skip


def test_a_higher_number_is_a_newer_id() -> None:
    assert task_id(9) < task_id(10) < task_id(11)
    assert len({len(task_id(number)) for number in (0, 1, 10**9)}) == 1


def test_samples_are_what_they_are_called() -> None:
    assert head(1, name="other", fence=3).fence == 3
    assert live(1, queue="q").head == head(1, queue="q")
    assert record(ended(1)).head.status is TaskStatus.SUCCESS
    assert record(ended(1)).head.keep_until is not None
    assert deleted(1).head is None
    assert head(1, key="a").options.key == "a"
    assert live(1, key="a").head == head(1, key="a")
    assert pause("q", 7.0) == Note("pause", "q", Pause(7.0)) == paused("q", Pause(7.0))
    assert limit("k", (7.0, 1)).value == Window(((7.0, 1),), 60.0)


async def test_questions_to_a_store_are_answered_in_numbers() -> None:
    store = MemoryStore()
    owner = await own(store)
    await store.commit(owner, [live(2), ended(1)])

    assert await found(store) == [2, 1]
    assert await loaded(store, owner) == [head(2)]
    assert await fetched(store, 2, 3) == [record(live(2)), None]
    assert await loaded_records(store, owner) == [record(live(2))]
    assert await everything(store) == [record(live(2)), record(ended(1))]
    await store.commit(owner, [ended(3, key="a")], [pause("q"), limit("k")])
    assert await keyed(store, "a", "b") == [record(ended(3, key="a")), None]
    assert await noted(store, owner) == [limit("k"), pause("q")]


async def test_all_pages_of_a_search_are_looked_at() -> None:
    class TwoAtATime(MemoryStore):
        async def find(
            self, partition: str, filter: Filter, cursor: str | None, limit: int
        ) -> FoundRecords:
            return await super().find(partition, filter, cursor, min(limit, 2))

    store = TwoAtATime()
    await store.commit(await own(store), [live(n) for n in range(5)])

    assert await found(store) == [4, 3, 2, 1, 0]
    assert await found(store, cursor=task_id(3)) == [2, 1, 0]
    assert len(await everything(store)) == 5


async def test_a_purge_goes_on_until_there_is_nothing_more() -> None:
    class OneAtATime(MemoryStore):
        async def purge(
            self, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
        ) -> Purged:
            left = (await super().purge(ownership, before, 10**9, spare)).left
            purged = await super().purge(ownership, before, max(keep, left - 1), spare)
            return replace(purged, more=purged.left > keep)

    store = OneAtATime()
    owner = await own(store)
    await store.commit(owner, [ended(n) for n in range(5)])

    assert (await purged(store, owner, 0.0, 2)).left == 2


async def test_being_fenced_is_told_from_going_well() -> None:
    async def refused() -> None:
        raise Fenced("another owner")

    async def allowed() -> None:
        """Nothing happens."""

    assert await fenced(refused())
    assert not await fenced(allowed())


async def test_a_refused_record_is_known_by_its_id() -> None:
    async def refuses() -> None:
        raise RowRefused("odd", id="7")

    async def allowed() -> None:
        """Nothing happens."""

    assert await refused(refuses()) == "7"
    assert await refused(allowed()) is None


async def test_a_call_that_suspends_is_not_at_once() -> None:
    async def returns() -> int:
        return 7

    async def suspends() -> None:
        await trio.lowlevel.checkpoint()

    assert at_once(returns()) == 7
    with pytest.raises(AssertionError, match="it suspends"):
        at_once(suspends())
