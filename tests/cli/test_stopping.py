"""One signal asks to end, a second one insists; and where log records go."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from actorq.cli.stopping import Stopping
from tests.cli.programs import ROOT


@asynccontextmanager
async def listening() -> AsyncIterator[Stopping]:
    stopping = Stopping(30.0, at_once_seconds=1_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(stopping.listen)
        yield stopping
        nursery.cancel_scope.cancel()
    if stopping.watchdog is not None:
        stopping.watchdog.cancel()


async def test_the_first_signal_asks_and_lets_work_go_on() -> None:
    async with listening() as stopping:
        signal.raise_signal(signal.SIGTERM)
        await stopping.asked.wait()

        assert stopping.seconds == 30.0
        assert not stopping.at_once.is_set()
        assert not stopping.scope.cancel_called


async def test_the_second_signal_cancels_the_work_whichever_they_are() -> None:
    async with listening() as stopping:
        with stopping.scope:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()

        assert stopping.at_once.is_set()
        assert stopping.watchdog is not None


async def test_being_asked_by_the_program_itself_counts_as_no_signal() -> None:
    async with listening() as stopping:
        stopping.ask(0.0)
        stopping.ask(5.0)
        signal.raise_signal(signal.SIGTERM)
        await wait_all_tasks_blocked()

        assert stopping.seconds == 0.0
        assert not stopping.at_once.is_set()


async def test_who_takes_signals_gives_them_back() -> None:
    def current() -> list[Callable[..., object] | int | None]:
        return [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]

    before = current()
    async with listening():
        assert current() != before
    assert current() == before


def test_a_second_signal_ends_a_program_whose_loop_stands_still() -> None:
    code = """if True:
        import time, trio
        from actorq.cli.stopping import Stopping

        async def main():
            stopping = Stopping(30.0, at_once_seconds=0.1)
            async with trio.open_nursery() as nursery:
                await nursery.start(stopping.listen)
                print("blocked", flush=True)
                time.sleep(60)  # real: this is what must not matter

        trio.run(main)
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)

        assert process.wait() == 3
        assert "it is cut off" in process.stderr.read()


def test_records_go_to_stderr_from_the_level_that_was_asked_for():
    code = (
        "import logging\n"
        "from actorq.cli.stopping import start_logging\n"
        "start_logging('warning')\n"
        "logging.getLogger('actorq').info('quiet')\n"
        "logging.getLogger('actorq').warning('loud')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "WARNING actorq[" in done.stderr
