"""`actorq worker` as a program: a small parent, its processes, and how they end."""

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from actorq.cli.app import run
from tests.cli.programs import CHORES, program, queue_node, said_by

WINDOW_SECONDS = 5.0
"""After which the queue gives up a worker whose connection is gone, if nobody says more."""


def lines_of_all_processes() -> str:
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes()
        except OSError:  # it has ended since
            continue
    return found.decode(errors="replace")


@pytest.mark.bound(60)
async def test_a_task_of_a_killed_process_runs_again_at_once_for_the_parent_tells() -> None:
    token = "a-token-that-nobody-may-see"
    async with (
        queue_node(tokens={"admin": token}) as system,
        program(
            "worker", CHORES, "--processes", "2", "--json", "--url", system.addresses[0],
            ACTORQ_TOKEN=token,
        ) as parent,
    ):  # fmt: skip
        nodes = {(await parent.event("ready"))["node"] for _ in range(2)}
        handle = await system.submit(f"{CHORES}:second_time")
        killed = await said_by(system, handle.id)
        if sys.platform == "linux":
            assert CHORES in lines_of_all_processes()
            assert token not in lines_of_all_processes()

        os.kill(killed, signal.SIGKILL)
        at = trio.current_time()
        assert await handle.value() != killed

        assert trio.current_time() - at < WINDOW_SECONDS - 1
        dead = await parent.event("ended")
        assert (dead["pid"], dead["code"]) == (killed, -9)
        again = await parent.event("ready")
        assert (again["process"], len(nodes | {again["node"]})) == (dead["process"], 3)
        parent.terminate()
        assert await parent.end() == 0
        assert token not in parent.stderr


async def test_asked_to_end_it_finishes_what_it_can_and_hands_back_the_rest(
    tmp_path: Path,
) -> None:
    async with (
        queue_node() as system,
        program("worker", CHORES, "--drain", "1", "--json", "--url", system.addresses[0]) as parent,
    ):
        finishing = await system.submit(f"{CHORES}:until", str(tmp_path / "go"))
        staying = await system.submit(f"{CHORES}:announced_forever")
        await said_by(system, finishing.id)
        await said_by(system, staying.id)

        parent.terminate()
        assert (await parent.event("draining"))["seconds"] == 1.0
        (tmp_path / "go").touch()

        assert await parent.end() == 0
        assert await finishing.value() == "seen"
        known = await system.result(staying.id)
        assert (known.status, known.attempts) == ("pending", 0)


async def test_a_second_signal_stops_it_at_once_and_the_exit_code_says_so() -> None:
    async with (
        queue_node() as system,
        program("worker", CHORES, "--json", "--url", system.addresses[0]) as parent,
    ):
        handle = await system.submit(f"{CHORES}:announced_forever")
        await said_by(system, handle.id)

        parent.process.send_signal(signal.SIGINT)
        while (await system.stats()).pools["main"].free:
            await trio.lowlevel.checkpoint()  # its slots go when it drains
        parent.terminate()

        assert await parent.end() == 3
        assert (await system.result(handle.id)).status == "pending"


async def test_when_the_parent_is_killed_its_process_ends() -> None:
    async with (
        queue_node() as system,
        program("worker", CHORES, "--json", "--url", system.addresses[0]) as parent,
    ):
        await parent.event("ready")

        parent.process.kill()

        await parent.silent.wait()
        assert [info.worker for info in (await system.tree()).workers] == []


async def test_modules_that_cannot_be_imported_are_told_once_and_end_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    async with program(
        "worker", "broken", "--processes", "2", "--url", "ws://127.0.0.1:1", cwd=tmp_path
    ) as parent:
        assert await parent.end() == 1

    assert parent.stderr.count("actorq: broken cannot be imported: ZeroDivisionError") == 1
    assert parent.stderr.count('broken.py", line 2') == 1
    assert "asyncio" not in parent.stderr


def test_its_token_is_not_sent_in_the_clear(capsys, monkeypatch):
    monkeypatch.setenv("ACTORQ_TOKEN", "a-token-of-ours")

    assert run(["worker", "shop", "--url", "ws://192.0.2.1:1"]) == 2
    assert "--insecure" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "at least one module"),
        (["shop/tasks.py"], "as shop.tasks"),
        (["shop", "--url", "http://a"], "ws://"),
        (["shop", "--processes", "0"], "--processes"),
        (["shop", "--drain", "inf"], "--drain"),
        (["shop", "--grace", "inf"], "--grace"),
        (["shop", "--token-file", "/nowhere"], "/nowhere"),
        (["shop", "--ca", "/nowhere", "--url", "wss://a"], "/nowhere"),
    ],
)
def test_a_command_line_that_makes_no_sense_starts_nothing(arguments, said, capsys):
    assert run(["worker", *arguments]) == 2

    printed = capsys.readouterr()
    assert said in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
