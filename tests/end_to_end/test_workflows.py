"""Tasks that take the values of others, and submissions that are one by their key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from tests.nodes import cut, open_hand, three_nodes, until

Clients = Callable[..., AbstractAsyncContextManager[actorq.Client]]


@attrs.frozen
class Page:
    url: str
    words: int


@actorq.task(name="fetch")
async def fetch(url: str, seconds: float = 0.0) -> Page:
    await trio.sleep(seconds)  # virtual
    return Page(url, len(url))


@actorq.task(name="fetch_plain")
async def fetch_plain(url: str):  # type: ignore[no-untyped-def]  # it promises nothing
    return {"url": url, "words": len(url)}


@actorq.task(name="count")
async def count(page: Page, more: dict[str, list[Page]] | None = None) -> int:
    assert type(page) is Page
    others = [each for pages in (more or {}).values() for each in pages]
    return page.words + sum(each.words for each in others)


@actorq.task(name="total")
async def total(*numbers: int) -> int:
    return sum(numbers)


@actorq.task(name="broken")
async def broken() -> int:
    raise ValueError("no")


@actorq.task(name="text")
async def text(length: int) -> str:
    return "x" * length


@actorq.task(name="parent_of")
async def parent_of(path: Path) -> str:
    return str(path.parent)


@actorq.task(name="words_aside", run_in="process")
def words_aside(pages: list[Page], more: tuple[Page, int]) -> int:
    assert all(type(page) is Page for page in [*pages, more[0]])
    return sum(page.words for page in pages) + more[0].words + more[1]


TASKS = (fetch, fetch_plain, count, total, broken, text, parent_of, words_aside)


@asynccontextmanager
async def closed(**options: Any) -> AsyncGenerator[actorq.Client]:
    async with actorq.open_system(instruments=(), **{"processes": 0} | options) as system:
        yield system


@asynccontextmanager
async def encoded(**options: Any) -> AsyncGenerator[actorq.Client]:
    async with closed(encode=True, **options) as client:
        yield client


@asynccontextmanager
async def remote(**_options: Any) -> AsyncGenerator[actorq.Client]:
    async with three_nodes(*TASKS) as (_, _, client):
        yield client


everywhere = pytest.mark.parametrize("open_client", [closed, encoded, remote])
by_bytes = pytest.mark.parametrize("open_client", [encoded, remote])


# --- values as arguments -------------------------------------------------------------------------


@everywhere
async def test_a_task_gets_the_values_of_tasks_that_have_not_ended_when_it_is_submitted(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        one, two = await client.submit(fetch, "a", 5), await client.submit(fetch, "bc", 9)

        number = await client.call(count, one.output, {"more": [two.output, one.output]})

        assert number == 4
        assert trio.current_time() >= 9


@everywhere
async def test_a_task_gets_the_values_of_tasks_that_ended_long_ago(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        numbers = [await client.submit(total, number) for number in (1, 2, 3)]
        for handle in numbers:
            await handle.wait()

        assert await client.call(total, *[handle.output for handle in numbers]) == 6


@everywhere
async def test_values_go_down_a_chain_of_tasks_that_were_all_submitted_at_once(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        last = await client.submit(total, 1)
        for _ in range(20):
            last = await client.submit(total, last.output, last.output)

        assert await last.value() == 2**20


@everywhere
async def test_a_batch_and_a_nursery_take_outputs_too(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        first = await client.submit(total, 1)
        handles = await client.submit_many(total.message(first.output, n) for n in range(3))
        async with client.open_nursery() as nursery:
            handle = await nursery.submit(total, *[each.output for each in handles])

        assert await handle.value() == 6


@everywhere
async def test_who_needs_the_value_of_a_task_that_fails_fails_too(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        handle = await client.submit(broken)

        with pytest.raises(actorq.DependencyFailed, match=handle.id):
            await client.call(total, handle.output)


@everywhere
async def test_an_output_of_a_task_that_nobody_knows_is_refused(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        with pytest.raises(actorq.TaskNotFound, match="no such id"):
            await client.submit(total, client.handle("no such id").output)


async def test_in_a_closed_system_the_value_is_the_very_same_object(
    autojump_clock: MockClock,
) -> None:
    async def make() -> object:
        return made

    async def give_back(value: object, more: list[object]) -> list[object]:
        return [value, *more]

    made = object()
    async with closed() as client:
        handle = await client.submit(make)

        back = await client.call(give_back, handle.output, [handle.output])

        assert [value is made for value in back] == [True, True]


@by_bytes
async def test_a_value_is_what_its_receiver_declares(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        page = await client.submit(fetch_plain, "abc")
        path = await client.submit(text, 3)

        assert await client.call(count, page.output) == 3
        assert await client.call(parent_of, path.output) == "."


@by_bytes
async def test_a_value_of_another_type_fails_the_task_that_gets_it_and_names_the_argument(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client() as client:
        handle: Any = await client.submit(text, 3)

        with pytest.raises(
            actorq.TaskFailed, match="argument 'page' must be Page, not str"
        ) as info:
            await client.call(count, handle.output)

        assert info.value.matches(actorq.EncodeError)


@by_bytes
async def test_a_task_of_which_only_the_name_is_known_takes_outputs(
    autojump_clock: MockClock, open_client: Clients
) -> None:
    async with open_client(tasks=TASKS) as client:
        page = await client.submit("fetch", "abc")

        assert await client.call("count", page.output, {"more": [page.output]}) == 6


async def test_values_that_are_too_large_for_their_worker_fail_the_task_that_needs_them(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(*TASKS, max_message=10_000) as (_, _, client):
        texts = [await client.submit(text, 9_000) for _ in range(100)]

        with pytest.raises(actorq.TaskFailed, match="the results that it needs") as caught:
            await client.call(total, *[each.output for each in texts])

        assert caught.value.matches(actorq.PayloadTooLarge)
        assert await client.call(total, 1) == 1


async def test_a_retry_gets_the_same_values_again(autojump_clock: MockClock) -> None:
    seen = []

    @actorq.task(retry=actorq.Retry(attempts=3))
    async def hesitant(number: int) -> int:
        seen.append(number)
        if len(seen) < 3:
            raise ValueError("not yet")
        return number

    async with closed() as client:
        handle = await client.submit(total, 7)

        assert await client.call(hesitant, handle.output) == 7
        assert seen == [7, 7, 7]


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.bound(60)
async def test_a_task_in_a_process_gets_values(encode: bool) -> None:
    async with closed(encode=encode, processes=1) as client:
        one, two = await client.submit(fetch, "a"), await client.submit(fetch, "bc")

        assert await client.call(words_aside, [one.output, two.output], (one.output, 10)) == 14


async def test_values_arrive_though_the_connections_are_cut(autojump_clock: MockClock) -> None:
    async with three_nodes(*TASKS) as (_, worker, client):
        one = await client.submit(fetch, "abc", 2)
        handle = await client.submit(count, one.output)
        await wait_all_tasks_blocked()

        cut(client)
        cut(worker)

        assert await handle.value() == 3


async def test_values_go_to_whichever_worker_has_the_task(autojump_clock: MockClock) -> None:
    @actorq.task(name="elsewhere")
    async def elsewhere(number: int) -> int:
        return number + 1

    async with three_nodes(*TASKS) as (_, _, client):
        number = await client.submit(total, 1)
        handle = await client.submit("elsewhere", number.output)
        async with open_hand(tasks=[elsewhere]) as other:
            await other.wait_connected()

            assert await handle.value() == 2


# --- keys ----------------------------------------------------------------------------------------


class Counted:
    """A task that counts its runs, and takes a while."""

    def __init__(self) -> None:
        self.runs = 0

        @actorq.task(name="order")
        async def order(number: int, b: int = 0, *, c: int = 0) -> int:
            self.runs += 1
            await trio.sleep(60)  # virtual
            return number

        self.task = order


@asynccontextmanager
async def counting(place: str) -> AsyncGenerator[tuple[actorq.Client, Counted]]:
    counted = Counted()
    if place == "remote":
        async with three_nodes(counted.task) as (_, _, client):
            yield client, counted
    else:
        async with closed(encode=place == "encoded") as client:
            yield client, counted


places = pytest.mark.parametrize("place", ["closed", "encoded", "remote"])


@places
async def test_who_submits_the_same_under_one_key_gets_the_same_task(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")

        first = await client.submit(order, 7)
        second = await client.submit(order, 7)
        values = [await first.value(), await second.value()]
        late = await client.submit(order, 7)

        assert (first.existing, second.existing, late.existing) == (False, True, True)
        assert {first.id} == {second.id, late.id}
        assert [*values, await late.value()] == [7, 7, 7]
        assert counted.runs == 1


@places
async def test_a_call_under_a_key_is_the_same_however_it_is_written(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")
        first = await client.submit(order, 1, c=6, b=5)

        again = [
            await client.submit(order, b=5, number=1, c=6),
            await client.submit(order, 1, 5, c=6),
        ]

        assert [handle.id for handle in again] == [first.id] * 2
        with pytest.raises(actorq.KeyConflict):
            await client.submit(order, 1, b=6, c=5)


@places
async def test_other_arguments_under_the_same_key_are_a_conflict(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")
        await client.submit(order, 7)

        with pytest.raises(actorq.KeyConflict, match="'order 7'"):
            await client.submit(order, 8)
        with pytest.raises(actorq.KeyConflict, match="'order 7'"):
            await client.call(order, 8)


@places
async def test_a_key_that_is_twice_in_a_batch_is_one_task(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")

        first, second = await client.submit_many(order.message(7) for _ in range(2))

        assert (first.id, first.existing) == (second.id, False)
        assert second.existing
        assert [await first.value(), await second.value()] == [7, 7]


@places
async def test_leaving_a_call_does_not_cancel_a_task_that_somebody_else_has_submitted(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")
        handle = await client.submit(order, 7)

        with trio.move_on_after(5) as scope:
            await client.call(order, 7)

        assert scope.cancelled_caught
        assert await handle.value() == 7


@places
async def test_leaving_a_nursery_does_neither_cancel_nor_wait_for_such_a_task(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")
        handle = await client.submit(order, 7)
        began = trio.current_time()

        async with client.open_nursery() as nursery:
            assert (await nursery.submit(order, 7)).existing
            nursery.cancel_scope.cancel()
        async with client.open_nursery() as nursery:
            assert (await nursery.submit(order, 7)).existing

        assert trio.current_time() < began + 50
        assert await handle.value() == 7


@places
async def test_leaving_a_map_does_not_cancel_such_a_task(
    autojump_clock: MockClock, place: str
) -> None:
    async with counting(place) as (client, counted):
        order = counted.task.options(key="order 7")
        handle = await client.submit(order, 7)

        async with client.map(order, [7]) as values:
            with trio.move_on_after(5):
                await anext(values)
        assert await handle.status() == "running"
        async with client.map(order, [7, 7]) as values:
            assert [value async for value in values] == [7, 7]

        assert counted.runs == 1


async def test_the_handle_of_an_existing_task_survives_a_cut(autojump_clock: MockClock) -> None:
    async with counting("remote") as (client, counted):
        order = counted.task.options(key="order 7")
        await client.submit(order, 7)
        handle = await client.submit(order, 7)

        cut(client)
        await until(lambda: client.session._port is None)

        assert await handle.value() == 7
