"""The end that dials: whom it dials when, what it says first, and what makes it dial again."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.codec.envelope import decode_to_owner
from actorq.contracts.link import Port
from actorq.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    EncodeError,
    IncompatiblePeer,
    PayloadTooLarge,
    TransportError,
)
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Cancel, Head, Output
from actorq.model.status import SUCCESS
from actorq.runtime.dialer import GOT_EVERY, Dialer
from tests.runtime.lines import FakeConnection, FakeTransport, until

ACCEPTED = w.Accepted(1, "queue node", "9.9", 4_096, 15.0, 5.0)
HELLO = m.ClientHello("me", True)
REFUSED = ConnectFailed("nobody answers")


class Somebody:
    """A peer that says hello, and remembers what happened."""

    def __init__(self, *hello: Any) -> None:
        self.hello = hello or (HELLO,)
        self.port: Port | None = None
        self.happened: list[Any] = []

    def connected(self, port: Port) -> None:
        self.port = port
        self.happened.append("connected")
        port.send(*self.hello)

    def received(self, message: Any) -> None:
        self.happened.append(message)

    def disconnected(self, error: BaseException | None) -> None:
        self.happened.append("disconnected" if error is None else type(error))

    def suspended(self, error: Exception) -> None:
        self.happened.append(("suspended", str(error)))


class Dialling:
    """A dialer at work."""

    def __init__(self, *transports: FakeTransport, **more: Any) -> None:
        self.peer = more.pop("peer", None) or Somebody()
        self.events: list[tuple[EventKind, dict[str, Any]]] = []
        self.dialer = Dialer(
            transports,
            more.pop("token", "secret"),
            self.peer,
            node="a client",
            library="0.1",
            tell=lambda kind, **details: self.events.append((kind, details)),
            random=Random(1),
            **more,
        )
        self.error: Exception | None = None

    async def run(self) -> None:
        try:
            await self.dialer.run()
        except TransportError as error:
            self.error = error

    @property
    def kinds(self) -> list[EventKind]:
        return [kind for kind, _ in self.events]


def said(line: FakeConnection) -> list[Any]:
    """Return what was sent but for pings, all batches in one."""
    messages = [message for batch in line.sent for message in decode_to_owner(batch)]
    return [message for message in messages if not isinstance(message, w.Ping)]


def pings(line: FakeConnection) -> list[int]:
    messages = [message for batch in line.sent for message in decode_to_owner(batch)]
    return [message.got for message in messages if isinstance(message, w.Ping)]


def outcome(value: bytes = b"") -> m.Outcome:
    head = Head("id", "task", NO_OPTIONS, "main", None, 1.0, 1.0, 1.0, 1.0, SUCCESS)
    return m.Outcome(head, Output(value))


async def answer(line: FakeConnection) -> None:
    """Be an owner that is there."""
    line.deliver(ACCEPTED)
    while line.closed is None:
        await trio.sleep(0.5)  # virtual
        line.deliver(w.Pong())


# --- the hello -----------------------------------------------------------------------------------


async def test_the_first_batch_says_which_connection_it_is_and_who_is_there(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    dialling = Dialling(FakeTransport(line), max_message=4_096)
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()

    assert decode_to_owner(line.sent[0]) == [
        w.Hello((w.PROTOCOL, w.PROTOCOL), 1, "a client", "0.1", 4_096),
        HELLO,
    ]


async def test_a_peer_that_says_no_hello_is_introduced(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    silent = Somebody(w.Got(0))
    dialling = Dialling(FakeTransport(line), peer=silent, introduce=[w.BeatHello("node")])
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()

    assert said(line)[1:] == [w.BeatHello("node"), w.Got(0)]


async def test_each_connection_has_a_higher_number(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lines = [FakeConnection() for _ in range(3)]
    dialling = Dialling(FakeTransport(*lines))
    nursery.start_soon(dialling.run)
    for line in lines:
        await until(lambda line=line: line.sent)
        line.lose()
    await wait_all_tasks_blocked()

    assert [said(line)[0].number for line in lines] == [1, 2, 3]


async def test_the_token_is_shown_each_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    transport = FakeTransport(REFUSED, REFUSED)
    nursery.start_soon(Dialling(transport, token="secret").run)
    await until(lambda: len(transport.dials) == 3)

    assert {token for _, token in transport.dials} == {"secret"}


async def test_once_it_is_accepted_that_is_known_and_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    assert not dialling.events

    line.deliver(ACCEPTED)

    assert await dialling.dialer.accepted.wait() == ACCEPTED
    assert dialling.dialer.connected
    ((kind, details),) = dialling.events
    assert kind is EventKind.CONNECTED
    assert (details["node"], details["peer"], details["library"]) == (
        "queue node", "somewhere", "9.9",
    )  # fmt: skip


# --- dialling again ------------------------------------------------------------------------------


async def test_it_dials_again_and_again_with_a_little_more_patience_each_time_up_to_a_second(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    transport = FakeTransport(*[REFUSED] * 30)
    nursery.start_soon(Dialling(transport).run)
    await until(lambda: len(transport.dials) == 31)

    times = [at for at, _ in transport.dials]
    waits = [after - before for before, after in pairwise(times)]
    assert waits[0] <= 0.2
    assert all(wait <= 1.01 for wait in waits)
    assert all(wait >= 0.45 for wait in waits[-10:])
    assert len({round(wait, 3) for wait in waits[-10:]}) > 5, "not all at the same moment"


async def test_it_says_now_and_then_that_nobody_answers(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    transport = FakeTransport(*[REFUSED] * 40)
    dialling = Dialling(transport)
    nursery.start_soon(dialling.run)
    await until(lambda: len(transport.dials) == 41)

    assert set(dialling.kinds) == {EventKind.CONNECT_FAILED}
    assert [details["attempts"] for _, details in dialling.events] == [1, 2, 4, 8, 16, 32]
    assert dialling.dialer.why_not() == "nobody answers"


async def test_several_addresses_are_tried_in_turn(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    one, other = FakeTransport(*[REFUSED] * 9), FakeTransport(*[REFUSED] * 9)
    nursery.start_soon(Dialling(one, other).run)
    await until(lambda: len(other.dials) == 5)

    dials = sorted([(at, 1) for at, _ in one.dials] + [(at, 2) for at, _ in other.dials])
    assert [which for _, which in dials[:10]] == [1, 2] * 5


@pytest.mark.parametrize(
    "code",
    [
        w.Close.NORMAL, w.Close.GOING_AWAY, w.Close.AGAIN, w.Close.HELLO_TIMEOUT,
        w.Close.SUPERSEDED, w.Close.SILENT, w.Close.TOO_SLOW, w.Close.LOST, 1006, 1009, 1011, 4999,
    ],
)  # fmt: skip
async def test_a_connection_that_has_ended_is_dialled_again(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int
) -> None:
    line, transport = FakeConnection(), FakeTransport()
    transport.plan = [line]
    dialling = Dialling(transport)
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    line.deliver(ACCEPTED)
    await wait_all_tasks_blocked()

    before = trio.current_time()
    line.lose(code, "because")
    await until(lambda: len(transport.dials) == 2)

    assert trio.current_time() - before <= 0.11
    assert dialling.peer.happened == ["connected", "disconnected"]
    assert dialling.kinds == [EventKind.CONNECTED, EventKind.DISCONNECTED]
    assert dialling.error is None
    assert "because" in dialling.dialer.why_not()


async def test_one_who_lets_us_in_and_cuts_us_at_once_is_dialled_ever_less_often(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lines = [FakeConnection() for _ in range(60)]
    for line in lines:
        line.lose(1011, "a bug")
    transport = FakeTransport(*lines)
    nursery.start_soon(Dialling(transport).run)

    await trio.sleep(20)  # virtual

    assert len(transport.dials) <= 45


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (w.Close.FORBIDDEN, AuthenticationFailed),
        (w.Close.BAD_MESSAGE, IncompatiblePeer),
        (w.Close.VERSION, IncompatiblePeer),
    ],
)
async def test_where_dialling_again_does_not_help_it_ends_and_says_why(
    autojump_clock: MockClock, code: int, kind: type[TransportError]
) -> None:
    line = FakeConnection()
    line.lose(code, "for this reason")
    dialling = Dialling(FakeTransport(line))

    await dialling.run()

    assert type(dialling.error) is kind
    assert "fake://here: for this reason" in str(dialling.error)
    assert dialling.peer.happened == ["connected", "disconnected", kind]
    with pytest.raises(kind):
        dialling.dialer.accepted.peek()


@pytest.mark.parametrize("error", [AuthenticationFailed("no"), IncompatiblePeer("what?")])
async def test_a_refusal_before_there_is_a_connection_ends_it_too(
    autojump_clock: MockClock, error: TransportError
) -> None:
    dialling = Dialling(FakeTransport(error))

    await dialling.run()

    assert dialling.error is error
    assert dialling.peer.happened == [type(error)]


async def test_an_owner_that_talks_nonsense_is_not_dialled_again(
    autojump_clock: MockClock,
) -> None:
    line = FakeConnection()
    line.deliver_bytes(b"\xc1")
    dialling = Dialling(FakeTransport(line))

    await dialling.run()

    assert isinstance(dialling.error, IncompatiblePeer)
    assert line.closed is not None
    assert line.closed[0] == w.Close.BAD_MESSAGE


async def test_a_connection_that_is_lost_on_the_way_is_dialled_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    transport = FakeTransport(ConnectionLost(1006, ""), ConnectionLost(1006, ""))
    nursery.start_soon(Dialling(transport).run)

    await until(lambda: len(transport.dials) == 3)


async def test_a_cut_is_a_reason_to_dial_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    transport = FakeTransport(line)
    dialling = Dialling(transport)
    dialling.dialer.cut("there is none yet")
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()

    dialling.dialer.cut("the worker starts again")
    await until(lambda: len(transport.dials) == 2)

    assert line.closed == (w.Close.NORMAL, "the worker starts again")


async def test_what_is_sent_on_a_connection_that_has_ended_goes_nowhere(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    old, new = FakeConnection(), FakeConnection()
    dialling = Dialling(FakeTransport(old, new))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    port = dialling.peer.port
    assert port is not None
    old.lose()
    await until(lambda: new.sent)

    port.send(m.GetStats(1))
    await wait_all_tasks_blocked()

    assert m.GetStats(1) not in said(old) + said(new)


async def test_cancelled_it_lets_its_peer_go(autojump_clock: MockClock) -> None:
    line = FakeConnection()
    dialling = Dialling(FakeTransport(line))
    with trio.move_on_after(1):
        await dialling.run()

    assert dialling.peer.happened == ["connected", "disconnected"]
    assert line.closed is not None
    assert not dialling.dialer.connected


# --- silence -------------------------------------------------------------------------------------


async def test_it_pings_each_second_and_says_how_much_has_come(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(line)).run)
    nursery.start_soon(answer, line)
    await trio.sleep(2.5)  # virtual
    line.deliver(outcome(), m.Reply(1), m.Welcome(()))
    await trio.sleep(8)  # virtual

    assert pings(line) == [0, 0, *[2] * 8]
    nursery.cancel_scope.cancel()


async def test_it_does_not_ping_before_it_was_accepted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The peer may not have said hello yet, and nothing may come before that."""
    line = FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(line), peer=Somebody(w.Got(0))).run)
    await trio.sleep(3.5)  # virtual
    assert pings(line) == []
    line.deliver(ACCEPTED)
    await trio.sleep(1.5)  # virtual

    assert len(pings(line)) >= 1


async def test_an_owner_that_is_silent_is_dialled_again_after_four_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    transport = FakeTransport(line)
    nursery.start_soon(Dialling(transport).run)
    line.deliver(ACCEPTED)
    await until(lambda: len(transport.dials) == 2)

    began, again = (at for at, _ in transport.dials)
    assert again - began == pytest.approx(w.SILENCE_AT_DIALLER, abs=1.2)
    assert line.closed == (w.Close.SILENT, "nothing came for 4 s")


async def test_an_owner_that_answers_pings_is_not(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    transport = FakeTransport(line)
    nursery.start_soon(Dialling(transport).run)
    nursery.start_soon(answer, line)

    await trio.sleep(600)  # virtual

    assert len(transport.dials) == 1
    nursery.cancel_scope.cancel()


async def test_an_owner_that_never_answers_the_hello_is_dialled_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    transport = FakeTransport(line)
    nursery.start_soon(Dialling(transport).run)
    while line.closed is None:
        line.deliver(w.Pong())
        await trio.sleep(0.5)  # virtual

    assert line.closed == (w.Close.HELLO_TIMEOUT, "the hello was not answered")
    assert trio.current_time() - transport.dials[0][0] == pytest.approx(w.HELLO_SECONDS, abs=1.2)


async def test_our_own_standstill_is_nobodys_silence(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    transport = FakeTransport(line)
    nursery.start_soon(Dialling(transport).run)
    line.deliver(ACCEPTED)
    await wait_all_tasks_blocked()

    for _ in range(10):
        mock_clock.jump(30)  # as if the loop had been blocked
        await wait_all_tasks_blocked()
        assert line.closed is None
        line.deliver(w.Pong())
        await wait_all_tasks_blocked()


async def test_after_a_standstill_silence_is_still_noticed(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(line)).run)
    line.deliver(ACCEPTED)
    await wait_all_tasks_blocked()
    mock_clock.jump(300)
    await wait_all_tasks_blocked()

    for _ in range(6):
        mock_clock.jump(1)
        await wait_all_tasks_blocked()

    assert line.closed is not None
    assert line.closed[0] == w.Close.SILENT


# --- what came -----------------------------------------------------------------------------------


async def test_answers_and_outcomes_are_acknowledged_every_so_often(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(line)).run)
    await wait_all_tasks_blocked()
    line.deliver(ACCEPTED)
    for _ in range(2 * GOT_EVERY + 1):
        line.deliver(outcome())
    line.deliver(*[m.Finished("id", 1, True)] * 100)
    await wait_all_tasks_blocked()

    assert [m_ for m_ in said(line) if isinstance(m_, w.Got)] == [
        w.Got(GOT_EVERY),
        w.Got(2 * GOT_EVERY),
    ]


async def test_a_large_outcome_is_acknowledged_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Or the owner would keep megabytes until the next ping."""
    line = FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(line)).run)
    await wait_all_tasks_blocked()
    line.deliver(ACCEPTED, outcome(b"x" * 100_000))
    await wait_all_tasks_blocked()

    assert said(line)[-1] == w.Got(1)


async def test_each_connection_counts_for_itself(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first, second = FakeConnection(), FakeConnection()
    nursery.start_soon(Dialling(FakeTransport(first, second)).run)
    first.deliver(ACCEPTED, *[outcome()] * 20)
    await wait_all_tasks_blocked()
    first.lose()
    second.deliver(ACCEPTED, *[outcome()] * 20)
    await trio.sleep(1.5)  # virtual

    assert pings(second)[:1] == [20]
    assert not [message for message in said(second) if isinstance(message, w.Got)]


async def test_the_peer_gets_what_is_for_it_and_not_what_is_about_the_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    line.deliver(ACCEPTED, w.Pong(), m.ClientWelcome("here", 0), m.Reply(1, 7))
    await wait_all_tasks_blocked()

    assert dialling.peer.happened == ["connected", m.ClientWelcome("here", 0), m.Reply(1, 7)]


# --- what cannot go ------------------------------------------------------------------------------


@pytest.fixture
def line() -> FakeConnection:
    made = FakeConnection()
    made.deliver(ACCEPTED)
    return made


async def test_a_request_that_is_too_large_is_refused_here_and_the_connection_lives(
    autojump_clock: MockClock, nursery: trio.Nursery, line: FakeConnection
) -> None:
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    assert dialling.peer.port is not None
    large = m.Submission("id", "task", "main", NO_OPTIONS, None, b"x" * 1_000_000)

    dialling.peer.port.send(m.Submit(7, (large,)), m.GetStats(8))
    await wait_all_tasks_blocked()

    reply = dialling.peer.happened[-1]
    assert (reply.request, type(reply.error)) == (7, PayloadTooLarge)
    assert "bytes" in str(reply.error)
    assert said(line)[-1] == m.GetStats(8)
    assert line.closed is None


async def test_an_end_that_is_too_large_becomes_one_that_says_so(
    autojump_clock: MockClock, nursery: trio.Nursery, line: FakeConnection
) -> None:
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    assert dialling.peer.port is not None
    output = Output(b"x" * 1_000_000)

    dialling.peer.port.send(
        m.Finish("a", 1, "ok", output, 5.0), m.Finish("b", 1, "cancelled", output, 5.0)
    )
    await wait_all_tasks_blocked()

    failed, cancelled = said(line)[-2:]
    assert (failed.id, failed.cause, failed.started_at) == ("a", "failed", 5.0)
    assert failed.output.error is not None
    assert failed.output.error.matches(PayloadTooLarge)
    assert (cancelled.id, cancelled.cause) == ("b", "cancelled")


async def test_a_text_that_is_none_is_refused_here_and_the_connection_lives(
    autojump_clock: MockClock, nursery: trio.Nursery, line: FakeConnection
) -> None:
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    assert dialling.peer.port is not None

    dialling.peer.port.send(
        m.CancelTask(7, "\udcff", Cancel("user", "\udcff"), 1.0), m.Inspect(8, "id")
    )
    await wait_all_tasks_blocked()

    reply = dialling.peer.happened[-1]
    assert (reply.request, type(reply.error)) == (7, EncodeError)
    str(reply.error).encode()
    assert said(line)[-1] == m.Inspect(8, "id")
    assert line.closed is None


# --- leaving -------------------------------------------------------------------------------------


async def test_leaving_says_all_that_waits_and_then_goodbye(
    autojump_clock: MockClock, nursery: trio.Nursery, line: FakeConnection
) -> None:
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    assert dialling.peer.port is not None
    for number in range(1_000):
        dialling.peer.port.send(m.Inspect(number, "id"))

    await dialling.dialer.leave()

    assert said(line)[-2:] == [m.Inspect(999, "id"), w.Bye()]
    assert line.closed == (w.Close.NORMAL, "the peer leaves")


async def test_leaving_without_a_connection_is_done_at_once(autojump_clock: MockClock) -> None:
    dialling = Dialling(FakeTransport())

    await dialling.dialer.leave()

    assert not dialling.peer.happened


async def test_leaving_does_not_wait_long_for_an_owner_that_does_not_read(
    autojump_clock: MockClock, nursery: trio.Nursery, line: FakeConnection
) -> None:
    dialling = Dialling(FakeTransport(line))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    line.hold_up()
    before = trio.current_time()

    with trio.CancelScope() as hurry:
        hurry.cancel()
        await dialling.dialer.leave()

    assert trio.current_time() - before <= 4.1
    assert w.Bye() not in said(line)


async def test_a_queue_that_cannot_write_says_so_and_is_dialled_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first, second = FakeConnection(), FakeConnection()
    dialling = Dialling(FakeTransport(first, second))
    nursery.start_soon(dialling.run)
    await wait_all_tasks_blocked()
    first.deliver(ACCEPTED)
    first.lose(w.Close.UNAVAILABLE, "no disk")
    await trio.sleep(2)  # virtual

    [told] = [what for what in dialling.peer.happened if what[0] == "suspended"]
    assert told[1].endswith(": no disk")
    assert dialling.peer.happened.count("connected") == 2
