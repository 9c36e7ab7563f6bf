"""The bounds of a system, checked when it opens. 0 is a value."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Self

import attrs

from actorq.model.checks import number, whole

CHUNK = 1_000
"""The most tasks that are accepted in one step."""

MAX_RESULTS = 10_000
"""Results that are kept in memory if nobody says otherwise."""


@attrs.frozen
class Settings:
    """See `actorq.open_system` for what each means."""

    concurrency: int
    processes: int
    max_pending: int
    max_results: int | None
    result_ttl: float
    max_message: int
    drain: float
    grace: float
    lease: float

    @property
    def chunk(self) -> int:
        """How many tasks are accepted in one step.

        A chunk gets in as a whole: a small part of a queue, or it might never fit beside tasks that
        are due later.
        """
        return max(1, min(CHUNK, self.max_pending // 10))

    @classmethod
    def checked(
        cls,
        *,
        concurrency: int,
        processes: int | None,
        max_pending: int,
        max_results: int | None,
        result_ttl: float,
        max_message: int,
        drain: float,
        grace: float,
        lease: float,
    ) -> Self:
        """Return the settings.

        Raises:
            TypeError: One is of the wrong type; the message names it.
            ValueError: One is out of range, or ``processes`` are wanted without the extra that
                they need; the message names it.
        """
        return cls(
            concurrency=whole("concurrency", concurrency, least=0, most=100_000),
            processes=_processes(processes, concurrency),
            max_pending=whole("max_pending", max_pending),
            max_results=(
                None if max_results is None else whole("max_results", max_results, least=0)
            ),
            result_ttl=number("result_ttl", result_ttl),
            max_message=whole("max_message", max_message, least=1_024),
            drain=number("drain", drain),
            grace=number("grace", grace),
            lease=number("lease", lease, least=1.0, most=3_600.0),
        )


def library() -> str:
    """Return the version of this library."""
    try:
        return version("actorq")
    except PackageNotFoundError:  # a copy of the sources that nobody has installed
        return "unknown"


def _processes(processes: int | None, concurrency: int) -> int:
    installed = find_spec("trio_parallel") is not None
    if processes is None:
        return (os.cpu_count() or 1) if concurrency and installed else 0
    if whole("processes", processes, least=0, most=1_000) and not installed:
        raise ValueError("processes: they need trio-parallel: pip install 'actorq[process]'")
    return processes
