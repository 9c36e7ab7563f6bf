"""Shapes: how the values of one annotation travel.

A shape checks the exact types of a value and makes its wire, and back. Plain values describe
themselves in it, so that a receiver without the annotation can read them too; there, an object is a
dict of its fields, and an enum member its value.

What comes from a sender without annotations may have gone through JSON. So where nothing else can
be meant, a list is taken for a tuple or a set, and text for a path, a date or the like.
"""

# ruff: noqa: D102 - Shape says what its methods do

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, Flag
from typing import Any

from actorq.codec.packed import (
    LABELLED,
    NATIVE,
    Kind,
    Misfit,
    Refusal,
    Step,
    deeper,
    each,
    each_value,
    join_items,
    join_pairs,
    kind_of,
    shown,
    split_items,
    split_label,
    split_pairs,
    take,
)
from actorq.codec.references import Blank, Reference
from actorq.codec.tagged import KINDS, TEXTS, no_form, tag, untag

ROWS_MAX = 64
ROW_REST_MAX = 8


class Shape(ABC):
    """How the values of an annotation travel.

    Attributes:
        text: The annotation, for messages and digests.
        types: The exact types of its values; None: any.
        kinds: What their wires may be at the top; None: anything.
        natives: Those of its types whose every value is its own wire, both ways.
        plain: Whether it only checks: its values arrive as they describe themselves.
        label: What a union may put on its wires to tell them from others; "": it cannot.
        cls: The class, if any, whose instances a type checker lets pass.
    """

    text: str
    types: frozenset[type] | None
    kinds: frozenset[Kind] | None
    natives: frozenset[type] = frozenset()
    plain: bool = True
    label: str = ""
    cls: Any = None

    @abstractmethod
    def encode(self, value: Any, depth: int) -> Any:
        """Return the wire of a value.

        Raises:
            Misfit: It is not of this shape.
            Refusal: It, or a part of it, cannot travel.
        """

    @abstractmethod
    def decode(self, wire: Any, depth: int) -> Any:
        """Return the value of a wire; raises as `encode`, and anything for nonsense."""

    def fits(self, wire: Any) -> bool:
        """Say whether a wire without a label may be one of this shape, at a glance."""
        return self.kinds is None or kind_of(wire) in self.kinds

    def other(self, value: object) -> Any:
        """Return the wire of a value of another type: of a blank, which becomes one of these.

        Raises:
            Refusal: It is no blank.
        """
        if type(value) is Blank:
            return value.wire
        if type(value) is Reference:
            raise Refusal(no_form(Reference))
        raise self.unfit(value)

    def unfit(self, value: object) -> Refusal:
        """Return why a value of another type is refused."""
        if type(value) not in KINDS and self.passes(value):
            return Refusal(no_form(type(value)))
        return Misfit(self.text, value)

    def passes(self, value: object) -> bool:
        """Say whether a type checker would let a value pass for one of this shape."""
        try:
            return self.cls is not None and isinstance(value, self.cls)
        except Exception:  # noqa: BLE001 - a protocol not for run time, or a metaclass of somebody's
            return False


class Plain(Shape):
    """Values that describe themselves: of any type, or of these."""

    def __init__(
        self, text: str, types: frozenset[type] | None, cls: Any = None, why: str = ""
    ) -> None:
        """Make the shape; ``why`` ends each message of refusal."""
        self.text = text
        self.types = types
        self.kinds: frozenset[Kind] | None = (
            None if types is None else frozenset(k for t in types for k in KINDS[t])
        )
        self.natives: frozenset[type] = NATIVE if types is None else NATIVE & types
        self.cls = cls
        self._why = why
        readers = [TEXTS[c] for c in (cls if isinstance(cls, tuple) else (cls,)) if c in TEXTS]
        self._read = readers[0] if len(readers) == 1 and str not in self.natives else None

    def encode(self, value: Any, depth: int) -> Any:
        try:
            if self.types is not None and type(value) not in self.types:
                return self.other(value)
            return tag(value, depth)
        except Refusal as refusal:
            refusal.reason += self._why
            raise

    def decode(self, wire: Any, depth: int) -> Any:
        value = untag(wire, depth)
        if self.types is None or type(value) in self.types:
            return value
        if self._read is not None and type(value) is str:
            return self._read(value)
        raise Misfit(self.text, value)

    def fits(self, wire: Any) -> bool:
        return super().fits(wire) or (self._read is not None and type(wire) is str)


ANY = Plain("Any", None)


def walk(shape: Shape, step: Step, values: Collection[Any], depth: int) -> Collection[Any]:
    """Take a step with each value, unless all of them are their own wires."""
    natives = shape.natives.issuperset(map(type, values))
    return values if natives else each(step, values, depth)


class Items(Shape):
    """A list, a set, a frozenset, or a tuple of any length, of items of one shape."""

    def __init__(self, kind: type, item: Shape) -> None:
        self.text: str = f"{kind.__name__}[{item.text}{', ...' if kind is tuple else ''}]"
        self.types: frozenset[type] | None = frozenset({kind})
        self.kinds: frozenset[Kind] | None = KINDS[kind]
        self.plain: bool = item.plain
        self.cls = kind
        self._kind: Any = kind
        self._item = item

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is not self._kind:
            return self.other(value)
        items = walk(self._item, self._item.encode, value, deeper(depth))
        return items if self._kind is list else join_items(self._kind, items)

    def decode(self, wire: Any, depth: int) -> Any:
        items = split_items(self._kind, wire)
        if items is None:
            raise Misfit(self.text, untag(wire, depth))
        decoded = walk(self._item, self._item.decode, items, deeper(depth))
        return decoded if self._kind is list else self._kind(decoded)

    def fits(self, wire: Any) -> bool:
        return type(wire) is list or super().fits(wire)


class Dict(Shape):
    """A dict with keys of one shape, and values of one."""

    types: frozenset[type] | None = frozenset({dict})
    kinds: frozenset[Kind] | None = KINDS[dict]
    cls = dict

    def __init__(self, key: Shape, value: Shape) -> None:
        self.text: str = f"dict[{key.text}, {value.text}]"
        self.plain: bool = key.plain and value.plain
        self._key = key
        self._value = value

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is not dict:
            return self.other(value)
        depth = deeper(depth)
        keys = walk(self._key, self._key.encode, value, depth)
        if self._value.natives.issuperset(map(type, value.values())):
            return value if keys is value else join_pairs(keys, value.values())
        return join_pairs(keys, each_value(self._value.encode, value, value.values(), depth))

    def decode(self, wire: Any, depth: int) -> Any:
        pairs = split_pairs(wire)
        if pairs is None:
            raise Misfit(self.text, untag(wire, depth))
        depth = deeper(depth)
        keys = walk(self._key, self._key.decode, pairs[0], depth)
        values = pairs[1]
        if not self._value.natives.issuperset(map(type, values)):
            values = list(each_value(self._value.decode, keys, values, depth))
        return dict(zip(keys, values, strict=True))


class Row:
    """The shapes of several values side by side; it remembers which types need no step.

    What it costs to look up there is all that the plainest calls pay for being checked.
    """

    def __init__(self, shapes: Iterable[Shape], rest: Shape | None = None) -> None:
        """Take the shapes, and that of any number of values behind them."""
        self._natives = [shape.natives for shape in shapes]
        self._rest = rest.natives if rest is not None else frozenset[type]()
        self._known: dict[tuple[type, ...], bool] = {}

    def native(self, values: Iterable[Any]) -> bool:
        """Say whether each of these values is its own wire."""
        types = tuple(map(type, values))
        known = self._known.get(types)
        if known is None:
            count = len(self._natives)
            known = self._rest.issuperset(types[count:]) and all(
                map(operator.contains, self._natives, types)
            )
            if len(self._known) < ROWS_MAX and len(types) <= count + ROW_REST_MAX:
                self._known[types] = known
        return known


class Fixed(Shape):
    """A tuple with a shape for each item."""

    types: frozenset[type] | None = frozenset({tuple})
    kinds: frozenset[Kind] | None = KINDS[tuple]
    cls = tuple

    def __init__(self, items: Sequence[Shape]) -> None:
        self.text: str = f"tuple[{', '.join(item.text for item in items) or '()'}]"
        self.plain: bool = all(item.plain for item in items)
        self._encodes = [item.encode for item in items]
        self._decodes = [item.decode for item in items]
        self._row = Row(items)

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is not tuple:
            return self.other(value)
        return join_items(tuple, self._walk(self._encodes, value, deeper(depth)))

    def decode(self, wire: Any, depth: int) -> Any:
        items = split_items(tuple, wire)
        if items is None:
            raise Misfit(self.text, untag(wire, depth))
        return tuple(self._walk(self._decodes, items, deeper(depth)))

    def fits(self, wire: Any) -> bool:
        return type(wire) is list or super().fits(wire)

    def _walk(self, steps: Sequence[Step], items: Collection[Any], depth: int) -> Collection[Any]:
        if len(items) != len(steps):
            raise Misfit(self.text, items, f"a tuple of {len(items)}")
        if self._row.native(items):
            return items
        return each(take, zip(steps, items, strict=True), depth)


class Literals(Shape):
    """One of a few scalars, exactly: True is not 1."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = {(type(value), value) for value in values}
        self._types = frozenset(kind for kind, _ in self._values)
        self.types: frozenset[type] | None = self._types
        self.kinds: frozenset[Kind] | None = frozenset(k for t in self._types for k in KINDS[t])
        self.text: str = f"Literal[{', '.join(sorted(repr(value) for _, value in self._values))}]"

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is Blank:
            return value.wire
        return tag(self._checked(value), depth)

    def decode(self, wire: Any, depth: int) -> Any:
        return self._checked(untag(wire, depth))

    def _checked(self, value: Any) -> Any:
        if type(value) not in self._types or (type(value), value) not in self._values:
            raise Misfit(self.text, value, shown(value))
        return value


class Members(Shape):
    """Members of an enum: by value if all values are exact strings or integers, else by name."""

    plain = False

    def __init__(self, cls: type[Enum], only: Collection[Enum] | None = None) -> None:
        """Make the shape of all members of the enum, or of some."""
        members: Mapping[str, Enum] = cls.__members__
        if only is not None:
            members = {name: member for name, member in members.items() if member in only}
        by_value = {type(member.value) for member in members.values()} <= {str, int}
        self.text: str = cls.__qualname__ if only is None else f"Literal[{', '.join(members)}]"
        self.label: str = cls.__qualname__
        self.cls = cls
        self.types: frozenset[type] | None = frozenset[type]({cls})
        self._wires = {m.name: m.value if by_value else m.name for m in members.values()}
        self._members = {m.value: m for m in members.values()} if by_value else dict(members)
        self._flags = 0
        if only is None and by_value and issubclass(cls, Flag):
            for member in members.values():
                self._flags |= member.value
        kinds = {type(wire) for wire in self._members} | ({int} if self._flags else set())
        self._kinds = frozenset(kinds)
        self.kinds: frozenset[Kind] | None = frozenset(k for t in kinds for k in KINDS[t])
        self.definition: str = f"{self.label}({', '.join(sorted(map(repr, self._members)))})"

    def encode(self, value: Any, depth: int) -> Any:  # noqa: ARG002 - it is a leaf
        if type(value) is not self.cls:
            return self.other(value)
        if self._flags and not value.value & ~self._flags:
            return value.value
        if value.name not in self._wires:
            raise Misfit(self.text, value, shown(value))
        return self._wires[value.name]

    def decode(self, wire: Any, depth: int) -> Any:
        value = untag(unlabelled(wire, self.label), depth)
        if type(value) in self._kinds:
            if value in self._members:
                return self._members[value]
            if self._flags and not value & ~self._flags:
                return self.cls(value)
        raise Misfit(self.text, value, shown(value))

    def fits(self, wire: Any) -> bool:
        try:
            self.decode(wire, 0)
        except Misfit:
            return False
        return True


def unlabelled(wire: Any, label: str) -> Any:
    """Return a wire without the label that a union has put on it where it was sent from."""
    if kind_of(wire) != LABELLED:
        return wire
    found, inner = split_label(wire.data)
    if found != label:
        raise Refusal(f"is a {found:.80}, not a {label}")
    return inner
