"""Keeps actors running: starts them in order, restarts those that crash, stops them in reverse.

One nursery for all children; each child is wrapped, so that every exit becomes a message to the
supervisor, and only the supervisor's own cancellation, KeyboardInterrupt and SystemExit cross.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import attrs
import trio

from actorq.errors import RestartIntensityExceeded
from actorq.machines.supervision import Backoff, RestartBudget, Streak
from actorq.model.events import EventKind
from actorq.runtime.mailbox import Mailbox

Start = Callable[["trio.TaskStatus[None]"], Awaitable[None]]


@attrs.frozen
class ChildSpec:
    """A child: ``make(incarnation)`` gives the coroutine function that runs it.

    It runs until it is cancelled, and calls ``task_status.started()`` once it is ready. It should
    be restarted however it ends, for it should not end.
    """

    name: str
    make: Callable[[int], Start]


class Child:
    """A child as it runs: its scope, and how often it was started."""

    def __init__(self, spec: ChildSpec, backoff: Backoff) -> None:
        self.spec = spec
        self.streak: Streak = Streak(backoff)
        self.incarnation = 0
        self.started_at: float = 0.0
        self.scope: trio.CancelScope | None = None
        self.ended: trio.Event = trio.Event()
        self.stopping = False


class Supervisor:
    """Supervises its children one for one: a crash restarts the child that crashed."""

    def __init__(
        self,
        specs: list[ChildSpec],
        *,
        tell: Callable[..., None],
        budget: RestartBudget | None = None,
        backoff: Backoff | None = None,
        rng: Random | None = None,
    ) -> None:
        self._tell = tell
        self._budget = budget or RestartBudget()
        self._rng = rng or Random()
        self._children = [Child(spec, backoff or Backoff()) for spec in specs]
        self._exits: Mailbox[tuple[Child, BaseException]] = Mailbox()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the children one after the other and keep them running until cancelled.

        Raises:
            RestartIntensityExceeded: They crashed too often; all of them have been stopped.
            BaseException: What a child raised at its first start.
        """
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:
            try:
                for child in self._children:
                    await self._start(child, nursery)
                task_status.started()
                while True:
                    await self._exits.wait()
                    for child, failure in self._exits.take(len(self._exits)):
                        self._spend(child, failure)
                        nursery.start_soon(self._restart, child, nursery)
            except Exception as error:  # noqa: BLE001 - raised below, out of the nursery's group
                failures.append(error)
                nursery.cancel_scope.cancel("a child cannot be started")
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop()
        if failures:
            raise failures[0]

    async def _start(self, child: Child, nursery: trio.Nursery) -> None:
        """Start a child and wait until it says that it is ready.

        Raises:
            Exception: What it raised before that.
        """
        child.incarnation += 1
        child.started_at = trio.current_time()
        child.ended = trio.Event()
        await nursery.start(self._run, child, name=f"actorq {child.spec.name}")

    async def _run(
        self, child: Child, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        failure: BaseException
        with trio.CancelScope() as child.scope:
            ready = _Started(task_status, child.scope)
            if child.stopping:  # between the order to start it and this
                child.scope.cancel("its supervisor stops")
            try:
                await child.spec.make(child.incarnation)(ready)
                failure = RuntimeError(f"{child.spec.name} ended, which it should not")
            except Exception as error:  # noqa: BLE001 - every exit is a message
                failure = error
            except BaseExceptionGroup as group:
                if group.subgroup((KeyboardInterrupt, SystemExit)) is not None or child.stopping:
                    raise
                failure = group
            finally:
                child.ended.set()
            if child.stopping:
                # Nobody waits for it any more, but what it could not clean up should be known.
                self._tell(EventKind.ACTOR_DIED, actor=child.spec.name, error=repr(failure))
                return
            if not ready.called:
                raise failure
            self._exits.post((child, failure))
            self._exits.wake()

    def _spend(self, child: Child, failure: BaseException) -> None:
        """Count a crash, a failed start included; give up if there were too many."""
        if not self._budget.spend(trio.current_time(), failure):
            self._tell(EventKind.ACTOR_DIED, actor=child.spec.name, error=repr(failure))
            raise RestartIntensityExceeded(
                f"{child.spec.name} crashed more than {self._budget.intensity} times in "
                f"{self._budget.period:g} s, the last time with {failure!r}",
                self._budget.failures,
            ) from failure
        self._tell(
            EventKind.ACTOR_RESTARTED,
            actor=child.spec.name,
            incarnation=child.incarnation + 1,
            error=repr(failure),
        )

    async def _restart(self, child: Child, nursery: trio.Nursery) -> None:
        """Start a crashed child again, after a wait that grows."""
        ran_for = trio.current_time() - child.started_at
        await trio.sleep(child.streak.next(ran_for, self._rng.uniform(-1.0, 1.0)))
        try:
            await self._start(child, nursery)
        except Exception as error:  # noqa: BLE001 - a failed start counts as a crash
            self._exits.post((child, error))
            self._exits.wake()

    async def _stop(self) -> None:
        """Stop the children in reverse order, each before the one that was started earlier."""
        for child in reversed(self._children):
            child.stopping = True
            if child.scope is not None:
                child.scope.cancel("its supervisor stops")
                await child.ended.wait()


class _Started:
    """A task status that remembers whether it was called, and shields the child from then on.

    A child that runs is stopped by its supervisor, in order; one that never gets ready is cancelled
    by whoever cancels the supervisor, which waits for it.
    """

    def __init__(self, status: trio.TaskStatus[None], scope: trio.CancelScope) -> None:
        self._status = status
        self._scope = scope
        self.called = False

    def started(self, value: None = None) -> None:
        self.called = True
        self._scope.shield = True
        self._status.started(value)
