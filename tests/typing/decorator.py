"""`@actorq.task`, bare and with options, on the three kinds of function."""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar, assert_type

import actorq
from actorq import AsyncTask, StreamTask, SyncTask, Task, TaskMessage
from tests.typing.samples import Meter, fetch, halve, log, spell, tail, thumbnail

T = TypeVar("T")


@actorq.task
async def bare_async(number: int, /) -> str:
    return str(number)


@actorq.task
def bare_sync(number: int, /) -> str:
    return str(number)


@actorq.task
async def bare_stream(number: int, /) -> AsyncIterator[str]:
    yield str(number)


@actorq.task(priority="low")
async def async_with_options(number: int, /) -> str:
    return str(number)


@actorq.task(run_in="process")
def sync_with_options(number: int, /) -> str:
    return str(number)


@actorq.task(queue="tails")
async def stream_with_options(number: int, /) -> AsyncIterator[str]:
    yield str(number)


@actorq.task()
async def empty_parentheses(number: int, /) -> str:
    return str(number)


@actorq.task
async def annotated_as_generator(number: int, /) -> AsyncGenerator[str, None]:
    yield str(number)


@actorq.task
def plain_generator(number: int, /) -> Iterator[str]:
    yield str(number)


@actorq.task
async def echo(item: T) -> T:
    return item


class Owner:
    @actorq.task
    @staticmethod
    async def static(number: int, /) -> str:
        return str(number)


def the_kind_of_task_follows_the_kind_of_function() -> None:
    assert_type(bare_async, AsyncTask[[int], str])
    assert_type(bare_sync, SyncTask[[int], str])
    assert_type(bare_stream, StreamTask[[int], str])
    assert_type(async_with_options, AsyncTask[[int], str])
    assert_type(sync_with_options, SyncTask[[int], str])
    assert_type(stream_with_options, StreamTask[[int], str])
    assert_type(empty_parentheses, AsyncTask[[int], str])
    assert_type(annotated_as_generator, StreamTask[[int], str])
    assert_type(plain_generator, SyncTask[[int], Iterator[str]])
    assert_type(Owner.static, AsyncTask[[int], str])

    wrong_result: AsyncTask[[int], bytes] = bare_async  # type: ignore[assignment]
    wrong_kind: SyncTask[[int], str] = bare_async  # type: ignore[assignment]
    not_a_stream: StreamTask[[int], str] = bare_async  # type: ignore[assignment]


def every_kind_is_a_task() -> None:
    tasks: list[Task[..., Any]] = [fetch, thumbnail, tail, log]
    of_anything: list[Task[..., object]] = [fetch, thumbnail, tail, log]
    wider: Task[[int], str | None] = bare_sync
    of_a_stream: Task[[int], None] = bare_stream

    items_are_not_its_value: Task[[int], str] = bare_stream  # type: ignore[assignment]


def any_callable_can_be_made_a_task() -> None:
    assert_type(actorq.task(halve).message(1), TaskMessage[float])
    assert_type(actorq.task(timeout=3)(spell).message(1), TaskMessage[str])
    assert_type(actorq.task(name="meter")(Meter().read).message(1), TaskMessage[float])
    assert_type(actorq.task(Meter()).message(1), TaskMessage[float])


async def a_task_is_called_like_its_function() -> None:
    coroutine = assert_type(fetch("u"), Coroutine[Any, Any, bytes])
    assert_type(await coroutine, bytes)
    assert_type(await fetch(url="u"), bytes)
    assert_type(thumbnail(Path()), Path)
    assert_type(thumbnail(Path(), width=64), Path)
    assert_type(tail("p"), AsyncIterator[str])
    assert_type(await log("a", "b", level=2, seconds=0.5), None)
    assert_type(await echo(3), int)
    async for line in tail("p"):
        assert_type(line, str)

    await fetch(3)  # type: ignore[arg-type]
    await fetch()  # type: ignore[call-arg]
    await fetch("u", 3)  # type: ignore[call-arg]
    await fetch(link="u")  # type: ignore[call-arg]
    await log("a", 3)  # type: ignore[arg-type]
    await log("a", seconds="0.5")  # type: ignore[arg-type]
    thumbnail("p")  # type: ignore[arg-type]
    thumbnail(Path(), size=64)  # type: ignore[call-arg]
    tail(Path())  # type: ignore[arg-type]


def what_a_task_tells() -> None:
    assert_type(fetch.name, str)
    assert_type(fetch.settings, actorq.TaskOptions)

    fetch.unknown  # type: ignore[attr-defined]


def wrong_decorators() -> None:
    actorq.task(3)  # type: ignore[call-overload]
    actorq.task("name")  # type: ignore[call-overload]
    actorq.task(name=3)  # type: ignore[call-overload]
    actorq.task(run_in="fiber")  # type: ignore[call-overload]
    actorq.task(priority="urgent")  # type: ignore[call-overload]
    actorq.task(timeout="30")  # type: ignore[call-overload]
    actorq.task(retries=3)  # type: ignore[call-overload]
    actorq.task(halve, timeout=30)  # type: ignore[call-overload]
    actorq.task(timeout=30)(3)  # type: ignore[call-overload]
