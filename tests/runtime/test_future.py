import signal

import pytest
import trio
from trio.lowlevel import Task, reschedule
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actorq.runtime import future as module
from actorq.runtime.future import Future


async def test_a_value_reaches_whoever_waits_and_whoever_comes_later() -> None:
    future, seen = Future[str](), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(append_value, future, seen)
        await wait_all_tasks_blocked()
        future.set("value")

    assert seen == ["value"]
    assert await future.wait() == "value"
    assert future.peek() == "value"


async def test_a_thousand_waiters_are_all_woken() -> None:
    future, seen = Future[int](), []
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(append_value, future, seen)
        await wait_all_tasks_blocked()
        future.set(7)

    assert seen == [7] * 1000


async def test_an_error_is_raised_by_wait_and_by_peek() -> None:
    future = Future[None]()
    future.fail(KeyError("lost"))

    assert future.done
    with pytest.raises(KeyError, match="lost"):
        await future.wait()
    with pytest.raises(KeyError, match="lost"):
        future.peek()


async def test_an_error_reaches_everybody_who_waits() -> None:
    future, raised = Future[None](), []

    async def wait() -> None:
        with pytest.raises(KeyError) as caught:
            await future.wait()
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        future.fail(KeyError("lost"))

    assert len(raised) == 3


@pytest.mark.parametrize("value", [None, False, 0, ""])
async def test_any_value_is_a_value(value: object) -> None:
    future = Future[object]()
    future.set(value)

    assert future.done
    assert await future.wait() == value


def test_the_first_outcome_stays() -> None:
    value, error = Future[int](), Future[int]()
    value.set(1)
    value.set(2)
    value.fail(KeyError())
    error.fail(KeyError("first"))
    error.fail(ValueError())
    error.set(3)

    assert value.peek() == 1
    with pytest.raises(KeyError, match="first"):
        error.peek()


async def test_waiting_is_a_checkpoint_also_when_it_is_done() -> None:
    future = Future[None]()
    future.set(None)

    with assert_checkpoints():
        await future.wait()


@pytest.mark.parametrize("done", [False, True])
async def test_waiting_can_be_cancelled(done: bool) -> None:
    future = Future[None]()
    if done:
        future.set(None)
    with trio.move_on_after(0) as scope:
        await future.wait()

    assert scope.cancelled_caught


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_cancelled_waiter_leaves_the_others_waiting(count: int) -> None:
    future, seen = Future[int](), []
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await append_value(future, seen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        for _ in range(count - 1):
            nursery.start_soon(append_value, future, seen)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        nursery.start_soon(append_value, future, seen)
        await wait_all_tasks_blocked()
        future.set(1)

    assert scope.cancelled_caught
    assert seen == [1] * count


async def test_a_waiter_that_is_woken_and_cancelled_at_once_has_the_value() -> None:
    future, seen = Future[int](), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(append_value, future, seen)
        await wait_all_tasks_blocked()
        future.set(1)
        nursery.cancel_scope.cancel()

    assert seen == [1]


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_while_waiters_are_woken_is_raised_when_all_of_them_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    future, seen = Future[int](), []

    def reschedule_and_interrupt(task: Task) -> None:
        reschedule(task)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(append_value, future, seen)
            await wait_all_tasks_blocked()
            monkeypatch.setattr(module, "reschedule", reschedule_and_interrupt)
            future.set(1)
            with pytest.raises(KeyboardInterrupt):
                await trio.lowlevel.checkpoint()

    trio.run(main)

    assert seen == [1] * count


def test_callbacks_are_called_once_in_order_when_it_is_set() -> None:
    future, calls = Future[None](), []
    future.call_when_done(lambda: calls.append("a"))
    future.call_when_done(lambda: calls.append("b"))
    assert calls == []
    future.set(None)
    future.set(None)

    assert calls == ["a", "b"]


def test_a_callback_of_a_failure_can_look_at_it() -> None:
    future, seen = Future[None](), []

    def look() -> None:
        with pytest.raises(KeyError) as caught:
            future.peek()
        seen.append(caught.value)

    future.call_when_done(look)
    future.fail(KeyError())

    assert len(seen) == 1


def test_a_callback_of_what_is_done_is_called_at_once() -> None:
    future, calls = Future[None](), []
    future.set(None)
    future.call_when_done(lambda: calls.append("called"))

    assert calls == ["called"]


async def append_value(future: Future[object], seen: list[object]) -> None:
    seen.append(await future.wait())
