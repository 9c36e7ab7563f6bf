"""The queue actor: a thin shell that carries mail to the machine and out what it decides.

A turn is: drain the mail, step the machine, one commit of all writes, and only then everything
that rests on them. A crash before the commit loses nothing, since nothing was answered and the
peers send again; a crash after it loses no more than answers, which are given again when asked.
After any failure the machine is ahead of the store and is thrown away: the supervisor starts a new
incarnation, which loads, and every peer gets a new connection.

On a store that never suspends, whoever posts runs the turn in its own call, so that a submit is
granted, and a result delivered, without a pass of the scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from actorq.contracts.clock import Clock
from actorq.contracts.store import Store
from actorq.errors import StoreUnavailable
from actorq.machines.effects import Effect, Found, Lookup, Search, Searched, Send, Tell
from actorq.machines.queue import QueueMachine
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model.ids import PARTITION
from actorq.model.records import Ownership, Write
from actorq.runtime.exchange import Exchange
from actorq.runtime.lanes import Lanes
from actorq.runtime.mailbox import Mailbox

MAIL_MAX = 1_024
"""Messages taken into one turn, and so into one commit."""

OWNERSHIP_TTL = 10.0
"""Seconds; nobody competes for a store in memory."""

PURGE_EVERY = 60.0
"""Seconds between two looks for results whose time is over; a look-up never shows those."""

_PURGE_SHARE = 64
_RELEASE_MAX = 5.0

Mail = tuple[int, tuple[Any, ...]]
"""What came on a connection: its number and what was sent together."""

_LOAD_CHUNK = 500
_MOMENT = 0.001
_TICK = (m.Tick(),)


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
        lineage: str,
        tell: Callable[..., None],
        machine: Callable[[Limits, str, str], QueueMachine] = QueueMachine,
    ) -> None:
        self._nonce = nonce
        self._store = store
        self._immediate = store.immediate
        self._exchange = exchange
        self._clock = clock
        self._max_results = max_results
        self._tell = tell
        self._machine = machine(limits, nonce, lineage)
        self._mail = Lanes()
        self._ownership: Ownership | None = None
        self._searches: deque[Search] = deque()
        self._in_turn = False
        self._failure: BaseException | None = None
        self._alarm: float | None = None
        self._purge_at: float | None = None
        self._last_expiry = 0.0
        self._kept = max_results + 1  # unknown until the first purge
        self._spare_until = 0.0
        """After a crash, nothing is purged before everybody had time to ask again."""
        self._now = 0.0

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
        self._ownership = ownership = await self._store.acquire(
            PARTITION, self._nonce, OWNERSHIP_TTL
        )
        if ownership is None:
            raise StoreUnavailable("another process owns this store")
        if ownership.epoch > 1:
            self._spare_until = self._clock.now() + OWNERSHIP_TTL
            self._last_expiry = self._purge_at = self._spare_until
        try:
            await self._load(ownership)
            self._exchange.open(self._post)
            inbox.started()
            while True:
                await self._mail.wait(self._seconds_to_wait())
                if self._failure is not None:
                    raise self._failure
                self._in_turn = True
                effects: list[Effect] = []
                if self._searches:
                    effects = await self._search(self._searches.popleft())
                    self._mail.wake()  # for the next of them
                await self._turn(self._mail.take_many(MAIL_MAX), effects)
                self._in_turn = False
        finally:
            self._in_turn = True  # no turn from now on
            self._exchange.close()
            with trio.move_on_after(_RELEASE_MAX, shield=True):
                await self._store.release(ownership)

    async def _load(self, ownership: Ownership) -> None:
        ids = [head.id async for head in self._store.load(ownership)]
        ids.sort()  # the order in which they came
        for start in range(0, len(ids), _LOAD_CHUNK):
            chunk = ids[start : start + _LOAD_CHUNK]
            for record in await self._store.fetch(PARTITION, chunk):
                if record is not None:
                    self._machine.load(record)

    def _seconds_to_wait(self) -> float | None:
        self._alarm = self._next_alarm()
        if self._alarm is None:
            return None
        wait = self._alarm - self._clock.now()
        # Not less than a moment: a clock that was set back may be slow.
        return min(max(wait, _MOMENT), self._clock.horizon) if wait > 0 else 0.0

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
            for connection, messages in mail:
                effects += machine.step(connection, messages, now)
            deadline = machine.next_deadline()
            # Mail first: what has arrived in time counts, even if nobody looked until now.
            if deadline is not None and deadline <= now:
                effects += machine.step(0, _TICK, now)
            while effects:
                effects = await self._carry_out(effects)
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
        # Each record once, its last state: or doing it twice would differ from doing it once.
        writes: dict[str, Write] = {}
        for effect in effects:
            if type(effect) is Write:
                id = effect.id
                writes[id] = effect.over(writes[id]) if id in writes else effect
        if writes:
            assert self._ownership is not None  # turns begin after `acquire`
            if self._immediate:
                await self._store.commit(self._ownership, list(writes.values()))
            else:
                # Cancelled in the middle, its outcome would be unknown to whoever looks next.
                with trio.CancelScope(shield=True):
                    await self._store.commit(self._ownership, list(writes.values()))
        connected = self._exchange.connected
        more: list[Effect] = []
        for effect in effects:
            if type(effect) is Send:
                peer = connected.get(effect.to)
                if peer is not None:
                    peer.received(effect.message)
            elif type(effect) is Write:
                if effect.head is not None and effect.head.keep_until is not None:
                    self._count_result(effect.head.keep_until)
            else:
                more += await self._look_up(effect)
        if self._kept > self._max_results and self._now >= self._spare_until:
            await self._purge()
        return more

    async def _look_up(self, effect: Effect) -> list[Effect]:
        """Ask the store for what the machine does not know; return what comes of the answer."""
        machine, store = self._machine, self._store
        if isinstance(effect, Lookup):
            found = await store.fetch(PARTITION, effect.ids)
            records = {record.head.id: record for record in found if record is not None}
            return machine.step(effect.to, (Found(effect.message, records),), self._now)
        if isinstance(effect, Search):
            if effect.cursor is None or not self._immediate:
                return await self._search(effect)
            # A long search goes on in the actor's own task, which lets others run in between.
            self._searches.append(effect)
            self._mail.wake()
            return []
        assert isinstance(effect, Tell)
        self._tell(effect.kind, **effect.details)
        return []

    async def _search(self, search: Search) -> list[Effect]:
        """Look for one page; return what comes of it."""
        page = await self._store.find(PARTITION, search.filter, search.cursor, search.limit)
        answer = Searched(search.message, page.records, page.next, page.scanned, search.total)
        self._now = self._clock.now()
        return self._machine.step(search.to, (answer,), self._now)

    def _count_result(self, keep_until: float) -> None:
        self._kept += 1
        if keep_until > self._last_expiry:
            self._last_expiry = keep_until
        if self._purge_at is None or keep_until < self._purge_at:
            self._purge_at = keep_until

    async def _purge(self) -> None:
        """Have the store forget results beyond their time or number."""
        assert self._ownership is not None
        most = self._max_results
        # A little below the bound, so that not every single result at it costs a purge.
        keep = most - most // _PURGE_SHARE if self._kept > most else most
        self._kept = await self._store.purge(self._ownership, self._now, keep)
        if self._purge_at is not None and self._purge_at <= self._now:
            more = self._last_expiry > self._now
            self._purge_at = min(self._now + PURGE_EVERY, self._last_expiry) if more else None
