"""A number of worker processes, kept alive until they are asked to end.

The parent knows nothing of tasks: it never imports a module of theirs, so nothing that they do can
bring it down. When a process dies, the queue is told by one coroutine and the next one is started
by another: neither waits for the other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex

import trio

from actorq.cli import pipe
from actorq.cli.child import Child, ending
from actorq.cli.exits import Exit, Failure
from actorq.cli.stopping import Stopping
from actorq.cli.teller import Teller
from actorq.machines.restarts import Backoff, Streak

_log = logging.getLogger("actorq.cli")

TELL_SECONDS = 2.0
"""That the queue may take, at the end, to be told of processes that have died."""

Start = Callable[[str, bool], Awaitable[Child]]
"""Starts a process for a new node; and whether one has worked before."""


class Crew:
    """Worker processes, and what becomes of them."""

    def __init__(
        self,
        start: Start,
        count: int,
        stopping: Stopping,
        teller: Teller,
        *,
        patience: float,
        random: Callable[[], float],
        tell: Callable[..., None],
    ) -> None:
        """Start none yet.

        Args:
            start: Starts one.
            count: How many there are to be.
            stopping: Says when they are to end.
            teller: Tells the queue of those that died.
            patience: Seconds after which those that were asked to end are stopped.
            random: Returns the jitter of a wait, in -1..1.
            tell: Reports what happens, an event's name and its details, to who reads JSON.
        """
        self._start = start
        self._count = count
        self._stopping = stopping
        self._teller = teller
        self._patience = patience
        self._random = random
        self._tell = tell
        self._children: set[Child] = set()
        self._worked = False
        """Whether a queue has accepted one of them: the command line is in order, then."""
        self._cut_off = False

    async def run(self) -> Exit:
        """Keep them alive until they are to end, and have ended.

        Raises:
            Failure: The first of them could not work at all.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._teller.run)
            async with trio.open_nursery() as keeping:
                keeping.start_soon(self._pass_on, keeping.cancel_scope)
                async with trio.open_nursery() as places:
                    for place in range(1, self._count + 1):
                        places.start_soon(self._keep, place)
                keeping.cancel_scope.cancel("all processes have ended")
            await self._teller.finish(TELL_SECONDS)
            nursery.cancel_scope.cancel("the crew is gone")
        return Exit.CUT_OFF if self._cut_off else Exit.OK

    async def _pass_on(self, block: trio.CancelScope) -> None:
        """Have all of them end when this program is to."""
        await self._stopping.asked.wait()
        _log.info(
            "draining, for %g s at most; a second signal stops at once", self._stopping.seconds
        )
        self._tell("draining", seconds=self._stopping.seconds)
        for child in self._children:
            child.say(pipe.Drain())
        with trio.move_on_after(self._patience):
            await self._stopping.at_once.wait()
        self._cut_off = True
        block.cancel("their time is up")

    async def _keep(self, place: int) -> None:
        """Have one process, and another when it has ended."""
        streak = Streak(Backoff())
        asked = self._stopping.asked
        while not asked.is_set():
            node = token_hex(4)
            began = trio.current_time()
            child = await self._start(node, self._worked)
            self._report(logging.INFO, "has started", "started", place, child)
            self._children.add(child)
            if asked.is_set():
                child.say(pipe.Drain())
            try:
                await child.run(partial(self._hear, place))
            finally:
                self._children.discard(child)
                self._note_end(place, child)
            if child.changed:
                continue
            wait = streak.next(trio.current_time() - began, self._random())
            with trio.move_on_after(wait):
                await asked.wait()

    def _hear(self, place: int, child: Child, report: pipe.Report) -> None:
        if isinstance(report, pipe.Ready):
            self._worked = True
            said = "is ready: a queue has accepted it"
            self._report(logging.INFO, said, "ready", place, child)
        elif isinstance(report, pipe.Failed):
            if not self._worked:
                raise Failure(report.message, details=report.details)
            _log.error("%s\n%s", report.message, report.details)
        else:
            said = f"starts again: {', '.join(report.files)} changed"
            self._report(logging.INFO, said, "changed", place, child, files=report.files)

    def _note_end(self, place: int, child: Child) -> None:
        code = child.code
        level = logging.INFO if code == Exit.OK or child.changed else logging.WARNING
        if child.failure is not None:
            level = logging.DEBUG  # it is known why
        self._report(level, f"ended: {ending(code)}", "ended", place, child, code=code)
        if code != Exit.OK:
            self._teller.died(child.node)
            if self._stopping.asked.is_set():
                self._cut_off = True

    def _report(
        self, level: int, said: str, event: str, place: int, child: Child, **details: object
    ) -> None:
        node, pid = child.node, child.pid
        _log.log(level, "worker process %d (node %s, pid %d) %s", place, node, pid, said)
        self._tell(event, process=place, node=node, pid=pid, **details)
