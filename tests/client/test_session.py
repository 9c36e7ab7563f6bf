"""What a client keeps: everything that is not answered, and nothing more."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.client.session import Session
from actorq.errors import ActorDied
from actorq.model import messages as m


class Line:
    """A connection that only remembers what was sent on it."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, *messages: object) -> None:
        self.sent += messages


def submit(session: Session) -> m.Submit:
    return m.Submit(session.number(), ())


def test_what_was_asked_without_a_connection_is_sent_on_the_first_one() -> None:
    session, line = Session("me"), Line()
    request = m.GetStats(session.number())
    session.ask(request)

    session.connected(line)

    assert line.sent == [m.ClientHello("me"), request]


def test_a_question_that_was_not_answered_is_asked_again_on_the_next_connection() -> None:
    session, first, second = Session("me"), Line(), Line()
    session.connected(first)
    answered, open_one = m.GetStats(session.number()), m.GetStats(session.number())
    session.ask(answered)
    session.ask(open_one)
    session.received(m.Reply(answered.request))

    session.disconnected(None)
    session.connected(second)

    assert second.sent == [m.ClientHello("me"), open_one]


def test_a_submit_that_is_sent_again_says_so() -> None:
    session, first, second = Session("me"), Line(), Line()
    session.connected(first)
    session.ask(submit(session))

    session.disconnected(None)
    session.connected(second)

    assert [message.resent for message in second.sent if isinstance(message, m.Submit)] == [True]


def test_awaited_ends_are_watched_again_on_the_next_connection() -> None:
    session, line = Session("me"), Line()
    ending = session.ending("some id")

    session.connected(line)

    assert [message.ids for message in line.sent if isinstance(message, m.Watch)] == [("some id",)]
    assert not ending.done


def test_a_watched_id_that_is_unknown_fails_alone() -> None:
    session, line = Session("me"), Line()
    known, unknown = session.ending("known"), session.ending("unknown")
    session.connected(line)
    watch = line.sent[-1]

    session.received(m.Reply(watch.request, ("unknown",)))

    assert not known.done
    with pytest.raises(actorq.TaskNotFound, match="'unknown'"):
        unknown.peek()


def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    session = Session("me")
    request = m.GetStats(session.number())
    session.ask(request)
    session.forget(request)

    session.received(m.Reply(request.request, "late"))

    assert not any(session.tables().values())


def test_an_end_that_nobody_waits_for_costs_nothing() -> None:
    session = Session("me")

    ending = session.ending("some id")
    del ending

    assert not any(session.tables().values())


def test_when_the_connection_is_over_for_ever_everybody_is_told_an_error_of_their_own() -> None:
    session = Session("me")
    first, second = session.ask(submit(session)), session.ending("some id")

    session.disconnected(actorq.ActorDied("it is over"))

    errors = []
    for future in (first, second, session.ask(submit(session)), session.ending("other")):
        with pytest.raises(actorq.ActorDied, match="it is over") as caught:
            future.peek()
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 4
    assert not any(session.tables().values())


def test_a_refusal_is_the_error_of_whoever_asked() -> None:
    session = Session("me")
    request = submit(session)
    answer = session.ask(request)

    session.received(m.Reply(request.request, error=actorq.QueueFull("no room")))

    with pytest.raises(actorq.QueueFull, match="no room"):
        answer.peek()


async def test_a_withdrawn_submit_is_not_sent_again(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    session, line = Session("me"), Line()
    request = submit(session)
    session.ask(request)
    session.withdraw(request, (), 1.0)
    await wait_all_tasks_blocked()

    session.connected(line)

    assert not [message for message in line.sent if isinstance(message, m.Submit)]


async def test_a_question_that_two_owners_died_of_is_not_put_to_a_third(
    autojump_clock: trio.abc.Clock,
) -> None:
    session = Session("me")
    first, second, third = Line(), Line(), Line()
    session.connected(first)
    question = session.ask(m.GetStats(session.number()))
    joining = session.ask(m.Join(session.number()))

    for line in (second, third):
        session.disconnected(None)
        session.connected(line)

    assert [type(message) for message in second.sent] == [m.ClientHello, m.GetStats, m.Join]
    assert [type(message) for message in third.sent] == [m.ClientHello, m.Join]
    with pytest.raises(ActorDied, match="twice"):
        question.peek()
    assert not joining.done
