"""`examples/fetcher.py` as a whole, with its server on the loopback; and the actor by itself."""

import io
from contextlib import redirect_stdout

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from examples import fetcher
from examples.fetcher import Fetch, NotFetched

IDLE_SECONDS = 0.02  # real, before time jumps: a packet may be on its way through the loopback


def test_every_page_is_fetched_once_and_no_faster_than_allowed() -> None:
    with redirect_stdout(io.StringIO()) as printed:
        trio.run(fetcher.main, clock=MockClock(autojump_threshold=IDLE_SECONDS))

    first, second, third = printed.getvalue().splitlines()
    assert first == "24 from the server, 24 shared, 1.05 s: 22.9 requests a second"
    assert second == "48 from the cache, 0.00 s: 0.0 requests a second"
    assert third.startswith("refused: http://127.0.0.1:")
    assert third.endswith("/missing: NotFetched('HTTP/1.0 404 Not Found')")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of a network that takes a second, and knows no page that is called missing."""
    seen: list[str] = []

    async def get(url: str) -> str:
        seen.append(url)
        await trio.sleep(1)  # virtual
        if url == "missing":
            raise NotFetched("404")
        return f"this is {url}"

    monkeypatch.setattr(fetcher, "get", get)
    return seen


async def test_a_failure_is_told_to_all_who_asked_and_not_kept(
    autojump_clock: MockClock, requests: list[str]
) -> None:
    refused = 0

    async def ask() -> None:
        nonlocal refused
        with pytest.raises(NotFetched, match="missing"):
            await ref.ask(Fetch("missing"))
        refused += 1

    async with actorq.open_system() as system:
        ref = await system.spawn(fetcher.fetcher)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        await ask()

    assert refused == 3
    assert requests == ["missing", "missing"]


async def test_a_page_that_nobody_waits_for_any_more_is_kept(
    autojump_clock: MockClock, requests: list[str]
) -> None:
    async with actorq.open_system(instruments=[]) as system:
        ref = await system.spawn(fetcher.fetcher)
        with trio.move_on_after(0.5):
            await ref.ask(Fetch("page"))
        page = await ref.ask(Fetch("page"))
        again = await ref.ask(Fetch("page"))

    assert (page.source, again.source) == ("shared", "cache")
    assert requests == ["page"]


async def test_all_who_have_asked_are_answered_before_it_stops(
    autojump_clock: MockClock, requests: list[str]
) -> None:
    pages: list[str] = []

    async def ask(url: str) -> None:
        pages.append((await ref.ask(Fetch(url))).text)

    async with actorq.open_system() as system:
        ref = await system.spawn(fetcher.fetcher)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            nursery.start_soon(ask, "b")
            await wait_all_tasks_blocked()
            await ref.stop(drain=True)

    assert sorted(pages) == ["this is a", "this is b"]
