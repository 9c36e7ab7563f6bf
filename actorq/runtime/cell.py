"""One actor as the engine runs it, over all of its incarnations.

An incarnation is one trio task, inside a shielded scope of its own: nothing but the actor's
supervisor stops it. However it ends, that is told to whoever asked (`Mailbox.close_incarnation`),
to its monitors, and to its supervisor, in this order; only KeyboardInterrupt and SystemExit also
leave the task.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from math import inf
from typing import Any, Protocol

import trio
from trio.lowlevel import Task, current_task

from actorq.errors import ActorDied, ActorError, leaves, told
from actorq.model.events import EventKind
from actorq.runtime.alarms import Alarms
from actorq.runtime.future import Future
from actorq.runtime.lanes import Lanes
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef, Down, ExitReason, Post

_HOW: dict[ExitReason, str] = {
    "normal": "has ended: it returned",
    "shutdown": "has ended: it was stopped",
    "crash": "has ended: it crashed",
    "killed": "has ended: it was stopped, and cancelled as that took too long",
}

SLOW_START = 5.0
"""Seconds after which an actor that has not started is told of; whoever spawned it is waiting."""

ActorFunction = Callable[..., Coroutine[Any, Any, object]]
Tell = Callable[..., None]


class Boss(Protocol):
    """What a cell tells its supervisor."""

    def cell_ready(self, cell: Cell) -> None:
        """Its incarnation has started."""

    def cell_exited(self, cell: Cell, failure: BaseException | None, *, crossing: bool) -> None:
        """Its incarnation has ended; ``crossing``: by what ends the whole program."""

    def stop_cell(self, cell: Cell, drain: bool) -> None:
        """Somebody wants it to end for good."""


class Cell:
    """Implements `actorq.runtime.ref.Life` and `actorq.runtime.mailbox.Owner`."""

    __slots__ = (
        "_alarms", "_args", "_boss", "_context", "_end", "_function", "_ready", "_tell",
        "_watchers", "came_up", "down", "drain", "final", "inbox", "incarnation", "kill_after",
        "lanes", "name", "ref", "scope", "shutdown", "started_value", "stopping", "task",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        function: ActorFunction,
        args: tuple[Any, ...],
        *,
        context: Context,
        boss: Boss,
        post: Post,
        alarms: Alarms,
        tell: Tell,
        shutdown: float,
        kill_after: float,
        capacity: float,
    ) -> None:
        self.name: str = name
        self.shutdown: float = shutdown
        self.kill_after: float = kill_after
        self.lanes: Lanes = Lanes(capacity)
        self.ref: ActorRef[Any] = ActorRef(self, self.lanes, post)
        self.inbox: Mailbox[Any] = Mailbox(self, self.lanes, self.ref, post)
        self.incarnation: int = 0
        self.scope: trio.CancelScope = trio.CancelScope(shield=True)
        self.task: Task | None = None
        """Where the present incarnation runs."""
        self.started_value: object = None
        self.came_up: bool = False
        """Whether any incarnation has said that it is ready, or was done by then."""
        self.stopping: bool = False
        """Whether the present incarnation was told to stop."""
        self.final: bool = False
        """Whether it is to end for good, or has."""
        self.drain: bool = False
        self.down: Down | None = None
        """How the last incarnation ended, as long as there is no other."""
        self._function = function
        self._args = args
        self._boss = boss
        self._alarms = alarms
        self._tell = tell
        self._context = context  # each incarnation begins with what the first one had
        self._ready: Future[None] | None = None
        self._end: Future[None] | None = None
        self._watchers: dict[object, Callable[[Down], None]] | None = None

    # --- what others ask -------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it has not ended for good."""
        return self._end is None or not self._end.done

    def died(self) -> ActorDied:
        """Return the error for those who ask it, once it ends or has ended."""
        down = self.down
        how = "is ending" if down is None else _HOW[down.reason]
        died = ActorDied(f"actor {self.name!r} {how}")
        died.__cause__ = None if down is None else down.error
        return died

    def watch(self, key: object, call: Callable[[Down], None]) -> None:
        """Make one call when the present incarnation ends, or at once if there is none to come.

        While the actor waits for its restart, it is about the next one.
        """
        if self.down is not None and not self.alive:
            call(self.down)
            return
        if self._watchers is None:
            self._watchers = {}
        self._watchers[key] = call

    def unwatch(self, key: object) -> None:
        """Do not make the call that was asked for under this key."""
        if self._watchers is not None:
            self._watchers.pop(key, None)

    async def stop(self, drain: bool) -> None:
        """See `ActorRef.stop`."""
        self._check_not_inside()
        if self.alive:
            self._boss.stop_cell(self, drain)
        await self.join()

    async def join(self) -> None:
        """See `ActorRef.join`."""
        self._check_not_inside()
        await self._ended.wait()

    def _check_not_inside(self) -> None:
        if self.task is current_task():
            raise ActorError(
                f"actor {self.name!r} would wait for its own end for ever; let it return instead"
            )

    @property
    def _ended(self) -> Future[None]:
        if self._end is None:
            self._end = Future()
        return self._end

    # --- one incarnation -------------------------------------------------------------------------

    def start(self, nursery: trio.Nursery) -> None:
        """Begin a new incarnation."""
        self.incarnation += 1
        self.down = None
        self._ready = Future()
        if self.incarnation > 1:
            self.scope = trio.CancelScope(shield=True)
        self._context.run(self._spawn, nursery)
        late = trio.current_time() + SLOW_START
        self._alarms.set(f"start {self.name}", late, self._report_slow_start)

    def _spawn(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._run, name=self.name)

    async def wait_until_ready(self) -> None:
        """Wait until the incarnation has started, or has ended without that."""
        assert self._ready is not None  # it was started
        await self._ready.wait()

    @property
    def is_ready(self) -> bool:
        """Whether the present incarnation has said so."""
        return self._ready is None or self._ready.done

    def ready(self, value: object) -> None:
        """Note that the incarnation has started; the first call counts."""
        if self._ready is not None and not self._ready.done:
            self.came_up = True
            self._alarms.clear(f"start {self.name}")
            self.started_value = value
            self._ready.set(None)
            self._boss.cell_ready(self)

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        failure: BaseException | None = None
        crossing = False
        self.task = current_task()
        try:
            with self.scope:
                coroutine: object = self._function(self.inbox, *self._args)
                if not isinstance(coroutine, Awaitable):
                    raise TypeError(f"an actor must be an async function, and {self.name!r} is not")
                await coroutine
        # An actor may raise whatever it likes, and that is its supervisor's affair: out of here it
        # would cancel all other actors. Only what ends the program goes on.
        except BaseException as error:
            failure = error
            if self.stopping and all(isinstance(e, trio.EndOfChannel) for e in leaves(error)):
                failure = None  # its `receive` was told that this is the end
            crossing = any(
                isinstance(leaf, KeyboardInterrupt | SystemExit) for leaf in leaves(error)
            )
            if crossing:
                raise
        finally:
            self._exit(failure, crossing=crossing)

    @trio.lowlevel.enable_ki_protection
    def _exit(self, failure: BaseException | None, *, crossing: bool) -> None:
        self.task = None
        self._alarms.clear(f"stop {self.name}")
        self._alarms.clear(f"start {self.name}")
        reason: ExitReason = "normal"
        if failure is not None:
            reason = "crash"
        elif self.stopping:
            reason = "killed" if self.scope.cancelled_caught else "shutdown"
        self.down = Down(self.ref, self.incarnation, reason, failure)
        self.came_up = self.came_up or reason == "normal"
        ready = self._ready
        try:
            self._tell_of_exit(self.down, crossing=crossing)
        finally:
            self._boss.cell_exited(self, failure, crossing=crossing)
            if ready is not None:
                ready.set(None)

    def _tell_of_exit(self, down: Down, *, crossing: bool) -> None:
        if down.error is not None and self.stopping and not crossing:
            # Nobody waits for it any more, but what it could not clean up should be known.
            self.tell_of_failure(died=self.final)
        self.inbox.close_incarnation(down.error)
        self.stopping = False
        watchers, self._watchers = self._watchers, None
        if watchers is not None:
            for call in watchers.values():
                call(down)

    # --- the end ---------------------------------------------------------------------------------

    def order_stop(self, *, final: bool) -> None:
        """Begin the ladder: ask, cancel after ``shutdown``, report after ``kill_after``."""
        if final and not self.final:
            self.final = True
            self.lanes.close()
        if self.stopping:
            if final and self.drain:
                self.lanes.draining = True  # it was only to make way for a restart
            return
        self.stopping = True
        self._alarms.clear(f"start {self.name}")
        self.lanes.stop(drain=self.drain and final)
        if self.shutdown <= 0:
            self.kill()
        elif self.shutdown < inf:
            late = trio.current_time() + self.shutdown
            self._alarms.set(f"stop {self.name}", late, self._run_out_of_time)

    def set_drain(self, drain: bool) -> None:
        """Note whether it handles all of its mail when it is stopped; only less, once it is."""
        if not self.final:
            self.drain = drain
        elif not drain and self.lanes.draining:
            self.lanes.stop(drain=False)

    def tell_of_failure(self, *, died: bool) -> None:
        """Tell the instruments how the last incarnation has failed."""
        assert self.down is not None  # it has ended
        failure = self.down.error
        error = "it returned" if failure is None else told(failure)
        if died:
            self._tell(EventKind.ACTOR_DIED, actor=self.name, error=error, exception=failure)
        else:
            self._tell(
                EventKind.ACTOR_RESTARTED,
                actor=self.name,
                incarnation=self.incarnation + 1,
                error=error,
                exception=failure,
            )

    def _run_out_of_time(self) -> None:
        self._tell(
            EventKind.ACTOR_KILLED,
            actor=self.name,
            seconds=self.shutdown,
            left=len(self.lanes),
            stack=self.stack(),
        )
        self.kill()

    def kill(self, reason: str | None = None) -> None:
        """Cancel the incarnation, if there is one."""
        if self.down is not None:
            return
        self.stopping = True
        self.scope.cancel(reason or f"actor {self.name} did not stop within {self.shutdown:g} s")
        if self.kill_after < inf:
            self._alarms.set(
                f"stop {self.name}", trio.current_time() + self.kill_after, self._report
            )

    def _report_slow_start(self) -> None:
        self._tell(EventKind.SLOW_START, actor=self.name, seconds=SLOW_START)

    def _report(self) -> None:
        self._tell(EventKind.UNKILLABLE, actor=self.name, stack=self.stack())

    def stack(self) -> str:
        """Return where the incarnation stands."""
        if self.task is None:
            return ""
        frames = traceback.StackSummary.extract(self.task.iter_await_frames())
        return "".join(frames.format())

    def finish(self) -> None:
        """It has ended for good: nobody is kept waiting."""
        self.final = True
        self._ended.set(None)
        self._args, self._context = (), Context()  # refs of it may live long
        self.inbox.close(self.died)
        watchers, self._watchers = self._watchers, None
        assert self.down is not None  # it has run
        for call in (watchers or {}).values():  # who waited for another incarnation
            call(self.down)
