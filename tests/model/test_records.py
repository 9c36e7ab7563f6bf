import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from actorq.model.messages import Submission
from actorq.model.options import NO_OPTIONS, TaskOptions
from actorq.model.records import Cancel, Head, Output, Write, alias, needs_of, sources_of
from actorq.model.status import PENDING, RUNNING

HEAD = Head("a", "job", NO_OPTIONS, "main", None, 1.0, 1.0, 1.0, 1.0, PENDING)

writes = st.builds(
    Write,
    st.just("a"),
    st.none() | st.just(HEAD) | st.just(replace(HEAD, status=RUNNING)),
    st.sampled_from([UNSET, None, "call"]),
    st.sampled_from([UNSET, None, Output(1)]),
)


def apply(record: tuple[Any, ...] | None, write: Write) -> tuple[Any, ...] | None:
    """Do what a store does."""
    if write.head is None:
        return None
    _, body, output = record or (None, None, None)
    return (
        write.head,
        body if write.body is UNSET else write.body,
        output if write.output is UNSET else write.output,
    )


@given(st.none() | st.tuples(st.just(HEAD), st.just("old"), st.just(Output(0))), writes, writes)
def test_a_write_over_an_earlier_one_does_what_both_did(
    record: tuple[Any, ...] | None, earlier: Write, later: Write
) -> None:
    assert apply(record, later.over(earlier)) == apply(apply(record, earlier), later)


def test_a_write_keeps_what_it_does_not_set() -> None:
    write = Write("a", HEAD)

    assert (write.body, write.output) == (UNSET, UNSET)


@pytest.mark.parametrize("value", [HEAD, Cancel("user"), Output(1), Write("a", HEAD)])
def test_what_is_stored_cannot_be_changed(value: Any) -> None:
    field = value.__struct_fields__[0]

    with pytest.raises(AttributeError):
        setattr(value, field, "changed")


def test_heads_are_not_tracked_by_the_cycle_collector() -> None:
    assert not gc.is_tracked(HEAD)  # which halves the cost of holding a million


def test_a_new_task_has_been_granted_started_and_lost_by_nobody() -> None:
    assert (HEAD.fence, HEAD.attempts, HEAD.deaths, HEAD.worker) == (0, 0, 0, None)


def test_a_task_comes_after_what_it_names_and_what_it_needs_each_once() -> None:
    submission = Submission(
        "a", "job", "main", TaskOptions(after=["x", "y"]), None, None, ("y", alias("b", "z"))
    )

    assert needs_of(submission) == {"y": "y", "b": "z"}
    assert sources_of(submission) == ("x", "y", "z")


def test_most_tasks_come_after_nothing() -> None:
    submission = Submission("a", "job", "main", TaskOptions(), None, None)

    assert (needs_of(submission), sources_of(submission)) == ({}, ())
