"""`open_system`, and what a task can ask about itself."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, assert_type

import actorq
from actorq.telemetry.prometheus import serve_metrics
from tests.typing import samples
from tests.typing.samples import fetch, spell, tail, thumbnail


@asynccontextmanager
async def pool() -> AsyncGenerator[int]:
    yield 3


async def a_system_is_a_client() -> None:
    async with actorq.open_system() as system:
        assert_type(system, actorq.System)
        client: actorq.Client = system
        assert_type(await system.call(fetch, "u"), bytes)


async def a_system_can_be_measured() -> None:
    async with actorq.open_system() as system, serve_metrics(system, "127.0.0.1:0") as metrics:
        assert_type(metrics.url, str)
        system.instruments.append(metrics)


async def every_argument() -> None:
    actorq.open_system("memory://", tasks=[fetch, thumbnail, tail, samples])
    actorq.open_system(concurrency=0, processes=2, lifespan=pool)
    actorq.open_system(max_pending=10, max_results=10, result_ttl=60, max_message=1024)
    actorq.open_system(drain=0, grace=2.5, instruments=())


async def wrong_arguments() -> None:
    actorq.open_system(3)  # type: ignore[arg-type]
    actorq.open_system("memory://", [fetch])  # type: ignore[call-arg]
    actorq.open_system(workers=3)  # type: ignore[call-arg]
    actorq.open_system(tasks=fetch)  # type: ignore[arg-type]
    actorq.open_system(tasks=[spell])  # type: ignore[list-item]
    actorq.open_system(tasks=["tests.typing.samples"])  # type: ignore[list-item]
    actorq.open_system(concurrency="3")  # type: ignore[arg-type]
    actorq.open_system(concurrency=1.5)  # type: ignore[arg-type]
    actorq.open_system(processes="all")  # type: ignore[arg-type]
    actorq.open_system(lifespan=pool())  # type: ignore[arg-type]
    actorq.open_system(result_ttl="1h")  # type: ignore[arg-type]
    actorq.open_system(drain=None)  # type: ignore[arg-type]
    await actorq.open_system()  # type: ignore[misc]
    with actorq.open_system():  # type: ignore[attr-defined]
        pass


async def operating(client: actorq.Client) -> None:
    assert_type(await client.pause("images"), None)
    assert_type(await client.resume("images"), None)
    assert_type(await client.why("id"), str)
    await client.pause()  # type: ignore[call-arg]


async def schedules(client: actorq.Client) -> None:
    nightly = actorq.Cron("0 3 * * *", tz="Europe/Zurich")
    await client.schedule(fetch.message("u"), nightly, name="nightly", catch_up="all")
    await client.schedule(thumbnail.message(Path()), actorq.Every(60), name="a", overlap="queue")
    assert_type(await client.schedules(), list[actorq.ScheduleInfo])
    assert_type(await client.run_schedule("nightly"), actorq.TaskHandle[Any])
    assert_type(await client.pause_schedule("nightly"), None)
    assert_type(await client.resume_schedule("nightly"), None)
    assert_type(await client.remove_schedule("nightly"), None)


async def wrong_schedules(client: actorq.Client) -> None:
    await client.schedule(fetch, actorq.Every(60), name="a")  # type: ignore[arg-type]
    await client.schedule(fetch.message(3), actorq.Every(60), name="a")  # type: ignore[arg-type]
    await client.schedule(fetch.message("u"), "0 3 * * *", name="a")  # type: ignore[arg-type]
    await client.schedule(fetch.message("u"), actorq.Every(60))  # type: ignore[call-arg]
    await client.schedule(fetch.message("u"), actorq.Every(60), name="a", catch_up="no")  # type: ignore[arg-type]
    actorq.Every("60")  # type: ignore[arg-type]
    actorq.Cron(5)  # type: ignore[arg-type]
    actorq.task(schedule="0 3 * * *")  # type: ignore[call-overload]
    fetch.options(schedule=actorq.Every(60))  # type: ignore[call-arg]


@actorq.task(schedule=actorq.Every(60), queue="beats")
async def beat() -> int:
    return 3


async def a_task_with_a_schedule_is_a_task(client: actorq.Client) -> None:
    assert_type(await client.call(beat), int)


def inside_a_task() -> None:
    current = actorq.current()
    assert_type(current, actorq.Current)
    assert_type(current.id, str)
    assert_type(current.name, str)
    assert_type(current.attempt, int)
    assert_type(current.deadline, float | None)
    assert_type(current.meta, Mapping[str, Any])
    assert_type(current.resources, Any)
    assert_type(current.cancelled, bool)
    assert_type(current.progress(1, total=2, message="half"), None)

    current.cancelled = True  # type: ignore[misc]
    current.progress()  # type: ignore[call-arg]
    current.progress("half")  # type: ignore[arg-type]
    current.progress(1, percent=50)  # type: ignore[call-arg]


def steering_retries() -> None:
    assert_type(actorq.RetryLater(5).delay, float)
    actorq.GiveUp("the account is closed")

    actorq.RetryLater()  # type: ignore[call-arg]
    actorq.RetryLater("5")  # type: ignore[arg-type]


def errors(
    failed: actorq.TaskFailed, cancelled: actorq.TaskCancelled, error: actorq.RemoteError
) -> None:
    assert_type(failed.error, actorq.RemoteError | None)
    assert_type(failed.matches(ValueError, "requests.exceptions.HTTPError"), bool)
    assert_type(cancelled.by, str)
    assert_type(cancelled.reason, str | None)
    assert_type(error.matches(ValueError, "requests.exceptions.HTTPError"), bool)
    assert_type(error.message, str)
    assert_type(error.children, tuple[actorq.RemoteError, ...])

    error.matches(3)  # type: ignore[arg-type]
    failed.matches(3)  # type: ignore[arg-type]
    failed.matches(ValueError())  # type: ignore[arg-type]
