"""The door: who is let in as what, what each may say, and what becomes of those who may not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actorq.actors.gateway import Gateway
from actorq.actors.guests import Guests
from actorq.codec.envelope import encode, join
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Cancel, Output
from actorq.model.results import Progress
from actorq.model.schedules import Every, Schedule
from actorq.model.tree import ActorTree
from actorq.transports.memory import MemoryTransport
from tests.actors.callers import BEATS, CLIENT, HELLO, PARENT, WORKER, Caller, Clerk, calling

SUBMISSION = m.Submission("id", "task", "main", NO_OPTIONS, None, b"")
CLIENT_SAYS: list[Any] = [
    m.Submit(1, (SUBMISSION,)),
    m.Withdraw(1, 2, (), 1.0),
    m.Forget(1),
    m.Watch(1, ()),
    m.CancelTask(1, "id", Cancel("user"), 1.0),
    m.EndScope(1, "me:1", 1.0),
    m.Inspect(1, "id"),
    m.Find(1, Filter(), None, 1),
    m.Bulk(1, "retry", Filter(queue="q"), True),
    m.Subscribe(1, 2, Filter()),
    m.Unsubscribe(2),
    m.GetStats(1),
    m.GetTasks(1),
    m.Join(1),
    m.Why(1, "id"),
    m.PauseQueue(1, "queue", True),
    m.Declare(1, Schedule("name", Every(60), "task", "main", NO_OPTIONS, b"")),
    m.ControlSchedule(1, "name", "pause"),
    m.GetSchedules(1),
]
WORKER_SAYS: list[Any] = [
    m.Knows({"task": "digest"}),
    m.Ready("main", 1),
    m.Started("id", 1, 1.0),
    m.Report("id", 1, Progress(1.0)),
    m.Finish("id", 1, "ok", Output(b""), None),
]
PARENT_SAYS: list[Any] = [m.WorkerDied(1, "node")]
HELLOS: dict[str, Any] = {"client": CLIENT, "worker": WORKER, "parent": PARENT, "beats": BEATS}
MAY: dict[str, list[Any]] = {
    "client": CLIENT_SAYS,
    "worker": WORKER_SAYS,
    "parent": PARENT_SAYS,
    "beats": [],
}


def kind(message: Any) -> str:
    return type(message).__name__


class House:
    """A gateway at work, and the queue actor behind it."""

    def __init__(self) -> None:
        self.clerk = Clerk()
        self.events: list[tuple[EventKind, dict[str, Any]]] = []
        self.guests = Guests(self.clerk.exchange, 4_096)
        self.role: str | int = "admin"
        self.transport = MemoryTransport("gateway")
        self.gateway = Gateway(
            [self.transport],
            lambda _: self.role,
            self.guests,
            node="queue node",
            library="0.1",
            limits=Limits(),
            max_message=4_096,
            chunk=500,
            tree=lambda: ActorTree("here", 0, ()),
            tell=self.tell,
        )
        self.started = trio.Event()

    def tell(self, kind: EventKind, **details: Any) -> None:
        self.events.append((kind, details))

    def told(self, kind: EventKind) -> list[dict[str, Any]]:
        return [details for told, details in self.events if told is kind]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        inbox: Any = Inbox(self.started)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.gateway.run, inbox)
            await self.started.wait()
            yield
            nursery.cancel_scope.cancel()

    def call(self, *messages: Any, role: str = "admin") -> Any:
        """Connect with a token for this role."""
        self.role = role
        return calling(self.transport, *messages)


class Inbox:
    """All of its mailbox that a gateway uses."""

    def __init__(self, up: trio.Event) -> None:
        self.started = up.set


@pytest.fixture
async def house(autojump_clock: MockClock) -> AsyncGenerator[House]:
    made = House()
    async with made.open():
        yield made


@asynccontextmanager
async def bystander(house: House) -> AsyncGenerator[Caller]:
    """Have somebody else at the door, who must not notice anything."""
    other = m.ClientHello("bystander", True)
    async with house.call(HELLO, other) as caller, trio.open_nursery() as nursery:
        await caller.hear(w.Accepted)
        nursery.start_soon(caller.ping_on)
        yield caller
        await caller.say(m.GetStats(99))
        await wait_all_tasks_blocked()
        assert m.GetStats(99) in house.clerk.messages
        nursery.cancel_scope.cancel()


# --- coming in -----------------------------------------------------------------------------------


async def test_a_node_that_says_hello_is_accepted_and_announced(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        accepted = await caller.hear()

        assert accepted == w.Accepted(w.PROTOCOL, "queue node", "0.1", 4_096, 15.0, 5.0, 500)
        assert house.clerk.messages == [CLIENT]
        (told,) = house.told(EventKind.CONNECTED)
        assert (told["peer"], told["node"], told["library"]) == ("memory", "a node", "0.1")


async def test_the_two_hellos_may_come_one_by_one(autojump_clock: MockClock, house: House) -> None:
    async with house.call(HELLO) as caller:
        await wait_all_tasks_blocked()
        await caller.say(CLIENT)

        assert isinstance(await caller.hear(), w.Accepted)


async def test_what_is_said_in_one_breath_with_the_hello_counts(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, WORKER, *WORKER_SAYS) as caller:
        await caller.hear(w.Accepted)
        await wait_all_tasks_blocked()

        assert [kind(message) for message in house.clerk.messages] == [
            "WorkerHello", *map(kind, WORKER_SAYS),
        ]  # fmt: skip


async def test_what_came_together_reaches_the_queue_actor_together(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, WORKER) as caller:
        await caller.hear(w.Accepted)
        await caller.say(*WORKER_SAYS)
        await wait_all_tasks_blocked()

        assert [kind(x) for x in house.clerk.mail[-1][1]] == [kind(x) for x in WORKER_SAYS]


@pytest.mark.parametrize("versions", [(2, 3), (0, 0), (5, 1)])
async def test_without_a_common_version_there_is_no_connection(
    autojump_clock: MockClock, house: House, versions: tuple[int, int]
) -> None:
    async with bystander(house), house.call(w.Hello(versions, 1), CLIENT) as caller:
        code, reason = await caller.end()

        assert code == w.Close.VERSION
        assert "version 1" in reason
        assert CLIENT not in house.clerk.messages


async def test_a_node_that_speaks_newer_versions_too_is_welcome(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(w.Hello((1, 7), 1, features=("later",)), CLIENT) as caller:
        assert (await caller.hear()).version == 1


@pytest.mark.parametrize(
    "first",
    [[CLIENT], [w.Ping()], [m.GetStats(1)], [w.Bye()], [WORKER, HELLO], [BEATS]],
    ids=range(6),
)
async def test_whoever_does_not_begin_with_a_hello_is_cut(
    autojump_clock: MockClock, house: House, first: list[Any]
) -> None:
    async with bystander(house), house.call(*first) as caller:
        assert await caller.end() == (w.Close.BAD_MESSAGE, "the first message must be a hello")


@pytest.mark.parametrize("second", [HELLO, w.Ping(), m.GetStats(1), w.Bye(), m.Beat(0.0)], ids=kind)
async def test_whoever_does_not_say_who_is_there_is_cut(
    autojump_clock: MockClock, house: House, second: Any
) -> None:
    async with bystander(house), house.call(HELLO, second, CLIENT) as caller:
        assert await caller.end() == (w.Close.BAD_MESSAGE, "a hello says first who is there")
        assert CLIENT not in house.clerk.messages


@pytest.mark.parametrize(
    ("role", "who"),
    [
        ("client", "worker"),
        ("client", "beats"),
        ("client", "parent"),
        ("worker", "client"),
        ("nobody", "client"),
        ("nobody", "worker"),
    ],
)
async def test_a_token_is_for_its_role_alone(
    autojump_clock: MockClock, house: House, role: str, who: str
) -> None:
    async with bystander(house), house.call(HELLO, HELLOS[who], *MAY[who], role=role) as caller:
        code, reason = await caller.end()

        assert code == w.Close.FORBIDDEN
        assert f"{role!r} is not one for" in reason
        await wait_all_tasks_blocked()
        assert len(house.clerk.messages) == 1
        assert len(house.guests) == 1
        (told,) = house.told(EventKind.REFUSED)
        assert told["code"] == w.Close.FORBIDDEN


@pytest.mark.parametrize("role", ["client", "worker", "admin"])
@pytest.mark.parametrize("who", HELLOS)
async def test_a_token_lets_in_who_it_is_for(
    autojump_clock: MockClock, house: House, role: str, who: str
) -> None:
    if (who == "client") == (role == "worker"):
        return  # see above
    async with house.call(HELLO, HELLOS[who], role=role) as caller:
        assert isinstance(await caller.hear(), w.Accepted)


async def test_a_worker_is_called_after_its_node(autojump_clock: MockClock, house: House) -> None:
    """Or it could speak for another one."""
    other = m.WorkerHello("other.1", "node", (), {"main": 1}, {})
    async with bystander(house), house.call(HELLO, other) as caller:
        assert (await caller.end())[0] == w.Close.BAD_MESSAGE


@pytest.mark.parametrize("first", [[], [HELLO]], ids=["nothing", "half of it"])
async def test_whoever_says_nothing_is_cut(
    autojump_clock: MockClock, house: House, first: list[Any]
) -> None:
    before = trio.current_time()
    async with bystander(house), house.call(*first) as caller:
        code, _ = await caller.end()

        assert code == w.Close.HELLO_TIMEOUT
        assert trio.current_time() - before == pytest.approx(w.HELLO_SECONDS, abs=0.1)


async def test_extensions_do_not_put_off_the_hello(autojump_clock: MockClock, house: House) -> None:
    async with bystander(house), house.call() as caller:
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trickle, caller)
                code, _ = await caller.end()
                nursery.cancel_scope.cancel()

        assert code == w.Close.HELLO_TIMEOUT


async def trickle(caller: Caller) -> None:
    """Say something that is ignored, every now and then."""
    while True:
        await trio.sleep(0.5)  # virtual
        await caller.say_bytes(b"\x91\x91\xa3x-a")


# --- what may be said ----------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["client", "worker", "parent"])
async def test_a_node_says_what_a_node_of_its_kind_says(
    autojump_clock: MockClock, house: House, who: str
) -> None:
    for message in MAY[who]:
        async with house.call(HELLO, HELLOS[who]) as caller:
            await caller.say(message)
            await caller.say(w.Bye())
            await wait_all_tasks_blocked()
        assert message in house.clerk.messages


@pytest.mark.parametrize("who", HELLOS)
async def test_a_node_that_says_anything_else_is_cut(
    autojump_clock: MockClock, house: House, who: str
) -> None:
    foreign = [
        message
        for other, messages in MAY.items()
        for message in [*messages, HELLO, *HELLOS.values(), m.Beat(0.0)]
        if other != who and not (who == "beats" and isinstance(message, m.Beat))
    ]
    async with bystander(house):
        for message in foreign:
            house.clerk.mail.clear()
            async with house.call(HELLO, HELLOS[who]) as caller:
                await caller.say(message)
                code, reason = await caller.end()
            assert code == w.Close.BAD_MESSAGE, message
            assert reason
            assert house.clerk.messages.count(message) <= (message == HELLOS[who])
            for guest in house.guests:
                if guest.name != "bystander":
                    house.guests.leave(guest)


async def test_nothing_counts_after_what_a_node_may_not_say(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT, m.GetStats(1), m.Ready("main", 1), m.Join(2)) as caller:
        await caller.end()

        assert m.GetStats(1) in house.clerk.messages
        assert m.Join(2) not in house.clerk.messages


@pytest.mark.parametrize(
    "batch",
    [b"", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x91\x91\xa7no such", b"\x91" * 10_000, b"{}"],
    ids=range(6),
)
async def test_garbage_ends_that_connection_with_a_reason_and_no_other(
    autojump_clock: MockClock, house: House, batch: bytes
) -> None:
    async with bystander(house):
        for hellos in ([], [HELLO, CLIENT]):
            async with house.call(*hellos) as caller:
                await caller.say_bytes(batch)
                code, reason = await caller.end()
            assert code == w.Close.BAD_MESSAGE
            assert reason
        for told in house.told(EventKind.DISCONNECTED):
            assert told["code"] == w.Close.BAD_MESSAGE


async def test_a_submit_that_makes_no_sense_is_answered_and_the_connection_lives(
    autojump_clock: MockClock, house: House
) -> None:
    task = ["id", "task", "main", b"\xc1", None, b""]
    import msgspec

    async with house.call(HELLO, CLIENT) as caller:
        await caller.say_bytes(msgspec.msgpack.encode([["submit", 7, [task], False, None]]))
        reply = await caller.hear(m.Reply)
        await caller.say(m.GetStats(8))
        await wait_all_tasks_blocked()

        assert reply.request == 7
        assert reply.error is not None
        assert house.clerk.messages[-1] == m.GetStats(8)


async def test_the_tree_is_the_gateways_to_answer(autojump_clock: MockClock, house: House) -> None:
    async with house.call(HELLO, CLIENT, m.GetTree(7)) as caller:
        assert await caller.hear(m.Reply) == m.Reply(7, ActorTree("here", 0, ()))


async def test_what_the_queue_actor_says_reaches_the_node(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        house.clerk.say(m.ClientWelcome("here", 0), m.Reply(1, 7))

        assert [await caller.hear(), await caller.hear()] == [
            m.ClientWelcome("here", 0),
            m.Reply(1, 7),
        ]


# --- going ---------------------------------------------------------------------------------------


async def test_a_cut_is_told_as_one(autojump_clock: MockClock, house: House) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
    await wait_all_tasks_blocked()

    assert house.clerk.messages == [CLIENT, m.Away()]
    assert len(house.guests) == 1
    (told,) = house.told(EventKind.DISCONNECTED)
    assert told["code"] == 1000


async def test_a_goodbye_is_told_as_one(autojump_clock: MockClock, house: House) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        await caller.say(w.Bye())
        await wait_all_tasks_blocked()

    assert house.clerk.messages == [CLIENT, m.Gone()]
    assert len(house.guests) == 0


@pytest.mark.parametrize(
    ("who", "last"),
    [
        ("client", m.Withdraw(3, 2, ("id",), 1.0)),
        ("worker", m.Finish("id", 1, "ok", Output(b""), None)),
        ("parent", m.WorkerDied(1, "node")),
    ],
)
async def test_what_is_said_before_the_goodbye_counts(
    autojump_clock: MockClock, house: House, who: str, last: Any
) -> None:
    async with house.call(HELLO, HELLOS[who]) as caller:
        await caller.hear(w.Accepted)
        await caller.say(last, w.Bye())
        await wait_all_tasks_blocked()

    assert house.clerk.messages[1:] == [last, m.Gone()]


async def test_a_newer_connection_of_the_same_node_ends_the_older(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as old:
        await old.hear(w.Accepted)
        async with house.call(w.Hello((1, 1), 2), CLIENT) as new:
            await new.hear(w.Accepted)

            assert (await old.end())[0] == w.Close.SUPERSEDED
            await new.say(m.GetStats(1))
            await wait_all_tasks_blocked()
            assert house.clerk.messages == [CLIENT, CLIENT, m.GetStats(1)]


async def test_an_older_connection_that_comes_late_is_turned_away(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(w.Hello((1, 1), 2), CLIENT) as new:
        await new.hear(w.Accepted)
        async with house.call(HELLO, CLIENT, m.GetStats(1)) as old:
            assert (await old.end())[0] == w.Close.SUPERSEDED
        await new.say(m.GetStats(2))
        await wait_all_tasks_blocked()

        assert house.clerk.messages == [CLIENT, m.GetStats(2)]


async def test_nothing_more_is_read_from_a_connection_that_was_superseded(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as old:
        await old.hear(w.Accepted)
        (guest,) = house.guests
        old_wire = guest.wire
        assert old_wire is not None
        async with house.call(w.Hello((1, 1), 2), CLIENT) as new:
            await new.hear(w.Accepted)
            old_wire._receive([m.GetStats(1), w.Ping(), w.Bye()])

            assert m.GetStats(1) not in house.clerk.messages
            assert len(house.guests) == 1


async def test_when_the_queue_actor_starts_again_nodes_are_sent_to_come_back_at_once(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        house.clerk.crash()
        house.clerk.open()

        assert (await caller.end())[0] == w.Close.AGAIN
    async with house.call(w.Hello((1, 1), 2), CLIENT) as caller:
        await caller.hear(w.Accepted)
        await wait_all_tasks_blocked()
        assert house.clerk.messages[-1] == CLIENT


# --- silence -------------------------------------------------------------------------------------


async def test_a_node_that_is_silent_is_cut_after_nine_seconds(
    autojump_clock: MockClock, house: House
) -> None:
    async with bystander(house):
        before = trio.current_time()
        async with house.call(HELLO, CLIENT) as caller:
            assert await caller.end() == (w.Close.SILENT, "nothing came for 9 s")

        assert trio.current_time() - before == pytest.approx(w.SILENCE_AT_LISTENER, abs=1.1)
        await wait_all_tasks_blocked()
        assert house.clerk.messages.count(m.Away()) == 1


@pytest.mark.parametrize("who", HELLOS)
async def test_a_node_that_pings_is_answered_and_stays(
    autojump_clock: MockClock, house: House, who: str
) -> None:
    async with house.call(HELLO, HELLOS[who]) as caller:
        await caller.hear(w.Accepted)
        for _ in range(60):
            await trio.sleep(1)  # virtual
            await caller.say(w.Ping())
            assert await caller.hear() == w.Pong()


async def test_our_own_standstill_is_nobodys_silence(mock_clock: MockClock) -> None:
    house = House()
    async with house.open(), house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        for _ in range(5):
            mock_clock.jump(60)
            await wait_all_tasks_blocked()
            await caller.say(w.Ping())
            assert await caller.hear() == w.Pong()


async def test_the_ping_of_a_worker_says_that_it_lives(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, WORKER, w.Ping()) as caller:
        await caller.hear(w.Pong)

        assert house.clerk.beats == [0.0]


async def test_the_ping_of_a_client_is_for_the_gateway_alone(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT, w.Ping()) as caller:
        await caller.hear(w.Pong)

        assert house.clerk.mail == [(1, (CLIENT,))]


async def test_acknowledgements_are_taken_from_pings_and_by_themselves(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        house.clerk.say(*[m.Reply(number) for number in range(5)])
        (guest,) = house.guests
        await caller.say(w.Ping(2))
        await wait_all_tasks_blocked()
        assert guest.tables()["kept"] == 3
        await caller.say(w.Got(4))
        await wait_all_tasks_blocked()
        assert guest.tables()["kept"] == 1


# --- beats ---------------------------------------------------------------------------------------


async def test_a_beat_is_its_workers_and_is_answered(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, WORKER) as worker, house.call(HELLO, BEATS) as beats:
        await worker.hear(w.Accepted)
        await beats.hear(w.Accepted)
        await beats.say(m.Beat(4.5))

        assert await beats.hear() == w.Pong()
        assert house.clerk.beats == [4.5]
        assert {origin for origin, _ in house.clerk.mail} == {1}


async def test_the_beats_of_a_worker_that_is_not_there_are_nobodys(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, BEATS) as beats:
        await beats.say(m.Beat(0.0))
        await beats.hear(w.Pong)

        assert house.clerk.mail == []
        assert len(house.guests) == 0


async def test_a_worker_whose_loop_stands_still_is_not_silent_while_it_beats(
    autojump_clock: MockClock, house: House
) -> None:
    async with house.call(HELLO, WORKER) as worker, house.call(HELLO, BEATS) as beats:
        await worker.hear(w.Accepted)
        for second in range(0, 57, 3):
            await trio.sleep(3)  # virtual
            await beats.say(m.Beat(float(second + 3)))
            await beats.hear(w.Pong)
        await worker.say(w.Ping())

        assert await worker.hear(w.Pong) == w.Pong()


@pytest.mark.parametrize("lag", [0.5, 61.0])
async def test_a_worker_that_could_speak_and_does_not_is_cut_though_it_beats(
    autojump_clock: MockClock, house: House, lag: float
) -> None:
    """Its main connection is half open; or its loop has stood still for longer than max_block."""
    async with house.call(HELLO, WORKER) as worker, house.call(HELLO, BEATS) as beats:
        await worker.hear(w.Accepted)
        async with trio.open_nursery() as nursery:

            async def beat() -> None:
                while True:
                    await beats.say(m.Beat(lag))
                    await trio.sleep(3)  # virtual

            nursery.start_soon(beat)
            assert (await worker.end())[0] == w.Close.SILENT
            nursery.cancel_scope.cancel()


# --- the gateway itself --------------------------------------------------------------------------


async def test_it_says_where_it_listens(autojump_clock: MockClock, house: House) -> None:
    assert house.gateway.addresses == ["memory://gateway"]
    assert house.told(EventKind.LISTENING) == [{"url": "memory://gateway"}]


async def test_an_address_that_cannot_be_had_is_an_error(
    autojump_clock: MockClock, house: House
) -> None:
    other = House()

    with pytest.raises(ExceptionGroup) as caught:
        async with other.open():
            pytest.fail("somebody listens there already")

    assert caught.group_contains(OSError)


async def test_a_bug_of_ours_over_one_nodes_words_costs_only_that_connection(
    autojump_clock: MockClock, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bystander(house):

        def fail() -> ActorTree:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(house.gateway, "_tree", fail)
        async with house.call(HELLO, CLIENT, m.GetTree(1)) as caller:
            code, _ = await caller.end()

        assert code in (w.Close.BROKEN, 1006), "1006 if something was just being sent"
        await wait_all_tasks_blocked()
        told = house.told(EventKind.DISCONNECTED)[-1]
        assert told["code"] == w.Close.BROKEN
        assert "a bug" in told["reason"]


async def test_a_flood_of_small_messages_is_worked_off_and_others_go_on(
    autojump_clock: MockClock, house: House
) -> None:
    batch = join([encode(w.Ping())] * 4_000)
    async with bystander(house), house.call(HELLO, CLIENT) as caller:
        await caller.hear(w.Accepted)
        for _ in range(250):  # a million in all
            await caller.say_bytes(batch)
        await caller.hear(w.Pong)
        await wait_all_tasks_blocked()

        assert len(house.clerk.messages) == 2
