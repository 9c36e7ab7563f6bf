"""Every verb of a client elsewhere, over a queue node and worker nodes in one virtual program."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.actors.queue import QueueActor
from actorq.model.events import EventKind
from actorq.model.feed import Lagged, Snapshot, TaskEvent, TaskEventKind
from actorq.runtime.mailbox import Mailbox
from tests.nodes import (
    URL,
    Ears,
    Watched,
    add,
    cut,
    nap,
    open_client,
    open_hand,
    open_queue,
    out_of_reach,
    runs_at,
    three_nodes,
    until,
)


class Color(Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: int
    y: float
    when: datetime
    tags: frozenset[str]
    id: UUID | None = None


HERE = Point(1, 2.5, datetime(2030, 1, 2, tzinfo=UTC), frozenset({"a", "b"}), UUID(int=7))


@actorq.task(name="move")
async def move(point: Point, color: Color, where: tuple[Path, ...]) -> dict[Color, Point]:
    assert type(point) is Point
    assert type(color) is Color
    assert all(isinstance(path, Path) for path in where)
    return {color: point}


@actorq.task(name="fail")
async def fail(kind: str) -> None:
    if kind == "group":
        raise ExceptionGroup("both", [ValueError("one"), ExceptionGroup("in", [KeyError("two")])])
    error = ValueError("no good")
    error.add_note("look at the input")
    raise error


@actorq.task(name="inflate")
async def inflate(size: int) -> bytes:
    return b"x" * size


@actorq.task(name="measure")
async def measure(data: bytes) -> int:
    return len(data)


# --- values --------------------------------------------------------------------------------------


async def test_arguments_and_values_arrive_as_what_they_were(autojump_clock: MockClock) -> None:
    async with three_nodes(move) as (system, _, client):
        for submitter in (client, system):
            value = await submitter.call(move, HERE, Color.RED, where=(Path("a"), Path("b/c")))

            assert value == {Color.RED: HERE}
            assert type(value[Color.RED].tags) is frozenset


async def test_what_cannot_travel_is_refused_where_it_is_submitted(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(move, measure) as (system, _, client):
        for submitter in (client, system):
            with pytest.raises(actorq.InvalidArguments, match="'data'"):
                await submitter.submit(measure, "text")  # type: ignore[arg-type]
            with pytest.raises(actorq.EncodeError, match="anything"):
                await submitter.submit("anything", object())
            with pytest.raises(actorq.InvalidArguments):
                await submitter.submit(measure)  # type: ignore[call-arg]
            with pytest.raises(actorq.UnknownTask, match="cannot be found by its name"):
                await submitter.submit(lambda: None)
        assert (await client.stats()).queues == {}


async def test_a_value_that_cannot_travel_is_that_tasks_failure(
    autojump_clock: MockClock,
) -> None:
    @actorq.task(name="odd")
    async def odd(what: str) -> Any:
        return {"object": object(), "generator": (n for n in ()), "nan": float("nan")}[what]

    async with three_nodes(odd) as (_, _, client):
        for what in ("object", "generator"):
            with pytest.raises(actorq.TaskFailed) as caught:
                await client.call(odd, what)
            assert caught.value.matches(actorq.EncodeError)
        assert await client.call(odd, "nan") != 0


async def test_a_call_that_is_too_large_is_refused_and_the_connection_lives(
    autojump_clock: MockClock,
) -> None:
    ears = Ears()
    async with three_nodes(measure, max_message=10_000, instruments=[ears]) as (_, _, client):
        with pytest.raises(actorq.PayloadTooLarge, match="max_message=10000"):
            await client.submit(measure, b"x" * 20_000)
        with pytest.raises(actorq.PayloadTooLarge):
            await client.submit(measure.options(meta={"text": "x" * 20_000}), b"")
        assert await client.call(measure, b"x" * 9_000) == 9_000
        assert not ears.of(EventKind.DISCONNECTED)


async def test_a_value_and_meta_of_the_largest_size_travel_together(
    autojump_clock: MockClock,
) -> None:
    size = 9_900
    async with three_nodes(inflate, max_message=10_000) as (_, _, client):
        options = inflate.options(meta={"text": "x" * size})
        async with client.subscribe(task="inflate") as events:
            handle = await client.submit(options, size)
            result = await handle.wait()
            assert len(result.unwrap()) == size
            assert len(result.meta["text"]) == size
            async for event in events:
                if isinstance(event, TaskEvent) and event.kind is TaskEventKind.ENDED:
                    break
        assert await client.call(inflate, 3) == b"xxx"


async def test_a_value_that_the_client_cannot_take_is_an_error(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_queue(max_message=1_000_000) as system,
        open_hand(tasks=[inflate], max_message=1_000_000),
        open_client(max_message=10_000) as client,
    ):
        with pytest.raises(actorq.TaskFailed) as caught:
            await client.call(inflate, 500_000)
        assert caught.value.matches(actorq.PayloadTooLarge)
        assert await client.call(inflate, 3) == b"xxx"
        assert len(await system.call(inflate, 500_000)) == 500_000


async def test_many_calls_that_are_large_together_go_in_several_steps(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(measure, max_message=100_000) as (_, _, client):
        messages = [measure.message(b"x" * 20_000) for _ in range(50)]
        handles = await client.submit_many(messages)
        assert [await handle.value() for handle in handles] == [20_000] * 50

        noted = measure.options(meta={"text": "x" * 20_000})
        handles = await client.submit_many(noted.message(b"") for _ in range(50))
        assert [await handle.value() for handle in handles] == [0] * 50

        async with client.map(measure, [b"x" * 20_000] * 50, limit=50) as values:
            assert [value async for value in values] == [20_000] * 50


async def test_many_that_are_cancelled_half_way_are_withdrawn_as_a_whole(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(max_pending=100, max_message=100_000), open_client() as client:
        await client.submit_many(add.message(1, 2) for _ in range(95))
        large = [measure.message(b"x" * 40_000) for _ in range(10)]

        with trio.move_on_after(1) as waited:
            await client.submit_many(large)  # in pieces of two, of which two have room
        await wait_all_tasks_blocked()

        assert waited.cancelled_caught
        found = (await client.find(task=measure)).tasks
        assert {task.status for task in found} <= {"cancelled"}
        stats = await client.stats()
        assert (stats.queues["default"].pending, stats.queues["default"].parked) == (95, 0)
        await client.cancel_many(task=add)


async def test_many_that_are_refused_half_way_say_which_were_accepted(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(max_pending=100, max_message=100_000), open_client() as client:
        await client.submit_many(add.message(1, 2) for _ in range(95))
        large = [
            measure.options(when_full="raise").message(b"x" * 40_000) for _ in range(10)
        ]  # fmt: skip

        with pytest.raises(actorq.QueueFull) as caught:
            await client.submit_many(large)

        assert [handle.id for handle in caught.value.accepted] == [x.id for x in large[:4]]
        assert len((await client.find(task=measure)).tasks) == 4
        await client.cancel_many(status="pending")


async def test_text_that_is_no_utf_8_harms_nobody(autojump_clock: MockClock) -> None:
    @actorq.task(name="odd")
    async def odd(where: str) -> str:
        if where == "progress":
            actorq.current().progress(1, message="\udcff")
            await trio.sleep(1)  # virtual
            return "done"
        if where == "note":
            error = ValueError("x")
            error.add_note("\udcff")
            raise error
        raise ValueError("\udcff")

    ears = Ears()
    async with (
        open_queue(tasks=[odd], concurrency=1, instruments=[ears]),
        open_client(instruments=[ears]) as client,
        client.subscribe() as events,
    ):
        for where in ("error", "note"):
            result = await (await client.submit(odd, where)).wait()
            assert result.error is not None
            assert result.error.matches(ValueError)
        assert await client.call(odd, "progress") == "done"
        for wrong in (client.result, client.cancel):
            with pytest.raises((actorq.ActorqError, ValueError)):
                await wrong("\udcff")
        with pytest.raises((actorq.ActorqError, ValueError)):
            await client.find(task="\udcff")
        handle = await client.submit(nap, 100)
        assert (await handle.cancel("\udcff")).reason is not None

        cut(client)
        assert (await client.stats()).failure == 2
        assert await anext(events)
        assert not ears.of(EventKind.ACTOR_RESTARTED)


# --- how a task ends -----------------------------------------------------------------------------


async def test_an_error_comes_back_with_type_traceback_and_notes(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(fail) as (_, _, client):
        with pytest.raises(actorq.TaskFailed, match="ValueError: no good") as caught:
            await client.call(fail, "plain")

    failed = caught.value
    assert failed.matches(ValueError)
    assert not failed.matches(KeyError)
    assert failed.error is not None
    assert failed.error.type == "builtins.ValueError"
    assert failed.error.notes == ("look at the input",)
    assert 'error = ValueError("no good")' not in failed.error.traceback
    assert "in fail" in failed.error.traceback
    assert "ValueError: no good" in failed.error.traceback


async def test_a_group_comes_back_in_its_shape(autojump_clock: MockClock) -> None:
    async with three_nodes(fail) as (_, _, client):
        result = await (await client.submit(fail, "group")).wait()

    error = result.error
    assert error is not None
    one, inner = error.children
    assert (one.type, inner.type) == ("builtins.ValueError", "builtins.ExceptionGroup")
    assert [child.type for child in inner.children] == ["builtins.KeyError"]
    assert error.matches(KeyError)


async def test_timeouts_and_deadlines_hold_at_the_worker(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, _, client):
        before = trio.current_time()
        with pytest.raises(actorq.TaskTimeout, match="timeout of 2 s"):
            await client.call(nap.options(timeout=2), 100)
        with pytest.raises(actorq.TaskTimeout, match="deadline of 3 s"):
            await client.call(nap.options(deadline=3), 100)
        assert trio.current_time() - before == pytest.approx(5, abs=0.2)


async def test_a_deadline_travels_as_what_is_left_of_it(autojump_clock: MockClock) -> None:
    @actorq.task(name="ask", deadline=20)
    async def ask() -> float:
        deadline = actorq.current().deadline
        assert deadline is not None
        return deadline - trio.current_time()

    async with open_queue() as system:
        handle = await system.submit(ask)
        await trio.sleep(5)  # virtual
        async with open_hand(tasks=[ask]):
            assert await handle.value() == pytest.approx(15, abs=0.1)


async def test_a_task_that_was_not_started_in_time_expires(autojump_clock: MockClock) -> None:
    async with open_queue(), open_client() as client:
        with pytest.raises(actorq.TaskExpired):
            await client.call(add.options(expires=3), 1, 2)


async def test_retries_wait_at_the_queue_and_count_at_the_worker(
    autojump_clock: MockClock,
) -> None:
    seen: list[tuple[int, float]] = []

    @actorq.task(name="flaky", retry=actorq.Retry(attempts=4, delay=2, jitter=0, on=ValueError))
    async def flaky() -> str:
        seen.append((actorq.current().attempt, trio.current_time()))
        if len(seen) < 3:
            raise ValueError
        return "done"

    async with three_nodes(flaky, concurrency=1) as (_, _, client):
        handle = await client.submit(flaky)
        await trio.sleep(1)  # virtual
        assert await handle.status() == "scheduled"
        assert await client.call(add, 1, 2) == 3, "its slot is free meanwhile"
        result = await handle.wait()

    assert (result.value, result.attempts) == ("done", 3)
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    waits = [round(at - seen[0][1]) for _, at in seen]
    assert waits == [0, 2, 6]


async def test_a_task_may_ask_to_run_later_or_give_up(autojump_clock: MockClock) -> None:
    calls = Counter[str]()

    @actorq.task(name="steer", retry=actorq.Retry(attempts=5))
    async def steer(how: str) -> int:
        calls[how] += 1
        if how == "later" and calls[how] < 3:
            raise actorq.RetryLater(10)
        if how == "never":
            raise actorq.GiveUp("hopeless")
        return calls[how]

    async with three_nodes(steer) as (_, _, client):
        result = await (await client.submit(steer, "later")).wait()
        assert (result.value, result.attempts) == (3, 1)
        assert trio.current_time() >= 20
        with pytest.raises(actorq.TaskFailed, match="hopeless"):
            await client.call(steer, "never")
        assert calls["never"] == 1


async def test_a_task_knows_its_meta_attempt_and_resources(autojump_clock: MockClock) -> None:
    @actorq.task(name="look")
    async def look() -> tuple[str, int, dict[str, Any], str]:
        current = actorq.current()
        return current.name, current.attempt, dict(current.meta), current.resources

    @asynccontextmanager
    async def lifespan() -> Any:
        yield "a pool"

    async with open_queue(), open_hand(tasks=[look], lifespan=lifespan), open_client() as client:
        value = await client.call(look.options(meta={"trace": "abc", "n": 1}))

    assert value == ("look", 1, {"trace": "abc", "n": 1}, "a pool")


async def test_a_thread_is_told_to_stop_and_its_end_waited_for() -> None:
    begun, seen = trio.Event(), []
    token = trio.lowlevel.current_trio_token()

    @actorq.task(name="patient")
    def patient() -> None:
        token.run_sync_soon(begun.set)
        while not actorq.current().cancelled:
            time.sleep(0.005)  # real: it is in a thread
        seen.append("cancelled")

    async with three_nodes(patient) as (_, _, client):
        handle = await client.submit(patient)
        await begun.wait()
        await handle.cancel()

        assert seen == ["cancelled"]


@actorq.task(name="pid", run_in="process")
def pid(point: Point) -> tuple[int, Point]:
    return os.getpid(), point


@actorq.task(name="break", run_in="process")
def break_down(how: str) -> Any:
    if how == "raise":
        raise KeyError("gone")
    if how == "die":
        os._exit(3)
    if how == "hang":
        time.sleep(600)  # real: killed by then
    return object()


async def test_a_process_of_a_worker_node_runs_and_fails_as_a_loop_does() -> None:
    async with (
        open_queue(),
        actorq.open_worker(URL, tasks=[pid, break_down], processes=1, instruments=()),
        open_client() as client,
    ):
        assert await client.call(pid, HERE) == (pytest.approx(0, abs=10**9), HERE)
        for how, kind in (("raise", KeyError), ("return", actorq.EncodeError)):
            with pytest.raises(actorq.TaskFailed) as caught:
                await client.call(break_down, how)
            assert caught.value.matches(kind)
        with pytest.raises(actorq.WorkerLost):
            await client.call(break_down.options(max_deliveries=1), "die")
        with pytest.raises(actorq.TaskTimeout):
            await client.call(break_down.options(timeout=0.3), "hang")
        assert (await client.call(pid, HERE))[0] != os.getpid()


# --- structure across the wire -------------------------------------------------------------------


async def test_cancelling_a_call_runs_the_remote_finally_before_it_returns(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    async with three_nodes(watched.task) as (system, _, client):
        with trio.move_on_after(5):
            await client.call(watched.task)

        assert watched.steps == ["begun", "finally"]
        assert trio.current_time() == pytest.approx(6, abs=0.2)
        assert (await system.stats()).cancelled == 1


async def test_leaving_a_nursery_by_an_error_cancels_what_it_owns_and_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()

    async def own(client: actorq.Client) -> None:
        async with client.open_nursery() as nursery:
            for _ in range(3):
                await nursery.submit(watched.task)
            await until(lambda: watched.started == 3)
            await nursery.submit(fail, "plain")

    async with three_nodes(watched.task, fail) as (_, _, client):
        with pytest.raises(ExceptionGroup) as caught:
            await own(client)

        assert caught.group_contains(actorq.TaskFailed)
        assert watched.steps == ["begun"] * 3 + ["finally"] * 3


async def test_a_nursery_waits_for_all_that_it_owns(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, _, client):
        async with client.open_nursery() as nursery:
            handles = [await nursery.submit(nap, seconds) for seconds in (1, 3, 2)]
        assert trio.current_time() == pytest.approx(3, abs=0.2)
        assert [await handle.value() for handle in handles] == [1, 3, 2]


async def test_leaving_a_map_early_cancels_the_rest(autojump_clock: MockClock) -> None:
    watched = Watched()

    @actorq.task(name="one of many")
    async def one(number: int) -> int:
        if number:
            await watched.task.function()
        return number

    async with three_nodes(one) as (system, _, client):
        async with client.map(one, range(5)) as values:
            assert await anext(aiter(values)) == 0
            await until(lambda: watched.started == 4)
        assert watched.ended
        assert (await system.stats()).cancelled == 4


async def test_a_cancel_returns_the_terminal_result(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with three_nodes(watched.task) as (_, _, client):
        handle = await client.submit(watched.task)
        await until(lambda: watched.started)

        result = await handle.cancel("enough")

        assert watched.ended
        assert (result.status, result.reason) == ("cancelled", "cancelled by user: enough")
        assert await handle.wait() == result


async def test_a_task_that_does_not_stop_is_cancelled_unconfirmed_after_its_grace(
    autojump_clock: MockClock,
) -> None:
    @actorq.task(name="stubborn")
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)  # virtual
        return "too late"

    ears = Ears()
    async with three_nodes(stubborn, instruments=[ears]) as (system, _, client):
        handle = await client.submit(stubborn)
        await trio.sleep(1)  # virtual
        before = trio.current_time()

        result = await handle.cancel(grace=2)

        assert trio.current_time() - before == pytest.approx(2, abs=0.2)
        assert result.status == "cancelled"
        await trio.sleep(100)  # virtual
        assert (await system.result(handle.id)).status == "cancelled"
        assert EventKind.CANCEL_UNCONFIRMED in ears.kinds


# --- many, and by id -----------------------------------------------------------------------------


async def test_many_are_submitted_and_answered_each_by_its_own_value(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(concurrency=50) as (_, _, client):
        handles = await client.submit_many(add.message(number, 1) for number in range(2_500))

        assert [await handle.value() for handle in handles] == [n + 1 for n in range(2_500)]


async def test_map_keeps_the_order_and_map_results_and_as_completed_do_not_have_to(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(fail) as (_, _, client):
        async with client.map(nap, [3, 1, 2]) as values:
            assert [value async for value in values] == [3, 1, 2]
        async with client.map_results(nap, [3, 1, 2], ordered=False) as results:
            assert [result.value async for result in results] == [1, 2, 3]
        handles = [await client.submit(nap, seconds) for seconds in (3, 1, 2)]
        done = [result.value async for result in client.as_completed(handles)]
        assert done == [1, 2, 3]
        with pytest.raises(actorq.TaskFailed):
            async with client.map(fail, ["plain"]) as nothing:
                await anext(aiter(nothing))


async def test_a_handle_of_an_id_waits_wherever_it_was_submitted(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(move) as (system, _, client):
        by_system = await system.submit(nap, 3)
        by_client = await client.submit(move, HERE, Color.RED, ())

        assert await client.handle(by_system.id, nap).value() == 3
        assert await system.handle(by_client.id, move).value() == {Color.RED: HERE}
        async with open_client(tasks=[move]) as knowing, open_client() as other:
            assert await knowing.handle(by_client.id).value() == {Color.RED: HERE}
            plain = await other.handle(by_client.id).value()
            assert plain["red"]["x"] == 1


@pytest.mark.parametrize("verb", ["result", "cancel", "wait", "value", "status", "progress"])
async def test_an_unknown_id_is_task_not_found(autojump_clock: MockClock, verb: str) -> None:
    async with three_nodes() as (_, _, client):
        asked: Any = client.result if verb == "result" else getattr(client.handle("nobody"), verb)
        with pytest.raises(actorq.TaskNotFound, match="'nobody'"):
            await (asked("nobody") if verb == "result" else asked())


async def test_a_snapshot_of_what_runs_and_its_progress(autojump_clock: MockClock) -> None:
    @actorq.task(name="work")
    async def work() -> None:
        actorq.current().progress(1, 4, "a quarter")
        await trio.sleep(5)  # virtual

    async with three_nodes(work) as (_, worker, client):
        handle = await client.submit(work)
        await trio.sleep(1)  # virtual

        result = await client.result(handle.id)
        progress = await handle.progress()

        assert (result.status, result.attempts) == ("running", 1)
        assert runs_at(result, worker.node)
        assert result.started_at is not None
        assert progress == actorq.Progress(1, 4, "a quarter")


async def test_submitting_a_message_twice_is_submitting_it_once(
    autojump_clock: MockClock,
) -> None:
    runs = []

    @actorq.task(name="count")
    async def count() -> None:
        runs.append(1)

    async with three_nodes(count) as (_, _, client):
        message = count.message()
        first, second = await client.submit(message), await client.submit(message)
        await first.wait()
        third = await client.submit(message)
        await third.wait()

        assert [handle.existing for handle in (first, second, third)] == [False, True, True]
        assert len(runs) == 1


# --- looking, and by filter ----------------------------------------------------------------------


async def test_find_goes_page_by_page_with_values_and_errors(autojump_clock: MockClock) -> None:
    async with three_nodes(fail) as (_, _, client):
        handles = await client.submit_many(add.message(number, 0) for number in range(25))
        for handle in handles:
            await handle.wait()
        await (await client.submit(fail, "plain")).wait()

        found, cursor = [], None
        while True:
            page = await client.find(task=add, limit=10, cursor=cursor)
            found += page.tasks
            if (cursor := page.next) is None:
                break
        assert [result.value for result in found] == list(range(24, -1, -1))
        (failed,) = (await client.find(status="failure")).tasks
        assert failed.error is not None
        assert failed.error.matches(ValueError)


async def test_pages_that_are_too_large_are_shorter_and_nothing_is_left_out(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(inflate, max_message=100_000) as (_, _, client):
        for handle in await client.submit_many(inflate.message(50_000) for _ in range(40)):
            await handle.wait()

        found, cursor, pages = [], None, 0
        while True:
            page = await client.find(limit=1_000, cursor=cursor)
            found += page.tasks
            pages += 1
            if (cursor := page.next) is None:
                break

        assert len({result.id for result in found}) == len(found) == 40
        assert 2 <= pages <= 40


async def test_bulk_verbs_act_on_what_fits(autojump_clock: MockClock) -> None:
    runs = Counter[str]()

    @actorq.task(name="flaky")
    async def flaky(name: str) -> None:
        runs[name] += 1
        if runs[name] == 1:
            raise ValueError

    async with three_nodes(flaky) as (_, _, client):
        for name in "abc":
            await (await client.submit(flaky, name)).wait()
        assert await client.retry(status="failure", dry_run=True) == 3
        assert await client.retry(status="failure") == 3
        await client.join()
        assert runs == dict.fromkeys("abc", 2)
        assert await client.discard(task=flaky) == 3
        assert (await client.find()).tasks == []

        waiting = [await client.submit(nap.options(delay=100), 1) for _ in range(4)]
        assert await client.cancel_many(task=nap, reason="not needed") == 4
        assert [(await handle.wait()).status for handle in waiting] == ["cancelled"] * 4
        with pytest.raises(ValueError, match="say which tasks"):
            await client.discard()


async def test_the_whole_can_be_looked_at_from_afar(autojump_clock: MockClock) -> None:
    async with three_nodes(concurrency=7) as (system, worker, client):
        await client.submit(nap, 100)
        await client.submit("unheard of")
        await trio.sleep(1)  # virtual

        stats, tree = await client.stats(), await client.tree()
        tasks = {info.name: info for info in await client.tasks()}

        assert (stats.workers, stats.pools["main"].slots, stats.pools["main"].free) == (1, 7, 6)
        assert stats.unknown == {"unheard of": 1}
        assert (tasks["nap"].workers, tasks["unheard of"].workers) == (1, 0)
        assert tasks["unheard of"].waiting == 1
        assert tree.find("queue actor").incarnation == 1
        assert tree.workers[0].worker.startswith(f"{worker.node}.")
        assert tree.workers[0].running == 1
        assert str(tree) == str(await system.tree())
        await client.cancel_many(status=["pending", "running"])


async def test_join_waits_until_nothing_is_live(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, _, client):
        await client.join()
        await client.submit(nap, 5)
        with trio.move_on_after(1):
            await client.join()
        await client.join()
        assert trio.current_time() == pytest.approx(5, abs=0.2)


async def test_a_full_queue_is_waited_for_or_refused(autojump_clock: MockClock) -> None:
    async with three_nodes(concurrency=1, max_pending=2) as (system, _, client):
        for _ in range(3):
            await client.submit(nap, 5)
        with pytest.raises(actorq.QueueFull, match="max_pending"):
            await client.submit(nap.options(when_full="raise"), 1)
        before = trio.current_time()
        handle = await client.submit(nap, 1)
        assert trio.current_time() - before == pytest.approx(5, abs=0.5)
        assert await handle.value() == 1
        assert not any(system.tables()[name] for name in ("parked", "ready"))


# --- callbacks -----------------------------------------------------------------------------------


async def test_a_callback_may_be_an_actor_beside_the_submitter(
    autojump_clock: MockClock,
) -> None:
    told: list[actorq.TaskDone] = []

    async def listen(inbox: Mailbox[actorq.TaskDone]) -> None:
        while True:
            told.append(await inbox.receive())

    async with three_nodes(fail) as (_, _, client), actorq.open_system(processes=0) as local:
        ref = await local.spawn(listen)
        await client.submit(add.options(callback=ref, callback_data={"user": 7}), 1, 2)
        await client.submit(fail.options(callback=ref), "plain")
        await until(lambda: len(told) == 2)

    assert [(done.result.value, done.data) for done in told if done.result.ok] == [(3, {"user": 7})]
    assert [done.result.status for done in told if not done.result.ok] == ["failure"]


async def test_a_callback_may_be_a_task_which_some_worker_knows(
    autojump_clock: MockClock,
) -> None:
    told: list[Any] = []

    @actorq.task(name="note")
    async def note(done: actorq.TaskDone) -> None:
        told.append((done.result.name, done.result.value, done.data))

    async with three_nodes(move) as (_, _, client), open_hand(tasks=[note]):
        noted = move.options(callback=note, callback_data=(1, "two"))
        await client.submit(noted, HERE, Color.RED, ())
        await client.join()

    ((name, value, data),) = told
    assert (name, data) == ("move", (1, "two"))
    assert value["red"]["x"] == 1, "the worker of the callback does not know the other task"


async def test_a_callback_of_the_decorator_follows_a_task_submitted_by_name(
    autojump_clock: MockClock,
) -> None:
    told: list[Any] = []

    @actorq.task(name="note")
    async def note(done: actorq.TaskDone) -> None:
        told.append(done.result.value)

    first = actorq.task(name="first", callback=note)(add.function)
    async with open_queue(tasks=[first, note], concurrency=1), open_client() as client:
        assert await client.call("first", 1, 2) == 3
        await client.join()
    async with three_nodes(first, note) as (_, _, client):
        assert await client.call("first", 3, 4) == 7
        await client.join()

    assert told == [3, 7]


# --- who knows what ------------------------------------------------------------------------------


async def test_a_name_that_nobody_knows_waits_visibly_and_runs_when_somebody_does(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes() as (_, _, client):
        handle = await client.submit("triple", 7)
        await trio.sleep(60)  # virtual
        result = await client.result(handle.id)
        assert (result.status, result.reason) == (
            "pending", "no worker that is connected knows this task",
        )  # fmt: skip
        (found,) = (await client.find(status="pending")).tasks
        assert found.reason == result.reason

        triple = actorq.task(name="triple")(lambda number: 3 * number)
        async with open_hand(tasks=[triple]):
            assert await handle.value() == 21


async def test_a_name_runs_with_what_its_decorator_says(autojump_clock: MockClock) -> None:
    @actorq.task(name="strict", timeout=2, queue="slow")
    async def strict() -> None:
        await trio.sleep_forever()

    async with open_queue(), open_client() as client:
        handle = await client.submit("strict")
        async with open_hand(tasks=[strict]):
            result = await handle.wait()

    assert result.queue == "slow"
    assert result.error is not None
    assert result.error.matches(actorq.TaskTimeout)


async def test_a_worker_is_granted_only_what_it_knows(autojump_clock: MockClock) -> None:
    async with (
        open_queue() as system,
        open_hand(tasks=[add]) as adder,
        open_hand(tasks=[nap]) as napper,
    ):
        for _ in range(20):
            await system.submit(add, 1, 2)
            await system.submit(nap, 1)
        await system.join()

        for task in (await system.find()).tasks:
            assert runs_at(task, (adder if task.name == "add" else napper).node)


async def test_two_workers_share_evenly(autojump_clock: MockClock) -> None:
    async with (
        open_queue() as system,
        open_hand(tasks=[nap], concurrency=10) as one,
        open_hand(tasks=[nap], concurrency=10) as other,
    ):
        await one.wait_connected()
        await other.wait_connected()
        await system.submit_many(nap.message(1) for _ in range(400))
        await system.join()

        tasks = (await system.find(limit=1_000)).tasks
        shares = Counter(task.worker for task in tasks)

    assert set(shares.values()) == {200}
    assert trio.current_time() == pytest.approx(20, abs=1)


async def test_a_slow_worker_is_not_flooded(autojump_clock: MockClock) -> None:

    @actorq.task(name="job")
    async def fast() -> None:
        await trio.sleep(0.1)  # virtual

    @actorq.task(name="job")
    async def slow() -> None:
        await trio.sleep(10)  # virtual

    async with (
        open_queue() as system,
        open_hand(tasks=[fast], concurrency=2),
        open_hand(tasks=[slow], concurrency=2) as tortoise,
    ):
        await tortoise.wait_connected()
        handles = [await system.submit("job") for _ in range(200)]
        before = trio.current_time()
        for handle in handles:
            await handle.wait()

        by_tortoise = [
            t for t in (await system.find(limit=1_000)).tasks if t.worker == f"{tortoise.node}.1"
        ]
        assert len(by_tortoise) <= 6
        assert trio.current_time() - before <= 20


# --- failure -------------------------------------------------------------------------------------


async def test_verbs_only_take_longer_when_the_connection_is_cut(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(add_one, concurrency=50) as (_, worker, client):
        async with trio.open_nursery() as nursery:

            async def scissors() -> None:
                while True:
                    await trio.sleep(0.13)  # virtual
                    cut(client)
                    await trio.sleep(0.17)  # virtual
                    cut(worker)

            nursery.start_soon(scissors)
            handles = await client.submit_many(nap.message(0.5) for _ in range(500))
            async with client.map(add_one, range(100)) as doubled:
                assert [value async for value in doubled] == list(range(1, 101))
            values = [await handle.value() for handle in handles]
            nursery.cancel_scope.cancel()

        assert values == [0.5] * 500
        stats = await client.stats()
        assert (stats.success, stats.failure) == (600, 0)


@actorq.task(name="add one")
async def add_one(number: int) -> int:
    return number + 1


async def test_a_subscription_lasts_over_a_cut_and_misses_no_end(
    autojump_clock: MockClock,
) -> None:
    ended: list[str] = []
    async with three_nodes() as (_, _, client), client.subscribe(task=nap) as events:
        handles = [await client.submit(nap, 0.1 * number) for number in range(1, 40)]

        async def listen() -> None:
            while True:
                event = await anext(events)
                if isinstance(event, TaskEvent) and event.kind is TaskEventKind.ENDED:
                    ended.append(event.id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for _ in range(8):
                await trio.sleep(0.4)  # virtual
                cut(client)
            async with out_of_reach(client):
                await trio.sleep(2)  # virtual
            await until(lambda: len(ended) >= len(handles))
            nursery.cancel_scope.cancel()

    assert Counter(ended) == Counter(handle.id for handle in handles)


async def test_a_subscription_begins_with_how_things_stand(autojump_clock: MockClock) -> None:
    async with three_nodes() as (_, _, client):
        running = await client.submit(nap, 5)
        await trio.sleep(1)  # virtual
        async with client.subscribe(ids=[running.id]) as events:
            first = await anext(events)
            assert isinstance(first, Snapshot)
            assert [task.status for task in first.tasks] == ["running"]
            last = await anext(events)
            assert isinstance(last, TaskEvent)
            assert (last.kind, last.id) == (TaskEventKind.ENDED, running.id)


async def test_a_reader_that_is_too_slow_is_told_so(autojump_clock: MockClock) -> None:
    @actorq.task(name="chatty")
    async def chatty() -> None:
        for number in range(50):
            actorq.current().progress(number)
            await trio.sleep(0.1)  # virtual

    async with three_nodes(chatty) as (_, _, client), client.subscribe(buffer=5) as events:
        await client.call(chatty)
        await trio.sleep(1)  # virtual
        seen = []
        with trio.move_on_after(1):
            while True:
                seen.append(await anext(events))

    assert any(isinstance(event, Lagged) for event in seen)


async def test_a_lost_clients_scopes_are_cancelled_after_the_window(
    autojump_clock: MockClock,
) -> None:
    owned, free, ears = Watched("owned"), Watched("free"), Ears()
    async with three_nodes(owned.task, free.task, instruments=[ears]) as (_, _, client):
        plain = await client.submit(free.task)
        async with client.open_nursery() as nursery:
            handle = await nursery.submit(owned.task)
            await until(lambda: owned.started and free.started)
            before = trio.current_time()
            async with out_of_reach(client):
                await until(lambda: owned.ended)
                assert 5 <= trio.current_time() - before <= 7.5
            result = await handle.wait()
            assert (result.status, result.reason) == (
                "cancelled", "cancelled by scope: its client was out of reach for too long",
            )  # fmt: skip
        assert EventKind.CLIENT_LOST in ears.kinds
        assert not free.ended
        await plain.cancel()


async def test_a_short_cut_cancels_nothing(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with three_nodes(watched.task) as (_, _, client):
        async with client.open_nursery() as nursery:
            await nursery.submit(watched.task)
            await until(lambda: watched.started)
            async with out_of_reach(client):
                await trio.sleep(3.5)  # virtual
            await trio.sleep(10)  # virtual
            assert not watched.ended
            nursery.cancel_scope.cancel()
        assert watched.ended


async def test_a_block_whose_tasks_were_given_up_takes_no_more_and_a_new_one_does(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes() as (_, _, client):
        async with client.open_nursery() as nursery:
            async with out_of_reach(client):
                await trio.sleep(20)  # virtual
            await client.stats()
            with pytest.raises(actorq.SubmitError, match="takes no more of them"):
                await nursery.submit(nap, 1)
        async with client.open_nursery() as nursery:
            handle = await nursery.submit(nap, 1)
        assert await handle.value() == 1


async def test_a_restarted_server_knows_nothing_of_old_ids(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Never a hang, and never somebody else's result."""
    stop, stopped = trio.Event(), trio.Event()

    async def first() -> None:
        async with open_queue(drain=0):
            await stop.wait()
        stopped.set()

    nursery.start_soon(first)
    async with open_hand(tasks=[add, nap]), open_client() as client:
        done = await client.submit(add, 1, 2)
        assert await done.value() == 3
        other = (await client.submit(add, 3, 4)).id
        await client.join()
        stop.set()
        await stopped.wait()
        async with open_queue():
            with pytest.raises(actorq.TaskNotFound):
                await client.result(done.id)
            with pytest.raises(actorq.TaskNotFound):
                await client.handle(other).wait()
            with pytest.raises(actorq.TaskNotFound):
                await client.cancel(done.id)
            assert await done.value() == 3, "a handle keeps what it has seen"
            assert await client.call(add, 5, 6) == 11


async def test_a_task_that_the_old_server_took_with_it_is_not_waited_for_for_ever(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    scope = trio.CancelScope()

    async def first() -> None:
        with scope:
            async with open_queue(grace=0.1):
                await trio.sleep_forever()

    nursery.start_soon(first)
    async with open_client() as client:
        handle = await client.submit("nobody knows")
        scope.cancel()
        await until(lambda: client.session._port is None)
        async with open_queue():
            ended: Any = None
            try:
                ended = (await handle.wait()).status
            except actorq.TaskNotFound:
                ended = "not found"
            assert ended in ("cancelled", "not found")


async def test_the_queue_actor_may_crash_and_everybody_comes_back(
    autojump_clock: MockClock,
) -> None:
    ears = Ears()
    async with three_nodes(instruments=[ears]) as (system, _, client):
        handles = [await client.submit(nap, 3) for _ in range(5)]
        async with client.subscribe(task=nap) as events:
            assert isinstance(await anext(events), Snapshot)
            actor = system._house.queue
            assert isinstance(actor, QueueActor)
            actor._crash(ZeroDivisionError("a bug"))
            results = [await handle.wait() for handle in handles]

        assert [(result.value, result.attempts) for result in results] == [(3, 1)] * 5
        assert await client.call(add, 1, 2) == 3
        assert len(ears.of(EventKind.ACTOR_RESTARTED)) == 1
        assert not ears.of(EventKind.WORKER_LOST)


async def test_nothing_is_left_after_a_storm_of_everything(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with three_nodes(watched.task, fail, concurrency=20) as (system, worker, client):
        async with open_client() as other, trio.open_nursery() as nursery:

            async def storm(by: actorq.Client, number: int) -> None:
                await trio.sleep(number * 0.07)  # virtual
                match number % 5:
                    case 0:
                        with trio.move_on_after(0.5):
                            await by.call(watched.task)
                    case 1:
                        await (await by.submit(fail, "plain")).wait()
                    case 2:
                        async with by.map(nap, [0.1] * 5, limit=2) as values:
                            await anext(aiter(values))
                    case 3:
                        cut(by)
                        await by.call(nap.options(timeout=5), 0.2)
                    case 4:
                        cut(worker)
                        await by.find()

            for number in range(100):
                nursery.start_soon(storm, (client, other)[number % 2], number)
        await client.join()
        await trio.sleep(10)  # virtual
        await wait_all_tasks_blocked()

        assert watched.ended
        tables = {name: size for name, size in system.tables().items() if size}
        assert tables == {}
        assert not any(client.session.tables().values())


# --- over real sockets ---------------------------------------------------------------------------


async def test_all_of_it_goes_over_tls_with_certificates_that_are_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    key, cert, trusted, others = (tmp_path / name for name in ("key", "cert", "ca", "others"))
    own.private_key_pem.write_to_path(str(key))
    own.cert_chain_pems[0].write_to_path(str(cert))
    authority.cert_pem.write_to_path(str(trusted))
    trustme.CA().cert_pem.write_to_path(str(others))
    tokens = {"client": "client-secret", "worker": "worker-secret"}
    async with actorq.open_system(
        listen="wss://127.0.0.1:0", tls=(cert, key), tokens=tokens, concurrency=0, processes=0,
        instruments=(),
    ) as system:  # fmt: skip
        (url,) = system.addresses
        async with (
            actorq.open_worker(
                url, tasks=[move], tls=trusted, token="worker-secret", processes=0, instruments=()
            ),
            actorq.connect(url, tls=trusted, token="client-secret", instruments=()) as client,
        ):
            assert await client.call(move, HERE, Color.RED, ()) == {Color.RED: HERE}
        with pytest.raises(actorq.IncompatiblePeer, match="certificate"):
            async with actorq.connect(
                url, tls=others, token="client-secret", connect_timeout=1, instruments=()
            ):
                pytest.fail("it must not begin")


async def test_all_of_it_goes_over_a_unix_socket(tmp_path: Path) -> None:
    url = f"ws+unix://{tmp_path}/actorq.sock"
    async with (
        actorq.open_system(listen=url, concurrency=0, processes=0, instruments=()),
        actorq.open_worker(url, tasks=[add, inflate], processes=0, instruments=()),
        actorq.connect(url, instruments=()) as client,
    ):
        assert await client.call(add, 1, 2) == 3
        assert len(await client.call(inflate, 4_000_000)) == 4_000_000
        handles = await client.submit_many(add.message(number, 1) for number in range(1_000))
        assert [await handle.value() for handle in handles] == list(range(1, 1_001))
