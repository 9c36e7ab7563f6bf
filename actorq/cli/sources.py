"""Which source files have changed, for ``--reload``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Seen = dict[Path, tuple[int, int]]


class Sources:
    """The files under a folder that this process has imported."""

    def __init__(self, below: Path, since: float) -> None:
        """Look from now on.

        Args:
            below: The folder.
            since: When the first of them was imported, by `time.time`: what has been written since
                then has changed.
        """
        self._below = below.resolve()
        self._since = since
        self._seen: Seen = {}
        self._known = 0

    def changed(self) -> list[Path]:
        """Return the files that are not as they were at the call before, or when imported."""
        late: list[Path] = []
        if len(sys.modules) != self._known:
            new = _states(set(self._imported()) - self._seen.keys())
            if not self._known:
                late = sorted(_written_after(self._since, new))
            self._known = len(sys.modules)
            self._seen |= new
        now = _states(self._seen)
        changed = [path for path, state in self._seen.items() if now.get(path) != state]
        self._seen |= now
        return late + changed

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

    def __init__(self, below: Path, names: Iterable[str], since: float) -> None:
        """Look from now on; see `Sources`."""
        self._sources = Sources(below, since)
        self._names = list(names)
        self._seen = self._look()
        self._late = sorted(_written_after(since, self._seen))

    def changed(self) -> list[Path]:
        """Return the files that have come, gone or changed since the call before."""
        before, self._seen = self._seen, self._look()
        late, self._late = self._late, []
        paths = before.keys() | self._seen.keys()
        return late + sorted(path for path in paths if before.get(path) != self._seen.get(path))

    def _look(self) -> Seen:
        return _states(self._sources.around(self._names))


def _written_after(since: float, seen: Seen) -> Iterator[Path]:
    for path, (changed_ns, _) in seen.items():
        if changed_ns > since * 1e9:
            yield path


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
