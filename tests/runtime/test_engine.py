from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actorq.errors import ActorDied, ActorError
from actorq.model.events import EventKind
from actorq.runtime.engine import Engine
from actorq.runtime.mailbox import Mailbox
from tests.runtime.troupe import Troupe, collect, echo, open_troupe


@pytest.fixture
async def troupe(autojump_clock: MockClock) -> AsyncIterator[Troupe]:
    async with open_troupe() as troupe:
        yield troupe


class Robot:
    async def __call__(self, inbox: Mailbox[Any]) -> None:
        await echo(inbox)

    async def work(self, inbox: Mailbox[Any]) -> None:
        await echo(inbox)


async def test_an_actor_is_called_like_its_function(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def inner(inbox: Mailbox[Any]) -> None:
        await echo(inbox)

    functions = [echo, partial(partial(collect), seen=[]), Robot().work, Robot(), inner]

    names = [(await troupe.spawn(function)).name for function in functions]

    assert names == ["echo", "collect", "work", "Robot", "inner"]


async def test_those_that_come_later_are_numbered(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    refs = [await troupe.spawn(echo) for _ in range(3)]

    assert [ref.name for ref in refs] == ["echo", "echo-2", "echo-3"]


async def test_a_number_is_not_used_again_while_others_of_that_name_live(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    refs = [await troupe.spawn(echo) for _ in range(3)]
    await refs[1].stop()

    assert (await troupe.spawn(echo)).name == "echo-4"


async def test_a_number_that_somebody_has_as_a_name_is_left_out(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    await troupe.spawn(echo, name="echo-2")
    refs = [await troupe.spawn(echo) for _ in range(2)]

    assert [ref.name for ref in refs] == ["echo", "echo-3"]


async def test_a_name_is_taken_as_long_as_its_actor_lives(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    first = await troupe.spawn(echo, name="one")
    with pytest.raises(ActorError, match="an actor named 'one' is alive"):
        await troupe.spawn(echo, name="one")
    await first.stop()

    second = await troupe.spawn(echo, name="one")

    assert second is not first
    assert (first.alive, second.alive) == (False, True)


async def test_a_name_is_taken_while_its_actor_waits_for_its_restart(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo, name="one")
    await ref.tell(ValueError("boom"))
    await trio.sleep(0.5)  # virtual

    with pytest.raises(ActorError, match="'one' is alive"):
        await troupe.spawn(echo, name="one")


async def test_an_actor_that_lives_is_found_by_its_name(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo, name="one")
    assert troupe.engine.find("one").ref is ref
    await ref.stop()

    with pytest.raises(ActorDied, match="no actor named 'one' is alive"):
        troupe.engine.find("one")


async def test_the_actor_around_a_task_is_the_innermost_one(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    found: list[Any] = []

    def look() -> None:
        found.append(troupe.engine.around(trio.lowlevel.current_task()))

    async def inner() -> None:
        look()

    async def outer(inbox: Mailbox[Any]) -> None:
        look()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)
        await echo(inbox)

    look()
    ref = await troupe.spawn(outer)

    assert [cell and cell.ref for cell in found] == [None, ref, ref]


async def test_a_task_that_is_called_like_an_actor_is_not_that_actor(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    found: list[Any] = []

    async def look() -> None:
        found.append(troupe.engine.around(trio.lowlevel.current_task()))

    async def outer(inbox: Mailbox[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, name="other")
        await echo(inbox)

    await troupe.spawn(echo, name="other")
    ref = await troupe.spawn(outer)

    assert [cell.ref for cell in found] == [ref]


async def test_a_dead_letter_is_counted_and_told(autojump_clock: MockClock) -> None:
    told: list[Any] = []
    engine = Engine(lambda kind, **details: told.append((kind, details)))
    engine.post.dead_letter("one", "hello", "nobody is there")

    assert engine.post.dead_letters == 1
    details = {"actor": "one", "message": "hello", "why": "nobody is there"}
    assert told == [(EventKind.DEAD_LETTER, details)]


async def test_a_dead_letter_that_a_listener_makes_is_counted_but_not_told_to_it(
    autojump_clock: MockClock,
) -> None:
    told: list[Any] = []

    def listen(kind: EventKind, **details: Any) -> None:
        told.append(details["message"])
        engine.post.dead_letter("listener", f"{details['message']}, says one who has ended", "")

    engine = Engine(listen)
    for message in ("one", "two"):
        engine.post.dead_letter("parrot", message, "nobody is there")

    assert (told, engine.post.dead_letters) == (["one", "two"], 4)


async def test_a_new_context_is_the_present_one_without_what_is_not_the_actors() -> None:
    kept, cleared = ContextVar("kept", default=0), ContextVar("cleared", default=0)
    engine = Engine(lambda *_: None, Random(), context=lambda: void(cleared.set(0)))
    kept.set(1)
    cleared.set(1)
    context = engine.new_context()

    assert (context[kept], context[cleared]) == (1, 0)
    assert (kept.get(), cleared.get()) == (1, 1)


def void(_: object) -> None:
    """Take a value and give none."""
