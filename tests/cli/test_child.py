"""A worker process, from its parent's side; these are real ones."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actorq.cli import child as child_module
from actorq.cli import pipe
from actorq.cli.child import Child, ending
from tests.cli.programs import CHORES, ROOT, appears, queue_node, said_by


class Parent:
    """Has one process, and hears what it says."""

    def __init__(self) -> None:
        self.child: Child
        self.reports: list[pipe.Report] = []
        self.ended = trio.Event()
        self._send, self._receive = trio.open_memory_channel[pipe.Report](10)

    async def run(self) -> None:
        try:
            await self.child.run(self._hear)
        finally:
            self.ended.set()

    def _hear(self, child: Child, report: pipe.Report) -> None:
        self._send.send_nowait(report)

    async def report(self) -> pipe.Report:
        return await self._receive.receive()

    async def end(self) -> int:
        await self.ended.wait()
        return self.child.code


def work_at(url: str, **changes: Any) -> pipe.Work:
    settings: dict[str, Any] = {
        "url": (url,), "token": None, "ca": None, "insecure": False, "concurrency": 5,
        "cpu_processes": 0, "drain": 20.0, "grace": 5.0, "lifespan": None, "log_level": "error",
        "reload": False, "again": False,
    }  # fmt: skip
    return pipe.Work(**settings | changes)


@asynccontextmanager
async def parent_of(
    node: str, work: pipe.Work, *modules: str, cwd: object = ROOT
) -> AsyncIterator[Parent]:
    parent = Parent()
    parent.child = await Child.start(
        node, modules or [CHORES], work, cwd=cwd, stdout=subprocess.DEVNULL
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent.run)
        yield parent
        nursery.cancel_scope.cancel()


async def test_it_works_and_ends_in_order() -> None:
    async with queue_node() as system:
        work = work_at(system.addresses[0], lifespan=f"{CHORES}:lifespan")
        async with parent_of("a-node", work) as parent:
            assert await parent.report() == pipe.Ready()
            resources, stdin = await system.call(f"{CHORES}:surroundings")
            assert (resources, stdin) == ("from the lifespan", "")
            (info,) = (await system.tree()).workers
            assert info.worker.startswith("a-node.")

            parent.child.say(pipe.Drain())

            assert await parent.end() == 0


async def test_cancelled_it_stops_the_process_which_hands_its_tasks_back() -> None:
    async with queue_node() as system:
        async with parent_of("a-node", work_at(system.addresses[0])) as parent:
            handle = await system.submit(f"{CHORES}:announced_forever")
            await said_by(system, handle.id)

        assert parent.child.code == 3
        known = await system.result(handle.id)
        assert (known.status, known.attempts) == ("pending", 0)


async def test_one_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "KILL_SECONDS", 0.1)
    async with queue_node(drain=0.0, grace=0.1) as system:
        async with parent_of("a-node", work_at(system.addresses[0])) as parent:
            await system.submit(f"{CHORES}:blocked", str(tmp_path / "blocked"))
            await appears(tmp_path / "blocked")

        assert parent.child.code == -9


async def test_told_to_stop_while_it_starts_it_ends_at_once() -> None:
    async with parent_of("a-node", work_at("ws://127.0.0.1:1")) as parent:
        parent.child.say(pipe.Stop())
        assert await parent.end() == 0


async def test_one_that_dies_before_it_has_read_its_order_has_ended_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying"
    dying.write_text(
        f"#!{sys.executable}\nimport select, sys\nselect.select([0], [], [])\nsys.exit(1)\n"
    )
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))

    async with parent_of("a-node", work_at("ws://127.0.0.1:1")) as parent:
        assert await parent.end() == 1


async def test_one_that_cannot_be_started_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(OSError, match="nowhere"):
        await Child.start("a-node", [CHORES], work_at("ws://127.0.0.1:1"))


def test_how_a_process_ended_is_told_in_words() -> None:
    assert ending(3) == "exit code 3"
    assert ending(-9) == "killed by SIGKILL"
    assert ending(-99) == "killed by signal 99"
