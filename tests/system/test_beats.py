"""The beats of a worker: from a thread of their own, whatever its main loop does."""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.codec.envelope import decode_to_owner
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.system.beats import Lag, beat, beating_in_thread
from actorq.system.system import open_system
from actorq.system.worker import open_worker
from tests.nodes import Ears, Watched, open_hand, open_queue, until
from tests.runtime.lines import FakeConnection, FakeTransport


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# --- how far the loop is behind ------------------------------------------------------------------


async def test_a_loop_that_comes_round_is_not_behind(autojump_clock: MockClock) -> None:
    lag = Lag(trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.keep)
        for _ in range(50):
            await trio.sleep(0.33)  # virtual
            assert lag.seconds() == 0
        nursery.cancel_scope.cancel()


async def test_a_loop_that_stands_still_is_behind_until_it_comes_round(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    lag = Lag(trio.current_time)
    nursery.start_soon(lag.keep)
    await wait_all_tasks_blocked()

    mock_clock.jump(30)
    assert 28 <= lag.seconds() <= 30
    await wait_all_tasks_blocked()
    assert lag.seconds() == 0


def test_the_time_that_it_sleeps_anyway_does_not_count() -> None:
    now = Watch()
    lag = Lag(now)

    now.now += 0.9
    assert lag.seconds() == 0
    now.now += 9.1
    assert lag.seconds() == pytest.approx(9)


# --- beating -------------------------------------------------------------------------------------


def said(line: FakeConnection) -> list[Any]:
    return [message for batch in line.sent for message in decode_to_owner(batch)]


async def test_a_beat_says_whose_it_is_and_how_far_its_loop_is_behind(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    line = FakeConnection()
    lag = iter([0.0, 1.5, 0.0, 0.0, 0.0])
    transport = FakeTransport(line)
    nursery.start_soon(beat, [transport], "secret", "node", lambda: next(lag), Random(1))
    line.deliver(w.Accepted(1, "queue node", "0.1", 4_096, 15.0, 5.0))
    for _ in range(2):
        await trio.sleep(3)  # virtual
        line.deliver(w.Pong())
    await trio.sleep(5)  # virtual

    hello, beats, *rest = said(line)
    assert isinstance(hello, w.Hello)
    assert beats == w.BeatHello("node")
    assert [message for message in rest if isinstance(message, m.Beat)][:3] == [
        m.Beat(0.0),
        m.Beat(1.5),
        m.Beat(0.0),
    ]
    assert not [message for message in rest if isinstance(message, w.Ping)]
    assert transport.dials == [(0.0, "secret")]
    nursery.cancel_scope.cancel()


async def test_a_beat_that_nobody_answers_is_dialled_anew(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first, second = FakeConnection(), FakeConnection()
    transport = FakeTransport(first, second)
    nursery.start_soon(beat, [transport], None, "node", lambda: 0.0, Random(1))
    first.deliver(w.Accepted(1, "queue node", "0.1", 4_096, 15.0, 5.0))
    second.deliver(w.Accepted(1, "queue node", "0.1", 4_096, 15.0, 5.0))

    await until(lambda: len(transport.dials) == 2)
    assert first.closed is not None
    assert first.closed[0] == w.Close.SILENT
    assert w.BEAT_SILENCE <= trio.current_time() <= 10
    await trio.sleep(4)  # virtual

    assert m.Beat(0.0) in said(second)
    nursery.cancel_scope.cancel()


async def test_who_refuses_a_beat_is_asked_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The main connection may go on, and a token be replaced."""
    line = FakeConnection()
    refusals = [actorq.AuthenticationFailed("not now"), actorq.IncompatiblePeer("a proxy")]
    transport = FakeTransport(*refusals, line)
    nursery.start_soon(beat, [transport], None, "node", lambda: 0.5, Random(1))
    await until(lambda: line.sent)

    assert m.Beat(0.5) in said(line)
    assert len(transport.dials) == 3
    nursery.cancel_scope.cancel()


# --- the thread ----------------------------------------------------------------------------------


async def test_it_runs_in_a_thread_and_ends_with_the_block() -> None:
    threads: list[int] = []
    ended = threading.Event()

    async def run() -> None:
        threads.append(threading.get_ident())
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with beating_in_thread(run):
        await until(lambda: threads)

    assert threads != [threading.get_ident()]
    assert ended.is_set()
    assert "actorq beats" not in {thread.name for thread in threading.enumerate()}


async def test_a_block_that_is_left_at_once_ends_it_too() -> None:
    async def run() -> None:
        await trio.sleep_forever()

    async with beating_in_thread(run):
        pass

    assert "actorq beats" not in {thread.name for thread in threading.enumerate()}


async def test_what_it_raises_is_nobody_elses_trouble() -> None:
    raised = threading.Event()

    async def run() -> None:
        raised.set()
        raise ZeroDivisionError

    async with beating_in_thread(run):
        await until(raised.is_set)


async def test_a_cancelled_block_ends_it() -> None:
    async def run() -> None:
        await trio.sleep_forever()

    with trio.move_on_after(0.05):
        async with beating_in_thread(run):
            await trio.sleep_forever()

    assert "actorq beats" not in {thread.name for thread in threading.enumerate()}


# --- what beats are for --------------------------------------------------------------------------


async def test_a_task_that_takes_many_leases_runs_once(autojump_clock: MockClock) -> None:
    runs: list[int] = []

    @actorq.task(name="long")
    async def long() -> None:
        runs.append(1)
        await trio.sleep(100)  # virtual

    ears = Ears()
    async with open_queue(lease=5, instruments=[ears]) as system, open_hand(tasks=[long]):
        await system.call(long)

    assert runs == [1]
    assert EventKind.WORKER_LOST not in ears.kinds


@pytest.mark.parametrize("settled", [True, False], ids=["later", "as its first task"])
async def test_a_task_that_blocks_its_loop_for_longer_than_the_lease_runs_once(
    settled: bool,
) -> None:
    runs: list[int] = []

    @actorq.task(name="rude")
    async def rude() -> None:
        runs.append(1)
        time.sleep(2.5)  # noqa: ASYNC251 # real: that is the point
        await trio.lowlevel.checkpoint()

    ears, here = Ears(), threading.Event()
    addresses: list[str] = []

    def work() -> None:
        """Be a worker in a loop of its own."""

        async def main() -> None:
            async with open_worker(addresses[0], tasks=[rude], processes=0, instruments=()):
                while not here.is_set():  # noqa: ASYNC110 - set by another thread
                    await trio.sleep(0.02)  # real: for the other loop

        trio.run(main)

    async with (
        open_system(
            listen="ws://127.0.0.1:0", concurrency=0, processes=0, lease=1, instruments=[ears]
        ) as system,
        trio.open_nursery() as nursery,
    ):
        addresses += system.addresses
        nursery.start_soon(trio.to_thread.run_sync, work)
        if settled:
            await until(lambda: "actorq beats" in {t.name for t in threading.enumerate()})
            await trio.sleep(0.5)  # real: that thread connects
        result = await (await system.submit(rude)).wait()
        here.set()

    assert (result.status, result.attempts) == ("success", 1)
    assert runs == [1]
    assert EventKind.WORKER_LOST not in ears.kinds


async def test_a_worker_that_stands_still_is_offered_nothing_new(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pings stop with its loop, and its beats say for how long."""
    watched, behind = Watched(), [0.0]
    monkeypatch.setattr(Lag, "seconds", lambda _: behind[0])
    async with open_queue() as system, open_hand(tasks=[watched.task], concurrency=5) as worker:
        await worker.wait_connected()
        dialer = worker._place.dialer
        wire = dialer._wire
        assert wire is not None
        with monkeypatch.context() as patch:
            patch.setattr(wire, "send_first", lambda _: None)  # no pings
            behind[0] = 10.0
            await trio.sleep(3.1)  # virtual
            handle = await system.submit(watched.task)
            await trio.sleep(0.5)  # virtual
            assert await handle.status() == "pending"
            behind[0] = 0.0
        await until(lambda: watched.started)
        await handle.cancel()
