from typing import Any

import pytest

from actorq.errors import (
    RemoteError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Output
from actorq.model.outcomes import task_result
from actorq.model.results import Page, TaskResult
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SCHEDULED,
    SUCCESS,
    FailureKind,
    TaskStatus,
)

BOOM = RemoteError("builtins.ValueError", "boom", mro=("builtins.ValueError",))


def result(
    status: TaskStatus, output: Output | None = None, cause: Any = None, **fields: Any
) -> TaskResult[Any]:
    options = TaskOptions(queue="images", meta={"user": 7})
    head = Head("a", "pkg:job", options, "main", None, 100.0, 100.0, 100.0, 160.0, status, **fields)
    return task_result(head, output, cause)


def test_a_result_has_everything_that_is_known() -> None:
    done = result(
        SUCCESS, Output(42), attempts=2, worker="w.0", started_at=110.0, completed_at=120.0
    )

    assert (done.id, done.name, done.queue, done.status) == ("a", "pkg:job", "images", SUCCESS)
    assert (done.value, done.error, done.attempts, done.worker) == (42, None, 2, "w.0")
    assert done.meta == {"user": 7}
    assert (done.ok, done.unwrap(), done.reason) == (True, 42, None)


def test_times_are_in_utc() -> None:
    done = result(SUCCESS, started_at=110.0, completed_at=120.5)

    times = [done.submitted_at, done.started_at, done.completed_at]

    assert [time and time.isoformat() for time in times] == [
        "1970-01-01T00:01:40+00:00",
        "1970-01-01T00:01:50+00:00",
        "1970-01-01T00:02:00.500000+00:00",
    ]
    assert result(PENDING).started_at is None
    assert result(PENDING).completed_at is None


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.ERROR, TaskFailed),
        (FailureKind.TIMEOUT, TaskTimeout),
        (FailureKind.EXPIRED, TaskExpired),
        (FailureKind.LOST, WorkerLost),
    ],
)
def test_a_failure_unwraps_to_the_error_of_its_kind(
    kind: FailureKind, error: type[TaskError]
) -> None:
    failed = result(FAILURE, Output(error=BOOM, kind=kind))

    with pytest.raises(error, match=r"task pkg:job \(a\).*boom") as caught:
        failed.unwrap()

    assert (caught.value.id, caught.value.name, caught.value.error) == ("a", "pkg:job", BOOM)
    assert failed.reason == "boom"
    assert not failed.ok


def test_a_failure_in_the_same_process_has_the_original_as_its_cause() -> None:
    cause = ValueError("boom")

    with pytest.raises(TaskFailed, match=r"builtins\.ValueError: boom") as caught:
        result(FAILURE, Output(error=BOOM, kind=FailureKind.ERROR), cause).unwrap()

    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    ("kind", "error"), [(None, TaskFailed), (FailureKind.TIMEOUT, TaskTimeout)]
)
def test_a_failure_of_which_nothing_is_known_is_a_failure_still(
    kind: FailureKind | None, error: type[TaskError]
) -> None:
    failed = result(FAILURE, Output(kind=kind))

    with pytest.raises(error, match=r"task pkg:job \(a\)"):
        failed.unwrap()

    assert failed.reason is None


@pytest.mark.parametrize(
    ("cancel", "said"),
    [
        (Cancel("scope"), "cancelled by scope"),
        (Cancel("user", "not needed"), "cancelled by user: not needed"),
    ],
)
def test_a_cancelled_task_says_by_whom_and_why(cancel: Cancel, said: str) -> None:
    cancelled = result(CANCELLED, cancel=cancel)

    with pytest.raises(TaskCancelled, match=f"was {said}$") as caught:
        cancelled.unwrap()

    assert (caught.value.by, caught.value.reason) == (cancel.by, cancel.reason)
    assert cancelled.reason == said


@pytest.mark.parametrize("status", [SCHEDULED, PENDING, RUNNING])
def test_a_task_that_has_not_ended_has_no_value(status: TaskStatus) -> None:
    with pytest.raises(ValueError, match=f"is {status}, so it has no value"):
        result(status).unwrap()


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


def test_a_value_of_none_is_a_value() -> None:
    assert result(SUCCESS, Output(None)).unwrap() is None
    assert result(SUCCESS, None).unwrap() is None


def test_results_show_and_compare_by_what_people_see() -> None:
    one, same = result(SUCCESS, Output(1)), result(SUCCESS, Output(1), ValueError())

    assert one == same
    assert one != result(SUCCESS, Output(2))
    assert "head" not in repr(one)


def test_a_page_holds_results_and_where_to_go_on() -> None:
    page = Page([result(PENDING)], "cursor", 10)

    assert ([task.id for task in page.tasks], page.next, page.scanned) == (["a"], "cursor", 10)
