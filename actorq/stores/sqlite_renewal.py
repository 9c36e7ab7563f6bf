"""What keeps an ownership while its owner's loop stands still, or has a lot to do: a thread.

It has a connection of its own, writes only where the owner's commits have not done so for half the
time that the ownership lasts, and waits for nobody. A process that is stopped stops it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import apsw

from actorq.model.records import Ownership

BLOCKED_MAX = 60.0
"""Seconds after the loop's last sign of life until which its ownership is renewed for it."""

_AGAIN = 0.1
"""Seconds between two attempts, where somebody is writing; and the least of all waits."""

_RENEW = "UPDATE owner SET expires_at = ? + ttl WHERE partition = ? AND epoch = ? AND nonce = ?"


class Renewal:
    """Renews one ownership until it is stopped, or somebody else has the partition.

    Attributes:
        owner: Its epoch and nonce.
        renewed_at: When the last commit or renewal began, in monotonic time.
    """

    def __init__(
        self,
        path: Path,
        ownership: Ownership,
        ttl: float,
        *,
        alive_at: Callable[[], float],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Do nothing before `start`; ``alive_at`` says when the loop last gave a sign of life."""
        self.owner: tuple[int, str] = (ownership.epoch, ownership.nonce)
        self.renewed_at: float = monotonic()
        self._path = path
        self._partition = ownership.partition
        self._ttl = ttl
        self._alive_at = alive_at
        self._clock = clock
        self._monotonic = monotonic
        self._db: apsw.Connection | None = None
        self._over = threading.Event()
        # A daemon, so that a program that never closes its store is not kept from ending by it.
        self._thread = threading.Thread(target=self._run, name="actorq renewal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the end of the thread, which waits for nothing."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._db is not None:
            self._db.close()

    def _run(self) -> None:
        while not self._over.wait(self.step()):
            pass

    def step(self) -> float:
        """Renew it, if that is due; return the seconds until the next look."""
        now = self._monotonic()
        rest = self.renewed_at + self._ttl / 2 - now
        if rest <= 0:
            rest = self._ttl / 2
            if now - self._alive_at() <= BLOCKED_MAX:
                if self._renew():
                    self.renewed_at = max(self.renewed_at, now)
                else:
                    rest = _AGAIN
        return max(rest, _AGAIN)

    def _renew(self) -> bool:
        """Return whether it could be done: not while anybody writes."""
        try:
            db = self._db = self._db or self._open()
            db.execute(_RENEW, (self._clock(), self._partition, *self.owner))
        except apsw.Error:
            return False
        if not db.changes():
            self._over.set()
        return True

    def _open(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        db.pragma("wal_autocheckpoint", 0)
        # A power cut ends the ownership anyway, so the disk need not have it.
        db.pragma("synchronous", "normal")
        return db
