"""What verbs print: JSON for programs, plain lines for pipes, and tables for terminals.

Only a terminal gets colours and is wrapped to its width. What goes into a pipe or a file is never
wrapped, cut or coloured: one row is one line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import attrs

from actorq.cli.plain import dumps, one_line, printable

_GAP = "  "

STYLES = {
    "success": "green",
    "failure": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
}


def write(text: str, file: TextIO) -> None:
    """Write a line, at once."""
    file.write(f"{text}\n")
    file.flush()


@attrs.frozen
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        keep: How long it stays when a terminal is too narrow for all: lowest go first.
        whole: Whether its cells are never broken into lines, as ids must not be.
        right: Whether its cells are numbers.
    """

    title: str
    keep: int = 9
    whole: bool = False
    right: bool = False


class Table:
    """Rows under a heading.

    Attributes:
        cells: Their text, each on one line.
        widths: What each column needs.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        self.columns: Sequence[Column] = columns
        self.rows: Sequence[Sequence[object]] = rows
        self.cells: list[list[str]] = [
            ["" if cell is None else one_line(str(cell)) for cell in row] for row in rows
        ]
        self.widths: list[int] = [
            max([len(column.title), *(len(row[place]) for row in self.cells)])
            for place, column in enumerate(columns)
        ]


class Out:
    """Where a verb prints: its results to stdout, everything about them to stderr."""

    def __init__(self, *, json: bool = False, file: TextIO | None = None) -> None:
        """Print to ``file`` instead of stdout."""
        self.json: bool = json
        self._file = file
        self._width: int | None = None

    @property
    def file(self) -> TextIO:
        """Where results go."""
        return sys.stdout if self._file is None else self._file

    @property
    def terminal(self) -> bool:
        """Whether somebody looks at it, rather than a program."""
        return not self.json and self.file.isatty()

    def data(self, value: Any) -> None:
        """Print one JSON document, as one line unless somebody looks at it."""
        write(dumps(value, indent=2 if self.file.isatty() else None), self.file)

    def text(self, text: str) -> None:
        """Print text as it is, but for what would command a terminal."""
        write(printable(text), self.file)

    def note(self, text: str) -> None:
        """Say something beside the results."""
        write(f"actorq: {one_line(text)}", sys.stderr)

    def fields(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Print names with their values, one a line; those without a value are left out."""
        shown = [(name, str(value)) for name, value in pairs if value is not None]
        width = max((len(name) for name, _ in shown), default=0)
        if not self.terminal:
            for name, value in shown:
                self.text(f"{name.ljust(width)}{_GAP}{one_line(value)}")
            return
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in shown:
            grid.add_row(name, _styled(one_line(value)))
        self.console().print(grid)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        """Print rows under a heading."""
        table = Table(columns, rows)
        if self.terminal:
            self.console().print(self.rendered(table))
            return
        for row in [[column.title for column in columns], *table.cells]:
            self.text(_aligned(columns, row, table.widths))

    def rendered(self, block: str | Table) -> Any:
        """Return what a terminal is to show of it."""
        if isinstance(block, str):
            from rich.text import Text

            return Text(printable(block))
        from rich.table import Table as RichTable

        width = self.console().width
        shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        kept = _fitting(block.columns, block.widths, width)
        for place in kept:
            column = block.columns[place]
            shown.add_column(
                column.title,
                no_wrap=column.whole and block.widths[place] <= width,
                overflow="fold",
                justify="right" if column.right else "left",
            )
        for row in block.cells:
            shown.add_row(*(_styled(row[place]) for place in kept))
        return shown

    def console(self) -> Any:
        """Return rich's idea of the terminal."""
        from rich.console import Console

        return Console(file=self.file, highlight=False, markup=False, emoji=False)


def _styled(text: str) -> Any:
    from rich.text import Text

    return Text(text, style=STYLES.get(text, ""))


def _aligned(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    adjusted = [
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, cell, width in zip(columns, row, widths, strict=True)
    ]
    return _GAP.join(adjusted).rstrip()


_BREAKABLE = 16
"""What a column whose cells may be broken needs at least, unless it is narrower anyway."""


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return the places of the columns that a terminal of ``width`` has room for."""
    least = [
        natural if column.whole or column.right else min(natural, _BREAKABLE)
        for column, natural in zip(columns, widths, strict=True)
    ]
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(least[place] + len(_GAP) for place in kept) > width + len(_GAP):
        kept.remove(min(kept, key=lambda place: (columns[place].keep, -place)))
    return kept


def ago(at: datetime | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str | None:
    """Return how long ago something was, in one unit."""
    return None if at is None else span((now() - at).total_seconds())


def ahead(
    at: datetime | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> str | None:
    """Return in how long something will be, in one unit."""
    return None if at is None else f"in {span((at - now()).total_seconds())}"


def span(seconds: float) -> str:
    """Return a time in one unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def size_of(count: float) -> str:
    """Return a number of bytes in one unit, as those who sell disks do."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
