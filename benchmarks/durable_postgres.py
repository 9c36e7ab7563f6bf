"""A PostgreSQL for durable.py: in a folder of its own, on a Unix socket, as long as a block."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import trio

from remote_children import open_child


def lacks_postgres() -> str | None:
    """Return what is missing."""
    if not _program("postgres") or not _program("initdb"):
        return (
            "postgres and initdb are not on the PATH (Debian: apt-get install postgresql); "
            "without it: --only sqlite"
        )
    return None


def _program(name: str) -> str | None:
    """Return its path; Debian keeps those of servers out of the PATH."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


def _user() -> str | None:
    """Return as whom to run it, if not as whoever runs this: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@asynccontextmanager
async def open_postgres() -> AsyncGenerator[str, None]:
    """Run a PostgreSQL, with its settings as they are, and yield how to connect to it."""
    user = _user()
    initdb, postgres = _program("initdb"), _program("postgres")
    assert initdb is not None
    assert postgres is not None
    with TemporaryDirectory() as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        await trio.run_process(
            [initdb, "-D", data, "-A", "trust", "-U", "benchmark", "-E", "UTF8", "--no-sync"],
            user=user,
            stdout=subprocess.DEVNULL,
        )
        command = (postgres, "-D", data, "-k", folder, "-c", "listen_addresses=")
        async with open_child("postgres", *command, listens=False, user=user):
            address = f"host={folder} user=benchmark dbname=postgres"
            with trio.fail_after(30):
                while not await trio.to_thread.run_sync(_answers, address):  # noqa: ASYNC110
                    await trio.sleep(0.05)
            yield address


def _answers(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True
