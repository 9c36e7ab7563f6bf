"""Metrics for Prometheus, over HTTP; needs ``actorq[prometheus]``.

What has happened is counted as it happens (`Meter`); how things stand is asked of the system at
each scrape. The server has threads of its own, so that it answers although the system's loop does
not: then ``actorq_up`` is 0, and what would have to be asked is left out.
"""

from __future__ import annotations

import queue
import socketserver
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from math import inf
from socket import AF_INET, AF_INET6
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from actorq.contracts.instrument import Instrument
from actorq.errors import ActorqError
from actorq.model.feed import TaskEvent
from actorq.model.results import QueueStats, Stats, StoreStats
from actorq.model.status import TaskStatus
from actorq.telemetry.meter import Histogram, Meter

ANSWER_SECONDS = 3.0
"""That a scrape waits for the system. (Prometheus itself waits 10 s by default.)"""

_SCRAPES_MAX = 8
"""At once; more are turned away."""

_IDLE_SECONDS = 10.0
"""For which a connection may say nothing."""

_LOOK_SECONDS = 0.5
"""How often it is looked how late the loop is."""

_LIVE = tuple(status.value for status in TaskStatus if not status.terminal)
_OVER = tuple(status.value for status in TaskStatus if status.terminal)


_Reading = tuple[Stats, dict[str, QueueStats]]
"""How things stand, and the queues by what they are counted under."""


class Measured(Protocol):
    """What `serve_metrics` asks; an `actorq.System`."""

    @property
    def instruments(self) -> list[Instrument]:
        """Who is told of events."""
        ...

    async def stats(self) -> Stats:
        """Return how things stand."""
        ...

    def subscribe(
        self, *, status: list[TaskStatus]
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Open a block in which one is told of tasks."""
        ...


class Metrics:
    """What is published at one address, from before a system opens until after it has closed."""

    def __init__(self, nursery: trio.Nursery, url: str) -> None:
        self.url: str = url
        """Where Prometheus may scrape."""
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._meter = Meter()
        self._open = True
        self._system: Measured | None = None

    def event(self, event: Any) -> None:
        """Implement `actorq.Instrument`."""
        self._meter.event(event)

    def follow(self, system: Measured) -> None:
        """Publish how this system is, from now on."""
        self._system = system
        self._nursery.start_soon(self._count_ends, system, name="actorq metrics")

    async def _count_ends(self, system: Measured) -> None:
        over = [status for status in TaskStatus if status.terminal]
        with suppress(ActorqError):  # it is closed, or has failed: it says so itself
            async with system.subscribe(status=over) as events:
                async for event in events:
                    if isinstance(event, TaskEvent):
                        self._meter.ended(event)

    async def _feel_the_loop(self) -> None:
        while True:
            due = trio.current_time() + _LOOK_SECONDS
            await trio.sleep_until(due)
            self._meter.lag.observe(trio.current_time() - due)

    def close(self) -> None:
        """Answer nobody any more."""
        self._open = False
        self._nursery.cancel_scope.cancel("the metrics are closed")

    # --- in a thread of the server ---------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield everything that is published now."""
        found = self._ask()
        up = "Whether the queue actor has answered this scrape."
        yield GaugeMetricFamily("actorq_up", up, 0 if found is None else 1)
        if found is not None:
            stats, queues = found
            yield from _of_queues(queues)
            yield from _of_workers(stats)
            yield from _of_store(stats.store)
        yield from _of_meter(self._meter)

    def _ask(self) -> _Reading | None:
        answer: queue.SimpleQueue[_Reading | None] = queue.SimpleQueue()
        with suppress(trio.RunFinishedError, queue.Empty):
            self._token.run_sync_soon(self._begin, answer)
            return answer.get(timeout=ANSWER_SECONDS)
        return None

    # --- in the loop -----------------------------------------------------------------------------

    def _begin(self, answer: queue.SimpleQueue[_Reading | None]) -> None:
        if self._open and self._system is not None:
            self._nursery.start_soon(self._answer, self._system, answer, name="actorq scrape")
        else:
            answer.put(None)

    async def _answer(self, system: Measured, answer: queue.SimpleQueue[_Reading | None]) -> None:
        found: _Reading | None = None
        try:
            with trio.move_on_after(ANSWER_SECONDS), suppress(ActorqError):
                stats = await system.stats()
                found = stats, self._meter.standing(stats.queues)
        finally:
            answer.put(found)


@asynccontextmanager
async def serve_metrics(system: Measured, address: str) -> AsyncGenerator[Metrics, None]:
    """Publish a system's metrics as long as the block lasts; see `open_metrics`."""
    async with open_metrics(address) as metrics:
        system.instruments.append(metrics)
        metrics.follow(system)
        try:
            yield metrics
        finally:
            system.instruments.remove(metrics)


@asynccontextmanager
async def open_metrics(address: str) -> AsyncGenerator[Metrics, None]:
    """Publish metrics as long as the block lasts, whether or not there is a system yet.

    Whoever can connect can read them, and nothing else: names of queues, counts and times. What it
    yields is an `actorq.Instrument`: give it to the system, and the system to `Metrics.follow`.

    Args:
        address: ``HOST:PORT``; port 0 is any free one. ``metrics.url`` says where they are.

    Raises:
        ValueError: It is no such address.
        OSError: It cannot be listened at.
    """
    server = _Server(*read_address(address))
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            metrics = Metrics(nursery, server.url)
            server.serve(metrics)
            nursery.start_soon(metrics._feel_the_loop, name="actorq metrics of the loop")
            try:
                yield metrics
            except BaseException as raised:  # noqa: BLE001 - raised again, outside the nursery
                error = raised
            metrics.close()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.end)
    if error is not None:
        raise error


def read_address(address: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST:PORT``.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(f"metrics: write HOST:PORT, such as 127.0.0.1:9464, not {address!r}")
    return host, int(port)


class _Everything(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.collect()


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing of who asks."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """The server of prometheus-client, but that it is bounded, and resolves no names."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self._room = threading.BoundedSemaphore(_SCRAPES_MAX)
        self._thread = threading.Thread(
            target=self.serve_forever, name="actorq metrics", daemon=True
        )
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without asking who this machine is: that can take long."""
        socketserver.TCPServer.server_bind(self)
        host, port, *_ = self.server_address
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    @property
    def url(self) -> str:
        """Where it can be asked."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/metrics"

    def serve(self, metrics: Metrics) -> None:
        """Answer with these, in threads, until `end`."""
        registry = CollectorRegistry()
        registry.register(_Everything(metrics))
        ProcessCollector(registry=registry)
        self.set_app(make_wsgi_app(registry))
        self._thread.start()

    def end(self) -> None:
        """Stop, and return when it has."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let those go who have hung up, or said nothing for too long."""


# --- from what is known to what is published -----------------------------------------------------


def _of_queues(queues: dict[str, QueueStats]) -> Iterator[Metric]:
    tasks = GaugeMetricFamily("actorq_tasks", "Live tasks.", labels=("queue", "status"))
    oldest = _by_queue("actorq_oldest_pending_seconds", "Age of the oldest pending task, or 0.")
    parked = _by_queue("actorq_parked_submissions", "Submissions that wait for room.")
    paused = _by_queue("actorq_queue_paused", "Whether nothing of the queue is started.")
    now = datetime.now(UTC)
    for label, found in queues.items():
        for status in _LIVE:
            tasks.add_metric((label, status), getattr(found, status))
        age = 0.0 if found.oldest is None else (now - found.oldest).total_seconds()
        oldest.add_metric((label,), max(0.0, age))
        parked.add_metric((label,), found.parked)
        paused.add_metric((label,), found.paused)
    yield from (tasks, oldest, parked, paused)


def _by_queue(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=("queue",))


def _of_workers(stats: Stats) -> Iterator[Metric]:
    slots = GaugeMetricFamily("actorq_slots", "Slots of all workers.", labels=("pool",))
    free = GaugeMetricFamily("actorq_free_slots", "Those that are free.", labels=("pool",))
    for name, pool in stats.pools.items():
        slots.add_metric((name,), pool.slots)
        free.add_metric((name,), pool.free)
    yield from (slots, free)
    yield GaugeMetricFamily("actorq_workers", "Workers that are connected.", stats.workers)
    yield GaugeMetricFamily(
        "actorq_unknown_tasks",
        "Pending tasks that no connected worker knows.",
        sum(stats.unknown.values()),
    )
    yield CounterMetricFamily(
        "actorq_retries", "Attempts that have failed, and were followed by another.", stats.retries
    )


def _of_store(store: StoreStats | None) -> Iterator[Metric]:
    if store is None:
        return
    yield InfoMetricFamily("actorq_store", "Where tasks are kept.", {"url": store.url})
    if store.size is not None:
        yield GaugeMetricFamily("actorq_store_size_bytes", "Bytes on its disk.", store.size)
    yield SummaryMetricFamily(
        "actorq_commit_seconds", "Commits to the store.", store.commits, store.seconds
    )
    yield GaugeMetricFamily(
        "actorq_commit_slowest_seconds", "The slowest of them so far.", store.slowest
    )
    yield CounterMetricFamily("actorq_records_written", "Records in these commits.", store.writes)


def _of_meter(meter: Meter) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "actorq_tasks_ended", "Tasks that have ended.", labels=("queue", "status")
    )
    attempts = CounterMetricFamily(
        "actorq_attempts", "Attempts of the tasks that have ended.", labels=("queue",)
    )
    wait = HistogramMetricFamily(
        "actorq_wait_seconds",
        "From when a task's last attempt was due until it started.",
        labels=("queue",),
    )
    run = HistogramMetricFamily(
        "actorq_run_seconds", "What the last attempt of a task took.", labels=("queue",)
    )
    for label, found in meter.queues():
        for status in _OVER:
            ended.add_metric((label, status), found.ended[status])
        attempts.add_metric((label,), found.attempts)
        wait.add_metric((label,), _buckets(found.wait), found.wait.sum)
        run.add_metric((label,), _buckets(found.run), found.run.sum)
    yield from (ended, attempts, wait, run)
    events = CounterMetricFamily("actorq_events", "Events, by kind.", labels=("kind",))
    for kind, count in meter.events():
        events.add_metric((kind,), count)
    yield events
    lag = HistogramMetricFamily(
        "actorq_loop_lag_seconds", "How late the loop of the queue node comes round."
    )
    lag.add_metric((), _buckets(meter.lag), meter.lag.sum)
    yield lag


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound == inf else str(bound), count) for bound, count in histogram.cumulative()
    ]
