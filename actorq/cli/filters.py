"""Which tasks a verb is about, as the command line says it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import attrs
from cyclopts import Group, Parameter

from actorq.cli.exits import Exit, Failure
from actorq.model.filters import FilterDict
from actorq.model.status import TaskStatus

FILTERS = Group("Filters", sort_key=5)

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_MOMENT = "2026-03-01T12:00, local unless it names a zone, or how long ago: 90s, 10m, 2h, 3d."


@Parameter(name="*", group=FILTERS)
@attrs.frozen
class Which:
    """The filters that several verbs share; a task must fit every one that is given."""

    status: Annotated[
        tuple[TaskStatus, ...], Parameter(help="Only tasks that are this; may be repeated.")
    ] = ()
    task: Annotated[
        tuple[str, ...], Parameter(help="Only tasks of this name; may be repeated.")
    ] = ()
    queue: Annotated[str | None, Parameter(help="Only tasks in this queue.")] = None
    key: Annotated[str | None, Parameter(help="Only tasks submitted under this key.")] = None
    id: Annotated[tuple[str, ...], Parameter(help="Only this task; may be repeated.")] = ()
    before: Annotated[
        str | None, Parameter(help=f"Only tasks submitted before that time: {_MOMENT}")
    ] = None
    after: Annotated[str | None, Parameter(help="Only tasks submitted after it.")] = None

    def given(self) -> FilterDict:
        """Return what was given, as the client's verbs take it.

        Raises:
            Failure: A time is none.
        """
        found: dict[str, Any] = {
            "status": self.status,
            "task": self.task,
            "queue": self.queue,
            "key": self.key,
            "ids": self.id,
            "before": moment("--before", self.before),
            "after": moment("--after", self.after),
        }
        return cast(FilterDict, {k: value for k, value in found.items() if value not in (None, ())})


def moment(option: str, text: str | None) -> datetime | None:
    """Return the time that an option stands for.

    Raises:
        Failure: It is none.
    """
    if text is None:
        return None
    past = _AGO.fullmatch(text.strip())
    try:
        if past is not None:
            number, unit = past.groups()
            return datetime.now(UTC) - timedelta(**{_UNITS[unit]: float(number)})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise Failure(
            f"{option} must be a time such as 2026-03-01T12:00, or how long ago, such as 10m, "
            f"not {text!r}",
            Exit.USAGE,
        ) from None
