"""What `doctor` sees without asking a queue node."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from actorq.cli.checks import Check, clock, installed, room, store, token_file
from actorq.codec.records import Records
from actorq.stores import locks
from actorq.stores.sqlite import SqliteStore
from actorq.testing.samples import PARTITION, ended, live


def test_what_is_installed_is_told_with_its_versions():
    found = installed()

    assert found.level == "ok"
    assert all(f" {name} " in f" {found.found} " for name in ("actorq", "Python", "trio"))


@pytest.mark.parametrize(
    ("ahead", "level", "said"),
    [
        (0.004, "ok", "differs by 4 ms"),
        (-1.9, "ok", "differs by 1900 ms"),
        (3.0, "warning", "3.0 s ahead of the one here"),
        (-90.0, "warning", "90.0 s behind the one here"),
    ],
)
def test_clocks_that_differ_are_a_warning(ahead, level, said):
    found = clock(ahead)

    assert found.level == level
    assert said in found.found


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, "ok"), (0o400, "ok"), (0o640, "warning"), (0o604, "warning")]
)
def test_only_its_owner_should_read_a_token(tmp_path: Path, mode, level):
    file = tmp_path / "token"
    file.touch()
    file.chmod(mode)

    assert token_file(file).level == level


def test_a_token_file_that_is_not_there_is_a_problem(tmp_path: Path):
    found = token_file(tmp_path / "token")

    assert found.level == "problem"
    assert "No such file" in found.found


@pytest.mark.parametrize(("free", "level"), [(5e9, "ok"), (500e6, "warning"), (10e6, "problem")])
def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path, monkeypatch, free, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    assert room(tmp_path).level == level


def test_a_folder_that_is_not_there_has_no_room(tmp_path: Path):
    assert room(tmp_path / "nowhere").level == "problem"


# --- a store --------------------------------------------------------------------------------


def found(url: str, *, deep: bool = False) -> dict[str, Check]:
    return {check.check: check for check in store(url, deep=deep)}


async def test_a_store_is_told_with_its_owner_and_its_disk(tmp_path: Path):
    kept = SqliteStore(tmp_path / "tasks.db", Records())
    await kept.open()
    ownership = await kept.acquire(PARTITION, "0" * 16, 10.0)
    await kept.commit(ownership, [live(1), ended(2)])

    told = found(f"sqlite:///{tmp_path}/tasks.db", deep=True)
    await kept.close()

    assert {check.level for check in told.values()} == {"ok"}
    assert told["store"].found.endswith(", 1 live task, 1 ended")
    assert told["owner"].found.startswith("process ")
    assert told["layout"].found == "version 1"
    assert told["disk"].found.endswith(f"free at {tmp_path}")
    assert "nothing is damaged" in told["integrity"].found


async def test_whoever_was_killed_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gone = await trio.run_process(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_stdout=True
    )
    pid = int(gone.stdout)  # nobody's after this
    monkeypatch.setattr(os, "getpid", lambda: pid)
    kept = SqliteStore(tmp_path / "tasks.db", Records(), clock=lambda: 1_000.0)
    await kept.open()
    await kept.acquire(PARTITION, "0" * 16, 10.0)
    await kept.close()

    told = found(f"sqlite:///{tmp_path}/tasks.db")

    assert told["owner"].found.startswith(f"process {pid} on ")
    assert told["owner"].found.endswith(", whose time is over")
    if sys.platform == "linux":
        assert "which is no more" in told["owner"].found
    assert "integrity" not in told


def test_a_store_that_is_not_there_yet_is_a_warning_and_none_is_made(tmp_path: Path):
    told = found(f"sqlite:///{tmp_path}/tasks.db")

    assert told["store"].level == "warning"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store_is_a_problem_with_advice(tmp_path: Path):
    (tmp_path / "tasks.db").write_bytes(b"no database at all " * 100)

    told = found(f"sqlite:///{tmp_path}/tasks.db")

    assert told["store"].level == "problem"
    assert "restore a backup" in told["store"].found


def test_a_network_file_system_is_a_problem(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(locks, "network_file_system", lambda _: "nfs4")

    told = found(f"sqlite:///{tmp_path}/tasks.db")

    assert told["file system"].level == "problem"
    assert "(nfs4)" in told["file system"].found


def test_a_store_in_memory_has_nothing_to_look_at():
    assert [check.level for check in store("memory://", deep=True)] == ["ok"]
