import ssl
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from trio.testing import memory_stream_pair

from actorq.errors import ConnectFailed, IncompatiblePeer
from actorq.transports.tls import context_to_connect, context_to_listen, secured

Stream = trio.abc.Stream


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a CA, and a certificate for "here" with its key."""
    ca = trustme.CA()
    mine = ca.issue_cert("here")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


async def handshake(files: Path, host: str, context: ssl.SSLContext) -> trio.SSLStream[Stream]:
    """Dial a listener in memory as ``host``."""
    near, far = memory_stream_pair()
    mine = context_to_listen((files / "cert.pem", str(files / "key.pem")))
    served = trio.SSLStream(far, mine, server_side=True, https_compatible=True)

    async def serve() -> None:
        try:
            await served.do_handshake()
        except trio.BrokenResourceError:
            await served.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        return await secured(near, context, host)


async def test_paths_are_enough(files: Path) -> None:
    for path in (files / "ca.pem", str(files / "ca.pem")):
        stream = await handshake(files, "here", context_to_connect(path))
        assert stream.getpeercert()["subjectAltName"] == (("DNS", "here"),)


async def test_contexts_are_taken_as_they_are() -> None:
    connecting = ssl.create_default_context()
    listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    assert context_to_connect(connecting) is connecting
    assert context_to_listen(listening) is listening
    with pytest.raises(ValueError, match="was made for listening, not for connecting"):
        context_to_connect(listening)
    with pytest.raises(ValueError, match="was made for connecting, not for listening"):
        context_to_listen(connecting)


def test_by_default_everything_is_verified() -> None:
    context = context_to_connect(None)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_another_host_is_not_believed(files: Path) -> None:
    with pytest.raises(ExceptionGroup) as group:
        await handshake(files, "elsewhere", context_to_connect(files / "ca.pem"))
    [error] = group.value.exceptions

    assert isinstance(error, IncompatiblePeer)
    assert "certificate of elsewhere was not accepted: Hostname mismatch" in str(error)


async def test_a_certificate_of_an_unknown_ca_is_not_believed(files: Path) -> None:
    with pytest.raises(ExceptionGroup) as group:
        await handshake(files, "here", context_to_connect(None))
    [error] = group.value.exceptions

    assert isinstance(error, IncompatiblePeer)
    assert "tls= takes the file of the CA that signed it" in str(error)


async def dialed(answer: bytes) -> Exception:
    near, far = memory_stream_pair()
    await far.send_all(answer)
    await far.send_eof()
    with pytest.raises((ConnectFailed, IncompatiblePeer)) as error:
        await secured(near, context_to_connect(None), "here")
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"?")
    return error.value


async def test_whoever_does_not_speak_tls_is_told_as_that() -> None:
    error = await dialed(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert isinstance(error, IncompatiblePeer)
    assert "does it listen at wss://" in str(error)


async def test_whoever_goes_away_may_come_back() -> None:
    assert isinstance(await dialed(b""), ConnectFailed)


async def test_a_cancelled_handshake_closes_the_stream(autojump_clock: trio.abc.Clock) -> None:
    near, far = memory_stream_pair()
    with trio.move_on_after(1) as scope:
        await secured(near, context_to_connect(None), "here")

    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"?")


def test_what_listening_takes_is_told() -> None:
    for tls in (None, "cert.pem"):
        with pytest.raises(ValueError, match=r"takes tls=\(certfile, keyfile\)"):
            context_to_listen(tls)


def test_what_connecting_takes_is_told() -> None:
    with pytest.raises(ValueError, match="takes tls=cafile"):
        context_to_connect(("cert.pem", "key.pem"))


def test_files_that_cannot_be_read_are_named(files: Path) -> None:
    (files / "empty.pem").touch()
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(ValueError, match=f"{name}.* is no file of CAs"):
            context_to_connect(files / name)
        with pytest.raises(ValueError, match=f"{name}.* is no certificate with its key"):
            context_to_listen((files / name, files / "key.pem"))


def test_an_encrypted_key_does_not_ask_for_its_password(files: Path) -> None:
    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    (files / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    with pytest.raises(ValueError, match=r"the key is encrypted: give tls= an ssl\.SSLContext"):
        context_to_listen((files / "cert.pem", files / "key.pem"))
