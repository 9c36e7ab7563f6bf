"""Runs ``async def`` tasks in trio's loop, each attempt in a context of its own."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing
from contextvars import Context
from typing import Any, cast

_UNDEAD: list[object] = []
"""Coroutines that ignore even their closing. Forgotten, they would be closed again, and complain
where nobody can catch it."""


class TornDown(BaseException):
    """The slot itself is being closed; a GeneratorExit of the task is just a failure."""


class Killed(Exception):
    """The coroutine swallowed its cancellation for too long and was thrown away."""


@types.coroutine
def drive(
    coroutine: Coroutine[Any, Any, Any],
    context: Context,
    trap: Any,
    condemned: Callable[[], bool],
) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine, which waits in ``trap``, with every step of it in ``context``.

    A slot runs many attempts one after the other; without this, one task's context variables would
    be seen by the next. And whoever drives a coroutine can stop driving it: when ``condemned`` says
    so, it is closed where it stands.

    Raises:
        Killed: It was closed.
    """
    run = context.run
    while True:
        try:
            sent = yield trap
        except GeneratorExit:  # the program's loop has broken down around us
            run(coroutine.close)
            raise TornDown from None
        except BaseException as error:  # noqa: BLE001 - trio's, for the task to see
            step, argument = coroutine.throw, error
        else:
            step, argument = cast(Any, coroutine.send), sent
        if condemned():
            # Its trap has returned, so trio is not waiting for anything on its behalf.
            try:
                run(coroutine.close)
            except BaseException:  # noqa: BLE001 - whatever it says now, it is never resumed again
                _UNDEAD.append(coroutine)
            raise Killed
        try:
            trap = run(step, argument)
        except StopIteration as stop:
            return stop.value


async def exhaust(items: AsyncIterator[Any]) -> None:
    """Run an async generator to its end; nobody asked for its items."""
    async with aclosing(cast(Any, items)):
        async for _ in items:
            pass
