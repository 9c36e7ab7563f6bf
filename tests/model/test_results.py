from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from actorq.errors import (
    DependencyFailed,
    RemoteError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from actorq.model.results import Page, TaskDone, TaskResult
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
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def result(status: TaskStatus, value: Any = None, **fields: Any) -> TaskResult[Any]:
    known: dict[str, Any] = {
        "error": None, "attempts": 1, "worker": "w.0", "submitted_at": NOON, "started_at": NOON,
        "completed_at": NOON, "meta": {}, "reason": None,
    }  # fmt: skip
    return TaskResult("a", "pkg:job", "images", status, value, **known | fields)


@pytest.mark.parametrize("status", list(TaskStatus))
def test_nothing_but_success_is_ok(status: TaskStatus) -> None:
    assert result(status).ok == (status == "success")


@pytest.mark.parametrize("value", [42, None])
def test_a_success_unwraps_to_its_value(value: object) -> None:
    assert result(SUCCESS, value).unwrap() is value


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.ERROR, TaskFailed),
        (FailureKind.TIMEOUT, TaskTimeout),
        (FailureKind.EXPIRED, TaskExpired),
        (FailureKind.LOST, WorkerLost),
        (FailureKind.DEPENDENCY, DependencyFailed),
        (FailureKind.STORE, TaskFailed),
    ],
)
def test_a_failure_unwraps_to_the_error_of_its_kind(
    kind: FailureKind, error: type[TaskError]
) -> None:
    failed = result(FAILURE, error=BOOM, kind=kind)

    with pytest.raises(error, match=r"task pkg:job \(a\).*boom") as caught:
        failed.unwrap()

    assert (caught.value.id, caught.value.name, caught.value.error) == ("a", "pkg:job", BOOM)


def test_a_failure_in_the_same_process_has_the_original_as_its_cause() -> None:
    cause = ValueError("boom")

    with pytest.raises(TaskFailed, match=r"builtins\.ValueError: boom") as caught:
        result(FAILURE, error=BOOM, kind=FailureKind.ERROR, cause=cause).unwrap()

    assert caught.value.__cause__ is cause


def test_a_failure_elsewhere_says_where_it_was_raised() -> None:
    error = RemoteError("builtins.ValueError", "boom", traceback="line 3\n")

    with pytest.raises(TaskFailed) as caught:
        result(FAILURE, error=error, kind=FailureKind.ERROR).unwrap()

    assert caught.value.__notes__ == ["where it was raised:\nline 3"]


@pytest.mark.parametrize(
    ("kind", "error"), [(None, TaskFailed), (FailureKind.TIMEOUT, TaskTimeout)]
)
def test_a_failure_of_which_nothing_is_known_is_a_failure_still(
    kind: FailureKind | None, error: type[TaskError]
) -> None:
    with pytest.raises(error, match=r"task pkg:job \(a\)"):
        result(FAILURE, kind=kind).unwrap()


@pytest.mark.parametrize(
    ("by", "said"),
    [(("scope", None), "by scope"), (("user", "not needed"), "by user: not needed")],
)
def test_a_cancelled_task_unwraps_to_an_error_that_says_by_whom_and_why(
    by: tuple[str, str | None], said: str
) -> None:
    with pytest.raises(TaskCancelled, match=f"was cancelled {said}$") as caught:
        result(CANCELLED, by=by).unwrap()

    assert (caught.value.by, caught.value.reason) == by


@pytest.mark.parametrize("status", [SCHEDULED, PENDING, RUNNING])
def test_a_task_that_has_not_ended_has_no_value(status: TaskStatus) -> None:
    with pytest.raises(ValueError, match=f"is {status}, so it has no value"):
        result(status).unwrap()


def test_results_show_and_compare_by_what_people_see() -> None:
    one, same = result(SUCCESS, 1), result(SUCCESS, 1, cause=ValueError(), kind=FailureKind.LOST)

    assert one == same
    assert one != result(SUCCESS, 2)
    assert "cause" not in repr(one)


def test_what_a_callback_gets_is_a_result_and_its_data_and_cannot_be_changed() -> None:
    done = TaskDone(result(SUCCESS, 1), data={"user": 7})

    assert done == TaskDone(result(SUCCESS, 1), {"user": 7})
    assert done != TaskDone(result(SUCCESS, 1), {"user": 8})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        done.data = None  # type: ignore[misc]


def test_a_page_holds_results_and_where_to_go_on() -> None:
    page = Page([result(PENDING)], "cursor", 10)

    assert ([task.id for task in page.tasks], page.next, page.scanned) == (["a"], "cursor", 10)
