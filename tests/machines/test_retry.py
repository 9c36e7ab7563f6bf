import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.machines.retry import backoff
from actorq.model.options import Retry


@pytest.mark.parametrize(("attempts", "wait"), [(1, 2), (2, 6), (3, 18), (4, 50), (5, 50)])
def test_waits_grow_by_the_factor_up_to_the_cap(attempts: int, wait: float) -> None:
    retry = Retry(attempts=9, delay=2, factor=3, max_delay=50, jitter=0)

    assert backoff(retry, attempts, "id") == wait


def test_a_factor_of_one_keeps_the_wait() -> None:
    retry = Retry(attempts=9, delay=5, factor=1, jitter=0)

    assert {backoff(retry, n, "id") for n in range(1, 9)} == {5}


def test_even_a_million_attempts_do_not_overflow() -> None:
    assert backoff(Retry(delay=1, factor=1000, jitter=0), 1_000_000, "id") == 300


def test_the_same_attempt_of_the_same_task_always_waits_the_same() -> None:
    retry = Retry(jitter=1)

    assert backoff(retry, 1, "id") == backoff(retry, 1, "id")
    assert backoff(retry, 1, "id") != backoff(retry, 1, "other")


def test_tasks_that_failed_together_spread_out_evenly() -> None:
    waits = [backoff(Retry(delay=100, jitter=0.5), 1, f"{n:031x}") for n in range(1000)]

    assert 50 <= min(waits) < 55
    assert 145 < max(waits) <= 150
    assert 95 < sum(waits) / 1000 < 105


@given(
    delay=st.floats(0, 1e6), max_delay=st.floats(0, 1e6), jitter=st.floats(0, 1),
    factor=st.floats(1, 1000), attempts=st.integers(1, 10_000), id=st.text(),
)  # fmt: skip
def test_a_wait_stays_within_its_cap_and_jitter(
    delay: float, max_delay: float, jitter: float, factor: float, attempts: int, id: str
) -> None:
    retry = Retry(delay=delay, max_delay=max_delay, jitter=jitter, factor=factor)
    plain = min(delay * factor ** min(attempts - 1, 64), max_delay)

    wait = backoff(retry, attempts, id)

    assert wait >= 0
    assert abs(wait - plain) <= plain * (jitter + 1e-12)
