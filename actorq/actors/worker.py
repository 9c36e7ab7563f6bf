"""The worker actor: runs what it is granted in its slots, and says how each attempt ended.

A slot is a long-lived coroutine that takes one granted task after the other (twice as fast as a
nursery task each). Free slots are the worker's credit: a slot is free when its coroutine waits for
work, so an abandoned thread keeps its slot until it ends.

A `Finish` is kept until the owner has answered it, and sent again on a new connection, because the
owner may crash between receiving it and writing it down.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import trio

from actorq.actors.calls import Calls
from actorq.actors.executors.loop import Killed
from actorq.actors.executors.process import open_processes
from actorq.actors.executors.thread import Abandoned, ProgressFromThreads
from actorq.actors.runner import Runner
from actorq.actors.slots import Slot, SlotPool
from actorq.contracts.clock import Clock
from actorq.contracts.link import Peer, Port
from actorq.errors import OwnedElsewhere
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.records import Output
from actorq.model.results import Progress
from actorq.model.tree import TaskNode
from actorq.registry import Registry
from actorq.runtime.future import Future
from actorq.runtime.mailbox import Mailbox

SAY_MAX = 10.0
"""Seconds that a draining worker waits for the owner's answers, which may be out of reach."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Tell = Callable[..., None]


class WorkerActor:
    """Implements `actorq.contracts.link.Peer`; `run` it under a supervisor."""

    def __init__(
        self,
        node: str,
        incarnation: str,
        *,
        concurrency: int,
        processes: int,
        grace: float,
        lifespan: Lifespan | None,
        calls: Calls,
        registry: Registry | None,
        clock: Clock,
        tell: Tell,
        scheduled: dict[str, m.Declared] | None = None,
    ) -> None:
        """See `actorq.open_worker`; without a ``registry`` it runs whatever it is granted.

        ``scheduled`` are the tasks with a schedule then.
        """
        self._scheduled = scheduled or {}
        self._registry = registry
        self.name: str = f"{node}.{incarnation}"
        self._node = node
        self._grace = grace
        self._lifespan = lifespan
        self._clock = clock
        self._tell = tell
        self._port: Port | None = None
        self._pools = {
            "main": SlotPool("main", concurrency),
            "process": SlotPool("process", processes),
        }
        self._slots: list[Slot] = []
        self._working = 0
        self._idle = trio.Event()
        self._unanswered: dict[tuple[str, int], m.Finish] = {}
        self._starting: list[m.Started] = []
        self._draining = False
        self._all_said: Future[None] = Future()
        """Set while draining, when nothing runs and every `Finish` is answered."""
        self._token = trio.lowlevel.current_trio_token()
        self._progress = ProgressFromThreads(self._report_progress)
        self._runner = Runner(calls, clock, self._started, self._progress.report)

    async def run(
        self,
        inbox: Mailbox[Any],
        attach: Callable[[Peer], None],
        detach: Callable[[Peer], None],
    ) -> None:
        """Work until cancelled. ``attach`` connects it to the owner, ``detach`` takes it away.

        Cancelling it cancels every running attempt; the owner counts them as lost deliveries. The
        lifespan is left after the last of them, by no exception, and has the grace of a task.
        """
        around, work = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live, around, work, inbox, attach, detach)
            try:
                await trio.sleep_forever()
            finally:
                work.cancel("its worker stops")

    async def _live(
        self,
        around: trio.CancelScope,
        work: trio.CancelScope,
        inbox: Mailbox[Any],
        attach: Callable[[Peer], None],
        detach: Callable[[Peer], None],
    ) -> None:
        with around:
            async with AsyncExitStack() as stack:
                if self._lifespan is not None:
                    self._runner.resources = await stack.enter_async_context(self._lifespan())
                if self._pools["process"].size:
                    self._runner.processes = await stack.enter_async_context(open_processes())
                around.shield = True
                with work:
                    await self._run_slots(inbox, attach, detach)
                around.deadline = trio.current_time() + self._grace

    async def _run_slots(
        self,
        inbox: Mailbox[Any],
        attach: Callable[[Peer], None],
        detach: Callable[[Peer], None],
    ) -> None:
        async with trio.open_nursery() as nursery:
            for pool in self._pools.values():
                for _ in range(pool.size):
                    slot = Slot(self._grace)
                    self._slots.append(slot)
                    self._working += 1
                    nursery.start_soon(self._work, pool, slot, name=f"actorq {pool.name} slot")
            attach(self)
            try:
                inbox.started()
                await trio.sleep_forever()
            finally:
                detach(self)
                for slot in self._slots:
                    if slot.grant is not None:
                        slot.interrupt("cancelled", self._grace, "its worker stops")
                nursery.start_soon(self._report_unkillable)

    def running(self) -> tuple[TaskNode, ...]:
        """Return what runs in its slots now."""
        now = self._clock.now()
        return tuple(
            TaskNode(
                s.grant.head.id, s.grant.head.name, s.grant.head.attempts + 1, now - s.started_at
            )
            for s in self._slots
            if s.grant is not None and s.started_at is not None
        )

    # --- the connection --------------------------------------------------------------------------

    def connected(self, port: Port) -> None:
        """Say hello, what runs here and what was not answered; only then offer free slots."""
        self._port = port
        registry = self._registry
        declared = self._scheduled if registry is None else registry.declared()
        for pool in self._pools.values():
            pool.reconnect()
        held = [(s.grant.head.id, s.grant.head.fence) for s in self._slots if s.grant is not None]
        port.send(
            m.WorkerHello(
                self.name,
                self._node,
                (*held, *self._unanswered),
                {pool.name: pool.size for pool in self._pools.values()},
                None if registry is None else registry.digests(),
                declared=declared,
            ),
            *self._unanswered.values(),
            *self._started_already(),
            *(m.Ready(pool.name, pool.credit) for pool in self._pools.values()),
        )

    def _started_already(self) -> list[m.Started]:
        return [
            m.Started(slot.grant.head.id, slot.grant.head.fence, slot.started_at)
            for slot in self._slots
            if slot.grant is not None and slot.started_at is not None
        ]

    def disconnected(self, error: BaseException | None) -> None:  # noqa: ARG002 - the protocol
        """Go on with what runs; its `Finish` waits for the next connection."""
        self._port = None

    def suspended(self, error: Exception) -> None:
        """Go on with what runs, unless somebody else owns the store: they have it run again.

        It is said to be handed back, should the owner be in this process again before that.
        """
        if isinstance(error, OwnedElsewhere):
            for pool in self._pools.values():
                pool.reconnect()
            for slot in self._slots:
                if slot.grant is not None:
                    slot.interrupt("handed back", self._grace, "its queue was succeeded")

    def received(self, message: Any) -> None:
        """Take a grant, an interrupt or an answer."""
        if type(message) is m.Grant:
            if self._draining:
                self._hand_back(message)
            else:
                self._pools[message.head.pool].put(message)
        elif type(message) is m.Finished:
            self._unanswered.pop((message.id, message.fence), None)
            if self._draining:
                self._look_whether_all_is_said()
        elif type(message) is m.Interrupt:
            self._interrupt(message)
        elif type(message) is m.Welcome:
            for id, fence in message.revoked:
                self._unanswered.pop((id, fence), None)
                slot = self._running(id, fence)
                if slot is not None:
                    slot.revoked = True
                    slot.interrupt("cancelled", self._grace, "the task was given to somebody else")

    def _interrupt(self, interrupt: m.Interrupt) -> None:
        slot = self._running(interrupt.id, interrupt.fence)
        if slot is not None:
            why = interrupt.cancel.reason or f"cancelled by {interrupt.cancel.by}"
            slot.interrupt("cancelled", interrupt.grace, why)
            return
        for pool in self._pools.values():
            grant = pool.take_back(interrupt.id, interrupt.fence)
            if grant is not None:
                pool.free += 1
                finish = m.Finish(grant.head.id, grant.head.fence, "cancelled", Output(), None)
                self._unanswered[finish.id, finish.fence] = finish
                self._send(finish, m.Ready(pool.name, pool.credit))

    def _running(self, id: str, fence: int) -> Slot | None:
        for slot in self._slots:
            grant = slot.grant
            if grant is not None and grant.head.id == id and grant.head.fence == fence:
                return slot
        return None

    def knows_more(self) -> None:
        """Tell the owner of the tasks that have been learnt."""
        if self._registry is not None:
            declared = self._registry.declared()  # first, as it may find more tasks
            self._send(m.Knows(self._registry.digests(), declared))

    # --- draining --------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Take no more work, and wait until what runs has ended by itself."""
        self._close()
        await self._all_said.wait()

    async def drain(self, seconds: float) -> bool:
        """Take no more work and let what runs end by itself; after ``seconds``, hand it back.

        What is handed back has its ``grace`` to stop, and spends no attempt.

        Returns:
            Whether the owner has confirmed all of it: nothing is left to be said.
        """
        self._close()
        with trio.move_on_after(seconds):
            await self._all_said.wait()
        for slot in self._slots:
            if slot.grant is not None:
                slot.interrupt("handed back", self._grace, "its worker stops")
        with trio.move_on_after(self._grace + SAY_MAX):
            await self._all_said.wait()
        return self._all_said.done

    def _close(self) -> None:
        if not self._draining:
            self._draining = True
            for pool in self._pools.values():
                pool.open = False
                self._send(m.Ready(pool.name, pool.credit))
        self._look_whether_all_is_said()

    def _hand_back(self, grant: m.Grant) -> None:
        """Return a grant that was under way when the worker began to drain."""
        head = grant.head
        pool = self._pools[head.pool]
        pool.received += 1
        finish = m.Finish(head.id, head.fence, "handed back", Output(), None)
        self._unanswered[finish.id, finish.fence] = finish
        self._send(finish, m.Ready(pool.name, pool.credit))

    def _look_whether_all_is_said(self) -> None:
        # (A thread that was left behind may never end, but all is said about its task.)
        if not self._unanswered and all(s.grant is None or s.left for s in self._slots):
            self._all_said.set(None)

    # --- the slots -------------------------------------------------------------------------------

    async def _work(self, pool: SlotPool, slot: Slot) -> None:
        try:
            await self._work_until_cancelled(pool, slot)
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def _report_unkillable(self) -> None:
        """While the worker stops: name the attempts that do not, once their time is up."""
        with trio.move_on_after(self._grace, shield=True):
            await self._idle.wait()
            return
        for slot in self._slots:
            if slot.grant is not None:
                self._tell_of(EventKind.UNKILLABLE, slot.grant, stack=slot.stack())

    async def _work_until_cancelled(self, pool: SlotPool, slot: Slot) -> None:
        while True:
            slot.scope = trio.CancelScope()
            slot.spent = False
            with slot.scope:
                while not slot.spent:
                    if slot.grant is None:
                        if not await pool.fill(slot):
                            await pool.rest()
                        continue  # it may have been interrupted on the way
                    try:
                        finish = await self._runner.attempt(slot, slot.grant)
                    except Abandoned as abandoned:
                        slot.left = abandoned.ended
                        break
                    except Killed:
                        self._tell_of(EventKind.TASK_KILLED, slot.grant)
                        break
                    self._report(pool, slot, finish)
                    del finish  # or an idle slot would hold its last value for ever
            if slot.grant is not None and (slot.current is not None or slot.stop is not None):
                await self._report_stopped(pool, slot, slot.grant)

    def _report(self, pool: SlotPool, slot: Slot, finish: m.Finish) -> None:
        """Say how the attempt ended, and that the slot is free; the next grant may come at once."""
        revoked = slot.revoked
        slot.clear()
        pool.free += 1
        pool.hungry = True
        ready = m.Ready(pool.name, pool.credit)
        if revoked:
            self._send(ready)
            if self._draining:
                self._look_whether_all_is_said()
        else:
            self._unanswered[finish.id, finish.fence] = finish
            if self._port is not None:
                self._port.send(finish, ready)
        pool.hungry = False

    async def _report_stopped(self, pool: SlotPool, slot: Slot, grant: m.Grant) -> None:
        """Say that the attempt was stopped, by an interrupt or by its deadline."""
        finish = self._runner.stopped(slot, grant)
        left = slot.left
        if left is not None:
            self._tell_of(EventKind.THREAD_ABANDONED, grant)
            if not slot.revoked:
                self._unanswered[finish.id, finish.fence] = finish
                self._send(finish)
            slot.revoked = True  # all that is left to say is that the slot is free
            await left.wait()
        self._report(pool, slot, finish)

    def _started(self, slot: Slot) -> None:
        """Tell the owner soon: of all that start in one pass of the loop, at once."""
        grant, at = slot.grant, slot.started_at
        if grant is not None and at is not None and not slot.told:
            slot.told = True
            if not self._starting:
                self._token.run_sync_soon(self._tell_of_starts)
            self._starting.append(m.Started(grant.head.id, grant.head.fence, at))

    def _report_progress(self, key: tuple[str, int], progress: Progress) -> None:
        slot = self._running(*key)
        if slot is not None:
            self._started(slot)  # it may not have had to wait yet
            self._tell_of_starts()
        self._send(m.Report(*key, progress))

    def _tell_of_starts(self) -> None:
        if self._starting:
            starting, self._starting = self._starting, []
            self._send(*starting)

    def _send(self, *messages: Any) -> None:
        if self._port is not None:
            self._port.send(*messages)

    def _tell_of(self, kind: EventKind, grant: m.Grant, **details: Any) -> None:
        self._tell(kind, id=grant.head.id, name=grant.head.name, **details)
