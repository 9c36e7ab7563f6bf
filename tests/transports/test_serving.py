import logging

import pytest
import trio

from actorq.contracts.transport import Connection
from actorq.errors import AuthenticationFailed, ConnectFailed, ConnectionLost, IncompatiblePeer
from actorq.transports.serving import attend, check_size, cut, judged, refusal


class Recorded:
    """A connection that notes how it is closed."""

    peer = "somebody"
    role = "client"

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    async def send(self, batch: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes:
        raise NotImplementedError

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.closed.append((code, reason))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationFailed),
        (403, AuthenticationFailed),
        (400, IncompatiblePeer),
        (404, IncompatiblePeer),
        (301, IncompatiblePeer),
        (429, ConnectFailed),
        (500, ConnectFailed),
        (502, ConnectFailed),
        (503, ConnectFailed),
        (599, ConnectFailed),
    ],
)
def test_a_refusal_is_a_verdict_or_to_be_tried_again(
    status: int, expected: type[Exception]
) -> None:
    error = refusal("ws://there", status)

    assert type(error) is expected
    assert "ws://there" in str(error)
    assert f"HTTP {status}" in str(error)


def test_a_refusal_is_told_in_words() -> None:
    assert "HTTP 503, Service Unavailable" in str(refusal("ws://there", 503))


def test_who_shows_no_token_is_told_that_one_is_asked_for() -> None:
    assert "set ACTORQ_TOKEN, or give token=" in str(refusal("ws://there", 401, shown=False))
    assert "refused the token" in str(refusal("ws://there", 401))
    assert "refused the token" in str(refusal("ws://there", 403, shown=False))


def test_authorize_is_asked_with_the_token() -> None:
    answers: dict[str | None, str | int] = {"a": "client", None: 401}

    assert judged(answers.__getitem__, "a") == "client"
    assert judged(answers.__getitem__, None) == 401


def test_an_error_of_authorize_is_a_refusal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(token: str | None) -> str:
        raise KeyError("a bug")

    assert judged(authorize, "hush-hush") == 500
    assert "KeyError: 'a bug'" in caplog.text
    assert "hush-hush" not in caplog.text


async def ended_by(error: BaseException | None) -> list[tuple[int, str]]:
    async def serve(connection: Connection) -> None:
        if error is not None:
            raise error

    connection = Recorded()
    await attend(serve, connection)
    return connection.closed


async def test_who_was_served_is_sent_off() -> None:
    assert await ended_by(None) == [(1000, "")]


async def test_a_lost_connection_is_no_error_of_serve(caplog: pytest.LogCaptureFixture) -> None:
    assert await ended_by(ConnectionLost()) == [(1000, "")]
    assert await ended_by(ExceptionGroup("", [ConnectionLost(), ConnectionLost()])) == [(1000, "")]
    assert caplog.records == []


async def test_an_error_of_serve_is_logged_and_closes_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for error in (KeyError("a bug"), ExceptionGroup("", [KeyError("a bug"), ConnectionLost()])):
        caplog.clear()
        [(code, reason)] = await ended_by(error)

        assert code == 1011
        assert "bug" not in reason
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert "somebody" in caplog.text
        assert "KeyError: 'a bug'" in caplog.text


async def test_a_cancelled_serve_is_sent_off_with_1001() -> None:
    async def serve(connection: Connection) -> None:
        await trio.sleep_forever()

    connection = Recorded()
    with trio.CancelScope() as scope:
        scope.cancel()
        await attend(serve, connection)

    assert scope.cancelled_caught
    assert [code for code, _ in connection.closed] == [1001]


async def test_an_error_while_cancelled_does_not_leave_the_listener(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def serve(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("a bug")

    connection = Recorded()
    with trio.CancelScope() as scope:
        scope.cancel()
        await attend(serve, connection)

    assert len(connection.closed) == 1
    assert "KeyError: 'a bug'" in caplog.text


async def test_ctrl_c_leaves_serve() -> None:
    with pytest.raises(KeyboardInterrupt):
        await ended_by(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", ""),
        ("short", "short"),
        ("x" * 200, "x" * 123),
        ("é" * 100, "é" * 61),
        ("lone \ud800", "lone ?"),
    ],
)
def test_a_reason_is_cut_between_characters(reason: str, expected: str) -> None:
    assert cut(reason) == expected


def test_a_batch_may_be_as_large_as_max_batch() -> None:
    check_size(bytes(10), 10)
    with pytest.raises(ValueError, match="a batch of 11 bytes is over max_batch, 10 bytes"):
        check_size(bytes(11), 10)
