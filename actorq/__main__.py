"""``actorq``, and ``python -m actorq``: the command line, if the extra that it needs is there."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDS = ("cyclopts", "rich")


def main() -> None:
    """Run the command line and exit with its code."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        sys.exit(
            f"actorq: the command line needs {' and '.join(missing)}: pip install 'actorq[cli]'"
        )
    try:
        from actorq.cli.app import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # while modules were imported
        sys.exit(130)


if __name__ == "__main__":
    main()
