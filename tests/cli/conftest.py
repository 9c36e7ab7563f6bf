"""A queue node with a worker, in a thread, and the command line run against it in this one."""

import threading
from collections.abc import Callable, Iterator

import attrs
import pytest
import trio

import actorq
from actorq.cli.app import run
from tests.cli import chores


@attrs.frozen
class Done:
    """What a verb has printed, and its exit code."""

    code: int
    out: str
    err: str


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


Cli = Callable[..., Done]


@pytest.fixture
def cli(node: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a verb against the node."""
    monkeypatch.setenv("ACTORQ_URL", node)
    monkeypatch.delenv("ACTORQ_TOKEN", raising=False)

    def verb(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return verb
