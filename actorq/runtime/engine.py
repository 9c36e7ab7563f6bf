"""What all actors of one system share: names, alarms, dead letters, and who is told of events."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from typing import Any

import trio

from actorq.errors import ActorDied, ActorError
from actorq.model.events import EventKind
from actorq.runtime.alarms import Alarms
from actorq.runtime.cell import Cell, Tell
from actorq.runtime.ref import Post


class Engine:
    """Keep `alarms` running while there are actors."""

    def __init__(
        self, tell: Tell, rng: Random | None = None, *, context: Callable[[], None] | None = None
    ) -> None:
        """``context`` is called in each new actor's context, to clear it of what is not its."""
        self.tell: Tell = tell
        self.closed: bool = False
        self._clear_context = context
        self.rng: Random = rng or Random()
        self.alarms: Alarms = Alarms()
        self.post: Post = Post(self._dead_letter)
        self.cells: dict[str, Cell] = {}
        """Every actor that has not ended, by name."""
        self._numbers: dict[str, int] = {}
        self._telling = False

    def _dead_letter(self, actor: str, message: object, why: str) -> None:
        if not self._telling:  # a listener may make another one, by telling an actor
            self._telling = True
            try:
                self.tell(EventKind.DEAD_LETTER, actor=actor, message=message, why=why)
            finally:
                self._telling = False

    def name_for(self, function: Callable[..., Any], wanted: str | None) -> str:
        """Return the name of a new actor.

        Raises:
            ActorError: An actor of the wanted name is alive.
        """
        if wanted is not None:
            if wanted in self.cells:
                raise ActorError(
                    f"an actor named {wanted!r} is alive; stop it, or use another name"
                )
            return wanted
        while isinstance(function, functools.partial):
            function = function.func
        base = getattr(function, "__qualname__", type(function).__qualname__).rpartition(".")[2]
        name, number = base, self._numbers.get(base, 1)
        while name in self.cells:
            number += 1
            name = f"{base}-{number}"
        self._numbers[base] = number
        return name

    def new_context(self) -> Context:
        """Return the context of a new actor: the present one, but for what is not its."""
        context = copy_context()
        if self._clear_context is not None:
            context.run(self._clear_context)
        return context

    def find(self, name: str) -> Cell:
        """Return the living actor of that name.

        Raises:
            ActorDied: There is none.
        """
        try:
            return self.cells[name]
        except KeyError:
            raise ActorDied(f"no actor named {name!r} is alive") from None

    def around(self, task: trio.lowlevel.Task) -> Cell | None:
        """Return the innermost actor inside which a task runs, if any."""
        inside: trio.lowlevel.Task | None = task
        while inside is not None:
            cell = self.cells.get(inside.name)  # an actor's task has the actor's name
            if cell is not None and cell.task is inside:
                return cell
            inside = None if inside.parent_nursery is None else inside.parent_nursery.parent_task
        return None
