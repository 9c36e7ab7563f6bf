"""The sentences of `actorq.contracts.transport`: each a test that a transport passes or fails."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from actorq.contracts.transport import Connection
from actorq.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    IncompatiblePeer,
    TransportError,
)
from actorq.testing.meetings import (
    BATCH,
    TOO_MANY,
    Flood,
    Make,
    Meeting,
    error_of,
    idle,
    listening,
    lost,
    numbered,
    pair,
    refusal_of,
    rest_of,
    send_all,
    tasks_left,
    welcome,
)

_CLOSES_WITHIN = 2.0 + 0.5  # for a busy machine
_CANCELLED_AT_MOST = 10


class TransportContract:
    """Proves a transport. Subclass it in a test file, with a fixture that makes transports.

    ::

        class TestMyTransport(TransportContract):
            @pytest.fixture
            def make(self):
                def make(at=None, *, listens=False, max_batch=BATCH):
                    return MyTransport(at or "mine://localhost:0", max_batch=max_batch)

                return make

    pytest-trio runs it in its ``trio_mode``. To see in full what a failed assertion compared, call
    ``pytest.register_assert_rewrite("actorq.testing.transport_contract")`` in ``conftest.py``.
    """

    # --- batches ---------------------------------------------------------------------------------

    async def test_batches_arrive_whole_and_in_order(self, make: Make) -> None:
        """From an empty one to the largest, either way."""
        batches = [bytes([n]) * size for n, size in enumerate((0, 1, 125, 126, 65_535, BATCH))]
        async with pair(make) as (near, far):
            for sender, receiver in ((near, far), (far, near)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send_all, sender, batches)
                    assert [await receiver.receive() for _ in batches] == batches

    async def test_both_ends_may_send_at_once(self, make: Make) -> None:
        """As long as both also receive, more than fits on the way passes in both directions."""
        batches = [numbered(n) for n in range(200)]

        async def expect(connection: Connection) -> None:
            assert [await connection.receive() for _ in batches] == batches

        async with pair(make) as (near, far), trio.open_nursery() as nursery:
            for connection in (near, far):
                nursery.start_soon(send_all, connection, batches)
                nursery.start_soon(expect, connection)

    async def test_a_send_waits_while_the_peer_does_not_read(self, make: Make) -> None:
        """What is on the way is bounded, and nothing of it is dropped."""
        async with pair(make) as (near, far), trio.open_nursery() as nursery:
            flood = Flood()
            nursery.start_soon(flood.run, near)
            await wait_all_tasks_blocked()
            assert flood.sent < TOO_MANY, "it never waited"
            flood.limit = flood.sent + 20

            for number in range(flood.limit):
                assert await far.receive() == numbered(number)

    async def test_a_cancelled_receive_loses_nothing(self, make: Make) -> None:
        """Whenever it is cancelled: the next one returns what this one has not."""
        async with pair(make) as (near, far):
            for moment in range(_CANCELLED_AT_MOST):
                received: list[bytes] = []

                async def receive(received: list[bytes]) -> None:
                    received.append(await far.receive())

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive, received)
                    await wait_all_tasks_blocked()
                    await near.send(b"%d" % moment)
                    for _ in range(moment):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                if not received:
                    await receive(received)

                assert received == [b"%d" % moment]

    async def test_a_cancelled_send_ends_the_connection(self, make: Make) -> None:
        """At both ends; the peer gets whole batches, at most also the cancelled one."""
        async with pair(make) as (near, far), trio.open_nursery() as nursery:
            flood = Flood()
            nursery.start_soon(flood.run, near)
            await wait_all_tasks_blocked()
            flood.scope.cancel()
            batches, _ = await rest_of(far)

            assert batches == [numbered(n) for n in range(len(batches))]
            assert len(batches) <= flood.sent + 1
            await lost(near.send(b"more"))
            await lost(near.receive())

    async def test_a_batch_over_max_batch_is_not_sent(self, make: Make) -> None:
        """It raises ValueError, and the connection lives."""
        async with pair(make) as (near, far):
            for sender, receiver in ((near, far), (far, near)):
                assert isinstance(await error_of(sender.send(bytes(BATCH + 1))), ValueError)
                await sender.send(b"fits")
                assert await receiver.receive() == b"fits"

    async def test_a_batch_over_the_receivers_max_batch_ends_the_connection(
        self, make: Make
    ) -> None:
        """With 1009 at both ends, whichever sent it; one that is exactly as large does not."""
        async with pair(make, listens=1_000) as (near, far):
            await near.send(bytes(1_000))
            assert await far.receive() == bytes(1_000)
            await near.send(bytes(1_001))
            assert (await lost(far.receive())).code == 1009
            assert (await rest_of(near))[1].code == 1009
        async with pair(make, dials=1_000) as (near, far):
            await far.send(bytes(BATCH))
            assert (await lost(near.receive())).code == 1009
            assert (await rest_of(far))[1].code == 1009

    # --- the end ---------------------------------------------------------------------------------

    async def test_code_and_reason_arrive_at_the_other_end(self, make: Make) -> None:
        """And are what the end that closed says too."""
        for which in (0, 1):
            async with pair(make) as ends:
                closing, other = ends[which], ends[1 - which]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(closing.aclose, 4001, "enough of it")
                    batches, told = await rest_of(other)
                    await other.aclose()

                assert (batches, told.code, told.reason) == ([], 4001, "enough of it")
                for connection in ends:
                    errors = [await lost(connection.receive()), await lost(connection.send(b""))]
                    for error in errors:
                        assert (error.code, error.reason) == (4001, "enough of it")

    async def test_what_was_sent_before_the_end_arrives_first(self, make: Make) -> None:
        """All of it, then the reason."""
        batches = [numbered(n) for n in range(3)]
        for which in (0, 1):
            async with pair(make) as ends, trio.open_nursery() as nursery:
                await send_all(ends[which], batches)
                nursery.start_soon(ends[which].aclose, 4002, "done")
                received, told = await rest_of(ends[1 - which])

                assert (received, told.code) == (batches, 4002)

    async def test_a_waiting_receive_is_woken_by_the_end(self, make: Make) -> None:
        """Whichever end closes."""
        for which in (0, 1):
            async with pair(make) as ends:
                woken: list[int] = []

                async def wait(woken: list[int], connection: Connection) -> None:
                    woken.append((await lost(connection.receive())).code)

                async with trio.open_nursery() as nursery:
                    for connection in ends:
                        nursery.start_soon(wait, woken, connection)
                    await wait_all_tasks_blocked()
                    await ends[which].aclose(4003)

                assert woken == [4003, 4003]

    async def test_a_waiting_send_is_woken_by_the_end(self, make: Make) -> None:
        """Whichever end closes."""
        for which in (0, 1):
            async with pair(make) as ends, trio.open_nursery() as nursery:
                flood = Flood()
                nursery.start_soon(flood.run, ends[0])
                await wait_all_tasks_blocked()
                await ends[which].aclose(4004)
                await flood.ended.wait()

                assert flood.error is not None
                assert flood.sent < TOO_MANY

    async def test_closing_twice_is_closing_once(self, make: Make) -> None:
        """From either end: the first code stays."""
        async with pair(make) as (near, far), trio.open_nursery() as nursery:
            nursery.start_soon(near.aclose, 4005, "first")
            _, told = await rest_of(far)
            await near.aclose(4006, "second")
            await far.aclose(4007, "third")

            assert (told.code, told.reason) == (4005, "first")
            assert (await lost(near.receive())).code == 4005
            assert (await lost(far.receive())).code == 4005

    async def test_closing_is_bounded_whatever_the_peer_does(self, make: Make) -> None:
        """Here it does not read, and there is no room left to tell it anything."""
        async with pair(make) as (near, _), trio.open_nursery() as nursery:
            flood = Flood()
            nursery.start_soon(flood.run, near)
            await wait_all_tasks_blocked()
            started = trio.current_time()
            await near.aclose(4008, "nobody reads this")

            assert trio.current_time() - started <= _CLOSES_WITHIN
            await flood.ended.wait()
            await lost(near.receive())

    async def test_a_cancelled_close_ends_the_connection_at_once(self, make: Make) -> None:
        """The peer notices, though it may not be told why."""
        async with pair(make) as (near, far):
            started = trio.current_time()
            with trio.CancelScope() as scope:
                scope.cancel()
                await near.aclose(4009)
            assert scope.cancelled_caught
            assert trio.current_time() - started < _CLOSES_WITHIN / 2

            await lost(near.send(b"late"))
            await lost(near.receive())
            await rest_of(far)

    async def test_a_long_reason_is_cut(self, make: Make) -> None:
        """To 123 bytes, between two characters."""
        async with pair(make) as (near, far), trio.open_nursery() as nursery:
            nursery.start_soon(near.aclose, 4010, "é" * 100)
            _, told = await rest_of(far)

            assert told.reason == "é" * 61

    # --- dialing ---------------------------------------------------------------------------------

    async def test_leaving_the_block_closes_the_connection(self, make: Make) -> None:
        """At both ends, while the listener goes on."""
        met = Meeting()
        async with listening(make, met.serve) as address:
            async with make(address).connect("token") as near:
                pass

            await lost(near.send(b"late"))
            assert (await rest_of(await met.next()))[1].code == 1000

    async def test_an_error_leaves_the_block_as_it_is(self, make: Make) -> None:
        """In no group; the connection is closed."""
        met, error = Meeting(), KeyError("mine")
        async with listening(make, met.serve) as address:

            async def fail() -> None:
                async with make(address).connect("token"):
                    raise error

            assert await error_of(fail()) is error
            await rest_of(await met.next())

    async def test_cancelling_the_block_closes_the_connection(self, make: Make) -> None:
        """And the cancellation goes on."""
        met = Meeting()
        async with listening(make, met.serve) as address:
            with trio.CancelScope() as scope:
                async with make(address).connect("token"):
                    scope.cancel()
                    await trio.sleep_forever()

            assert scope.cancelled_caught
            await rest_of(await met.next())

    async def test_nobody_there_is_connect_failed(self, make: Make) -> None:
        """Whoever dials decides when to try again."""
        async with listening(make, idle) as address:
            pass

        assert type(await refusal_of(make(address))) is ConnectFailed

    async def test_authorize_decides_by_the_token(self, make: Make) -> None:
        """What it answers is the role at the end that listens; the end that dialed has none."""
        roles: dict[str | None, str] = {"token": "worker", "other": "client", None: "nobody"}
        for token, role in roles.items():
            async with pair(make, token=token, authorize=roles.__getitem__) as (near, far):
                assert (near.role, far.role) == ("", role)
                assert near.peer
                assert far.peer

    async def test_a_refusal_says_whether_to_try_again(self, make: Make) -> None:
        """And ``serve`` never sees whoever was refused."""
        served: list[Connection] = []
        statuses: dict[int, type[TransportError]] = {
            401: AuthenticationFailed,
            403: AuthenticationFailed,
            429: ConnectFailed,
            503: ConnectFailed,
            404: IncompatiblePeer,
            426: IncompatiblePeer,
        }

        async def serve(connection: Connection) -> None:
            served.append(connection)

        async with listening(make, serve, lambda token: int(token or "")) as address:
            for status, error in statuses.items():
                assert type(await refusal_of(make(address), str(status))) is error

        assert served == []

    async def test_an_authorize_that_raises_refuses(self, make: Make) -> None:
        """As what is no verdict on the token; the next one is asked for again."""
        answers = iter(["client"])
        roles: dict[str | None, str] = {}

        def authorize(token: str | None) -> str:
            return next(answers) if token == "good" else roles[token]

        async with listening(make, idle, authorize) as address:
            assert type(await refusal_of(make(address), "bad")) is ConnectFailed
            async with make(address).connect("good"):
                pass

    async def test_nothing_shows_the_token(self, make: Make) -> None:
        """Neither what is there for people, nor an error."""
        async with listening(make, idle, lambda _: 401) as address:
            transport = make(address)
            error = await refusal_of(transport, "hush-hush")

        shown = [transport.url, repr(transport), address, str(error), repr(error.__context__)]
        assert "hush" not in " ".join([*shown, repr(error.__cause__)])

    # --- listening -------------------------------------------------------------------------------

    async def test_connections_are_strangers(self, make: Make) -> None:
        """What is sent on one does not arrive on another, and one goes on without the other."""
        met = Meeting()
        async with listening(make, met.serve) as address, make(address).connect("token") as one:
            far_one = await met.next()
            async with make(address).connect("token") as two:
                far_two = await met.next()
                await one.send(b"1")
                await two.send(b"2")
                assert [await far_one.receive(), await far_two.receive()] == [b"1", b"2"]
            await one.send(b"3")
            assert await far_one.receive() == b"3"

    async def test_when_serve_returns_its_connection_is_closed(self, make: Make) -> None:
        """Normally, also if it returned by ConnectionLost."""

        async def serve(connection: Connection) -> None:
            if await connection.receive() == b"raise":
                raise ConnectionLost(4011, "of some other connection")

        async with listening(make, serve) as address:
            for how in (b"return", b"raise"):
                async with make(address).connect("token") as near:
                    await near.send(how)
                    assert (await rest_of(near))[1].code == 1000

    async def test_an_error_of_serve_ends_its_connection_only(self, make: Make) -> None:
        """With 1011, and without its text; the others go on, and new ones come."""

        async def serve(connection: Connection) -> None:
            while True:
                await connection.send(b"%d" % (100 // int(await connection.receive())))

        async with (
            listening(make, serve) as address,
            make(address).connect("token") as bystander,
        ):
            async with make(address).connect("token") as near:
                await near.send(b"0")
                told = (await rest_of(near))[1]
            assert told.code == 1011
            assert "division" not in told.reason
            async with make(address).connect("token") as near:
                for connection in (bystander, near):
                    await connection.send(b"5")
                    assert await connection.receive() == b"20"

    async def test_a_cancelled_listener_ends_its_connections(self, make: Make) -> None:
        """With 1001."""
        told: list[int] = []

        async def dial(address: str, *, task_status: trio.TaskStatus[None]) -> None:
            async with make(address).connect("token") as near:
                task_status.started()
                told.append((await rest_of(near))[1].code)

        async with trio.open_nursery() as nursery, listening(make, idle) as address:
            await nursery.start(dial, address)

        assert told == [1001]

    async def test_an_address_is_free_again_after_its_listener(self, make: Make) -> None:
        """Also when connections were made there."""
        async with listening(make, idle) as address, make(address).connect("token"):
            pass
        async with listening(make, idle, at=address) as again, make(again).connect("token"):
            assert again == address

    async def test_an_address_that_is_taken_is_an_oserror(self, make: Make) -> None:
        """And the first listener goes on."""
        async with listening(make, idle) as address:
            taken = make(address, listens=True)
            assert isinstance(await error_of(taken.listen(idle, welcome)), OSError)
            async with make(address).connect("token"):
                pass

    async def test_nothing_is_left_of_a_connection(self, make: Make) -> None:
        """No task, once both ends have let it go."""
        async with listening(make, idle) as address:
            async with make(address).connect("token"):
                pass
            before = await tasks_left()
            for _ in range(3):
                async with make(address).connect("token") as near:
                    await near.send(b"")
            await refusal_of(make(address), "wrong")

            assert await tasks_left(before) == before
