import signal
from math import inf

import pytest
import trio
from trio.lowlevel import Task, reschedule
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from actorq.runtime import lanes as module
from actorq.runtime.lanes import EMPTY, STOP, Ask, Lanes


def lanes_with(*messages: object, capacity: float = inf) -> Lanes:
    lanes = Lanes(capacity)
    for message in messages:
        lanes.put(message)
    return lanes


def take_all(lanes: Lanes) -> list[object]:
    taken = []
    while (message := lanes.take()) not in (EMPTY, STOP):
        taken.append(message)
    return taken


async def put(lanes: Lanes, message: object, told: list[object]) -> None:
    told.append((message, await lanes.wait_to_put(message)))


# --- taking --------------------------------------------------------------------------------------


def test_mail_is_taken_in_the_order_in_which_it_was_put() -> None:
    lanes = lanes_with(0, 1, 2)

    assert len(lanes) == 3
    assert [lanes.take() for _ in range(4)] == [0, 1, 2, EMPTY]
    assert len(lanes) == 0


@pytest.mark.parametrize("message", [None, False, 0, "", ()])
def test_any_object_is_a_message(message: object) -> None:
    lanes = lanes_with(message)

    assert lanes.take() is message
    assert lanes.take() is EMPTY


def test_several_are_taken_in_the_order_in_which_they_were_posted() -> None:
    lanes = Lanes()
    for number in range(5):
        lanes.post(number)

    assert [lanes.take_many(2) for _ in range(4)] == [[0, 1], [2, 3], [4], []]
    assert len(lanes) == 0


def test_take_many_returns_all_when_there_is_no_more_than_asked_for() -> None:
    lanes = lanes_with(1, 2)

    assert lanes.take_many(2) == [1, 2]
    assert lanes.take_many(2) == []


def test_control_messages_overtake_a_backlog_and_keep_their_own_order() -> None:
    lanes = lanes_with(*range(100))
    lanes.put_first("a")
    lanes.put_first("b")

    assert len(lanes) == 102
    assert [lanes.take() for _ in range(3)] == ["a", "b", 0]


def test_a_full_mailbox_takes_control_messages() -> None:
    lanes = lanes_with(1, capacity=1)
    lanes.put_first("down")

    assert take_all(lanes) == ["down", 1]


# --- the bound -----------------------------------------------------------------------------------


def test_it_is_full_at_its_capacity() -> None:
    lanes = lanes_with(1, capacity=2)
    assert not lanes.full
    lanes.put(2)

    assert lanes.full
    lanes.take()
    assert not lanes.full


async def test_those_who_wait_for_room_are_let_in_first_come_first_served(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    lanes, told = lanes_with(0, capacity=1), []
    for number in range(1, 5):
        nursery.start_soon(put, lanes, number, told)
        await wait_all_tasks_blocked()
    assert told == []
    taken = take_all(lanes)
    await wait_all_tasks_blocked()

    assert taken == [0, 1, 2, 3, 4]
    assert sorted(told) == [(1, True), (2, True), (3, True), (4, True)]
    assert not lanes.senders


async def test_one_taken_message_lets_one_sender_in(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    lanes, told = lanes_with("a", "b", capacity=2), []
    for message in ("c", "d"):
        nursery.start_soon(put, lanes, message, told)
        await wait_all_tasks_blocked()
    lanes.take()
    await wait_all_tasks_blocked()

    assert told == [("c", True)]
    assert len(lanes) == 2
    nursery.cancel_scope.cancel()


async def test_a_sender_whose_wait_is_cancelled_has_not_sent(mock_clock: MockClock) -> None:
    lanes = lanes_with(0, capacity=1)
    with trio.move_on_after(0) as scope:
        await lanes.wait_to_put(1)

    assert scope.cancelled_caught
    assert not lanes.senders
    assert take_all(lanes) == [0]


async def test_a_sender_that_is_let_in_and_cancelled_at_once_has_sent(
    mock_clock: MockClock,
) -> None:
    lanes, told = lanes_with(0, capacity=1), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, lanes, 1, told)
        await wait_all_tasks_blocked()
        lanes.take()
        nursery.cancel_scope.cancel()

    assert told == [(1, True)]
    assert lanes.take() == 1


async def test_closing_tells_all_who_wait_for_room(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    lanes, told = lanes_with(0, capacity=1), []
    for number in (1, 2):
        nursery.start_soon(put, lanes, number, told)
        await wait_all_tasks_blocked()
    lanes.close()
    await wait_all_tasks_blocked()

    assert not lanes.open
    assert sorted(told) == [(1, False), (2, False)]
    assert take_all(lanes) == [0]


# --- waiting -------------------------------------------------------------------------------------


async def test_wait_returns_at_once_when_there_is_mail(mock_clock: MockClock) -> None:
    lanes = lanes_with(1)
    with assert_checkpoints():
        await lanes.wait()

    assert lanes.take() == 1


async def test_posting_wakes_nobody_and_putting_does(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    lanes, woken = Lanes(), trio.Event()
    nursery.start_soon(wait_and_set, lanes, woken)
    await wait_all_tasks_blocked()
    lanes.post(1)
    await wait_all_tasks_blocked()
    assert not woken.is_set()
    lanes.put(2)
    await wait_all_tasks_blocked()

    assert woken.is_set()


@pytest.mark.parametrize("how", ["wake", "put_first", "stop"])
async def test_what_the_reader_must_see_at_once_ends_its_wait(
    mock_clock: MockClock, nursery: trio.Nursery, how: str
) -> None:
    lanes, woken = Lanes(), trio.Event()
    nursery.start_soon(wait_and_set, lanes, woken)
    await wait_all_tasks_blocked()
    if how == "wake":
        lanes.wake()
    elif how == "put_first":
        lanes.put_first("down")
    else:
        lanes.stop(drain=False)
    await wait_all_tasks_blocked()

    assert woken.is_set()


async def test_a_wake_that_comes_before_the_wait_ends_it_once(autojump_clock: MockClock) -> None:
    lanes = Lanes()
    lanes.wake()
    lanes.wake()
    with assert_checkpoints():
        await lanes.wait()
    with trio.move_on_after(10) as scope:
        await lanes.wait()

    assert scope.cancelled_caught


async def test_what_is_put_and_taken_before_the_wait_does_not_end_it(
    autojump_clock: MockClock,
) -> None:
    lanes = lanes_with(1)
    lanes.take()
    with trio.move_on_after(10) as scope:
        await lanes.park()

    assert scope.cancelled_caught


async def test_a_park_is_a_checkpoint_also_when_it_was_woken_before(mock_clock: MockClock) -> None:
    lanes = Lanes()
    lanes.wake()

    with assert_checkpoints():
        await lanes.park()


async def test_wait_lasts_no_longer_than_it_was_told_to(autojump_clock: MockClock) -> None:
    lanes, start = Lanes(), trio.current_time()
    await lanes.wait(7)

    assert trio.current_time() == start + 7


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_wait_for_no_time_is_a_checkpoint(mock_clock: MockClock, seconds: float) -> None:
    with assert_checkpoints():
        await Lanes().wait(seconds)


async def test_a_wake_ends_a_wait_before_its_time(autojump_clock: MockClock) -> None:
    lanes, woken, start = Lanes(), trio.Event(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_set, lanes, woken, 100)
        await trio.sleep(1)  # virtual
        lanes.wake()

    assert trio.current_time() == start + 1


@pytest.mark.parametrize("mail_is_there", [False, True])
async def test_waiting_can_be_cancelled_and_loses_nothing(mail_is_there: bool) -> None:
    lanes = Lanes()
    if mail_is_there:
        lanes.put(1)
    with trio.move_on_after(0) as scope:
        await lanes.wait()

    assert scope.cancelled_caught
    assert len(lanes) == mail_is_there


async def test_a_wake_is_kept_for_the_next_wait_when_this_one_is_cancelled() -> None:
    lanes = Lanes()
    lanes.wake()
    with trio.move_on_after(0):
        await lanes.wait()

    with assert_checkpoints():
        await lanes.wait()


async def test_a_reader_that_was_cancelled_is_not_woken(autojump_clock: MockClock) -> None:
    lanes = Lanes()
    with trio.move_on_after(1):
        await lanes.wait()
    assert lanes.reader is None
    lanes.wake()

    with assert_checkpoints():
        await lanes.wait()


async def test_a_second_reader_is_refused_and_the_first_still_woken(
    autojump_clock: MockClock,
) -> None:
    lanes, woken = Lanes(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_set, lanes, woken)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1), pytest.raises(trio.BusyResourceError):
            await lanes.park()
        lanes.put(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert woken.is_set()


def test_an_interrupt_while_the_reader_is_woken_is_raised_when_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = Lanes()

    def reschedule_and_interrupt(task: Task) -> None:
        reschedule(task)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lanes.wait)
            await wait_all_tasks_blocked()
            monkeypatch.setattr(module, "reschedule", reschedule_and_interrupt)
            lanes.wake()
            with pytest.raises(KeyboardInterrupt):
                await trio.lowlevel.checkpoint()

    trio.run(main)

    assert lanes.reader is None


@pytest.mark.parametrize("seconds", [None, 5])
def test_an_interrupt_at_the_end_of_a_wait_is_raised_after_it(
    seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Lanes):
        __slots__ = ()

        async def park(self) -> None:
            await super().park()
            signal.raise_signal(signal.SIGINT)

    lanes = Interrupted()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lanes.wait, seconds)
            await wait_all_tasks_blocked()
            lanes.wake()
            with pytest.raises(KeyboardInterrupt):
                await trio.sleep_forever()

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- the end -------------------------------------------------------------------------------------


def test_after_a_stop_no_message_is_handed_out() -> None:
    lanes = lanes_with(1, 2)
    lanes.stop(drain=False)

    assert [lanes.take(), lanes.take()] == [STOP, STOP]
    assert len(lanes) == 2, "they are left for whoever comes next"


def test_after_a_draining_stop_it_ends_when_all_mail_was_taken() -> None:
    lanes = lanes_with(1, 2)
    lanes.stop(drain=True)

    assert [lanes.take() for _ in range(4)] == [1, 2, STOP, STOP]


def test_a_new_reader_begins_with_the_mail_but_not_with_the_orders_to_the_old_one() -> None:
    lanes = lanes_with(1)
    lanes.put_first("down")
    lanes.stop(drain=True)
    lanes.reopen()

    assert [lanes.take(), lanes.take()] == [1, EMPTY]


async def test_a_new_reader_is_not_woken_by_what_woke_the_old_one(
    autojump_clock: MockClock,
) -> None:
    lanes = Lanes()
    lanes.stop(drain=False)
    lanes.reopen()
    with trio.move_on_after(1) as scope:
        await lanes.park()

    assert scope.cancelled_caught


def test_what_was_closed_stays_closed_for_a_new_reader() -> None:
    lanes = Lanes()
    lanes.close()
    lanes.reopen()

    assert not lanes.open


async def test_an_ask_is_a_future_that_carries_its_message() -> None:
    ask = Ask("question")
    ask.set("answer")

    assert ask.message == "question"
    assert await ask.wait() == "answer"


async def test_nothing_but_waiting_waits() -> None:
    lanes = Lanes(1)
    with assert_no_checkpoints():
        lanes.put(1)
        lanes.put_first(2)
        lanes.stop(drain=True)
        lanes.close()

    assert take_all(lanes) == [2, 1]


async def wait_and_set(lanes: Lanes, event: trio.Event, seconds: float | None = None) -> None:
    await lanes.wait(seconds)
    event.set()
