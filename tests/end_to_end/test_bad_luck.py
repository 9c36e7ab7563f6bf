"""What tasks and people do to a system, and what comes of it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq


async def forever() -> None:
    await trio.sleep_forever()


async def raise_it(error: BaseException) -> None:
    raise error


def raise_in_a_thread(error: BaseException) -> None:
    raise error


@actorq.task(run_in="process")
def raise_in_a_process(error: BaseException) -> None:
    raise error


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


# --- tasks that misbehave -------------------------------------------------------------------


async def test_a_group_raised_by_a_task_is_one_failure_with_children(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def two_at_once() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_it, ValueError("one"))
            nursery.start_soon(raise_it, KeyError("two"))

    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed) as caught:
            await system.call(two_at_once)

    assert {child.type for child in caught.value.error.children} == {
        "builtins.ValueError",
        "builtins.KeyError",
    }
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_a_group_with_the_cancellation_that_was_asked_for_is_a_cancelled_task(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def rude() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    async def family() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rude)
            nursery.start_soon(trio.sleep_forever)

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(family)
        await wait_all_tasks_blocked()

        assert (await handle.cancel()).status == "cancelled"


async def test_an_error_that_cannot_be_read_is_a_failure_like_any_other(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed, match=r"its __str__ raised RuntimeError"):
            await system.call(raise_it, Mute())

        assert await system.call(len, "next") == 4


@pytest.mark.parametrize("function", [raise_it, raise_in_a_thread])
@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException])
async def test_a_task_cannot_end_the_program(function: object, kind: type[BaseException]) -> None:
    async with actorq.open_system(processes=0) as system:
        with pytest.raises(actorq.TaskFailed) as caught:
            await system.call(function, kind("bye"))

        assert caught.value.matches(kind)
        assert await system.call(len, "next") == 4


async def test_a_process_cannot_end_the_program_either() -> None:
    async with actorq.open_system(processes=1) as system:
        for kind in (SystemExit, KeyboardInterrupt):
            with pytest.raises(actorq.TaskFailed) as caught:
                await system.call(raise_in_a_process, kind("bye"))

            assert caught.value.matches(kind)


async def test_a_task_may_return_itself_its_error_or_its_coroutine_function(
    autojump_clock: trio.abc.Clock,
) -> None:
    values: list[object] = []
    task = actorq.task(name="give")(lambda: values.pop())  # noqa: PLW0108 - pop is a builtin
    async with actorq.open_system(processes=0) as system:
        for value in (task, ValueError("not raised"), forever, system):
            values.append(value)
            assert await system.call(task) is value


async def test_tasks_may_use_the_system_that_runs_them(autojump_clock: trio.abc.Clock) -> None:
    async def factorial(number: int) -> int:
        return number * await system.call(factorial, number - 1) if number else 1

    async with actorq.open_system(processes=0) as system:
        assert await system.call(factorial, 20) == 2432902008176640000


async def test_a_task_may_cancel_itself(autojump_clock: trio.abc.Clock) -> None:
    async def weary() -> None:
        await system.cancel(actorq.current().id, "enough")

    async with actorq.open_system(processes=0) as system:
        result = await (await system.submit(weary)).wait()

    assert result.reason == "cancelled by user: enough"
    assert trio.current_time() == pytest.approx(0)


async def test_a_task_that_holds_the_loop_is_only_late(autojump_clock: trio.abc.Clock) -> None:
    async def greedy() -> int:
        return sum(range(1_000_000))

    async with actorq.open_system(processes=0) as system:
        assert await system.call(actorq.task(timeout=0.001)(greedy)) == 499999500000


# --- Ctrl-C ---------------------------------------------------------------------------------


async def interrupted(function: object) -> tuple[BaseException | None, list[str]]:
    """Run a task that raises KeyboardInterrupt; return what left the system, and the answers."""
    answers: list[str] = []

    async def wait(handle: actorq.TaskHandle[None]) -> None:
        try:
            answers.append((await handle.wait()).status)
        except actorq.ActorDied:
            answers.append("died")

    async with trio.open_nursery() as nursery:
        try:
            async with actorq.open_system(processes=0, instruments=()) as system:
                nursery.start_soon(wait, await system.submit(forever))
                await wait_all_tasks_blocked()
                await system.submit(function, KeyboardInterrupt())
                await trio.sleep_forever()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            return error, answers
        finally:
            await wait_all_tasks_blocked()
    return None, answers


@pytest.mark.parametrize("function", [raise_it, raise_in_a_thread])
async def test_ctrl_c_in_a_task_leaves_the_system_as_a_keyboard_interrupt(
    function: object,
) -> None:
    error, answers = await interrupted(function)

    assert isinstance(error, KeyboardInterrupt)
    assert len(answers) == 1


async def test_ctrl_c_in_a_task_closes_the_system_without_a_wait(
    autojump_clock: trio.abc.Clock,
) -> None:
    await interrupted(raise_it)

    assert trio.current_time() == pytest.approx(0)


async def test_ctrl_c_in_the_block_leaves_it_as_it_is_and_cancels_every_task(
    autojump_clock: trio.abc.Clock,
) -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the block raises
        async with actorq.open_system(processes=0) as system:
            handle = await system.submit(forever)
            await wait_all_tasks_blocked()
            raise KeyboardInterrupt

    assert (await handle.wait()).status == "cancelled"
    assert trio.current_time() == pytest.approx(0)


PROGRAM = """
import os, sys, time
import trio
import actorq

async def forever():
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)

async def spin():
    while True:
        await trio.lowlevel.checkpoint()

@actorq.task(run_in="process")
def hang():
    print("process", os.getpid(), flush=True)
    time.sleep(600)  # real: interrupted by then

async def main(what):
    async with actorq.open_system(processes=1) as system:
        handle = await system.submit(forever)
        if what == "process":
            await system.submit(hang)
        else:
            if what == "busy":
                await system.submit(spin)
            await system.submit(print, "ready", flush=True)
        await handle.wait()

if __name__ == "__main__":
    trio.run(main, sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("what", ["idle", "busy", "process"])
def test_ctrl_c_at_the_terminal_stops_the_program_and_leaves_no_process(
    what: str, tmp_path: os.PathLike[str]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    with subprocess.Popen(
        [sys.executable, program, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        said = running.stdout.readline().split()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=8)

    assert running.returncode in (-signal.SIGINT, 130, 1)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "cleaned up" in out
    if what == "process":
        with pytest.raises(ProcessLookupError):
            os.kill(int(said[1]), 0)


# --- closing in the middle of it all --------------------------------------------------------


@pytest.mark.parametrize("how", ["leaves", "raises", "is cancelled"])
async def test_a_system_that_closes_with_thousands_of_tasks_answers_everybody(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, how: str
) -> None:
    statuses: list[str] = []

    async def wait(handle: actorq.TaskHandle[None]) -> None:
        statuses.append((await handle.wait()).status)

    with trio.CancelScope() as scope:
        try:
            async with actorq.open_system(processes=0, concurrency=500, drain=1) as system:
                task = actorq.task(forever)
                handles = await system.submit_many(task.message() for _ in range(2_000))
                later = task.options(delay=60)
                handles += await system.submit_many(later.message() for _ in range(1_000))
                for handle in handles:
                    nursery.start_soon(wait, handle)
                await wait_all_tasks_blocked()
                if how == "raises":
                    raise KeyError
                if how == "is cancelled":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        except KeyError:
            pass
    await wait_all_tasks_blocked()

    assert statuses == ["cancelled"] * 3_000
    assert trio.current_time() == pytest.approx(1 if how == "leaves" else 0)
