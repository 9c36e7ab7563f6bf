"""How a node tells its listeners."""

import logging

import pytest

from actorq.model.events import Event, EventKind
from actorq.telemetry.events import teller


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)


class Broken:
    def event(self, event: Event) -> None:
        raise ZeroDivisionError


def test_every_listener_is_told_of_every_event() -> None:
    first, second = Listener(), Listener()

    teller([first, second])(EventKind.LISTENING, url="ws://here")

    expected = [Event(EventKind.LISTENING, {"url": "ws://here"})]
    assert first.events == second.events == expected


def test_a_listener_that_fails_is_nobody_elses_trouble() -> None:
    listener = Listener()

    teller([Broken(), listener])(EventKind.LISTENING, url="ws://here")

    assert len(listener.events) == 1


def test_listeners_may_come_from_any_iterable() -> None:
    listener = Listener()
    tell = teller(iter([listener]))

    tell(EventKind.LISTENING)
    tell(EventKind.LISTENING)

    assert len(listener.events) == 2


def test_by_default_they_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    teller(None)(EventKind.LISTENING, url="ws://here")

    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("actorq", "listening url='ws://here'")


def test_listeners_may_join_and_leave_at_any_time() -> None:
    first, second = Listener(), Listener()
    tell = teller([first])

    tell.instruments.append(second)
    tell(EventKind.LISTENING)
    tell.instruments.remove(first)
    tell(EventKind.CONNECTED)

    assert [event.kind for event in first.events] == [EventKind.LISTENING]
    assert [event.kind for event in second.events] == [EventKind.LISTENING, EventKind.CONNECTED]


def test_no_listener_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    teller([])(EventKind.ACTOR_DIED, actor="a", error="e")

    assert not caplog.records
