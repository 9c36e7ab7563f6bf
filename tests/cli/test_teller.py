"""The parent's own connection: the queue is told of dead processes, sooner or later."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.cli.dialling import transports
from actorq.cli.exits import Exit, Failure
from actorq.cli.teller import Teller
from actorq.model.events import Event
from tests.cli import chores


class Noted:
    """An instrument that keeps which workers were given up."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def event(self, event: Event) -> None:
        if event.kind is actorq.EventKind.WORKER_LOST:
            self.lost.append(event.details["worker"])


def teller_of(address: str, token: str | None = None) -> Teller:
    dialling = transports([address], 1_000_000, None, "--ca", insecure=False)
    return Teller(dialling, lambda: token, random=lambda: 0.0)


async def test_the_task_of_a_dead_process_runs_elsewhere_at_once(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    noted = Noted()
    teller = teller_of("memory://dead")
    async with actorq.open_system(
        listen="memory://dead", concurrency=0, processes=0, instruments=[noted]
    ) as system:
        nursery.start_soon(teller.run)
        first = actorq.open_worker(
            "memory://dead", tasks=[chores], processes=0, node="first", drain=0.0
        )
        async with first as worker:
            await worker.wait_connected()
            handle = await system.submit(chores.forever)
            await wait_all_tasks_blocked()
            holder = (await system.result(handle.id)).worker
            assert str(holder).startswith("first.")

            teller.died("first")
            await wait_all_tasks_blocked()

            assert trio.current_time() == 0
            assert noted.lost == [holder]
        await handle.cancel()
        await teller.finish(1.0)
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_told_now_is_told_later(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    teller = teller_of("memory://later")
    nursery.start_soon(teller.run)
    teller.died("somebody")
    await teller.finish(7.0)
    assert trio.current_time() == pytest.approx(7.0)

    async with actorq.open_system(listen="memory://later", concurrency=0, processes=0):
        await teller.finish(60.0)

        assert trio.current_time() < 10.0
        nursery.cancel_scope.cancel()


async def test_a_token_that_is_refused_is_asked_for_again(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = ["the-old-token", "the-new-token"]
    asked: list[str] = []

    def token() -> str:
        if len(asked) == 1:
            asked.append("none")
            raise Failure("the file is being written", Exit.USAGE)
        asked.append(tokens.pop(0))
        return asked[-1]

    dialling = transports(["memory://refused"], 1_000_000, None, "--ca", insecure=False)
    teller = Teller(dialling, token, random=lambda: 0.0)
    async with actorq.open_system(
        listen="memory://refused", concurrency=0, processes=0, tokens={"worker": "the-new-token"}
    ):
        teller.died("somebody")
        nursery.start_soon(teller.run)
        await teller.finish(60.0)

        assert asked == ["the-old-token", "none", "the-new-token"]
        assert "the file is being written" in caplog.text
        assert "the-old-token" not in caplog.text
        nursery.cancel_scope.cancel()


async def test_there_is_nothing_to_wait_for_when_nobody_has_died(
    autojump_clock: trio.abc.Clock,
) -> None:
    await teller_of("memory://nobody").finish(5.0)

    assert trio.current_time() == 0
