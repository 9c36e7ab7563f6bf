"""The tasks that one node was given, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

from actorq.codec.options import pack_options
from actorq.codec.pickled import encode_call
from actorq.errors import DuplicateTask, EncodeError, InvalidArguments, SubmitError, UnknownTask
from actorq.model.messages import Declared
from actorq.model.options import TaskOptions
from actorq.model.records import Follow
from actorq.model.schedules import Schedule
from actorq.runtime.ref import ActorRef
from actorq.tasks import Call, EncodedCall, NamedTask, Task, import_path, make_task


class Registry:
    """The tasks that one system, client or worker was given, by name."""

    def __init__(
        self, tasks: Iterable[Task[..., Any] | ModuleType] = (), *, closed: bool = True
    ) -> None:
        """Take in tasks, and every task that is a variable of the modules.

        Args:
            tasks: Tasks and modules.
            closed: Whether nobody else can know a name that is not in here.

        Raises:
            DuplicateTask: Two different functions under one name.
            TypeError: Something that is neither a task nor a module.
        """
        self._tasks: dict[str, Task[..., Any]] = {}
        self._declared: dict[str, Declared] = {}
        self._closed = closed
        self.on_change: Callable[[], None] | None = None
        """Called after a task was learnt."""
        self._made: dict[Callable[..., Any], Task[..., Any]] = {}
        if not isinstance(tasks, Iterable):
            raise TypeError(f"tasks= takes several tasks and modules; write [...] around {tasks!r}")
        for item in tasks:
            if isinstance(item, Task):
                self._add(item)
            elif isinstance(item, ModuleType):
                for found in vars(item).values():
                    if isinstance(found, Task):
                        self._add(found)
            else:
                raise TypeError(
                    f"tasks= takes tasks and modules, not {item!r}; decorate it with @actorq.task"
                )

    def _add(self, task: Task[..., Any]) -> None:
        known = self._tasks.setdefault(task.name, task)
        if known.function is not task.function:
            raise DuplicateTask(
                f"two tasks are named {task.name!r}: {import_path(known.function)} and "
                f"{import_path(task.function)}; give one of them a name="
            )

    def learn(self, task: Task[..., Any]) -> None:
        """Take in a task that was submitted here, so that it can be run here.

        Raises:
            UnknownTask: Nobody could find its function by its name.
            DuplicateTask: Another function has its name.
            SubmitError: What its decorator says cannot travel.
        """
        known = self._tasks.get(task.name)
        if known is not None and known.function is task.function:
            return
        if isinstance(task, NamedTask):
            return
        if "<" in task.name or isinstance(task.function, functools.partial):
            raise UnknownTask(
                f"{task!r} cannot be found by its name in another process: only functions at the "
                "top of a module can be submitted here, or tasks with a name= of their own that "
                "are in the tasks= of those who run them"
            )
        if self._closed:  # nobody else will ever run it
            check_installed(task)
        declared = self._declare(task)  # before it is known, as it may not be possible
        self._add(task)
        self._declared[task.name] = declared
        if self.on_change is not None:
            self.on_change()

    def _declare(self, task: Task[..., Any]) -> Declared:
        """Return what a task's decorator says, in a form that travels."""
        assert task.signature.digest  # an annotation that cannot be is an error now
        settings = self.keepable(task.declared, encode=True)
        try:
            pack_options(settings)
        except EncodeError as error:
            raise EncodeError(f"task {task.name}: {error}") from None
        schedule = None
        if task.schedule is not None:
            call = task.signature.encode_call((), {})
            schedule = Schedule(task.name, task.schedule, task.name, task.pool, settings, call)
        return Declared(task.pool, settings, schedule)

    def scheduled(self) -> dict[str, Declared]:
        """Return what the tasks say that have a schedule, where calls are passed by reference.

        Raises:
            SubmitError: One of them would not be accepted.
        """
        declared: dict[str, Declared] = {}
        for name, task in self._tasks.items():
            if task.schedule is not None:
                settings = self.keepable(task.declared, encode=False)
                call: Call[Any] | EncodedCall = Call(task, (), {})
                if task.pool == "process":
                    encode_call(name, (), {"meta": dict(settings.meta)})  # it travels too
                    call = EncodedCall(task, encode_call(name, (), {}))
                schedule = Schedule(name, task.schedule, name, task.pool, settings, call)
                declared[name] = Declared(task.pool, settings, schedule)
        return declared

    def check_installed(self) -> None:
        """Check that all of them can run in this process.

        Raises:
            SubmitError: One cannot.
        """
        for task in self._tasks.values():
            check_installed(task, ", or open it with processes=0 where others run such tasks")

    def get(self, name: str) -> Task[..., Any] | None:
        """Return the task of that name, if it is known here."""
        return self._tasks.get(name)

    def digests(self) -> dict[str, str]:
        """Return a digest of every task's signature, by name."""
        return {name: task.signature.digest for name, task in self._tasks.items()}

    def declared(self) -> dict[str, Declared]:
        """Return what every task's decorator says, by name.

        Raises:
            SubmitError: Some of it cannot travel; never after it was asked once.
        """
        while missing := self._tasks.keys() - self._declared.keys():
            for name in sorted(missing):  # each may lead to others: its callbacks
                self._declared[name] = self._declare(self._tasks[name])
        return dict(self._declared)

    def keepable(self, options: TaskOptions, *, encode: bool) -> TaskOptions:
        """Return options as the owner keeps them: with a callback task as it will be submitted.

        Raises:
            SubmitError: It cannot be a callback; the subclass says why.
        """
        callback = options.callback
        if callback is None:
            return options
        if isinstance(callback, ActorRef):
            callback._check_where()
            return options.with_callback(None, None)  # its client's affair
        task = self.resolve(callback)
        try:
            task.check(None)
        except InvalidArguments as error:
            raise InvalidArguments(
                f"a callback takes one argument, the TaskDone: {error}"
            ) from None
        if isinstance(task.settings.callback, ActorRef):
            raise SubmitError(
                f"an actor cannot be the callback of a callback task ({task.name}): "
                "tell it from inside the task"
            )
        if not encode:
            check_installed(task)
        settings = self.keepable(task.settings, encode=encode)
        if encode:
            self.learn(task)
        call = None if encode else Call(task, (), {})
        follow = Follow(task.name, task.pool, settings, call)
        return options.with_callback(follow, options.callback_data)

    def find(self, name: str) -> Task[..., Any]:
        """Return the task of that name; where the registry is not closed, any name is one.

        Raises:
            UnknownTask: There is none.
        """
        try:
            return self._tasks[name]
        except KeyError:
            if not self._closed:
                return NamedTask.called(name)
            known = ", ".join(sorted(self._tasks)) or "none"
            raise UnknownTask(
                f"no task {name!r} in this system; tasks= of open_system lists: {known}"
            ) from None

    def resolve(self, what: object) -> Task[..., Any]:
        """Return the task that a task, a name or any other callable stands for."""
        if isinstance(what, Task):
            return what
        if isinstance(what, str):
            return self.find(what)
        if not callable(what):
            raise TypeError(f"submit a task, a callable, a name or a message, not {what!r}")
        function: Any = what
        if not isinstance(function, FunctionType) or "<" in function.__qualname__:
            return make_task(function)  # nobody knows how long it lives, nor what it holds
        made = self._made.get(function)
        if made is None:
            made = self._made[function] = make_task(function)
        return made


def check_installed(task: Task[..., Any], otherwise: str = "") -> None:
    """Check that what a task in a process needs is there; to name such a task nobody needs it.

    Args:
        task: It is to run here.
        otherwise: What else can be done than to install it.

    Raises:
        SubmitError: It is not.
    """
    if task.pool == "process" and find_spec("trio_parallel") is None:
        raise SubmitError(
            f"task {task.name}: run_in='process' needs trio-parallel where it runs: "
            f"pip install 'actorq[process]'{otherwise}"
        )
