"""Unions: which branch a value goes by is decided by its exact type, there and back.

Where two branches may have wires of the same kind (two classes, both dicts of their fields), an
object's wire bears a label, its class's name. A label only ever selects among the branches that the
receiver's own annotation has. A wire without one, from a sender that had no annotation, is taken
for the only branch that it looks like.
"""

# ruff: noqa: D102 - Shape says what its methods do

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from actorq.codec.packed import (
    LABELLED,
    NATIVE,
    Kind,
    Misfit,
    Refusal,
    join_label,
    kind_of,
    spelled,
    split_label,
)
from actorq.codec.references import Blank, Reference
from actorq.codec.shapes import Plain, Shape
from actorq.codec.tagged import untag


def union(text: str, branches: Iterable[Shape]) -> Shape:
    """Return the shape of what is of one of these shapes.

    Raises:
        TypeError: A value could not be told to be of one of them by its exact type.
    """
    flat: list[Shape] = []
    for branch in branches:
        inner = branch.branches if isinstance(branch, Union) else (branch,)
        flat += (shape for shape in inner if shape not in flat)
    plain = [shape for shape in flat if isinstance(shape, Plain)]
    shapes: list[Shape] = [shape for shape in flat if not isinstance(shape, Plain)]
    shapes = _grouped(text, [*shapes, *_merged(text, plain)])
    return shapes[0] if len(shapes) == 1 else Union(text, shapes)


def _merged(text: str, plain: list[Plain]) -> list[Plain]:
    """Make one shape of several of plain values."""
    if len(plain) < 2:
        return plain
    types: list[type] = []
    for shape in plain:
        if shape.types is None:
            return [Plain(text, None)]
        types += shape.types
    classes = (shape.cls if isinstance(shape.cls, tuple) else (shape.cls,) for shape in plain)
    return [Plain(text, frozenset(types), tuple(cls for several in classes for cls in several))]


def _grouped(text: str, shapes: list[Shape]) -> list[Shape]:
    """Put those that only check, and share a type, into one: trying them is safe."""
    for one, other in combinations(shapes, 2):
        if one.types is None or other.types is None or one.types.isdisjoint(other.types):
            continue
        if not one.plain or not other.plain:
            shared = " or ".join(sorted(map(spelled, one.types & other.types)))
            raise TypeError(
                f"in {text}, the type of a {shared} does not tell which of the branches it is of; "
                "annotate with one of them, or give each a class of its own"
            )
        rest = [shape for shape in shapes if shape is not one and shape is not other]
        return _grouped(text, [*rest, FirstFit(text, (one, other))])
    return shapes


class FirstFit(Shape):
    """Shapes that only check, for values of the same types: whichever fits."""

    def __init__(self, text: str, shapes: Sequence[Shape]) -> None:
        self.text = text
        self._shapes = shapes
        self.types: frozenset[type] | None = frozenset(
            t for shape in shapes for t in shape.types or ()
        )
        self.kinds: frozenset[Kind] | None = frozenset(
            k for shape in shapes for k in shape.kinds or ()
        )
        self.natives: frozenset[type] = frozenset(t for shape in shapes for t in shape.natives)

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is Blank or type(value) is Reference:
            return self.other(value)
        return self._first("encode", type(value), value, depth)

    def decode(self, wire: Any, depth: int) -> Any:
        value = untag(wire, depth)
        return self._first("decode", type(value), wire, depth)

    def _first(self, step: str, kind: type, value: Any, depth: int) -> Any:
        for shape in self._shapes:
            if shape.types is not None and kind in shape.types:
                try:
                    return getattr(shape, step)(value, depth)
                except Misfit:
                    continue
        raise Misfit(self.text, None, f"this {spelled(kind)}")


class Union(Shape):
    """Values of one of several shapes."""

    def __init__(self, text: str, branches: Sequence[Shape]) -> None:
        self.text = text
        self.branches = branches
        self.plain: bool = all(shape.plain for shape in branches)
        self._rest = next((shape for shape in branches if shape.types is None), None)
        names = _names(text, [shape for shape in branches if shape.label])
        labelled = {
            shape: name
            for shape, name in names.items()
            if any(_overlap(shape, other) for other in branches if other is not shape)
        }
        self._by_label = {name: shape for shape, name in names.items()}
        self._by_type = {
            kind: (shape, labelled.get(shape, ""))
            for shape in branches
            for kind in shape.types or ()
        }
        self._by_kind = {
            kind: shape for shape in branches if shape not in labelled for kind in shape.kinds or ()
        }
        self.types: frozenset[type] | None = None if self._rest else frozenset(self._by_type)
        self.kinds: frozenset[Kind] | None = (
            None if self._rest else frozenset(k for shape in branches for k in shape.kinds or ())
        )
        self.natives: frozenset[type] = frozenset(
            kind
            for kind in NATIVE
            if (shape := self._by_type.get(kind, (self._rest, ""))[0])
            and kind in shape.natives
            and self._by_kind.get(kind, self._rest) is shape
        )

    def encode(self, value: Any, depth: int) -> Any:
        shape, label = self._by_type.get(type(value), (self._rest, ""))
        if shape is None:
            return self.other(value)
        try:
            wire = shape.encode(value, depth)
        except Misfit as misfit:
            if misfit.where:
                raise
            raise Misfit(self.text, value, misfit.got) from None
        return join_label(label, wire) if label else wire

    def decode(self, wire: Any, depth: int) -> Any:
        if kind_of(wire) == LABELLED:
            label, inner = split_label(wire.data)
            if label not in self._by_label:
                raise Refusal(f"must be {self.text}, not a {label:.80}")
            return self._by_label[label].decode(inner, depth)
        shape = self._by_kind.get(kind_of(wire), self._rest)
        if shape is None:
            alike = [shape for shape in self.branches if shape.fits(wire)]
            if len(alike) != 1:
                why = "which may be several of them" if alike else "which is none of them"
                raise Misfit(self.text, None, f"a {spelled(type(untag(wire, depth)))} {why}")
            shape = alike[0]
        return shape.decode(wire, depth)

    def unfit(self, value: object) -> Refusal:
        branch = next((shape for shape in self.branches if shape.passes(value)), None)
        return Misfit(self.text, value) if branch is None else branch.unfit(value)


def _names(text: str, shapes: Sequence[Shape]) -> dict[Shape, str]:
    """Name each shape by its class, with the module where that is not enough."""
    short = [shape.label for shape in shapes]
    names = {
        shape: shape.label
        if short.count(shape.label) == 1
        else f"{shape.cls.__module__}.{shape.label}"
        for shape in shapes
    }
    if len(set(names.values())) < len(names):
        raise TypeError(f"{text}: two of these classes have the same name; rename one")
    return names


def _overlap(one: Shape, other: Shape) -> bool:
    return one.kinds is None or other.kinds is None or not one.kinds.isdisjoint(other.kinds)
