"""Workflows: outputs as arguments, `after`, `key`, `limit`."""

from pathlib import Path
from typing import Any, assert_type

from actorq import AsyncTask, Client, Limit, TaskHandle, TaskMessage, TaskNursery, task
from tests.typing.decorator import bare_async
from tests.typing.samples import fetch, thumbnail


@task
async def merge(left: bytes, right: bytes) -> int:
    return len(left) + len(right)


@task
def merge_all(pages: list[bytes], by_name: dict[str, bytes] | None = None) -> str:
    return str(len(pages))


async def an_output_has_the_type_of_the_value(
    client: Client, a: TaskHandle[bytes], b: TaskHandle[bytes]
) -> None:
    assert_type(a.output, bytes)
    assert_type((await client.submit(thumbnail, Path())).output, Path)
    assert_type(client.handle("id", fetch).output, bytes)

    assert_type(await client.call(merge, a.output, b.output), int)
    assert_type(await client.call(merge, a.output, right=b"here"), int)
    assert_type(await client.call(merge_all, [a.output, b.output], {"b": b.output}), str)
    assert_type(await client.submit(merge, a.output, b.output), TaskHandle[int])
    assert_type(merge.message(a.output, b.output), TaskMessage[int])
    assert_type(
        await client.submit_many(merge.message(a.output, h.output) for h in (a, b)),
        list[TaskHandle[int]],
    )


async def outputs_in_a_nursery(nursery: TaskNursery, a: TaskHandle[bytes]) -> None:
    assert_type(await nursery.submit(merge, a.output, a.output), TaskHandle[int])

    await nursery.submit(merge, a.output)  # type: ignore[call-overload]


async def an_output_of_another_type_is_none(
    client: Client, number: TaskHandle[int], page: TaskHandle[bytes]
) -> None:
    await client.call(merge, number.output, page.output)  # type: ignore[call-overload]
    await client.submit(merge, page, page)  # type: ignore[call-overload]
    merge.message(number.output, page.output)  # type: ignore[arg-type]
    await client.call(merge_all, [number.output])  # type: ignore[call-overload]
    await client.call(merge_all, [page])  # type: ignore[call-overload]
    page.output = b""  # type: ignore[misc]
    page.output()  # type: ignore[operator]
    await page.output  # type: ignore[misc]


def tasks_to_come_after(a: TaskHandle[bytes], b: TaskHandle[Any]) -> None:
    assert_type(bare_async.options(after=[a, "id"]), AsyncTask[[int], str])
    fetch.options(after=[a, b])
    fetch.options(after=(a,))
    fetch.options(after=["id 1", "id 2"])
    fetch.options(after=[], on_dependency_failure="run")
    fetch.options(after=[a], on_dependency_failure="fail")

    fetch.options(after=a)  # type: ignore[arg-type]
    fetch.options(after=[3])  # type: ignore[list-item]
    fetch.options(after=[a.output])  # type: ignore[list-item]
    fetch.options(after=None)  # type: ignore[arg-type]
    fetch.options(on_dependency_failure="skip")  # type: ignore[arg-type]


def keys() -> None:
    assert_type(bare_async.options(key="order 7"), AsyncTask[[int], str])
    fetch.options(key=None)

    fetch.options(key=7)  # type: ignore[arg-type]
    fetch.options(key=b"order 7")  # type: ignore[arg-type]


def limits() -> None:
    limit = Limit("customer:7", concurrency=2, rate=10, per=60)
    assert_type(limit.key, str)
    assert_type(limit.concurrency, int | None)
    assert_type(limit.rate, int | None)
    assert_type(limit.per, float)
    assert_type(bare_async.options(limit=limit), AsyncTask[[int], str])
    fetch.options(limit=None)
    Limit("customer:7", concurrency=2)
    Limit("customer:7", rate=10)
    Limit("customer:7", rate=10, per=0.5)

    Limit(7, concurrency=2)  # type: ignore[arg-type]
    Limit("customer:7", 2)  # type: ignore[call-arg]
    Limit("customer:7", concurrency="2")  # type: ignore[arg-type]
    Limit("customer:7", rate=1.5)  # type: ignore[arg-type]
    Limit("customer:7", rate=10, per="minute")  # type: ignore[arg-type]
    Limit("customer:7", rate=10, per=None)  # type: ignore[arg-type]
    limit.rate = 3  # type: ignore[misc]
    fetch.options(limit="customer:7")  # type: ignore[arg-type]
    fetch.options(limit=2)  # type: ignore[arg-type]
