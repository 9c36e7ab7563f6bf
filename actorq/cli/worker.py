"""``worker``: processes that run tasks for a queue node elsewhere, under a small parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from random import SystemRandom
from typing import Annotated

import trio
from cyclopts import Parameter, validators
from msgspec import structs

from actorq.cli import pipe
from actorq.cli.child import KILL_SECONDS, Child
from actorq.cli.crew import Crew
from actorq.cli.dialling import several
from actorq.cli.exits import Exit, Failure
from actorq.cli.modules import check_names
from actorq.cli.options import SECONDS, Drain, Json, Lifespan, LogLevel, Way
from actorq.cli.output import Out
from actorq.cli.process import SAY_SECONDS
from actorq.cli.stopping import Stopping, start_logging
from actorq.cli.teller import Teller

PARENT_SECONDS = KILL_SECONDS + 3.0
"""Within which a parent ends that was told to stop at once; its processes have less."""

_random = SystemRandom()


def worker(
    *modules: Annotated[str, Parameter(help="Modules with tasks, as shop.tasks: all are run.")],
    processes: Annotated[
        int,
        Parameter(
            env_var="ACTORQ_PROCESSES",
            validator=validators.Number(gte=1, lte=1_000),
            help="Worker processes.",
        ),
    ] = 1,
    concurrency: Annotated[
        int,
        Parameter(
            env_var="ACTORQ_CONCURRENCY",
            validator=validators.Number(gte=0, lte=100_000),
            help="Tasks at once in each of them, as coroutines or in threads.",
        ),
    ] = 100,
    cpu_processes: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=0, lte=1_000),
            help='Tasks with run_in="process" at once in each of them. [default: the CPUs, shared '
            "among them]",
        ),
    ] = None,
    lifespan: Lifespan = None,
    drain: Drain = 30.0,
    grace: Annotated[
        float,
        Parameter(validator=SECONDS, help="Seconds that a task which is handed back has to stop."),
    ] = 10.0,
    reload: Annotated[
        bool,
        Parameter(help="Start again when a source file below the current directory changes."),
    ] = False,
    log_level: LogLevel = "info",
    json: Json = False,
    way: Way = Way(),
) -> int:
    """Run tasks for a queue node, in one or several processes.

    A process that dies is started again, and its tasks at once run elsewhere. SIGTERM or Ctrl-C: no
    new work, running tasks have --drain seconds to finish, and what is left is handed back to the
    queue; the exit code is 0 when it has confirmed that. A second one stops at once.
    """
    start_logging(log_level)
    if not modules:
        raise Failure("name at least one module with tasks, as shop.tasks", Exit.USAGE)
    check_names(modules)
    work = pipe.Work(
        url=several("--url", way.url),
        token=None,
        ca=None if way.ca is None else str(way.ca),
        insecure=way.insecure,
        concurrency=concurrency,
        cpu_processes=_share(processes) if cpu_processes is None else cpu_processes,
        drain=drain,
        grace=grace,
        lifespan=lifespan,
        log_level=log_level,
        reload=reload,
        again=False,
    )
    return trio.run(_run, modules, work, way, processes, Out(json=json))


def _share(processes: int) -> int | None:
    """Return how many processes of its own each worker process has by default."""
    if processes == 1 or find_spec("trio_parallel") is None:
        return None  # as `actorq.open_worker` has it
    return -(-(os.cpu_count() or 1) // processes)


def _spread() -> float:
    return _random.uniform(-1.0, 1.0)


async def _run(modules: Sequence[str], work: pipe.Work, way: Way, processes: int, out: Out) -> Exit:
    def token() -> str | None:
        return way.token("worker")

    async def start(node: str, again: bool) -> Child:
        now = structs.replace(work, token=token(), again=again)
        # Programs that read our JSON are not to find what tasks print in it.
        return await Child.start(node, modules, now, stdout=sys.stderr if out.json else None)

    stopping = Stopping(work.drain, PARENT_SECONDS)
    crew = Crew(
        start,
        processes,
        stopping,
        Teller(way.transports(token()), token, random=_spread),
        patience=work.drain + 2 * work.grace + SAY_SECONDS,
        random=_spread,
        tell=lambda event, **details: out.say({"event": event, **details}),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        code = await crew.run()
        nursery.cancel_scope.cancel("the crew is gone")
    return code
