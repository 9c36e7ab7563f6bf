"""What programs that run for long have in common: their log, and how they are asked to end.

The first signal ends them in order, the second one at once.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

import trio

from actorq.cli.exits import Exit

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

AT_ONCE_SECONDS = 5.0
"""Within which a program ends that was told to stop at once, whatever its tasks do."""


def start_logging(level: str) -> None:
    """Write log records to stderr, unless somebody has chosen otherwise."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s",
    )


class Stopping:
    """Whether, and how fast, this program is to end.

    Attributes:
        asked: Set when it is to end.
        seconds: How long what runs may take to finish, then.
        scope: Around its work: cancelled when it is to stop at once.
        at_once: Set then, too.
        watchdog: What ends this process, then, if nothing else does.
    """

    def __init__(self, seconds: float, at_once_seconds: float = AT_ONCE_SECONDS) -> None:
        self._at_once_seconds = at_once_seconds
        self.asked: trio.Event = trio.Event()
        self.seconds: float = seconds
        self.scope: trio.CancelScope = trio.CancelScope()
        self.at_once: trio.Event = trio.Event()
        self.watchdog: threading.Timer | None = None
        self._signals = 0

    def ask(self, seconds: float | None = None) -> None:
        """Have it end in order; twice is once."""
        if not self.asked.is_set():
            if seconds is not None:
                self.seconds = seconds
            self.asked.set()

    def hurry(self) -> None:
        """Have it stop now; twice is once."""
        self.ask()
        if not self.at_once.is_set():
            self.at_once.set()
            self.scope.cancel("told to stop at once")
            self._watch()

    def _watch(self) -> None:
        if self.watchdog is None:
            self.watchdog = end_for_sure(self._at_once_seconds)

    async def listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take signals until cancelled; the second one counts even if a task blocks the loop."""
        token = trio.lowlevel.current_trio_token()

        def take(_signum: int, _frame: FrameType | None) -> None:
            self._signals += 1
            if self._signals == 2:
                self._watch()
            token.run_sync_soon(self.ask if self._signals == 1 else self.hurry)

        before = {which: signal.signal(which, take) for which in _SIGNALS}
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)


def end_for_sure(seconds: float) -> threading.Timer:
    """End this process in so many seconds, even if its loop stands still."""

    def end() -> None:
        logging.getLogger("actorq").error("not all has ended in %g s: it is cut off", seconds)
        os._exit(Exit.CUT_OFF)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
