"""The tables that the chapters of the queue's rule book share, and the clock that they go by."""

from __future__ import annotations

from collections import OrderedDict
from math import inf, nextafter

from msgspec import Struct

from actorq.errors import ActorDied
from actorq.machines.bonds import Bonds
from actorq.machines.effects import Outbox
from actorq.machines.fleet import Fleet
from actorq.machines.ledger import Ledger, Live
from actorq.machines.parking import Parking
from actorq.machines.ready import Ready
from actorq.machines.states import Move, target
from actorq.machines.subscriptions import Subscriptions
from actorq.machines.timers import Timers
from actorq.machines.times import deadline as deadline_of
from actorq.machines.times import expiry as expiry_of
from actorq.machines.times import rank
from actorq.model import messages as m
from actorq.model.feed import TaskEventKind
from actorq.model.ids import IdSource
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Ownership, Record, TrackedHead
from actorq.model.schedules import TICK_META
from actorq.model.status import RUNNING, SCHEDULED


class Limits(Struct, frozen=True):
    """The owner's bounds.

    Attributes:
        max_pending: Waiting tasks per queue.
        result_ttl: Seconds for which results are kept.
        grace: Seconds that a cancelled task has if nobody said otherwise.
        lease: Seconds after which a worker elsewhere is given up if it is not heard of.
        window: Seconds after which a peer is given up whose connection was cut.
        max_block: Seconds for which a worker's loop may stand still and keep its tasks.
        max_parked: Submits of one client elsewhere that wait for room.
    """

    max_pending: int = 100_000
    result_ttl: float = 3_600.0
    grace: float = 10.0
    lease: float = 15.0
    window: float = 5.0
    max_block: float = 60.0
    max_parked: int = 1_000

    @property
    def look(self) -> float:
        """Seconds after which the owner looks at its clock, as long as it waits for somebody.

        A stall that is shorter is no excuse, so it must be a small part of the window.
        """
        return min(self.lease, self.window) / 5

    @property
    def beat(self) -> float:
        """Seconds between two beats of a worker."""
        return self.lease / 5


class Tables:
    """State, and the few moves on it that every chapter makes."""

    def __init__(self, limits: Limits, tail: str) -> None:
        self._limits = limits
        self._epoch = 0
        self._began = 0.0
        """When this machine became the owner."""
        self._lineage = ""
        """What the records are called that this machine rests on."""
        self._forgotten_until = 0.0
        """The largest ``submitted_at`` of what was ever forgotten."""
        self._refused: dict[str, str] = {}
        """Tasks that the store cannot keep, and why."""
        self._remote: set[int] = set()
        """The connections of clients elsewhere."""
        self._session_of: dict[int, str] = {}
        self._losses: OrderedDict[str, int] = OrderedDict()
        """How often each client was given up."""
        self._ids = IdSource(lambda: self._now, tail)
        self._now = 0.0
        self._stamp = 0.0
        self._closing = False
        self._out = Outbox()
        self._ledger = Ledger()
        self._ledger.clients = self._session_of
        self._live = self._ledger.live
        self._bonds = Bonds(self._live)
        self._blind = 0
        """Look-ups of what tasks need that are not answered yet: until then, none is granted."""
        self._lately: dict[str, Record | None] = {}
        """What has ended, or was discarded, while the store is asked about submits."""
        self._lately_keyed: dict[str, str] = {}
        self._ready: Ready[Live] = Ready(lambda: self._now)
        self._gates = self._ready.gates
        self._timers = Timers()
        self._fleet = Fleet()
        self._parking = Parking()
        self._news = Subscriptions(self._ledger, self._out)
        self._cancels: dict[str, list[tuple[int, int]]] = {}
        self._ending: dict[str, list[tuple[int, int]]] = {}
        self._doomed: dict[str, tuple[Cancel, float]] = {}
        """What is to be cancelled, in this step or the next ones, and its grace."""
        self._joins: list[tuple[int, int]] = []
        self._closes: list[tuple[int, m.Close]] = []
        self._totals: dict[str, int] = dict.fromkeys(
            ("success", "failure", "cancelled", "retries", "lost"), 0
        )

    def own(self, ownership: Ownership, now: float) -> None:
        """Take in what the store says of itself, before anything else."""
        self._began = now
        self._lineage = ownership.lineage
        self._epoch = ownership.epoch
        self._stamp = ownership.stamp
        self.forgot(ownership.forgotten_until)

    def forgot(self, until: float) -> None:
        """Note the largest ``submitted_at`` of what was forgotten."""
        self._forgotten_until = max(self._forgotten_until, until)

    def refuse(self, id: str, why: str) -> None:
        """Do not have this task's record changed again as it was: the store refused that."""
        self._refused[id] = why

    def tables(self) -> dict[str, int]:
        """Return the size of every internal table; all are 0 when no task is live.

        Connected workers are counted by what they hold.
        """
        return (
            self._ledger.tables()
            | self._bonds.tables()
            | {
                "blind": self._blind,
                "lately": len(self._lately) + len(self._lately_keyed),
                "ready": len(self._ready),
                "gates": len(self._gates),
                "timers": len(self._timers),
                "parked": len(self._parking),
                "cancels": len(self._cancels),
                "ending": len(self._ending),
                "doomed": len(self._doomed),
                "joins": len(self._joins),
                "closes": len(self._closes),
                "held": self._fleet.held(),
                "subscriptions": len(self._news),
            }
        )

    def _lineage_for(self, origin: int) -> str:
        """Return what these records are called for one client; another name once it was lost.

        What it was told before that was not kept for it.
        """
        return f"{self._lineage}.{self._losses.get(self._session_of.get(origin, ''), 0)}"

    def _welcome_for(self, origin: int) -> str:
        """Return what a client is told of both: the records, and this machine.

        As long as it hears the same, every answer that it has not got is kept for it.
        """
        return f"{self._lineage_for(origin)}/{self._epoch}"

    def _next_stamp(self) -> float:
        """Return now, or just after the last stamp: so rank alone is the order, with no ties."""
        now, last = self._now, self._stamp
        self._stamp = stamp = now if now > last else nextafter(last, inf)
        return stamp

    def _since(self, stamp: float) -> float:
        """Return when what has this stamp begins.

        A clock that was set back leaves the stamps ahead: they keep the order, and time is now.
        """
        return stamp if stamp < self._now + _STAMPS_AHEAD else self._now

    def _discard(self, record: Record) -> None:
        """Forget an ended task."""
        head = record.head
        self._ledger.discard(head.id)
        self.forgot(head.submitted_at)
        if self._parking.asked:
            self._lately[head.id] = None

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
        else:
            self._timers.clear(head.id)

    def _release(self, live: Live) -> None:
        """Take a running task off its worker's list, and out of its limit.

        The worker's slot comes back by the worker's word.
        """
        if live.run is not None:
            live.run.worker.held.pop(live.head.id, None)
            live.run = None
            if live.head.options.limit is not None:
                self._ready.leave(live.head)

    def _make_ready(self, live: Live) -> None:
        """Let a pending task wait for a slot of the pool that it needs.

        One that was submitted by its name alone gets what its decorator says, once somebody is
        there who knows that; but for a delay, as it is due already, and for what is decided when
        a task is accepted: its key, and what it comes after.
        """
        head = live.head
        if head.pool == "any":
            declared = self._fleet.declared(head.name)
            if declared is not None:
                options = declared.options.with_after(()).with_key(None).merge(head.options)
                said = head.options.meta
                if said and said.keys() <= TICK_META:  # which the owner has added itself
                    options = options.merge(TaskOptions(meta={**declared.options.meta, **said}))
                self._ledger.settle(live, declared.pool, options, rank(options.priority, head.due))
                self._arm(live)
            elif self._fleet.knows(head.name):
                self._ledger.settle(live, "main", head.options, head.rank)
        self._ready.add(live)

    def _open(self, task: m.Submission, watch: int | None, *, waits: bool = False) -> Live:
        """Make a new task live; if it is pending then, it must be granted or get ready now.

        One that ``waits`` does so for other tasks, to which it must be tied now.
        """
        options, now = task.options, self._now
        self._stamp = stamp = now if now > self._stamp else self._next_stamp()
        since = due = self._since(stamp) if stamp > now else now
        if options.delay is not None:
            due = since + options.delay
        elif options.at is not None:
            due = max(since, options.at.timestamp())
        later = due > now and due > since
        opaque = options.meta or options.callback is not None or options.callback_data is not None
        kind = TrackedHead if opaque else Head
        head = kind(
            task.id,
            task.name,
            options,
            task.pool,
            task.scope,
            stamp,
            since,
            rank(options.priority, due if later else stamp),
            due,
            _WAITING if waits else _DEFERRED if later else _ACCEPTED,
            needs=task.needs,
        )
        live = self._ledger.open(head, task.body, watch)
        if later or options.deadline is not None or options.expires is not None:
            self._arm(live)
        if self._news.any:
            self._news.publish(TaskEventKind.SUBMITTED, head, now)
        return live


STEP_MAX = 500
"""Tasks that one step ends, or decides about, because of others or of the time: some 20 ms. What is
left then is done in the next steps, between which everybody else is served."""

_STAMPS_AHEAD = 1.0
"""Seconds by which stamps may be ahead of the clock because many came at once."""

_ACCEPTED = target(Move.ACCEPT, None)
_DEFERRED = target(Move.DEFER, None)
_WAITING = target(Move.WAIT, None)


def closing() -> ActorDied:
    """Return the refusal of a system that is closing; a new one each time, as it will be raised."""
    return ActorDied("this system is closing and takes no new tasks")
