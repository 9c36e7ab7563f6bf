"""``top``: how the queue node and its workers are, again and again, until it is interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Annotated, Any

import attrs
import trio
from cyclopts import Parameter, validators

from actorq.cli.dialling import several
from actorq.cli.looking import QUEUES, queue_rows, stored
from actorq.cli.options import Connection, Json
from actorq.cli.output import Column, Out, Table
from actorq.cli.plain import printable
from actorq.client.client import Client
from actorq.errors import StoreUnavailable
from actorq.model.results import Stats, TaskInfo, WorkerInfo

PATIENCE = 3.0
"""Seconds after which a frame says that nobody answers; the interval, if that is longer."""

_ROWS = 15
"""Of each table at most: a terminal has an end."""

_POOLS = (
    Column("POOL"),
    Column("BUSY", right=True),
    Column("SLOTS", right=True),
)
_WORKERS = (
    Column("WORKER", whole=True),
    Column("RUNNING", right=True),
    Column("SLOTS", right=True),
    Column("NOTE"),
)
_NAMES = (
    Column("TASK"),
    Column("WAITING", right=True),
    Column("WORKERS", right=True),
)
_ENDS = ("success", "failure", "cancelled", "retries", "lost")


@attrs.frozen
class Reading:
    """How things stand at one moment.

    Attributes:
        at: When, in trio's time.
        workers: Those in other processes than the queue node.
    """

    at: float
    stats: Stats
    tasks: Sequence[TaskInfo]
    workers: Sequence[WorkerInfo]


def top(
    *,
    interval: Annotated[
        float,
        Parameter(
            validator=validators.Number(gte=0.1, lte=3_600), help="Seconds between two frames."
        ),
    ] = 2.0,
    count: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1), help="End after so many. [default: at Ctrl-C]"
        ),
    ] = None,
    json: Json = False,
    connection: Connection = Connection(),
) -> None:
    """Show how the queue node and its workers are, again and again, until Ctrl-C.

    A terminal gets one frame in place of the other, a pipe one after the other. When the queue node
    is away, it says so, and goes on when it is back.
    """
    try:
        trio.run(_top, connection, Out(json=json), interval, count)
    except* KeyboardInterrupt:
        pass  # that is how one leaves it


async def _top(connection: Connection, out: Out, interval: float, count: int | None) -> None:
    before: Reading | None = None
    async with connection.open() as client:
        with _screen(out) as screen:
            for shown in itertools.count(1):
                now = await _read(client, max(interval, PATIENCE))
                _show(out, screen, connection, before, now)
                before = now or before
                if shown == count:
                    return
                await trio.sleep(interval)


async def _read(client: Client, patience: float) -> Reading | None:
    """Ask for everything; None if nobody answers."""
    with trio.move_on_after(patience):
        try:
            stats, tasks, tree = await client.stats(), await client.tasks(), await client.tree()
        except StoreUnavailable:
            return None
        return Reading(trio.current_time(), stats, tasks, tree.workers)
    return None


def _screen(out: Out) -> AbstractContextManager[Any]:
    if not out.terminal:
        return nullcontext()
    from rich.live import Live

    return Live(console=out.console(), auto_refresh=False, vertical_overflow="crop")


def _show(
    out: Out, screen: Any, connection: Connection, before: Reading | None, now: Reading | None
) -> None:
    blocks = _blocks(connection, before, now)
    if screen is None:
        out.say(_document(before, now), *blocks, "")
        return
    from rich.console import Group
    from rich.text import Text

    width = out.console().width
    shown = (
        Text(printable(block)) if isinstance(block, str) else block.rendered(width)
        for block in blocks
    )
    screen.update(Group(*shown), refresh=True)


def _document(before: Reading | None, now: Reading | None) -> dict[str, Any]:
    return {
        "at": datetime.now().astimezone(),
        "answered": now is not None,
        "per_second": now and _rates(before, now),
        "stats": now and now.stats,
        "tasks": now and now.tasks,
        "workers": now and now.workers,
    }


def _rates(before: Reading | None, now: Reading) -> dict[str, float] | None:
    """Return how many tasks end, and commits are made, in a second; None for the first reading."""
    if before is None or now.at <= before.at:
        return None
    seconds = now.at - before.at
    old, new = _totals(before.stats), _totals(now.stats)
    # A queue actor that was started again has begun to count anew.
    return {name: max(0, new[name] - old[name]) / seconds for name in new}


def _totals(stats: Stats) -> dict[str, int]:
    commits = 0 if stats.store is None else stats.store.commits
    return {name: getattr(stats, name) for name in _ENDS} | {"commits": commits}


def _blocks(
    connection: Connection, before: Reading | None, now: Reading | None
) -> Iterator[str | Table]:
    clock = f"{datetime.now().astimezone():%H:%M:%S}"
    if now is None:
        yield f"actorq {clock}  nobody answers at {', '.join(several('--url', connection.url))}"
        return
    stats, rates = now.stats, _rates(before, now)
    yield f"actorq {clock}  workers {stats.workers}  {_ended(stats, rates)}"
    if stats.store is not None:
        # A store in memory makes none.
        speed = f", {rates['commits']:.0f} commits/s" if rates and stats.store.commits else ""
        yield f"{stored(stats.store)}{speed}"
    for table in _tables(now):
        yield ""
        yield table


def _tables(now: Reading) -> Iterator[Table]:
    stats = now.stats
    yield Table(QUEUES, _cut(queue_rows(stats), len(QUEUES)))
    pools = [(name, pool.slots - pool.free, pool.slots) for name, pool in stats.pools.items()]
    yield Table(_POOLS, pools)
    if now.workers:
        rows = [
            (w.worker, w.running, w.slots, "" if w.connected else "out of reach")
            for w in now.workers
        ]
        yield Table(_WORKERS, _cut(rows, len(_WORKERS)))
    waiting = sorted((info for info in now.tasks if info.waiting), key=lambda info: -info.waiting)
    if waiting:
        names = [(info.name, info.waiting, info.workers or "nobody knows it") for info in waiting]
        yield Table(_NAMES, _cut(names, len(_NAMES)))


def _ended(stats: Stats, rates: dict[str, float] | None) -> str:
    words: list[str] = []
    for name in _ENDS:
        speed = f" (+{rates[name]:.1f}/s)" if rates and rates[name] else ""
        words.append(f"{name} {getattr(stats, name)}{speed}")
    return "  ".join(words)


def _cut(rows: Sequence[Sequence[object]], width: int) -> Sequence[Sequence[object]]:
    """Return as many rows as are shown, and one that says how many are not."""
    if len(rows) <= _ROWS:
        return rows
    left = len(rows) - _ROWS + 1
    return [*rows[: _ROWS - 1], (f"and {left} more", *[""] * (width - 1))]
