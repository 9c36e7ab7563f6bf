"""Whatever is asked wrongly is refused at the line that asks, in words that name it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import trio

import actorq


@actorq.task
async def fetch(url: str, *, retries: int = 0) -> str:
    return url


@actorq.task(run_in="process")
def work(data: bytes) -> int:
    return len(data)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: fetch.options(time_out=3), TypeError, "unknown option 'time_out'"),
        (lambda: fetch.options(timeout="3"), TypeError, "option 'timeout'"),
        (lambda: fetch.options(timeout=-3), ValueError, "option 'timeout'"),
        (lambda: fetch.options(delay=float("nan")), ValueError, "option 'delay'"),
        (lambda: fetch.options(delay=1, at=datetime.now().astimezone()), ValueError, "'delay' and"),
        (lambda: fetch.options(at=datetime(2030, 1, 1)), ValueError, "has no time zone"),  # noqa: DTZ001 - the error
        (lambda: fetch.options(at="tomorrow"), TypeError, "option 'at'"),
        (lambda: fetch.options(priority="urgent"), ValueError, "option 'priority'"),
        (lambda: fetch.options(priority=2), TypeError, "option 'priority'"),
        (lambda: fetch.options(queue=""), ValueError, "option 'queue'"),
        (lambda: fetch.options(when_full="drop"), ValueError, "option 'when_full'"),
        (lambda: fetch.options(retry=3), TypeError, "option 'retry'"),
        (lambda: fetch.options(max_deliveries=0), ValueError, "option 'max_deliveries'"),
        (lambda: fetch.options(at_most_once=1), TypeError, "option 'at_most_once'"),
        (lambda: fetch.options(meta={1: 2}), TypeError, "option 'meta'"),
        (lambda: actorq.Retry(attempts=0), ValueError, "Retry: attempts"),
        (lambda: actorq.Retry(on=("x", 3)), TypeError, "Retry: on"),
        (lambda: actorq.Retry(factor=0.5), ValueError, "Retry: factor"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_written(
    wrong: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        wrong()


async def test_a_wrong_submit_is_refused_and_leaves_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=1, max_message=2_000) as system:
        for error, said, args, kwargs in [
            (actorq.InvalidArguments, "'url'", (fetch,), {}),
            (actorq.InvalidArguments, "'width'", (fetch, "u"), {"width": 3}),
            (actorq.UnknownTask, "'nobody'", ("nobody",), {}),
            (actorq.EncodeError, "argument 1", (work, lambda: None), {}),
            (actorq.PayloadTooLarge, "max_message=2000", (work, b"x" * 3_000), {}),
            (TypeError, "not 7", (7,), {}),
            (TypeError, "has its arguments already", (fetch.message("u"), "v"), {}),
        ]:
            for verb in (system.submit, system.call):
                with pytest.raises(error, match=said):
                    await verb(*args, **kwargs)

        assert not any(system.tables().values())
        assert await system.call(fetch, "u") == "u"


async def test_a_wrong_task_inside_a_batch_is_refused_with_what_came_before_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, concurrency=1, max_pending=2) as system:
        messages = (fetch.message(url) if url else fetch.message() for url in ["a", "b", ""])

        with pytest.raises(actorq.InvalidArguments) as caught:
            await system.submit_many(messages)

        assert [await handle.value() for handle in caught.value.accepted] == ["a", "b"]


async def test_a_chunk_that_never_fits_is_refused_instead_of_waiting_for_ever(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, max_pending=2) as system:
        handles = await system.submit_many(fetch.message(str(number)) for number in range(100))

        assert len([await handle.value() for handle in handles]) == 100
