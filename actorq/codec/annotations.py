"""From annotations to shapes.

Annotations are the receiver's own; no name from the wire is ever looked up. One that cannot be
resolved at run time (a name imported for type checkers only, say) is taken for no annotation.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, NewType, TypeVar, get_args, get_origin

import attrs

from actorq.codec.classes import Keys, Record, Refused, recipe_of
from actorq.codec.packed import Refusal, spelled
from actorq.codec.shapes import ANY, Dict, Fixed, Items, Literals, Members, Plain, Shape
from actorq.codec.tagged import KINDS
from actorq.codec.unions import union

NESTED_MAX = 50
"""How many classes may be met for the first time each in a field of the one before."""

_CONTAINERS = (list, tuple, set, frozenset)
_PROMOTIONS: Mapping[Any, frozenset[type]] = {
    float: frozenset({int, bool}),  # as type checkers have it
    complex: frozenset({float, int, bool}),
}
_QUALIFIERS = {
    *(typing.Annotated, "Annotated"),  # since Python 3.13 it has a name
    *("ClassVar", "Final", "NotRequired", "ReadOnly", "Required"),
}


@attrs.frozen
class Unresolved:
    """An annotation that cannot be evaluated."""

    text: str


def resolved(
    annotation: Any, names: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> Any:
    """Return an annotation without strings in it; ``names`` are looked up before ``more``."""
    holder = type("_", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, dict(more or {}), dict(names), include_extras=True)[
            "it"
        ]
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - it is code, and may do anything
        return Unresolved(annotation if isinstance(annotation, str) else repr(annotation))


def closed(annotation: Any, given: Mapping[Any, Any]) -> Any:
    """Return an annotation with these types for its type variables, and Any for the others."""
    if isinstance(annotation, TypeVar):
        return given.get(annotation, Any)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or get_origin(annotation) is None:
        return annotation
    try:
        return annotation[tuple(given.get(parameter, Any) for parameter in parameters)]
    except TypeError:  # a ParamSpec or the like
        return Any


def field_types(cls: Any, args: Collection[Any]) -> dict[str, Any]:
    """Return the annotations in a class and its bases, resolved, where it is generic over these."""
    found: dict[str, Any] = {}
    given = {cls: dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))}
    for base in cls.__mro__:
        here = given.setdefault(base, {})
        for alias in vars(base).get("__orig_bases__", ()):
            parameters = getattr(get_origin(alias), "__parameters__", ())
            known = (closed(arg, here) for arg in get_args(alias))
            given[get_origin(alias)] = dict(zip(parameters, known, strict=False))
        names = vars(sys.modules.get(base.__module__, typing))
        own = {parameter.__name__: parameter for parameter in vars(base).get("__type_params__", ())}
        more = {**vars(base), base.__name__: base, **own}
        for name, annotation in inspect.get_annotations(base).items():
            if name not in found:
                found[name] = closed(resolved(annotation, names, more), here)
    return found


class Annotations:
    """Makes shapes of annotations: of one class one only, so that classes may be recursive."""

    def __init__(self) -> None:
        self._classes: dict[Any, Shape] = {}
        self._aliases: set[Any] = set()
        self._nested = 0

    @property
    def definitions(self) -> list[str]:
        """What the classes consist of that were met, in words."""
        return sorted({getattr(shape, "definition", "") for shape in self._classes.values()})

    def shape(self, annotation: Any, owner: Any = Any) -> Shape:
        """Return the shape of an annotation; ``owner`` is the class that ``Self`` means.

        Raises:
            TypeError: It has a union, and a value does not tell of which branch it is.
        """
        while isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        origin, args = get_origin(annotation), get_args(annotation)
        if annotation is None or annotation is types.NoneType:
            return Plain("None", frozenset({types.NoneType}), types.NoneType)
        if isinstance(annotation, Unresolved):
            why = f"; its annotation {annotation.text!r} cannot be resolved at run time"
            return Plain("Any", None, why=why)
        if getattr(origin, "_name", origin) in _QUALIFIERS:
            return self.shape(args[0], owner)
        if annotation is typing.Self and owner is not Any:
            return self.shape(owner)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(args, owner)
        if origin is Literal:
            return self._literal(args)
        if type(origin or annotation).__name__ == "TypeAliasType":
            return self._alias(origin or annotation, args, owner)
        if args and origin in KINDS:
            return self._container(annotation, origin, args, owner)
        if annotation == tuple[()]:
            return Fixed(())
        cls = annotation if origin is None else origin
        if not isinstance(cls, type) or cls is object or cls is Any:
            return ANY
        return self._class(cls, args, owner)

    def _alias(self, alias: Any, args: Sequence[Any], owner: Any) -> Shape:
        """Return the shape of `type X = ...`; where that contains itself, it may be anything."""
        if alias in self._aliases:
            return ANY
        self._aliases.add(alias)
        try:
            given = dict(zip(alias.__type_params__, args, strict=False))
            value = resolved(alias.__value__, vars(sys.modules.get(alias.__module__, typing)))
            return self.shape(closed(value, given), owner)
        except NameError:  # what stands behind `type X =` is only evaluated now
            return ANY
        finally:
            self._aliases.discard(alias)

    def _union(self, args: Sequence[Any], owner: Any) -> Shape:
        # All literals together, or two of one enum would compete.
        literals = [value for arg in args if get_origin(arg) is Literal for value in get_args(arg)]
        shapes = [self.shape(arg, owner) for arg in args if get_origin(arg) is not Literal]
        if literals:
            shapes.append(self._literal(literals))
        return union(" | ".join(shape.text for shape in shapes), shapes)

    def _literal(self, values: Sequence[Any]) -> Shape:
        members: dict[type[Enum], list[Enum]] = {}
        scalars: list[Any] = []
        for value in values:
            if isinstance(value, Enum):
                members.setdefault(type(value), []).append(value)
            else:
                scalars.append(value)
        shapes: list[Shape] = [Members(cls, some) for cls, some in members.items()]
        if scalars:
            shapes.append(Literals(scalars))
        return union(f"Literal[{', '.join(map(repr, values))}]", shapes)

    def _container(self, annotation: Any, kind: Any, args: Sequence[Any], owner: Any) -> Shape:
        if kind is dict:
            return Dict(*(self.shape(arg, owner) for arg in args))
        if kind is not tuple:
            return Items(kind, self.shape(args[0], owner))
        if len(args) == 2 and args[1] is ...:
            return Items(tuple, self.shape(args[0], owner))
        if any(get_origin(arg) is typing.Unpack or getattr(arg, "__unpacked__", 0) for arg in args):
            return Plain(repr(annotation), frozenset({tuple}), tuple)
        return Fixed([self.shape(arg, owner) for arg in args])

    def _class(self, cls: Any, args: Sequence[Any], owner: Any) -> Shape:
        """Return the shape of a class, generic over ``args`` if there are any."""
        if any(isinstance(arg, list) for arg in args):  # the parameters of a Callable
            args = ()
        known = self._classes.get((cls, *args))
        if known is not None:
            return known
        if issubclass(cls, Enum):
            shape = self._classes[cls,] = Members(cls)
            return shape
        text = spelled(cls) + (f"[{', '.join(map(_text, args))}]" if args else "")
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._typed_dict(cls, args, text)
        try:
            recipe = recipe_of(cls)
        except Refusal as refusal:
            return Refused(cls, refusal.reason)
        if recipe is None:
            return self._abstract(cls, args, text, owner)
        if self._nested > NESTED_MAX:
            raise TypeError(f"the fields of {text:.200} never come to an end")
        self._nested += 1
        record = self._classes[cls, *args] = Record(cls, text, recipe)
        types = field_types(cls, args)
        annotations = [types.get(field.name, field.type) for field in recipe.fields]
        generic: Any = cls
        itself = generic[tuple(args)] if args else cls
        record.define([self.shape(annotation, itself) for annotation in annotations])
        self._nested -= 1
        return record

    def _typed_dict(self, cls: Any, args: Sequence[Any], text: str) -> Shape:
        keys = self._classes[cls, *args] = Keys(text)
        required: set[str] = set(cls.__required_keys__)
        types = field_types(cls, args)
        for name, annotation in types.items():
            qualifier = getattr(get_origin(annotation), "_name", "")
            if qualifier == "Required":
                required.add(name)
            elif qualifier == "NotRequired":
                required.discard(name)
        keys.define({name: self.shape(annotation) for name, annotation in types.items()}, required)
        return keys

    def _abstract(self, cls: Any, args: Sequence[Any], text: str, owner: Any) -> Shape:
        """Return the shape of what plain types there are of a class: a built-in or an ABC."""
        try:
            plain = {kind for kind in KINDS if issubclass(kind, cls)}
        except TypeError:  # a protocol that is not for run time
            return ANY
        plain |= _PROMOTIONS.get(cls, frozenset())
        branches: list[Shape] = []
        if args:
            inner = [self.shape(arg, owner) for arg in args]
            if dict in plain:
                branches.append(Dict(inner[0], inner[1] if len(inner) == 2 else ANY))
            branches += (Items(kind, inner[0]) for kind in _CONTAINERS if kind in plain)
            plain -= {dict, *_CONTAINERS}
            for kind, item in ((str, str), (bytes, int), (bytearray, int)):
                if not (inner[0].types is None or item in inner[0].types):
                    plain.discard(kind)
        if plain or not branches:
            branches.append(Plain(text, frozenset(plain), cls))
        return union(text, branches)


def _text(annotation: Any) -> str:
    return spelled(annotation) if isinstance(annotation, type) else repr(annotation)
