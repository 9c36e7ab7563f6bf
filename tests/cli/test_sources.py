"""Which files make a worker start again."""

import importlib
import os
import sys
from math import inf

import pytest

from actorq.cli.sources import Sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def touch(path):
    """Change the time of a file, as saving it does."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))


def test_an_imported_file_that_changes_is_told_once(here):
    file = here / "watched_a.py"
    file.write_text("")
    importlib.import_module("watched_a")
    sources = Sources(here, inf)
    assert sources.changed() == []

    touch(file)

    assert sources.changed() == [file]
    assert sources.changed() == []


def test_a_file_that_is_gone_has_changed(here):
    file = here / "watched_b.py"
    file.write_text("")
    importlib.import_module("watched_b")
    sources = Sources(here, inf)
    sources.changed()

    file.unlink()

    assert sources.changed() == [file]
    assert sources.changed() == []


def test_what_is_imported_later_is_watched_from_then_on(here):
    sources = Sources(here, inf)
    sources.changed()
    file = here / "watched_c.py"
    file.write_text("")
    importlib.import_module("watched_c")
    assert sources.changed() == []

    touch(file)

    assert sources.changed() == [file]


def test_other_files_do_not_matter(here):
    stranger = here / "not_imported.py"
    stranger.write_text("")
    installed = here / "site-packages"
    installed.mkdir()
    (installed / "watched_d.py").write_text("")
    sys.path.insert(0, str(installed))
    importlib.import_module("watched_d")
    sources = Sources(here, inf)
    sources.changed()

    touch(stranger)
    touch(installed / "watched_d.py")

    assert sources.changed() == []


def test_around_a_module_that_cannot_be_imported_every_file_matters(here):
    package = here / "shop"
    package.mkdir()
    (package / "tasks.py").write_text("1 /")
    around = Sources(here, inf, ["shop.tasks"])
    assert around.changed() == []

    touch(package / "tasks.py")
    assert around.changed() == [package / "tasks.py"]
    (here / "missing.py").write_text("")
    assert around.changed() == [here / "missing.py"]
    (here / "missing.py").unlink()
    assert around.changed() == [here / "missing.py"]


def test_what_is_written_while_it_is_imported_has_changed(here):
    file = here / "watched_e.py"
    file.write_text("")
    began = file.stat().st_mtime
    importlib.import_module("watched_e")
    touch(file)

    sources, around = Sources(here, began), Sources(here, began, [])

    assert sources.changed() == around.changed() == [file]
    assert sources.changed() == around.changed() == []
