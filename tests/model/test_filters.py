from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from actorq.model.filters import Filter, build_filter
from actorq.model.options import TaskOptions
from actorq.model.records import Head
from actorq.model.status import FAILURE, RUNNING, TaskStatus

HEAD = Head(
    "a", "pkg:job", TaskOptions(queue="images"), "main", None, 100.0, 100.0, 100.0, 100.0, FAILURE
)


class Named:
    name = "pkg:job"


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(("since", "fits"), [(119, True), (120, True), (121, False)])
def test_a_task_that_has_ended_since_fits(since: float, fits: bool) -> None:
    assert Filter(ended_since=since).matches(replace(HEAD, completed_at=120.0)) is fits
    assert not Filter(ended_since=since).matches(HEAD), "it has not ended"


@pytest.mark.parametrize(
    ("keywords", "fits"),
    [
        ({}, True),
        ({"status": "failure"}, True),
        ({"status": TaskStatus.FAILURE}, True),
        ({"status": ["running", "failure"]}, True),
        ({"status": {RUNNING}}, False),
        ({"status": []}, False),
        ({"task": "pkg:job"}, True),
        ({"task": Named()}, True),
        ({"task": ["pkg:other", Named()]}, True),
        ({"task": "pkg:other"}, False),
        ({"queue": "images"}, True),
        ({"queue": "default"}, False),
        ({"ids": ["a", "b"]}, True),
        ({"ids": iter("ab")}, True),
        ({"ids": []}, False),
        ({"before": moment(101)}, True),
        ({"before": moment(100)}, False),
        ({"after": moment(99)}, True),
        ({"after": moment(100)}, False),
        ({"status": "failure", "queue": "images", "ids": ["a"], "after": moment(0)}, True),
        ({"status": "failure", "queue": "default"}, False),
    ],
)
def test_a_task_fits_if_it_fits_every_keyword(keywords: dict[str, Any], fits: bool) -> None:
    assert build_filter(**keywords).matches(HEAD) is fits


def test_none_is_as_good_as_not_given() -> None:
    nothing = build_filter(status=None, task=None, queue=None, ids=None, before=None, after=None)

    assert nothing == Filter()
    assert nothing.everything
    assert not build_filter(ids=[]).everything


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"status": "done"}, ValueError, "filter 'status' must be one of 'scheduled', .*'done'"),
        ({"status": 7}, ValueError, "filter 'status'"),
        ({"task": 7}, TypeError, "filter 'task' must be a task or its name, not 7"),
        ({"task": [None]}, TypeError, "filter 'task'"),
        ({"queue": 7}, TypeError, "filter 'queue' must be a string"),
        ({"queue": ""}, ValueError, "filter 'queue'"),
        ({"ids": "a"}, TypeError, r"filter 'ids' must be several ids; write \['a'\] for one"),
        ({"ids": [7]}, TypeError, "filter 'ids' must hold task ids, not 7"),
        ({"ids": 7}, TypeError, "filter 'ids'"),
        (
            {"ids": map(str, range(10_001))},
            ValueError,
            "filter 'ids' takes at most 10,000, not 10,",
        ),
        ({"task": [str(n) for n in range(10_001)]}, ValueError, "filter 'task' takes at most 10,0"),
        ({"before": 7}, TypeError, "filter 'before' must be an aware datetime"),
        ({"after": datetime(2026, 1, 1)}, ValueError, "filter 'after'.* has no time zone"),  # noqa: DTZ001
    ],
)
def test_a_wrong_keyword_is_named(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_filter(**keywords)
