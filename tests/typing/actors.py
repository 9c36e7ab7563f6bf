"""Actors: a mailbox's type is its ref's, and says what may be sent."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, assert_type

from actorq import (
    ActorNode,
    ActorRef,
    ActorTree,
    Backoff,
    Deferred,
    Down,
    Mailbox,
    Monitor,
    Supervisor,
    System,
)

M = TypeVar("M")


async def numbers(inbox: Mailbox[int]) -> None:
    async for message in inbox:
        assert_type(message, int)


async def account(inbox: Mailbox[int], name: str, balance: float) -> float:
    assert_type(await inbox.receive(), int)
    return balance


async def watcher(inbox: Mailbox[str | Down]) -> None:
    async for message in inbox:
        assert_type(message, str | Down)


async def anything(inbox: Mailbox[M], sample: M) -> M:
    return await inbox.receive()


def plain(inbox: Mailbox[int]) -> None:
    pass


class Service:
    async def run(self, inbox: Mailbox[bytes], size: int) -> None:
        await inbox.receive()

    async def __call__(self, inbox: Mailbox[bytes]) -> None:
        await inbox.receive()


# --- spawning ------------------------------------------------------------------------------------


async def the_type_of_a_ref_is_that_of_the_mailbox(system: System, supervisor: Supervisor) -> None:
    assert_type(await system.spawn(numbers), ActorRef[int])
    assert_type(await system.spawn(account, "a", 1.5), ActorRef[int])
    assert_type(await system.spawn(watcher), ActorRef[str | Down])
    assert_type(await system.spawn(anything, "sample"), ActorRef[str])
    assert_type(await system.spawn(Service().run, 3), ActorRef[bytes])
    assert_type(await system.spawn(Service()), ActorRef[bytes])
    by_partial: ActorRef[int] = await system.spawn(partial(numbers))
    assert_type(await supervisor.spawn(numbers), ActorRef[int])
    assert_type(await supervisor.spawn(account, "a", 1.5), ActorRef[int])


async def every_option(system: System, supervisor: Supervisor) -> None:
    await system.spawn(numbers, name="n", restart="permanent", shutdown=1, kill_after=2, mailbox=3)
    await supervisor.spawn(numbers, restart="temporary", shutdown=0.5, kill_after=0.5, mailbox=1)


async def wrong_spawns(system: System, supervisor: Supervisor) -> None:
    await system.spawn()  # type: ignore[call-arg]
    await system.spawn(account)  # type: ignore[arg-type]
    await system.spawn(account, "a")  # type: ignore[arg-type]
    await system.spawn(account, "a", "b")  # type: ignore[arg-type]
    await system.spawn(account, "a", 1.5, 3)  # type: ignore[arg-type]
    await system.spawn(numbers, "a")  # type: ignore[arg-type]
    await system.spawn(numbers, size=1.5)  # type: ignore[call-arg]
    await system.spawn(plain)  # type: ignore[arg-type]
    await system.spawn(numbers, mailbox="big")  # type: ignore[arg-type]
    await system.spawn(numbers, restart="always")  # type: ignore[arg-type]
    await system.spawn(numbers, shutdown="5s")  # type: ignore[arg-type]
    await system.spawn(numbers, name=3)  # type: ignore[arg-type]
    await supervisor.spawn(account, "a")  # type: ignore[arg-type]
    await supervisor.spawn(numbers, restart="always")  # type: ignore[arg-type]
    wrong: ActorRef[str] = await system.spawn(numbers)  # type: ignore[arg-type]


# --- refs ----------------------------------------------------------------------------------------


async def a_ref(ref: ActorRef[int]) -> None:
    assert_type(ref.name, str)
    assert_type(ref.alive, bool)
    assert_type(ref.incarnation, int)
    assert_type(ref.started_value, Any)
    assert_type(await ref.tell(1), None)
    assert_type(ref.try_tell(1), None)
    assert_type(await ref.ask(1), Any)
    assert_type(await ref.stop(), None)
    assert_type(await ref.stop(drain=True), None)
    assert_type(await ref.join(), None)

    await ref.tell("1")  # type: ignore[arg-type]
    ref.try_tell("1")  # type: ignore[arg-type]
    await ref.ask("1")  # type: ignore[arg-type]
    await ref.tell(None)  # type: ignore[arg-type]
    await ref.tell(1, 2)  # type: ignore[call-arg]
    await ref.ask()  # type: ignore[call-arg]
    await ref.ask(1, timeout=3)  # type: ignore[call-arg]
    await ref.stop(True)  # type: ignore[call-arg]
    ref.name = "other"  # type: ignore[misc]
    ref.incarnation = 3  # type: ignore[misc]


def a_ref_that_takes_more_will_do(
    more: ActorRef[int | str], wide: ActorRef[float], all_of_it: ActorRef[object]
) -> None:
    numbers_only: ActorRef[int] = more
    texts_only: ActorRef[str] = more
    either: ActorRef[int | str] = all_of_it
    narrow: ActorRef[int] = wide
    listed: list[ActorRef[int]] = [more, wide, all_of_it]

    less: ActorRef[int | str | None] = more  # type: ignore[assignment]
    other: ActorRef[bytes] = more  # type: ignore[assignment]
    wider: ActorRef[object] = wide  # type: ignore[assignment]


# --- mailboxes -----------------------------------------------------------------------------------


async def a_mailbox(inbox: Mailbox[int]) -> None:
    assert_type(inbox.ref, ActorRef[int])
    assert_type(await inbox.receive(), int)
    assert_type(inbox.reply(), bool)
    assert_type(inbox.reply("anything"), bool)
    assert_type(inbox.refuse(ValueError("no")), bool)
    assert_type(inbox.started(), None)
    assert_type(inbox.started(8000), None)
    deferred = inbox.defer()
    assert_type(deferred, Deferred)
    assert_type(deferred.reply(3), bool)
    assert_type(deferred.refuse(ValueError("no")), bool)

    await inbox.reply(1)  # type: ignore[misc]
    inbox.reply(1, 2)  # type: ignore[call-arg]
    inbox.refuse("no")  # type: ignore[arg-type]
    inbox.refuse(ValueError)
    inbox.refuse(KeyboardInterrupt)  # type: ignore[arg-type]
    inbox.refuse()  # type: ignore[call-arg]
    deferred.refuse("no")  # type: ignore[arg-type]
    await inbox.receive(3)  # type: ignore[call-arg]
    text: str = await inbox.receive()  # type: ignore[assignment]
    for _ in inbox:  # type: ignore[attr-defined]
        pass


def a_mailbox_is_of_one_type(inbox: Mailbox[int]) -> None:
    wider: Mailbox[float] = inbox  # type: ignore[assignment]
    narrower: Mailbox[bool] = inbox  # type: ignore[assignment]


def only_who_can_read_a_down_can_monitor(
    watching: Mailbox[str | Down],
    only: Mailbox[Down],
    all_of_it: Mailbox[object],
    untyped: Mailbox[Any],
    blind: Mailbox[str],
    ref: ActorRef[int],
) -> None:
    monitor = watching.monitor(ref)
    assert_type(monitor, Monitor)
    assert_type(monitor.cancel(), None)
    assert_type(only.monitor(ref), Monitor)
    assert_type(all_of_it.monitor(ref), Monitor)
    assert_type(untyped.monitor(ref), Monitor)

    blind.monitor(ref)  # type: ignore[misc]
    watching.monitor("name")  # type: ignore[arg-type]
    watching.monitor(watching)  # type: ignore[arg-type]


async def a_down(inbox: Mailbox[str | Down]) -> None:
    message = await inbox.receive()
    if isinstance(message, Down):
        assert_type(message.ref, ActorRef[Any])
        assert_type(message.incarnation, int)
        assert_type(message.reason, Literal["normal", "shutdown", "crash", "killed"])
        assert_type(message.error, BaseException | None)
        message.incarnation = 3  # type: ignore[misc]
    else:
        assert_type(message, str)


# --- the system ----------------------------------------------------------------------------------


async def a_system(system: System) -> None:
    assert_type(system.actor("name"), ActorRef[Any])
    assert_type(system.dead_letters, int)
    tree = await system.tree()
    assert_type(tree, ActorTree)
    assert_type(tree.find("name"), ActorNode)
    assert_type([actor.mailbox for actor in tree.actors()], list[int])

    system.dead_letters = 0  # type: ignore[misc]
    system.actor(3)  # type: ignore[arg-type]
    await system.actor("name")  # type: ignore[misc]


async def a_block_that_supervises(system: System) -> None:
    async with system.supervise() as supervisor:
        assert_type(supervisor, Supervisor)
    system.supervise("rest_for_one", intensity=0, period=1, backoff=Backoff(first=1), name="s")

    system.supervise("all")  # type: ignore[arg-type]
    system.supervise("one_for_all", 3)  # type: ignore[call-arg]
    system.supervise(intensity=1.5)  # type: ignore[arg-type]
    system.supervise(backoff=3)  # type: ignore[arg-type]
    await system.supervise()  # type: ignore[misc]
    with system.supervise():  # type: ignore[attr-defined]
        pass


def a_function_of_a_ref(system: System, take: Callable[[ActorRef[bool]], None]) -> None:
    async def relay(inbox: Mailbox[int]) -> None:
        take(inbox.ref)

    async def wrong(inbox: Mailbox[str]) -> None:
        take(inbox.ref)  # type: ignore[arg-type]
