import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from actorq.codec.packed import DEPTH_MAX, pack
from actorq.codec.payload import (
    Signature,
    decode_plain,
    encode_call,
    encode_plain,
)
from actorq.errors import ActorqError, EncodeError, InvalidArguments
from tests.codec.samples import (
    Box,
    Color,
    Doubled,
    Level,
    Movie,
    Pair,
    Point,
    Size,
    Sum,
    Tree,
    Typed,
    annotated,
    plain,
    returning,
    signature_of,
    texts,
    told,
    typed,
)

if TYPE_CHECKING:
    from decimal import Decimal as Money


@attrs.define
class Order:
    id: int
    items: list[Pair] = attrs.Factory(list)
    color: Color | None = None
    note: str | Size = ""


class Settings(TypedDict, total=False):
    width: int
    point: Point


def job(
    order: Order, *sizes: Size, path: Path | None = None, **more: list[int]
) -> dict[str, Point]:
    return {}


JOB = Signature("job", job)
CALLS = [
    ((Order(1),), {}),
    ((Order(1, [Pair(2, Point(3))], Color.RED, Size(4)), Size(5)), {"path": Path("a"), "b": [1]}),
]


fewer = settings(max_examples=60)  # each is a function, and often a class, of its own


# --- What arrives ------------------------------------------------------------------------


@fewer
@given(st.lists(annotated, min_size=1, max_size=3), st.data())
def test_arguments_of_any_annotation_arrive_equal_and_of_the_same_type(
    types: list[Typed], data: st.DataObject
) -> None:
    signature = signature_of(*(annotation for annotation, _, _ in types))
    args = tuple(data.draw(values) for _, values, _ in types)
    kwargs = {f"p{number}": arg for number, arg in enumerate(args)}

    call = signature.encode_call(args, {})
    assert told(signature.decode_call(call)) == told((args, {}))
    decode_plain(call)
    call = signature.encode_call((), kwargs)
    assert told(signature.decode_call(call)) == told(((), kwargs))


@fewer
@given(annotated, typed, st.data())
def test_an_argument_of_another_type_arrives_as_it_was_or_is_refused_by_name(
    wanted: Typed, given: Typed, data: st.DataObject
) -> None:
    signature = signature_of(int, wanted[0])
    value = data.draw(given[1])
    try:
        call = signature.encode_call((1, value), {})
    except (InvalidArguments, EncodeError) as error:
        refusal = str(error)
    else:
        assert told(signature.decode_call(call)) == told(((1, value), {}))
        return
    assert refusal.startswith("task job: argument 'p1'")


@fewer
@given(annotated, st.data())
def test_a_value_arrives_equal_and_of_the_same_type(types: Typed, data: st.DataObject) -> None:
    signature = returning(types[0])
    value = data.draw(types[1])

    encoded = signature.encode_value(value)
    assert told(signature.decode_value(encoded)) == told(value)
    decode_plain(encoded)


@given(st.lists(plain, max_size=3).map(tuple), st.dictionaries(texts, plain, max_size=2))
def test_a_call_of_a_task_known_by_name_arrives_as_it_was_made(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    call = encode_call("job", args, kwargs)

    assert told(Signature("job", max).decode_call(call)) == told((args, kwargs))


@given(plain)
def test_a_value_without_annotation_arrives_as_it_was(value: object) -> None:
    assert told(decode_plain(encode_plain(value, "meta"))) == told(value)


@pytest.mark.parametrize(("args", "kwargs"), CALLS, ids=["short", "long"])
def test_a_call_arrives_as_it_was_made(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert told(JOB.decode_call(JOB.encode_call(args, kwargs))) == told((args, kwargs))


def test_without_annotations_objects_are_dicts_of_their_fields() -> None:
    args, kwargs = CALLS[1]

    assert decode_plain(JOB.encode_call(args, kwargs)) == [
        [
            {
                "id": 1,
                "items": [{"left": 2, "right": {"x": 3, "y": 0}}],
                "color": "red",
                "note": {"width": 4, "unit": "px"},
            },
            {"width": 5, "unit": "px"},
        ],
        {"path": Path("a"), "b": [1]},
    ]
    assert decode_plain(JOB.encode_value({"a": Point(1)})) == {"a": {"x": 1, "y": 0}}


def test_a_dict_of_its_fields_arrives_as_the_object_that_the_task_asks_for() -> None:
    call = encode_call(
        "job",
        ({"id": 1, "color": "red", "items": [{"left": 1}]}, {"width": 2}),
        {"path": "a/b", "more": [1]},
    )

    assert JOB.decode_call(call) == (
        (Order(1, [Pair(1)], Color.RED), Size(2)),
        {"path": Path("a/b"), "more": [1]},
    )


def test_a_call_by_name_is_the_same_bytes_as_one_by_function() -> None:
    signature = signature_of(int, str, list[int])

    assert signature.encode_call((1, "a", [2]), {}) == encode_call("job", (1, "a", [2]), {})


# --- What is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "why"),
    [
        ((1,), {}, InvalidArguments, "'order' must be Order, not int"),
        ((Order("x"),), {}, InvalidArguments, "'order'.id must be int, not str"),
        (
            (Order(1, [Pair(1), Pair(2, 3)]),),
            {},
            InvalidArguments,
            r"'order'.items\[1\].right must be Point | None, not int",
        ),
        ((Order(1), Size(1), 2), {}, InvalidArguments, r"\*sizes, number 2 must be Size, not int"),
        ((), {"order": Order(1), "path": "a"}, InvalidArguments, "'path' must be .*, not str"),
        ((Order(1),), {"a": ["x"]}, InvalidArguments, r"'a'\[0\] must be int, not str"),
        ((Order(1, note="\ud800"),), {}, EncodeError, "'order' cannot be written: .*surrogates"),
        ((Order(1),), {"a": [Level.LOW]}, EncodeError, r"'a'\[0\] Level would arrive as int"),
    ],
    ids=str,
)
def test_a_refusal_names_the_argument_and_says_what_is_wrong(
    args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=f"^task job: argument {why}") as caught:
        JOB.encode_call(args, kwargs)

    assert type(caught.value) is error


def test_a_refusal_keeps_the_error_of_the_class_that_made_it() -> None:
    @attrs.define
    class Positive:
        value: int = attrs.field(validator=attrs.validators.gt(0))

    value = Positive(1)
    object.__setattr__(value, "value", 0)
    signature = signature_of(Positive)

    with pytest.raises(EncodeError, match="argument 'p0' Positive is not valid") as caught:
        signature.encode_call((value,), {})
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(EncodeError, match="argument 'p0' Positive cannot be built") as caught:
        signature.decode_call(encode_call("job", ({"value": 0},), {}))
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(EncodeError, match=r"argument 'p0'\['a'\]\[0\] Positive is not") as caught:
        signature_of(dict[str, list[Positive]]).encode_call(({"a": [value]},), {})
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("args", "kwargs", "which"),
    [
        ((1, object()), {}, "argument 2"),
        ((), {"a": 1, "lock": threading.Lock()}, "argument 'lock'"),
        ((1, ["\ud800"]), {}, "argument 2"),
        (("\ud800",), {}, "argument 1"),
        ((), {"\ud800": 1}, "the name of an argument"),
        ((Point(1),), {}, "argument 1"),
    ],
    ids=ascii,
)
def test_what_cannot_travel_is_named_also_in_a_call_by_name(
    args: tuple[Any, ...], kwargs: dict[str, Any], which: str
) -> None:
    with pytest.raises(EncodeError, match=rf"^task job: {which}( .*)? cannot"):
        encode_call("job", args, kwargs)


@pytest.mark.parametrize("args", [(1, 2), (1, 2, 3)], ids=str)
def test_arguments_that_the_function_does_not_take_are_invalid(args: tuple[int, ...]) -> None:
    signature = signature_of(int)

    with pytest.raises(InvalidArguments, match="task job takes 1 positional arguments, not"):
        signature.encode_call(args, {})
    with pytest.raises(InvalidArguments, match="task job takes no argument 'other'"):
        signature.encode_call((), {"other": 1})
    with pytest.raises(InvalidArguments, match="task job takes no argument 1"):
        encode_call("job", (), {1: 1})  # type: ignore[dict-item]
    with pytest.raises(EncodeError, match="task job takes 1 positional arguments, not"):
        signature.decode_call(encode_call("job", args, {}))
    with pytest.raises(EncodeError, match="task job takes no argument 'other'"):
        signature.decode_call(encode_call("job", (), {"other": 1}))


@pytest.mark.parametrize("annotation", [Any, list[Any], list[list[Any]], Tree], ids=str)
def test_what_contains_itself_is_refused(annotation: Any) -> None:
    loop: Any = []
    value = Tree("a", loop) if annotation is Tree else loop
    loop.append(value)

    with pytest.raises(EncodeError, match=r"argument 'p0'.* is nested deeper than 100 levels"):
        signature_of(annotation).encode_call((value,), {})


def test_a_value_that_is_not_what_the_function_says_is_refused() -> None:
    with pytest.raises(EncodeError, match=r"^task job: its value must be dict\[.*\], not None"):
        JOB.encode_value(None)
    with pytest.raises(EncodeError, match=r"^task job: its value\['a'\].x must be int, not str"):
        JOB.encode_value({"a": Point("x")})  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match=r"^task job: its value\['a'\] must be Point, not int"):
        JOB.decode_value(encode_plain({"a": 1}, "value"))
    with pytest.raises(EncodeError, match="generator cannot travel"):
        returning(Any).encode_value(n for n in ())


def test_an_error_of_the_class_of_a_value_is_an_encode_error() -> None:
    @attrs.define
    class Moody:
        value: int

        def __getattribute__(self, name: str) -> object:
            raise OSError("not today")

    moody = Moody.__new__(Moody)
    for call in (
        lambda: signature_of(Moody).encode_call((moody,), {}),
        lambda: returning(Moody).encode_value(moody),
    ):
        with pytest.raises(EncodeError, match=r"fails: OSError\('not today'\)") as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)


def test_a_plain_value_that_cannot_travel_is_refused_by_its_own_name() -> None:
    with pytest.raises(EncodeError, match=r"^option 'meta'\['a'\] object cannot travel"):
        encode_plain({"a": object()}, "option 'meta'")
    with pytest.raises(EncodeError, match=r"^option 'meta' cannot be written: .*surrogates"):
        encode_plain("\ud800", "option 'meta'")


def test_a_value_near_the_end_of_the_stack_is_an_encode_error() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = (value,)
    data = encode_plain(value, "meta")
    anything = signature_of(Any)

    def at_depth(call: Callable[[], object]) -> object:
        try:
            return at_depth(call)
        except RecursionError:
            return call()

    for call in (
        lambda: encode_plain(value, "meta"),
        lambda: decode_plain(data),
        lambda: anything.encode_call((value,), {}),
        lambda: anything.decode_call(b"\x92\x91" + data + b"\x80"),
    ):
        with pytest.raises(EncodeError):
            at_depth(call)


def test_an_ambiguous_union_is_a_type_error_that_names_the_parameter() -> None:
    def function(good: int, bad: list[Point] | list[Size]) -> None: ...

    with pytest.raises(TypeError, match=r"^task job: 'bad': in .* does not tell which"):
        Signature("job", function)
    with pytest.raises(TypeError, match=r"^task job: 'return': in .* does not tell which"):
        returning(Box[int] | Box[str])


# --- What arrives from strangers ---------------------------------------------------------

wires: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | texts | st.binary(max_size=20),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["x", "y", "id", "items"]) | texts, inner, max_size=3),
        st.builds(lambda code, wire: Ext(code, pack(wire)), st.integers(-128, 127), inner),
        st.builds(Ext, st.integers(1, 15), st.binary(max_size=20)),
    ),
    max_leaves=10,
)
signatures = st.sampled_from(
    [
        JOB,
        signature_of(Order | Tree | Point | Size | Movie | Color | None),
        signature_of(set[Point] | dict[Color | str, int] | tuple[int, ...] | str),
        signature_of(Doubled | Sum | Box[int] | int),
    ]
)


def read(signature: Signature, data: bytes) -> None:
    """Whatever they are, these bytes are read, or an EncodeError."""
    for decode in (signature.decode_call, signature.decode_value, decode_plain):
        with suppress(EncodeError):
            decode(data)


@given(signatures, st.binary(max_size=50))
@example(JOB, b"\x91" * 100_000)
@example(JOB, b"\x81" * 100_000)
@example(JOB, b"\xdd\xff\xff\xff\xff" * 1000)
@example(JOB, b"\xdf\xff\xff\xff\xff")
@example(JOB, b"\xc6\xff\xff\xff\xff")
@example(JOB, b"\xc9\xff\xff\xff\xff\x01")
@example(JOB, b"\x92\xdd\xff\xff\xff\xff")
@example(JOB, b"\x81\x91\x01\x02")
def test_any_bytes_are_read_or_an_encode_error(signature: Signature, data: bytes) -> None:
    read(signature, data)


@given(signatures, wires)
def test_any_messagepack_is_read_or_an_encode_error(signature: Signature, wire: Any) -> None:
    read(signature, pack(wire))
    read(signature, pack([[wire], {}]))
    read(signature, pack([[], {"order": wire}]))


@fewer
@given(annotated, st.data())
def test_a_mutilated_call_is_read_or_an_encode_error(types: Typed, data: st.DataObject) -> None:
    signature = signature_of(types[0])
    call = bytearray(signature.encode_call((data.draw(types[1]),), {}))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(call) - 1))
        end = at + data.draw(st.integers(0, 2))
        call[at:end] = data.draw(st.binary(max_size=2)) or b"\xc7"

    read(signature, bytes(call))


def test_extensions_in_extensions_are_an_encode_error_in_no_time() -> None:
    data = b"\xc0"
    for _ in range(3_000):
        data = pack([Ext(1, data)])

    with pytest.raises(EncodeError):
        decode_plain(data)
    with pytest.raises(EncodeError):
        JOB.decode_call(data)


def test_what_the_bytes_name_is_never_imported_or_called() -> None:
    wire = Ext(15, pack(["os.system", "true"]))

    assert decode_plain(pack(wire)) == "true"
    with pytest.raises(EncodeError, match=r"must be .*, not a os\.system"):
        signature_of(Point | Size).decode_call(pack([[wire], {}]))


# --- Functions of all kinds --------------------------------------------------------------


class Called:
    def __call__(self, point: Point) -> Size: ...

    def method(self, point: Point) -> Size: ...

    @classmethod
    def of_class(cls, point: Point) -> Size: ...

    @staticmethod
    def static(point: Point) -> Size: ...


def function(point: Point) -> Size: ...


def with_more(first: int, point: Point, last: str = "") -> Size: ...


async def coroutine(point: Point) -> Size: ...


@functools.wraps(function)
def wrapped(*args: Any) -> Any: ...


CALLABLES: dict[str, Callable[..., Any]] = {
    "function": function,
    "coroutine function": coroutine,
    "decorated": wrapped,
    "cached": functools.lru_cache(function),
    "partial": functools.partial(with_more, 1),
    "partial of a partial": functools.partial(functools.partial(with_more, 1), last="x"),
    "object": Called(),
    "partial of an object": functools.partial(Called()),
    "method": Called().method,
    "class method": Called.of_class,
    "static method": Called.static,
}


@pytest.mark.parametrize("called", CALLABLES.values(), ids=CALLABLES)
def test_annotations_are_found_behind_every_kind_of_callable(called: Callable[..., Any]) -> None:
    signature = Signature("job", called)

    call = signature.encode_call((Point(1),), {})
    assert signature.decode_call(call) == ((Point(1),), {})
    assert signature.decode_value(signature.encode_value(Size(1))) == Size(1)
    with pytest.raises(InvalidArguments, match="'point' must be Point, not int"):
        signature.encode_call((1,), {})


def test_the_value_of_a_class_is_an_object_of_it() -> None:
    signature = Signature("job", Point)

    assert signature.decode_value(signature.encode_value(Point(1))) == Point(1)
    assert signature.decode_call(signature.encode_call((1,), {"y": 2})) == ((1,), {"y": 2})


@pytest.mark.parametrize("called", [max, print, dict, "".join], ids=str)
def test_a_built_in_takes_plain_values(called: Callable[..., Any]) -> None:
    signature = Signature("job", called)

    call = signature.encode_call(([1, (2,)],), {})
    assert signature.decode_call(call) == (([1, (2,)],), {})


def test_the_value_of_an_async_generator_is_none() -> None:
    async def stream(n: int) -> AsyncIterator[Point]:
        yield Point(n)

    for called in (stream, functools.partial(stream, 1)):
        signature = Signature("job", called)
        assert signature.decode_value(signature.encode_value(None)) is None
        with pytest.raises(EncodeError, match="its value must be None, not Point"):
            signature.encode_value(Point(1))


def test_postponed_annotations_are_resolved() -> None:
    def postponed(point: "Point", *rest: "list[Size]", **more: "Color | None") -> "Box[int]": ...

    signature = Signature("job", postponed)
    call = signature.encode_call((Point(1), [Size(1)]), {"a": Color.RED})

    assert signature.decode_call(call) == ((Point(1), [Size(1)]), {"a": Color.RED})
    assert signature.decode_value(signature.encode_value(Box(1))) == Box(1)
    with pytest.raises(InvalidArguments):
        signature.encode_call((1,), {})


def test_a_parameter_whose_annotation_cannot_be_resolved_takes_plain_values() -> None:
    def blind(amount: "Money", point: Point) -> "Money": ...

    signature = Signature("job", blind)
    call = signature.encode_call(((1, "CHF"), Point(1)), {})

    assert signature.decode_call(call) == (((1, "CHF"), Point(1)), {})
    assert signature.decode_value(signature.encode_value((1,))) == (1,)
    why = "argument 'amount' Point cannot travel: .*; its annotation 'Money' cannot be resolved"
    with pytest.raises(EncodeError, match=why):
        signature.encode_call((Point(1), Point(1)), {})


def test_typed_keywords_have_the_types_of_their_dict() -> None:
    def typed_keywords(name: str, **more: Unpack[Settings]) -> None: ...

    signature = Signature("job", typed_keywords)
    call = signature.encode_call(("a",), {"point": Point(1), "width": 2})

    assert signature.decode_call(call) == (("a",), {"point": Point(1), "width": 2})
    with pytest.raises(InvalidArguments, match="'point' must be Point, not int"):
        signature.encode_call(("a",), {"point": 1})
    with pytest.raises(InvalidArguments, match="takes no argument 'other'"):
        signature.encode_call(("a",), {"other": 1})


def test_a_positional_only_name_may_also_be_a_keyword() -> None:
    def split(a: int, /, b: int, *, c: Point, **a_too: str) -> None: ...

    signature = Signature("job", split)
    call = signature.encode_call((1,), {"b": 2, "c": Point(3), "a": "x"})

    assert signature.decode_call(call) == ((1,), {"b": 2, "c": Point(3), "a": "x"})
    with pytest.raises(InvalidArguments, match="'a' must be str, not int"):
        signature.encode_call((1,), {"b": 2, "c": Point(3), "a": 1})


# --- Digests -----------------------------------------------------------------------------


def digest(called: Callable[..., Any]) -> str:
    return Signature("job", called).digest


def test_equal_signatures_have_equal_digests() -> None:
    def one(a: int, b: Point | None = None) -> str: ...
    def other(a: int, b: "Point | None") -> "str": ...

    assert digest(one) == digest(one) == digest(other)
    assert len(digest(one)) == 12
    assert set(digest(one)) <= set("0123456789abcdef")
    assert digest(max) == digest(max)


def test_another_name_kind_or_annotation_is_another_digest() -> None:
    def base(a: int, b: Point) -> str: ...
    def renamed(a: int, c: Point) -> str: ...
    def swapped(b: Point, a: int) -> str: ...
    def keyword(a: int, *, b: Point) -> str: ...
    def another(a: int, b: Size) -> str: ...
    def returned(a: int, b: Point) -> bytes: ...
    def variable(a: int, *b: Point) -> str: ...
    def keywords(a: int, **b: Point) -> str: ...

    functions = [base, renamed, swapped, keyword, another, returned, variable, keywords, max]
    assert len({digest(called) for called in functions}) == len(functions)


def test_another_field_of_a_class_is_another_digest() -> None:
    def made(*fields: str) -> str:
        cls = attrs.make_class("Made", {name: attrs.field(type=int) for name in fields})

        def function(made: object) -> None: ...

        function.__annotations__["made"] = list[cls]
        return digest(function)

    assert made("a", "b") == made("a", "b")
    assert made("a", "b") != made("a", "c")


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(EncodeError, ActorqError)
    assert not issubclass(InvalidArguments, EncodeError)
