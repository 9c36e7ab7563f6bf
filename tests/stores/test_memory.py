import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.errors import Fenced
from actorq.stores.memory import MemoryStore
from actorq.testing.samples import (
    NOW,
    PARTITION,
    TTL,
    at_once,
    deleted,
    ended,
    fetched,
    found,
    live,
    own,
)  # fmt: skip
from actorq.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_nothing_in_it_ever_suspends() -> None:
    assert MemoryStore().immediate


async def test_a_new_owner_need_not_wait_for_the_former_one() -> None:
    store = MemoryStore()
    former = await own(store, "a", TTL)
    await own(store, "b", TTL)

    with pytest.raises(Fenced, match="epoch 1 is no longer its owner"):
        await store.commit(former, [])


async def test_heads_and_bodies_are_kept_as_they_are() -> None:
    store, write = MemoryStore(), live(1)
    await store.commit(await own(store), [write])
    [record] = await fetched(store, 1)

    assert record is not None
    assert record.head is write.head
    assert record.body is write.body


async def test_its_tables_count_what_it_keeps() -> None:
    store = MemoryStore()
    owner = await own(store)
    await store.commit(owner, [live(1), ended(2), ended(3)])
    assert store.tables() == {"records": 3, "ended": 2}
    await store.commit(owner, [deleted(n) for n in (1, 2, 3)])

    assert store.tables() == {"records": 0, "ended": 0}


async def test_ends_that_were_taken_back_do_not_pile_up() -> None:
    store = MemoryStore()
    owner = await own(store)
    for number in range(2_000):
        await store.commit(owner, [ended(1, keep_until=NOW + number)])
        await store.commit(owner, [live(1)])
    assert (await store.purge(owner, 0.0, 0)).left == 0
    await store.commit(owner, [ended(1, keep_until=NOW + 1.5)])

    assert (await store.purge(owner, NOW + 1, 10)).left == 1
    assert (await store.purge(owner, NOW + 1.5, 10)).left == 0


@given(st.lists(st.tuples(st.sampled_from("lefdp"), st.integers(0, 5)), max_size=60))
def test_it_agrees_with_a_dictionary(steps: list[tuple[str, int]]) -> None:
    store, alive, over = MemoryStore(), set[int](), dict[int, None]()
    owner = at_once(own(store))
    for verb, number in steps:
        if verb == "l":
            at_once(store.commit(owner, [live(number)]))
            alive.add(number)
            over.pop(number, None)
        elif verb == "e":
            at_once(store.commit(owner, [ended(number)]))
            alive.discard(number)
            over.setdefault(number)
        elif verb == "d":
            at_once(store.commit(owner, [deleted(number)]))
            alive.discard(number)
            over.pop(number, None)
        elif verb == "f":
            there = at_once(store.fetch(PARTITION, [live(number).id]))[0] is not None
            assert there == (number in alive or number in over)
            if number in over:
                over[number] = over.pop(number)
        else:
            assert at_once(store.purge(owner, 0.0, number)).left == min(number, len(over))
            while len(over) > number:
                del over[next(iter(over))]

    assert at_once(found(store)) == sorted(alive | over.keys(), reverse=True)
    assert store.tables() == {"records": len(alive) + len(over), "ended": len(over)}
