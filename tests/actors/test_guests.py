"""Who stands for a node elsewhere: what it keeps, what it says once, and what it does not say."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from actorq.actors import guests as module
from actorq.actors.guests import Guest, Guests, Kind
from actorq.codec.envelope import decode_from_owner, join
from actorq.errors import (
    ActorDied,
    EncodeError,
    OwnedElsewhere,
    PayloadTooLarge,
    RemoteError,
    StoreUnavailable,
)
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent, TaskEventKind
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS, TaskOptions
from actorq.model.records import Cancel, Head, Output
from actorq.model.results import TaskInfo
from actorq.model.status import SUCCESS, FailureKind, TaskStatus
from actorq.runtime.wire import message_max
from tests.actors.callers import CLIENT, WORKER, Clerk

MAX = 4_096


class FakeWire:
    """The part of a `Wire` that a guest uses."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: tuple[int, str, bool] | None = None

    def send(self, data: bytes) -> None:
        assert len(data) <= message_max(MAX), "its transport would refuse that"
        self.sent.append(data)

    def close(self, code: int, reason: str, *, flush: bool = False) -> None:
        if self.closed is None:
            self.closed = (code, reason, flush)

    def said(self) -> list[Any]:
        return decode_from_owner(join(self.sent))


class Lodge:
    """Guests, and the queue actor that they are guests of."""

    def __init__(self) -> None:
        self.clerk = Clerk()
        self.guests = Guests(self.clerk.exchange, MAX)
        self.numbers = 0

    def come(
        self, kind: Kind = "client", number: int | None = None, **about: Any
    ) -> tuple[Guest, FakeWire]:
        """Have a node connect."""
        self.numbers = number if number is not None else self.numbers + 1
        wire: Any = FakeWire()
        hello: Any = WORKER if kind == "worker" else CLIENT
        name = "node" if kind == "worker" else "client"
        header = w.Hello((1, 1), self.numbers, **about)
        guest = self.guests.take_in(kind, name, wire, header, hello)
        assert guest is not None
        return guest, wire

    def cut(self, guest: Guest) -> None:
        assert guest.wire is not None
        guest.unbind(guest.wire)


@pytest.fixture
def lodge() -> Lodge:
    return Lodge()


def head(**fields: Any) -> Head:
    made = Head("id", "task", NO_OPTIONS, "main", None, 1.0, 1.0, 1.0, 1.0, SUCCESS)
    return replace(made, **fields)


def outcome(number: int) -> m.Outcome:
    return m.Outcome(head(id=f"id {number}"), Output(b""))


def ids(wire: FakeWire) -> list[str]:
    return [message.head.id for message in wire.said() if isinstance(message, m.Outcome)]


def task(size: int = 0) -> m.Submission:
    return m.Submission("id", "task", "main", NO_OPTIONS, None, b"x" * size)


# --- coming and going ----------------------------------------------------------------------------


def test_who_comes_is_announced_as_one_that_is_elsewhere(lodge: Lodge) -> None:
    lodge.come()
    lodge.come("worker")

    assert lodge.clerk.messages == [replace(CLIENT, leased=True), replace(WORKER, leased=True)]
    assert len(lodge.clerk.exchange.connected) == 2


def test_a_cut_is_told_and_the_next_hello_comes_from_the_same_peer(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.cut(guest)
    again, _ = lodge.come()

    assert again is guest
    assert {origin for origin, _ in lodge.clerk.mail} == {1}
    assert [type(message) for message in lodge.clerk.messages] == [
        m.ClientHello, m.Away, m.ClientHello,
    ]  # fmt: skip


def test_a_newer_connection_takes_the_place_of_an_older_one_without_a_cut(lodge: Lodge) -> None:
    guest, old = lodge.come()
    _, new = lodge.come()
    assert old.closed is not None
    guest.unbind(old)  # type: ignore[arg-type]

    assert old.closed[0] == w.Close.SUPERSEDED
    assert guest.wire is new
    assert m.Away() not in lodge.clerk.messages


@pytest.mark.parametrize("number", [1, 4, 5])
def test_an_older_connection_that_comes_late_is_not_let_in(lodge: Lodge, number: int) -> None:
    guest, wire = lodge.come(number=5)
    late: Any = FakeWire()

    refused = lodge.guests.take_in("client", "client", late, w.Hello((1, 1), number), CLIENT)

    assert refused is None
    assert guest.wire is wire
    assert len(lodge.clerk.messages) == 1


def test_clients_workers_and_parents_of_one_name_are_three(lodge: Lodge) -> None:
    for kind in ("client", "worker", "parent"):
        wire: Any = FakeWire()
        lodge.guests.take_in(kind, "same", wire, w.Hello((1, 1), 1), CLIENT)

    assert len(lodge.guests) == 3
    assert {guest.kind for guest in lodge.guests} == {"client", "worker", "parent"}


def test_who_leaves_is_gone_and_may_come_again_from_the_beginning(lodge: Lodge) -> None:
    guest, _ = lodge.come(number=5)
    lodge.guests.leave(guest)
    lodge.guests.leave(guest)

    assert lodge.clerk.messages[1:] == [m.Gone()]
    assert lodge.guests.find("client", "client") is None
    assert not lodge.clerk.exchange.connected
    again, _ = lodge.come(number=1)
    assert again is not guest


def test_one_that_left_has_no_cut_to_tell_of(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.guests.leave(guest)
    lodge.cut(guest)

    assert lodge.clerk.messages[1:] == [m.Gone()]


def test_one_that_is_given_up_is_told_and_forgotten(lodge: Lodge) -> None:
    _, wire = lodge.come()

    lodge.clerk.say(m.Lost())

    assert wire.closed == (w.Close.LOST, "out of reach for too long", True)
    assert len(lodge.guests) == 0


def test_one_that_is_given_up_while_it_is_away_begins_anew(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.say(outcome(1))
    lodge.cut(guest)
    lodge.clerk.say(m.Lost())

    _, wire = lodge.come()

    assert wire.sent == []


# --- the queue actor comes and goes --------------------------------------------------------------


def test_when_the_queue_actor_starts_again_everybody_is_sent_to_come_back(lodge: Lodge) -> None:
    _, client = lodge.come()
    _, worker = lodge.come("worker")

    lodge.clerk.crash()

    for wire in (client, worker):
        assert wire.closed == (w.Close.AGAIN, "the queue starts again", True)


def test_a_new_queue_actor_waits_for_the_clients_of_the_old_one_and_not_for_workers(
    lodge: Lodge,
) -> None:
    """Only a worker itself knows what runs there."""
    lodge.come()
    lodge.come("worker")
    lodge.clerk.crash()
    lodge.clerk.mail.clear()

    lodge.clerk.open()

    assert m.ClientHello("client", True) in lodge.clerk.messages
    assert m.Away() in lodge.clerk.messages
    assert not [x for x in lodge.clerk.messages if isinstance(x, m.WorkerHello)]
    assert [guest.kind for guest in lodge.guests] == ["client"]


def test_what_is_said_while_the_queue_actor_is_down_is_dropped(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.crash()
    lodge.clerk.mail.clear()

    guest.say([m.GetStats(1)])
    lodge.clerk.open()
    guest.say([m.GetStats(1)])  # asked again, it is asked

    assert [x for x in lodge.clerk.messages if isinstance(x, m.GetStats)] == [m.GetStats(1)]


def test_who_comes_while_the_queue_actor_is_down_is_sent_to_come_back(lodge: Lodge) -> None:
    lodge.clerk.crash()

    _, wire = lodge.come()
    _, worker = lodge.come("worker")

    assert wire.closed is not None
    assert worker.closed is not None
    assert wire.closed[0] == worker.closed[0] == w.Close.AGAIN
    assert not lodge.clerk.mail


def test_what_was_kept_survives_the_queue_actor(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.say(outcome(1))
    lodge.clerk.crash()
    lodge.cut(guest)
    lodge.clerk.open()

    _, wire = lodge.come()

    assert ids(wire) == ["id 1"]


def test_when_the_system_closes_everybody_is_told(lodge: Lodge) -> None:
    _, wire = lodge.come()

    lodge.clerk.exchange.close(ActorDied("the system is closed"))

    assert wire.closed == (w.Close.GOING_AWAY, "the system is closed", True)


# --- what a client must not miss -----------------------------------------------------------------


def test_answers_and_outcomes_are_sent_again_first_until_they_are_acknowledged(
    lodge: Lodge,
) -> None:
    guest, first = lodge.come()
    lodge.clerk.say(outcome(1), m.Reply(7, 3), outcome(2))
    assert len(first.sent) == 3
    lodge.cut(guest)
    lodge.clerk.say(outcome(3))

    _, second = lodge.come()
    lodge.clerk.say(m.ClientWelcome("here", 0))

    assert ids(second) == ["id 1", "id 2", "id 3"]
    assert [type(message) for message in second.said()] == [
        m.Outcome, m.Reply, m.Outcome, m.Outcome, m.ClientWelcome,
    ]  # fmt: skip


def test_what_was_acknowledged_is_not_sent_again(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.say(*map(outcome, range(5)))
    guest.got(3)
    guest.got(3)
    guest.got(2)
    lodge.cut(guest)

    _, wire = lodge.come()

    assert ids(wire) == ["id 3", "id 4"]
    assert guest.tables()["kept"] == 2


def test_an_acknowledgement_counts_what_came_on_its_own_connection(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.say(*map(outcome, range(5)))
    guest.got(2)
    lodge.cut(guest)
    lodge.come()

    guest.got(1)

    assert guest.tables()["kept"] == 2
    guest.got(3)
    assert guest.tables()["kept"] == 0


def test_more_acknowledgements_than_there_was_to_acknowledge_harm_nobody(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    lodge.clerk.say(outcome(1))
    guest.got(10**15)
    lodge.clerk.say(outcome(2))

    assert guest.tables()["kept"] == 1


def test_news_and_what_is_for_workers_is_not_kept(lodge: Lodge) -> None:
    guest, _ = lodge.come("worker")
    lodge.cut(guest)
    lodge.clerk.say(
        m.News(1, []), m.Welcome(()), m.Interrupt("id", 1, Cancel("user"), 1.0),
        m.Finished("id", 1, True),
    )  # fmt: skip

    _, wire = lodge.come("worker")

    assert wire.sent == []


def test_one_that_never_comes_to_read_is_given_up(
    lodge: Lodge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_MAX", 10_000)
    guest, wire = lodge.come()

    for number in range(3):
        assert wire.closed is None
        lodge.clerk.say(m.Outcome(head(id=f"id {number}"), Output(b"x" * MAX)))

    assert wire.closed is not None
    assert wire.closed[0] == w.Close.TOO_SLOW
    assert lodge.clerk.messages[-1] == m.GiveUp()
    assert guest.tables()["kept"] == 0
    lodge.clerk.say(m.Lost())
    assert len(lodge.guests) == 0


# --- what a client says twice --------------------------------------------------------------------


def test_a_request_that_is_being_worked_on_is_not_worked_on_twice(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    submit = m.Submit(1, (task(),))
    guest.say([submit, m.Join(2)])
    lodge.cut(guest)
    lodge.come()

    guest.say([replace(submit, resent=True), m.Join(2), m.GetStats(3)])

    asked = [x for x in lodge.clerk.messages if hasattr(x, "request")]
    assert asked == [submit, m.Join(2), m.GetStats(3)]


def test_once_it_was_answered_it_may_be_asked_again(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    guest.say([m.GetStats(1)])
    lodge.clerk.say(m.Reply(1))

    guest.say([m.GetStats(1)])

    assert lodge.clerk.messages.count(m.GetStats(1)) == 2
    assert guest.tables()["open"] == 1


def test_nothing_is_left_of_what_was_withdrawn_or_forgotten(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    guest.say([m.Submit(1, (task(),)), m.Join(2)])

    guest.say([m.Withdraw(3, 1, ("id",), 1.0), m.Forget(2)])
    lodge.clerk.say(m.Reply(3))

    assert guest.tables()["open"] == 0


def test_a_subscription_is_asked_for_as_often_as_the_client_likes(lodge: Lodge) -> None:
    guest, _ = lodge.come()
    subscribe = m.Subscribe(1, 2, Filter())

    guest.say([subscribe])
    guest.say([subscribe, m.Unsubscribe(2), m.Unsubscribe(2)])

    assert lodge.clerk.messages[1:] == [
        subscribe, subscribe, m.Unsubscribe(2), m.Unsubscribe(2),
    ]  # fmt: skip


def test_a_worker_may_say_everything_twice(lodge: Lodge) -> None:
    guest, _ = lodge.come("worker")
    finish = m.Finish("id", 1, "ok", Output(b""), None)

    guest.say([finish])
    guest.say([finish])

    assert lodge.clerk.messages[1:] == [finish, finish]


def test_what_came_together_reaches_the_queue_actor_together(lodge: Lodge) -> None:
    guest, _ = lodge.come()

    guest.say([m.GetStats(1), m.Join(2), m.GetStats(1)])

    assert lodge.clerk.mail[-1] == (1, (m.GetStats(1), m.Join(2)))


# --- what is too large ---------------------------------------------------------------------------


def test_an_outcome_that_the_client_cannot_take_becomes_one_that_says_so(lodge: Lodge) -> None:
    _, wire = lodge.come()
    options = TaskOptions(queue="images", meta={"text": "x" * MAX})

    lodge.clerk.say(m.Outcome(head(options=options), Output(b"x" * 400_000)))

    (message,) = wire.said()
    assert (message.head.id, message.head.status) == ("id", TaskStatus.FAILURE)
    assert message.head.options.queue == "images"
    assert message.output.error.matches(PayloadTooLarge)


def test_an_outcome_of_a_task_with_very_many_needs_comes_without_them(lodge: Lodge) -> None:
    _, wire = lodge.come(max_message=1_024)
    needs = tuple(f"{number:032}" for number in range(10_000))

    lodge.clerk.say(m.Outcome(head(needs=needs), Output(b"value")))

    (message,) = wire.said()
    assert (message.head.id, message.head.needs) == ("id", ())


def test_a_client_may_take_less_than_the_owner(lodge: Lodge) -> None:
    _, wire = lodge.come(max_message=1_024)

    lodge.clerk.say(m.Outcome(head(), Output(b"x" * (message_max(1_024) + 1))))

    assert wire.said()[0].output.error.matches(PayloadTooLarge)


@pytest.mark.parametrize("kind", ["client", "worker"])
@pytest.mark.parametrize(
    "message",
    [
        m.ClientWelcome("here", 0),
        m.Welcome((("id", 1),) * 50),
        m.Interrupt("id", 1, Cancel("user"), 1.0),
        m.Finished("id", 1, True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_every_node_must_be_able_to_take_is_sent_as_it_is(
    lodge: Lodge, kind: Kind, message: Any
) -> None:
    guest, wire = lodge.come(kind)
    guest._most = 1

    lodge.clerk.say(message)

    assert wire.said() == [message]


def test_a_call_that_the_worker_cannot_take_is_for_it_to_refuse(lodge: Lodge) -> None:
    _, wire = lodge.come("worker")

    lodge.clerk.say(m.Grant(head(), b"x" * 400_000, None))

    (grant,) = wire.said()
    assert (grant.head.id, grant.body) == ("id", None)


def test_so_is_one_with_values_that_it_cannot_take(lodge: Lodge) -> None:
    _, wire = lodge.come("worker")

    lodge.clerk.say(m.Grant(head(), b"call", None, {"id 0": b"x" * 400_000}))

    (grant,) = wire.said()
    assert (grant.head.id, grant.body, grant.inputs) == ("id", None, {})


def test_news_that_are_too_large_together_come_one_after_the_other(lodge: Lodge) -> None:
    _, wire = lodge.come()
    large = head(options=TaskOptions(meta={"text": "x" * 100_000}))
    events = [
        TaskEvent(TaskEventKind.STARTED, replace(large, id=f"id {number}"), 1.0)
        for number in range(10)
    ]

    lodge.clerk.say(m.News(7, events))

    news = wire.said()
    assert len(news) > 1
    assert [event.id for part in news for event in part.events] == [e.id for e in events]
    assert {part.subscription for part in news} == {7}


def test_how_things_stand_comes_without_values_where_they_are_too_many(lodge: Lodge) -> None:
    _, wire = lodge.come()
    large = head(options=TaskOptions(queue="images", meta={"text": "x" * 10_000}))
    failed = Output(
        error=RemoteError("m.Boom", "b" * 30_000, "t" * 30_000, mro=("m.Boom",)),
        kind=FailureKind.ERROR,
    )
    tasks = tuple(
        m.Snapshot(replace(large, id=f"id {number}"), output, None)
        for number, output in enumerate([Output(b"x" * 30_000), failed] * 50)
    )

    lodge.clerk.say(m.Reply(1, m.Standing(5.0, {}, tasks)))
    lodge.clerk.say(m.Reply(2, m.Standing(5.0, {}, tasks[:2])))

    brief, whole = (reply.value for reply in wire.said())
    assert [task.head.id for task in brief.tasks] == [task.head.id for task in tasks]
    assert {task.head.options.queue for task in brief.tasks} == {"images"}
    assert brief.tasks[0].output == Output()
    error = brief.tasks[1].output.error
    assert (error.type, error.message, error.mro) == ("m.Boom", "b" * 200, ("m.Boom",))
    assert brief.tasks[1].output.kind is FailureKind.ERROR
    assert [task.output for task in whole.tasks] == [task.output for task in tasks[:2]]


def test_how_things_stand_is_refused_where_even_that_is_too_much(lodge: Lodge) -> None:
    _, wire = lodge.come(max_message=1_024)
    tasks = tuple(m.Snapshot(head(id=f"{n:032}"), None, None) for n in range(10_000))

    lodge.clerk.say(m.Reply(1, m.Standing(5.0, {}, tasks)))

    (reply,) = wire.said()
    assert isinstance(reply.error, PayloadTooLarge)


def test_an_event_that_is_too_large_by_itself_comes_without_its_meta(lodge: Lodge) -> None:
    _, wire = lodge.come()
    options = TaskOptions(queue="images", meta={"text": "x" * 400_000})

    lodge.clerk.say(m.News(7, [TaskEvent(TaskEventKind.STARTED, head(options=options), 1.0)]))

    (event,) = wire.said()[0].events
    assert (event.id, event.queue, dict(event.meta)) == ("id", "images", {})


def test_a_page_that_is_too_large_is_asked_for_with_half_as_many(lodge: Lodge) -> None:
    guest, wire = lodge.come()
    find = m.Find(1, Filter(), None, 100)
    guest.say([find])
    tasks = [m.Snapshot(head(), Output(b"x" * 10_000), None)] * 100

    lodge.clerk.say(m.Reply(1, m.FoundPage(find, tasks, None, 100)))

    assert wire.sent == []
    assert lodge.clerk.messages[-1] == replace(find, limit=50)
    lodge.clerk.say(m.Reply(1, m.FoundPage(find, tasks[:20], "next", 20)))
    (reply,) = wire.said()
    assert (len(reply.value.tasks), reply.value.next) == (20, "next")
    assert guest.tables() == {"kept": 1, "open": 0}


def test_a_page_of_one_task_that_is_too_large_is_an_error(lodge: Lodge) -> None:
    _, wire = lodge.come()
    task_ = m.Snapshot(head(), Output(b"x" * 400_000), None)

    lodge.clerk.say(m.Reply(1, m.FoundPage(m.Find(1, Filter(), None, 1), [task_], None, 1)))

    assert type(wire.said()[0].error) is PayloadTooLarge


def test_an_answer_that_is_too_large_is_an_error_of_that_request(lodge: Lodge) -> None:
    guest, wire = lodge.come()
    guest.say([m.Inspect(1, "id")])

    lodge.clerk.say(m.Reply(1, m.Snapshot(head(), Output(b"x" * 400_000), None)))

    (reply,) = wire.said()
    assert (reply.request, type(reply.error)) == (1, PayloadTooLarge)
    assert guest.tables()["open"] == 0


def test_an_answer_that_cannot_be_encoded_is_an_error_of_that_request(lodge: Lodge) -> None:
    _, wire = lodge.come()

    lodge.clerk.say(m.Reply(1, [TaskInfo("\udcff", 1, 1, 1)]))

    (reply,) = wire.said()
    assert (reply.request, type(reply.error)) == (1, EncodeError)


# --- a queue actor that stays down ---------------------------------------------------------------


def test_while_the_store_cannot_be_written_whoever_comes_is_told_why(lodge: Lodge) -> None:
    _, wire = lodge.come()
    lodge.clerk.exchange.suspend(StoreUnavailable("no disk"))
    _, again = lodge.come()

    assert wire.closed == again.closed == (w.Close.UNAVAILABLE, "no disk", True)


def test_a_former_owner_has_no_guests_once_somebody_else_owns_the_store(lodge: Lodge) -> None:
    guest, _wire = lodge.come()
    guest.received(outcome(1))
    lodge.clerk.exchange.suspend(OwnedElsewhere("process 7"))

    assert len(lodge.guests) == 0


def test_what_was_born_on_one_connection_of_a_worker_does_not_leave_on_another(
    lodge: Lodge,
) -> None:
    """A grant that was being written is not in the worker's hello, and is granted anew."""
    _, _first = lodge.come("worker")
    [before] = lodge.clerk.exchange.connected
    _, _second = lodge.come("worker")
    [after] = lodge.clerk.exchange.connected

    assert before != after
    assert [origin for origin, _ in lodge.clerk.mail] == [before, after]
