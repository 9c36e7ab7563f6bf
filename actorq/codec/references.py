"""References to the values of other tasks, as arguments: ``handle.output``.

A reference is found where a reader would look for one: as an argument, and in lists, tuples and the
values of dicts up to three deep. When a call is submitted, each becomes a *blank* with the id of
its task; where the call is run, each blank is filled in. A blank travels like a value, as an
extension type of its own, and no value of a user's has that form. What fills it is read as if it
had stood there from the beginning: by the annotation of whoever receives it.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NoReturn

from msgspec import MsgspecError, Raw, Struct
from msgspec.msgpack import Decoder, Ext

from actorq.codec.packed import (
    BLANK,
    NATIVE,
    PAIRS,
    TUPLE,
    kind_of,
    open_items,
    pack,
    shown,
    unpack,
)
from actorq.errors import EncodeError, InvalidArguments, TaskNotFound, readable, told
from actorq.model.ids import ID_MAX, can_be_id
from actorq.model.options import AFTER_MAX

NESTED_MAX = 3
"""How deep in lists, tuples and dicts references are found."""
LOOK_MAX = 100
"""How many values are searched for references where none may be, as they may be very many."""

MISPLACED = (
    "is the output of a task: those can only be arguments, or in lists, tuples and the values of "
    f"dicts up to {NESTED_MAX} deep"
)

ALIVE: set[int] = set()
"""The references in this process, by ``id()``: as long as there is none, no call is searched."""


class Reference:
    """Stands for the value of a task, until that is there.

    Attributes:
        id: The task's id.
        name: Its name.
    """

    __slots__ = ("id", "name")

    def __init__(self, id: str, name: str) -> None:
        self.id: str = id
        self.name: str = name
        ALIVE.add(builtins.id(self))

    def __del__(self) -> None:
        ALIVE.discard(builtins.id(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.id == self.id

    def __repr__(self) -> str:
        return f"<output of task {self.name} ({self.id})>"

    # It passes for the value itself with type checkers, so who takes it for that must be told.

    def _misuse(self) -> TypeError:
        return TypeError(
            f"{self!r} stands for a value that is not here: pass it on as an argument of another "
            "task, where it is an argument or in a list, a tuple or a dict (as a value), or wait "
            "for the value itself with 'await handle.value()'"
        )

    def __bool__(self) -> bool:
        raise self._misuse()

    def __hash__(self) -> int:
        raise self._misuse()

    def __iter__(self) -> NoReturn:
        raise self._misuse()

    def __reduce__(self) -> NoReturn:
        raise self._misuse()


class Blank(Struct, frozen=True):
    """Where the value of a task goes in a call."""

    id: str

    @property
    def wire(self) -> Ext:
        """The form in which it travels."""
        return Ext(BLANK, self.id.encode())


# --- In calls ----------------------------------------------------------------------------


def blanked(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any], tuple[str, ...]]:
    """Return a call with blanks for references, and the ids of their tasks, each once.

    Raises:
        InvalidArguments: There are too many.
        TaskNotFound: One has an id that no task can have.
    """
    if not kwargs and NATIVE.issuperset(map(type, args)):
        return args, kwargs, ()
    blanks: dict[str, Blank] = {}

    def swap(reference: Reference) -> Blank:
        id = reference.id
        if id not in blanks:
            if not can_be_id(id):
                raise TaskNotFound(readable(id)[:ID_MAX])
            blanks[id] = Blank(id)
        return blanks[id]

    args, kwargs = _swapped(args, kwargs, Reference, swap)
    if len(blanks) > AFTER_MAX:
        raise InvalidArguments(
            f"a call takes the outputs of at most {AFTER_MAX} tasks, not {len(blanks)}"
        )
    return args, kwargs, tuple(blanks)


def filled(
    task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return a call with the values of these tasks for its blanks.

    Raises:
        EncodeError: One of the values is missing.
    """

    def swap(blank: Blank) -> Any:
        if blank.id not in inputs:
            raise EncodeError(_missing(task, blank.id))
        return inputs[blank.id]

    return _swapped(args, kwargs, Blank, swap)


def _missing(task: str, id: str) -> str:
    return (
        f"task {task}: the value of task {id}, for which an argument stands, has not come with it"
    )


def _swapped(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], kind: type, swap: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    done = _swap_in(args, kind, swap, -1)
    return done, _swap_in(kwargs, kind, swap, -1) if kwargs else kwargs


def _swap_in(value: Any, kind: type, swap: Callable[[Any], Any], depth: int) -> Any:
    """Return a value with everything of this kind swapped, or, if there is none, itself."""
    own = type(value)
    if own is kind:
        return swap(value)
    if depth >= NESTED_MAX or (own is not list and own is not tuple and own is not dict):
        return value
    items = value.values() if own is dict else value
    if NATIVE.issuperset(map(type, items)):
        return value
    done = [_swap_in(item, kind, swap, depth + 1) for item in items]
    if all(map(operator.is_, done, items)):
        return value
    return dict(zip(value, done, strict=True)) if own is dict else own(done)


def check_places(task: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that has references where none may be, as far as that is seen at a glance.

    Where arguments are encoded, nobody needs it: there, each value is looked at anyway.

    Raises:
        EncodeError: There is one; the message says where.
    """
    if not kwargs and NATIVE.issuperset(map(type, args)):
        return
    named = [*enumerate(args, 1), *kwargs.items()]
    todo: list[_Place] = [(value, "argument {}", key, None) for key, value in named]
    seen: set[int] = set()
    for _ in range(LOOK_MAX):
        if not todo:
            return
        place = todo.pop()
        value = place[0]
        if type(value) is Reference:
            raise EncodeError(f"task {task}: {_where(place)} {MISPLACED}")
        if builtins.id(value) not in seen:
            seen.add(builtins.id(value))
            items, step = _inside(value)
            inner = [
                (i, step, k, place) for k, i in islice(items, LOOK_MAX) if type(i) not in NATIVE
            ]
            todo += reversed(inner)


_FIELD = ".{}"
_Place = tuple[Any, str, Any, Any]
"""A value, how its place is written, with which key, and the place of what it is in."""


def _where(place: _Place) -> str:
    """Write a place."""
    _, step, key, outer = place
    text = key if step == _FIELD else shown(key)
    return ("" if outer is None else _where(outer)) + step.format(text)


def _inside(value: Any) -> tuple[Iterable[tuple[Any, Any]], str]:
    """Return what a container, or an object that says what its fields are, consists of."""
    kind = type(value)
    if kind is dict:
        return value.items(), "[{}]"
    if kind is list or kind is tuple:
        return (() if NATIVE.issuperset(map(type, value)) else enumerate(value)), "[{}]"
    names = [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    names += [*getattr(kind, "__dataclass_fields__", ()), *getattr(kind, "_fields", ())]
    return [(name, _field(value, name)) for name in names], _FIELD


def _field(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - it is somebody's code
        return None


# --- In bytes ----------------------------------------------------------------------------

_one = Decoder(Raw).decode


def spliced(task: str, call: bytes, inputs: Mapping[str, Any]) -> bytes:
    """Return an encoded call with the encoded values of these tasks for its blanks.

    Raises:
        EncodeError: One of the values is missing, or is none; or the call cannot be read.
    """
    try:
        wires, named = unpack(call)
        if type(wires) is not list or type(named) is not dict:
            raise TypeError("not a call")
        wires = [_splice(task, wire, inputs, 0) for wire in wires]
        named = {name: _splice(task, wire, inputs, 0) for name, wire in named.items()}
        return pack((wires, named))
    except EncodeError:
        raise
    except Exception as error:  # whatever was sent
        raise EncodeError(f"task {task}: this call cannot be read: {told(error)}") from error


def _splice(task: str, wire: Any, inputs: Mapping[str, Any], depth: int) -> Any:
    kind = kind_of(wire)
    if kind == BLANK:
        return _value(task, str(wire.data, "utf-8"), inputs)
    if depth >= NESTED_MAX:
        return wire

    def inside(wires: Iterable[Any]) -> list[Any]:
        return [_splice(task, inner, inputs, depth + 1) for inner in wires]

    if kind is list:
        return inside(wire)
    if kind is dict:
        return dict(zip(wire, inside(wire.values()), strict=True))
    if kind == TUPLE:
        return Ext(TUPLE, pack(inside(open_items(wire.data))))
    if kind == PAIRS:
        halves = open_items(wire.data)
        halves[1::2] = inside(halves[1::2])
        return Ext(PAIRS, pack(halves))
    return wire


def _value(task: str, id: str, inputs: Mapping[str, Any]) -> Raw:
    if type(inputs.get(id)) is not bytes:
        raise EncodeError(_missing(task, id))
    try:
        return _one(inputs[id])  # which sees to it that it is one value, and no more
    except MsgspecError as error:
        raise EncodeError(f"task {task}: the value of task {id} cannot be read: {error}") from None
