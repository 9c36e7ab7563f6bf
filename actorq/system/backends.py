"""From a URL to the class that serves it; a driver is imported only when its URL is used."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from actorq.contracts.store import Store
from actorq.contracts.transport import Transport
from actorq.model.checks import whole
from actorq.runtime.wire import batch_max

TLS = ssl.SSLContext | str | Path | tuple[str | Path, str | Path] | None
"""A context, the path of a file of authorities (to dial), or those of certificate and key (to
listen)."""


def open_store(url: str | Store) -> Store:
    """Return the store that ``url`` names, or the store that it is.

    Raises:
        TypeError: Neither a URL nor a store.
        ValueError: An unknown scheme, or a URL that its store does not understand.
    """
    if not isinstance(url, str):
        if not hasattr(url, "immediate"):
            raise TypeError(f"store: must be a URL or a Store, not {url!r}")
        return url
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator:
        if rest:
            raise ValueError(f"store: memory:// takes nothing after it, not {url!r}")
        from actorq.stores.memory import MemoryStore

        return MemoryStore()
    if scheme == "sqlite" and separator:
        path = _sqlite_path(url, rest)
        from actorq.codec.records import Records
        from actorq.stores.sqlite import SqliteStore

        return SqliteStore(path, Records())
    raise ValueError(
        f"store: no store for {url!r}; there is memory:// and sqlite:///path/of/a/file.db"
    )


def _sqlite_path(url: str, rest: str) -> Path:
    if rest in ("", "/", "/:memory:", ":memory:"):
        raise ValueError(
            f"store: {url!r} names no file: write sqlite:///tasks.db for a file in this directory, "
            "sqlite:////var/lib/tasks.db for one anywhere, or memory:// for none"
        )
    if not rest.startswith("/"):
        raise ValueError(
            f"store: {url!r} names a host, and the file must be on this machine: write "
            f"sqlite:///{rest} for a file in this directory"
        )
    return Path(unquote(rest[1:]))


def open_dialled(
    addresses: str | Transport | Iterable[str | Transport],
    max_message: int,
    *,
    tls: TLS = None,
    insecure: bool = False,
) -> Sequence[Transport]:
    """Return the transports to dial; see `open_transports`.

    Raises:
        ValueError: There is none.
    """
    whole("max_message", max_message, least=1_024)
    transports = open_transports(addresses, max_message, tls=tls, insecure=insecure)
    if not transports:
        raise ValueError("url: give at least one address to connect to")
    return transports


def open_transports(
    addresses: str | Transport | Iterable[str | Transport],
    max_message: int,
    *,
    tls: TLS = None,
    insecure: bool = False,
    open_to_all: bool = False,
) -> Sequence[Transport]:
    """Return the transports that one or several addresses name, or are.

    ``open_to_all``: they are to listen, and nobody has to show a token.

    Raises:
        TypeError: One is neither a URL nor a transport.
        ValueError: An unknown scheme, or a URL that its transport does not understand.
    """
    one = isinstance(addresses, str) or hasattr(addresses, "listen")
    several = cast(Iterable[str | Transport], [addresses] if one else addresses)
    transports = [_transport(address, max_message, tls, insecure) for address in several]
    for transport in transports:
        if open_to_all and not insecure and not _is_local(transport.url):
            raise ValueError(
                f"listen: everybody could run tasks at {transport.url}: give tokens=, or say "
                "insecure=True if something else keeps others out"
            )
    return transports


def _is_local(url: str) -> bool:
    """Say whether only this machine can reach an address."""
    scheme, _, _ = url.partition("://")
    if scheme not in ("ws", "wss"):
        return True
    host = urlsplit(url).hostname or ""
    return host == "localhost" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _transport(address: str | Transport, max_message: int, tls: TLS, insecure: bool) -> Transport:
    if not isinstance(address, str):
        if not hasattr(address, "listen"):
            raise TypeError(f"an address must be a URL or a Transport, not {address!r}")
        return address
    scheme, separator, rest = address.partition("://")
    if scheme == "memory" and separator:
        from actorq.transports.memory import MemoryTransport

        return MemoryTransport(rest, max_batch=batch_max(max_message))
    if scheme in ("ws", "wss", "ws+unix") and separator:
        from actorq.transports.websocket import WebSocketTransport

        most = batch_max(max_message)
        return WebSocketTransport(address, tls=tls, insecure=insecure, max_batch=most)
    raise ValueError(
        f"an address begins with ws://, wss://, ws+unix:// or memory://, not {scheme!r}"
    )
