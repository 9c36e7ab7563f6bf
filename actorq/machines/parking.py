"""The lines of submits that wait for room in full queues, first come, first served.

A submit stands in the line of every queue that it needs room in, and gets in when it is the first
of all of them and fits. The oldest of all is the first of all of its lines, so somebody can always
get in once there is room: lines never wait for each other in a circle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from actorq.model.messages import Submit
from actorq.model.records import Record

Key = tuple[int, int]


class Parked(Struct, eq=False):
    """A submit that waits: whose it is, what of it was stored before, and the room it needs."""

    origin: int
    submit: Submit
    stored: dict[str, Record]
    needs: dict[str, int]

    @property
    def key(self) -> Key:
        """The connection and the number of the request."""
        return self.origin, self.submit.request


class Parking:
    """One line per queue that somebody waits for."""

    def __init__(self) -> None:
        self.lines: dict[str, OrderedDict[Key, Parked]] = {}
        """By queue, oldest first; to look at, not to change."""

    def __contains__(self, queue: str) -> bool:
        """Say whether somebody waits for ``queue``, so that nobody may overtake."""
        return queue in self.lines

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def park(self, parked: Parked) -> None:
        """Add a submit to the end of its lines."""
        for queue in parked.needs:
            self.lines.setdefault(queue, OrderedDict())[parked.key] = parked

    def count(self, origin: int) -> int:
        """Return how many submits of one connection wait."""
        return len({key for line in self.lines.values() for key in line if key[0] == origin})

    def leave(self, room: Callable[[str], int]) -> Parked | None:
        """Take out and return a submit that is the first of all its lines and fits, if any."""
        lines = self.lines
        for line in lines.values():
            first = _first(line)
            if all(_first(lines[q]) is first and room(q) >= n for q, n in first.needs.items()):
                self._remove(first)
                return first
        return None

    def withdraw(self, origin: int, request: int) -> None:
        """Take out one submit, if it is here."""
        for line in self.lines.values():
            if (parked := line.get((origin, request))) is not None:
                self._remove(parked)
                return

    def drop(self, which: Callable[[int, Submit], bool]) -> list[Parked]:
        """Take out and return every submit that ``which`` says yes to."""
        found = {
            key: parked
            for line in self.lines.values()
            for key, parked in line.items()
            if which(parked.origin, parked.submit)
        }
        for parked in found.values():
            self._remove(parked)
        return list(found.values())

    def _remove(self, parked: Parked) -> None:
        for queue in parked.needs:
            line = self.lines[queue]
            del line[parked.key]
            if not line:
                del self.lines[queue]

    def counts(self) -> dict[str, int]:
        """Return the length of each line."""
        return {queue: len(line) for queue, line in self.lines.items()}


def _first(line: OrderedDict[Key, Parked]) -> Parked:
    return next(iter(line.values()))
