import pytest

from actorq.model import status
from actorq.model.status import FailureKind, TaskPriority, TaskStatus


def test_a_status_is_its_word() -> None:
    assert [str(one) for one in TaskStatus] == [
        "scheduled", "waiting", "pending", "running", "success", "failure", "cancelled",
    ]  # fmt: skip
    assert TaskStatus("running") is TaskStatus.RUNNING
    assert TaskStatus.RUNNING == "running"


def test_the_last_three_are_terminal() -> None:
    assert [one for one in TaskStatus if one.terminal] == list(TaskStatus)[-3:]


@pytest.mark.parametrize("one", TaskStatus)
def test_every_status_is_a_name_of_the_module_and_found_under_its_word(one: TaskStatus) -> None:
    assert getattr(status, one.name) is one
    assert {one: 1}[one.value] == 1  # type: ignore[index]  # it hashes as its word does


def test_levels_are_numbered_from_low_to_critical() -> None:
    assert [(level.name, level.value) for level in TaskPriority] == [
        ("LOW", 0), ("NORMAL", 1), ("HIGH", 2), ("CRITICAL", 3),
    ]  # fmt: skip


def test_a_failure_has_one_of_six_kinds() -> None:
    assert [str(kind) for kind in FailureKind] == [
        "error", "timeout", "expired", "lost", "dependency", "store",
    ]  # fmt: skip
