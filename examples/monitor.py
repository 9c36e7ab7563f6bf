"""Watch tasks: in a live table on a terminal, in lines elsewhere.

    python examples/monitor.py [| cat]

All that a monitor needs is `subscribe`: how things stand, then whatever happens, in order. It goes
on until the system is closed. What it watches is made up: tasks that say how far they are, that
fail and are tried again, that are cancelled, and some that come faster than it can read. They sleep
where real ones would wait for a disk or the network, so that there is something to see meanwhile.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

import actorq
from actorq import Lagged, Snapshot, TaskEvent, TaskEventKind, TaskStatus

BUFFER = 10  # events that wait for the monitor: so few that it misses some
KEPT = 5  # tasks without success that stay in the table
COLUMNS = {"Task": 14, "Status": 9, "Tries": 5, "Progress": 12, "": 21}

Told = Snapshot | TaskEvent | Lagged


# --- What is watched ---------------------------------------------------------------------


@actorq.task
async def download(parts: int) -> None:
    for part in range(parts):
        actorq.current().progress(part, parts)
        await trio.sleep(0.4)


@actorq.task(retry=actorq.Retry(attempts=3, delay=0.5, jitter=0))
async def upload() -> None:
    await trio.sleep(0.3)
    if actorq.current().attempt < 3:
        raise ConnectionError("the other end hung up")


@actorq.task
async def convert() -> None:
    await trio.sleep(0.6)
    raise ValueError("that is no picture")


@actorq.task
async def ping() -> str:
    return "pong"


async def work(system: actorq.System) -> None:
    # With pauses, as people ask for one thing after the other: they see the table change.
    movie = await system.submit(download.options(meta={"file": "movie"}), 1_000)
    await trio.sleep(0.5)
    await system.submit(download.options(meta={"file": "song"}), 6)
    await system.submit(upload.options(meta={"file": "backup"}))
    await system.submit(download.options(meta={"file": "news"}, delay=1), 4)
    await trio.sleep(0.5)
    await system.submit(convert.options(meta={"file": "notes"}))
    await system.submit_many(ping.message() for _ in range(2 * BUFFER))
    await trio.sleep(1)
    await movie.cancel("nobody wants to see it")
    await system.join()


# --- Who watches -------------------------------------------------------------------------


async def monitor(system: actorq.System, console: Console) -> None:
    await trio.sleep(0.2)  # it may come late
    async with system.subscribe(buffer=BUFFER) as events:
        with shown(console) as show, suppress(actorq.ActorDied):  # the system is closed
            async for told in events:
                show(told)


@contextmanager
def shown(console: Console) -> Generator[Callable[[Told], None], None, None]:
    """Yield what shows the newest that was told: in a table, or in a line."""
    if not console.is_terminal:
        yield lambda told: console.print(line(told), soft_wrap=True)
        return
    board = Board()
    with Live(console=console, refresh_per_second=10) as live:  # however often it is updated

        def update(told: Told) -> None:
            board.take(told)
            live.update(board.table())

        yield update


def line(told: Told) -> str:
    match told:
        case Snapshot(counts=counts):
            return f"at first: {numbers(counts)}"
        case Lagged(count=count):
            return f"(missed {count} events)"
        case TaskEvent(at=at, kind=kind, status=status):
            words = f"{label(told):15} {kind:9} {status:9} {note(told)}"
            return f"{at.astimezone():%T}  {words}".rstrip()


@dataclass
class Board:
    """Who is live and what became of the others, as far as the monitor was told."""

    at_first: Mapping[TaskStatus, int] = field(default_factory=dict)
    live: dict[str, TaskEvent] = field(default_factory=dict)
    troubles: deque[TaskEvent] = field(default_factory=partial(deque, maxlen=KEPT))
    ended: Counter[TaskStatus] = field(default_factory=Counter)
    missed: int = 0

    def take(self, told: Told) -> None:
        match told:
            case Snapshot(counts=counts):  # again after a crash of the queue actor
                self.at_first = self.at_first or counts
            case Lagged(count=count):
                self.missed += count
            case TaskEvent(kind=TaskEventKind.ENDED):  # never missed
                self.live.pop(told.id, None)
                self.ended[told.status] += 1
                if told.status is not TaskStatus.SUCCESS:
                    self.troubles.append(told)
            case TaskEvent():
                self.live[told.id] = told

    def table(self) -> Table:
        table = Table(title=f"At first: {numbers(self.at_first)}")
        table.caption = f"Since then: {numbers(self.ended)}; missed {self.missed} events"
        for title, width in COLUMNS.items():
            table.add_column(title, width=width, no_wrap=True)
        for event in (*self.live.values(), *self.troubles):
            progress = event.progress
            bar = ProgressBar(progress.total, progress.done) if progress else ""
            table.add_row(label(event), event.status, str(event.attempts), bar, note(event))
        return table


def numbers(counts: Mapping[TaskStatus, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def label(event: TaskEvent) -> str:
    return f"{event.name.rpartition(':')[2]} {event.meta.get('file', '')}".rstrip()


def note(event: TaskEvent) -> str:
    if event.error is not None:
        return event.error.message
    if event.status is TaskStatus.CANCELLED:
        return event.reason or ""
    if event.progress is not None:
        return f"{event.progress.done:g} of {event.progress.total:g}"
    return ""


async def main(console: Console) -> None:
    async with trio.open_nursery() as nursery, actorq.open_system(concurrency=4) as system:
        nursery.start_soon(monitor, system, console)
        await work(system)


def run() -> int:
    try:
        console = Console(markup=False, highlight=False)
        # Ctrl-C is to arrive where this waits, and not while it draws the table.
        trio.run(main, console, restrict_keyboard_interrupt_to_checkpoints=True)
        return 0
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(run())
