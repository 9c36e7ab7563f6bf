"""Processes: killed on cancel and timeout, and what dies or cannot travel is one task's trouble."""

import os
import signal
import sys
import threading
import time
from contextvars import copy_context
from pathlib import Path

import pytest
import trio

import actorq
from actorq.actors.executors.process import run_child
from actorq.codec.pickled import decode_value, encode_call, encode_value


@actorq.task(run_in="process")
def identify(value: object = None) -> tuple[int, object]:
    return os.getpid(), value


@actorq.task(run_in="process")
def hang(begun: Path) -> None:
    begun.write_text(str(os.getpid()))
    time.sleep(600)  # real: killed by then


@actorq.task(run_in="process")
def die(mark: Path, times: int) -> str:
    with mark.open("a") as file:
        file.write("x")
    if len(mark.read_text()) <= times:
        os._exit(3)
    return "survived"


@actorq.task(run_in="process")
def explode(*args: object) -> None:
    raise ValueError(*args)


@actorq.task(run_in="process")
def leave(code: object) -> None:
    sys.exit(code)


@actorq.task(run_in="process")
def unpicklable() -> object:
    return threading.Lock()


class Grudge(Exception):
    """An exception that cannot be rebuilt from its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__("a grudge")


@actorq.task(run_in="process")
def bear_a_grudge() -> None:
    raise Grudge("a", "b")


class Trap:
    """A value that can be pickled and not unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return int, ("not a number",)


@actorq.task(run_in="process")
def return_a_trap() -> Trap:
    return Trap()


@actorq.task(run_in="process")
def return_itself() -> object:
    return return_itself


@actorq.task(run_in="process", retry=actorq.Retry(attempts=3, delay=0))
def third_time_lucky() -> int:
    if actorq.current().attempt < 3:
        raise ValueError
    return actorq.current().attempt


@actorq.task(run_in="process")
def later(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        raise actorq.RetryLater(0)


@actorq.task(run_in="process")
def introspect() -> tuple[object, ...]:
    current = actorq.current()
    return current.name, current.attempt, current.meta, current.deadline, current.cancelled


@actorq.task(run_in="process")
def ask(what: str) -> None:
    current = actorq.current()
    if what == "progress":
        current.progress(1)
    else:
        print(current.resources)  # noqa: T201 - never gets there


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A pipe through which a process says that it has begun."""
    path = tmp_path / "begun"
    os.mkfifo(path)
    return path


async def written(begun: Path) -> int:
    """Wait for the process to say so; return its id."""
    return int(await trio.to_thread.run_sync(begun.read_text, abandon_on_cancel=True))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_task_runs_in_another_process() -> None:
    async with actorq.open_system(concurrency=0, processes=1) as system:
        pid, value = await system.call(identify, "hello")

    assert value == "hello"
    assert pid != os.getpid()
    assert not is_alive(pid)


async def test_as_many_processes_run_at_once_as_there_are_slots() -> None:
    async with actorq.open_system(processes=2) as system:
        await system.submit_many(identify.message(number) for number in range(20))
        stats = await system.stats()
        await system.join()

    assert stats.pools["process"].slots == 2
    assert stats.queues["default"].running == 2
    assert stats.pools["main"].free == 100


async def test_a_cancelled_process_is_killed(begun: Path) -> None:
    async with actorq.open_system(processes=1) as system:
        handle = await system.submit(hang, begun)
        pid = await written(begun)

        assert (await handle.cancel()).status == "cancelled"

        assert not is_alive(pid)
        assert (await system.call(identify))[0] != pid


async def test_a_process_that_runs_too_long_is_killed(begun: Path) -> None:
    async with actorq.open_system(processes=1) as system:
        with pytest.raises(actorq.TaskTimeout):
            await system.call(hang.options(timeout=0.1), begun)


async def test_leaving_the_system_kills_what_still_runs(begun: Path) -> None:
    async with actorq.open_system(processes=1, drain=0) as system:
        await system.submit(hang, begun)
        pid = await written(begun)

    assert not is_alive(pid)


async def test_a_dead_process_is_a_lost_delivery_and_the_task_runs_again(tmp_path: Path) -> None:
    async with actorq.open_system(processes=1, instruments=()) as system:
        handle = await system.submit(die, tmp_path / "mark", 2)

        assert await handle.value() == "survived"
        assert (await system.stats()).lost == 2


async def test_a_task_that_kills_its_process_too_often_is_given_up(tmp_path: Path) -> None:
    async with actorq.open_system(processes=1, instruments=()) as system:
        task = die.options(max_deliveries=2, retry=actorq.Retry(attempts=9))
        with pytest.raises(actorq.WorkerLost, match=r"death 2; max_deliveries is 2"):
            await system.call(task, tmp_path / "mark", 9)

        assert (tmp_path / "mark").read_text() == "xx"
        assert (await system.call(identify, "the pool recovers"))[1] == "the pool recovers"


async def test_at_most_once_is_not_delivered_again(tmp_path: Path) -> None:
    async with actorq.open_system(processes=1, instruments=()) as system:
        with pytest.raises(actorq.WorkerLost, match="at_most_once"):
            await system.call(die.options(at_most_once=True), tmp_path / "mark", 9)

    assert (tmp_path / "mark").read_text() == "x"


async def test_a_process_that_is_killed_from_outside_is_a_lost_delivery(begun: Path) -> None:
    async with actorq.open_system(processes=1, instruments=()) as system:
        handle = await system.submit(hang.options(at_most_once=True), begun)

        os.kill(await written(begun), signal.SIGKILL)

        with pytest.raises(actorq.WorkerLost):
            await handle.value()


async def test_an_error_in_a_process_is_that_of_the_task() -> None:
    async with actorq.open_system(processes=1) as system:
        with pytest.raises(actorq.TaskFailed, match="ValueError: no") as caught:
            await system.call(explode, "no")

    assert caught.value.matches(ValueError)
    assert "in explode" in caught.value.error.traceback


async def test_what_cannot_travel_is_a_failure_of_its_task_alone() -> None:
    async with actorq.open_system(processes=1) as system:
        for message, said in [
            (unpicklable.message(), "cannot leave its process"),
            (return_a_trap.message(), "cannot be rebuilt"),
            (bear_a_grudge.message(), "Grudge: a grudge"),
            (leave.message(7), "SystemExit: 7"),
        ]:
            with pytest.raises(actorq.TaskFailed, match=said):
                await system.call(message)

        assert (await system.stats()).lost == 0


async def test_a_task_that_returns_itself_returns_a_task() -> None:
    async with actorq.open_system(processes=1) as system:
        assert await system.call(return_itself) is return_itself


async def test_an_argument_that_cannot_travel_is_refused_at_submit_by_its_place() -> None:
    async with actorq.open_system(processes=1) as system:
        with pytest.raises(actorq.EncodeError, match="argument 1 cannot be sent"):
            await system.submit(identify, threading.Lock())
        with pytest.raises(actorq.EncodeError, match="argument 'value' cannot be sent"):
            await system.submit(identify, value=threading.Lock())


async def test_arguments_over_the_bound_are_refused_at_submit() -> None:
    async with actorq.open_system(processes=1, max_message=2_000) as system:
        with pytest.raises(actorq.PayloadTooLarge, match="over max_message=2000"):
            await system.submit(identify, b"x" * 2_000)

        assert not any(system.tables().values())


async def test_arguments_are_as_they_were_at_submit() -> None:
    value = [1]
    async with actorq.open_system(processes=1) as system:
        handle = await system.submit(identify, value)
        value.append(2)

        assert (await handle.value())[1] == [1]


async def test_retries_work_as_everywhere() -> None:
    async with actorq.open_system(processes=1) as system:
        assert await system.call(third_time_lucky) == 3


async def test_retry_later_works_as_everywhere(tmp_path: Path) -> None:
    async with actorq.open_system(processes=1) as system:
        handle = await system.submit(later, tmp_path / "mark")

        assert (await handle.wait()).attempts == 1


async def test_a_process_knows_its_task() -> None:
    async with actorq.open_system(processes=1) as system:
        task = introspect.options(meta={"user": 7}, timeout=60)
        name, attempt, meta, deadline, cancelled = await system.call(task)

    assert (name, attempt, meta, cancelled) == (introspect.name, 1, {"user": 7}, False)
    assert deadline == 60


async def test_what_a_process_cannot_do_says_so_at_the_call() -> None:
    async with actorq.open_system(processes=1) as system:
        with pytest.raises(actorq.TaskFailed, match="cannot report progress"):
            await system.call(ask, "progress")
        with pytest.raises(actorq.TaskFailed, match="there are no resources"):
            await system.call(ask, "resources")


def test_the_child_turns_every_end_into_something_that_travels() -> None:
    path = f"{__name__}:explode"
    facts = encode_value("facts", ("id", "name", 1, 5.0, {}))

    error, content, later_by = copy_context().run(
        run_child, path, encode_call("name", ("no",), {}), False, facts
    )

    assert (error.type, error.message) == ("builtins.ValueError", "no")
    assert (content, later_by) == (b"", None)


def test_the_child_returns_encoded_values() -> None:
    path, facts = f"{__name__}:identify", encode_value("facts", ("id", "name", 1, 5.0, {}))

    error, content, _ = copy_context().run(
        run_child, path, encode_call("name", (), {"value": 7}), False, facts
    )

    assert error is None
    assert decode_value("name", content) == (os.getpid(), 7)
