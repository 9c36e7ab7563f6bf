"""What ``doctor`` can see without asking a queue node: this machine, a token file, a store."""

from __future__ import annotations

import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import attrs
from rich.filesize import decimal

from actorq.cli.output import counted
from actorq.contracts.store import Store
from actorq.errors import ActorqError
from actorq.system.backends import open_store
from actorq.system.settings import library

Level = Literal["ok", "warning", "problem"]

_ROOM_LEAST = 50e6
_ROOM_FEW = 1e9
"""Bytes free on a disk below which it is a problem, and below which it is worth a look."""

_CLOCK_SECONDS = 2.0
_PARTS = ("trio", "msgspec", "apsw")


@attrs.frozen
class Check:
    """What was looked at, and what was found."""

    check: str
    level: Level
    found: str


def installed() -> Check:
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
    return Check("disk", level, f"{decimal(free)} free at {folder}")


def store(url: str, *, deep: bool) -> Iterator[Check]:
    """Look at a store, and change nothing; with ``deep`` read all of it.

    Raises:
        ValueError: There is no such kind of store.
    """
    file = file_of(open_store(url))
    if file is None:
        yield Check("store", "ok", f"{url}: nothing of it outlives the process of the queue node")
    else:
        yield from _file(file, deep=deep)


def file_of(kept: Store) -> Path | None:
    """Return the file that a store is in, if it is."""
    scheme, _, path = str(getattr(kept, "url", "")).partition(":///")
    return Path(path) if scheme == "sqlite" else None


def _file(path: Path, *, deep: bool) -> Iterator[Check]:
    from actorq.stores.locks import networked
    from actorq.stores.sqlite_report import examine

    wrong = networked(path)
    if wrong is not None:
        yield Check("file system", "problem", wrong)
    if path.parent.is_dir():
        yield room(path.parent)
    try:
        report = examine(path, deep=deep)
    except ActorqError as error:
        yield Check("store", "problem", str(error))
        return
    if report.size is None:
        yield Check("store", "warning", f"there is no {path} yet: actorq serve makes it")
        return
    tasks = f"{counted(report.live, 'live task')}, {report.ended} ended"
    yield Check("store", "ok", f"{path}: {decimal(report.size)}, {tasks}")
    if report.layout != report.newest:
        found = f"version {report.layout}: actorq serve makes {report.newest} of it"
        yield Check("layout", "warning", found)
    else:
        yield Check("layout", "ok", f"version {report.layout}")
    yield Check("owner", "ok", report.owner or "nobody")
    if deep:
        yield Check("integrity", "ok", "all of it was read, and nothing is damaged")
