"""Chapter two: which tasks wait for which others, and what becomes of them.

A task comes after those of its option `after` and those whose values its arguments stand for. All
of these are live, or were stored, when it is accepted: so there are no circles. It waits until each
of them has ended; one that did not succeed, or is forgotten, ends it, unless it may run all the
same. What ends in a step is looked at when the rest of the step is done: what is cancelled as a
whole is cancelled, and does not fail for the lack of its own parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from actorq.machines.bonds import Bond
from actorq.machines.effects import Found
from actorq.machines.ending import Ending, failure
from actorq.machines.ledger import Live
from actorq.machines.states import Move
from actorq.model import messages as m
from actorq.model.feed import TaskEventKind
from actorq.model.records import Head, Record, needs_of, sources_of
from actorq.model.status import SUCCESS, WAITING, FailureKind

RESOLVE_CHUNK = 1_000
"""Ended tasks that are looked up together."""


class Depending(Ending):
    """Tasks that wait for others."""

    def pinned(self) -> AbstractSet[str]:
        """Return the ended tasks that must not be forgotten, since live ones need them."""
        return self._bonds.pinned()

    # --- beginning to wait -----------------------------------------------------------------------

    def _open_after(self, task: m.Submission, watch: int, stored: Mapping[str, Record]) -> Live:
        """Make a new task live that comes after others, all of them live or ``stored``."""
        waits = any(not _suffices(task, id, stored.get(id)) for id in sources_of(task))
        live = self._open(task, watch, waits=waits)
        if waits or task.needs:
            self._bonds.tie(live.head, stored)
        if waits:  # whether something has ended it already is seen when all are accepted
            self._bonds.loose.append(task.id)
        return live

    def _restore(self, live: Live) -> None:
        """Tie a loaded task to what it comes after, as far as that matters still.

        All records are loaded before anybody looks what the others have become.
        """
        self._bonds.tie(live.head)
        self._bonds.loose.append(live.head.id)

    def _let_go_on(self, ids: Iterable[str]) -> None:
        """Decide about revived tasks: what they come after has been revived too, or will not be."""
        for id in ids:
            bond = self._bonds.bonds.get(id)
            if bond is not None:
                bond.held = False
                self._bonds.loose.append(id)

    # --- what the others have become -------------------------------------------------------------

    def _settle(self, most: int) -> int:
        """Look at those whose sources have ended, and at what comes of that in turn.

        Returns how many more than ``most`` may be looked at in this step; what is left then is
        there for the next one.
        """
        bonds = self._bonds
        if bonds.unasked:
            ids = bonds.ask()
            for start in range(0, len(ids), RESOLVE_CHUNK):
                chunk = tuple(ids[start : start + RESOLVE_CHUNK])
                self._blind += 1
                self._out.lookup(0, m.Resolve(chunk), *chunk)
        while most > 0 and (bonds.news or bonds.loose):
            while bonds.loose and most > 0:
                most -= 1
                id = bonds.loose.popleft()
                if id in bonds.bonds:
                    self._look_at(self._live[id], bonds.bonds[id])
            if bonds.news and not bonds.loose:
                self._tell_followers(bonds.news.popleft())
        return most

    def _resolved(self, found: Found) -> None:
        """Note what the store knows of tasks that others come after; None is forgotten."""
        self._blind -= 1
        bonds = self._bonds
        for id in found.message.ids:
            source = bonds.sources.get(id)
            if source is not None and not source.over and id not in self._live:
                bonds.learn(id, found.records.get(id))

    def _tell_followers(self, id: str) -> None:
        bonds = self._bonds
        source = bonds.sources.get(id)
        if source is None or not source.over:  # nobody is left, or it has a new run
            return
        for follower in source.followers:
            bond = bonds.bonds[follower]
            if id in bond.open:
                bond.open.discard(id)
                if not bond.open or self._spoils(self._live[follower].head, id):
                    bonds.loose.append(follower)

    def _look_at(self, live: Live, bond: Bond) -> None:
        """Decide about a dependant by all that is known of its sources."""
        if bond.held or live.head.status is not WAITING:  # it has only its values to be looked up
            return
        for id in bond.ties:
            if id not in bond.open and self._spoils(live.head, id):
                self._miss(live, id)
                return
        if not bond.open:
            self._set_free(live)

    def _spoils(self, head: Head, id: str) -> bool:
        """Say whether a source that is over has ended so that the dependant cannot run.

        What was granted in an earlier run had all that it came after, even if that is forgotten.
        """
        source = self._bonds.sources[id]
        if source.good:
            return False
        if id in needs_of(head).values():
            return True
        forgiven = source.head is None and head.fence > 0
        return head.options.on_dependency_failure == "fail" and not forgiven

    def _set_free(self, live: Live) -> None:
        """Let a task go on that waits for nobody any more."""
        head = live.head
        self._bonds.released(head)
        if head.due > self._now and head.due > head.since:
            self._ledger.move(live, Move.RELEASE_EARLY)
        else:
            self._ledger.move(live, Move.RELEASE)
            if self._news.any:
                self._news.publish(TaskEventKind.DUE, live.head, self._now)
            self._make_ready(live)
        self._arm(live)

    def _miss(self, live: Live, id: str) -> None:
        """End a task because of one that it comes after."""
        if self._doomed and self._cancel_if_doomed(live.head.id):
            return
        source = self._bonds.sources.get(id)
        over = None if source is None else source.head
        needs = id in needs_of(live.head).values()
        what = "it needs the result of" if needs else "it comes after"
        if over is None:
            fate = f"task {id}, of which nothing is left: it has expired or was discarded"
        else:
            fate = f"task {over.name} ({id}), which ended as {over.status}"
        self._end(live, Move.DEPEND, failure(FailureKind.DEPENDENCY, f"{what} {fate}"))

    def _lacks_value(self, live: Live) -> bool:
        """End a pending task of which a value was lost, and say whether that was so."""
        id = self._bonds.lacks(live.head)
        if id is None:
            return False
        self._ready.add(live)  # as all that is pending
        self._miss(live, id)
        return True


def _suffices(task: m.Submission, id: str, record: Record | None) -> bool:
    """Say whether a task has ended, and so that another one may run that comes after it."""
    if record is None:
        return False
    return record.head.status is SUCCESS or (
        task.options.on_dependency_failure == "run" and id not in needs_of(task).values()
    )
