"""What a running task can ask about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from actorq.errors import readable
from actorq.model.results import Progress

_INT_MAX = 2**63 - 1
_NOT_IN_A_TASK = "actorq.current() is for code that runs in a task; no task is running here"


class Current:
    """The running task; get it with `actorq.current`.

    Attributes:
        id: The task's id.
        name: The task's name.
        attempt: Which run of the function this is, from 1.
        deadline: When this attempt is stopped, in `trio.current_time` of this process, or None.
            In a process of its own: seconds from the start of the attempt.
        meta: What the submitter gave as ``meta``.
    """

    __slots__ = ("_cancelled", "_report", "_resources", "attempt", "deadline", "id", "meta", "name")

    def __init__(
        self,
        id: str,
        name: str,
        attempt: int,
        deadline: float | None,
        meta: Mapping[str, Any],
        resources: Any = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        """Without ``report`` it is that of a process."""
        self.id: str = id
        self.name: str = name
        self.attempt: int = attempt
        self.deadline: float | None = deadline
        self.meta: Mapping[str, Any] = meta
        self._resources = resources
        self._report = report
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should end: cancelled, out of time, or shutting down.

        A coroutine is told by `trio.Cancelled` and need not ask; a thread must look at this now and
        then, or it is abandoned when its grace is over.
        """
        return self._cancelled

    def cancel(self) -> None:
        """Set the flag; called by the executor, from any thread."""
        self._cancelled = True

    @property
    def resources(self) -> Any:
        """What the ``lifespan`` of the system or worker yielded; None without one.

        Raises:
            RuntimeError: In a process of its own, which has no lifespan.
        """
        if self._report is None:
            raise RuntimeError(
                f"task {self.name} runs in a process of its own, where there are no resources: "
                "open what it needs inside it, or run it in a thread"
            )
        return self._resources

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the task is; a plain call, from the loop or the task's thread.

        Only the newest report counts. Never waits; cheap enough for every step of a loop.

        Raises:
            RuntimeError: In a process of its own, which has no way back but its result.
            TypeError: Something that is no number.
        """
        if self._report is None:
            raise RuntimeError(
                f"task {self.name} runs in a process of its own, which cannot report progress: "
                "split the work into more tasks, or run it in a thread"
            )
        text = None if message is None else readable(str(message))
        self._report(Progress(_portable(done), None if total is None else _portable(total), text))


def _portable(number: float) -> float:
    """Return a number that can go anywhere: larger ones than 64 bits become floats."""
    small = type(number) is int and -_INT_MAX <= number <= _INT_MAX
    return number if small else float(number)


running: ContextVar[Current | None] = ContextVar("actorq.current")


def forget_task() -> None:
    """Make no task run here, in this context."""
    if running.get(None) is not None:  # a context of its own variables takes 120 bytes more
        running.set(None)


def current() -> Current:
    """Return the task that is running here: in its coroutine, its thread or its process.

    Raises:
        RuntimeError: No task is running here.
    """
    task = running.get(None)
    if task is None:
        raise RuntimeError(_NOT_IN_A_TASK)
    return task
