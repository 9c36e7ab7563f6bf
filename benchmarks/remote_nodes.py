"""The other processes of remote.py on actorq's side: queue, worker, client, and an echo."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
import trio_websocket

import actorq
import remote_tasks
from actorq.codec.envelope import decode_to_owner
from actorq.contracts.transport import Authorize, Connection, Serve
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.transports.websocket import WebSocketTransport
from remote_children import say, serve_trio
from remote_tasks import blob

ANYWHERE = "ws://127.0.0.1:0"


class Watched:
    """A transport that notes when beats come in, as the queue node reads them."""

    def __init__(self) -> None:
        self._transport = WebSocketTransport(ANYWHERE)
        self.url: str = self._transport.url
        self.connect = self._transport.connect
        self.beats: list[tuple[float, float]] = []
        """When each came, and the lag of the worker's loop that it tells of, in seconds."""

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async def watch(connection: Connection) -> None:
            await serve(_Watched(connection, self.beats))

        await self._transport.listen(watch, authorize, task_status=task_status)


class _Watched:
    """One of its connections."""

    def __init__(self, connection: Connection, beats: list[tuple[float, float]]) -> None:
        self.peer: str = connection.peer
        self.role: str = connection.role
        self.send = connection.send
        self.aclose = connection.aclose
        self._connection = connection
        self._beats = beats
        self._carries_beats: bool | None = None

    async def receive(self) -> bytes:
        batch = await self._connection.receive()
        now = trio.current_time()
        if self._carries_beats is None:  # the first batch is the hello
            self._carries_beats = any(isinstance(x, w.BeatHello) for x in decode_to_owner(batch))
        elif self._carries_beats:
            self._beats += [(now, x.lag) for x in decode_to_owner(batch) if isinstance(x, m.Beat)]
        return batch


class Incidents:
    """Counts the events that tell of something out of order."""

    _ORDINARY = ("listening", "connected")

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def event(self, event: actorq.Event) -> None:
        if event.kind not in self._ORDINARY:
            self.seen[event.kind.value] += 1


async def queue(options: Sequence[str]) -> None:
    """Serve until the input ends; with ``LEASE MAX_RESULTS``, and note beats and incidents."""
    settings: dict[str, Any] = {"listen": ANYWHERE}
    watched, incidents = Watched(), Incidents()
    if options:
        settings = {
            "listen": watched,
            "instruments": [incidents],
            "lease": float(options[0]),
            "max_results": int(options[1]),
        }

    async with actorq.open_system(concurrency=0, tasks=[remote_tasks], **settings) as system:

        async def answer(question: str) -> object:
            if question == "join":
                await system.join()
                return None
            now = trio.current_time()
            return {"now": now, "beats": watched.beats, "incidents": incidents.seen}

        say(system.addresses[0])
        await serve_trio(answer)


async def worker(url: str, concurrency: int) -> None:
    async with actorq.open_worker(
        url, tasks=[remote_tasks], concurrency=concurrency, processes=0
    ) as node:
        await node.wait_connected()
        say("connected")
        await serve_trio(_nothing)


async def _nothing(_: Any) -> None:
    pass


async def client(url: str) -> None:
    """Submit as many tasks as asked for; read nothing until told to; then take the results."""
    async with actorq.connect(url) as queue:

        async def answer(question: Any) -> None:
            first, count, size = question
            numbers = range(first, first + count)
            handles = await queue.submit_many(blob.message(number, size) for number in numbers)
            say("submitted")
            sys.stdin.readline()  # in the loop's thread: it stands still
            for number, handle in zip(numbers, handles, strict=True):
                value = await handle.value()
                if len(value) != size or int.from_bytes(value[:8], "big") != number:
                    raise RuntimeError(f"task {number} has got the result of another")

        say("connected")
        await serve_trio(answer)


async def echo() -> None:
    """Send back every message: the least that a round trip over WebSockets costs."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                await socket.send_message(await socket.get_message())
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        listen = partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None)
        server = await nursery.start(listen)
        say(f"ws://127.0.0.1:{server.port}")
        await serve_trio(_nothing)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "queue":
        trio.run(queue, rest)
    elif role == "worker":
        trio.run(worker, rest[0], int(rest[1]))
    elif role == "client":
        trio.run(client, rest[0])
    else:
        trio.run(echo)
