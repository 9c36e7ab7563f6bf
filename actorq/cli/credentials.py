"""What to show, and whom to trust: the token and the certificates.

The token comes from a file or the environment, never from the command line, which every other user
of the machine can read.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from actorq.cli.exits import Exit, Failure
from actorq.system.tokens import ROLES, Role


def read_token(file: Path | None, role: Role) -> str | None:
    """Return the token of somebody who connects as ``role``, or None if none is given.

    A file holds nothing but the token, or lines ``role:token`` as `serve` reads them: then it is
    the first one for the role, or else the first for ``admin``. Without a file it is that of the
    environment variable ``ACTORQ_TOKEN``.

    Raises:
        Failure: The file cannot be read, or has no token for the role.
    """
    if file is None:
        found = os.environ.get("ACTORQ_TOKEN")
        return _checked(found, "ACTORQ_TOKEN") if found else None
    return _checked(_token_in(file, role), f"--token-file {file}")


def _checked(token: str, where: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Failure(f"{where}: a token is printable ASCII without spaces", Exit.USAGE)
    return token


def _token_in(file: Path, role: Role) -> str:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Failure(f"--token-file {file}: {why}", Exit.USAGE) from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    pairs = [[part.strip() for part in line.partition(":")[::2]] for line in lines]
    if len(lines) == 1 and pairs[0][0] not in ROLES:
        return lines[0]
    by_role: dict[str, str] = dict(reversed(pairs))  # the first of each
    if not lines or not by_role.keys() <= set(ROLES):
        raise Failure(
            f"--token-file {file}: it must hold one token, or lines role:token with the roles "
            f"{', '.join(ROLES)}",
            Exit.USAGE,
        )
    found = by_role.get(role) or by_role.get("admin")
    if not found:
        raise Failure(f"--token-file {file}: no token for the role {role} or admin", Exit.USAGE)
    return found


def authority(ca: Path | None) -> ssl.SSLContext | None:
    """Return what trusts the authority whose certificate this is.

    Raises:
        Failure: It cannot be read.
    """
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"--ca {ca}: {_why(error)}", Exit.USAGE) from error


def certificate(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what shows this certificate to those who connect.

    Raises:
        Failure: It, or its key, cannot be read.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise Failure("--tls-cert and --tls-key go together", Exit.USAGE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        said = f"--tls-cert {cert}, --tls-key {key}: {_why(error)}"
        raise Failure(said, Exit.USAGE) from error
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate that can be used ({error.reason or error})"
    return error.strerror or str(error)


def _no_password() -> str:
    raise Failure("--tls-key: the key is encrypted; decrypt it first", Exit.USAGE)
