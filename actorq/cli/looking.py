"""The verbs that look: ``ls``, ``why``, ``tasks``, ``stats`` and ``tree``."""

from __future__ import annotations

from typing import Annotated

import trio
from cyclopts import Parameter, validators

from actorq.cli.exits import Exit
from actorq.cli.filters import Which
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Column, Out, ago, size_of
from actorq.cli.submitting import Id, described
from actorq.model.filters import PAGE_MAX, FilterDict
from actorq.model.results import Page, Stats, StoreStats, TaskInfo
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
QUEUES = (
    Column("QUEUE"),
    Column("PENDING", right=True),
    Column("RUNNING", right=True),
    Column("SCHEDULED", keep=5, right=True),
    Column("WAITING", keep=5, right=True),
    Column("PARKED", keep=4, right=True),
    Column("OLDEST", keep=6, right=True),
    Column("NOTE", keep=7),
)
POOLS = (Column("POOL"), Column("SLOTS", right=True), Column("FREE", right=True))


def ls(
    *,
    which: Which = Which(),  # noqa: B008 - frozen
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
    return trio.run(_ls, connection, Out(json=json), which.given(), limit, cursor)


def why(
    id: Id,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Say why a task is not running: due later, behind others, paused, limited, unknown..."""
    return trio.run(_why, connection, Out(json=json), id)


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


async def _why(connection: Connection, out: Out, id: str) -> Exit:
    async with connection.open() as client:
        with answered():
            said = await client.why(id)
    if out.json:
        out.data({"id": id, "why": said})
    else:
        out.text(said)
    return Exit.OK


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
    out.table(QUEUES, queue_rows(found))
    out.text("")
    out.table(POOLS, pool_rows(found))
    out.text("")
    store = found.store
    out.fields(
        [
            ("workers", found.workers),
            ("success", found.success),
            ("failure", found.failure),
            ("cancelled", found.cancelled),
            ("retries", found.retries),
            ("lost", found.lost),
            ("store", None if store is None else stored(store)),
        ]
    )
    for name, count in found.unknown.items():
        out.note(f"{count} waiting for a worker that knows {name}")


def queue_rows(found: Stats) -> list[tuple[object, ...]]:
    """Return the rows of `QUEUES`."""
    return [
        (
            name, q.pending, q.running, q.scheduled, q.waiting, q.parked, ago(q.oldest),
            "paused" if q.paused else "",
        )
        for name, q in sorted(found.queues.items())
    ]  # fmt: skip


def pool_rows(found: Stats) -> list[tuple[object, ...]]:
    """Return the rows of `POOLS`."""
    return [(name, pool.slots, pool.free) for name, pool in found.pools.items()]


def stored(store: StoreStats) -> str:
    """Return in one line where tasks are kept, and how fast that is."""
    said = [store.url]
    if store.size is not None:
        said.append(size_of(store.size))
    if store.commits:
        mean = store.seconds / store.commits
        said.append(f"{store.commits} commits, {mean * 1e3:.1f} ms each")
        said.append(f"slowest {store.slowest * 1e3:.1f} ms")
    return ", ".join(said)


async def _tree(connection: Connection, out: Out) -> Exit:
    async with connection.open() as client:
        with answered():
            found: ActorTree = await client.tree()
    if out.json:
        out.data(found)
    else:
        out.text(str(found))
    return Exit.OK
