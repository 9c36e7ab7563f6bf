"""Which tasks a verb is about: the keywords of `find`, `retry`, `discard` and `cancel_many`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, TypedDict

from msgspec import Meta, Struct

from actorq.model.checks import aware, name
from actorq.model.ids import can_be_id
from actorq.model.records import Head
from actorq.model.status import TaskStatus

PAGE_MAX = 1_000

SEVERAL_MAX = 10_000
"""How many names, or ids, a filter may have."""


class FilterDict(TypedDict, total=False):
    """The keywords that say which tasks a verb is about; a task must fit all that are given.

    Attributes:
        status: A `TaskStatus` or its word, or several in a list.
        task: A task or its name, or up to 10,000 in a list.
        queue: A queue's name.
        key: The key of a submission.
        ids: Up to 10,000 task ids.
        before: Only tasks submitted before this aware datetime.
        after: Only tasks submitted after it.
    """

    status: Status | Collection[Status]
    task: Named | Collection[Named]
    queue: str
    key: str
    ids: Iterable[str]
    before: datetime
    after: datetime


class SubscriptionDict(TypedDict, total=False):
    """The keywords that say which tasks a subscription is about; see `FilterDict`.

    Attributes:
        status: Only events by which a task gets one of these.
        task: Only of these tasks.
        queue: Only of this queue.
        ids: Only of these; the snapshot then has what is known of each.
    """

    status: Status | Collection[Status]
    task: Named | Collection[Named]
    queue: str
    ids: Iterable[str]


class HasName(Protocol):
    """A task, or anything else with a task's name."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


Named = str | HasName
Status = (
    TaskStatus
    | Literal["scheduled", "waiting", "pending", "running", "success", "failure", "cancelled"]
)
"""A `TaskStatus`, or its word."""


_Moment = Annotated[float, Meta(ge=-1e11, le=1e12)]
_Several = Annotated[frozenset[str], Meta(max_length=SEVERAL_MAX)]


class Filter(Struct, frozen=True):
    """A conjunction: a task matches if it fits every field that is given.

    ``before`` and ``after`` bound the time of submission, in seconds since the epoch;
    ``ended_since`` that of the end, so that live tasks do not match.
    """

    statuses: frozenset[TaskStatus] | None = None
    names: _Several | None = None
    queue: str | None = None
    ids: _Several | None = None
    before: _Moment | None = None
    after: _Moment | None = None
    ended_since: _Moment | None = None
    key: str | None = None

    def matches(self, head: Head) -> bool:
        """Say whether a task's head fits."""
        return (
            (self.statuses is None or head.status in self.statuses)
            and (self.names is None or head.name in self.names)
            and (self.queue is None or head.options.queue == self.queue)
            and (self.ids is None or head.id in self.ids)
            and (self.key is None or head.options.key == self.key)
            and (self.before is None or head.submitted_at < self.before)
            and (self.after is None or head.submitted_at > self.after)
            and (self.ended_since is None or self._has_ended(head))
        )

    def _has_ended(self, head: Head) -> bool:
        at = head.completed_at
        return at is not None and self.ended_since is not None and at >= self.ended_since

    @property
    def everything(self) -> bool:
        """Whether nothing was given."""
        return self == _EVERYTHING


_EVERYTHING = Filter()


def build_filter(
    *,
    status: object = None,
    task: object = None,
    queue: str | None = None,
    key: str | None = None,
    ids: Iterable[str] | None = None,
    before: datetime | None = None,
    after: datetime | None = None,
    **unknown: object,
) -> Filter:
    """Check the keywords of a verb and turn them into a filter.

    The keywords are those of `FilterDict`; None is as good as not given.

    Raises:
        TypeError: A keyword of the wrong type; the message names it.
        ValueError: An unknown status, a naive datetime, too many names or ids; the message names
            it.
    """
    if unknown:
        known = ", ".join(FilterDict.__annotations__)
        raise TypeError(f"unknown filter {min(unknown)!r}; the filters are {known}")
    return Filter(
        statuses=None if status is None else frozenset(map(_status, _several(status))),
        names=None if task is None else _not_too_many("task", map(_task_name, _several(task))),
        queue=None if queue is None else name("filter 'queue'", queue),
        key=None if key is None else name("filter 'key'", key),
        ids=None if ids is None else _ids(ids),
        before=_moment("before", before),
        after=_moment("after", after),
    )


def _several(value: object) -> Iterable[Any]:
    return value if isinstance(value, Collection) and not isinstance(value, str) else (value,)


def _status(value: object) -> TaskStatus:
    try:
        return TaskStatus(value)  # type: ignore[arg-type]  # anything else raises, as it should
    except ValueError:
        words = ", ".join(repr(str(s)) for s in TaskStatus)
        raise ValueError(f"filter 'status' must be one of {words}, not {value!r}") from None


def _task_name(value: object) -> str:
    given = value if isinstance(value, str) else getattr(value, "name", None)
    if not isinstance(given, str):
        raise TypeError(f"filter 'task' must be a task or its name, not {value!r}")
    return name("filter 'task'", given)


def _ids(value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str):
        raise TypeError(f"filter 'ids' must be several ids; write [{value!r}] for one")
    if not isinstance(value, Iterable):
        raise TypeError(f"filter 'ids' must be several ids, not {value!r}")
    ids = _not_too_many("ids", value)
    for item in ids:
        if not isinstance(item, str):
            raise TypeError(f"filter 'ids' must hold task ids, not {item!r}")
    return frozenset(filter(can_be_id, ids))


def _not_too_many(which: str, values: Iterable[str]) -> frozenset[str]:
    several = frozenset(values)
    if len(several) > SEVERAL_MAX:
        raise ValueError(
            f"filter {which!r} takes at most {SEVERAL_MAX:,}, not {len(several):,}: ask in parts"
        )
    return several


def _moment(which: str, value: datetime | None) -> float | None:
    return None if value is None else aware(f"filter {which!r}", value).timestamp()
