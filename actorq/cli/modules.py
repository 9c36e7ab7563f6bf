"""Importing what users name on the command line, and saying well what is wrong with it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType, TracebackType
from typing import Any

from actorq.cli.exits import Exit, Failure
from actorq.tasks import Task

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


def check_names(names: Iterable[str]) -> None:
    """Check that these can be names of modules, without importing them.

    Raises:
        Failure: One cannot.
    """
    for name in names:
        if name.endswith(".py") or "/" in name:
            dotted = name.removesuffix(".py").strip("./").replace("/", ".")
            raise Failure(f"{name} is a file: name its module, as {dotted}", Exit.USAGE)
        if not all(part.isidentifier() for part in name.split(".")):
            raise Failure(f"{name!r} is no name of a module, such as shop.tasks", Exit.USAGE)


def load_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import modules with tasks, from the current directory too, as ``python -m`` does.

    Raises:
        Failure: One cannot be imported, or has no tasks.
    """
    modules = [_load(name) for name in names]
    for module in modules:
        if not any(isinstance(value, Task) for value in vars(module).values()):
            raise Failure(f"{module.__name__} has no tasks: decorate functions with @actorq.task")
    return modules


def load_lifespan(path: str | None) -> Lifespan | None:
    """Import what ``module:attribute`` names.

    Raises:
        Failure: There is no such thing, or it cannot be called.
    """
    if path is None:
        return None
    name, colon, attribute = path.partition(":")
    if not colon or not attribute:
        raise Failure(f"--lifespan must be module:attribute, not {path!r}", Exit.USAGE)
    check_names([name])
    found: Any = _load(name)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise Failure(f"--lifespan {path}: there is no such function")
    return found  # type: ignore[no-any-return]  # what it returns is seen when it is entered


def _load(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - an entry of sys.path is a string
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Failure(
                f"there is no module {error.name} in {here}, nor where Python looks besides"
            ) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> Failure:
    kind = type(error).__name__
    lines = traceback.format_exception(type(error), error, _theirs(error.__traceback__))
    message = str(error).split("\n")[0]
    return Failure(
        f"{name} cannot be imported: {kind}" + (f": {message}" if message else ""),
        details="".join(lines).rstrip(),
    )


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame that is neither ours nor the import system's."""
    while frames is not None:
        module = str(frames.tb_frame.f_globals.get("__name__"))
        if module != __name__ and module.partition(".")[0] != "importlib":
            return frames
        frames = frames.tb_next
    return None
