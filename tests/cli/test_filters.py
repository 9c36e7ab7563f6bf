"""Which tasks a verb is about, and what is a time."""

from datetime import UTC, datetime, timedelta

import pytest

from actorq.cli.exits import Exit, Failure
from actorq.cli.filters import Which, moment
from actorq.model.status import TaskStatus


def test_only_what_was_given_is_a_filter():
    which = Which(status=(TaskStatus.FAILURE,), key="order-7", id=("a", "b"))

    assert Which().given() == {}
    assert which.given() == {"status": (TaskStatus.FAILURE,), "key": "order-7", "ids": ("a", "b")}


def test_times_are_read_when_they_are_needed():
    found = Which(before="2026-03-01T12:00+02:00").given()

    assert found == {"before": datetime(2026, 3, 1, 10, tzinfo=UTC)}


def test_a_time_is_a_moment_or_how_long_ago():
    now = datetime.now(UTC)

    for text, ago in (("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200), ("1w", 604_800)):
        found = moment("--after", text)
        assert abs(now - timedelta(seconds=ago) - found) < timedelta(seconds=10)
    assert moment("--after", "2026-03-01T12:00+02:00") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert moment("--after", "2026-03-01").astimezone() == datetime(2026, 3, 1).astimezone()
    assert moment("--after", None) is None


@pytest.mark.parametrize("text", ["", "soon", "1y", "9999999999999d", "-1h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(Failure, match=r"^--after must be a time") as caught:
        moment("--after", text)

    assert caught.value.code is Exit.USAGE
