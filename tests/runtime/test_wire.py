"""One connection at work: what goes together, in which order, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.codec.envelope import decode_from_owner, decode_to_owner, encode, join
from actorq.errors import ConnectionLost
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.options import NO_OPTIONS
from actorq.runtime import wire as module
from actorq.runtime.wire import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    Wire,
    batch_max,
    message_max,
)
from actorq.testing.meetings import pair
from actorq.transports.memory import MemoryTransport
from tests.runtime.lines import FakeConnection, until


class Running:
    """A wire at work, and what came of it."""

    def __init__(self, receive: Callable[[list[Any]], None] | None = None) -> None:
        self.line = FakeConnection()
        self.received: list[Any] = []
        self.wire = Wire(self.line, decode_to_owner, receive or self.received.extend)
        self.end: tuple[int, str] | None = None

    async def run(self) -> None:
        self.end = await self.wire.run()

    def sent(self) -> list[list[Any]]:
        """Return what was sent, batch by batch."""
        return [decode_to_owner(batch) for batch in self.line.sent]

    def numbers(self) -> list[list[int]]:
        return [[message.got for message in batch] for batch in self.sent()]

    def all_numbers(self) -> list[int]:
        return [*chain.from_iterable(self.numbers())]


def numbered(number: int) -> bytes:
    return encode(w.Got(number))


def filler(size: int) -> bytes:
    """Return a message of about that size."""
    task = m.Submission("id", "task", "main", NO_OPTIONS, None, b"x" * size)
    return encode(m.Submit(1, (task,)))


@pytest.fixture
async def at_work(autojump_clock: MockClock, nursery: trio.Nursery) -> Running:
    running = Running()
    nursery.start_soon(running.run)
    await wait_all_tasks_blocked()
    return running


# --- sending -------------------------------------------------------------------------------------


async def test_a_lone_message_leaves_at_once(autojump_clock: MockClock, at_work: Running) -> None:
    before = trio.current_time()

    at_work.wire.send(numbered(1))
    await wait_all_tasks_blocked()

    assert at_work.numbers() == [[1]]
    assert trio.current_time() == before


async def test_a_burst_goes_together(autojump_clock: MockClock, at_work: Running) -> None:
    for number in range(10):
        at_work.wire.send(numbered(number))
    await wait_all_tasks_blocked()

    assert at_work.numbers() == [list(range(10))]


async def test_what_gathers_while_a_batch_is_under_way_is_the_next_one(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()
    for number in range(1, 10):
        at_work.wire.send(numbered(number))
        await wait_all_tasks_blocked()

    at_work.line.let_pass()
    await wait_all_tasks_blocked()

    assert at_work.numbers() == [[0], list(range(1, 10))]


async def test_what_was_sent_before_it_ran_is_the_first_batch(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    running = Running()
    running.wire.send(numbered(1))
    running.wire.send(numbered(2))

    nursery.start_soon(running.run)
    await wait_all_tasks_blocked()

    assert running.numbers() == [[1, 2]]


async def test_a_batch_has_a_bounded_number_of_messages(
    autojump_clock: MockClock, at_work: Running
) -> None:
    count = 2 * BATCH_MESSAGES + 1
    for number in range(count):
        at_work.wire.send(numbered(number))
    await wait_all_tasks_blocked()

    assert [len(batch) for batch in at_work.numbers()] == [BATCH_MESSAGES, BATCH_MESSAGES, 1]
    assert at_work.all_numbers() == list(range(count))


async def test_a_batch_has_a_bounded_size_but_for_its_last_message(
    autojump_clock: MockClock, at_work: Running
) -> None:
    sizes = [10_000] * 20 + [1_000_000] * 2 + [10]
    for size in sizes:
        at_work.wire.send(filler(size))
    await wait_all_tasks_blocked()

    for batch in at_work.line.sent:
        *others, _ = decode_to_owner(batch)
        assert sum(len(message.tasks[0].body) for message in others) < BATCH_BYTES
    assert [len(message.tasks[0].body) for batch in at_work.sent() for message in batch] == sizes


def test_a_batch_always_has_room_for_the_largest_message() -> None:
    for most in (1_024, 4 * 2**20, 2**30):
        assert BATCH_BYTES + message_max(most) + 16 * BATCH_MESSAGES < batch_max(most)


async def test_what_is_about_the_connection_goes_before_all_that_waits(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()
    for number in range(1, 1_000):
        at_work.wire.send(numbered(number))
    at_work.wire.send_first(w.Ping(7))

    at_work.line.let_pass()
    await wait_all_tasks_blocked()

    assert at_work.sent()[0] == [w.Got(0)]
    assert at_work.sent()[1][0] == w.Ping(7)
    assert len(at_work.sent()[1]) == BATCH_MESSAGES


async def test_a_ping_alone_wakes_the_writer(autojump_clock: MockClock, at_work: Running) -> None:
    at_work.wire.send_first(w.Ping(7))
    await wait_all_tasks_blocked()

    assert at_work.sent() == [[w.Ping(7)]]


async def test_a_peer_that_pings_and_never_reads_costs_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    def answer(messages: list[Any]) -> None:
        for _ in messages:
            running.wire.send_first(w.Pong())

    running = Running(answer)
    nursery.start_soon(running.run)
    running.line.hold_up()
    for _ in range(100):
        running.line.deliver(*[w.Ping()] * 1_000)
    await wait_all_tasks_blocked()

    assert len(running.wire._control) <= 1
    running.line.let_pass()
    await wait_all_tasks_blocked()
    assert len(running.line.sent) <= 2


async def test_only_one_coroutine_writes_however_many_send(
    autojump_clock: MockClock, at_work: Running
) -> None:
    """The connection of this test minds."""

    async def send(number: int) -> None:
        at_work.wire.send(numbered(number))
        await trio.lowlevel.checkpoint()
        at_work.wire.send_first(w.Ping(number))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(send, number)
    await wait_all_tasks_blocked()

    assert sum(map(len, at_work.sent())) == 200


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), max_size=60))
def test_all_that_is_sent_arrives_once_and_in_order(steps: list[int]) -> None:
    async def main() -> None:
        running = Running()
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            for step in steps:
                if step == 0:
                    await trio.lowlevel.checkpoint()
                elif step == 1:
                    running.line.hold_up()
                elif step == 2:
                    running.line.let_pass()
                else:
                    for _ in range(100):
                        running.wire.send(numbered(sent))
                        sent += 1
            running.line.let_pass()
            running.wire.close(1000, "", flush=True)
        assert running.all_numbers() == list(range(sent))

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- receiving -----------------------------------------------------------------------------------


async def test_what_arrives_is_handed_on_in_order(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.deliver(w.Got(1), w.Got(2))
    at_work.line.deliver(w.Got(3))
    await wait_all_tasks_blocked()

    assert at_work.received == [w.Got(1), w.Got(2), w.Got(3)]


async def test_it_reads_on_while_nobody_reads_what_it_sends(
    autojump_clock: MockClock, at_work: Running
) -> None:
    """Two peers that both waited for the other to read would wait for ever."""
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()

    for number in range(100):
        at_work.line.deliver(w.Got(number))
    await wait_all_tasks_blocked()

    assert len(at_work.received) == 100


async def test_it_knows_when_something_came_last(
    autojump_clock: MockClock, at_work: Running
) -> None:
    await trio.sleep(3)  # virtual
    at_work.line.deliver(w.Bye())
    await wait_all_tasks_blocked()
    heard = trio.current_time()
    await trio.sleep(3)  # virtual

    assert at_work.wire.heard_at == heard


# --- the end -------------------------------------------------------------------------------------


async def test_closing_ends_it_with_a_code_and_a_reason(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.wire.close(4410, "nothing came")
    await wait_all_tasks_blocked()

    assert at_work.end == at_work.line.closed == (4410, "nothing came")


async def test_only_the_first_reason_counts(autojump_clock: MockClock, at_work: Running) -> None:
    at_work.wire.close(4410, "first")
    at_work.wire.close(1000, "second", flush=True)
    await wait_all_tasks_blocked()

    assert at_work.end == at_work.line.closed == (4410, "first")


async def test_closing_it_twice_at_once_is_closing_it_once(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.wire.close(1000, "first", flush=True)
    at_work.wire.close(4410, "second")
    await wait_all_tasks_blocked()

    assert at_work.end == (1000, "first")


async def test_closing_it_in_an_orderly_way_sends_all_that_waits_first(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.hold_up()
    for number in range(1_000):
        at_work.wire.send(numbered(number))
    await wait_all_tasks_blocked()

    at_work.wire.close(1001, "bye", flush=True)
    await trio.sleep(1)  # virtual
    assert at_work.end is None
    at_work.line.let_pass()
    await wait_all_tasks_blocked()

    assert at_work.all_numbers() == list(range(1_000))
    assert at_work.end == at_work.line.closed == (1001, "bye")


async def test_an_orderly_close_with_nothing_to_send_ends_at_once(
    autojump_clock: MockClock, at_work: Running
) -> None:
    before = trio.current_time()

    at_work.wire.close(1001, "bye", flush=True)
    await wait_all_tasks_blocked()

    assert at_work.end == (1001, "bye")
    assert trio.current_time() == before


async def test_an_orderly_close_does_not_wait_long_for_a_peer_that_does_not_read(
    autojump_clock: MockClock,
    at_work: Running,
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()
    before = trio.current_time()

    at_work.wire.close(1001, "bye", flush=True)
    await until(lambda: at_work.end is not None)

    assert at_work.end == (1001, "bye")
    assert trio.current_time() - before == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("flush", [False, True])
async def test_one_that_was_closed_before_it_ran_ends_at_once(
    autojump_clock: MockClock, flush: bool
) -> None:
    running = Running()
    running.wire.send(numbered(1))
    running.wire.close(1012, "again", flush=flush)

    await running.run()

    assert running.end == running.line.closed == (1012, "again")
    assert running.numbers() == ([[1]] if flush else [])


async def test_when_the_peer_ends_it_its_reason_is_ours(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.lose(1012, "restart")
    await wait_all_tasks_blocked()

    assert at_work.end == (1012, "restart")


async def test_when_the_peer_ends_it_in_the_middle_of_a_send_its_reason_is_ours(
    autojump_clock: MockClock,
    at_work: Running,
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()

    at_work.line.lose(4409, "superseded")
    await wait_all_tasks_blocked()

    assert at_work.end == (4409, "superseded")


async def test_our_reason_beats_that_of_the_peer(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()

    at_work.wire.close(4400, "nonsense", flush=True)
    at_work.line.lose(1006)
    await wait_all_tasks_blocked()

    assert at_work.end == (4400, "nonsense")


async def test_what_is_no_message_ends_it_and_says_so(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.deliver(w.Got(1))
    at_work.line.deliver_bytes(b"\xc1")
    await wait_all_tasks_blocked()

    assert at_work.received == [w.Got(1)]
    assert at_work.end is not None
    code, reason = at_work.end
    assert code == w.Close.BAD_MESSAGE
    assert "no batch of messages" in reason


@pytest.mark.parametrize("code", [w.Close.BAD_MESSAGE, w.Close.SUPERSEDED, w.Close.SILENT])
async def test_the_reason_is_told_though_something_is_being_sent(
    autojump_clock: MockClock, at_work: Running, code: w.Close
) -> None:
    """A send that is cancelled ends the connection, and the peer would never know why."""
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()

    if code is w.Close.BAD_MESSAGE:
        at_work.line.deliver_bytes(b"\xc1")
    else:
        at_work.wire.close(code, "because")
    await wait_all_tasks_blocked()
    at_work.line.let_pass()
    await wait_all_tasks_blocked()

    assert at_work.numbers() == [[0]]
    assert at_work.end is not None
    assert at_work.end[0] == code
    assert at_work.line.closed == at_work.end


async def test_a_peer_that_does_not_read_is_cut_soon_all_the_same(
    autojump_clock: MockClock, at_work: Running
) -> None:
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()
    before = trio.current_time()

    at_work.wire.close(w.Close.SILENT, "nothing came")
    await until(lambda: at_work.end is not None)

    assert trio.current_time() - before <= 2.1


async def test_cancelling_it_ends_the_connection(autojump_clock: MockClock) -> None:
    running = Running()
    with trio.move_on_after(1):
        await running.run()

    assert running.end is None
    assert running.line.closed is not None


async def test_an_error_of_whoever_receives_ends_it_and_is_raised(
    autojump_clock: MockClock,
) -> None:
    def fail(_: list[Any]) -> None:
        raise ZeroDivisionError

    running = Running(fail)
    running.line.deliver(w.Bye())

    with pytest.raises(ZeroDivisionError):
        await running.run()

    assert running.line.closed is not None
    assert running.line.closed[0] == w.Close.BROKEN


async def test_a_peer_that_reads_too_slowly_is_cut(
    autojump_clock: MockClock, at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_MAX", 1_000_000)
    at_work.line.hold_up()
    at_work.wire.send(numbered(0))
    await wait_all_tasks_blocked()

    for _ in range(11):
        at_work.wire.send(filler(100_000))
    await trio.sleep(2.5)  # virtual: the batch under way has its chance

    assert at_work.end is not None
    code, reason = at_work.end
    assert code == w.Close.TOO_SLOW
    assert "bytes wait to be read" in reason


async def test_a_peer_that_reads_may_be_sent_any_amount(
    autojump_clock: MockClock, at_work: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_MAX", 1_000_000)
    for _ in range(30):
        at_work.wire.send(filler(100_000))
        await wait_all_tasks_blocked()

    assert at_work.end is None
    assert len(at_work.line.sent) == 30


async def test_both_ends_may_send_without_end_and_nobody_waits_for_the_other(
    autojump_clock: MockClock,
) -> None:
    """With room for only a few batches on the way, and thousands of messages to say."""
    count = 20_000
    there: list[Any] = []
    back: list[Any] = []

    def make(at: str | None = None, *, listens: bool = False, max_batch: int = 0) -> Any:
        return MemoryTransport("wire")

    async with pair(make) as (near, far):
        one = Wire(near, decode_from_owner, back.extend)
        other = Wire(far, decode_to_owner, there.extend)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            nursery.start_soon(other.run)
            for number in range(count):
                one.send(numbered(number))
                other.send(encode(m.Finished("id", number, True)))
            await until(lambda: len(there) == len(back) == count)
            one.close(1000, "")

    assert [message.got for message in there] == list(range(count))
    assert [message.fence for message in back] == list(range(count))


class Parting(FakeConnection):
    """Says a long farewell from within `receive`, as one that gets what it cannot bear."""

    said = False

    async def send(self, batch: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionLost(1003, "no text")

    async def receive(self) -> bytes:
        await trio.sleep(1)  # virtual
        self.said = True
        raise ConnectionLost(1003, "no text")


async def test_a_farewell_is_not_cut_short_by_what_can_no_longer_be_sent(
    autojump_clock: MockClock,
) -> None:
    line = Parting()
    wire = Wire(line, decode_to_owner, lambda _: None)
    wire.send(numbered(0))

    assert await wire.run() == (1003, "no text")
    assert line.said


async def test_a_connection_that_was_lost_is_no_error(autojump_clock: MockClock) -> None:
    running = Running()
    running.line.lose()

    await running.run()

    assert running.end == (ConnectionLost().code, "")


def test_join_is_what_the_wire_counts_on() -> None:
    """One message of the largest size fits beside a full batch of small ones."""
    small, most = numbered(1), message_max(1_024)
    batch = join([small] * (BATCH_MESSAGES - 1) + [filler(most - 200)])

    assert len(batch) <= batch_max(1_024)
