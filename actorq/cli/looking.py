"""The verbs that look: ``ls``, ``why``, ``tasks``, ``stats`` and ``tree``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators
from rich.filesize import decimal

from actorq.cli.filters import Which
from actorq.cli.options import Connection, Json
from actorq.cli.output import Column, Out, Table, ago, fields
from actorq.cli.submitting import Id
from actorq.client.client import Client
from actorq.model.filters import PAGE_MAX
from actorq.model.results import Stats, StoreStats, TaskInfo

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
_POOLS = (Column("POOL"), Column("SLOTS", right=True), Column("FREE", right=True))


def ls(
    *,
    which: Which = Which(),
    limit: Annotated[
        int,
        Parameter(validator=validators.Number(gte=1, lte=PAGE_MAX), help="The most to list."),
    ] = 50,
    cursor: Annotated[
        str | None, Parameter(help="Where to go on: what the list before gave as its next.")
    ] = None,
    json: Json = False,
    connection: Connection = Connection(),
) -> None:
    """List tasks, the newest first, with why each waits or how it failed.

    A task must fit every filter that is given; --before and --after are about its submission.
    """
    given = which.given()
    page = connection.ask(lambda client: client.find(limit=limit, cursor=cursor, **given))
    out = Out(json=json)
    rows = [
        (t.id, t.name, t.queue, t.status, t.attempts, ago(t.submitted_at), t.reason)
        for t in page.tasks
    ]
    out.say(page, Table(_TASKS, rows))
    if page.next is not None and not out.json:
        out.note(f"there are more: --cursor {page.next}")


def why(id: Id, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Say why a task is not running: due later, behind others, paused, limited, unknown..."""
    said = connection.ask(lambda client: client.why(id))
    Out(json=json).say({"id": id, "why": said}, said)


def tasks(*, json: Json = False, connection: Connection = Connection()) -> None:
    """List the task names that workers know, or that tasks wait under."""
    infos = connection.ask(Client.tasks)
    rows = [(info.name, info.workers, info.waiting, _noteworthy(info)) for info in infos]
    Out(json=json).say({"tasks": infos}, Table(_INFOS, rows))


def stats(*, json: Json = False, connection: Connection = Connection()) -> None:
    """Count tasks by queue and slots by pool, and what has ended how since the queue opened."""
    found = connection.ask(Client.stats)
    out = Out(json=json)
    pools = [(name, pool.slots, pool.free) for name, pool in found.pools.items()]
    totals = fields(
        ("workers", found.workers),
        ("success", found.success),
        ("failure", found.failure),
        ("cancelled", found.cancelled),
        ("retries", found.retries),
        ("lost", found.lost),
        ("store", None if found.store is None else stored(found.store)),
    )
    out.say(found, Table(QUEUES, queue_rows(found)), "", Table(_POOLS, pools), "", totals)
    if not out.json:
        for name, count in found.unknown.items():
            out.note(f"{count} waiting for a worker that knows {name}")


def tree(*, json: Json = False, connection: Connection = Connection()) -> None:
    """Draw the queue node's actors and supervisors, and the workers elsewhere."""
    found = connection.ask(Client.tree)
    Out(json=json).say(found, str(found))


def _noteworthy(info: TaskInfo) -> str:
    if not info.workers:
        return "no worker that is connected knows it"
    if info.versions > 1:
        return f"{info.versions} different signatures"
    return ""


def queue_rows(found: Stats) -> list[tuple[object, ...]]:
    """Return the rows of `QUEUES`."""
    return [
        (
            name, q.pending, q.running, q.scheduled, q.waiting, q.parked, ago(q.oldest),
            "paused" if q.paused else "",
        )
        for name, q in sorted(found.queues.items())
    ]  # fmt: skip


def stored(store: StoreStats) -> str:
    """Return in one line where tasks are kept, and how fast that is."""
    said = [store.url]
    if store.size is not None:
        said.append(decimal(store.size))
    if store.commits:
        mean = store.seconds / store.commits
        said.append(f"{store.commits} commits, {mean * 1e3:.1f} ms each")
        said.append(f"slowest {store.slowest * 1e3:.1f} ms")
    return ", ".join(said)
