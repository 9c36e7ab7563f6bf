"""Runs plain functions in processes of their own, which are killed on cancel and timeout.

The parent sends an import path and encoded arguments; the child imports the function, and encodes
what it returns itself, so that a value which cannot travel is that task's error and nobody else's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from actorq.actors.executors.current import Current, running
from actorq.actors.executors.failures import describe, wants_later
from actorq.codec.payload import Signature
from actorq.codec.pickled import decode_call, decode_value, encode_value
from actorq.errors import EncodeError, RemoteError
from actorq.tasks import EncodedCall, EncodedValue, Task, import_path, import_task

if TYPE_CHECKING:
    from trio_parallel import WorkerContext


class ChildLost(Exception):
    """The process died before it answered."""


class ChildFailed(Exception):
    """The function raised in its process; ``later`` is the delay of a `RetryLater`."""

    def __init__(self, error: RemoteError, later: float | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.later = later


@asynccontextmanager
async def open_processes() -> AsyncGenerator[WorkerContext, None]:
    """Open a pool of processes, empty at first; leaving it ends them all."""
    import trio_parallel

    try:
        async with trio_parallel.open_worker_context(grace_period=1.0) as context:
            yield context
    except trio_parallel.BrokenWorkerError:
        # Idle children that did not leave by themselves (killed from outside, say). None is left,
        # which is all that leaving promises.
        pass


async def run_in_process(
    context: WorkerContext, call: EncodedCall, current: Current, seconds: float
) -> Any:
    """Run the task's function in a process and return its value (`EncodedValue` of a wire call).

    Cancelling it kills the process; no ``finally`` of the task runs.

    Args:
        context: The pool.
        call: The task whose function to run, and its encoded arguments.
        current: What it may know about itself.
        seconds: How long it may run, or inf.

    Raises:
        ChildFailed: The function raised, or its value cannot travel.
        ChildLost: The process died.
    """
    import trio_parallel

    facts = (current.id, current.name, current.attempt, seconds, dict(current.meta))
    # The worker's slots are the bound; without a limiter, trio-parallel brings its own.
    limiter = trio.CapacityLimiter(inf)
    try:
        error, content, later = await context.run_sync(
            run_child,
            import_path(call.task.function),
            call.call,
            call.wire,
            encode_value(current.name, facts),
            kill_on_cancel=True,
            limiter=limiter,
        )
        if error is None:
            return EncodedValue(content) if call.wire else decode_value(current.name, content)
    except trio_parallel.BrokenWorkerError as broken:
        raise ChildLost(str(broken)) from None
    except EncodeError as broken:
        raise ChildFailed(describe(broken), None) from None
    raise ChildFailed(error, later)


def run_child(
    path: str, call: bytes, wire: bool, facts: bytes
) -> tuple[RemoteError | None, bytes, float | None]:
    """Run in the process: call the function and return an outcome that is sure to travel."""
    try:
        id, name, attempt, seconds, meta = decode_value(path, facts)
        found = import_task(path)
        function = found.function if isinstance(found, Task) else found
        signature = None
        if wire:
            signature = found.signature if found is not function else Signature(name, function)
        args, kwargs = signature.decode_call(call) if signature else decode_call(call)
        running.set(Current(id, name, attempt, None if seconds == inf else seconds, meta))
        value = function(*args, **kwargs)
        content = signature.encode_value(value) if signature else encode_value(name, value)
        return None, content, None
    except BaseException as error:  # noqa: BLE001 - even SystemExit: the process is ours
        return describe(error), b"", wants_later(error)
