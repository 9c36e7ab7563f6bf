import pytest
from msgspec.msgpack import Ext

from actorq.codec.packed import (
    DEPTH_MAX,
    FROZENSET,
    INT_BYTES_MAX,
    LABELLED,
    PAIRS,
    SET,
    TUPLE,
    WHERE_MAX,
    Misfit,
    Refusal,
    deeper,
    each,
    each_value,
    join_items,
    join_label,
    join_pairs,
    kind_of,
    open_items,
    pack,
    shown,
    split_items,
    split_label,
    split_pairs,
    unpack,
)


def refuse_three(value: int, depth: int) -> int:
    if value == 3:
        raise Refusal("is three")
    return value * depth


@pytest.mark.parametrize(
    "wire",
    [None, True, 0, -1, 1.5, "x", b"x", [1, ["x"]], {"a": {1: None}}, 2**64 - 1, -(2**63)],
    ids=repr,
)
def test_what_messagepack_knows_is_its_own_wire(wire: object) -> None:
    assert unpack(pack(wire)) == wire


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**1000])
def test_an_integer_over_64_bits_becomes_an_extension_wherever_it_is(number: int) -> None:
    wire = unpack(pack([number, {"a": (number, 1)}]))

    assert type(wire[0]) is type(wire[1]["a"][0]) is Ext
    assert int.from_bytes(wire[0].data, "big", signed=True) == number
    assert wire[1]["a"][1] == 1


def test_a_key_over_64_bits_turns_the_map_into_pairs() -> None:
    assert kind_of(unpack(pack({2**64: 1}))) == PAIRS


def test_an_integer_is_bounded() -> None:
    pack(1 << (8 * INT_BYTES_MAX - 2))

    with pytest.raises(Refusal, match="an integer of over 65536 bytes is too large"):
        pack(1 << (8 * INT_BYTES_MAX))


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(Refusal, match=r"cannot be written: .*surrogates not allowed"):
        pack(["\ud800"])


def test_extensions_stay_closed_and_are_views() -> None:
    (wire,) = unpack(pack([Ext(TUPLE, pack([1, Ext(SET, b"\x90")]))]))

    assert kind_of(wire) == TUPLE
    assert isinstance(wire.data, memoryview)
    assert kind_of(open_items(wire.data)[1]) == SET


def test_an_extension_that_holds_something_else_than_items_is_refused() -> None:
    with pytest.raises(Refusal, match="malformed"):
        open_items(pack({}))


@pytest.mark.parametrize(
    ("kind", "code"), [(tuple, TUPLE), (set, SET), (frozenset, FROZENSET), (list, list)]
)
def test_items_are_split_as_they_were_joined(kind: type, code: object) -> None:
    wire = unpack(pack(join_items(kind, [1, "x"])))

    assert kind_of(wire) == code
    assert sorted(split_items(kind, wire) or [], key=str) == [1, "x"]
    others = [split_items(other, wire) for other in (list, tuple, set, frozenset) if other != kind]
    assert others == [wire if kind is list else None] * 3  # a list, as of JSON, passes for any


def test_equal_sets_are_equal_bytes() -> None:
    assert pack(join_items(set, ["b", "a", 1])) == pack(join_items(set, [1, "a", "b"]))


def test_pairs_are_split_as_they_were_joined() -> None:
    for keys in (["a", 1, None], [Ext(TUPLE, b"\x90"), "a"]):
        found = split_pairs(unpack(pack(join_pairs(keys, range(len(keys))))))

        assert found is not None
        assert [kind_of(key) for key in found[0]] == [kind_of(key) for key in keys]
        assert list(found[1]) == list(range(len(keys)))
    assert split_pairs([]) is None


def test_a_label_is_split_from_what_it_was_put_on() -> None:
    wire = unpack(pack(join_label("Cat", {"lives": 9})))

    assert kind_of(wire) == LABELLED
    assert split_label(wire.data) == ("Cat", {"lives": 9})


def test_a_label_on_a_label_is_refused() -> None:
    with pytest.raises(Refusal, match="malformed"):
        split_label(pack(["Cat", join_label("Dog", 1)]))


def test_a_refusal_says_where() -> None:
    with pytest.raises(Refusal) as caught:
        each(refuse_three, [1, 3], 0)
    assert caught.value.where == "[1]"

    with pytest.raises(Refusal) as caught:
        list(each_value(refuse_three, ["a", "b"], [1, 3], 0))
    assert caught.value.where == "['b']"
    assert each(refuse_three, [1, 2], 2) == [2, 4]
    assert list(each_value(refuse_three, ["a"], [1], 2)) == [2]


def test_a_refusal_from_deep_inside_says_where_it_begins() -> None:
    refusal = Refusal("is three")
    for number in range(1000):
        refusal.inside(f".field{number}")

    assert len(refusal.where) == WHERE_MAX
    assert refusal.where.startswith(".field999.field998")
    assert refusal.where.endswith("...")


def test_depth_is_bounded() -> None:
    assert deeper(DEPTH_MAX - 1) == DEPTH_MAX
    with pytest.raises(Refusal, match="nested deeper than 100 levels, or contains itself"):
        deeper(DEPTH_MAX)


def test_a_value_is_shown_by_the_beginning_of_its_repr_if_it_has_one() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown("x" * 1000) == "'" + "x" * 79
    assert shown(10**10_000) == "a int"
    assert shown(Silent()) == "a Silent"


def test_a_misfit_says_what_it_is_and_what_it_should_be() -> None:
    assert str(Misfit("int", None)) == "must be int, not None"
    assert str(Misfit("int", "3")) == "must be int, not str"
    assert str(Misfit("int", "3", "three")) == "must be int, not three"
