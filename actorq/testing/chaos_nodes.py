"""The nodes of a chaos run: processes that note what they do until somebody kills them.

To import this library takes a second, so one process does that, and the nodes are forked from it.
Each appends its notes to a file of its own, a line at a time: what it did can be read however it
ended, and only its last line may be torn.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import trio

from actorq.actors.executors.current import current
from actorq.client.batches import Outcomes
from actorq.client.client import Client
from actorq.client.handle import TaskHandle
from actorq.errors import ActorqError, TaskCancelled, TaskError, leaves
from actorq.model.events import Event, EventKind
from actorq.model.options import Limit, Retry
from actorq.model.results import TaskResult
from actorq.system.remote import connect
from actorq.system.system import open_system
from actorq.system.worker import open_worker
from actorq.tasks import TaskMessage, task

STORMS_AT_ONCE = 4
"""How many coroutines of a client submit."""

SLOTS = 8
"""Of each worker."""

LIMIT = Limit("shared", concurrency=2)
"""Of all tasks that have a limit."""

RESULTS_MAX = 10_000_000
_QUIET = frozenset({EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.CONNECT_FAILED})


class Pen:
    """Writes the notes of one process."""

    def __init__(self, folder: Path, node: str) -> None:
        self.node: str = node
        self._file = os.open(
            folder / f"{node}.notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )

    def note(self, what: str, **details: Any) -> None:
        """Append a line, which outlives this process once this has returned."""
        line = {"at": time.monotonic(), "node": self.node, "what": what, "details": details}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")

    def event(self, event: Event) -> None:
        """Note what the node reports. Implements `Instrument`."""
        if event.kind not in _QUIET:
            self.note("event", **{"kind": event.kind.value, **event.details})

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


# --- the tasks -----------------------------------------------------------------------------------


class Broken(Exception):
    """What a task raises that is to be tried again."""


_pens: list[Pen] = []
"""The pen of this process, if it is a node."""

_runs = count(1)


class _Run:
    """Notes the beginning and the end of one run of a task."""

    def __init__(self) -> None:
        self._note = _pens[0].note
        self.name = f"{_pens[0].node}.{next(_runs)}"
        self.how = "cancelled"

    def __enter__(self) -> Self:
        self._note("began", id=current().id, run=self.name)
        return self

    def __exit__(self, *_: object) -> None:
        self._note("ended", run=self.name, how=self.how)


@task(name="chaos.work")
async def work(number: int, seconds: float, failures: int = 0) -> list[Any]:
    """Return the square of a number, and which run of this task returns it."""
    with _Run() as run:
        await trio.sleep(seconds)
        if current().attempt <= failures:
            run.how = "raised"
            raise Broken(run.name)
        run.how = "returned"
    return [number * number, run.name]


@task(name="chaos.merge")
async def merge(parts: list[list[Any]]) -> list[Any]:
    """Return the sum of what several tasks have returned."""
    with _Run() as run:
        await trio.lowlevel.checkpoint()
        run.how = "returned"
    return [sum(part[0] for part in parts), run.name]


# --- queue nodes and workers ---------------------------------------------------------------------


async def queue(pen: Pen, store: str, url: str) -> None:
    """Own the store, or stand by until it is free."""
    async with open_system(
        store,
        tasks=[sys.modules[__name__]],
        listen=url,
        concurrency=0,
        processes=0,
        max_results=RESULTS_MAX,
        drain=0.0,
        instruments=[pen],
    ):
        await trio.sleep_forever()


async def worker(pen: Pen, urls: Sequence[str]) -> None:
    """Run tasks."""
    async with open_worker(
        urls,
        tasks=[sys.modules[__name__]],
        concurrency=SLOTS,
        processes=0,
        drain=0.0,
        instruments=[pen],
    ):
        await trio.sleep_forever()


# --- clients -------------------------------------------------------------------------------------


async def client(pen: Pen, urls: Sequence[str], seed: int, calm: str) -> None:
    """Submit until there is a file ``calm``; end when all that was submitted has."""
    async with connect(urls, connect_timeout=None, instruments=[pen]) as connected:
        storms = Storms(connected, pen, Random(seed))
        async with trio.open_nursery() as nursery:
            for _ in range(STORMS_AT_ONCE):
                nursery.start_soon(storms.run, Path(calm))
    pen.note("done")


class _AsItIs:
    """Passes for a task whose items are the messages: their ids are noted before."""

    def message(self, message: TaskMessage[list[Any]]) -> TaskMessage[list[Any]]:
        return message


_AS_IT_IS: Any = _AsItIs()


class Storms:
    """What a client submits, and what it is told about that."""

    def __init__(self, client: Client, pen: Pen, random: Random) -> None:
        self._client = client
        self._note = pen.note
        self._name = pen.node
        self._random = random
        self._numbers = count(1)
        self._told: list[str] = []

    async def run(self, calm: Path) -> None:
        """Submit in one way after the other."""
        ways: list[Callable[[], Awaitable[None]]] = [
            self.one_by_one, self.at_once, self.call, self.map, self.cancel, self.merge,
            self.keyed, self.limited,
        ]  # fmt: skip
        while not calm.exists():  # noqa: ASYNC240 - one system call
            way = self._random.choice(ways)
            try:
                await way()
                if self._random.random() < 0.3:
                    await self.ask_again()
            except* ActorqError as errors:
                for error in leaves(errors):
                    name, said = type(error).__name__, str(error)
                    self._note("error", way=getattr(way, "__name__", ""), error=name, said=said)
            await trio.sleep(self._random.uniform(0.0, 0.05))

    # --- what there is to submit -----------------------------------------------------------------

    def _message(
        self, number: int, *, scoped: bool = False, **options: Any
    ) -> TaskMessage[list[Any]]:
        seconds = self._random.choice((0.0, 0.0, 0.01, 0.05, 0.2))
        failures = 1 if "retry" in options else 0
        task = work.options(max_deliveries=1_000, **options)
        message = task.message(number, seconds, failures)
        self._note(
            "sent", id=message.id, value=number * number, scoped=scoped,
            once="at_most_once" in options, limited="limit" in options, key=options.get("key"),
        )  # fmt: skip
        return message

    def _any(self, *, scoped: bool = False) -> TaskMessage[list[Any]]:
        options: list[dict[str, Any]] = [
            {}, {}, {}, {"delay": 0.3}, {"retry": Retry(attempts=1_000, delay=0.2)},
            {"at_most_once": True}, {"priority": "high"}, {"queue": "other"},
        ]  # fmt: skip
        chosen = self._random.choice(options)
        return self._message(next(self._numbers), scoped=scoped, **chosen)

    def _some(self, most: int, *, scoped: bool = False) -> list[TaskMessage[list[Any]]]:
        return [self._any(scoped=scoped) for _ in range(self._random.randint(1, most))]

    # --- what it is told -------------------------------------------------------------------------

    async def _submit(self, message: TaskMessage[list[Any]]) -> TaskHandle[list[Any]]:
        handle = await self._client.submit(message)
        self._note("accepted", id=handle.id)
        return handle

    def _tell(self, result: TaskResult[Any]) -> None:
        self._told.append(result.id)
        self._note("told", **told(result))

    async def _wait(self, handles: Sequence[TaskHandle[list[Any]]]) -> None:
        for handle in handles:
            self._tell(await handle.wait())

    async def ask_again(self) -> None:
        """Look up what was told before."""
        if self._told:
            self._tell(await self._client.result(self._random.choice(self._told)))

    # --- the ways --------------------------------------------------------------------------------

    async def one_by_one(self) -> None:
        """A message for each."""
        await self._wait([await self._submit(message) for message in self._some(5)])

    async def at_once(self) -> None:
        """All in one message."""
        handles = await self._client.submit_many(self._some(25))
        for handle in handles:
            self._note("accepted", id=handle.id)
        async for result in self._client.as_completed(handles):
            self._tell(result)

    async def call(self) -> None:
        """In a block of its own, which is left early sometimes."""
        message = self._any(scoped=True)
        patience = self._random.choice((0.02, 30.0))
        with trio.move_on_after(patience):
            try:
                value = await self._client.call(message)
            except TaskCancelled:
                self._note("told", id=message.id, status="cancelled", value=None, error=None)
            except TaskError as error:
                kind = type(error).__name__
                self._note("told", id=message.id, status="failure", value=None, error=kind)
            else:
                self._told.append(message.id)
                self._note("told", id=message.id, status="success", value=value, error=None)
        self._note("left", id=message.id)

    async def map(self) -> None:
        """In one block, which is left when all have ended."""
        messages = self._some(25, scoped=True)
        window: Outcomes[Any, Any] = Outcomes(self._client, _AS_IT_IS, messages, 10, ordered=False)
        async with window as results:
            async for result in results:
                self._tell(result)
        for message in messages:
            self._note("left", id=message.id)

    async def cancel(self) -> None:
        """Submit and cancel."""
        handle = await self._submit(self._any())
        await trio.sleep(self._random.uniform(0.0, 0.3))
        self._note("left", id=handle.id)
        self._tell(await handle.cancel("no longer wanted"))

    async def merge(self) -> None:
        """Submit what takes the values of two others, and comes after a third."""
        numbers = [next(self._numbers) for _ in range(3)]
        first, second, third = [await self._submit(self._message(number)) for number in numbers]
        options = merge.options(max_deliveries=1_000, after=[third])
        message = options.message([first.output, second.output])
        self._note(
            "sent", id=message.id, value=numbers[0] ** 2 + numbers[1] ** 2, scoped=False,
            once=False, limited=False, key=None, needs=[first.id, second.id, third.id],
        )  # fmt: skip
        last = await self._submit(message)
        await self._wait([last, first, second, third])

    async def keyed(self) -> None:
        """Submit the same twice, under one key."""
        number = next(self._numbers)
        state = self._random.getstate()
        handles: list[TaskHandle[list[Any]]] = []
        for _ in range(2):
            self._random.setstate(state)  # or they would take different times
            message = self._message(number, key=f"{self._name} {number}")
            handles.append(await self._submit(message))
        await self._wait(handles)

    async def limited(self) -> None:
        """Submit what shares a limit with all others of its kind."""
        count = self._random.randint(1, 4)
        messages = [self._message(next(self._numbers), limit=LIMIT) for _ in range(count)]
        handles = await self._client.submit_many(messages)
        for handle in handles:
            self._note("accepted", id=handle.id)
        await self._wait(handles)


def told(result: TaskResult[Any]) -> dict[str, Any]:
    """Return what there is to check of a result."""
    return {
        "id": result.id,
        "status": result.status.value,
        "value": result.value,
        "error": None if result.error is None else result.error.type.rpartition(".")[2],
        "completed": str(result.completed_at),
    }


# --- the process that forks them -----------------------------------------------------------------

ROLES: dict[str, Callable[..., Awaitable[None]]] = {
    role.__name__: role for role in (queue, worker, client)
}


def launch() -> None:
    """Fork a node for each line of standard input, until it ends; then kill those that are left."""
    for module in ("codec.records", "stores.sqlite", "transports.websocket"):
        import_module(f"actorq.{module}")  # once, here, and not in every node
    pids: set[int] = set()
    try:
        for line in sys.stdin.buffer:
            for pid in list(pids):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    pids.discard(pid)
            pid = os.fork()
            if pid == 0:
                _be(**json.loads(line))
            pids.add(pid)
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def _be(role: str, node: str, folder: str, arguments: dict[str, Any]) -> None:
    """Be a node, and end with it."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        pen = Pen(Path(folder), node)
        _pens.append(pen)
        try:
            trio.run(_until_asked, pen, ROLES[role], arguments)
        except BaseException as error:  # noqa: BLE001 - it is what the notes are for
            pen.note("crashed", error="".join(traceback.format_exception(error)))
        else:
            pen.note("gone")
            code = 0
    finally:
        os._exit(code)  # it must not go on as the process that it was forked from


async def _until_asked(
    pen: Pen, role: Callable[..., Awaitable[None]], arguments: dict[str, Any]
) -> None:
    """Be a node until SIGTERM."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel("asked to end")

            nursery.start_soon(listen)
            pen.note("started")
            await role(pen, **arguments)
            nursery.cancel_scope.cancel("it has ended")
