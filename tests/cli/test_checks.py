"""What `doctor` sees without asking a queue node."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from actorq.cli import checks
from actorq.cli.checks import clock, installed, room, token_file


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
