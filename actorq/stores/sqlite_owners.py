"""Who may write a file: how that is got, kept and lost.

Each partition has a row that says whose it is. Every transaction that writes finds that row as the
owner knows it, or changes nothing. The row is renewed by each commit. Of an owner's death the free
lock tells at once; otherwise only the silence of the row does.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import apsw

from actorq.errors import CorruptStore, Fenced
from actorq.model.records import Ownership
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite_renewal import Renewal
from actorq.stores.sqlite_schema import BUSY, newer

T = TypeVar("T")

_ACQUIRE_BUSY = 300
"""Milliseconds: somebody who holds the lock for longer is stopped, or no owner of ours."""

_OWNER = "SELECT epoch, nonce, lineage, forgotten_until, stamp FROM owner WHERE partition = ?"
_HOLDER = "SELECT epoch, nonce, expires_at, ttl, locked FROM owner WHERE partition = ?"
_RENEW = (
    "UPDATE owner SET expires_at = ? + ttl, stamp = max(stamp, ?), locked = ?"
    " WHERE partition = ? AND epoch = ? AND nonce = ?"
)
_OWN = (
    "INSERT OR REPLACE INTO owner(partition, epoch, nonce, lineage, forgotten_until, stamp,"
    " expires_at, ttl, locked, pid, host) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RELEASE = (
    "UPDATE owner SET expires_at = 0, nonce = '' WHERE partition = ? AND epoch = ? AND nonce = ?"
)


def transact(db: apsw.Connection, work: Callable[[], T]) -> T:
    """Do all of it or nothing, as the only one who writes."""
    if db.in_transaction:  # the last one could not even be taken back
        db.execute("ROLLBACK")
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # after some errors SQLite has taken it back itself
            with suppress(apsw.Error):
                db.execute("ROLLBACK")
        raise
    return result


class Owners:
    """What this process owns of a file, and what it has seen of those who own the rest.

    Attributes:
        alive_at: The last sign of life of the loop that owns, in monotonic time.
    """

    def __init__(
        self,
        db: apsw.Connection,
        path: Path,
        lock: OwnerLock,
        version: int,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``version`` is that of the layout which is known here; no other one is written."""
        self.alive_at: float = monotonic()
        self._db = db
        self._path = path
        self._lock = lock
        self._version = version
        self._clock = clock
        self._monotonic = monotonic
        self._mine: dict[str, Renewal] = {}
        self._seen: dict[str, tuple[tuple[Any, ...], float, float]] = {}
        """Rows of others by partition, for how long each has been as it is, and the last look."""
        self._file = path.stat()

    # --- getting it ------------------------------------------------------------------------------

    def acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        """Become the owner, unless another one is alive."""
        self.check_file()
        if self._is_owned(partition):
            return None
        self._db.set_busy_timeout(_ACQUIRE_BUSY)
        try:
            owner = transact(self._db, lambda: self._acquire(partition, nonce, ttl))
            if owner is not None:
                self._begin(owner, ttl)
        finally:
            self._db.set_busy_timeout(BUSY)
            self._free_if_idle()
        return owner

    def _acquire(self, partition: str, nonce: str, ttl: float) -> Ownership | None:
        version = self._db.pragma("user_version")
        if version != self._version:  # somebody has brought it forward while this one stood by
            raise newer(self._path, version, self._version)
        if self._is_owned(partition):  # somebody was faster
            return None
        row = self._db.execute(_OWNER, (partition,)).fetchone()
        epoch, _, lineage, forgotten_until, stamp = row or (0, "", token_hex(8), 0.0, 0.0)
        owner = Ownership(partition, epoch + 1, nonce, lineage, forgotten_until, stamp)
        self._db.execute(
            _OWN,
            (
                partition, owner.epoch, nonce, lineage, forgotten_until, stamp,
                self._clock() + ttl, ttl, self._lock.number, os.getpid(), platform.node(),
            ),
        )  # fmt: skip
        return owner

    def _begin(self, owner: Ownership, ttl: float) -> None:
        self._end(owner.partition)
        renewal = self._mine[owner.partition] = Renewal(
            self._path,
            owner,
            ttl,
            alive_at=lambda: self.alive_at,
            clock=self._clock,
            monotonic=self._monotonic,
        )
        renewal.start()

    def _is_owned(self, partition: str) -> bool:
        """Say whether somebody else may be alive.

        Whoever had this very lock, which is free now, is dead. While somebody has it, only a row
        that stays as it is tells, by the time that passes here: the time of day may be set by
        hours. That is asked where there is no lock; and a row that stays as it is counts there,
        too.
        """
        has_lock = self._lock.take()
        row = self._db.execute(_HOLDER, (partition,)).fetchone()
        if row is None:
            return False
        epoch, nonce, expires_at, ttl, locked = row
        mine = self._mine.get(partition)
        if (
            not expires_at  # it was given up
            or (has_lock and locked == self._lock.number)
            or (mine is not None and mine.owner == (epoch, nonce))
        ):
            return False
        silence = self._silence(partition, row, ttl)
        owned = bool(silence < ttl and (self._lock.elsewhere or self._clock() < expires_at))
        if owned:
            self._free_if_idle()  # who owns it may get it yet
        return owned

    def _silence(self, partition: str, row: tuple[Any, ...], ttl: float) -> float:
        """Return for how long it has been seen that a row stays as it is."""
        now = self._monotonic()
        former, silence, looked = self._seen.get(partition, ((), 0.0, now))
        # Whoever has not looked for long was held up itself, and so may have been the owner.
        silence = silence + min(now - looked, ttl / 4) if former == row else 0.0
        self._seen[partition] = (row, silence, now)
        return silence

    def in_use(self) -> str | None:
        """Return who owns any partition now, in words, or None; then the lock is held."""
        for (partition,) in self._db.execute("SELECT partition FROM owner").fetchall():
            if self._is_owned(str(partition)):
                return owner_in_words(self._db, self._clock())
        return None

    # --- keeping it ------------------------------------------------------------------------------

    def renew(self, ownership: Ownership, stamp: float) -> None:
        """At the beginning of a commit: find out whether it is the owner's, and have it last.

        Raises:
            Fenced: It is not.
        """
        who = (ownership.partition, ownership.epoch, ownership.nonce)
        self._lock.take()
        self._db.execute(_RENEW, (self._clock(), stamp, self._lock.number, *who))
        if self._db.changes() != 1:
            raise self._fenced(ownership)
        renewal = self._mine.get(ownership.partition)
        if renewal is not None:
            renewal.renewed_at = self._monotonic()

    def check(self, ownership: Ownership) -> None:
        """Find out whether it is still the owner's.

        Raises:
            Fenced: It is not.
        """
        row = self._db.execute(_OWNER, (ownership.partition,)).fetchone()
        if row is None or row[:2] != (ownership.epoch, ownership.nonce):
            raise self._fenced(ownership)

    def check_file(self) -> None:
        """Find out whether the file is still where it was: else what is written would be lost.

        Raises:
            CorruptStore: It is not.
        """
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            there = False
        if not there:
            raise CorruptStore(
                f"{self._path} was moved, deleted or replaced while it was open: put it back, with "
                f"{self._path.name}-wal, and start again"
            )

    # --- losing it -------------------------------------------------------------------------------

    def release(self, ownership: Ownership) -> None:
        """Let the next one have it at once."""
        self._lost(ownership)  # first of all, as what follows may fail
        who = (ownership.partition, ownership.epoch, ownership.nonce)
        self._db.execute(_RELEASE, who)

    def free(self) -> None:
        """Let go of everything: it is over."""
        for partition in list(self._mine):
            self._end(partition)
        self._lock.free()

    def _fenced(self, ownership: Ownership) -> Fenced:
        self._lost(ownership)
        return Fenced(
            f"partition {ownership.partition!r}: epoch {ownership.epoch} is no longer its owner"
        )

    def _lost(self, ownership: Ownership) -> None:
        """Let the next owner have the lock."""
        renewal = self._mine.get(ownership.partition)
        if renewal is not None and renewal.owner == (ownership.epoch, ownership.nonce):
            self._end(ownership.partition)
        self._free_if_idle()

    def _end(self, partition: str) -> None:
        renewal = self._mine.pop(partition, None)
        if renewal is not None:
            renewal.stop()

    def _free_if_idle(self) -> None:
        if not self._mine:
            self._lock.free()


def owner_in_words(db: apsw.Connection, now: float) -> str | None:
    """Return who has a partition, or None."""
    row = db.execute("SELECT pid, host, expires_at FROM owner ORDER BY expires_at DESC").fetchone()
    if row is None or not row[2]:
        return None
    pid, host, expires_at = row
    words = f"process {pid} on {host}"
    if host == platform.node():
        words += _state_of(pid)
    return words if now < expires_at else f"{words}, whose time is over"


def _state_of(pid: int) -> str:
    """Say what is special about a process of this machine, where the system tells."""
    try:
        _, _, state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")
    except FileNotFoundError:
        return ", which is no more" if Path("/proc/self").exists() else ""
    except OSError:
        return ""
    stopped = f", which is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it"
    return stopped if state[:1] in ("T", "t") else ""
