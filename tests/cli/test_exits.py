"""Which error ends a verb with which exit code."""

import pytest

from actorq.cli.exits import Exit, Failure, code_of, spoken, usage
from actorq.errors import (
    ActorDied,
    AuthenticationFailed,
    ConnectFailed,
    IncompatiblePeer,
    PayloadTooLarge,
    QueueFull,
    ScheduleNotFound,
    TaskNotFound,
)


def test_scripts_can_tell_a_queue_out_of_reach_from_a_refusal_and_an_unknown_id():
    for error in (ConnectFailed(), AuthenticationFailed(), IncompatiblePeer(), ActorDied()):
        assert code_of(error) is Exit.UNREACHABLE
    for refusal in (QueueFull(), PayloadTooLarge()):
        assert code_of(refusal) is Exit.FAILED
    for missing in (TaskNotFound("x"), ScheduleNotFound("x")):
        assert code_of(missing) is Exit.NOT_FOUND


def test_a_wrong_argument_is_a_wrong_command_line():
    errors = ValueError("so"), TypeError("so"), FileNotFoundError("so")
    for error in (*errors, ExceptionGroup("tasks", [ValueError("so")])):
        with pytest.raises(Failure, match=r"^so$") as caught, usage():
            raise error
        assert caught.value.code is Exit.USAGE


def test_it_is_told_in_the_words_of_the_command_line():
    with pytest.raises(Failure, match=r"give --token-file, or say --insecure"), usage():
        raise ValueError("give tokens=, or say insecure=True")
    assert spoken("install it, or open it with processes=0") == (
        "install it, or give --cpu-processes 0"
    )


def test_what_is_wrong_is_named_once():
    for said in ("so", "ws://a: so"):
        with pytest.raises(Failure, match=r"^ws://a: so$"), usage("ws://a"):
            raise ValueError(said)


def test_other_errors_stay_what_they_are():
    for error in (PayloadTooLarge("so"), ConnectFailed("so"), RuntimeError("so")):
        with pytest.raises(type(error)), usage():
            raise error
