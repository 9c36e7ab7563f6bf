"""Actors in a system: what they do, what becomes of them, and that nothing is left of them."""

import contextvars
import gc
import weakref
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq import Down, Mailbox
from actorq.model.events import Event
from tests.end_to_end.test_leaks import cancel_at_every_checkpoint, forever, work

BOOM = ValueError("boom")


class Noted:
    """An instrument that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Any]:
        return [dict(event.details) for event in self.events if event.kind == kind]


async def echo(inbox: Mailbox[Any]) -> None:
    """Reply with what was asked, and raise those that are errors."""
    async for message in inbox:
        if isinstance(message, BaseException):
            raise message
        inbox.reply(message)


async def collect(inbox: Mailbox[Any], seen: list[Any], seconds: float = 0.0) -> None:
    """Note every message, and take some time over each."""
    async for message in inbox:
        await trio.sleep(seconds)  # virtual
        seen.append(message)


async def delegate(inbox: Mailbox[Any], system: actorq.System, seen: list[Any]) -> None:
    """Pass every message on to an actor of one's own, which takes a second over each."""
    async with system.supervise() as inner:
        child = await inner.spawn(collect, seen, 1)
        async for message in inbox:
            await child.tell(message)


async def spend(ref: actorq.ActorRef[Any], error: BaseException = BOOM) -> None:
    """Crash an actor more often than it may."""
    for _ in range(4):
        await ref.tell(error)
    await ref.join()


# --- living --------------------------------------------------------------------------------------


async def test_an_actor_is_spawned_asked_and_stopped(autojump_clock: trio.abc.Clock) -> None:
    async def account(inbox: Mailbox[int], balance: int) -> None:
        async for amount in inbox:
            balance += amount
            inbox.reply(balance)

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(account, 100)
        await ref.tell(20)
        assert await ref.ask(3) == 123
        await ref.stop()

        assert not ref.alive
        with pytest.raises(actorq.ActorDied):
            await ref.ask(1)


async def test_what_an_actor_raises_before_it_has_started_is_raised_by_spawn(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def unlucky(inbox: Mailbox[int]) -> None:
        await trio.sleep(1)  # virtual
        raise BOOM

    async with actorq.open_system(processes=0, instruments=()) as system:
        with pytest.raises(ValueError, match="boom") as caught:
            await system.spawn(unlucky)

        assert caught.value is BOOM
        assert system.tables()["actors"] == 0


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (TypeError, {"name": 3}),
        (ValueError, {"restart": "sometimes"}),
        (ValueError, {"shutdown": -1}),
        (ValueError, {"kill_after": -1}),
        (ValueError, {"mailbox": 0}),
    ],
)
async def test_every_option_of_spawn_is_checked(
    autojump_clock: trio.abc.Clock, error: type[Exception], options: dict[str, Any]
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        with pytest.raises(error, match=next(iter(options))):
            await system.spawn(echo, **options)

        assert system.tables()["actors"] == 0


async def test_a_spawn_that_is_cancelled_leaves_no_actor(autojump_clock: trio.abc.Clock) -> None:
    noted = Noted()

    async def slow(inbox: Mailbox[int]) -> None:
        await trio.sleep(100)  # virtual

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        start = trio.current_time()
        with trio.move_on_after(1) as scope:
            await system.spawn(slow)

        assert scope.cancelled_caught
        assert trio.current_time() == start + 1
        assert system.tables()["actors"] == system.tables()["alarms"] == 0
        await trio.sleep(100)  # virtual
    assert noted.events == []


async def test_a_spawn_that_is_cancelled_by_an_actor_that_crashes_leaves_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted, scope = Noted(), trio.CancelScope()

    async def rude(inbox: Mailbox[int]) -> None:
        scope.cancel()
        raise BOOM

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        with scope:
            await system.spawn(rude)

        assert system.tables()["actors"] == system.tables()["alarms"] == 0
        await trio.sleep(100)  # virtual
    assert noted.of("unkillable") == []


async def test_actors_talk_to_each_other(autojump_clock: trio.abc.Clock) -> None:
    async def ping(inbox: Mailbox[Any], other: actorq.ActorRef[Any]) -> None:
        async for number in inbox:
            inbox.reply(await other.ask(number + 1))

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo)
        for _ in range(10):
            ref = await system.spawn(ping, ref)

        assert await ref.ask(0) == 10


async def test_an_actor_spawns_others_and_they_outlive_it(autojump_clock: trio.abc.Clock) -> None:
    async def parent(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            inbox.reply(await system.spawn(echo))

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(parent)
        child = await ref.ask("a child, please")
        await ref.stop()

        assert await child.ask("alone") == "alone"


async def test_an_actor_has_the_context_of_its_spawn_in_every_incarnation(
    autojump_clock: trio.abc.Clock,
) -> None:
    who = contextvars.ContextVar("who", default="nobody")

    async def look(inbox: Mailbox[Any]) -> None:
        async for message in inbox:
            inbox.reply(who.get())
            who.set("the actor's own business")
            if message == "crash":
                raise BOOM

    async with actorq.open_system(processes=0, instruments=()) as system:
        who.set("me")
        ref = await system.spawn(look)
        who.set("somebody else")

        assert [await ref.ask("crash"), await ref.ask(1)] == ["me", "me"]


# --- crashing ------------------------------------------------------------------------------------


async def test_an_actor_that_crashes_starts_again_and_goes_on_with_its_mail(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref = await system.spawn(echo, name="parrot")
        await ref.tell(BOOM)

        assert await ref.ask("still here") == "still here"
        assert ref.incarnation == 2

    (told,) = noted.of("actor_restarted")
    assert (told["actor"], told["incarnation"]) == ("parrot", 2)
    assert "boom" in str(told["error"])


async def test_an_actor_that_spends_its_restarts_dies_alone(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted, downs = Noted(), []

    async def watch(inbox: Mailbox[Down], ref: actorq.ActorRef[Any]) -> None:
        inbox.monitor(ref)
        downs.append(await inbox.receive())
        await trio.sleep(10)  # virtual
        inbox.monitor(ref)
        downs.append(await inbox.receive())

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref, other = await system.spawn(echo, name="victim"), await system.spawn(echo)
        watcher = await system.spawn(watch, ref)
        await spend(ref)
        await watcher.join()

        assert (ref.alive, other.alive, ref.incarnation) == (False, True, 4)
        assert await other.ask(1) == 1
        assert await system.call(len, "abc") == 3
    assert downs == [Down(ref, 1, "crash", BOOM), Down(ref, 4, "crash", BOOM)]
    assert len(noted.of("actor_restarted")) == 3
    (told,) = noted.of("actor_died")
    assert told["actor"] == "victim"


async def test_an_actor_that_crashes_seldom_starts_again_for_ever(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo)
        for _ in range(50):
            await ref.tell(BOOM)
            await trio.sleep(100)  # virtual

        assert await ref.ask(1) == 1
        assert ref.incarnation == 51


async def test_the_crash_of_a_temporary_actor_is_told(autojump_clock: trio.abc.Clock) -> None:
    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref = await system.spawn(echo, restart="temporary")
        await ref.tell(BOOM)
        await ref.join()

    (told,) = noted.of("actor_died")
    assert told["actor"] == "echo"


async def test_an_actor_that_ends_by_itself_is_not_news(autojump_clock: trio.abc.Clock) -> None:
    async def brief(inbox: Mailbox[Any]) -> None:
        await inbox.receive()

    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref = await system.spawn(brief)
        await ref.tell("go")
        await ref.join()

        assert ref.incarnation == 1
    assert noted.events == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_program_leaves_the_system_from_an_actor(
    autojump_clock: trio.abc.Clock, error: type[BaseException]
) -> None:
    start, waited = trio.current_time(), []

    async def wait(ref: actorq.ActorRef[Any]) -> None:
        with pytest.raises(actorq.ActorError) as caught:
            await ref.ask(1)
        waited.append(caught.type)

    async def program(nursery: trio.Nursery) -> None:
        async with actorq.open_system(processes=0, instruments=()) as system:
            ref = await system.spawn(collect, [], 1_000, shutdown=3)
            for _ in range(2):
                nursery.start_soon(wait, ref)
            await wait_all_tasks_blocked()
            await (await system.spawn(echo)).tell(error())
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with pytest.raises(error):
            await program(nursery)

    assert trio.current_time() == start + 3
    assert Counter(waited) == {actorq.NoReply: 1, actorq.ActorDied: 1}


async def test_what_ends_the_program_leaves_a_supervisor_and_the_system(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def program() -> None:
        async with (
            actorq.open_system(processes=0, instruments=()) as system,
            system.supervise() as supervisor,
        ):
            await (await supervisor.spawn(echo)).tell(KeyboardInterrupt())
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt):
        await program()


# --- leaving -------------------------------------------------------------------------------------


async def test_actors_handle_what_is_in_their_mailboxes_when_the_block_is_left_in_order(
    autojump_clock: trio.abc.Clock,
) -> None:
    seen: list[Any] = []
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(collect, seen, 1)
        for number in range(4):
            await ref.tell(number)

    assert seen == [0, 1, 2, 3]
    assert system.dead_letters == 0


@pytest.mark.parametrize("how", ["error", "cancel"])
async def test_actors_end_after_the_message_in_hand_when_the_block_is_left_otherwise(
    autojump_clock: trio.abc.Clock, how: str
) -> None:
    seen: list[Any] = []
    with trio.CancelScope() as scope, suppress(ValueError):
        async with actorq.open_system(processes=0, instruments=()) as system:
            ref = await system.spawn(collect, seen, 1)
            for number in range(4):
                await ref.tell(number)
            await wait_all_tasks_blocked()
            if how == "error":
                raise BOOM
            scope.cancel()
            await trio.sleep(100)  # virtual

    assert seen == [0]
    assert system.dead_letters == 3


async def test_a_stop_that_drains_is_cut_short_when_the_block_is_left_by_an_error(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    seen: list[Any] = []
    with suppress(ValueError):
        async with actorq.open_system(processes=0, instruments=()) as system:
            ref = await system.spawn(collect, seen, 1, shutdown=inf)
            for number in range(100):
                await ref.tell(number)
            nursery.start_soon(lambda: ref.stop(drain=True))
            await wait_all_tasks_blocked()
            raise BOOM

    assert seen == [0]


async def test_what_actors_send_each_other_when_the_block_is_left_in_order_is_handled(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def forward(inbox: Mailbox[Any], to: actorq.ActorRef[Any]) -> None:
        async for message in inbox:
            await to.tell(message)

    seen: list[Any] = []
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(collect, seen)
        for _ in range(3):
            ref = await system.spawn(forward, ref)
        for number in range(5):
            await ref.tell(number)

    assert seen == [0, 1, 2, 3, 4]
    assert system.dead_letters == 0


async def test_an_actor_that_drains_when_the_block_is_left_still_has_those_that_it_supervises(
    autojump_clock: trio.abc.Clock,
) -> None:
    seen: list[Any] = []
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(delegate, system, seen)
        for number in range(3):
            await ref.tell(number)

    assert seen == [0, 1, 2]
    assert system.dead_letters == 0


async def test_actors_end_after_the_tasks(autojump_clock: trio.abc.Clock) -> None:
    answers = []

    async def task(ref: actorq.ActorRef[Any]) -> None:
        await trio.sleep(3)  # virtual
        answers.append(await ref.ask("still there?"))

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo)
        await system.submit(task, ref)
        await wait_all_tasks_blocked()

    assert answers == ["still there?"]
    assert not ref.alive


async def test_actors_end_after_the_tasks_that_are_cancelled(
    autojump_clock: trio.abc.Clock,
) -> None:
    seen: list[Any] = []

    async def task(ref: actorq.ActorRef[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ref.try_tell("the task has cleaned up")

    async with actorq.open_system(processes=0, drain=1, instruments=()) as system:
        await system.submit(task, await system.spawn(collect, seen))
        await wait_all_tasks_blocked()

    assert seen == ["the task has cleaned up"]


async def test_an_actor_that_crashes_while_tasks_still_run_is_started_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        await system.submit(trio.sleep, 1)  # virtual
        ref = await system.spawn(echo)
        await ref.tell(BOOM)
        await ref.tell("not left behind")

    assert (ref.alive, ref.incarnation) == (False, 2)
    assert len(noted.of("actor_restarted")) == 1
    assert noted.of("actor_died") == noted.of("dead_letter") == []


async def test_an_actor_that_crashes_after_the_last_task_is_told_of_and_stays_down(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def late(inbox: Mailbox[Any]) -> None:
        async for message in inbox:
            await trio.sleep(1)  # virtual
            raise message

    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref = await system.spawn(late)
        await ref.tell(BOOM)
        await ref.tell("left behind")

    assert (ref.alive, ref.incarnation) == (False, 1)
    assert noted.of("actor_restarted") == []
    (died,), (dead,) = noted.of("actor_died"), noted.of("dead_letter")
    assert (died["actor"], dead["message"]) == ("late", "left behind")


async def test_an_actor_that_will_not_stop_is_cancelled_when_its_time_is_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def deaf(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await trio.sleep(100)  # virtual

    start = trio.current_time()
    async with actorq.open_system(processes=0, instruments=()) as system:
        for seconds in (1, 3, 2):
            await system.spawn(deaf, shutdown=seconds)

    assert trio.current_time() - start <= 1 + 3 + 2


async def test_a_closed_system_spawns_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        pass

    with pytest.raises(actorq.ActorDied, match="closing"):
        await system.spawn(echo)
    with pytest.raises(actorq.ActorDied):
        await supervise(system, weakref.WeakSet())


async def test_a_system_whose_tasks_have_ended_spawns_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    refused = []

    async def late(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            await trio.sleep(1)  # virtual
            with pytest.raises(actorq.ActorDied) as caught:
                await system.spawn(echo)
            refused.append(str(caught.value))

    async with actorq.open_system(processes=0, instruments=()) as system:
        await (await system.spawn(late)).tell("something")

    assert refused == ["the system is closing or closed, and takes no more actors"]


@pytest.mark.parametrize("when", ["before it closes", "while it closes"])
async def test_supervisors_that_were_opened_elsewhere_end_with_the_system(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, when: str
) -> None:
    refs: list[actorq.ActorRef[Any]] = []

    async def elsewhere() -> None:
        async with system.supervise() as supervisor:
            refs.append(await supervisor.spawn(echo))
            await trio.sleep(100)  # virtual
            with pytest.raises(actorq.ActorDied):
                await supervisor.spawn(echo)

    async def slow(inbox: Mailbox[Any]) -> None:
        async for message in inbox:
            if message == when:
                nursery.start_soon(elsewhere)
            await trio.sleep(1)  # virtual

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(slow)
        await ref.tell("before it closes")
        await ref.tell("while it closes")
        await wait_all_tasks_blocked()

    assert [ref.alive for ref in refs] == [False]


# --- actors and tasks ----------------------------------------------------------------------------


async def test_a_task_tells_and_asks_an_actor(autojump_clock: trio.abc.Clock) -> None:
    async def task(ref: actorq.ActorRef[Any]) -> int:
        await ref.tell("hello")
        answer: int = await ref.ask(3)
        return answer

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo)

        assert await system.call(task, ref) == 3


async def test_a_task_fails_with_what_the_actor_has_refused(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def refuse(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            inbox.refuse(KeyError("no"))

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(refuse)
        with pytest.raises(actorq.TaskFailed) as caught:
            await system.call(ref.ask, 1)

        assert caught.value.matches(KeyError)


async def test_an_actor_calls_tasks(autojump_clock: trio.abc.Clock) -> None:
    async def adder(inbox: Mailbox[int]) -> None:
        async for number in inbox:
            inbox.reply(await system.call(work, number))

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(adder)

        assert [await ref.ask(number) for number in range(4)] == [0, 1, 2, 3]


async def test_the_call_of_an_actor_that_has_to_be_killed_is_cancelled(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def caller(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            await system.call(actorq.task(forever), 1)

    async with actorq.open_system(processes=0, instruments=()) as system:
        start, ref = trio.current_time(), await system.spawn(caller, shutdown=2)
        await ref.tell("go")
        await wait_all_tasks_blocked()
        (task,) = (await system.find()).tasks
        await ref.stop()
        await system.join()

        assert trio.current_time() == start + 2
        assert (await system.result(task.id)).status == "cancelled"


async def test_the_call_of_an_actor_that_is_left_by_the_system_is_answered(
    autojump_clock: trio.abc.Clock,
) -> None:
    outcomes = []

    async def caller(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            try:
                await system.call(forever, 1)
            except actorq.ActorqError as error:
                outcomes.append(type(error))

    async with actorq.open_system(processes=0, drain=1, instruments=()) as system:
        ref = await system.spawn(caller)
        for _ in range(2):
            await ref.tell("go")
        await wait_all_tasks_blocked()

    assert outcomes == [actorq.TaskCancelled, actorq.ActorDied]


async def test_an_actor_of_another_program_is_refused_as_a_callback(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def elsewhere(ref: actorq.ActorRef[Any]) -> dict[str, int]:
        async with actorq.open_system(processes=0, instruments=()) as other:
            with pytest.raises(RuntimeError, match="'echo' lives in another thread or program"):
                await other.submit(actorq.task(work).options(callback=ref), 1)
            return other.tables()

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo)
        tables = await trio.to_thread.run_sync(trio.run, elsewhere, ref)

    assert {name: size for name, size in tables.items() if size} == {}


async def test_an_actor_that_was_spawned_by_a_task_is_not_that_task(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def look(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            try:
                inbox.reply(actorq.current().id)
            except RuntimeError:
                inbox.reply("no task")

    async def task() -> actorq.ActorRef[Any]:
        return await system.spawn(look)

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.call(task)

        assert await ref.ask("who are you?") == "no task"


# --- names, the tree, dead letters ---------------------------------------------------------------


async def test_an_actor_is_found_by_its_name_as_long_as_it_lives(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(echo, name="parrot")
        assert system.actor("parrot") is ref
        with pytest.raises(actorq.ActorError, match="'parrot' is alive"):
            await system.spawn(echo, name="parrot")
        await ref.stop()

        with pytest.raises(actorq.ActorDied, match="'parrot'"):
            system.actor("parrot")
        assert await system.spawn(echo, name="parrot") is not ref


async def test_an_actor_without_a_name_is_called_like_its_function(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        refs = [await system.spawn(echo) for _ in range(3)]

        assert [ref.name for ref in refs] == ["echo", "echo-2", "echo-3"]
        assert system.tables()["actors"] == 3
        assert [system.actor(ref.name) for ref in refs] == refs


@pytest.mark.parametrize("name", ["queue actor", "worker actor"])
async def test_the_actors_of_the_system_itself_are_not_handed_out(
    autojump_clock: trio.abc.Clock, name: str
) -> None:
    """Told what it does not know, the queue would crash; without it, every call would hang."""
    async with actorq.open_system(processes=0, instruments=()) as system:
        with pytest.raises(actorq.ActorError, match=name):
            system.actor(name)
        with pytest.raises(actorq.ActorError, match=name):
            await system.spawn(echo, name=name)


async def test_a_tree_shows_every_actor_its_state_and_its_mail(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        slow = await system.spawn(collect, [], 10, name="slow")
        broken = await system.spawn(echo, name="broken")
        await system.spawn(echo, name="idle")
        for number in range(4):
            await slow.tell(number)
        await broken.tell(BOOM)
        await wait_all_tasks_blocked()
        crashed = (await system.tree()).find("broken")
        await broken.ask(1)
        tree = await system.tree()

        assert [(s.name, s.strategy) for s in tree.supervisors] == [
            ("actorq", "one_for_one"),
            ("spawned", "apart"),
        ]
        assert [(a.name, a.state, a.incarnation, a.restarts, a.mailbox) for a in tree.actors()] == [
            ("queue actor", "idle", 1, 0, 0),
            ("worker actor", tree.find("worker actor").state, 1, 0, 0),
            ("slow", "busy", 1, 0, 3),
            ("broken", "idle", 2, 1, 0),
            ("idle", "idle", 1, 0, 0),
        ]
        assert (crashed.state, crashed.incarnation, crashed.restarts) == ("restarting", 1, 0)


async def test_a_tree_shows_who_starts_and_who_stops(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    async def slow(inbox: Mailbox[Any]) -> None:
        await trio.sleep(1)  # virtual
        await echo(inbox)
        await trio.sleep(1)  # virtual

    async with actorq.open_system(processes=0, instruments=()) as system:
        nursery.start_soon(system.spawn, slow)
        await wait_all_tasks_blocked()
        starting = (await system.tree()).find("slow").state
        await trio.sleep(1.5)  # virtual
        nursery.start_soon(system.actor("slow").stop)
        await wait_all_tasks_blocked()

        assert (starting, (await system.tree()).find("slow").state) == ("starting", "stopping")
        await trio.sleep(2)  # virtual
        with pytest.raises(KeyError):
            (await system.tree()).find("slow")


async def test_a_tree_shows_the_tasks_that_run(autojump_clock: trio.abc.Clock) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        handle = await system.submit(forever, 1)
        await system.submit(actorq.task(work).options(delay=100), 1)
        await trio.sleep(5)  # virtual
        (task,) = (await system.tree()).find("worker actor").tasks
        await handle.cancel()

        assert (task.id, task.name, task.attempt) == (handle.id, handle.name, 1)
        assert task.seconds == pytest.approx(5)
        assert (await system.tree()).find("worker actor").tasks == ()


async def test_a_tree_is_drawn_with_what_actors_have_opened(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def parent(inbox: Mailbox[Any]) -> None:
        async with system.supervise("rest_for_one", name="nursery") as supervisor:
            await supervisor.spawn(echo, name="child")
            async with system.supervise(name="cradle"):
                await echo(inbox)

    async with (
        actorq.open_system(processes=0, instruments=()) as system,
        system.supervise("one_for_all", name="family") as family,
    ):
        await family.spawn(parent, name="parent")
        await system.spawn(echo, name="single")
        tree = await system.tree()

        assert [actor.name for actor in tree.actors()][2:] == ["single", "parent", "child"]
        assert str(tree).splitlines()[4:] == [
            "├── spawned (apart)",
            "│   └── single: idle",
            "└── family (one_for_all)",
            "    └── parent: idle",
            "        ├── nursery (rest_for_one)",
            "        │   └── child: idle",
            "        └── cradle (one_for_one)",
        ]


async def test_dead_letters_are_counted_and_told(autojump_clock: trio.abc.Clock) -> None:
    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        ref = await system.spawn(echo)
        await ref.stop()
        assert system.dead_letters == 0
        await ref.tell("hello?")
        ref.try_tell("anybody?")

        assert system.dead_letters == (await system.tree()).dead_letters == 2
    assert noted.of("dead_letter") == [
        {"actor": "echo", "message": "hello?", "why": "the actor has ended"},
        {"actor": "echo", "message": "anybody?", "why": "the actor has ended"},
    ]


@pytest.mark.parametrize(("level", "described"), [("INFO", 1), ("WARNING", 0)])
async def test_a_dead_letter_is_not_described_unless_that_is_logged(
    autojump_clock: trio.abc.Clock,
    caplog: pytest.LogCaptureFixture,
    level: str,
    described: int,
) -> None:
    caplog.set_level(level, "actorq")
    count = 0

    class Large:
        def __repr__(self) -> str:
            nonlocal count
            count += 1
            return "Large"

    async with actorq.open_system(processes=0) as system:
        ref = await system.spawn(echo)
        await ref.stop()
        await ref.tell(Large())

        assert system.dead_letters == 1
    assert count == len(caplog.records) == described


# --- supervisors in actors -----------------------------------------------------------------------


async def test_a_supervisor_that_gives_up_inside_an_actor_crashes_that_actor(
    autojump_clock: trio.abc.Clock,
) -> None:
    noted, children = Noted(), []

    async def parent(inbox: Mailbox[Any]) -> None:
        async with system.supervise(intensity=0) as inner:
            children.append(await inner.spawn(echo, name="child"))
            await echo(inbox)

    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        async with system.supervise() as outer:
            ref = await outer.spawn(parent, name="parent")
            await children[0].tell(BOOM)
            await wait_all_tasks_blocked()

            assert await ref.ask("again") == "again"
            assert (ref.incarnation, len(children)) == (2, 2)
            assert [child.alive for child in children] == [False, True]
        assert not children[1].alive
    assert [told["actor"] for told in noted.of("actor_restarted")] == ["parent"]
    assert [told["actor"] for told in noted.of("actor_died")] == ["child"]


async def test_a_budget_that_is_spent_on_every_level_ends_the_block(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def child(inbox: Mailbox[Any]) -> None:
        inbox.started()
        raise BOOM

    async def parent(inbox: Mailbox[Any]) -> None:
        async with system.supervise(intensity=1) as inner:
            inbox.started()
            await inner.spawn(child, restart="permanent")
            await trio.sleep_forever()

    async with actorq.open_system(processes=0, instruments=()) as system:
        with pytest.RaisesGroup(
            pytest.RaisesExc(
                actorq.RestartIntensityExceeded, match="more than 1 crashes in .* of 'parent'"
            )
        ):
            async with system.supervise(intensity=1) as outer:
                await outer.spawn(parent)
                await trio.sleep_forever()

        assert await system.call(len, "abc") == 3
        assert system.tables()["actors"] == system.tables()["alarms"] == 0


async def test_an_actor_that_is_stopped_stops_those_that_it_supervises(
    autojump_clock: trio.abc.Clock,
) -> None:
    seen: list[Any] = []
    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(delegate, system, seen)
        for number in range(3):
            await ref.tell(number)
        await ref.stop(drain=True)

        assert seen == [0, 1, 2]
        assert system.tables()["actors"] == 0


async def test_supervisors_in_one_block_after_the_other_are_all_forgotten(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0, instruments=()) as system:
        for _ in range(100):
            async with system.supervise() as supervisor:
                await (await supervisor.spawn(echo)).tell(BOOM)
                await wait_all_tasks_blocked()

        assert len((await system.tree()).supervisors) == 2
        assert system.tables()["actors"] == system.tables()["alarms"] == 0


# --- nothing is left -----------------------------------------------------------------------------


class Payload:
    """Something that an actor or a message holds, and that can be seen to be gone."""

    def __init__(self, all_of_them: "weakref.WeakSet[Payload]") -> None:
        all_of_them.add(self)


async def hold(inbox: Mailbox[Any], payload: Payload) -> None:
    async for message in inbox:
        if isinstance(message, Exception):
            raise message


async def crash(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    ref = await system.spawn(hold, Payload(payloads), restart="temporary")
    await ref.tell(Payload(payloads))
    await ref.tell(ValueError("boom"))
    await ref.join()


async def stop(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    ref = await system.spawn(hold, Payload(payloads))
    await ref.tell(Payload(payloads))
    await ref.stop(drain=True)


async def fail_to_start(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    async def broken(inbox: Mailbox[Any], payload: Payload) -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await system.spawn(broken, Payload(payloads))


async def give_up_starting(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    async def slow(inbox: Mailbox[Any], payload: Payload) -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        scope.cancel()
        await system.spawn(slow, Payload(payloads))


async def supervise(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    async with system.supervise() as supervisor:
        ref = await supervisor.spawn(hold, Payload(payloads))
        await ref.tell(Payload(payloads))


async def forget(system: actorq.System, payloads: "weakref.WeakSet[Payload]") -> None:
    """Ask an actor that does not answer, and be cancelled."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await system.actor("silent").ask(Payload(payloads))


@pytest.mark.parametrize(
    ("live", "times"),
    [
        (crash, 10_000),
        (stop, 10_000),
        (forget, 10_000),
        (fail_to_start, 1_000),
        (give_up_starting, 1_000),
        (supervise, 1_000),
    ],
)
async def test_ten_thousand_actors_leave_nothing(
    live: Callable[[actorq.System, "weakref.WeakSet[Payload]"], Awaitable[None]], times: int
) -> None:
    payloads: weakref.WeakSet[Payload] = weakref.WeakSet()
    async with actorq.open_system(processes=0, instruments=()) as system:
        silent = await system.spawn(echo, name="silent")

        async def some(count: int) -> tuple[int, int]:
            for _ in range(count):
                await live(system, payloads)
            await silent.ask("are you done?")
            gc.collect()
            return len(gc.get_objects()), trio.lowlevel.current_statistics().tasks_living

        objects, tasks = await some(200)
        more_objects, more_tasks = await some(times)

        assert len(payloads) == 0
        assert more_tasks == tasks
        assert more_objects - objects < 100
        await silent.stop()
        assert {name: size for name, size in system.tables().items() if size} == {}


async def test_a_thousand_actors_that_spend_their_restarts_at_once_leave_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    payloads: weakref.WeakSet[Payload] = weakref.WeakSet()

    async def live() -> None:
        ref = await system.spawn(hold, Payload(payloads))
        await spend(ref)

    async with actorq.open_system(processes=0, instruments=()) as system:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                nursery.start_soon(live)
        BOOM.__traceback__ = None
        gc.collect()

        assert len(payloads) == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert {name: size for name, size in system.tables().items() if size} == {}


async def test_asks_that_are_cancelled_in_the_mailbox_and_before_it_leave_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    payloads: weakref.WeakSet[Payload] = weakref.WeakSet()

    async with actorq.open_system(processes=0, instruments=()) as system:
        ref = await system.spawn(collect, [], 10, mailbox=100)
        await ref.tell("busy")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                nursery.start_soon(ref.ask, Payload(payloads))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (await system.tree()).find("collect").mailbox <= 100
        await trio.sleep(11)  # virtual
        gc.collect()

        assert len(payloads) == 0
        assert system.dead_letters == 100


async def busy(system: actorq.System) -> None:
    """Do a little of everything that actors can do."""

    async def parent(inbox: Mailbox[Any]) -> None:
        async with system.supervise("one_for_all") as inner:
            inbox.monitor(await inner.spawn(echo))
            async for message in inbox:
                if isinstance(message, int):
                    inbox.reply(await system.call(work, message))

    async with system.supervise() as supervisor:
        ref = await supervisor.spawn(parent)
        other = await system.spawn(collect, [], 1, mailbox=2)
        await ref.ask(1)
        for number in range(4):
            await other.tell(number)
        broken = await system.spawn(echo)
        await broken.tell(ValueError("boom"))
        await broken.ask(2)
        await system.submit(forever, 1)
        await other.stop()
    await system.spawn(collect, [], 1)


@pytest.mark.bound(60)
async def test_a_system_with_actors_cancelled_at_any_checkpoint_leaves_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    assert await cancel_at_every_checkpoint(busy) > 50


# --- whatever happens ----------------------------------------------------------------------------


class Company:
    """Actors that do anything with their messages, and people who send anything to them."""

    def __init__(self, system: actorq.System, seed: int) -> None:
        self.system = system
        self.random = Random(seed)
        self.refs: list[actorq.ActorRef[Any]] = []
        self.seen: Counter[Any] = Counter()
        self.order: dict[Any, list[int]] = defaultdict(list)
        self.told: list[Any] = []
        self.asked: Counter[str] = Counter()
        self.watched: set[Any] = set()
        self.downs: Counter[Any] = Counter()

    async def actor(self, inbox: Mailbox[Any]) -> None:
        deferred, watched = [], self.random.choice([*self.refs, inbox.ref])
        inbox.monitor(watched)
        me = (inbox.ref, inbox.ref.incarnation)
        self.watched.add((me, watched))
        async for message in inbox:
            if isinstance(message, Down):
                self.downs[me, message.ref] += 1
                continue
            sender, _, number = message
            self.seen[message] += 1
            self.order[inbox.ref, sender].append(number)
            match self.random.randrange(12):
                case 0:
                    raise ValueError(message)
                case 1:
                    return
                case 2 | 3:
                    await trio.sleep(self.random.random())  # virtual
                case 4 | 5:
                    deferred.append(inbox.defer())
                case 6:
                    inbox.refuse(KeyError(message))
                case 7:
                    pass
                case _:
                    inbox.reply("answer")
            while deferred and self.random.random() < 0.5:
                deferred.pop().reply("answer")

    async def spawn(self) -> None:
        self.refs.append(
            await self.system.spawn(
                self.actor,
                restart=self.random.choice(["permanent", "transient", "temporary"]),
                shutdown=self.random.choice([0, 0.5, inf]),
                mailbox=self.random.choice([1, 2, 10]),
            )
        )

    async def dismiss(self) -> None:
        """End every actor some day: nobody waits longer for an answer that was deferred."""
        while True:
            await trio.sleep(1)  # virtual
            await self.spawn()
            await self.refs.pop(0).stop()

    async def send(self, sender: int) -> None:
        for number in range(60):
            ref = self.random.choice(self.refs)
            message = (sender, ref, number)
            with trio.move_on_after(self.random.choice([0, 0.3, 1, inf])):
                match self.random.randrange(20):
                    case 0:
                        await ref.stop(drain=self.random.random() < 0.5)
                    case 1:
                        await self.spawn()
                    case 2 | 3 | 4 | 5 | 6 | 7:
                        await self.ask(ref, message)
                    case 8 | 9 | 10:
                        with suppress(actorq.MailboxFull):
                            ref.try_tell(message)
                            self.told.append(message)
                    case _:
                        await ref.tell(message)
                        self.told.append(message)

    async def ask(self, ref: actorq.ActorRef[Any], message: object) -> None:
        outcome = "cancelled"
        try:
            await ref.ask(message)
            outcome = "answered"
        except KeyError:
            outcome = "refused"
        except actorq.ActorError as error:
            outcome = type(error).__name__
        finally:
            self.asked[outcome] += 1


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_no_message_is_lost_and_nobody_waits_for_ever(
    autojump_clock: trio.abc.Clock, seed: int
) -> None:
    noted = Noted()
    async with actorq.open_system(processes=0, instruments=[noted]) as system:
        company = Company(system, seed)
        for _ in range(5):
            await company.spawn()
        async with trio.open_nursery() as background:
            background.start_soon(company.dismiss)
            async with trio.open_nursery() as nursery:
                for sender in range(10):
                    nursery.start_soon(company.send, sender)
            background.cancel_scope.cancel()
        for ref in company.refs:
            await ref.stop(drain=True)

        assert {name: size for name, size in system.tables().items() if size} == {}
    dead = Counter(told["message"] for told in noted.of("dead_letter"))
    assert [m for m in company.told if company.seen[m] + dead[m] != 1] == []
    assert max(company.seen.values()) == max(company.downs.values()) == 1
    assert company.downs.keys() <= company.watched
    assert noted.of("unkillable") == []
    assert all(numbers == sorted(numbers) for numbers in company.order.values())
    assert {"answered", "cancelled", "NoReply", "ActorDied"} <= company.asked.keys()
