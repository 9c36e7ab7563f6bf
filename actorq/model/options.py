"""What a submission may ask for: `TaskOptions`, and its `Retry` policy.

Everything is checked when it is written down, so that a wrong option is an error at the line that
has it and not in a worker later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, Self, TypedDict, Unpack, get_args

import attrs

from actorq.errors import ExceptionLike, qualified_name
from actorq.model.checks import aware, flag, name, number, whole, word
from actorq.model.results import TaskDone
from actorq.model.status import TaskPriority

PriorityLike = TaskPriority | Literal["low", "normal", "high", "critical"]
WhenFull = Literal["wait", "raise"]
RunIn = Literal["loop", "thread", "process"]

_YEAR_MAX = 9_000


def _exceptions(what: str, value: object) -> tuple[ExceptionLike, ...]:
    if isinstance(value, str | type):
        value = (value,)
    if not isinstance(value, tuple | list):
        raise TypeError(f"{what} must be exception classes or qualified names, not {value!r}")
    for item in value:
        if not isinstance(item, str) and not (
            isinstance(item, type) and issubclass(item, BaseException)
        ):
            raise TypeError(f"{what} must be exception classes or qualified names, not {item!r}")
    return tuple(value)


def _on(value: ExceptionLike | Sequence[ExceptionLike]) -> tuple[ExceptionLike, ...]:
    return _exceptions("Retry: on", value)


def _never(value: ExceptionLike | Sequence[ExceptionLike]) -> tuple[ExceptionLike, ...]:
    return _exceptions("Retry: never", value)


def _attempts(value: int) -> int:
    return whole("Retry: attempts", value)


def _retry_delay(value: float) -> float:
    return number("Retry: delay", value)


def _factor(value: float) -> float:
    return number("Retry: factor", value, least=1.0, most=1000.0)


def _max_delay(value: float) -> float:
    return number("Retry: max_delay", value)


def _jitter(value: float) -> float:
    return number("Retry: jitter", value, most=1.0)


@attrs.frozen
class Retry:
    """When and how soon a task runs again after it raised or timed out.

    The wait before attempt ``n + 1`` is ``delay * factor ** (n - 1)`` seconds, at most
    ``max_delay``, then moved by up to ± ``jitter`` of itself. Meanwhile the task holds no slot.

    Attributes:
        attempts: Runs in all, the first one included; 1 means no retry.
        delay: Seconds before the second attempt.
        factor: What each further wait is multiplied by; 1 keeps it constant.
        max_delay: The cap on one wait, in seconds, before jitter.
        jitter: The share of a wait that is random, 0 to 1.
        on: Exception classes (or qualified names) that are retried, subclasses and the members of
            exception groups included. A timeout counts as `actorq.TaskTimeout`.
        never: Those that are not, whatever ``on`` says: one such member of a group is enough.
    """

    attempts: int = attrs.field(default=1, converter=_attempts)
    delay: float = attrs.field(default=1.0, converter=_retry_delay)
    factor: float = attrs.field(default=2.0, converter=_factor)
    max_delay: float = attrs.field(default=300.0, converter=_max_delay)
    jitter: float = attrs.field(default=0.1, converter=_jitter)
    on: tuple[ExceptionLike, ...] = attrs.field(default=(Exception,), converter=_on)
    never: tuple[ExceptionLike, ...] = attrs.field(default=(), converter=_never)

    @property
    def on_names(self) -> frozenset[str]:
        """``on`` as qualified names, which is how it is matched and how it travels."""
        return _names(self.on)

    @property
    def never_names(self) -> frozenset[str]:
        """``never`` as qualified names."""
        return _names(self.never)


def _names(exceptions: tuple[ExceptionLike, ...]) -> frozenset[str]:
    return frozenset(e if isinstance(e, str) else qualified_name(e) for e in exceptions)


def _limit_key(value: str) -> str:
    return name("Limit: key", value)


def _limit_concurrency(value: int | None) -> int | None:
    return None if value is None else whole("Limit: concurrency", value)


def _limit_rate(value: int | None) -> int | None:
    return None if value is None else whole("Limit: rate", value)


def _limit_per(value: float) -> float:
    return number("Limit: per", value, most=31_622_400.0, above=True)


@attrs.frozen
class Limit:
    """How many tasks of one key may run at once, and start in any window of time, on all workers.

    Tasks that have to wait for their limit hold no slot and hold up nobody else. Keys of one task
    take turns, so that one with a long line does not starve the others.

    Attributes:
        key: What is limited, as ``"customer:7"``; tasks of any name and queue may share it.
        concurrency: How many may run at once, or None.
        rate: How many may start in any ``per`` seconds, or None. Each attempt is a start; those of
            tasks that have the key, but no rate, do not count.
        per: Seconds.
    """

    key: str = attrs.field(converter=_limit_key)
    concurrency: int | None = attrs.field(default=None, converter=_limit_concurrency, kw_only=True)
    rate: int | None = attrs.field(default=None, converter=_limit_rate, kw_only=True)
    per: float = attrs.field(default=1.0, converter=_limit_per, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.concurrency is None and self.rate is None:
            raise ValueError(f"Limit {self.key!r}: give a concurrency, or a rate, or both")


OnDependencyFailure = Literal["fail", "run"]
AFTER_MAX = 10_000
"""Tasks that one task can come after."""


class HasId(Protocol):
    """A handle, or anything else with a task's id."""

    @property
    def id(self) -> str:
        """The task's id."""
        ...


class CallbackActor(Protocol):
    """The ref of an actor that takes `TaskDone`."""

    def try_tell(self, message: TaskDone) -> None:
        """Send a message."""


Callback = Callable[[TaskDone], object] | CallbackActor
"""An actor's ref, or a task or any other callable of one argument."""


class OptionsDict(TypedDict, total=False):
    """The keywords of ``options()``, `actorq.task` and `TaskOptions`."""

    queue: str
    priority: PriorityLike
    timeout: float | None
    deadline: float | None
    delay: float | None
    at: datetime | None
    expires: float | None
    retry: Retry
    at_most_once: bool
    max_deliveries: int
    key: str | None
    after: Collection[str | HasId]
    on_dependency_failure: OnDependencyFailure
    limit: Limit | None
    when_full: WhenFull
    callback: Callback | None
    callback_data: Any
    result_ttl: float | None
    meta: Mapping[str, Any]


def _priority(value: object) -> TaskPriority:
    if isinstance(value, TaskPriority):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"option 'priority' must be a TaskPriority or one of its words, not {value!r}"
        )
    if value not in _PRIORITIES:
        words = ", ".join(map(repr, _PRIORITIES))
        raise ValueError(f"option 'priority' must be one of {words}, not {value!r}")
    return _PRIORITIES[value]


_PRIORITIES = {priority.name.lower(): priority for priority in TaskPriority}


def _at(value: object) -> datetime | None:
    if value is None:
        return None
    given = aware("option 'at'", value)
    try:
        moment = given.astimezone(UTC)  # here, once: a time zone is users' code
    except (OverflowError, ValueError):
        moment = None
    if moment is None or moment.year > _YEAR_MAX:
        raise ValueError(f"option 'at' is out of range: {value!r}")
    return moment


def _retry(value: object) -> Retry:
    if not isinstance(value, Retry):
        raise TypeError(f"option 'retry' must be an actorq.Retry, not {value!r}")
    return value


def _after(value: object) -> tuple[str, ...]:
    """Return ids, each once, in order."""
    if isinstance(value, str) or not isinstance(value, Collection):
        raise TypeError(f"option 'after' must be several handles or ids, not {value!r}")
    ids: dict[str, None] = {}
    for item in value:
        id = item if isinstance(item, str) else getattr(item, "id", None)
        if not isinstance(id, str):
            raise TypeError(f"option 'after' must hold handles or task ids, not {item!r}")
        ids[name("option 'after'", id)] = None
    if len(ids) > AFTER_MAX:
        raise ValueError(f"option 'after' takes at most {AFTER_MAX} tasks, not {len(ids)}")
    return tuple(ids)


def _limit(value: object) -> Limit | None:
    if value is not None and not isinstance(value, Limit):
        raise TypeError(f"option 'limit' must be an actorq.Limit, not {value!r}")
    return value


def _callback(value: object) -> Any:
    if value is None or callable(value) or hasattr(value, "_deliver"):  # as an ActorRef has
        return value
    raise TypeError(
        f"option 'callback' must be an actor's ref, a task or another callable, not {value!r}"
    )


def _meta(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"option 'meta' must be a mapping with string keys, not {value!r}")
    return dict(value)


def _seconds(option: str, *, above: bool = False) -> Callable[[object], float | None]:
    def convert(value: object) -> float | None:
        return None if value is None else number(f"option {option!r}", value, above=above)

    return convert


_NO_RETRY = Retry()
_NO_META: Mapping[str, Any] = {}


@attrs.frozen(init=False, repr=False)
class TaskOptions:
    """Options of a submission, checked; it remembers which of them were given.

    Given options win in the order call, preset, decorator, default:
    ``fetch.options(TaskOptions.reliable(), timeout=9)`` overrides the decorator's options by the
    preset's, and those by ``timeout=9``.

    Attributes:
        queue: The named queue; 1 to 200 characters.
        priority: See `TaskPriority`.
        timeout: Seconds per attempt, or None.
        deadline: Seconds for the task's whole life from submission, retries included, or None.
        delay: Seconds before it is due. Not together with ``at``.
        at: The aware datetime at which it is due.
        expires: Seconds after it is due within which its first attempt must start, or None. (The
            time for which it waits for other tasks counts.)
        retry: See `Retry`.
        at_most_once: Never deliver it again when its worker is lost: it is `WorkerLost` then. (Its
            retry policy is another matter, and still holds.)
        max_deliveries: How many workers may die under it before it fails as `WorkerLost`.
        key: Makes the submission idempotent: while a task with this key is live, or its result is
            kept, the same call gets that task's handle (``handle.existing``), and any other one
            `KeyConflict`. 1 to 200 characters.
        after: Handles or ids of tasks that must have ended before it starts.
        on_dependency_failure: What happens if one of those did not succeed: ``"fail"`` as
            `DependencyFailed`, or ``"run"`` all the same. (Without a result that its arguments
            stand for it cannot run.)
        limit: See `Limit`.
        when_full: ``"wait"`` until the queue has room, or ``"raise"`` `QueueFull`.
        callback: Who gets a `TaskDone` once it has ended, well or not: an actor's ref as a message,
            a task (or any other callable) as its argument. A task is submitted in the same step in
            which the outcome is stored, and run and retried like any other. An actor is told of
            this run, not of others that `Client.retry` starts.
        callback_data: What the callback is to know besides; passed on unchanged.
        result_ttl: Seconds for which its outcome can be looked up by id; None is the system's.
        meta: Anything with string keys that should travel with it.

    Raises:
        TypeError: An unknown option, or one of the wrong type; the message names it.
        ValueError: An option out of range; the message names it.
    """

    queue: str = "default"
    priority: TaskPriority = TaskPriority.NORMAL
    timeout: float | None = None
    deadline: float | None = None
    delay: float | None = None
    at: datetime | None = None
    expires: float | None = None
    retry: Retry = _NO_RETRY
    at_most_once: bool = False
    max_deliveries: int = 3
    key: str | None = None
    after: tuple[str, ...] = ()
    on_dependency_failure: OnDependencyFailure = "fail"
    limit: Limit | None = None
    when_full: WhenFull = "wait"
    callback: Any = None
    callback_data: Any = attrs.field(default=None, hash=False)
    result_ttl: float | None = None
    meta: Mapping[str, Any] = attrs.field(default=_NO_META, hash=False)
    given: frozenset[str] = attrs.field(default=frozenset(), eq=False)

    def __init__(self, **options: Unpack[OptionsDict]) -> None:
        unknown = options.keys() - _CHECKS.keys()
        if unknown:
            known = ", ".join(_CHECKS)
            raise TypeError(f"unknown option {min(unknown)!r}; the options are {known}")
        if options.get("delay") is not None and options.get("at") is not None:
            raise ValueError("options 'delay' and 'at' exclude each other: give one of them")
        values = {option: _CHECKS[option](value) for option, value in options.items()}
        self.__attrs_init__(**values, given=frozenset(values))  # pyright: ignore - attrs makes it

    def merge(self, other: TaskOptions) -> TaskOptions:
        """Return these options overridden by those that were given in ``other``."""
        if not other.given:
            return self
        if not self.given:
            return other
        changes = {option: getattr(other, option) for option in other.given}
        # A later `delay` replaces an earlier `at` and the other way round.
        if "delay" in changes and "at" not in changes:
            changes["at"] = None
        elif "at" in changes and "delay" not in changes:
            changes["delay"] = None
        return self._but(changes, self.given | other.given)

    def with_callback(self, callback: object, data: object) -> TaskOptions:
        """Return these options with another callback, unchecked."""
        return self._but({"callback": callback, "callback_data": data}, self.given)

    def with_after(self, after: tuple[str, ...]) -> TaskOptions:
        """Return these options with other ids to come after, unchecked."""
        return self._but({"after": after}, self.given)

    def with_key(self, key: str | None) -> TaskOptions:
        """Return these options with another key, unchecked."""
        return self._but({"key": key}, self.given)

    def with_also(self, options: dict[str, Any]) -> TaskOptions:
        """Return these options with a few more that were given; faster than `merge`."""
        values = {option: _CHECKS[option](value) for option, value in options.items()}
        return self._but(values, self.given.union(values))

    def _but(self, values: dict[str, Any], given: frozenset[str]) -> TaskOptions:
        other = object.__new__(type(self))
        for field, put in _PUT.items():  # a third of the time of attrs' own __init__
            put(other, values[field] if field in values else getattr(self, field))
        _PUT_GIVEN(other, given)
        return other

    @classmethod
    def high_priority(cls) -> Self:
        """Run it soon, once, and not for long: high priority, one attempt, 60 s."""
        return cls(priority="high", retry=Retry(attempts=1), timeout=60)

    @classmethod
    def reliable(cls) -> Self:
        """Try hard: 5 attempts from 2 s apart, 10 minutes each."""
        return cls(retry=Retry(attempts=5, delay=2.0), timeout=600)

    @classmethod
    def quick(cls) -> Self:
        """Do it now or not at all: one attempt of 30 s."""
        return cls(retry=Retry(attempts=1), timeout=30)

    def __repr__(self) -> str:
        given = (
            f"{option}={getattr(self, option)!r}" for option in _CHECKS if option in self.given
        )
        return f"TaskOptions({', '.join(given)})"


_CHECKS: dict[str, Callable[[object], Any]] = {
    "queue": lambda value: name("option 'queue'", value),
    "priority": _priority,
    "timeout": _seconds("timeout", above=True),
    "deadline": _seconds("deadline", above=True),
    "delay": _seconds("delay"),
    "at": _at,
    "expires": _seconds("expires", above=True),
    "retry": _retry,
    "at_most_once": lambda value: flag("option 'at_most_once'", value),
    "max_deliveries": lambda value: whole("option 'max_deliveries'", value),
    "key": lambda value: None if value is None else name("option 'key'", value),
    "after": _after,
    "on_dependency_failure": lambda value: word(
        "option 'on_dependency_failure'", value, *get_args(OnDependencyFailure)
    ),
    "limit": _limit,
    "when_full": lambda value: word("option 'when_full'", value, *get_args(WhenFull)),
    "callback": _callback,
    "callback_data": lambda value: value,
    "result_ttl": _seconds("result_ttl"),
    "meta": _meta,
}

_PUT: dict[str, Callable[[TaskOptions, object], None]] = {
    field: vars(TaskOptions)[field].__set__ for field in _CHECKS
}
_PUT_GIVEN: Callable[[TaskOptions, object], None] = vars(TaskOptions)["given"].__set__

NO_OPTIONS = TaskOptions()
"""Nothing given: every default."""
