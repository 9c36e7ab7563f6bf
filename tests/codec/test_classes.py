import dataclasses
import functools
import threading
from collections import namedtuple
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import attrs
import pytest

from actorq.codec.annotations import Annotations
from actorq.codec.classes import recipe_of
from actorq.codec.packed import DEPTH_MAX, Misfit, Refusal, pack, unpack
from actorq.codec.tagged import untag
from tests.codec import samples
from tests.codec.samples import (
    Box,
    Color,
    Doubled,
    Movie,
    Pair,
    Point,
    Size,
    Sum,
    Tree,
    shape,
    told,
)


def there_and_back(value: object) -> Any:
    return samples.there_and_back(shape(type(value)), value)


def plain(value: object) -> Any:
    return untag(unpack(pack(shape(type(value)).encode(value, 0))))


@attrs.define
class Account:
    """All the ways in which attrs names things."""

    _id: int
    name: str = attrs.field(alias="called", kw_only=True)
    __secret: str = "s"
    tags: list[str] = attrs.Factory(list)
    color: Color | None = None
    size: Size = attrs.Factory(lambda self: Size(len(self.name)), takes_self=True)


@attrs.define
class Stateful:
    value: int
    seen: int = attrs.field(init=False, default=0)
    unset: list[int] = attrs.field(init=False)


@attrs.frozen(cache_hash=True)
class Hashed:
    value: str = attrs.field(converter=str.strip)


@attrs.define(slots=False)
class Roomy:
    value: int

    @functools.cached_property
    def double(self) -> int:
        return self.value * 2


@attrs.define
class Prepared:
    """Its constructor has side effects that no field holds."""

    value: int
    doubled: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.doubled = self.value * 2


@attrs.define(init=False)
class Handmade:
    value: int

    def __init__(self, text: str = "0", value: int | None = None) -> None:
        self.value = int(text) if value is None else value


@attrs.define
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.define
class Splitting:
    """Its constructor does not take what it makes."""

    parts: list[str] = attrs.field(converter=lambda text: text.split(","))

    def __attrs_post_init__(self) -> None:
        pass


@dataclasses.dataclass(slots=True, kw_only=True)
class Slotted:
    _value: int
    others: dict[str, Decimal] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Variable:
    value: int
    scale: dataclasses.InitVar[int]


@dataclasses.dataclass
class Scaled:
    value: int
    scale: dataclasses.InitVar[int]

    def __post_init__(self, scale: int) -> None:
        self.value *= scale


@dataclasses.dataclass(init=False)
class Bare:
    value: int


class Named(NamedTuple):
    size: Size
    color: Color = Color.RED


class Renamed(Named):
    @property
    def width(self) -> int:
        return self.size.width


@attrs.define
class Loud(Exception):
    value: int


@dataclasses.dataclass
class Tagged(dict):
    name: str


@attrs.frozen
class Point3(Point):
    z: int = 0


class Undecorated(Point):
    pass


def stateful(value: int, seen: int, **more: Any) -> Stateful:
    made = Stateful(value)
    made.seen = seen
    for name, item in more.items():
        setattr(made, name, item)
    return made


def bare(value: int) -> Bare:
    made = Bare()
    made.value = value
    return made


def sum_of(total: int) -> Sum:
    made = Sum([1])
    made.total = total
    return made


def handmade(value: int) -> Handmade:
    return Handmade(str(value))


@pytest.mark.parametrize(
    "value",
    [
        Account(1, called="a"),
        Account(1, called="a", Account__secret="x", tags=["b"], color=Color.BLUE, size=Size(7)),
        stateful(1, 2, unset=[3]),
        Doubled(4),
        Roomy(1),
        Prepared(3),
        attrs.evolve(Positive(1), value=2),
        handmade(5),
        Slotted(_value=1, others={"a": Decimal("1.0")}),
        Variable(1, 2),
        bare(6),
        sum_of(7),
        Tree("a", [Tree("b"), Tree("c", [Tree("d")])]),
        Box([1, ("a",)]),
        Pair(1, Point(2)),
        Named(Size(1)),
        Renamed(Size(1), Color.BLUE),
        Point3(1, 2, 3),
    ],
    ids=str,
)
def test_an_object_comes_back_with_the_fields_that_it_had(value: object) -> None:
    arrived = there_and_back(value)

    assert type(arrived) is type(value)
    assert told(arrived) == told(value)


def test_the_wire_is_a_dict_of_what_the_constructor_takes() -> None:
    assert plain(Account(1, called="a")) == {
        "id": 1,
        "called": "a",
        "Account__secret": "s",
        "tags": [],
        "color": None,
        "size": {"width": 1, "unit": "px"},
    }


def test_a_field_that_was_never_set_is_not_set_when_it_arrives() -> None:
    arrived = there_and_back(stateful(1, 2))

    assert arrived.seen == 2
    assert not hasattr(arrived, "unset")


def test_a_constructor_does_not_change_what_arrives() -> None:
    assert there_and_back(Doubled(4)).value == 8
    assert there_and_back(sum_of(7)).items == [1, 0]


def test_an_object_is_not_changed_by_being_sent() -> None:
    value = Sum([1, 2])

    plain(value)
    assert value.items == [1, 2, 0]


def test_state_that_only_the_constructor_prepares_is_there() -> None:
    assert hash(there_and_back(Hashed(" a "))) == hash(Hashed("a"))
    assert there_and_back(Prepared(2)).doubled == 4


def test_what_a_class_has_beside_its_fields_is_made_again() -> None:
    value = Roomy(2)
    assert value.double == 4

    assert there_and_back(value).double == 4


def test_a_subclass_is_refused_for_its_base() -> None:
    for sub in (Point3(1), Undecorated(1)):
        with pytest.raises(
            Refusal, match=rf"would arrive as Point: .* Point \| {type(sub).__name__}"
        ):
            shape(Point).encode(sub, 0)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Undecorated(1), "Undecorated cannot travel: decorate it too"),
        (Loud(1), "Loud cannot travel: it is more than its fields, a kind of Exception"),
        (Tagged("a"), "Tagged cannot travel: it is more than its fields, a kind of dict"),
        (Scaled(1, 2), r"Scaled cannot be built again: TypeError\(.*scale"),
        (Splitting("a,b"), "Splitting cannot be built again: .*has no attribute 'split'"),
    ],
    ids=str,
)
def test_an_object_that_could_not_be_built_again_is_refused_before_it_leaves(
    value: object, why: str
) -> None:
    with pytest.raises(Refusal, match=why):
        shape(type(value)).encode(value, 0)


def test_a_class_that_cannot_travel_takes_nothing() -> None:
    with pytest.raises(Misfit, match="must be Loud, not int"):
        shape(Loud).encode(1, 0)
    with pytest.raises(Misfit, match="must be Loud, not dict"):
        shape(Loud).decode({"value": 1}, 0)


def test_an_object_that_has_become_invalid_is_refused_before_it_leaves() -> None:
    value = Positive(1)
    object.__setattr__(value, "value", -1)

    with pytest.raises(Refusal, match=r"Positive is not valid: ValueError\("):
        shape(Positive).encode(value, 0)


@attrs.define
class Checked:
    value: int = attrs.field(converter=abs, validator=attrs.validators.gt(0))


@pytest.mark.parametrize("cls", [Positive, Checked])
def test_validators_check_what_arrives(cls: type) -> None:
    with pytest.raises(Refusal, match="cannot be built: ValueError"):
        shape(cls).decode({"value": -1}, 0)


def test_an_object_without_one_of_its_fields_is_refused() -> None:
    value = Roomy(1)
    del value.value

    with pytest.raises(Refusal, match="Roomy has no 'value'"):
        shape(Roomy).encode(value, 0)


def test_a_misfit_inside_names_the_field() -> None:
    with pytest.raises(Misfit, match="must be int, not str") as caught:
        shape(Pair).encode(Pair(1, Point("x")), 0)
    assert caught.value.where == ".right.x"

    with pytest.raises(Misfit) as caught:
        shape(Pair).decode({"left": 1, "right": {"x": "x"}}, 0)
    assert caught.value.where == ".right.x"


@pytest.mark.parametrize(
    ("cls", "wire", "value"),
    [
        (Point, {"x": 1}, Point(1)),
        (Point, {"y": 2, "x": 1}, Point(1, 2)),
        (Size, {"width": 1}, Size(1)),
        (Pair, {"left": 1}, Pair(1)),
        (Account, {"called": "abc", "id": 1}, Account(1, called="abc")),
        (Stateful, {"value": 1}, Stateful(1)),
        (Movie, {"poster": {"width": 1}}, {"poster": Size(1)}),
    ],
    ids=str,
)
def test_what_is_not_given_is_the_default(cls: Any, wire: dict[str, Any], value: object) -> None:
    assert told(shape(cls).decode(wire, 0)) == told(value)


@pytest.mark.parametrize(
    ("cls", "wire", "why"),
    [
        (Point, {}, "Point has no value for 'x'"),
        (Point, {"x": 1, "z": 1, "a": 1}, "Point has no field 'a', 'z'"),
        (Point, {1: 1}, "Point has no field 1"),
        (Pair, {"right": None}, "Pair has no value for 'left'"),
        (Point, [1, 2], "must be Point, not list"),
        (Point, None, "must be Point, not None"),
        (Movie, [], "must be Movie, not list"),
        (Size, {"unit": 1, "width": "x"}, "must be .*, not"),
    ],
    ids=str,
)
def test_what_does_not_fit_a_class_is_refused(cls: Any, wire: object, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        shape(cls).decode(wire, 0)


def test_a_class_fits_a_dict_with_its_fields() -> None:
    of = shape(Point)

    assert of.fits({"x": 1})
    assert of.fits({"x": 1, "y": "whatever"})
    assert not of.fits({})
    assert not of.fits({"x": 1, "z": 1})
    assert not of.fits([])


def test_a_value_of_another_class_is_a_misfit() -> None:
    with pytest.raises(Misfit, match="must be Point, not Size"):
        shape(Point).encode(Size(1), 0)
    with pytest.raises(Misfit, match="must be Movie, not list"):
        shape(Movie).encode([], 0)


def test_objects_are_bounded_in_depth() -> None:
    tree = Tree("leaf")
    for _ in range(DEPTH_MAX // 2 - 1):
        tree = Tree("node", [tree])

    assert told(there_and_back(tree)) == told(tree)
    for deep in (Tree("root", [tree]), tree):
        deep.children.append(deep)
        with pytest.raises(Refusal, match="nested deeper"):
            shape(Tree).encode(deep, 0)


def test_a_typed_dict_comes_back_with_all_its_keys() -> None:
    of = shape(Movie)
    for movie in ({}, {"title": "Solaris"}, {"poster": Size(1), "year": (1972,), 7: {1}}):
        wire = of.encode(movie, 0)

        assert told(of.decode(unpack(pack(wire)), 0)) == told(movie)


def test_a_typed_dict_without_a_required_key_is_a_misfit() -> None:
    class Strict(TypedDict):
        a: int
        b: int

    for step in (shape(Strict).encode, shape(Strict).decode):
        assert step({"a": 1, "b": 2}, 0) == {"a": 1, "b": 2}
        with pytest.raises(Misfit, match=r"must be .*Strict, not a dict without 'b'"):
            step({"a": 1}, 0)
        with pytest.raises(Misfit) as caught:
            step({"a": 1, "b": "x"}, 0)
        assert caught.value.where == "['b']"
    with pytest.raises(Refusal, match="object cannot travel"):
        shape(Strict).encode({"a": 1, "b": 2, "c": object()}, 0)


def test_a_collections_namedtuple_has_fields_of_any_type() -> None:
    cls = namedtuple("Loose", ["a", "b"], defaults=[None])  # noqa: PYI024 - those without types

    assert told(there_and_back(cls(1, (2,)))) == told(cls(1, (2,)))
    with pytest.raises(Refusal, match="lock cannot travel"):
        shape(cls).encode(cls(threading.Lock()), 0)


def test_what_does_not_say_its_fields_has_no_recipe() -> None:
    assert recipe_of(int) is recipe_of(tuple) is recipe_of(threading.Thread) is None


def test_only_what_may_fail_is_built_on_trial() -> None:
    doubtful = {
        cls: recipe.doubtful
        for cls in (Point, Size, Pair, Account, Doubled, Stateful, Prepared, Handmade, Sum, Hashed)
        if (recipe := recipe_of(cls)) is not None
    }

    assert [cls for cls, is_doubtful in doubtful.items() if is_doubtful] == [
        Prepared,
        Handmade,
        Sum,
        Hashed,
    ]


def test_a_class_is_defined_in_words() -> None:
    class Film(Movie):
        year: int

    annotations = Annotations()
    annotations.shape(Film)

    assert annotations.definitions == [
        "Film(title?: str, poster?: Size, year: int)",
        "Size(width: int, unit: str)",
    ]
