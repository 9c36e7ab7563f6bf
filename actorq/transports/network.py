"""Streams of bytes between hosts: TCP and Unix sockets, or whatever a simulation puts in place."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio

_BACKLOG = 128

# A connection that stays silent is for its users to notice, who know how long a peer may be busy.
# These only free what a vanished host has left behind. A peer whose window is closed counts as
# vanished too, so TCP_USER_TIMEOUT must be longer than a worker may block (60 s).
_OPTIONS = (
    ("SO_KEEPALIVE", 1),
    ("TCP_NODELAY", 1),
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 90_000),  # ms
)


class Network(Protocol):
    """Where addresses lead."""

    async def open(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to whoever listens there; raise `OSError` if nobody does."""
        ...

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """Return what accepts those who connect there; raise `OSError` if it cannot be had."""
        ...


class Sockets:
    """Implements `Network`: TCP, and a Unix socket where the host is a path, as libpq has it."""

    async def open(self, host: str, port: int) -> trio.abc.Stream:
        """See `Network.open`."""
        if host.startswith("/"):
            return await _open_unix(host)
        stream = await trio.open_tcp_stream(host, port)
        _tune(stream.socket)
        return stream

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """See `Network.listen`. Port 0 is one port, also of a name with several addresses."""
        if host.startswith("/"):
            return [await _listen_unix(host)]
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
        for listener in listeners:
            _tune(listener.socket)  # what it accepts inherits it
        if port == 0:
            for listener in listeners[1:]:
                listener.socket.close()
            del listeners[1:]
        return listeners


SOCKETS = Sockets()


def port_of(listener: trio.abc.Listener[trio.abc.Stream], asked: int) -> int:
    """Return the real port of a listener, if it has one."""
    if isinstance(listener, trio.SocketListener):
        port: int = listener.socket.getsockname()[1]
        return port
    return asked


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the other end's address, for people."""
    if not isinstance(stream, trio.SocketStream):
        return type(stream).__name__
    try:
        name: str | tuple[str, int] = stream.socket.getpeername()
        if isinstance(name, str):
            return name or str(stream.socket.getsockname())
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    except OSError:  # it is gone already
        return "unknown"


def _tune(sock: trio.socket.SocketType) -> None:
    for name, value in _OPTIONS:
        if hasattr(socket, name):
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            with suppress(OSError):  # known here, but not to this system
                sock.setsockopt(level, getattr(socket, name), value)


async def _open_unix(path: str) -> trio.SocketStream:
    sock = _unix_socket()
    try:
        await sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _listen_unix(path: str) -> _UnixListener:
    sock = _unix_socket()
    try:
        try:
            await sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not await _is_left_over(path):
                raise
            _remove(path)
            await sock.bind(path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return _UnixListener(trio.SocketListener(sock), path)


def _unix_socket() -> trio.socket.SocketType:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets: use ws://127.0.0.1")
    return trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


async def _is_left_over(path: str) -> bool:
    """Say whether there is a socket that a listener which is gone has left behind."""
    if _inode(path) is None:
        return False
    try:
        stream = await _open_unix(path)
    except ConnectionRefusedError:
        return True
    await trio.aclose_forcefully(stream)
    return False


def _inode(path: str) -> int | None:
    """Return the inode if it is a socket, and not a file of somebody."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino if stat.S_ISSOCK(found.st_mode) else None


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


class _UnixListener(trio.abc.Listener[trio.abc.Stream]):
    """Removes its socket when it is closed, unless another listener has put its own there."""

    def __init__(self, inner: trio.SocketListener, path: str) -> None:
        self._inner = inner
        self._path = path
        self._inode = _inode(path)

    async def accept(self) -> trio.SocketStream:
        return await self._inner.accept()

    async def aclose(self) -> None:
        if self._inode is not None and _inode(self._path) == self._inode:
            _remove(self._path)
        await self._inner.aclose()
