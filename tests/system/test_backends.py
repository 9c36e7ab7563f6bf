"""From a URL to a store, or to a transport."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import actorq
from actorq.runtime.wire import batch_max
from actorq.stores.memory import MemoryStore
from actorq.stores.sqlite import SqliteStore
from actorq.system.backends import open_store, open_transports
from actorq.transports.memory import MemoryTransport
from actorq.transports.websocket import WebSocketTransport


def test_memory_is_a_store_of_its_own_each_time() -> None:
    first, second = open_store("memory://"), open_store("memory://")

    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize("url", ["", "memory", "memory:", "oracle://host", "MEMORY://", "://"])
def test_a_url_that_names_no_store_is_refused_with_the_choice(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"store: no store for .*; there is memory:// and sqlite:///"
    ):
        open_store(url)


def test_a_memory_store_has_nothing_to_say_about_where_it_is() -> None:
    with pytest.raises(ValueError, match="memory:// takes nothing after it"):
        open_store("memory://somewhere")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", Path("tasks.db")),
        ("sqlite:///some/where/tasks.db", Path("some/where/tasks.db")),
        ("sqlite:////var/lib/tasks.db", Path("/var/lib/tasks.db")),
        ("sqlite:///with%20space.db", Path("with space.db")),
    ],
)
def test_sqlite_is_a_file(url: str, path: Path) -> None:
    store = open_store(url)

    assert isinstance(store, SqliteStore)
    assert store.path == path.absolute()
    assert not store.path.exists(), "it has not been opened"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://", "names no file: write sqlite:///tasks.db"),
        ("sqlite:///", "names no file: write sqlite:///tasks.db"),
        ("sqlite://:memory:", "names no file: .* or memory:// for none"),
        ("sqlite:///:memory:", "names no file: .* or memory:// for none"),
        ("sqlite://tasks.db", "names a host, .*: write sqlite:///tasks.db"),
        ("sqlite:tasks.db", "no store for"),
    ],
)
def test_a_url_of_no_file_is_refused_with_advice(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"store: .*{why}"):
        open_store(url)


def test_a_driver_is_imported_only_when_its_url_is_used() -> None:
    program = "import actorq, sys; actorq.system.backends.open_store('memory://')"
    check = "assert not {'apsw', 'actorq.stores.sqlite'} & sys.modules.keys()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{check}"], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""


async def test_a_wrong_url_is_an_error_of_open_system() -> None:
    with pytest.raises(ValueError, match="no store for 'oracle://'"):
        async with actorq.open_system("oracle://"):
            pytest.fail("it must not open")


def test_a_store_may_be_given_as_it_is() -> None:
    store = MemoryStore()

    assert open_store(store) is store
    with pytest.raises(TypeError, match="store: must be a URL or a Store"):
        open_store(7)  # type: ignore[arg-type]


# --- transports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://name", MemoryTransport),
        ("ws://127.0.0.1:7717", WebSocketTransport),
        ("wss://example.org", WebSocketTransport),
        ("ws+unix:///run/actorq.sock", WebSocketTransport),
    ],
)
def test_a_scheme_names_its_transport(url: str, kind: type) -> None:
    (transport,) = open_transports(url, 4_096)

    assert type(transport) is kind
    assert transport.url.startswith(url.rstrip("/"))


def test_one_address_is_as_good_as_a_list_of_one_and_none_is_none() -> None:
    given = MemoryTransport("given")

    assert list(open_transports(given, 4_096)) == [given]
    assert list(open_transports((), 4_096)) == []
    both = open_transports(["memory://a", given], 4_096)
    assert [transport.url for transport in both] == ["memory://a", "memory://given"]


@pytest.mark.parametrize("url", ["memory://name", "ws://127.0.0.1:7717"])
def test_a_transport_takes_the_largest_message(url: str) -> None:
    transport: Any = open_transports(url, 10_000_000)[0]

    assert transport._max_batch == batch_max(10_000_000)


@pytest.mark.parametrize("url", ["", "ws", "ws:", "http://host", "tcp://host:1", "WS://host"])
def test_an_address_of_no_known_scheme_is_refused_with_the_choice(url: str) -> None:
    with pytest.raises(ValueError, match="an address begins with ws://"):
        open_transports(url, 4_096)


def test_what_is_neither_address_nor_transport_is_refused() -> None:
    with pytest.raises(TypeError, match="an address must be a URL or a Transport, not 7"):
        open_transports([7], 4_096)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "url",
    ["memory://a", "ws://127.0.0.1:1", "ws://localhost:1", "ws://[::1]:1", "ws+unix:///a/socket"],
)
def test_on_this_machine_alone_nobody_needs_a_token(url: str) -> None:
    assert open_transports(url, 4_096, open_to_all=True)


@pytest.mark.parametrize(
    "url", ["ws://0.0.0.0:1", "wss://0.0.0.0:1", "ws://[::]:1", "ws://10.0.0.1:1", "wss://a.org:1"]
)
def test_elsewhere_somebody_must_keep_others_out(url: str) -> None:
    with pytest.raises(ValueError, match=r"everybody could run tasks at .*: give tokens="):
        open_transports(url, 4_096, open_to_all=True)

    assert open_transports(url, 4_096, open_to_all=True, insecure=True)
    assert open_transports(url, 4_096)
