"""Calls and values on their way to and from a process of our own, as pickle.

Both ends are the same program and nothing from elsewhere is ever unpickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from actorq.errors import EncodeError


def encode_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the arguments of a call.

    Raises:
        EncodeError: One of them cannot be pickled; the message names it.
    """
    try:
        return pickle.dumps((args, dict(kwargs)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        which = next(
            (
                f"argument {key + 1}" if isinstance(key, int) else f"argument {key!r}"
                for key, value in [*enumerate(args), *kwargs.items()]
                if not _travels(value)
            ),
            "its arguments",
        )
        raise EncodeError(
            f"task {name}: {which} cannot be sent to another process: {error}"
        ) from error


def _travels(value: object) -> bool:
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever a value's pickling raises
        return False
    return True


def decode_call(call: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Unpickle what `encode_call` made."""
    args, kwargs = pickle.loads(call)
    return args, kwargs


def encode_value(name: str, value: object) -> bytes:
    """Pickle what a task returned.

    Raises:
        EncodeError: It cannot be pickled.
    """
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever a value's pickling raises
        raise EncodeError(f"the value of task {name} cannot leave its process: {error}") from None


def decode_value(name: str, value: bytes) -> Any:
    """Unpickle what `encode_value` made.

    Raises:
        EncodeError: It cannot be built on this side.
    """
    try:
        return pickle.loads(value)
    except Exception as error:  # noqa: BLE001 - or its unpickling
        raise EncodeError(
            f"the value of task {name} has left its process and cannot be rebuilt: {error}"
        ) from None
