"""Keeps actors running, by the rules of `actorq.machines.supervision`.

The machine decides; this carries it out, in plain calls by whoever brings the news. All children
run in one nursery.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Literal, ParamSpec, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import current_task

from actorq.errors import ActorDied, RestartIntensityExceeded, told
from actorq.machines import supervision as rules
from actorq.machines.supervision import RESTART_TYPES, RestartType, Strategy, Supervision
from actorq.model.checks import name as check_name
from actorq.model.checks import number, whole
from actorq.runtime.cell import Cell
from actorq.runtime.engine import Engine
from actorq.runtime.future import Future
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef

M = TypeVar("M")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

MAILBOX = 1_024
"""Messages that a mailbox holds by default."""


class Supervisor:
    """Starts, restarts and stops actors; yielded by `System.supervise`.

    Attributes:
        name: What it is called in the tree.
        strategy: Who goes down with an actor that crashes; with ``apart`` it is also nobody else's
            budget that the crash counts against.
    """

    def __init__(
        self,
        engine: Engine,
        nursery: trio.Nursery,
        machine: Supervision,
        *,
        name: str,
        owner: Cell | None = None,
    ) -> None:
        self.name = name
        self.strategy: Strategy | Literal["apart"] = machine.policy
        self.owner = owner
        """The actor inside which it was opened."""
        self.cells: dict[str, Cell] = {}
        """Its actors, in the order in which they were first started."""
        self._engine = engine
        self._nursery = nursery
        self._machine = machine
        self._key = f"supervisor {id(self)}"
        self._gone: Future[None] = Future()
        """Set when it is closing and every child has ended."""
        self.failed: Future[None] = Future()
        """Fails with what made it give up."""

    def __repr__(self) -> str:
        return f"<Supervisor {self.name!r} {self.strategy}, {len(self.cells)} actors>"

    async def spawn(
        self,
        function: Callable[[Mailbox[M], *Ts], Coroutine[Any, Any, object]],
        *args: *Ts,
        name: str | None = None,
        restart: RestartType = "transient",
        shutdown: float = 5.0,
        kill_after: float = 5.0,
        mailbox: int = MAILBOX,
    ) -> ActorRef[M]:
        """Start an actor and return its ref once it has started.

        It has started when it reads its first message or calls `Mailbox.started`. What it raises
        before that is raised here, and there is no actor then; cancelling this verb also cancels
        the actor, and waits for that.

        Args:
            function: An ``async def`` of a `Mailbox` and of ``args``, called again at a restart.
            *args: Passed on to it.
            name: Unique among the actors that are alive; by default the function's.
            restart: When it is started again: however it ends by itself (``"permanent"``), when it
                raises (``"transient"``), or never (``"temporary"``).
            shutdown: Seconds that it has to end once it is told to stop; then it is cancelled.
                0 cancels at once, ``math.inf`` never.
            kill_after: Seconds after which a cancelled actor that still runs is reported as
                unkillable.
            mailbox: Messages that its mailbox holds before senders wait.

        Raises:
            ActorDied: The supervisor, or the system, is closing or has failed.
            ActorError: An actor of that name is alive.
            TypeError: An argument of the wrong type; the message names it.
            ValueError: One out of range; the message names it.
        """
        if name is not None:
            check_name("name", name)
        if restart not in RESTART_TYPES:
            raise ValueError(f"restart must be one of {', '.join(RESTART_TYPES)}, not {restart!r}")
        _check_function(function)
        if self._machine.retired:
            who = "the system" if self.strategy == "apart" else f"supervisor {self.name!r}"
            raise ActorDied(f"{who} is closing or closed, and takes no more actors")
        engine = self._engine
        cell = Cell(
            engine.name_for(function, name),
            function,
            args,
            context=engine.new_context(),
            boss=self,
            post=engine.post,
            alarms=engine.alarms,
            tell=engine.tell,
            shutdown=_seconds("shutdown", shutdown),
            kill_after=_seconds("kill_after", kill_after),
            capacity=whole("mailbox", mailbox),
        )
        self._adopt(cell, restart)
        try:
            await cell.wait_until_ready()
        except trio.Cancelled:
            if cell.alive:
                self.stop_cell(cell, drain=False)
                cell.kill("its start was cancelled")
            with trio.CancelScope(shield=True):
                await cell.join()
            raise
        if not cell.came_up:
            assert cell.down is not None  # it has ended
            raise cell.down.error or cell.died()
        return cell.ref

    @trio.lowlevel.enable_ki_protection
    async def close(self, *, drain: bool = False, at_once: bool = False) -> None:
        """Stop all actors, the last first, and wait until they have ended; start no more.

        With ``drain`` each handles what is in its mailbox first; with ``at_once`` they are all told
        at the same time.
        """
        for cell in self.cells.values():
            cell.set_drain(drain)
        self._do(self._machine.close, trio.current_time(), at_once=at_once)
        if self.cells:
            await self._gone.wait()

    def stop_restarting(self) -> None:
        """From now on no actor that crashes is started again, and none is added."""
        self._do(self._machine.retire)

    # --- what the cells tell ---------------------------------------------------------------------

    def cell_ready(self, cell: Cell) -> None:
        """See `actorq.runtime.cell.Boss`."""
        self._do(self._machine.started, cell.name, trio.current_time())

    def cell_exited(self, cell: Cell, failure: BaseException | None, *, crossing: bool) -> None:
        """See `actorq.runtime.cell.Boss`."""
        now = trio.current_time()
        if crossing:
            self._do(self._machine.abandoned, cell.name, now)
            return
        if failure is None and not cell.is_ready:  # short, but no failed start
            self._do(self._machine.started, cell.name, now)
        spread = 0.0 if failure is None else self._engine.rng.uniform(-1.0, 1.0)
        self._do(self._machine.exited, cell.name, now, failure, spread)

    def stop_cell(self, cell: Cell, drain: bool) -> None:
        """See `actorq.runtime.cell.Boss`."""
        cell.set_drain(drain)
        self._do(self._machine.stop, cell.name, trio.current_time())

    # --- what the machine wants ------------------------------------------------------------------

    # A KeyboardInterrupt in the middle would leave half of it done; it is raised afterwards.
    @trio.lowlevel.enable_ki_protection
    def _do(self, step: Callable[P, list[rules.Effect]], *args: P.args, **kwargs: P.kwargs) -> None:
        for effect in step(*args, **kwargs):
            if isinstance(effect, rules.GaveUp):
                self._give_up(effect)
                continue
            cell = self.cells[effect.id]
            if isinstance(effect, rules.Start):
                cell.start(self._nursery)
            elif isinstance(effect, rules.Stop):
                cell.order_stop(final=effect.final)
            elif isinstance(effect, rules.Remove):
                self._remove(cell)
            else:
                cell.tell_of_failure(died=isinstance(effect, rules.Died))
        deadline = self._machine.next_deadline()
        if deadline is None:
            self._engine.alarms.clear(self._key)
        else:
            self._engine.alarms.set(self._key, deadline, self._tick)

    def _tick(self) -> None:
        self._do(self._machine.tick, trio.current_time())

    @trio.lowlevel.enable_ki_protection
    def _adopt(self, cell: Cell, restart: RestartType) -> None:
        self.cells[cell.name] = self._engine.cells[cell.name] = cell
        self._do(self._machine.adopt, cell.name, restart, trio.current_time())

    def _remove(self, cell: Cell) -> None:
        del self.cells[cell.name], self._engine.cells[cell.name]
        cell.finish()
        if not self.cells and self._machine.closing:
            self._gone.set(None)

    def _give_up(self, gave_up: rules.GaveUp) -> None:
        machine, failures = self._machine, gave_up.failures
        error = RestartIntensityExceeded(
            f"supervisor {self.name!r} gave up after more than {machine.intensity} crashes in "
            f"{machine.period:g} s, the last one of {gave_up.id!r}: {told(failures[-1])}",
            failures,
        )
        error.__cause__ = failures[-1]
        self.failed.fail(error)


def _check_function(function: object) -> None:
    """Refuse what is certainly no async function; calling it would run it in the loop."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    plain = inspect.isroutine(inner) and not inspect.iscoroutinefunction(inner)
    if not callable(function) or plain or inspect.isclass(inner):
        raise TypeError(f"an actor must be an async function of a Mailbox, not {function!r}")
    method: Any = getattr(inner, "__func__", inner)
    if inspect.isfunction(method):
        # The cell that calls it is protected; a loop of its own that never waits should not be.
        trio.lowlevel.disable_ki_protection(method)


def _seconds(what: str, value: float) -> float:
    return inf if value == inf else number(what, value)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection  # whatever comes, its actors are told to end
async def open_supervisor(
    engine: Engine, machine: Supervision, name: str, all_of_them: list[Supervisor]
) -> AsyncGenerator[Supervisor, None]:
    """Open a supervisor whose actors end with the block; see `System.supervise`."""
    if engine.closed:
        raise ActorDied("the system is closed")
    async with trio.open_nursery() as nursery:
        owner = engine.around(current_task())
        supervisor = Supervisor(engine, nursery, machine, name=name, owner=owner)
        all_of_them.append(supervisor)
        orderly = False

        async def leave() -> None:
            supervisor.failed.peek()  # raises, which cancels the block

        supervisor.failed.call_when_done(lambda: nursery.start_soon(leave))
        try:
            yield supervisor
            orderly = True
        finally:
            try:
                with trio.CancelScope(shield=True):
                    try:
                        await supervisor.close(drain=orderly)
                    except KeyboardInterrupt:  # a second one
                        await supervisor.close(at_once=True)
                        raise
            finally:
                all_of_them.remove(supervisor)
