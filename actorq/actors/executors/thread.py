"""Runs plain functions in threads. A thread cannot be stopped: it is asked, then abandoned."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import trio

from actorq.actors.executors.current import Current
from actorq.model.results import Progress


class Abandoned(Exception):
    """The thread did not end within its grace; ``ended`` is set when it does."""

    def __init__(self, ended: trio.Event) -> None:
        super().__init__()
        self.ended = ended


async def run_in_thread(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    current: Current,
    grace: Callable[[], float],
) -> Any:
    """Call ``function`` in a thread and return or raise its outcome.

    When cancelled, it sets the flag of ``current`` and waits ``grace()`` seconds more. A thread
    that ends in that time has its outcome kept; one that does not is left running.

    Raises:
        Abandoned: The grace is over and the thread still runs.
    """
    ended = trio.Event()
    token = trio.lowlevel.current_trio_token()
    outcome: list[Any] = []

    def call() -> None:
        try:
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError(
                    f"{current.name} returned a coroutine: a function that calls an async one "
                    "must be an 'async def' itself"
                )
            outcome.append((value, None))
        except BaseException as error:  # noqa: BLE001 - raised again, in the loop
            outcome.append((None, error))
        finally:
            with suppress(trio.RunFinishedError):  # it has outlived its program's loop
                token.run_sync_soon(ended.set)

    # From here on the thread is sure to start, and so `ended` to be set: slots bound the threads,
    # so the limiter has no bound and never makes anybody wait.
    await trio.lowlevel.checkpoint_if_cancelled()
    limiter = trio.CapacityLimiter(math.inf)
    try:
        await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
    except trio.Cancelled:
        current.cancel()
        with trio.move_on_after(grace(), shield=True):
            await ended.wait()
        if not ended.is_set():
            raise Abandoned(ended) from None
        if not outcome or outcome[0][1] is not None:
            raise
    value, error = outcome.pop()
    if error is not None:
        raise error
    return value


Key = tuple[str, int]


class ProgressFromThreads:
    """Hands the newest progress of each attempt to the loop; a burst of reports becomes one."""

    def __init__(self, deliver: Callable[[Key, Progress], None]) -> None:
        self._deliver = deliver
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._newest: dict[Key, Progress] = {}

    def report(self, key: Key, progress: Progress) -> None:
        """Report, from any thread; in the loop's own it is delivered at once."""
        if threading.get_ident() == self._thread:
            self._deliver(key, progress)
            return
        with self._lock:
            under_way = bool(self._newest)
            self._newest[key] = progress
        if not under_way:
            with suppress(trio.RunFinishedError):  # an abandoned thread has outlived the loop
                self._token.run_sync_soon(self._flush)

    def _flush(self) -> None:
        with self._lock:
            newest, self._newest = self._newest, {}
        for key, progress in newest.items():
            self._deliver(key, progress)
