"""A connection in a thread of its own, and what its errors mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

import apsw
import apsw.aio
import trio

from actorq.errors import StoreError, StoreUnavailable
from actorq.stores.sqlite_schema import damaged

P = ParamSpec("P")
T = TypeVar("T")

_DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_BUSY = (apsw.BusyError, apsw.LockedError)
_FULL = (apsw.FullError, apsw.IOError)


class Connection:
    """Runs plain functions of a database, one after the other, in a thread.

    The thread is not a daemon: without `close` the interpreter never ends.
    """

    def __init__(
        self,
        path: Path,
        db: apsw.AsyncConnection,
        who: Callable[[apsw.Connection], str | None],
    ) -> None:
        """``who`` says who may hold a lock that cannot be had."""
        self._path = path
        self._async = db
        self._db = cast(apsw.Connection, db)  # as which it behaves in its thread
        self._who = who

    @classmethod
    async def open(cls, path: Path, who: Callable[[apsw.Connection], str | None]) -> Connection:
        """Open the file, or make it."""
        try:
            db = await apsw.Connection.as_async(str(path))
        except apsw.Error as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
        return cls(path, db, who)

    async def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        with trio.CancelScope(shield=True):
            await self._async.aclose()

    async def run(
        self,
        work: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what the function returns in the thread.

        When it is cancelled the function may still run, to its end, or to the next statement that
        takes long.

        Raises:
            CorruptStore: The file is damaged.
            StoreUnavailable: Anything else that SQLite has to say.
            apsw.SQLError: A statement is wrong, which no file is to blame for.
        """
        # Without this, a deadline somewhere above would break a statement in the middle.
        token = apsw.aio.deadline.set(math.inf)
        try:
            result: T = await self._async.async_run(
                self._call, partial(work, self._db, *args, **kwargs)
            )
        except apsw.ConnectionClosedError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        finally:
            apsw.aio.deadline.reset(token)
        return result

    def _call(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except apsw.SQLError:
            raise
        except apsw.Error as error:
            raise self._told(error) from error

    def _told(self, error: apsw.Error) -> StoreError:
        path, what = self._path, f"{error} (SQLite's error {_code(error)})"
        if isinstance(error, _DAMAGE):
            return damaged(path, what)
        if isinstance(error, _FULL):
            return StoreUnavailable(
                f"{path} cannot be written or read: {what}: is there room on the disk, and no "
                "limit on the size of files?"
            )
        if isinstance(error, _BUSY):
            try:
                who = self._who(self._db)
            except (apsw.Error, StoreError):
                who = None
            by = f"the owner is {who}" if who else "nobody owns it, so it is no process of ours"
            return StoreUnavailable(f"{path} is locked by another process ({what}); {by}")
        return StoreUnavailable(f"{path}: {what}")


def _code(error: apsw.Error) -> int | str:
    return getattr(error, "extendedresult", "unknown")
