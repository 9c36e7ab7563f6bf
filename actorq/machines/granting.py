"""Chapter three: who is granted what, and what a worker's word about it means.

Only the newest grant, by the worker that holds it, can say anything about a task. A grant that
never arrived spends nothing; one whose worker died is a death.
"""

from __future__ import annotations

from math import inf

from msgspec.structs import replace

from actorq.machines.dependencies import Depending
from actorq.machines.effects import Send
from actorq.machines.ending import failure, has_started
from actorq.machines.fleet import POOLS, Worker
from actorq.machines.lanes import Apart
from actorq.machines.ledger import Live, Run
from actorq.machines.ready import APART, has_last_chance
from actorq.machines.retry import backoff
from actorq.machines.states import GRANT, SUCCEED, Move
from actorq.machines.times import over
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.feed import TaskEventKind
from actorq.model.records import Head, Note, Pause, Pool
from actorq.model.status import RUNNING, FailureKind

_DOOMED_MAX = 100
"""Tasks that stand before others and are cancelled for that, rather than in their turn."""

_Lines = tuple[tuple[Pool | Apart, Pool, bool], ...]
_MOST_LINES: _Lines = tuple((pool, pool, False) for pool in POOLS)
_LINES: _Lines = (*((APART[pool], pool, True) for pool in POOLS), *_MOST_LINES)
"""What waits for a slot of which pool; first those of which each worker holds one at most."""

_SPEND_NOTHING = ("later", "handed back")


class Granting(Depending):
    """Grants, workers, and the ends of attempts."""

    def _grant_what_is_ready(self) -> None:
        if self._closing or self._blind:
            return
        free, waiting, left = self._fleet.free, self._ready.heaps, _DOOMED_MAX
        lines = _LINES if waiting["main, apart"] or waiting["process, apart"] else _MOST_LINES
        for line, pool, apart in lines:
            while waiting[line] and free[pool] > 0:
                live = self._ready.take(line, self._fleet.able(pool, apart=apart))
                if live is None:
                    break  # nobody who is free knows any of it
                if self._timers.armed.get(live.head.id, inf) <= self._now >= over(live.head):
                    # Too late, though no tick has come yet to say so.
                    self._ready.add(live)
                    self._on_time(live)
                    continue
                if self._doomed and live.head.id in self._doomed:
                    self._ready.add(live)  # as all that is pending
                    left -= self._cancel_if_doomed(live.head.id)
                    if not left:
                        return
                    continue
                if live.head.needs and self._lacks_value(live):
                    continue
                worker = self._fleet.freest(pool, live.head.name, apart=apart)
                assert worker is not None  # `able` says so
                self._grant(worker, live)

    def _pause_queue(self, origin: int, request: m.PauseQueue) -> None:
        """Grant nothing of a queue any more, whoever asks and whatever comes; or do again."""
        queue, paused = request.queue, self._ready.paused
        if request.paused and queue not in paused:
            self._ready.pause(queue, self._now)
            self._out.append(Note("pause", queue, Pause(self._now)))
        elif not request.paused and queue in paused:
            self._ready.resume(queue)
            self._out.append(Note("pause", queue, None))
        self._out.reply(origin, request)

    def _tick(self, origin: int, tick: m.Tick) -> None:
        if self._gates.alarms.armed:
            self._ready.look_at_gates()
        super()._tick(origin, tick)

    def stuck(self) -> str | None:
        """Say in words what could start by all rules, and does not; that would be a bug."""
        if self._closing or self._blind:
            return None
        pending = self._ledger.pending()
        if pending != len(self._ready):
            return f"{pending} tasks are pending, and {len(self._ready)} of them are in a line"
        for line, pool, apart in _LINES:
            if self._fleet.free[pool] > 0:
                name = self._ready.idle(line, self._fleet.able(pool, apart=apart))
                if name is not None:
                    return (
                        f"{self._fleet.free[pool]} slots of pool {pool!r} are free, and a task "
                        f"{name!r} waits for one"
                    )
        return None

    def _grant(self, worker: Worker, live: Live) -> None:
        head = live.head
        self._ledger.move(live, GRANT, fence=head.fence + 1, worker=worker.name)
        live.run = Run(worker)
        if self._timers.armed:
            self._timers.clear(head.id)
        self._fleet.charge(worker, head.pool, head.id)
        if head.deaths and has_last_chance(head):
            worker.last = head.id
        if head.options.limit is not None:
            self._ready.enter(head)
        deadline = head.options.deadline
        remaining = None
        if deadline is not None:
            remaining = head.since + deadline - self._now
            self._watch_over(live)
        assert worker.connection is not None  # only a connected worker has free slots
        grant = m.Grant(live.head, live.body, remaining)
        if head.needs:
            grant = m.Grant(live.head, live.body, remaining, self._bonds.inputs(head))
        self._out.append(Send(worker.connection, grant))

    def _started(self, origin: int, started: m.Started) -> None:
        live = self._held(origin, started.id, started.fence)
        # (A worker says it again on each connection.)
        if live is not None and live.run is not None and live.run.started is None:
            live.run.started = started.at
            if self._news.any:
                head = replace(live.head, **has_started(live))
                self._news.publish(TaskEventKind.STARTED, head, self._now)

    def _report(self, origin: int, report: m.Report) -> None:
        live = self._held(origin, report.id, report.fence)
        if live is not None and live.run is not None:
            live.run.progress = report.progress
            if self._news.any:
                head = replace(live.head, **has_started(live))
                self._news.publish(TaskEventKind.PROGRESS, head, self._now, report.progress)

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
        """A repeat of what is recorded is accepted; a grant that was taken away is refused."""
        accepted = head is None or (head.fence == finish.fence and head.status is not RUNNING)
        self._out.send(origin, m.Finished(finish.id, finish.fence, accepted))
        if not accepted and finish.cause != "cancelled":
            self._out.tell(
                EventKind.STALE_RESULT, id=finish.id, fence=finish.fence, cause=finish.cause
            )

    def _conclude(self, live: Live, finish: m.Finish) -> None:
        """Decide what the end of an attempt means for its task."""
        cause, started_at = finish.cause, finish.started_at
        if self._refused and live.head.id in self._refused:
            why = f"its outcome cannot be kept: {self._refused.pop(live.head.id)}"
            self._end(live, Move.FAIL, failure(FailureKind.STORE, why), started_at=started_at)
            return
        if cause == "ok":
            attempts = live.head.attempts + 1
            self._end(live, SUCCEED, finish.output, attempts=attempts, started_at=started_at)
            return
        if started_at is not None:
            attempts = live.head.attempts + (cause not in _SPEND_NOTHING)
            self._ledger.note(live, attempts=attempts, started_at=started_at)
            if live.run is not None:
                live.run.started = None  # counted
        head = live.head
        if head.cancel is not None:
            self._end(live, Move.CANCEL, None)
        elif cause == "lost":
            self._lose(live)
        elif cause == "handed back":
            self._take_back(live, started=started_at is not None)
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
        if self._news.any:
            error = finish.output.error
            self._news.publish(TaskEventKind.RETRYING, live.head, self._now, None, error)
        self._arm(live)
        self._answer_who_waits_for_quiet()

    def _lose(self, live: Live) -> None:
        """A worker died under a task: deliver it again, or give it up as poison."""
        head = live.head
        self._totals["lost"] += 1
        deaths = head.deaths + 1
        self._ledger.note(live, deaths=deaths, **has_started(live))
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
            self._end(live, Move.FAIL, failure(FailureKind.LOST, message))
        else:
            self._put_back(live, Move.LOSE)

    def _take_back(self, live: Live, *, started: bool) -> None:
        """A worker that stops wants others to run it; that spends neither attempt nor death."""
        if started and live.head.options.at_most_once:
            message = f"worker {live.head.worker} stopped in the middle of it (at_most_once)"
            self._end(live, Move.FAIL, failure(FailureKind.LOST, message))
        else:
            self._put_back(live, Move.HAND_BACK)

    def _put_back(self, live: Live, move: Move) -> None:
        self._release(live)
        self._ledger.move(live, move)
        if self._news.any and move is Move.LOSE:
            self._news.publish(TaskEventKind.LOST, live.head, self._now)
        self._make_ready(live)
        self._arm(live)
        self._answer_who_waits_for_quiet()
