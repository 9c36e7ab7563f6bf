from itertools import count

import pytest
import trio

from actorq.contracts.transport import Transport
from actorq.errors import ConnectFailed
from actorq.testing.meetings import BATCH, Make, idle
from actorq.testing.transport_contract import TransportContract
from actorq.transports.memory import MemoryTransport


class TestMemoryTransport(TransportContract):
    @pytest.fixture
    def make(self) -> Make:
        names = count()

        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            name = at.removeprefix("memory://") if at else f"contract-{next(names)}"
            return MemoryTransport(name, max_batch=max_batch)

        return make


async def test_its_address_is_its_name() -> None:
    transport = MemoryTransport("here")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(transport.listen, idle, lambda token: "client")
        nursery.cancel_scope.cancel()

    assert address == transport.url == "memory://here"


def test_another_run_of_trio_is_another_world() -> None:
    transport = MemoryTransport("elsewhere")

    async def inner() -> None:
        with pytest.raises(ConnectFailed, match="nobody listens at memory://elsewhere"):
            async with transport.connect(None):
                pass

    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(transport.listen, idle, lambda token: "client")
            await trio.to_thread.run_sync(trio.run, inner)
            nursery.cancel_scope.cancel()

    trio.run(outer)
