"""The queue actor: a thin shell that carries mail to the machine and out what it decides.

A turn is: drain the mail, step the machine, one commit of all writes, and only then everything
that rests on them. There is no timer: what gathers while a commit is in flight is the next turn, so
a lone task leaves at once and a burst shares a commit. A crash before the commit loses nothing,
since nothing was answered and the peers send again; a crash after it loses no more than answers,
which are given again when asked. After any failure the machine is ahead of the store and is thrown
away: the supervisor starts a new incarnation, which loads, and every peer gets a new connection.

On a store that never suspends, whoever posts runs the turn in its own call, so that a submit is
granted, and a result delivered, without a pass of the scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from math import inf
from typing import Any

import trio
from attrs import evolve

from actorq.actors.owner import OWNERSHIP_TTL, GivenUp, Owner
from actorq.actors.reading import Reading
from actorq.contracts.clock import Clock
from actorq.contracts.store import Store
from actorq.errors import StoreUnavailable
from actorq.machines.effects import (
    Complete,
    Effect,
    Lookup,
    Search,
    Send,
    Tell,
)
from actorq.machines.queue import Mail, QueueMachine
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.feed import TaskEventKind
from actorq.model.records import Note, Ownership, Record, Write
from actorq.runtime.exchange import Exchange
from actorq.runtime.future import Future
from actorq.runtime.lanes import Lanes
from actorq.runtime.mailbox import Mailbox

MAIL_MAX = 1_024
"""Messages taken into one turn, and so into one commit."""

PURGE_EVERY = 60.0
"""Seconds between two looks for results whose time is over; a look-up never shows those."""

STUCK_EVERY = 5.0
"""Seconds between two looks whether something could start and does not."""

_PURGE_SHARE = 64
_REFUSED_MAX = 10_000

_LOAD_CHUNK = 500
_MOMENT = 0.001
_TICK = (m.Tick(),)
_EPHEMERAL = frozenset({TaskEventKind.STARTED, TaskEventKind.PROGRESS})


class Memory:
    """What outlives an incarnation of the queue actor, in its process.

    Attributes:
        owned: Set when one of them first owned the store.
        refused: Tasks whose record the store has refused, and why: they must not be tried again.
    """

    def __init__(self) -> None:
        self.owned: Future[None] = Future()
        self.refused: dict[str, str] = {}

    def refuse(self, id: str, why: str) -> bool:
        """Note a refusal; say whether it is a new one."""
        if id in self.refused:
            return False
        if len(self.refused) >= _REFUSED_MAX:
            del self.refused[next(iter(self.refused))]
        self.refused[id] = why
        return True


class QueueActor:
    """One incarnation of the owner of a partition; `run` it under a supervisor."""

    def __init__(
        self,
        nonce: str,
        *,
        store: Store,
        exchange: Exchange,
        clock: Clock,
        limits: Limits,
        max_results: int,
        home: str,
        memory: Memory,
        tell: Callable[..., None],
        machine: Callable[[Limits, str, str], QueueMachine] = QueueMachine,
    ) -> None:
        """See `run`.

        Args:
            nonce: 16 hex digits that nobody else has.
            store: Where it keeps what must survive it.
            exchange: Its peers.
            clock: The owner's clock.
            limits: Its bounds.
            max_results: How many results are kept.
            home: The node of the worker in this process.
            memory: See the class.
            tell: Reports events.
            machine: Makes the machine.
        """
        self._store = store
        self._owner = Owner(store, nonce, tell)
        self._immediate = store.immediate
        self._exchange = exchange
        self._clock = clock
        self._jumped = clock.jumped
        self._max_results = max_results
        self._memory = memory
        self._tell = tell
        self._machine = machine(limits, nonce, home)
        self._reading = Reading(self._owner, self._step, self._machine.refuse)
        self._mail = Lanes()
        self._searches: deque[Search] = deque()
        self._in_turn = False
        self._failure: BaseException | None = None
        self._alarm: float | None = None
        self._purge_at: float | None = None
        self._kept = max_results + 1  # unknown until the first purge
        self._spare_until = 0.0
        """After a crash, nothing is purged before everybody had time to ask again."""
        self._now = 0.0
        self._stuck_at = 0.0

    @property
    def machine(self) -> QueueMachine:
        """The machine, for those who check its tables."""
        return self._machine

    async def run(self, inbox: Mailbox[Mail]) -> None:
        """Own the partition until cancelled.

        Mail of an earlier incarnation is dropped: its connections have ended, and the peers send
        again.

        Raises:
            StoreUnavailable: Another owner is alive.
            BaseException: Whatever broke the turn.
        """
        self._mail = inbox._lanes
        self._mail.user.clear()
        over = False
        try:
            await self._own(inbox)
            self._exchange.open(self._post)
            self._memory.owned.set(None)
            inbox.started()
            while True:
                await self._mail.wait(self._seconds_to_wait())
                if self._failure is not None:
                    raise self._failure
                self._in_turn = True
                effects: list[Effect] = []
                if self._searches:
                    effects = await self._reading.search(self._searches.popleft())
                    self._mail.wake()  # for the next of them
                await self._turn(self._mail.take_many(MAIL_MAX), effects)
                self._in_turn = False
                await self._owner.renew()
        except GivenUp as error:
            self._exchange.suspend(error)  # or all would ask again, and wait again
            over = True
            raise
        except trio.Cancelled:
            over = True
            raise
        finally:
            self._in_turn = True  # no turn from now on
            self._exchange.close()
            # After a crash this process goes on as the owner: a standby would run again what runs.
            if over:
                await self._owner.release()

    async def _own(self, inbox: Mailbox[Mail]) -> None:
        """Become the owner, however long that takes, and load what there is."""

        def stand_by(why: StoreUnavailable) -> None:
            inbox.started()  # the house is up, though it cannot do anything yet
            self._exchange.suspend(why)

        await self._owner.acquire(stand_by, first=not self._memory.owned.done)
        began = trio.current_time()
        ownership = self._owner.ownership
        assert ownership is not None  # `acquire` says so
        if ownership.epoch > 1:
            self._spare_until = self._clock.now() + OWNERSHIP_TTL
            self._purge_at = self._spare_until
        machine = self._machine
        machine.own(ownership, self._clock.now())
        for note in await self._owner.insist(lambda: self._store.notes(ownership)):
            machine.load_note(note)
        records = await self._owner.insist(lambda: self._load(ownership))
        records.sort(key=_place)
        for number, record in enumerate(records, 1):
            machine.load(record)
            if number % _LOAD_CHUNK == 0 and not self._immediate:
                await trio.lowlevel.checkpoint()
                await self._owner.renew()
        for id, why in self._memory.refused.items():
            machine.refuse(id, why)
        if self._store.durable:
            seconds = trio.current_time() - began
            self._tell(EventKind.OWNING, epoch=ownership.epoch, tasks=len(records), seconds=seconds)

    async def _load(self, ownership: Ownership) -> list[Record]:
        records: list[Record] = []
        async with aclosing(self._store.load(ownership)) as pieces:
            async for piece in pieces:
                records += piece
                await self._owner.renew()
        return records

    def _seconds_to_wait(self) -> float | None:
        self._alarm = self._next_alarm()
        idle = self._owner.renew_at - trio.current_time()
        if self._alarm is None:
            return None if idle == inf else max(idle, 0.0)
        wait = self._alarm - self._clock.now()
        # Not less than a moment: a clock that was set back may be slow.
        wait = min(max(wait, _MOMENT), self._clock.horizon) if wait > 0 else 0.0
        return max(min(wait, idle), 0.0)

    def _next_alarm(self) -> float | None:
        deadline, purge = self._machine.next_deadline(), self._purge_at
        if deadline is None or (purge is not None and purge < deadline):
            return purge
        return deadline

    # --- mail ------------------------------------------------------------------------------------

    # A KeyboardInterrupt in the middle of a turn would break it; protected, it is raised after it.
    @trio.lowlevel.enable_ki_protection
    def _post(self, connection: int, messages: tuple[Any, ...]) -> None:
        if self._immediate and not self._in_turn:
            self._turn_now([(connection, messages)])
            return
        self._mail.post((connection, messages))
        if not self._immediate:
            self._mail.wake()

    def _turn_now(self, mail: list[Mail]) -> None:
        """Run a turn to its end in the poster's call."""
        self._in_turn = True
        turn = self._turn(mail, [])
        try:
            turn.send(None)
        except StopIteration:
            self._in_turn = False
            alarm = self._next_alarm()
            if alarm is not None and (self._alarm is None or alarm < self._alarm):
                self._mail.wake()  # its own task sleeps too long
        except BaseException as error:  # noqa: BLE001 - the actor's own task raises it
            self._crash(error)
        else:
            turn.close()
            self._crash(RuntimeError(f"{self._store!r} says it is immediate, but it suspends"))

    def _crash(self, error: BaseException) -> None:
        """End this incarnation: its mail and connections are over before anyone resumes."""
        self._failure = error
        self._exchange.close()
        self._mail.wake()

    # --- the turn --------------------------------------------------------------------------------

    async def _turn(self, mail: list[Mail], effects: list[Effect]) -> None:
        """Take this mail, what comes of it, and all that arrives meanwhile."""
        machine = self._machine
        while True:
            self._now = now = self._clock.now()
            if self._clock.jumped != self._jumped:
                self._note_jump()
            if mail:
                effects += machine.turn(mail, now)
            deadline = machine.next_deadline()
            # Mail first: what has arrived in time counts, even if nobody looked until now.
            if deadline is not None and deadline <= now:
                effects += machine.step(0, _TICK, now)
                self._look_whether_stuck(now)
            while effects:
                effects = await self._carry_out(effects)
            # Not before: what is revived in this turn must not be forgotten while it is written.
            if self._kept > self._max_results and now >= self._spare_until:
                await self._purge()
            if self._purge_at is not None and self._purge_at <= now:
                if now >= self._spare_until:
                    await self._purge()
                else:
                    self._purge_at = self._spare_until
            mail = self._mail.take_many(MAIL_MAX)
            if not mail:
                return

    async def _carry_out(self, effects: list[Effect]) -> list[Effect]:
        """Commit every write, then do all the rest in order; return what comes of the answers."""
        effects = await self._commit(effects)
        connected = self._exchange.connected
        more: list[Effect] = []
        lookups: list[Lookup] = []
        for effect in effects:
            if type(effect) is Send:
                peer = connected.get(effect.to)
                if peer is not None:
                    peer.received(effect.message)
            elif type(effect) is Write:
                if effect.head is not None and effect.head.keep_until is not None:
                    self._count_result(effect.head.keep_until, effect.head.options.key)
            elif type(effect) is Lookup:
                lookups.append(effect)
            elif type(effect) is Search and more:
                # What comes of the one before is not written yet, and would not be seen.
                self._searches.append(effect)
                self._mail.wake()
            elif type(effect) is not Note:
                more += await self._look_up(effect)
        if lookups:
            more += await self._reading.fetch(lookups)
        return more

    async def _commit(self, effects: list[Effect]) -> list[Effect]:
        """Write what there is to write; return what has not been done already."""
        writes = [effect for effect in effects if type(effect) is Write]
        notes = [effect for effect in effects if type(effect) is Note]
        if len(writes) > 1:
            writes = _merged(writes)
        if len(notes) > 1:
            notes = [*{(note.kind, note.name): note for note in notes}.values()]
        if self._immediate:
            if writes or notes:
                ownership = self._owner.ownership
                assert ownership is not None  # turns begin after `acquire`
                await self._store.commit(ownership, writes, notes)
        elif writes or notes:
            effects = self._send_early(effects)
            await self._owner.commit(writes, notes)
        elif not self._owner.fresh:
            await self._owner.commit(())
        return effects

    def _send_early(self, effects: list[Effect]) -> list[Effect]:
        """Send what rests on nothing that is stored, and return the rest."""
        rest: list[Effect] = []
        for effect in effects:
            if (
                type(effect) is Send
                and type(effect.message) is m.News
                and all(event.kind in _EPHEMERAL for event in effect.message.events)
            ):
                peer = self._exchange.connected.get(effect.to)
                if peer is not None:
                    peer.received(effect.message)
            else:
                rest.append(effect)
        return rest

    async def _look_up(self, effect: Effect) -> list[Effect]:
        """Ask the store for what the machine does not know; return what comes of the answer."""
        if isinstance(effect, Complete):
            stats = evolve(effect.stats, store=await self._owner.stats())
            effect = Send(effect.to, m.Reply(effect.request, stats))
            peer = self._exchange.connected.get(effect.to)
            if peer is not None:
                peer.received(effect.message)
            return []
        if isinstance(effect, Search):
            if effect.cursor is None:
                return await self._reading.search(effect)
            # A long search goes on in turns of its own, which lets others have theirs in between.
            self._searches.append(effect)
            self._mail.wake()
            return []
        assert isinstance(effect, Tell)
        self._tell(effect.kind, **effect.details)
        return []

    def _note_jump(self) -> None:
        """Tell the machine that the clock was set forward, before it hears what time it is."""
        before, self._jumped = self._jumped, self._clock.jumped
        self._machine.move_along(self._jumped - before)

    def _step(self, origin: int, message: Any) -> list[Effect]:
        """Tell the machine what came of what it asked."""
        self._now = self._clock.now()
        if self._clock.jumped != self._jumped:
            self._note_jump()
        return self._machine.step(origin, (message,), self._now)

    def _count_result(self, keep_until: float, key: str | None) -> None:
        self._kept += key is None  # the others are kept for their time
        if self._purge_at is None or keep_until < self._purge_at:
            self._purge_at = keep_until

    async def _purge(self) -> None:
        """Have the store forget results beyond their time or number."""
        most = self._max_results
        # A little below the bound, so that not every single result at it costs a purge.
        keep = most - most // _PURGE_SHARE if self._kept > most else most
        purged = await self._owner.purge(self._now, keep, self._machine.pinned())
        if purged is None:
            self._purge_at = self._now + PURGE_EVERY
            return
        self._kept = purged.left
        self._machine.forgot(purged.forgotten_until)
        if purged.more:
            self._purge_at = self._now
            self._mail.wake()
        elif self._purge_at is not None and self._purge_at <= self._now:
            later = self._now + PURGE_EVERY
            self._purge_at = None if purged.next is None else max(purged.next, later)

    def _look_whether_stuck(self, now: float) -> None:
        if now >= self._stuck_at:
            self._stuck_at = now + STUCK_EVERY
            why = self._machine.stuck()
            if why is not None:
                self._tell(EventKind.STUCK, why=why)


def _merged(writes: list[Write]) -> list[Write]:
    """Return each record once, its last state: or doing it twice would differ from doing it once.

    Several steps may have changed it.
    """
    merged: dict[str, Write] = {}
    for write in writes:
        id = write.id
        merged[id] = write.over(merged[id]) if id in merged else write
    return [*merged.values()]


def _place(record: Record) -> tuple[float, str]:
    """Return where a task stands in line."""
    return record.head.rank, record.head.id
