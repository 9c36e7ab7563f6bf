"""Callbacks, and what a subscription yields."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, assert_type

import actorq
from actorq import (
    ActorRef,
    AsyncTask,
    Client,
    Lagged,
    Mailbox,
    Progress,
    RemoteError,
    Snapshot,
    StreamTask,
    Subscription,
    SyncTask,
    System,
    TaskDone,
    TaskEvent,
    TaskEventKind,
    TaskOptions,
    TaskResult,
    TaskStatus,
)
from tests.typing.samples import fetch, spell, tail, thumbnail


async def on_done(inbox: Mailbox[TaskDone]) -> None:
    async for done in inbox:
        assert_type(done, TaskDone)
        assert_type(done.result, TaskResult[Any])
        assert_type(done.data, Any)


async def on_more(inbox: Mailbox[TaskDone | str]) -> None: ...
async def on_anything(inbox: Mailbox[object]) -> None: ...
async def on_numbers(inbox: Mailbox[int]) -> None: ...


@actorq.task
async def report(done: TaskDone, /) -> int:
    return done.result.attempts


@actorq.task(run_in="process", timeout=5)
def write_down(done: TaskDone, more: int = 3) -> None: ...


@actorq.task
async def stream(done: TaskDone, /) -> AsyncIterator[int]:
    yield 1


def plain(done: TaskDone) -> None: ...
def wide(anything: object) -> None: ...
def two(done: TaskDone, other: int) -> None: ...
def of_a_number(number: int) -> None: ...
async def later(number: int, done: TaskDone) -> None: ...


class Service:
    async def note(self, done: TaskDone) -> None: ...
    def __call__(self, done: TaskDone) -> None: ...


# --- callbacks -----------------------------------------------------------------------------------


async def an_actor_that_takes_what_is_done(system: System) -> None:
    ref = await system.spawn(on_done)
    assert_type(ref, ActorRef[TaskDone])
    fetch.options(callback=ref, callback_data={"user": 7})
    more = await system.spawn(on_more)
    assert_type(more, ActorRef[TaskDone | str])
    fetch.options(callback=more)
    anything = await system.spawn(on_anything)
    fetch.options(callback=anything)
    thumbnail.options(callback=await system.spawn(on_done))
    await system.submit(tail.options(callback=ref), "path")
    TaskOptions(callback=ref)


async def an_actor_that_takes_something_else(
    system: System, text: ActorRef[str], result: ActorRef[TaskResult[int]]
) -> None:
    fetch.options(callback=await system.spawn(on_numbers))  # type: ignore[arg-type]
    fetch.options(callback=text)  # type: ignore[arg-type]
    fetch.options(callback=result)  # type: ignore[arg-type]
    TaskOptions(callback=text)  # type: ignore[arg-type]


def a_task_or_any_callable_of_what_is_done() -> None:
    assert_type(report, AsyncTask[[TaskDone], int])
    assert_type(stream, StreamTask[[TaskDone], int])
    fetch.options(callback=report)
    fetch.options(callback=report.options(timeout=5, callback=write_down))
    fetch.options(callback=write_down, callback_data=3)
    fetch.options(callback=stream)
    fetch.options(callback=plain)
    fetch.options(callback=wide)
    fetch.options(callback=print)
    fetch.options(callback=Service().note)
    fetch.options(callback=Service())
    fetch.options(callback=partial(later, 3))
    fetch.options(callback=lambda done: done.result.ok)
    fetch.options(callback=None)
    TaskOptions(callback=report, callback_data=object())


def a_callable_of_something_else(number: SyncTask[[int], None]) -> None:
    fetch.options(callback=of_a_number)  # type: ignore[arg-type]
    fetch.options(callback=number)  # type: ignore[arg-type]
    fetch.options(callback=fetch)  # type: ignore[arg-type]
    fetch.options(callback=spell)  # type: ignore[arg-type]
    fetch.options(callback=two)  # type: ignore[arg-type]
    fetch.options(callback=later)  # type: ignore[arg-type]
    fetch.options(callback="a name")  # type: ignore[arg-type]
    fetch.options(callback=3)  # type: ignore[arg-type]
    fetch.options(callback=[report])  # type: ignore[arg-type]
    fetch.options(callback=fetch.message("u"))  # type: ignore[arg-type]
    TaskOptions(callback=of_a_number)  # type: ignore[arg-type]


@actorq.task(callback=report, callback_data=7)
async def with_a_callback(url: str, /) -> bytes:
    return url.encode()


def a_decorator_takes_one_too() -> None:
    assert_type(with_a_callback, AsyncTask[[str], bytes])
    actorq.task(callback=of_a_number)  # type: ignore[arg-type]


def what_is_done(done: TaskDone) -> None:
    assert_type(done.result.unwrap(), Any)
    assert_type(done.result.status, TaskStatus)

    done.result = done.result  # type: ignore[misc]
    done.value  # type: ignore[attr-defined]


# --- subscriptions -------------------------------------------------------------------------------


async def a_subscription_yields_three_things(client: Client) -> None:
    async with client.subscribe(task=fetch) as events:
        assert_type(events, Subscription)
        async for event in events:
            assert_type(event, Snapshot | TaskEvent | Lagged)
            if isinstance(event, Snapshot):
                assert_type(event, Snapshot)
            elif isinstance(event, Lagged):
                assert_type(event.count, int)
            else:
                assert_type(event, TaskEvent)
        assert_type(await anext(events), Snapshot | TaskEvent | Lagged)


async def they_can_be_matched(events: Subscription) -> None:
    async for event in events:
        match event:
            case Snapshot(counts=counts, tasks=tasks):
                assert_type(counts, Mapping[TaskStatus, int])
                assert_type(tasks, tuple[TaskResult[Any], ...])
            case Lagged(count=count):
                assert_type(count, int)
            case TaskEvent():
                assert_type(event.kind, TaskEventKind)


def an_event(event: TaskEvent) -> None:
    assert_type(event.id, str)
    assert_type(event.name, str)
    assert_type(event.queue, str)
    assert_type(event.status, TaskStatus)
    assert_type(event.at, datetime)
    assert_type(event.attempts, int)
    assert_type(event.worker, str | None)
    assert_type(event.meta, Mapping[str, Any])
    assert_type(event.progress, Progress | None)
    assert_type(event.error, RemoteError | None)

    event.value  # type: ignore[attr-defined]
    event.kind = TaskEventKind.ENDED  # type: ignore[misc]


async def every_keyword(client: Client) -> None:
    client.subscribe()
    client.subscribe(buffer=10, status="failure", task=[fetch, "name"], queue="images", ids=["a"])
    client.subscribe(status={TaskStatus.FAILURE}, task=tail)


async def wrong_keywords(client: Client) -> None:
    client.subscribe(fetch)  # type: ignore[call-arg, arg-type]
    client.subscribe(before=datetime.now())  # type: ignore[call-arg]  # noqa: DTZ005
    client.subscribe(limit=3)  # type: ignore[call-arg]
    client.subscribe(task=spell)  # type: ignore[arg-type]
    client.subscribe(status=3)  # type: ignore[arg-type]
    client.subscribe(queue=["images"])  # type: ignore[arg-type]
    client.subscribe(ids=3)  # type: ignore[arg-type]
    client.subscribe(buffer="10")  # type: ignore[arg-type]
    client.subscribe(buffer=None)  # type: ignore[arg-type]
    async for _ in client.subscribe():  # type: ignore[attr-defined]
        pass
    with client.subscribe():  # type: ignore[attr-defined]
        pass
