"""What verbs print: JSON for programs, plain lines for pipes, and tables for terminals.

Only a terminal gets colours and is wrapped to its width. What goes into a pipe or a file is never
wrapped, cut or coloured: one row is one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import attrs

from actorq.cli.exits import Failure
from actorq.cli.plain import dumps, one_line, printable

_GAP = "  "

_BREAKABLE = 16
"""What a column whose cells may be broken needs at least, unless it is narrower anyway."""

_STYLES = {
    "success": "green",
    "failure": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
}


def write(text: str, file: TextIO, end: str = "\n") -> None:
    """Write a line, at once.

    Raises:
        BrokenPipeError: Whoever read it has had enough.
        Failure: There is no room for it.
    """
    try:
        file.write(f"{text}{end}")
        file.flush()
    except OSError as error:
        # What is left in the buffer must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(f"the output cannot be written: {error.strerror}") from error


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
    """Rows, and a heading unless all columns are without a title.

    Attributes:
        cells: Their text, each on one line.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
        self.cells: list[list[str]] = [
            ["" if cell is None else one_line(str(cell)) for cell in row] for row in rows
        ]
        self._columns = columns
        self._headed = any(column.title for column in columns)
        self._widths = [
            max([len(column.title), *(len(row[place]) for row in self.cells)])
            for place, column in enumerate(columns)
        ]

    def lines(self) -> Iterator[str]:
        """Yield it as plain lines, one for each row."""
        heading = [[column.title for column in self._columns]] if self._headed else []
        for row in heading + self.cells:
            adjusted = [
                cell.rjust(width) if column.right else cell.ljust(width)
                for column, cell, width in zip(self._columns, row, self._widths, strict=True)
            ]
            yield _GAP.join(adjusted).rstrip()

    def rendered(self, width: int) -> Any:
        """Return what a terminal of that width is to show, as `rich` has it."""
        from rich import table
        from rich.text import Text

        shown = table.Table(
            box=None,
            pad_edge=False,
            padding=(0, len(_GAP), 0, 0),
            header_style="bold",
            show_header=self._headed,
        )
        kept = self._fitting(width) if self._headed else range(len(self._columns))
        for place in kept:
            column = self._columns[place]
            shown.add_column(
                column.title,
                no_wrap=column.whole and self._widths[place] <= width,
                overflow="fold",
                justify="right" if column.right else "left",
                style="" if self._headed or place else "bold",
            )
        for row in self.cells:
            shown.add_row(*(Text(row[place], _STYLES.get(row[place], "")) for place in kept))
        return shown

    def _fitting(self, width: int) -> Sequence[int]:
        """Return the places of the columns that a terminal of ``width`` has room for."""
        least = [
            natural if column.whole or column.right else min(natural, _BREAKABLE)
            for column, natural in zip(self._columns, self._widths, strict=True)
        ]
        kept = list(range(len(least)))
        while len(kept) > 1 and sum(least[place] + len(_GAP) for place in kept) > width + len(_GAP):
            kept.remove(min(kept, key=lambda place: (self._columns[place].keep, -place)))
        return kept


def fields(*pairs: tuple[str, object]) -> Table:
    """Return names with their values, one a line; those without a value are left out."""
    shown = [pair for pair in pairs if pair[1] is not None]
    return Table((Column("", whole=True), Column("")), shown)


class Out:
    """Where a verb prints: its results to stdout, everything about them to stderr."""

    def __init__(self, *, json: bool = False, file: TextIO | None = None) -> None:
        """Print to ``file`` instead of stdout."""
        self.json: bool = json
        self._file = file

    @property
    def file(self) -> TextIO:
        """Where results go."""
        return sys.stdout if self._file is None else self._file

    @property
    def terminal(self) -> bool:
        """Whether somebody looks at it, rather than a program."""
        return not self.json and self.file.isatty()

    def say(self, data: Any, *blocks: str | Table) -> None:
        """Print data for programs as one JSON document, or else blocks for people.

        A document is one line, unless somebody looks at it. Text is printed as it is, but for what
        would command a terminal.
        """
        if self.json:
            write(dumps(data, indent=2 if self.file.isatty() else None), self.file)
            return
        for block in blocks:
            if isinstance(block, str):
                write(printable(block), self.file)
            elif self.terminal:
                console = self.console()
                console.print(block.rendered(console.width))
            else:
                for line in block.lines():
                    write(line, self.file)

    def note(self, text: str) -> None:
        """Say something beside the results."""
        write(f"actorq: {one_line(text)}", sys.stderr)

    def console(self) -> Any:
        """Return rich's idea of the terminal."""
        from rich.console import Console

        return Console(file=self.file, highlight=False, markup=False, emoji=False)


def ago(at: datetime | None, now: datetime | None = None) -> str | None:
    """Return how long ago something was, in one unit."""
    return None if at is None else span(((now or datetime.now(UTC)) - at).total_seconds())


def ahead(at: datetime | None, now: datetime | None = None) -> str | None:
    """Return in how long something will be, in one unit."""
    return None if at is None else f"in {span((at - (now or datetime.now(UTC))).total_seconds())}"


def span(seconds: float) -> str:
    """Return a time in one unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
