"""The verbs that take filters, and those about the whole."""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

from actorq import Client, Page, PoolStats, QueueStats, Stats, Task, TaskResult, TaskStatus
from tests.typing.samples import fetch, spell, tail, thumbnail


async def pages(client: Client) -> None:
    page = await client.find(status="failure")
    assert_type(page, Page)
    assert_type(page.tasks, list[TaskResult[Any]])
    assert_type(page.next, str | None)
    assert_type(page.scanned, int)
    assert_type(await client.find(limit=10, cursor=page.next), Page)


async def every_filter(client: Client, tasks: list[Task[..., Any]]) -> None:
    await client.find(status=TaskStatus.FAILURE)
    await client.find(status=["failure", "cancelled"])
    await client.find(status={TaskStatus.FAILURE, TaskStatus.CANCELLED})
    await client.find(status=("failure", TaskStatus.CANCELLED))
    await client.find(status=deque([TaskStatus.FAILURE]))
    await client.find(task=fetch)
    await client.find(task="pkg.mod:func")
    await client.find(task=[fetch, thumbnail, tail, "pkg.mod:func"])
    await client.find(task=(fetch, thumbnail))
    await client.find(task=tasks)
    await client.find(queue="images", ids=["a", "b"])
    await client.find(ids=(name for name in "ab"))
    await client.find(before=datetime.now(UTC), after=datetime.now(UTC))
    await client.find(status="failure", task=fetch, queue="images", ids=[], limit=10)


async def bulk_verbs(client: Client) -> None:
    assert_type(await client.cancel_many(task=fetch, reason="no longer needed"), int)
    assert_type(await client.cancel_many(queue="images", dry_run=True), int)
    assert_type(await client.retry(status="failure", task=[fetch, "other"], dry_run=True), int)
    assert_type(await client.discard(ids=["a"], dry_run=True), int)


async def the_whole(client: Client) -> None:
    assert_type(await client.join(), None)
    stats = await client.stats()
    assert_type(stats, Stats)
    assert_type(stats.queues, Mapping[str, QueueStats])
    assert_type(stats.queues["images"].pending, int)
    assert_type(stats.pools, Mapping[str, PoolStats])
    assert_type(stats.pools["process"].free, int)
    assert_type(stats.success, int)


async def wrong_filters(client: Client) -> None:
    await client.find(10)  # type: ignore[call-arg]
    await client.find(state="failure")  # type: ignore[call-arg]
    await client.find(status=3)  # type: ignore[arg-type]
    await client.find(status="failed")  # type: ignore[arg-type]
    await client.find(status=["failure", "failed"])  # type: ignore[list-item]
    await client.find(status=[3])  # type: ignore[list-item]
    await client.find(task=3)  # type: ignore[arg-type]
    await client.find(task=spell)  # type: ignore[arg-type]
    await client.find(task=[fetch, 3])  # type: ignore[list-item]
    await client.find(queue=["images"])  # type: ignore[arg-type]
    await client.find(ids=3)  # type: ignore[arg-type]
    await client.find(ids=[3])  # type: ignore[list-item]
    await client.find(before="2030-01-01")  # type: ignore[arg-type]
    await client.find(after=60)  # type: ignore[arg-type]
    await client.find(limit="10")  # type: ignore[arg-type]
    await client.find(cursor=3)  # type: ignore[arg-type]
    await client.find(dry_run=True)  # type: ignore[call-arg]

    await client.cancel_many(state="running")  # type: ignore[call-arg]
    await client.cancel_many(task=3)  # type: ignore[arg-type]
    await client.cancel_many(task=fetch, reason=3)  # type: ignore[arg-type]
    await client.cancel_many(task=fetch, limit=10)  # type: ignore[call-arg]
    await client.retry(True)  # type: ignore[call-arg]
    await client.retry(status="failure", dry_run="yes")  # type: ignore[arg-type]
    await client.retry(status="failure", reason="again")  # type: ignore[call-arg]
    await client.discard(state="failure")  # type: ignore[call-arg]
    await client.discard(queue=3)  # type: ignore[arg-type]
    await client.stats("images")  # type: ignore[call-arg]
    await client.join(timeout=3)  # type: ignore[call-arg]
