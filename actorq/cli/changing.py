"""The verbs that act on many tasks or on a queue: ``retry``, ``discard``, ``pause``, ``resume``."""

from __future__ import annotations

from typing import Annotated, Literal

import trio
from attrs import evolve
from cyclopts import Parameter

from actorq.cli.exits import Exit, Failure, usage
from actorq.cli.filters import Which
from actorq.cli.options import Connection, Json, answered
from actorq.cli.output import Out, counted
from actorq.model.filters import FilterDict
from actorq.model.status import TaskStatus

BULK_SECONDS = 3_600.0
"""Within which even the last of a million tasks has been looked at."""

All = Annotated[bool, Parameter(name="--all", help="Every task that failed.")]
DryRun = Annotated[bool, Parameter(help="Only count them.")]
Queue = Annotated[str, Parameter(help="The queue's name.")]

_Verb = Literal["retry", "discard"]
_DONE = {"retry": "started again", "discard": "discarded"}


def retry(
    *,
    which: Which = Which(),  # noqa: B008 - frozen
    every: All = False,
    dry_run: DryRun = False,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Start a new run of tasks that failed, under their old ids.

    A task must fit every filter that is given. Without --status and --id it is about those that
    failed; a cancelled one can be started again, too.

    Example: actorq retry --task shop.tasks:send_mail --after 2h --dry-run
    """
    return _run("retry", which, every, dry_run, json, connection)


def discard(
    *,
    which: Which = Which(),  # noqa: B008 - frozen
    every: All = False,
    dry_run: DryRun = False,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Forget ended tasks, and their results, for ever.

    A task must fit every filter that is given. Without --status and --id it is about those that
    failed. What a waiting task needs is kept.
    """
    return _run("discard", which, every, dry_run, json, connection)


def pause(
    queue: Queue,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Start nothing of a queue until it is resumed; what runs goes on, and submits are taken."""
    return trio.run(_set_paused, connection, Out(json=json), queue, True)


def resume(
    queue: Queue,
    /,
    *,
    json: Json = False,
    connection: Connection = Connection(),  # noqa: B008 - frozen
) -> int:
    """Go on with a queue that was paused."""
    return trio.run(_set_paused, connection, Out(json=json), queue, False)


def _run(
    verb: _Verb, which: Which, every: bool, dry_run: bool, json: bool, connection: Connection
) -> int:
    given = bool(which.given())
    if every and given:
        raise Failure(f"{verb}: --all is for every task that failed; leave it out", Exit.USAGE)
    if not every and not given:
        raise Failure(
            f"{verb}: say which tasks by a filter, such as --queue, or --all for every one that "
            "failed",
            Exit.USAGE,
        )
    if not which.status and not which.id:
        which = evolve(which, status=(TaskStatus.FAILURE,))
    asked = len(set(which.id)) if which.given().keys() == {"ids"} else 0
    return trio.run(_bulk, connection, Out(json=json), verb, which.given(), dry_run, asked)


async def _bulk(
    connection: Connection, out: Out, verb: _Verb, which: FilterDict, dry_run: bool, asked: int
) -> Exit:
    """Do it; ``asked`` is how many tasks were named, if they were."""
    async with connection.open() as client:
        act = client.retry if verb == "retry" else client.discard
        with answered(BULK_SECONDS), usage():
            count = await act(dry_run=dry_run, **which)
    if out.json:
        out.data({"count": count, "dry_run": dry_run})
    else:
        would = "would be " if dry_run else ""
        out.text(f"{counted(count, 'task')} {would}{_DONE[verb]}")
    if count < asked:
        what = "failed or cancelled" if verb == "retry" else "ended, or are needed"
        out.note(f"of {asked} tasks, {asked - count} are unknown, or are not {what}")
        return Exit.FAILED
    return Exit.OK


async def _set_paused(connection: Connection, out: Out, queue: str, paused: bool) -> Exit:
    async with connection.open() as client:
        act = client.pause if paused else client.resume
        with answered(), usage():
            await act(queue)
    if out.json:
        out.data({"queue": queue, "paused": paused})
    else:
        out.text(f"{queue} is paused" if paused else f"{queue} goes on")
    return Exit.OK
