"""The verbs about schedules: ``schedule ls``, ``run``, ``pause``, ``resume`` and ``remove``.

A schedule is declared by a program, in a decorator or by `Client.schedule`: its arguments and its
options have types that a command line has no words for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from actorq.cli.options import Connection, Json
from actorq.cli.output import Column, Out, Table, ago, ahead
from actorq.client.client import Client
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


def build_schedule(epilogue: str, place: int) -> App:
    """Return the part of the command line that is about schedules."""
    app = App(
        name="schedule",
        help="Look at schedules, and control them.",
        help_epilogue=epilogue,
        sort_key=place,
    )
    verbs: tuple[Callable[..., None], ...] = (ls, run, pause, resume, remove)
    for number, verb in enumerate(verbs):
        app.command(verb, name=verb.__name__, sort_key=number, help_epilogue=epilogue)
    return app


def ls(*, json: Json = False, connection: Connection = Connection()) -> None:
    """List schedules: what they submit, when, and when they did last."""
    found = connection.ask(Client.schedules)
    now = datetime.now(UTC)
    table = Table(_SCHEDULES, [_row(info, now) for info in found])
    Out(json=json).say({"schedules": found}, table)


def run(name: Name, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Submit the task of a schedule now, and print its id; its ticks go on as they would."""
    handle = connection.ask(lambda client: client.run_schedule(name))
    Out(json=json).say({"id": handle.id, "name": handle.name}, handle.id)


def pause(name: Name, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Submit nothing for a schedule until it is resumed; nobody makes up for what it misses."""
    connection.ask(lambda client: client.pause_schedule(name))
    Out(json=json).say({"schedule": name, "done": "pause"}, f"{name} is paused")


def resume(name: Name, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Go on with a schedule that was paused, from its next tick on."""
    connection.ask(lambda client: client.resume_schedule(name))
    Out(json=json).say({"schedule": name, "done": "resume"}, f"{name} goes on")


def remove(name: Name, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Forget a schedule; what it has submitted stays.

    One of a decorator comes back with the next worker that has the task: pause it instead, or take
    it out of the decorator first.
    """
    connection.ask(lambda client: client.remove_schedule(name))
    Out(json=json).say({"schedule": name, "done": "remove"}, f"{name} is removed")


def _row(info: ScheduleInfo, now: datetime) -> tuple[object, ...]:
    when = "paused" if info.paused else ahead(info.next_at, now) or "never"
    last = ago(info.last_at, now)
    return info.name, info.task, info.timing, when, last, info.catch_up, info.overlap
