"""A subscriber's end: what it gets, in which order, when it is slow, and after a crash."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.client.feed import Subscription
from actorq.client.session import Session
from actorq.model import messages as m
from actorq.model.feed import TaskEvent, TaskEventKind
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.status import PENDING, RUNNING, SCHEDULED, SUCCESS
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore

open_quietly = partial(actorq.open_system, processes=0, instruments=())

PATHS = pytest.mark.parametrize("suspends", [False, True], ids=["immediate", "suspending"])
MOMENTS = pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])


def event(what: str, at: float = 100.0) -> TaskEvent:
    """Make an event of its words, as ``"progress a"``."""
    kind, _, id = what.partition(" ")
    status = SUCCESS if kind == "ended" else RUNNING
    head = Head(id, "job", TaskOptions(), "main", None, 0.0, 0.0, 0.0, 0.0, status)
    return TaskEvent(TaskEventKind(kind), head, at)


def words(item: actorq.Snapshot | TaskEvent | actorq.Lagged) -> str:
    match item:
        case actorq.Snapshot():
            return "snapshot"
        case actorq.Lagged(count):
            return f"lagged {count}"
        case TaskEvent():
            return f"{item.kind} {item.id}"


class Line:
    """A feed and the owner's end of its connection."""

    def __init__(self, buffer: int = 1_000, *, begin: bool = True) -> None:
        self.sent: list[Any] = []
        self.session = Session("me")
        self.connect()
        self.feed = Subscription(self.session, Filter(), buffer)
        self.number = self.session.listen(self.feed)
        if begin:
            self.begin()

    def send(self, *messages: Any) -> None:
        self.sent += messages

    def connect(self) -> None:
        self.session.connected(self)
        self.session.received(m.ClientWelcome("here", 0))

    @property
    def requests(self) -> list[m.Subscribe]:
        return [message for message in self.sent if isinstance(message, m.Subscribe)]

    def begin(self, at: float = 100.0) -> None:
        """Answer the newest request."""
        standing = m.Standing(at, {SCHEDULED: 0, PENDING: 1, RUNNING: 0}, ())
        self.session.received(m.Reply(self.requests[-1].request, standing))

    def tell(self, *what: str, at: float = 100.0) -> None:
        self.session.received(m.News(self.number, [event(one, at) for one in what]))

    def reconnect(self) -> None:
        self.session.disconnected(None)
        self.connect()

    async def read(self) -> list[str]:
        """Return all that there is to read now."""
        read: list[str] = []
        with trio.move_on_after(1):
            while True:
                await collect(self, read)
        return read


async def collect(line: Line, read: list[str]) -> None:
    read.append(words(await anext(line.feed)))


# --- the buffer ----------------------------------------------------------------------------------


async def test_a_snapshot_comes_first_and_then_all_events_in_order(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    line.tell("submitted a", "started a")
    line.tell("ended a")

    assert await line.read() == ["snapshot", "submitted a", "started a", "ended a"]


async def test_a_snapshot_has_counts_and_tasks(autojump_clock: MockClock) -> None:
    line = Line(begin=False)
    head = event("ended a").head
    standing = m.Standing(1.0, {PENDING: 3}, (m.Snapshot(head, None, None),))
    line.session.received(m.Reply(line.requests[0].request, standing))

    snapshot = await anext(line.feed)

    assert isinstance(snapshot, actorq.Snapshot)
    assert snapshot.counts == {PENDING: 3}
    assert [(task.id, task.status) for task in snapshot.tasks] == [("a", SUCCESS)]


async def test_a_reader_that_is_too_slow_is_told_so_before_what_is_left_and_goes_on(
    autojump_clock: MockClock,
) -> None:
    line = Line(buffer=3)
    await line.read()

    line.tell(*(f"progress {number}" for number in range(5)))

    assert await line.read() == ["lagged 2", "progress 2", "progress 3", "progress 4"]
    line.tell("progress 5")
    assert await line.read() == ["progress 5"]


async def test_a_buffer_that_is_just_full_loses_nothing(autojump_clock: MockClock) -> None:
    line = Line(buffer=3)
    await line.read()

    line.tell("progress 0", "progress 1")
    line.tell("progress 2")

    assert await line.read() == ["progress 0", "progress 1", "progress 2"]


async def test_what_was_dropped_is_counted_until_it_is_told_and_then_anew(
    autojump_clock: MockClock,
) -> None:
    line = Line(buffer=1)
    await line.read()
    for number in range(4):
        line.tell(f"progress {number}")
    assert words(await anext(line.feed)) == "lagged 3"

    line.tell("progress 4")

    assert await line.read() == ["lagged 1", "progress 4"]


async def test_an_end_is_never_dropped_and_nothing_changes_its_place(
    autojump_clock: MockClock,
) -> None:
    line = Line(buffer=2)
    line.tell("ended a", "progress b", "ended c", "progress d", "ended e", "progress f")

    assert await line.read() == [
        "snapshot", "ended a", "ended c", "lagged 2", "ended e", "progress f"
    ]  # fmt: skip


async def test_ends_alone_are_never_too_many(autojump_clock: MockClock) -> None:
    line = Line(buffer=1)
    ends = [f"ended {number}" for number in range(500)]
    for end in ends:
        line.tell(end)

    assert await line.read() == ["snapshot", *ends]


async def test_a_snapshot_that_was_not_read_yet_is_never_dropped(autojump_clock: MockClock) -> None:
    line = Line(buffer=1)
    line.tell("progress 0", "progress 1")

    assert await line.read() == ["snapshot", "lagged 1", "progress 1"]


TOLD = st.lists(
    st.sampled_from(["progress", "progress", "started", "ended"]), min_size=1, max_size=6
)


@given(st.integers(1, 4), st.lists(st.one_of(TOLD, st.integers(1, 5)), max_size=20))
def test_whatever_the_buffer_all_is_told_or_counted_in_order(
    buffer: int, steps: list[list[str] | int]
) -> None:
    async def main() -> tuple[list[str], list[str]]:
        line, numbers = Line(buffer), count()
        told, read = [], []
        for step in steps:
            if isinstance(step, list):
                news = [f"{kind} {next(numbers)}" for kind in step]
                told += news
                line.tell(*news)
                continue
            for _ in range(step):
                with trio.move_on_after(0):
                    read.append(words(await anext(line.feed)))
        return told, read + await line.read()

    told, read = trio.run(main, clock=MockClock(autojump_threshold=0))

    lagged = sum(int(item.split()[1]) for item in read if item.startswith("lagged"))
    events = [item for item in read[1:] if not item.startswith("lagged")]
    assert read[0] == "snapshot"
    assert events == [item for item in told if item in set(events)]
    assert {item for item in told if item.startswith("ended")} <= set(events)
    assert len(events) + lagged == len(told)


# --- reading -------------------------------------------------------------------------------------


async def test_a_reader_that_waits_is_woken(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = Line(begin=False)
    read: list[str] = []

    async def reads() -> None:
        while True:
            await collect(line, read)

    nursery.start_soon(reads)
    for happens in (line.begin, partial(line.tell, "ended a"), partial(line.tell, "ended b")):
        await wait_all_tasks_blocked()
        happens()
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()

    assert read == ["snapshot", "ended a", "ended b"]


async def test_a_second_reader_is_refused_and_the_first_goes_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = Line()
    await line.read()
    read: list[str] = []
    nursery.start_soon(lambda: collect(line, read))
    await wait_all_tasks_blocked()

    with pytest.raises(trio.BusyResourceError):
        await anext(line.feed)

    line.tell("ended a")
    await wait_all_tasks_blocked()
    assert read == ["ended a"]


async def test_a_reader_of_a_full_buffer_lets_others_run_at_least_every_64_events(
    autojump_clock: MockClock,
) -> None:
    line, read = Line(), [0] * 8
    line.tell(*(f"progress {number}" for number in range(500)))

    for turn in range(8):
        with trio.CancelScope() as scope:
            scope.cancel()  # so that the next checkpoint ends the turn
            while sum(read) < 501:
                await anext(line.feed)
                read[turn] += 1

    assert sum(read) == 501
    assert max(read) == 64


async def test_a_reader_that_waited_is_not_made_to_yield_again_at_once(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    line.tell("ended a")

    with trio.CancelScope() as scope:
        scope.cancel()
        read = [words(await anext(line.feed)) for _ in range(2)]

    assert read == ["snapshot", "ended a"]


async def test_a_read_that_is_cancelled_while_it_waits_loses_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = Line()
    await line.read()

    with trio.CancelScope() as scope:
        nursery.start_soon(lambda: cancel_and_tell(scope, line))
        await anext(line.feed)

    assert scope.cancelled_caught
    assert await line.read() == ["ended a"]


async def cancel_and_tell(scope: trio.CancelScope, line: Line) -> None:
    """Have the reader's end and its event come in one pass of the loop."""
    scope.cancel()
    line.tell("ended a")


async def test_reads_that_are_cancelled_again_and_again_lose_nothing(
    autojump_clock: MockClock,
) -> None:
    line, told = Line(), [f"progress {number}" for number in range(200)]
    line.tell(*told)
    read: list[str] = []

    while len(read) < 201:
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(201 - len(read)):
                await collect(line, read)

    assert read == ["snapshot", *told]


# --- the end -------------------------------------------------------------------------------------


async def test_when_the_system_is_gone_the_error_comes_after_what_was_told(
    autojump_clock: MockClock,
) -> None:
    line = Line(buffer=1)
    line.tell("progress a", "progress b")
    line.session.disconnected(actorq.ActorDied("it is over"))

    read = [words(await anext(line.feed)) for _ in range(3)]

    assert read == ["snapshot", "lagged 1", "progress b"]
    with pytest.raises(actorq.ActorDied, match="it is over"):
        await anext(line.feed)


async def test_whoever_waits_when_the_system_is_gone_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = Line(begin=False)

    async def ends() -> None:
        await wait_all_tasks_blocked()
        line.session.disconnected(actorq.ActorDied("it is over"))

    nursery.start_soon(ends)

    for _ in range(2):
        with pytest.raises(actorq.ActorDied, match="it is over"):
            await anext(line.feed)


async def test_an_error_that_is_raised_again_does_not_grow(autojump_clock: MockClock) -> None:
    line, lengths = Line(begin=False), []
    line.session.disconnected(actorq.ActorDied("it is over"))

    for _ in range(3):
        with pytest.raises(actorq.ActorDied) as caught:
            await anext(line.feed)
        lengths.append(len(caught.traceback))

    assert len(set(lengths)) == 1


async def test_every_subscriber_gets_an_error_of_its_own(autojump_clock: MockClock) -> None:
    line = Line()
    other = Subscription(line.session, Filter(), 10)
    line.session.listen(other)
    line.session.disconnected(actorq.ActorDied("it is over"))
    await anext(line.feed)

    errors = []
    for feed in (line.feed, other):
        with pytest.raises(actorq.ActorDied) as caught:
            await anext(feed)
        errors.append(caught.value)

    assert errors[0] is not errors[1]


async def test_one_who_subscribes_when_the_system_is_gone_is_told(
    autojump_clock: MockClock,
) -> None:
    session = Session("me")
    session.disconnected(actorq.ActorDied("it is over"))
    feed = Subscription(session, Filter(), 10)
    session.listen(feed)

    with pytest.raises(actorq.ActorDied, match="it is over"):
        await anext(feed)


async def test_reading_after_the_block_is_an_error_and_no_endless_wait(
    autojump_clock: MockClock,
) -> None:
    async with open_quietly() as system:
        async with system.subscribe() as events:
            await anext(events)

        with trio.fail_after(1), pytest.raises(trio.ClosedResourceError):
            await anext(events)


async def test_whoever_waits_for_an_event_when_the_block_is_left_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    told: list[BaseException] = []

    async def reads(events: Subscription) -> None:
        try:
            async for _ in events:
                pass
        except trio.ClosedResourceError as error:
            told.append(error)

    async with open_quietly() as system:
        async with system.subscribe() as events:
            nursery.start_soon(reads, events)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()

    nursery.cancel_scope.cancel()
    assert len(told) == 1


# --- a new connection ----------------------------------------------------------------------------


def test_who_has_left_is_not_subscribed_again() -> None:
    line = Line()
    line.session.stop_listening(line.number)
    assert line.sent[-1] == m.Unsubscribe(line.number)
    line.sent.clear()

    line.reconnect()
    line.tell("ended a")

    assert line.sent == [m.ClientHello("me")]
    assert not any(line.session.tables().values())


def test_who_has_left_before_the_answer_is_not_subscribed_again() -> None:
    line = Line(begin=False)
    line.session.stop_listening(line.number)
    line.sent.clear()

    line.reconnect()

    assert line.requests == []
    assert not any(line.session.tables().values())


def test_a_subscription_that_was_not_answered_is_asked_for_again_once() -> None:
    line = Line(begin=False)

    line.reconnect()

    [first, again] = line.requests
    assert again == first
    assert again.since is None


def test_a_new_connection_asks_for_what_was_not_told_yet() -> None:
    line = Line()
    line.reconnect()
    line.begin(at=110)
    line.tell("progress a", at=120)

    line.reconnect()

    assert [request.since for request in line.requests] == [None, 100, 120]
    assert {request.subscription for request in line.requests} == {line.number}
    assert len({request.request for request in line.requests}) == 3


async def test_a_new_connection_hears_how_long_ago_this_was_told_something(
    mock_clock: MockClock,
) -> None:
    line = Line()
    line.session.received(m.ClientWelcome("here", 0, at=100.0))
    line.reconnect()
    mock_clock.jump(5)
    line.begin(at=110)
    line.tell("progress a", at=120)
    mock_clock.jump(30)
    line.reconnect()
    mock_clock.jump(4)
    line.reconnect()

    assert [request.away for request in line.requests[-2:]] == [30, 34]


async def test_a_new_connection_gives_another_snapshot_and_the_ends_that_were_missed(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    line.tell("started a", "ended b", at=120)
    await line.read()

    line.reconnect()
    line.begin(at=130)
    line.tell("ended b", "ended c", at=120)
    line.tell("ended a", at=130)

    assert await line.read() == ["snapshot", "ended c", "ended a"]


async def test_an_end_that_is_told_again_after_several_cuts_is_told_once(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    for _ in range(3):
        line.tell("ended a", "ended b", at=120)
        line.reconnect()
        line.begin(at=130)
    line.tell("ended a", "ended b", "ended c", at=120)

    assert sorted(set(await line.read())) == ["ended a", "ended b", "ended c", "snapshot"]


async def test_a_run_that_is_told_after_a_cut_is_not_mistaken_for_the_one_before(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    line.tell("ended a")
    await line.read()

    line.reconnect()
    line.begin()
    line.tell("ended a", "submitted a")

    assert await line.read() == ["snapshot", "submitted a"]


async def test_without_a_cut_two_runs_that_end_in_the_same_instant_are_two_ends(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    await line.read()

    line.tell("ended a", "submitted a")
    line.tell("ended a")

    assert await line.read() == ["ended a", "submitted a", "ended a"]


async def test_what_was_told_before_a_cut_is_read_before_the_new_snapshot(
    autojump_clock: MockClock,
) -> None:
    line = Line()
    line.tell("submitted a", "started a", "ended a")

    line.reconnect()
    line.begin()
    line.tell("submitted b")

    assert await line.read() == [
        "snapshot", "submitted a", "started a", "ended a", "snapshot", "submitted b"
    ]  # fmt: skip


async def test_what_was_dropped_before_a_cut_is_counted_before_the_new_snapshot(
    autojump_clock: MockClock,
) -> None:
    line = Line(buffer=1)
    line.tell("progress 0", "progress 1")
    line.reconnect()
    line.begin()

    line.tell("progress 2", "progress 3")

    assert await line.read() == ["snapshot", "lagged 2", "snapshot", "lagged 1", "progress 3"]


# --- crashes of the queue actor ------------------------------------------------------------------


async def nap(seconds: float) -> None:
    await trio.sleep(seconds)  # virtual


async def explode() -> None:
    raise ValueError


async def work(system: actorq.System) -> set[str]:
    """Have tasks end in every way, one after the other and together; return their ids."""
    stubborn = actorq.task(retry=actorq.Retry(attempts=2, delay=1, jitter=0))(explode)
    handles = [await system.submit(nap, 0), await system.submit(stubborn)]
    handles += await system.submit_many(actorq.task(nap).message(n % 3) for n in range(6))
    handles += [await system.submit(actorq.task(delay=3)(nap), 1)]
    handles += [await system.submit(actorq.task(timeout=2)(nap), 50)]
    await trio.sleep(1.5)  # virtual
    running, waiting = await system.submit(nap, 100), await system.submit(explode)
    await waiting.wait()
    await running.cancel()
    await system.retry(ids=[waiting.id])
    await system.join()
    return {handle.id for handle in (*handles, running, waiting)}


async def reads(
    system: actorq.System, which: dict[str, Any], seen: list[Any],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    async with system.subscribe(**which) as events:
        seen.append(await anext(events))
        task_status.started()
        while True:
            seen.append(await anext(events))


@MOMENTS
@PATHS
async def test_every_end_is_told_once_though_the_queue_actor_crashes_at_any_commit(
    autojump_clock: MockClock, suspends: bool, applied: bool
) -> None:
    for number in count(1):
        store = FaultyStore(MemoryStore(), suspends=suspends)
        seen: list[Any] = []
        async with open_quietly(store) as system, trio.open_nursery() as nursery:
            await nursery.start(reads, system, {}, seen)
            store.fail("commit", number, applied=applied, error=RuntimeError)
            ids = await work(system)
            await trio.sleep(1)  # virtual
            nursery.cancel_scope.cancel()

        runs = Counter(
            (item.id, item.head.since)
            for item in seen
            if isinstance(item, TaskEvent) and item.kind == "ended"
        )
        snapshots = sum(isinstance(item, actorq.Snapshot) for item in seen)
        where = f"crash at commit {number}"
        assert set(runs.values()) == {1}, where
        assert {id for id, _ in runs} == ids, where
        assert len(runs) == len(ids) + 1, f"{where}: one has two runs"
        assert snapshots == 1 + store.faults, where
        if not store.faults:
            break

    assert number > 10


@MOMENTS
@PATHS
@pytest.mark.parametrize("by", ["ids", "task", "queue", "status"])
async def test_an_end_that_is_lost_in_a_crash_is_told_whatever_the_filter(
    autojump_clock: MockClock, by: str, suspends: bool, applied: bool
) -> None:
    store = FaultyStore(MemoryStore(), suspends=suspends)
    task = actorq.task(name="nap", queue="naps")(nap)
    message = task.message(2)
    which = {"ids": [message.id], "task": task, "queue": "naps", "status": "success"}
    seen: list[Any] = []
    async with open_quietly(store, result_ttl=0) as system, trio.open_nursery() as nursery:
        await nursery.start(reads, system, {by: which[by]}, seen)
        await system.submit(message)
        await trio.sleep(1)  # virtual
        store.fail("commit", applied=applied, error=RuntimeError)
        await trio.sleep(5)  # virtual
        nursery.cancel_scope.cancel()

    ends = [item.id for item in seen if isinstance(item, TaskEvent) and item.kind == "ended"]
    assert (ends, store.faults) == ([message.id], 1)


@PATHS
async def test_after_a_crash_the_new_snapshot_comes_before_the_ends_that_were_missed(
    autojump_clock: MockClock, suspends: bool
) -> None:
    store = FaultyStore(MemoryStore(), suspends=suspends)
    seen: list[Any] = []
    async with open_quietly(store) as system, trio.open_nursery() as nursery:
        handle = await system.submit(nap, 2)
        await trio.sleep(1)  # virtual
        await nursery.start(reads, system, {}, seen)
        store.fail("commit", applied=True, error=RuntimeError)
        await handle.wait()
        nursery.cancel_scope.cancel()

    assert [words(item) for item in seen] == ["snapshot", "snapshot", f"ended {handle.id}"]
    assert [item.counts[RUNNING] for item in seen[:2]] == [1, 0]


@PATHS
async def test_what_ended_before_one_subscribed_is_not_told_after_a_crash(
    autojump_clock: MockClock, suspends: bool
) -> None:
    store = FaultyStore(MemoryStore(), suspends=suspends)
    seen: list[Any] = []
    async with open_quietly(store) as system, trio.open_nursery() as nursery:
        await system.call(nap, 1)
        await trio.sleep(1)  # virtual
        await nursery.start(reads, system, {}, seen)
        store.fail("commit", error=RuntimeError)
        await system.submit(nap, 100)
        await trio.sleep(5)  # virtual
        nursery.cancel_scope.cancel()

    assert store.faults == 1
    assert [item for item in seen if isinstance(item, TaskEvent) and item.kind == "ended"] == []


@PATHS
async def test_a_run_that_failed_in_a_crash_is_told_before_the_retry_that_was_asked_for(
    autojump_clock: MockClock, suspends: bool
) -> None:
    """The retry is sent again on the new connection, like the subscription."""
    store = FaultyStore(MemoryStore(), suspends=suspends)
    seen: list[Any] = []
    async with open_quietly(store) as system, trio.open_nursery() as nursery:
        await nursery.start(reads, system, {}, seen)
        handle = await system.submit(actorq.task(timeout=1)(nap), 50)
        await trio.sleep(0.5)  # virtual
        store.fail("commit", applied=True, error=RuntimeError)
        await trio.sleep(0.51)  # virtual: the crash was, the new incarnation is not yet
        await system.retry(ids=[handle.id])
        await trio.sleep(5)  # virtual
        nursery.cancel_scope.cancel()

    kinds = Counter(str(item.kind) for item in seen if isinstance(item, TaskEvent))
    assert (store.faults, kinds["ended"], kinds["submitted"]) == (1, 2, 2)


async def test_when_the_system_is_closed_under_a_reader_it_reads_to_the_end(
    autojump_clock: MockClock,
) -> None:
    seen: list[Any] = []

    async def reads_on(system: actorq.System, task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(actorq.ActorDied):
            await reads(system, {}, seen, task_status)

    async with trio.open_nursery() as nursery, open_quietly() as system:
        await nursery.start(lambda task_status: reads_on(system, task_status))
        handle = await system.submit(actorq.task(delay=100)(nap), 1)

    assert [words(item) for item in seen] == [
        "snapshot", f"submitted {handle.id}", f"ended {handle.id}"
    ]  # fmt: skip
