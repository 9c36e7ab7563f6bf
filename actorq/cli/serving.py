"""``serve``: a queue node, and workers in it if it is given tasks."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import trio
from cyclopts import Group, Parameter

from actorq.cli.credentials import certificate
from actorq.cli.dialling import DEFAULT_URL, several, transports
from actorq.cli.exits import Exit, Failure, usage
from actorq.cli.modules import check_names, load_lifespan, load_modules
from actorq.cli.options import Drain, Json, Lifespan, LogLevel
from actorq.cli.output import Out, counted
from actorq.cli.stopping import Stopping, start_logging
from actorq.client.feed import Subscription
from actorq.contracts.instrument import Instrument
from actorq.contracts.transport import Transport
from actorq.errors import ActorDied
from actorq.model.events import Event, EventKind
from actorq.model.feed import TaskEvent
from actorq.system.backends import open_store
from actorq.system.settings import Settings
from actorq.system.system import System, open_system
from actorq.system.tokens import Tokens
from actorq.telemetry.logging import LogInstrument

if TYPE_CHECKING:
    from actorq.telemetry.prometheus import Metrics

_log = logging.getLogger("actorq.cli")

DEFAULT_STORE = "sqlite:///actorq.db"

_TOLD_WITHIN = 2.0
"""Seconds; a former owner whose store is somebody else's by now is told nothing."""

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
    metrics: Annotated[
        str | None,
        Parameter(
            env_var="ACTORQ_METRICS",
            help="HOST:PORT where Prometheus may read metrics, such as 127.0.0.1:9464; nobody is "
            "asked for a token there.",
        ),
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
        addresses = several("--listen", self.listen)
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
    max_results: Annotated[
        int | None,
        Parameter(
            help="Ended tasks that can be looked up. [default: 10000 with memory://, else as many "
            "as there are]"
        ),
    ] = None
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
            help="Where tasks are kept: sqlite:///PATH (of a file; three slashes, and four for one "
            "from the root), or memory://, where they end with this process.",
        ),
    ] = DEFAULT_STORE,
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
    lifespan: Lifespan = None,
    drain: Drain = 30.0,
    log_level: LogLevel = "info",
    json: Json = False,
    listening: Listening = Listening(),
    bounds: Bounds = Bounds(),
) -> int:
    """Run a queue node: it keeps the tasks, and workers and clients connect to it.

    If another process owns the store, it stands by, and takes over when that one ends, however it
    ends.

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
        if listening.metrics is not None:
            _prometheus().read_address(listening.metrics)
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
    node = _Node(Stopping(drain), Out(json=json), store)
    return trio.run(_serve, node, chosen, reloaded, listening.metrics)


def _tokens(file: Path | None) -> Tokens:
    if file is not None:
        return Tokens(file=file)
    token = os.environ.get("ACTORQ_TOKEN")
    return Tokens({"admin": token}) if token else Tokens()


class _Node:
    """A queue node as its operator sees it; implements `actorq.Instrument`."""

    def __init__(self, stopping: Stopping, out: Out, store: str) -> None:
        self.stopping: Stopping = stopping
        self.out: Out = out
        self.store: str = store
        self.opened: bool = False
        self.opening: trio.CancelScope = trio.CancelScope()
        """Around all that it does; cancelled when it is to end and has not opened."""

    def event(self, event: Event) -> None:
        """Say that somebody else owns the store."""
        if event.kind is not EventKind.STANDING_BY:
            return
        why = str(event.details.get("why", ""))
        said = {"event": "standing_by", "why": why, "pid": os.getpid()}
        self.out.say(said, f"standing by: {why}")

    async def give_up(self) -> None:
        """End the waiting for the store when it is asked to end."""
        await self.stopping.asked.wait()
        if not self.opened:
            self.opening.cancel("it was asked to end before it had the store")

    def announce(self, system: System, metrics: str | None) -> None:
        """Say where it listens."""
        self.opened = True
        said = {
            "event": "listening",
            "addresses": system.addresses,
            "store": self.store,
            "metrics": metrics,
            "pid": os.getpid(),
        }
        lines = [f"listening at {address}" for address in system.addresses]
        if metrics is not None:
            lines.append(f"metrics at {metrics}")
        ends = ": they end with this process" if self.ephemeral else ""
        self.out.say(said, *lines, f"tasks are kept in {self.store}{ends}")

    @property
    def ephemeral(self) -> bool:
        """Whether tasks end with this process."""
        return self.store.startswith("memory:")

    def drains(self) -> None:
        """Say that it ends."""
        seconds = self.stopping.seconds
        said = f"draining, for at most {seconds:g} s"
        self.out.say({"event": "draining", "seconds": seconds}, said)

    def ended(self, cut_off: int | None) -> Exit:
        """Say how it has ended: how many tasks were cut off, or None if it was told to stop."""
        if cut_off is None:
            said = "stopped at once"
        elif not self.opened:
            said = "ended: it was standing by"
        elif cut_off:
            said = f"ended: {counted(cut_off, 'task')} cut off"
        elif self.ephemeral:
            said = "ended: all was finished"
        else:
            said = f"ended: what is left is kept in {self.store}"
        self.out.say({"event": "ended", "cut_off": cut_off}, said)
        return Exit.OK if cut_off == 0 else Exit.CUT_OFF


async def _serve(
    node: _Node, chosen: dict[str, Any], reloaded: Tokens | None, metrics: str | None
) -> Exit:
    stopping = node.stopping
    cut_off: int | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        nursery.start_soon(node.give_up)
        if reloaded is not None:
            await nursery.start(_reload_on_sighup, reloaded)
        with stopping.scope, node.opening:
            cut_off = await _serve_until_asked(node, chosen, metrics)
        if node.opening.cancelled_caught:
            cut_off = 0
        nursery.cancel_scope.cancel("the system is closed")
    return node.ended(cut_off)


async def _serve_until_asked(node: _Node, chosen: dict[str, Any], address: str | None) -> int:
    """Serve; return how many tasks were cancelled because it has ended."""
    async with AsyncExitStack() as outlasting, AsyncExitStack() as stack:
        metrics: Metrics | None = None
        if address is not None:
            try:
                publishing = _prometheus().open_metrics(address)
                metrics = await outlasting.enter_async_context(publishing)
            except OSError as error:
                raise Failure(f"cannot listen at --metrics {address}: {error}") from error
        listeners: list[Instrument] = [LogInstrument(), node, *([metrics] if metrics else [])]
        try:
            system = await stack.enter_async_context(open_system(**chosen, instruments=listeners))
        except OSError as error:
            where = ", ".join(transport.url for transport in chosen["listen"])
            raise Failure(f"cannot listen at {where}: {error}") from error
        if metrics is not None:
            metrics.follow(system)
        node.announce(system, None if metrics is None else metrics.url)
        await node.stopping.asked.wait()
        node.drains()
        cancelled = await outlasting.enter_async_context(system.subscribe(status="cancelled"))
        with trio.move_on_after(_TOLD_WITHIN):  # by a queue that can still be asked
            await anext(cancelled)  # from here on it is told of every one
        await stack.aclose()
        return await _count(cancelled)


def _prometheus() -> ModuleType:
    """Return what publishes metrics.

    Raises:
        Failure: What it needs is not installed.
    """
    try:
        from actorq.telemetry import prometheus
    except ModuleNotFoundError as error:
        raise Failure(
            "--metrics needs prometheus-client: pip install 'actorq[prometheus]'", Exit.USAGE
        ) from error
    return prometheus


async def _count(cancelled: Subscription) -> int:
    """Return how many tasks ended because their system did; it is closed."""
    count = 0
    with suppress(ActorDied):
        async for event in cancelled:
            if isinstance(event, TaskEvent) and event.head.cancel is not None:
                count += event.head.cancel.by == "shutdown"
    return count


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
