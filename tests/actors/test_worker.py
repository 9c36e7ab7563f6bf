"""The worker: slots honoured exactly, and every end of an attempt told for what it was."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.actors.calls import Encoded
from actorq.actors.slots import BURST
from actorq.actors.worker import SAY_MAX, WorkerActor
from actorq.codec.payload import encode_call
from actorq.contracts.link import Peer
from actorq.errors import Fenced
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import NO_OPTIONS, TaskOptions
from actorq.model.records import Cancel, Head, Ownership
from actorq.model.status import RUNNING
from actorq.registry import Registry
from actorq.runtime.clock import AnchoredClock
from actorq.stores.memory import MemoryStore
from actorq.testing.faults import FaultyStore


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


@pytest.mark.parametrize("slots", [1, 100])
async def test_tasks_that_never_wait_let_the_rest_of_the_program_run(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, slots: int
) -> None:
    ran: list[str] = []

    async def hungry() -> None:
        ran.append("task")

    async def other() -> None:
        await trio.lowlevel.checkpoint()
        ran.append("other")

    async with actorq.open_system(processes=0, concurrency=slots) as system:
        await system.submit_many(actorq.task(hungry).message() for _ in range(3_000))
        begun = len(ran)
        nursery.start_soon(other)
        await system.join()

    # It needs two passes of the loop, and begins somewhere in one.
    assert ran.index("other") - begun <= 3 * (BURST + slots) < 1_000


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


# --- its words with the owner ---------------------------------------------------------------


@actorq.task(name="nap")
async def nap(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


@actorq.task(name="slow to stop", timeout=60)
async def slow_to_stop(seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)  # virtual


class Line:
    """One connection to the owner, which only writes down."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def send(self, *messages: Any) -> None:
        self.said += messages

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    def credit(self, pool: str = "main") -> int:
        """Return the newest credit of a pool."""
        said: int = [ready.credit for ready in self.of(m.Ready) if ready.pool == pool][-1]
        return said


class Bench:
    """A worker whose owner is the test."""

    def __init__(self, concurrency: int, lifespan: Any = None) -> None:
        self.registry = Registry([nap, slow_to_stop], closed=False)
        self.events: list[EventKind] = []
        self.worker = WorkerActor(
            "node",
            1,
            concurrency=concurrency,
            processes=0,
            grace=5.0,
            lifespan=lifespan,
            calls=Encoded(self.registry, 4_096),
            registry=self.registry,
            clock=AnchoredClock(),
            tell=lambda kind, **_: self.events.append(kind),
        )
        self.up = trio.Event()
        self.line = Line()

    def connect(self) -> Line:
        """Begin a new connection."""
        self.line = Line()
        self.worker.connected(self.line)
        return self.line

    def grant(self, id: str, task: str, seconds: float, fence: int = 1) -> None:
        head = Head(
            id, task, NO_OPTIONS, "main", None, 1.0, 1.0, 1.0, 1.0, RUNNING, fence
        )  # fmt: skip
        self.worker.received(m.Grant(head, encode_call(task, (seconds,), {}), None))

    async def finished(self, count: int = 1) -> list[m.Finish]:
        """Wait for so many ends, and return all of them."""
        while len(self.line.of(m.Finish)) < count:  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.01)  # virtual
        return self.line.of(m.Finish)

    def answer(self, finish: m.Finish, *, accepted: bool = True) -> None:
        self.worker.received(m.Finished(finish.id, finish.fence, accepted))


class Inbox:
    """All of its mailbox that a worker uses."""

    def __init__(self, started: Callable[[], None]) -> None:
        self.started = started


@asynccontextmanager
async def at_work(concurrency: int = 2, lifespan: Any = None) -> Any:
    bench = Bench(concurrency, lifespan)

    def attach(peer: Peer) -> None:
        assert peer is bench.worker
        bench.connect()

    inbox: Any = Inbox(bench.up.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.worker.run, inbox, attach, lambda _: None)
        await bench.up.wait()
        yield bench
        nursery.cancel_scope.cancel()


async def test_a_worker_says_who_it_is_what_it_knows_and_how_much_it_takes(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work(3) as bench:
        hello, *others = bench.line.said

        assert (hello.worker, hello.node, hello.running) == ("node.1", "node", ())
        assert hello.slots == {"main": 3, "process": 0}
        assert hello.tasks == bench.registry.digests()
        assert hello.declared["slow to stop"] == m.Declared("main", TaskOptions(timeout=60))
        assert others == [m.Ready("main", 3), m.Ready("process", 0)]


async def test_an_end_is_said_again_on_each_connection_until_it_is_answered(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 1)
        (finish,) = await bench.finished()

        second = bench.connect()
        assert second.of(m.Finish) == [finish]
        assert second.of(m.WorkerHello)[0].running == (("a", 1),)
        bench.answer(finish)

        third = bench.connect()
        assert third.of(m.Finish) == []
        assert third.of(m.WorkerHello)[0].running == ()


async def test_what_ends_without_a_connection_is_said_on_the_next(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 1)
        bench.worker.disconnected(None)
        await trio.sleep(5)  # virtual

        line = bench.connect()

        assert [finish.id for finish in line.of(m.Finish)] == ["a"]
        assert line.credit() == 2


async def test_what_runs_is_in_the_next_hello_and_has_started_already(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 10, fence=7)
        await trio.sleep(1)  # virtual

        line = bench.connect()

        assert line.of(m.WorkerHello)[0].running == (("a", 7),)
        assert [(started.id, started.fence) for started in line.of(m.Started)] == [("a", 7)]
        assert line.credit() == 1


async def test_an_attempt_that_belongs_to_somebody_else_now_is_stopped_and_not_spoken_of(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "slow to stop", 1)
        bench.grant("b", "nap", 1)
        (finish,) = await bench.finished()
        line = bench.connect()

        bench.worker.received(m.Welcome((("a", 1), ("b", 1))))
        await trio.sleep(5)  # virtual

        assert line.of(m.Finish) == [finish]  # said with the hello, and never again
        assert line.credit() == 2
        assert bench.connect().of(m.Finish) == []


async def test_a_cancel_for_a_grant_that_no_slot_has_taken_yet_ends_it_unstarted(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work(1) as bench:
        bench.grant("a", "nap", 10)
        bench.grant("b", "nap", 10)
        bench.worker.received(m.Interrupt("b", 1, Cancel("user"), 1.0))

        (finish,) = bench.line.of(m.Finish)
        assert (finish.id, finish.cause, finish.started_at) == ("b", "cancelled", None)


async def test_a_cancel_for_an_older_grant_of_a_task_stops_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 1, fence=2)
        await wait_all_tasks_blocked()
        bench.worker.received(m.Interrupt("a", 1, Cancel("user"), 1.0))

        (finish,) = await bench.finished()
        assert finish.cause == "ok"


async def test_tasks_that_are_learnt_are_told(autojump_clock: trio.abc.Clock) -> None:
    async with at_work() as bench:
        bench.registry.learn(actorq.task(name="new")(trio.sleep))
        bench.worker.knows_more()

        (knows,) = bench.line.of(m.Knows)
        assert knows.tasks.keys() == {"nap", "slow to stop", "new"}
        assert knows.declared.keys() == knows.tasks.keys()


# --- draining -------------------------------------------------------------------------------


async def test_a_worker_that_drains_lets_what_runs_end_and_takes_nothing_more(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    drained: list[bool] = []
    async with at_work() as bench:
        bench.grant("a", "nap", 3)
        await wait_all_tasks_blocked()
        before = trio.current_time()

        async def drain() -> None:
            drained.append(await bench.worker.drain(10))

        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        assert bench.line.credit() == 1
        (finish,) = await bench.finished()
        bench.answer(finish)
        await wait_all_tasks_blocked()

        assert finish.cause == "ok"
        assert drained == [True]
        assert trio.current_time() - before == pytest.approx(3, abs=0.1)


async def test_what_is_left_after_that_is_handed_back(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    drained: list[bool] = []
    async with at_work() as bench:
        bench.grant("a", "slow to stop", 1)
        await wait_all_tasks_blocked()

        async def drain() -> None:
            drained.append(await bench.worker.drain(2))

        nursery.start_soon(drain)
        (finish,) = await bench.finished()
        assert (finish.cause, finish.started_at is not None) == ("handed back", True)
        assert not drained
        bench.answer(finish)
        await wait_all_tasks_blocked()
        assert drained == [True]


async def test_a_grant_that_was_under_way_is_handed_back_unstarted(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 100)
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.worker.drain, 1_000)
        await wait_all_tasks_blocked()

        bench.grant("b", "nap", 1)

        (finish,) = bench.line.of(m.Finish)
        assert (finish.id, finish.cause, finish.started_at) == ("b", "handed back", None)
        nursery.cancel_scope.cancel()


async def test_a_grant_that_waits_for_a_slot_runs_or_is_handed_back_when_the_worker_drains(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    async with at_work(1) as bench:
        bench.grant("a", "nap", 3)
        await wait_all_tasks_blocked()
        bench.grant("b", "nap", 3)

        nursery.start_soon(bench.worker.drain, 100)
        finishes = await bench.finished(2)

        assert {finish.id for finish in finishes} == {"a", "b"}
        assert {finish.cause for finish in finishes} <= {"ok", "handed back"}
        for finish in finishes:
            bench.answer(finish)


async def test_a_worker_that_has_nothing_is_drained_at_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        before = trio.current_time()

        assert await bench.worker.drain(100)
        assert await bench.worker.drain(100)
        assert trio.current_time() == before


async def test_an_owner_that_is_out_of_reach_does_not_hold_up_a_drain_for_long(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with at_work() as bench:
        bench.grant("a", "nap", 1)
        await wait_all_tasks_blocked()
        bench.worker.disconnected(None)
        before = trio.current_time()

        assert not await bench.worker.drain(2)
        assert trio.current_time() - before == pytest.approx(2 + 5 + SAY_MAX, abs=0.1)


async def test_the_lifespan_is_entered_before_the_hello_and_left_after_the_last_attempt(
    autojump_clock: trio.abc.Clock,
) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan() -> Any:
        steps.append("entered")
        yield "pool"
        steps.append("left")

    opened: AbstractAsyncContextManager[Any] = at_work(1, lifespan)
    async with opened as bench:
        assert steps == ["entered"]
        assert bench.line.of(m.WorkerHello)
        bench.grant("a", "slow to stop", 2)
        await wait_all_tasks_blocked()

    assert steps == ["entered", "left"]
    assert [finish.cause for finish in bench.line.of(m.Finish)] == []


async def test_the_worker_of_a_former_owner_hands_back_what_it_runs_and_takes_nothing_more(
    autojump_clock: MockClock,
) -> None:
    """Should the owner come back to this process first, it is as if the worker had stopped."""
    runs: list[int] = []

    async def linger() -> None:
        runs.append(actorq.current().attempt)
        await trio.sleep(60 if len(runs) == 1 else 0)  # virtual

    class Lost(MemoryStore):
        owned = True

        async def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
            return await super().acquire(partition, nonce, ttl) if self.owned else None

    inner = Lost()
    store = FaultyStore(inner, suspends=True)
    async with actorq.open_system(store, processes=0, concurrency=1, instruments=()) as system:
        first, second = await system.submit(linger), await system.submit(linger)
        await wait_all_tasks_blocked()
        inner.owned = False
        store.fail("commit", error=lambda: Fenced("taken over"))
        with pytest.raises(actorq.OwnedElsewhere):
            await system.call(linger)
        await trio.sleep(5)  # virtual
        assert runs == [1]
        inner.owned = True
        await trio.sleep(1)  # virtual
        await system.join()
        results = [await system.result(handle.id) for handle in (first, second)]

    assert [(r.status, r.attempts) for r in results] == 2 * [(actorq.TaskStatus.SUCCESS, 1)]
