"""The worker: slots honoured exactly, and every end of an attempt told for what it was."""

from contextvars import ContextVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


class Crowd:
    """A task that counts how many of it run at once."""

    def __init__(self, seconds: float = 1) -> None:
        self.seconds = seconds
        self.now = self.most = 0

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await trio.sleep(self.seconds)  # virtual
        self.now -= 1


class Failing:
    """A task that raises what it is given, one at each attempt, and then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.at: list[float] = []
        self.attempts: list[int] = []

    async def __call__(self) -> str:
        self.at.append(trio.current_time())
        self.attempts.append(actorq.current().attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def retried(function: object, **retry: object) -> actorq.Task[[], str]:
    return actorq.task(retry=actorq.Retry(**{"jitter": 0, **retry}))(function)


# --- slots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 7, 100])
async def test_as_many_tasks_run_at_once_as_there_are_slots_and_never_one_more(
    autojump_clock: trio.abc.Clock, concurrency: int
) -> None:
    crowd = Crowd()
    async with actorq.open_system(processes=0, concurrency=concurrency) as system:
        await system.submit_many(actorq.task(crowd).message() for _ in range(3 * concurrency))
        await system.join()

    assert crowd.most == concurrency
    assert trio.current_time() == pytest.approx(3)


async def test_a_slot_is_free_while_a_task_backs_off(autojump_clock: trio.abc.Clock) -> None:
    failing = Failing(ValueError())
    async with actorq.open_system(processes=0, concurrency=1) as system:
        handle = await system.submit(retried(failing, attempts=2, delay=60))
        await wait_all_tasks_blocked()

        assert await handle.status() == "scheduled"
        await system.call(Crowd(1))

        assert trio.current_time() == pytest.approx(1)
        assert await handle.value() == "done"


async def test_a_slot_that_was_cancelled_takes_the_next_task(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        for _ in range(3):
            handle = await system.submit(trio.sleep_forever)
            await wait_all_tasks_blocked()
            assert (await handle.cancel()).status == "cancelled"

        assert (await system.stats()).pools["main"].free == 1


async def test_tasks_that_never_wait_let_the_rest_of_the_program_run(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    ran: list[str] = []

    async def hungry() -> None:
        ran.append("task")

    async def other() -> None:
        await trio.lowlevel.checkpoint()
        ran.append("other")

    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.submit_many(actorq.task(hungry).message() for _ in range(900))
        nursery.start_soon(other)
        await system.join()

    assert ran.index("other") < 200


# --- order ----------------------------------------------------------------------------------


async def test_higher_priorities_go_first_and_equal_ones_in_order(
    autojump_clock: trio.abc.Clock,
) -> None:
    order = []

    async def note(name: str) -> None:
        order.append(name)

    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.submit(trio.sleep, 1)  # virtual
        task = actorq.task(note)
        for name, level in [
            ("low", "low"),
            ("one", "normal"),
            ("two", "normal"),
            ("high", "high"),
            ("critical", actorq.TaskPriority.CRITICAL),
        ]:
            await system.submit(task.options(priority=level), name)
        await system.join()

    assert order == ["critical", "high", "one", "two", "low"]


async def test_a_low_priority_does_not_starve(autojump_clock: trio.abc.Clock) -> None:
    order = []

    async def note(name: str) -> None:
        order.append(name)

    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.submit(trio.sleep, 7_202)  # virtual
        await system.submit(actorq.task(priority="low")(note), "old and low")
        await trio.sleep(7_201)  # virtual
        await system.submit(actorq.task(priority="high")(note), "new and high")
        await system.join()

    assert order == ["old and low", "new and high"]


# --- time -----------------------------------------------------------------------------------


async def test_a_delayed_task_starts_when_it_is_due(autojump_clock: trio.abc.Clock) -> None:
    failing = Failing()
    async with actorq.open_system(processes=0) as system:
        await system.call(actorq.task(delay=30)(failing))

    assert failing.at == [pytest.approx(30)]


async def test_an_attempt_that_takes_too_long_is_a_timeout(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskTimeout, match="longer than its timeout of 5 s in attempt 1"):
            await system.call(actorq.task(timeout=5)(trio.sleep_forever))

    assert trio.current_time() == pytest.approx(5)


async def test_each_attempt_has_its_own_timeout(autojump_clock: trio.abc.Clock) -> None:
    task = actorq.task(timeout=5, retry=actorq.Retry(attempts=3, delay=1, factor=1, jitter=0))
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskTimeout, match="attempt 3") as caught:
            await system.call(task(trio.sleep_forever))

    assert caught.value.matches(actorq.TaskTimeout)
    assert isinstance(caught.value, TimeoutError)
    assert trio.current_time() == pytest.approx(3 * 5 + 2 * 1)


async def test_a_deadline_ends_the_whole_life_of_a_task(autojump_clock: trio.abc.Clock) -> None:
    task = actorq.task(timeout=5, deadline=12, retry=actorq.Retry(attempts=9, delay=0))
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskTimeout, match="deadline of 12 s"):
            await system.call(task(trio.sleep_forever))

    assert trio.current_time() == pytest.approx(12)


async def test_a_deadline_ends_a_task_that_never_started(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(concurrency=0) as system:
        handle = await system.submit(actorq.task(deadline=12)(trio.sleep_forever))

        with pytest.raises(actorq.TaskTimeout, match="deadline of 12 s passed"):
            await handle.value()

    assert (await handle.wait()).attempts == 0


async def test_a_task_that_did_not_start_in_time_expires(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(concurrency=0) as system:
        handle = await system.submit(actorq.task(delay=10, expires=5)(trio.sleep_forever))

        with pytest.raises(actorq.TaskExpired, match="not started within 5 s"):
            await handle.value()

        assert trio.current_time() == pytest.approx(15), "it counts from when the task is due"


async def test_a_task_that_started_in_time_does_not_expire(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0) as system:
        assert await system.call(actorq.task(expires=5)(Crowd(60))) is None


async def test_a_task_that_ends_in_time_is_not_touched_by_the_timeout_of_the_one_before(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1) as system:
        await system.call(actorq.task(timeout=5)(Crowd(4)))

        await system.call(Crowd(60))

    assert trio.current_time() == pytest.approx(64)


# --- retries --------------------------------------------------------------------------------


async def test_a_failed_task_is_tried_again_with_growing_waits_up_to_a_cap(
    autojump_clock: trio.abc.Clock,
) -> None:
    failing = Failing(*[ValueError()] * 5)
    async with actorq.open_system(processes=0) as system:
        task = retried(failing, attempts=6, delay=1, factor=2, max_delay=5)

        assert await system.call(task) == "done"

    assert failing.at == [pytest.approx(at) for at in (0, 1, 3, 7, 12, 17)]
    assert failing.attempts == [1, 2, 3, 4, 5, 6]


async def test_jitter_moves_a_wait_by_its_share_at_most(autojump_clock: trio.abc.Clock) -> None:
    tasks = [Failing(ValueError()) for _ in range(50)]
    async with actorq.open_system(processes=0) as system:
        for task in tasks:
            await system.submit(retried(task, attempts=2, delay=10, jitter=0.5))
        await system.join()

    waits = [task.at[1] - task.at[0] for task in tasks]
    assert all(5 - 1e-3 <= wait <= 15 + 1e-3 for wait in waits)
    assert len(set(waits)) > 40


async def test_the_last_failure_is_the_one_that_is_told(autojump_clock: trio.abc.Clock) -> None:
    failing = Failing(ValueError("first"), KeyError("second"))
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(retried(failing, attempts=2))

        result = await handle.wait()

    assert (result.status, result.attempts) == ("failure", 2)
    assert result.error.matches(KeyError)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (OSError(), 2),
        (ConnectionError(), 2),
        (FileNotFoundError(), 1),
        (ValueError(), 1),
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [ConnectionError()])]), 2),
        (ExceptionGroup("", [ConnectionError(), FileNotFoundError()]), 1),
        (ExceptionGroup("", [ValueError()]), 1),
    ],
)
async def test_a_policy_covers_subclasses_and_members_of_groups(
    autojump_clock: trio.abc.Clock, error: Exception, attempts: int
) -> None:
    failing = Failing(error, error)
    task = retried(failing, attempts=2, on=(OSError,), never=(FileNotFoundError,))
    async with actorq.open_system(processes=0) as system:
        result = await (await system.submit(task)).wait()

    assert (result.status, result.attempts) == ("failure", attempts)


async def test_a_policy_may_be_about_timeouts_alone(autojump_clock: trio.abc.Clock) -> None:
    retry = actorq.Retry(attempts=3, on=(actorq.TaskTimeout,))
    async with actorq.open_system(processes=0) as system:
        slow = await system.submit(actorq.task(timeout=1, retry=retry)(trio.sleep_forever))
        broken = await system.submit(actorq.task(retry=retry)(Failing(ValueError())))

        assert (await slow.wait()).attempts == 3
        assert (await broken.wait()).attempts == 1


async def test_retry_later_spends_no_attempt(autojump_clock: trio.abc.Clock) -> None:
    failing = Failing(actorq.RetryLater(10), actorq.RetryLater(20))
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(failing)

        assert await handle.value() == "done"

    assert failing.at == [pytest.approx(at) for at in (0, 10, 30)]
    assert failing.attempts == [1, 1, 1]
    assert (await handle.wait()).attempts == 1


async def test_retry_later_may_come_in_a_group(autojump_clock: trio.abc.Clock) -> None:
    asked = ExceptionGroup("", [actorq.RetryLater(5), actorq.RetryLater(7)])
    async with actorq.open_system(processes=0) as system:
        assert await system.call(Failing(asked)) == "done"

    assert trio.current_time() == pytest.approx(7)


@pytest.mark.parametrize(
    "error", [actorq.GiveUp("no use"), ExceptionGroup("", [actorq.GiveUp("no use")])]
)
async def test_give_up_fails_at_once_whatever_the_policy(
    autojump_clock: trio.abc.Clock, error: Exception
) -> None:
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(retried(Failing(error), attempts=9))

        assert (await handle.wait()).attempts == 1
        with pytest.raises(actorq.TaskFailed) as caught:
            await handle.value()

    assert caught.value.matches(actorq.GiveUp)


async def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(
    autojump_clock: trio.abc.Clock,
) -> None:
    retry = actorq.Retry(attempts=9, delay=60)
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed, match="mine"):
            await system.call(actorq.task(deadline=30, retry=retry)(Failing(ValueError("mine"))))

    assert trio.current_time() == pytest.approx(0)


# --- context --------------------------------------------------------------------------------

colour: ContextVar[str] = ContextVar("colour", default="none")


async def test_each_attempt_has_context_variables_of_its_own(
    autojump_clock: trio.abc.Clock,
) -> None:
    seen = []

    async def paint(name: str) -> None:
        seen.append(colour.get())
        colour.set(name)
        await trio.sleep(1)  # virtual
        assert colour.get() == name

    async with actorq.open_system(processes=0, concurrency=2) as system:
        await system.submit_many(actorq.task(paint).message(str(n)) for n in range(6))
        await system.join()

    assert seen == ["none"] * 6


async def test_a_stream_task_submitted_plainly_runs_to_its_end(
    autojump_clock: trio.abc.Clock,
) -> None:
    yielded = []

    @actorq.task
    async def count() -> object:
        for number in range(3):
            yielded.append(number)
            yield number

    async with actorq.open_system(processes=0) as system:
        assert await system.call(count) is None

    assert yielded == [0, 1, 2]
