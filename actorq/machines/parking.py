"""The submits that are not decided yet: they wait for room in full queues, or for the store.

A submit stands in the line of every queue that it needs room in, first come, first served: it gets
in when it is the first of all of them and fits. The oldest of all is the first of all of its lines,
so somebody can always get in once there is room: lines never wait for each other in a circle.

A submit about which the store must be asked is *asked* until that has answered; one that waited in
lines is so when its turn has come, and keeps its places meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from actorq.model.messages import Submit

Key = tuple[int, int]


class Parked(Struct, eq=False):
    """A submit that waits: whose it is, the room it needs, and whether the store must be asked."""

    origin: int
    submit: Submit
    needs: dict[str, int] = {}
    asks: bool = False

    @property
    def key(self) -> Key:
        """The connection and the number of the request."""
        return self.origin, self.submit.request


class Parking:
    """One line per queue that somebody waits for, and those about which the store is asked."""

    def __init__(self) -> None:
        self.lines: dict[str, OrderedDict[Key, Parked]] = {}
        """By queue, oldest first; to look at, not to change."""
        self.asked: dict[Key, Parked] = {}
        """Likewise."""
        self._of: dict[int, set[Key]] = {}
        """Those in lines, by their connection."""

    def __contains__(self, queue: str) -> bool:
        """Say whether somebody waits for ``queue``, so that nobody may overtake."""
        return queue in self.lines

    def __len__(self) -> int:
        return sum(map(len, self.lines.values())) + len(self.asked)

    def park(self, parked: Parked) -> None:
        """Add a submit to the end of its lines."""
        self._of.setdefault(parked.origin, set()).add(parked.key)
        for queue in parked.needs:
            self.lines.setdefault(queue, OrderedDict())[parked.key] = parked

    def count(self, origin: int) -> int:
        """Return how many submits of one connection wait in lines."""
        return len(self._of.get(origin, ()))

    def next(self, room: Callable[[str], int]) -> Parked | None:
        """Return a submit that is the first of all its lines and fits, if there is one."""
        lines = self.lines
        for line in lines.values():
            first = next(iter(line.values()))
            if first.key not in self.asked and self.fits(first, room):
                return first
        return None

    def fits(self, parked: Parked, room: Callable[[str], int]) -> bool:
        """Say whether a submit is the first of all its lines, and there is room for it."""
        return all(
            next(iter(self.lines[queue].values())) is parked and room(queue) >= count
            for queue, count in parked.needs.items()
        )

    def ask(self, parked: Parked) -> None:
        """Note that the store is asked about a submit, which may stand in lines."""
        self.asked[parked.key] = parked

    def answer(self, key: Key) -> Parked | None:
        """Return the submit about which the store has answered, unless it was taken out since."""
        return self.asked.pop(key, None)

    def withdraw(self, origin: int, request: int) -> None:
        """Take out one submit, if it is here."""
        key = (origin, request)
        parked = self.asked.get(key)
        for line in self.lines.values():
            parked = parked or line.get(key)
        if parked is not None:
            self.remove(parked)

    def drop(self, which: Callable[[int, Submit], bool]) -> list[Parked]:
        """Take out and return every submit that ``which`` says yes to."""
        everywhere = [self.asked, *self.lines.values()]
        found = {
            key: parked
            for some in everywhere
            for key, parked in some.items()
            if which(parked.origin, parked.submit)
        }
        for parked in found.values():
            self.remove(parked)
        return list(found.values())

    def remove(self, parked: Parked) -> None:
        """Take out a submit that is here."""
        self.asked.pop(parked.key, None)
        others = self._of.get(parked.origin)
        if others is not None:
            others.discard(parked.key)
            if not others:
                del self._of[parked.origin]
        for queue in parked.needs:
            line = self.lines[queue]
            del line[parked.key]
            if not line:
                del self.lines[queue]

    def counts(self) -> dict[str, int]:
        """Return the length of each line."""
        return {queue: len(line) for queue, line in self.lines.items()}
