"""Plain values, classes, and generated annotations with values of them."""

import dataclasses
import enum
import inspect
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import reduce
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st

from actorq.codec.annotations import Annotations
from actorq.codec.packed import pack, unpack
from actorq.codec.payload import Signature
from actorq.codec.shapes import Shape

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Odd(enum.Enum):
    NOTHING = None
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Flags(enum.Flag):
    A = 1
    B = 2
    C = 4


@attrs.frozen
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    unit: str = "px"


class Pair(NamedTuple):
    left: int
    right: Point | None = None


class Movie(TypedDict, total=False):
    title: str
    poster: Size


@attrs.define
class Tree:
    _label: str
    children: "list[Tree]" = attrs.Factory(list)
    depth: int = attrs.field(init=False, default=0)


@attrs.define
class Box(Generic[T]):
    content: T


@attrs.define
class Doubled:
    """Built from its own value, it would be another."""

    value: int = attrs.field(converter=lambda value: value * 2)


@dataclasses.dataclass
class Sum:
    """Its constructor changes what it is given."""

    items: list[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.items.append(0)
        self.total = sum(self.items)


UserId = NewType("UserId", int)
CLASSES = (Point, Size, Pair, Tree, Box, Doubled, Sum)

zones = st.sampled_from(
    [None, UTC, timezone(timedelta(minutes=-90)), timezone(timedelta(hours=2), "here")]
)
moments = st.datetimes(timezones=zones) | st.datetimes(
    timezones=st.sampled_from([ZoneInfo("Europe/Zurich"), ZoneInfo("America/New_York")])
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
paths = texts.filter(lambda text: "\0" not in text)
hashables: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=5),
    st.complex_numbers(allow_nan=False),
    moments,
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    paths.map(Path),
    paths.map(PurePosixPath),
    paths.map(PureWindowsPath),
)
keys = st.recursive(
    hashables,
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
leaves = (
    hashables
    | st.floats()
    | st.decimals(allow_nan=True)
    | st.complex_numbers()
    | st.binary(max_size=5).map(bytearray)
)
plain: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, max_size=3),
        st.frozensets(keys, max_size=3),
    ),
    max_leaves=6,
)

Typed = tuple[Any, st.SearchStrategy[Any], bool]
"""An annotation, values of it, and whether they are hashable."""

numbers = st.integers() | st.booleans()
points = st.builds(Point, numbers, st.integers())
sizes = st.builds(Size, numbers, texts)
trees = st.recursive(
    st.builds(Tree, texts),
    lambda inner: st.builds(Tree, texts, st.lists(inner, max_size=2)),
    max_leaves=4,
)


def with_total(items: list[int], total: int) -> Sum:
    made = Sum(items)
    made.total = total
    return made


SCALARS: list[Typed] = [
    (Any, plain, False),
    (object, plain, False),
    (None, st.none(), True),
    (int, numbers | st.integers(-(2**99), 2**99), True),
    (bool, st.booleans(), True),
    (float, st.floats(allow_nan=False) | numbers, True),
    (str, texts, True),
    (bytes, st.binary(max_size=5), True),
    (datetime, moments, True),
    (date, st.dates() | moments, True),
    (time, st.times(timezones=zones), True),
    (timedelta, st.timedeltas(), True),
    (UUID, st.uuids(), True),
    (Decimal, st.decimals(allow_nan=False), True),
    (Path, paths.map(Path), True),
    (complex, st.complex_numbers(allow_nan=False), True),
    (UserId, st.integers(), True),
    (Annotated[str, "short"], texts, True),
    (Literal[1, "a", Color.RED] | None, st.sampled_from([1, "a", None, Color.RED]), True),
    (Color, st.sampled_from(Color), True),
    (Odd, st.sampled_from(Odd), True),
    (Level, st.sampled_from(Level), True),
    (Word, st.sampled_from(Word), True),
    (Flags, st.sampled_from([Flags(0), Flags.A, Flags.A | Flags.C]), True),
    (Point, points, True),
    (Size, sizes, True),
    (Pair, st.builds(Pair, numbers, st.none() | points), True),
    (Movie, st.fixed_dictionaries({}, optional={"title": texts, "poster": sizes}), False),
    (Tree, trees, False),
    (Box[int], st.builds(Box, numbers), False),
    (Doubled, st.builds(Doubled, st.integers()), False),
    (Sum, st.builds(with_total, st.lists(st.integers(), max_size=3), st.integers()), False),
]


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def listed(of: Typed) -> st.SearchStrategy[Typed]:
        annotation, values, hashable = of
        lists = st.lists(values, max_size=3)
        tuples = lists.map(tuple)
        dicts = st.dictionaries(texts, values, max_size=3)
        found: list[Typed] = [
            (list[annotation], lists, False),
            (tuple[annotation, ...], tuples, hashable),
            (tuple[int, annotation], st.tuples(st.integers(), values), hashable),
            (dict[str, annotation], dicts, False),
            (Mapping[str, annotation], dicts, False),
            (Sequence[annotation], lists | tuples, False),
            (Iterable[annotation], lists | tuples, False),
            (Box[annotation], st.builds(Box, values), False),
        ]
        if hashable:
            found += [
                (set[annotation], st.sets(values, max_size=3), False),
                (frozenset[annotation], st.frozensets(values, max_size=3), True),
                (dict[annotation, int], st.dictionaries(values, st.integers(), max_size=3), False),
            ]
        return st.sampled_from(found)

    def generated(fields: list[Typed]) -> Typed:
        names = [f"f{number}" for number in range(len(fields))]
        hints = dict(zip(names, (field[0] for field in fields), strict=True))
        cls = attrs.make_class("Made", {name: attrs.field(type=hints[name]) for name in names})
        return cls, st.builds(cls, *(field[1] for field in fields)), False

    def made(fields: list[Typed]) -> Typed:
        names = [f"f{number}" for number in range(len(fields))]
        hints = [(name, field[0]) for name, field in zip(names, fields, strict=True)]
        cls = dataclasses.make_dataclass("Made", hints)
        return cls, st.builds(cls, *(field[1] for field in fields)), False

    several = st.lists(inner, min_size=1, max_size=3)
    return inner.flatmap(listed) | several.map(generated) | several.map(made)


def joined(branches: list[Typed]) -> Typed:
    annotations, values, hashable = zip(*branches, strict=True)
    return reduce(operator.or_, annotations), st.one_of(values), all(hashable)


BRANCHES: list[Typed] = [
    row for row in SCALARS if row[0] not in (Any, object, None, bool, UserId, Level)
]
unions: st.SearchStrategy[Typed] = st.lists(
    st.sampled_from(BRANCHES), min_size=2, max_size=4, unique_by=lambda row: str(row[0])
).map(joined)
typed: st.SearchStrategy[Typed] = st.recursive(
    st.sampled_from(SCALARS) | unions, containers, max_leaves=3
)


def told(value: object) -> object:
    """Everything about a value: types at every level, and fields, whatever its class compares."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, [(told(key), told(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(told(item)) for item in value)
    if isinstance(value, list | tuple):
        return kind, [told(item) for item in value]
    if attrs.has(kind):
        return kind, [told(getattr(value, a.name, ...)) for a in attrs.fields(kind)]
    if dataclasses.is_dataclass(value):
        return kind, [told(getattr(value, f.name)) for f in dataclasses.fields(value)]
    return kind, repr(value), getattr(value, "fold", 0)


def shape(annotation: object) -> Shape:
    return Annotations().shape(annotation)


def there_and_back(of: Shape, value: object) -> Any:
    return of.decode(unpack(pack(of.encode(value, 0))), 0)


def signature_of(*annotations: object) -> Signature:
    """The signature of a function with such parameters: p0, p1 and so on."""

    def function(*args: object) -> None: ...

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        inspect.Parameter(f"p{number}", kind, annotation=annotation)
        for number, annotation in enumerate(annotations)
    )
    return Signature("job", function)


def returning(annotation: object) -> Signature:
    def function() -> None: ...

    function.__annotations__["return"] = annotation
    return Signature("job", function)


def is_compiled(types: Typed) -> bool:
    with suppress(TypeError):  # a union whose branches share a type
        signature_of(types[0])
        return True
    return False


annotated = typed.filter(is_compiled)
