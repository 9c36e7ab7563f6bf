"""How often a supervisor lets its children crash, and how long it waits before each restart.

Erlang/OTP's rule: a supervisor gives up at *more than* ``intensity`` restarts within ``period``
seconds, counted over all of its children in a sliding window. Pure: time and jitter are arguments.
"""

from __future__ import annotations

from collections import deque

import attrs

from actorq.model.checks import number


def _first(value: float) -> float:
    return number("Backoff: first", value)


def _most(value: float) -> float:
    return number("Backoff: most", value)


def _jitter(value: float) -> float:
    return number("Backoff: jitter", value, most=1.0)


def _reset(value: float) -> float:
    return number("Backoff: reset", value)


@attrs.frozen
class Backoff:
    """Waits between restarts: doubling from ``first`` to ``most`` seconds, back after ``reset``.

    Each is moved by up to ± ``jitter`` of itself, so that many systems that lost the same thing do
    not come back at the same moment.

    Attributes:
        first: Seconds before the first restart in a row.
        most: The longest wait, in seconds, before jitter.
        jitter: The share of a wait that is random, 0 to 1.
        reset: Seconds that an actor must have run for its next crash to count as the first.
    """

    first: float = attrs.field(default=0.1, converter=_first)
    most: float = attrs.field(default=30.0, converter=_most)
    jitter: float = attrs.field(default=0.1, converter=_jitter)
    reset: float = attrs.field(default=60.0, converter=_reset)

    def wait(self, streak: int, spread: float) -> float:
        """Return the seconds to wait before restart number ``streak``; ``spread`` is in -1..1."""
        base = min(self.first * 2.0 ** min(streak - 1, 64), self.most)
        return base * (1.0 + self.jitter * spread)


class RestartBudget:
    """A sliding window of crashes."""

    __slots__ = ("_crashes", "intensity", "period")

    def __init__(self, intensity: int = 3, period: float = 5.0) -> None:
        self.intensity: int = intensity
        self.period: float = period
        self._crashes: deque[tuple[float, BaseException]] = deque()

    def spend(self, now: float, failure: BaseException) -> bool:
        """Count a crash; return whether there may be a restart."""
        self._crashes.append((now, failure))
        while self._crashes[0][0] <= now - self.period:
            self._crashes.popleft()
        return len(self._crashes) <= self.intensity

    @property
    def failures(self) -> tuple[BaseException, ...]:
        """The crashes in the window, oldest first."""
        return tuple(failure for _, failure in self._crashes)


class Streak:
    """How many restarts in a row one child has had, for its `Backoff`."""

    __slots__ = ("_backoff", "_count")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._count = 0

    def next(self, ran_for: float, spread: float) -> float:
        """Return the wait before the restart of a child that had run for ``ran_for`` seconds."""
        if ran_for >= self._backoff.reset:
            self._count = 0
        self._count += 1
        return self._backoff.wait(self._count, spread)
