"""The beats of a worker node: over a small connection of their own, from a thread of their own.

They say that the process is alive, and for how long its main loop has not come round. A task that
blocks the loop does not stop them; what stops them (a suspended machine, a GIL that is held) stops
everything else too.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import trio

from actorq.contracts.link import Port
from actorq.contracts.transport import Transport
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.runtime.dialer import Dialer

_LOOK_SECONDS = 0.5
"""How often the main loop says that it comes round."""

_JOIN_SECONDS = 3.0
"""Within which the thread ends, however its peer behaves."""


class Lag:
    """How long the main loop has not come round; written by it, read by a thread."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen = now()

    def seconds(self) -> float:
        """Return the seconds beyond those that it sleeps anyway."""
        return max(0.0, self._now() - self._seen - 2 * _LOOK_SECONDS)

    async def keep(self) -> None:
        """Come round, until cancelled."""
        while True:
            self._seen = self._now()
            await trio.sleep(_LOOK_SECONDS)


class _Pulse:
    """Implements `actorq.contracts.link.Peer` for a connection that only carries beats."""

    def __init__(self) -> None:
        self.port: Port | None = None

    def connected(self, port: Port) -> None:
        """Beat over this one."""
        self.port = port

    def received(self, message: Any) -> None:
        """Nothing is said to it but that its beats have come."""

    def disconnected(self, error: BaseException | None) -> None:  # noqa: ARG002 - the protocol
        """Wait for the next connection."""
        self.port = None


async def beat(
    transports: Sequence[Transport],
    token: str | None,
    node: str,
    lag: Callable[[], float],
    every: float,
    random: Random,
) -> None:
    """Send the beats of ``node`` until cancelled, each time over whichever connection stands."""
    pulse = _Pulse()
    dialer = Dialer(
        transports,
        token,
        pulse,
        node=node,
        library="",
        tell=lambda *_, **__: None,
        random=random,
        introduce=[w.BeatHello(node)],
        quiet=max(w.BEAT_SILENCE, 2.5 * every),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialer.run)
        while True:
            if pulse.port is not None:
                pulse.port.send(m.Beat(lag()))
            await trio.sleep(every)


@asynccontextmanager
async def beating_in_thread(run: Callable[[], Any]) -> AsyncGenerator[None, None]:
    """Run ``await run()`` in a loop of its own, in a thread, as long as the block lasts."""
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []
    over = False

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            if not over:
                # What is refused here is refused, and told, on the main connection.
                with suppress(Exception):
                    await run()

    thread = threading.Thread(target=trio.run, args=(main,), name="actorq beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over = True
        if tokens:
            with suppress(trio.RunFinishedError):
                tokens[0].run_sync_soon(scope.cancel)
        with trio.move_on_after(_JOIN_SECONDS, shield=True):
            await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)
