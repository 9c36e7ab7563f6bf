import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
import pytest

from actorq.codec.packed import LABELLED, Misfit, Refusal, join_label, kind_of, pack, unpack
from actorq.codec.shapes import Plain
from actorq.codec.tagged import untag
from actorq.codec.unions import Union, union
from tests.codec.samples import (
    Box,
    Color,
    Level,
    Movie,
    Pair,
    Point,
    Size,
    Tree,
    Word,
    shape,
    there_and_back,
    told,
)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int | None, [1, True, None]),
        (int | str | float, [1, "a", 1.5, False]),
        (int | str | Point | None, [1, "a", Point(1), None]),
        (Point | Size, [Point(1), Size(1)]),
        (Point | dict[str, int], [Point(1), {"x": 1}]),
        (Point | Movie, [Point(1), {"title": "Solaris"}]),
        (Color | str, [Color.RED, "red"]),
        (Color | Word | Level | int, [Color.RED, Word.YES, Level.LOW, 1]),
        (int | Any, [1, "a"]),
        (list[int] | list | int, [[1], ["a"], 1]),
        (list[int] | tuple[int, ...] | list[str], [[1], (1,), ["a"]]),
        (Point | Any, [Point(1), {"x": 1}, [1], (Path("a"),)]),
        (list[int] | list[str], [[1], ["a"], []]),
        (list[int] | int | list[str], [[1], ["a"], 3]),
        (list[Point] | tuple[Point, ...], [[Point(1)], (Point(1),)]),
        (list[Point] | dict[str, Point] | Point, [[Point(1)], {"a": Point(1)}, Point(1)]),
        (Pair | tuple[int, int], [Pair(1), (1, 2)]),
        (Annotated[Point | Size, "a union in a union"] | Pair, [Point(1), Size(1), Pair(1)]),
        (Sequence[Point] | Point | None, [[Point(1)], (Point(1),), Point(1), None]),
        (Tree | Box[int] | None, [Tree("a"), Box(1), None]),
        (list[Point | Size], [[Point(1), Size(1)]]),
        (set[Point | Size | str], [{Point(1), Size(1), "a"}]),
        (dict[Color | str, int], [{Color.RED: 1, "red": 2}]),
    ],
    ids=str,
)
def test_a_value_comes_back_by_the_branch_that_its_type_tells(
    annotation: object, values: list[object]
) -> None:
    of = shape(annotation)
    for value in values:
        assert told(there_and_back(of, value)) == told(value)


@pytest.mark.parametrize(
    ("annotation", "labelled"),
    [(Point | None, False), (Point | str, False), (Point | Size, True), (Point | dict, True)],
    ids=str,
)
def test_a_label_is_put_on_only_where_it_is_needed(annotation: object, labelled: bool) -> None:
    wire = shape(annotation).encode(Point(1), 0)

    assert (kind_of(wire) == LABELLED) == labelled
    assert untag(wire) == {"x": 1, "y": 0}


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        (list[Point] | list[Size], "a list"),
        (list | list[Point], "a list"),
        (list[Point] | list[int], "a list"),
        (dict[str, Point] | Movie, "a dict"),
        (Box[int] | Box[str], "a Box"),
        (tuple[int, Point] | tuple[Point, int], "a tuple"),
        (list[Point] | Sequence[Size], "a list"),
    ],
    ids=str,
)
def test_a_union_whose_branches_share_a_type_is_refused(annotation: object, what: str) -> None:
    with pytest.raises(TypeError, match=rf"type of {what} does not tell which .* annotate with"):
        shape(annotation)


def test_branches_that_only_check_may_share_a_type() -> None:
    of = shape(list[int] | list[str] | dict[str, int] | dict[int, str])

    assert of.plain
    for value in ([1], ["a"], {"a": 1}, {1: "a"}):
        assert there_and_back(of, value) == value
    for other in ([1, "a"], {"a": "a"}):
        with pytest.raises(Misfit, match=r"must be .*, not this (list|dict)"):
            of.encode(other, 0)
        with pytest.raises(Misfit):
            of.decode(other, 0)


def test_classes_of_one_name_are_told_apart_by_their_modules() -> None:
    def made(module: str) -> Any:
        cls = attrs.make_class("Same", {"x": attrs.field(type=int)})
        cls.__module__ = module
        return cls

    one, two = made("one"), made("two")

    of = shape(one | two)
    assert told(there_and_back(of, one(1))) == told(one(1))
    assert told(there_and_back(of, two(1))) == told(two(1))
    with pytest.raises(TypeError, match="two of these classes have the same name"):
        shape(one | made("one"))


def test_a_value_of_no_branch_is_a_misfit_and_the_whole_union_is_named() -> None:
    of = shape(Point | Color | int | None)

    with pytest.raises(Misfit, match=r"must be Point \| Color \| int \| None, not str"):
        of.encode("x", 0)


def test_what_is_wrong_inside_a_branch_is_told_of_there() -> None:
    with pytest.raises(Misfit, match="must be int, not str") as caught:
        shape(list[int] | None).encode([1, "x"], 0)

    assert caught.value.where == "[1]"


def test_a_value_that_would_lose_its_class_is_refused_by_the_branch_that_it_fits() -> None:
    with pytest.raises(Refusal, match="Word would arrive as str"):
        shape(Point | str).encode(Word.YES, 0)


def test_a_wire_without_a_label_is_taken_for_the_only_branch_that_it_looks_like() -> None:
    of = shape(Point | Size | Color)

    assert of.decode({"width": 1, "unit": "cm"}, 0) == Size(1, "cm")
    assert of.decode({"x": 1}, 0) == Point(1)
    assert of.decode("red", 0) is Color.RED
    with pytest.raises(Misfit, match="which is none of them"):
        of.decode({"x": 1, "width": 1}, 0)
    with pytest.raises(Misfit, match="which is none of them"):
        of.decode([1], 0)


def test_a_wire_that_looks_like_several_branches_is_refused() -> None:
    class Wine(enum.Enum):
        RED = "red"

    with pytest.raises(Misfit, match="which may be several of them"):
        shape(Color | Wine).decode("red", 0)


def test_a_label_selects_only_among_the_branches() -> None:
    of = shape(Point | Size)

    for label in ("Tree", "os.path", "builtins.eval"):
        with pytest.raises(Refusal, match=rf"must be Point \| Size, not a {label}"):
            of.decode(unpack(pack(join_label(label, {"x": 1}))), 0)


def test_a_label_that_was_not_needed_here_is_understood() -> None:
    wire = unpack(pack(shape(Point | Size).encode(Point(1), 0)))

    assert shape(Point | None).decode(wire, 0) == Point(1)
    assert shape(Point).decode(wire, 0) == Point(1)
    assert shape(Any).decode(wire, 0) == {"x": 1, "y": 0}
    with pytest.raises(Refusal):
        shape(Size).decode(wire, 0)


@pytest.mark.parametrize(
    ("annotation", "natives"),
    [
        (int | Point, {int, bool}),
        (Color | None, {type(None)}),
        (Color | str, {str}),
        (Level | Color | Point, set()),
        (list[int] | list[str], set()),
        (Point | Any, {type(None), bool, int, float, str, bytes}),
    ],
    ids=str,
)
def test_only_what_means_the_same_both_ways_is_its_own_wire(
    annotation: object, natives: set[type]
) -> None:
    assert shape(annotation).natives == natives


def test_a_union_of_one_is_that_one() -> None:
    one = Plain("int", frozenset({int}), int)

    assert union("int", [one, one]).text == "int"
    assert not isinstance(union("int", [one]), Union)
