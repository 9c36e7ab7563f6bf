"""The slots of a worker: who is free, who runs what, and how an attempt is told to stop."""

from __future__ import annotations

import traceback
from collections import deque
from math import inf
from typing import Any

import trio
from trio.lowlevel import Abort, RaiseCancelT

from actorq.actors.executors.current import Current
from actorq.model.messages import FinishCause, Grant
from actorq.model.records import Pool

BURST = 128
"""Attempts that all slots of a pool together begin without having waited, before they let the rest
of the program run: some 10 ms of tasks that do nothing."""


class Slot:
    """One attempt at a time.

    The scope is kept from attempt to attempt, as entering one costs 4 us; it gets a deadline only
    for an attempt that has one, and is replaced once it was cancelled.
    """

    def __init__(self, grace: float) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        """Its coroutine, while it is parked."""
        self.grant: Grant | None = None
        self.current: Current | None = None
        """What the attempt knows about itself, once it has begun."""
        self.coroutine: Any = None
        """What the attempt waits in, once it has had to wait."""
        self.started_at: float | None = None
        self.told: bool = False
        """Whether the owner is told that the attempt has started."""
        self.stop: FinishCause | None = None
        """Why the attempt was told to stop."""
        self.limit: FinishCause = "timeout"
        """What the scope's deadline means."""
        self.spent: bool = False
        """Whether the scope was cancelled and must be replaced. (Asking it costs 1 us.)"""
        self.grace: float = grace
        self.patience: float = inf
        """Until when the attempt may still end by itself after it was told to stop."""
        self.left: trio.Event | None = None
        """Set when the thread that the attempt left behind ends."""
        self.revoked: bool = False
        """Whether the owner has given the task to somebody else and wants to hear no more of it."""

    def clear(self) -> None:
        """Forget the attempt that was here."""
        self.grant = self.current = self.started_at = self.stop = self.left = None
        self.coroutine = None
        self.revoked = self.told = False
        self.patience = inf

    def patience_left(self) -> float:
        """Return the seconds that the stopped attempt may still take to end by itself."""
        if self.patience == inf:  # its own deadline stopped it
            return self.grace
        return max(0.0, self.patience - trio.current_time())

    def interrupt(self, cause: FinishCause, grace: float, reason: str) -> None:
        """Tell the running attempt to stop within ``grace`` seconds."""
        self.stop = self.stop or cause
        self.patience = min(self.patience, trio.current_time() + grace)
        if self.current is not None:
            self.current.cancel()
        self.spent = True
        self.scope.cancel(reason)

    def stack(self) -> str:
        """Return where the attempt's coroutine stands, or nothing for a thread or a process."""
        frames = []
        waiting = self.coroutine
        while waiting is not None and getattr(waiting, "cr_frame", None) is not None:
            frames.append((waiting.cr_frame, waiting.cr_frame.f_lineno))
            waiting = waiting.cr_await
        return "".join(traceback.StackSummary.extract(iter(frames)).format())

    def condemned(self) -> bool:
        """Whether a coroutine that is still running should be thrown away.

        One that has a nursery open cannot be: its children would be left without a parent.
        """
        if self.stop is None and not self.scope.cancel_called:
            return False
        if self.patience == inf:  # its own deadline stopped it
            self.patience = trio.current_time() + self.grace
        return (
            trio.current_time() >= self.patience
            and not trio.lowlevel.current_task().child_nurseries
        )


class SlotPool:
    """All slots of one kind, and the grants that wait for one of them to come round."""

    def __init__(self, name: Pool, size: int) -> None:
        self.name: Pool = name
        self.size: int = size
        self.free: int = size
        self.received: int = 0
        self.open: bool = True
        """Whether its free slots are offered."""
        self.hungry: bool = False
        """Whether a slot that has just finished will take the next grant itself."""
        self._backlog: deque[Grant] = deque()
        self._parked: list[Slot] = []
        self._begun = 0
        self._rests = 0

    @property
    def credit(self) -> int:
        """Grants received on this connection, plus slots free now."""
        return self.received + self.free if self.open else self.received

    def reconnect(self) -> None:
        """Forget what was granted on the old connection and has not started: it is granted anew."""
        self.free += len(self._backlog)
        self._backlog.clear()
        self.received = 0

    def put(self, grant: Grant) -> None:
        """Give a grant to a free slot."""
        self.received += 1
        self.free -= 1
        if self._parked and not self.hungry:
            slot = self._parked.pop()
            slot.grant = grant  # its own from now on, though it has not come round yet
            assert slot.task is not None  # it is parked
            trio.lowlevel.reschedule(slot.task)
        else:
            self.hungry = False
            self._backlog.append(grant)

    def take_back(self, id: str, fence: int) -> Grant | None:
        """Return a grant that no slot has taken yet, for it to be cancelled."""
        for grant in self._backlog:
            if grant.head.id == id and grant.head.fence == fence:
                self._backlog.remove(grant)
                return grant
        return None

    @trio.lowlevel.enable_ki_protection
    async def fill(self, slot: Slot) -> bool:
        """Wait until the slot has a grant; return whether it had to wait. No checkpoint if not."""
        if self._backlog:
            slot.grant = self._backlog.popleft()
            return False
        slot.task = trio.lowlevel.current_task()
        self._parked.append(slot)

        def abort(_: RaiseCancelT) -> Abort:
            self._parked.remove(slot)
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return True

    async def rest(self) -> None:
        """Let the rest of the program run now and then; for a slot that goes on without a wait."""
        self._begun += 1
        if self._begun >= BURST:
            rests = self._rests
            await trio.lowlevel.cancel_shielded_checkpoint()
            if rests == self._rests:  # the first of those that have rested together
                self._rests += 1
                self._begun = 0
