"""A TCP proxy between nodes: it can fall silent, as a broken network does, and cut at any byte."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from math import inf
from urllib.parse import urlsplit

import trio

Lifetime = tuple[float, float]
"""Bytes after which a connection is cut: from who has dialled, and to them."""


class Proxy:
    """Yielded by `open_proxy`.

    Attributes:
        url: Where to dial instead.
        cuts: How many connections it has cut.
    """

    def __init__(self, url: str, lifetimes: Iterable[Lifetime]) -> None:
        self.url = ""
        self.cuts = 0
        there = urlsplit(url)
        self._there = (there.hostname or "", there.port or 0)
        self._lifetimes = iter(lifetimes)
        self._connections: set[trio.CancelScope] = set()
        self._heard = trio.Event()
        self._heard.set()

    def fall_silent(self) -> None:
        """Pass nothing on, in either direction, not even that a connection has ended."""
        self._heard = trio.Event()

    def heal(self) -> None:
        """Pass on all that has come meanwhile."""
        self._heard.set()

    def cut(self) -> None:
        """Cut all connections."""
        for scope in list(self._connections):
            self._cut(scope)

    def _cut(self, scope: trio.CancelScope) -> None:
        self.cuts += 1
        scope.cancel("cut")

    async def serve(self, dialled: trio.SocketStream) -> None:
        async with dialled:
            await self._heard.wait()
            try:
                there = await trio.open_tcp_stream(*self._there)
            except OSError:
                return
            async with there:
                up, down = next(self._lifetimes, (inf, inf))
                async with trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    self._connections.add(scope)
                    nursery.start_soon(self._pass_on, dialled, there, up, scope)
                    nursery.start_soon(self._pass_on, there, dialled, down, scope)
                self._connections.discard(scope)

    async def _pass_on(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        left: float,
        connection: trio.CancelScope,
    ) -> None:
        try:
            async for data in source:
                await self._heard.wait()
                await sink.send_all(data if len(data) <= left else data[: int(left)])
                left -= len(data)
                if left <= 0:
                    self._cut(connection)
                    await trio.sleep_forever()
            await self._heard.wait()
        except trio.BrokenResourceError:
            pass
        connection.cancel("one end has gone")


@asynccontextmanager
async def open_proxy(url: str, lifetimes: Iterable[Lifetime] = ()) -> AsyncGenerator[Proxy]:
    """Run a proxy to ``url``; the n-th connection lives as long as the n-th lifetime says."""
    proxy = Proxy(url, lifetimes)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
