"""When a failed attempt is followed by another one.

Pure: the jitter comes from the task's id, whose tail is random, so that the same inputs always
give the same wait and a thousand tasks that failed together still spread out.
"""

from __future__ import annotations

from zlib import crc32

from actorq.model.options import Retry

_CRC_RANGE = 0xFFFF_FFFF


def backoff(retry: Retry, attempts: int, id: str) -> float:
    """Return the seconds to wait after ``attempts`` runs (1 or more) of task ``id``."""
    # 64 doublings are beyond any max_delay; the bound keeps `factor ** n` from overflowing.
    wait = min(retry.delay * retry.factor ** min(attempts - 1, 64), retry.max_delay)
    spread = 2.0 * crc32(f"{id}:{attempts}".encode()) / _CRC_RANGE - 1.0
    return wait * (1.0 + retry.jitter * spread)
