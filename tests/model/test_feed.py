"""What subscribers get, as they read it."""

from datetime import UTC, datetime

import attrs
import pytest

from actorq.model.feed import Lagged, Snapshot, TaskEvent, TaskEventKind
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.results import Progress
from actorq.model.status import PENDING, RUNNING, SUCCESS


def event(kind: TaskEventKind = TaskEventKind.STARTED, **more: object) -> TaskEvent:
    options = TaskOptions(queue="images", meta={"user": 7})
    head = Head(
        "a", "pkg:job", options, "main", None, 100.0, 101.0, 100.0, 100.0, RUNNING,
        attempts=2, worker="w.0",
    )  # fmt: skip
    return TaskEvent(kind, head, 120.5, **more)  # type: ignore[arg-type]


def test_an_event_says_which_task_it_is_about() -> None:
    started = event()

    assert (started.id, started.name, started.queue) == ("a", "pkg:job", "images")
    assert (started.status, started.attempts, started.worker) == (RUNNING, 2, "w.0")
    assert started.meta == {"user": 7}


def test_an_event_says_when_it_happened_in_utc() -> None:
    assert event().at == datetime(1970, 1, 1, 0, 2, 0, 500_000, tzinfo=UTC)


def test_two_runs_of_one_task_are_told_apart() -> None:
    assert event().run == ("a", 101.0)


def test_kinds_and_statuses_are_words() -> None:
    assert event().kind == "started"
    assert [str(kind) for kind in TaskEventKind] == [
        "submitted", "due", "started", "progress", "retrying", "lost", "ended"
    ]  # fmt: skip


def test_an_event_shows_what_matters() -> None:
    progress = Progress(1, 3, "soon")

    assert repr(event()) == "<TaskEvent started pkg:job a: running>"
    assert str(progress) in repr(event(TaskEventKind.PROGRESS, progress=progress))


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        event().kind = TaskEventKind.ENDED  # type: ignore[misc]


def test_a_snapshot_and_a_lag_compare_by_value_and_cannot_be_changed() -> None:
    assert Snapshot({PENDING: 1}) == Snapshot({PENDING: 1}, ())
    assert Snapshot({PENDING: 1}) != Snapshot({SUCCESS: 1})
    assert Lagged(3) == Lagged(3) != Lagged(4)
    for frozen in (Snapshot({}), Lagged(3)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            frozen.count = 5  # type: ignore[misc]


def test_kinds_can_be_matched_as_classes() -> None:
    match Lagged(3):
        case Lagged(count):
            assert count == 3
