"""The tasks and functions of the typing tests.

Nothing in this folder runs: mypy --strict and pyright read it. `assert_type` is what must be
inferred. A line with a `type: ignore` is a mistake that both checkers must find; as unused ignores
are errors for both, it fails as soon as one of them lets the mistake pass. So such a line holds
one mistake, and no other.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import actorq


@actorq.task
async def fetch(url: str) -> bytes:
    return url.encode()


@actorq.task(
    queue="images", priority="high", timeout=30, retry=actorq.Retry(attempts=5), run_in="process"
)
def thumbnail(path: Path, width: int = 256) -> Path:
    return path / str(width)


@actorq.task
async def tail(path: str) -> AsyncIterator[str]:
    yield path


@actorq.task(name="log")
async def log(*lines: str, level: int = 0, **fields: float) -> None:
    actorq.current().progress(level, len(lines), str(fields))


async def halve(number: int, by: int = 2) -> float:
    return number / by


def spell(number: int, unit: str = "s") -> str:
    return f"{number} {unit}"


async def count(start: int, step: int = 1) -> AsyncIterator[int]:
    yield start + step


class Meter:
    async def read(self, channel: int) -> float:
        return float(channel)

    def reset(self, channel: int) -> bool:
        return channel > 0

    async def __call__(self, channel: int) -> float:
        return await self.read(channel)
