"""``serve``: a queue node, and workers in it if it is given tasks."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import attrs
import trio
from cyclopts import Group, Parameter

from actorq.cli.credentials import certificate
from actorq.cli.dialling import DEFAULT_URL, several, transports
from actorq.cli.exits import Exit, Failure, usage
from actorq.cli.logs import start_logging
from actorq.cli.modules import check_names, load_lifespan, load_modules
from actorq.cli.options import Drain, Json, LogLevel
from actorq.cli.output import Out
from actorq.cli.stopping import Stopping
from actorq.client.feed import Subscription
from actorq.contracts.transport import Transport
from actorq.errors import ActorDied
from actorq.model.feed import TaskEvent
from actorq.system.backends import open_store
from actorq.system.settings import Settings
from actorq.system.system import System, open_system
from actorq.system.tokens import Tokens

_log = logging.getLogger("actorq.cli")

LISTENING = Group("Listening", sort_key=10)
BOUNDS = Group("Bounds", sort_key=20)


@Parameter(name="*", group=LISTENING)
@attrs.frozen
class Listening:
    """Where others may connect, and who they must be."""

    listen: Annotated[
        tuple[str, ...],
        Parameter(
            env_var="ACTORQ_LISTEN",
            help="Where to listen: ws://HOST:PORT, wss://HOST:PORT or ws+unix:///PATH; may be "
            "repeated. Port 0 is any free one.",
        ),
    ] = (DEFAULT_URL,)
    token_file: Annotated[
        Path | None,
        Parameter(
            env_var="ACTORQ_TOKEN_FILE",
            help="A file with lines role:token, for those who may connect; the roles are client, "
            "worker and admin. Read again on SIGHUP. Without it, the token in ACTORQ_TOKEN is "
            "asked of everybody, if there is one.",
        ),
    ] = None
    tls_cert: Annotated[
        Path | None, Parameter(env_var="ACTORQ_TLS_CERT", help="For wss://: the certificate.")
    ] = None
    tls_key: Annotated[
        Path | None, Parameter(env_var="ACTORQ_TLS_KEY", help="For wss://: its key.")
    ] = None
    insecure: Annotated[
        bool,
        Parameter(help="Listen to other machines without TLS, or without asking for tokens."),
    ] = False

    def transports(self, max_message: int, *, open_to_all: bool) -> Sequence[Transport]:
        """Return what listens.

        Raises:
            Failure: An address, or the certificate, cannot be.
        """
        addresses = several(self.listen)
        if not addresses:
            raise Failure("--listen: there is no address in it", Exit.USAGE)
        if self.tls_cert is None and any(address.startswith("wss:") for address in addresses):
            raise Failure("--listen wss:// needs --tls-cert and --tls-key", Exit.USAGE)
        return transports(
            addresses,
            max_message,
            certificate(self.tls_cert, self.tls_key),
            "--tls-cert",
            insecure=self.insecure,
            open_to_all=open_to_all,
        )


@Parameter(name="*", group=BOUNDS)
@attrs.frozen
class Bounds:
    """What keeps a queue node small; see `actorq.open_system`."""

    max_pending: Annotated[int, Parameter(help="Tasks that wait, in each queue.")] = 100_000
    max_results: Annotated[int, Parameter(help="Ended tasks that can be looked up.")] = 10_000
    result_ttl: Annotated[float, Parameter(help="Seconds for which they can be.")] = 3_600.0
    max_message: Annotated[
        int, Parameter(help="Bytes of the arguments of one task, and of its value.")
    ] = 4 * 1024 * 1024
    lease: Annotated[
        float,
        Parameter(help="Seconds after which a worker that is not heard of is given up."),
    ] = 15.0
    grace: Annotated[float, Parameter(help="Seconds that a cancelled task has to stop.")] = 10.0


def serve(
    *modules: Annotated[
        str, Parameter(help="Modules with tasks (shop.tasks) that this process is to run itself.")
    ],
    store: Annotated[
        str,
        Parameter(
            env_var="ACTORQ_STORE",
            help="Where tasks are kept. With memory:// they end with this process.",
        ),
    ] = "memory://",
    concurrency: Annotated[
        int | None,
        Parameter(
            env_var="ACTORQ_CONCURRENCY",
            help="Tasks that run here at once, as coroutines or in threads. [default: 100 with "
            "modules, else 0]",
        ),
    ] = None,
    cpu_processes: Annotated[
        int | None,
        Parameter(
            help='Tasks with run_in="process" that run here at once. [default: one per CPU with '
            "modules, else 0]"
        ),
    ] = None,
    lifespan: Annotated[
        str | None,
        Parameter(help="module:attribute of the async context manager around all tasks here."),
    ] = None,
    drain: Drain = 30.0,
    log_level: LogLevel = "info",
    json: Json = False,
    listening: Listening = Listening(),
    bounds: Bounds = Bounds(),
) -> int:
    """Run a queue node: it keeps the tasks, and workers and clients connect to it.

    SIGTERM or Ctrl-C: no new work, running tasks get --drain seconds, and the exit code is 0 if
    nothing was cut off. A second one stops at once. SIGHUP reads --token-file again.
    """
    start_logging(log_level)
    check_names(modules)
    chosen: dict[str, Any] = {
        "concurrency": (100 if modules else 0) if concurrency is None else concurrency,
        "processes": cpu_processes,
        "drain": drain,
        **attrs.asdict(bounds),
    }
    with usage():
        Settings.checked(**chosen)
        tokens = _tokens(listening.token_file)
        chosen["store"] = open_store(store)
    chosen |= {
        "listen": listening.transports(bounds.max_message, open_to_all=not tokens),
        "tokens": tokens,
        "insecure": listening.insecure,
        "tasks": load_modules(modules),
        "lifespan": load_lifespan(lifespan),
    }
    reloaded = tokens if listening.token_file else None
    return trio.run(_serve, chosen, reloaded, Out(json=json), store)


def _tokens(file: Path | None) -> Tokens:
    if file is not None:
        return Tokens(file=file)
    token = os.environ.get("ACTORQ_TOKEN")
    return Tokens({"admin": token}) if token else Tokens()


async def _serve(chosen: dict[str, Any], reloaded: Tokens | None, out: Out, store: str) -> Exit:
    stopping = Stopping(chosen["drain"])
    cut_off: int | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        if reloaded is not None:
            await nursery.start(_reload_on_sighup, reloaded)
        with stopping.scope:
            cut_off = await _serve_until_asked(chosen, stopping, out, store)
        nursery.cancel_scope.cancel("the system is closed")
    if out.json:
        out.data({"event": "ended", "cut_off": cut_off})
    elif cut_off is None:
        out.text("stopped at once")
    else:
        out.text(f"ended: {cut_off} tasks were cut off" if cut_off else "ended: all was finished")
    return Exit.OK if cut_off == 0 else Exit.CUT_OFF


async def _serve_until_asked(
    chosen: dict[str, Any], stopping: Stopping, out: Out, store: str
) -> int:
    """Serve; return how many tasks were cancelled because it has ended."""
    async with AsyncExitStack() as outlasting, AsyncExitStack() as stack:
        try:
            system = await stack.enter_async_context(open_system(**chosen))
        except OSError as error:
            raise Failure(f"cannot listen: {error}") from error
        _announce(out, system, store)
        await stopping.asked.wait()
        if out.json:
            out.data({"event": "draining", "seconds": stopping.seconds})
        else:
            out.text(f"draining, for at most {stopping.seconds:g} s")
        cancelled = await outlasting.enter_async_context(system.subscribe(status="cancelled"))
        await anext(cancelled)  # from here on it is told of every one
        await stack.aclose()
        return await _count(cancelled)


async def _count(cancelled: Subscription) -> int:
    """Return how many tasks ended because their system did; it is closed."""
    count = 0
    with suppress(ActorDied):
        async for event in cancelled:
            if isinstance(event, TaskEvent) and event.head.cancel is not None:
                count += event.head.cancel.by == "shutdown"
    return count


def _announce(out: Out, system: System, store: str) -> None:
    if out.json:
        out.data(
            {
                "event": "listening",
                "addresses": system.addresses,
                "store": store,
                "pid": os.getpid(),
            }
        )
        return
    for address in system.addresses:
        out.text(f"listening at {address}")
    out.text(f"tasks are kept in {store}: they end with this process")


async def _reload_on_sighup(
    tokens: Tokens, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            try:
                tokens.reload()
            except (OSError, ValueError) as error:
                _log.error("the tokens stay as they were: %s", error)
            else:
                _log.info("the tokens were read again")
