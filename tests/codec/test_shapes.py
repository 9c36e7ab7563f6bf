import enum
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actorq.codec.packed import DEPTH_MAX, Misfit, Refusal, join_label, pack, unpack
from actorq.codec.shapes import (
    ANY,
    ROWS_MAX,
    Dict,
    Fixed,
    Items,
    Literals,
    Members,
    Plain,
    Row,
    Shape,
    unlabelled,
)
from actorq.codec.tagged import untag
from tests.codec.samples import Color, Flags, Level, Odd, Point, Word, there_and_back, told

INT = Plain("int", frozenset({int, bool}), int)
STR = Plain("str", frozenset({str}), str)
PATH = Plain("Path", frozenset({type(Path())}), Path)


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        (ANY, [None, [1, (2, {3})], Path("a")]),
        (INT, [1, True, 2**99]),
        (PATH, [Path("a")]),
        (Items(list, INT), [[], [1, True, 2**99]]),
        (Items(list, PATH), [[], [Path("a")]]),
        (Items(tuple, PATH), [(), (Path("a"),)]),
        (Items(set, PATH), [set(), {Path("a")}]),
        (Items(frozenset, INT), [frozenset(), frozenset({1, 2**99})]),
        (Dict(STR, INT), [{}, {"a": 1, "b": 2**99}]),
        (Dict(PATH, Items(list, STR)), [{}, {Path("a"): ["b"]}]),
        (Dict(Members(Color), INT), [{Color.RED: 1}]),
        (Fixed([INT, PATH]), [(1, Path("a"))]),
        (Fixed([]), [()]),
        (Literals([1, "a", None, b"b"]), [1, "a", None, b"b"]),
        (Members(Color), list(Color)),
        (Members(Odd), list(Odd)),
        (Members(Word), list(Word)),
        (Members(Level), list(Level)),
        (Members(Flags), [Flags(0), Flags.A, Flags.A | Flags.C]),
    ],
    ids=lambda value: value.text if isinstance(value, Shape) else "",
)
def test_values_of_a_shape_come_back_as_they_were(shape: Shape, values: list[object]) -> None:
    for value in values:
        assert told(there_and_back(shape, value)) == told(value)


@pytest.mark.parametrize(
    ("shape", "value", "why"),
    [
        (INT, 1.0, "must be int, not float"),
        (INT, None, "must be int, not None"),
        (Items(list, INT), (1,), r"must be list\[int\], not tuple"),
        (Items(tuple, INT), [1], r"must be tuple\[int, ...\], not list"),
        (Items(set, INT), frozenset(), r"must be set\[int\], not frozenset"),
        (Dict(STR, INT), [], r"must be dict\[str, int\], not list"),
        (Fixed([INT]), (1, 2), r"must be tuple\[int\], not a tuple of 2"),
        (Fixed([]), [], r"must be tuple\[\(\)\], not list"),
        (Literals([1, "a"]), True, r"must be Literal\['a', 1\], not True"),
        (Literals(["a"]), "b", r"must be Literal\['a'\], not 'b'"),
        (Members(Color), "red", "must be Color, not str"),
        (Members(Color, [Color.RED]), Color.BLUE, r"must be Literal\[RED\], not <Color.BLUE"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_a_misfit(shape: Shape, value: object, why: str) -> None:
    with pytest.raises(Misfit, match=why):
        shape.encode(value, 0)


@pytest.mark.parametrize(
    ("shape", "value"),
    [(INT, Level.LOW), (STR, Word.YES), (Items(list, STR), [Word.YES]), (ANY, Point(1))],
    ids=["IntEnum", "StrEnum", "inside", "object"],
)
def test_a_value_that_would_lose_its_class_is_refused_as_one_that_fits(
    shape: Shape, value: object
) -> None:
    with pytest.raises(Refusal, match=r"would arrive as|cannot travel") as caught:
        shape.encode(value, 0)

    assert not isinstance(caught.value, Misfit)


def test_a_class_that_cannot_be_asked_is_not_asked() -> None:
    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            raise RuntimeError

    class Asked(metaclass=Meta):
        pass

    with pytest.raises(Misfit):
        Plain("Asked", frozenset(), Asked).encode(object(), 0)


@pytest.mark.parametrize(
    ("shape", "value", "where"),
    [
        (Items(list, INT), [1, "x"], "[1]"),
        (Dict(STR, INT), {"a": "x"}, "['a']"),
        (Dict(STR, INT), {1: 1}, "[0]"),
        (Fixed([INT, Items(list, INT)]), (1, [2, "x"]), "[1][1]"),
    ],
    ids=str,
)
def test_a_misfit_says_where(shape: Shape, value: object, where: str) -> None:
    with pytest.raises(Misfit) as caught:
        shape.encode(value, 0)
    assert caught.value.where == where

    with pytest.raises(Misfit) as caught:
        shape.decode(unpack(pack(ANY.encode(value, 0))), 0)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("shape", "plain"),
    [
        (Members(Color), "red"),
        (Members(Odd), "PAIR"),
        (Members(Flags), 5),
        (Members(Level), 2),
        (Dict(Members(Color), INT), {"red": 1}),
        (Items(tuple, INT), (1, 2)),
    ],
    ids=lambda value: value.text if isinstance(value, Shape) else "",
)
def test_without_annotations_a_wire_is_plain(shape: Shape, plain: object) -> None:
    value = shape.decode(ANY.encode(plain, 0), 0)

    assert told(untag(unpack(pack(shape.encode(value, 0))))) == told(plain)


@pytest.mark.parametrize(
    ("shape", "json", "value"),
    [
        (Items(tuple, INT), [1], (1,)),
        (Items(set, PATH), ["a"], {Path("a")}),
        (Fixed([PATH, INT]), ["a", 1], (Path("a"), 1)),
        (Plain("Decimal", frozenset({Decimal}), Decimal), "1.5", Decimal("1.5")),
        (Items(frozenset, Members(Color)), ["red"], frozenset({Color.RED})),
    ],
    ids=str,
)
def test_what_json_has_no_word_for_is_read_from_what_it_has(
    shape: Shape, json: object, value: object
) -> None:
    assert told(shape.decode(unpack(pack(json)), 0)) == told(value)
    assert shape.fits(unpack(pack(json)))


def test_text_stays_text_where_text_is_asked_for() -> None:
    both = Plain("str | Path", frozenset({str, type(Path())}), (str, Path))

    assert both.decode("a", 0) == "a"


@pytest.mark.parametrize(
    ("shape", "wire"),
    [
        (INT, "1"),
        (STR, b"x"),
        (Items(list, INT), ["1"]),
        (Items(list, INT), {}),
        (Items(set, INT), 1),
        (Dict(STR, INT), [1]),
        (Fixed([INT]), [1, 2]),
        (Fixed([INT]), {}),
        (Literals([1]), True),
        (Members(Color), "green"),
        (Members(Color), []),
        (Members(Color), "RED"),
        (Members(Color, [Color.RED]), "blue"),
        (Members(Flags), 8),
        (Members(Flags), -1),
        (Members(Level), True),
    ],
    ids=str,
)
def test_a_wire_that_does_not_fit_is_a_misfit(shape: Shape, wire: object) -> None:
    with pytest.raises(Misfit):
        shape.decode(wire, 0)


def test_an_enum_fits_what_is_one_of_its_members() -> None:
    assert Members(Color).fits("red")
    assert not Members(Color).fits("green")
    assert not Members(Color).fits(1)


def test_flags_that_no_member_has_are_refused() -> None:
    class Loose(enum.IntFlag):
        A = 1

    shape = Members(Loose)
    assert there_and_back(shape, Loose.A) is Loose.A
    with pytest.raises(Misfit):
        shape.encode(Loose(2), 0)


def test_aliases_of_a_member_are_that_member() -> None:
    class Aliased(enum.Enum):
        ONE = (1,)
        UN = (1,)  # noqa: PIE796 - it is the point

    assert there_and_back(Members(Aliased), Aliased.UN) is Aliased.ONE
    assert Members(Aliased).decode("UN", 0) is Aliased.ONE


def test_containers_of_a_shape_are_bounded_in_depth() -> None:
    shape: Shape = INT
    value: Any = 1
    for _ in range(DEPTH_MAX):
        shape, value = Items(list, shape), [value]

    assert there_and_back(shape, value) == value
    with pytest.raises(Refusal, match="nested deeper"):
        Items(list, shape).encode([value], 0)
    with pytest.raises(Refusal, match="nested deeper"):
        Items(list, shape).decode([value], 0)


def test_a_row_is_native_if_every_value_is_its_own_wire() -> None:
    row = Row([INT, STR, Members(Color)], rest=INT)

    assert row.native([1, "a"])
    assert row.native([True])
    assert not row.native([1, 2])
    assert not row.native([1, "a", "red"])
    assert Row([INT], rest=INT).native([1, 2, 3])
    assert not Row([INT], rest=INT).native([1, 2, "x"])
    assert not Row([INT]).native([1, 2])


def test_what_a_row_remembers_is_bounded() -> None:
    row = Row([ANY] * 4, rest=ANY)
    scalars = [None, True, 1, 1.5, "x", b"x"]
    for first in scalars:
        for second in scalars:
            for third in scalars:
                assert row.native([first, second, third])
    assert row.native([1] * 1000)

    assert len(row._known) == ROWS_MAX
    assert all(len(types) < 20 for types in row._known)


def test_a_label_of_another_class_is_refused() -> None:
    wire = unpack(pack(join_label("Color", "red")))

    assert unlabelled(wire, "Color") == "red"
    assert unlabelled("red", "Color") == "red"
    with pytest.raises(Refusal, match="is a Color, not a Level"):
        unlabelled(wire, "Level")
