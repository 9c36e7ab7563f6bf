"""Which live tasks come after which others, and the values that they need of those.

The book-keeping under the rules in `dependencies`: it keeps its tables consistent, and decides
nothing. A *dependant* is a live task, a *source* what it comes after, live or ended. A source that
has ended is *over* once it is known how; it is pinned for as long as a dependant holds on to it: in
the store, and, where its value is needed, here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from msgspec import Struct

from actorq.model.records import Head, Output, Record, needs_of, sources_of
from actorq.model.status import SUCCESS, WAITING

_NOTHING: Mapping[str, Record] = {}


class Source(Struct):
    """A task that live ones come after.

    Attributes:
        followers: Their ids, in the order in which they came.
        wanted: Whether its value is kept.
        over: Whether it has ended, and it is known how.
        head: What it was at its end; None if there is no such record any more.
    """

    followers: dict[str, None]
    wanted: bool = False
    over: bool = False
    head: Head | None = None
    output: Output | None = None

    @property
    def good(self) -> bool:
        """Whether it has succeeded, though its value may not be known yet."""
        return self.head is not None and self.head.status is SUCCESS


class Bond(Struct):
    """What ties a live task to its sources.

    Attributes:
        ties: The sources that it holds on to.
        open: Those that are not over.
        held: Whether nothing may be decided yet: a bulk verb may still change its sources.
    """

    ties: tuple[str, ...]
    open: set[str]
    held: bool = False


class Bonds:
    """The tables; empty if no live task comes after another one."""

    def __init__(self, live: Mapping[str, object]) -> None:
        self._live = live
        self.bonds: dict[str, Bond] = {}
        """By the id of the dependant; to look at, not to change, as all the others."""
        self.sources: dict[str, Source] = {}
        self.news: deque[str] = deque()
        """The sources that are over since somebody looked."""
        self.loose: deque[str] = deque()
        """The dependants that must be looked at as a whole."""
        self.unasked: dict[str, None] = {}
        """The sources that are not live, as far as is known, and of which nothing else is."""
        self._pins: dict[str, None] = {}

    def tables(self) -> dict[str, int]:
        """Return the size of every table."""
        return {
            "bonds": len(self.bonds),
            "sources": len(self.sources),
            "pins": len(self._pins),
            "news": len(self.news) + len(self.loose) + len(self.unasked),
        }

    def pinned(self) -> AbstractSet[str]:
        """Return the sources that are not live, as they are now and will be."""
        return self._pins.keys()

    def tie(
        self,
        head: Head,
        records: Mapping[str, Record] = _NOTHING,
        *,
        held: bool = False,
    ) -> Bond:
        """Bind a live task to its sources; ``records`` has those that are known to have ended."""
        needs = needs_of(head)
        wanted = dict.fromkeys(needs.values())
        ties = sources_of(head) if head.status is WAITING else tuple(wanted)
        bond = self.bonds[head.id] = Bond(ties, set(), held)
        for id in ties:
            source = self.sources.get(id)
            if source is None:
                source = self.sources[id] = Source({})
                if id not in self._live:
                    self._pins[id] = None
            source.followers[head.id] = None
            if id in wanted and not source.wanted:
                source.wanted = True
                if source.good:  # but its value was not kept
                    source.over = False
            if not source.over and id not in self._live:
                if id in records:
                    self.learn(id, records[id])
                else:
                    self.unasked[id] = None
            if not source.over:
                bond.open.add(id)
        return bond

    def learn(self, id: str, record: Record | None) -> None:
        """Note how a source has ended; None: it is forgotten."""
        source = self.sources[id]
        source.over = True
        source.head = None if record is None else record.head
        source.output = record.output if record is not None and source.wanted else None
        self.unasked.pop(id, None)
        self.news.append(id)  # whoever learns it, others may wait for it

    def ask(self) -> list[str]:
        """Return the sources that must be looked up, each once."""
        ids: list[str] = []
        for id in self.unasked:
            source = self.sources.get(id)
            if source is not None and not source.over:
                if id in self._live:  # it was loaded after those that come after it
                    self._pins.pop(id, None)
                else:
                    ids.append(id)
        self.unasked.clear()
        return ids

    def ended(self, head: Head, output: Output | None) -> None:
        """Note that a task has ended, which may be a source, and a dependant."""
        id = head.id
        source = self.sources.get(id)
        if source is not None:
            self._pins[id] = None
            self.learn(id, Record(head, None, output))
        bond = self.bonds.pop(id, None)
        if bond is not None:
            self._let_go(id, bond.ties)

    def reopened(self, id: str) -> None:
        """Note that an ended task has a new run; whoever waits comes after that one too."""
        source = self.sources.get(id)
        if source is None:
            return
        self._pins.pop(id, None)
        source.over, source.head, source.output = False, None, None
        for follower in source.followers:
            self.bonds[follower].open.add(id)

    def released(self, head: Head) -> None:
        """Let a dependant go from all but those whose values it needs."""
        bond = self.bonds[head.id]
        needs = dict.fromkeys(needs_of(head).values())
        self._let_go(head.id, [id for id in bond.ties if id not in needs])
        bond.ties = tuple(needs)
        if not needs:
            del self.bonds[head.id]

    def _let_go(self, id: str, ties: Iterable[str]) -> None:
        for tie in ties:
            followers = self.sources[tie].followers
            del followers[id]
            if not followers:
                del self.sources[tie]
                self._pins.pop(tie, None)

    def lacks(self, head: Head) -> str | None:
        """Return the first source whose value a task needs and that has none."""
        for id in needs_of(head).values():
            source = self.sources.get(id)
            if source is None or not (source.over and source.good):
                return id
        return None

    def inputs(self, head: Head) -> dict[str, Any]:
        """Return the values that a task needs, by the names that its call has for them."""
        inputs = {}
        for name, id in needs_of(head).items():
            output = self.sources[id].output
            inputs[name] = None if output is None else output.value
        return inputs
