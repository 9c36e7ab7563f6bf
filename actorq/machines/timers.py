"""One alarm per key, the earliest first.

Decides nothing; it only remembers. An alarm that is moved or cleared leaves a dead entry in the
heap; dead entries never outnumber the live ones by more than a constant, so tasks that end long
before their deadline do not pile up.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

_SLACK = 64


class Timers:
    """A set of (key, time), with the earliest time at hand."""

    __slots__ = ("_heap", "armed")

    def __init__(self) -> None:
        self.armed: dict[str, float] = {}
        """Every key and its time; to look at, not to change."""
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self.armed)

    def set(self, key: str, when: float) -> None:
        """Set the alarm of ``key`` to ``when``, in place of any that it has."""
        if self.armed.get(key) != when:
            self.armed[key] = when
            heappush(self._heap, (when, key))
            self._compact()

    def clear(self, key: str) -> None:
        """Forget the alarm of ``key``, if it has one."""
        if self.armed.pop(key, None) is not None:
            self._compact()

    def next(self) -> float | None:
        """Return the earliest time, or None."""
        heap, when = self._heap, self.armed
        while heap:
            at, key = heap[0]
            if when.get(key) == at:
                return at
            heappop(heap)
        return None

    def due(self, now: float) -> list[str]:
        """Remove and return the keys whose time is ``now`` or earlier, earliest first."""
        keys: list[str] = []
        while (key := self.pop(now)) is not None:
            keys.append(key)
        return keys

    def pop(self, now: float) -> str | None:
        """Remove and return the key with the earliest time, if that is ``now`` or earlier."""
        at = self.next()
        if at is None or at > now:
            return None
        key = heappop(self._heap)[1]
        del self.armed[key]
        return key

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self.armed) + _SLACK:
            self._heap = [(at, key) for key, at in self.armed.items()]
            heapify(self._heap)
