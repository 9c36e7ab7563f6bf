import time

import pytest
import trio
from trio.testing import MockClock

from actorq.runtime.clock import AnchoredClock


class SystemClock(trio.abc.Clock):
    """As trio's own, which has this name: it runs beside the wall clock, here by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def start_clock(self) -> None:
        """Nothing to do."""

    def current_time(self) -> float:
        return self.seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return max(0.0, deadline - self.seconds)


class Wall:
    """The wall clock, which people set."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def time(self) -> float:
        return self.seconds


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(time, "time", wall.time)
    return wall


@pytest.fixture
def system_clock() -> SystemClock:
    return SystemClock()


async def test_it_starts_at_wall_time_and_runs_with_trios_clock(
    mock_clock: MockClock, wall: Wall
) -> None:
    clock = AnchoredClock()
    before = clock.now()
    mock_clock.jump(0.25)
    between = clock.now()
    mock_clock.jump(3_600)

    assert (before, between) == (1_700_000_000.0, 1_700_000_000.25)
    assert clock.now() == between + 3_600


async def test_a_virtual_clock_has_no_drift(mock_clock: MockClock, wall: Wall) -> None:
    clock = AnchoredClock()
    wall.seconds += 1_000_000
    mock_clock.jump(2)

    assert clock.now() == 1_700_000_002.0


async def test_a_small_correction_of_the_wall_clock_is_ignored(
    system_clock: SystemClock, wall: Wall
) -> None:
    clock = AnchoredClock()
    wall.seconds += 0.9

    assert clock.now() == 1_700_000_000.0


@pytest.mark.parametrize("ahead", [1.5, 3_600.0])
async def test_it_follows_a_wall_clock_that_was_set_ahead(
    system_clock: SystemClock, wall: Wall, ahead: float
) -> None:
    clock = AnchoredClock()
    clock.now()
    system_clock.seconds += 2
    wall.seconds += 2 + ahead

    assert clock.now() == wall.seconds
    assert clock.jumped == ahead


async def test_a_wall_clock_that_was_set_back_is_met_at_half_speed(
    system_clock: SystemClock, wall: Wall
) -> None:
    clock = AnchoredClock()
    before = clock.now()
    wall.seconds -= 10
    told = []
    for _ in range(12):
        system_clock.seconds += 2
        wall.seconds += 2
        told.append(clock.now() - before)

    assert told[:3] == [1, 2, 3]
    assert told == sorted(told)
    assert abs(clock.now() - wall.seconds) <= 1
    assert clock.jumped == 0


async def test_time_that_the_machine_slept_is_caught_up(
    system_clock: SystemClock, wall: Wall
) -> None:
    clock = AnchoredClock()
    clock.now()
    wall.seconds += 8 * 3_600  # trio's clock did not count that
    system_clock.seconds += 1

    assert clock.now() == wall.seconds
