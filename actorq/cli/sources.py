"""Which source files have changed, for ``--reload``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Seen = dict[Path, tuple[int, int]]


class Sources:
    """The files under a folder that this process has imported."""

    def __init__(self, below: Path) -> None:
        self._below = below.resolve()
        self._seen: Seen = {}
        self._known = 0

    def changed(self) -> list[Path]:
        """Return the files that are not as they were at the call before, or when first seen."""
        if len(sys.modules) != self._known:
            self._known = len(sys.modules)
            new = set(self._imported()) - self._seen.keys()
            self._seen |= _states(new)
        now = _states(self._seen)
        changed = [path for path, state in self._seen.items() if now.get(path) != state]
        self._seen |= now
        return changed

    def _imported(self) -> Iterator[Path]:
        for module in list(sys.modules.values()):
            path = _file_of(module)
            if path is not None and path.is_relative_to(self._below) and not _installed(path):
                yield path

    def around(self, names: Iterable[str]) -> Iterator[Path]:
        """Yield the source files, imported or not, in the folders of modules and of all imported.

        For when one of the modules cannot be imported: whatever is the matter, it is mended here.
        """
        folders = {self._below}
        for name in names:
            folders.add(self._below.joinpath(*name.split(".")[:-1]))
        folders |= {path.parent for path in self._imported()}
        for folder in folders:
            yield from folder.glob("*.py")


class Around:
    """The source files around modules that cannot be imported."""

    def __init__(self, below: Path, names: Iterable[str]) -> None:
        self._sources = Sources(below)
        self._names = list(names)
        self._seen = self._look()

    def changed(self) -> list[Path]:
        """Return the files that have come, gone or changed since the call before."""
        before, self._seen = self._seen, self._look()
        paths = before.keys() | self._seen.keys()
        return sorted(path for path in paths if before.get(path) != self._seen.get(path))

    def _look(self) -> Seen:
        return _states(self._sources.around(self._names))


def _file_of(module: object) -> Path | None:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    return Path(file).resolve()


def _installed(path: Path) -> bool:
    return "site-packages" in path.parts or "dist-packages" in path.parts


def _states(paths: Iterable[Path]) -> Seen:
    found: Seen = {}
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            continue
        found[path] = state.st_mtime_ns, state.st_size
    return found
