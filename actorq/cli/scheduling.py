"""The verbs about schedules: ``schedule ls``, ``run``, ``pause``, ``resume`` and ``remove``.

A schedule is declared by a program, in a decorator or by `Client.schedule`: its arguments and its
options have types that a command line has no words for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

import trio
from cyclopts import App, Parameter

from actorq.cli.exits import Exit, usage
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Column, Out, ago, ahead
from actorq.model.results import ScheduleInfo

_SCHEDULES = (
    Column("NAME", whole=True),
    Column("TASK", keep=6),
    Column("TIMING", keep=8),
    Column("NEXT", keep=8, right=True),
    Column("LAST", keep=5, right=True),
    Column("CATCH UP", keep=2),
    Column("OVERLAP", keep=3),
)

Name = Annotated[str, Parameter(help="The schedule's name.")]
_Verb = Literal["pause", "resume", "remove"]
_DONE = {"pause": "is paused", "resume": "goes on", "remove": "is removed"}


def build_schedule(epilogue: str, place: int) -> App:
    """Return the part of the command line that is about schedules."""
    app = App(
        name="schedule",
        help="Look at schedules, and control them.",
        help_epilogue=epilogue,
        sort_key=place,
    )
    verbs: tuple[Callable[..., int], ...] = (ls, run, pause, resume, remove)
    for number, verb in enumerate(verbs):
        app.command(verb, name=verb.__name__, sort_key=number, help_epilogue=epilogue)
    return app


def ls(
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """List schedules: what they submit, when, and when they did last."""
    return trio.run(_ls, connection, Out(json=json))


def run(
    name: Name,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Submit the task of a schedule now, and print its id; its ticks go on as they would."""
    return trio.run(_run, connection, Out(json=json), name)


def pause(
    name: Name,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Submit nothing for a schedule until it is resumed; nobody makes up for what it misses."""
    return trio.run(_control, connection, Out(json=json), name, "pause")


def resume(
    name: Name,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Go on with a schedule that was paused, from its next tick on."""
    return trio.run(_control, connection, Out(json=json), name, "resume")


def remove(
    name: Name,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Forget a schedule; what it has submitted stays.

    One of a decorator comes back with the next worker that has the task: pause it instead, or take
    it out of the decorator first.
    """
    return trio.run(_control, connection, Out(json=json), name, "remove")


async def _ls(connection: Connection, out: Out) -> Exit:
    async with connection.open() as client:
        with answered():
            found = await client.schedules()
    if out.json:
        out.data({"schedules": found})
    else:
        now = datetime.now(UTC)
        out.table(_SCHEDULES, [_row(info, now) for info in found])
    return Exit.OK


def _row(info: ScheduleInfo, now: datetime) -> tuple[object, ...]:
    when = "paused" if info.paused else ahead(info.next_at, lambda: now) or "never"
    last = ago(info.last_at, lambda: now)
    return info.name, info.task, info.timing, when, last, info.catch_up, info.overlap


async def _run(connection: Connection, out: Out, name: str) -> Exit:
    async with connection.open() as client:
        with answered(), usage():
            handle = await client.run_schedule(name)
    if out.json:
        out.data({"id": handle.id, "name": handle.name})
    else:
        out.text(handle.id)
    return Exit.OK


async def _control(connection: Connection, out: Out, name: str, verb: _Verb) -> Exit:
    async with connection.open() as client:
        with answered(), usage():
            if verb == "pause":
                await client.pause_schedule(name)
            elif verb == "resume":
                await client.resume_schedule(name)
            else:
                await client.remove_schedule(name)
    if out.json:
        out.data({"schedule": name, "done": verb})
    else:
        out.text(f"{name} {_DONE[verb]}")
    return Exit.OK
