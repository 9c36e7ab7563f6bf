import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from actorq.runtime.mailbox import Mailbox


def test_mail_is_taken_in_the_order_in_which_it_was_posted() -> None:
    mail = Mailbox[int]()
    for number in range(5):
        mail.post(number)

    assert len(mail) == 5
    assert [mail.take(2), mail.take(2), mail.take(2), mail.take(2)] == [[0, 1], [2, 3], [4], []]
    assert len(mail) == 0


def test_take_returns_all_when_there_is_no_more_than_asked_for() -> None:
    mail = Mailbox[int]()
    mail.post(1)
    mail.post(2)

    assert mail.take(2) == [1, 2]
    assert mail.take(2) == []


async def test_wait_returns_at_once_when_there_is_mail(mock_clock: MockClock) -> None:
    mail = Mailbox[int]()
    mail.post(1)
    with assert_checkpoints():
        await mail.wait()

    assert mail.take(1) == [1]


async def test_wake_ends_a_wait(mock_clock: MockClock) -> None:
    mail, woken = Mailbox[int](), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_set, mail, woken)
        await wait_all_tasks_blocked()
        mail.post(1)
        await wait_all_tasks_blocked()
        assert not woken.is_set(), "posting alone wakes nobody"
        mail.wake()

    assert woken.is_set()


async def test_a_wake_that_comes_before_the_wait_ends_it_once(autojump_clock: MockClock) -> None:
    mail = Mailbox[int]()
    mail.wake()
    mail.wake()
    with assert_checkpoints():
        await mail.wait()
    with trio.move_on_after(10) as scope:
        await mail.wait()

    assert scope.cancelled_caught


async def test_wait_lasts_no_longer_than_it_was_told_to(autojump_clock: MockClock) -> None:
    mail, start = Mailbox[int](), trio.current_time()
    await mail.wait(7)

    assert trio.current_time() == start + 7


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_wait_for_no_time_is_a_checkpoint(mock_clock: MockClock, seconds: float) -> None:
    with assert_checkpoints():
        await Mailbox[int]().wait(seconds)


async def test_a_wake_ends_a_wait_before_its_time(autojump_clock: MockClock) -> None:
    mail, woken, start = Mailbox[int](), trio.Event(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_set, mail, woken, 100)
        await trio.sleep(1)  # virtual
        mail.wake()

    assert trio.current_time() == start + 1


@pytest.mark.parametrize("mail_is_there", [False, True])
async def test_waiting_can_be_cancelled_and_loses_nothing(mail_is_there: bool) -> None:
    mail = Mailbox[int]()
    if mail_is_there:
        mail.post(1)
    with trio.move_on_after(0) as scope:
        await mail.wait()

    assert scope.cancelled_caught
    assert len(mail) == mail_is_there


async def test_a_wake_is_kept_for_the_next_wait_when_this_one_is_cancelled() -> None:
    mail = Mailbox[int]()
    mail.wake()
    with trio.move_on_after(0):
        await mail.wait()

    with assert_checkpoints():
        await mail.wait()


async def test_a_reader_that_was_cancelled_is_not_woken(autojump_clock: MockClock) -> None:
    mail = Mailbox[int]()
    with trio.move_on_after(1):
        await mail.wait()
    mail.wake()

    with assert_checkpoints():
        await mail.wait()


async def wait_and_set(mail: Mailbox[int], event: trio.Event, seconds: float | None = None) -> None:
    await mail.wait(seconds)
    event.set()
