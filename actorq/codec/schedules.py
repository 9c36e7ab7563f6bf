"""Schedules to forms and back, for the wire and for stores."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actorq.codec.options import pack_options, unpack_options
from actorq.errors import EncodeError, SubmitError
from actorq.model.messages import Name
from actorq.model.records import Pool
from actorq.model.results import CatchUp, Overlap
from actorq.model.schedules import Cron, Every, Schedule, Timing, check_schedule

TimingForm = tuple[str | float, ...]
"""``("cron", expression, time zone)`` or ``("every", seconds)``."""


class ScheduleForm(Struct, frozen=True, array_like=True):
    """A `Schedule` as it is declared."""

    name: Name
    timing: TimingForm
    task: Name
    pool: Pool
    options: bytes
    body: bytes
    catch_up: CatchUp = "last"
    overlap: Overlap = "skip"


def pack_timing(timing: Timing) -> TimingForm:
    """Return the form of a timing."""
    match timing:
        case Cron():
            return ("cron", timing.expression, timing.tz)
        case Every():
            return ("every", timing.seconds)


def unpack_timing(form: TimingForm) -> Timing:
    """Return the timing of a form.

    Raises:
        ValueError: There is no such timing.
        TypeError: Likewise.
    """
    match form:
        case ("cron", str(expression), str(tz), *_):
            return Cron(expression, tz)
        case ("every", int(seconds) | float(seconds), *_):
            return Every(seconds)
        case _:
            raise ValueError(f"this version of actorq knows no timing like {form!r}")


def pack_schedule(schedule: Schedule) -> ScheduleForm:
    """Return the form of a schedule, without how far it got.

    Raises:
        EncodeError: Its call, or an option, cannot travel.
    """
    body: Any = schedule.body
    if type(body) is not bytes:
        raise EncodeError(f"a call must be bytes to travel, not {type(body).__name__}")
    return ScheduleForm(
        schedule.name,
        pack_timing(schedule.timing),
        schedule.task,
        schedule.pool,
        pack_options(schedule.options),
        body,
        schedule.catch_up,
        schedule.overlap,
    )


def unpack_schedule(form: ScheduleForm) -> Schedule:
    """Return the schedule of a form, checked like anybody's.

    Raises:
        SubmitError: It is none.
    """
    try:
        schedule = Schedule(
            form.name,
            unpack_timing(form.timing),
            form.task,
            form.pool,
            unpack_options(form.options),
            form.body,
            form.catch_up,
            form.overlap,
        )
        check_schedule(schedule)
    except (TypeError, ValueError) as error:
        raise SubmitError(f"the queue does not understand the schedule: {error}") from None
    return schedule
