"""The URLs of WebSocket transports, and what may be said in the clear at which of them.

No error here repeats a URL: what is wrong with it may be that it holds a secret.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, quote, unquote, urlsplit

import attrs

_FORMS = "ws://HOST:PORT[/PATH], wss://HOST:PORT[/PATH] or ws+unix:///PATH/OF/SOCKET"
_PORTS = {"ws": 80, "wss": 443, "ws+unix": 0}


@attrs.frozen
class Address:
    """Where to dial or to listen.

    Attributes:
        scheme: ``ws``, ``wss`` or ``ws+unix``.
        host: A name or an IP address; of ``ws+unix`` the path of the socket.
        port: 0 is any, to listen at.
        path: What the handshake asks for.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            ValueError: It is none of ours, or has more in it than an address.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host.encode("idna")
        except ValueError:  # its text repeats the URL
            raise ValueError(f"this URL cannot be read: write {_FORMS}") from None
        _check(parts)
        if parts.scheme == "ws+unix":
            return cls(parts.scheme, unquote(parts.path), 0, "/")
        return cls(
            parts.scheme, host, _PORTS[parts.scheme] if port is None else port, parts.path or "/"
        )

    def at(self, port: int) -> Address:
        """Return the same address with another port."""
        return attrs.evolve(self, port=port)

    @property
    def url(self) -> str:
        """The address as a URL."""
        if self.scheme == "ws+unix":
            return f"{self.scheme}://{quote(self.host)}"
        path = "" if self.path == "/" else self.path
        return f"{self.scheme}://{self._host}:{self.port}{path}"

    @property
    def authority(self) -> str:
        """What a handshake calls the host."""
        if self.scheme == "ws+unix":
            return "localhost"
        return self._host if self.port == _PORTS[self.scheme] else f"{self._host}:{self.port}"

    @property
    def encrypted(self) -> bool:
        """Whether everything goes through TLS."""
        return self.scheme == "wss"

    @property
    def exposed(self) -> bool:
        """Whether others than this machine can read along."""
        if self.scheme != "ws":
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def _check(parts: SplitResult) -> None:
    if parts.scheme not in _PORTS:
        raise ValueError(f"this is no URL of a WebSocket transport: write {_FORMS}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL holds no user and no password: give the token as token=")
    if parts.query or parts.fragment:
        raise ValueError("a URL ends with its path: what came after it has no meaning here")
    if parts.scheme == "ws+unix" and (parts.netloc or len(parts.path) < 2):
        raise ValueError("a ws+unix URL has three slashes and a path: ws+unix:///run/actorq.sock")
    if parts.scheme != "ws+unix" and not parts.hostname:
        raise ValueError(f"this URL has no host: write {_FORMS} (0.0.0.0 is every interface)")
    if not parts.path.isascii() or not parts.path.isprintable() or " " in parts.path:
        raise ValueError("percent-encode what is not printable ASCII in the path of a URL")
