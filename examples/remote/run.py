"""Index a folder of Python files in several processes, one of which is killed in the middle.

    python examples/remote/run.py [FOLDER] [--limit N]

It starts a queue node and two workers, connects to the queue, and submits a task for each file.
When a third of them is done, one worker gets a `kill -9`, with tasks in hand. The queue gives it 5
seconds to come back, and then has the other one run those tasks again. At the end each file has one
result. All that was started ends with this program, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from tasks import Module, find_files, index

import actorq

HERE = Path(__file__).parent
WORKERS = SURVIVOR, VICTIM = "anna", "ben"


# --- The nodes ---------------------------------------------------------------------------


async def run_nodes(files: list[Path], console: Console) -> Report:
    """Start the queue and the workers, be their client, and end them in reverse order."""
    tokens = {"client": secrets.token_urlsafe(), "worker": secrets.token_urlsafe()}
    with written(tokens) as token_file:
        async with open_node(console, "queue", "queue_node.py", token_file) as queue:
            url = await first_line(queue)
            console.print(f"queue: process {queue.pid} listens at {url}")
            open_worker = partial(open_node, console, token=tokens["worker"])
            async with (
                open_worker(SURVIVOR, "worker_node.py", url, SURVIVOR),
                open_worker(VICTIM, "worker_node.py", url, VICTIM) as victim,
                actorq.connect(url, token=tokens["client"]) as client,
            ):
                return await index_files(client, files, victim, console)


@contextmanager
def written(tokens: dict[str, str]) -> Iterator[Path]:
    """Write tokens to a file as `actorq serve` takes it too, in a folder that is ours alone."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "tokens")
        file.write_text("".join(f"{role}:{token}\n" for role, token in tokens.items()))
        yield file


@asynccontextmanager
async def open_node(
    console: Console, name: str, program: str, *arguments: str | Path, token: str = ""
) -> AsyncGenerator[trio.Process, None]:
    """Run a program of this folder as long as the block lasts; then have it end, and wait."""
    process = partial(
        trio.run_process,  # cancelled, it sends a SIGTERM, and a SIGKILL when that does not help
        [sys.executable, HERE / program, *arguments],
        env=os.environ | {"ACTORQ_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        start_new_session=True,  # Ctrl-C at the terminal is for this program alone
    )
    async with trio.open_nursery() as nursery:
        running: trio.Process = await nursery.start(process)
        nursery.start_soon(relay, running, name, console)
        yield running
        nursery.cancel_scope.cancel()


async def first_line(process: trio.Process) -> str:
    """Return what a node prints first."""
    line = b""
    assert process.stdout is not None
    async for chunk in process.stdout:
        line += chunk
        if line.endswith(b"\n"):
            return line.decode().strip()
    raise RuntimeError("the queue node did not start")


async def relay(process: trio.Process, name: str, console: Console) -> None:
    """Print what a node reports."""
    assert process.stderr is not None
    async for chunk in process.stderr:
        for line in chunk.decode(errors="replace").splitlines():
            console.print(f"{name}: {line}", style="yellow")


# --- The client --------------------------------------------------------------------------


@dataclass
class Report:
    total: int
    results: dict[Path, actorq.TaskResult[tuple[Module, float]]] = field(default_factory=dict)
    killed: bool = False
    ends: int = 0
    """Tasks that have ended, as the queue has counted them."""
    lost: int = 0
    """Grants that were lost with a worker, likewise."""

    @property
    def complete(self) -> bool:
        return len(self.results) == self.ends == self.total

    @property
    def done_by(self) -> Counter[str]:
        workers = (result.worker or "" for result in self.results.values())
        return Counter(worker.partition(".")[0] for worker in workers)

    def __str__(self) -> str:
        failed = sum(not result.ok for result in self.results.values())
        return (
            f"{self.total:,} files, {len(self.results):,} results ({failed:,} do not parse); "
            f"the queue has counted {self.ends:,} ends.\n"
            f"{self.lost:,} tasks were lost with {VICTIM}, and run again."
        )


async def index_files(
    client: actorq.Client, files: list[Path], victim: trio.Process, console: Console
) -> Report:
    report = Report(len(files))
    with Live(console=console, transient=True) as live:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, client, report, live)
            handles = await client.submit_many(index.message(file) for file in files)
            file_of = {handle.id: file for handle, file in zip(handles, files, strict=True)}
            async for result in client.as_completed(handles):
                report.results[file_of[result.id]] = result
                tell_progress(report, console)
                if not report.killed and len(report.results) > len(files) // 3:
                    report.killed = True
                    await kill(client, victim, console)
            nursery.cancel_scope.cancel()
    console.print(await overview(client, report))
    stats = await client.stats()
    report.ends = stats.success + stats.failure + stats.cancelled
    report.lost = stats.lost
    return report


async def kill(client: actorq.Client, victim: trio.Process, console: Console) -> None:
    """End a worker as a power failure would."""
    for worker in (await client.tree()).workers:
        if worker.worker.startswith(VICTIM):
            victim.kill()
            said = f"kill -9 {victim.pid}: {VICTIM} had {worker.running} tasks in hand"
            console.print(said, style="bold red")


def tell_progress(report: Report, console: Console) -> None:
    done = len(report.results)
    if not console.is_terminal and (done == report.total or not done % max(1, report.total // 10)):
        console.print(f"{done:,} of {report.total:,} files")


async def watch(client: actorq.Client, report: Report, live: Live) -> None:
    while True:
        live.update(await overview(client, report))
        await trio.sleep(0.25)


async def overview(client: actorq.Client, report: Report) -> Table:
    """Return a table of the workers, as the queue sees them."""
    known = {w.worker.partition(".")[0]: w for w in (await client.tree()).workers}
    done = f"{len(report.results):,} of {report.total:,} done"
    table = Table("Worker", "State", "In hand", done)
    for name in WORKERS:
        worker = known.get(name)
        if worker is None:
            state = "given up" if report.killed else "starting"
        else:
            state = "connected" if worker.connected else "out of reach"
        in_hand = str(worker.running) if worker else "-"
        table.add_row(name, state, in_hand, f"{report.done_by[name]:,}")
    return table


# --- The program -------------------------------------------------------------------------


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index a folder; kill a worker meanwhile.")
    stdlib = Path(sysconfig.get_path("stdlib"))
    parser.add_argument("folder", nargs="?", type=Path, default=stdlib, help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="index only the first N files")
    options = parser.parse_args()
    options.files = find_files(options.folder)[: options.limit]
    if not options.files:
        parser.exit(2, f"{parser.prog}: error: {options.folder}: no Python files in it\n")
    return options


def main() -> int:
    options, console = read_arguments(), Console(highlight=False, markup=False, soft_wrap=True)
    try:
        # Ctrl-C is to arrive where this waits, and not while it draws the table.
        report = trio.run(
            run_nodes, options.files, console, restrict_keyboard_interrupt_to_checkpoints=True
        )
        console.print(str(report), style="bold green" if report.complete else "bold red")
        return 0 if report.complete else 1
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
