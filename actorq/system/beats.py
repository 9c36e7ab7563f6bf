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
from actorq.errors import TransportError
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.runtime.dialer import Dialer

_LOOK_SECONDS = 0.5
"""How often the main loop says that it comes round."""

_AGAIN_SECONDS = 5.0
"""After which whoever refused the beats is asked again."""

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

    def __init__(self, lag: Callable[[], float]) -> None:
        self._lag = lag
        self._port: Port | None = None

    def connected(self, port: Port) -> None:
        """Beat over this one, and at once."""
        self._port = port
        self.beat()

    def received(self, message: Any) -> None:
        """Nothing is said to it but that its beats have come."""

    def disconnected(self, error: BaseException | None) -> None:  # noqa: ARG002 - the protocol
        """Wait for the next connection."""
        self._port = None

    def suspended(self, error: Exception) -> None:
        """Go on."""

    def beat(self) -> None:
        """Say that the process is alive."""
        if self._port is not None:
            self._port.send(m.Beat(self._lag()))


async def beat(
    transports: Sequence[Transport],
    token: str | None,
    node: str,
    lag: Callable[[], float],
    random: Random,
) -> None:
    """Send the beats of ``node`` until cancelled, as often as whoever answers wants them.

    A refusal is not the last word: the main connection may go on, and a token be replaced.
    """
    while True:
        pulse = _Pulse(lag)
        dialer = Dialer(
            transports,
            token,
            pulse,
            node=node,
            library="",
            tell=lambda *_, **__: None,
            random=random,
            introduce=[w.BeatHello(node)],
            quiet=w.BEAT_SILENCE,
        )
        with suppress(TransportError):
            async with _beating(pulse, dialer):
                await dialer.run()
        await trio.sleep(_AGAIN_SECONDS)


@asynccontextmanager
async def _beating(pulse: _Pulse, dialer: Dialer) -> AsyncGenerator[None, None]:
    """Beat as long as the block lasts; what it raises comes out as it is."""
    error: BaseException | None = None

    async def go_on() -> None:
        try:
            accepted = await dialer.accepted.wait()
        except TransportError:
            return  # as the dialer says itself
        every = accepted.lease / 5
        dialer.quiet = max(w.BEAT_SILENCE, 2.5 * every)
        while True:
            await trio.sleep(every)
            pulse.beat()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        try:
            yield
        except BaseException as raised:  # noqa: BLE001 - raised again, outside the nursery
            error = raised
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error


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
