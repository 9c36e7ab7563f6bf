"""The rules of the queue: who is granted what and when, and how every task ends.

This floor decides; it never waits, stores, sends or asks for the time. It does not know how time
passes (``now`` is an argument), where records are kept (`Write` is an effect) or who is behind a
connection (a number). What it upholds: an accepted task reaches exactly one terminal status; only
the newest grant (the fence) can say anything about a task; nothing leaves before what it rests on
is written, as long as effects are carried out in order.

The rule book has chapters, each a class over the one before: `tables` (what is known), `ending`,
`dependencies`, `granting`, `accepting`, `attending`, `scheduling`, and here what is asked from
outside. Every move is in `states`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Any

from attrs import evolve
from msgspec.structs import replace

from actorq.machines.attending import LOOK
from actorq.machines.desk import Desk
from actorq.machines.effects import Complete, Effect, Found, Searched
from actorq.machines.fleet import POOLS
from actorq.machines.reasons import Reasons
from actorq.machines.scheduling import Scheduling
from actorq.machines.states import Move, target
from actorq.machines.subscriptions import is_kept
from actorq.machines.tables import STEP_MAX, Limits, closing
from actorq.machines.times import rank
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.feed import TaskEventKind
from actorq.model.ids import HOME
from actorq.model.records import Note, Pause, Record, Window
from actorq.model.results import PoolStats, QueueStats, Stats, TaskInfo, WorkerInfo
from actorq.model.schedules import Schedule, moment

Mail = tuple[int, Sequence[Any]]
"""What came on a connection: its number and what was sent together."""

_DAMAGES = {
    "pause": "the queue is paused, since when is lost",
    "limit": "its recent starts are lost, so that more may start now",
    "schedule": "nothing is submitted for it until it is declared again, from then on",
}


class QueueMachine(Scheduling):
    """All tasks of one partition, and the rules they live by."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        tail: str = "0" * 16,
        home: str = HOME,
    ) -> None:
        """Know nothing yet.

        Args:
            limits: The owner's bounds.
            tail: 16 hex digits for the ids of callback tasks, of this machine alone.
            home: The node of the worker in this process.
        """
        super().__init__(limits, tail, home)
        self._desk = Desk(
            self._ledger,
            self._fleet,
            self._out,
            self._cancel,
            self._revive,
            self._discard,
            self.pinned(),
            lambda: self._began,
        )
        self._waking: list[str] = []
        self._revived: dict[tuple[int, int], list[str]] = {}
        """By request: what a bulk verb has revived so far that comes after other tasks."""
        self._reasons = Reasons(
            self._ledger, self._fleet, self._ready, self._parking, self._out, lambda: self._closing
        )
        self._handlers: dict[type, Callable[[int, Any], None]] = {
            m.ClientHello: self._client_hello,
            m.Submit: self._submit,
            m.Withdraw: self._withdraw,
            m.Forget: self._forget,
            m.Watch: self._desk.watch,
            m.CancelTask: self._cancel_task,
            m.EndScope: self._end_scope,
            m.Inspect: self._desk.inspect,
            m.Find: self._desk.find,
            m.Bulk: self._bulk,
            m.Subscribe: self._subscribe,
            m.Unsubscribe: self._news.unsubscribe,
            m.Why: self._reasons.why,
            m.PauseQueue: self._pause_queue,
            m.Declare: self._declare,
            m.ControlSchedule: self._control_schedule,
            m.GetSchedules: self._get_schedules,
            m.GetStats: self._get_stats,
            m.GetTasks: self._get_tasks,
            m.Join: self._join,
            m.Close: self._close,
            m.WorkerHello: self._worker_hello,
            m.Ready: self._worker_ready,
            m.Knows: self._worker_knows,
            m.Beat: self._beat,
            m.WorkerDied: self._worker_died,
            m.Started: self._started,
            m.Report: self._report,
            m.Finish: self._finish,
            Found: self._found,
            Searched: self._searched,
            m.Away: self._away,
            m.Gone: self._gone,
            m.GiveUp: self._give_up,
            m.Tick: self._tick,
        }

    def load(self, record: Record) -> None:
        """Take in a live record of the store, before the first step.

        What it says is running stays so until its worker says hello: that worker either lists it,
        or never got it, or is an older incarnation of one that does.
        """
        self._expect(record)

    def load_note(self, note: Note) -> None:
        """Take in what an earlier owner has noted, before the first record."""
        match note.value:
            case Schedule() as schedule:
                self._schedules.load(schedule)
                self._expected.add(LOOK)
            case Window() as window:
                self._gates.load(note.name, window)
            case Pause() as pause:
                self._ready.pause(note.name, pause.at)
            case None:
                why = f"it cannot be read: {_DAMAGES[note.kind]}"
                what = f"{note.kind} {note.name}"
                self._out.tell(EventKind.RECORD_DAMAGED, id=what, name=note.name, why=why)
                if note.kind == "pause":
                    self._ready.pause(note.name, self._now)
            case value:
                raise AssertionError(f"nothing is noted by {value!r}")

    def step(self, origin: int, messages: Sequence[Any], now: float) -> list[Effect]:
        """Apply what connection ``origin`` sent together; see `turn`."""
        return self.turn(((origin, messages),), now)

    def turn(self, mail: Iterable[Mail], now: float) -> list[Effect]:
        """Apply what came by several connections; return what must be done, in order.

        ``now`` is in seconds since the epoch and may not go backwards. Writes come first, one for
        each record that changed.
        """
        self._now = now
        if self._expected or self._pulse < now:
            self._look_at_clock()
        handlers = self._handlers
        for origin, messages in mail:
            for message in messages:
                handlers[type(message)](origin, message)
        if self._doomed:
            self._cancel_doomed()
        if self._named:
            self._resolve_names()
        bonds, most = self._bonds, STEP_MAX
        while True:
            if bonds.news or bonds.loose or bonds.unasked:
                most = self._settle(most)
            self._grant_what_is_ready()
            if (bonds.news or bonds.loose) and most > 0:  # one was too late for its grant
                continue
            if not (self._parking.lines and self._unpark()):
                break
        if self._news.any:
            self._news.flush()
        self._pulse = now + self._look if self._until.armed else inf
        out = self._out
        if self._gates.changed:
            out[:0] = self._gates.notes()
        effects = [*self._ledger.changes(), *out]
        out.clear()
        return effects

    def next_deadline(self) -> float | None:
        """Return when a `Tick` has something to do, or None."""
        if self._expected or self._bonds.loose or self._bonds.news or self._doomed or self._named:
            return 0.0  # nobody may come
        deadline = self._timers.next() if self._timers.armed else None
        for others in (self._gates.alarms, self._schedules.timers):
            if others.armed and not self._closing:
                when = others.next()
                if when is not None and (deadline is None or when < deadline):
                    deadline = when
        if not self._until.armed:
            return deadline
        until = self._until.next()
        return min(t for t in (self._pulse, until, deadline) if t is not None)

    def workers(self) -> list[WorkerInfo]:
        """Return what people see of the workers."""
        return self._fleet.infos()

    def _close(self, origin: int, close: m.Close) -> None:
        super()._close(origin, close)
        for kind in (m.Submit, m.Bulk, m.Declare, m.ControlSchedule) if close.keep else ():
            self._handlers[kind] = partial(self._unless_elsewhere, self._handlers[kind])

    def _unless_elsewhere(
        self, handler: Callable[[int, Any], None], origin: int, message: Any
    ) -> None:
        """Leave what a client elsewhere wants to the next owner, whom it will ask again."""
        if origin not in self._remote:
            handler(origin, message)

    def _tick(self, origin: int, tick: m.Tick) -> None:
        self._give_up_the_silent()
        super()._tick(origin, tick)

    def _subscribe(self, origin: int, request: m.Subscribe) -> None:
        self._news.subscribe(origin, request, self._now)

    def _found(self, origin: int, found: Found) -> None:
        """Go on with a message for which the store was asked, since live tasks were not enough."""
        message = found.message
        records = found.records
        if not (isinstance(message, m.Watch) and message.resent):
            # Whoever waited before a crash is told, however short a time results are kept.
            records = {id: kept for id, kept in records.items() if is_kept(kept, self._now)}
        match message:
            case m.Submit():
                self._answered(origin, found)
            case m.Resolve():
                self._resolved(found)
            case m.Finish():
                record = found.records.get(message.id)
                head = None if record is None else record.head
                self._answer_late_finish(origin, message, head)
            case m.ControlSchedule():
                self._run_schedule(origin, message, records.get(str(message.id)))
            case m.CancelTask() if message.id in self._live:
                self._cancel_task(origin, message)
            case m.Why():
                self._reasons.found(origin, message, records)
            case m.Subscribe():
                self._news.found(origin, message, list(found.records.values()), self._now)
            case _:
                self._desk.found(origin, message, records)

    def _bulk(self, origin: int, bulk: m.Bulk) -> None:
        if self._closing and bulk.verb == "retry":
            self._out.reply(origin, bulk, error=closing())
        else:
            self._desk.bulk(origin, bulk)

    def _searched(self, origin: int, searched: Searched) -> None:
        message, error = searched.message, searched.error
        if self._closing and isinstance(message, m.Bulk) and message.verb == "retry":
            error = closing()
        if error is not None:
            self._out.reply(origin, message, error=error)
            self._let_go_on(self._revived.pop((origin, message.request), ()))
        elif isinstance(message, m.Subscribe):
            self._news.searched(origin, searched)
        else:
            kept = [record for record in searched.records if is_kept(record, self._now)]
            self._desk.searched(origin, replace(searched, records=kept))
            if self._waking or self._revived:
                self._gather((origin, message.request), last=searched.next is None)

    def _gather(self, bulk: tuple[int, int], *, last: bool) -> None:
        """Keep what a bulk verb has revived until it has revived all, and then let that go on."""
        revived = self._revived.setdefault(bulk, [])
        revived += self._waking
        self._waking.clear()
        if last or not revived:
            self._let_go_on(self._revived.pop(bulk))

    def _revive(self, record: Record) -> None:
        """Start a new run of an ended task: everything begins again, but never the fence."""
        stamp = self._next_stamp()
        since = self._since(stamp)
        head = record.head
        waits = bool(head.options.after or head.needs)
        live = self._ledger.reopen(
            replace(
                head,
                status=target(Move.REVIVE_TO_WAIT if waits else Move.REVIVE, head.status),
                scope=None,
                since=since,
                due=since,
                rank=rank(head.options.priority, stamp),
                attempts=0,
                deaths=0,
                cancel=None,
                started_at=None,
                completed_at=None,
                keep_until=None,
            ),
            record.body,
        )
        self._bonds.reopened(head.id)
        self._doomed.pop(head.id, None)  # that was the run before
        if waits:
            self._bonds.tie(live.head, held=True)
            self._waking.append(head.id)
        else:
            self._make_ready(live)
        self._arm(live)
        if self._news.any:
            self._news.publish(TaskEventKind.SUBMITTED, live.head, self._now)

    def tables(self) -> dict[str, int]:
        """Return the size of every internal table; all are 0 when no task is live."""
        return super().tables() | {"revived": len(self._revived) + len(self._waking)}

    def _get_stats(self, origin: int, request: m.GetStats) -> None:
        parked = self._parking.counts()
        fleet = self._fleet
        pools: dict[str, PoolStats] = {
            pool: PoolStats(fleet.slots(pool), fleet.free[pool]) for pool in POOLS
        }
        queues = self._ledger.stats(parked)
        for queue in self._ready.paused:
            queues[queue] = evolve(queues.get(queue, QueueStats()), paused=True)
        for queue, at in self._ready.oldest().items():
            queues[queue] = evolve(queues[queue], oldest=moment(at))
        workers = len(fleet.by_connection)
        waiting = self._ready.waiting()
        unknown = {name: n for name, n in waiting.items() if not fleet.knows(name)}
        stats = Stats(
            queues=queues,
            pools=pools,
            workers=workers,
            unknown=unknown,
            store=None,  # the queue actor knows
            **self._totals,
        )
        self._out.append(Complete(origin, request.request, stats))

    def _get_tasks(self, origin: int, request: m.GetTasks) -> None:
        workers = self._fleet.by_connection.values()
        digests = [worker.digests for worker in workers]
        any_task = sum(worker.knows is None for worker in workers)
        waiting = self._ready.waiting()
        names = waiting.keys() | {name for known in digests for name in known}
        infos = []
        for name in sorted(names):
            versions = [known[name] for known in digests if name in known]
            infos.append(
                TaskInfo(name, len(versions) + any_task, waiting.get(name, 0), len(set(versions)))
            )
        self._out.reply(origin, request, infos)
