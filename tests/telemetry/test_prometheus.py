"""Metrics, scraped over a real socket and read by prometheus-client's own parser."""

import socket
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

import actorq
from actorq.telemetry import prometheus
from actorq.telemetry.prometheus import Metrics, open_metrics, read_address, serve_metrics

ANY = "127.0.0.1:0"

Samples = dict[tuple[str, ...], float]


def read(url: str) -> Samples:
    """Return every sample by its name and the values of its labels."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(metrics: Metrics) -> Samples:
    return await trio.to_thread.run_sync(read, metrics.url)


@asynccontextmanager
async def measured() -> AsyncIterator[tuple[actorq.System, Metrics]]:
    async with (
        actorq.open_system(processes=0, instruments=()) as system,
        serve_metrics(system, ANY) as metrics,
    ):
        yield system, metrics


@actorq.task(retry=actorq.Retry(attempts=2, delay=0))
async def fail() -> None:
    raise ValueError


async def broken(inbox: actorq.Mailbox[str]) -> None:
    await inbox.receive()
    raise ValueError


# --- what is published ----------------------------------------------------------------------


async def test_what_has_ended_is_counted_by_queue_and_status() -> None:
    async with measured() as (system, metrics):
        for _ in range(3):
            await system.call(len, "abc")
        await (await system.submit(fail.options(queue="images"))).wait()

        found = await scraped(metrics)

    assert found["actorq_up",] == 1
    assert found["actorq_tasks_ended_total", "default", "success"] == 3
    assert found["actorq_tasks_ended_total", "images", "failure"] == 1
    assert found["actorq_tasks_ended_total", "images", "success"] == 0
    assert found["actorq_attempts_total", "images"] == 2
    assert found["actorq_retries_total",] == 1
    assert found["actorq_wait_seconds_count", "default"] == 3
    assert found["actorq_run_seconds_bucket", "+Inf", "default"] == 3


async def test_what_is_live_is_counted_by_queue_and_status() -> None:
    async with measured() as (system, metrics):
        await system.submit(fail.options(queue="images", delay=900))
        await system.pause("held")
        await system.submit(fail.options(queue="held"))

        found = await scraped(metrics)
        await system.resume("held")

    assert found["actorq_tasks", "images", "scheduled"] == 1
    assert found["actorq_tasks", "held", "pending"] == 1
    assert found["actorq_tasks", "held", "running"] == 0
    assert found["actorq_queue_paused", "held"] == 1
    assert found["actorq_queue_paused", "images"] == 0
    assert 0 < found["actorq_oldest_pending_seconds", "held"] < 60
    assert found["actorq_oldest_pending_seconds", "images"] == 0


async def test_a_queue_that_is_empty_again_is_zero_and_not_gone() -> None:
    async with measured() as (system, metrics):
        handle = await system.submit(fail.options(queue="images", delay=900))
        assert (await scraped(metrics))["actorq_tasks", "images", "scheduled"] == 1
        await handle.cancel()

        found = await scraped(metrics)

    assert found["actorq_tasks", "images", "scheduled"] == 0


async def test_workers_and_slots_are_counted() -> None:
    async with measured() as (_, metrics):
        found = await scraped(metrics)

    assert found["actorq_workers",] == 1
    assert found["actorq_slots", "main"] == found["actorq_free_slots", "main"] == 100
    assert found["actorq_unknown_tasks",] == 0


async def test_events_are_counted_by_their_kind() -> None:
    async with measured() as (system, metrics):
        ref = await system.spawn(broken, restart="temporary")
        with pytest.raises(actorq.NoReply):
            await ref.ask("anything")

        found = await scraped(metrics)

    assert found["actorq_events_total", "actor_died"] == 1
    assert found["actorq_events_total", "stuck"] == 0


async def test_how_late_the_loop_comes_round_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus, "_LOOK_SECONDS", 0.02)
    async with open_metrics(ANY) as metrics:
        await trio.testing.wait_all_tasks_blocked()
        threading.Event().wait(0.2)  # and the loop stands still

        found = await scraped(metrics)

    late = "actorq_loop_lag_seconds_bucket"
    assert found[late, "+Inf"] > found[late, "0.1"]
    assert found[late, "+Inf"] == found["actorq_loop_lag_seconds_count",]


async def test_the_process_is_measured_too() -> None:
    async with open_metrics(ANY) as metrics:
        found = await scraped(metrics)

    assert found["process_resident_memory_bytes",] > 1e6


# --- when there is no answer ----------------------------------------------------------------


async def test_before_there_is_a_system_it_is_not_up() -> None:
    async with open_metrics(ANY) as metrics:
        found = await scraped(metrics)

    assert found["actorq_up",] == 0
    assert found["actorq_events_total", "standing_by"] == 0
    assert ("actorq_workers",) not in found


async def test_when_the_system_is_closed_it_is_not_up_and_what_was_counted_stays() -> None:
    async with open_metrics(ANY) as metrics:
        async with actorq.open_system(processes=0, instruments=[metrics]) as system:
            metrics.follow(system)
            await system.call(len, "abc")

        found = await scraped(metrics)

    assert found["actorq_up",] == 0
    assert found["actorq_tasks_ended_total", "default", "success"] == 1


async def test_a_loop_that_stands_still_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus, "ANSWER_SECONDS", 0.1)
    found: list[Samples] = []
    async with measured() as (system, metrics):
        await system.call(len, "abc")
        scraping = threading.Thread(target=lambda: found.append(read(metrics.url)))
        scraping.start()
        scraping.join()  # the loop stands still until it has an answer

        later = await scraped(metrics)

    assert found[0]["actorq_up",] == 0
    assert ("actorq_workers",) not in found[0]
    assert later["actorq_up",] == 1


# --- the server -----------------------------------------------------------------------------


async def test_nobody_is_told_of_events_after_the_block() -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        async with serve_metrics(system, ANY):
            assert len(system.instruments) == 1

        assert system.instruments == []


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_metrics(ANY):
            raise KeyError("mine")


async def test_an_address_that_is_taken_is_an_error_that_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with open_metrics(f"127.0.0.1:{taken.getsockname()[1]}"):
            pytest.fail("it must not open")


async def test_those_who_only_hold_connections_keep_nobody_out_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus._Handler, "timeout", 0.2)
    async with open_metrics(ANY) as metrics:
        address = (urlsplit(metrics.url).hostname, urlsplit(metrics.url).port)
        silent = [socket.create_connection(address) for _ in range(prometheus._SCRAPES_MAX + 1)]
        try:
            silent[-1].settimeout(10)
            assert await trio.to_thread.run_sync(silent[-1].recv, 1) == b""  # one too many

            for held in silent:
                held.settimeout(10)
                assert await trio.to_thread.run_sync(held.recv, 1) == b""
            assert (await scraped(metrics))["actorq_up",] == 0
        finally:
            for held in silent:
                held.close()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65_535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, found: tuple[str, int]) -> None:
    assert read_address(address) == found


@pytest.mark.parametrize(
    "address", ["", "9464", ":9464", "localhost", "localhost:", "a:b", "a:-1", "a:65536", "a:1e3"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"^metrics: write HOST:PORT"):
        read_address(address)
