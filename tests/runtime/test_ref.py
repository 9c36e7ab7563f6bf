import signal
from collections import deque
from collections.abc import AsyncIterator
from itertools import pairwise
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from actorq.errors import ActorDied, ActorError, MailboxFull, NoReply
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef, Down
from tests.runtime.troupe import Troupe, busy, collect, counted_steps, echo, gate, open_troupe

BOOM = ValueError("boom")


@pytest.fixture
async def troupe(autojump_clock: MockClock) -> AsyncIterator[Troupe]:
    async with open_troupe() as troupe:
        yield troupe


async def hold(inbox: Mailbox[Any], bell: trio.Event, *, defer: bool = False) -> None:
    """Take a message in hand, and end at the bell."""
    await inbox.receive()
    deferred = inbox.defer() if defer else None
    await bell.wait()
    del deferred


async def brief(inbox: Mailbox[Any]) -> None:
    """End after one message."""
    await inbox.receive()


class Asked:
    """An ask under way, and what came of it."""

    def __init__(self, nursery: trio.Nursery, ref: ActorRef[Any], message: object = "?") -> None:
        self.scope = trio.CancelScope()
        self.outcome: list[Any] = []
        nursery.start_soon(self._ask, ref, message)

    async def _ask(self, ref: ActorRef[Any], message: object) -> None:
        with self.scope:
            try:
                self.outcome.append(await ref.ask(message))
            except Exception as error:  # noqa: BLE001 - the tests look at it
                self.outcome.append(error)
        if self.scope.cancelled_caught:
            self.outcome.append("cancelled")

    @property
    def error(self) -> tuple[type, str]:
        (error,) = self.outcome
        return type(error), str(error)


# --- who it is -----------------------------------------------------------------------------------


async def test_a_ref_says_who_it_is(troupe: Troupe, autojump_clock: MockClock) -> None:
    ref = await troupe.spawn(echo, name="parrot")

    assert (ref.name, ref.alive, ref.incarnation) == ("parrot", True, 1)
    assert repr(ref) == "<ActorRef parrot>"
    await ref.stop()
    assert (ref.name, ref.alive, ref.incarnation) == ("parrot", False, 1)
    assert repr(ref) == "<ActorRef parrot, ended>"


async def test_one_ref_serves_all_incarnations(troupe: Troupe, autojump_clock: MockClock) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(collect, seen)
    await ref.tell(BOOM)
    await wait_all_tasks_blocked()
    assert ref.alive, "it waits for its restart"
    await ref.tell("again")
    await trio.sleep(2)  # virtual

    assert ref.incarnation == 2
    assert seen == [BOOM, "again"]


async def test_refs_are_compared_by_identity_and_may_be_sent(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    one, two = await troupe.spawn(echo), await troupe.spawn(echo)

    assert one != two
    assert await one.ask(two) is two
    assert {one: 1, two: 2}[two] == 2


async def test_started_value_is_what_the_newest_incarnation_said(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ports = iter([8000, 8001])

    async def server(inbox: Mailbox[Any]) -> None:
        inbox.started(next(ports))
        inbox.started("only the first call counts")
        await collect(inbox, [])

    ref = await troupe.spawn(server)
    assert ref.started_value == 8000
    await ref.tell(BOOM)
    await trio.sleep(2)  # virtual

    assert ref.started_value == 8001


async def test_an_actor_that_says_nothing_when_it_starts_has_no_started_value(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)

    assert ref.started_value is None


# --- tell ----------------------------------------------------------------------------------------


async def test_messages_of_one_sender_come_in_order(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(collect, seen)

    async def send(who: str) -> None:
        for number in range(300):
            await ref.tell((who, number))

    async with trio.open_nursery() as nursery:
        for who in "abc":
            nursery.start_soon(send, who)
    await wait_all_tasks_blocked()

    assert len(seen) == 900
    for who in "abc":
        assert [number for name, number in seen if name == who] == list(range(300))


async def test_order_is_kept_over_all_ways_to_send(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell)
    await ref.tell(1)
    ref.try_tell(2)
    Asked(nursery, ref, 3)
    await wait_all_tasks_blocked()
    await ref.tell(4)
    bell.set()
    await wait_all_tasks_blocked()

    assert seen == [1, 2, 3, 4]
    await ref.stop()


async def test_order_is_kept_while_senders_wait_for_room(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(busy, seen, 1, mailbox=2)

    async def send(who: int) -> None:
        for number in range(20):
            await ref.tell((who, number))

    async with trio.open_nursery() as nursery:
        for who in range(3):
            nursery.start_soon(send, who)
    await ref.stop(drain=True)

    assert len(seen) == 60
    assert all(a < b for who in range(3) for a, b in pairwise(x for x in seen if x[0] == who))


async def test_tell_waits_while_the_mailbox_is_full(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen, start = [], trio.current_time()
    ref = await troupe.spawn(busy, seen, mailbox=2)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    await ref.tell(2)
    await ref.tell(3)
    assert trio.current_time() == start
    await ref.tell(4)

    assert trio.current_time() == start + 10
    assert seen == [1, 2]


async def test_those_who_wait_to_tell_are_let_in_first_come_first_served(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell, mailbox=1)
    for number in range(20):
        if number % 2:
            Asked(nursery, ref, number)
        else:
            nursery.start_soon(ref.tell, number)
        await wait_all_tasks_blocked()
    bell.set()
    await ref.tell("end")
    await wait_all_tasks_blocked()

    assert seen == [*range(20), "end"]


async def test_one_who_comes_late_does_not_overtake_those_who_wait_for_room(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(busy, seen := [], 1, mailbox=1)
    ref.try_tell(0)
    await wait_all_tasks_blocked()
    ref.try_tell(1)
    nursery.start_soon(ref.tell, 2)
    await trio.sleep(1.5)  # virtual
    with pytest.raises(MailboxFull):
        ref.try_tell(3)
    await ref.stop(drain=True)

    assert seen == [0, 1, 2]


async def test_a_cancelled_tell_was_not_sent(troupe: Troupe, autojump_clock: MockClock) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell, mailbox=1)
    await ref.tell(1)
    with trio.move_on_after(5) as scope:
        await ref.tell(2)
    bell.set()
    await ref.tell(3)
    await wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert seen == [1, 3]
    assert troupe.dead_letters == []


async def test_a_tell_that_is_cancelled_when_its_burst_is_over_was_not_sent(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen, told = [], 0
    ref = await troupe.spawn(collect, seen)
    with trio.CancelScope() as scope:
        scope.cancel()
        while True:
            await ref.tell(told)
            told += 1
    await wait_all_tasks_blocked()

    assert seen == list(range(told))


async def test_those_who_wait_for_room_get_in_after_a_restart(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell, mailbox=1)
    await ref.tell(BOOM)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.tell, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(ref.tell, 2)
        await wait_all_tasks_blocked()
        bell.set()
    await ref.stop(drain=True)

    assert seen == [BOOM, 1, 2]


async def test_those_who_wait_for_room_are_let_go_when_the_actor_stops(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(busy, [], mailbox=1)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ref.tell, number)
            await wait_all_tasks_blocked()
        await ref.stop()

    assert sorted(troupe.dead_letters) == [
        ("busy", number, "the actor has ended") for number in (1, 2, 3)
    ]


async def test_try_tell_raises_when_the_mailbox_is_full(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(gate, [], trio.Event(), name="clerk", mailbox=3, shutdown=0)
    for number in range(3):
        ref.try_tell(number)

    with pytest.raises(MailboxFull, match=r"actor 'clerk' is full \(3 messages\)"):
        ref.try_tell(3)


async def test_an_actor_that_tells_itself_when_its_mailbox_is_full_is_told_instead_of_stuck(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    raised: list[ActorError] = []

    async def again(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            await inbox.ref.tell(1)
            with pytest.raises(ActorError) as caught:
                await inbox.ref.tell(2)
            raised.append(caught.value)
            return

    ref = await troupe.spawn(again, mailbox=1, shutdown=0)
    await ref.tell("go")
    await trio.sleep(1)  # virtual

    assert len(raised) == 1, "nobody else can make room"


def test_an_interrupt_in_the_middle_of_a_tell_is_raised_when_it_is_complete() -> None:
    seen: list[Any] = []

    class Interrupted(deque[Any]):
        def append(self, message: object) -> None:
            super().append(message)
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with open_troupe() as troupe:
            ref = await troupe.spawn(collect, seen)
            await wait_all_tasks_blocked()
            ref._lanes.user = Interrupted()
            await ref.tell("hello")
            with pytest.raises(KeyboardInterrupt):
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()

            assert seen == ["hello"]

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- fairness ------------------------------------------------------------------------------------


async def tell(ref: ActorRef[Any], times: int) -> list[int]:
    """Tell so many times; return how many in each step without a checkpoint."""
    with counted_steps() as steps:
        for number in range(times):
            await ref.tell(number)
            steps.count += 1
    return steps.seen


@pytest.mark.parametrize("mailbox", [10_000, 100])
async def test_one_who_tells_without_end_lets_others_run_every_64_messages(
    troupe: Troupe, autojump_clock: MockClock, mailbox: int
) -> None:
    ref = await troupe.spawn(collect, seen := [], mailbox=mailbox)
    bursts = await tell(ref, 1_000)
    await wait_all_tasks_blocked()

    assert seen == list(range(1_000))
    assert 32 <= max(bursts) <= 64


async def test_one_who_tells_an_actor_that_has_ended_lets_others_run(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    await ref.stop()
    bursts = await tell(ref, 1_000)

    assert len(troupe.dead_letters) == 1_000
    assert 32 <= max(bursts) <= 64


async def test_an_ask_is_a_checkpoint(troupe: Troupe, autojump_clock: MockClock) -> None:
    ref = await troupe.spawn(echo)

    with assert_checkpoints():
        await ref.ask(1)


# --- ask -----------------------------------------------------------------------------------------


async def test_an_ask_gets_the_reply(troupe: Troupe, autojump_clock: MockClock) -> None:
    ref = await troupe.spawn(echo)

    assert [await ref.ask(n) for n in range(3)] == [0, 1, 2]
    assert await ref.ask(None) is None


async def test_a_hundred_who_ask_each_get_their_own_reply(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(echo, mailbox=5)
    asked = [Asked(nursery, ref, number) for number in range(100)]
    await wait_all_tasks_blocked()

    assert [ask.outcome for ask in asked] == [[number] for number in range(100)]


async def test_an_ask_waits_for_room(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bell = trio.Event()

    async def slow(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await bell.wait()
        await echo(inbox)

    ref = await troupe.spawn(slow, mailbox=1)
    await ref.tell("first")
    asked = Asked(nursery, ref, "second")
    await wait_all_tasks_blocked()
    assert asked.outcome == []
    bell.set()
    await wait_all_tasks_blocked()

    assert asked.outcome == ["second"]


async def test_an_ask_that_is_cancelled_while_it_waits_for_room_was_not_sent(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell, mailbox=1)
    await ref.tell(1)
    asked = Asked(nursery, ref, 2)
    await wait_all_tasks_blocked()
    asked.scope.cancel()
    bell.set()
    await wait_all_tasks_blocked()

    assert asked.outcome == ["cancelled"]
    assert seen == [1]
    assert troupe.dead_letters == []


async def test_an_ask_that_is_cancelled_before_it_is_in_hand_is_never_handled(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen, bell = [], trio.Event()
    ref = await troupe.spawn(gate, seen, bell)
    asked = Asked(nursery, ref, "never mind")
    await wait_all_tasks_blocked()
    asked.scope.cancel()
    await wait_all_tasks_blocked()
    bell.set()
    await ref.tell("next")
    await wait_all_tasks_blocked()

    assert seen == ["next"]
    assert troupe.dead_letters == [("gate", "never mind", "its sender gave up waiting")]


async def test_asking_an_actor_that_has_ended_raises_at_once(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo, name="parrot")
    await ref.stop()

    with pytest.raises(ActorDied, match="'parrot' has ended: it was"), assert_no_checkpoints():
        await ref.ask(1)
    assert troupe.dead_letters == []


@pytest.mark.parametrize(
    ("function", "message", "stop", "how"),
    [
        (echo, BOOM, False, "has ended: it crashed"),
        (brief, "go", False, "has ended: it returned"),
        (echo, "go", True, "has ended: it was stopped"),
        (busy, "go", True, "has ended: it was stopped, and cancelled as that took too long"),
    ],
)
async def test_one_who_asks_an_actor_that_has_ended_is_told_how_it_ended(
    troupe: Troupe, autojump_clock: MockClock, function: Any, message: Any, stop: bool, how: str
) -> None:
    ref = await troupe.spawn(function, *[[]] * (function is busy), restart="temporary")
    await ref.tell(message)
    await wait_all_tasks_blocked()
    await (ref.stop() if stop else ref.join())
    with pytest.raises(ActorDied) as caught:
        await ref.ask(1)

    assert str(caught.value) == f"actor {function.__name__!r} {how}"
    assert caught.value.__cause__ is (BOOM if message is BOOM else None)


async def test_asking_an_actor_that_ends_raises_at_once(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(busy, [], name="late")
    await ref.tell(1)
    await wait_all_tasks_blocked()
    nursery.start_soon(ref.stop)
    await wait_all_tasks_blocked()

    with pytest.raises(ActorDied, match="actor 'late' is ending"):
        await ref.ask(1)


@pytest.mark.parametrize("mailbox", [1, 10])
async def test_an_ask_that_is_not_in_hand_when_the_actor_ends_is_answered_with_an_error(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery, mailbox: int
) -> None:
    ref = await troupe.spawn(busy, [], mailbox=mailbox)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    asked = [Asked(nursery, ref) for _ in range(3)]
    await wait_all_tasks_blocked()
    await ref.stop()
    await wait_all_tasks_blocked()

    assert {ask.error[0] for ask in asked} == {ActorDied}
    assert all(ask.error[1].startswith("actor 'busy' ") for ask in asked)


@pytest.mark.parametrize("defer", [False, True], ids=["in hand", "deferred"])
@pytest.mark.parametrize("end", ["return", "stop"])
async def test_an_ask_that_was_taken_when_the_actor_ends_is_answered_with_an_error(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery, defer: bool, end: str
) -> None:
    bell = trio.Event()

    async def actor(inbox: Mailbox[Any]) -> None:
        await hold(inbox, bell, defer=defer)

    ref = await troupe.spawn(actor)
    asked = Asked(nursery, ref)
    await wait_all_tasks_blocked()
    if end == "stop":
        await ref.stop()
    bell.set()
    await wait_all_tasks_blocked()

    assert asked.error == (NoReply, "actor 'actor' ended without an answer to this str")


@pytest.mark.parametrize("defer", [False, True], ids=["in hand", "deferred"])
async def test_a_crash_is_the_cause_of_what_the_asker_gets(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery, defer: bool
) -> None:
    async def broken(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            if defer:
                inbox.defer()
            raise BOOM

    asked = Asked(nursery, await troupe.spawn(broken))
    await wait_all_tasks_blocked()

    assert asked.error == (NoReply, "actor 'broken' crashed without an answer to this str")
    assert asked.outcome[0].__cause__ is BOOM


async def test_an_ask_that_waits_while_the_actor_crashes_is_answered_by_the_next_incarnation(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(echo)
    await ref.tell(BOOM)
    await wait_all_tasks_blocked()
    start = trio.current_time()

    assert await ref.ask("still there?") == "still there?"
    assert (ref.incarnation, trio.current_time()) == (2, start + 1)


async def test_asks_are_answered_with_an_error_when_the_last_restart_is_spent(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def broken(inbox: Mailbox[Any]) -> None:
        await inbox.receive()
        raise BOOM

    ref = await troupe.spawn(broken)
    asked = []
    for _ in range(6):
        asked.append(Asked(nursery, ref))
        await wait_all_tasks_blocked()
    await trio.sleep(10)  # virtual

    assert [ask.error[0] for ask in asked] == [NoReply] * 4 + [ActorDied] * 2
    assert not ref.alive


async def test_an_actor_that_asks_itself_is_told_at_once(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def narcissus(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            with pytest.raises(ActorError, match="'narcissus' asks itself") as caught:
                await inbox.ref.ask("who?")
            inbox.reply(caught.type)

    ref = await troupe.spawn(narcissus)

    assert await ref.ask("go") is ActorError


async def test_a_child_task_of_an_actor_may_ask_that_actor(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    answers = []

    async def ask(ref: ActorRef[Any]) -> None:
        answers.append(await ref.ask("from within"))

    async def parent(inbox: Mailbox[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, inbox.ref)
            await echo(inbox)

    ref = await troupe.spawn(parent)
    await ref.ask("from outside")
    await wait_all_tasks_blocked()

    assert answers == ["from within"]


async def test_going_on_without_a_reply_raises_where_it_was_asked(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(collect, seen := [])
    asked = Asked(nursery, ref, "question")
    await wait_all_tasks_blocked()

    assert seen == ["question"]
    assert asked.error == (
        NoReply,
        "actor 'collect' went on to its next message without an answer to this str",
    )


# --- dead letters --------------------------------------------------------------------------------


async def test_a_message_to_an_actor_that_has_ended_is_a_dead_letter(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo, name="parrot")
    await ref.stop()
    await ref.tell("hello")
    ref.try_tell("anybody")

    assert troupe.dead_letters == [
        ("parrot", "hello", "the actor has ended"),
        ("parrot", "anybody", "the actor has ended"),
    ]


async def test_a_message_to_an_actor_that_stops_is_a_dead_letter(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(busy, seen := [])
    await ref.tell(1)
    await wait_all_tasks_blocked()
    nursery.start_soon(ref.stop)
    await wait_all_tasks_blocked()
    assert ref.alive
    await ref.tell(2)
    ref.try_tell(3)

    assert seen == [1]
    assert [message for _, message, _ in troupe.dead_letters] == [2, 3]


async def test_messages_that_an_actor_leaves_behind_are_dead_letters(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(brief)
    for number in range(4):
        await ref.tell(number)
    await ref.join()

    assert [message for _, message, _ in troupe.dead_letters] == [1, 2, 3]


# --- stop ----------------------------------------------------------------------------------------


async def test_stop_ends_the_loop_after_the_message_in_hand(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(busy, seen := [], 3)
    for number in range(4):
        await ref.tell(number)
    await wait_all_tasks_blocked()
    start = trio.current_time()
    await ref.stop()

    assert trio.current_time() == start + 3
    assert seen == [0]
    assert [message for _, message, _ in troupe.dead_letters] == [1, 2, 3]
    assert not ref.alive


async def test_stop_with_drain_ends_the_loop_after_all_mail_that_is_there(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(busy, seen := [], 1)
    for number in range(4):
        await ref.tell(number)

    async def late() -> None:
        await trio.sleep(2)  # virtual
        await ref.tell("late")

    nursery.start_soon(late)
    await ref.stop(drain=True)

    assert seen == [0, 1, 2, 3]
    assert [message for _, message, _ in troupe.dead_letters] == ["late"]


async def test_asks_that_are_there_are_answered_by_an_actor_that_drains(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bell = trio.Event()

    async def slow(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await bell.wait()
        await echo(inbox)

    ref = await troupe.spawn(slow)
    asked = [Asked(nursery, ref, number) for number in range(3)]
    await wait_all_tasks_blocked()
    nursery.start_soon(lambda: ref.stop(drain=True))
    await wait_all_tasks_blocked()
    bell.set()
    await wait_all_tasks_blocked()

    assert [ask.outcome for ask in asked] == [[0], [1], [2]]


async def test_an_actor_that_drains_has_no_more_time_than_shutdown(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(busy, seen := [], 2, shutdown=5)
    for number in range(9):
        await ref.tell(number)
    start = trio.current_time()
    await ref.stop(drain=True)

    assert trio.current_time() == start + 5
    assert seen == [0, 1, 2]
    assert len(troupe.dead_letters) == 6


async def test_a_plain_stop_overrides_one_that_drains(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(busy, seen := [], 1, shutdown=inf)
    for number in range(100):
        await ref.tell(number)
    nursery.start_soon(lambda: ref.stop(drain=True))
    await wait_all_tasks_blocked()
    await ref.stop()

    assert len(seen) == 1


@pytest.mark.parametrize("drain", [False, True])
async def test_stop_ends_an_idle_actor_in_no_time(
    troupe: Troupe, autojump_clock: MockClock, drain: bool
) -> None:
    ref, start = await troupe.spawn(echo), trio.current_time()
    await ref.stop(drain=drain)

    assert trio.current_time() == start
    assert not ref.alive


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_an_actor_that_was_stopped_does_not_start_again(
    troupe: Troupe, autojump_clock: MockClock, restart: str
) -> None:
    ref = await troupe.spawn(echo, restart=restart)
    await ref.stop()
    await trio.sleep(100)  # virtual

    assert (ref.alive, ref.incarnation) == (False, 1)


async def test_an_actor_that_waits_for_its_restart_can_be_stopped(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref, start = await troupe.spawn(echo), trio.current_time()
    await ref.tell(BOOM)
    await wait_all_tasks_blocked()
    asked = Asked(nursery, ref)
    await wait_all_tasks_blocked()
    await ref.stop(drain=True)
    await wait_all_tasks_blocked()

    assert (trio.current_time(), ref.incarnation) == (start, 1)
    assert asked.error[0] is ActorDied


async def test_stopping_twice_and_stopping_what_has_ended_is_fine(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(busy, [], 3)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.stop)
        nursery.start_soon(ref.stop)
    assert trio.current_time() == start + 3

    with assert_checkpoints():
        await ref.stop()


async def test_a_hundred_who_stop_it_all_wait_until_it_has_ended(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ended: list[float] = []
    ref = await troupe.spawn(busy, [], 3)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    start = trio.current_time()

    async def stop(drain: bool) -> None:
        await ref.stop(drain=drain)
        assert not ref.alive
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(stop, number % 2 == 0)

    assert ended == [start + 3] * 100


async def test_a_stop_that_is_cancelled_still_stops(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(busy, [], 3)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    with trio.move_on_after(1) as scope:
        await ref.stop()
    assert scope.cancelled_caught
    assert ref.alive
    await trio.sleep(3)  # virtual

    assert not ref.alive


async def test_an_actor_that_stops_itself_is_told_to_return_instead(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def suicidal(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            with pytest.raises(ActorError, match="let it return instead"):
                await inbox.ref.stop()
            inbox.reply("alive")

    ref = await troupe.spawn(suicidal)

    assert await ref.ask("go") == "alive"
    assert ref.alive


async def test_an_actor_may_stop_another(troupe: Troupe, autojump_clock: MockClock) -> None:
    victim = await troupe.spawn(echo)

    async def killer(inbox: Mailbox[Any]) -> None:
        async for other in inbox:
            await other.stop()
            inbox.reply(other.alive)

    ref = await troupe.spawn(killer)

    assert await ref.ask(victim) is False


async def test_a_child_task_of_an_actor_that_stops_the_actor_costs_it_no_more_than_its_time(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def parent(inbox: Mailbox[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.ref.stop)
            async for _ in inbox:
                pass

    ref, start = await troupe.spawn(parent, shutdown=5), trio.current_time()
    await ref.join()

    assert trio.current_time() <= start + 5


# --- join ----------------------------------------------------------------------------------------


async def test_join_waits_for_the_end_and_not_for_a_restart(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def twice(inbox: Mailbox[Any]) -> None:
        await trio.sleep(3)  # virtual
        if inbox.ref.incarnation == 1:
            raise BOOM

    async def start_first(inbox: Mailbox[Any]) -> None:
        inbox.started()
        await twice(inbox)

    ref, start = await troupe.spawn(start_first), trio.current_time()
    await ref.join()

    assert trio.current_time() == start + 3 + 1 + 3
    assert not ref.alive
    with assert_checkpoints():
        await ref.join()


async def test_a_cancelled_join_leaves_the_actor_alone(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    with trio.move_on_after(1) as scope:
        await ref.join()

    assert scope.cancelled_caught
    assert await ref.ask(1) == 1


async def test_an_actor_that_joins_itself_is_told_at_once(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def waiting(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            with pytest.raises(ActorError):
                await inbox.ref.join()
            inbox.reply("told")

    ref = await troupe.spawn(waiting, shutdown=0)
    with trio.move_on_after(1) as scope:
        assert await ref.ask("go") == "told"

    assert not scope.cancelled_caught


# --- Down ----------------------------------------------------------------------------------------


async def test_a_down_is_a_value(troupe: Troupe, autojump_clock: MockClock) -> None:
    ref = await troupe.spawn(echo)

    assert Down(ref, 1, "normal") == Down(ref, 1, "normal", None)
    assert Down(ref, 1, "normal") != Down(ref, 2, "normal")
    assert repr(Down(ref, 1, "crash", BOOM)) == (
        "Down(ref=<ActorRef echo>, incarnation=1, reason='crash', error=ValueError('boom'))"
    )
