"""When something is to be run again and again: `Cron`, `Every`, and what the owner keeps of it.

What a time of the day means where clocks are changed is decided here, and nowhere else: the library
that reads cron expressions finds days and times, and never sees a time zone.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any, get_args
from zoneinfo import ZoneInfo

import attrs
from cronsim import CronSim, CronSimError
from msgspec import Struct

from actorq.model.checks import name as check_name
from actorq.model.checks import number, text, word
from actorq.model.ids import derived
from actorq.model.options import TaskOptions
from actorq.model.records import Pool
from actorq.model.results import CatchUp, Overlap

EXPRESSION_MAX = 200
"""Characters of a cron expression."""

SECONDS_MIN = 0.01
"""The shortest `Every`."""

_HORIZON = 221_845_392_000
"""Nothing ticks after this: the year 9000."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a time of the day, wherever that is
_SECOND = timedelta(seconds=1)
_WEEK = 604_800


def _expression(value: str) -> str:
    value = text("Cron: expression", value)
    if len(value) > EXPRESSION_MAX:
        raise ValueError(f"Cron: an expression has at most {EXPRESSION_MAX} characters")
    return " ".join(value.split())


def _zone_name(value: str) -> str:
    value = text("Cron: tz", value)
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # it is looked for among the files of this machine
        raise ValueError(
            f"Cron: no time zone {value!r} is known here; write it as 'Europe/Zurich' or 'UTC'"
        ) from None
    return value


def _parsed(cron: Cron) -> CronSim:
    said = f"Cron: {cron.expression!r}"
    fields = len(cron.expression.split())
    if fields not in (5, 6):
        raise ValueError(
            f"{said} has {fields} fields and needs five: minute, hour, day of the month, month and "
            "day of the week; or six, with seconds first"
        )
    try:
        parsed = CronSim(cron.expression, _EPOCH)
        next(copy(parsed))
    except CronSimError as error:
        raise ValueError(f"{said} names no time: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError(f"{said} stands for no day that there will ever be") from None
    return parsed


def _zone(cron: Cron) -> ZoneInfo | None:
    return None if cron.tz == "UTC" else ZoneInfo(cron.tz)


@attrs.frozen
class Cron:
    """At the times of a cron expression, in a time zone.

    Five fields, or six: second (left out: 0), minute, hour, day of the month, month, day of the
    week. Each is ``*`` or a list of numbers and ranges, with steps: ``*/5``, ``1,3``, ``9-17``,
    ``9-17/2``. Months and days of the week also have names, as ``JAN`` and ``MON-FRI``; Sunday is 0
    or 7. ``L`` is the last day of the month, ``LW`` the last working day, ``5L`` the last Friday
    and ``MON#2`` the second Monday. If the days of the month and those of the week are both given,
    it is at either of them.

    Where clocks are changed, what happens at times of the day happens once a day: a time that is
    left out, as 02:30 when it goes from 02:00 to 03:00, comes at once after the change, and one
    that there is twice comes the first time only. What happens every so often (second, minute or
    hour begin with ``*``) goes by the time that passes: it comes in both hours, and in none that is
    left out.

    Attributes:
        expression: The expression.
        tz: The time zone, as ``Europe/Zurich``.

    Raises:
        TypeError: Something that is not a string.
        ValueError: An expression that makes no sense, or stands for no time at all, as the 30th of
            February; or an unknown time zone.
    """

    expression: str = attrs.field(converter=_expression)
    tz: str = attrs.field(default="UTC", converter=_zone_name)
    _parsed: CronSim = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_parsed, takes_self=True)
    )
    _zone: ZoneInfo | None = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_zone, takes_self=True)
    )

    def next(self, after: float, anchor: float = 0.0) -> float | None:  # noqa: ARG002 - as of Every
        """Return the first tick after a moment, or None if there is none; seconds since 1970."""
        if not after < _HORIZON:
            return None
        after, zone = floor(after), self._zone
        if zone is None:
            found = self._following(after)
        elif self._by_the_day:
            found = self._next_of_the_day(after, zone)
        else:
            found = self._next_that_passes(after, zone)
        return None if found is None else float(found)

    def last(self, until: float, anchor: float = 0.0) -> float | None:  # noqa: ARG002 - as of Every
        """Return the last tick that is not after a moment, or None if there was none."""
        until, zone = floor(min(until, _HORIZON)), self._zone
        if zone is None:
            found = self._preceding(until)
        elif self._by_the_day:
            found = self._last_of_the_day(until, zone)
        else:
            found = self._last_that_passed(until, zone)
        return None if found is None else float(found)

    def __str__(self) -> str:
        return f"cron {self.expression} ({self.tz})"

    @property
    def _by_the_day(self) -> bool:
        second, minute, hour = self._parsed.parts[:3]
        return not (second.startswith("*") or minute.startswith("*") or hour.startswith("*"))

    # What a clock on the wall shows is, here, a number too: of the seconds from 1970 to a moment at
    # which a clock in Greenwich shows it.

    def _following(self, wall: int) -> int | None:
        """Return the first time on the wall after this one that fits."""
        search = copy(self._parsed)
        try:
            search.dt = _EPOCH + timedelta(seconds=wall)
            found = next(search)
        except (StopIteration, OverflowError):
            return None
        return (found - _EPOCH) // _SECOND

    def _preceding(self, wall: int) -> int | None:
        """Return the last time on the wall that fits, up to this one."""
        search = copy(self._parsed)
        search.tick_direction = -1
        try:
            search.dt = _EPOCH + timedelta(seconds=wall + 1)
            found = next(search)
        except (StopIteration, OverflowError):
            return None
        return (found - _EPOCH) // _SECOND

    def _next_of_the_day(self, after: int, zone: ZoneInfo) -> int | None:
        wall = self._following(after + _offset(after, zone))
        while wall is not None:
            moment = _moment(wall, zone)
            if moment > after:  # or it is the second time that the clock shows it
                return moment
            wall = self._following(wall)
        return None

    def _last_of_the_day(self, until: int, zone: ZoneInfo) -> int | None:
        # The latest that the clock has shown by then: it may have been set back.
        clock = datetime.fromtimestamp(until, zone)
        wall = self._preceding(until + max(_ahead(clock), _ahead(clock.replace(fold=0))))
        while wall is not None:
            moment = _moment(wall, zone)
            if moment <= until:
                return moment
            wall = self._preceding(wall - 1)
        return None

    def _next_that_passes(self, after: int, zone: ZoneInfo) -> int | None:
        since = after
        while True:  # once for each time that clocks are changed
            offset = _offset(since, zone)
            wall = self._following(after + offset)
            if wall is None:
                return None
            change = _next_change(since, wall - offset, zone)
            if change is None:
                return wall - offset
            since, after = change, change - 1

    def _last_that_passed(self, until: int, zone: ZoneInfo) -> int | None:
        while True:
            offset = _offset(until, zone)
            wall = self._preceding(until + offset)
            if wall is None:
                return None
            change = _last_change(until, wall - offset, zone)
            if change is None:
                return wall - offset
            until = change - 1


def _offset(moment: int, zone: ZoneInfo) -> int:
    """Return how much later it is on the wall than in Greenwich, in seconds."""
    return _ahead(datetime.fromtimestamp(moment, zone))


def _ahead(clock: datetime) -> int:
    offset = clock.utcoffset()
    assert offset is not None  # as it has a time zone
    return offset // _SECOND


def _moment(wall: int, zone: ZoneInfo) -> int:
    """Return the first moment at which the clock shows this, or something later."""
    clock = (_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    before, after = _ahead(clock), _ahead(clock.replace(fold=1))
    moment = wall - before
    if after <= before:
        return moment
    change = _next_change(wall - after, moment, zone)
    assert change is not None  # as that is what leaves it out
    return change


def _next_change(after: int, until: int, zone: ZoneInfo) -> int | None:
    """Return the first moment in ``after < moment <= until`` at which clocks are changed."""
    offset = _offset(after, zone)
    while after < until:  # in steps that nobody changes clocks twice in
        step = min(after + _WEEK, until)
        if _offset(step, zone) != offset:
            return _first_without(offset, after, step, zone)
        after = step
    return None


def _last_change(until: int, after: int, zone: ZoneInfo) -> int | None:
    """Return the last moment in ``after < moment <= until`` at which clocks are changed."""
    offset = _offset(until, zone)
    while after < until:
        step = max(until - _WEEK, after)
        former = _offset(step, zone)
        if former != offset:
            return _first_without(former, step, until, zone)
        until = step
    return None


def _first_without(offset: int, with_it: int, without: int, zone: ZoneInfo) -> int:
    while without - with_it > 1:
        middle = (with_it + without) // 2
        if _offset(middle, zone) == offset:
            with_it = middle
        else:
            without = middle
    return without


def _period(value: float) -> float:
    return number("Every: seconds", value, least=SECONDS_MIN)


@attrs.frozen
class Every:
    """Every so many seconds, the first time that long after it was declared.

    Attributes:
        seconds: How many; 0.01 or more.

    Raises:
        TypeError: Something that is not a number.
        ValueError: One that is out of range.
    """

    seconds: float = attrs.field(converter=_period)

    def next(self, after: float, anchor: float) -> float | None:
        """Return the first tick after a moment, or None; ``anchor`` is where it is counted from."""
        if not after < _HORIZON:
            return None
        count = max(self._count(after, anchor) + 1, 1)
        found = self._tick(count, anchor)
        return found if found < _HORIZON else None

    def last(self, until: float, anchor: float) -> float | None:
        """Return the last tick that is not after a moment, or None if there was none."""
        count = self._count(min(until, _HORIZON), anchor)
        return self._tick(count, anchor) if count >= 1 else None

    def _count(self, until: float, anchor: float) -> int:
        """Return how many ticks there are up to a moment; by the very numbers that they get."""
        count = floor((until - anchor) / self.seconds)
        while self._tick(count, anchor) > until:
            count -= 1
        while self._tick(count + 1, anchor) <= until:
            count += 1
        return count

    def _tick(self, count: int, anchor: float) -> float:
        return round(anchor + count * self.seconds, 6)  # which has a name, in ids and in words

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"


Timing = Cron | Every


class Schedule(Struct, frozen=True):
    """A schedule as the owner keeps it: what to submit, when, and how far it got.

    Attributes:
        name: Unique in the partition.
        timing: When.
        task: The name of the task that each tick submits, with ``pool``, ``options`` and ``body``
            as of `Submission`.
        catch_up: Which ticks that nobody was there for are made up for.
        overlap: What becomes of a tick while the task of the one before is live.
        anchor: When it was declared first: what an `Every` counts from.
        cursor: The nominal time up to which every tick was decided; it never goes back.
        last: The id of the newest task that it has submitted.
    """

    name: str
    timing: Timing
    task: str
    pool: Pool
    options: TaskOptions
    body: Any
    catch_up: CatchUp = "last"
    overlap: Overlap = "skip"
    paused: bool = False
    anchor: float = 0.0
    cursor: float = 0.0
    last: str | None = None


TICK_META = frozenset({"schedule", "tick"})
"""What the ``meta`` of a tick says besides what was given."""

_IMPOSSIBLE = {
    "key": "each tick is a task of its own, which a key would prevent; overlap= says what happens "
    "while the one before is live",
    "after": "it is about tasks that there are now; submit one that submits the others",
    "at": "the timing says when; delay= is possible",
}


def check_schedule(schedule: Schedule) -> None:
    """Check what was written down, or what somebody else says is a schedule.

    Raises:
        TypeError: Something of the wrong type; the message names it.
        ValueError: Something that cannot be part of a schedule; the message names it.
    """
    check_name("schedule: name", schedule.name)
    if not isinstance(schedule.timing, Cron | Every):
        raise TypeError(
            f"schedule {schedule.name!r}: timing must be a Cron or an Every, not "
            f"{schedule.timing!r}"
        )
    word(f"schedule {schedule.name!r}: catch_up", schedule.catch_up, *get_args(CatchUp))
    word(f"schedule {schedule.name!r}: overlap", schedule.overlap, *get_args(Overlap))
    check_scheduled(schedule.name, schedule.options)


def check_scheduled(name: str, options: TaskOptions) -> None:
    """Check the options of what a schedule submits.

    Raises:
        ValueError: One of them cannot be one of a schedule; the message names it.
    """
    for option, why in _IMPOSSIBLE.items():
        if getattr(options, option):
            raise ValueError(f"schedule {name!r}: option {option!r} makes no sense here: {why}")


def tick_id(name: str, nominal: float) -> str:
    """Return the id of a schedule's tick: always the same one, and in order with other tasks."""
    return derived(name, nominal)


def time_in(id: str) -> datetime:
    """Return the moment that is a part of a task's id."""
    return moment(int(id[2:15], 16) / 1_000_000)


def moment(seconds: float) -> datetime:
    """Return a moment as people see it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
