"""Objects: dicts of their fields on the wire, and built again from nothing but their own class.

What travels is the fields, all of them, and only them. A class is built by its constructor where
that only stores what it is given. Otherwise its fields are set afterwards to what they were, since
a converter, a ``__post_init__`` or an ``init=False`` would have made something else of them. Where
calling the constructor again may even fail, each object is built once on trial before it is sent.
"""

# ruff: noqa: D102 - Shape says what its methods do

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import attrs

from actorq.codec.packed import (
    Kind,
    Misfit,
    Refusal,
    Step,
    deeper,
    each_value,
    join_pairs,
    shown,
    spelled,
    split_pairs,
    take,
)
from actorq.codec.references import Blank
from actorq.codec.shapes import ANY, Row, Shape, unlabelled, walk
from actorq.codec.tagged import KINDS, tag, untag
from actorq.errors import told

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not in C


@attrs.frozen
class Field:
    """A field of a class.

    Attributes:
        name: The attribute.
        key: What the constructor calls it, and the wire.
        type: Its annotation, if the class keeps one that needs no module to be understood.
        init: Whether the constructor takes it.
        default: Whether it has a value of its own if the constructor gets none.
    """

    name: str
    key: str
    type: Any = Any
    init: bool = True
    default: bool = False


@attrs.frozen
class Recipe:
    """How objects of a class are taken apart and built.

    Attributes:
        build: Makes an object of its fields' values by key; those with a default may be absent.
        validate: Raises if the fields of an object are not what their validators ask for.
        doubtful: Whether building may fail for the very values that an object has.
    """

    fields: Sequence[Field]
    build: Callable[[dict[str, Any]], Any]
    validate: Callable[[Any], None] | None = None
    doubtful: bool = False


def recipe_of(cls: type) -> Recipe | None:
    """Return how objects of a class travel, or None if it does not say what its fields are.

    Raises:
        Refusal: It says so, but its objects are more than their fields.
    """
    if issubclass(cls, tuple):
        return _named_tuple(cls) if hasattr(cls, "_fields") else None
    if not attrs.has(cls) and not dataclasses.is_dataclass(cls):
        return None
    if not {"__attrs_attrs__", "__dataclass_fields__"} & vars(cls).keys():
        raise Refusal(f"{spelled(cls)} cannot travel: decorate it too, like the class it is of")
    for base in cls.__mro__[:-1]:
        if base in KINDS or not base.__flags__ & _HEAP_TYPE:
            kind = f"a kind of {spelled(base)}"
            raise Refusal(f"{spelled(cls)} cannot travel: it is more than its fields, {kind}")
    return _attrs(cls) if "__attrs_attrs__" in vars(cls) else _dataclass(cls)


def _named_tuple(cls: Any) -> Recipe:
    defaults: Mapping[str, Any] = getattr(cls, "_field_defaults", {})
    names: tuple[str, ...] = cls._fields

    def build(values: dict[str, Any]) -> Any:
        return tuple.__new__(cls, [(values if n in values else defaults)[n] for n in names])

    return Recipe([Field(name, name, default=name in defaults) for name in names], build)


def _attrs(cls: Any) -> Recipe:
    own = attrs.fields(cls)
    fields = [
        Field(
            a.name,
            a.alias or a.name,
            Any if a.type is None else a.type,
            a.init,
            a.default is not attrs.NOTHING,
        )
        for a in own
    ]
    return _built(
        cls,
        fields,
        converts=any(a.converter is not None for a in own),
        generated="<attrs generated",
        hooks=("__attrs_pre_init__", "__attrs_post_init__"),
        validate=attrs.validate if any(a.validator is not None for a in own) else None,
    )


def _dataclass(cls: Any) -> Recipe:
    fields = [
        Field(
            f.name,
            f.name,
            f.type,
            f.init,
            not (f.default is dataclasses.MISSING is f.default_factory),
        )
        for f in dataclasses.fields(cls)
    ]
    return _built(cls, fields, generated="<string>", hooks=("__post_init__",))


def _built(
    cls: Any,
    fields: Sequence[Field],
    *,
    generated: str,
    hooks: Sequence[str],
    converts: bool = False,
    validate: Callable[[Any], None] | None = None,
) -> Recipe:
    """Return a recipe that builds objects in the simplest way that restores them.

    The constructor is its library's if the name of its code's file begins with ``generated``, and
    then calls no code of the user's but ``hooks``, converters and validators.
    """
    names = {field.key: field.name for field in fields}
    code = getattr(vars(cls).get("__init__"), "__code__", None)
    ours = code is not None and code.co_filename.startswith(generated)
    alone = cls.__new__ is object.__new__ and not any(hasattr(cls, hook) for hook in hooks)
    takes = set(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount] if code else ())
    if alone and ours and not converts and takes == names.keys():
        return Recipe(fields, lambda values: cls(**values), validate)
    # A cached hash is state that the constructor prepares, and no field.
    hashes = getattr(getattr(cls.__hash__, "__code__", None), "co_names", ())
    stateless = "_attrs_cached_hash" not in hashes
    bare = alone and stateless and (ours or cls.__init__ is object.__init__)
    taken = {field.key for field in fields if field.init}
    always = {field.key for field in fields if field.init or field.default}

    def build(values: dict[str, Any]) -> Any:
        if bare and always <= values.keys():
            instance = object.__new__(cls)
        else:
            given = {key: value for key, value in values.items() if key in taken}
            instance = cls(**deepcopy(given))  # which it may change, too
        for key, value in values.items():
            object.__setattr__(instance, names[key], value)
        if validate is not None:
            validate(instance)
        return instance

    return Recipe(fields, build, validate, doubtful=not bare)


class Record(Shape):
    """Objects of exactly one class: attrs, dataclass or NamedTuple. Their wire is a dict.

    Made in two steps, as a class may have fields of its own type.
    """

    plain = False
    kinds: frozenset[Kind] | None = KINDS[dict]
    definition: str

    def __init__(self, cls: type, text: str, recipe: Recipe) -> None:
        self.text = text
        self.label: str = spelled(cls)
        self.cls = cls
        self.types: frozenset[type] | None = frozenset({cls})
        self._recipe = recipe
        self._keys = [field.key for field in recipe.fields]
        self._required = {f.key for f in recipe.fields if f.init and not f.default}

    def define(self, shapes: Sequence[Shape]) -> None:
        """Give the shapes of the fields, in their order."""
        self._shapes = dict(zip(self._keys, shapes, strict=True))
        self._row = Row(shapes)
        fields = (f"{key}: {shape.text}" for key, shape in self._shapes.items())
        self.definition = f"{self.text}({', '.join(fields)})"

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is not self.cls:
            return self.other(value)
        depth = deeper(depth)
        values: dict[str, Any] = {}
        for field in self._recipe.fields:
            try:
                values[field.key] = getattr(value, field.name)
            except AttributeError:
                if field.init or field.default:  # others may never have been set
                    raise Refusal(f"{self.text} has no {field.name!r}") from None
        if self._recipe.doubtful:
            self._attempt("cannot be built again", self._recipe.build, values)
        elif self._recipe.validate is not None:
            self._attempt("is not valid", self._recipe.validate, value)
        if len(values) == len(self._keys) and self._row.native(values.values()):
            return values
        return {
            key: self._step(self._shapes[key].encode, key, item, depth)
            for key, item in values.items()
        }

    def decode(self, wire: Any, depth: int) -> Any:
        values = unlabelled(wire, self.label)
        if type(values) is not dict:
            raise Misfit(self.text, untag(values, depth))
        depth = deeper(depth)
        self._check_keys(values)
        if list(values) != self._keys or not self._row.native(values.values()):
            values = {
                key: self._step(self._shapes[key].decode, key, item, depth)
                for key, item in values.items()
            }
        return self._attempt("cannot be built", self._recipe.build, values)

    def _step(self, step: Step, key: str, value: Any, depth: int) -> Any:
        try:
            return step(value, depth)
        except Refusal as refusal:
            refusal.inside(f".{key}")
            raise

    def _attempt(self, problem: str, call: Callable[[Any], Any], value: Any) -> Any:
        try:
            return call(value)
        except Exception as error:  # the code of its class
            raise Refusal(f"{self.text} {problem}: {told(error)}") from error

    def fits(self, wire: Any) -> bool:
        return type(wire) is dict and self._required <= wire.keys() <= self._shapes.keys()

    def _check_keys(self, wire: dict[Any, Any]) -> None:
        if wire.keys() == self._shapes.keys():
            return
        others, missing = wire.keys() - self._shapes.keys(), self._required.difference(wire)
        for problem, keys in (("no field", others), ("no value for", missing)):
            if keys:
                names = ", ".join(sorted(map(shown, keys)))
                raise Refusal(f"{self.text} has {problem} {names:.200}")

    def unfit(self, value: object) -> Refusal:
        if not self.passes(value):
            return Misfit(self.text, value)
        kind = spelled(type(value))
        return Refusal(f"{kind} would arrive as {self.text}: annotate with {self.text} | {kind}")


class Refused(Shape):
    """Objects of a class that cannot travel, for a reason of its own."""

    plain = False
    kinds: frozenset[Kind] | None = frozenset()

    def __init__(self, cls: type, reason: str) -> None:
        self.text: str = spelled(cls)
        self.cls = cls
        self.types: frozenset[type] | None = frozenset({cls})
        self._reason = reason

    def encode(self, value: Any, depth: int) -> Any:  # noqa: ARG002 - nothing is inside
        raise self.unfit(value)

    def decode(self, wire: Any, depth: int) -> Any:
        raise Misfit(self.text, untag(wire, depth))

    def unfit(self, value: object) -> Refusal:
        ours = type(value) is Blank or self.passes(value)
        return Refusal(self._reason) if ours else Misfit(self.text, value)


class Keys(Shape):
    """A TypedDict. It may have more keys than its type names, with plain values.

    Made in two steps, like a record.
    """

    plain: bool = False
    types: frozenset[type] | None = frozenset({dict})
    kinds: frozenset[Kind] | None = KINDS[dict]
    definition: str

    def __init__(self, text: str) -> None:
        self.text = text

    def define(self, shapes: Mapping[str, Shape], required: Collection[str]) -> None:
        """Give the shapes of the values, and which keys there must be."""
        self.plain = all(shape.plain for shape in shapes.values())
        self._shapes = shapes
        self._required = frozenset(required)
        fields = (
            f"{key}{'' if key in self._required else '?'}: {shape.text}"
            for key, shape in shapes.items()
        )
        self.definition = f"{self.text}({', '.join(fields)})"

    def encode(self, value: Any, depth: int) -> Any:
        if type(value) is not dict:
            return self.other(value)
        depth = deeper(depth)
        self._check(value)
        keys = walk(ANY, tag, value, depth)
        values = ((self._shapes.get(key, ANY).encode, item) for key, item in value.items())
        return join_pairs(keys, each_value(take, value, values, depth))

    def decode(self, wire: Any, depth: int) -> Any:
        pairs = split_pairs(wire)
        if pairs is None:
            raise Misfit(self.text, untag(wire, depth))
        depth = deeper(depth)
        keys = walk(ANY, untag, pairs[0], depth)
        steps = [self._shapes.get(key, ANY).decode for key in keys]
        values = each_value(take, keys, zip(steps, pairs[1], strict=True), depth)
        value = dict(zip(keys, values, strict=True))
        self._check(value)
        return value

    def _check(self, value: dict[Any, Any]) -> None:
        if missing := self._required - value.keys():
            names = ", ".join(sorted(map(repr, missing)))
            raise Misfit(self.text, value, f"a dict without {names}")
