"""From what users give as ``tls=`` to contexts, and the client's half of a TLS handshake."""

from __future__ import annotations

import os
import ssl

import trio

from actorq.errors import ConnectFailed, IncompatiblePeer

StrPath = str | os.PathLike[str]
Tls = ssl.SSLContext | StrPath | tuple[StrPath, StrPath]
"""A context; to connect, a file of CAs; to listen, the files of a certificate and of its key."""


def context_to_listen(tls: Tls | None) -> ssl.SSLContext:
    """Return the context of a listener.

    Raises:
        ValueError: There is no certificate to show, or it cannot be read.
    """
    if isinstance(tls, ssl.SSLContext):
        return _checked(tls, ssl.PROTOCOL_TLS_CLIENT, "connecting", "listening")
    if not isinstance(tls, tuple):
        raise ValueError(  # noqa: TRY004 - the type is right, for one who connects
            "listening at wss:// takes tls=(certfile, keyfile) or an ssl.SSLContext"
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*tls, password=_no_password)
    except (OSError, ssl.SSLError) as error:  # which do not name the file
        raise ValueError(f"tls={tls!r} is no certificate with its key: {error}") from error
    return context


def context_to_connect(tls: Tls | None) -> ssl.SSLContext:
    """Return the context of one who connects; without ``tls`` it trusts whom the system trusts.

    Raises:
        ValueError: The CAs cannot be read.
    """
    if isinstance(tls, ssl.SSLContext):
        return _checked(tls, ssl.PROTOCOL_TLS_SERVER, "listening", "connecting")
    if isinstance(tls, tuple):
        raise ValueError(  # noqa: TRY004 - the type is right, for one who listens
            "connecting to wss:// takes tls=cafile or an ssl.SSLContext, not a pair"
        )
    try:
        return ssl.create_default_context(cafile=tls)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls={tls!r} is no file of CAs: {error}") from error


async def secured(
    stream: trio.abc.Stream, context: ssl.SSLContext, host: str
) -> trio.SSLStream[trio.abc.Stream]:
    """Return the stream with TLS around it, once the other end has proved to be ``host``.

    Raises:
        ConnectFailed: It went away meanwhile.
        IncompatiblePeer: It could not prove it, or does not speak TLS.
    """
    # Neither end waits for the other's farewell: a WebSocket has one of its own.
    secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(secure)
        if isinstance(error, trio.BrokenResourceError):
            raise _explained(error.__cause__, host) from None
        raise
    return secure


def _explained(error: BaseException | None, host: str) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return IncompatiblePeer(
            f"the certificate of {host} was not accepted: {error.verify_message}; "
            "tls= takes the file of the CA that signed it"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return IncompatiblePeer(
            f"{host} did not agree on TLS ({error.reason}): does it listen at wss://?"
        )
    return ConnectFailed(f"{host} ended the connection during the TLS handshake")


def _checked(
    context: ssl.SSLContext, wrong: ssl._SSLMethod, made_for: str, wanted_for: str
) -> ssl.SSLContext:
    if context.protocol == wrong:
        raise ValueError(f"this ssl.SSLContext was made for {made_for}, not for {wanted_for}")
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: give tls= an ssl.SSLContext that has loaded it")
