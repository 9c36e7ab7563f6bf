"""Tables for terminals, and plain lines for everything else."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from actorq.cli.output import Column, Out, Table, ago, ahead, counted, fields

COLUMNS = (
    Column("ID", whole=True),
    Column("NAME", keep=7),
    Column("N", keep=1, right=True),
    Column("STATUS", keep=8),
)
ROWS = [("a" * 31, "shop.tasks:a_long_name", 3, "success"), ("b" * 31, "[red]b[/]", 10, "failure")]


def test_a_pipe_gets_one_line_a_row_with_nothing_cut_or_coloured():
    file = io.StringIO()

    Out(file=file).say(None, Table(COLUMNS, ROWS))

    assert file.getvalue().splitlines() == [
        "ID                               NAME                     N  STATUS",
        f"{'a' * 31}  shop.tasks:a_long_name   3  success",
        f"{'b' * 31}  [red]b[/]               10  failure",
    ]


def test_a_terminal_gets_colours_unless_it_wants_none(terminal, monkeypatch):
    file = terminal(100)
    Out(file=file).say(None, Table(COLUMNS, ROWS))
    assert "\x1b[32msuccess" in file.getvalue()

    monkeypatch.setenv("NO_COLOR", "1")
    file = terminal(100)
    Out(file=file).say(None, Table(COLUMNS, ROWS))
    assert "\x1b[3" not in file.getvalue()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_ids(terminal, width, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file = terminal(width)

    Out(file=file).say(None, Table(COLUMNS, ROWS))

    lines = file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "".join(lines).count("a") >= 31  # in full, though perhaps in two lines
    assert ("NAME" in lines[0]) == (width >= 60)


def test_nobodys_words_are_markup(terminal):
    file = terminal(100)

    Out(file=file).say(None, Table(COLUMNS, ROWS))
    Out(file=file).say(None, fields(("name", "[red]c[/]")))

    assert "[red]b[/]" in file.getvalue()
    assert "[red]c[/]" in file.getvalue()


def test_fields_without_a_value_are_left_out():
    file = io.StringIO()

    Out(file=file).say(None, fields(("id", 1), ("worker", None), ("status", "a\nb")))

    assert file.getvalue() == "id      1\nstatus  a b\n"


def test_json_is_one_line_for_a_program_and_indented_for_people(terminal):
    file, screen = io.StringIO(), terminal(80)

    Out(json=True, file=file).say({"a": [1]}, "for people")
    Out(json=True, file=screen).say({"a": [1]}, "for people")

    assert file.getvalue() == '{"a": [1]}\n'
    assert json.loads(screen.getvalue()) == {"a": [1]}
    assert screen.getvalue().count("\n") > 1


def test_what_is_said_beside_the_results_goes_to_stderr(capsys):
    Out().note("there\nare \x1b more")

    assert capsys.readouterr() == ("", "actorq: there are \\x1b more\n")


def test_an_age_has_one_unit():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    ages = {0: "0s", 119: "119s", 120: "2m", 7_200: "2h", 172_800: "2d"}

    assert {s: ago(now - timedelta(seconds=s), now) for s in ages} == ages
    assert ago(now + timedelta(seconds=5), now) == "0s"
    assert ago(None) is None


def test_what_is_to_come_has_one_unit_too():
    now = datetime(2026, 3, 1, tzinfo=UTC)

    assert ahead(now + timedelta(hours=3), now) == "in 3h"
    assert ahead(now - timedelta(seconds=1), now) == "in 0s"
    assert ahead(None) is None


def test_numbers_of_things_are_told_in_words():
    assert [counted(number, "task") for number in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]
