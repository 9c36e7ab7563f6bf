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
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from actorq.actors.executors.current import Current, running
from actorq.actors.executors.failures import describe, own_frames, retryable, wants_later
from actorq.actors.executors.loop import Killed, TornDown, drive, exhaust
from actorq.actors.executors.process import ChildFailed, ChildLost, open_processes, run_in_process
from actorq.actors.executors.thread import Abandoned, ProgressFromThreads, run_in_thread
from actorq.actors.slots import Slot, SlotPool
from actorq.codec.pickled import encode_call
from actorq.contracts.clock import Clock
from actorq.contracts.link import Peer, Port
from actorq.errors import RemoteError, TaskTimeout, leaves
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.outcomes import task_result
from actorq.model.records import Done, Head, Output
from actorq.model.results import Progress, TaskDone
from actorq.model.status import FailureKind
from actorq.model.tree import TaskNode
from actorq.runtime.mailbox import Mailbox
from actorq.tasks import Call, EncodedCall, StreamTask

if TYPE_CHECKING:
    from trio_parallel import WorkerContext

BURST = 32
"""Attempts that a slot runs without waiting before it lets the rest of the program run."""

_THREAD_SHARE = 0.9
"""Part of a cancel's grace after which a thread is abandoned: the worker can still say so."""

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Tell = Callable[..., None]


class WorkerActor:
    """Implements `actorq.contracts.link.Peer`; `run` it under a supervisor."""

    def __init__(
        self,
        node: str,
        incarnation: int,
        *,
        concurrency: int,
        processes: int,
        grace: float,
        lifespan: Lifespan | None,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self.name: str = f"{node}.{incarnation}"
        self._node = node
        self._grace = grace
        self._lifespan = lifespan
        self._clock = clock
        self._tell = tell
        self._port: Port | None = None
        self._resources: Any = None
        self._processes: WorkerContext | None = None
        self._pools = {
            "main": SlotPool("main", concurrency),
            "process": SlotPool("process", processes),
        }
        self._slots: list[Slot] = []
        self._working = 0
        self._idle = trio.Event()
        self._unanswered: dict[tuple[str, int], m.Finish] = {}
        self._starting: list[m.Started] = []
        self._token = trio.lowlevel.current_trio_token()
        self._progress = ProgressFromThreads(self._report_progress)
        self._context = copy_context()

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
                    self._resources = await stack.enter_async_context(self._lifespan())
                if self._pools["process"].size:
                    self._processes = await stack.enter_async_context(open_processes())
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
        for pool in self._pools.values():
            pool.reconnect()
        held = [(s.grant.head.id, s.grant.head.fence) for s in self._slots if s.grant is not None]
        port.send(
            m.WorkerHello(
                self.name,
                self._node,
                (*held, *self._unanswered),
                {pool.name: pool.size for pool in self._pools.values()},
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

    def received(self, message: Any) -> None:
        """Take a grant, an interrupt or an answer."""
        if type(message) is m.Grant:
            self._pools[message.head.pool].put(message)
        elif type(message) is m.Finished:
            self._unanswered.pop((message.id, message.fence), None)
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
        burst = 0
        while True:
            slot.scope = trio.CancelScope()
            slot.spent = False
            with slot.scope:
                while not slot.spent:
                    if slot.grant is None:
                        if await pool.fill(slot):
                            burst = 0
                        continue  # it may have been interrupted on the way
                    try:
                        finish = await self._attempt(slot, slot.grant)
                    except Abandoned as abandoned:
                        slot.left = abandoned.ended
                        break
                    except Killed:
                        self._tell_of(EventKind.TASK_KILLED, slot.grant)
                        break
                    self._report(pool, slot, finish)
                    del finish  # or an idle slot would hold its last value for ever
                    burst += 1
                    if burst == BURST:
                        burst = 0
                        await trio.lowlevel.cancel_shielded_checkpoint()
            if slot.grant is not None and (slot.current is not None or slot.stop is not None):
                await self._report_stopped(pool, slot, slot.grant)

    def _report(self, pool: SlotPool, slot: Slot, finish: m.Finish) -> None:
        """Say how the attempt ended, and that the slot is free; the next grant may come at once."""
        revoked = slot.revoked
        slot.clear()
        pool.free += 1
        pool.hungry = True
        ready = m.Ready(pool.name, pool.received + pool.free)
        if revoked:
            self._send(ready)
        else:
            self._unanswered[finish.id, finish.fence] = finish
            if self._port is not None:
                self._port.send(finish, ready)
        pool.hungry = False

    async def _report_stopped(self, pool: SlotPool, slot: Slot, grant: m.Grant) -> None:
        """Say that the attempt was stopped, by an interrupt or by its deadline."""
        finish = self._stopped(slot, grant)
        left = slot.left
        if left is not None:
            self._tell_of(EventKind.THREAD_ABANDONED, grant)
            if not slot.revoked:
                self._unanswered[finish.id, finish.fence] = finish
                self._send(finish)
            slot.revoked = True  # all that is left to say is that the slot is free
            await left.wait()
        self._report(pool, slot, finish)

    def _stopped(self, slot: Slot, grant: m.Grant) -> m.Finish:
        head, cause = grant.head, slot.stop or slot.limit
        if cause == "cancelled":
            return m.Finish(head.id, head.fence, cause, Output(), slot.started_at)
        if cause == "deadline":
            said = f"its deadline of {head.options.deadline:g} s passed during attempt "
        else:
            said = f"it ran longer than its timeout of {head.options.timeout:g} s in attempt "
        error = RemoteError.made_of(TaskTimeout, f"{said}{head.attempts + 1}")
        output = Output(error=error, kind=FailureKind.TIMEOUT)
        again = cause == "timeout" and retryable(error, head.options.retry)
        return m.Finish(head.id, head.fence, cause, output, slot.started_at, again)

    async def _attempt(self, slot: Slot, grant: m.Grant) -> m.Finish:
        """Run the task once and say how it ended.

        Raises:
            trio.Cancelled: It was stopped.
            Abandoned: So was its thread, which has not ended.
            Killed: So was its coroutine, which did not care.
            KeyboardInterrupt: It was interrupted from the terminal.
        """
        head: Head = grant.head
        call: Any = grant.body  # a Call, an EncodedCall, or the Done of a callback
        seconds = self._limit(slot, grant)
        slot.started_at = self._clock.now()
        calls_back = type(call) is Done
        task = call.call.task if calls_back else call.task
        attempt = head.attempts + 1

        key = (head.id, head.fence)
        slot.current = current = Current(
            head.id,
            head.name,
            attempt,
            None if seconds == inf else slot.scope.deadline,
            head.options.meta,
            self._resources,
            lambda progress: self._progress.report(key, progress),
        )
        try:
            if calls_back:
                call = _callback(call)
            if task.run_in == "loop":
                context = self._context.copy()
                run = context.run
                run(running.set, current)
                coroutine = run(task.function, *call.args, **call.kwargs)
                if isinstance(task, StreamTask):
                    coroutine = exhaust(coroutine)
                try:
                    trap = run(coroutine.send, None)
                except StopIteration as stop:  # it never had to wait
                    value = stop.value
                else:
                    self._started(slot)
                    slot.coroutine = coroutine
                    value = await drive(coroutine, context, trap, slot.condemned)
            else:
                self._started(slot)
                value = await self._run_aside(slot, call, current, seconds)
        except (Abandoned, Killed, KeyboardInterrupt):
            raise
        except TornDown:
            raise GeneratorExit from None
        except BaseException as error:  # noqa: BLE001 - even SystemExit: a task ends no program
            if task.run_in == "thread" and isinstance(error.__cause__, StopIteration):
                error = error.__cause__  # which no coroutine can raise
            return self._failed(slot, head, error)
        finally:
            if seconds < inf:
                slot.scope.deadline = inf
                slot.spent = slot.scope.cancel_called
        return m.Finish(head.id, head.fence, "ok", Output(value), slot.started_at)

    def _limit(self, slot: Slot, grant: m.Grant) -> float:
        """Set the scope's deadline to the earlier of timeout and deadline; return the seconds."""
        timeout, remaining = grant.head.options.timeout, grant.remaining
        if timeout is None and remaining is None:
            return inf
        seconds = inf if timeout is None else timeout
        slot.limit = "timeout"
        if remaining is not None and remaining <= seconds:
            seconds, slot.limit = remaining, "deadline"
        if seconds < inf:
            slot.scope.deadline = trio.current_time() + seconds
        return seconds

    async def _run_aside(
        self, slot: Slot, call: Call[Any] | EncodedCall, current: Current, seconds: float
    ) -> Any:
        """Run a plain function in a thread or a process."""
        if isinstance(call, EncodedCall):
            assert self._processes is not None  # a worker without the pool has no such slots
            return await run_in_process(self._processes, call.task, call.call, current, seconds)
        token = running.set(current)  # the thread gets a copy of this context
        try:
            return await run_in_thread(
                call.task.function,
                call.args,
                call.kwargs,
                current,
                lambda: slot.patience_left() * _THREAD_SHARE,
            )
        finally:
            running.reset(token)

    def _failed(self, slot: Slot, head: Head, raised: BaseException) -> m.Finish:
        """Say what it means that the function raised.

        Raises:
            BaseException: ``raised``, if it holds a KeyboardInterrupt, or nothing but the Cancelled
                that we caused.
        """
        if isinstance(raised, ChildLost):
            return m.Finish(head.id, head.fence, "lost", Output(), slot.started_at)
        exception: BaseException | None = raised
        if isinstance(raised, ChildFailed):
            error, later, exception = raised.error, raised.later, None
        else:
            members = list(leaves(raised))
            if any(isinstance(member, KeyboardInterrupt) for member in members):
                raise raised
            if slot.scope.cancel_called or trio.current_effective_deadline() == -inf:
                # A nursery of the task mixes its errors with the Cancelled of the others.
                if all(isinstance(member, trio.Cancelled) for member in members):
                    raise raised
                if isinstance(raised, BaseExceptionGroup):
                    exception = raised.split(trio.Cancelled)[1]
            assert exception is not None  # not all of it was Cancelled
            exception = own_frames(exception)
            error, later = describe(exception, text=False), wants_later(exception)
        again = retryable(error, head.options.retry)
        last = head.attempts + 1 >= head.options.retry.attempts or not again
        if exception is not None and later is None and (last or head.options.deadline is not None):
            # Formatting a traceback takes 1 ms: not for an attempt that nobody will ask about.
            error = describe(exception)
        output = Output(error=error, kind=FailureKind.ERROR)
        if later is not None:
            return m.Finish(head.id, head.fence, "later", output, slot.started_at, delay=later)
        return m.Finish(
            head.id, head.fence, "failed", output, slot.started_at, again, exception=exception
        )

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


def _callback(done: Done) -> Call[Any] | EncodedCall:
    """Return the call of a callback task, with the outcome that it is about.

    Raises:
        EncodeError: It runs in a process, and the outcome cannot go there.
    """
    task = done.call.task
    args = (TaskDone(task_result(done.head, done.output), done.data),)
    if task.pool == "process":
        return EncodedCall(task, encode_call(task.name, args, {}))
    return Call(task, args, {})
