"""Events as log records."""

import logging

import pytest

import actorq
from actorq.model.events import Event, EventKind
from actorq.telemetry.logging import LogInstrument

LEVELS = {
    EventKind.ACTOR_DIED: logging.ERROR,
    EventKind.ACTOR_RESTARTED: logging.ERROR,
    EventKind.UNKILLABLE: logging.ERROR,
    EventKind.STUCK: logging.ERROR,
    EventKind.RECORD_DAMAGED: logging.ERROR,
    EventKind.DEAD_LETTER: logging.INFO,
    EventKind.TICK_DROPPED: logging.INFO,
    EventKind.OWNING: logging.INFO,
    EventKind.STANDING_BY: logging.INFO,
    EventKind.LISTENING: logging.INFO,
    EventKind.CONNECTED: logging.INFO,
    EventKind.DISCONNECTED: logging.INFO,
}


@pytest.mark.parametrize("kind", EventKind)
def test_crashes_are_errors_everyday_news_is_not_and_all_else_is_a_warning(
    kind: EventKind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    event = Event(kind, {"id": "a1", "name": "fetch"})

    LogInstrument().event(event)

    (record,) = caplog.records
    assert record.levelno == LEVELS.get(kind, logging.WARNING)
    assert record.name == "actorq"
    assert record.getMessage() == f"{kind.value} id='a1' name='fetch'"
    assert vars(record)["actorq"] is event


def test_a_crash_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("why")
    except KeyError as error:
        details = {"actor": "a", "error": repr(error), "exception": error}

    LogInstrument().event(Event(EventKind.ACTOR_DIED, details))

    assert "actor='a' error=\"KeyError('why')\"\nTraceback" in caplog.text
    assert "exception=" not in caplog.text


def test_another_logger_may_be_given(caplog: pytest.LogCaptureFixture) -> None:
    LogInstrument(logging.getLogger("mine")).event(Event(EventKind.STALE_RESULT, {}))

    assert [record.name for record in caplog.records] == ["mine"]


async def test_a_system_is_quiet_while_nothing_goes_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with actorq.open_system(processes=0) as system:
        await system.call(len, "abc")
        with pytest.raises(actorq.TaskFailed):
            await system.call(int, "x")

    assert caplog.records == []
