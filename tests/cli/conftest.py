"""A queue node with a worker, in a thread, and the command line run against it in this one."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio

import actorq
from actorq.cli.app import run
from tests.cli import chores
from tests.cli.programs import CHORES


@attrs.frozen
class Done:
    """What a verb has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that it has printed."""
        return json.loads(self.out)


class Node(threading.Thread):
    """A queue node that runs the chores, in an event loop of its own."""

    def __init__(self) -> None:
        super().__init__(name="a queue node")
        self.url = ""
        self._up = threading.Event()
        self._scope = trio.CancelScope()

    def run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with actorq.open_system(
                listen="ws://127.0.0.1:0",
                tasks=[chores],
                concurrency=5,
                processes=0,
                instruments=(),
            ) as system:
                self.url = system.addresses[0]
                self._up.set()
                await trio.sleep_forever()

    def wait_until_up(self) -> None:
        assert self._up.wait(10)

    def end(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self.join(10)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """The address of a queue node that runs `chores`; all tests of a module share it."""
    thread = Node()
    thread.start()
    thread.wait_until_up()
    yield thread.url
    thread.end()


class Cli:
    """The command line, run in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        code = run(arguments)
        printed = self._capsys.readouterr()
        return Done(code, printed.out, printed.err)

    def json(self, *arguments: str) -> Any:
        """Return the document that a verb prints."""
        return self(*arguments, "--json").json

    def submit(self, name: str, *options: str) -> str:
        """Submit a chore, or what has a full name; return its id."""
        return str(self.json("submit", name if ":" in name else f"{CHORES}:{name}", *options)["id"])


@pytest.fixture
def cli(node: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run verbs against the node."""
    monkeypatch.setenv("ACTORQ_URL", node)
    monkeypatch.delenv("ACTORQ_TOKEN", raising=False)
    return Cli(capsys)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Make terminals of a width."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def of_width(width: int) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(width))
        return Terminal()

    return of_width
