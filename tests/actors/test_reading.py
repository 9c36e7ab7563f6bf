"""What the machine asks of the store, and records that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from trio.testing import MockClock

from actorq.actors.owner import Owner
from actorq.actors.reading import Reading
from actorq.errors import CorruptStore
from actorq.machines.effects import Effect, Found, Lookup, Search, Searched, Send
from actorq.model import messages as m
from actorq.model.filters import Filter
from actorq.model.records import Output, Record
from actorq.stores.memory import FoundRecords, MemoryStore
from actorq.testing.samples import ended, live, record, task_id

BAD = task_id(9)


class Damaged(MemoryStore):
    """Has one record that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.fetches = 0

    async def fetch(self, partition: str, ids: Sequence[str]) -> list[Record | None]:
        self.fetches += 1
        if BAD in ids:
            raise CorruptStore(f"record {BAD} is damaged")
        return await super().fetch(partition, ids)

    async def find(
        self, partition: str, filter: Filter, cursor: str | None, limit: int
    ) -> FoundRecords:
        if filter.ids is None:
            raise CorruptStore(f"record {BAD} is damaged")
        return await super().find(partition, filter, cursor, limit)


class Stage:
    def __init__(self) -> None:
        self.store = Damaged()
        self.owner = Owner(self.store, "nonce", lambda *_, **__: None)
        self.steps: list[tuple[int, Any]] = []
        self.refused: list[str] = []
        self.reading = Reading(self.owner, self.step, lambda id, _: self.refused.append(id))

    def step(self, origin: int, message: Any) -> list[Effect]:
        self.steps.append((origin, message))
        return []


@pytest.fixture
async def stage(autojump_clock: MockClock) -> Stage:
    stage = Stage()
    await stage.owner.acquire(lambda _: None, first=True)
    await stage.owner.store.commit(stage.owner.ownership, [live(1), ended(2)])  # type: ignore[arg-type]
    return stage


async def test_all_that_is_asked_in_one_turn_is_fetched_together_and_told_apart(
    stage: Stage,
) -> None:
    one, other = m.Inspect(1, task_id(1)), m.Watch(2, (task_id(2), task_id(3)))

    await stage.reading.fetch([Lookup(7, one, (one.id,)), Lookup(8, other, other.ids)])

    assert stage.store.fetches == 1
    assert stage.steps == [
        (7, Found(one, {task_id(1): record(live(1))})),
        (8, Found(other, {task_id(2): record(ended(2))})),
    ]


async def test_a_question_about_a_damaged_record_is_refused_and_the_others_are_answered(
    stage: Stage,
) -> None:
    bad, good = m.Inspect(1, BAD), m.Inspect(2, task_id(1))

    [effect] = await stage.reading.fetch([Lookup(7, bad, (BAD,)), Lookup(8, good, (good.id,))])

    assert isinstance(effect, Send)
    assert (effect.to, effect.message.request) == (7, 1)
    assert isinstance(effect.message.error, CorruptStore)
    assert [origin for origin, _ in stage.steps] == [8]


FINISH = m.Finish(BAD, 3, "ok", Output(1), 0.0)


@pytest.mark.parametrize(
    "message", [m.Submit(1, ()), m.Resolve((BAD,)), m.Watch(1, (BAD, task_id(1))), FINISH]
)
async def test_where_more_depends_on_it_a_damaged_record_is_not_there_and_not_replaced(
    stage: Stage, message: Any
) -> None:
    await stage.reading.fetch([Lookup(7, message, (BAD, task_id(1)))])

    assert stage.steps == [(7, Found(message, {task_id(1): record(live(1))}))]
    assert stage.refused == [BAD]


@pytest.mark.parametrize("ids", [(BAD,), (task_id(1), BAD)])
async def test_who_waits_for_a_damaged_record_is_told_that_it_is_lost(
    stage: Stage, ids: tuple[str, ...]
) -> None:
    [told] = await stage.reading.fetch([Lookup(7, m.Watch(1, ids), ids)])

    assert isinstance(told, Send)
    assert (told.to, told.message.head.id, told.message.head.status) == (7, BAD, "failure")
    assert told.message.output.error.matches("actorq.errors.CorruptStore")
    assert BAD in told.message.output.error.message


async def test_a_late_word_about_a_damaged_record_is_dropped(stage: Stage) -> None:
    late: Any = m.Started(BAD, 1, 0.0)

    assert await stage.reading.fetch([Lookup(7, late, (BAD,))]) == []


async def test_a_search_over_a_damaged_record_is_refused(stage: Stage) -> None:
    find = m.Find(1, Filter(), None, 10)
    await stage.reading.search(Search(7, find, find.filter, None, 10))

    [(origin, searched)] = stage.steps
    assert (origin, searched.message) == (7, find)
    assert isinstance(searched.error, CorruptStore)


async def test_a_search_is_answered_with_its_page(stage: Stage) -> None:
    some = Filter(ids=frozenset({task_id(1)}))
    find = m.Find(1, some, None, 10)
    await stage.reading.search(Search(7, find, some, None, 10, 3))

    [(origin, searched)] = stage.steps
    assert isinstance(searched, Searched)
    assert (origin, searched.total) == (7, 3)
    assert searched.records == [record(live(1))]
