"""Arguments and values on their way between processes, as bytes that describe themselves.

What a task's annotations say is checked where arguments are encoded, and again where they are
decoded. A value arrives equal and of the same type, or it is refused before it leaves. Bytes are
never trusted: from whatever arrives, only plain values and instances of the receiver's own
annotations are made, or there is an `EncodeError`.

Whoever has no function at hand encodes and decodes without annotations. It is the same form, in
which an object is a dict of its fields.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from types import FunctionType, MethodType
from typing import Any, get_args, get_origin

from actorq.codec.annotations import Annotations, field_types, resolved
from actorq.codec.packed import Misfit, Refusal, Step, pack, shown, unpack
from actorq.codec.shapes import ANY, Row, Shape
from actorq.codec.tagged import tag, untag
from actorq.errors import EncodeError, InvalidArguments, told


class Parameters:
    """The shapes of a function's parameters: what a call of it consists of."""

    def __init__(
        self,
        positional: Mapping[str, Shape],
        named: Mapping[str, Shape],
        rest: tuple[str, Shape] | None = None,
        others: Shape | None = None,
    ) -> None:
        """Take the shapes by name; ``rest`` is that of ``*args``, ``others`` of ``**kwargs``."""
        self._names = [*positional]
        self._positional = [*positional.values()]
        self._encodes = [shape.encode for shape in self._positional]
        self._decodes = [shape.decode for shape in self._positional]
        self._named = named
        self._rest = rest
        self._others = others
        self._row = Row(self._positional, rest[1] if rest else None)

    def encode(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the bytes of a call; see `Signature.encode_call`."""
        wires: tuple[Any, ...] = args
        named: dict[str, Any] = {}
        if kwargs or not self._row.native(args):
            steps: Sequence[Step] = self._encodes
            if kwargs or len(args) > len(steps):
                steps = [shape.encode for shape in self._shapes(task, len(args), kwargs)]
            wires, named = self._walk(task, args, kwargs, steps)
        try:
            return pack((wires, named))
        except Refusal as refusal:  # it does not tell of which of them
            self._walk(task, wires, named, [_pack] * (len(wires) + len(named)))
            raise EncodeError(f"task {task}: the name of an argument {refusal.reason}") from None

    def decode(self, task: str, call: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call that these bytes are; see `Signature.decode_call`."""
        try:
            wires, named = unpack(call)
            if type(wires) is not list or type(named) is not dict:
                raise TypeError("not a call")
            if not named and self._row.native(wires):
                return tuple(wires), named
            steps: Sequence[Step] = self._decodes
            if named or len(wires) > len(steps):
                steps = [shape.decode for shape in self._shapes(task, len(wires), named)]
            return self._walk(task, wires, named, steps)
        except EncodeError:
            raise
        except InvalidArguments as error:
            raise EncodeError(str(error)) from error.__cause__
        except Exception as error:  # whatever was sent
            raise EncodeError(f"task {task}: this call cannot be read: {told(error)}") from error

    def _shapes(self, task: str, count: int, names: Iterable[Any]) -> list[Shape]:
        """Return the shape of each of so many positional arguments, and of these named ones."""
        shapes = self._positional[:count]
        if count > len(shapes):
            if self._rest is None:
                raise InvalidArguments(
                    f"task {task} takes {len(shapes)} positional arguments, not {count}"
                )
            shapes += [self._rest[1]] * (count - len(shapes))
        for name in names:
            shape = self._named.get(name) or self._others
            if type(name) is not str or shape is None:
                raise InvalidArguments(f"task {task} takes no argument {shown(name)}")
            shapes.append(shape)
        return shapes

    def _walk(
        self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], steps: Sequence[Step]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Take its step with each argument; whatever goes wrong is told of that argument."""
        done: list[Any] = []
        count = len(args)
        try:
            for step, value in zip(steps, args, strict=False):
                done.append(step(value, 0))
            if not kwargs:
                return tuple(done), {}
            for step, value in zip(steps[count:], kwargs.values(), strict=True):
                done.append(step(value, 0))
            return tuple(done[:count]), dict(zip(kwargs, done[count:], strict=True))
        except Exception as error:  # noqa: BLE001 - refused, malformed, or a user's class raised
            kind = InvalidArguments if isinstance(error, Misfit) else EncodeError
            which = self._which(len(done), count, [*kwargs])
            raise kind(f"task {task}: argument {which}{_why(error)}") from _cause(error)

    def _which(self, index: int, count: int, names: Sequence[str]) -> str:
        """Return how an argument is called in messages."""
        if index >= count:
            return repr(names[index - count])
        if index < len(self._names):
            return repr(self._names[index])
        return f"{self._rest[0] if self._rest else ''}{index - len(self._names) + 1}"


def _pack(wire: Any, _depth: int) -> bytes:
    return pack(wire)


def _write(what: str, encode: Step, value: Any) -> bytes:
    """Encode one value."""
    try:
        return pack(encode(value, 0))
    except Exception as error:  # noqa: BLE001 - refused, or a user's class raised
        raise EncodeError(f"{what}{_why(error)}") from _cause(error)


def _read(what: str, decode: Step, data: bytes) -> Any:
    """Decode one value; whatever goes wrong is the fault of the bytes."""
    try:
        return decode(unpack(data), 0)
    except Exception as error:  # noqa: BLE001 - malformed, or a user's class raised
        raise EncodeError(f"{what}{_why(error)}") from _cause(error)


def _why(error: Exception) -> str:
    if isinstance(error, Refusal):
        return f"{error.where} {error.reason}"
    if isinstance(error, RecursionError):
        return " is nested too deeply"
    return f" fails: {told(error)}"


def _cause(error: Exception) -> BaseException | None:
    return error.__cause__ if isinstance(error, Refusal) else error


_UNKNOWN = Parameters({}, {}, ("", ANY), ANY)


def encode_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Encode a call of a task of which only the name is known.

    Raises:
        EncodeError: An argument is no plain value; the message names it.
    """
    return _UNKNOWN.encode(name, args, kwargs)


def encode_plain(value: Any, what: str) -> bytes:
    """Encode a value that has no annotation.

    Raises:
        EncodeError: It is no plain value; the message begins with ``what``.
    """
    return _write(what, tag, value)


def decode_plain(data: bytes) -> Any:
    """Decode a value without annotations: objects in it are dicts of their fields.

    What cannot be in a set, or be a key, once it is such a dict, comes in a list instead.

    Raises:
        EncodeError: These bytes are no value.
    """
    return _read("this value", untag, data)


class Signature:
    """How the arguments and the value of one task travel, by its function's annotations.

    Attributes:
        digest: Short, and another when the names, kinds or annotations of the parameters are
            others, or the fields of classes in them.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Compile the annotations.

        Raises:
            TypeError: In one is a union of which a value does not tell the branch; the message
                names the parameter.
        """
        self._name = name
        self._its_value = f"task {name}: its value"
        made = _Compiler(name, function)
        self._parameters = made.parameters
        self._returns = made.returns
        self.digest: str = made.digest()

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Encode the arguments of a call.

        Raises:
            InvalidArguments: One is not of the type that its annotation asks for.
            EncodeError: One cannot travel. Either message names it.
        """
        return self._parameters.encode(self._name, args, kwargs)

    def decode_call(self, call: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode the arguments of a call, whoever encoded them.

        Raises:
            EncodeError: They are malformed, or do not fit the annotations here.
        """
        return self._parameters.decode(self._name, call)

    def encode_value(self, value: Any) -> bytes:
        """Encode what the function returned.

        Raises:
            EncodeError: It cannot travel, or is not of the annotated type.
        """
        return _write(self._its_value, self._returns.encode, value)

    def decode_value(self, data: bytes) -> Any:
        """Decode what `encode_value` made.

        Raises:
            EncodeError: It is malformed, or does not fit the annotation here.
        """
        return _read(self._its_value, self._returns.decode, data)


class _Compiler:
    """Reads the annotations of a function."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._annotations = Annotations()
        self._words: list[str] = []
        self.parameters: Parameters = _UNKNOWN
        self.returns: Shape = ANY
        core = _core(function)
        self._globals: Mapping[str, Any] = getattr(core, "__globals__", {})
        self._local = {p.__name__: p for p in getattr(core, "__type_params__", ())}
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            return
        self.parameters = self._parameters(signature)
        returned: Any = signature.return_annotation
        if inspect.isclass(function):
            returned = function
        elif inspect.isasyncgenfunction(core):
            returned = None  # its items travel by themselves
        self.returns = self._shape("return", returned)

    def digest(self) -> str:
        words = "\n".join([*self._words, *self._annotations.definitions])
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def _parameters(self, signature: inspect.Signature) -> Parameters:
        positional: dict[str, Shape] = {}
        named: dict[str, Shape] = {}
        rest: tuple[str, Shape] | None = None
        others: Shape | None = None
        for name, parameter in signature.parameters.items():
            kind = parameter.kind
            if kind is Parameter.VAR_KEYWORD:
                typed = self._typed_keywords(parameter.annotation)
                named |= typed
                others = None if typed else self._shape(f"**{name}", parameter.annotation)
                continue
            shape = self._shape(f"{kind.name} {name}", parameter.annotation)
            if kind is Parameter.VAR_POSITIONAL:
                rest = f"*{name}, number ", shape
            elif kind is Parameter.KEYWORD_ONLY:
                named[name] = shape
            else:
                positional[name] = shape
                if kind is Parameter.POSITIONAL_OR_KEYWORD:
                    named[name] = shape
        return Parameters(positional, named, rest, others)

    def _typed_keywords(self, annotation: Any) -> dict[str, Shape]:
        """Return the shapes of ``**options: Unpack[OptionsDict]``, by name."""
        found = resolved(annotation, self._globals, self._local)
        if get_origin(found) is not typing.Unpack:
            return {}
        inner = get_args(found)[0]
        types = field_types(get_origin(inner) or inner, get_args(inner))
        return {name: self._shape(f"** {name}", annotation) for name, annotation in types.items()}

    def _shape(self, what: str, annotation: Any) -> Shape:
        if annotation is Parameter.empty:
            annotation = Any
        try:
            shape = self._annotations.shape(resolved(annotation, self._globals, self._local))
        except TypeError as error:
            raise TypeError(f"task {self._name}: {what.rpartition(' ')[2]!r}: {error}") from None
        self._words.append(f"{what}: {shape.text}")
        return shape


def _core(function: Any) -> Any:
    """Return the function that is behind partials, methods, decorators and callable objects."""
    while not isinstance(function, FunctionType):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isclass(function):
            function = function.__init__
        elif isinstance(type(function).__call__, FunctionType):
            function = type(function).__call__
        else:
            return None
    return inspect.unwrap(function)
