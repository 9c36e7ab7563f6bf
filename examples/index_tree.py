"""Index a folder of Python files, one process task per file.

    python examples/index_tree.py [FOLDER] [--json FILE] [--processes N] [--limit N]

Without FOLDER it indexes the standard library of the Python that runs it. Packages come first: the
priority of an `__init__.py` is high. A file that does not parse is a failed task and nothing more.
One actor keeps the report: it is the callback of every task. Ctrl-C cancels what runs, ends the
processes and exits with 130.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import sysconfig
import time
import tokenize
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import actorq
from actorq import Mailbox, SyncTask, TaskDone

if TYPE_CHECKING:  # rich is imported where it is used: the processes import this file too
    from rich.console import Console

WINDOW = 100  # files of each queue that are submitted and not yet begun
SKIPPED = {"site-packages", "dist-packages"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Match, ast.Try, ast.TryStar)
BLOCKS = (*FUNCTIONS, *BRANCHES, ast.ClassDef, ast.With, ast.AsyncWith)


# --- In the processes --------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    lines: int
    functions: int
    classes: int
    nesting: int
    longest_function: str
    longest_lines: int


# The file system may have a bad moment; a file that does not parse never will.
@actorq.task(run_in="process", timeout=60, retry=actorq.Retry(attempts=3, delay=0.1, on=(OSError,)))
def index(path: Path) -> tuple[Module, float]:
    """Return what is in a file, and the seconds that it took to find out."""
    start = time.perf_counter()
    return measure(path), time.perf_counter() - start


def measure(path: Path) -> Module:
    with tokenize.open(path) as file:  # in the encoding that the file declares
        lines = file.readlines()
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse("".join(lines), path.name)
    nodes = list(statements(tree))
    functions = [node for node, _ in nodes if isinstance(node, FUNCTIONS)]
    longest = max(functions, key=length, default=None)
    return Module(
        lines=len(lines),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node, _ in nodes),
        nesting=max((depth for _, depth in nodes), default=0),
        longest_function=longest.name if longest else "",
        longest_lines=length(longest) if longest else 0,
    )


def statements(tree: ast.Module) -> Iterator[tuple[ast.AST, int]]:
    """Yield every statement with the number of blocks that it is in, itself included."""
    todo: list[tuple[ast.AST, int]] = [(tree, 0)]
    while todo:
        parent, depth = todo.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
                todo.append((node, depth + opens_block(node, parent)))
                yield todo[-1]


def opens_block(node: ast.AST, parent: ast.AST) -> bool:
    # An `elif` is an `if` in the `else` of another, and starts as far to the left.
    is_elif = isinstance(parent, ast.If) and getattr(node, "col_offset", -1) == parent.col_offset
    return isinstance(node, BLOCKS) and not is_elif


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


# --- In the program ----------------------------------------------------------------------


@dataclass
class Report:
    folder: Path
    processes: int
    modules: dict[str, Module] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    busy_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        return len(self.modules) + len(self.failures)

    def add(self, file: Path, result: actorq.TaskResult[tuple[Module, float]]) -> None:
        name = file.relative_to(self.folder).as_posix()
        name = name.encode(errors="backslashreplace").decode()  # of a file whose name is no text
        if result.value is not None:
            self.modules[name], seconds = result.value
            self.busy_seconds += seconds
        elif result.error is not None:
            kind = result.error.type.removeprefix("builtins.")
            self.failures[name] = f"{kind}: {result.error.message}".removesuffix(": ")

    def summary(self) -> dict[str, object]:
        modules = self.modules.values()
        return {
            "folder": str(self.folder),
            "files": self.done,
            "failed": len(self.failures),
            "lines": sum(module.lines for module in modules),
            "functions": sum(module.functions for module in modules),
            "classes": sum(module.classes for module in modules),
            "processes": self.processes,
            "seconds": round(self.seconds, 3),
            "tasks_per_second": round(self.done / self.seconds, 1),
            "busy": round(self.busy_seconds / (self.processes * self.seconds), 3),
        }

    def as_json(self) -> str:
        modules = {name: asdict(module) for name, module in self.modules.items()}
        everything = {"summary": self.summary(), "modules": modules, "failures": self.failures}
        return json.dumps(everything, indent=2) + "\n"


class Finish:
    """Asked for: the `Report` on all that was told before."""


async def collect(
    inbox: Mailbox[TaskDone | Finish], report: Report, show_progress: Callable[[int], None]
) -> None:
    start = trio.current_time()
    async for message in inbox:
        match message:
            case TaskDone(result=result) if result.status == "cancelled":
                pass  # by Ctrl-C: nobody will ask for this report
            case TaskDone(result=result, data=file):
                report.add(file, result)
                show_progress(report.done)
            case Finish():
                report.seconds = trio.current_time() - start
                inbox.reply(report)


async def index_files(options: argparse.Namespace, console: Console) -> Report:
    packages = [file for file in options.files if file.name == "__init__.py"]
    others = [file for file in options.files if file.name != "__init__.py"]

    async def submit(task: SyncTask[[Path], tuple[Module, float]], files: list[Path]) -> None:
        for file in files:  # which waits while its queue is full
            await system.submit(task.options(callback_data=file), file)

    with progress(len(options.files), console) as show_progress:
        async with actorq.open_system(processes=options.processes, max_pending=WINDOW) as system:
            new = Report(options.folder, options.processes)
            # Not restarted: a report that misses a file is none. If it crashes, `ask` says so.
            collector = await system.spawn(collect, new, show_progress, restart="temporary")
            task = index.options(callback=collector)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit, task, others)
                task = task.options(queue="packages", priority="high")
                nursery.start_soon(submit, task, packages)
            await system.join()  # every callback is in the mailbox then
            report: Report = await collector.ask(Finish())
            return report


@contextmanager
def progress(total: int, console: Console) -> Generator[Callable[[int], None], None, None]:
    """Yield what shows how many files are done: in a bar, or in a line every now and then."""
    from rich.progress import MofNCompleteColumn, Progress

    def print_line(done: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            print(f"{done:,} of {total:,} files", flush=True)

    if not console.is_terminal:
        yield print_line
        return
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        work = bar.add_task("indexing", total=total)
        yield lambda done: bar.update(work, completed=done)


def show(report: Report, console: Console) -> None:
    modules = report.modules.items()
    large = nlargest(10, modules, key=lambda item: item[1].lines)
    deep = nlargest(10, modules, key=lambda item: (item[1].nesting, item[1].longest_lines))

    failures = [(name, error) for name, error in sorted(report.failures.items())]
    sizes = [(name, it.lines, it.functions, it.classes) for name, it in large]
    depths = [(name, it.nesting, it.longest_function, it.longest_lines) for name, it in deep]
    show_table(console, "Failed", failures, "Error")
    show_table(console, "Largest modules", sizes, "Lines", "Functions", "Classes")
    show_table(console, "Most complex modules", depths, "Nesting", "Longest function", "Its lines")
    console.print(
        "{files:,} files ({failed:,} failed): {lines:,} lines, {functions:,} functions, "
        "{classes:,} classes.\n{seconds:.1f} s, {tasks_per_second:,.0f} tasks per second; "
        "{processes} processes, {busy:.0%} busy.".format_map(report.summary())
    )


def show_table(
    console: Console, title: str, rows: Sequence[tuple[str | int, ...]], *columns: str
) -> None:
    from rich.table import Table

    if rows:
        table = Table("File", *columns, title=title, title_justify="left")
        for column, cell in zip(table.columns, rows[0], strict=True):
            column.overflow = "fold"
            column.justify = "right" if isinstance(cell, int) else "left"
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
        console.print(table)


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index a folder of Python files.")
    stdlib = Path(sysconfig.get_path("stdlib"))
    parser.add_argument("folder", nargs="?", type=Path, default=stdlib, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    parser.add_argument("--processes", type=positive, metavar="N", default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=positive, metavar="N", help="index only the first N files")
    options = parser.parse_args()
    try:
        next(options.folder.iterdir(), None)  # raises what is wrong with the folder
        if options.json:
            options.json.open("a").close()  # rather now than after the work
        options.files = find_files(options.folder)[: options.limit]
    except OSError as error:
        parser.exit(2, f"{parser.prog}: error: {error.filename}: {error.strerror}\n")
    if not options.files:
        parser.exit(2, f"{parser.prog}: error: {options.folder}: no Python files in it\n")
    return options


def find_files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*.py") if path.is_file())
    return sorted(p for p in found if SKIPPED.isdisjoint(p.relative_to(folder).parts))


def run(options: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(force_terminal=sys.stdout.isatty(), markup=False, highlight=False)
    # Ctrl-C is to arrive where this waits, and not while it draws the bar.
    report = trio.run(
        index_files, options, console, restrict_keyboard_interrupt_to_checkpoints=True
    )
    show(report, console)
    if options.json:
        options.json.write_text(report.as_json(), encoding="utf-8")


def main() -> int:
    try:
        run(read_arguments())
        return 0
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
