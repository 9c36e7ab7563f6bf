"""Chapter five: who is there, and what is lost with those who are not.

A peer in this process is there until its connection ends. One that is elsewhere (``leased``) has a
time: a worker's is moved on by its beats; a cut leaves either of them a short window to come back
in. When its time is up, a worker's tasks are delivered again, and a client's scopes are cancelled.

The owner may itself have stood still, and could not hear anybody: then all times move by as much.
"""

from __future__ import annotations

from math import inf

from actorq.errors import CorruptStore, RemoteError
from actorq.machines.accepting import Accepting
from actorq.machines.fleet import Worker
from actorq.machines.ledger import Live, Run
from actorq.machines.ready import has_last_chance
from actorq.machines.states import Move
from actorq.machines.tables import STEP_MAX, Limits
from actorq.machines.timers import Timers
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.ids import HOME
from actorq.model.records import Cancel, Output, Record
from actorq.model.status import PENDING, RUNNING, WAITING, FailureKind

LOSSES_MAX = 10_000
"""Clients whose loss is remembered, for them to be told when they come back."""

LOOK = "look"
_CLIENT, _WORKER = "client ", "worker "


class Attending(Accepting):
    """Hellos, beats, cuts and losses."""

    def __init__(self, limits: Limits, tail: str, home: str) -> None:
        super().__init__(limits, tail)
        self._until = Timers()
        """When a peer is given up if it is not heard of."""
        self._sessions: dict[str, int] = {}
        self._expected: set[str] = set()
        """Peers that a loaded record speaks of, before there was time to wait for them; and `LOOK`
        where there is something else to be done about what was loaded."""
        self._damages: dict[str, str] = {}
        """Loaded tasks whose records are damaged, and how."""
        self._pulse = inf
        """When somebody should look at the clock next, so that a stall can be told from silence;
        set at the end of each step."""
        self._look = limits.look
        self._spare_until = 0.0
        """Until when a peer that this owner has not met yet may take to come back."""
        self._named = False
        """Whether something that waits by its name alone may be known by now."""
        self._home = home
        """The node of the worker in this process."""
        self._parting = False
        """Whether somebody says goodbye, who leaves nothing behind in most cases."""

    def _expect(self, record: Record) -> None:
        """Take in a live record of the store; its worker and its client have a lease to come."""
        head = record.head
        live = self._ledger.open(head, record.body, None, stored=True)
        if record.damage is not None:
            self._damages[head.id] = record.damage
            self._expected.add(LOOK)
        self._stamp = max(self._stamp, head.submitted_at, head.since)
        if head.scope is not None:
            self._expected.add(_CLIENT + _session(head.scope))
        if head.needs or head.status is WAITING:
            self._restore(live)
        if head.status is PENDING:
            self._make_ready(live)
        elif head.status is RUNNING and head.worker is not None:
            worker = self._fleet.expect(head.worker)
            worker.held[head.id] = None
            worker.leased = True  # wherever it is; its hello will say
            live.run = Run(worker)
            if has_last_chance(head):
                worker.last = head.id
            if head.options.limit is not None:
                self._gates.hold(head.options.limit, head.id)
            self._expected.add(_WORKER + worker.node)
        self._arm(live)

    # --- time ------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """At the beginning of a step: note what the owner has slept through."""
        now = self._now
        if self._expected:
            self._meet()
            return
        late = now - self._pulse
        if late > self._look:
            # By no more than it was late: a dead peer must not gain by every stall.
            self.move_along(late)

    def move_along(self, seconds: float) -> None:
        """Wait so much longer for everybody, and for every window of a limit.

        For nobody could be heard, or the clock was set forward, which is to be said before the
        first step at the new time.
        """
        self._pulse += seconds
        for key, when in list(self._until.armed.items()):
            self._until.set(key, when + seconds)
        self._gates.shift(seconds)
        if self._until.armed:
            self._out.tell(EventKind.OWNER_STALLED, seconds=seconds)

    def _meet(self) -> None:
        """Begin to wait for those that loaded records speak of.

        They have a window to come back in, as after any other cut: whoever is alive dials at least
        once a second. But a worker in the process of an earlier owner has died with it.
        """
        self._spare_until = self._now + self._limits.window
        expected, self._expected = self._expected, set()
        damages, self._damages = self._damages, {}
        for id, why in damages.items():
            self._give_up_damaged(self._live[id], why)
        expected.discard(LOOK)
        for key in sorted(expected):
            node = key[len(_WORKER) :]
            worker = self._fleet.known(node) if key.startswith(_WORKER + HOME) else None
            if worker is not None and node != self._home and not worker.connection:
                self._lose_worker(worker)
            else:
                self._until.set(key, self._spare_until)

    def _give_up_damaged(self, live: Live, why: str) -> None:
        """End a task that cannot be run, as its record is damaged; a worker that runs it may."""
        head = live.head
        self._out.tell(EventKind.RECORD_DAMAGED, id=head.id, name=head.name, why=why)
        if live.run is None:
            if not head.submitted_at:  # its times are lost; these forbid most, see `_doubt`
                at = self._next_stamp()
                self._ledger.note(live, submitted_at=at, since=at, rank=at, due=at)
            error = RemoteError.made_of(CorruptStore, f"it cannot be run: {why}")
            self._end(live, Move.SPOIL, Output(error=error, kind=FailureKind.STORE))

    def _give_up_the_silent(self) -> None:
        """Give up every peer whose time is over."""
        while (key := self._until.pop(self._now)) is not None:
            name = key[len(_CLIENT) :]
            if key.startswith(_CLIENT):
                self._lose_session(name)
            elif (worker := self._fleet.known(name)) is not None:
                self._lose_worker(worker)

    # --- clients ---------------------------------------------------------------------------------

    def _client_hello(self, origin: int, hello: m.ClientHello) -> None:
        session = hello.session
        former = self._sessions.get(session)
        if hello.leased and former is not None and former not in self._remote:
            self._out.send(origin, m.Lost())  # somebody elsewhere is not the client in this process
            return
        if former == origin:
            self._news.gone(origin)  # it subscribes again, with what it missed meanwhile
        elif former is not None:
            self._drop_session(session)
        self._sessions[session] = origin
        self._session_of[origin] = session
        self._until.clear(_CLIENT + session)
        if hello.leased:
            self._remote.add(origin)
        losses = self._losses.get(session, 0)
        at = max(self._now, self._stamp)
        self._out.send(origin, m.ClientWelcome(self._welcome_for(origin), losses, at))

    def _drop_session(self, session: str) -> int | None:
        """Forget a client's connection, and return it."""
        origin = self._sessions.pop(session, None)
        self._until.clear(_CLIENT + session)
        if origin is not None:
            del self._session_of[origin]
            self._remote.discard(origin)
            self._drop_connection(origin)
        return origin

    def _drop_connection(self, origin: int) -> None:
        """Forget what a client will ask again if it is still wanted."""
        self._news.gone(origin)
        self._drop_parked(lambda to, _: to == origin, None)
        self._joins[:] = [waiter for waiter in self._joins if waiter[0] != origin]

    def _lose_session(self, session: str) -> None:
        """Cancel every task that is owned by a block of this client."""
        origin = self._drop_session(session)
        if not self._parting:
            self._losses[session] = self._losses.pop(session, 0) + 1
            if len(self._losses) > LOSSES_MAX:
                self._losses.popitem(last=False)
            if origin is not None:
                self._out.send(origin, m.Lost())
        why = "has left" if self._parting else "was out of reach for too long"
        cancel = Cancel("scope", f"its client {why}")
        ids = [
            id
            for scope, members in self._ledger.scopes.items()
            if _session(scope) == session
            for id in members
        ]
        self._cancel_all(ids, cancel, self._limits.grace)
        if ids or not self._parting:
            self._out.tell(EventKind.CLIENT_LOST, session=session, tasks=len(ids))

    # --- workers ---------------------------------------------------------------------------------

    def _worker_hello(self, origin: int, hello: m.WorkerHello) -> None:
        former = self._fleet.known(hello.node)
        if hello.leased and former is not None and former.connection and not former.leased:
            self._out.send(origin, m.Lost())  # somebody elsewhere is not the worker in this process
            return
        if former is not None and former.name != hello.worker:
            # A new incarnation: whatever an older one held has died with it.
            self._lose_worker(former, origin)
        worker = self._fleet.connect(origin, hello.node, hello.worker, hello.slots)
        self._fleet.learn(worker, hello.tasks, hello.declared)
        self._named = True
        worker.leased = hello.leased
        if hello.leased:
            self._until.set(_WORKER + hello.node, self._now + self._limits.lease)
        else:
            self._until.clear(_WORKER + hello.node)
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
            self._watch_over(live)
            if live.head.cancel is not None and live.run is not None:
                # Who asked for the cancel, and for how long it may take, did not survive a crash.
                if live.run.patience is None:
                    live.run.patience = self._now + self._limits.grace
                    self._watch_over(live)
                self._interrupt(live, live.head.cancel, live.run.patience - self._now)

    def _worker_ready(self, origin: int, ready: m.Ready) -> None:
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            self._fleet.offer(worker, ready.pool, ready.credit)

    def _worker_knows(self, origin: int, knows: m.Knows) -> None:
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            self._fleet.learn(worker, knows.tasks, knows.declared)
            self._named = True

    def _resolve_names(self) -> None:
        """Have what was submitted by a name that is known by now wait as what it is.

        Or as much of it as one step may.
        """
        names = self._fleet.names()
        for _ in range(STEP_MAX):
            live = self._ready.take("any", names)
            if live is None:
                self._named = False
                return
            self._make_ready(live)
            assert live.head.pool != "any"  # or this had no end

    def _beat(self, origin: int, beat: m.Beat) -> None:
        worker = self._fleet.by_connection.get(origin)
        if worker is None or not worker.leased:
            return
        if beat.lag <= self._limits.max_block:
            self._until.set(_WORKER + worker.node, self._now + self._limits.lease)
        if beat.lag > self._limits.beat:
            self._fleet.suspend(worker)
        else:
            self._fleet.resume(worker)

    def _worker_died(self, origin: int, request: m.WorkerDied) -> None:
        worker = self._fleet.known(request.node)
        # One in this process is not anybody's child; one that is expected may be.
        if worker is not None and worker.leased:
            self._lose_worker(worker)
        self._out.reply(origin, request)

    def _lose_worker(self, worker: Worker, successor: int | None = None) -> None:
        """Deliver again what a worker held that is given up.

        ``successor``: the connection of the next one, which may have been this one's.
        """
        self._until.clear(_WORKER + worker.node)
        held = list(worker.held)
        self._fleet.forget(worker)
        for id in held:
            live = self._live[id]
            # It may still finish: whatever becomes of the task now, that is refused.
            self._ledger.note(live, fence=live.head.fence + 1)
            self._lose(live)
        if worker.origin is not None and worker.origin != successor:
            self._out.send(worker.origin, m.Lost())
        if worker.leased and (held or not self._parting):
            self._out.tell(EventKind.WORKER_LOST, worker=worker.name, tasks=len(held))

    # --- cuts ------------------------------------------------------------------------------------

    def _away(self, origin: int, _: m.Away) -> None:
        """A connection is cut: its peer has a window to come back in."""
        window = max(self._now + self._limits.window, self._spare_until)
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            self._fleet.disconnect(worker)
            key = _WORKER + worker.node
            self._until.set(key, min(window, self._until.armed.get(key, inf)))
        elif (session := self._session_of.get(origin)) is not None:
            self._until.set(_CLIENT + session, window)

    def _give_up(self, origin: int, _: m.GiveUp) -> None:
        session = self._session_of.get(origin)
        if session is not None:
            self._lose_session(session)

    def _gone(self, origin: int, _: m.Gone) -> None:
        """A connection has ended for good: the peer has said goodbye, or was in this process."""
        self._parting = True
        worker = self._fleet.by_connection.get(origin)
        if worker is not None:
            if worker.leased:
                self._lose_worker(worker)
            else:
                self._fleet.disconnect(worker)
        session = self._session_of.get(origin)
        if session is not None:
            if origin in self._remote:
                self._lose_session(session)
            else:
                self._drop_session(session)
        self._drop_connection(origin)
        self._parting = False


def _session(scope: str) -> str:
    """Return the name of the client that a scope belongs to."""
    return scope.rpartition(":")[0]
