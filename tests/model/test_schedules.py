import pickle
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from math import inf, nan
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.model.ids import IdSource
from actorq.model.options import TaskOptions
from actorq.model.schedules import (
    Cron,
    Every,
    Schedule,
    Timing,
    check_schedule,
    moment,
    tick_id,
    time_in,
)

ZURICH, NEW_YORK = "Europe/Zurich", "America/New_York"
MORNING = 1_767_225_600.0  # 2026-01-01, Greenwich


def at(when: str, tz: str = "UTC", *, fold: int = 0) -> float:
    return datetime.fromisoformat(when).replace(tzinfo=ZoneInfo(tz), fold=fold).timestamp()


def ticks(timing: Timing, after: float, count: int, anchor: float = 0.0) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        following = timing.next(found[-1] if found else after, anchor)
        assert following is not None
        found.append(following)
    return found


def times(expression: str, since: str, count: int, tz: str = "UTC") -> list[str]:
    """Return the first ticks after a moment as a clock there shows them, with its offset."""
    zone = ZoneInfo(tz)
    found = ticks(Cron(expression, tz), at(since, tz), count)
    return [f"{datetime.fromtimestamp(tick, zone):%m-%d %H:%M:%S %z}" for tick in found]


# --- expressions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["01-01 00:01:00", "01-01 00:02:00"]),
        ("*/20 * * * *", ["01-01 00:20:00", "01-01 00:40:00"]),
        ("5-59/30 * * * *", ["01-01 00:05:00", "01-01 00:35:00"]),
        ("0 3 * * *", ["01-01 03:00:00", "01-02 03:00:00"]),
        ("0 9-17/4 * * *", ["01-01 09:00:00", "01-01 13:00:00", "01-01 17:00:00"]),
        ("15,45 6,18 * * *", ["01-01 06:15:00", "01-01 06:45:00", "01-01 18:15:00"]),
        ("0 0 1 * *", ["02-01 00:00:00", "03-01 00:00:00"]),
        ("0 0 1 FEB-APR *", ["02-01 00:00:00", "03-01 00:00:00", "04-01 00:00:00"]),
        ("0 0 * * MON-FRI", ["01-02 00:00:00", "01-05 00:00:00"]),
        ("0 0 * * mon", ["01-05 00:00:00"]),
        ("0 0 L * *", ["01-31 00:00:00", "02-28 00:00:00"]),
        ("0 0 * * 5L", ["01-30 00:00:00", "02-27 00:00:00"]),
        ("0 0 * * MON#2", ["01-12 00:00:00", "02-09 00:00:00"]),
        ("0 0 29 2 *", ["02-29 00:00:00"]),
    ],
)
def test_five_fields_say_when(expression: str, expected: list[str]) -> None:
    found = times(expression, "2026-01-01", len(expected))

    assert [time.removesuffix(" +0000") for time in found] == expected


@pytest.mark.parametrize("day", ["0", "7", "SUN"])
def test_sunday_is_0_and_7(day: str) -> None:
    assert times(f"0 0 * * {day}", "2026-01-01", 2) == [
        "01-04 00:00:00 +0000",
        "01-11 00:00:00 +0000",
    ]


def test_a_day_of_the_month_or_a_day_of_the_week_is_enough() -> None:
    found = times("0 0 13 * FRI", "2026-01-01", 4)

    assert [time[:5] for time in found] == ["01-02", "01-09", "01-13", "01-16"]


def test_a_sixth_field_has_the_seconds_and_comes_first() -> None:
    assert times("*/30 59 23 * * *", "2026-01-01", 3) == [
        "01-01 23:59:00 +0000",
        "01-01 23:59:30 +0000",
        "01-02 23:59:00 +0000",
    ]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "0 fields"),
        ("@daily", "1 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("61 * * * * *", "bad second"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("0 0 * * FRI-MON", "bad day-of-week"),
        ("a b c d e", "bad minute"),
        ("٣ * * * *", "bad minute"),
        ("1" * 150 + " * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 31 4,6,9,11 *", "bad day-of-month"),
        ("0 0 */20 * 1L", "no day"),
        ("* " * 200, "at most 200 characters"),
    ],
)
def test_an_expression_that_stands_for_nothing_is_refused_where_it_is_written(
    expression: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Cron(expression)

    assert str(caught.value).startswith("Cron: ")


@given(st.text(alphabet="0123456789*/,-#LW MONJAN?\x00ü", max_size=40))
def test_whatever_is_written_is_an_expression_or_a_value_error(text: str) -> None:
    try:
        cron = Cron(text)
    except ValueError:
        return

    assert cron.next(MORNING) is not None


@pytest.mark.parametrize(
    "tz", ["Europe/Atlantis", "", "../etc/passwd", "Europe", "x" * 5_000, "a\0b", "ü"]
)
def test_an_unknown_time_zone_is_refused_where_it_is_written(tz: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Cron("0 3 * * *", tz)


@pytest.mark.parametrize(("expression", "tz"), [(5, "UTC"), (None, "UTC"), ("0 3 * * *", None)])
def test_what_is_not_text_is_a_type_error(expression: Any, tz: Any) -> None:
    with pytest.raises(TypeError, match=r"Cron: .* must be a"):
        Cron(expression, tz)


def test_a_cron_is_a_value() -> None:
    cron = Cron("0  3 * * * ", ZURICH)

    assert cron == Cron("0 3 * * *", tz=ZURICH) != Cron("0 3 * * *")
    assert hash(cron) == hash(Cron("0 3 * * *", ZURICH))
    assert repr(cron) == f"Cron(expression='0 3 * * *', tz='{ZURICH}')"
    assert str(cron) == "cron 0 3 * * * (Europe/Zurich)"
    assert pickle.loads(pickle.dumps(cron)).next(MORNING) == cron.next(MORNING)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        cron.tz = "UTC"  # type: ignore[misc]


# --- where clocks are changed --------------------------------------------------------------------


def test_a_time_that_is_left_out_comes_at_once_after_the_change() -> None:
    assert times("30 2 * * *", "2026-03-28", 3, ZURICH) == [
        "03-28 02:30:00 +0100",
        "03-29 03:00:00 +0200",
        "03-30 02:30:00 +0200",
    ]
    assert times("30 2 * * *", "2026-03-08", 2, NEW_YORK) == [
        "03-08 03:00:00 -0400",
        "03-09 02:30:00 -0400",
    ]


def test_several_times_that_are_left_out_come_once() -> None:
    assert times("0,30 2,3 * * *", "2026-03-29", 3, ZURICH) == [
        "03-29 03:00:00 +0200",
        "03-29 03:30:00 +0200",
        "03-30 02:00:00 +0200",
    ]


def test_a_time_that_there_is_twice_comes_the_first_time_only() -> None:
    assert times("30 2 * * *", "2026-10-25", 2, ZURICH) == [
        "10-25 02:30:00 +0200",
        "10-26 02:30:00 +0100",
    ]
    assert times("30 1 * * *", "2026-11-01", 2, NEW_YORK) == [
        "11-01 01:30:00 -0400",
        "11-02 01:30:00 -0500",
    ]


def test_between_the_two_nothing_of_the_first_time_comes_again() -> None:
    daily, between = Cron("30 2 * * *", ZURICH), at("2026-10-25T02:15", ZURICH, fold=1)

    assert daily.next(between) == at("2026-10-26T02:30", ZURICH)
    assert daily.last(between) == at("2026-10-25T02:30", ZURICH)


def test_what_happens_every_so_often_goes_by_the_time_that_passes() -> None:
    assert times("*/30 * * * *", "2026-10-25T01:30", 6, ZURICH) == [
        "10-25 02:00:00 +0200",
        "10-25 02:30:00 +0200",
        "10-25 02:00:00 +0100",
        "10-25 02:30:00 +0100",
        "10-25 03:00:00 +0100",
        "10-25 03:30:00 +0100",
    ]
    assert times("0 * * * *", "2026-03-08T00:30", 3, NEW_YORK) == [
        "03-08 01:00:00 -0500",
        "03-08 03:00:00 -0400",
        "03-08 04:00:00 -0400",
    ]


def test_seconds_change_nothing_about_that() -> None:
    assert times("15 30 2 * * *", "2026-10-25", 2, ZURICH) == [
        "10-25 02:30:15 +0200",
        "10-26 02:30:15 +0100",
    ]
    assert times("*/20 30 2 * * *", "2026-10-25", 4, ZURICH)[-1] == "10-25 02:30:00 +0100"


FIELD = {
    "minute": {"0": {0}, "30": {30}, "5,35": {5, 35}, "*/15": {0, 15, 30, 45}, "*": range(60)},
    "hour": {"*": range(24), "2": {2}, "0-3": range(4), "23": {23}, "*/2": range(0, 24, 2)},
}
CHANGES = {
    ZURICH: ("2026-03-29", "2026-10-25"),
    NEW_YORK: ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "Africa/Cairo": ("2026-04-24", "2026-10-30"),  # at midnight
    "Pacific/Apia": ("2011-12-30",),  # a whole day
    "UTC": ("2026-03-29",),
}
MINUTE = 60


@cache
def clock(tz: str, day: str) -> list[tuple[int, datetime]]:
    """Return every minute of the five days around one, and what the clock shows then."""
    first = int(at(day) // MINUTE) * MINUTE - 2 * 86_400
    zone = ZoneInfo(tz)
    return [
        (moment, datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0))
        for moment in range(first, first + 5 * 86_400, MINUTE)
    ]


def looked_up(minute: str, hour: str, shown: list[tuple[int, datetime]]) -> set[int]:
    """Return the ticks by looking at the clock all the time."""
    minutes, hours = FIELD["minute"][minute], FIELD["hour"][hour]
    if "*" in minute + hour:
        return {now for now, time in shown if time.minute in minutes and time.hour in hours}
    latest = list(accumulate((time for _, time in shown), max))
    found = set()
    time = latest[0]
    for (now, _), reached in zip(shown, latest, strict=True):
        while time <= reached:
            if time.minute in minutes and time.hour in hours:
                found.add(now)
            time += timedelta(minutes=1)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(tz, day) for tz, days in CHANGES.items() for day in days]),
    st.sampled_from(list(FIELD["minute"])),
    st.sampled_from(list(FIELD["hour"])),
    st.integers(86_400, 4 * 86_400),
)
def test_next_and_last_are_what_one_sees_who_looks_at_the_clock_all_the_time(
    place: tuple[str, str], minute: str, hour: str, start: int
) -> None:
    tz, day = place
    shown = clock(tz, day)
    cron, expected = Cron(f"{minute} {hour} * * *", tz), sorted(looked_up(minute, hour, shown))
    now = shown[0][0] + start

    after = [tick for tick in expected if tick > now]
    before = [tick for tick in expected if tick <= now]

    assert ticks(cron, now, min(len(after), 50)) == after[:50]
    assert cron.last(now) == before[-1]
    if "*" not in minute + hour:
        assert len(set(expected)) == len(expected)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(
        ["0 3 * * *", "*/7 * * * *", "30 2 29 2 *", "*/10 1-3 * * SUN", "7 */5 * * * *"]
    ),
    st.sampled_from([ZURICH, NEW_YORK, "UTC", "Asia/Tehran"]),
    st.floats(0, 4e9),
)
def test_there_is_nothing_between_a_moment_and_the_next_tick(
    expression: str, tz: str, now: float
) -> None:
    cron = Cron(expression, tz)
    following = cron.next(now)

    assert following is not None
    assert following > now
    assert cron.last(following) == cron.last(following + 0.5) == following
    before = cron.last(following - 1)
    assert before is None or before <= now


@pytest.mark.parametrize("timing", [Cron("* * * * *"), Cron("0 3 * * *", ZURICH), Every(1e9)])
def test_there_is_no_tick_after_the_end_of_time(timing: Timing) -> None:
    assert timing.next(230_000_000_000.0, MORNING) is None
    assert timing.next(inf, MORNING) is None
    assert timing.next(nan, MORNING) is None
    assert timing.last(inf, MORNING) is not None


def test_the_ticks_of_a_year_are_found_one_by_one() -> None:
    assert len(ticks(Cron("0 * * * *", ZURICH), MORNING, 8_760)) == 8_760


# --- every so many seconds -----------------------------------------------------------------------


def test_every_counts_from_its_anchor() -> None:
    every = Every(60)

    assert ticks(every, 1_000.0, 3, anchor=1_000.0) == [1_060.0, 1_120.0, 1_180.0]
    assert every.next(1_061.0, 1_000.0) == 1_120.0
    assert every.next(0.0, 1_000.0) == 1_060.0
    assert every.last(1_059.0, 1_000.0) is None
    assert every.last(1_120.0, 1_000.0) == 1_120.0
    assert str(every) == "every 60 s"


@given(st.floats(0.01, 1e5), st.floats(0, 2e9), st.floats(0, 1e9))
def test_every_has_the_same_numbers_from_wherever_they_are_looked_at(
    seconds: float, anchor: float, later: float
) -> None:
    every, now = Every(seconds), anchor + later

    following, before = every.next(now, anchor), every.last(now, anchor)

    assert following is not None
    assert following > now
    assert every.last(following, anchor) == following
    if before is None:
        assert following == pytest.approx(anchor + seconds, abs=1e-6)
    else:
        assert before <= now
        assert every.next(before, anchor) == following


@pytest.mark.parametrize("seconds", [0, -1, 0.001, nan, inf, 1e11])
def test_a_period_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="Every: seconds must be at least"):
        Every(seconds)


@pytest.mark.parametrize("seconds", ["60", None, True])
def test_a_period_that_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match="Every: seconds must be a number"):
        Every(seconds)


# --- ids -----------------------------------------------------------------------------------------


def test_the_id_of_a_tick_is_its_name_and_its_time() -> None:
    assert tick_id("nightly", MORNING) == tick_id("nightly", MORNING)
    assert len({tick_id(name, MORNING + n) for name in "ab" for n in range(3)}) == 6
    assert moment(MORNING) == datetime(2026, 1, 1, tzinfo=UTC)


@given(st.floats(0.01, 1e4))
def test_the_time_in_the_id_of_a_tick_is_the_one_that_people_see(seconds: float) -> None:
    tick = Every(seconds).next(MORNING, MORNING)

    assert tick is not None
    assert time_in(tick_id("nightly", tick)) == moment(tick)


def test_the_ids_of_ticks_are_in_order_with_others() -> None:
    earlier = IdSource(lambda: MORNING - 1).next()
    later = IdSource(lambda: MORNING + 1).next()

    assert earlier < tick_id("nightly", MORNING) < later
    assert len(tick_id("nightly", MORNING)) == len(earlier)


# --- what can be one -----------------------------------------------------------------------------


def schedule(**fields: Any) -> Schedule:
    usual: dict[str, Any] = {
        "name": "nightly",
        "timing": Every(60),
        "task": "report",
        "pool": "main",
        "options": TaskOptions(),
        "body": None,
    }
    return Schedule(**usual | fields)


def test_a_schedule_as_it_should_be_is_accepted() -> None:
    check_schedule(schedule(options=TaskOptions(delay=5, queue="q", meta={"a": 1})))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": ""}, "schedule: name must be 1 to 200 characters"),
        ({"name": "n" * 201}, "schedule: name must be 1 to 200 characters"),
        ({"catch_up": "never"}, "catch_up must be 'last', 'skip' or 'all'"),
        ({"overlap": "drop"}, "overlap must be 'skip' or 'queue'"),
        ({"options": TaskOptions(key="k")}, "option 'key' makes no sense here"),
        ({"options": TaskOptions(after=["a"])}, "option 'after' makes no sense here"),
        ({"options": TaskOptions(at=moment(MORNING))}, "option 'at' makes no sense here"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_schedule(schedule(**fields))


@pytest.mark.parametrize("fields", [{"name": 5}, {"timing": "0 3 * * *"}, {"timing": Every}])
def test_something_of_another_type_is_a_type_error(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a"):
        check_schedule(schedule(**fields))
