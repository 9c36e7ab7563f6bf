"""Which source files have changed, for ``--reload``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


class Sources:
    """The files under a folder that this process has imported, or that it should have."""

    def __init__(self, below: Path, since: float, names: Iterable[str] | None = None) -> None:
        """Look from now on.

        Args:
            below: The folder.
            since: When the first of them was imported, by `time.time`: what has been written since
                then has changed.
            names: Of modules that cannot be imported: whatever is the matter, it is mended in
                their folders or in those of what is imported, perhaps by a new file.
        """
        self._below = below.resolve()
        self._names = None if names is None else list(names)
        self._seen = _states(self._files())
        self._late = [
            path for path, (written_ns, _) in self._seen.items() if written_ns > since * 1e9
        ]

    def changed(self) -> list[Path]:
        """Return the files that are not as they were at the call before, or when imported."""
        before, self._seen = self._seen, _states({*self._seen, *self._files()})
        late, self._late = self._late, []
        paths = set(before) if self._names is None else before.keys() | self._seen.keys()
        return sorted({*late, *(p for p in paths if before.get(p) != self._seen.get(p))})

    def _files(self) -> Iterator[Path]:
        imported = set(self._imported())
        yield from imported
        if self._names is not None:
            folders = {self._below, *(path.parent for path in imported)}
            folders |= {self._below.joinpath(*name.split(".")[:-1]) for name in self._names}
            for folder in folders:
                yield from folder.glob("*.py")

    def _imported(self) -> Iterator[Path]:
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.endswith(".py"):
                path = _resolved(file)
                if path.is_relative_to(self._below) and not _INSTALLED.intersection(path.parts):
                    yield path


_INSTALLED = {"site-packages", "dist-packages"}


@cache  # for all modules are looked at twice a second
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def _states(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    found: dict[Path, tuple[int, int]] = {}
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            continue
        found[path] = state.st_mtime_ns, state.st_size
    return found
