"""Who may connect as what: tokens by role, compared in constant time and never shown."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

Role = Literal["client", "worker", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

TOKEN_LEAST = 8
"""Characters; shorter ones can be guessed."""


class Tokens:
    """The tokens that a node accepts, by role; several of one role while one is replaced.

    A ``client`` may use every verb of a `Client`; a ``worker`` may be granted tasks; an ``admin``
    may do both. Only digests are kept, and nothing of them is printed.
    """

    def __init__(
        self, tokens: Mapping[str, str | Iterable[str]] | None = None, *, file: str | Path = ""
    ) -> None:
        """Take tokens by role, or from a file with lines ``role:token``.

        Empty lines of the file, and those that begin with ``#``, are left out.

        Raises:
            ValueError: An unknown role, or a token that is too short; neither is shown.
            OSError: The file cannot be read.
        """
        self._file = Path(file) if file else None
        self._digests: dict[bytes, Role] = {}
        if tokens is not None:
            self.replace(tokens)
        if self._file is not None:
            self.reload()

    def replace(self, tokens: Mapping[str, str | Iterable[str]]) -> None:
        """Accept these from now on, and no others; open connections go on.

        Raises:
            ValueError: See `Tokens`; the ones before stay.
        """
        digests: dict[bytes, Role] = {}
        for name, given in tokens.items():
            role = _role(name)
            for token in (given,) if isinstance(given, str) else given:
                if len(token) < TOKEN_LEAST or not _can_travel(token):
                    raise ValueError(
                        f"tokens: one for {role!r} is not {TOKEN_LEAST} or more printable ASCII "
                        "characters without spaces; make one with secrets.token_urlsafe()"
                    )
                if digests.setdefault(_digest(token), role) != role:
                    raise ValueError(
                        f"tokens: one is for two roles, {role!r} and another; for both there is "
                        "'admin'"
                    )
        if not digests:
            raise ValueError("tokens: there are none; to accept everybody, give no tokens at all")
        self._digests = digests

    def reload(self) -> None:
        """Read the file again; without one, nothing happens.

        Raises:
            ValueError: See `Tokens`; the ones before stay.
            OSError: The file cannot be read; likewise.
        """
        if self._file is None:
            return
        tokens: dict[str, list[str]] = {}
        for number, line in enumerate(self._file.read_text("utf-8").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            role, colon, token = text.partition(":")
            if not colon:
                raise ValueError(f"{self._file}, line {number}: write role:token")
            tokens.setdefault(role.strip(), []).append(token.strip())
        self.replace(tokens)

    def role(self, token: str | None) -> Role | int:
        """Return the role of a token, or 401. Implements `actorq.contracts.transport.Authorize`."""
        if not self:
            return "admin"
        given = _digest(token or "")
        found: Role | int = 401
        for digest, role in self._digests.items():  # all of them, however early one fits
            if hmac.compare_digest(digest, given):
                found = role
        return found

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<Tokens, {len(self._digests)} of them>"


TokensLike = Tokens | Mapping[str, str | Iterable[str]] | str | Path | None


def read_tokens(tokens: TokensLike) -> Tokens:
    """Return what ``tokens=`` of `actorq.open_system` stands for.

    Raises:
        TypeError: It is nothing of the kind.
        ValueError: See `Tokens`.
    """
    if isinstance(tokens, Tokens):
        return tokens
    if tokens is None:
        return Tokens()
    if isinstance(tokens, str | Path):
        return Tokens(file=tokens)
    if isinstance(tokens, Mapping):
        return Tokens(tokens)
    raise TypeError("tokens must be Tokens, a mapping of roles to tokens, or the path of a file")


def own_token(token: str | None) -> str | None:
    """Return the token to show: the one that was given, or that of the environment."""
    return token or os.environ.get("ACTORQ_TOKEN") or None


def _role(name: str) -> Role:
    for role in ROLES:
        if name == role:
            return role
    raise ValueError(f"tokens: roles are {', '.join(ROLES)}; one that was given is none of them")


def _can_travel(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
