"""Real processes, real sockets: what is killed, stopped or cut off, and what holds all the same.

The queue node is in the process of the test, where all that it is told can be looked at, unless it
is what fails. Nothing waits for time to pass: tasks wait at gates that the test opens, and the test
waits for what the nodes write down. Where a promised time is checked, a machine that is busy with
other things has `SLACK` times as long.
"""

import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq import EventKind, TaskEventKind
from tests.end_to_end import nodes
from tests.end_to_end.nodes import Entry, Launcher, Log, Node, crew
from tests.end_to_end.proxy import Lifetime, open_proxy

LEASE = 2.0
"""Seconds instead of 15, where one has to pass."""
WINDOW = 5.0
SLACK = 3.0


class Queue:
    """A queue node in this process, what it was told, and what became of its tasks."""

    def __init__(self) -> None:
        self.told: Log[actorq.Event] = Log()
        self.feed: Log[actorq.TaskEvent] = Log()
        self.system: actorq.System

    def event(self, event: actorq.Event) -> None:
        self.told.add(event)

    @property
    def url(self) -> str:
        return self.system.addresses[0]

    async def read(self, subscription: actorq.Subscription) -> None:
        async for event in subscription:
            if isinstance(event, actorq.TaskEvent):
                self.feed.add(event)

    async def wait_told(self, kind: EventKind, count: int = 1, **details: Any) -> actorq.Event:
        return await self.told.wait(lambda e: _is(e, kind, details), count)

    def all_told(self, kind: EventKind, **details: Any) -> list[actorq.Event]:
        return self.told.all(lambda e: _is(e, kind, details))

    async def wait_started(self, id: str, count: int = 1) -> None:
        """Wait until the queue knows that the task has started so often."""
        await self.feed.wait(lambda e: e.id == id and e.kind is TaskEventKind.STARTED, count)

    def ends(self) -> list[str]:
        """Return the id of each task once for each of its ends."""
        return [e.id for e in self.feed.entries if e.kind is TaskEventKind.ENDED]


def _is(event: actorq.Event, kind: EventKind, details: dict[str, Any]) -> bool:
    return event.kind is kind and details.items() <= event.details.items()


@asynccontextmanager
async def open_queue(**settings: Any) -> AsyncGenerator[Queue]:
    """Open a queue node that runs no task itself; whoever was there may leave nothing in it."""
    queue = Queue()
    settings = {"listen": "ws://127.0.0.1:0", "drain": 0, "grace": 5, **settings}
    async with actorq.open_system(
        concurrency=0, processes=0, tasks=[nodes], instruments=[queue], **settings
    ) as queue.system:
        async with (
            queue.system.subscribe(buffer=10_000) as subscription,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(queue.read, subscription)
            yield queue
            nursery.cancel_scope.cancel()
        assert {name: size for name, size in queue.system.tables().items() if size} == {}


class Gate:
    """A named pipe; tasks wait until there is something in it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def open(self) -> None:
        os.write(self._pipe, bytes(100))  # more than there are processes that read it

    def close(self) -> None:
        os.close(self._pipe)


class Stage:
    """Where tasks wait, and what they have written down."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.diary: Log[Entry] = Log()
        self._folder = folder
        self._stack = stack

    def gate(self, key: str) -> Gate:
        gate = Gate(self._folder / key)
        self._stack.callback(gate.close)
        return gate

    async def wait(
        self, what: str, key: str | None = None, count: int = 1, *, by: Node | None = None
    ) -> Entry:
        """Return the n-th such entry of the diary, once it is written."""
        return await self.diary.wait(lambda entry: _fits(entry, what, key, by), count)

    def all(self, what: str, key: str | None = None, *, by: Node | None = None) -> list[Entry]:
        return self.diary.all(lambda entry: _fits(entry, what, key, by))

    async def read(self, pipe: trio.lowlevel.FdStream) -> None:
        rest = b""
        async for data in pipe:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.diary.add(Entry.read(line))


def _fits(entry: Entry, what: str, key: str | None, by: Node | None) -> bool:
    return (
        entry.what == what
        and (key is None or entry.key == key)
        and (by is None or entry.pid == by.pid)
    )


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("ACTORQ_TEST_FOLDER", str(tmp_path))
    os.mkfifo(tmp_path / "diary")
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack)
        # Open for writing, too: it does not end when the last of those who write has gone.
        diary = trio.lowlevel.FdStream(os.open(tmp_path / "diary", os.O_RDWR))
        async with diary, trio.open_nursery() as nursery:
            nursery.start_soon(stage.read, diary)
            yield stage
            nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.end()


# --- what is killed -------------------------------------------------------------------------


@pytest.mark.bound(90)
async def test_what_a_killed_process_held_runs_elsewhere_in_time_unless_that_is_what_kills(
    stage: Stage, launcher: Launcher
) -> None:
    """Within 1 s if its parent tells, and within 6 s if that was killed, too; three times."""
    gates = {key: stage.gate(key) for key in ("other", "a")}
    async with (
        open_queue() as queue,
        crew(queue.url, processes=2, concurrency=1) as workers,
    ):
        system = queue.system
        with launcher.node(nodes.worker, queue.url, 1) as elsewhere:
            other = await system.submit(nodes.hold, "other")
            await stage.wait("began", "other", by=elsewhere)
            await workers.wait("ready", 2)

            poison = await system.submit(nodes.kill_yourself, "poison")
            dead = await poison.wait()
            killed = stage.all("began", "poison")

            handle = await system.submit(nodes.hold, "a")  # there is no room but in the crew
            await stage.wait("began", "a")
            await queue.wait_started(handle.id)
            killed_at = workers.kill()
            gates["other"].open()
            again = await stage.wait("began", "a", by=elsewhere)
            gates["a"].open()
            results = [await other.wait(), await handle.wait()]

    assert len({entry.pid for entry in killed} | {elsewhere.pid}) == 4
    assert killed[1].at - killed[0].at < 1 * SLACK
    with pytest.raises(actorq.WorkerLost, match=r"died under it \(death 3; max_deliveries is 3"):
        dead.unwrap()
    ended = workers.log.all(lambda entry: entry["event"] == "ended")
    assert [(entry["pid"], entry["code"]) for entry in ended[:3]] == [
        (entry.pid, -signal.SIGKILL) for entry in killed
    ]
    assert WINDOW < again.at - killed_at < (WINDOW + 1) * SLACK
    assert [(r.value, r.attempts) for r in results] == [(elsewhere.pid, 1), (elsewhere.pid, 2)]
    assert [e.details["deaths"] for e in queue.all_told(EventKind.DELIVERY_LOST)] == [1, 2, 3, 1]


@pytest.mark.bound(60)
async def test_what_the_block_of_a_killed_client_owns_is_cancelled_after_the_window(
    stage: Stage, launcher: Launcher
) -> None:
    """And a cut that is shorter cancels nothing."""
    lost = ["a", "b"]
    gates = {key: stage.gate(key) for key in [*lost, "kept"]}
    async with open_queue() as queue, open_proxy(queue.url) as proxy:
        with (
            launcher.node(nodes.worker, queue.url) as worker,
            launcher.node(nodes.client, proxy.url, ["kept"]) as cut,
            launcher.node(nodes.client, queue.url, lost) as killed,
        ):
            for key in gates:
                await stage.wait("began", key)
            connected = len(queue.all_told(EventKind.CONNECTED))
            proxy.cut()
            await queue.wait_told(EventKind.CONNECTED, connected + 1)  # it is back

            killed_at = killed.send(signal.SIGKILL)
            ends = [await stage.wait("cancelled", key, by=worker) for key in lost]
            await queue.wait_told(EventKind.CLIENT_LOST, tasks=2)
            gates["kept"].open()
            await cut.wait()  # it leaves its block
            found = await queue.system.find()

    for end in ends:
        assert WINDOW < end.at - killed_at < (WINDOW + 1) * SLACK
    assert len(queue.all_told(EventKind.CLIENT_LOST)) == 1
    assert sorted((str(task.status), task.reason) for task in found.tasks) == [
        *2 * [("cancelled", "cancelled by scope: its client was out of reach for too long")],
        ("success", None),
    ]


# --- what is not heard of for a while -------------------------------------------------------


@pytest.mark.bound(60)
@pytest.mark.parametrize("how", ["stopped", "cut off in silence"])
async def test_a_worker_that_comes_back_after_its_lease_is_refused_and_its_tasks_cancelled(
    stage: Stage, launcher: Launcher, how: str
) -> None:
    """One that is stopped (SIGSTOP), and one whose network is half open: nothing closes."""
    gates = {key: stage.gate(key) for key in ("late", "late again", "long", "long again")}
    async with open_queue(lease=LEASE) as queue, open_proxy(queue.url) as proxy:
        with launcher.node(nodes.worker, proxy.url) as zombie:
            handles = {
                key: await queue.system.submit(nodes.hold, key, f"{key} again")
                for key in ("late", "long")
            }
            for key, handle in handles.items():
                await stage.wait("began", key, by=zombie)
                await queue.wait_started(handle.id)

            if how == "stopped":
                hushed_at = zombie.send(signal.SIGSTOP)
            else:
                hushed_at = time.monotonic()
                proxy.fall_silent()
            await queue.wait_told(EventKind.WORKER_LOST, tasks=2)
            with launcher.node(nodes.worker, queue.url) as other:
                again = [await stage.wait("began", key, by=other) for key in handles]
                gates["late"].open()
                if how == "stopped":
                    zombie.send(signal.SIGCONT)
                else:
                    await stage.wait("returned", "late", by=zombie)
                    proxy.heal()
                refused = await queue.wait_told(EventKind.STALE_RESULT)
                await stage.wait("cancelled", "long", by=zombie)
                gates["late again"].open()
                gates["long again"].open()
                results = [await handle.wait() for handle in handles.values()]

    for entry in again:
        assert LEASE / 2 < entry.at - hushed_at < LEASE * SLACK  # it begins with the last beat
    assert [(r.value, r.attempts) for r in results] == 2 * [(other.pid, 2)]
    assert refused.details["id"] == handles["late"].id
    assert len(queue.all_told(EventKind.STALE_RESULT)) == 1
    assert sorted(queue.ends()) == sorted(handle.id for handle in handles.values())


@pytest.mark.bound(60)
async def test_a_task_may_be_longer_than_its_lease_even_if_it_blocks_its_loop(
    stage: Stage, launcher: Launcher
) -> None:
    """Both run once; what comes meanwhile runs elsewhere."""
    gate = stage.gate("blocked")
    async with open_queue(lease=LEASE) as queue:
        call = queue.system.call
        with (
            launcher.node(nodes.worker, queue.url) as one,
            launcher.node(nodes.worker, queue.url) as another,
        ):
            here: set[int] = set()
            while here != {one.pid, another.pid}:
                here.add(await call(nodes.where))
            blocked = await queue.system.submit(nodes.block, "blocked")
            blocker = (await stage.wait("began", "blocked")).pid
            # Longer than any silence that either end of a connection endures: 9 s.
            free = await call(nodes.linger, "long", 5.5 * LEASE)
            many = await queue.system.submit_many(nodes.where.message() for _ in range(30))
            others = [await handle.value() for handle in many]  # more than one worker has slots for
            cut = queue.all_told(EventKind.DISCONNECTED)
            gate.open()
            result = await blocked.wait()

    assert {blocker, free} == {one.pid, another.pid}
    assert others == 30 * [free]
    assert (result.value, result.attempts) == (blocker, 1)
    assert [len(stage.all("began", key)) for key in ("blocked", "long")] == [1, 1]
    assert cut == queue.all_told(EventKind.WORKER_LOST) == []


@pytest.mark.bound(60)
async def test_a_queue_node_that_stood_still_gives_nobody_up(
    stage: Stage, launcher: Launcher
) -> None:
    """For longer than the lease, and until those who wait for it dial again."""
    gate = stage.gate("a")
    with launcher.node(nodes.queue, "ws://127.0.0.1:0", LEASE, 0) as queue:
        url = (await stage.wait("listening")).key
        told = Queue()
        with launcher.node(nodes.worker, url) as worker:
            async with (
                actorq.connect(url, tasks=[nodes], instruments=[told]) as client,
                client.open_nursery() as nursery,
            ):
                handles = [await nursery.submit(nodes.hold, "a") for _ in range(5)]
                await stage.wait("began", "a", 5)
                stopped_at = queue.send(signal.SIGSTOP)
                await told.wait_told(EventKind.DISCONNECTED)  # it has given up waiting
                stood_still = queue.send(signal.SIGCONT) - stopped_at
                handles.append(await nursery.submit(nodes.where))
                gate.open()
                results = [await handle.wait() for handle in handles]

    assert stood_still > LEASE
    assert stage.all("told owner_stalled")
    assert stage.all("told worker_lost") == stage.all("told client_lost") == []
    assert [(result.value, result.attempts) for result in results] == 6 * [(worker.pid, 1)]
    assert len(stage.all("began", "a")) == 5


# --- what is cut ----------------------------------------------------------------------------


CUTS = 8


def lifetimes(random: Random) -> Iterator[Lifetime]:
    """Cut in the upgrade or the hellos, and deep in the traffic; in either direction."""
    for number in range(CUTS):
        bytes_left = int(2 ** (random.uniform(0, 9) if number % 4 < 2 else random.uniform(9, 14)))
        yield (bytes_left, inf) if number % 2 else (inf, bytes_left)


@pytest.mark.bound(90)
@pytest.mark.parametrize("seed", [1])
async def test_a_thousand_results_arrive_over_connections_that_are_cut_at_any_byte(
    stage: Stage, launcher: Launcher, seed: int
) -> None:
    values: dict[int, int] = {}
    ids: dict[int, str] = {}

    async def square(client: actorq.Client, numbers: Iterator[int]) -> None:
        for number in numbers:
            handle = await client.submit(nodes.square, number)
            result = await handle.wait()
            assert result.id == handle.id
            ids[number], values[number] = handle.id, result.unwrap()

    async with (
        open_queue(max_results=0) as queue,  # what a client has missed is kept for it all the same
        open_proxy(queue.url, lifetimes(Random(f"{seed} near"))) as near,
        open_proxy(queue.url, lifetimes(Random(f"{seed} far"))) as far,
    ):
        with launcher.node(nodes.worker, far.url):
            numbers = iter(range(1_000))
            async with (
                actorq.connect(near.url, tasks=[nodes], instruments=()) as client,
                trio.open_nursery() as nursery,
            ):
                for _ in range(20):
                    nursery.start_soon(square, client, numbers)
            await queue.system.join()

    assert values == {number: number * number for number in range(1_000)}
    assert sorted(queue.ends()) == sorted(ids.values())
    assert near.cuts == CUTS
    assert far.cuts >= CUTS - 1  # one may be kept for the beats, which say little
    most = 1 + len(queue.all_told(EventKind.WORKER_LOST))
    runs = [len(stage.all("began", str(number))) for number in range(1_000)]
    assert 1 <= min(runs) <= max(runs) <= most


# --- what is not there ----------------------------------------------------------------------


@pytest.mark.bound(60)
async def test_a_client_waits_for_a_queue_node_that_is_not_there_and_knows_a_new_one_from_it(
    stage: Stage, launcher: Launcher, tmp_path: Path
) -> None:
    """A queue node in memory that starts again knows nothing of the former one's tasks."""
    stage.gate("a")
    url = f"ws+unix://{tmp_path / 'queue'}"
    told = Queue()
    ends: dict[str, object] = {}

    async def end_of(what: str, handle: actorq.TaskHandle[int]) -> None:
        try:
            ends[what] = await handle.value()
        except actorq.ActorqError as error:
            ends[what] = type(error)

    async def call(client: actorq.Client) -> None:
        ends["new"] = await client.call(nodes.where)

    async def start_when_nobody_answers(started: list[Node], stack: ExitStack) -> None:
        await told.wait_told(EventKind.CONNECT_FAILED)
        started.append(stack.enter_context(launcher.node(nodes.queue, url, LEASE, 10)))

    with ExitStack() as stack:
        first: list[Node] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_when_nobody_answers, first, stack)
            async with actorq.connect(
                url, connect_timeout=None, tasks=[nodes], instruments=[told]
            ) as client:
                done = await client.submit(nodes.where)
                assert await done.value() == first[0].pid
                pending = await client.submit(nodes.hold, "a")
                await stage.wait("began", "a")
                nursery.start_soon(end_of, "pending", pending)
                first[0].send(signal.SIGKILL)
                await first[0].wait()
                await told.wait_told(EventKind.DISCONNECTED)
                nursery.start_soon(call, client)
                await wait_all_tasks_blocked()
                second = stack.enter_context(launcher.node(nodes.queue, url, LEASE, 10))
                await told.wait_told(EventKind.CONNECTED, 2)
                await end_of("old", client.handle(done.id))
                await end_of("pending by id", client.handle(pending.id))

    assert ends == {
        "new": second.pid,
        "old": actorq.TaskNotFound,
        "pending": actorq.TaskNotFound,
        "pending by id": actorq.TaskNotFound,
    }


async def test_processes_forked_from_one_another_never_make_the_same_id(
    stage: Stage, launcher: Launcher
) -> None:
    with (
        launcher.node(nodes.make_id) as one,
        launcher.node(nodes.make_id) as another,
    ):
        ids = [(await stage.wait("id", by=node)).key for node in (one, another)]

    assert len({id[-16:] for id in ids}) == 2


# --- what nobody else may read --------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


@pytest.mark.parametrize("scheme", ["wss", "ws+unix"])
async def test_nodes_work_together_over(stage: Stage, scheme: str, certificates: Path) -> None:
    encrypted = scheme == "wss"
    own = (certificates / "cert.pem", certificates / "key.pem") if encrypted else None
    ca = certificates / "ca.pem" if encrypted else None
    listen = "wss://127.0.0.1:0" if encrypted else f"ws+unix://{certificates / 'queue'}"
    tokens = {"client": "client-token", "worker": "worker-token"}
    async with (
        open_queue(listen=listen, tls=own, tokens=tokens) as queue,
        actorq.open_worker(
            queue.url, tasks=[nodes], token="worker-token", tls=ca, processes=0, instruments=()
        ),
        actorq.connect(queue.url, token="client-token", tls=ca, instruments=()) as client,
    ):
        assert await client.call(nodes.where) == os.getpid()
        async with client.map(nodes.square, range(3)) as values:
            assert [value async for value in values] == [0, 1, 4]
