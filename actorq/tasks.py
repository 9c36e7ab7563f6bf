"""Tasks: functions that can be submitted.

`task` turns a function into a `Task`, which is still called like the function; any other callable
becomes one when it is submitted. Options never mix with the function's own arguments: they are
given to the decorator, or to `Task.options`, which makes a copy.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, Unpack, cast, overload

from msgspec import Struct

from actorq.codec.payload import Signature
from actorq.errors import InvalidArguments, UnknownTask
from actorq.model.checks import name as check_name
from actorq.model.ids import IdSource
from actorq.model.options import NO_OPTIONS, OptionsDict, RunIn, TaskOptions
from actorq.model.records import Pool
from actorq.model.schedules import Cron, Every, Timing, check_scheduled

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_IDS = IdSource()
if hasattr(os, "register_at_fork"):  # a child would go on with the ids of its parent
    os.register_at_fork(after_in_child=_IDS.renew)


def new_id() -> str:
    """Return a new task id."""
    return _IDS.next()


class Call(Struct, Generic[R_co], frozen=True):
    """A call of a task in this process, by reference: what waits in the queue, and no more."""

    task: Task[..., R_co]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        """Say whether it calls the same task with the same arguments, whatever its options are.

        Arguments that cannot say so in one word are not the same.
        """
        return (
            isinstance(other, Call)
            and self.task.name == other.task.name
            and len(self.args) == len(other.args)
            and self.kwargs.keys() == other.kwargs.keys()
            and all(map(_same, self.args, other.args))
            and all(_same(self.kwargs[name], other.kwargs[name]) for name in self.kwargs)
        )

    def __hash__(self) -> int:
        return hash(self.task.name)  # its arguments may have none


def _same(one: object, other: object) -> bool:
    return one is other or (one == other) is True


class TaskMessage(Struct, Generic[R_co], eq=False):
    """One submission, not yet sent: made by `Task.message`, accepted by `submit` and the batches.

    Its id is made here, so submitting the same message twice is submitting it once.
    """

    id: str
    call: Call[R_co]
    sent: bool = False
    """Whether the owner may know it."""
    lineage: str | None = None
    """The records among which it was first sent."""
    stamp: float | None = None
    """The owner's time before which it was not sent, as far as its client knows."""
    accepted: bool = False
    """Whether the owner has said so."""

    @property
    def task(self) -> Task[..., R_co]:
        """The task that it is a submission of."""
        return self.call.task

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return self.call.args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments."""
        return self.call.kwargs


class EncodedCall(Struct, gc=False, frozen=True):
    """The call of a task that runs in a process: its arguments as bytes from the submit on.

    Pickled, or, with ``wire``, as the task's signature encodes them, and its value likewise.
    """

    task: Task[..., Any]
    call: bytes
    wire: bool = False

    def __eq__(self, other: object) -> bool:
        """Say whether it calls the same task with the same arguments, whatever its options are."""
        return (
            isinstance(other, EncodedCall)
            and self.task.name == other.task.name
            and (self.call, self.wire) == (other.call, other.wire)
        )

    def __hash__(self) -> int:
        return hash(self.task.name)


class EncodedValue(Struct, gc=False, frozen=True):
    """What a task has returned in a process, encoded there by its signature."""

    data: bytes


class Task(Generic[P, R_co]):
    """A function that can be submitted, with its options.

    Attributes:
        name: What it is called everywhere, ``module:qualname`` unless given.
        function: The function itself.
        settings: Its options so far.
        declared: Those of its decorator alone.
        run_in: Where it runs: ``"loop"``, ``"thread"`` or ``"process"``.
        schedule: When it is run without anybody asking, if at all.
        pool: Which of a worker's two pools of slots it needs.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        settings: TaskOptions,
        run_in: RunIn,
        arity: _Arity | None = None,
        declared: TaskOptions | None = None,
        schedule: Timing | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.settings = settings
        self.declared: TaskOptions = settings if declared is None else declared
        self.run_in: RunIn = run_in
        self.schedule: Timing | None = schedule
        self.pool: Pool = "process" if run_in == "process" else "main"
        self._arity = arity or _Arity(function)
        # Without the function's own attributes, which might be called like ours.
        functools.update_wrapper(cast(Any, self), function, updated=())

    def options(self, *presets: TaskOptions, **options: Unpack[OptionsDict]) -> Self:
        """Return a copy of the task with other options: presets first, then keywords.

        Raises:
            TypeError: An unknown option or one of the wrong type; the message names it.
            ValueError: An option out of range; the message names it.
        """
        settings = self.settings
        for preset in presets:
            if not isinstance(preset, TaskOptions):
                raise TypeError(f"a preset must be a TaskOptions, not {preset!r}")
            settings = settings.merge(preset)
        if options:
            settings = settings.merge(TaskOptions(**options))
        return type(self)(
            self.function,
            self.name,
            settings,
            self.run_in,
            self._arity,
            self.declared,
            self.schedule,
        )

    def message(self, *args: P.args, **kwargs: P.kwargs) -> TaskMessage[R_co]:
        """Return a submission of this task with these arguments, for the batches.

        Raises:
            InvalidArguments: They do not fit the function's signature.
        """
        self._arity.check(self.name, args, kwargs)
        if self.settings.key is None:
            return TaskMessage(_IDS.next(), Call(self, args, kwargs or _NO_KWARGS))
        return TaskMessage(_IDS.next(), Call(self, *self._arity.bound(args, kwargs)))

    def check(self, *args: object, **kwargs: object) -> None:
        """Check that the function can be called like this; for the system's use.

        Raises:
            InvalidArguments: It cannot.
        """
        self._arity.check(self.name, args, kwargs)

    @property
    def signature(self) -> Signature:
        """How its arguments and its value travel; compiled when it is first needed."""
        return self._arity.compiled(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        # By reference, like a function: a task that is sent to another process is that one's own.
        return import_task, (import_path(self.function),)


class AsyncTask(Task[P, R_co]):
    """A task made of an ``async def`` function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function itself, here and now."""
        result: Coroutine[Any, Any, R_co] = self.function(*args, **kwargs)
        return result


class SyncTask(Task[P, R_co]):
    """A task made of a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself, here and now."""
        result: R_co = self.function(*args, **kwargs)
        return result


class NamedTask(Task[..., Any]):
    """A task of which only the name is known here: some worker has its function."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        settings: TaskOptions = NO_OPTIONS,
        run_in: RunIn = "loop",
        arity: _Arity | None = None,
        declared: TaskOptions | None = None,
        schedule: Timing | None = None,
    ) -> None:
        super().__init__(function, name, settings, run_in, arity, declared, schedule)
        self.pool: Pool = "any"

    @classmethod
    def called(cls, name: str) -> NamedTask:
        """Return the task of that name."""
        check_name("task name", name)

        def elsewhere(*_args: Any, **_kwargs: Any) -> Any:
            raise UnknownTask(f"task {name!r} is not in this process; submit it")

        return cls(elsewhere, name)


class StreamTask(Task[P, None], Generic[P, T_co]):
    """A task made of an async generator function; submitted plainly, it runs to its end."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T_co]:
        """Call the function itself, here and now."""
        result: AsyncIterator[T_co] = self.function(*args, **kwargs)
        return result


class TaskDecorator(Protocol):
    """What `task` with options returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # async functions are the narrower case
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # and so are async generator functions
        self, function: Callable[P, AsyncIterator[T]], /
    ) -> StreamTask[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


@overload
def task(  # type: ignore[overload-overlap]  # async functions are the narrower case
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(  # type: ignore[overload-overlap]  # and so are async generator functions
    function: Callable[P, AsyncIterator[T]], /
) -> StreamTask[P, T]: ...
@overload
def task(function: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    run_in: RunIn | None = None,
    schedule: Timing | None = None,
    **options: Unpack[OptionsDict],
) -> TaskDecorator: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    run_in: RunIn | None = None,
    schedule: Timing | None = None,
    **options: Unpack[OptionsDict],
) -> Any:
    """Make a task of a function; bare, or with options.

    Args:
        function: An ``async def``, a ``def``, or an async generator function.
        name: Its name everywhere; by default ``module:qualname``.
        run_in: ``"loop"`` for ``async def`` (the only choice); ``"thread"`` (the default) or
            ``"process"`` for ``def``. A process is killed on cancel and timeout, and needs
            the extra ``actorq[process]`` where it runs.
        schedule: When it is to be run without anybody asking, and without arguments: a `Cron` or an
            `Every`. The schedule has the task's name, and exists from the first worker on that has
            the task until `Client.remove_schedule`; see `Client.schedule` for the rest.
        **options: See `TaskOptions`.

    Raises:
        TypeError: Not a function, an unknown option, one of the wrong type, or a ``schedule`` for a
            function that needs arguments.
        ValueError: An option out of range, or a ``run_in`` that does not fit the function.
    """
    settings = TaskOptions(**options) if options else NO_OPTIONS
    if name is not None:
        check_name("name", name)

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        return make_task(function, name, settings, run_in, schedule)

    return decorate if function is None else decorate(function)


def make_task(
    function: Callable[..., Any],
    name: str | None = None,
    settings: TaskOptions = NO_OPTIONS,
    run_in: RunIn | None = None,
    schedule: Timing | None = None,
) -> Task[..., Any]:
    """Make the kind of task that fits ``function``; see `task`."""
    if isinstance(function, Task):
        raise TypeError(f"{function!r} is a task already; use its .options() for other options")
    if not callable(function):
        raise TypeError(f"a task must be made of a function, not {function!r}")
    kind: type[Task[..., Any]]
    allowed: tuple[RunIn, ...]
    if _is(function, inspect.iscoroutinefunction):
        kind, allowed = AsyncTask, ("loop",)
    elif _is(function, inspect.isasyncgenfunction):
        kind, allowed = StreamTask, ("loop",)
    else:
        kind, allowed = SyncTask, ("thread", "process")
    if run_in is not None and run_in not in allowed:
        fit = " or ".join(map(repr, allowed))
        raise ValueError(f"run_in must be {fit} for {function!r}, not {run_in!r}")
    full = name or import_path(function)
    made = kind(function, full, settings, run_in or allowed[0], schedule=schedule)
    if schedule is not None:
        _check_schedule(made, schedule)
    if made.run_in == "process":
        _check_importable(function, made.name)
    return made


def _is(function: Callable[..., Any], kind: Callable[[object], bool]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004 - which kind


def import_path(function: Callable[..., Any]) -> str:
    """Return ``module:qualname`` of a function, a partial's function, or an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__ or 'builtins'}:{named.__qualname__}"


def _check_schedule(task: Task[..., Any], schedule: object) -> None:
    if not isinstance(schedule, Cron | Every):
        raise TypeError(f"task {task.name}: schedule must be a Cron or an Every, not {schedule!r}")
    check_scheduled(task.name, task.settings)
    try:
        task.check()
    except InvalidArguments as error:
        raise TypeError(
            f"task {task.name}: schedule= calls it without arguments, and it needs some ({error}); "
            "give them to system.schedule(task.message(...), ...)"
        ) from None


def _check_importable(function: Callable[..., Any], name: str) -> None:
    path = import_path(function)
    if "<" in path or isinstance(function, functools.partial):
        raise ValueError(
            f"task {name}: run_in='process' needs a function at the top of a module, "
            f"so that the other process can import it; {path} is not"
        )


def import_task(path: str) -> Any:
    """Import what ``module:qualname`` names."""
    module, _, qualname = path.partition(":")
    found: Any = __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


class _Arity:
    """A check of argument lists that is compiled once; the full binding only tells what is wrong.

    `inspect.Signature.bind` costs 3 to 10 us a call, this one 0.2 for plain positional calls.
    """

    __slots__ = ("_compiled", "_function", "least", "most", "signature")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Signature | None = None
        self.least: int = 0
        self.most: int = 1_000_000
        self.signature: inspect.Signature | None
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none: the call itself will tell
            self.signature = None
            return
        kinds = inspect.Parameter
        self.most = 0
        for parameter in self.signature.parameters.values():
            required = parameter.default is kinds.empty
            if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
                self.least += required
                self.most += 1
            elif parameter.kind is kinds.VAR_POSITIONAL:
                self.most = 1_000_000
            elif parameter.kind is kinds.KEYWORD_ONLY and required:
                self.least = 1_000_001  # never enough without keywords

    def compiled(self, name: str) -> Signature:
        """Return how arguments and value travel."""
        if self._compiled is None:
            self._compiled = Signature(name, self._function)
        return self._compiled

    def check(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not kwargs and self.least <= len(args) <= self.most:
            return
        if self.signature is not None:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidArguments(
                    f"task {name}{self.signature} cannot be called like this: {error}"
                ) from None

    def bound(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return a call as it is, however it was written: as calls under one key are compared."""
        if self.signature is not None:
            call = self.signature.bind(*args, **kwargs)
            args, kwargs = call.args, call.kwargs
        return args, dict(sorted(kwargs.items()))


_NO_KWARGS: Mapping[str, Any] = {}
