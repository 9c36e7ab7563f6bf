"""The command line: its verbs, its help, and how errors become one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from cyclopts import App, CycloptsError, Parameter

from actorq.cli.changing import discard, pause, resume, retry
from actorq.cli.doctor import doctor
from actorq.cli.exits import MEANINGS, Exit, Failure, code_of, spoken
from actorq.cli.looking import ls, stats, tasks, tree, why
from actorq.cli.output import write
from actorq.cli.plain import one_line, printable
from actorq.cli.scheduling import build_schedule
from actorq.cli.serving import serve
from actorq.cli.submitting import cancel, result, submit
from actorq.cli.top import top
from actorq.cli.worker import worker
from actorq.errors import ActorqError, leaves
from actorq.system.settings import library

_HELP = """\
Typed, structured background tasks for trio programs.

To begin: `actorq serve` in one terminal, `actorq worker your.module` in another, and
`actorq submit your.module:function --wait` in a third.
"""

_CODES = "\n".join(f"- `{code:d}` {meaning}" for code, meaning in MEANINGS.items())

_EPILOGUE = f"""\
Exit codes:

{_CODES}

With `--json` every verb prints JSON. Environment: `ACTORQ_URL` (addresses, with commas between
them), `ACTORQ_TOKEN` or `ACTORQ_TOKEN_FILE`, `ACTORQ_CA`, `NO_COLOR`.
"""

_VERBS: tuple[Callable[..., int | None], ...] = (
    serve, worker, submit, result, why, cancel, ls, retry, discard, pause, resume, tasks, stats,
    tree, top, doctor,
)  # fmt: skip


def build() -> App:
    """Return the command line."""
    app = App(
        name="actorq",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        version=library,
        default_parameter=Parameter(negative=(), show_default=_default),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for place, verb in enumerate(_VERBS):
        app.command(verb, name=verb.__name__, sort_key=place, help_epilogue=_MORE)
    app.command(build_schedule(_MORE, place=len(_VERBS)))
    return app


_MORE = "Exit codes: see `actorq --help`."


def _default(value: object) -> object:
    """Return how a default is shown in the help, if it tells anybody anything."""
    if value is False or value is None or value == ():
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    if sys.__stdout__ is None:  # it was closed by whoever has started us
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    try:
        _take_all_letters(sys.stdout)
        code = build()(arguments)
        write("", sys.stdout, end="")  # what others than we have printed
        return int(code or Exit.OK)
    except CycloptsError as error:
        return _tell(_sentence(error), Exit.USAGE, hint=_help_of(error))
    except BrokenPipeError:
        return 128 + 13
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        return _tell(str(known), known.code, details=known.details)


def _take_all_letters(file: TextIO) -> None:
    """Have letters that the encoding of a file does not know written as escapes."""
    if isinstance(file, io.TextIOWrapper) and file.errors == "strict":
        file.reconfigure(errors="backslashreplace")


def explained(error: BaseException) -> Failure | None:
    """Return what people should be told of an error, or None if it is a bug of ours."""
    members = list(leaves(error))
    for member in members:
        if isinstance(member, KeyboardInterrupt):
            return Failure("interrupted", Exit.INTERRUPTED)
    member = members[0]
    if isinstance(member, Failure):
        return member
    if isinstance(member, ActorqError):
        return Failure(spoken(str(member)), code_of(member))
    return None


def _sentence(error: CycloptsError) -> str:
    text = str(error)
    return text if text.endswith("...") else text.removesuffix(".")


def _help_of(error: CycloptsError) -> str:
    words = [word for word in error.command_chain or () if not word.startswith("-")]
    return f"; see {' '.join(['actorq', *words])} --help"


def _tell(text: str, code: Exit, *, hint: str = "", details: str = "") -> int:
    more = f"\n{printable(details)}" if details else ""
    write(f"actorq: {one_line(text)}{hint}{more}", sys.stderr)
    return int(code)
