import pytest

from actorq.machines.silence import Silence


def looks(silence: Silence, *times: float) -> list[float]:
    """Look at these times; return those at which it was too long."""
    return [now for now in times if silence.too_long(now)]


def test_who_is_heard_of_in_time_is_never_silent_for_too_long() -> None:
    silence = Silence(4.0, 1.0, 0.0)

    for now in range(1, 20):
        silence.heard(now - 0.5)
        assert not silence.too_long(now)


def test_silence_is_too_long_from_its_limit_on() -> None:
    assert looks(Silence(4.0, 1.0, 0.0), 1, 2, 3, 4, 5) == [4, 5]


def test_what_comes_begins_the_silence_anew() -> None:
    silence = Silence(4.0, 1.0, 0.0)
    assert looks(silence, 1, 2, 3) == []

    silence.heard(3.5)

    assert looks(silence, 4, 5, 6, 7, 8) == [8]


def test_a_look_that_is_a_little_late_changes_nothing() -> None:
    assert looks(Silence(4.0, 1.0, 0.0), 1.5, 3.0, 4.0) == [4.0]


def test_the_time_of_our_own_stall_is_not_the_peers_silence() -> None:
    silence = Silence(4.0, 1.0, 0.0)

    assert looks(silence, 1, 2, 100) == []


def test_a_stall_extends_the_silence_and_does_not_begin_it_anew() -> None:
    silence = Silence(4.0, 1.0, 0.0)

    assert looks(silence, 1, 2, 100, 101, 102, 103) == [101, 102, 103]


def test_stalls_again_and_again_do_not_hide_a_dead_peer() -> None:
    silence = Silence(4.0, 1.0, 0.0)

    assert looks(silence, *range(10, 101, 10))[0] <= 50


@pytest.mark.parametrize("stall", [10.0, 3600.0])
def test_a_stall_is_not_credited_twice_to_a_peer_that_was_heard_after_it(stall: float) -> None:
    silence = Silence(4.0, 1.0, 0.0)
    now = 1.0 + stall

    silence.heard(now)  # what came meanwhile is read first

    assert looks(silence, *(now + n for n in range(6)))[:1] == [now + 4]
