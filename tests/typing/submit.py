"""`submit` and `call`: arguments are the function's own, the handle has its return type."""

from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, assert_type

from actorq import Client, Task, TaskHandle, TaskMessage, TaskOptions
from tests.typing.decorator import echo
from tests.typing.samples import Meter, count, fetch, halve, log, spell, tail, thumbnail

P = ParamSpec("P")
R = TypeVar("R")


async def tasks(client: Client) -> None:
    assert_type(await client.submit(fetch, "u"), TaskHandle[bytes])
    assert_type(await client.submit(fetch, url="u"), TaskHandle[bytes])
    assert_type(await client.submit(thumbnail, Path()), TaskHandle[Path])
    assert_type(await client.submit(thumbnail, Path(), width=64), TaskHandle[Path])
    assert_type(await client.submit(tail, "p"), TaskHandle[None])
    assert_type(await client.submit(log, "a", level=2, seconds=0.5), TaskHandle[None])
    assert_type(await client.submit(fetch.options(delay=5), "u"), TaskHandle[bytes])
    assert_type(await client.submit(fetch.options(TaskOptions.quick()), "u"), TaskHandle[bytes])
    assert_type(await client.submit(echo, 3), TaskHandle[int])

    assert_type(await client.call(fetch, "u"), bytes)
    assert_type(await client.call(thumbnail, Path(), 64), Path)
    assert_type(await client.call(tail, "p"), None)
    assert_type(await client.call(log, "a", seconds=0.5), None)
    assert_type(await client.call(echo, "e"), str)


async def messages(client: Client) -> None:
    assert_type(fetch.message("u"), TaskMessage[bytes])
    assert_type(thumbnail.options(delay=5).message(Path(), width=64), TaskMessage[Path])
    assert_type(tail.message("p"), TaskMessage[None])
    assert_type(echo.message(3), TaskMessage[int])

    assert_type(await client.submit(fetch.message("u")), TaskHandle[bytes])
    assert_type(await client.submit(tail.message("p")), TaskHandle[None])
    assert_type(await client.call(fetch.message("u")), bytes)
    assert_type(await client.call(thumbnail.message(Path())), Path)


async def other_callables(client: Client) -> None:
    assert_type(await client.submit(halve, 1), TaskHandle[float])
    assert_type(await client.submit(halve, 1, by=3), TaskHandle[float])
    assert_type(await client.submit(spell, 1), TaskHandle[str])
    assert_type(await client.submit(count, 1, step=2), TaskHandle[None])
    assert_type(await client.submit(Meter().read, 1), TaskHandle[float])
    assert_type(await client.submit(Meter().reset, channel=1), TaskHandle[bool])
    assert_type(await client.submit(Meter(), 1), TaskHandle[float])
    assert_type(await client.submit(partial(halve, 1)), TaskHandle[float])
    assert_type(await client.submit(partial(spell, unit="min"), 1), TaskHandle[str])
    assert_type(await client.submit(len, "abc"), TaskHandle[int])
    assert_type(await client.submit(int, "3"), TaskHandle[int])
    assert_type(await client.submit(lambda: 3), TaskHandle[int])

    assert_type(await client.call(halve, 1), float)
    assert_type(await client.call(spell, 1, unit="min"), str)
    assert_type(await client.call(count, 1), None)
    assert_type(await client.call(Meter().read, 1), float)
    assert_type(await client.call(partial(spell, 1)), str)
    assert_type(await client.call(sorted, [3, 1]), list[int])
    assert_type(await client.call(len, "abc"), int)


async def names(client: Client) -> None:
    assert_type(await client.submit("pkg.mod:func", 1, two="2"), TaskHandle[Any])
    assert_type(await client.call("pkg.mod:func", 1, two="2"), Any)


async def parameters_may_be_called_like_ours(client: Client) -> None:
    async def inner(task: int, args: str, scope: float) -> bool:
        return bool(task or args or scope)

    assert_type(await client.call(inner, task=1, args="a", scope=2), bool)


async def both(client: Client, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> list[R]:
    first = await client.submit(task, *args, **kwargs)
    return [await first.value(), await client.call(task.message(*args, **kwargs))]


async def generic_code_can_hand_a_task_on(client: Client) -> None:
    assert_type(await both(client, fetch, "u"), list[bytes])

    await both(client, fetch, 3)  # type: ignore[arg-type]
    await both(client, fetch)  # type: ignore[call-arg]


async def wrong_arguments_of_tasks(client: Client) -> None:
    await client.submit(fetch, 3)  # type: ignore[call-overload]
    await client.submit(fetch)  # type: ignore[call-overload]
    await client.submit(fetch, "u", 3)  # type: ignore[call-overload]
    await client.submit(fetch, link="u")  # type: ignore[call-overload]
    await client.submit(fetch, "u", timeout=9)  # type: ignore[call-arg]
    await client.submit(thumbnail, Path(), width="64")  # type: ignore[arg-type]
    await client.submit(thumbnail, "p")  # type: ignore[call-overload]
    await client.submit(tail, 3)  # type: ignore[call-overload]
    await client.submit(log, "a", seconds="0.5")  # type: ignore[arg-type]
    await client.submit(fetch.options(delay=5), 3)  # type: ignore[call-overload]
    await client.submit(fetch, b"u")  # type: ignore[call-overload]

    await client.call(fetch, 3)  # type: ignore[call-overload]
    await client.call(fetch)  # type: ignore[call-overload]
    await client.call(fetch, "u", 3)  # type: ignore[call-overload]
    await client.call(fetch, link="u")  # type: ignore[call-overload]
    await client.call(thumbnail, Path(), width="64")  # type: ignore[arg-type]
    await client.call(tail, 3)  # type: ignore[call-overload]


async def wrong_arguments_of_messages(client: Client) -> None:
    fetch.message(3)  # type: ignore[arg-type]
    fetch.message()  # type: ignore[call-arg]
    fetch.message("u", 3)  # type: ignore[call-arg]
    fetch.message(link="u")  # type: ignore[call-arg]
    thumbnail.message(Path(), width="64")  # type: ignore[arg-type]
    tail.message(3)  # type: ignore[arg-type]

    await client.submit(fetch.message("u"), "u")  # type: ignore[call-overload]
    await client.submit(fetch.message("u"), delay=5)  # type: ignore[call-overload]
    await client.call(fetch.message("u"), "u")  # type: ignore[call-overload]
    await client.call(fetch.message("u"), delay=5)  # type: ignore[call-overload]


async def wrong_arguments_of_other_callables(client: Client) -> None:
    await client.submit(halve, "1")  # type: ignore[call-overload]
    await client.submit(halve)  # type: ignore[call-overload]
    await client.submit(spell, 1, unit=60)  # type: ignore[arg-type]
    await client.submit(count, "1")  # type: ignore[call-overload]
    await client.submit(Meter().read, "1")  # type: ignore[call-overload]
    await client.submit(Meter(), "1")  # type: ignore[call-overload]
    await client.submit(len, 3)  # type: ignore[call-overload]
    await client.submit(lambda: 3, 1)  # type: ignore[call-overload]

    await client.call(halve, "1")  # type: ignore[call-overload]
    await client.call(spell)  # type: ignore[call-overload]
    await client.call(len, 3)  # type: ignore[call-overload]


async def not_submittable(client: Client) -> None:
    await client.submit()  # type: ignore[call-overload]
    await client.submit(3)  # type: ignore[call-overload]
    await client.submit(None)  # type: ignore[call-overload]
    await client.submit(fetch("u"))  # type: ignore[call-overload]
    await client.submit([fetch.message("u")])  # type: ignore[call-overload]
    await client.submit(task=fetch)  # type: ignore[call-overload]
    await client.call(fetch("u"))  # type: ignore[call-overload]


async def wrong_expectations(client: Client) -> None:
    handle: TaskHandle[str]
    text: str
    handle = await client.submit(thumbnail, Path())  # type: ignore[call-overload]
    text = await client.call(fetch, "u")  # type: ignore[call-overload]
    text = await client.call(fetch.message("u"))  # type: ignore[arg-type]
    message: TaskMessage[str] = fetch.message("u")  # type: ignore[assignment]
