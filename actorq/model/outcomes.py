"""From what the queue knows of a task to the result that people see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from actorq.errors import RemoteError
from actorq.model.records import Head, Output, sources_of
from actorq.model.results import TaskResult
from actorq.model.status import TaskStatus

_NO_OUTPUT = Output()
_NAMED_MAX = 3
_UNKNOWN = "no worker that is connected knows this task"


def task_result(
    head: Head,
    output: Output | None,
    cause: BaseException | None = None,
    *,
    unknown: bool = False,
) -> TaskResult[Any]:
    """Build the result that people see from what the queue knows.

    ``unknown``: it waits, and no worker knows it.
    """
    output = output or _NO_OUTPUT
    return TaskResult(
        id=head.id,
        name=head.name,
        queue=head.options.queue,
        status=head.status,
        value=output.value,
        error=output.error,
        attempts=head.attempts,
        worker=head.worker,
        submitted_at=_utc(head.submitted_at),
        started_at=None if head.started_at is None else _utc(head.started_at),
        completed_at=None if head.completed_at is None else _utc(head.completed_at),
        meta=head.options.meta,
        reason=_UNKNOWN if unknown else reason_of(head, output.error),
        by=None if head.cancel is None else (head.cancel.by, head.cancel.reason),
        kind=output.kind,
        cause=cause,
    )


def _several(ids: tuple[str, ...]) -> str:
    """Return ids in words, not all of them if they are many."""
    more = ", ..." if len(ids) > _NAMED_MAX else ""
    return f"{len(ids)} task{'s' * (len(ids) != 1)}: {', '.join(ids[:_NAMED_MAX])}{more}"


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def reason_of(head: Head, error: RemoteError | None) -> str | None:
    """Return why a task waits, was cancelled or is dead, in words."""
    match head.status:
        case TaskStatus.SCHEDULED:
            return f"due at {_utc(head.due).isoformat()}" + (
                f", after attempt {head.attempts}" if head.attempts else ""
            )
        case TaskStatus.WAITING:
            return f"waits for {_several(sources_of(head))}"
        case TaskStatus.PENDING:
            return "waits for a free slot"
        case TaskStatus.CANCELLED if head.cancel is not None:
            why = f": {head.cancel.reason}" if head.cancel.reason else ""
            return f"cancelled by {head.cancel.by}{why}"
        case TaskStatus.FAILURE if error is not None:
            return error.message
        case _:
            return None
