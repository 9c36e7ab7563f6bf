"""A test leaves nothing behind: no thread, no child process, no open file.

Time: take `autojump_clock` (or `mock_clock`) as an argument and never sleep for real. The bound of
every test is in the conftest.py above this folder.
"""

import gc
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

GRACE_SECONDS = 2.0  # for what is already ending when the test returns


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = threads() | processes() | files()
    yield
    give_up = time.monotonic() + GRACE_SECONDS
    while left := (threads() | processes() | files()) - before:
        gc.collect()
        if time.monotonic() > give_up:
            pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)
        time.sleep(0.01)  # real: threads and processes end in their own time


def threads() -> set[str]:
    """All but the idle ones that trio keeps for its next call."""
    return {
        f"thread {t.name} ({t.ident})"
        for t in threading.enumerate()
        if not t.name.startswith("Trio thread")
    }


def processes() -> set[str]:
    """All children but the helper that multiprocessing keeps until the end."""
    found = {child.pid for child in multiprocessing.active_children()}
    for listing in Path("/proc/self/task").glob("*/children"):  # Linux: those of subprocess too
        with suppress(FileNotFoundError):  # a thread that has ended since
            found |= {int(pid) for pid in listing.read_text().split()}
    return {f"process {pid}" for pid in found - {resource_tracker._resource_tracker._pid}}


def files() -> set[str]:
    """Every open descriptor with what it refers to, where /proc tells."""
    found = set()
    for link in list(Path("/proc/self/fd").glob("*")):
        if int(link.name) != resource_tracker._resource_tracker._fd:
            with suppress(FileNotFoundError):  # the descriptor that listed the folder
                found.add(f"file {link.name}: {link.readlink()}")
    return found
