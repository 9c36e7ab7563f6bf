"""``worker``: processes that run tasks for a queue node elsewhere, under a small parent."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from random import SystemRandom
from typing import Annotated

import trio
from cyclopts import Parameter, validators

from actorq.cli import pipe
from actorq.cli.child import KILL_SECONDS, Child
from actorq.cli.credentials import read_token
from actorq.cli.crew import Crew, Start
from actorq.cli.dialling import DEFAULT_URL, dialled, several
from actorq.cli.exits import Exit, Failure
from actorq.cli.logs import start_logging
from actorq.cli.modules import check_names
from actorq.cli.options import Ca, Insecure, Json, LogLevel, TokenFile, Url
from actorq.cli.output import Out
from actorq.cli.process import SAY_SECONDS
from actorq.cli.stopping import Stopping
from actorq.cli.teller import Teller

PARENT_SECONDS = KILL_SECONDS + 3.0
"""Within which a parent ends that was told to stop at once; its processes have less."""

_random = SystemRandom()


def worker(
    *modules: Annotated[str, Parameter(help="Modules with tasks, as shop.tasks: all are run.")],
    url: Url = (DEFAULT_URL,),
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
    lifespan: Annotated[
        str | None,
        Parameter(
            help="module:attribute of the async context manager around all tasks of a process."
        ),
    ] = None,
    drain: Annotated[
        float,
        Parameter(
            env_var="ACTORQ_DRAIN",
            validator=validators.Number(gte=0),
            help="Seconds that running tasks have after SIGTERM, before they are handed back.",
        ),
    ] = 30.0,
    grace: Annotated[
        float,
        Parameter(
            validator=validators.Number(gte=0),
            help="Seconds that a task which is handed back has to stop.",
        ),
    ] = 10.0,
    reload: Annotated[
        bool,
        Parameter(help="Start again when a source file below the current directory changes."),
    ] = False,
    token_file: TokenFile = None,
    ca: Ca = None,
    insecure: Insecure = False,
    log_level: LogLevel = "info",
    json: Json = False,
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
    dialling = dialled(url, ca, insecure=insecure)
    read_token(token_file, "worker")
    if cpu_processes is None and processes > 1 and find_spec("trio_parallel") is not None:
        cpu_processes = -(-(os.cpu_count() or 1) // processes)
    urls = several(url)

    async def start(node: str, again: bool) -> Child:
        work = pipe.Work(
            url=urls,
            token=read_token(token_file, "worker"),
            ca=None if ca is None else str(ca),
            insecure=insecure,
            concurrency=concurrency,
            cpu_processes=cpu_processes,
            drain=drain,
            grace=grace,
            lifespan=lifespan,
            log_level=log_level,
            reload=reload,
            again=again,
        )
        # Programs that read our JSON are not to find what tasks print in it.
        return await Child.start(node, modules, work, stdout=sys.stderr if json else None)

    teller = Teller(dialling, lambda: read_token(token_file, "worker"), random=_spread)
    return trio.run(_run, start, processes, drain, grace, teller, Out(json=json))


def _spread() -> float:
    return _random.uniform(-1.0, 1.0)


async def _run(
    start: Start, processes: int, drain: float, grace: float, teller: Teller, out: Out
) -> Exit:
    def tell(event: str, **details: object) -> None:
        if out.json:
            out.data({"event": event, **details})

    stopping = Stopping(drain, PARENT_SECONDS)
    crew = Crew(
        start,
        processes,
        stopping,
        teller,
        patience=drain + 2 * grace + SAY_SECONDS,
        random=_spread,
        tell=tell,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        code = await crew.run()
        nursery.cancel_scope.cancel("the crew is gone")
    return code
