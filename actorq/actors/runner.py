"""One attempt: a granted call is run, in the loop or beside it, and its end put into words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from actorq.actors.calls import Calls
from actorq.actors.executors.current import Current, running
from actorq.actors.executors.failures import describe, own_frames, retryable, wants_later
from actorq.actors.executors.loop import Killed, TornDown, drive, exhaust
from actorq.actors.executors.process import ChildFailed, ChildLost, run_in_process
from actorq.actors.executors.thread import Abandoned, run_in_thread
from actorq.actors.slots import Slot
from actorq.contracts.clock import Clock
from actorq.errors import RemoteError, TaskTimeout, leaves
from actorq.model import messages as m
from actorq.model.records import Head, Output
from actorq.model.results import Progress
from actorq.model.status import FailureKind
from actorq.tasks import Call, EncodedCall, StreamTask

if TYPE_CHECKING:
    from trio_parallel import WorkerContext

_THREAD_SHARE = 0.9
"""Part of a cancel's grace after which a thread is abandoned: the worker can still say so."""


class Runner:
    """Runs attempts; all slots of a worker share it.

    Attributes:
        resources: What the lifespan has yielded.
        processes: The pool of processes, if there is one.
    """

    def __init__(
        self,
        calls: Calls,
        clock: Clock,
        started: Callable[[Slot], None],
        progress: Callable[[tuple[str, int], Progress], None],
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._started = started
        self._progress = progress
        self._context = copy_context()
        self.resources: Any = None
        self.processes: WorkerContext | None = None

    def stopped(self, slot: Slot, grant: m.Grant) -> m.Finish:
        """Say how an attempt ended that was stopped."""
        head, cause = grant.head, slot.stop or slot.limit
        if cause in ("cancelled", "handed back"):
            return m.Finish(head.id, head.fence, cause, Output(), slot.started_at)
        if cause == "deadline":
            said = f"its deadline of {head.options.deadline:g} s passed during attempt "
        else:
            said = f"it ran longer than its timeout of {head.options.timeout:g} s in attempt "
        error = RemoteError.made_of(TaskTimeout, f"{said}{head.attempts + 1}")
        output = Output(error=error, kind=FailureKind.TIMEOUT)
        again = cause == "timeout" and retryable(error, head.options.retry)
        return m.Finish(head.id, head.fence, cause, output, slot.started_at, again)

    async def attempt(self, slot: Slot, grant: m.Grant) -> m.Finish:
        """Run the task once and say how it ended.

        Raises:
            trio.Cancelled: It was stopped.
            Abandoned: So was its thread, which has not ended.
            Killed: So was its coroutine, which did not care.
            KeyboardInterrupt: It was interrupted from the terminal.
        """
        head: Head = grant.head
        seconds = self._limit(slot, grant)
        slot.started_at = self._clock.now()
        attempt = head.attempts + 1

        key = (head.id, head.fence)
        slot.current = current = Current(
            head.id,
            head.name,
            attempt,
            None if seconds == inf else slot.scope.deadline,
            head.options.meta,
            self.resources,
            lambda progress: self._progress(key, progress),
        )
        in_thread = False
        try:
            call: Any = self._calls.open(grant)
            task = call.task
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
                in_thread = task.run_in == "thread"
                self._started(slot)
                value = await self._run_aside(slot, call, current, seconds)
            value = self._calls.close(task, value)
        except (Abandoned, Killed, KeyboardInterrupt):
            raise
        except TornDown:
            raise GeneratorExit from None
        except BaseException as error:  # noqa: BLE001 - even SystemExit: a task ends no program
            if in_thread and isinstance(error.__cause__, StopIteration):
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
            if self.processes is None:
                raise RuntimeError(
                    f"task {call.task.name} needs a process of its own, and this worker has none: "
                    "it was opened with processes=0"
                )
            return await run_in_process(self.processes, call, current, seconds)
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
                    with suppress(RecursionError):  # a group may be nested too deeply for that
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
