"""Chaos: real processes on one file, killed and stopped at any moment; what is promised must hold.

::

    python -m actorq.testing.chaos --rounds 200 --seed 7

A seed says what is done to whom in each round, and what the clients submit; the moments differ, as
processes are not alike twice. A round waits until results come in, so each recovers from the one
before. At the end all are killed and started once more, and everything must be done soon. Queue
nodes, workers and clients are on the loopback interface; they end with this process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from socket import socket
from typing import Any, Literal

import attrs
import trio

from actorq.client.client import Client
from actorq.system.remote import connect
from actorq.testing import chaos_nodes
from actorq.testing.chaos_nodes import told
from actorq.testing.chaos_verdict import Note, Notes, broken

CLIENTS, WORKERS = 3, 2
DONE_SECONDS = 6.0
"""From when all nodes have been started again, and one owns the store, until all has ended."""

STUCK_SECONDS = 30.0
"""Without a result, after which a run is given up."""

_LOOK_SECONDS = 0.01
_PORTS = range(20_000, 32_000)  # below those that dialling takes: nobody connects to itself

StrikeKind = Literal["kill", "stop", "fill"]


@attrs.frozen
class Strike:
    """What is done to somebody, in one strike.

    Attributes:
        kind: ``kill`` (SIGKILL, and start another), ``stop`` (SIGSTOP, and go on), or ``fill``
            (no file of its grows, as on a full disk, and then they may again).
        whom: The places of those that it is done to: ``queue-0``, ``worker-1``, ``client-2``.
        results: How many of them come in before.
        delay: Seconds after the last of those.
        seconds: How long it lasts.
        also: Places of those that are killed while others are stopped.
    """

    kind: StrikeKind
    whom: tuple[str, ...]
    results: int
    delay: float
    seconds: float
    also: tuple[str, ...] = ()


@attrs.frozen
class Plan:
    """A whole run."""

    seed: int
    rounds: tuple[Strike, ...]
    standby_from: int
    """The number of the round before which a second queue node is started."""


def plan_of(seed: int, rounds: int = 36) -> Plan:
    """Return the plan of a seed: in its first third there is one queue node, then there are two."""
    random = Random(seed)
    standby_from = rounds // 3
    return Plan(
        seed,
        tuple(_strike(random, number >= standby_from) for number in range(rounds)),
        standby_from,
    )


def _strike(random: Random, standby: bool) -> Strike:
    queues = [f"queue-{place}" for place in range(2 if standby else 1)]
    workers = [f"worker-{place}" for place in range(WORKERS)]
    client = f"client-{random.randrange(CLIENTS)}"
    queue, worker = random.choice(queues), random.choice(workers)
    other = tuple(place for place in queues if place != queue)
    kinds: list[tuple[StrikeKind, tuple[str, ...], tuple[str, ...], int]] = [
        ("kill", (queue,), (), 8),
        ("kill", (worker,), (), 8),
        ("kill", tuple(workers), (), 2),
        ("kill", tuple(queues), (), 2),
        ("kill", (queue, worker), (), 3),
        ("kill", (*queues, *workers), (), 2),
        ("kill", (client,), (), 2),
        ("stop", (queue,), (), 1),
        ("stop", (queue,), other, 3 if standby else 0),
        ("stop", (worker,), (), 1),
        ("fill", (queue,), (), 2),
    ]
    kind, whom, also, _ = random.choices(kinds, [weight for *_, weight in kinds])[0]
    gone = random.uniform(0.0, 0.5) if kind == "kill" else random.uniform(0.2, 1.5)
    shuffled = tuple(random.sample(whom, len(whom)))
    return Strike(kind, shuffled, random.randint(5, 60), random.uniform(0.0, 0.1), gone, also)


# --- processes -----------------------------------------------------------------------------------


class Node:
    """A process that the launcher has forked.

    Attributes:
        name: Which one it is; no two have the same.
        pid: Its process id.
    """

    def __init__(self, name: str, pid: int) -> None:
        self.name: str = name
        self.pid: int = pid
        self._descriptor = os.pidfd_open(pid)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended does not mind."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def limit(self, size: int | None) -> None:
        """Let none of its files be larger."""
        import resource  # which Windows has not

        _, most = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))

    async def wait(self) -> None:
        """Return when it has ended."""
        await trio.lowlevel.wait_readable(self._descriptor)

    def close(self) -> None:
        """Forget it."""
        os.close(self._descriptor)


class Launcher:
    """The process that forks nodes; they end with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._errors = (folder / "errors").open("wb")
        program = f"from {chaos_nodes.__name__} import launch; launch()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,  # Ctrl-C is for whoever runs this
        )

    def start(self, role: str, name: str, **arguments: Any) -> Node:
        """Start a node."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"role": role, "node": name, "folder": str(self._folder), "arguments": arguments}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Node(name, int(self._process.stdout.readline()))

    def end(self) -> None:
        """End all nodes."""
        with self._process, self._errors:
            pass  # which closes its standard input, and waits for it


# --- a run ---------------------------------------------------------------------------------------


class Stuck(Exception):
    """Nothing goes on any more."""


class Chaos:
    """One run of a plan, in an empty folder; `run` it.

    Attributes:
        kills: How many processes were killed.
        up: Seconds from the last start of a node until one owned the store.
        seconds: From then until everything had ended, and everybody had been told.
        notes: What all processes have noted so far.
        stored: What the queue had of each task at the end, by id.
    """

    def __init__(
        self, plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare it; ``say`` is told what is done."""
        self.kills: int = 0
        self.up: float = 0.0
        self.seconds: float = 0.0
        self.notes: Notes = Notes(folder)
        self.stored: dict[str, dict[str, Any]] = {}
        self._plan = plan
        self._folder = folder
        self._say = say
        self._random = Random(plan.seed + 1)
        self._launcher: Launcher
        self._nodes: dict[str, Node] = {}
        """By their place: whoever is at ``queue-0`` now."""
        self._started = 0
        self._urls = [f"ws://127.0.0.1:{port}" for port in free_ports(2)]

    @property
    def store(self) -> str:
        """The URL of the file that all of it is about."""
        return f"sqlite:///{self._folder / 'tasks.db'}"

    async def run(self) -> list[str]:
        """Play it to the end; return what was broken, in words."""
        complaints: list[str] = []
        self._launcher = Launcher(self._folder)
        try:
            await self._play()
        except Stuck as stuck:
            complaints.append(str(stuck))
        finally:
            self._launcher.end()
            for node in self._nodes.values():
                node.close()
        self.notes.read()
        return complaints + broken(self.notes.all, self.stored)

    async def _play(self) -> None:
        self._start("queue-0")
        for place in range(WORKERS):
            self._start(f"worker-{place}")
        for place in range(CLIENTS):
            self._start(f"client-{place}")
        for number, strike in enumerate(self._plan.rounds):
            if number == self._plan.standby_from:
                self._start("queue-1")
            await self._results(strike.results)
            await trio.sleep(strike.delay)
            self._say(f"round {number + 1}: {_words(strike)}")
            await self._do(strike)
        await self._settle()

    def _start(self, place: str) -> None:
        role, _, number = place.partition("-")
        self._started += 1
        arguments: dict[str, Any] = {"urls": self._urls}
        if role == "queue":
            arguments = {"store": self.store, "url": self._urls[int(number)]}
        elif role == "client":
            calm, seed = str(self._folder / "calm"), self._random.getrandbits(32)
            arguments |= {"seed": seed, "calm": calm}
        self._nodes[place] = self._launcher.start(role, f"{place}.{self._started}", **arguments)

    async def _results(self, count: int) -> None:
        """Wait until so many more results have come in, of those whose clients are alive."""
        await self._until(lambda note: note.what == "told", count)

    async def _until(self, fits: Callable[[Note], bool], count: int) -> None:
        give_up = trio.current_time() + STUCK_SECONDS
        self.notes.read()
        while count > 0:
            if trio.current_time() > give_up:
                raise Stuck(f"nothing has happened for {STUCK_SECONDS:g} s")
            await trio.sleep(_LOOK_SECONDS)
            for note in self.notes.read():
                if note.what == "crashed":
                    raise Stuck(f"{note.node} has crashed")
                count -= fits(note)

    async def _do(self, strike: Strike) -> None:
        do = {"kill": self._kill_some, "stop": self._stop_some, "fill": self._fill_some}
        await do[strike.kind](strike)

    async def _kill_some(self, strike: Strike) -> None:
        for place in strike.whom:  # all at once
            self._nodes[place].send(signal.SIGKILL)
        for place in strike.whom:
            await self._kill(place)
        await trio.sleep(strike.seconds)
        for place in sorted(strike.whom):
            self._start(place)

    async def _stop_some(self, strike: Strike) -> None:
        for place in strike.whom:
            self._note("stopped", place)
            self._nodes[place].send(signal.SIGSTOP)
        for place in strike.also:
            await self._kill(place)
        await trio.sleep(strike.seconds)
        for place in strike.whom:
            self._nodes[place].send(signal.SIGCONT)
            self._note("goes on", place)
        for place in strike.also:
            self._start(place)

    async def _fill_some(self, strike: Strike) -> None:
        largest = max(path.stat().st_size for path in self._folder.glob("tasks.db*"))
        for place in strike.whom:
            self._note("full", place)
            self._nodes[place].limit(largest)
        await trio.sleep(strike.seconds)
        for place in strike.whom:
            self._nodes[place].limit(None)
            self._note("has room", place)

    async def _kill(self, place: str) -> None:
        node = self._nodes[place]
        node.send(signal.SIGKILL)
        await node.wait()
        self._note("killed", place)
        node.close()
        self.kills += 1

    def _note(self, what: str, place: str) -> None:
        now = time.monotonic()
        self.notes.all.append(Note(now, "chaos", what, {"whom": self._nodes[place].name}))

    # --- the end ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Kill and start all once more, and let everything end; then look what there is."""
        self._say("the end: all are killed once more")
        (self._folder / "calm").touch()
        queues = [place for place in self._nodes if place.startswith("queue")]
        workers = [place for place in self._nodes if place.startswith("worker")]
        for place in (*queues, *workers):
            await self._kill(place)
        for place in (*queues, *workers):
            self._start(place)
        started, ended = time.monotonic(), 0.0
        clients = [self._nodes[place] for place in self._nodes if place.startswith("client")]
        with trio.move_on_after(STUCK_SECONDS):
            async with connect(self._urls, instruments=()) as client:
                await client.join()
                for node in clients:
                    await node.wait()
                ended = time.monotonic()
                await self._look(client)
        if not ended:
            raise Stuck(f"not all has ended {STUCK_SECONDS:g} s after the last start of a node")
        self.notes.read()
        owning = max(
            note.at for note in self.notes.all
            if note.what == "event" and note.details["kind"] == "owning"
        )  # fmt: skip
        self.up, self.seconds = owning - started, ended - max(owning, started)
        for place in (*workers, *queues):
            self._nodes[place].send(signal.SIGTERM)
            with trio.move_on_after(STUCK_SECONDS) as scope:
                await self._nodes[place].wait()
            if scope.cancelled_caught:
                raise Stuck(f"{place} has not ended {STUCK_SECONDS:g} s after SIGTERM")

    async def _look(self, client: Client) -> None:
        cursor: str | None = None
        while True:
            page = await client.find(limit=1_000, cursor=cursor)
            self.stored |= {result.id: told(result) for result in page.tasks}
            cursor = page.next
            if cursor is None:
                return


def _words(strike: Strike) -> str:
    also = f", and {' and '.join(strike.also)} killed" if strike.also else ""
    done = {"kill": "killed", "stop": "stopped", "fill": "without room"}[strike.kind]
    return f"{' and '.join(strike.whom)} {done} for {strike.seconds:.2f} s{also}"


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens at, now."""
    ports: list[int] = []
    while len(ports) < count:
        port = Random().choice(_PORTS)
        with socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


# --- from the shell ------------------------------------------------------------------------------

ROUNDS_MAX = 100
"""In one run; a new file is begun with the next."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many rounds; print what is done, and what breaks. Return 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m actorq.testing.chaos")
    parser.add_argument("--rounds", type=int, default=300, help="how many, over all seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    given = parser.parse_args(arguments)
    seed, left = given.seed, given.rounds
    while left > 0:
        plan = plan_of(seed, min(left, ROUNDS_MAX))
        folder = Path(tempfile.mkdtemp(prefix="actorq-chaos-"))
        chaos = Chaos(plan, folder, _say)
        complaints = trio.run(chaos.run)
        _say(f"seed {seed}: {chaos.kills} kills, {len(chaos.stored)} tasks stored,")
        _say(f"  at the end, one owned the store after {chaos.up:.1f} s, and all was done")
        _say(f"  {chaos.seconds:.1f} s later")
        if complaints or chaos.seconds > DONE_SECONDS:
            (folder / "story").write_text("\n".join(map(str, chaos.notes.all)), "utf-8")
            _say(*(f"  - {said}" for said in complaints), f"all of it is in {folder}")
            return 1
        shutil.rmtree(folder)
        seed, left = seed + 1, left - ROUNDS_MAX
    return 0


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
