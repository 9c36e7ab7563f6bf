"""The right to write: who has it, for how long, and what a commit goes through."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.actors.owner import (
    LOOK_EVERY,
    OWNERSHIP_TTL,
    PEOPLE_WAIT,
    RENEW_EVERY,
    GivenUp,
    Owner,
)
from actorq.errors import Fenced, OwnedElsewhere, StoreUnavailable
from actorq.model.events import EventKind
from actorq.model.records import Ownership, StoreInfo
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore
from actorq.testing.samples import live


class Contested(MemoryStore):
    """A store that somebody else may own, and that outlives its process."""

    immediate = False
    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.owner: str | None = None

    async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        await trio.lowlevel.checkpoint()
        return None if self.owner else await super().acquire(partition, nonce, ttl)

    async def describe(self) -> StoreInfo:
        return StoreInfo("contested://", owner=self.owner)


class Stage:
    """An owner of a store that fails where it is told to."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or Contested()
        self.store = FaultyStore(self.inner, suspends=True)
        self.store.durable = self.inner.durable
        self.told: list[tuple[EventKind, Any]] = []
        self.suspended: list[StoreUnavailable] = []
        self.owner = Owner(self.store, "nonce", lambda kind, **d: self.told.append((kind, d)))

    async def acquire(self, *, first: bool = True) -> None:
        await self.owner.acquire(self.suspended.append, first=first)


@pytest.fixture
async def stage() -> Stage:
    stage = Stage()
    await stage.acquire()
    return stage


# --- becoming the owner --------------------------------------------------------------------------


async def test_whoever_finds_the_store_free_owns_it_at_once_and_says_nothing(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    await stage.acquire()

    assert trio.current_time() == 0
    assert (stage.told, stage.suspended) == ([], [])


async def test_a_standby_says_once_who_owns_the_store_and_looks_until_it_is_free(
    autojump_clock: MockClock,
) -> None:
    inner = Contested()
    stage, inner.owner = Stage(inner), "process 7 on here"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.acquire)
        await trio.sleep(100)  # virtual
        inner.owner = None
    gone = trio.current_time() - 100

    assert stage.owner.ownership is not None
    assert gone <= LOOK_EVERY
    [(kind, details)] = stage.told
    assert kind is EventKind.STANDING_BY
    assert "process 7 on here" in details["why"]
    [error] = stage.suspended
    assert isinstance(error, OwnedElsewhere)


async def test_a_store_that_cannot_be_had_at_the_first_look_is_an_error(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    stage.store.fail("acquire")

    with pytest.raises(StoreUnavailable):
        await stage.acquire()


async def test_later_it_is_looked_at_again_and_only_a_lasting_trouble_is_told(
    autojump_clock: MockClock,
) -> None:
    short, long = Stage(), Stage()
    short.store.fail("acquire", times=3)
    long.store.fail("acquire", times=300)

    await short.acquire(first=False)
    await long.acquire(first=False)

    assert short.suspended == []
    assert [str(error) for error in long.suspended] == ["a fault was injected here"]


# --- a commit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True], ids=["not done", "done"])
async def test_a_commit_of_any_outcome_is_tried_again_as_it_was(
    autojump_clock: MockClock, stage: Stage, applied: bool
) -> None:
    stage.store.fail("commit", times=3, applied=applied)
    await stage.owner.commit([live(1)])

    assert stage.store.commits == (4 if applied else 1) * [(live(1),)]
    assert [kind for kind, _ in stage.told] == [EventKind.STORE_UNAVAILABLE]


async def test_it_is_given_up_when_the_ownership_is_over(
    autojump_clock: MockClock, stage: Stage
) -> None:
    stage.store.fail("commit", times=inf)

    with pytest.raises(GivenUp):
        await stage.owner.commit([live(1)])

    assert OWNERSHIP_TTL <= trio.current_time() < OWNERSHIP_TTL + 1


async def test_a_commit_that_was_fenced_is_not_tried_again(
    autojump_clock: MockClock, stage: Stage
) -> None:
    stage.store.fail("commit", error=lambda: Fenced("somebody else"))

    with pytest.raises(Fenced):
        await stage.owner.commit([live(1)])

    assert (stage.store.commits, trio.current_time()) == ([], 0)


async def test_a_commit_in_flight_is_not_cancelled_but_waiting_for_the_next_is(
    autojump_clock: MockClock,
    stage: Stage,
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            with stage.store.commits_held():
                nursery.start_soon(stage.owner.commit, [live(1)])
                await wait_all_tasks_blocked()
                scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
    assert stage.store.commits == [(live(1),)]

    stage.store.fail("commit", times=inf)
    with trio.move_on_after(1) as waited:
        await stage.owner.commit([live(2)])
    assert waited.cancelled_caught


async def test_commits_are_counted_and_timed(autojump_clock: MockClock, stage: Stage) -> None:
    await stage.owner.commit([live(1), live(2)])
    stats = await stage.owner.stats()

    assert (stats.url, stats.commits, stats.writes) == ("contested://", 1, 2)
    assert stats.seconds == stats.slowest == 0


async def test_a_read_is_tried_again_too(autojump_clock: MockClock, stage: Stage) -> None:
    stage.store.fail("fetch", times=3)
    store = stage.store

    assert await stage.owner.insist(lambda: store.fetch("00", ["a"])) == [None]


async def test_a_question_of_people_is_not_put_for_long(
    autojump_clock: MockClock, stage: Stage
) -> None:
    stage.store.fail("describe", times=inf)

    assert await stage.owner.stats() is None
    assert trio.current_time() < 2 * PEOPLE_WAIT


# --- keeping it ----------------------------------------------------------------------------------


async def test_an_idle_owner_renews_in_time_and_each_commit_is_as_good(
    autojump_clock: MockClock, stage: Stage
) -> None:
    assert stage.owner.renew_at == RENEW_EVERY
    await trio.sleep(2)  # virtual
    await stage.owner.commit(())

    assert stage.owner.renew_at == 2 + RENEW_EVERY


async def test_after_a_stall_an_owner_does_not_trust_what_it_knows(
    autojump_clock: MockClock, stage: Stage
) -> None:
    fresh = [stage.owner.fresh]
    await trio.sleep(0.7 * OWNERSHIP_TTL)  # virtual
    fresh.append(stage.owner.fresh)
    await stage.owner.commit(())
    fresh.append(stage.owner.fresh)

    assert fresh == [True, False, True]


async def test_where_nobody_competes_there_is_nothing_to_renew(autojump_clock: MockClock) -> None:
    stage = Stage(MemoryStore())
    await stage.acquire()
    await trio.sleep(1_000)  # virtual

    assert (stage.owner.renew_at, stage.owner.fresh) == (inf, True)


async def test_a_release_lets_the_next_one_in_and_may_fail(
    autojump_clock: MockClock, stage: Stage
) -> None:
    await stage.owner.release()
    with pytest.raises(Fenced):
        await stage.owner.commit([live(1)])
    await stage.owner.release()


async def test_whoever_never_owned_it_has_nothing_to_release(autojump_clock: MockClock) -> None:
    await Stage().owner.release()


async def test_a_purge_that_cannot_be_done_now_is_left_for_later(
    autojump_clock: MockClock, stage: Stage
) -> None:
    stage.store.fail("purge")

    assert await stage.owner.purge(0.0, 0, frozenset()) is None
    assert await stage.owner.purge(0.0, 0, frozenset()) is not None
