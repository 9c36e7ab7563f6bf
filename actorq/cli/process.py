"""One worker process; ``python -m actorq.cli.process NODE MODULE...``, as its parent starts it.

It ends with 0 when the queue has confirmed all that it had, with 3 when it stopped before that, and
with 1 when it could not work. When its parent is gone it drains, and ends: a thread listens for
that, so that a task which blocks the loop does not keep it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import trio

from actorq.cli import pipe
from actorq.cli.dialling import dialled
from actorq.cli.exits import Exit, Failure, spoken
from actorq.cli.modules import Lifespan, load_lifespan, load_modules
from actorq.cli.sources import Sources
from actorq.cli.stopping import Stopping, end_for_sure, start_logging
from actorq.errors import ActorqError, TransportError, leaves
from actorq.system.worker import WorkerNode, open_worker

LOOK_SECONDS = 0.5
"""Between two looks at the source files."""

SAY_SECONDS = 25.0
"""Beyond its drain and grace, for the queue to confirm the end, whoever has to be dialled."""


class Parent:
    """The parent's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._orders = line.makefile("rb")
        self._lock = threading.Lock()
        self._deliver: Callable[[pipe.Order | None], None] | None = None

    @classmethod
    def take(cls) -> Parent:
        """Take the line from standard input, where tasks find nothing instead."""
        line = socket.socket(fileno=os.dup(0))
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is what is needed
            os.dup2(nothing.fileno(), 0)
        return cls(line)

    def work(self) -> pipe.Work:
        """Return the first order."""
        order = pipe.read_order(self._orders.readline())
        assert isinstance(order, pipe.Work)
        return order

    def say(self, report: pipe.Report) -> None:
        """Tell the parent something, if it is still there."""
        with suppress(OSError):
            self._line.sendall(pipe.line_of(report))

    def listen(self) -> None:
        """From now on, take orders in a thread; None stands for the parent's end."""
        threading.Thread(target=self._listen, name="actorq parent", daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            for line in self._orders:
                self._take(pipe.read_order(line))
        self._take(None)

    def _take(self, order: pipe.Order | None) -> None:
        with self._lock:
            if self._deliver is None:
                os._exit(Exit.OK)  # nothing runs yet, but perhaps an import
            self._deliver(order)

    def deliver_to(self, deliver: Callable[[pipe.Order | None], None]) -> None:
        """Hand orders to this one, which is called in the thread, from now on."""
        with self._lock:
            self._deliver = deliver


def main(arguments: Sequence[str]) -> int:
    """Be a worker process; return its exit code."""
    node, *names = arguments
    parent = Parent.take()
    work = parent.work()
    parent.listen()
    start_logging(work.log_level)
    began = time.time()
    try:
        modules = load_modules(names)
        lifespan = load_lifespan(work.lifespan)
    except Failure as failure:
        parent.say(pipe.Failed(str(failure), failure.details))
        if work.reload and work.again:
            _wait_for_change(parent, Sources(Path.cwd(), began, names))
        return Exit.FAILED
    sources = Sources(Path.cwd(), began) if work.reload else None
    try:
        return trio.run(_work, parent, work, node, modules, lifespan, sources)
    except BaseException as error:  # noqa: BLE001 - the parent shows it
        parent.say(_failed(error))
        return Exit.FAILED


def _wait_for_change(parent: Parent, around: Sources) -> None:
    """Wait until what could not be imported may be in order."""
    while True:
        time.sleep(LOOK_SECONDS)
        if changed := around.changed():
            parent.say(pipe.Changed(tuple(map(str, changed))))
            return


def _failed(error: BaseException) -> pipe.Failed:
    found = next(leaves(error))
    if isinstance(found, Failure | TransportError):
        return pipe.Failed(spoken(str(found)))
    message = str(found) if isinstance(found, ActorqError) else repr(found)
    return pipe.Failed(message, "".join(traceback.format_exception(error)).rstrip())


async def _work(
    parent: Parent,
    work: pipe.Work,
    node: str,
    modules: Sequence[ModuleType],
    lifespan: Lifespan | None,
    sources: Sources | None,
) -> Exit:
    stopping = Stopping(work.drain)
    complete = False
    ca = Path(work.ca) if work.ca else None
    dialling = dialled(work.url, ca, insecure=work.insecure, secret=work.token is not None)
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        with stopping.scope:
            async with open_worker(
                dialling,
                tasks=modules,
                concurrency=work.concurrency,
                processes=work.cpu_processes,
                lifespan=lifespan,
                token=work.token,
                drain=0.0,  # there is a drain before that
                grace=work.grace,
                node=node,
            ) as worker:
                parent.deliver_to(_orders_for(stopping, work))
                nursery.start_soon(_report_ready, parent, worker)
                if sources is not None:
                    nursery.start_soon(_reload, parent, stopping, sources)
                await stopping.asked.wait()
                complete = await worker.drain(stopping.seconds)
                if not complete:
                    stopping.scope.cancel("the queue has not confirmed all")
        nursery.cancel_scope.cancel("the worker has ended")
    return Exit.OK if complete else Exit.CUT_OFF


def _orders_for(stopping: Stopping, work: pipe.Work) -> Callable[[pipe.Order | None], None]:
    """Return what carries orders from the thread into the loop."""
    token = trio.lowlevel.current_trio_token()

    def deliver(order: pipe.Order | None) -> None:
        if order is None:
            end_for_sure(work.drain + 2 * work.grace + SAY_SECONDS)
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(stopping.hurry if isinstance(order, pipe.Stop) else stopping.ask)

    return deliver


async def _report_ready(parent: Parent, worker: WorkerNode) -> None:
    with suppress(TransportError):  # the worker raises it
        await worker.wait_connected()
        parent.say(pipe.Ready())


async def _reload(parent: Parent, stopping: Stopping, sources: Sources) -> None:
    """Look at the source files; hand everything back when one of them has changed."""
    while True:
        if changed := sources.changed():
            parent.say(pipe.Changed(tuple(map(str, changed))))
            stopping.ask(0.0)
            return
        await trio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
