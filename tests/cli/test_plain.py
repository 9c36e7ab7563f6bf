"""What values become in JSON and on a terminal."""

import datetime as dt
import enum
import json
import math
import unicodedata
import uuid
from decimal import Decimal
from pathlib import PurePosixPath

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.cli.plain import dumps, one_line, printable, shown, to_json


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: int
    _secret: int = 0


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (dt.date(2026, 3, 1), "2026-03-01"),
        (dt.time(12, 30), "12:30:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        ((1, (2,)), [1, [2]]),
        (frozenset({3, 1}), [1, 3]),
        ({1, "a"}, ["a", 1]),
        (Point(3), {"x": 3}),
        ({1: 2, None: 3, (4,): 5}, {"1": 2, "None": 3, "(4,)": 5}),
        (b"\x00", {"$type": "bytes", "$repr": "b'\\x00'"}),
        (math.inf, {"$type": "float", "$repr": "inf"}),
        (
            dt.timedelta(1),
            {"$type": "datetime.timedelta", "$repr": "datetime.timedelta(days=1)"},
        ),
    ],
)
def test_json_says_it_as_well_as_it_can(value, plain):
    assert to_json(value) == plain


def test_json_text_is_ascii_and_one_line():
    assert dumps({"ü": "\ud800\n"}) == '{"\\u00fc": "\\ud800\\n"}'


def test_a_very_deep_value_does_not_bring_it_down():
    value = []
    for _ in range(100_000):
        value = [value]

    assert "$repr" in dumps(value)
    for _ in range(100_000):  # or the interpreter would recurse to free it
        (value,) = value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(json_values)
def test_what_json_can_say_is_said_unchanged(value):
    assert json.loads(dumps(value)) == value


@given(st.text())
def test_printed_text_has_no_control_characters_but_lines_and_tabs(text):
    assert all(char in "\n\t" or unicodedata.category(char)[0] != "C" for char in printable(text))


@given(st.text())
def test_one_line_is_one_line(text):
    assert "\n" not in one_line(text)
    assert len(one_line(text).splitlines()) <= 1


def test_people_see_their_own_letters():
    assert shown("Zürich") == '"Zürich"'
    assert shown("\x1b[31m\u202e") == '"\\u001b[31m\\u202e"'
