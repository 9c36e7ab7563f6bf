"""The lines of submits that wait for room in a full queue, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from actorq.model.messages import Submit

Parked = tuple[int, Submit]
"""The connection that a submit came on, and the submit."""


class Parking:
    """One line per full queue; a submit waits in the line of one queue that had no room for it."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Parked]] = {}

    def __contains__(self, queue: str) -> bool:
        """Say whether somebody waits for ``queue``, so that nobody may overtake."""
        return queue in self._lines

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def queues(self) -> list[str]:
        """Return the queues that somebody waits for."""
        return list(self._lines)

    def park(self, queue: str, origin: int, submit: Submit) -> None:
        """Add a submit to the end of a line."""
        self._lines.setdefault(queue, deque()).append((origin, submit))

    def leave(self, queue: str, fits: Callable[[Submit], bool]) -> list[Parked]:
        """Take out and return the first submit of a line if it fits, as a list of one or none."""
        line = self._lines[queue]
        del self._lines[queue]  # or it would be in its own way
        left = [line.popleft()] if fits(line[0][1]) else []
        if line:
            self._lines[queue] = line
        return left

    def drop(self, which: Callable[[int, Submit], bool]) -> list[Parked]:
        """Take out and return every submit that ``which`` says yes to."""
        dropped = [item for line in self._lines.values() for item in line if which(*item)]
        for queue, line in list(self._lines.items()):
            self._lines[queue] = kept = deque(item for item in line if not which(*item))
            if not kept:
                del self._lines[queue]
        return dropped

    def counts(self) -> dict[str, int]:
        """Return the length of each line."""
        return {queue: len(line) for queue, line in self._lines.items()}
