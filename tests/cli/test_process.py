"""A worker process: how it ends, what it says when it cannot work, and when it starts again."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

from actorq.cli import pipe
from tests.cli.programs import CHORES, ROOT, queue_node, said_by
from tests.cli.test_child import parent_of, work_at


async def test_when_its_parent_is_gone_it_finishes_and_ends(tmp_path: Path) -> None:
    async with queue_node() as system, parent_of("n", work_at(system.addresses[0])) as parent:
        handle = await system.submit(f"{CHORES}:until", str(tmp_path / "go"))
        await said_by(system, handle.id)

        parent.child._line.close()  # as the system does when a parent is killed
        (tmp_path / "go").touch()

        assert await handle.value() == "seen"
        await parent.child._process.wait()
        assert parent.child.code == 0


async def test_a_signal_of_its_own_drains_it_and_a_second_one_stops_it() -> None:
    async with queue_node() as system, parent_of("n", work_at(system.addresses[0])) as parent:
        handle = await system.submit(f"{CHORES}:announced_forever")
        pid = await said_by(system, handle.id)
        assert pid == parent.child.pid

        parent.child._process.send_signal(signal.SIGTERM)
        while (await system.stats()).pools["main"].free:
            await trio.lowlevel.checkpoint()  # its slots go when it drains
        parent.child._process.send_signal(signal.SIGTERM)

        assert await parent.end() == 3
        assert (await system.result(handle.id)).status == "pending"


async def test_what_it_cannot_do_is_said_with_its_reason() -> None:
    async with queue_node(tokens={"worker": "the-workers-own"}) as system:
        url = system.addresses[0]
        said: dict[str, Any] = {}
        for token, modules in ((None, [CHORES]), ("the-workers-own", ["nowhere.tasks"])):
            async with parent_of("n", work_at(url, token=token), *modules) as parent:
                said[modules[0]] = await parent.report()
                assert await parent.end() == 1

    assert "none was shown: set ACTORQ_TOKEN, or give --token-file" in said[CHORES].message
    assert said[CHORES].details == ""
    assert "no module nowhere" in said["nowhere.tasks"].message


async def test_a_source_file_that_changes_ends_it_and_hands_its_tasks_back(
    tmp_path: Path,
) -> None:
    file = tmp_path / "reloaded.py"
    file.write_text(
        "import actorq, trio\n"
        "@actorq.task(name='held')\n"
        "async def held():\n"
        "    actorq.current().progress(1)\n"
        "    await trio.sleep_forever()\n"
    )
    async with queue_node() as system:
        work = work_at(system.addresses[0], reload=True)
        async with parent_of("n", work, "reloaded", cwd=tmp_path) as parent:
            assert await parent.report() == pipe.Ready()
            handle = await system.submit("held")
            await said_by(system, handle.id)

            file.write_text("1 / 0\n")

            assert await parent.report() == pipe.Changed((str(file),))
            assert await parent.end() == 0
            known = await system.result(handle.id)
            assert (known.status, known.attempts) == ("pending", 0)


async def test_one_that_has_worked_waits_for_its_modules_to_be_mended(tmp_path: Path) -> None:
    file = tmp_path / "mended.py"
    file.write_text("1 / 0\n")
    work = work_at("ws://127.0.0.1:1", reload=True, again=True)
    async with parent_of("n", work, "mended", cwd=tmp_path) as parent:
        failed = await parent.report()
        assert isinstance(failed, pipe.Failed)
        assert "ZeroDivisionError" in failed.details

        file.write_text("1 / 1\n")

        assert await parent.report() == pipe.Changed((str(file),))
        assert await parent.end() == 1


def test_a_worker_process_needs_no_command_line_library():
    code = (
        "import sys, actorq.cli.process\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'cyclopts', 'rich'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "\n"
