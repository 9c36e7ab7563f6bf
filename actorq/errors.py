"""Every exception that actorq raises, in one tree.

::

    ActorqError
    ├── TaskError               a task did not end with a value
    │   ├── TaskFailed          its function raised; ``error`` says what
    │   ├── TaskTimeout         ran past ``timeout`` or ``deadline`` (also a TimeoutError)
    │   ├── TaskCancelled       somebody cancelled it; ``by`` and ``reason`` say who and why
    │   ├── TaskExpired         was not started in time
    │   ├── DependencyFailed    a task that it needs did not succeed
    │   └── WorkerLost          its worker died under it too often
    ├── TaskNotFound            no such id: never accepted, expired or discarded
    ├── ScheduleNotFound        no schedule of that name
    ├── SubmitError             a task was not accepted
    │   ├── UnknownTask         nobody in this system knows that name
    │   ├── InvalidArguments    they do not fit the function's signature
    │   ├── EncodeError         an argument or a value cannot travel to where it is needed
    │   ├── PayloadTooLarge     an argument list is over ``max_message``
    │   ├── QueueFull           ``when_full="raise"`` and the queue is at ``max_pending``
    │   ├── KeyConflict         its ``key`` stands for another call
    │   └── DuplicateTask       two functions under one name
    ├── ActorError              an actor cannot do what it was asked for
    │   ├── ActorDied           it is gone, or its system is closed
    │   ├── NoReply             it had the message in hand, and did not answer it
    │   ├── MailboxFull         there is no room, and ``try_tell`` does not wait
    │   └── RestartIntensityExceeded   a supervisor gave up
    ├── TransportError          another node cannot be reached, or not talked to
    │   ├── ConnectFailed       nobody answers there, or not now
    │   ├── ConnectionLost      the connection has ended; ``code`` and ``reason`` say why
    │   ├── AuthenticationFailed   the token is not known there, or not for this role
    │   └── IncompatiblePeer    whoever answers there speaks something else
    └── StoreError              the store cannot do what it was asked for
        ├── StoreUnavailable    not now; the same call may be tried again
        │   └── OwnedElsewhere  another process owns the store; this one stands by
        ├── CorruptStore        what is there cannot be read, or not by this version
        ├── RowRefused          one record cannot be kept; ``id`` says which
        └── Fenced              another owner has taken the partition

Two more are raised *by* tasks, to steer their retries: `RetryLater` and `GiveUp`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

ExceptionType = type[BaseException]
ExceptionLike = ExceptionType | str
"""An exception class, or its qualified name."""


@attrs.frozen
class RemoteError:
    """What is known of an exception wherever it was raised: text, never the object.

    Attributes:
        type: Qualified name of the exception's class, ``module.qualname``.
        message: ``str(exception)``, or a substitute if that raises.
        traceback: The formatted traceback, cut in the middle if very long.
        notes: The exception's ``__notes__``.
        mro: Qualified names of the class and its bases, most derived first.
        children: The members, if it was an exception group.
    """

    type: str
    message: str
    traceback: str = attrs.field(default="", repr=False)
    notes: tuple[str, ...] = ()
    mro: tuple[str, ...] = attrs.field(default=(), repr=False)
    children: tuple[RemoteError, ...] = ()

    @classmethod
    def made_of(cls, kind: ExceptionType, message: str) -> RemoteError:
        """Return the description of an exception that was never raised."""
        return cls(qualified_name(kind), message, mro=mro_names(kind))

    def matches(self, *exceptions: ExceptionLike) -> bool:
        """Say whether it, or a member of the group that it was, is one of ``exceptions``.

        Classes are compared by qualified name, as the original may come from another process.
        """
        names = {name if isinstance(name, str) else qualified_name(name) for name in exceptions}
        return not names.isdisjoint(self.mro) or any(
            child.matches(*exceptions) for child in self.children
        )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, or the members of a group, of their groups, and so on."""
    left = [error]  # groups may be nested more deeply than Python can call
    while left:
        error = left.pop()
        if isinstance(error, BaseExceptionGroup):
            left.extend(reversed(error.exceptions))
        else:
            yield error


def told(error: BaseException) -> str:
    """Return ``repr(error)``, or a substitute if that raises."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - it is somebody's code
        return f"{type(error).__qualname__}, whose repr() raises"


def readable(text: str) -> str:
    """Return a text that can go anywhere: half characters, as of odd file names, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def mro_names(kind: ExceptionType) -> tuple[str, ...]:
    """Return the names of a class and its bases, but for ``object``."""
    return tuple(qualified_name(base) for base in kind.__mro__[:-1])


def qualified_name(cls: type) -> str:
    """Return the name under which an exception class is compared: ``module.qualname``."""
    return f"{cls.__module__}.{cls.__qualname__}"


class ActorqError(Exception):
    """The root of everything that actorq raises on its own account."""


class TaskError(ActorqError):
    """A task ended without a value.

    Attributes:
        id: The task's id.
        name: The task's name.
        error: What is known of the cause, if the cause is an error.
    """

    def __init__(
        self, message: str, *, id: str = "", name: str = "", error: RemoteError | None = None
    ) -> None:
        super().__init__(message)
        self.id = id
        self.name = name
        self.error = error

    def matches(self, *exceptions: ExceptionLike) -> bool:
        """Say whether the task's function raised one of ``exceptions``; see `RemoteError`."""
        return self.error is not None and self.error.matches(*exceptions)


class TaskFailed(TaskError):
    """The task's function raised.

    In one process ``__cause__`` is the original exception; everywhere ``error`` describes it.
    """


class TaskTimeout(TaskError, TimeoutError):
    """The last attempt ran past ``timeout``, or the task lived past ``deadline``."""


class TaskExpired(TaskError):
    """The task had not started when its ``expires`` was over."""


class WorkerLost(TaskError):
    """The worker died under the task ``max_deliveries`` times, or once if ``at_most_once``."""


class DependencyFailed(TaskError):
    """A task that it needs (``after``, or the ``output`` of one) did not succeed."""


class TaskCancelled(TaskError):
    """The task was cancelled.

    Attributes:
        by: Who asked: ``user``, ``scope`` (the block that owned it ended) or ``shutdown``.
        reason: What they said, if anything.
    """

    def __init__(
        self, message: str, *, id: str = "", name: str = "", by: str, reason: str | None = None
    ) -> None:
        super().__init__(message, id=id, name=name)
        self.by = by
        self.reason = reason


class TaskNotFound(ActorqError):
    """There is no task with that id: it was never accepted, has expired or was discarded.

    Attributes:
        id: The id.
        accepted: As of `SubmitError`, if `submit_many` was given a task that needs that one.
    """

    accepted: Sequence[object] = ()

    def __init__(self, id: str) -> None:
        super().__init__(
            f"no task {id!r}: it was never accepted here, or its result has expired "
            "(result_ttl, max_results) or was discarded"
        )
        self.id = id


class ScheduleNotFound(ActorqError):
    """There is no schedule of that name; the message lists those that there are.

    Attributes:
        name: The name.
    """

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class SubmitError(ActorqError):
    """A task was not accepted.

    Attributes:
        accepted: Handles of the tasks that `submit_many` had got accepted before the error.
    """

    accepted: Sequence[object] = ()


class UnknownTask(SubmitError):
    """Nobody in this closed system knows that name."""


class InvalidArguments(SubmitError, TypeError):
    """The arguments do not fit the task's signature."""


class EncodeError(SubmitError):
    """A value cannot travel to where it is needed."""


class PayloadTooLarge(SubmitError):
    """The encoded arguments are over ``max_message``."""


class QueueFull(SubmitError):
    """The queue holds ``max_pending`` tasks, and ``when_full`` is ``"raise"``."""


class KeyConflict(SubmitError):
    """The ``key`` stands for another task, or for the same one with other arguments."""


class DuplicateTask(SubmitError):
    """Two different functions were given to one system under one name."""


class ActorError(ActorqError):
    """An actor cannot do what it was asked for."""


class ActorDied(ActorError):
    """The actor is gone and will not come back: it spent its restarts, or its system is closed."""


class NoReply(ActorError):
    """The actor had the message in hand, and went on, or crashed, without an answer."""


class MailboxFull(ActorError):
    """The actor's mailbox holds as many messages as it may."""


class RestartIntensityExceeded(ActorError):
    """A child crashed more often than its supervisor allows.

    Attributes:
        failures: The crashes that spent the budget, oldest first.
    """

    def __init__(self, message: str, failures: Sequence[BaseException]) -> None:
        super().__init__(message)
        self.failures: tuple[BaseException, ...] = tuple(failures)


class TransportError(ActorqError):
    """Another node cannot be reached, or not talked to."""


class ConnectFailed(TransportError):
    """Nobody answers at that address, or not now."""


class ConnectionLost(TransportError):
    """A connection has ended.

    Attributes:
        code: Why, as the WebSocket protocol numbers it; 1006 if the peer did not say.
        reason: Why, in words.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"the connection has ended ({code})" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class AuthenticationFailed(TransportError):
    """The other node does not know the token, or not for this role."""


class IncompatiblePeer(TransportError):
    """Whoever answers at that address does not speak this protocol, or not this version."""


class StoreError(ActorqError):
    """The store cannot do what it was asked for."""


class StoreUnavailable(StoreError):
    """The store cannot do it now, or its answer was lost; the same call may be tried again.

    Attributes:
        accepted: As of `SubmitError`.
    """

    accepted: Sequence[object] = ()


class OwnedElsewhere(StoreUnavailable):
    """Another process owns the store, and this one stands by."""


class CorruptStore(StoreError):
    """What is there is damaged, is no store, or was written by a newer version of actorq.

    Nothing in it was changed.

    Attributes:
        newer: Whether a newer version has written it, so that it can be read by that.
    """

    def __init__(self, message: str, *, newer: bool = False) -> None:
        super().__init__(message)
        self.newer = newer


class RowRefused(StoreError):
    """One record cannot be kept, and the others of its commit are not to blame.

    Attributes:
        id: The task's id.
    """

    def __init__(self, message: str, *, id: str) -> None:
        super().__init__(message)
        self.id = id


class Fenced(StoreError):
    """Another owner has taken the partition; whoever sees this must stop writing."""


_DELAY_MAX = 1e10


class RetryLater(Exception):
    """Raise it in a task to run it again after ``delay`` seconds, without spending an attempt."""

    def __init__(self, delay: float) -> None:
        given: object = delay
        if (
            isinstance(given, bool)
            or not isinstance(given, int | float)
            or not 0 <= given < _DELAY_MAX
        ):
            raise ValueError(f"RetryLater: delay must be seconds, 0 or more, not {delay!r}")
        super().__init__(delay)
        self.delay: float = float(delay)


class GiveUp(Exception):
    """Raise it in a task to fail at once, whatever its retry policy says."""
