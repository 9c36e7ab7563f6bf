"""How many tasks of one limit's key run, and how many have started lately: may one more?

A slot belongs to a grant: whatever ends the grant frees it, and nothing else does. A start is a
grant, at the time at which the owner makes it; starts are kept in few *buckets* that are never
earlier than what is in them, so that a window never holds more than it may, and sometimes less.

What waits for a key is somebody else's business: it is remembered here, and named when it may have
another look.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from math import inf
from typing import Generic, TypeVar

from actorq.machines.timers import Timers
from actorq.model.options import Limit
from actorq.model.records import Note, Window

BUCKETS = 16
"""Buckets of one key's window: that many starts are kept exactly, more of them roughly."""

Starts = list[tuple[float, int]]
"""When how many tasks were started, the oldest first."""

W = TypeVar("W", bound=Hashable)


class _Key(Generic[W]):
    __slots__ = ("noted", "per", "running", "starts", "waiting")

    def __init__(self) -> None:
        self.running: dict[str, None] = {}
        self.waiting: dict[W, Limit] = {}
        self.starts: Starts = []
        self.per = 0.0
        """For how long a start matters."""
        self.noted = False
        """Whether the store has a note of the starts."""

    def full(self, limit: Limit) -> bool:
        return limit.concurrency is not None and len(self.running) >= limit.concurrency


class Gates(Generic[W]):
    """The slots and the window of each key of which anything runs, waits, or has started lately.

    The limit decides by its own numbers, on what is known of its key.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[str, _Key[W]] = {}
        self.alarms: Timers = Timers()
        """By key: when time alone may change something."""
        self.changed: dict[str, None] = {}
        """Keys whose window is not what the store was told last."""

    def __len__(self) -> int:
        return len(self._keys)

    # --- may one more start? ---------------------------------------------------------------------

    def closed(self, limit: Limit) -> bool:
        """Say whether no task with this limit may start now."""
        key = self._keys.get(limit.key)
        if key is None:
            return False
        return key.full(limit) or self._opens(key, limit) > self._clock()

    def shut(self, limit: Limit) -> bool:
        """Say whether its rate alone is a reason for that."""
        return self.opens(limit) > self._clock()

    def opens(self, limit: Limit) -> float:
        """Return when the window lets one more start; a time that has passed if it does now."""
        key = self._keys.get(limit.key)
        return -inf if key is None else self._opens(key, limit)

    def holders(self, limit: Limit) -> list[str]:
        """Return the ids of what has all slots of the limit, or nothing if one of them is free."""
        key = self._keys.get(limit.key)
        return list(key.running) if key is not None and key.full(limit) else []

    def _opens(self, key: _Key[W], limit: Limit) -> float:
        if limit.rate is None:
            return -inf
        starts = key.starts
        if not starts:
            return -inf
        self._check_clock(limit.key, key)
        key.per = max(key.per, limit.per)
        total = 0
        for at, count in reversed(starts):
            total += count
            if total >= limit.rate:
                return at + limit.per
        return -inf

    def _check_clock(self, name: str, key: _Key[W]) -> None:
        """Nothing starts in the future: if the clock was set back, that has started by now."""
        now = self._clock()
        if not key.starts or key.starts[-1][0] <= now:
            return
        late = sum(count for at, count in key.starts if at > now)
        key.starts[:] = [start for start in key.starts if start[0] <= now]
        add_start(key.starts, now, late)
        self.changed[name] = None

    # --- grants ----------------------------------------------------------------------------------

    def enter(self, limit: Limit, id: str) -> None:
        """Note a grant: it has a slot until it leaves, and is a start."""
        self.hold(limit, id)
        if limit.rate is not None:
            key, now = self._keys[limit.key], self._clock()
            self._drop_what_is_over(key, now)
            known = key.starts or key.waiting
            key.per = max(key.per, limit.per) if known else limit.per
            add_start(key.starts, now)
            self.changed[limit.key] = None

    def hold(self, limit: Limit, id: str) -> None:
        """Note a grant of an earlier owner, of which the store has the start."""
        key = self._keys.get(limit.key)
        if key is None:
            key = self._keys[limit.key] = _Key()
        key.running[id] = None

    def leave(self, limit: Limit, id: str) -> list[W]:
        """Note the end of a grant; return what may have another look."""
        key = self._keys[limit.key]
        del key.running[id]
        return self._look(limit.key, key)

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, limit: Limit, waiter: W) -> None:
        """Remember somebody until the limit, which is closed, is open."""
        key = self._keys[limit.key]
        key.waiting[waiter] = limit
        if limit.rate is not None:
            key.per = max(key.per, limit.per)
        self._arm(limit, key)

    def forget(self, limit: Limit, waiter: W) -> None:
        """Forget somebody who waits."""
        key = self._keys[limit.key]
        del key.waiting[waiter]
        self._settle(limit.key, key)

    def due(self) -> list[W]:
        """Return what may have another look since time has passed."""
        opened: list[W] = []
        for name in self.alarms.due(self._clock()):
            opened += self._look(name, self._keys[name])
        return opened

    def _look(self, name: str, key: _Key[W]) -> list[W]:
        self._check_clock(name, key)
        opened = [waiter for waiter, limit in key.waiting.items() if not self.closed(limit)]
        for waiter in opened:
            del key.waiting[waiter]
        for limit in key.waiting.values():
            self._arm(limit, key)
        self._settle(name, key)
        return opened

    def _arm(self, limit: Limit, key: _Key[W]) -> None:
        """Have a closed limit looked at when its window opens, unless it waits for a slot first."""
        if not key.full(limit):
            opens = self._opens(key, limit)
            if opens < self.alarms.armed.get(limit.key, inf):
                self.alarms.set(limit.key, opens)

    def _settle(self, name: str, key: _Key[W]) -> None:
        """Forget a key of which nothing runs or waits, once its starts do not matter any more."""
        if key.running or key.waiting:
            return
        self._drop_what_is_over(key, self._clock())
        if key.starts:
            self.alarms.set(name, key.starts[-1][0] + key.per)
            return
        del self._keys[name]
        self.alarms.clear(name)
        if key.noted:
            self.changed[name] = None

    def _drop_what_is_over(self, key: _Key[W], now: float) -> None:
        starts = key.starts
        if starts and starts[0][0] + key.per <= now:
            starts[:] = [start for start in starts if start[0] + key.per > now]

    # --- the store -------------------------------------------------------------------------------

    def load(self, name: str, window: Window) -> None:
        """Take in what an earlier owner has noted; whether it still matters, the clock will say."""
        key = self._keys.setdefault(name, _Key())
        key.starts, key.per, key.noted = list(window.starts), window.per, True
        self.alarms.set(name, 0.0)

    def notes(self) -> list[Note]:
        """Return, and forget, what the store must be told."""
        notes = []
        for name in self.changed:
            key = self._keys.get(name)
            if key is None or not key.starts:
                notes.append(Note("limit", name, None))
            else:
                key.noted = True
                notes.append(Note("limit", name, Window(tuple(key.starts), key.per)))
        self.changed.clear()
        return notes

    def shift(self, seconds: float) -> None:
        """Move all windows on with the clock, which has jumped or stood still for so long.

        Whichever it was: fewer start than might, and never more.
        """
        for name, key in self._keys.items():
            if key.starts:
                key.starts[:] = [(at + seconds, count) for at, count in key.starts]
                self.changed[name] = None


def add_start(starts: Starts, now: float, count: int = 1) -> None:
    """Add starts of this moment; to keep them few, have some count as later than they were."""
    if starts and starts[-1][0] == now:
        starts[-1] = now, starts[-1][1] + count
        return
    starts.append((now, count))
    if len(starts) > BUCKETS:
        cost = [(after - at) * count for (at, count), (after, _) in pairwise(starts)]
        cheapest = cost.index(min(cost))
        (_, count), (after, more) = starts[cheapest : cheapest + 2]
        starts[cheapest : cheapest + 2] = [(after, count + more)]
