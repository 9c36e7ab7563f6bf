"""What users write down is returned as it should be, or refused by its name."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from math import inf, nan

import pytest

from actorq.model.checks import aware, flag, name, number, text, whole, word


@pytest.mark.parametrize(
    ("check", "value", "error"),
    [
        (number, "1", TypeError),
        (number, True, TypeError),
        (number, -1, ValueError),
        (number, nan, ValueError),
        (number, inf, ValueError),
        (partial(number, above=True), 0, ValueError),
        (whole, 1.0, TypeError),
        (whole, True, TypeError),
        (whole, 0, ValueError),
        (name, 7, TypeError),
        (name, "", ValueError),
        (name, "a" * 201, ValueError),
        (name, "a\0b", ValueError),
        (name, "\ud800", ValueError),
        (flag, 1, TypeError),
        (text, b"a", TypeError),
        (aware, "2030-01-01", TypeError),
        (aware, datetime(2030, 1, 1), ValueError),  # noqa: DTZ001 - it is the point
    ],
)
def test_a_wrong_value_is_named(
    check: Callable[[str, object], object], value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="the thing"):
        check("the thing", value)


def test_a_right_one_is_returned() -> None:
    assert number("n", 1) == 1.0
    assert isinstance(number("n", 1), float)
    assert (whole("n", 3), name("n", "\u00e9" * 200), flag("n", False)) == (
        3,
        "\u00e9" * 200,
        False,
    )
    assert text("n", "") == ""
    assert aware("n", datetime(2030, 1, 1, tzinfo=UTC)) == datetime(2030, 1, 1, tzinfo=UTC)
    assert word("n", "run", "fail", "run") == "run"


@pytest.mark.parametrize(
    ("words", "said"),
    [(("fail", "run"), "'fail' or 'run'"), (("a", "b", "c"), "'a', 'b' or 'c'")],
)
@pytest.mark.parametrize("value", ["Run", None, ["fail"]])
def test_another_word_is_refused_by_those_that_there_are(
    words: tuple[str, ...], said: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"the thing must be {said}, not {re.escape(repr(value))}"):
        word("the thing", value, *words)
