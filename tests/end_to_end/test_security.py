"""Hostile and broken peers: that connection ends with a reason, all others go on."""

from __future__ import annotations

import logging
import math
import os
import random
import struct
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actorq
from actorq.codec.envelope import WireError, decode_to_owner
from actorq.errors import ConnectionLost
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Output
from actorq.runtime import wire as wire_module
from actorq.system.remote import connect
from actorq.system.system import System, open_system
from actorq.system.tokens import Tokens
from actorq.system.worker import open_worker
from actorq.transports.memory import MemoryTransport
from actorq.transports.websocket import WebSocketTransport
from tests.actors.callers import BEATS, CLIENT, HELLO, PARENT, WORKER, calling
from tests.codec.wires import TO_OWNER, forms, things
from tests.nodes import Ears, add, nap, open_client, open_queue, until

QUEUE = MemoryTransport("queue")
pack = msgspec.msgpack.encode


class Place:
    """A queue node that somebody attacks, and an honest client of it."""

    def __init__(self, system: System, client: actorq.Client, ears: Ears) -> None:
        self.system = system
        self.client = client
        self.ears = ears

    async def check(self) -> None:
        """See whether the honest client is served as before, and nothing has broken."""
        assert await self.client.call(add, 1, 2) == 3
        assert await self.client.find(limit=1)
        for kind in (EventKind.ACTOR_RESTARTED, EventKind.ACTOR_DIED):
            assert not self.ears.of(kind), self.ears.of(kind)


@asynccontextmanager
async def place(**options: Any) -> AsyncGenerator[Place]:
    ears = Ears()
    async with (
        open_queue(concurrency=2, tasks=[add, nap], instruments=[ears], **options) as system,
        open_client() as client,
    ):
        made = Place(system, client, ears)
        await made.check()
        yield made
        await made.check()


# --- what a peer may put into a message ----------------------------------------------------------

OUT_OF_RANGE: list[Any] = [
    ["find", 1, {}, None, 0],
    ["find", 1, {}, None, -1],
    ["find", 1, {}, None, 10**9],
    ["find", 1, {"before": math.nan}, None, 10],
    ["cancel", 1, "id", {"by": "user"}, math.nan],
    ["cancel", 1, "id", {"by": "user"}, -1.0],
    ["end", 1, "me:1", math.inf],
    ["withdraw", 1, 2, [], 1e300],
    ["subscribe", 1, 2, {}, math.nan],
    ["hello", [1, 1], 2, "", "", -(10**9)],
    ["submit", 1, 3, False, None],
]


@pytest.mark.parametrize("form", OUT_OF_RANGE, ids=range(len(OUT_OF_RANGE)))
async def test_numbers_out_of_range_are_refused(autojump_clock: MockClock, form: Any) -> None:
    async with place(), calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        await caller.say_bytes(pack([form]))

        assert (await caller.end())[0] == w.Close.BAD_MESSAGE


@pytest.mark.parametrize(
    "form",
    [
        ["hello", [1, 1], 1, "", "", -(10**9)],
        ["hello", [1, 1], 1, "", "", 0],
        ["hello", [1, 1], 0],
        ["hello", [1, 1], -5],
    ],
    ids=range(4),
)
@pytest.mark.parametrize("who", [CLIENT, WORKER], ids=["client", "worker"])
async def test_a_hello_out_of_range_is_refused_and_leaves_nothing(
    autojump_clock: MockClock, form: Any, who: Any
) -> None:
    async with place() as here, calling(QUEUE) as caller:
        await caller.say_bytes(pack([form, *forms([who])]))

        assert (await caller.end())[0] == w.Close.BAD_MESSAGE
        assert len(here.system._house.guests) == 1


@pytest.mark.parametrize(
    "words",
    [
        [m.Started("id", 1, math.nan)],
        [m.Finish("id", 1, "later", Output(), 1e300, delay=math.nan)],
        [m.Finish("id", 1, "ok", Output(b"x"), -1.0)],
        [m.Ready("main", -5)],
    ],
    ids=range(4),
)
async def test_a_worker_cannot_say_numbers_that_are_none(
    autojump_clock: MockClock, words: list[Any]
) -> None:
    async with place() as here, calling(QUEUE, HELLO, WORKER) as caller:
        await caller.hear(w.Accepted)
        await caller.say(*words)

        assert (await caller.end())[0] == w.Close.BAD_MESSAGE
        for task in (await here.client.find(limit=1_000)).tasks:
            assert task.submitted_at is not None


async def test_a_worker_cannot_end_what_it_was_not_granted(autojump_clock: MockClock) -> None:
    async with place() as here, calling(QUEUE, HELLO, WORKER) as caller:
        handle = await here.client.submit(nap, 5)
        await trio.sleep(1)  # virtual
        for fence in range(5):
            await caller.say(m.Finish(handle.id, fence, "ok", Output(b"forged"), None))
        await wait_all_tasks_blocked()

        assert await handle.value() == 5


async def test_a_client_cannot_take_the_place_of_the_one_that_lives_here(
    autojump_clock: MockClock,
) -> None:
    """Names of sessions can be read off scopes; those of this process are not for the wire."""
    async with place() as here:
        name = here.system.session.name
        async with calling(QUEUE, HELLO, m.ClientHello(name, True)) as caller:
            await caller.say(m.EndScope(1, f"{name}:1", 1.0))
            await wait_all_tasks_blocked()
            assert await here.system.call(add, 3, 4) == 7
            async with here.system.open_nursery() as nursery:
                handle = await nursery.submit(nap, 1)
            assert await handle.value() == 1
        await trio.sleep(10)  # virtual
        assert await here.system.call(add, 3, 4) == 7


async def test_a_worker_cannot_take_the_place_of_the_one_that_lives_here(
    autojump_clock: MockClock,
) -> None:
    async with place() as here:
        (info,) = here.system._house.queue.machine.workers()  # type: ignore[union-attr]
        node = info.worker.rpartition(".")[0]
        running = await here.client.submit(nap, 5)
        hello = m.WorkerHello(f"{node}.forged", node, (), {"main": 10}, {"nap": "x", "add": "x"})
        async with calling(QUEUE, HELLO, hello, m.Ready("main", 10)) as caller:
            await caller.say(m.Finish(running.id, 1, "ok", Output(b"forged"), None))
            code, _ = await caller.end()
            assert code == w.Close.BAD_MESSAGE
        async with calling(QUEUE, HELLO, PARENT, m.WorkerDied(1, node)):
            await wait_all_tasks_blocked()
        assert await running.value() == 5


@st.composite
def conversations(draw: st.DrawFn) -> list[Any]:
    """Draw what a peer with a valid token might say, each message well-formed and mostly absurd."""
    said: list[Any] = []
    for _ in range(draw(st.integers(1, 8))):
        form = list(draw(st.sampled_from(forms(TO_OWNER))))
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(1, max(1, len(form) - 1)))
            if at < len(form):
                form[at] = draw(
                    things
                    | st.sampled_from([0, -1, 2**63, math.nan, "", "\0", "x" * 200, [], {}, None])
                )
        said.append(form)
    return said


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(conversations(), min_size=1, max_size=3), st.integers(0, 3))
def test_whatever_well_formed_nonsense_comes_the_queue_goes_on(
    said: list[list[Any]], which: int
) -> None:
    async def main() -> None:
        async with place():
            for conversation in said:
                hello = (CLIENT, WORKER, PARENT, BEATS)[which]
                async with calling(QUEUE, HELLO, hello) as caller:
                    with suppress(ConnectionLost):
                        for form in conversation:
                            await caller.say_bytes(pack([form]))
                        await wait_all_tasks_blocked()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_honest_messages_in_any_order_harm_nobody(chance: random.Random) -> None:
    """With ids, scopes and sessions of others in them."""

    def absurd(message: Any, ids: list[str]) -> Any:
        changes: dict[str, Any] = {}
        for field, value in msgspec.structs.asdict(message).items():
            if field == "id" or (field == "ids" and value):
                changes[field] = chance.choice(ids) if field == "id" else tuple(ids)
            elif field == "fence" or (
                field in ("request", "subscription", "submit") and isinstance(value, int)
            ):
                changes[field] = chance.randint(0, 3)
        return msgspec.structs.replace(message, **changes)

    async def main() -> None:
        async with place() as here:
            ids = [(await here.client.submit(nap, 0.5)).id for _ in range(3)] + ["nobody"]
            hello = chance.choice([CLIENT, WORKER])
            async with calling(QUEUE, HELLO, hello) as caller:
                kinds = [
                    message
                    for message in TO_OWNER
                    if not isinstance(message, w.Hello | m.ClientHello | m.WorkerHello | w.Bye)
                    and (type(message) in FOR_CLIENTS) == (hello is CLIENT)
                ]
                with suppress(ConnectionLost):
                    for _ in range(20):
                        message = absurd(chance.choice(kinds), ids)
                        with suppress(WireError):
                            decode_to_owner(pack(forms([message])))
                            await caller.say(message)
                    await wait_all_tasks_blocked()

    trio.run(main, clock=MockClock(autojump_threshold=0))


FOR_CLIENTS = {
    m.Submit, m.Withdraw, m.Forget, m.Watch, m.CancelTask, m.EndScope, m.Inspect, m.Find, m.Bulk,
    m.Subscribe, m.Unsubscribe, m.GetStats, m.GetTasks, m.GetTree, m.Join, w.Ping, w.Got,
}  # fmt: skip


# --- floods --------------------------------------------------------------------------------------


async def test_many_names_of_sessions_cost_nothing_once_they_are_gone(
    autojump_clock: MockClock,
) -> None:
    async with place() as here:
        for number in range(300):
            async with calling(QUEUE, HELLO, m.ClientHello(f"session {number}", True)) as caller:
                await caller.hear(w.Accepted)
        assert len(here.system._house.guests) == 301
        await trio.sleep(10)  # virtual

        assert len(here.system._house.guests) == 1


async def test_a_client_that_parks_more_than_its_share_is_refused(
    autojump_clock: MockClock,
) -> None:
    aside = TaskOptions(queue="aside")
    async with place(max_pending=1) as here, calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        for number in range(1_500):
            task = m.Submission(f"id {number}", "other", "main", aside, None, b"")
            await caller.say(m.Submit(number, (task,)))
        refused = [await caller.hear(m.Reply) for _ in range(499)]

        assert sum(isinstance(reply.error, actorq.QueueFull) for reply in refused) >= 498
        assert (await here.client.stats()).queues["aside"].parked <= 1_000
        await caller.say(w.Bye())


async def test_one_that_subscribes_and_never_reads_is_cut(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "BACKLOG_MAX", 100_000)
    async with place() as here, calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        await caller.say(m.Subscribe(1, 2, Filter()))
        for _ in range(100):
            handles = await here.client.submit_many(add.message(1, 2) for _ in range(50))
            for handle in handles:
                await handle.wait()
        await trio.sleep(3)  # virtual

        (told,) = here.ears.of(EventKind.DISCONNECTED)
        assert told.details["code"] == w.Close.TOO_SLOW


async def test_pings_by_one_that_never_reads_cost_no_memory(
    autojump_clock: MockClock,
) -> None:
    batch = pack([["ping", 0]] * 4_000)
    async with place(), calling(QUEUE, HELLO, CLIENT) as caller:
        tracemalloc.start()
        try:
            for _ in range(60):
                await caller.say_bytes(batch)
            await wait_all_tasks_blocked()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert grown < 5_000_000


# --- over a real socket --------------------------------------------------------------------------


@asynccontextmanager
async def port(**options: Any) -> AsyncGenerator[Place]:
    """Open the same at a port of this machine."""
    ears = Ears()
    limit = options.pop("limit", 2_000_000)
    listener = WebSocketTransport("ws://127.0.0.1:0", max_batch=limit, handshake_timeout=0.5)
    async with (
        open_system(
            listen=listener, concurrency=2, processes=0, tasks=[add, nap], instruments=[ears],
            **options,
        ) as system,
        connect(system.addresses[0], token="client-secret", instruments=()) as client,
    ):  # fmt: skip
        made = Place(system, client, ears)
        yield made
        await made.check()


class Raw:
    """A TCP connection to that port, which may speak HTTP, WebSocket or whatever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def upgrade(self, token: str | None = None) -> bytes:
        """Ask for a WebSocket; return the head of the answer."""
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        request = (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: actorq.v1\r\n{credentials}\r\n"
        )
        await self.stream.send_all(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (more := await self.stream.receive_some()):
                break
            answer += more
        return answer

    async def ended(self) -> bytes:
        """Wait until the peer has ended it, or has said that it does; return what it said."""
        said = b""
        with trio.fail_after(10), suppress(trio.BrokenResourceError):
            while close_code(said) is None and (more := await self.stream.receive_some()):
                said += more
        return said

    async def send(self, data: bytes) -> None:
        """Send as much as the peer takes."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)


@asynccontextmanager
async def raw(here: Place) -> AsyncGenerator[Raw]:
    number = int(here.system.addresses[0].rpartition(":")[2].strip("/"))
    async with await trio.open_tcp_stream("127.0.0.1", number) as stream:
        yield Raw(stream)


def frame(payload: bytes, opcode: int = 2, *, fin: bool = True, claim: int | None = None) -> bytes:
    """Return a frame as a client sends it; with ``claim`` it lies about its length."""
    length = len(payload) if claim is None else claim
    head = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 2**16:
        head += b"\xfe" + struct.pack(">H", length)
    else:
        head += b"\xff" + struct.pack(">Q", length)
    return head + bytes(4) + payload  # masked with nothing


def close_code(said: bytes) -> int | None:
    """Return the code of the close frame that a server has sent, if it has."""
    at = 0
    while at + 4 <= len(said):
        length, head = said[at + 1], 2
        if length == 126:
            length, head = struct.unpack(">H", said[at + 2 : at + 4])[0], 4
        if said[at] == 0x88:
            code: int = struct.unpack(">H", said[at + head : at + head + 2])[0]
            return code
        at += head + length
    return None


HELLOS = pack(forms([HELLO, CLIENT]))


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS client
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 50_000,
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        os.urandom(5_000),
    ],
    ids=["zeros", "tls", "no upgrade", "headers", "post", "ssh", "noise"],
)
async def test_what_is_no_handshake_is_cut(data: bytes) -> None:
    async with port() as here, raw(here) as attacker:
        await attacker.send(data)
        await attacker.ended()


@pytest.mark.parametrize(
    "start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=range(3)
)
async def test_half_a_handshake_is_waited_for_no_longer_than_a_whole_one(start: bytes) -> None:
    async with port() as here, trio.open_nursery() as nursery:

        async def dawdle() -> None:
            async with raw(here) as attacker:
                await attacker.send(start)
                await attacker.ended()

        for _ in range(50):
            nursery.start_soon(dawdle)
        await here.check()


@pytest.mark.parametrize("token", [None, "wrong-secret", "x" * 10_000])
async def test_nobody_without_a_token_gets_as_far_as_a_message(token: str | None) -> None:
    async with port(tokens={"client": "client-secret"}) as here, raw(here) as attacker:
        answer = await attacker.upgrade(token)
        await attacker.send(frame(HELLOS))
        await attacker.ended()

        assert answer.split()[1] in (b"401", b"400", b"431")
        assert len(here.system._house.guests) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xc1"), w.Close.BAD_MESSAGE),
        (frame(b"\x91" * 100_000), w.Close.BAD_MESSAGE),
        (frame(b"\xdd\xff\xff\xff\xff"), w.Close.BAD_MESSAGE),
        (frame(b"\x91\xc6\xff\xff\xff\xff"), w.Close.BAD_MESSAGE),
        (frame(b"hello", opcode=1), 1003),
        (frame(b"x" * 3_000_000), 1009),
        (frame(b"", claim=2**63), None),
        (b"\xff" * 100, None),
        (frame(b"x", opcode=3), None),
        (frame(b"x" * 200, opcode=9), None),
    ],
    ids=["no tag", "deep", "array", "bytes", "text", "large", "claim", "bits", "opcode", "ping"],
)
async def test_a_frame_that_is_no_batch_ends_that_connection(data: bytes, code: int | None) -> None:
    async with port() as here, raw(here) as attacker:
        assert b"101" in await attacker.upgrade()
        await attacker.send(frame(HELLOS) + data)
        said = await attacker.ended()

        if code is not None:
            assert close_code(said) == code


async def test_a_frame_that_never_ends_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "SILENCE_AT_LISTENER", 1.5)
    async with port() as here, raw(here) as attacker:
        await attacker.upgrade()
        await attacker.send(frame(HELLOS) + frame(b"x", claim=1_900_000))

        assert close_code(await attacker.ended()) == w.Close.SILENT


async def test_a_frame_that_claims_to_be_large_costs_only_what_has_come() -> None:
    async with port() as here:
        tracemalloc.start()
        try:
            async with trio.open_nursery() as nursery:

                async def claim() -> None:
                    async with raw(here) as attacker:
                        await attacker.upgrade()
                        await attacker.send(frame(b"x" * 1_000, claim=1_900_000))
                        await done.wait()

                done = trio.Event()
                for _ in range(50):
                    nursery.start_soon(claim)
                await until(lambda: len(here.system._house.engine.cells) > 0)
                await here.check()
                grown, _ = tracemalloc.get_traced_memory()
                done.set()
        finally:
            tracemalloc.stop()

        assert grown < 30_000_000


async def test_a_flood_of_tiny_frames_ends_in_a_ping_and_others_go_on_meanwhile() -> None:
    ping = frame(pack([["ping", 0]]))
    async with port() as here, raw(here) as attacker:
        await attacker.upgrade()
        await attacker.send(frame(HELLOS))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attacker.send, ping * 30_000)
            for _ in range(5):
                with trio.fail_after(5):
                    await here.check()
            nursery.cancel_scope.cancel()


async def test_a_message_in_very_many_fragments_is_one_message_or_none() -> None:
    first, rest = frame(b"", fin=False), frame(b"", opcode=0, fin=False)
    async with port() as here, raw(here) as attacker:
        await attacker.upgrade()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attacker.send, first + rest * 30_000)
            with trio.fail_after(10):
                await here.check()
            nursery.cancel_scope.cancel()


async def test_a_connection_without_a_hello_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "HELLO_SECONDS", 0.3)
    async with port() as here, raw(here) as attacker:
        await attacker.upgrade()

        assert close_code(await attacker.ended()) == w.Close.HELLO_TIMEOUT


@pytest.mark.bound(60)
async def test_random_frames_after_a_valid_upgrade_harm_nobody() -> None:
    """For a bounded time; the seed is in the failure."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    try:
        async with port() as here:
            end = trio.current_time() + 2.5

            async def attack() -> None:
                while trio.current_time() < end:
                    async with raw(here) as attacker:
                        await attacker.upgrade()
                        if chance.random() < 0.7:
                            await attacker.send(frame(HELLOS))
                        for _ in range(chance.randrange(8)):
                            await attacker.send(anything(chance))

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(attack)
                while trio.current_time() < end:
                    with trio.fail_after(5):
                        await here.check()
    except BaseException as error:
        error.add_note(f"the seed was {seed}")
        raise


def anything(chance: random.Random) -> bytes:
    """Return a frame, or what is none."""
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(200))
        case 1:
            opcode = chance.choice([0, 1, 2, 8, 9])
            return frame(chance.randbytes(chance.randrange(300)), opcode)
        case 2:
            data = bytearray(pack(forms(chance.sample(TO_OWNER, 3))))
            data[chance.randrange(len(data))] = chance.randrange(256)
            return frame(bytes(data))
        case 3:
            return frame(HELLOS, fin=chance.random() < 0.9)
        case _:
            return frame(pack(forms(chance.sample(TO_OWNER, 2))))


# --- tokens --------------------------------------------------------------------------------------


async def test_a_role_is_for_its_verbs_alone() -> None:
    tokens = {"client": "client-secret", "worker": "worker-secret", "admin": "admin-secret"}
    async with port(tokens=tokens) as here:
        url = here.system.addresses[0]
        with pytest.raises(actorq.AuthenticationFailed, match="not one for 'client'"):
            async with connect(url, token="worker-secret", instruments=()):
                pytest.fail("it must not begin")
        with pytest.raises(actorq.AuthenticationFailed, match="not one for 'worker'"):
            await work(url, "client-secret")
        async with connect(url, token="admin-secret", instruments=()) as admin:
            assert await admin.call(add, 1, 2) == 3


async def work(url: str, token: str) -> None:
    async with open_worker(url, tasks=[add], token=token, processes=0, instruments=()) as worker:
        await worker.wait_connected()


async def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("client:client-secret\n")
    tokens = Tokens(file=file)
    async with port(tokens=tokens) as here:
        url = here.system.addresses[0]
        opened = partial(connect, url, instruments=(), connect_timeout=5)
        file.write_text("client:client-secret\nclient:client-secret-2\n")
        tokens.reload()
        async with opened(token="client-secret-2") as client:
            assert await client.call(add, 1, 2) == 3
        file.write_text("client:client-secret-2\n")
        tokens.reload()
        with pytest.raises(actorq.AuthenticationFailed):
            async with opened(token="client-secret"):
                pytest.fail("it must not begin")
        file.write_text("")
        with pytest.raises(ValueError, match="there are none"):
            tokens.reload()
        with pytest.raises(actorq.AuthenticationFailed):
            async with opened():
                pytest.fail("it must not begin")
        async with opened(token="client-secret-2") as client:
            assert await client.call(add, 1, 2) == 3


async def test_no_token_is_ever_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["client-secret", "worker-secret", "wrong-secret"]
    tokens = Tokens({"client": "client-secret", "worker": "worker-secret"})
    told: list[str] = [repr(tokens)]
    async with port(tokens=tokens) as here:
        url = here.system.addresses[0]
        for token in ("wrong-secret", "worker-secret"):
            with pytest.raises(actorq.AuthenticationFailed) as caught:
                async with connect(url, token=token):
                    pytest.fail("it must not begin")
            told.append(f"{caught.value!r} {caught.value}")
        with pytest.raises(actorq.AuthenticationFailed) as caught:
            await work(url, "wrong-secret")
        told.append(f"{caught.value!r} {caught.value}")
        async with open_worker(url, tasks=[add], token="worker-secret", processes=0) as worker:
            await worker.wait_connected()
            told += [
                repr(worker),
                repr(here.client),
                str(await here.client.tree()),
                repr(here.system),
            ]
            told += [repr(await here.client.stats()), url]
        told += [repr(event) for event in here.ears.events]
        for other in ("wss://user:wrong-secret@127.0.0.1", "ws://127.0.0.1/?token=wrong-secret"):
            with pytest.raises(ValueError, match="URL") as refused:
                async with connect(other, instruments=()):
                    pytest.fail("it must not begin")
            told.append(f"{refused.value!r}")
    told += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]

    for secret in secrets:
        assert not [line for line in told if secret in line]


async def test_an_exposed_address_without_tokens_does_not_open() -> None:
    for url in ("wss://0.0.0.0:0", "ws://0.0.0.0:0"):
        with pytest.raises(ValueError, match="give tokens="):
            async with open_system(listen=url, processes=0, instruments=()):
                pytest.fail("it must not open")


async def test_two_callers_on_one_connection_are_one_caller(autojump_clock: MockClock) -> None:
    """A second hello is no way to become somebody else."""
    async with place() as here, calling(QUEUE, HELLO, CLIENT) as caller:
        await caller.hear(m.ClientWelcome)
        await caller.say(w.Hello((1, 1), 9), WORKER, m.Ready("main", 100))

        assert (await caller.end())[0] == w.Close.BAD_MESSAGE
        assert (await here.client.stats()).workers == 1
