"""Who is started, stopped and restarted, and in which order: the rules of Erlang/OTP's supervisor.

This machine decides; it runs nothing, and does not know what a child is beyond its id. What it
upholds: a child is started only after those before it that go down with it are up again, and
stopped only after those behind it have ended; a temporary child is never started twice; a child
that was told to end for good never comes back; more crashes than the budget allows end the family
in reverse order, or with ``apart`` that one child alone. (A child's first start waits for nobody:
one that adds a sibling while it starts would wait for itself.)

Differs from OTP in two places: children of ``one_for_one`` wait for their restarts side by side,
and stopping a child (OTP's ``terminate_child``) also removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from actorq.machines.restarts import Backoff, RestartBudget, Streak
from actorq.machines.timers import Timers

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Who goes down with a child that crashes: nobody, everybody, or those started after it."""

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")

RestartType = Literal["permanent", "transient", "temporary"]
"""When a child that ends by itself is started again: always, after a crash, or never."""

RESTART_TYPES: tuple[RestartType, ...] = ("permanent", "transient", "temporary")

State = Literal["first start", "up", "stopping", "down", "restart"]


class Start(Struct, frozen=True):
    """Start this child; answer with `started` or `exited`."""

    id: str


class Stop(Struct, frozen=True):
    """Stop this child, ``final``: for good; answer with `exited`. May be asked for twice."""

    id: str
    final: bool


class Restarting(Struct, frozen=True):
    """This child has crashed and will be started again."""

    id: str


class Died(Struct, frozen=True):
    """This child has crashed and will not be started again; `Remove` follows."""

    id: str


class Remove(Struct, frozen=True):
    """This child has ended for good."""

    id: str


class GaveUp(Struct, frozen=True):
    """All children have ended, since this one crashed once too often."""

    id: str
    failures: tuple[BaseException, ...]


Effect = Start | Stop | Restarting | Died | Remove | GaveUp


class Child(Struct):
    """What is known of one child."""

    id: str
    restart: RestartType
    state: State
    started_at: float
    stale: bool = False
    """Whether it must go down with another, and come up again."""
    final: bool = False
    """Whether its next end is its last."""
    due: float = 0.0
    streak: Streak | None = None
    budget: RestartBudget | None = None


class Supervision:
    """The children of one supervisor; or, with ``apart``, of a private supervisor each."""

    def __init__(
        self,
        strategy: Strategy = "one_for_one",
        *,
        intensity: int = 3,
        period: float = 5.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        apart: bool = False,
    ) -> None:
        self.strategy: Strategy = strategy
        self.intensity: int = intensity
        self.period: float = period
        self.closing: bool = False
        """Whether it ends all of its children."""
        self.retired: bool = False
        """Whether it starts nothing more."""
        self._backoff = backoff
        self._apart = apart
        self._budget = RestartBudget(intensity, period)
        self._children: dict[str, Child] = {}  # in the order in which they were first started
        self._unsettled: set[str] = set()
        """Who goes down or comes up in a restart of several."""
        self._timers = Timers()
        self._gave_up: GaveUp | None = None

    def __len__(self) -> int:
        return len(self._children)

    @property
    def policy(self) -> Strategy | Literal["apart"]:
        """The strategy, or ``apart``."""
        return "apart" if self._apart else self.strategy

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return self._timers.next() if self._timers.armed else None

    # --- what happens ----------------------------------------------------------------------------

    def adopt(self, id: str, restart: RestartType, now: float) -> list[Effect]:
        """Take in a new child and start it."""
        self._children[id] = Child(id, restart, "first start", now)
        return [Start(id)]

    def started(self, id: str, now: float) -> list[Effect]:
        """A child says that it is ready."""
        child = self._children[id]
        if child.state not in ("first start", "restart"):
            return []
        child.state = "up"
        if not child.stale:
            self._unsettled.discard(id)
        return self._go_on(now)

    def exited(
        self, id: str, now: float, failure: BaseException | None, spread: float = 0.0
    ) -> list[Effect]:
        """A child has ended: by itself, by ``failure``, or since it was told to.

        ``spread`` (-1..1) is the jitter of the wait, should it be started again.
        """
        child = self._children[id]
        out: list[Effect] = []
        if child.final or child.state == "first start":
            self._remove(child, out)
        elif self.retired:  # its cell tells of one that failed while it was stopped
            self._end_by_itself(child, None if child.state == "stopping" else failure, out)
        elif child.state == "stopping":
            self._put_down(child)  # with another one that crashed
        elif child.restart == "temporary" or (child.restart == "transient" and failure is None):
            self._end_by_itself(child, failure, out)
        elif child.stale:
            if failure is not None:  # before its turn to be stopped had come
                out.append(Restarting(child.id))
            self._put_down(child)
        else:
            self._crash(child, now, failure or RuntimeError("it ended"), spread, out)
        return out + self._go_on(now)

    def abandoned(self, id: str, now: float) -> list[Effect]:
        """A child has ended by what ends the whole program; there is no answer to that."""
        out: list[Effect] = []
        self._remove(self._children[id], out)
        return out + self._go_on(now)

    def stop(self, id: str, now: float) -> list[Effect]:
        """End a child for good."""
        child = self._children[id]
        out: list[Effect] = []
        if child.state == "down":
            self._remove(child, out)
        else:
            self._end(child, out)
        return out + self._go_on(now)

    def close(self, now: float, *, at_once: bool = False) -> list[Effect]:
        """End all children, in reverse order, or all ``at_once``; start nothing any more."""
        out: list[Effect] = []
        self._begin_to_close(out)
        if at_once:
            for child in self._children.values():
                self._end(child, out)
        return out + self._go_on(now)

    def retire(self) -> list[Effect]:
        """Start nothing more; what waits to be started again has ended."""
        out: list[Effect] = []
        self.retired = True
        for child in [c for c in self._children.values() if c.state == "down"]:
            self._remove(child, out)
        return out

    def tick(self, now: float) -> list[Effect]:
        """Some time has passed."""
        due = self._timers.due(now)
        if self.strategy != "one_for_one":
            return self._go_on(now)
        return [self._restart(self._children[id], now) for id in due]

    # --- the rules -------------------------------------------------------------------------------

    def _crash(
        self, child: Child, now: float, failure: BaseException, spread: float, out: list[Effect]
    ) -> None:
        """A child is to be started again, with those that go down with it; or never."""
        budget = self._budget
        if self._apart:
            budget = child.budget = child.budget or RestartBudget(self.intensity, self.period)
        if not budget.spend(now, failure):
            out.append(Died(child.id))
            self._remove(child, out)
            if not self._apart:
                self._gave_up = GaveUp(child.id, budget.failures)
                self._begin_to_close(out)
            return
        out.append(Restarting(child.id))
        child.streak = child.streak or Streak(self._backoff)
        due = now + child.streak.next(now - child.started_at, spread)
        for other in self._affected(child):
            other.due = max(other.due, due)
            self._unsettled.add(other.id)
            if other is child or other.state == "down":
                self._put_down(other)
            else:
                other.stale = True  # also one that is ending for good: it is waited for

    def _affected(self, child: Child) -> Iterator[Child]:
        """Yield the child and those that go down with it, in order."""
        if self.strategy == "one_for_one":
            yield child
            return
        behind = self.strategy == "one_for_all"
        for other in self._children.values():
            behind = behind or other is child
            if behind:
                yield other

    def _put_down(self, child: Child) -> None:
        child.state, child.stale = "down", False
        self._timers.set(child.id, child.due)

    def _restart(self, child: Child, now: float) -> Start:
        child.state, child.started_at = "restart", now
        self._timers.clear(child.id)
        return Start(child.id)

    def _remove(self, child: Child, out: list[Effect]) -> None:
        del self._children[child.id]
        self._unsettled.discard(child.id)
        self._timers.clear(child.id)
        out.append(Remove(child.id))

    def _go_on(self, now: float) -> list[Effect]:
        """Return the next moves of what is under way: closing, or a restart of several."""
        if self.closing:
            return self._close_more()
        if self.retired or self.strategy == "one_for_one" or not self._unsettled:
            return []
        children = self._children.values()
        # One that starts for the first time is not waited for: it goes down once it is up.
        going_down = [c for c in children if c.stale and c.state != "first start"]
        if going_down:
            last = going_down[-1]
            if last.state == "stopping":
                return []
            # A temporary child goes down with the others, and does not come back.
            last.state, last.final = "stopping", last.restart == "temporary"
            return [Stop(last.id, last.final)]
        if any(c.state == "restart" for c in children):
            return []
        for child in children:
            if child.state == "down":
                return [self._restart(child, now)] if child.due <= now else []
        return []

    def _end_by_itself(
        self, child: Child, failure: BaseException | None, out: list[Effect]
    ) -> None:
        if failure is not None:
            out.append(Died(child.id))
        self._remove(child, out)

    def _begin_to_close(self, out: list[Effect]) -> None:
        self.closing = True
        out += self.retire()

    def _close_more(self) -> list[Effect]:
        """Stop the last child that is left; the one before it is told when that one has ended."""
        out: list[Effect] = []
        if not self._children:
            if self._gave_up is not None:
                out.append(self._gave_up)
                self._gave_up = None
        else:
            self._end(next(reversed(self._children.values())), out)
        return out

    def _end(self, child: Child, out: list[Effect]) -> None:
        if not child.final:
            child.final, child.state = True, "stopping"
            out.append(Stop(child.id, final=True))
