"""What the clients of a simulated cluster do, and the tasks that they submit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Literal

import attrs
import trio

from actorq.actors.executors.current import current
from actorq.client.batches import Outcomes
from actorq.client.client import Client
from actorq.client.handle import TaskHandle
from actorq.errors import (
    ActorqError,
    GiveUp,
    RetryLater,
    ScheduleNotFound,
    StoreUnavailable,
    TaskNotFound,
    leaves,
)
from actorq.model.feed import Snapshot, TaskEvent, TaskEventKind
from actorq.model.options import Limit, Retry
from actorq.model.results import CatchUp, Overlap, TaskDone, TaskResult
from actorq.model.schedules import Every
from actorq.tasks import TaskMessage, task
from actorq.testing.history import History
from actorq.testing.processes import Process, here

Kind = Literal["ok", "fail", "flaky", "later", "give up", "poison", "linger"]
Verb = Literal[
    "submit", "many", "call", "map", "nursery", "cancel", "by id", "subscribe", "schedule", "pause"
]  # fmt: skip

LIMITS: dict[str, Limit] = {
    "single": Limit("single", concurrency=1),
    "couple": Limit("couple", concurrency=2),
    "slow": Limit("slow", rate=2, per=1.0),
    "single slow": Limit("single slow", concurrency=1, rate=3, per=2.0),
}
"""Those that jobs may have."""

QUEUE = "stopped"
"""The queue that ``pause`` is about."""

_AGAIN = 0.5


@attrs.frozen
class Job:
    """One task of the plan.

    Attributes:
        label: Its name in this plan; only a job with the same ``key`` may have it too, and is the
            same call then.
        kind: ``ok`` sleeps and returns; ``fail`` sleeps and raises; ``flaky`` raises in its first
            ``times`` runs; ``later`` raises `RetryLater` in those; ``give up`` raises `GiveUp`;
            ``poison`` kills its worker in its first ``times`` runs; ``linger`` takes a second more
            to stop when it is cancelled.
        seconds: How long it sleeps.
        times: See ``kind``.
        size: Bytes that its argument and its value have besides.
        options: Of the submit; ``retry`` is the number of attempts, ``limit`` one of `LIMITS`,
            ``callback`` whether there is one.
        after: The labels of earlier jobs of its step that it comes after.
        needs: Those whose values it is given.
    """

    label: str
    kind: Kind = "ok"
    seconds: float = 0.0
    times: int = 0
    size: int = 0
    options: dict[str, Any] = attrs.field(factory=dict)
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@attrs.frozen
class Step:
    """What one client does from some moment on.

    Attributes:
        at: When it begins.
        client: Which client does it, counted from 0.
        verb: How it submits the jobs; ``cancel`` submits and cancels by the handle, ``by id``
            submits, throws the handle away and asks by the id; ``schedule`` has its one job
            submitted again and again, until its patience is over; ``pause`` pauses `QUEUE` for as
            long.
        jobs: What it submits.
        patience: Seconds after which it gives up: a block is cancelled, a handle's task too.
        every: Seconds between two ticks of a schedule.
        catch_up: See `Client.schedule`.
        overlap: Likewise.
    """

    at: float
    client: int
    verb: Verb
    jobs: tuple[Job, ...]
    patience: float = inf
    every: float = 1.0
    catch_up: CatchUp = "last"
    overlap: Overlap = "skip"


class World:
    """What tasks and clients share with whoever watches: a history, and a way to die."""

    def __init__(self, history: History, kill: Callable[[Process], None]) -> None:
        self.history = history
        self.kill = kill
        self.runs: int = 0
        self.runs_of: dict[str, int] = {}


class Broken(Exception):
    """What tasks of the plan raise."""


_world = trio.lowlevel.RunVar[World]("actorq.testing.workload")


def set_world(world: World) -> None:
    """Have the tasks of this `trio.run` live in this world."""
    _world.set(world)


@task(name="perform")
async def perform(
    label: str, kind: str, seconds: float, times: int, load: bytes, given: tuple[str, ...] = ()
) -> str:
    """Do what `Job` says; return a text that names this one run, and is as long as its load."""
    world, me = _world.get(), current()
    world.runs += 1
    run = world.runs
    before = world.runs_of.get(label, 0)
    world.runs_of[label] = before + 1
    more = {"given": [value.rstrip() for value in given]} if given else {}
    world.history.note("started", run=run, label=label, id=me.id, attempt=me.attempt, **more)
    how = "cancelled"
    try:
        await trio.sleep(seconds)
        how = "raised"
        _end(kind, before < times, label, seconds)
        if kind == "poison" and before < times:
            world.history.note("poisoned", run=run, label=label)
            process = here()
            assert process is not None  # tasks run in workers
            world.kill(process)
            await trio.sleep_forever()
        how = "returned"
        return f"{label} {me.id} {run}".ljust(len(load))
    finally:
        if how == "cancelled" and kind == "linger":
            with trio.CancelScope(shield=True):
                await trio.sleep(1.0)
        world.history.note("ended", run=run, label=label, how=how)


@task(name="collect")
async def collect(done: TaskDone) -> None:
    """Note how a task has ended, as its callback."""
    result = done.result
    _world.get().history.note(
        "collected", id=result.id, status=str(result.status), label=done.data, by=current().id
    )


TASKS = (perform, collect)
"""Those that workers must know."""


def _end(kind: str, early: bool, label: str, seconds: float) -> None:
    if kind == "fail" or (kind == "flaky" and early):
        raise Broken(label)
    if kind == "later" and early:
        raise RetryLater(min(seconds, 1.0))
    if kind == "give up":
        raise GiveUp(label)


def message_of(
    job: Job, ids: Mapping[str, str] | None = None, client: Client | None = None
) -> TaskMessage[str]:
    """Return the message that submits a job; ``ids`` are those of the jobs before it."""
    options = dict(job.options)
    if "retry" in options:
        options["retry"] = Retry(attempts=options["retry"], delay=0.5)
    if "limit" in options:
        options["limit"] = LIMITS[options["limit"]]
    if options.pop("callback", False):
        options |= {"callback": collect, "callback_data": job.label}
    if job.after:
        options["after"] = _ids_of(job.after, ids)
    load = bytes(job.size)
    task = perform.options(**options)
    if not job.needs:
        return task.message(job.label, job.kind, job.seconds, job.times, load)
    assert client is not None  # only who has one can have what it needs
    given = tuple(client.handle(id, perform).output for id in _ids_of(job.needs, ids))
    return task.message(job.label, job.kind, job.seconds, job.times, load, given)


def _ids_of(labels: Sequence[str], ids: Mapping[str, str] | None) -> list[str]:
    """Return the ids of those of these jobs that there are: a shorter plan may lack some."""
    return [ids[label] for label in labels if ids is not None and label in ids]


class _AsItIs:
    """Passes for a task whose items are the messages: their ids are known before."""

    def message(self, message: TaskMessage[str]) -> TaskMessage[str]:
        return message


_AS_IT_IS: Any = _AsItIs()


class Doer:
    """Does the steps of one client, and notes what it asked and what it was told."""

    def __init__(self, client: Client, history: History) -> None:
        self._client = client
        self._note = history.note

    async def do(self, number: int, step: Step) -> None:
        """Do one step to its end, whatever comes."""
        await trio.sleep_until(step.at)
        try:
            if step.verb == "schedule":
                await self._schedule(step)
            elif step.verb == "pause":
                await self._pause(step.patience)
            else:
                messages = self._messages(number, step)
                await getattr(self, "_" + step.verb.replace(" ", "_"))(messages, step.patience)
        except* (ActorqError, Broken) as errors:
            for error in leaves(errors):
                self._note("error", step=number, error=type(error).__name__, said=str(error))
        self._note("done", step=number)

    def _messages(self, number: int, step: Step) -> list[TaskMessage[str]]:
        messages: list[TaskMessage[str]] = []
        ids: dict[str, str] = {}
        for job in step.jobs:
            message = message_of(job, ids, self._client)
            ids[job.label] = message.id
            messages.append(message)
            sources = _ids_of((*job.after, *job.needs), ids)
            more = {"sources": sources} if sources else {}
            self._note("asked", step=number, label=job.label, id=message.id, **more)
        return messages

    def _accepted(self, handles: list[TaskHandle[str]]) -> None:
        for handle in handles:
            self._note("accepted", id=handle.id)

    def _told(self, id: str, result: TaskResult[str]) -> None:
        error = None if result.error is None else result.error.type.rpartition(".")[2]
        value = None if result.value is None else result.value.rstrip()
        self._note(
            "told", id=id, about=result.id, status=str(result.status), value=value,
            error=error, worker=result.worker, attempts=result.attempts,
        )  # fmt: skip

    async def _submit(self, messages: list[TaskMessage[str]], patience: float) -> None:
        """Submit one by one, and wait for all."""
        handles: list[TaskHandle[str]] = []
        with trio.move_on_after(patience):
            for message in messages:
                handles.append(await self._client.submit(message))
                self._accepted(handles[-1:])
        for handle in handles:
            self._told(handle.id, await handle.wait())

    async def _many(self, messages: list[TaskMessage[str]], patience: float) -> None:
        with trio.move_on_after(patience):
            handles = await self._client.submit_many(messages)
            self._accepted(handles)
            async for result in self._client.as_completed(handles):
                self._told(result.id, result)

    async def _call(self, messages: list[TaskMessage[str]], patience: float) -> None:
        with trio.move_on_after(patience) as scope:
            for message in messages:
                value = await self._client.call(message)
                self._note(
                    "told", id=message.id, about=message.id, status="success", value=value.rstrip()
                )
        if scope.cancelled_caught:
            self._note("left", ids=[message.id for message in messages])

    async def _map(self, messages: list[TaskMessage[str]], patience: float) -> None:
        window: Outcomes[Any, str] = Outcomes(self._client, _AS_IT_IS, messages, 3, ordered=False)
        try:
            with trio.move_on_after(patience):
                async with window as results:
                    async for result in results:
                        self._told(result.id, result)
        finally:
            self._note("left", ids=[message.id for message in messages])

    async def _nursery(self, messages: list[TaskMessage[str]], patience: float) -> None:
        try:
            with trio.move_on_after(patience):
                async with self._client.open_nursery() as nursery:
                    for message in messages:
                        self._accepted([await nursery.submit(message)])
        finally:
            self._note("left", ids=[message.id for message in messages])

    async def _cancel(self, messages: list[TaskMessage[str]], patience: float) -> None:
        handles = [await self._client.submit(message) for message in messages]
        self._accepted(handles)
        await trio.sleep(patience)
        for handle in handles:
            self._note("cancelling", id=handle.id)
            self._told(handle.id, await handle.cancel("no longer wanted", grace=3.0))

    async def _by_id(self, messages: list[TaskMessage[str]], patience: float) -> None:
        ids = [handle.id for handle in await self._client.submit_many(messages)]
        for id in ids:
            self._note("accepted", id=id)
        await trio.sleep(patience)
        for id in ids:
            self._note("asking", id=id)
            try:
                seen = await self._client.result(id)
                self._note("seen", id=id, about=seen.id, status=str(seen.status))
                self._told(id, await self._client.handle(id, perform).wait())
            except TaskNotFound:
                self._note("not found", id=id)

    async def _subscribe(self, messages: list[TaskMessage[str]], patience: float) -> None:
        left = {message.id for message in messages}
        snapshots = 0
        async with self._client.subscribe(ids=list(left)) as events:
            self._accepted(await self._client.submit_many(messages))
            with trio.move_on_after(patience):
                async for event in events:
                    ended: set[str] = set()
                    if isinstance(event, TaskEvent):
                        self._note("news", id=event.id, kind=str(event.kind))
                        if event.kind is TaskEventKind.ENDED:
                            ended = {event.id}
                    elif isinstance(event, Snapshot):
                        snapshots += 1
                        ended = {one.id for one in event.tasks if one.status.terminal}
                        if snapshots > 1:  # the first was before the submit
                            left &= {one.id for one in event.tasks}
                    left -= ended
                    if not left:
                        break

    async def _schedule(self, step: Step) -> None:
        (job,) = step.jobs
        message, name = message_of(job), job.label
        self._note("scheduling", name=name)
        await _insist(
            lambda: self._client.schedule(
                message,
                Every(step.every),
                name=name,
                catch_up=step.catch_up,
                overlap=step.overlap,
            )
        )
        self._note("scheduled", name=name)
        await trio.sleep(step.patience)
        self._note("unscheduling", name=name)
        await unschedule(self._client, name)

    async def _pause(self, patience: float) -> None:
        self._note("pausing")
        await _insist(lambda: self._client.pause(QUEUE))
        self._note("paused")
        await trio.sleep(patience)
        self._note("resuming")
        await resume(self._client)


async def unschedule(client: Client, name: str) -> None:
    """Remove a schedule, whatever comes."""
    with suppress(ScheduleNotFound):  # if the queue has lost its records
        await _insist(lambda: client.remove_schedule(name))


async def resume(client: Client) -> None:
    """Have the queue go on that was paused, whatever comes."""
    await _insist(lambda: client.resume(QUEUE))


async def _insist(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            await trio.sleep(_AGAIN)
