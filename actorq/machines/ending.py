"""Chapter one: how a task ends, who may end it, and who is told.

A cancel that is recorded has one other end, success: neither a failure nor a lost worker brings a
cancelled task back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from math import inf
from typing import Any

from actorq.errors import (
    ActorqError,
    DependencyFailed,
    RemoteError,
    RowRefused,
    SubmitError,
    TaskExpired,
    TaskTimeout,
    WorkerLost,
)
from actorq.machines.effects import Send
from actorq.machines.ledger import Live
from actorq.machines.states import Move
from actorq.machines.tables import STEP_MAX, Tables, closing
from actorq.machines.times import deadline as deadline_of
from actorq.machines.times import expiry as expiry_of
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.feed import TaskEventKind
from actorq.model.ids import derived
from actorq.model.records import Cancel, Done, Follow, Head, Output, Record
from actorq.model.status import PENDING, RUNNING, SCHEDULED, FailureKind


class Ending(Tables):
    """Ends, cancels, scopes, closing, and what time does to a task that waits."""

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
        if self._news.any:
            error = None if output is None else output.error
            self._news.publish(TaskEventKind.ENDED, head, self._now, None, error)
        watch = live.watch
        if watch is not None:
            outcome = m.Outcome(head, output, cause)
            if isinstance(watch, int):
                self._out.append(Send(watch, outcome))
            else:
                self._out.extend(Send(connection, outcome) for connection in watch)
        if head.options.callback is not None:
            self._follow_up(head, output)
        if self._bonds.bonds or self._parking.asked:
            self._note_end(Record(head, live.body, output))
        if self._cancels or self._ending or self._closes or self._joins:
            self._answer_who_waits_for(head, output)

    def _note_end(self, record: Record) -> None:
        """Remember how a task has ended, for those that come after it, or may be the same."""
        head = record.head
        self._bonds.ended(head, record.output)
        if self._parking.asked:
            self._lately[head.id] = record
            if head.options.key is not None:
                self._lately_keyed[head.options.key] = head.id

    def _answer_who_waits_for(self, head: Head, output: Output | None) -> None:
        if head.id in self._cancels:
            for connection, request in self._cancels.pop(head.id):
                self._out.send(connection, m.Reply(request, m.Snapshot(head, output, None)))
        if head.scope in self._ending and head.scope not in self._ledger.scopes:
            for connection, request in self._ending.pop(head.scope):
                self._out.send(connection, m.Reply(request))
        self._answer_who_waits_for_quiet()

    def _follow_up(self, head: Head, output: Output | None) -> None:
        """Submit the callback task of a task that has ended, in the step that says so.

        (A callback that is an actor is its client's affair, and not in here.)
        """
        follow: Follow = head.options.callback
        id = derived(f"callback of {head.id} {head.since!r}", head.since)  # one for each run
        if id in self._refused or id in self._live:
            return  # its record cannot be kept, which is no reason to lose the outcome itself
        done = Done(follow.call, head, output, head.options.callback_data)
        task = m.Submission(id, follow.name, follow.pool, follow.options, None, done)
        self._take_in(task)
        if any(close.cancel for _, close in self._closes):
            self._cancel(id, _SHUTDOWN, 0.0)

    def _take_in(self, task: m.Submission, watch: int | None = None) -> None:
        """Accept a task that the owner itself submits: full queues and keys are for others."""
        waits = bool(task.options.after or task.needs)
        live = self._open(task, watch, waits=waits)
        if waits:
            self._bonds.tie(live.head)
            self._bonds.loose.append(task.id)
        elif live.head.status is PENDING:
            self._make_ready(live)

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

    def _forget(self, origin: int, forget: m.Forget) -> None:
        """Nobody waits for this answer any more."""
        waiter = (origin, forget.request)
        if waiter in self._joins:
            self._joins.remove(waiter)

    def _cancel_task(self, origin: int, request: m.CancelTask) -> None:
        if request.id not in self._live:
            self._out.lookup(origin, request, request.id)
            return
        waiters = self._cancels.setdefault(request.id, [])
        if (origin, request.request) not in waiters:  # asked again, on another connection
            waiters.append((origin, request.request))
        self._cancel(request.id, request.cancel, request.grace)

    def _cancel(self, id: str, cancel: Cancel, grace: float) -> None:
        live = self._live[id]
        head = live.head
        if head.status is not RUNNING:
            self._end(live, Move.CANCEL, None, cancel=cancel)
            return
        run = live.run
        assert run is not None  # whatever runs, runs somewhere
        if head.cancel is None:
            self._ledger.note(live, cancel=cancel)
        patience = self._now + grace
        if run.patience is None or patience < run.patience:
            run.patience = patience
            self._watch_over(live)
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
            lambda: SubmitError("the block that owns this task has ended"),
        )
        members = list(self._ledger.scopes.get(scope, ()))
        if not members:
            self._out.reply(origin, request)
            return
        waiters = self._ending.setdefault(scope, [])
        if (origin, request.request) not in waiters:  # asked again, on another connection
            waiters.append((origin, request.request))
        self._cancel_all(members, Cancel("scope", request.reason), request.grace)

    def _cancel_all(self, ids: list[str], cancel: Cancel, grace: float) -> None:
        """Cancel tasks at the end of this step, or as many as one step may: those that run first.

        Of the others none is granted until their turn has come.
        """
        doom, live = (cancel, grace), self._live
        self._doomed |= dict.fromkeys([id for id in ids if live[id].run is not None], doom)
        self._doomed |= dict.fromkeys(ids, doom)

    def _cancel_doomed(self) -> None:
        for id in list(islice(self._doomed, STEP_MAX)):
            self._cancel_if_doomed(id)

    def _cancel_if_doomed(self, id: str) -> bool:
        """Cancel a task now that was to be cancelled anyway; say whether it was so."""
        doom = self._doomed.pop(id, None)
        if doom is None or id not in self._live:  # it has ended meanwhile
            return False
        self._cancel(id, *doom)
        return True

    def _join(self, origin: int, join: m.Join) -> None:
        self._joins.append((origin, join.request))
        self._answer_who_waits_for_quiet()

    def _close(self, origin: int, close: m.Close) -> None:
        self._closing = True
        if close.keep:  # whoever is elsewhere asks the next owner
            self._drop_parked(lambda asker, _: asker in self._remote, None)
        self._drop_parked(lambda *_: True, closing)
        if close.keep:
            self._out.reply(origin, close)
            return
        self._closes.append((origin, close))
        if close.cancel:
            self._cancel_all(list(self._live), _SHUTDOWN, close.grace)
        self._answer_who_waits_for_quiet()

    def _drop_parked(
        self, which: Callable[[int, m.Submit], bool], refusal: Callable[[], Exception] | None
    ) -> None:
        for parked in self._parking.drop(which):
            if refusal is not None:
                self._out.reply(parked.origin, parked.submit, error=refusal())
        self._answer_who_waits_for_quiet()

    def _tick(self, origin: int, tick: m.Tick) -> None:  # noqa: ARG002 - a handler like others
        for _ in range(STEP_MAX):
            id = self._timers.pop(self._now)
            if id is None:
                break
            self._on_time(self._live[id])

    def _on_time(self, live: Live) -> None:
        head, now = live.head, self._now
        if head.status is RUNNING:
            run = live.run
            if run is not None and run.patience is not None and run.patience <= now:
                self._give_up_waiting(live, Move.CANCEL, None)
            elif self._overdue(live) <= now:
                message = "it ran past its time, and did not end within its grace after that"
                output = failure(FailureKind.TIMEOUT, message)
                self._give_up_waiting(live, Move.TIME_OUT, output)
            else:
                self._watch_over(live)
            return
        deadline, expires = deadline_of(head), expiry_of(head)
        if deadline is not None and deadline <= now:
            message = f"its deadline of {head.options.deadline:g} s passed before it had ended"
            self._end(live, Move.TIME_OUT, failure(FailureKind.TIMEOUT, message))
        elif expires is not None and expires <= now:
            message = f"it was not started within {head.options.expires:g} s"
            self._end(live, Move.EXPIRE, failure(FailureKind.EXPIRED, message))
        else:
            if head.status is SCHEDULED and head.due <= now:
                self._ledger.move(live, Move.FALL_DUE)
                if self._news.any:
                    self._news.publish(TaskEventKind.DUE, live.head, now)
                self._make_ready(live)
            self._arm(live)

    def _overdue(self, live: Live) -> float:
        """Return when a running task's worker should have stopped it for its deadline, or inf.

        A cancel has a time of its own. And a timeout is the worker's matter alone: it may be
        followed by a retry, and a loop that stood still must not make it final.
        """
        deadline = deadline_of(live.head)
        if deadline is None or live.head.cancel is not None:
            return inf
        return deadline + self._limits.grace

    def _watch_over(self, live: Live) -> None:
        """Set the alarm for a running task that its worker may not be able to stop."""
        when = self._overdue(live)
        if live.run is not None and live.run.patience is not None:
            when = min(when, live.run.patience)
        if when < inf:
            self._timers.set(live.head.id, when)

    def _give_up_waiting(self, live: Live, move: Move, output: Output | None) -> None:
        """The worker did not stop a task in time: raise the fence, so that it never can."""
        head = live.head
        self._out.tell(
            EventKind.CANCEL_UNCONFIRMED, id=head.id, name=head.name, worker=str(head.worker)
        )
        self._ledger.note(live, fence=head.fence + 1, **has_started(live))
        self._end(live, move, output)


_SHUTDOWN = Cancel("shutdown", "its system was closed")


def failure(kind: FailureKind, message: str) -> Output:
    """Return the output of a task that the queue itself fails."""
    return Output(error=RemoteError.made_of(_ERRORS[kind], message), kind=kind)


_ERRORS: dict[FailureKind, type[ActorqError]] = {
    FailureKind.TIMEOUT: TaskTimeout,
    FailureKind.EXPIRED: TaskExpired,
    FailureKind.LOST: WorkerLost,
    FailureKind.DEPENDENCY: DependencyFailed,
    FailureKind.STORE: RowRefused,
}


def has_started(live: Live) -> dict[str, Any]:
    """Return what changes because the running attempt has started, as far as that is known."""
    if live.run is None or live.run.started is None:
        return {}
    return {"attempts": live.head.attempts + 1, "started_at": live.run.started}
