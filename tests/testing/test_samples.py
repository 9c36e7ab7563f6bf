import pytest
import trio

from actorq.errors import Fenced
from actorq.model.status import TaskStatus
from actorq.stores.memory import MemoryStore
from actorq.testing.samples import (
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
    own,
    record,
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


async def test_questions_to_a_store_are_answered_in_numbers() -> None:
    store = MemoryStore()
    owner = await own(store)
    await store.commit(owner, [live(2), ended(1)])

    assert await found(store) == [2, 1]
    assert await loaded(store, owner) == [head(2)]
    assert await fetched(store, 2, 3) == [record(live(2)), None]
    assert await everything(store) == [record(live(2)), record(ended(1))]


async def test_being_fenced_is_told_from_going_well() -> None:
    async def refused() -> None:
        raise Fenced("another owner")

    async def allowed() -> None:
        """Nothing happens."""

    assert await fenced(refused())
    assert not await fenced(allowed())


async def test_a_call_that_suspends_is_not_at_once() -> None:
    async def returns() -> int:
        return 7

    async def suspends() -> None:
        await trio.lowlevel.checkpoint()

    assert at_once(returns()) == 7
    with pytest.raises(AssertionError, match="it suspends"):
        at_once(suspends())
