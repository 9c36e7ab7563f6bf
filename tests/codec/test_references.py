"""A reference stands for a value wherever one looks for it, and for nothing else anywhere."""

import copy
import dataclasses
import gc
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from actorq.codec.packed import BLANK, pack
from actorq.codec.payload import Signature, decode_plain, encode_call, encode_plain
from actorq.codec.references import (
    ALIVE,
    LOOK_MAX,
    Blank,
    Reference,
    blanked,
    check_places,
    filled,
    spliced,
)
from actorq.errors import EncodeError, InvalidArguments, TaskNotFound
from actorq.model.options import AFTER_MAX
from tests.codec.samples import (
    Color,
    Level,
    Movie,
    Pair,
    Point,
    Size,
    Typed,
    annotated,
    plain,
    returning,
    signature_of,
    told,
)


@attrs.define
class Order:
    id: Any
    inner: Any = None


@dataclasses.dataclass
class Parcel:
    content: Any


class Couple(NamedTuple):
    left: Any
    right: Any


@pytest.fixture
def one() -> Reference:
    # Not for all tests: while there is a reference, every call in this process is searched.
    return Reference("id 1", "fetch")


@pytest.fixture
def two() -> Reference:
    return Reference("id 2", "fetch")


def encoded(signature: Signature, *args: Any) -> bytes:
    """Encode a call as a submit does."""
    return signature.encode_call(blanked(args, {})[0], {})


# --- where they are found ------------------------------------------------------------------------


def test_a_reference_is_found_as_an_argument_and_in_containers_up_to_three_deep(
    one: Reference, two: Reference
) -> None:
    args = (one, [one, 1], ("a", [two]), {"k": {"l": [two, None]}})

    found, named, needs = blanked(args, {"x": [two], "y": 3})

    first, second = Blank("id 1"), Blank("id 2")
    assert found == (first, [first, 1], ("a", [second]), {"k": {"l": [second, None]}})
    assert named == {"x": [second], "y": 3}
    assert needs == ("id 1", "id 2")  # each once
    assert [type(value) for value in found] == [Blank, list, tuple, dict]


def test_what_has_no_reference_in_it_stays_the_very_same_object(one: Reference) -> None:
    untouched, touched = [[1, object()], {"a": Order(1)}], [one, []]

    (same, other), named, needs = blanked((untouched, touched), {})

    assert same is untouched
    assert other is not touched
    assert other[1] is touched[1]
    assert touched[0] is one
    assert (named, needs) == ({}, ("id 1",))


def test_a_call_without_any_is_returned_as_it_is() -> None:
    args, kwargs = (1, [object()], {"a": (2,)}), {"b": [Order(1)]}

    found = blanked(args, kwargs)

    assert found[0] is args
    assert found[1] is kwargs
    assert found[2] == ()


@pytest.mark.parametrize(
    "place",
    [
        lambda one: [[[[one]]]],
        lambda one: {"a": [({"b": one},)]},
        Order,
        lambda one: [Order(1, Order(one))],
        lambda one: Parcel([one]),
        lambda one: Couple(1, one),
        lambda one: {"a": Couple(Parcel(one), 1)},
    ],
    ids=["deep", "deep in a dict", "attrs", "inner", "dataclass", "named tuple", "mixed"],
)
def test_one_in_any_other_place_is_refused_where_arguments_go_by_reference(
    place: Callable[[Reference], Any], one: Reference
) -> None:
    value = place(one)
    args, kwargs, needs = blanked((1, value), {"more": value})

    assert needs == ()
    for call in ((args, {}), ((), {"more": kwargs["more"]})):
        which = "argument 2" if call[0] else "argument 'more'"
        with pytest.raises(EncodeError, match=rf"^task job: {which}\S+ is the output of a task"):
            check_places("job", *call)


def test_the_refusal_says_where(one: Reference) -> None:
    with pytest.raises(EncodeError, match=r"argument 1\['a'\]\[1\].inner is the output of a task"):
        check_places("job", ({"a": [1, Order(2, one)]},), {})


def test_a_call_that_contains_itself_is_searched_once() -> None:
    endless: list[Any] = [1]
    endless.append(endless)

    check_places("job", (endless, endless), {"a": endless})
    assert blanked((endless,), {}) == ((endless,), {}, ())


def test_fields_that_cannot_be_read_are_left_alone() -> None:
    @dataclasses.dataclass
    class Moody:
        content: Any

        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

    check_places("job", (Moody(1),), {})


def test_large_arguments_are_not_searched_for_ever(one: Reference) -> None:
    many = [Order(number) for number in range(LOOK_MAX)]

    check_places("job", ([*many, Order(one)],), {})
    with pytest.raises(EncodeError):
        check_places("job", ([Order(one), *many[: LOOK_MAX // 4]],), {})


@pytest.mark.parametrize(
    "annotation",
    [Any, list[Any], list[list[list[list[int]]]], list[list[list[list[Point]]]]],
    ids=str,
)
def test_one_that_is_too_deep_is_refused_where_arguments_are_encoded(
    annotation: Any, one: Reference
) -> None:
    with pytest.raises(EncodeError, match=r"'p0'(\[0\]){4} is the output of a task: .*up to 3"):
        encoded(signature_of(annotation), [[[[one]]]])


@pytest.mark.parametrize("annotation", [Order, Order | Parcel, list[Order]], ids=str)
def test_one_in_an_object_is_refused_where_arguments_are_encoded(
    annotation: Any, one: Reference
) -> None:
    value: Any = [Order(one)] if annotation == list[Order] else Order(one)

    with pytest.raises(EncodeError, match=r"'p0'(\[0\])?.id is the output of a task"):
        encoded(signature_of(annotation), value)


def test_one_is_refused_as_a_value(one: Reference) -> None:
    with pytest.raises(EncodeError, match="its value is the output of a task"):
        returning(Any).encode_value(one)
    with pytest.raises(EncodeError, match="its value is the output of a task"):
        returning(int).encode_value(one)


@pytest.mark.parametrize("id", ["", "x" * 201, "a\0b", "\ud800"])
def test_an_id_that_no_task_can_have_is_not_found(id: str) -> None:
    with pytest.raises(TaskNotFound):
        blanked((Reference(id, ""),), {})


def test_a_call_takes_a_bounded_number_of_them() -> None:
    many = [Reference(f"id {number}", "fetch") for number in range(AFTER_MAX + 1)]

    assert len(blanked((many[1:],), {})[2]) == AFTER_MAX
    with pytest.raises(InvalidArguments, match=f"at most {AFTER_MAX} tasks, not {AFTER_MAX + 1}"):
        blanked((many,), {})


def test_as_long_as_there_is_none_nobody_needs_to_search() -> None:
    gc.collect()
    before = len(ALIVE)

    reference = Reference("id", "fetch")
    assert len(ALIVE) == before + 1
    del reference
    assert len(ALIVE) == before


# --- what they are not ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [bool, hash, list, pickle.dumps, copy.copy, copy.deepcopy, lambda it: {it}, lambda it: {it: 1}],
    ids=["bool", "hash", "list", "pickle", "copy", "deepcopy", "set", "dict"],
)
def test_whoever_takes_one_for_the_value_is_told_what_it_is(use: Any, one: Reference) -> None:
    with pytest.raises(TypeError, match=r"<output of task fetch \(id 1\)> stands for a value"):
        use(one)


def test_two_of_one_task_are_equal_and_equal_nothing_else(one: Reference, two: Reference) -> None:
    assert Reference("id 1", "fetch") == one
    assert one != two
    assert one != "id 1"


# --- what takes their places ---------------------------------------------------------------------


def test_values_take_the_places_of_blanks_by_reference(one: Reference, two: Reference) -> None:
    first, second = object(), object()
    args, kwargs, _ = blanked((one, [two, one], 3), {"a": {"b": (two,)}})

    back = filled("job", args, kwargs, {"id 1": first, "id 2": second})

    assert back == ((first, [second, first], 3), {"a": {"b": (second,)}})
    assert filled("job", args, kwargs, {"id 1": None, "id 2": [one]})[0][1] == [[one], None]


@pytest.mark.parametrize("inputs", [{}, {"id 2": 1}])
def test_a_value_that_is_missing_is_an_error(inputs: dict[str, Any], one: Reference) -> None:
    args, kwargs, _ = blanked((one,), {})
    call = encoded(signature_of(int), one)

    with pytest.raises(EncodeError, match=r"task job: the value of task id 1, .* has not come"):
        filled("job", args, kwargs, inputs)
    with pytest.raises(EncodeError, match=r"task job: the value of task id 1, .* has not come"):
        spliced("job", call, inputs)


def several(annotation: Any) -> Signature:
    """A task that takes such values in all kinds of places."""
    return signature_of(
        annotation,
        list[annotation],
        dict[str, list[annotation]],
        tuple[int, annotation],
        tuple[annotation, ...],
        dict[tuple[int, ...], annotation],
        Any,
    )


@settings(max_examples=60)
@given(annotated, st.data())
def test_a_value_arrives_as_its_receiver_declares_it_in_every_place(
    types: Typed, data: st.DataObject
) -> None:
    one = Reference("id 1", "fetch")
    signature = several(types[0])
    value, other = data.draw(types[1]), data.draw(types[1])
    sent = returning(types[0]).encode_value(value)

    call = encoded(
        signature, one, [one, other], {"k": [other, one]}, (1, one), (other, one), {(1, 2): one}, 7
    )
    back, _ = signature.decode_call(spliced("job", call, {"id 1": sent, "other": b"\xc1"}))

    assert told(back) == told(
        (
            value,
            [value, other],
            {"k": [other, value]},
            (1, value),
            (other, value),
            {(1, 2): value},
            7,
        )
    )


@given(plain)
def test_a_value_arrives_at_a_task_of_which_only_the_name_was_known(value: Any) -> None:
    one = Reference("id 1", "fetch")
    args, kwargs, _ = blanked((one,), {"more": {"a": [one]}})
    sent = encode_plain(value, "it")

    call = spliced("job", encode_call("job", args, kwargs), {"id 1": sent})

    assert told(decode_plain(call)) == told([[value], {"more": {"a": [value]}}])


def test_a_part_of_an_object_that_was_sent_by_fields_may_be_one(one: Reference) -> None:
    """Who knows only the task's name sends dicts, and their values may be outputs."""
    args, kwargs, _ = blanked(({"x": one, "y": 2},), {})

    call = spliced("job", encode_call("job", args, kwargs), {"id 1": pack(1)})

    assert signature_of(Point).decode_call(call) == ((Point(1, 2),), {})


@pytest.mark.parametrize(
    "annotation",
    [
        int, Any, Path, Color, Level, Literal[1, "a"], Point, Pair, Movie, int | None, Point | Size,
        Point | None, list[int], list[int] | list[str], tuple[int, str], tuple[int, ...],
        dict[str, int], set[int], Order | int,
    ],
    ids=str,
)  # fmt: skip
def test_a_reference_passes_wherever_a_value_may_stand(annotation: Any, one: Reference) -> None:
    signature = signature_of(annotation)

    assert encoded(signature, one) == encode_call("job", (Blank("id 1"),), {})


def test_what_stands_beside_a_reference_is_checked_as_ever(one: Reference) -> None:
    signature = signature_of(list[Point])

    with pytest.raises(InvalidArguments, match=r"'p0'\[1\] must be Point, not int"):
        encoded(signature, [one, 3])


def test_a_class_that_cannot_travel_cannot_come_from_another_task_either(one: Reference) -> None:
    @attrs.define
    class Base:
        x: int

    class Undecorated(Base):
        pass

    with pytest.raises(EncodeError, match="Undecorated cannot travel"):
        encoded(signature_of(Undecorated), one)


def test_a_value_of_another_type_is_an_error_that_names_the_argument(two: Reference) -> None:
    signature = signature_of(int, list[Point])
    call = encoded(signature, 1, [Point(1), two])
    wrong = spliced("job", call, {"id 2": pack("text")})

    with pytest.raises(EncodeError, match=r"argument 'p1'\[1\] must be Point, not str"):
        signature.decode_call(wrong)


# --- what others might send ----------------------------------------------------------------------


def test_a_blank_is_nothing_that_a_user_could_have_sent() -> None:
    for value in (Ext(BLANK, b"id 1"), [Ext(BLANK, b"id 1")]):
        with pytest.raises(EncodeError, match="Ext cannot travel"):
            encode_plain(value, "it")


def test_a_blank_in_a_value_is_not_filled_but_refused(one: Reference) -> None:
    """Or one task's result could be read by having it put into another's."""
    call = encoded(signature_of(Any), one)
    value = pack([Ext(BLANK, b"secret")])

    whole = spliced("job", call, {"id 1": value, "secret": pack("s3cret")})

    with pytest.raises(EncodeError, match=f"extension type {BLANK}"):
        signature_of(Any).decode_call(whole)


@pytest.mark.parametrize("value", [b"", b"\x01\x02", b"\xdc\x00", b"\xc1", None, "text", 3])
def test_a_value_that_is_not_exactly_one_is_refused(value: Any, one: Reference) -> None:
    call = encoded(signature_of(int, int), one, 2)

    with pytest.raises(EncodeError, match="task job: the value of task id 1"):
        spliced("job", call, {"id 1": value})


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_whatever_was_sent_is_a_call_or_an_encode_error(call: bytes, value: bytes) -> None:
    with suppress(EncodeError):
        signature_of(Any).decode_call(spliced("job", call, {"id 1": value}))


@given(st.data())
def test_whatever_becomes_of_a_call_on_its_way_it_is_one_or_an_encode_error(
    data: st.DataObject,
) -> None:
    one, two = Reference("id 1", "fetch"), Reference("id 2", "fetch")
    call = bytearray(encoded(signature_of(Any, Any), [one, (two,)], {"a": one, (1,): two}))
    at = data.draw(st.integers(0, len(call) - 1))
    call[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    with suppress(EncodeError):
        inputs = {"id 1": pack(1), "id 2": pack([2])}
        signature_of(Any, Any).decode_call(spliced("job", bytes(call), inputs))
