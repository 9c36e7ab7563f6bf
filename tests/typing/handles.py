"""Handles, their results, and the client's verbs by id."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

from actorq import (
    Client,
    Progress,
    RemoteError,
    TaskHandle,
    TaskMessage,
    TaskResult,
    TaskStatus,
)
from tests.typing.samples import fetch, spell, tail, thumbnail


async def a_handle(handle: TaskHandle[bytes]) -> None:
    assert_type(handle.id, str)
    assert_type(handle.name, str)
    assert_type(handle.existing, bool)
    assert_type(await handle.value(), bytes)
    assert_type(await handle.wait(), TaskResult[bytes])
    assert_type(await handle.status(), TaskStatus)
    assert_type(await handle.progress(), Progress | None)
    assert_type(await handle.cancel(), TaskResult[bytes])
    assert_type(await handle.cancel("no longer needed", grace=2), TaskResult[bytes])

    handle.output_of_another  # type: ignore[attr-defined]
    await handle.value(3)  # type: ignore[call-arg]
    await handle.value(timeout=3)  # type: ignore[call-arg]
    await handle.wait(timeout=3)  # type: ignore[call-arg]
    await handle.cancel(3)  # type: ignore[arg-type]
    await handle.cancel(grace="2")  # type: ignore[arg-type]
    await handle.cancel("no longer needed", 2)  # type: ignore[call-arg]
    text: str = await handle.value()  # type: ignore[assignment]
    result: TaskResult[str] = await handle.wait()  # type: ignore[assignment]


async def a_handle_of_something_narrower_will_do(
    client: Client, number: TaskHandle[int], message: TaskMessage[bool]
) -> None:
    wider: TaskHandle[float | None] = number
    wider_message: TaskMessage[int | None] = message
    anything: TaskHandle[object] = await client.submit(fetch, "u")
    either: bytes | None = await client.call(fetch, "u")
    by_id: TaskHandle[object] = client.handle("id", fetch)
    several: list[TaskHandle[object]] = [number, await client.submit(thumbnail, Path())]
    async for result in client.as_completed(several):
        assert_type(result, TaskResult[object])

    narrower: TaskHandle[bool] = number  # type: ignore[assignment]
    other: TaskHandle[str] = number  # type: ignore[assignment]
    narrower_message: TaskMessage[str] = message  # type: ignore[assignment]


async def a_result(result: TaskResult[bytes]) -> None:
    assert_type(result.value, bytes | None)
    assert_type(result.unwrap(), bytes)
    assert_type(result.ok, bool)
    assert_type(result.id, str)
    assert_type(result.name, str)
    assert_type(result.queue, str)
    assert_type(result.status, TaskStatus)
    assert_type(result.status.terminal, bool)
    assert_type(result.error, RemoteError | None)
    assert_type(result.attempts, int)
    assert_type(result.worker, str | None)
    assert_type(result.submitted_at, datetime)
    assert_type(result.started_at, datetime | None)
    assert_type(result.completed_at, datetime | None)
    assert_type(result.meta, Mapping[str, Any])
    assert_type(result.reason, str | None)

    value: bytes = result.value  # type: ignore[assignment]
    text: str = result.unwrap()  # type: ignore[assignment]
    result.unwrap(b"")  # type: ignore[call-arg]
    result.attempts = 3  # type: ignore[misc]
    result.error.message  # type: ignore[union-attr]


def a_result_of_something_narrower_will_do(result: TaskResult[int]) -> None:
    wider: TaskResult[float | None] = result

    narrower: TaskResult[bool] = result  # type: ignore[assignment]


async def by_id(client: Client) -> None:
    assert_type(client.handle("id", fetch), TaskHandle[bytes])
    assert_type(client.handle("id", thumbnail.options(delay=5)), TaskHandle[Path])
    assert_type(client.handle("id", task=tail), TaskHandle[None])
    assert_type(client.handle("id"), TaskHandle[Any])
    assert_type(await client.result("id"), TaskResult[Any])
    assert_type(await client.cancel("id"), TaskResult[Any])
    assert_type(await client.cancel("id", "no longer needed", grace=2), TaskResult[Any])

    client.handle()  # type: ignore[call-overload]
    client.handle(3)  # type: ignore[call-overload]
    client.handle("id", "name")  # type: ignore[call-overload]
    client.handle("id", spell)  # type: ignore[call-overload]
    client.handle("id", fetch.message("u"))  # type: ignore[call-overload]
    wrong: TaskHandle[str] = client.handle("id", fetch)  # type: ignore[arg-type]
    await client.handle("id", fetch)  # type: ignore[misc]
    await client.result(3)  # type: ignore[arg-type]
    await client.result(wrong)  # type: ignore[arg-type]
    await client.result("id", fetch)  # type: ignore[call-arg]
    await client.cancel(wrong)  # type: ignore[arg-type]
    await client.cancel("id", grace="2")  # type: ignore[arg-type]
    await client.cancel("id", "no longer needed", 2)  # type: ignore[call-arg]
