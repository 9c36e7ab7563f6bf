"""The verbs that look at many: ``ls``, ``tasks``, ``stats`` and ``tree``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import trio
from cyclopts import Parameter, validators

from actorq.cli.exits import Exit, Failure
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Column, Out, ago
from actorq.cli.submitting import described
from actorq.model.filters import PAGE_MAX, FilterDict
from actorq.model.results import Page, Stats, TaskInfo
from actorq.model.status import TaskStatus
from actorq.model.tree import ActorTree

_TASKS = (
    Column("ID", whole=True),
    Column("NAME", keep=7),
    Column("QUEUE", keep=3),
    Column("STATUS", keep=8, whole=True),
    Column("TRIES", keep=2, right=True),
    Column("AGE", keep=4, right=True),
    Column("REASON", keep=6),
)
_INFOS = (
    Column("NAME"),
    Column("WORKERS", right=True),
    Column("WAITING", right=True),
    Column("NOTE", keep=5),
)
_QUEUES = (
    Column("QUEUE"),
    Column("PENDING", right=True),
    Column("RUNNING", right=True),
    Column("SCHEDULED", keep=5, right=True),
    Column("PARKED", keep=4, right=True),
)
_POOLS = (Column("POOL"), Column("SLOTS", right=True), Column("FREE", right=True))

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Moment = Annotated[
    str | None,
    Parameter(
        help="A time (2026-03-01T12:00, local unless it names a zone), or how long ago (90s, 10m, "
        "2h, 3d)."
    ),
]


def ls(
    *,
    status: Annotated[
        tuple[TaskStatus, ...], Parameter(help="Only tasks that are this; may be repeated.")
    ] = (),
    task: Annotated[
        tuple[str, ...], Parameter(help="Only tasks of this name; may be repeated.")
    ] = (),
    queue: Annotated[str | None, Parameter(help="Only tasks in this queue.")] = None,
    id: Annotated[tuple[str, ...], Parameter(help="Only this task; may be repeated.")] = (),
    before: Moment = None,
    after: Moment = None,
    limit: Annotated[
        int,
        Parameter(validator=validators.Number(gte=1, lte=PAGE_MAX), help="The most to list."),
    ] = 50,
    cursor: Annotated[
        str | None, Parameter(help="Where to go on: what the list before gave as its next.")
    ] = None,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """List tasks, the newest first, with why each waits or how it failed.

    A task must fit every filter that is given; --before and --after are about its submission.
    """
    given: dict[str, Any] = {
        "status": status or None,
        "task": task or None,
        "queue": queue,
        "ids": id or None,
        "before": moment("--before", before),
        "after": moment("--after", after),
    }
    which = cast(FilterDict, {k: value for k, value in given.items() if value is not None})
    return trio.run(_ls, connection, Out(json=json), which, limit, cursor)


def tasks(
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """List the task names that workers know, or that tasks wait under."""
    return trio.run(_tasks, connection, Out(json=json))


def stats(
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Count tasks by queue and slots by pool, and what has ended how since the queue opened."""
    return trio.run(_stats, connection, Out(json=json))


def tree(
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Draw the queue node's actors and supervisors, and the workers elsewhere."""
    return trio.run(_tree, connection, Out(json=json))


def moment(option: str, text: str | None) -> datetime | None:
    """Return the time that an option stands for.

    Raises:
        Failure: It is none.
    """
    if text is None:
        return None
    past = _AGO.fullmatch(text.strip())
    try:
        if past is not None:
            number, unit = past.groups()
            return datetime.now(UTC) - timedelta(**{_UNITS[unit]: float(number)})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise Failure(
            f"{option} must be a time such as 2026-03-01T12:00, or how long ago, such as 10m, "
            f"not {text!r}",
            Exit.USAGE,
        ) from None


async def _ls(
    connection: Connection, out: Out, which: FilterDict, limit: int, cursor: str | None
) -> Exit:
    async with connection.open() as client:
        with answered():
            page = await client.find(limit=limit, cursor=cursor, **which)
    if out.json:
        found = [described(task) for task in page.tasks]
        out.data({"tasks": found, "next": page.next, "scanned": page.scanned})
    else:
        _print_page(out, page)
    return Exit.OK


def _print_page(out: Out, page: Page) -> None:
    rows = [
        (t.id, t.name, t.queue, t.status, t.attempts, ago(t.submitted_at), t.reason)
        for t in page.tasks
    ]
    out.table(_TASKS, rows)
    if page.next is not None:
        out.note(f"there are more: --cursor {page.next}")


async def _tasks(connection: Connection, out: Out) -> Exit:
    async with connection.open() as client:
        with answered():
            infos = await client.tasks()
    if out.json:
        out.data({"tasks": infos})
    else:
        rows = [(info.name, info.workers, info.waiting, _noteworthy(info)) for info in infos]
        out.table(_INFOS, rows)
    return Exit.OK


def _noteworthy(info: TaskInfo) -> str:
    if not info.workers:
        return "no worker that is connected knows it"
    if info.versions > 1:
        return f"{info.versions} different signatures"
    return ""


async def _stats(connection: Connection, out: Out) -> Exit:
    async with connection.open() as client:
        with answered():
            found = await client.stats()
    if out.json:
        out.data(found)
    else:
        _print_stats(out, found)
    return Exit.OK


def _print_stats(out: Out, found: Stats) -> None:
    out.table(
        _QUEUES,
        [(name, q.pending, q.running, q.scheduled, q.parked) for name, q in found.queues.items()],
    )
    out.text("")
    out.table(_POOLS, [(name, pool.slots, pool.free) for name, pool in found.pools.items()])
    out.text("")
    out.fields(
        [
            ("workers", found.workers),
            ("success", found.success),
            ("failure", found.failure),
            ("cancelled", found.cancelled),
            ("retries", found.retries),
            ("lost", found.lost),
        ]
    )
    for name, count in found.unknown.items():
        out.note(f"{count} waiting for a worker that knows {name}")


async def _tree(connection: Connection, out: Out) -> Exit:
    async with connection.open() as client:
        with answered():
            found: ActorTree = await client.tree()
    if out.json:
        out.data(found)
    else:
        out.text(str(found))
    return Exit.OK
