"""The promises of `docs/explanation/guarantees.md`, each as a whole."""

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.model.events import Event


@actorq.task
async def echo(value: object) -> object:
    await trio.sleep(1)  # virtual
    return value


async def forever() -> None:
    await trio.sleep_forever()


class Noted:
    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    def event(self, event: Event) -> None:
        self.kinds[event.kind.value] += 1


# 1. Accepted is kept.


async def test_every_accepted_task_reaches_exactly_one_end(autojump_clock: trio.abc.Clock) -> None:
    ran: Counter[int] = Counter()

    async def count(number: int) -> None:
        ran[number] += 1
        await trio.sleep(number % 3)  # virtual

    task = actorq.task(count)
    async with actorq.open_system(processes=0, concurrency=10) as system:
        handles = await system.submit_many(task.message(number) for number in range(500))
        await system.join()
        stats = await system.stats()

    assert [(await handle.wait()).status for handle in handles] == ["success"] * 500
    assert ran == Counter(range(500))
    assert (stats.success, stats.failure, stats.cancelled) == (500, 0, 0)


async def test_a_submit_cancelled_before_its_answer_leaves_nothing_to_run(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1, max_pending=1) as system:
        await system.submit_many([echo.message(1)])
        await system.submit(echo, 2)
        message = echo.message(3)
        with trio.move_on_after(0.5):
            await system.submit(message)

        await system.join()

        with pytest.raises(actorq.TaskNotFound):
            await system.result(message.id)


# 2. At least once, one winner.


async def test_the_value_of_an_overtaken_attempt_is_refused(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted, values = Noted(), []

    async def late() -> str:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 100)  # virtual
        values.append("made")
        return "too late"

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        handle = await system.submit(late)
        await wait_all_tasks_blocked()
        await handle.cancel(grace=1)
        await trio.sleep(200)  # virtual

        assert (await system.result(handle.id)).status == "cancelled"

    assert values == ["made"]
    assert noted.kinds["stale_result"] == 1


# 3. A result belongs to its id.


async def test_every_caller_gets_the_value_of_its_own_task(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    right = []

    async def ask(number: int) -> None:
        right.append(await system.call(echo, number) == number)

    async with actorq.open_system(processes=0, concurrency=7) as system:
        for number in range(300):
            nursery.start_soon(ask, number)
        await wait_all_tasks_blocked()
        await system.join()
        await wait_all_tasks_blocked()

    assert right == [True] * 300


# 4. Every verb is idempotent by id.


async def test_every_verb_may_be_repeated(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        message = actorq.task(forever).message()
        first, second = await system.submit(message), await system.submit(message)
        results = [await first.cancel("once"), await second.cancel("twice")]
        counts = [await system.discard(ids=[message.id]), await system.discard(ids=[message.id])]

    assert {result.reason for result in results} == {"cancelled by user: once"}
    assert counts == [1, 0]


# 5. Attempts count starts.


async def test_attempts_count_starts_and_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    async def moody() -> None:
        attempt = actorq.current().attempt
        raise actorq.RetryLater(1) if next(moods) else ValueError(attempt)

    moods = iter([True, False, True, False])
    task = actorq.task(retry=actorq.Retry(attempts=2, delay=1))(moody)
    async with actorq.open_system(processes=0) as system:
        result = await (await system.submit(task)).wait()

    assert (result.status, result.attempts) == ("failure", 2)
    assert result.error.message == "2"


# 6. Cancel always ends.


@pytest.mark.parametrize("options", [{}, {"delay": 60}, {"queue": "other", "priority": "low"}])
async def test_a_cancel_ends_a_task_wherever_it_is(
    autojump_clock: trio.abc.Clock, options: dict[str, Any]
) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        task = actorq.task(forever).options(**options)
        handles = [await system.submit(task) for _ in range(3)]
        await wait_all_tasks_blocked()

        statuses = [(await handle.cancel()).status for handle in handles]

        assert statuses == ["cancelled"] * 3
        assert not any(system.tables().values())
        assert trio.current_time() == pytest.approx(0)


async def test_a_cancelled_task_that_backs_off_never_runs_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    ran = []

    async def broken() -> None:
        ran.append(1)
        raise ValueError

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(actorq.task(retry=actorq.Retry(attempts=9))(broken))
        await wait_all_tasks_blocked()

        assert (await handle.cancel()).status == "cancelled"
        await trio.sleep(1_000)  # virtual

    assert ran == [1]


# 7. Deadlines travel.


async def test_a_deadline_is_counted_from_the_submission_through_every_wait(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.submit(trio.sleep, 7)  # virtual
        with pytest.raises(actorq.TaskTimeout):
            await system.call(actorq.task(deadline=10)(forever))

        assert trio.current_time() == pytest.approx(10)


# 9. Bounded by default.


async def test_a_full_queue_slows_its_submitters_down_and_loses_nothing(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    done = []

    async def produce(first: int) -> None:
        for number in range(first, first + 20):
            await system.submit(note, number)

    @actorq.task
    async def note(number: int) -> None:
        await trio.sleep(1)  # virtual
        done.append(number)

    async with actorq.open_system(processes=0, concurrency=2, max_pending=3) as system:
        for first in range(0, 200, 20):
            nursery.start_soon(produce, first)
        await wait_all_tasks_blocked()
        stats = (await system.stats()).queues["default"]
        await system.join()

    assert (stats.running, stats.pending, stats.parked) == (2, 3, 10)
    assert sorted(done) == list(range(200))


# 10. No tuning knob changes correctness.


@pytest.mark.parametrize(
    "knobs",
    [
        {"concurrency": 1},
        {"concurrency": 1, "max_pending": 1},
        {"concurrency": 3, "max_results": 0},
        {"concurrency": 500, "result_ttl": 0},
        {"concurrency": 2, "drain": 0, "grace": 0},
    ],
)
async def test_no_knob_changes_what_comes_out(
    autojump_clock: trio.abc.Clock, knobs: dict[str, Any]
) -> None:
    async with (
        actorq.open_system(processes=0, **knobs) as system,
        system.map(echo, range(60), limit=10) as values,
    ):
        assert [value async for value in values] == list(range(60))
