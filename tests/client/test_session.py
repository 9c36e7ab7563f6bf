"""What a client keeps: everything that is not answered, and nothing more."""

from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.client.session import WATCH_MAX, Session
from actorq.errors import ActorDied, StoreUnavailable
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Head, Output
from actorq.model.status import SUCCESS


class Line:
    """A connection that only remembers what was sent on it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, *messages: object) -> None:
        self.sent += messages

    def kinds(self) -> list[type]:
        return [type(message) for message in self.sent]

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


class Listening:
    """A subscription that only remembers what it was told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.told: list[Any] = []

    def request(self, number: int) -> m.Subscribe:
        return m.Subscribe(number, self.number, Filter())

    def begin(self, standing: m.Standing) -> None:
        self.told.append(standing)

    def tell(self, events: list[TaskEvent]) -> None:
        self.told += events

    def fail(self, error: BaseException) -> None:
        self.told.append(error)


def meet(session: Session, line: Line, lineage: str = "here", losses: int = 0) -> None:
    """Connect, and be greeted."""
    session.connected(line)
    session.received(m.ClientWelcome(lineage, losses))


def submit(session: Session, scope: str | None = None) -> m.Submit:
    task = m.Submission("some id", "task", "main", NO_OPTIONS, scope, None)
    return m.Submit(session.number(), (task,), lineage=session.lineage)


def outcome(id: str, value: object) -> m.Outcome:
    head = Head(id, "task", NO_OPTIONS, "main", None, 0.0, 0.0, 0.0, 0.0, SUCCESS)
    return m.Outcome(head, Output(value))


# --- the first connection, and the next ----------------------------------------------------------


def test_nothing_is_asked_before_the_owner_has_answered_the_hello() -> None:
    session, line = Session("me"), Line()
    early = m.GetStats(session.number())
    session.ask(early)

    session.connected(line)
    late = m.GetStats(session.number())
    session.ask(late)

    assert line.sent == [m.ClientHello("me")]
    session.received(m.ClientWelcome("here", 0))
    assert line.sent[1:] == [early, late]


def test_the_wish_to_close_does_not_wait_for_that_and_is_said_once() -> None:
    """Or whatever waits would be granted to the worker that is connected next."""
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    close = m.Close(session.number(), cancel=False, grace=0.0)
    session.ask(close)

    session.disconnected(None)
    session.connected(second)

    assert second.sent == [m.ClientHello("me"), close]
    session.received(m.ClientWelcome("here", 0))
    assert second.of(m.Close) == [close]


def test_one_that_is_elsewhere_says_so() -> None:
    session, line = Session("me", leased=True), Line()

    session.connected(line)

    assert line.sent == [m.ClientHello("me", leased=True)]


def test_one_that_is_no_ordinary_client_says_another_hello() -> None:
    session, line = Session("me", leased=True, hello=w.ParentHello("me")), Line()

    session.connected(line)

    assert line.sent == [w.ParentHello("me")]


def test_a_question_that_was_not_answered_is_asked_again_on_the_next_connection() -> None:
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    answered, open_one = m.GetStats(session.number()), m.GetStats(session.number())
    session.ask(answered)
    session.ask(open_one)
    session.received(m.Reply(answered.request))

    session.disconnected(None)
    meet(session, second)

    assert second.sent == [m.ClientHello("me"), open_one]


def test_an_answer_that_comes_before_the_welcome_leaves_nothing_to_be_asked_again() -> None:
    """What was kept for a client comes first on its next connection."""
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    question = m.GetStats(session.number())
    answer = session.ask(question)
    session.disconnected(None)

    session.connected(second)
    session.received(m.Reply(question.request, "kept"))
    session.received(m.ClientWelcome("here", 0))

    assert answer.peek() == "kept"
    assert second.kinds() == [m.ClientHello]


def test_a_welcome_of_a_connection_that_has_ended_is_nobodys() -> None:
    session, line = Session("me"), Line()
    question = session.ask(m.GetStats(session.number()))
    session.connected(line)
    session.disconnected(None)

    session.received(m.ClientWelcome("here", 0))

    assert line.kinds() == [m.ClientHello]
    assert not question.done


# --- submits -------------------------------------------------------------------------------------


def test_a_submit_is_first_sent_with_the_name_of_the_records_it_is_for() -> None:
    session, line = Session("me"), Line()
    session.ask(submit(session))

    meet(session, line, "here")

    (sent,) = line.of(m.Submit)
    assert (sent.resent, sent.lineage) == (False, "here")


def test_a_submit_that_is_sent_again_says_so_and_where_it_was_sent_first() -> None:
    session, first, second, third = Session("me"), Line(), Line(), Line()
    meet(session, first, "here")
    session.ask(submit(session))

    for line in (second, third):
        session.disconnected(None)
        meet(session, line, "elsewhere")

    for line in (second, third):
        (sent,) = line.of(m.Submit)
        assert (sent.resent, sent.lineage) == (True, "here")


async def test_a_submit_is_first_sent_with_a_time_that_the_owners_clock_has_passed(
    autojump_clock: trio.abc.Clock,
) -> None:
    session, line = Session("me"), Line()
    assert (session.stamp(), session.begun) == (None, None)
    session.connected(line)
    session.received(m.ClientWelcome("here", 0, 5_000.0))
    await trio.sleep(100)  # virtual

    stamp = session.stamp()

    # Both clocks may be off by some, but it is never later than the owner's time.
    assert stamp is not None
    assert 5_098 < stamp < 5_100
    assert session.begun == 5_000


async def test_a_submit_that_waits_for_a_connection_has_the_time_of_that(
    autojump_clock: trio.abc.Clock,
) -> None:
    session, line = Session("me"), Line()
    session.ask(submit(session))
    await trio.sleep(100)  # virtual

    session.connected(line)
    session.received(m.ClientWelcome("here", 0, 5_000.0))

    (sent,) = line.of(m.Submit)
    assert 4_998 < sent.stamp < 5_000


async def test_a_submit_that_is_sent_again_has_the_time_at_which_it_was_sent_first(
    autojump_clock: trio.abc.Clock,
) -> None:
    session, first, second = Session("me"), Line(), Line()
    session.connected(first)
    session.received(m.ClientWelcome("here", 0, 5_000.0))
    asked = replace(submit(session), stamp=session.stamp())
    session.ask(asked)
    await trio.sleep(100)  # virtual

    session.disconnected(None)
    session.connected(second)
    session.received(m.ClientWelcome("here", 0, 5_100.0))

    (again,) = second.of(m.Submit)
    assert again == replace(asked, resent=True)
    assert session.begun == 5_000


async def test_an_owner_that_does_not_tell_the_time_gets_no_stamps(
    autojump_clock: trio.abc.Clock,
) -> None:
    session = Session("me")

    meet(session, Line())

    assert session.stamp() is None


async def test_the_owners_time_is_known_soon_after_its_welcome(
    autojump_clock: trio.abc.Clock,
) -> None:
    session = Session("me")
    assert session.owner_time() is None
    session.connected(Line())
    session.received(m.ClientWelcome("here", 0, 5_000.0))
    await trio.sleep(1)  # virtual

    assert session.owner_time() == pytest.approx(5_001, abs=0.01)


async def test_no_stamp_is_before_the_beginning_of_time(autojump_clock: trio.abc.Clock) -> None:
    session = Session("me")
    session.connected(Line())
    session.received(m.ClientWelcome("here", 0, 0.5))

    assert session.stamp() == 0.0


async def test_a_withdrawn_submit_is_not_sent_again(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    session, line = Session("me"), Line()
    request = submit(session)
    session.ask(request)
    session.withdraw(request, ("some id",), 1.0)
    await wait_all_tasks_blocked()

    meet(session, line)

    assert not line.of(m.Submit)
    (withdrawn,) = line.of(m.Withdraw)
    assert (withdrawn.submit, withdrawn.ids) == (request.request, ("some id",))


# --- scopes that were given up -------------------------------------------------------------------


def test_scopes_that_the_owner_has_given_up_are_lost_and_newer_ones_are_not() -> None:
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    lost = session.new_scope()

    session.disconnected(None)
    meet(session, second, losses=1)

    assert session.is_lost(lost)
    assert not session.is_lost(session.new_scope())
    assert not session.is_lost(None)


def test_a_loss_is_counted_once() -> None:
    session = Session("me")
    meet(session, Line(), losses=0)
    session.disconnected(None)
    meet(session, Line(), losses=1)
    scope = session.new_scope()

    session.disconnected(None)
    meet(session, Line(), losses=1)

    assert not session.is_lost(scope)


def test_a_submit_into_a_lost_scope_is_refused_and_not_sent_again() -> None:
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    inside, outside = submit(session, session.new_scope()), submit(session)
    refused, waiting = session.ask(inside), session.ask(outside)

    session.disconnected(None)
    meet(session, second, losses=1)

    with pytest.raises(actorq.SubmitError, match="out of the queue's reach for too long"):
        refused.peek()
    assert not waiting.done
    assert [sent.request for sent in second.of(m.Submit)] == [outside.request]


# --- what is awaited -----------------------------------------------------------------------------


def test_awaited_ends_are_watched_again_on_the_next_connection() -> None:
    session, line = Session("me"), Line()
    ending = session.ending("some id")

    meet(session, line)

    assert [(watch.ids, watch.resent) for watch in line.of(m.Watch)] == [(("some id",), True)]
    assert not ending.done


def test_many_awaited_ends_are_watched_in_several_messages() -> None:
    session, line = Session("me"), Line()
    endings = [session.ending(f"id {number}") for number in range(2 * WATCH_MAX + 1)]

    meet(session, line)

    watched = [watch.ids for watch in line.of(m.Watch)]
    assert [len(ids) for ids in watched] == [WATCH_MAX, WATCH_MAX, 1]
    assert len(set().union(*watched)) == len(endings)


def test_the_end_of_a_task_that_is_not_accepted_yet_is_not_watched() -> None:
    """Its submit watches it; and the owner does not know it."""
    session, line = Session("me"), Line()
    ending = session.ending("some id")
    session.ask(submit(session))

    meet(session, line)

    assert not line.of(m.Watch)
    assert not ending.done


def test_a_watched_id_that_is_unknown_fails_alone() -> None:
    session, line = Session("me"), Line()
    known, unknown = session.ending("known"), session.ending("unknown")
    meet(session, line)
    watch = line.sent[-1]

    session.received(m.Reply(watch.request, ("unknown",)))

    assert not known.done
    with pytest.raises(actorq.TaskNotFound, match="'unknown'"):
        unknown.peek()


def test_an_end_that_nobody_waits_for_costs_nothing() -> None:
    session = Session("me")

    ending = session.ending("some id")
    del ending

    assert not any(session.tables().values())


def test_an_end_that_is_told_twice_is_the_first() -> None:
    session = Session("me")
    ending = session.ending("some id")

    session.received(outcome("some id", 1))
    session.received(outcome("some id", 2))

    assert session.result(ending.peek()).value == 1


def test_a_value_is_read_as_the_session_says_and_nothing_is_read_where_there_is_none() -> None:
    session = Session("me", lambda name, value: (name, value))

    read = session.result(outcome("some id", b"12"))
    empty = session.result(outcome("some id", None))

    assert (read.value, empty.value) == (("task", b"12"), None)


# --- subscriptions -------------------------------------------------------------------------------


def test_subscriptions_are_asked_for_before_all_else() -> None:
    session, first, second = Session("me"), Line(), Line()
    session.ask(m.GetStats(session.number()))
    session.listen(Listening(7))
    meet(session, first)
    assert first.kinds() == [m.ClientHello, m.Subscribe, m.GetStats]
    session.received(m.Reply(first.of(m.Subscribe)[0].request, "standing"))

    session.disconnected(None)
    meet(session, second)

    assert second.kinds() == [m.ClientHello, m.Subscribe, m.GetStats]
    assert second.of(m.Subscribe)[0].request > first.of(m.Subscribe)[0].request


def test_who_has_left_is_not_subscribed_again_and_gets_no_news() -> None:
    session, line = Session("me"), Line()
    listener = Listening(7)
    number = session.listen(listener)

    session.stop_listening(number)
    meet(session, line)
    session.received(m.News(number, []))

    assert not line.of(m.Subscribe)
    assert [type(told) for told in listener.told] == [trio.ClosedResourceError]
    assert not any(session.tables().values())


def test_leaving_a_subscription_says_so() -> None:
    session, line = Session("me"), Line()
    meet(session, line)
    number = session.listen(Listening(7))

    session.stop_listening(number)

    assert line.sent[-1] == m.Unsubscribe(number)


# --- answers -------------------------------------------------------------------------------------


def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    session = Session("me")
    request = m.GetStats(session.number())
    session.ask(request)
    session.forget(request)

    session.received(m.Reply(request.request, "late"))

    assert not any(session.tables().values())


def test_the_owner_is_told_what_nobody_waits_for_any_more() -> None:
    session, line = Session("me"), Line()
    meet(session, line)
    request = m.Join(session.number())
    session.ask(request)

    session.forget(request)
    session.forget(request)

    assert line.sent[-2:] == [request, m.Forget(request.request)]


def test_what_acts_is_asked_until_it_is_answered_though_nobody_waits() -> None:
    session, first, second = Session("me"), Line(), Line()
    meet(session, first)
    cancel = m.EndScope(session.number(), "me:1", 1.0)
    session.ask(cancel)

    session.forget(cancel)
    session.disconnected(None)
    meet(session, second)

    assert second.of(m.EndScope) == [cancel]


def test_a_verb_on_a_schedule_that_is_sent_again_says_so() -> None:
    session, line = Session("me"), Line()
    meet(session, line)
    session.ask(m.ControlSchedule(session.number(), "nightly", "run", "id"))

    again = Line()
    session.disconnected(None)
    meet(session, again)

    (first,) = line.of(m.ControlSchedule)
    assert again.of(m.ControlSchedule) == [replace(first, resent=True)]
    assert not first.resent


def test_a_refusal_is_the_error_of_whoever_asked() -> None:
    session = Session("me")
    request = submit(session)
    answer = session.ask(request)

    session.received(m.Reply(request.request, error=actorq.QueueFull("no room")))

    with pytest.raises(actorq.QueueFull, match="no room"):
        answer.peek()


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


async def test_a_question_that_two_owners_died_of_is_not_put_to_a_third(
    autojump_clock: trio.abc.Clock,
) -> None:
    session = Session("me")
    first, second, third = Line(), Line(), Line()
    meet(session, first)
    question = session.ask(m.GetStats(session.number()))
    joining = session.ask(m.Join(session.number()))

    for line in (second, third):
        session.disconnected(None)
        meet(session, line)

    assert second.kinds() == [m.ClientHello, m.GetStats, m.Join]
    assert third.kinds() == [m.ClientHello, m.Join]
    with pytest.raises(ActorDied, match="twice"):
        question.peek()
    assert not joining.done


def test_a_question_of_a_client_elsewhere_survives_any_number_of_cuts() -> None:
    session = Session("me", leased=True)
    lines = [Line() for _ in range(5)]
    meet(session, lines[0])
    question = session.ask(m.GetStats(session.number()))

    for line in lines[1:]:
        session.disconnected(None)
        meet(session, line)

    assert not question.done
    assert lines[-1].kinds() == [m.ClientHello, m.GetStats]


# --- an owner that cannot write ------------------------------------------------------------------


def test_while_the_owner_is_away_for_long_what_is_asked_is_refused_and_what_acts_is_kept() -> None:
    session, line = Session("me"), Line()
    meet(session, line)
    asked = session.ask(submit(session))
    ending = session.ending("accepted")
    end_scope = m.EndScope(session.number(), "me:1", 1.0)
    ended = session.ask(end_scope)
    session.disconnected(None)
    session.suspended(StoreUnavailable("no disk"))

    for refused in (asked, session.ask(submit(session)), session.ask(m.GetStats(session.number()))):
        with pytest.raises(StoreUnavailable, match="no disk"):
            refused.peek()
    assert not ending.done
    assert not ended.done

    again = Line()
    meet(session, again)
    session.ask(submit(session))
    assert again.of(m.EndScope) == [end_scope]
    assert len(again.of(m.Submit)) == 1
