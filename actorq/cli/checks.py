"""What ``doctor`` can see without asking a queue node: this machine, a token file, a store."""

from __future__ import annotations

import platform
import shutil
import stat
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import attrs

from actorq.cli.output import size_of
from actorq.system.settings import library

Level = Literal["ok", "warning", "problem"]

_ROOM_LEAST = 50e6
_ROOM_FEW = 1e9
"""Bytes on a disk below which it is a problem, and below which it is worth a look."""

_CLOCK_SECONDS = 2.0
_PARTS = ("trio", "msgspec", "apsw")


@attrs.frozen
class Check:
    """What was looked at, and what was found."""

    check: str
    level: Level
    found: str


def versions() -> Check:
    """Say what is installed here."""
    parts = [f"actorq {library()}", f"Python {platform.python_version()}"]
    for name in _PARTS:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Check("installed", "ok", f"{', '.join(parts)}, on {sys.platform}")


def token_file(file: Path) -> Check:
    """Look who may read a file with a token."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        return Check("token file", "problem", f"{file}: {error.strerror}")
    if mode & 0o077:
        found = f"{file}: others than its owner may open it (mode {mode:o}): chmod 600 {file}"
        return Check("token file", "warning", found)
    return Check("token file", "ok", f"{file}: only its owner may open it")


def clock(ahead: float) -> Check:
    """Say how well two clocks agree; ``ahead`` is by how much the queue node's is."""
    if abs(ahead) < _CLOCK_SECONDS:
        return Check("clock", "ok", f"that of the queue node differs by {abs(ahead) * 1e3:.0f} ms")
    where = "ahead of" if ahead > 0 else "behind"
    found = (
        f"that of the queue node is {abs(ahead):.1f} s {where} the one here: only its counts for "
        "tasks, but times that people compare mislead"
    )
    return Check("clock", "warning", found)


def room(folder: Path) -> Check:
    """Look how much room there is on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", "problem", f"{folder}: {error.strerror}")
    level: Level = "ok"
    if free < _ROOM_FEW:
        level = "problem" if free < _ROOM_LEAST else "warning"
    return Check("disk", level, f"{size_of(free)} free at {folder}")
