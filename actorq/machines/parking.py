"""The lines of submits that wait for room in full queues, first come, first served.

A submit stands in the line of every queue that it needs room in, and gets in when it is the first
of all of them and fits. The oldest of all is the first of all of its lines, so somebody can always
get in once there is room: lines never wait for each other in a circle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from actorq.model.messages import Submit
from actorq.model.records import Record


class Parked(Struct, eq=False):
    """A submit that waits: whose it is, what of it was stored before, and the room it needs."""

    origin: int
    submit: Submit
    stored: dict[str, Record]
    needs: dict[str, int]


class Parking:
    """One line per queue that somebody waits for."""

    def __init__(self) -> None:
        self.lines: dict[str, deque[Parked]] = {}
        """By queue, oldest first; to look at, not to change."""

    def __contains__(self, queue: str) -> bool:
        """Say whether somebody waits for ``queue``, so that nobody may overtake."""
        return queue in self.lines

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def park(self, parked: Parked) -> None:
        """Add a submit to the end of its lines."""
        for queue in parked.needs:
            self.lines.setdefault(queue, deque()).append(parked)

    def leave(self, room: Callable[[str], int]) -> Parked | None:
        """Take out and return a submit that is the first of all its lines and fits, if any."""
        lines = self.lines
        for line in lines.values():
            first = line[0]
            if all(lines[q][0] is first and room(q) >= n for q, n in first.needs.items()):
                self._remove(first)
                return first
        return None

    def drop(self, which: Callable[[int, Submit], bool]) -> list[Parked]:
        """Take out and return every submit that ``which`` says yes to."""
        found = {
            id(parked): parked
            for line in self.lines.values()
            for parked in line
            if which(parked.origin, parked.submit)
        }
        for parked in found.values():
            self._remove(parked)
        return list(found.values())

    def _remove(self, parked: Parked) -> None:
        for queue in parked.needs:
            line = self.lines[queue]
            line.remove(parked)
            if not line:
                del self.lines[queue]

    def counts(self) -> dict[str, int]:
        """Return the length of each line."""
        return {queue: len(line) for queue, line in self.lines.items()}
