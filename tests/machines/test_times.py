from math import inf
from typing import Any

import pytest
from msgspec.structs import replace

from actorq.machines.times import AGING, deadline, expiry, over, rank
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.status import PENDING, TaskPriority


def head(since: float = 100.0, due: float = 100.0, **options: Any) -> Head:
    return Head("a", "job", TaskOptions(**options), "main", None, 0.0, since, 0.0, due, PENDING)


def test_a_level_weighs_as_much_as_an_hour_of_waiting() -> None:
    ranks = [rank(priority, 10_000.0) for priority in TaskPriority]

    assert ranks == [10_000 + AGING, 10_000, 10_000 - AGING, 10_000 - 2 * AGING]
    assert AGING == 3600


def test_a_normal_rank_is_the_due_time_itself() -> None:
    due = 123.456

    assert rank(TaskPriority.NORMAL, due) is due  # one float less for each pending task


def test_a_deadline_counts_from_the_start_of_the_run() -> None:
    assert deadline(head(since=100, due=500, deadline=30)) == 130
    assert deadline(head()) is None


def test_an_expiry_counts_from_when_the_task_is_due() -> None:
    assert expiry(head(since=100, due=500, expires=30)) == 530
    assert expiry(head()) is None


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_task_that_has_started_once_does_not_expire(attempts: int) -> None:
    started = replace(head(expires=30), started_at=101.0, attempts=attempts)

    assert expiry(started) is None


def test_it_is_too_late_to_start_when_the_first_of_both_times_is_over() -> None:
    assert over(head()) == inf
    assert over(head(since=100, due=500, deadline=30)) == 130
    assert over(head(since=100, due=500, deadline=3_000, expires=5)) == 505
    assert over(replace(head(deadline=30, expires=5), started_at=101.0)) == 130
