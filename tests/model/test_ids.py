import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.model.ids import PARTITION, IdSource, can_be_id, derived, is_made


def source(*times: float, tail: str = "0123456789abcdef") -> IdSource:
    return IdSource(iter(times).__next__, tail)


def test_an_id_is_partition_microseconds_and_tail() -> None:
    id = source(1_700_000_000.5).next()

    assert id[:2] == PARTITION
    assert int(id[2:15], 16) == 1_700_000_000_500_000
    assert len(id) == 31
    assert set(id) <= set("0123456789abcdef")


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=50))
def test_ids_of_one_source_grow_whatever_the_clock_does(times: list[float]) -> None:
    ids = source(*times)

    made = [ids.next() for _ in times]

    assert made == sorted(set(made))


def test_later_ids_sort_after_earlier_ones_of_other_sources() -> None:
    earlier, later = source(1000.0, tail="f" * 16), source(1000.001, tail="0" * 16)

    assert earlier.next() < later.next()


def test_sources_differ_even_at_the_same_moment() -> None:
    ids = {IdSource(lambda: 1000.0).next() for _ in range(100)}

    assert len(ids) == 100


def test_what_the_owner_submits_for_one_cause_has_one_id_in_order_with_the_others() -> None:
    one, other = derived("callback of a", 1.7e9), derived("callback of b", 1.7e9)

    assert derived("callback of a", 1.7e9) == one
    assert one != other
    assert len(one) == len(IdSource().next())
    assert derived("callback of b", 1.6e9) < one < IdSource().next()


@pytest.mark.parametrize(
    "id", ["", "a" * 201, "a\0b", "\ud800"], ids=["none", "long", "NUL", "half"]
)
def test_what_no_task_can_be_called_is_no_id(id: str) -> None:
    assert not can_be_id(id)
    assert not is_made(id)
    assert can_be_id(IdSource().next())


def test_an_id_that_was_made_here_is_known_by_its_form() -> None:
    for now in (0.0, 1.7e9, 5e9):
        assert is_made(IdSource(lambda now=now: now).next())
        assert is_made(derived("a tick", now))
    for other in ("zzz", "00", "0" * 30, "0" * 33, "0" * 30 + "\n", "0" * 30 + "G"):
        assert not is_made(other)
