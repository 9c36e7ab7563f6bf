from itertools import count
from pathlib import Path

import pytest
import trio
import trustme

from actorq.contracts.transport import Transport
from actorq.testing.meetings import BATCH, Make
from actorq.testing.transport_contract import TransportContract
from actorq.transports.websocket import WebSocketTransport


class TestOverTcp(TransportContract):
    @pytest.fixture
    def make(self) -> Make:
        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            return WebSocketTransport(at or "ws://127.0.0.1:0", max_batch=max_batch)

        return make


class TestOverTls(TransportContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        ca = trustme.CA()
        key = ca.issue_cert("localhost")
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        key.private_key_pem.write_to_path(tmp_path / "key.pem")
        key.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")

        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            if at is None or listens:
                return WebSocketTransport(
                    at or "wss://localhost:0",
                    tls=(tmp_path / "cert.pem", tmp_path / "key.pem"),
                    max_batch=max_batch,
                )
            return WebSocketTransport(at, tls=tmp_path / "ca.pem", max_batch=max_batch)

        return make


class TestOverUnixSockets(TransportContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        names = count()

        def make(
            at: str | None = None, *, listens: bool = False, max_batch: int = BATCH
        ) -> Transport:
            return WebSocketTransport(
                at or f"ws+unix://{tmp_path}/{next(names)}", max_batch=max_batch
            )

        return make
