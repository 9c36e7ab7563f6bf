"""Log records, for programs that run for long."""

from __future__ import annotations

import logging


def start_logging(level: str) -> None:
    """Write log records to stderr, unless somebody has chosen otherwise."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s",
    )
