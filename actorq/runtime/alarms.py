"""Plain calls at a time, all made by one coroutine; trio has no timers but sleeping tasks."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from actorq.machines.timers import Timers


class Alarms:
    """One alarm per key, on trio's clock; `run` it while any may be due."""

    def __init__(self) -> None:
        self._timers = Timers()
        self._calls: dict[str, Callable[[], None]] = {}
        self._sleep: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def set(self, key: str, when: float, call: Callable[[], None]) -> None:
        """Have ``call`` made at ``when``, in place of the alarm that ``key`` has, if any."""
        self._timers.set(key, when)
        self._calls[key] = call
        if self._sleep is not None and when < self._sleep.deadline:
            self._sleep.deadline = when

    def clear(self, key: str) -> None:
        """Forget the alarm of ``key``, if it has one."""
        if self._calls.pop(key, None) is not None:
            self._timers.clear(key)

    # Never where a KeyboardInterrupt should arrive: an alarm would be lost, and all others with it.
    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Make the calls until cancelled; they may neither wait nor raise."""
        while True:
            when = self._timers.next()
            with trio.CancelScope(deadline=inf if when is None else when) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None
            # One by one: a call may set and clear others that are due.
            now = trio.current_time()
            while (key := self._timers.pop(now)) is not None:
                self._calls.pop(key)()
