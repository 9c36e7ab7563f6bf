"""From what the queue knows to what people see."""

from typing import Any

import pytest

from actorq.errors import RemoteError
from actorq.model.options import TaskOptions
from actorq.model.outcomes import task_result
from actorq.model.records import Cancel, Head, Output, alias
from actorq.model.results import TaskResult
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SCHEDULED,
    SUCCESS,
    WAITING,
    FailureKind,
    TaskStatus,
)

BOOM = RemoteError("builtins.ValueError", "boom")


def result(
    status: TaskStatus,
    output: Output | None = None,
    cause: Any = None,
    *,
    unknown: bool = False,
    **fields: Any,
) -> TaskResult[Any]:
    options = TaskOptions(queue="images", meta={"user": 7})
    head = Head("a", "pkg:job", options, "main", None, 100.0, 100.0, 100.0, 160.0, status, **fields)
    return task_result(head, output, cause, unknown=unknown)


def test_a_result_has_everything_that_is_known() -> None:
    done = result(
        SUCCESS, Output(42), attempts=2, worker="w.0", started_at=110.0, completed_at=120.0
    )

    assert (done.id, done.name, done.queue, done.status) == ("a", "pkg:job", "images", SUCCESS)
    assert (done.value, done.error, done.attempts, done.worker) == (42, None, 2, "w.0")
    assert done.meta == {"user": 7}
    assert done.reason is None


def test_times_are_in_utc() -> None:
    done = result(SUCCESS, started_at=110.0, completed_at=120.5)

    times = [done.submitted_at, done.started_at, done.completed_at]

    assert [time and time.isoformat() for time in times] == [
        "1970-01-01T00:01:40+00:00",
        "1970-01-01T00:01:50+00:00",
        "1970-01-01T00:02:00.500000+00:00",
    ]


def test_what_has_not_happened_has_no_time() -> None:
    waiting = result(PENDING)

    assert (waiting.started_at, waiting.completed_at) == (None, None)


@pytest.mark.parametrize(
    ("status", "attempts", "reason"),
    [
        (SCHEDULED, 0, "due at 1970-01-01T00:02:40+00:00"),
        (SCHEDULED, 2, "due at 1970-01-01T00:02:40+00:00, after attempt 2"),
        (PENDING, 0, "waits for a free slot"),
        (RUNNING, 1, None),
    ],
)
def test_a_live_task_says_why_it_waits(
    status: TaskStatus, attempts: int, reason: str | None
) -> None:
    assert result(status, attempts=attempts).reason == reason


@pytest.mark.parametrize(
    ("after", "needs", "reason"),
    [
        (("id 1",), (), "waits for 1 task: id 1"),
        (("id 1",), ("id 2", "id 1"), "waits for 2 tasks: id 1, id 2"),
        ((), (alias("id 1", "id 2"),), "waits for 1 task: id 2"),
        (tuple("abcd"), (), "waits for 4 tasks: a, b, c, ..."),
    ],
)
def test_a_task_that_waits_for_others_names_them(
    after: tuple[str, ...], needs: tuple[str, ...], reason: str
) -> None:
    options = TaskOptions(after=after)
    head = Head("a", "pkg:job", options, "main", None, 1.0, 1.0, 1.0, 1.0, WAITING, needs=needs)

    assert task_result(head, None).reason == reason


def test_a_task_that_waits_for_somebody_who_knows_it_says_so() -> None:
    waiting = result(PENDING, unknown=True)

    assert waiting.reason == "no worker that is connected knows this task"
    assert waiting.status is PENDING


@pytest.mark.parametrize(
    ("cancel", "said"),
    [
        (Cancel("scope"), "cancelled by scope"),
        (Cancel("user", "not needed"), "cancelled by user: not needed"),
    ],
)
def test_a_cancelled_task_says_by_whom_and_why(cancel: Cancel, said: str) -> None:
    assert result(CANCELLED, cancel=cancel).reason == said


def test_a_failed_task_says_what_went_wrong() -> None:
    failed = result(FAILURE, Output(error=BOOM, kind=FailureKind.ERROR))

    assert (failed.error, failed.reason, failed.value) == (BOOM, "boom", None)


@pytest.mark.parametrize("output", [None, Output()])
def test_without_an_output_nothing_is_known_of_the_end(output: Output | None) -> None:
    failed = result(FAILURE, output)

    assert (failed.error, failed.reason, failed.value) == (None, None, None)


def test_the_original_exception_is_known_in_the_same_process_alone() -> None:
    cause = ValueError("boom")
    output = Output(error=BOOM, kind=FailureKind.ERROR)

    causes = []
    for given in (cause, None):
        with pytest.raises(Exception, match="boom") as caught:
            result(FAILURE, output, given).unwrap()
        causes.append(caught.value.__cause__)

    assert causes == [cause, None]
