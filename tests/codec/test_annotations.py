import abc
import dataclasses
import enum
import numbers
import os
import types
from collections import OrderedDict, deque
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    ParamSpec,
    Protocol,
    Required,
    Self,
    SupportsInt,
    TypedDict,
    TypeVar,
    Union,
    Unpack,
)

import attrs
import pytest
import typing_extensions

from actorq.codec.annotations import Annotations, Unresolved, closed, field_types, resolved
from actorq.codec.packed import Misfit, Refusal, pack, unpack
from actorq.codec.shapes import ANY
from tests.codec.samples import Box, Color, Level, Pair, Point, Size, Tree, shape, told

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")


class Loose(Protocol):
    value: int


class Animal(abc.ABC):
    @abc.abstractmethod
    def speak(self) -> str: ...


@attrs.frozen
class Cat(Animal):
    name: str

    def speak(self) -> str:
        return "meow"


@attrs.define
class Base(Generic[T]):
    first: T


@attrs.define
class Derived(Base[list[S]], Generic[S]):
    second: S


@attrs.define
class Fixed(Derived[Point]):
    third: "Fixed | None" = None


@dataclasses.dataclass
class Linked(Generic[T]):
    value: T
    next: "Linked[T] | None" = None
    kind: ClassVar[str] = "linked"
    final: Final[int] = 3


@attrs.define
class Node:
    me: Self | None = None
    others: list[Self] = attrs.Factory(list)


@attrs.define
class Blind:
    known: int
    unknown: "Nowhere" = None  # noqa: F821 - it is the point


class Calling(Generic[T, P]):
    pass


@attrs.frozen
class Narrowed(Point):
    x: bool = True


class Options(TypedDict, total=False):
    name: Required[str]
    size: "NotRequired[Size]"
    more: "Options"


class Entry(NamedTuple, Generic[T]):
    key: str
    value: T


UserId = NewType("UserId", int)
Wrapped = NewType("Wrapped", Point)
Json = typing_extensions.TypeAliasType(
    "Json", "bool | int | float | str | list[Json] | dict[str, Json] | None"
)
Pairs = typing_extensions.TypeAliasType("Pairs", list[tuple[T, T]], type_params=(T,))


def takes(annotation: object, value: object) -> bool:
    """Whether a value travels for an annotation; if so, it comes back as it was."""
    of = shape(annotation)
    try:
        wire = of.encode(value, 0)
    except Refusal:
        return False
    assert told(of.decode(unpack(pack(wire)), 0)) == told(value)
    return True


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Any, [1, [Path("a")]], [Point(1)]),
        (object, [1, "a"], [Point(1)]),
        (T, [1, "a"], [Point(1)]),
        (None, [None], [0]),
        (int, [1, True], [1.0, "1", Level.LOW]),
        (float, [1.5, 1, True], ["1"]),
        (complex, [1j, 1.5, 1], ["1"]),
        (bytes, [b"x"], [bytearray(b"x"), "x"]),
        (bool, [True], [1]),
        (date, [date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)], ["2024-01-01"]),
        (datetime, [datetime(2024, 1, 1, tzinfo=UTC)], [date(2024, 1, 1)]),
        (Path, [Path("a")], [PurePosixPath("a"), "a"]),
        (PurePath, [Path("a"), PurePosixPath("a")], ["a"]),
        (os.PathLike[str], [Path("a")], ["a"]),
        (numbers.Number, [1, 1.5, 1j], ["1"]),
        (Hashable, [1, "a", (1,)], [[1], {}]),
        (SupportsInt, [1, 1.5], ["1"]),
        (Loose, [1, [2]], [Point(1)]),
        (LiteralString, ["a"], [Point(1)]),
        (list, [[1, (2,)]], [(1,), [Point(1)]]),
        (dict, [{1: (2,)}], [[]]),
        (list[Any], [[1, (2,)]], [(1,)]),
        (list[int], [[1, 2]], [["a"], (1,)]),
        (dict[str, list[int]], [{"a": [1]}], [{"a": 1}, {1: [1]}]),
        (set[int], [{1}], [frozenset({1}), {"a"}]),
        (frozenset[Point], [frozenset({Point(1)})], [{Point(1)}]),
        (tuple[int, ...], [(), (1, 2)], [(1, "a"), [1]]),
        (tuple[int, Point], [(1, Point(1))], [(1,), (Point(1), 1)]),
        (tuple[()], [()], [(1,)]),
        (tuple, [(1, "a")], [[1]]),
        (tuple[int, *tuple[str, ...]], [(1, "a", "b")], [[1]]),
        (Sequence[Point], [[Point(1)], (Point(1),)], [{Point(1)}, "a", [1]]),
        (Sequence[str], [["a"], ("a",), "a"], [b"a", [1]]),
        (Sequence[int], [[1], (1,), b"a", bytearray(b"a")], ["a", {1}]),
        (Sequence, [[1], (1,), "a"], [{1}, 1]),
        (MutableSequence[int], [[1], bytearray(b"a")], [(1,)]),
        (Iterable[Point], [[Point(1)], {Point(1)}, {Point(1): 2}], [[1], 1]),
        (Collection[str], [["a"], {"a"}, "a", {"a": 1}], [[1]]),
        (AbstractSet[int], [{1}, frozenset({1})], [[1]]),
        (Mapping[str, Point], [{"a": Point(1)}], [{"a": 1}, []]),
        (MutableMapping[Color, int], [{Color.RED: 1}], [{"red": 1}]),
        (Iterator[int], [], [iter([1]), [1]]),
        (Callable[[int], int], [], [len, 1]),
        (type[int], [], [int]),
        (deque[int], [], [deque([1]), [1]]),
        (OrderedDict[str, int], [], [OrderedDict(a=1), {"a": 1}]),
        (Optional[int], [1, None], ["a"]),  # noqa: UP045 - as some write it
        (Union[int, str], [1, "a"], [None]),  # noqa: UP007
        (int | Point | None, [1, Point(1), None], ["a", Size(1)]),
        (Annotated[int, "x"], [1], ["a"]),
        (Annotated[list[Point], []], [[Point(1)]], [[1]]),
        (Literal[1, "a"], [1, "a"], [2, True]),
        (Literal[Color.RED, 1], [Color.RED, 1], [Color.BLUE, "red"]),
        (Literal[Color.RED] | Literal[Color.BLUE], list(Color), ["red"]),  # noqa: PYI030
        (Literal["a"] | int, ["a", 1], ["b"]),
        (UserId, [1], ["a"]),
        (Wrapped, [Point(1)], [1]),
        (list[Wrapped | None], [[Point(1), None]], [[1]]),
        (Color, list(Color), ["red"]),
        (Point, [Point(1)], [Size(1), {"x": 1}, None]),
        (Animal, [], [Cat("a"), 1]),
        (Cat | None, [Cat("a"), None], [1]),
        (Box[Point], [Box(Point(1))], [Box(1)]),
        (Box, [Box(1)], [Box(Point(1))]),
        (Fixed, [Fixed([Point(1)], Point(2), Fixed([], Point(3)))], [Fixed([1], Point(2))]),
        (Derived[int], [Derived([1], 2)], [Derived(["a"], 2), Derived([1], "a")]),
        (Linked[int], [Linked(1, Linked(2))], [Linked("a"), Linked(1, Linked("a"))]),
        (Node, [Node(Node(), [Node()])], [Node(1)]),
        (Entry[Point], [Entry("a", Point(1))], [Entry("a", 1)]),
        (Options, [{"name": "a", "size": Size(1), "more": {"name": "b"}}], [{}, {"name": 1}]),
        (Json, [{"a": [1, None, {"b": "c"}]}, 1.5], [(1,), b"x"]),
        (Pairs[int], [[(1, 2)]], [[(1, "a")]]),
        (Unresolved("Nowhere"), [1, (2,)], [Point(1)]),
        (P, [1], []),
        (..., [1], []),
        (3, [1], []),
    ],
    ids=lambda value: str(value) if not isinstance(value, list) else "",
)
def test_an_annotation_takes_what_a_type_checker_lets_pass_and_no_more(
    annotation: object, good: list[object], bad: list[object]
) -> None:
    assert [value for value in good if not takes(annotation, value)] == []
    assert [value for value in bad if takes(annotation, value)] == []


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int | None, "int | None"),
        (Optional[Point], "Point | None"),  # noqa: UP045
        (dict[str, list[Point]], "dict[str, list[Point]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (Box[int], "Box[int]"),
        (Sequence[Point], "Sequence[Point]"),
        (Literal["b", "a"], "Literal['a', 'b']"),
        (Annotated[UserId, "x"], "int"),
    ],
    ids=str,
)
def test_an_annotation_is_told_as_one_writes_it(annotation: object, text: str) -> None:
    assert shape(annotation).text == text


def test_the_classes_that_were_met_are_told_with_their_fields() -> None:
    annotations = Annotations()
    annotations.shape(Pair | Box[Color] | None)

    assert annotations.definitions == [
        "Box[Color](content: Color)",
        "Color('blue', 'red')",
        "Pair(left: int, right: Point | None)",
        "Point(x: int, y: int)",
    ]


def test_a_class_that_cannot_travel_is_no_error_until_it_should() -> None:
    class Plainly(Point):
        pass

    assert takes(Plainly | None, None)
    assert not takes(Plainly | None, Plainly(1))


def test_a_class_has_one_shape_however_often_it_is_met() -> None:
    annotations = Annotations()

    assert annotations.shape(Tree) is annotations.shape(Tree)
    assert annotations.shape(Box[int]) is annotations.shape(Box[int])
    assert annotations.shape(Box[int]) is not annotations.shape(Box[str])
    assert annotations.shape(Color) is annotations.shape(Color)


def test_a_field_whose_annotation_cannot_be_resolved_takes_plain_values() -> None:
    assert takes(Blind, Blind(1, (2,)))
    with pytest.raises(Refusal, match="annotation 'Nowhere' cannot be resolved") as caught:
        shape(Blind).encode(Blind(1, Point(1)), 0)
    assert caught.value.where == ".unknown"
    with pytest.raises(Misfit):
        shape(Blind).encode(Blind("a"), 0)


def test_a_class_in_a_function_knows_its_own_name() -> None:
    @attrs.define
    class Local:
        inner: "Local | None" = None

    assert takes(Local, Local(Local()))
    assert not takes(Local, Local(1))


def test_fields_given_without_annotations_have_their_types() -> None:
    made = attrs.make_class("Made", {"x": attrs.field(type=int), "y": attrs.field()})

    assert takes(made, made(1, "a"))
    assert not takes(made, made("a", 1))


def test_an_alias_of_what_is_not_there_takes_plain_values() -> None:
    class TypeAliasType:  # as Python 3.12 has it
        __type_params__ = ()

        @property
        def __value__(self) -> object:
            raise NameError("Nowhere")

    assert shape(TypeAliasType()) is ANY


def test_a_stack_that_is_too_deep_is_no_missing_annotation() -> None:
    def endless() -> object:
        return endless()

    with pytest.raises(RecursionError):
        resolved("endless()", {"endless": endless})


def test_an_endless_class_is_a_type_error_in_time() -> None:
    with pytest.raises(TypeError, match=r"the fields of Endless\[.* never come to an end"):
        shape(Endless[int])


@attrs.define
class Endless(Generic[T]):
    more: "Endless[list[T]] | None" = None


def test_strings_are_resolved_where_they_were_written() -> None:
    names = {"Point": Point, "int": str}

    assert resolved("list[Point]", names) == list[Point]
    assert resolved("int", names) is str
    assert resolved("int", {}) is int
    assert resolved("X", {}, {"X": Size}) is Size
    assert resolved(list["Point"], names) == list[Point]
    assert resolved(None, names) is types.NoneType
    assert resolved("Nowhere", names) == Unresolved("Nowhere")
    assert resolved(list["Nowhere"], names) == Unresolved("list['Nowhere']")  # noqa: F821
    assert resolved("1 / 0", names) == Unresolved("1 / 0")


def test_type_variables_are_closed() -> None:
    assert closed(T, {T: int}) is int
    assert closed(T, {}) is Any
    assert closed(dict[str, T | S], {T: int}) == dict[str, int | Any]
    assert closed(list[int], {T: int}) == list[int]
    assert closed(Calling[T, P], {}) is Any


def test_types_of_fields_are_those_of_the_class_that_declares_them() -> None:
    assert field_types(Fixed, ()) == {
        "first": list[Point],
        "second": Point,
        "third": Optional[Fixed],  # noqa: UP045 - as it is resolved
    }
    assert field_types(Narrowed, ()) == {"x": bool, "y": int}
    assert field_types(Derived, (int,))["first"] == list[int]
    assert field_types(Derived, ())["second"] is Any


def test_annotations_that_name_nothing_take_anything() -> None:
    assert shape(Unpack[Options]) is ANY
    assert shape(Final) is ANY


def test_a_flag_in_a_literal_is_only_that_one() -> None:
    class Mode(enum.Flag):
        R = 1
        W = 2

    assert takes(Literal[Mode.R], Mode.R)
    assert not takes(Literal[Mode.R], Mode.R | Mode.W)
    assert takes(Mode, Mode.R | Mode.W)


def test_pairs_of_a_namedtuple_are_no_tuple() -> None:
    assert not takes(tuple[int, Any], Pair(1))
    assert not takes(Pair, (1, None))
