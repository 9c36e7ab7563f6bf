"""Each transport here breaks one sentence of the contract; the test of that sentence says so."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from inspect import iscoroutinefunction
from itertools import count
from typing import Any

import pytest
import trio

from actorq.contracts.transport import Authorize, Connection, Serve, Transport
from actorq.errors import ConnectFailed, ConnectionLost, TransportError
from actorq.testing.meetings import BATCH
from actorq.testing.transport_contract import TransportContract
from actorq.transports.memory import MemoryConnection, MemoryTransport, _End

SENTENCES = [name for name in dir(TransportContract) if name.startswith("test_")]


class End:
    """One end of a connection over memory."""

    def __init__(self, inner: Any) -> None:
        assert isinstance(inner, MemoryConnection)
        self.inner = inner
        self.peer: str = inner.peer
        self.role: str = inner.role

    async def send(self, batch: bytes) -> None:
        await self.inner.send(batch)

    async def receive(self) -> bytes:
        return await self.inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.inner.aclose(code, reason)


class Sound:
    """A transport that keeps the contract; the others override what they break."""

    end: type[End] = End

    def __init__(self, url: str, max_batch: int) -> None:
        self.url: str = url
        self.inner = MemoryTransport(url.removeprefix("memory://"), max_batch=max_batch)

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        async with self.inner.connect(token) as connection:
            yield self.end(connection)

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async def served(connection: Connection) -> None:
            await self.serving(serve, self.end(connection))

        await self.inner.listen(served, authorize, task_status=task_status)

    async def serving(self, serve: Serve, connection: Connection) -> None:
        await serve(connection)


async def fails(transport: type[Sound], sentence: str) -> bool:
    """Run one test of the suite; say whether it fails."""
    names = count()

    def make(at: str | None = None, *, listens: bool = False, max_batch: int = BATCH) -> Transport:
        return transport(at or f"memory://broken-{next(names)}", max_batch)

    try:
        await getattr(TransportContract(), sentence)(make)
    except Exception:  # noqa: BLE001 - however it fails
        return True
    return False


def test_every_sentence_is_a_test() -> None:
    assert len(SENTENCES) > 25
    assert all(iscoroutinefunction(getattr(TransportContract, sentence)) for sentence in SENTENCES)


async def test_the_suite_finds_nothing_in_a_transport_that_keeps_the_contract(
    autojump_clock: trio.abc.Clock,
) -> None:
    assert [sentence for sentence in SENTENCES if await fails(Sound, sentence)] == []


# --- broken ends ---------------------------------------------------------------------------------


class SendsNothingForNothing(End):
    async def send(self, batch: bytes) -> None:
        if batch:
            await super().send(batch)


class SendsHalves(End):
    async def send(self, batch: bytes) -> None:
        await super().send(batch[: len(batch) // 2])
        await super().send(batch[len(batch) // 2 :])


class OvertakesItself(End):
    held: bytes | None = None

    async def send(self, batch: bytes) -> None:
        held, self.held = self.held, batch
        if held is not None:
            self.held = None
            await super().send(batch)
            await super().send(held)


class SendsOrReceives(End):
    receiving = False

    async def send(self, batch: bytes) -> None:
        if self.receiving:
            raise trio.BusyResourceError
        await super().send(batch)

    async def receive(self) -> bytes:
        self.receiving = True
        try:
            return await super().receive()
        finally:
            self.receiving = False


class DropsWhatDoesNotFit(End):
    async def send(self, batch: bytes) -> None:
        await trio.lowlevel.checkpoint()
        with suppress(trio.WouldBlock):
            self.inner._outbox.send_nowait(batch)


class DropsWhenCancelled(End):
    async def receive(self) -> bytes:
        batch = await super().receive()
        await trio.lowlevel.checkpoint()
        return batch


class SurvivesACancelledSend(End):
    async def send(self, batch: bytes) -> None:
        try:
            await self.inner._outbox.send(batch)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            await super().send(batch)


class SendsAnything(End):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.inner._max_batch = 2**30


class LosesTheReason(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await super().aclose(code)


class LosesTheCode(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await super().aclose(1000, reason)


class ForgetsTheRestAtTheEnd(End):
    async def receive(self) -> bytes:
        batch = await super().receive()
        if self.inner._end.over:
            raise self.inner._end.error()
        return batch


class EndsWithAnErrorOfTrio(End):
    async def receive(self) -> bytes:
        try:
            return await super().receive()
        except ConnectionLost:
            raise trio.EndOfChannel from None


class WakesNobody(End):
    async def receive(self) -> bytes:
        try:
            return await super().receive()
        except ConnectionLost:
            if self.inner._end.code == 4003:
                await trio.sleep_forever()
            raise


class WakesNoSender(End):
    async def send(self, batch: bytes) -> None:
        waits = len(batch) == BATCH
        try:
            await super().send(batch)
        except ConnectionLost:
            if waits:
                await trio.sleep_forever()
            raise


class ClosesTwice(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.inner._end.over = False
        await super().aclose(code, reason)


class ClosesInItsOwnTime(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if code == 4008:
            await trio.sleep(5)  # virtual
        await super().aclose(code, reason)


class ClosesOnlyIfItMay(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        await super().aclose(code, reason)


class CutsNoReason(End):
    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.inner._end.reason = reason
        self.inner._end.over, self.inner._end.code = True, code
        await super().aclose()


class HasARoleAtBothEnds(End):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.role = self.role or "client"


class KnowsNoPeer(End):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.peer = ""


# --- broken transports ---------------------------------------------------------------------------


class LeavesItOpen(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        await trio.lowlevel.checkpoint()
        yield self.end(self.inner._dial(token))


class GroupsErrors(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        async with super().connect(token) as connection, trio.open_nursery():
            yield connection


class SwallowsCancellation(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        with suppress(trio.Cancelled):
            async with super().connect(token) as connection:
                yield connection


class AlwaysSaysTryAgain(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        try:
            async with super().connect(token) as connection:
                yield connection
        except TransportError as error:
            raise ConnectFailed(str(error)) from None


class NeverSaysWhyNot(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        try:
            async with super().connect(token) as connection:
                yield connection
        except ConnectFailed:
            raise ConnectionRefusedError from None


class TellsTheToken(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        self.url += f"?token={token}"
        async with super().connect(token) as connection:
            yield connection


class LeavesATask(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        async with super().connect(token) as connection:
            yield connection


class ServesFirstAndAsksThen(Sound):
    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        try:
            async with super().connect(token) as connection:
                yield connection
        except TransportError:
            there, back = trio.open_memory_channel[bytes](1)
            await self.serve(self.end(MemoryConnection("", "", there, back, _End(), 1)))
            raise

    served: list[Serve] = []  # noqa: RUF012 - of the last listener

    async def serve(self, connection: Connection) -> None:
        await self.served[-1](connection)

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self.served.append(serve)
        await super().listen(serve, authorize, task_status=task_status)


class AsksNobody(Sound):
    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await super().listen(serve, lambda token: "client", task_status=task_status)


class NeverRecovers(Sound):
    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        raised = False

        def ask(token: str | None) -> str | int:
            nonlocal raised
            try:
                return 503 if raised else authorize(token)
            except Exception:
                raised = True
                raise

        await super().listen(serve, ask, task_status=task_status)


class AnybodyMayListenThere(Sound):
    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with suppress(OSError):
            await super().listen(serve, authorize, task_status=task_status)


class KeepsItsAddress(Sound):
    taken: set[str] = set()  # noqa: RUF012 - by all of them

    async def listen(
        self,
        serve: Serve,
        authorize: Authorize,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        if self.url in self.taken:
            raise OSError(f"{self.url} is taken")
        self.taken.add(self.url)
        await super().listen(serve, authorize, task_status=task_status)


class StaysWhenServeReturns(Sound):
    async def serving(self, serve: Serve, connection: Connection) -> None:
        await super().serving(serve, connection)
        await trio.sleep_forever()


class MindsALostConnection(Sound):
    async def serving(self, serve: Serve, connection: Connection) -> None:
        try:
            await super().serving(serve, connection)
        except ConnectionLost as error:
            raise RuntimeError from error


class HidesAnErrorOfServe(Sound):
    async def serving(self, serve: Serve, connection: Connection) -> None:
        with suppress(ZeroDivisionError):
            await super().serving(serve, connection)


class DiesOfAnErrorOfServe(Sound):
    async def serving(self, serve: Serve, connection: Connection) -> None:
        try:
            await super().serving(serve, connection)
        except ZeroDivisionError:
            trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()  # type: ignore[union-attr]
            raise


class EndsAsIfAllWereWell(Sound):
    async def serving(self, serve: Serve, connection: Connection) -> None:
        try:
            await super().serving(serve, connection)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await connection.aclose(1000)
            raise


class SendsToTheNewest(Sound):
    newest: list[Connection] = []  # noqa: RUF012 - of all of them

    @asynccontextmanager
    async def connect(self, token: str | None) -> AsyncGenerator[Connection]:
        async with self.inner.connect(token) as connection:
            self.newest.append(self.end(connection))
            inner: Any = connection
            everybody = self.newest

            class Confused(End):
                async def send(self, batch: bytes) -> None:
                    await everybody[-1].send(batch) if len(batch) == 1 else await super().send(
                        batch
                    )

            yield Confused(inner)


def with_end(end: type[End]) -> type[Sound]:
    return type(end.__name__, (Sound,), {"end": end})


BROKEN: list[tuple[type[Sound] | type[End], str]] = [
    (SendsNothingForNothing, "batches_arrive_whole_and_in_order"),
    (SendsHalves, "batches_arrive_whole_and_in_order"),
    (OvertakesItself, "batches_arrive_whole_and_in_order"),
    (SendsOrReceives, "both_ends_may_send_at_once"),
    (DropsWhatDoesNotFit, "a_send_waits_while_the_peer_does_not_read"),
    (DropsWhenCancelled, "a_cancelled_receive_loses_nothing"),
    (SurvivesACancelledSend, "a_cancelled_send_ends_the_connection"),
    (SendsAnything, "a_batch_over_max_batch_is_not_sent"),
    (SendsAnything, "a_batch_over_the_receivers_max_batch_ends_the_connection"),
    (LosesTheReason, "code_and_reason_arrive_at_the_other_end"),
    (LosesTheCode, "code_and_reason_arrive_at_the_other_end"),
    (ForgetsTheRestAtTheEnd, "what_was_sent_before_the_end_arrives_first"),
    (EndsWithAnErrorOfTrio, "a_waiting_receive_is_woken_by_the_end"),
    (WakesNobody, "a_waiting_receive_is_woken_by_the_end"),
    (WakesNoSender, "a_waiting_send_is_woken_by_the_end"),
    (ClosesTwice, "closing_twice_is_closing_once"),
    (ClosesInItsOwnTime, "closing_is_bounded_whatever_the_peer_does"),
    (ClosesOnlyIfItMay, "a_cancelled_close_ends_the_connection_at_once"),
    (CutsNoReason, "a_long_reason_is_cut"),
    (HasARoleAtBothEnds, "authorize_decides_by_the_token"),
    (KnowsNoPeer, "authorize_decides_by_the_token"),
    (LeavesItOpen, "leaving_the_block_closes_the_connection"),
    (LeavesItOpen, "cancelling_the_block_closes_the_connection"),
    (GroupsErrors, "an_error_leaves_the_block_as_it_is"),
    (SwallowsCancellation, "cancelling_the_block_closes_the_connection"),
    (AlwaysSaysTryAgain, "a_refusal_says_whether_to_try_again"),
    (NeverSaysWhyNot, "nobody_there_is_connect_failed"),
    (TellsTheToken, "nothing_shows_the_token"),
    (LeavesATask, "nothing_is_left_of_a_connection"),
    (ServesFirstAndAsksThen, "a_refusal_says_whether_to_try_again"),
    (AsksNobody, "authorize_decides_by_the_token"),
    (NeverRecovers, "an_authorize_that_raises_refuses"),
    (AnybodyMayListenThere, "an_address_that_is_taken_is_an_oserror"),
    (KeepsItsAddress, "an_address_is_free_again_after_its_listener"),
    (StaysWhenServeReturns, "when_serve_returns_its_connection_is_closed"),
    (MindsALostConnection, "when_serve_returns_its_connection_is_closed"),
    (HidesAnErrorOfServe, "an_error_of_serve_ends_its_connection_only"),
    (DiesOfAnErrorOfServe, "an_error_of_serve_ends_its_connection_only"),
    (EndsAsIfAllWereWell, "a_cancelled_listener_ends_its_connections"),
    (SendsToTheNewest, "connections_are_strangers"),
]


@pytest.mark.parametrize(("broken", "sentence"), BROKEN)
async def test_a_transport_that_breaks_a_sentence_fails_its_test(
    autojump_clock: trio.abc.Clock, broken: type[Sound] | type[End], sentence: str
) -> None:
    transport = with_end(broken) if issubclass(broken, End) else broken

    assert await fails(transport, f"test_{sentence}")


def test_every_sentence_is_broken_by_one() -> None:
    assert {f"test_{sentence}" for _, sentence in BROKEN} == set(SENTENCES)
