import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from actorq.errors import NoReply
from actorq.model.events import EventKind
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.ref import ActorRef, Down
from tests.runtime.troupe import (
    Troupe,
    busy,
    collect,
    counted_steps,
    echo,
    open_troupe,
    watchers_of,
)

BOOM = ValueError("boom")


@pytest.fixture
async def troupe(autojump_clock: MockClock) -> AsyncIterator[Troupe]:
    async with open_troupe() as troupe:
        yield troupe


class Hand:
    """An actor that does nothing of its own: the test has its mailbox in hand."""

    inbox: Mailbox[Any]

    def __init__(self) -> None:
        self._end = trio.Event()
        self._error: BaseException | None = None

    async def run(self, inbox: Mailbox[Any]) -> None:
        self.inbox = inbox
        inbox.started()
        end = self._end
        await end.wait()
        if self._error is not None:
            raise self._error

    def end(self, error: BaseException | None = None) -> None:
        """End this incarnation, and any that comes after it too."""
        self._end.set()
        self._end, self._error = trio.Event(), error

    @property
    def ref(self) -> ActorRef[Any]:
        return self.inbox.ref


@pytest.fixture
async def hand(troupe: Troupe, autojump_clock: MockClock) -> Hand:
    hand = Hand()
    await troupe.spawn(hand.run, name="hand", shutdown=0)
    return hand


class Asker:
    """Asks in the background."""

    def __init__(self, nursery: trio.Nursery, ref: ActorRef[Any], message: object = "?") -> None:
        self.scope = trio.CancelScope()
        self.outcome: Any = None
        nursery.start_soon(self._ask, ref, message)

    async def _ask(self, ref: ActorRef[Any], message: object) -> None:
        with self.scope:
            try:
                self.outcome = await ref.ask(message)
            except Exception as error:  # noqa: BLE001 - the tests look at it
                self.outcome = error

    async def give_up(self) -> None:
        self.scope.cancel()
        await wait_all_tasks_blocked()
        assert self.scope.cancelled_caught


async def asked(nursery: trio.Nursery, hand: Hand, message: object = "?") -> Asker:
    """Return an ask whose message is in hand."""
    asker = Asker(nursery, hand.ref, message)
    assert await hand.inbox.receive() == message
    return asker


# --- reading -------------------------------------------------------------------------------------


async def test_receive_waits_for_a_message(hand: Hand, autojump_clock: MockClock) -> None:
    received = []

    async def receive() -> None:
        received.append(await hand.inbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert received == []
        hand.ref.try_tell(1)

    assert received == [1]


async def test_a_mailbox_is_iterated_until_the_actor_is_to_stop(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def tidy(inbox: Mailbox[Any]) -> None:
        await collect(inbox, seen)
        seen.append("tidied up")

    ref = await troupe.spawn(tidy)
    await ref.tell(1)
    await wait_all_tasks_blocked()
    await ref.stop()

    assert seen == [1, "tidied up"]


async def read(inbox: Mailbox[Any]) -> None:
    while True:
        await inbox.receive()


async def read_inside_a_nursery(inbox: Mailbox[Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await read(inbox)


@pytest.mark.parametrize("function", [read, read_inside_a_nursery])
async def test_a_stop_ends_receive_which_is_a_normal_end(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, function: Any
) -> None:
    ref = await troupe.spawn(function)
    hand.inbox.monitor(ref)
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 1, "shutdown")
    assert troupe.events == []


async def test_an_end_of_channel_of_ones_own_is_a_crash(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    async def pump(inbox: Mailbox[Any]) -> None:
        send, receive = trio.open_memory_channel[int](0)
        await inbox.receive()
        send.close()
        await receive.receive()

    ref = await troupe.spawn(pump)
    hand.inbox.monitor(ref)
    await ref.tell("go")
    down = await hand.inbox.receive()

    assert down.reason == "crash"
    assert isinstance(down.error, trio.EndOfChannel)


async def test_receive_raises_again_when_it_was_caught(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    ends = 0

    async def read(inbox: Mailbox[Any]) -> None:
        nonlocal ends
        for _ in range(3):
            with pytest.raises(trio.EndOfChannel):
                await inbox.receive()
            ends += 1

    await (await troupe.spawn(read)).stop()

    assert ends == 3


async def test_two_who_wait_for_the_next_message_are_one_too_many(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(hand.inbox.receive)
    await wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError):
        await hand.inbox.receive()

    hand.ref.try_tell("for the first one")


async def test_a_cancelled_receive_loses_nothing(hand: Hand, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await hand.inbox.receive()
    assert scope.cancelled_caught
    hand.ref.try_tell(1)

    assert await hand.inbox.receive() == 1


async def test_a_message_that_comes_together_with_the_cancellation_is_received(
    hand: Hand, autojump_clock: MockClock
) -> None:
    received, scope = [], trio.CancelScope()

    async def receive() -> None:
        with scope:
            received.append(await hand.inbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        hand.ref.try_tell(1)
        scope.cancel()

    assert received == [1]


async def test_a_restart_goes_on_with_the_same_mail_but_for_the_message_in_hand(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(collect, seen)
    for message in (1, BOOM, 2, 3):
        await ref.tell(message)
    await trio.sleep(2)  # virtual

    assert seen == [1, BOOM, 2, 3]
    assert ref.incarnation == 2


async def test_a_down_overtakes_a_hundred_messages(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    hand.inbox.monitor(ref)
    for number in range(100):
        hand.ref.try_tell(number)
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 1, "shutdown")
    assert [await hand.inbox.receive() for _ in range(100)] == list(range(100))


async def test_a_down_gets_into_a_full_mailbox(troupe: Troupe, autojump_clock: MockClock) -> None:
    hand = Hand()
    watcher, ref = await troupe.spawn(hand.run, mailbox=1), await troupe.spawn(echo)
    hand.inbox.monitor(ref)
    watcher.try_tell("full")
    await ref.stop()

    assert [type(await hand.inbox.receive()) for _ in range(2)] == [Down, str]
    hand.end()


async def test_a_reader_lets_others_run_every_64_messages(
    hand: Hand, autojump_clock: MockClock
) -> None:
    for number in range(1_000):
        hand.ref.try_tell(number)
    with counted_steps() as steps:
        for number in range(1_000):
            assert await hand.inbox.receive() == number
            steps.count += 1

    assert 32 <= max(steps.seen) <= 64


async def test_a_message_that_is_there_is_received_without_a_checkpoint(
    hand: Hand, autojump_clock: MockClock
) -> None:
    hand.ref.try_tell(1)
    hand.ref.try_tell(2)
    await hand.inbox.receive()

    with assert_no_checkpoints():
        await hand.inbox.receive()


async def test_a_reader_that_will_not_see_the_end_lets_others_run(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[int] = []

    async def deaf(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        with counted_steps() as steps:
            for _ in range(1_000):
                await collect(inbox, [])
                steps.count += 1
        seen.extend(steps.seen)

    await (await troupe.spawn(deaf)).stop()

    assert max(seen, default=1_000) <= 64


# --- starting ------------------------------------------------------------------------------------


async def test_an_actor_has_started_when_it_reads(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def slow(inbox: Mailbox[Any]) -> None:
        await trio.sleep(3)  # virtual
        async for _ in inbox:
            pass

    start = trio.current_time()
    await troupe.spawn(slow)

    assert trio.current_time() == start + 3


async def test_an_actor_has_started_when_it_says_so(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def slow(inbox: Mailbox[Any]) -> None:
        await trio.sleep(3)  # virtual
        inbox.started("up")
        await trio.sleep(3)  # virtual

    start = trio.current_time()
    ref = await troupe.spawn(slow)

    assert (trio.current_time(), ref.started_value) == (start + 3, "up")


async def test_reading_after_saying_so_changes_nothing(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def server(inbox: Mailbox[Any]) -> None:
        inbox.started("up")
        await echo(inbox)

    ref = await troupe.spawn(server)
    await ref.ask(1)

    assert ref.started_value == "up"


async def test_the_mailbox_has_the_actors_own_ref(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    hand = Hand()
    ref = await troupe.spawn(hand.run)

    assert hand.inbox.ref is ref
    hand.end()


# --- replying ------------------------------------------------------------------------------------


async def test_a_reply_reaches_the_one_who_asked(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    with assert_no_checkpoints():
        assert hand.inbox.reply("answer") is True
    await wait_all_tasks_blocked()

    assert asker.outcome == "answer"


async def test_an_answer_may_be_an_exception(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    hand.inbox.reply(BOOM)
    await wait_all_tasks_blocked()

    assert asker.outcome is BOOM


async def test_a_refusal_is_raised_where_it_was_asked(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def clerk(inbox: Mailbox[Any]) -> None:
        async for message in inbox:
            assert inbox.refuse(KeyError(message)) is True

    ref = await troupe.spawn(clerk)

    with pytest.raises(KeyError, match="form 7b"):
        await ref.ask("form 7b")
    assert ref.alive


@pytest.mark.parametrize("verb", ["reply", "refuse"])
async def test_there_is_nothing_to_answer_before_the_first_message(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, verb: str
) -> None:
    assert getattr(hand.inbox, verb)(BOOM) is False
    assert troupe.dead_letters == []


@pytest.mark.parametrize("verb", ["reply", "refuse"])
async def test_there_is_nothing_to_answer_after_a_tell(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, verb: str
) -> None:
    hand.ref.try_tell(1)
    await hand.inbox.receive()

    assert getattr(hand.inbox, verb)(BOOM) is False
    assert troupe.dead_letters == []


@pytest.mark.parametrize("verb", ["reply", "refuse"])
async def test_only_the_first_answer_counts(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery, verb: str
) -> None:
    asker = await asked(nursery, hand)
    assert getattr(hand.inbox, verb)(BOOM) is True
    assert hand.inbox.reply("second") is hand.inbox.refuse(KeyError()) is False
    await wait_all_tasks_blocked()

    assert asker.outcome is BOOM
    assert troupe.dead_letters == []


async def test_an_answer_is_for_the_message_in_hand(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first = await asked(nursery, hand, 1)
    second = await asked(nursery, hand, 2)
    hand.inbox.reply("to the second")
    await wait_all_tasks_blocked()

    assert isinstance(first.outcome, NoReply)
    assert second.outcome == "to the second"


async def test_a_new_incarnation_has_nothing_in_hand(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    await asked(nursery, hand)
    hand.end(BOOM)
    await trio.sleep(2)  # virtual

    assert hand.ref.incarnation == 2
    assert hand.inbox.reply("whom?") is False
    assert troupe.dead_letters == []


@pytest.mark.parametrize("verb", ["reply", "refuse"])
async def test_a_late_answer_is_a_dead_letter_and_no_error(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery, verb: str
) -> None:
    asker = await asked(nursery, hand)
    await asker.give_up()

    assert getattr(hand.inbox, verb)(BOOM) is False
    assert troupe.dead_letters == [("hand", BOOM, "nobody waits for this answer any more")]


async def test_one_who_is_answered_and_cancelled_at_once_has_the_answer(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    assert hand.inbox.reply("in time") is True
    asker.scope.cancel()
    await wait_all_tasks_blocked()

    assert asker.outcome == "in time"
    assert troupe.dead_letters == []


async def test_going_on_is_no_dead_letter_when_nobody_waits_any_more(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    await asker.give_up()
    hand.ref.try_tell("next")

    assert await hand.inbox.receive() == "next"
    assert troupe.dead_letters == []


async def test_a_crash_with_the_message_in_hand_hurts_no_other(
    troupe: Troupe, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ref = await troupe.spawn(echo)
    askers = [Asker(nursery, ref, message) for message in (1, BOOM, 2, 3)]
    await wait_all_tasks_blocked()
    outcomes = {str(askers[1].outcome.__cause__)}
    await trio.sleep(2)  # virtual

    assert outcomes == {"boom"}
    assert isinstance(askers[1].outcome, NoReply)
    assert [asker.outcome for asker in askers if asker is not askers[1]] == [1, 2, 3]
    assert ref.incarnation == 2


# --- deferring -----------------------------------------------------------------------------------


async def test_a_deferred_ask_is_answered_after_others(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    first = await asked(nursery, hand, 1)
    deferred = hand.inbox.defer()
    second = await asked(nursery, hand, 2)
    hand.inbox.reply("two")
    await wait_all_tasks_blocked()
    assert (first.outcome, second.outcome) == (None, "two")

    assert deferred.reply("one") is True
    await wait_all_tasks_blocked()
    assert first.outcome == "one"


async def test_a_deferred_ask_may_be_refused(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)

    assert hand.inbox.defer().refuse(BOOM) is True
    await wait_all_tasks_blocked()
    assert asker.outcome is BOOM


async def test_what_was_deferred_is_not_in_hand_any_more(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    deferred = hand.inbox.defer()
    assert hand.inbox.reply("too soon") is False
    assert hand.inbox.defer().reply("of what?") is False
    deferred.reply("now")
    await wait_all_tasks_blocked()

    assert asker.outcome == "now"


async def test_a_deferred_ask_is_answered_once(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    deferred = hand.inbox.defer()

    assert [deferred.reply(1), deferred.reply(2), deferred.refuse(BOOM)] == [True, False, False]
    await wait_all_tasks_blocked()
    assert asker.outcome == 1
    assert troupe.dead_letters == []


async def test_a_tell_can_be_deferred_but_not_answered(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    hand.ref.try_tell(1)
    await hand.inbox.receive()
    deferred = hand.inbox.defer()

    assert deferred.reply(1) is False
    assert troupe.dead_letters == []


async def test_a_late_answer_to_a_deferred_ask_is_a_dead_letter(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    deferred = hand.inbox.defer()
    await asker.give_up()

    assert deferred.reply("late") is False
    assert troupe.dead_letters == [("hand", "late", "nobody waits for this answer any more")]


async def test_an_answer_of_an_incarnation_that_has_ended_is_a_dead_letter(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    asker = await asked(nursery, hand)
    deferred = hand.inbox.defer()
    hand.end(BOOM)
    await trio.sleep(2)  # virtual
    assert hand.ref.incarnation == 2
    assert isinstance(asker.outcome, NoReply)

    assert deferred.reply("from the grave") is False
    ((actor, message, why),) = troupe.dead_letters
    assert (actor, message, why) == (
        "hand",
        "from the grave",
        "nobody waits for this answer any more",
    )


async def test_asks_that_were_deferred_and_given_up_are_forgotten(
    hand: Hand, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class Message:
        pass

    async def ask_briefly() -> weakref.ref[Message]:
        message = Message()
        asker = await asked(nursery, hand, message)
        hand.inbox.defer()
        await asker.give_up()
        return weakref.ref(message)

    gone = await ask_briefly()
    gc.collect()

    assert gone() is None


# --- monitors ------------------------------------------------------------------------------------


async def ends(inbox: Mailbox[Any]) -> None:
    await inbox.receive()


async def crashes(inbox: Mailbox[Any]) -> None:
    await inbox.receive()
    raise BOOM


async def ignores(inbox: Mailbox[Any]) -> None:
    async for _ in inbox:
        pass
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("function", "stop", "reason", "error"),
    [
        (ends, False, "normal", None),
        (echo, True, "shutdown", None),
        (crashes, False, "crash", BOOM),
        (ignores, True, "killed", None),
    ],
)
async def test_a_monitor_says_once_how_the_incarnation_ended(
    troupe: Troupe,
    hand: Hand,
    autojump_clock: MockClock,
    function: Any,
    stop: bool,
    reason: Any,
    error: Exception | None,
) -> None:
    ref = await troupe.spawn(function)
    hand.inbox.monitor(ref)
    await (ref.stop() if stop else ref.tell("go"))
    await trio.sleep(100)  # virtual

    assert await hand.inbox.receive() == Down(ref, 1, reason, error)
    assert len(hand.inbox._lanes) == 0
    assert watchers_of(ref) == 0


async def test_an_actor_that_fails_to_clean_up_has_crashed(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    async def untidy(inbox: Mailbox[Any]) -> None:
        await collect(inbox, [])
        raise BOOM

    ref = await troupe.spawn(untidy)
    hand.inbox.monitor(ref)
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 1, "crash", BOOM)
    assert troupe.events == [
        (
            EventKind.ACTOR_DIED,
            {"actor": "untidy", "error": "ValueError('boom')", "exception": BOOM},
        )
    ]


async def test_a_monitor_of_what_has_ended_says_so_at_once(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    await ref.stop()
    with assert_no_checkpoints():
        hand.inbox.monitor(ref)

    assert await hand.inbox.receive() == Down(ref, 1, "shutdown")


async def test_a_monitor_of_what_waits_for_its_restart_is_for_the_next_incarnation(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    await ref.tell(BOOM)
    await wait_all_tasks_blocked()
    hand.inbox.monitor(ref)
    await trio.sleep(2)  # virtual
    assert len(hand.inbox._lanes) == 0
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 2, "shutdown")
    assert len(hand.inbox._lanes) == 0


async def test_a_monitor_of_what_waits_for_its_restart_says_if_there_will_be_none(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    await ref.tell(BOOM)
    await wait_all_tasks_blocked()
    hand.inbox.monitor(ref)
    hand.inbox.monitor(ref).cancel()
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 1, "crash", BOOM)
    assert len(hand.inbox._lanes) == watchers_of(ref) == 0


async def test_one_who_monitors_again_at_each_down_is_told_of_every_incarnation(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Down] = []
    ref = await troupe.spawn(echo)

    async def watch(inbox: Mailbox[Down]) -> None:
        inbox.monitor(ref)
        async for down in inbox:
            seen.append(down)
            if down.ref.alive:
                inbox.monitor(ref)

    await troupe.spawn(watch)
    for _ in range(4):
        await ref.tell(BOOM)
    await ref.join()
    await wait_all_tasks_blocked()

    assert [down.incarnation for down in seen] == [1, 2, 3, 4]


async def test_a_monitor_is_for_the_incarnation_that_it_was_made_for(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    hand.inbox.monitor(ref)
    await ref.tell(BOOM)
    await trio.sleep(2)  # virtual
    hand.inbox.monitor(ref)
    await ref.stop()

    assert await hand.inbox.receive() == Down(ref, 1, "crash", BOOM)
    assert await hand.inbox.receive() == Down(ref, 2, "shutdown")
    assert len(hand.inbox._lanes) == 0


async def test_each_of_many_monitors_says_it(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref, other = await troupe.spawn(echo), Hand()
    await troupe.spawn(other.run)
    for _ in range(3):
        hand.inbox.monitor(ref)
        other.inbox.monitor(ref)
    await ref.stop()

    assert len(hand.inbox._lanes) == len(other.inbox._lanes) == 3
    other.end()


async def test_a_cancelled_monitor_says_nothing(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    kept, monitor = hand.inbox.monitor(ref), hand.inbox.monitor(ref)
    monitor.cancel()
    monitor.cancel()
    assert watchers_of(ref) == 1
    await ref.stop()

    assert len(hand.inbox._lanes) == 1
    kept.cancel()
    assert await hand.inbox.receive() == Down(ref, 1, "shutdown"), "it was there already"


async def test_two_actors_may_monitor_each_other(troupe: Troupe, autojump_clock: MockClock) -> None:
    one, two = Hand(), Hand()
    a, b = await troupe.spawn(one.run), await troupe.spawn(two.run)
    one.inbox.monitor(b)
    two.inbox.monitor(a)
    one.end()
    await a.join()

    assert await two.inbox.receive() == Down(a, 1, "normal")
    assert watchers_of(b) == 0
    two.end()


async def test_a_monitor_of_oneself_says_nothing(troupe: Troupe, autojump_clock: MockClock) -> None:
    hand = Hand()
    ref = await troupe.spawn(hand.run)
    hand.inbox.monitor(ref)
    hand.end(BOOM)
    await trio.sleep(2)  # virtual

    assert ref.incarnation == 2
    assert len(hand.inbox._lanes) == watchers_of(ref) == 0
    hand.end()


@pytest.mark.parametrize("error", [BOOM, None])
async def test_monitors_end_with_the_incarnation_that_made_them(
    troupe: Troupe, autojump_clock: MockClock, error: BaseException | None
) -> None:
    hand, ref = Hand(), await troupe.spawn(echo)
    watcher = await troupe.spawn(hand.run, restart="permanent", shutdown=0)
    for _ in range(3):
        hand.inbox.monitor(ref)
    hand.end(error)
    await trio.sleep(2)  # virtual
    assert watcher.incarnation == 2
    assert watchers_of(ref) == 0
    await ref.stop()

    assert len(hand.inbox._lanes) == 0


async def test_a_down_that_was_not_read_ends_with_the_incarnation_too(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    hand, ref = Hand(), await troupe.spawn(echo)
    watcher = await troupe.spawn(hand.run, shutdown=0)
    hand.inbox.monitor(ref)
    await watcher.tell("mail")
    await ref.stop()
    hand.end(BOOM)
    await trio.sleep(2)  # virtual

    assert await hand.inbox.receive() == "mail"
    assert len(hand.inbox._lanes) == 0


async def test_monitors_that_have_spoken_or_were_cancelled_leave_nothing(
    troupe: Troupe, hand: Hand, autojump_clock: MockClock
) -> None:
    ref = await troupe.spawn(echo)
    for _ in range(1_000):
        hand.inbox.monitor(ref).cancel()
        hand.inbox.monitor(ref)
    assert watchers_of(ref) == len(hand.inbox._monitors or ()) == 1_000
    await ref.stop()

    assert watchers_of(ref) == len(hand.inbox._monitors or ()) == 0
    assert len(hand.inbox._lanes) == 1_000


async def test_an_actor_that_is_told_to_stop_still_sees_who_went_before_it(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(busy, [])

    async def watcher(inbox: Mailbox[Any]) -> None:
        inbox.monitor(ref)
        async for message in inbox:
            seen.append(message)
            await trio.sleep(1)  # virtual

    other = await troupe.spawn(watcher)
    await other.tell("in hand")
    await wait_all_tasks_blocked()
    await ref.stop()
    await other.tell("left behind")
    await other.stop()

    assert seen == ["in hand", Down(ref, 1, "shutdown")]


async def test_an_actor_that_is_told_to_stop_is_not_held_up_by_who_ends_later(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    ref = await troupe.spawn(echo)
    await ref.stop()

    async def persistent(inbox: Mailbox[Any]) -> None:
        inbox.monitor(ref)
        async for message in inbox:
            seen.append(message)
            inbox.monitor(ref)
            await trio.sleep(1)  # virtual

    watcher = await troupe.spawn(persistent, shutdown=100)
    await trio.sleep(1.5)  # virtual
    start = trio.current_time()
    await watcher.stop()

    assert trio.current_time() <= start + 2
    assert seen


@pytest.mark.parametrize("wrong", ["a name", None, 3])
async def test_what_is_no_ref_cannot_be_monitored_and_harms_nobody(
    wrong: Any, autojump_clock: MockClock
) -> None:
    async def watcher(inbox: Mailbox[Any]) -> None:
        with pytest.raises(TypeError, match="monitor takes an ActorRef, not"):
            inbox.monitor(wrong)
        async for _ in inbox:
            pass

    async with open_troupe() as troupe:
        ref = await troupe.spawn(watcher)
        await ref.stop()

    assert not ref.alive


async def test_an_actor_of_another_program_cannot_be_monitored(
    troupe: Troupe, autojump_clock: MockClock
) -> None:
    async def watcher(inbox: Mailbox[Any]) -> None:
        with pytest.raises(RuntimeError, match="'echo' lives in another thread or program"):
            inbox.monitor(ref)
        await echo(inbox)

    async def elsewhere() -> object:
        async with open_troupe() as others:
            return await (await others.spawn(watcher)).ask("and on it goes")

    ref = await troupe.spawn(echo)

    assert await trio.to_thread.run_sync(trio.run, elsewhere) == "and on it goes"
    assert watchers_of(ref) == 0


@pytest.mark.parametrize("wrong", ["no", None, KeyboardInterrupt, int])
async def test_a_refusal_that_is_no_exception_is_the_actors_own_error(
    wrong: Any, autojump_clock: MockClock
) -> None:
    async def clumsy(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            with pytest.raises(TypeError, match="refuse takes an exception, not"):
                inbox.refuse(wrong)
            inbox.reply("mended")

    async with open_troupe() as troupe:
        assert await (await troupe.spawn(clumsy)).ask(1) == "mended"


async def test_an_exception_class_is_refused_with_as_it_is_raised(
    autojump_clock: MockClock,
) -> None:
    async def strict(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            inbox.refuse(KeyError)

    async with open_troupe() as troupe:
        ref = await troupe.spawn(strict)
        with pytest.raises(KeyError):
            await ref.ask(1)


async def test_an_answer_from_a_thread_is_refused_and_the_asker_still_gets_one(
    nursery: trio.Nursery,
) -> None:
    async def threaded(inbox: Mailbox[Any]) -> None:
        async for _ in inbox:
            with pytest.raises(RuntimeError, match="another thread"):
                await trio.to_thread.run_sync(inbox.reply, "lost")
            inbox.reply("found")

    async with open_troupe() as troupe:
        assert await (await troupe.spawn(threaded)).ask(1) == "found"
