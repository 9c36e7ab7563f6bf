"""``top``: how the queue node and its workers are, again and again, until it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Annotated, Any

import attrs
import trio
from cyclopts import Parameter, validators

from actorq.cli.dialling import several
from actorq.cli.exits import Exit
from actorq.cli.looking import QUEUES, queue_rows, stored
from actorq.cli.options import Connection, Json
from actorq.cli.output import Column, Out, Table
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
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Show how the queue node and its workers are, again and again, until Ctrl-C.

    A terminal gets one frame in place of the other, a pipe one after the other. When the queue node
    is away, it says so, and goes on when it is back.
    """
    out = Out(json=json)
    try:
        return trio.run(_top, connection, out, interval, count)
    except KeyboardInterrupt:
        return Exit.OK  # that is how one leaves it
    except BaseExceptionGroup as group:  # as which it comes out of a nursery
        rest = group.split(KeyboardInterrupt)[1]
        if rest is not None:
            raise
        return Exit.OK


async def _top(connection: Connection, out: Out, interval: float, count: int | None) -> Exit:
    before: Reading | None = None
    shown = 0
    async with connection.open() as client:
        with _screen(out) as screen:
            while True:
                now = await _read(client, max(interval, PATIENCE))
                _show(out, screen, connection, before, now)
                before = now or before
                shown += 1
                if shown == count:
                    return Exit.OK
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
    if out.json:
        out.data(_document(before, now))
        return
    blocks = _blocks(connection, before, now)
    if screen is None:
        for block in blocks:
            if isinstance(block, str):
                out.text(block)
            else:
                out.table(block.columns, block.rows)
        out.text("")
    else:
        from rich.console import Group

        screen.update(Group(*map(out.rendered, blocks)), refresh=True)


def _document(before: Reading | None, now: Reading | None) -> dict[str, Any]:
    return {
        "at": datetime.now().astimezone(),
        "answered": now is not None,
        "per_second": None if now is None else _rates(before, now),
        "stats": None if now is None else now.stats,
        "tasks": None if now is None else now.tasks,
        "workers": None if now is None else now.workers,
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
        yield f"actorq {clock}  nobody answers at {', '.join(several(connection.url))}"
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
        rows = [(w.worker, w.running, w.slots, _state(w)) for w in now.workers]
        yield Table(_WORKERS, _cut(rows, len(_WORKERS)))
    waiting = sorted((info for info in now.tasks if info.waiting), key=lambda info: -info.waiting)
    if waiting:
        names = [(info.name, info.waiting, info.workers or "nobody knows it") for info in waiting]
        yield Table(_NAMES, _cut(names, len(_NAMES)))


def _ended(stats: Stats, rates: dict[str, float] | None) -> str:
    words: list[str] = []
    for name, total in _totals(stats).items():
        if name in _ENDS:
            speed = "" if not rates or not rates[name] else f" (+{rates[name]:.1f}/s)"
            words.append(f"{name} {total}{speed}")
    return "  ".join(words)


def _state(worker: WorkerInfo) -> str:
    return "" if worker.connected else "out of reach"


def _cut(rows: Sequence[Sequence[object]], width: int) -> Sequence[Sequence[object]]:
    """Return as many rows as are shown, and one that says how many are not."""
    if len(rows) <= _ROWS:
        return rows
    left = len(rows) - _ROWS + 1
    return [*rows[: _ROWS - 1], (f"and {left} more", *[""] * (width - 1))]
