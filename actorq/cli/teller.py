"""The parent's own connection, over which it tells the queue of processes that have died."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from actorq.cli.exits import Failure
from actorq.contracts.transport import Transport
from actorq.errors import ActorqError
from actorq.machines.restarts import Backoff, Streak
from actorq.system.remote import Parent, open_parent

_log = logging.getLogger("actorq.cli")


class Teller:
    """Tells the queue of the dead, as soon as it can; nobody waits for it meanwhile."""

    def __init__(
        self,
        transports: Sequence[Transport],
        token: Callable[[], str | None],
        *,
        random: Callable[[], float],
    ) -> None:
        """Tell nothing yet.

        Args:
            transports: Where the queue listens.
            token: Returns what to show there; asked again when it was refused.
            random: Returns the jitter of a wait, in -1..1.
        """
        self._transports = transports
        self._token = token
        self._random = random
        self._dead: deque[str] = deque()
        self._news = trio.Event()
        self._all_told = trio.Event()

    def died(self, node: str) -> None:
        """Have the queue told that the process of a node has ended."""
        self._dead.append(node)
        self._news.set()

    async def run(self) -> None:
        """Hold the connection until cancelled, and tell."""
        streak = Streak(Backoff())
        while True:
            began = trio.current_time()
            try:
                # Whether the queue is in reach is for the processes to say.
                parent = open_parent(self._transports, token=self._token(), instruments=())
                async with parent as connected:
                    await self._tell(connected)
            except (ActorqError, Failure) as error:
                wait = streak.next(trio.current_time() - began, self._random())
                _log.error("the queue cannot be told of dead processes: %s", error)
                await trio.sleep(wait)

    async def _tell(self, parent: Parent) -> None:
        while True:
            while self._dead:
                await parent.died(self._dead[0])
                self._dead.popleft()
            self._all_told.set()
            self._news = trio.Event()
            await self._news.wait()

    async def finish(self, seconds: float) -> None:
        """Return when all is told, or after so many seconds."""
        self._all_told = trio.Event()
        with trio.move_on_after(seconds):
            while self._dead:
                await self._all_told.wait()
