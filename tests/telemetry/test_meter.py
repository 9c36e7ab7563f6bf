"""What is counted and measured, whoever publishes it."""

from datetime import UTC, datetime

import msgspec
import pytest

from actorq.model.events import Event, EventKind
from actorq.model.feed import TaskEvent, TaskEventKind
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.results import QueueStats
from actorq.model.status import TaskStatus
from actorq.telemetry.meter import OTHER_QUEUES, QUEUES_MAX, Histogram, Meter

HEAD = Head(
    "a1", "fetch", TaskOptions(), "main", None, submitted_at=100.0, since=100.0, rank=100.0,
    due=110.0, status=TaskStatus.SUCCESS, attempts=2, started_at=112.0, completed_at=115.5,
)  # fmt: skip


def ended(queue: str = "default", **changes: object) -> TaskEvent:
    options = TaskOptions(queue=queue)
    head = msgspec.structs.replace(HEAD, options=options, **changes)
    return TaskEvent(TaskEventKind.ENDED, head, 115.5)


def seen(histogram: Histogram) -> dict[float, int]:
    """Return how many there are in each bucket that has any."""
    found, before = {}, 0
    for bound, total in histogram.cumulative():
        if total > before:
            found[bound] = total - before
        before = total
    return found


def test_an_ended_task_counts_once_with_its_last_attempts_wait_and_run() -> None:
    meter = Meter()

    meter.ended(ended())

    ((name, found),) = meter.queues()
    assert name == "default"
    assert found.ended == {"success": 1}
    assert found.attempts == 2
    assert (found.wait.sum, seen(found.wait)) == (2.0, {2.5: 1})
    assert (found.run.sum, seen(found.run)) == (3.5, {5.0: 1})


def test_a_task_that_never_started_has_no_times() -> None:
    meter = Meter()

    meter.ended(ended(status=TaskStatus.CANCELLED, started_at=None, attempts=0))

    found = meter.queue("default")
    assert found.ended == {"cancelled": 1}
    assert seen(found.wait) == seen(found.run) == {}


def test_a_clock_that_was_set_back_makes_no_negative_times() -> None:
    meter = Meter()

    meter.ended(ended(started_at=50.0, completed_at=40.0))

    found = meter.queue("default")
    assert (found.wait.sum, found.run.sum) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (9.0, float("inf"))]
)
def test_a_bound_belongs_to_its_bucket(seconds: float, bound: float) -> None:
    histogram = Histogram((1.0, 2.0))

    histogram.observe(seconds)

    assert seen(histogram) == {bound: 1}


def test_only_so_many_queues_are_told_apart() -> None:
    meter = Meter()

    for number in range(QUEUES_MAX + 20):
        meter.ended(ended(f"queue {number:03}"))
        meter.ended(ended(f"queue {number:03}"))

    found = dict(meter.queues())
    assert len(found) == QUEUES_MAX + 1
    assert found["queue 000"].ended == {"success": 2}
    assert found[OTHER_QUEUES].ended == {"success": 40}


def test_queues_that_are_not_told_apart_stand_as_one() -> None:
    meter = Meter()
    for number in range(QUEUES_MAX):
        meter.queue(f"queue {number:03}")
    early, late = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)

    found = meter.standing(
        {
            "x": QueueStats(1, 2, 3, 4, 5, paused=True, oldest=late),
            "y": QueueStats(1, 2, 3, 4, 5, oldest=early),
            "queue 007": QueueStats(running=9),
        }
    )

    assert found[OTHER_QUEUES] == QueueStats(2, 4, 6, 8, 10, paused=True, oldest=early)
    assert found["queue 007"] == QueueStats(running=9)
    assert found["queue 008"] == QueueStats()
    assert len(found) == QUEUES_MAX + 1


def test_every_kind_of_event_is_counted_also_those_that_never_happen() -> None:
    meter = Meter()

    meter.event(Event(EventKind.WORKER_LOST, {}))

    assert dict(meter.events()) == {kind.value: kind is EventKind.WORKER_LOST for kind in EventKind}
