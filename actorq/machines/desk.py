"""Questions about tasks, and verbs on many of them at once.

Live tasks are in the ledger, ended ones only in the store: whatever the ledger does not know is
looked up there (`Lookup`, `Search`) and the question goes on with the answer. In between a task may
have come to life or ended, so an answer is always checked against the ledger first.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from msgspec.structs import replace

from actorq.errors import TaskNotFound
from actorq.machines.effects import Outbox, Searched
from actorq.machines.fleet import Fleet
from actorq.machines.ledger import Ledger, snapshot
from actorq.model import messages as m
from actorq.model.records import Cancel, Head, Record
from actorq.model.status import CANCELLED, FAILURE, PENDING

BULK_CHUNK = 1_000
"""How many tasks a bulk verb looks at for each commit."""

_REVIVABLE = frozenset({FAILURE, CANCELLED})


class Desk:
    """Answers `Inspect`, `Watch`, `Find` and `Bulk`."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        out: Outbox,
        cancel: Callable[[str, Cancel, float], None],
        revive: Callable[[Record], None],
        discard: Callable[[Record], None],
        pinned: Container[str],
        began: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._out = out
        self._cancel = cancel
        self._revive = revive
        self._discard = discard
        self._pinned = pinned
        self._began = began

    def inspect(self, origin: int, inspect: m.Inspect) -> None:
        """Answer with what is known of one task."""
        live = self._ledger.live.get(inspect.id)
        if live is None:
            self._out.lookup(origin, inspect, inspect.id)
            return
        self._out.reply(
            origin, inspect, replace(snapshot(live), unknown=self._is_unknown(live.head))
        )

    def _is_unknown(self, head: Head) -> bool:
        return head.status is PENDING and not self._fleet.knows(head.name)

    def watch(self, origin: int, watch: m.Watch) -> None:
        """Have a client told how these tasks end, those that have ended included."""
        unknown = self._watch_live(origin, watch)
        if unknown:
            self._out.lookup(origin, watch, *unknown)
        else:
            self._out.reply(origin, watch, ())

    def _watch_live(self, origin: int, watch: m.Watch) -> list[str]:
        unknown = []
        for id in watch.ids:
            if (live := self._ledger.live.get(id)) is not None:
                self._ledger.watch(live, origin)
            else:
                unknown.append(id)
        return unknown

    def found(self, origin: int, message: Any, records: dict[str, Record]) -> None:
        """Answer a question with what the store has of the tasks that were not live."""
        match message:
            case m.Watch():
                unknown = self._watch_live(origin, message)
                for id in unknown:
                    if id in records:
                        self._out.send(origin, m.Outcome(records[id].head, records[id].output))
                missing = tuple(id for id in unknown if id not in records)
                self._out.reply(origin, message, missing)
            case m.Inspect() if message.id in self._ledger.live:
                self.inspect(origin, message)
            case m.Inspect() | m.CancelTask() if message.id in records:
                record = records[message.id]
                self._out.reply(origin, message, m.Snapshot(record.head, record.output, None))
            case m.Inspect() | m.CancelTask():
                self._out.reply(origin, message, error=TaskNotFound(message.id))
            case _:
                raise AssertionError(f"nothing looks up records for {message!r}")

    def find(self, origin: int, find: m.Find) -> None:
        """Answer with a page of tasks."""
        self._out.search(origin, find, find.filter, find.cursor, find.limit)

    def bulk(self, origin: int, bulk: m.Bulk) -> None:
        """Do something to every task that fits."""
        self._out.search(origin, bulk, bulk.filter, None, BULK_CHUNK)

    def searched(self, origin: int, searched: Searched) -> None:
        """Answer `Find`, or act on one chunk of a `Bulk` and go on with the next."""
        message = searched.message
        if isinstance(message, m.Find):
            records = [
                m.Snapshot(r.head, r.output, None, self._is_unknown(r.head))
                for r in searched.records
            ]
            found = m.FoundPage(message, records, searched.next, searched.scanned)
            self._out.reply(origin, message, found)
            return
        total = searched.total + sum(self._act(message, record) for record in searched.records)
        if searched.next is None:
            self._out.reply(origin, message, total)
        else:
            self._out.search(origin, message, message.filter, searched.next, BULK_CHUNK, total)

    def _act(self, bulk: m.Bulk, record: Record) -> bool:
        id, status = record.head.id, record.head.status
        live = self._ledger.live.get(id)
        match bulk.verb:
            case "cancel":
                fits = live is not None and bulk.filter.matches(live.head)
                if fits and not bulk.dry_run:
                    self._cancel(id, bulk.cancel or Cancel("user"), bulk.grace)
            case "retry":
                fits = live is None and status in _REVIVABLE and not self._is_done(bulk, record)
                # (Its key is another one's only if its time was over, but for the store's delay.)
                fits = fits and record.head.options.key not in self._ledger.keys
                if fits and not bulk.dry_run:
                    self._revive(record)
            case "discard":
                fits = live is None and status.terminal and id not in self._pinned
                if fits and not bulk.dry_run:
                    self._discard(record)
        return fits

    def _is_done(self, bulk: m.Bulk, record: Record) -> bool:
        """Say whether a retry that is said again may have been what has started this run."""
        ended = record.head.completed_at
        return bulk.resent and ended is not None and ended >= self._began()
