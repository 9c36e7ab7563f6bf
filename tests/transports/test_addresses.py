import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.transports.addresses import Address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:7717", Address("ws", "127.0.0.1", 7717, "/")),
        ("ws://Queue.Example.com", Address("ws", "queue.example.com", 80, "/")),
        ("wss://queue.example.com/", Address("wss", "queue.example.com", 443, "/")),
        ("wss://queue.example.com:1/a%20b/c", Address("wss", "queue.example.com", 1, "/a%20b/c")),
        ("ws://[::1]:0", Address("ws", "::1", 0, "/")),
        ("WS://localhost:1", Address("ws", "localhost", 1, "/")),
        ("ws+unix:///run/actorq.sock", Address("ws+unix", "/run/actorq.sock", 0, "/")),
        ("ws+unix:///run/a%20b%3F", Address("ws+unix", "/run/a b?", 0, "/")),
    ],
)
def test_a_url_is_read(url: str, expected: Address) -> None:
    address = Address.parse(url)

    assert address == expected
    assert Address.parse(address.url) == expected


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no URL of a WebSocket transport: write ws://HOST:PORT"),
        ("hush", "no URL of a WebSocket transport"),
        ("http://hush:1", "no URL of a WebSocket transport"),
        ("hush://localhost:1", "no URL of a WebSocket transport"),
        ("ws://hush@localhost:1", "give the token as token="),
        ("ws://user:hush@localhost:1", "give the token as token="),
        ("ws://user:@localhost:1", "give the token as token="),
        ("ws://@localhost:1", "give the token as token="),
        ("ws+unix://hush@/run/actorq.sock", "give the token as token="),
        ("ws://user:hush", "this URL cannot be read: write ws://HOST:PORT"),
        ("ws://localhost:99999", "this URL cannot be read"),
        ("ws://[hush", "this URL cannot be read"),
        ("ws://a..hush:1", "this URL cannot be read"),
        ("ws://localhost:1?token=hush", "a URL ends with its path"),
        ("ws://localhost:1/path#hush", "a URL ends with its path"),
        ("ws+unix:///run/actorq.sock?token=hush", "a URL ends with its path"),
        ("ws+unix://run/actorq.sock", "three slashes"),
        ("ws+unix://", "three slashes"),
        ("ws+unix:///", "three slashes"),
        ("ws://", "no host"),
        ("ws://:7717", "0.0.0.0 is every interface"),
        ("ws:localhost", "no host"),
        ("ws://localhost:1/h u s h", "percent-encode"),
        ("ws://localhost:1/é-hush", "percent-encode"),
    ],
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        Address.parse(url)

    assert "hush" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


@given(st.text(), st.sampled_from(["ws://", "wss://localhost", "ws+unix://", ""]))
def test_whatever_is_no_url_is_a_value_error(text: str, start: str) -> None:
    try:
        address = Address.parse(start + text)
    except ValueError:
        return

    assert Address.parse(address.url) == address
    assert address.url.isascii() or address.scheme != "ws+unix"


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("ws://127.0.0.1:1", False),
        ("ws://127.8.8.8:1", False),
        ("ws://[::1]:1", False),
        ("ws://localhost:1", False),
        ("ws+unix:///run/actorq.sock", False),
        ("wss://queue.example.com:1", False),
        ("ws://queue.example.com:1", True),
        ("ws://localhost.example.com:1", True),
        ("ws://127.0.0.1.example.com:1", True),
        ("ws://10.0.0.1:1", True),
        ("ws://0.0.0.0:1", True),
        ("ws://[::]:1", True),
        ("ws://[::ffff:127.0.0.1]:1", True),
    ],
)
def test_only_what_leaves_this_machine_in_the_clear_is_exposed(url: str, exposed: bool) -> None:
    assert Address.parse(url).exposed is exposed


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("ws://localhost:7717/path", "localhost:7717"),
        ("ws://localhost:80", "localhost"),
        ("wss://localhost", "localhost"),
        ("wss://localhost:80", "localhost:80"),
        ("ws://[::1]:7717", "[::1]:7717"),
        ("ws+unix:///run/actorq.sock", "localhost"),
    ],
)
def test_a_handshake_names_the_host_as_http_does(url: str, authority: str) -> None:
    assert Address.parse(url).authority == authority


def test_the_real_port_is_put_in() -> None:
    assert Address.parse("wss://localhost:0/path").at(7717).url == "wss://localhost:7717/path"
    assert Address.parse("wss://localhost").encrypted
    assert not Address.parse("ws://localhost").encrypted
