"""The verbs about one task: ``submit``, ``result`` and ``cancel``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from datetime import datetime
from math import inf
from typing import Annotated, Any, Literal

import trio
from cyclopts import Parameter

from actorq.cli.exits import Exit, Failure, usage
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Out, Table, fields
from actorq.cli.plain import dumps, shown
from actorq.client.handle import TaskHandle
from actorq.errors import RemoteError
from actorq.model.options import OptionsDict
from actorq.model.results import TaskResult
from actorq.model.status import TaskStatus
from actorq.tasks import NamedTask, TaskMessage

_SHOWN = 60
"""Characters of what makes no sense."""

Wait = Annotated[bool, Parameter(help="Wait until the task has ended.")]
Id = Annotated[str, Parameter(help="The task's id.")]


def submit(
    name: Annotated[str, Parameter(help="The task's name, such as shop.tasks:send_mail.")],
    /,
    *,
    args: Annotated[str, Parameter(help="Its positional arguments, as a JSON array.")] = "[]",
    kwargs: Annotated[str, Parameter(help="Its keyword arguments, as a JSON object.")] = "{}",
    queue: Annotated[str | None, Parameter(help="The queue to put it in.")] = None,
    priority: Annotated[
        Literal["low", "normal", "high", "critical"] | None, Parameter(help="How urgent it is.")
    ] = None,
    timeout: Annotated[float | None, Parameter(help="Seconds for each attempt.")] = None,
    delay: Annotated[float | None, Parameter(help="Seconds before it may start.")] = None,
    deadline: Annotated[float | None, Parameter(help="Seconds for its whole life.")] = None,
    key: Annotated[
        str | None,
        Parameter(
            help="Submit it once: the same call under the same key is the same task, and its id is "
            "printed."
        ),
    ] = None,
    after: Annotated[
        tuple[str, ...],
        Parameter(help="The id of a task that must have succeeded before; may be repeated."),
    ] = (),
    wait: Annotated[
        bool, Parameter(help="Wait until it has ended, and print its value instead of its id.")
    ] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Submit a task by its name, and print its id.

    Nobody has to know the name yet: the task waits until a worker comes that does.

    Example: actorq submit shop.tasks:add --args '[1, 2]' --wait
    """
    positional = _parsed("--args", args, list, "'[1, \"two\"]'")
    keywords = _parsed("--kwargs", kwargs, dict, "'{\"width\": 3}'")
    options: dict[str, Any] = {
        "queue": queue, "priority": priority, "timeout": timeout, "delay": delay,
        "deadline": deadline, "key": key, "after": after or None,
    }  # fmt: skip
    # Each has the type that its parameter says, and `options` checks them once more.
    given: OptionsDict = {k: v for k, v in options.items() if v is not None}  # type: ignore[assignment]
    with usage():
        message = NamedTask.called(name).options(**given).message(*positional, **keywords)
    return trio.run(_submit, connection, Out(json=json), message, wait)


def result(
    id: Id,
    /,
    *,
    wait: Wait = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Show what is known of a task: its status, its value or error, and why it waits."""
    if wait:
        known = connection.ask(lambda client: _ended(client.handle(id)), inf)
    else:
        known = connection.ask(lambda client: client.result(id))
    Out(json=json).say(known, *_all_of(known))
    return _code(known)


def cancel(
    id: Id,
    /,
    *,
    reason: Annotated[str | None, Parameter(help="What to tell those who ask why.")] = None,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Cancel a task, and wait until it has ended.

    One that waits never runs; one that runs is stopped, and its cleanup runs first. One that had
    ended before keeps its result, and the exit code is 1 unless that is to be cancelled.
    """
    known = connection.ask(lambda client: client.cancel(id, reason))
    why = f": {known.reason}" if known.reason else ""
    Out(json=json).say(known, f"{known.id} {known.status}{why}")
    return Exit.OK if known.status is TaskStatus.CANCELLED else Exit.FAILED


def _parsed(option: str, text: str, kind: type[Any], example: str) -> Any:
    what = "array" if kind is list else "object"
    given = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    said = f"{option} must be a JSON {what}, such as {example}, not {given!r}"
    try:
        value = jsonlib.loads(text)
    except ValueError as error:
        raise Failure(f"{said}: {error}", Exit.USAGE) from None
    except RecursionError:
        raise Failure(f"{said}: it is nested too deeply", Exit.USAGE) from None
    if not isinstance(value, kind):
        raise Failure(said, Exit.USAGE)
    return value


async def _submit(connection: Connection, out: Out, message: TaskMessage[Any], wait: bool) -> Exit:
    async with connection.open() as client:
        handle = await answered(client.submit(message))
        if not wait:
            out.say({"id": handle.id, "name": handle.name}, handle.id)
            return Exit.OK
        ended = await _ended(handle)
    out.say(ended, *([shown(ended.value)] if ended.ok else []))
    if not ended.ok:
        hint = "" if out.json else f" (actorq result {ended.id} shows more)"
        out.note(f"{_verdict(ended)}{hint}")
    return _code(ended)


async def _ended(handle: TaskHandle[Any]) -> TaskResult[Any]:
    """Wait for a task; whoever interrupts that is told that it goes on."""
    try:
        return await handle.wait()
    except KeyboardInterrupt:
        raise Failure(
            f"task {handle.id} goes on: actorq result {handle.id} --wait", Exit.INTERRUPTED
        ) from None


def _code(known: TaskResult[Any]) -> Exit:
    if not known.status.terminal:
        return Exit.NOT_ENDED
    return Exit.OK if known.ok else Exit.FAILED


def _verdict(known: TaskResult[Any]) -> str:
    """Return how a task ended without a value."""
    if known.error is not None:
        return f"task {known.name} failed: {_short(known.error)}"
    return f"task {known.name} was {known.reason or known.status}"


def _short(error: RemoteError) -> str:
    kind = error.type.removeprefix("builtins.")
    return f"{kind}: {error.message}" if error.message else kind


def _all_of(known: TaskResult[Any]) -> Iterator[str | Table]:
    """Yield all that is known of a task, for people."""
    error = known.error
    yield fields(
        ("id", known.id),
        ("name", known.name),
        ("queue", known.queue),
        ("status", known.status),
        ("reason", None if error is not None else known.reason),
        ("attempts", known.attempts),
        ("worker", known.worker),
        ("submitted", _moment(known.submitted_at)),
        ("started", _moment(known.started_at)),
        ("completed", _moment(known.completed_at)),
        ("meta", dumps(known.meta) if known.meta else None),
        ("error", None if error is None else _short(error)),
    )
    if known.ok:
        yield f"value\n{shown(known.value)}"
    if error is not None:
        yield from error.notes
        if error.traceback:
            yield error.traceback.rstrip()


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone().isoformat(sep=" ", timespec="milliseconds")
