"""The rules of the house that no other tool checks. A list of exceptions may only shrink."""

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

ROOT = Path(__file__).parent.parent
FILE_LINES = 500
FUNCTION_LINES = 60
UNTESTED: dict[str, str] = {
    "contracts/clock.py": "a protocol; tests/runtime/test_clock.py tests what implements it",
    "contracts/instrument.py": "a protocol; tests/telemetry and tests/system do",
    "contracts/link.py": "protocols; test_exchange.py, test_session.py and test_worker.py do",
    "contracts/transport.py": "protocols; the shipped TransportContract does, for every transport",
    "contracts/store.py": "a protocol; the shipped StoreContract does, for every store",
}
"""Modules without a test file of their own (as `model/ids.py`), each with its reason."""

MODULES = sorted((ROOT / "actorq").rglob("*.py"))
FOLDERS = ["actorq", "benchmarks", "docs", "examples", "tests"]
TEXTS = [
    *ROOT.glob("*.md"),
    *(ROOT / name for name in ("Makefile", "conftest.py", "constraints.txt", "pyproject.toml")),
    *(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".md", ".py", ".toml"} and path != Path(__file__)
    ),
]


def found(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines but for its docstring, which is as long as its users need."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_every_module_has_its_own_test_file() -> None:
    names = [path.relative_to(ROOT / "actorq") for path in MODULES if path.name != "__init__.py"]
    missing = {
        name.as_posix()
        for name in names
        if not (ROOT / "tests" / name.with_name(f"test_{name.name}")).exists()
    }

    assert missing - UNTESTED.keys() == set()
    assert UNTESTED.keys() - missing == set(), "tested by now: take it off the list"
    assert all(UNTESTED.values()), "each exception has a reason"


def test_no_module_is_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert [str(path) for path, count in lines.items() if count > FILE_LINES] == []


def test_no_function_is_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno}: {function.name}"
        for path in MODULES
        for function in functions(path)
        if length(function) > FUNCTION_LINES
    ]

    assert long == []


def test_tests_do_not_sleep() -> None:
    """Unless in virtual time (`# virtual`) or for a reason (`# real: reason`)."""
    tests = [path for path in TEXTS if path.is_relative_to(ROOT / "tests")]

    assert found(r"\b(trio|time)\.sleep\((?!.*# (virtual|real: \w))", tests) == []


def test_nothing_is_left_for_later() -> None:
    assert found(r"\b(TODO|FIXME|XXX)\b", TEXTS) == []


def test_no_file_names_a_machine() -> None:
    """Neither its paths nor where packages were downloaded from."""
    assert found(r"(?<![\w.])/(work|root|home|Users|opt)/\w|pythonhosted|\bpypi\.org", TEXTS) == []


@pytest.mark.bound(0.2)
@pytest.mark.xfail(raises=pytest.fail.Exception, reason="the bound ends it")
async def test_a_test_that_hangs_fails() -> None:
    await trio.sleep_forever()


@pytest.mark.bound(0.2)
@pytest.mark.xfail(raises=pytest.fail.Exception, reason="the bound is real time")
async def test_a_test_that_hangs_in_virtual_time_fails(autojump_clock: trio.abc.Clock) -> None:
    while True:
        with trio.move_on_after(1):
            await trio.sleep_forever()


@pytest.mark.bound(0.2)
@pytest.mark.xfail(raises=pytest.fail.Exception, reason="the bound does not need trio")
def test_a_test_that_blocks_fails() -> None:
    time.sleep(60)  # real: this is what must be interrupted


def test_every_test_that_the_guarantees_name_exists() -> None:
    pages = [ROOT / "docs/explanation" / name for name in ("guarantees.md", "durability.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"`((?:tests|actorq/testing)/[\w/.]+)::(\w+)`", text)

    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]

    assert named
    assert missing == []


def test_every_link_between_the_documents_leads_somewhere() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    broken = [
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
        if not (document.parent / link).exists()
    ]

    assert broken == []
