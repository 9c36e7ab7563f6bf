"""One attempt, and its end in the words that the owner decides by."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.actors.calls import Direct, Encoded
from actorq.actors.executors.current import running
from actorq.actors.runner import Runner
from actorq.actors.slots import Slot
from actorq.errors import EncodeError, PayloadTooLarge, TaskTimeout
from actorq.model.messages import Finish, Grant
from actorq.model.options import NO_OPTIONS, Retry, TaskOptions
from actorq.model.records import Head, Output
from actorq.model.results import Progress
from actorq.model.status import RUNNING, FailureKind
from actorq.registry import Registry
from actorq.runtime.clock import AnchoredClock
from actorq.tasks import Call, Task

TWICE = TaskOptions(retry=Retry(attempts=3))


class Bench:
    """A slot, and what its runner says of its attempts."""

    def __init__(self, calls: Any = None) -> None:
        self.slot = Slot(5.0)
        self.started: list[Slot] = []
        self.progress: list[tuple[tuple[str, int], Progress]] = []
        self.clock = AnchoredClock()
        self.runner = Runner(
            calls or Direct(),
            self.clock,
            self.started.append,
            lambda key, progress: self.progress.append((key, progress)),
        )

    async def attempt(
        self,
        task: Task[..., Any],
        *args: Any,
        options: TaskOptions = NO_OPTIONS,
        remaining: float | None = None,
        attempts: int = 0,
        body: Any = None,
    ) -> Finish:
        """Run a task as a slot does, and return how it ended."""
        head = Head(
            "id", task.name, options, task.pool, None, 1.0, 1.0, 1.0, 1.0, RUNNING, 7, attempts
        )  # fmt: skip
        granted = Grant(head, body or Call(task, args, {}), remaining)
        with self.slot.scope:
            return await self.runner.attempt(self.slot, granted)
        return self.runner.stopped(self.slot, granted)

    def grant(self, task: Task[..., Any], *args: Any, options: TaskOptions) -> Grant:
        """Return a grant of a task."""
        head = Head("id", task.name, options, "main", None, 1.0, 1.0, 1.0, 1.0, RUNNING, 7)
        return Grant(head, Call(task, args, {}), None)


@actorq.task
async def echo(value: object) -> object:
    return value


@actorq.task
async def nap(seconds: float) -> float:
    await trio.sleep(seconds)  # virtual
    return seconds


@actorq.task
async def fail(error: BaseException) -> None:
    raise error


@actorq.task
async def look() -> Any:
    return actorq.current()


# --- what it returns -----------------------------------------------------------------------------


async def test_a_value(autojump_clock: MockClock) -> None:
    bench = Bench()
    before = bench.clock.now()

    finish = await bench.attempt(echo, 7)

    assert (finish.id, finish.fence, finish.cause, finish.output) == ("id", 7, "ok", Output(7))
    assert finish.started_at == before
    assert bench.started == [], "it never had to wait"


async def test_a_task_that_waits_is_said_to_have_started(autojump_clock: MockClock) -> None:
    bench = Bench()

    await bench.attempt(nap, 1)

    assert bench.started == [bench.slot]


async def test_a_thread_is_said_to_have_started() -> None:
    bench = Bench()

    finish = await bench.attempt(actorq.task(len), "abc")

    assert finish.output == Output(3)
    assert bench.started == [bench.slot]


# --- what it raises ------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "text"), [(0, False), (1, False), (2, True)])
async def test_an_error_is_described_and_its_traceback_only_if_it_is_the_last(
    autojump_clock: MockClock, attempts: int, text: bool
) -> None:
    """Formatting one takes a millisecond."""
    finish = await Bench().attempt(fail, ValueError("no"), options=TWICE, attempts=attempts)

    assert (finish.cause, finish.retryable) == ("failed", True)
    assert finish.output.kind is FailureKind.ERROR
    assert finish.output.error is not None
    assert (finish.output.error.type, finish.output.error.message) == ("builtins.ValueError", "no")
    assert bool(finish.output.error.traceback) == text
    assert isinstance(finish.exception, ValueError)


async def test_an_error_that_its_policy_does_not_cover_is_final(
    autojump_clock: MockClock,
) -> None:
    options = TaskOptions(retry=Retry(attempts=3, never=(ValueError,)))

    finish = await Bench().attempt(fail, ValueError("no"), options=options)

    assert not finish.retryable
    assert finish.output.error is not None
    assert "ValueError: no" in finish.output.error.traceback


async def test_a_wish_to_run_later(autojump_clock: MockClock) -> None:
    finish = await Bench().attempt(fail, actorq.RetryLater(7))

    assert (finish.cause, finish.delay) == ("later", 7.0)


async def test_giving_up(autojump_clock: MockClock) -> None:
    finish = await Bench().attempt(fail, actorq.GiveUp("hopeless"), options=TWICE)

    assert (finish.cause, finish.retryable) == ("failed", False)


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), BaseException("odd")])
async def test_no_error_of_a_task_ends_its_worker(
    autojump_clock: MockClock, error: BaseException
) -> None:
    finish = await Bench().attempt(fail, error)

    assert finish.cause == "failed"


@pytest.mark.parametrize("late", [False, True])
async def test_nor_does_a_group_that_is_nested_more_deeply_than_python_can_call(
    autojump_clock: MockClock, late: bool
) -> None:
    @actorq.task
    async def sink() -> None:
        error: Exception = ValueError("at the bottom")
        for _ in range(20_000):
            error = ExceptionGroup("group", [error])
        try:
            await trio.sleep(10 * late)  # virtual
        finally:
            raise error

    finish = await Bench().attempt(sink, options=TaskOptions(timeout=5))

    assert finish.cause == "failed"
    assert finish.output.error is not None
    assert finish.output.error.type == "builtins.ExceptionGroup"


async def test_an_interrupt_from_the_terminal_does(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyboardInterrupt):
        await Bench().attempt(fail, KeyboardInterrupt())


async def test_a_stop_iteration_of_a_thread_is_its_error() -> None:
    def stop() -> None:
        raise StopIteration(7)

    finish = await Bench().attempt(actorq.task(stop))

    assert finish.output.error is not None
    assert finish.output.error.type == "builtins.StopIteration"


# --- what stops it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "remaining", "cause", "said"),
    [
        (2.0, None, "timeout", "longer than its timeout of 2 s in attempt 1"),
        (2.0, 9.0, "timeout", "longer than its timeout of 2 s in attempt 1"),
        (None, 2.0, "deadline", "its deadline of 60 s passed during attempt 1"),
        (9.0, 2.0, "deadline", "its deadline of 60 s passed during attempt 1"),
        (2.0, 2.0, "deadline", "its deadline of 60 s passed during attempt 1"),
    ],
)
async def test_whichever_limit_comes_first_is_the_cause(
    autojump_clock: MockClock, most: float | None, remaining: float | None, cause: str, said: str
) -> None:
    options = TaskOptions(timeout=most, deadline=60, retry=Retry(attempts=2))
    before = trio.current_time()

    finish = await Bench().attempt(nap, 100, options=options, remaining=remaining)

    assert trio.current_time() - before == pytest.approx(2)
    assert finish.cause == cause
    assert finish.output.kind is FailureKind.TIMEOUT
    assert finish.output.error is not None
    assert said in finish.output.error.message
    assert finish.output.error.matches(TaskTimeout, TimeoutError)
    assert finish.retryable == (cause == "timeout")


@pytest.mark.parametrize("remaining", [0.0, -5.0])
async def test_a_deadline_that_has_passed_on_the_way_stops_it_at_its_first_wait(
    autojump_clock: MockClock, remaining: float
) -> None:
    before = trio.current_time()

    finish = await Bench().attempt(nap, 100, options=TaskOptions(deadline=60), remaining=remaining)

    assert finish.cause == "deadline"
    assert trio.current_time() == before


@pytest.mark.parametrize("cause", ["cancelled", "handed back"])
async def test_who_is_told_to_stop_says_why_it_did(
    autojump_clock: MockClock, nursery: trio.Nursery, cause: Any
) -> None:
    bench, ends = Bench(), []

    async def run() -> None:
        ends.append(await bench.attempt(nap, 100))

    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    bench.slot.interrupt(cause, 5.0, "because")
    await wait_all_tasks_blocked()

    (finish,) = ends
    assert (finish.cause, finish.output) == (cause, Output())
    assert finish.started_at is not None


async def test_a_limit_of_one_attempt_is_none_of_the_next(autojump_clock: MockClock) -> None:
    bench = Bench()
    limited = bench.grant(nap, 1, options=TaskOptions(timeout=2))
    free = bench.grant(nap, 100, options=NO_OPTIONS)

    with bench.slot.scope:  # which a slot keeps from one to the next
        ends = [await bench.runner.attempt(bench.slot, granted) for granted in (limited, free)]

    assert [finish.cause for finish in ends] == ["ok", "ok"]


# --- what a task knows ---------------------------------------------------------------------------


async def test_a_task_knows_itself(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.runner.resources = "a pool"
    options = TaskOptions(meta={"user": 7})

    finish = await bench.attempt(look, options=options, remaining=3.0, attempts=1)

    current = finish.output.value
    assert (current.id, current.name, current.attempt) == ("id", look.name, 2)
    assert (current.meta, current.resources) == ({"user": 7}, "a pool")
    assert current.deadline == pytest.approx(trio.current_time() + 3)


async def test_a_task_without_a_limit_has_no_deadline(autojump_clock: MockClock) -> None:
    finish = await Bench().attempt(look)

    assert finish.output.value.deadline is None


async def test_progress_is_reported_with_the_grant_that_it_is_of(
    autojump_clock: MockClock,
) -> None:
    @actorq.task
    async def work() -> None:
        actorq.current().progress(1, 2, "half")

    bench = Bench()
    await bench.attempt(work)

    assert bench.progress == [(("id", 7), Progress(1.0, 2.0, "half"))]


async def test_nothing_of_an_attempt_is_left_in_the_slots_context(
    autojump_clock: MockClock,
) -> None:
    await Bench().attempt(nap, 1)

    with pytest.raises(LookupError):
        running.get()


async def test_nothing_of_a_thread_is_left_there_either() -> None:
    await Bench().attempt(actorq.task(len), "abc")

    with pytest.raises(LookupError):
        running.get()


# --- what it cannot run --------------------------------------------------------------------------


@actorq.task(name="double")
async def double(number: int) -> int:
    return 2 * number


@actorq.task(name="liar")
async def liar() -> int:
    return "no number"  # type: ignore[return-value]


@actorq.task(name="large")
async def large() -> bytes:
    return b"x" * 10_000


@actorq.task(name="crunch", run_in="process")
def crunch() -> None: ...


@pytest.fixture
async def encoded() -> Bench:
    return Bench(Encoded(Registry([double, liar, large, crunch]), 4_096))


@pytest.mark.parametrize(
    ("task", "body", "kind"),
    [
        (double, b"\xc1", EncodeError),
        (liar, liar.signature.encode_call((), {}), EncodeError),
        (large, large.signature.encode_call((), {}), PayloadTooLarge),
        (actorq.task(name="unknown")(trio.sleep), b"", actorq.UnknownTask),
    ],
)
async def test_what_cannot_be_read_run_or_written_is_that_tasks_failure(
    autojump_clock: MockClock, encoded: Bench, task: Task[..., Any], body: bytes, kind: Any
) -> None:
    finish = await encoded.attempt(task, body=body)

    assert finish.cause == "failed"
    assert finish.output.error is not None
    assert finish.output.error.matches(kind)
    assert task.name in finish.output.error.message


async def test_a_task_that_needs_a_process_fails_where_there_is_none(
    autojump_clock: MockClock, encoded: Bench
) -> None:
    finish = await encoded.attempt(crunch, body=crunch.signature.encode_call((), {}))

    assert finish.output.error is not None
    assert "it was opened with processes=0" in finish.output.error.message
