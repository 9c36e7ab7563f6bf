"""The verbs of a client, and what cancelling each of them does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import actorq
from actorq.stores.memory import MemoryStore
from actorq.tasks import new_id
from actorq.testing.faults import FaultyStore
from tests.runtime.troupe import counted_steps


@actorq.task
async def echo(value: object) -> object:
    return value


@actorq.task
async def broken(value: object = None) -> None:
    raise ValueError(value)


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


@pytest.fixture
async def system(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    async with actorq.open_system(processes=0, tasks=[echo], max_pending=1_500) as system:
        yield system


@pytest.fixture(params=[False, True], ids=["immediate", "suspending"])
async def either(
    autojump_clock: trio.abc.Clock, request: pytest.FixtureRequest
) -> AsyncIterator[actorq.System]:
    """A system on a store that suspends, or not: callers learn in other ways of what they asked."""
    store = FaultyStore(MemoryStore(), suspends=request.param)
    async with actorq.open_system(store, processes=0) as system:
        yield system


@pytest.fixture
async def idle(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    """A system without a worker, so that whatever is accepted stays pending."""
    async with actorq.open_system(concurrency=0, max_pending=3) as system:
        yield system


async def fill(system: actorq.System) -> list[actorq.TaskHandle[object]]:
    return [await system.submit(echo, number) for number in range(3)]


def nothing_is_left(system: actorq.System) -> bool:
    return not any(system.tables().values())


# --- submit ---------------------------------------------------------------------------------


async def test_a_submitted_task_is_pending_until_a_slot_is_free(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    handle = await idle.submit(echo, 1)

    assert await handle.status() == "pending"


async def test_a_task_a_callable_a_name_and_a_message_can_be_submitted(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    handles = [
        await system.submit(echo, 1),
        await system.submit(len, [1, 1]),
        await system.submit(echo.name, 3),
        await system.submit(echo.message(4)),
    ]

    assert [await handle.value() for handle in handles[2:]] == [3, 4]
    assert await handles[0].value() == 1


async def test_a_submit_waits_at_a_full_queue(
    autojump_clock: trio.abc.Clock, idle: actorq.System, nursery: trio.Nursery
) -> None:
    first, *_ = await fill(idle)
    nursery.start_soon(idle.submit, echo, 4)
    await wait_all_tasks_blocked()
    assert (await idle.stats()).queues["default"].parked == 1

    await first.cancel()

    stats = (await idle.stats()).queues["default"]
    assert (stats.pending, stats.parked) == (3, 0)


async def test_submits_that_wait_for_room_are_let_in_in_the_order_in_which_they_came(
    autojump_clock: trio.abc.Clock, idle: actorq.System, nursery: trio.Nursery
) -> None:
    handles = await fill(idle)
    messages = [echo.message(number) for number in range(3)]
    for message in messages:
        nursery.start_soon(idle.submit, message)
        await wait_all_tasks_blocked()

    await handles[0].cancel()
    await handles[1].cancel()

    assert await idle.handle(messages[0].id).status() == "pending"
    assert await idle.handle(messages[1].id).status() == "pending"
    with pytest.raises(actorq.TaskNotFound):
        await idle.result(messages[2].id)
    nursery.cancel_scope.cancel()


async def test_when_full_raise_refuses_at_once(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    await fill(idle)

    with pytest.raises(actorq.QueueFull, match=r"'default' is full: 3 tasks"):
        await idle.submit(echo.options(when_full="raise"), 4)


async def test_each_queue_has_its_own_bound(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    await fill(idle)

    handle = await idle.submit(echo.options(queue="other", when_full="raise"), 4)

    assert await handle.status() == "pending"


async def test_submitting_a_message_twice_is_submitting_it_once(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    ran = []
    message = actorq.task(name="count")(ran.append).message(1)

    first, second = await system.submit(message), await system.submit(message)

    assert (first.existing, second.existing) == (False, True)
    assert first.id == second.id


async def test_a_message_of_an_ended_task_gets_its_outcome_and_runs_no_more(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    ran = []

    async def count() -> int:
        ran.append(1)
        return len(ran)

    message = actorq.task(count).message()
    assert await system.call(message) == 1

    assert await system.call(message) == 1
    assert ran == [1]


@pytest.mark.parametrize("verb", ["submit", "call", "wait", "value", "status", "cancel", "join"])
async def test_every_verb_is_a_checkpoint(
    autojump_clock: trio.abc.Clock, system: actorq.System, verb: str
) -> None:
    handle = await system.submit(echo, 1)
    await handle.wait()
    calls = {
        "submit": lambda: system.submit(echo, 1),
        "call": lambda: system.call(echo, 1),
        "wait": handle.wait,
        "value": handle.value,
        "status": handle.status,
        "cancel": handle.cancel,
        "join": system.join,
    }

    with assert_checkpoints():
        await calls[verb]()


# --- submit_many ----------------------------------------------------------------------------


async def test_many_tasks_are_submitted_in_order(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handles = await system.submit_many(echo.message(number) for number in range(1_200))

    assert [await handle.value() for handle in handles] == list(range(1_200))


async def test_no_task_at_all_can_be_submitted_too(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    assert await system.submit_many([]) == []


async def test_submit_many_waits_for_room_between_its_chunks(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handles = await system.submit_many(echo.message(number) for number in range(5_000))

    assert [await handle.value() for handle in handles] == list(range(5_000))


async def test_submit_many_cancelled_withdraws_its_chunk_and_no_earlier_one(
    autojump_clock: trio.abc.Clock,
    idle: actorq.System,
) -> None:
    messages = [echo.message(number) for number in range(6)]

    with trio.move_on_after(1) as scope:
        await idle.submit_many(messages)

    assert scope.cancelled_caught
    found = {task.id for task in (await idle.find()).tasks}
    assert found == {message.id for message in messages[:3]}
    assert (await idle.stats()).queues["default"].parked == 0


async def test_an_error_of_submit_many_has_the_handles_of_the_chunks_before_it(
    autojump_clock: trio.abc.Clock,
    idle: actorq.System,
) -> None:
    task = echo.options(when_full="raise")

    with pytest.raises(actorq.QueueFull) as caught:
        await idle.submit_many(task.message(number) for number in range(6))

    assert len(caught.value.accepted) == 3


# --- call -----------------------------------------------------------------------------------


async def test_call_returns_the_value(
    autojump_clock: trio.abc.Clock, either: actorq.System
) -> None:
    assert await either.call(echo, 1) == 1


async def test_call_raises_the_failure_with_the_original_as_its_cause(
    autojump_clock: trio.abc.Clock,
    either: actorq.System,
) -> None:
    with pytest.raises(actorq.TaskFailed, match="ValueError: no") as caught:
        await either.call(broken, "no")

    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.matches(ValueError)
    assert caught.value.name == broken.name


async def test_a_cancelled_call_cancels_its_task_and_waits_for_its_cleanup(
    autojump_clock: trio.abc.Clock,
    either: actorq.System,
) -> None:
    steps = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # virtual
            steps.append("cleaned up")

    with trio.move_on_after(1):
        await either.call(careful)

    assert steps == ["cleaned up"]
    assert nothing_is_left(either)


async def test_a_cancelled_call_does_not_cancel_a_task_that_it_did_not_create(
    autojump_clock: trio.abc.Clock,
    either: actorq.System,
) -> None:
    message = forever.message()
    handle = await either.submit(message)

    with trio.move_on_after(1):
        await either.call(message)

    assert await handle.status() == "running"


async def test_a_caller_is_woken_once_by_the_end_of_its_task(
    autojump_clock: trio.abc.Clock, either: actorq.System
) -> None:
    await either.call(echo, 0)

    with counted_steps() as steps:
        await either.call(echo, 1)

    assert len(steps.seen) == 2  # it asks and waits; it has the value


async def test_a_message_that_is_being_called_is_known_to_others_who_submit_it(
    autojump_clock: trio.abc.Clock, either: actorq.System, nursery: trio.Nursery
) -> None:
    message = forever.message()
    nursery.start_soon(either.call, message)
    await wait_all_tasks_blocked()

    handle = await either.submit(message)
    with trio.move_on_after(1):
        await either.call(message)

    assert handle.existing
    assert await handle.status() == "running"


async def test_a_call_that_is_refused_is_told_at_once(
    autojump_clock: trio.abc.Clock, either: actorq.System
) -> None:
    await either.submit(forever.options(key="k"))

    with pytest.raises(actorq.KeyConflict):
        await either.call(echo.options(key="k"), 1)


async def test_a_cancelled_call_of_a_pending_task_keeps_it_from_ever_running(
    autojump_clock: trio.abc.Clock,
    idle: actorq.System,
) -> None:
    message = echo.message(1)

    with trio.move_on_after(1):
        await idle.call(message)

    result = await idle.result(message.id)
    assert (result.status, result.attempts) == ("cancelled", 0)
    assert result.reason == "cancelled by scope: its caller was cancelled"


async def test_a_cancelled_call_does_not_wait_for_ever_for_a_task_that_ignores_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1_000)  # virtual

    async with actorq.open_system(processes=0, grace=2, instruments=()) as system:
        with trio.move_on_after(1):
            await system.call(stubborn)

        assert trio.current_time() == pytest.approx(3)


# --- results are bounded --------------------------------------------------------------------


async def test_a_result_expires_after_its_time(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, result_ttl=60) as system:
        handle = await system.submit(echo, 1)
        await handle.wait()
        await trio.sleep(59)  # virtual
        assert (await system.result(handle.id)).value == 1

        await trio.sleep(2)  # virtual

        with pytest.raises(actorq.TaskNotFound):
            await system.result(handle.id)
        assert await handle.value() == 1, "a handle keeps what it has seen"


async def test_a_task_can_have_a_time_of_its_own_for_its_result(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, result_ttl=60) as system:
        handle = await system.submit(echo.options(result_ttl=5), 1)
        await handle.wait()

        await trio.sleep(6)  # virtual

        with pytest.raises(actorq.TaskNotFound):
            await system.result(handle.id)


async def test_the_least_recently_used_results_go_first(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, max_results=3) as system:
        handles = [await system.submit(echo, number) for number in range(3)]
        for handle in handles:
            await handle.wait()
        await system.result(handles[0].id)

        await system.call(echo, 3)

        assert (await system.result(handles[0].id)).value == 0
        with pytest.raises(actorq.TaskNotFound):
            await system.result(handles[1].id)


async def test_no_result_can_be_kept_at_all(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, max_results=0) as system:
        handle = await system.submit(echo, 1)

        assert await handle.value() == 1, "the submitter is told all the same"
        with pytest.raises(actorq.TaskNotFound):
            await system.result(handle.id)


# --- by filter ------------------------------------------------------------------------------


async def test_find_gives_the_newest_first_in_pages(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    handles = await fill(idle)

    page = await idle.find(limit=2)
    rest = await idle.find(limit=2, cursor=page.next)

    found = [task.id for task in page.tasks + rest.tasks]
    assert found == [handle.id for handle in reversed(handles)]
    assert rest.next is None


async def test_find_takes_filters_together(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    await system.submit(forever.options(queue="slow"))
    wanted = await system.submit(broken.options(queue="slow"))
    await system.submit(broken)
    await wait_all_tasks_blocked()

    page = await system.find(status="failure", task=broken, queue="slow")

    assert [task.id for task in page.tasks] == [wanted.id]


async def test_find_takes_times_of_submission(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    early = await system.submit(echo, 1)
    await trio.sleep(10)  # virtual
    late = await system.submit(echo, 2)
    middle = (await late.wait()).submitted_at - timedelta(seconds=5)

    before, after = await system.find(before=middle), await system.find(after=middle)

    assert [task.id for task in before.tasks] == [early.id]
    assert [task.id for task in after.tasks] == [late.id]


async def test_a_wrong_filter_is_an_error_that_names_it(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    with pytest.raises(ValueError, match="filter 'status'"):
        await system.find(status="lost")
    with pytest.raises(TypeError, match="filter 'task'"):
        await system.find(task=7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="filter 'before'"):
        await system.find(before=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the error
    with pytest.raises(ValueError, match="limit must be 1 to 1000"):
        await system.find(limit=0)


@pytest.mark.parametrize("verb", ["cancel_many", "retry", "discard"])
async def test_a_bulk_verb_wants_to_be_told_which_tasks(
    autojump_clock: trio.abc.Clock, system: actorq.System, verb: str
) -> None:
    with pytest.raises(ValueError, match="say which tasks, by status=, task=, queue=, key=, ids="):
        await getattr(system, verb)()


@pytest.mark.parametrize(
    ("verb", "wrong"), [("cancel_many", "success"), ("retry", "running"), ("discard", "pending")]
)
async def test_a_bulk_verb_refuses_a_status_of_which_it_can_do_nothing(
    autojump_clock: trio.abc.Clock, system: actorq.System, verb: str, wrong: str
) -> None:
    act = getattr(system, verb)
    for status in (wrong, [wrong, *FITTING[verb]]):
        words = ", ".join(map(repr, FITTING[verb]))
        with pytest.raises(ValueError, match=f"'status' must be of {words}, not '{wrong}'$"):
            await act(status=status, dry_run=True)

    assert await act(status=FITTING[verb]) == 0


FITTING = {
    "cancel_many": ["scheduled", "waiting", "pending", "running"],
    "retry": ["failure", "cancelled"],
    "discard": ["success", "failure", "cancelled"],
}


async def test_a_reason_that_is_no_text_is_named(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    for cancelling in (
        system.cancel("an id", reason=3),  # type: ignore[arg-type]
        system.cancel_many(queue="default", reason=3),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="reason must be a string, not 3"):
            await cancelling


async def test_cancel_many_cancels_what_fits(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    doomed = [await system.submit(forever) for _ in range(200)]
    spared = await system.submit(forever.options(queue="other"))
    await wait_all_tasks_blocked()

    assert await system.cancel_many(queue="default", reason="enough", dry_run=True) == 200
    assert await system.cancel_many(queue="default", reason="enough") == 200

    results = [await handle.wait() for handle in doomed]
    assert {(result.status, result.reason) for result in results} == {
        ("cancelled", "cancelled by user: enough")
    }
    assert await spared.status() == "running"


async def test_retry_starts_a_new_run_of_the_same_id(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    outcomes = [ValueError("first"), "second"]

    async def at_last() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    handle = await system.submit(at_last)
    await handle.wait()

    assert await system.retry(ids=[handle.id], dry_run=True) == 1
    assert await system.retry(status="failure") == 1

    assert await system.handle(handle.id).value() == "second"
    assert (await handle.wait()).status == "failure", "a handle that saw an outcome keeps it"


async def test_retry_leaves_what_succeeded_alone(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(echo, 1)
    await handle.wait()

    assert await system.retry(ids=[handle.id]) == 0


async def test_a_cancelled_task_can_be_retried(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(echo.options(delay=60), 1)
    await handle.cancel()

    assert await system.retry(ids=[handle.id]) == 1

    assert await system.handle(handle.id).value() == 1


async def test_discard_forgets_ended_tasks_and_no_live_one(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    ended = await system.submit(echo, 1)
    live = await system.submit(forever)
    await ended.wait()

    assert await system.discard(queue="default", dry_run=True) == 1
    assert await system.discard(queue="default") == 1

    with pytest.raises(actorq.TaskNotFound):
        await system.result(ended.id)
    assert await live.status() == "running"


# --- the whole ------------------------------------------------------------------------------


async def test_stats_count_tasks_slots_and_outcomes(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    await system.submit(forever)
    await system.submit(echo.options(delay=60), 1)
    await system.submit(broken)
    await system.call(echo, 1)

    stats = await system.stats()

    assert (stats.queues["default"].running, stats.queues["default"].scheduled) == (1, 1)
    assert (stats.pools["main"].slots, stats.pools["main"].free) == (100, 99)
    assert (stats.success, stats.failure, stats.cancelled) == (1, 1, 0)


async def test_join_waits_until_nothing_is_live(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    await system.submit(echo.options(delay=60), 1)

    await system.join()

    assert trio.current_time() == pytest.approx(60)
    assert nothing_is_left(system)


async def test_a_cancelled_join_touches_no_task(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(forever)

    with trio.move_on_after(1) as scope:
        await system.join()

    assert scope.cancelled_caught
    assert await handle.status() == "running"


async def test_a_join_that_was_cancelled_leaves_no_entry_behind(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    await system.submit(forever)
    before = system.tables()

    with trio.move_on_after(1):
        await system.join()

    assert system.tables() == before


async def test_after_the_block_every_verb_says_that_the_system_is_closed(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(echo, 1)

    with pytest.raises(actorq.ActorDied, match="closed"):
        await system.submit(echo, 1)
    with pytest.raises(actorq.ActorDied, match="closed"):
        await system.stats()
    with pytest.raises(actorq.ActorDied, match="closed"):
        await system.handle("other").wait()
    assert await handle.value() == 1


async def test_times_of_a_result_are_aware_and_in_order(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(echo.options(delay=10), 1)

    result = await handle.wait()

    assert result.submitted_at.tzinfo is UTC
    assert result.started_at - result.submitted_at == timedelta(seconds=10)
    assert result.completed_at >= result.started_at


async def test_a_message_may_be_twice_in_one_batch_and_runs_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    runs: list[int] = []
    message = actorq.task(runs.append).message(1)

    async with actorq.open_system(processes=0) as system:
        handles = await system.submit_many([message, message])

        assert [(await handle.wait()).status for handle in handles] == ["success"] * 2
        assert runs == [1]


async def test_a_wrong_cursor_and_a_batch_of_no_messages_are_named(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(TypeError, match="cursor"):
            await system.find(cursor=5)  # type: ignore[arg-type]
        for garbled in ("zzz", "", f"{new_id()}\n", new_id()[:-1], new_id().upper() + "0"):
            with pytest.raises(ValueError, match="cursor must be the 'next' of another page, not"):
                await system.find(cursor=garbled)
        with pytest.raises(TypeError, match="message"):
            await system.submit_many([len])  # type: ignore[list-item]
