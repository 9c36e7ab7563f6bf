"""What becomes of tasks when an owner is stopped, a disk full, a file damaged, a commit fails."""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
import trio

import actorq
from actorq.errors import StoreUnavailable
from actorq.model.events import Event, EventKind
from actorq.model.filters import build_filter
from actorq.model.ids import PARTITION
from actorq.system.backends import open_store
from actorq.testing import FaultyStore
from actorq.testing.chaos import Launcher, Node, free_ports
from actorq.testing.chaos_nodes import work
from actorq.testing.chaos_verdict import Note, Notes

SLACK = 3.0
"""Times as long as promised has a machine that is busy with other things."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="prlimit and pidfd")


class Nodes:
    """Queue nodes on one file, and workers, as processes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tasks.db"
        self.store = f"sqlite:///{self.file}"
        self.notes = Notes(folder)
        self._launcher = Launcher(folder)
        self._nodes: list[Node] = []
        self.urls = [f"ws://127.0.0.1:{port}" for port in free_ports(2)]

    def start(self, role: str, place: int = 0) -> Node:
        arguments: dict[str, Any] = {"urls": self.urls}
        if role == "queue":
            arguments = {"store": self.store, "url": self.urls[place]}
        node = self._launcher.start(role, f"{role}.{len(self._nodes)}", **arguments)
        self._nodes.append(node)
        return node

    async def told(self, node: Node, what: str) -> Note:
        """Return the first note of a node with this in it, once there is one."""
        while True:
            self.notes.read()
            for note in self.notes.all:
                if note.node == node.name and what in str(note):
                    return note
            await trio.sleep(0.02)  # real: it is another process that writes

    def end(self) -> None:
        self._launcher.end()
        for node in self._nodes:
            node.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.end()


async def kill(node: Node) -> None:
    node.send(signal.SIGKILL)
    await node.wait()


async def stored(url: str) -> set[str]:
    """Return the ids of all that is in a file."""
    store = open_store(url)
    await store.open()
    try:
        page = await store.find(PARTITION, build_filter(), None, 10_000)
        return {record.head.id for record in page.records}
    finally:
        await store.close()


# --- an owner that is stopped --------------------------------------------------------------------


@linux
@pytest.mark.bound(90)
async def test_an_owner_that_was_stopped_for_long_is_succeeded_and_then_writes_nothing(
    nodes: Nodes,
) -> None:
    first = nodes.start("queue", 0)
    await nodes.told(first, "kind=owning")
    second = nodes.start("queue", 1)
    nodes.start("worker")
    await nodes.told(second, "kind=standing_by")
    async with actorq.connect(nodes.urls, instruments=()) as client:
        before = await client.submit(work, 3, 0.0)
        assert (await before.value())[0] == 9
        first.send(signal.SIGSTOP)
        while is_locked(nodes.file):  # it was stopped in the middle of a commit
            first.send(signal.SIGCONT)
            await trio.sleep(0.05)  # real: another process goes on meanwhile
            first.send(signal.SIGSTOP)

        meanwhile = await client.submit(work, 4, 0.0)
        assert (await meanwhile.value())[0] == 16
        first.send(signal.SIGCONT)
        assert "Fenced" in str(await nodes.told(first, "kind=actor_restarted"))
        await nodes.told(first, "kind=standing_by")
        later = await client.submit(work, 5, 0.0)  # with its commit it takes the free lock
        assert (await later.value())[0] == 25
        await kill(second)
        killed_at = time.monotonic()
        after = await client.submit(work, 6, 0.0)
        assert (await after.value())[0] == 36

    owners = [note for note in nodes.notes.all if note.details.get("kind") == "owning"]
    again = await nodes.told(first, "epoch=3")
    assert [owner.node for owner in owners[:2]] == [first.name, second.name]
    assert owners[1].at - owners[0].at > 10
    assert again.at - killed_at < 1 * SLACK
    runs = [note.details["id"] for note in nodes.notes.all if note.what == "began"]
    assert runs == [before.id, meanwhile.id, later.id, after.id]


def is_locked(file: Path) -> bool:
    with closing(apsw.Connection(str(file))) as db:
        try:
            db.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            return True
    return False


# --- a full disk ---------------------------------------------------------------------------------


@linux
@pytest.mark.bound(90)
async def test_a_full_disk_hangs_nobody_and_loses_nothing_that_was_accepted(
    nodes: Nodes, tmp_path: Path
) -> None:
    queue = nodes.start("queue")
    nodes.start("worker")
    accepted: list[str] = []
    async with actorq.connect(nodes.urls, instruments=()) as client:
        running = await client.submit(work, 3, 1.0)
        accepted.append(running.id)
        largest = max(path.stat().st_size for path in tmp_path.glob("tasks.db*"))  # noqa: ASYNC240
        queue.limit(largest)

        with trio.fail_after(30), pytest.raises(StoreUnavailable):  # noqa: PT012 - whichever
            while True:
                accepted.append((await client.submit("nobody", os.urandom(100_000))).id)
        with trio.fail_after(2), pytest.raises(StoreUnavailable):
            await client.submit("nobody")

        queue.limit(None)
        message = work.message(4, 0.0)
        with trio.fail_after(30):
            handle = await insisting(lambda: client.submit(message))
            accepted.append(handle.id)
            values = [(await running.value())[0], (await handle.value())[0]]

    await kill(queue)
    assert values == [9, 16]
    assert set(accepted) <= await stored(nodes.store)
    runs = [note for note in nodes.notes.read() if note.what == "began"]
    assert Counter(note.details["id"] for note in runs) == {running.id: 1, handle.id: 1}


async def insisting(verb: Callable[[], Any]) -> Any:
    while True:
        try:
            return await verb()
        except StoreUnavailable:
            await trio.sleep(0.1)  # real: until another process has room again


# --- a torn file ---------------------------------------------------------------------------------


@linux
@pytest.mark.bound(60)
async def test_of_a_torn_log_only_the_end_is_missing(nodes: Nodes, tmp_path: Path) -> None:
    """Whatever was cut off or overwritten: what is left is all that came before some moment."""
    queue = nodes.start("queue")
    async with actorq.connect(nodes.urls, instruments=()) as client:
        accepted = [(await client.submit("nobody", os.urandom(500))).id for _ in range(30)]
        await kill(queue)
    log = (tmp_path / "tasks.db-wal").read_bytes()
    random = Random(1)
    tears: list[tuple[bytes, int]] = [(log[:-1], 1), (log[:-100] + os.urandom(100), 1)]
    for _ in range(20):
        at = random.randrange(len(log))
        tears += [(log[:at], 30), (log[:at] + bytes(len(log) - at), 30)]

    for number, (torn, most) in enumerate(tears):
        folder = tmp_path / f"torn {number}"
        folder.mkdir()
        shutil.copy(tmp_path / "tasks.db", folder)
        (folder / "tasks.db-wal").write_bytes(torn)
        found = await stored(f"sqlite:///{folder}/tasks.db")

        kept = len(found)
        assert found == set(accepted[:kept]), number
        assert kept >= len(accepted) - most, number


async def test_a_file_that_is_damaged_is_refused_with_advice_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tasks.db"
    async with actorq.open_system(f"sqlite:///{path}", concurrency=0, processes=0) as system:
        await system.submit_many(
            actorq.task(name="nobody")(nobody).message(os.urandom(500)) for _ in range(300)
        )
    good = path.read_bytes()
    page = 4_096
    damages = {
        "header": os.urandom(100) + good[100:],
        "all of it": os.urandom(len(good)),
        "second page": good[:page] + os.urandom(page) + good[2 * page :],
        "the rest": good[:page] + os.urandom(len(good) - page),
        "its end is missing": good[: len(good) // 2],
    }

    for what, damaged in damages.items():
        path.write_bytes(damaged)
        with pytest.raises(actorq.CorruptStore) as caught:
            async with actorq.open_system(f"sqlite:///{path}", concurrency=0, processes=0):
                pass
        assert str(path) in str(caught.value), what
        assert path.read_bytes() == damaged, what


async def nobody(data: bytes) -> None:
    """Never runs."""


async def test_a_damaged_record_ends_its_task_and_keeps_nobody_from_the_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tasks.db"
    url = f"sqlite:///{path}"
    async with actorq.open_system(url, tasks=[step], concurrency=0) as system:
        torn = await system.submit(step.options(key="mine"), "torn")
        callless = await system.submit(step, "callless")
        after = await system.submit(step.options(after=[torn]), "after")
        needy = await system.submit(step, "needy", 0, callless.output)
        others = await system.submit_many(step.message(f"other {n}") for n in range(5))
        await system.pause("images")
    db = apsw.Connection(str(path))
    db.execute("UPDATE live SET head = zeroblob(100) WHERE id = ?", (torn.id,))
    db.execute("UPDATE live SET body = zeroblob(0) WHERE id = ?", (callless.id,))
    db.execute("UPDATE note SET value = x'c1' WHERE name = 'images'")
    db.close()
    ran.clear()

    told: list[Event] = []
    async with actorq.open_system(url, tasks=[step], instruments=[Teller(told)]) as system:
        for handle in others:
            assert (await system.handle(handle.id).wait()).status == "success"
        results = [
            await system.handle(handle.id).wait() for handle in (torn, callless, after, needy)
        ]
        page = await system.find(status="failure")
        paused = (await system.stats()).queues["images"].paused

    assert [str(result.status) for result in results] == ["failure"] * 4
    errors = [result.error for result in results if result.error is not None]
    assert [error.type.rpartition(".")[2] for error in errors] == [
        "CorruptStore", "CorruptStore", "DependencyFailed", "DependencyFailed",
    ]  # fmt: skip
    for error, handle in zip(errors, (torn, callless), strict=False):
        assert handle.id in error.message
    assert "if it had a key, that is lost with it" in errors[0].message
    assert {result.id for result in page.tasks} == {result.id for result in results}
    assert paused
    damages = [event.details for event in told if event.kind is EventKind.RECORD_DAMAGED]
    assert [details["id"] for details in damages] == ["pause images", torn.id, callless.id]
    assert ran == {f"other {n}": 1 for n in range(5)}


async def test_what_is_left_of_a_damaged_record_counts(tmp_path: Path) -> None:
    """Its key is not free, and it can be run again if its call is there and its name."""
    path = tmp_path / "tasks.db"
    url = f"sqlite:///{path}"
    async with actorq.open_system(url, tasks=[step], concurrency=0) as system:
        handle = await system.submit(step.options(key="mine"), "damaged")
    db = apsw.Connection(str(path))
    head = db.execute("SELECT head FROM live").get
    db.execute("UPDATE live SET head = ?", (head.replace(b"pending", b"p\0\0\0ing"),))
    db.close()
    ran.clear()

    async with actorq.open_system(url, tasks=[step], instruments=()) as system:
        result = await system.handle(handle.id).wait()
        again = await system.submit(step.options(key="mine"), "damaged")
        with pytest.raises(actorq.KeyConflict):
            await system.submit(step.options(key="mine"), "another")
        assert (again.id, again.existing, ran) == (handle.id, True, {})
        await system.retry(ids=[handle.id])
        value = await system.handle(handle.id).value()

    assert (str(result.status), result.name) == ("failure", step.name)
    assert (value, ran) == ("damaged", {"damaged": 1})


async def test_a_record_of_a_newer_version_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with actorq.open_system(f"sqlite:///{path}", tasks=[step], concurrency=0) as system:
        await system.submit(step.options(queue="images"), "newer")
    db = apsw.Connection(str(path))
    head = db.execute("SELECT head FROM live").get
    db.execute("UPDATE live SET head = ?", (head.replace(b"queue", b"color"),))
    db.close()

    with pytest.raises(actorq.CorruptStore, match=r"unknown option 'color'.*upgrade"):
        async with actorq.open_system(f"sqlite:///{path}", tasks=[step], instruments=()):
            pass


async def test_how_a_task_has_ended_that_cannot_be_read_is_told_to_whoever_waits(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tasks.db"
    url = f"sqlite:///{path}"
    async with actorq.open_system(url, tasks=[step], instruments=()) as system:
        handles = await system.submit_many(step.message(f"{n}") for n in range(3))
        for handle in handles:
            await handle.wait()
    db = apsw.Connection(str(path))
    bad = handles[1].id
    db.execute("UPDATE done SET head = x'c1' WHERE id = ?", (bad,))
    db.close()

    async with actorq.open_system(url, tasks=[step], instruments=()) as system:
        with trio.fail_after(5):
            result = await system.handle(bad).wait()
        assert (str(result.status), bad in str(result.reason)) == ("failure", True)
        with pytest.raises(actorq.CorruptStore, match=bad):
            await system.result(bad)
        page = await system.find(task=step)
        assert [(t.id, str(t.status)) for t in page.tasks] == [
            (handle.id, "success") for handle in reversed(handles)
        ]
        assert await system.retry(ids=[bad]) == 0
        assert await system.discard(ids=[bad]) == 1
        with pytest.raises(actorq.TaskNotFound):
            await system.result(bad)


class Teller:
    """Tells events to a list."""

    def __init__(self, told: list[Event]) -> None:
        self._told = told

    def event(self, event: Event) -> None:
        self._told.append(event)


# --- a commit that fails, each of them -----------------------------------------------------------

ran: Counter[str] = Counter()


@actorq.task
async def step(label: str, failures: int = 0, before: object = None) -> str:
    ran[label] += 1
    if ran[label] <= failures:
        raise ValueError(label)
    return label


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


async def play(system: actorq.System) -> dict[str, actorq.TaskResult[Any]]:
    """Do something of everything; return how each task ended."""
    retried = step.options(retry=actorq.Retry(attempts=2, delay=0))
    handles: list[actorq.TaskHandle[Any]] = [
        await system.submit(step, "one"),
        *await system.submit_many(step.message(label) for label in ("two", "three")),
        await system.submit(retried, "four", 1),
    ]
    merged = await system.submit(step.options(after=[handles[1]]), "five", 0, handles[0].output)
    keyed = [await system.submit(step.options(key="six"), "six") for _ in range(2)]
    assert keyed[0].id == keyed[1].id
    assert await system.call(step, "seven") == "seven"
    cancelled = await system.submit(forever)
    later = await system.submit(step.options(delay=3_600), "never")
    for handle in (cancelled, later):
        assert (await handle.cancel()).status == "cancelled"
    return {handle.id: await handle.wait() for handle in (*handles, merged, keyed[0], later)}


FAULTS: dict[str, dict[str, Any]] = {
    "not done": {"applied": False},
    "done, and its answer is lost": {"applied": True},
    "crash before": {"applied": False, "error": lambda: RuntimeError("a test breaks it")},
    "crash after": {"applied": True, "error": lambda: RuntimeError("a test breaks it")},
}


@pytest.mark.bound(120)
@pytest.mark.parametrize("fault", FAULTS)
async def test_whichever_commit_fails_each_task_runs_and_ends_once(
    tmp_path: Path, fault: str
) -> None:
    """The first, the second, and so on, until there is none that could fail."""
    number, failed = 0, True
    while failed:
        number += 1
        ran.clear()
        url = f"sqlite:///{tmp_path}/{number}.db"
        store = FaultyStore(open_store(url))
        store.fail("commit", number, **FAULTS[fault])
        async with actorq.open_system(
            store, tasks=[step, forever], processes=0, concurrency=4, instruments=()
        ) as system:
            results = await play(system)
            failed = store.faults > 0
            store.heal()

        again = {}
        async with actorq.open_system(url, concurrency=0, processes=0) as system:
            for id in results:
                again[id] = await system.result(id)
        assert again == results
        values = Counter(result.value for result in results.values())
        assert values == {"one": 1, "two": 1, "three": 1, "four": 1, "five": 1, "six": 1, None: 1}
        assert ran == {"one": 1, "two": 1, "three": 1, "four": 2, "five": 1, "six": 1, "seven": 1}
    assert number > 10
