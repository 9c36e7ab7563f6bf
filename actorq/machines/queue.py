"""The rules of the queue: who is granted what and when, and how every task ends.

This file decides; it never waits, stores, sends or asks for the time. It does not know how time
passes (``now`` is an argument), where records are kept (`Write` is an effect) or who is behind a
connection (a number). What it upholds: an accepted task reaches exactly one terminal status; only
the newest grant (the fence) can say anything about a task; nothing leaves before what it rests on
is written, as long as effects are carried out in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, nextafter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from actorq.errors import ActorDied, QueueFull, RemoteError, SubmitError
from actorq.machines.desk import Desk
from actorq.machines.effects import Effect, Found, Outbox, Searched, Send
from actorq.machines.fleet import POOLS, Fleet, Worker
from actorq.machines.ledger import Ledger, Live, Run, add_watch
from actorq.machines.parking import Parked, Parking
from actorq.machines.ready import Ready
from actorq.machines.retry import backoff
from actorq.machines.states import GRANT, SUCCEED, Move, target
from actorq.machines.timers import Timers
from actorq.machines.times import deadline as deadline_of
from actorq.machines.times import expiry as expiry_of
from actorq.machines.times import rank
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.records import Cancel, Head, Output, Record
from actorq.model.results import PoolStats, Stats
from actorq.model.status import PENDING, RUNNING, SCHEDULED, FailureKind


class Limits(Struct, frozen=True):
    """The owner's bounds.

    Attributes:
        max_pending: Waiting tasks per queue.
        result_ttl: Seconds for which results are kept.
        grace: Seconds that a cancelled task has if nobody said otherwise.
    """

    max_pending: int = 100_000
    result_ttl: float = 3_600.0
    grace: float = 10.0


class QueueMachine:
    """All tasks of one partition, and the rules they live by."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._now = 0.0
        self._stamp = 0.0
        self._out = Outbox()
        self._ledger = Ledger()
        self._live = self._ledger.live
        self._desk = Desk(self._ledger, self._out, self._cancel, self._revive)
        self._ready: Ready[Live] = Ready()
        self._timers = Timers()
        self._fleet = Fleet()
        self._parking = Parking()
        self._cancels: dict[str, list[tuple[int, int]]] = {}
        self._ending: dict[str, list[tuple[int, int]]] = {}
        self._joins: list[tuple[int, int]] = []
        self._closes: list[tuple[int, m.Close]] = []
        self._closing = False
        self._totals: dict[str, int] = dict.fromkeys(
            ("success", "failure", "cancelled", "retries", "lost"), 0
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
            m.GetStats: self._get_stats,
            m.Join: self._join,
            m.Close: self._close,
            m.WorkerHello: self._worker_hello,
            m.Ready: self._worker_ready,
            m.Started: self._started,
            m.Report: self._report,
            m.Finish: self._finish,
            Found: self._found,
            Searched: self._searched,
            m.Gone: self._gone,
            m.Tick: self._tick,
        }

    # --- the face --------------------------------------------------------------------------------

    def load(self, record: Record) -> None:
        """Take in a live record of the store, before the first step.

        What it says is running stays so until its worker says hello: that worker either lists it,
        or never got it, or is an older incarnation of one that does.
        """
        head = record.head
        live = self._ledger.open(head, record.body, None, stored=True)
        self._stamp = max(self._stamp, head.submitted_at, head.since)
        if head.status is PENDING:
            self._ready.add(live)
        elif head.status is RUNNING and head.worker is not None:
            worker = self._fleet.expect(head.worker)
            worker.held.add(head.id)
            live.run = Run(worker)
        self._arm(live)

    def step(self, origin: int, messages: Sequence[Any], now: float) -> list[Effect]:
        """Apply what connection ``origin`` sent together; return what must be done, in order.

        ``now`` is in seconds since the epoch and may not go backwards. Writes come first, one for
        each record that changed.
        """
        self._now = now
        for message in messages:
            self._handlers[type(message)](origin, message)
        self._grant_what_is_ready()
        while self._parking and self._unpark():
            self._grant_what_is_ready()
        out = self._out
        effects = [*self._ledger.changes(), *out]
        out.clear()
        return effects

    def next_deadline(self) -> float | None:
        """Return when a `Tick` has something to do, or None."""
        return self._timers.next() if self._timers.armed else None

    def tables(self) -> dict[str, int]:
        """Return the size of every internal table; all are 0 when no task is live.

        Connected workers are counted by what they hold.
        """
        return self._ledger.tables() | {
            "ready": len(self._ready),
            "timers": len(self._timers),
            "parked": len(self._parking),
            "cancels": len(self._cancels),
            "ending": len(self._ending),
            "joins": len(self._joins),
            "closes": len(self._closes),
            "held": self._fleet.held(),
        }

    # --- accepting -------------------------------------------------------------------------------

    def _forget(self, origin: int, forget: m.Forget) -> None:
        """Nobody waits for this answer any more."""
        waiter = (origin, forget.request)
        if waiter in self._joins:
            self._joins.remove(waiter)
        for id, waiters in list(self._cancels.items()):
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._cancels[id]

    def _client_hello(self, origin: int, hello: m.ClientHello) -> None:
        """A client needs no introduction beyond its connection; all it wants, it asks for."""

    def _submit(self, origin: int, submit: m.Submit) -> None:
        if submit.resent:  # it may be stored already, and even over
            unknown = tuple(task.id for task in submit.tasks if task.id not in self._live)
            if unknown:
                self._out.lookup(origin, submit, *unknown)
                return
        self._admit(origin, submit, {})

    def _admit(
        self, origin: int, submit: m.Submit, stored: dict[str, Record], *, fits: bool = False
    ) -> None:
        """Accept what is new of a submit, once there is room, and answer it."""
        tasks = submit.tasks
        known = stored.keys() | [task.id for task in tasks if task.id in self._live]
        new = [task for task in tasks if task.id not in known] if known else tasks
        if new:
            refusal = self._refusal(new)
            if refusal is not None:
                self._out.reply(origin, submit, error=refusal)
                return
            needs = _needs(new)
            full = None if fits else self._full_queue(needs)
            if full is not None:
                if any(task.options.when_full == "raise" for task in new):
                    self._out.reply(origin, submit, error=self._queue_full(full))
                else:
                    self._parking.park(Parked(origin, submit, stored, needs))
                return
        for id in known:
            if id in self._live:
                add_watch(self._live[id], origin)
            else:
                self._out.send(origin, m.Outcome(stored[id].head, stored[id].output))
        for task in new:
            self._accept(origin, task, alone=len(new) == 1)
        self._out.append(Send(origin, m.Reply(submit.request, tuple(known) if known else None)))

    def _refusal(self, tasks: Sequence[m.Submission]) -> Exception | None:
        if self._closing:
            return _CLOSING
        if len(tasks) > self._limits.max_pending:
            return QueueFull(
                f"{len(tasks)} tasks at once never fit: max_pending is {self._limits.max_pending}"
            )
        for task in tasks if self._ending else ():
            if task.scope in self._ending:
                return SubmitError(
                    f"task {task.name} ({task.id}): the block that owns it has ended"
                )
        return None

    def _full_queue(self, needs: dict[str, int]) -> str | None:
        """Return a queue that has not the room that is needed, or a line before it."""
        for queue, count in needs.items():
            if count > self._room(queue) or queue in self._parking:
                return queue
        return None

    def _room(self, queue: str) -> int:
        return self._limits.max_pending - self._ledger.waiting(queue)

    def _queue_full(self, queue: str) -> QueueFull:
        return QueueFull(
            f"queue {queue!r} is full: {self._limits.max_pending} tasks wait in it (max_pending); "
            "wait for room with when_full='wait', or run more workers"
        )

    def _accept(self, origin: int, task: m.Submission, *, alone: bool) -> None:
        options = task.options
        due = since = self._next_stamp()
        if options.delay is not None:
            due = since + options.delay
        elif options.at is not None:
            due = max(since, options.at.timestamp())
        later = due > self._now and due > since
        head = Head(
            task.id,
            task.name,
            options,
            task.pool,
            task.scope,
            since,
            since,
            rank(options.priority, due),
            due,
            SCHEDULED if later else PENDING,
        )
        live = self._ledger.open(head, task.body, origin)
        if later or options.deadline is not None or options.expires is not None:
            self._arm(live)
        if later:
            return
        pool = task.pool
        if alone and self._fleet.free[pool] > 0 and self._ready.empty(pool) and not self._closing:
            self._grant(self._fleet.freest(pool), live)  # it would be taken out again at once
        else:
            self._ready.add(live)

    def _next_stamp(self) -> float:
        """Return now, or just after the last stamp: so rank alone is the order, with no ties."""
        now, last = self._now, self._stamp
        self._stamp = stamp = now if now > last else nextafter(last, inf)
        return stamp

    def _unpark(self) -> bool:
        """Let in what waits for room, oldest first, as far as it fits; say whether any did."""
        some = False
        while (parked := self._parking.leave(self._room)) is not None:
            self._admit(parked.origin, parked.submit, parked.stored, fits=True)
            some = True
        return some

    def _drop_parked(
        self, which: Callable[[int, m.Submit], bool], refusal: Exception | None
    ) -> None:
        for parked in self._parking.drop(which):
            if refusal is not None:
                self._out.reply(parked.origin, parked.submit, error=refusal)
        self._answer_who_waits_for_quiet()

    def _withdraw(self, origin: int, withdraw: m.Withdraw) -> None:
        self._drop_parked(lambda to, s: to == origin and s.request == withdraw.submit, None)
        cancel = Cancel("user", "its submit was cancelled before it was answered")
        for id in withdraw.ids:
            if id in self._live:
                self._cancel(id, cancel, withdraw.grace)
        self._out.reply(origin, withdraw)

    # --- granting --------------------------------------------------------------------------------

    def _grant_what_is_ready(self) -> None:
        if self._closing:
            return
        free = self._fleet.free
        for pool in POOLS:
            while free[pool] > 0 and not self._ready.empty(pool):
                live = self._ready.take(pool)
                if live is None:
                    break
                self._grant(self._fleet.freest(pool), live)

    def _grant(self, worker: Worker, live: Live) -> None:
        head = live.head
        self._ledger.move(live, GRANT, fence=head.fence + 1, worker=worker.name)
        live.run = Run(worker)
        if self._timers.armed:
            self._timers.clear(head.id)
        self._fleet.charge(worker, head.pool, head.id)
        deadline = head.options.deadline
        remaining = None if deadline is None else head.since + deadline - self._now
        assert worker.connection is not None  # only a connected worker has free slots
        self._out.append(Send(worker.connection, m.Grant(live.head, live.body, remaining)))

    # --- workers ---------------------------------------------------------------------------------

    def _worker_hello(self, origin: int, hello: m.WorkerHello) -> None:
        former = self._fleet.known(hello.node)
        if former is not None and former.name != hello.worker:
            # A new incarnation: whatever an older one held has died with it.
            self._fleet.disconnect(former)
            for id in list(former.held):
                self._lose(self._live[id])
        worker = self._fleet.connect(origin, hello.node, hello.worker, hello.slots)
        running = set(hello.running)
        for id in list(worker.held):
            live = self._live[id]
            if (id, live.head.fence) not in running:
                # Granted and written, but the grant never arrived: no attempt, no death.
                if live.head.cancel is None:
                    self._put_back(live, Move.HAND_BACK)
                else:
                    self._end(live, Move.CANCEL, None)
        revoked = tuple(
            (id, fence)
            for id, fence in hello.running
            if id not in worker.held or self._live[id].head.fence != fence
        )
        self._out.send(origin, m.Welcome(revoked))
        for id in worker.held:
            live = self._live[id]
            if live.head.cancel is not None and live.run is not None:
                # Who asked for the cancel, and for how long it may take, did not survive a crash.
                if live.run.patience is None:
                    live.run.patience = self._now + self._limits.grace
                    self._timers.set(id, live.run.patience)
                self._interrupt(live, live.head.cancel, live.run.patience - self._now)

    def _worker_ready(self, origin: int, ready: m.Ready) -> None:
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            self._fleet.offer(worker, ready.pool, ready.credit)

    def _started(self, origin: int, started: m.Started) -> None:
        live = self._held(origin, started.id, started.fence)
        if live is not None and live.run is not None:
            live.run.started = started.at

    def _report(self, origin: int, report: m.Report) -> None:
        live = self._held(origin, report.id, report.fence)
        if live is not None and live.run is not None:
            live.run.progress = report.progress

    def _held(self, origin: int, id: str, fence: int) -> Live | None:
        """Return the task if (id, fence) is the grant that runs on this connection's worker."""
        worker, live = self._fleet.by_connection.get(origin), self._live.get(id)
        if (
            worker is None
            or live is None
            or live.head.status is not RUNNING
            or live.head.fence != fence
            or live.head.worker != worker.name
        ):
            return None
        return live

    def _finish(self, origin: int, finish: m.Finish) -> None:
        live = self._held(origin, finish.id, finish.fence)
        if live is not None:
            self._out.append(Send(origin, m.Finished(finish.id, finish.fence, True)))
            self._conclude(live, finish)
        elif finish.id in self._live:
            self._answer_late_finish(origin, finish, self._live[finish.id].head)
        else:
            self._out.lookup(origin, finish, finish.id)

    def _answer_late_finish(self, origin: int, finish: m.Finish, head: Head | None) -> None:
        """A repeat of what is recorded is accepted; a grant that was overtaken is refused."""
        accepted = head is None or head.fence == finish.fence
        self._out.send(origin, m.Finished(finish.id, finish.fence, accepted))
        if not accepted and finish.cause != "cancelled":
            self._out.tell(
                EventKind.STALE_RESULT, id=finish.id, fence=finish.fence, cause=finish.cause
            )

    def _conclude(self, live: Live, finish: m.Finish) -> None:
        """Decide what the end of an attempt means for its task."""
        cause, started_at = finish.cause, finish.started_at
        if cause == "ok":
            attempts = live.head.attempts + 1
            self._end(live, SUCCEED, finish.output, attempts=attempts, started_at=started_at)
            return
        if started_at is not None:
            attempts = live.head.attempts + (cause != "later")
            self._ledger.note(live, attempts=attempts, started_at=started_at)
            if live.run is not None:
                live.run.started = None  # counted
        head = live.head
        if head.cancel is not None:
            self._end(live, Move.CANCEL, None)
        elif cause == "lost":
            self._lose(live)
        elif cause == "deadline":
            self._end(live, Move.TIME_OUT, finish.output)
        elif cause == "later":
            self._back_off(live, finish.delay, finish)
        elif finish.retryable and head.attempts < head.options.retry.attempts:
            self._back_off(live, backoff(head.options.retry, head.attempts, head.id), finish)
        else:
            self._end(live, Move.FAIL, finish.output, finish.exception)

    def _back_off(self, live: Live, wait: float, finish: m.Finish) -> None:
        head, due = live.head, self._now + wait
        if head.options.deadline is not None and due >= head.since + head.options.deadline:
            # Its deadline comes before its next attempt: the error at hand says more.
            self._end(live, Move.FAIL, finish.output, finish.exception)
            return
        self._totals["retries"] += 1
        self._release(live)
        self._ledger.move(live, Move.BACK_OFF, due=due)
        self._arm(live)
        self._answer_who_waits_for_quiet()

    def _lose(self, live: Live) -> None:
        """A worker died under a task: deliver it again, or give it up as poison."""
        head = live.head
        self._totals["lost"] += 1
        deaths = head.deaths + 1
        self._ledger.note(live, deaths=deaths, **_started(live))
        self._out.tell(EventKind.DELIVERY_LOST, id=head.id, name=head.name, deaths=deaths)
        if head.cancel is not None:
            self._end(live, Move.CANCEL, None)
        elif head.options.at_most_once or deaths >= head.options.max_deliveries:
            why = (
                "at_most_once: it is not delivered again"
                if head.options.at_most_once
                else f"max_deliveries is {head.options.max_deliveries}"
            )
            message = f"worker {head.worker} died under it (death {deaths}; {why})"
            self._end(live, Move.FAIL, _failure(FailureKind.LOST, "actorq.WorkerLost", message))
        else:
            self._put_back(live, Move.LOSE)

    def _put_back(self, live: Live, move: Move) -> None:
        self._release(live)
        self._ledger.move(live, move)
        self._ready.add(live)
        self._arm(live)
        self._answer_who_waits_for_quiet()

    def _release(self, live: Live) -> None:
        """Take a running task off its worker's list; the slot comes back by the worker's word."""
        if live.run is not None:
            live.run.worker.held.discard(live.head.id)
            live.run = None

    def _gone(self, origin: int, _: m.Gone) -> None:
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            self._fleet.disconnect(worker)
        self._drop_parked(lambda to, _: to == origin, None)

    # --- ending ----------------------------------------------------------------------------------

    def _end(
        self,
        live: Live,
        move: Move,
        output: Output | None,
        cause: BaseException | None = None,
        **changes: Any,
    ) -> None:
        """Make a task terminal, with other ``changes``, and tell everybody who waits for that."""
        head = live.head
        if head.status is RUNNING:
            self._release(live)
        if head.options.result_ttl is None:
            keep = self._now + self._limits.result_ttl
        else:
            keep = self._now + head.options.result_ttl
        was_pending = head.status is PENDING
        if self._timers.armed:
            self._timers.clear(head.id)
        head = self._ledger.close(
            live, move, output, completed_at=self._now, keep_until=keep, **changes
        )
        if was_pending:
            self._ready.forget(live)
        self._totals[head.status] += 1
        watch = live.watch
        if watch is not None:
            outcome = m.Outcome(head, output, cause)
            if isinstance(watch, int):
                self._out.append(Send(watch, outcome))
            else:
                self._out.extend(Send(connection, outcome) for connection in watch)
        if self._cancels and head.id in self._cancels:
            for connection, request in self._cancels.pop(head.id):
                self._out.send(connection, m.Reply(request, m.Snapshot(head, output, None)))
        if self._ending and head.scope in self._ending and head.scope not in self._ledger.scopes:
            for connection, request in self._ending.pop(head.scope):
                self._out.send(connection, m.Reply(request))
        if self._closes or self._joins:
            self._answer_who_waits_for_quiet()

    def _answer_who_waits_for_quiet(self) -> None:
        if not self._live and not self._parking:
            for connection, request in self._joins:
                self._out.send(connection, m.Reply(request))
            self._joins.clear()
        running = self._ledger.running()
        for item in list(self._closes):
            connection, close = item
            if not (self._live if close.cancel else running):
                self._closes.remove(item)
                self._out.send(connection, m.Reply(close.request))

    def _cancel_task(self, origin: int, request: m.CancelTask) -> None:
        if request.id not in self._live:
            self._out.lookup(origin, request, request.id)
            return
        self._cancels.setdefault(request.id, []).append((origin, request.request))
        self._cancel(request.id, request.cancel, request.grace)

    def _cancel(self, id: str, cancel: Cancel, grace: float) -> None:
        live = self._live[id]
        head = live.head
        if head.status is not RUNNING:
            self._ledger.note(live, cancel=cancel)
            self._end(live, Move.CANCEL, None)
            return
        run = live.run
        assert run is not None  # whatever runs, runs somewhere
        if head.cancel is None:
            self._ledger.note(live, cancel=cancel)
        patience = self._now + grace
        if run.patience is None or patience < run.patience:
            run.patience = patience
            self._timers.set(head.id, patience)
            self._interrupt(live, live.head.cancel or cancel, grace)

    def _interrupt(self, live: Live, cancel: Cancel, grace: float) -> None:
        if live.run is not None and live.run.worker.connection is not None:
            head = live.head
            interrupt = m.Interrupt(head.id, head.fence, cancel, max(grace, 0.0))
            self._out.send(live.run.worker.connection, interrupt)

    def _end_scope(self, origin: int, request: m.EndScope) -> None:
        scope = request.scope
        self._drop_parked(
            lambda _, submit: any(task.scope == scope for task in submit.tasks),
            SubmitError("the block that owns this task has ended"),
        )
        members = list(self._ledger.scopes.get(scope, ()))
        if not members:
            self._out.reply(origin, request)
            return
        self._ending.setdefault(scope, []).append((origin, request.request))
        for id in members:
            self._cancel(id, Cancel("scope"), request.grace)

    def _close(self, origin: int, close: m.Close) -> None:
        self._closing = True
        self._drop_parked(lambda *_: True, _CLOSING)
        self._closes.append((origin, close))
        if close.cancel:
            for id in list(self._live):
                self._cancel(id, Cancel("shutdown", "its system was closed"), close.grace)
        self._answer_who_waits_for_quiet()

    # --- time ------------------------------------------------------------------------------------

    def _tick(self, _: int, __: m.Tick) -> None:
        for id in self._timers.due(self._now):
            self._on_time(self._live[id])

    def _on_time(self, live: Live) -> None:
        head, now = live.head, self._now
        if head.status is RUNNING:
            if live.run is not None and live.run.patience is not None:
                self._give_up_waiting(live)
            return
        deadline, expires = deadline_of(head), expiry_of(head)
        if deadline is not None and deadline <= now:
            message = f"its deadline of {head.options.deadline:g} s passed before it had ended"
            self._end(
                live, Move.TIME_OUT, _failure(FailureKind.TIMEOUT, "actorq.TaskTimeout", message)
            )
        elif expires is not None and expires <= now:
            message = f"it was not started within {head.options.expires:g} s"
            self._end(
                live, Move.EXPIRE, _failure(FailureKind.EXPIRED, "actorq.TaskExpired", message)
            )
        else:
            if head.status is SCHEDULED and head.due <= now:
                self._ledger.move(live, Move.FALL_DUE)
                self._ready.add(live)
            self._arm(live)

    def _arm(self, live: Live) -> None:
        """Set the task's alarm to the next moment at which time alone changes it."""
        head = live.head
        if head.status is RUNNING:
            return
        times = [t for t in (deadline_of(head), expiry_of(head)) if t is not None]
        if head.status is SCHEDULED:
            times.append(head.due)
        if times:
            self._timers.set(head.id, min(times))

    def _give_up_waiting(self, live: Live) -> None:
        """The worker did not confirm a cancel in time: raise the fence, so that it never can."""
        head = live.head
        self._out.tell(
            EventKind.CANCEL_UNCONFIRMED, id=head.id, name=head.name, worker=str(head.worker)
        )
        self._ledger.note(live, fence=head.fence + 1, **_started(live))
        self._end(live, Move.CANCEL, None)

    # --- asking ----------------------------------------------------------------------------------

    def _found(self, origin: int, found: Found) -> None:
        """Go on with a message for which the store was asked, since live tasks were not enough."""
        message = found.message
        records = found.records
        if not (isinstance(message, m.Submit | m.Watch) and message.resent):
            # Whoever waited before a crash is told, however short a time results are kept.
            records = {id: kept for id, kept in records.items() if self._is_kept(kept)}
        match message:
            case m.Submit():
                self._admit(origin, message, records)
            case m.Finish():
                record = found.records.get(message.id)
                head = None if record is None else record.head
                self._answer_late_finish(origin, message, head)
            case m.CancelTask() if message.id in self._live:
                self._cancel_task(origin, message)
            case _:
                self._desk.found(origin, message, records)

    def _bulk(self, origin: int, bulk: m.Bulk) -> None:
        if self._closing and bulk.verb == "retry":
            self._out.reply(origin, bulk, error=_CLOSING)
        else:
            self._desk.bulk(origin, bulk)

    def _searched(self, origin: int, searched: Searched) -> None:
        message = searched.message
        if self._closing and isinstance(message, m.Bulk) and message.verb == "retry":
            self._out.reply(origin, message, error=_CLOSING)
        else:
            kept = [record for record in searched.records if self._is_kept(record)]
            self._desk.searched(origin, replace(searched, records=kept))

    def _is_kept(self, record: Record) -> bool:
        """Say whether a record may still be seen; the store forgets them only now and then."""
        return record.head.keep_until is None or record.head.keep_until > self._now

    def _revive(self, record: Record) -> None:
        """Start a new run of an ended task: everything begins again, but never the fence."""
        since = self._next_stamp()
        head = record.head
        live = self._ledger.reopen(
            replace(
                head,
                status=target(Move.REVIVE, head.status),
                scope=None,
                since=since,
                due=since,
                rank=rank(head.options.priority, since),
                attempts=0,
                deaths=0,
                cancel=None,
                started_at=None,
                completed_at=None,
                keep_until=None,
            ),
            record.body,
        )
        self._ready.add(live)
        self._arm(live)

    def _get_stats(self, origin: int, request: m.GetStats) -> None:
        parked = self._parking.counts()
        fleet = self._fleet
        pools: dict[str, PoolStats] = {
            pool: PoolStats(fleet.slots(pool), fleet.free[pool]) for pool in POOLS
        }
        queues = self._ledger.stats(parked)
        workers = len(fleet.by_connection)
        stats = Stats(queues=queues, pools=pools, workers=workers, **self._totals)
        self._out.reply(origin, request, stats)

    def _join(self, origin: int, join: m.Join) -> None:
        self._joins.append((origin, join.request))
        self._answer_who_waits_for_quiet()


def _started(live: Live) -> dict[str, Any]:
    """Return what changes because the running attempt has started, as far as that is known."""
    if live.run is None or live.run.started is None:
        return {}
    return {"attempts": live.head.attempts + 1, "started_at": live.run.started}


_CLOSING = ActorDied("this system is closing and takes no new tasks")


def _needs(tasks: Sequence[m.Submission]) -> dict[str, int]:
    """Return how much room in which queue these need."""
    needs: dict[str, int] = {}
    for task in tasks:
        queue = task.options.queue
        needs[queue] = needs.get(queue, 0) + 1
    return needs


def _failure(kind: FailureKind, type: str, message: str) -> Output:
    return Output(error=RemoteError(type=type, message=message, mro=(type,)), kind=kind)
