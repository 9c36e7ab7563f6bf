"""What two nodes say about their connection; how it is written down is in tests/codec."""

import inspect
import math
from typing import Any

import pytest
from msgspec import Struct, ValidationError
from msgspec.msgpack import decode, encode

from actorq.machines.tables import Limits
from actorq.model import wire as w

MESSAGES: list[type[Struct]] = [
    cls
    for _, cls in inspect.getmembers(w, inspect.isclass)
    if cls.__module__ == w.__name__ and issubclass(cls, Struct)
]
LIMITS = Limits()


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_message_cannot_be_changed_once_it_is_sent(cls: type[Struct]) -> None:
    assert cls.__struct_config__.frozen


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_message_is_an_array_that_begins_with_its_tag(cls: type[Struct]) -> None:
    config = cls.__struct_config__

    assert config.array_like
    assert isinstance(config.tag, str)
    assert not config.forbid_unknown_fields


HELLO = ["hello", [1, 1], 1]


def test_a_hello_without_what_is_new_is_understood() -> None:
    assert decode(encode(HELLO), type=w.Hello) == w.Hello((1, 1), 1)


def test_a_hello_with_more_than_we_know_is_understood() -> None:
    more = [*HELLO, "node", "1.0", 4_096, ["fast", "unheard of"], {"more": 1}]

    hello = decode(encode(more), type=w.Hello)

    assert (hello.node, hello.max_message, hello.features) == (
        "node",
        4_096,
        ("fast", "unheard of"),
    )


@pytest.mark.parametrize(
    "hello",
    [
        ["hello", [1, 1], 0],
        ["hello", [1, 1], -1],
        ["hello", [1, 1], 1.5],
        ["hello", [1], 1],
        ["hello", [1, 1], 1, "x" * 201],
        ["hello", [1, 1], 1, "node", "x" * 201],
        ["hello", [1, 1], 1, "node", "1.0", 1_023],
        ["olleh", [1, 1], 1],
    ],
)
def test_a_hello_out_of_range_is_refused(hello: list[Any]) -> None:
    with pytest.raises(ValidationError):
        decode(encode(hello), type=w.Hello)


# --- times that must fit together ----------------------------------------------------------------


def test_whoever_dials_notices_silence_while_the_owner_still_waits_for_it() -> None:
    assert w.PING_SECONDS < w.SILENCE_AT_DIALLER < LIMITS.window


def test_a_single_lost_ping_is_no_silence() -> None:
    assert w.SILENCE_AT_DIALLER >= 3 * w.PING_SECONDS


def test_the_one_who_can_dial_again_notices_first() -> None:
    assert w.SILENCE_AT_DIALLER < w.SILENCE_AT_LISTENER < LIMITS.lease


def test_a_beat_connection_is_dialled_again_while_the_lease_lasts() -> None:
    assert LIMITS.beat < w.BEAT_SILENCE < LIMITS.lease - LIMITS.beat


def test_the_owner_looks_often_enough_to_see_a_stall_that_a_window_would_not_survive() -> None:
    assert 0 < 2 * LIMITS.look < LIMITS.window
    assert LIMITS.look <= LIMITS.beat
    assert Limits(lease=1.0, window=math.inf).look <= 1.0


# --- why a connection is closed ------------------------------------------------------------------


def test_codes_are_those_that_an_application_may_send() -> None:
    standard = {w.Close.NORMAL, w.Close.GOING_AWAY, w.Close.BROKEN, w.Close.AGAIN}

    assert {code for code in w.Close if code < 4_000} == standard
    assert all(code < 5_000 for code in w.Close)


def test_coming_back_helps_unless_the_peer_is_refused_for_what_it_is() -> None:
    again = {w.Close.AGAIN, w.Close.GOING_AWAY, w.Close.SILENT, w.Close.LOST, w.Close.TOO_SLOW,
             w.Close.BROKEN, w.Close.HELLO_TIMEOUT}  # fmt: skip

    assert again.isdisjoint(w.FATAL)
    assert {w.Close.FORBIDDEN, w.Close.VERSION, w.Close.BAD_MESSAGE} <= w.FATAL
