"""Options: `.options()`, `TaskOptions`, `Retry`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

from actorq import (
    AsyncTask,
    Retry,
    StreamTask,
    SyncTask,
    TaskFailed,
    TaskOptions,
    TaskPriority,
    TaskTimeout,
)
from tests.typing.decorator import bare_async, bare_stream, bare_sync
from tests.typing.samples import fetch


def a_copy_with_options_has_the_same_type() -> None:
    assert_type(bare_async.options(priority="critical", delay=5), AsyncTask[[int], str])
    assert_type(bare_sync.options(timeout=9).options(timeout=None), SyncTask[[int], str])
    assert_type(bare_stream.options(), StreamTask[[int], str])
    assert_type(bare_async.options(TaskOptions.reliable(), timeout=9), AsyncTask[[int], str])


def every_option() -> None:
    fetch.options(
        queue="images",
        priority=TaskPriority.HIGH,
        timeout=1.5,
        deadline=60,
        delay=5,
        expires=30,
        retry=Retry(attempts=3),
        at_most_once=True,
        max_deliveries=5,
        when_full="raise",
        result_ttl=10.0,
        meta={"customer": 7},
    )
    fetch.options(at=datetime.now(UTC), priority="low", when_full="wait")
    fetch.options(after=["an id"])
    fetch.options(after={"an id", "another"})
    fetch.options(after={"an id": 1}.keys())
    fetch.options(timeout=None, deadline=None, delay=None, at=None, expires=None, result_ttl=None)


async def wrong_options() -> None:
    fetch.options(retries=3)  # type: ignore[call-arg]
    fetch.options(url="u")  # type: ignore[call-arg]
    fetch.options(name="other")  # type: ignore[call-arg]
    fetch.options(run_in="thread")  # type: ignore[call-arg]
    fetch.options(queue=3)  # type: ignore[arg-type]
    fetch.options(queue=None)  # type: ignore[arg-type]
    fetch.options(priority="urgent")  # type: ignore[arg-type]
    fetch.options(priority="HIGH")  # type: ignore[arg-type]
    fetch.options(priority=2)  # type: ignore[arg-type]
    fetch.options(timeout="30")  # type: ignore[arg-type]
    fetch.options(deadline=datetime.now(UTC))  # type: ignore[arg-type]
    fetch.options(delay="soon")  # type: ignore[arg-type]
    fetch.options(at=60)  # type: ignore[arg-type]
    fetch.options(at="2030-01-01")  # type: ignore[arg-type]
    fetch.options(after=3)  # type: ignore[arg-type]
    fetch.options(after=[3])  # type: ignore[list-item]
    fetch.options(expires="30")  # type: ignore[arg-type]
    fetch.options(retry=3)  # type: ignore[arg-type]
    fetch.options(at_most_once="yes")  # type: ignore[arg-type]
    fetch.options(max_deliveries=1.5)  # type: ignore[arg-type]
    fetch.options(when_full="drop")  # type: ignore[arg-type]
    fetch.options(result_ttl="1h")  # type: ignore[arg-type]
    fetch.options(meta={7: "customer"})  # type: ignore[dict-item]
    fetch.options("reliable")  # type: ignore[arg-type]
    fetch.options(TaskOptions.reliable)  # type: ignore[arg-type]
    fetch.options({"timeout": 9})  # type: ignore[arg-type]
    await fetch("u", timeout=9)  # type: ignore[call-arg]


def presets_and_bundles() -> None:
    assert_type(TaskOptions.high_priority(), TaskOptions)
    assert_type(TaskOptions.reliable(), TaskOptions)
    assert_type(TaskOptions.quick(), TaskOptions)
    assert_type(TaskOptions(queue="images", priority="high", timeout=30), TaskOptions)
    assert_type(TaskOptions().merge(TaskOptions.quick()), TaskOptions)

    TaskOptions(priority="urgent")  # type: ignore[arg-type]
    TaskOptions(timeout="30")  # type: ignore[arg-type]
    TaskOptions(retries=3)  # type: ignore[call-arg]
    TaskOptions(name="other")  # type: ignore[call-arg]
    TaskOptions.urgent()  # type: ignore[attr-defined]


def options_are_checked_values() -> None:
    options = TaskOptions(priority="high")
    assert_type(options.queue, str)
    assert_type(options.priority, TaskPriority)
    assert_type(options.timeout, float | None)
    assert_type(options.at, datetime | None)
    assert_type(options.retry, Retry)
    assert_type(options.at_most_once, bool)
    assert_type(options.max_deliveries, int)
    assert_type(options.meta, Mapping[str, Any])

    options.queue = "other"  # type: ignore[misc]


def retry_policies() -> None:
    assert_type(Retry(), Retry)
    policy = Retry(5, delay=0.5, factor=3, max_delay=60, jitter=0)
    assert_type(policy.attempts, int)
    assert_type(policy.delay, float)
    policy.attempts = 3  # type: ignore[misc]

    Retry(on=(ConnectionError, TaskTimeout))
    Retry(on=("requests.exceptions.HTTPError", OSError), never=(TaskFailed,))
    Retry(on=ConnectionError, never="builtins.BrokenPipeError")
    Retry(on=[ConnectionError, "requests.exceptions.HTTPError"])

    Retry("5")  # type: ignore[arg-type]
    Retry(attempts=2.5)  # type: ignore[arg-type]
    Retry(delay=None)  # type: ignore[arg-type]
    Retry(factor="2")  # type: ignore[arg-type]
    Retry(max_delay="1h")  # type: ignore[arg-type]
    Retry(jitter="some")  # type: ignore[arg-type]
    Retry(on=3)  # type: ignore[arg-type]
    Retry(on=(int,))  # type: ignore[arg-type]
    Retry(never=ValueError("x"))  # type: ignore[arg-type]
    Retry(tries=3)  # type: ignore[call-arg]
