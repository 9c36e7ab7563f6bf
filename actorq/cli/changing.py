"""The verbs that act on many tasks or on a queue: ``retry``, ``discard``, ``pause``, ``resume``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from actorq.cli.exits import Exit, Failure
from actorq.cli.filters import Which
from actorq.cli.options import Connection, Json
from actorq.cli.output import Out, counted
from actorq.client.client import Client
from actorq.model.status import TaskStatus

BULK_SECONDS = 3_600.0
"""Within which even the last of a million tasks has been looked at."""

All = Annotated[bool, Parameter(name="--all", help="Every task that failed.")]
DryRun = Annotated[bool, Parameter(help="Only count them.")]
Queue = Annotated[str, Parameter(help="The queue's name.")]


def retry(
    *,
    which: Which = Which(),
    every: All = False,
    dry_run: DryRun = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Start a new run of tasks that failed, under their old ids.

    A task must fit every filter that is given. Without --status and --id it is about those that
    failed; a cancelled one can be started again, too.

    Example: actorq retry --task shop.tasks:send_mail --after 2h --dry-run
    """
    return _act("retry", which, every, dry_run, Out(json=json), connection)


def discard(
    *,
    which: Which = Which(),
    every: All = False,
    dry_run: DryRun = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Forget ended tasks, and their results, for ever.

    A task must fit every filter that is given. Without --status and --id it is about those that
    failed. What a waiting task needs is kept.
    """
    return _act("discard", which, every, dry_run, Out(json=json), connection)


def pause(queue: Queue, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Start nothing of a queue until it is resumed; what runs goes on, and submits are taken."""
    connection.ask(lambda client: client.pause(queue))
    Out(json=json).say({"queue": queue, "paused": True}, f"{queue} is paused")


def resume(queue: Queue, /, *, json: Json = False, connection: Connection = Connection()) -> None:
    """Go on with a queue that was paused."""
    connection.ask(lambda client: client.resume(queue))
    Out(json=json).say({"queue": queue, "paused": False}, f"{queue} goes on")


def _act(
    verb: Literal["retry", "discard"],
    which: Which,
    every: bool,
    dry_run: bool,
    out: Out,
    connection: Connection,
) -> Exit:
    given = which.given()
    if every and given:
        raise Failure(f"{verb}: --all is for every task that failed; leave it out", Exit.USAGE)
    if not every and not given:
        raise Failure(
            f"{verb}: say which tasks by a filter, such as --queue, or --all for every one that "
            "failed",
            Exit.USAGE,
        )
    act, done, kind, fitting = _VERBS[verb]
    if not fitting.issuperset(which.status):
        words = " or ".join(sorted(fitting))
        raise Failure(f"{verb}: --status must be {words}", Exit.USAGE)
    named = len(set(which.id)) if given.keys() == {"ids"} else 0
    implied = not which.status and not which.id
    if implied:
        given["status"] = TaskStatus.FAILURE
    count = connection.ask(lambda client: act(client, dry_run=dry_run, **given), BULK_SECONDS)
    would = "would be " if dry_run else ""
    out.say({"count": count, "dry_run": dry_run}, f"{counted(count, 'task')} {would}{done}")
    if implied and not count:
        others = ", ".join(f"--status {status}" for status in sorted(fitting - {"failure"}))
        out.note(f"only tasks that failed were looked at; for others say {others}")
    if count >= named:
        return Exit.OK
    if named == 1:
        out.note(f"that task is unknown, or is not {kind}")
    else:
        out.note(f"of {named} tasks, {named - count} are unknown, or are not {kind}")
    return Exit.FAILED


_VERBS = {
    "retry": (
        Client.retry,
        "started again",
        "failed or cancelled",
        {TaskStatus.FAILURE, TaskStatus.CANCELLED},
    ),
    "discard": (
        Client.discard,
        "discarded",
        "ended, or is needed",
        {status for status in TaskStatus if status.terminal},
    ),
}
"""What does it, how it is told, and which tasks it is about."""
