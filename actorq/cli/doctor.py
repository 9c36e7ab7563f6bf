"""``doctor``: is the queue there, does it know us, and does the work get done?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import inf
from shlex import quote
from typing import Annotated

import trio
from cyclopts import Parameter

from actorq.cli import checks
from actorq.cli.checks import Check, Level
from actorq.cli.exits import Exit, Failure, code_of, spoken, usage
from actorq.cli.looking import stored
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Column, Out, Table
from actorq.client.client import Client
from actorq.errors import ActorqError
from actorq.model.events import Event, EventKind
from actorq.model.results import ScheduleInfo, Stats, TaskInfo, WorkerInfo
from actorq.system.settings import library

_CHECKS = (
    Column("CHECK", whole=True),
    Column("LEVEL", whole=True),
    Column("FOUND"),
)

_ROUND_TRIPS = 5
_SLOW_SECONDS = 1.0
_SLOW_COMMIT = 0.1


class _Peer:
    """An instrument that notes who has answered."""

    def __init__(self) -> None:
        self.address = self.node = self.library = ""

    def event(self, event: Event) -> None:
        """See `actorq.Instrument`."""
        if event.kind is EventKind.CONNECTED:
            self.address = str(event.details.get("peer", ""))
            self.node = str(event.details.get("node", ""))
            self.library = str(event.details.get("library", ""))


def doctor(
    *,
    store: Annotated[
        str | None,
        Parameter(
            help="Look at this store instead, as sqlite:///actorq.db, whether or not a queue node "
            "uses it. Nothing in it is changed."
        ),
    ] = None,
    deep: Annotated[
        bool,
        Parameter(help="With --store: read all of it, which takes a second for each GB or so."),
    ] = False,
    probe: Annotated[
        bool,
        Parameter(
            help="Only say by the exit code whether the queue node answers (0) or not (1): for "
            "health checks."
        ),
    ] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Check the connection, versions, clock and workers, what is paused, and what waits in vain.

    With --store it checks a store: the file, its owner, its disk. Prints what it found. The exit
    code is 0 if there is no problem (warnings are none).
    """
    if probe and store is not None:
        raise Failure("--probe asks a queue node, --store does without one", Exit.USAGE)
    if deep and store is None:
        raise Failure("--deep reads a store: say which by --store", Exit.USAGE)
    if probe:
        return trio.run(_probe, connection)
    out = Out(json=json)
    if store is not None:
        with usage():
            return _told(out, list(checks.store(store, deep=deep)))
    return trio.run(_doctor, connection, out)


async def _probe(connection: Connection) -> Exit:
    """Ask one question, within the time to connect."""
    try:
        with trio.move_on_after(connection.connect_timeout) as scope:
            async with connection.open() as client:
                await client.stats()
    except ActorqError as error:
        raise Failure(spoken(str(error))) from error
    if scope.cancelled_caught:
        raise Failure(f"no answer within {connection.connect_timeout:g} s")
    return Exit.OK


async def _doctor(connection: Connection, out: Out) -> Exit:
    peer = _Peer()
    found: list[Check] = [checks.installed()]
    if connection.token_file is not None:
        found.append(checks.token_file(connection.token_file))
    try:
        async with connection.open(peer) as client:
            found.append(_connected(peer, token=connection.token("client") is not None))
            found.append(_versions(peer.library, library()))
            await answered(_look(client, found))
    except ActorqError as error:
        found.append(Check("connection", "problem", spoken(str(error))))
        return _told(out, found, code_of(error))
    return _told(out, found)


async def _look(client: Client, found: list[Check]) -> None:
    """Add what the queue node itself has to say, as far as it gets."""
    found.append(_speed(await _round_trip(client)))
    at = client.session.owner_time()
    if at is not None:
        found.append(checks.clock(at - time.time()))
    stats = await client.stats()
    found += _kept(stats)
    found += _paused(await client.schedules())
    found += _work(stats, await client.tasks(), (await client.tree()).workers)


def _told(out: Out, found: Sequence[Check], code: Exit = Exit.OK) -> Exit:
    """Print it; return the exit code."""
    if code is Exit.OK and any(check.level == "problem" for check in found):
        code = Exit.FAILED
    table = Table(_CHECKS, [(check.check, check.level, check.found) for check in found])
    out.say({"ok": code is Exit.OK, "checks": found}, table)
    return code


def _connected(peer: _Peer, *, token: bool) -> Check:
    shown = "with the token that was given" if token else "without a token"
    return Check("connection", "ok", f"{peer.address} (node {peer.node}) lets us in, {shown}")


def _versions(theirs: str, ours: str) -> Check:
    if theirs and theirs != ours:
        return Check("versions", "warning", f"actorq {theirs} there, {ours} here")
    return Check("versions", "ok", f"actorq {ours}, and the same protocol there")


async def _round_trip(client: Client) -> float:
    """Return the seconds that a question takes to be answered, at best."""
    best = inf
    for _ in range(_ROUND_TRIPS):
        began = trio.current_time()
        await client.stats()
        best = min(best, trio.current_time() - began)
    return best


def _speed(seconds: float) -> Check:
    level: Level = "ok" if seconds < _SLOW_SECONDS else "warning"
    return Check("round trip", level, f"{seconds * 1e3:.1f} ms")


def _kept(stats: Stats) -> Iterator[Check]:
    """Yield what is to be said of where tasks are kept."""
    store = stats.store
    if store is None:
        return
    slow = store.commits and store.seconds / store.commits >= _SLOW_COMMIT
    yield Check("store", "warning" if slow else "ok", stored(store))
    for name, queue in stats.queues.items():
        if queue.paused:
            found = f"queue {name}{_waiting(queue.pending)}: actorq resume {quote(name)}"
            yield Check("paused", "warning", found)


def _paused(schedules: Sequence[ScheduleInfo]) -> Iterator[Check]:
    """Yield what is to be said of schedules that do not tick."""
    for schedule in schedules:
        if schedule.paused:
            found = f"schedule {schedule.name}: actorq schedule resume {quote(schedule.name)}"
            yield Check("paused", "warning", found)


def _work(
    stats: Stats, infos: Sequence[TaskInfo], workers: Sequence[WorkerInfo]
) -> Iterator[Check]:
    """Yield what is to be said of the workers, and of the tasks that wait for them."""
    pending = sum(queue.pending for queue in stats.queues.values())
    yield _workers(stats, workers, pending)
    yield _slots(stats, pending)
    parked = sum(queue.parked for queue in stats.queues.values())
    if parked:
        yield Check(
            "queues", "warning", f"submissions that wait for room in a full queue: {parked}"
        )
    for name, count in stats.unknown.items():
        found = f"{name}: {count} waiting, and no worker that is connected knows it"
        yield Check("unknown task", "problem", found)
    for info in infos:
        if info.versions > 1:
            found = f"{info.name}: its workers have {info.versions} different signatures of it"
            yield Check("task versions", "warning", found)


def _workers(stats: Stats, workers: Sequence[WorkerInfo], pending: int) -> Check:
    if not stats.workers:
        level: Level = "problem" if pending else "warning"
        return Check("workers", level, f"none is connected{_waiting(pending)}")
    away = [worker.worker for worker in workers if not worker.connected]
    if away:
        return Check("workers", "warning", f"{stats.workers}; out of reach: {', '.join(away)}")
    return Check("workers", "ok", str(stats.workers))


def _slots(stats: Stats, pending: int) -> Check:
    found = ", ".join(
        f"{pool.free} of {pool.slots} free ({name})" for name, pool in stats.pools.items()
    )
    return Check("slots", "ok", f"{found}{_waiting(pending)}")


def _waiting(pending: int) -> str:
    return f"; tasks that wait: {pending}" if pending else ""
