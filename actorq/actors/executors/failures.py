"""From an exception to what is kept of it, and to what it means for the retry policy."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from actorq.errors import (
    GiveUp,
    RemoteError,
    RetryLater,
    leaves,
    mro_names,
    qualified_name,
    readable,
)
from actorq.model.options import Retry

_OURS = ("actorq.actors.", "trio._threads")
_TEXT_MAX = 32_768
_MEMBERS_MAX = 50
_NOTES_MAX = 10
_DEPTH_MAX = 5


def describe(error: BaseException, *, text: bool = True) -> RemoteError:
    """Return what is known of an exception; never raises, and bounds what it returns.

    Groups keep up to 50 members in all, on 5 levels; longer texts are cut in the middle. Without
    ``text`` there is no traceback.
    """
    return _describe(error, 0, iter(range(_MEMBERS_MAX)), text=text)


def _describe(error: BaseException, depth: int, room: Iterator[int], *, text: bool) -> RemoteError:
    children: list[RemoteError] = []
    if isinstance(error, BaseExceptionGroup) and depth < _DEPTH_MAX:
        for member, _ in zip(error.exceptions, room, strict=False):
            children.append(_describe(member, depth + 1, room, text=False))
    most = _TEXT_MAX if depth == 0 else _TEXT_MAX // 16
    notes = [_cut(_text(note), most) for note in _notes(error)[:_NOTES_MAX]]
    return RemoteError(
        type=readable(qualified_name(type(error))),
        message=_cut(_text(error), most),
        traceback=_cut(_traceback(error), most) if text else "",
        notes=tuple(notes),
        mro=tuple(map(readable, mro_names(type(error)))),
        children=tuple(children),
    )


# All that follows calls users' code, which may raise anything, SystemExit included.


def _text(thing: object) -> str:
    try:
        return readable(str(thing))
    except BaseException as broken:  # noqa: BLE001 - see above
        return f"<its __str__ raised {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        return readable("".join(traceback.format_exception(error)))
    except BaseException as broken:  # noqa: BLE001 - see above
        return f"<its traceback could not be formatted: {type(broken).__name__}>"


def _notes(error: BaseException) -> list[object]:
    try:
        notes = getattr(error, "__notes__", None)
        return list(notes) if isinstance(notes, list | tuple) else []
    except BaseException:  # noqa: BLE001 - see above
        return []


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"


def own_frames(error: BaseException) -> BaseException:
    """Return the exception with the frames of the task alone in its traceback.

    Ours hold the grant, and with it the arguments; whoever keeps the error would keep them.
    """
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        trace = trace.tb_next
    return error.with_traceback(trace)


def retryable(error: RemoteError, retry: Retry) -> bool:
    """Say whether the policy covers the error: one member in ``on``, and none in ``never``."""
    if retry.attempts <= 1 or error.matches(GiveUp):
        return False
    return error.matches(*retry.on_names) and not (
        retry.never and error.matches(*retry.never_names)
    )


def wants_later(error: BaseException) -> float | None:
    """Return the delay of a `RetryLater`, if the exception is one or a group of only those."""
    asked = [leaf.delay if isinstance(leaf, RetryLater) else None for leaf in leaves(error)]
    delays = [delay for delay in asked if delay is not None]
    return max(delays) if len(delays) == len(asked) else None
