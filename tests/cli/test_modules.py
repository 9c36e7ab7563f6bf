"""Importing what the command line names."""

import sys

import pytest

from actorq.cli.exits import Exit, Failure
from actorq.cli.modules import check_names, load_lifespan, load_modules
from tests.cli import chores


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in an empty folder, and forget what is imported from it."""
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def test_modules_are_found_in_the_current_directory_too(here):
    (here / "cli_jobs.py").write_text("import actorq\n@actorq.task\nasync def job(): ...\n")

    (module,) = load_modules(["cli_jobs"])

    assert module.job.name == "cli_jobs:job"
    assert load_modules(["tests.cli.chores"]) == [chores]


def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(here):
    with pytest.raises(Failure, match=r"there is no module nowhere in ") as caught:
        load_modules(["nowhere.tasks"])

    assert str(here) in str(caught.value)
    assert caught.value.details == ""


def test_an_error_in_a_module_comes_with_its_own_lines_only(here):
    (here / "cli_broken.py").write_text("import cli_deeper\n")
    (here / "cli_deeper.py").write_text("\n1 / 0\n")

    with pytest.raises(Failure, match=r"^cli_broken cannot be imported: ZeroDiv") as caught:
        load_modules(["cli_broken"])

    assert 'cli_deeper.py", line 2' in caught.value.details
    assert "importlib" not in caught.value.details
    assert "actorq/cli" not in caught.value.details


def test_a_module_that_a_module_misses_is_the_modules_error(here):
    (here / "cli_needy.py").write_text("import not_installed_anywhere\n")

    with pytest.raises(Failure, match="cli_needy cannot be imported: ModuleNotFoundError"):
        load_modules(["cli_needy"])


def test_a_module_that_exits_does_not_end_us(here):
    (here / "cli_exits.py").write_text("raise SystemExit(0)\n")

    with pytest.raises(Failure, match="cli_exits cannot be imported: SystemExit: 0"):
        load_modules(["cli_exits"])


def test_a_syntax_error_shows_the_line(here):
    (here / "cli_typo.py").write_text("def f(:\n")

    with pytest.raises(Failure, match="cli_typo cannot be imported: SyntaxError") as caught:
        load_modules(["cli_typo"])

    assert "def f(:" in caught.value.details


def test_a_module_without_tasks_is_refused(here):
    (here / "cli_empty.py").write_text("def job(): ...\n")

    with pytest.raises(Failure, match=r"cli_empty has no tasks: decorate"):
        load_modules(["cli_empty"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop/tasks.py", "name its module, as shop.tasks"),
        ("./shop/tasks", "name its module, as shop.tasks"),
        ("shop-tasks", "no name of a module"),
        ("shop..tasks", "no name of a module"),
        ("", "no name of a module"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_imported(name, said):
    with pytest.raises(Failure, match=said) as caught:
        check_names([name])

    assert caught.value.code is Exit.USAGE


def test_a_lifespan_is_found_by_its_name():
    assert load_lifespan("tests.cli.chores:lifespan") is chores.lifespan
    assert load_lifespan(None) is None


@pytest.mark.parametrize("path", ["tests.cli.chores", "tests.cli.chores:", "a-b:c"])
def test_a_lifespan_must_be_a_name(path):
    with pytest.raises(Failure) as caught:
        load_lifespan(path)

    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize("name", ["nothing", "not_callable", "lifespan.nothing"])
def test_a_lifespan_must_be_there(name):
    with pytest.raises(Failure, match="there is no such function"):
        load_lifespan(f"tests.cli.chores:{name}")
