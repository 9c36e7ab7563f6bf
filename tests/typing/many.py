"""`submit_many`, `as_completed`, `map` and `map_results`."""

from functools import partial
from pathlib import Path
from typing import Any, TypeVar, assert_type

from actorq import Client, Task, TaskHandle, TaskMessage, TaskResult
from tests.typing.decorator import echo
from tests.typing.samples import Meter, count, fetch, halve, log, spell, tail, thumbnail

T = TypeVar("T")
R = TypeVar("R")


async def batches(client: Client, urls: list[str]) -> None:
    handles = await client.submit_many(fetch.message(url) for url in urls)
    assert_type(handles, list[TaskHandle[bytes]])
    assert_type(await client.submit_many([tail.message("p")]), list[TaskHandle[None]])
    one_late = [fetch.message("u"), fetch.options(delay=5).message("v")]
    assert_type(await client.submit_many(one_late), list[TaskHandle[bytes]])
    mixed: list[TaskMessage[bytes | Path]] = [fetch.message("u"), thumbnail.message(Path())]
    assert_type(await client.submit_many(mixed), list[TaskHandle[bytes | Path]])

    await client.submit_many(fetch)  # type: ignore[arg-type]
    await client.submit_many(fetch.message("u"))  # type: ignore[arg-type]
    await client.submit_many(urls)  # type: ignore[arg-type]
    await client.submit_many([fetch("u")])  # type: ignore[arg-type]
    await client.submit_many([fetch.message("u")], 10)  # type: ignore[call-arg]
    await client.submit_many(fetch.message(n) for n in range(9))  # type: ignore[arg-type]
    wrong: list[TaskHandle[str]] = await client.submit_many(mixed)  # type: ignore[arg-type]


async def completed(client: Client, handles: list[TaskHandle[bytes]]) -> None:
    async for result in client.as_completed(handles):
        assert_type(result, TaskResult[bytes])
        assert_type(result.id, str)
        assert_type(result.unwrap(), bytes)
    async for result in client.as_completed(set(handles)):
        assert_type(result, TaskResult[bytes])
    assert_type([r.ok async for r in client.as_completed(h for h in handles)], list[bool])

    client.as_completed(handles[0])  # type: ignore[arg-type]
    client.as_completed([h.id for h in handles])  # type: ignore[arg-type]
    client.as_completed([fetch.message("u")])  # type: ignore[arg-type]
    await client.as_completed(handles)  # type: ignore[misc]
    for _result in client.as_completed(handles):  # type: ignore[attr-defined]
        pass


async def mapped(client: Client, urls: list[str]) -> None:
    async with client.map(fetch, urls) as values:
        async for value in values:
            assert_type(value, bytes)
    async with client.map(thumbnail, [Path()], limit=10, ordered=False) as values_2:
        assert_type([value async for value in values_2], list[Path])
    async with client.map(fetch.options(timeout=3), (url for url in urls)) as values_3:
        assert_type([value async for value in values_3], list[bytes])
    async with client.map(halve, range(3), limit=2) as values_4:
        assert_type([value async for value in values_4], list[float])
    async with client.map(spell, {1, 2}) as values_5:
        assert_type([value async for value in values_5], list[str])
    async with client.map(partial(spell, unit="min"), [1]) as values_6:
        assert_type([value async for value in values_6], list[str])
    async with client.map(Meter().read, [1]) as values_7:
        assert_type([value async for value in values_7], list[float])
    async with client.map(len, urls) as values_8:
        assert_type([value async for value in values_8], list[int])
    async with client.map(lambda url: url.encode(), urls) as values_9:
        assert_type([value async for value in values_9], list[bytes])
    async with client.map(log, urls) as values_10:
        assert_type([value async for value in values_10], list[None])
    async with client.map(echo, [1]) as values_11:
        assert_type([value async for value in values_11], list[int])
    async with client.map(tail, urls) as values_12:
        assert_type([value async for value in values_12], list[None])
    async with client.map(count, [1]) as values_13:
        assert_type([value async for value in values_13], list[None])
    async with client.map("pkg.mod:func", urls, limit=10) as values_14:
        assert_type([value async for value in values_14], list[Any])


async def all_of(client: Client, task: Task[[T], R], items: list[T]) -> list[R]:
    async with client.map(task, items) as values:
        return [value async for value in values]


async def generic_code_can_map_a_task(client: Client, urls: list[str]) -> None:
    assert_type(await all_of(client, fetch.options(delay=5), urls), list[bytes])

    await all_of(client, fetch, [3])  # type: ignore[arg-type]


async def mapped_results(client: Client, urls: list[str]) -> None:
    async with client.map_results(fetch, urls, limit=10) as results:
        async for result in results:
            assert_type(result, TaskResult[bytes])
    async with client.map_results(thumbnail, [Path()], ordered=False) as results_2:
        assert_type([result async for result in results_2], list[TaskResult[Path]])
    async with client.map_results(halve, range(3)) as results_3:
        assert_type([result async for result in results_3], list[TaskResult[float]])
    async with client.map_results(spell, range(3)) as results_4:
        assert_type([result async for result in results_4], list[TaskResult[str]])
    async with client.map_results(tail, urls) as results_5:
        assert_type([result async for result in results_5], list[TaskResult[None]])
    async with client.map_results("pkg.mod:func", urls) as results_6:
        assert_type([result async for result in results_6], list[TaskResult[Any]])


async def two(left: int, right: int) -> int:
    return left + right


async def keyword(number: int, *, unit: str) -> str:
    return f"{number} {unit}"


async def wrong_maps(client: Client, urls: list[str], numbers: list[int]) -> None:
    client.map(fetch, numbers)  # type: ignore[arg-type]
    client.map(fetch, [3])  # type: ignore[arg-type]
    client.map(thumbnail, urls)  # type: ignore[arg-type]
    client.map(halve, urls)  # type: ignore[arg-type]
    client.map(spell, urls)  # type: ignore[arg-type]
    client.map(tail, numbers)  # type: ignore[arg-type]
    client.map(count, urls)  # type: ignore[arg-type]
    client.map(two, numbers)  # type: ignore[arg-type]
    client.map(keyword, numbers)  # type: ignore[arg-type]
    client.map(fetch, 3)  # type: ignore[call-overload]
    client.map(fetch)  # type: ignore[call-overload]
    client.map(fetch.message("u"), urls)  # type: ignore[call-overload]
    client.map(3, urls)  # type: ignore[call-overload]
    client.map(fetch, urls, limit="10")  # type: ignore[call-overload]
    client.map(fetch, urls, 10)  # type: ignore[call-overload]
    client.map(fetch, urls, ordered="no")  # type: ignore[call-overload]
    client.map(fetch, urls, timeout=3)  # type: ignore[call-overload]

    client.map_results(fetch, numbers)  # type: ignore[arg-type]
    client.map_results(halve, urls)  # type: ignore[arg-type]
    client.map_results(two, numbers)  # type: ignore[arg-type]
    client.map_results(fetch, urls, 10)  # type: ignore[call-overload]
    client.map_results(fetch, urls, timeout=3)  # type: ignore[call-overload]


async def a_map_must_be_entered(client: Client, urls: list[str]) -> None:
    await client.map(fetch, urls)  # type: ignore[misc]
    with client.map(fetch, urls):  # type: ignore[attr-defined]
        pass
    for _value in client.map(fetch, urls):  # type: ignore[attr-defined]
        pass
