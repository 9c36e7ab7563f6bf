"""What waits outlives its process, and two processes on one file never disagree."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actorq
from actorq.contracts.store import Store
from actorq.model.events import Event, EventKind
from actorq.stores import locks
from actorq.stores.memory import MemoryStore
from actorq.system.backends import open_store
from actorq.testing.faults import FaultyStore

seen: list[Any] = []


@actorq.task(name="durable.double")
async def double(number: int) -> int:
    return 2 * number


@actorq.task(name="durable.note")
async def note(number: int) -> None:
    seen.append(number)


@actorq.task(name="durable.linger")
async def linger(started: str) -> str:
    events[started].set()
    await trio.sleep_forever()
    return ""


@actorq.task(name="durable.attempts")
async def attempts(started: str) -> int:
    events[started].set()
    if actorq.current().attempt == 1 and started not in let_go:
        await trio.sleep_forever()
    return actorq.current().attempt


events: dict[str, trio.Event] = {}
let_go: set[str] = set()
TASKS = [double, note, linger, attempts]


class Told:
    """An instrument that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = trio.Event()

    def event(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    async def of(self, kind: EventKind) -> Event:
        while True:
            for event in self.events:
                if event.kind is kind:
                    return event
            await self._more.wait()


open_quietly = partial(actorq.open_system, tasks=TASKS, processes=0, instruments=())


@pytest.fixture
def url(tmp_path: Path) -> str:
    seen.clear()
    return f"sqlite:///{tmp_path}/tasks.db"


@asynccontextmanager
async def opened(url: str | Store, **options: Any) -> AsyncIterator[actorq.System]:
    async with open_quietly(url, **options) as system:
        yield system


# --- leaving and coming back ---------------------------------------------------------------------


async def test_what_waits_when_a_system_is_left_is_run_by_the_next_one(url: str) -> None:
    async with opened(url, concurrency=0) as system:
        handles = await system.submit_many(double.message(n) for n in range(5))
        late = await system.submit(double.options(delay=3600), 7)
    async with opened(url) as system:
        values = [await system.handle(handle.id, double).value() for handle in handles]
        status = (await system.result(late.id)).status

    assert values == [0, 2, 4, 6, 8]
    assert status is actorq.TaskStatus.SCHEDULED


async def test_a_result_outlives_its_process(url: str) -> None:
    async with opened(url) as system:
        handle = await system.submit(double, 21)
        await handle.value()
    async with opened(url) as system:
        assert (await system.result(handle.id)).value == 42


async def test_whoever_waits_is_told_when_the_system_is_left_though_the_task_stays(
    url: str,
) -> None:
    async with opened(url, concurrency=0) as system:
        handle = await system.submit(double, 1)

    with pytest.raises(actorq.ActorDied):
        await handle.value()


async def test_what_runs_when_a_system_is_left_is_handed_back_and_spends_no_attempt(
    url: str,
) -> None:
    events["handed back"] = trio.Event()
    async with opened(url, drain=0) as system:
        handle = await system.submit(attempts, "handed back")
        await events["handed back"].wait()
    let_go.add("handed back")
    async with opened(url) as system:
        result = await system.handle(handle.id, attempts).wait()

    assert (result.value, result.attempts) == (1, 1)


async def test_what_ends_within_the_drain_is_recorded(url: str) -> None:
    events["drained"] = trio.Event()

    async with opened(url) as system:
        handle = await system.submit(attempts.options(timeout=0.2), "drained")
        await events["drained"].wait()
    async with opened(url) as system:
        result = await system.result(handle.id)

    assert isinstance(result.error, actorq.RemoteError)
    assert "timeout" in result.error.message.lower() or "TaskTimeout" in result.error.type


async def test_arguments_travel_through_a_durable_store(url: str) -> None:
    """So they are checked when they are submitted, as between machines."""
    async with opened(url) as system:
        with pytest.raises(actorq.InvalidArguments):
            await system.submit(double, "seven")  # type: ignore[arg-type]
        with pytest.raises(actorq.UnknownTask):
            await system.submit(lambda: None)


# --- two on one file -----------------------------------------------------------------------------


async def test_a_standby_takes_over_when_the_owner_has_left_and_knows_all_of_it(url: str) -> None:
    told = Told()
    ready = trio.Event()

    async with trio.open_nursery() as nursery:

        async def stand_by() -> None:
            async with opened(url, instruments=[told]) as system:
                seen.append(await system.handle(handle.id, double).value())
                ready.set()

        async with opened(url, concurrency=0) as owner:
            handle = await owner.submit(double, 4)
            nursery.start_soon(stand_by)
            waits = await told.of(EventKind.STANDING_BY)
            assert not ready.is_set()
        with trio.fail_after(5):
            await ready.wait()

    assert "another process owns the store" in waits.details["why"]
    assert seen == [8]
    assert (await told.of(EventKind.OWNING)).details["tasks"] == 1


async def test_one_store_is_not_given_to_two_systems(url: str) -> None:
    """It would be taken from the first, and closed under it. One after the other is fine."""
    for store in (open_store(url), MemoryStore()):
        async with opened(store) as system:
            with pytest.raises(actorq.StoreUnavailable, match="in use by another system of this"):
                async with opened(store):
                    pytest.fail("it must not open")
            assert await system.call(double, 1) == 2
        async with opened(store) as system:
            assert await system.call(double, 2) == 4


async def test_a_file_on_a_network_file_system_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "network_file_system", lambda _: "nfs4")
    told = Told()
    async with opened(url, instruments=[told]):
        pass

    [event] = [event for event in told.events if event.kind is EventKind.STORE_UNSAFE]
    assert "is on a network file system (nfs4)" in event.details["why"]


async def test_a_standby_answers_503_and_a_client_that_knows_both_finds_the_owner(
    url: str,
) -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        addresses: list[str] = []
        standing, gone = trio.Event(), trio.Event()

        async def stand_by() -> None:
            async with opened(url, listen="ws://127.0.0.1:0", instruments=[told]):
                standing.set()
                await gone.wait()

        async with opened(url, listen="ws://127.0.0.1:0") as owner:
            nursery.start_soon(stand_by)
            standby = (await told.of(EventKind.LISTENING)).details["url"]
            await told.of(EventKind.STANDING_BY)
            addresses = [standby, *owner.addresses]
            with pytest.raises(actorq.ConnectFailed, match="503"):
                async with actorq.connect(standby, connect_timeout=0.5, instruments=()):
                    pass
            async with actorq.connect(addresses, tasks=TASKS, instruments=()) as client:
                assert await client.call(double, 1) == 2
        with trio.fail_after(5):
            await standing.wait()
            async with actorq.connect(addresses, tasks=TASKS, instruments=()) as client:
                assert await client.call(double, 2) == 4
        gone.set()


async def test_a_client_goes_on_at_the_standby_without_noticing(url: str) -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        gone, leave = trio.Event(), trio.Event()

        async def own(task_status: trio.TaskStatus[actorq.System]) -> None:
            async with opened(url, listen="ws://127.0.0.1:0", concurrency=0) as system:
                task_status.started(system)
                await leave.wait()

        async def stand_by() -> None:
            async with opened(url, listen="ws://127.0.0.1:0", instruments=[told]):
                await gone.wait()

        owner: actorq.System = await nursery.start(own)
        nursery.start_soon(stand_by)
        standby = (await told.of(EventKind.LISTENING)).details["url"]
        await told.of(EventKind.STANDING_BY)
        addresses = [*owner.addresses, standby]
        async with actorq.connect(addresses, tasks=TASKS, instruments=()) as client:
            handle = await client.submit(double, 8)
            leave.set()
            with trio.fail_after(10):
                assert await handle.value() == 16
        gone.set()


async def test_two_systems_that_submit_the_same_message_run_it_once(url: str) -> None:
    message = note.message(1)
    async with opened(url) as system:
        await (await system.submit(message)).wait()
    message.accepted = False
    async with opened(url) as system:
        handle = await system.submit(message)
        assert (await handle.wait()).ok

    assert seen == [1]


async def test_a_client_elsewhere_is_told_while_the_store_cannot_be_written(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore(MemoryStore(), suspends=True)
    async with (
        opened(store, listen="memory://unwritten") as system,
        actorq.connect("memory://unwritten", tasks=TASKS, instruments=()) as client,
    ):
        before = await client.submit(double.options(delay=30), 2)
        store.fail("commit", times=math.inf)
        with pytest.raises(actorq.StoreUnavailable, match="a fault was injected"):
            await client.submit(double, 1)
        store.heal()
        await trio.sleep(2)  # virtual
        assert await client.call(double, 3) == 6
        assert await before.value() == 4
    assert system.tables()["guests"] == 0


async def test_a_crash_of_the_owner_does_not_hand_over_to_a_standby(url: str) -> None:
    """Its process lives, and what runs in it would run again elsewhere."""
    told, owning = Told(), Told()
    events["crash"] = trio.Event()
    async with trio.open_nursery() as nursery:
        store = FaultyStore(open_store(url), suspends=True)
        async with opened(store, instruments=[owning]) as owner:

            async def stand_by() -> None:
                async with opened(url, instruments=[told]):
                    raise AssertionError("it took over from a process that is alive")

            nursery.start_soon(stand_by)
            await told.of(EventKind.STANDING_BY)
            handle = await owner.submit(linger, "crash")
            await events["crash"].wait()
            store.fail("commit", error=RuntimeError)
            assert await owner.call(double, 1) == 2
            assert (await owner.result(handle.id)).status is actorq.TaskStatus.RUNNING
            nursery.cancel_scope.cancel()

    epochs = [e.details["epoch"] for e in owning.events if e.kind is EventKind.OWNING]
    assert epochs == [1, 2]
