"""A value to come, with any number of waiters and callbacks.

Cheaper than a `trio.Event` and a variable: one waiter costs no set, none costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule

T = TypeVar("T")

_PENDING: Any = object()


class Future(Generic[T]):
    """Set once, to a value or an error; waiting for it is woken, never polled."""

    __slots__ = ("__weakref__", "_callbacks", "_error", "_value", "_waiters")

    def __init__(self) -> None:
        self._value: T = _PENDING
        self._error: BaseException | None = None
        self._waiters: Task | dict[Task, None] | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    @property
    def done(self) -> bool:
        """Whether it is set."""
        return self._value is not _PENDING or self._error is not None

    @property
    def plain(self) -> bool:
        """Whether it is set to None."""
        return self._value is None

    # Between waking and forgetting who waited a KeyboardInterrupt would have them woken twice.
    @trio.lowlevel.enable_ki_protection
    def set(self, value: T) -> None:
        """Set the value; ignored if it is set already."""
        if self._value is _PENDING and self._error is None:
            if self._waiters is not None:
                self._wake()
            self._value = value
            if self._callbacks is not None:
                self._call_back()

    @trio.lowlevel.enable_ki_protection
    def fail(self, error: BaseException) -> None:
        """Set the error that `wait` and `peek` raise; ignored if it is set already."""
        if not self.done:
            if self._waiters is not None:
                self._wake()
            self._error = error
            if self._callbacks is not None:
                self._call_back()

    def _wake(self) -> None:
        """Wake the waiters, before anything is changed: it raises in a thread that is not ours."""
        waiters = self._waiters
        if isinstance(waiters, dict):
            for task in waiters:
                reschedule(task)
        elif waiters is not None:
            reschedule(waiters)
        self._waiters = None

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        for call in callbacks or ():
            call()

    def peek(self) -> T:
        """Return the value, or raise the error, of a future that is done."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each raise would add to it
        return self._value

    def call_when_done(self, call: Callable[[], None]) -> None:
        """Call ``call`` once it is set, or now."""
        if self.done:
            call()
        elif self._callbacks is None:
            self._callbacks = [call]
        else:
            self._callbacks.append(call)

    # Between registering and suspending a KeyboardInterrupt would leave somebody who does not wait.
    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> T:
        """Wait until it is set; return the value or raise the error. Always a checkpoint.

        Cancelling it leaves the future as it is.
        """
        if self.done:
            await trio.lowlevel.checkpoint()
        else:
            task = current_task()
            if self._waiters is None:
                self._waiters = task
            elif isinstance(self._waiters, dict):
                self._waiters[task] = None
            else:
                self._waiters = {self._waiters: None, task: None}

            def abort(_: RaiseCancelT) -> Abort:
                if isinstance(self._waiters, dict):
                    del self._waiters[task]
                else:
                    self._waiters = None
                return Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        return self.peek()
