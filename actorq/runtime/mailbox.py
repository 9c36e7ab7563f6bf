"""The mail of one actor: first in, first out, woken and never polled."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Generic, TypeVar

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule

M = TypeVar("M")


class Mailbox(Generic[M]):
    """An unbounded line of messages with one reader.

    Whoever posts is bounded instead: a client waits for each answer, a worker has so many slots.
    """

    def __init__(self) -> None:
        self._mail: deque[M] = deque()
        self._reader: Task | None = None
        self._woken = False

    def __len__(self) -> int:
        return len(self._mail)

    def post(self, message: M) -> None:
        """Add a message without waking the reader."""
        self._mail.append(message)

    def wake(self) -> None:
        """End the reader's `wait`, the present one or the next."""
        if self._reader is not None:
            task, self._reader = self._reader, None
            reschedule(task)
        else:
            self._woken = True

    def take(self, most: int) -> list[M]:
        """Return and remove the oldest ``most`` messages."""
        mail = self._mail
        if not mail:
            return []
        if len(mail) <= most:
            taken = list(mail)
            mail.clear()
            return taken
        return [mail.popleft() for _ in range(most)]

    async def wait(self, seconds: float | None = None) -> None:
        """Wait for mail, `wake`, or at most ``seconds``. Always a checkpoint."""
        if self._mail or self._woken or (seconds is not None and seconds <= 0):
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(inf if seconds is None else seconds):
                self._reader = current_task()

                def abort(_: RaiseCancelT) -> Abort:
                    self._reader = None
                    return Abort.SUCCEEDED

                await trio.lowlevel.wait_task_rescheduled(abort)
        self._woken = False
