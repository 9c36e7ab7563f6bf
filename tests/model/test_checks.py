"""What users write down is returned as it should be, or refused by its name."""

from collections.abc import Callable
from functools import partial
from math import inf, nan

import pytest

from actorq.model.checks import flag, name, number, whole


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
