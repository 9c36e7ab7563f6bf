"""Wires: values of which MessagePack knows every part, and their bytes.

Extension types stand for what MessagePack lacks: tuples and sets are told from lists, and every
other type in `actorq.codec.tagged` has one. They stay closed when bytes become a wire, so whoever
expects something in particular may open them itself.

Bytes may come from anywhere. Opening what nobody encoded may raise any Exception, of which
`actorq.codec.payload` makes an EncodeError; but depth is bounded, nothing is built but plain data,
and memory is in proportion to the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from msgspec.msgpack import Decoder, Encoder, Ext

DEPTH_MAX = 100
"""How deep containers and objects may be nested."""
INT_BYTES_MAX = 65_536
WHERE_MAX = 100

# Part of the wire format: never give one another meaning.
TUPLE, SET, FROZENSET, PAIRS, BIG_INT, BYTEARRAY, COMPLEX = range(1, 8)
DATETIME, DATE, TIME, TIMEDELTA, UUID_, DECIMAL, PATH, LABELLED = range(8, 16)
BLANK = 16

NATIVE: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
"""The types that are their own wire, and never contain another."""

Kind = type | int
"""What a wire is, at its top: a type of MessagePack, or the number of an extension."""
Buffer = Any  # bytes, or a view of them; msgspec calls it Buffer, which Python 3.11 does not
Step = Callable[[Any, int], Any]
"""A step on the way of one value, at some depth."""


class Refusal(Exception):
    """A value cannot travel, or what arrived is none.

    Attributes:
        reason: Why, as the end of a sentence.
        where: Where in the argument, as one would write it behind its name.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where: str = ""

    def __str__(self) -> str:
        return self.reason

    def inside(self, step: str) -> None:
        """Tell it from one level further out."""
        self.where = step + self.where
        if len(self.where) > WHERE_MAX:
            self.where = f"{self.where[: WHERE_MAX - 3]}..."


class Misfit(Refusal):
    """A value is not what its annotation asks for.

    Attributes:
        got: What it is instead.
    """

    def __init__(self, expected: str, value: object, got: str = "") -> None:
        self.got: str = got or spelled(type(value))
        super().__init__(f"must be {expected}, not {self.got}")


def spelled(kind: type) -> str:
    """Return how a class is called in messages."""
    return "None" if kind is type(None) else kind.__qualname__.rpartition("<locals>.")[2]


def shown(value: object) -> str:
    """Return the beginning of a value's repr, or its type if it has none."""
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - an integer of thousands of digits, or somebody's code
        return f"a {spelled(type(value))}"


# --- Bytes -------------------------------------------------------------------------------

_encode = Encoder().encode
# The payload of an extension is a view of the bytes: nested ones do not copy each other.
_decode = Decoder(ext_hook=Ext).decode


def pack(wire: Any) -> bytes:
    """Return the bytes of a wire."""
    try:
        try:
            return _encode(wire)
        except OverflowError:  # rare, so nobody else looks at the size of integers
            return _encode(_widened(wire))
    except ValueError as error:  # a lone surrogate, for one
        raise Refusal(f"cannot be written: {error}") from None


def unpack(data: Buffer) -> Any:
    """Return the wire that these bytes are."""
    return _decode(data)


def kind_of(wire: Any) -> Kind:
    """Return what a wire is, at its top."""
    return wire.code if type(wire) is Ext else type(wire)


def _widened(wire: Any) -> Any:
    """Return a wire without integers over 64 bits, of which MessagePack knows nothing."""
    if type(wire) is int and not -(1 << 63) <= wire < 1 << 64:
        size = (wire.bit_length() + 8) // 8
        if size > INT_BYTES_MAX:
            raise Refusal(f"an integer of over {INT_BYTES_MAX} bytes is too large")
        return Ext(BIG_INT, wire.to_bytes(size, "big", signed=True))
    if type(wire) is list or type(wire) is tuple:
        return [_widened(item) for item in wire]
    if type(wire) is dict:
        return join_pairs(map(_widened, wire), map(_widened, wire.values()))
    return wire


# --- Containers, for everybody who walks one ---------------------------------------------


def deeper(depth: int) -> int:
    """Return the depth of what is inside a container.

    Raises:
        Refusal: It is too deep.
    """
    if depth >= DEPTH_MAX:
        raise Refusal(f"is nested deeper than {DEPTH_MAX} levels, or contains itself")
    return depth + 1


def each(step: Step, values: Iterable[Any], depth: int) -> list[Any]:
    """Take a step with each of several values; a refusal says which."""
    done: list[Any] = []
    try:
        for value in values:
            done.append(step(value, depth))  # noqa: PERF401 - its length is the place of a refusal
    except Refusal as refusal:
        refusal.inside(f"[{len(done)}]")
        raise
    return done


def take(pair: tuple[Step, Any], depth: int) -> Any:
    """Take a step with a value, both of which are in a pair: where each value has its own."""
    step, value = pair
    return step(value, depth)


def each_value(step: Step, keys: Iterable[Any], values: Iterable[Any], depth: int) -> Iterator[Any]:
    """Take a step with each value of a dict; a refusal names the key."""
    for key, value in zip(keys, values, strict=True):
        try:
            yield step(value, depth)
        except Refusal as refusal:
            refusal.inside(f"[{shown(key)}]")
            raise


def join_items(kind: type, wires: Any) -> Any:
    """Return the wire of a list, tuple, set or frozenset, of the wires of its items."""
    if kind is list:
        return wires
    if kind is tuple:
        return Ext(TUPLE, pack(wires))
    # In an order of their own, as equal sets should be equal bytes: `key=` compares them.
    members = sorted(map(pack, wires))
    header = b"\xdd" + len(members).to_bytes(4, "big")
    return Ext(SET if kind is set else FROZENSET, header + b"".join(members))


def split_items(kind: type, wire: Any) -> list[Any] | None:
    """Return the wires of the items, or None if it is neither of that kind nor a list.

    A list is taken for any of them, as those of JSON.
    """
    if type(wire) is list:
        return wire
    code = TUPLE if kind is tuple else SET if kind is set else FROZENSET
    return open_items(wire.data) if kind is not list and kind_of(wire) == code else None


def open_items(data: Buffer) -> list[Any]:
    """Return the wires that an extension with several holds."""
    items = unpack(data)
    if type(items) is not list:
        raise Refusal("is malformed")
    return items


def join_pairs(keys: Iterable[Any], wires: Iterable[Any]) -> Any:
    """Return the wire of a dict, of the wires of its keys and values."""
    keys = list(keys)
    if NATIVE.issuperset(map(type, keys)):
        return dict(zip(keys, wires, strict=True))
    return Ext(PAIRS, pack([half for pair in zip(keys, wires, strict=True) for half in pair]))


def split_pairs(wire: Any) -> tuple[Collection[Any], Collection[Any]] | None:
    """Return the wires of the keys and of the values, or None if it is not a dict."""
    if type(wire) is dict:
        return wire.keys(), wire.values()
    if type(wire) is not Ext or wire.code != PAIRS:
        return None
    halves = open_items(wire.data)
    return halves[::2], halves[1::2]


def join_label(label: str, wire: Any) -> Ext:
    """Return a wire that says of which branch of a union it is."""
    return Ext(LABELLED, pack([label, wire]))


def split_label(data: Buffer) -> tuple[str, Any]:
    """Return the label and the wire that it was put on."""
    label, inner = unpack(data)
    if type(label) is not str or kind_of(inner) == LABELLED:
        raise Refusal("is malformed")
    return label, inner
