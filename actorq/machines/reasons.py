"""Why a task is not running, in words for people.

It looks at the tables of the rule book by the rules that `granting` goes by, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from actorq.errors import TaskNotFound
from actorq.machines.effects import Outbox
from actorq.machines.fleet import Fleet
from actorq.machines.ledger import Ledger, Live
from actorq.machines.parking import Parking
from actorq.machines.ready import Ready, has_last_chance
from actorq.model import messages as m
from actorq.model.options import Limit
from actorq.model.outcomes import reason_of
from actorq.model.records import Head, Output, Record, sources_of
from actorq.model.schedules import moment
from actorq.model.status import RUNNING, SCHEDULED, SUCCESS, WAITING

_NAMED_MAX = 3


class Reasons:
    """Answers `Why`."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        ready: Ready[Live],
        parking: Parking,
        out: Outbox,
        closing: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._ready = ready
        self._parking = parking
        self._out = out
        self._closing = closing

    def why(self, origin: int, why: m.Why) -> None:
        """Answer, or have the store asked for a task that is not live."""
        live = self._ledger.live.get(why.id)
        if live is not None:
            self._out.reply(origin, why, self._of(live))
        elif (what := self._parked(why.id)) is not None:
            self._out.reply(origin, why, f"not accepted yet: its submit waits for {what}")
        else:
            self._out.lookup(origin, why, why.id)

    def found(self, origin: int, why: m.Why, records: dict[str, Record]) -> None:
        """Answer with what the store has; meanwhile the task may have come to life."""
        if why.id in self._ledger.live:
            self.why(origin, why)
        elif (record := records.get(why.id)) is not None:
            self._out.reply(origin, why, _end(record.head, record.output))
        else:
            self._out.reply(origin, why, error=TaskNotFound(why.id))

    def _parked(self, id: str) -> str | None:
        """Return what the submit of a task waits for that is not accepted yet."""
        for queue, line in self._parking.lines.items():
            if any(task.id == id for parked in line.values() for task in parked.submit.tasks):
                return f"room in queue {queue!r} (max_pending)"
        asked = self._parking.asked.values()
        if any(task.id == id for parked in asked for task in parked.submit.tasks):
            return "the store, which is asked about its key or what it comes after"
        return None

    def _of(self, live: Live) -> str:
        head = live.head
        if head.status is SCHEDULED:
            after = f", after attempt {head.attempts}" if head.attempts else ""
            return f"scheduled: it is due at {_moment(head.due)}{after}"
        if head.status is WAITING:
            return f"waiting: {self._needs(head)}"
        if head.status is RUNNING:
            return f"running: {self._run(live)}"
        return f"pending: {'; '.join(self._obstacles(head))}"

    def _needs(self, head: Head) -> str:
        live = self._ledger.live
        needs = [f"{id} ({live[id].head.status})" for id in sources_of(head) if id in live]
        if not needs:
            return "the tasks that it comes after have ended; the store is asked how"
        return f"it comes after {_several('task', needs)}"

    def _run(self, live: Live) -> str:
        head, run = live.head, live.run
        said = f"it was granted to worker {head.worker}, and no start is known of yet"
        if run is not None and run.started is not None:
            since = _moment(run.started)
            said = f"on worker {head.worker} since {since}, attempt {head.attempts + 1}"
        if run is not None and run.worker.connection is None:
            said += "; that worker is out of reach: unless it comes back, another one gets it"
        if head.cancel is not None:
            said += f"; {reason_of(head, None) or f'cancelled by {head.cancel.by}'}, not ended yet"
        return said

    # --- what keeps a task from starting ---------------------------------------------------------

    def _obstacles(self, head: Head) -> list[str]:
        """Return everything that keeps a ready task from starting; all of it must go."""
        found: list[str] = []
        if self._closing():
            found.append("the system is closing, and starts nothing")
        queue, limit = head.options.queue, head.options.limit
        since = self._ready.paused.get(queue)
        if since is not None and head.pool != "any":
            found.append(f"its queue {queue!r} is paused since {_moment(since)}")
        if limit is not None and head.pool != "any":
            found += self._limit(limit)
        found += self._workers(head, idle=not found)
        return found

    def _limit(self, limit: Limit) -> Iterable[str]:
        holders = self._ready.gates.holders(limit)
        if holders:
            most = limit.concurrency
            yield f"its limit {limit.key!r} ({most} at once) is held by {_several('task', holders)}"
        if self._ready.gates.shut(limit):
            opens = _moment(self._ready.gates.opens(limit))
            rate = f"{limit.rate} starts in {limit.per:g} s"
            yield f"its limit {limit.key!r} ({rate}) lets the next one start at {opens}"

    def _workers(self, head: Head, *, idle: bool) -> Iterable[str]:
        """Say what is wrong with the workers; with ``idle`` also if nothing is."""
        workers = self._fleet.by_connection.values()
        able = [worker for worker in workers if worker.knows is None or head.name in worker.knows]
        if not workers:
            yield "no worker is connected"
        elif not able:
            by_name = ", and only its name is known" if head.pool == "any" else ""
            count = "one worker is" if len(workers) == 1 else f"{len(workers)} workers are"
            yield f"no worker knows {head.name!r}{by_name} ({count} connected)"
        elif not (slots := sum(worker.slots.get(head.pool, 0) for worker in able)):
            yield f"no worker that knows {head.name!r} has a slot in pool {head.pool!r}"
        elif all(worker.suspended for worker in able):
            yield f"every worker that knows {head.name!r} stands still: none of their loops runs"
        elif has_last_chance(head) and not any(worker.spare for worker in able):
            yield (
                f"{head.deaths} workers died under it: it waits for one that runs no other task of "
                "which that is true"
            )
        elif self._fleet.freest(head.pool, head.name) is None:
            pending = self._ledger.stats({})[head.options.queue].pending
            taken = "the only slot is" if slots == 1 else f"all {slots} slots are"
            yield (
                f"no slot is free: {taken} taken in pool {head.pool!r}; tasks pending in queue "
                f"{head.options.queue!r}: {pending}"
            )
        elif idle:
            yield "it is about to start"


def _several(what: str, ids: list[str]) -> str:
    """Return a few ids, and how many more there are."""
    named = ", ".join(ids[:_NAMED_MAX])
    more = len(ids) - _NAMED_MAX
    return f"{what} {named}" if len(ids) == 1 else (
        f"{what}s {named}" + (f" and {more} more" if more > 0 else "")
    )  # fmt: skip


def _end(head: Head, output: Output | None) -> str:
    at = "" if head.completed_at is None else f" at {_moment(head.completed_at)}"
    if head.status is SUCCESS:
        return f"success: it has ended{at}, on attempt {head.attempts}"
    error = None if output is None else output.error
    why = f"{error.type}: {error.message}" if error is not None else reason_of(head, None)
    return f"{head.status}: it has ended{at}" + (f": {why}" if why else "")


def _moment(seconds: float) -> str:
    return moment(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
