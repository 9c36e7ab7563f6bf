"""The token to show: from a file or the environment, never from the command line."""

from __future__ import annotations

import os
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
        return os.environ.get("ACTORQ_TOKEN") or None
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Failure(f"--token-file {file}: {why}", Exit.USAGE) from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    by_role: dict[str, str] = {}
    bare: list[str] = []
    for line in lines:
        name, colon, token = line.partition(":")
        if colon and name.strip() in ROLES:
            by_role.setdefault(name.strip(), token.strip())
        else:
            bare.append(line)
    if len(lines) == len(bare) == 1:
        return bare[0]
    if bare or not lines:
        raise Failure(
            f"--token-file {file}: it must hold one token, or lines role:token with the roles "
            f"{', '.join(ROLES)}",
            Exit.USAGE,
        )
    found = by_role.get(role) or by_role.get("admin")
    if not found:
        raise Failure(f"--token-file {file}: no token for the role {role} or admin", Exit.USAGE)
    return found
