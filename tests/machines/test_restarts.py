import pytest

from actorq.machines.restarts import Backoff, RestartBudget, Streak


def test_more_than_the_intensity_within_the_period_spends_the_budget() -> None:
    budget = RestartBudget(intensity=3, period=5)
    crashes = [ValueError(n) for n in range(4)]

    allowed = [budget.spend(float(n), crash) for n, crash in enumerate(crashes)]

    assert allowed == [True, True, True, False]
    assert budget.failures == tuple(crashes)


def test_crashes_that_are_further_apart_are_always_allowed() -> None:
    budget = RestartBudget(intensity=1, period=5)

    assert all(budget.spend(now, ValueError()) for now in range(0, 1000, 5))
    assert len(budget.failures) == 1


def test_the_window_slides() -> None:
    budget = RestartBudget(intensity=2, period=5)

    allowed = [budget.spend(now, ValueError()) for now in (0, 4, 5.5, 6, 20)]

    assert allowed == [True, True, True, False, True]


def test_an_intensity_of_zero_allows_no_restart() -> None:
    assert not RestartBudget(intensity=0).spend(0, ValueError())


@pytest.mark.parametrize(
    ("streak", "wait"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30), (99, 30)]
)
def test_waits_double_up_to_the_most(streak: int, wait: float) -> None:
    assert Backoff().wait(streak, 0) == pytest.approx(wait)


def test_a_streak_of_any_length_does_not_overflow() -> None:
    assert Backoff().wait(10**9, 0) == 30


@pytest.mark.parametrize(("spread", "wait"), [(-1, 8), (0, 10), (1, 12)])
def test_jitter_moves_a_wait_by_its_share(spread: float, wait: float) -> None:
    assert Backoff(first=10, jitter=0.2).wait(1, spread) == pytest.approx(wait)


def test_each_crash_in_a_row_waits_longer() -> None:
    streak = Streak(Backoff(first=1))

    assert [streak.next(0, 0) for _ in range(4)] == [1, 2, 4, 8]


def test_a_child_that_ran_for_long_begins_a_new_streak() -> None:
    streak = Streak(Backoff(first=1, reset=60))
    streak.next(0, 0)
    streak.next(59, 0)

    assert streak.next(60, 0) == 1
    assert streak.next(0, 0) == 2
