"""`open_nursery`: its `submit` is typed like the client's."""

from functools import partial
from pathlib import Path
from typing import Any, assert_type

import trio

from actorq import Client, TaskHandle, TaskNursery
from tests.typing.samples import Meter, count, fetch, halve, spell, tail, thumbnail


async def a_block_that_owns_tasks(client: Client) -> None:
    async with client.open_nursery() as nursery:
        assert_type(nursery, TaskNursery)
        assert_type(nursery.cancel_scope, trio.CancelScope)
        handle = await nursery.submit(fetch, "u")
        assert_type(handle, TaskHandle[bytes])
    assert_type(await handle.value(), bytes)

    await nursery.call(fetch, "u")  # type: ignore[attr-defined]


async def whatever_can_be_submitted(nursery: TaskNursery) -> None:
    assert_type(await nursery.submit(thumbnail, Path(), width=64), TaskHandle[Path])
    assert_type(await nursery.submit(tail, "p"), TaskHandle[None])
    assert_type(await nursery.submit(fetch.options(delay=5), "u"), TaskHandle[bytes])
    assert_type(await nursery.submit(fetch.message("u")), TaskHandle[bytes])
    assert_type(await nursery.submit(halve, 1), TaskHandle[float])
    assert_type(await nursery.submit(spell, 1, unit="min"), TaskHandle[str])
    assert_type(await nursery.submit(partial(spell, 1)), TaskHandle[str])
    assert_type(await nursery.submit(Meter().read, 1), TaskHandle[float])
    assert_type(await nursery.submit(count, 1), TaskHandle[None])
    assert_type(await nursery.submit(len, "abc"), TaskHandle[int])
    assert_type(await nursery.submit("pkg.mod:func", 1, two="2"), TaskHandle[Any])


async def wrong_submits(client: Client, nursery: TaskNursery) -> None:
    await nursery.submit(fetch, 3)  # type: ignore[call-overload]
    await nursery.submit(fetch)  # type: ignore[call-overload]
    await nursery.submit(fetch, "u", 3)  # type: ignore[call-overload]
    await nursery.submit(fetch, link="u")  # type: ignore[call-overload]
    await nursery.submit(thumbnail, Path(), width="64")  # type: ignore[arg-type]
    await nursery.submit(halve, "1")  # type: ignore[call-overload]
    await nursery.submit(spell)  # type: ignore[call-overload]
    await nursery.submit(len, 3)  # type: ignore[call-overload]
    await nursery.submit(fetch.message("u"), "u")  # type: ignore[call-overload]
    await nursery.submit(fetch.message("u"), delay=5)  # type: ignore[call-overload]
    await nursery.submit(fetch("u"))  # type: ignore[call-overload]
    wrong: TaskHandle[str] = await nursery.submit(thumbnail, Path())  # type: ignore[call-overload]

    async with client.open_nursery(3):  # type: ignore[call-arg]
        pass
    with client.open_nursery():  # type: ignore[attr-defined]
        pass
