"""Fetch pages over HTTP, each of them once, and no faster than is allowed.

    python examples/fetcher.py

One actor owns the token bucket, the cache, and the list of what is on its way. It reads on while it
fetches: `Mailbox.defer` takes a question along, and a nursery of its own answers it. The server is
part of this program, too.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import trio

import actorq
from actorq import ActorRef, Deferred, Mailbox

RATE, BURST = 20.0, 4  # requests a second, of which so many may come at once
TIMEOUT_SECONDS = 5.0
CACHED_MAX = 1_000
ON_ITS_WAY_MAX = 100


@dataclass(frozen=True)
class Fetch:
    """Asked for: a `Page`; refused with `NotFetched`."""

    url: str


@dataclass(frozen=True)
class Page:
    text: str
    source: str  # "server", "cache", or "shared" with somebody who had asked before


class NotFetched(Exception):
    pass


FAILURES = (NotFetched, OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError)


@dataclass
class TokenBucket:
    """Holds ``burst`` tokens, and gets ``rate`` new ones a second; first come, first served."""

    rate: float
    burst: int
    due: float = -inf  # when the last token that was taken is there

    async def take(self) -> None:
        full = trio.current_time() - self.burst / self.rate
        self.due = max(self.due, full) + 1 / self.rate
        await trio.sleep_until(self.due)


async def fetcher(inbox: Mailbox[Fetch], rate: float = RATE, burst: int = BURST) -> None:
    bucket = TokenBucket(rate, burst)
    cache: dict[str, str] = {}
    asked: dict[str, list[Deferred]] = {}  # who waits for what is on its way
    room = trio.Semaphore(ON_ITS_WAY_MAX)

    async def fetch(url: str) -> None:
        try:
            await bucket.take()
            text = await get(url)
        except FAILURES as error:
            for question in asked.pop(url):
                question.refuse(NotFetched(f"{url}: {error!r}"))
        else:
            for number, question in enumerate(asked.pop(url)):
                question.reply(Page(text, "shared" if number else "server"))
            cache[url] = text
            if len(cache) > CACHED_MAX:
                del cache[next(iter(cache))]  # the oldest
        room.release()

    async with trio.open_nursery() as nursery:  # told to stop, it ends when all is answered
        async for message in inbox:
            url = message.url
            if url in cache:
                inbox.reply(Page(cache[url], "cache"))
            elif url in asked:
                asked[url].append(inbox.defer())
            else:
                asked[url] = [inbox.defer()]
                await room.acquire()  # what is deferred is in the mailbox no more: bound it here
                nursery.start_soon(fetch, url)


async def get(url: str) -> str:
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    with trio.fail_after(TIMEOUT_SECONDS):
        async with await trio.open_tcp_stream(host, int(port or 80)) as stream:
            await stream.send_all(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answer = b"".join([part async for part in stream]).decode()
    head, _, text = answer.partition("\r\n\r\n")
    status = head.partition("\r\n")[0]
    if " 200 " not in status:
        raise NotFetched(status)
    return text


async def serve(stream: trio.SocketStream) -> None:
    request = await stream.receive_some()  # so short that it comes in one piece
    path = request.split()[1].decode()
    await trio.sleep(0.05)  # stands for its work: a page is on its way while others ask for it
    status = "404 Not Found" if path == "/missing" else "200 OK"
    await stream.send_all(f"HTTP/1.0 {status}\r\n\r\nthis is {path}".encode())


async def fetch_all(ref: ActorRef[Fetch], urls: Iterable[str]) -> None:
    """Ask for all of them at once, and print how many came from where, and how fast."""
    sources: Counter[str] = Counter()

    async def fetch(url: str) -> None:
        page: Page = await ref.ask(Fetch(url))
        sources[page.source] += 1

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(fetch, url)
    seconds = trio.current_time() - start
    where = {"server": "from the server", "cache": "from the cache"}
    print(*(f"{count} {where.get(it, it)}," for it, count in sorted(sources.items())), end=" ")
    print(f"{seconds:.2f} s: {sources['server'] / max(seconds, 0.01):.1f} requests a second")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        host, port = listeners[0].socket.getsockname()
        pages = [f"http://{host}:{port}/page/{number}" for number in range(24)]

        async with actorq.open_system() as system:
            ref = await system.spawn(fetcher)
            await fetch_all(ref, pages * 2)
            await fetch_all(ref, pages * 2)
            try:
                await ref.ask(Fetch(f"http://{host}:{port}/missing"))
            except NotFetched as error:
                print("refused:", error)
        nursery.cancel_scope.cancel()


def run() -> int:
    try:
        trio.run(main)
        return 0
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(run())
