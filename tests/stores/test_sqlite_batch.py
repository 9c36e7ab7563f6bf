from typing import Any

import pytest
from msgspec import UNSET

from actorq.codec.records import Records
from actorq.errors import RowRefused
from actorq.model.records import Output, Write
from actorq.model.status import TaskStatus
from actorq.stores.sqlite_batch import APART, INLINE_MAX, Plan, Row, pack, refused
from actorq.testing.samples import (
    NOW,
    PARTITION,
    deleted,
    ended,
    head,
    limit,
    live,
    paused,
    task_id,
)

CODEC = Records()


def rows(*writes: Write) -> list[Row]:
    return pack(CODEC, writes, ()).rows


def plan(*writes: Write, number: int = 1) -> Plan:
    return Plan(PARTITION, rows(*writes), number)


def sizes(plan: Plan) -> dict[str, int]:
    """Return what there is of each kind."""
    kinds = {name: value for name, value in vars(plan).items() if isinstance(value, list)}
    return {name: len(value) for name, value in kinds.items() if value}


def test_what_is_packed_can_be_unpacked() -> None:
    batch = pack(CODEC, [live(1), ended(2)], [limit("a", (NOW, 1)), paused("b", None)])
    first, second = batch.rows

    assert CODEC.unpack_head(first.id, first.data) == live(1).head
    assert CODEC.unpack_body(first.body) == b"body 1"
    assert (first.output, second.body) == (None, None)
    assert CODEC.unpack_output(second.output) == Output(b"value 2")
    assert [(kind, name) for kind, name, _ in batch.notes] == [("limit", "a"), ("pause", "b")]
    assert batch.notes[1][2] is None


def test_the_stamp_is_that_of_the_newest_submission() -> None:
    assert pack(CODEC, [live(3), live(7), ended(5), deleted(9)], ()).stamp == NOW + 7
    assert pack(CODEC, [deleted(9)], ()).stamp == 0.0
    assert pack(CODEC, (), ()).stamp == 0.0


@pytest.mark.parametrize(
    "write",
    [
        Write("\udfff", None),
        Write(task_id(1), head(1, scope="\udfff"), b""),
        Write(task_id(1), head(1), 7),
        Write(task_id(1), head(1), b"", Output(7)),
        Write(task_id(1), head(1, attempts=2**70), b""),
    ],
)
def test_whatever_cannot_be_packed_is_the_fault_of_its_row(write: Write) -> None:
    with pytest.raises(RowRefused) as caught:
        pack(CODEC, [live(2), write, live(3)], ())

    assert caught.value.id == write.id


def test_ids_need_not_be_ours() -> None:
    assert [row.id for row in rows(Write("Zürich\0", head(1), b""))] == ["Zürich\0"]


def test_a_refusal_says_what_is_wrong() -> None:
    assert str(refused("7", ValueError("odd"))) == "'7' cannot be kept: odd"


def test_writes_are_sorted_by_what_is_expected() -> None:
    keeps = Write(task_id(4), ended(4).head, output=Output(b"v"))
    changes = Write(task_id(5), head(5, TaskStatus.RUNNING))
    all_of_them = plan(live(1), live(2), ended(3), keeps, changes)

    assert sizes(all_of_them) == {
        "new": 2, "ended": 1, "moved": 1, "gone": 2, "bodiless": 1, "changed": 1,
    }  # fmt: skip
    assert all_of_them.newest == task_id(4)
    assert all_of_them.gone == [(PARTITION, task_id(3)), (PARTITION, task_id(4))]


@pytest.mark.parametrize(
    "write",
    [
        deleted(1),
        Write(task_id(1), head(1), output=None),
        Write(task_id(1), head(1), b"", Output(b"")),
        Write(task_id(1), ended(1).head),
        Write(task_id(1), ended(1).head, b""),
    ],
)
def test_what_is_not_usual_goes_its_own_way(write: Write) -> None:
    assert sizes(plan(write)) == {"odd": 1}


def test_what_ends_is_numbered_in_order() -> None:
    moved = Write(task_id(2), ended(2).head, output=None)
    both = plan(ended(1), live(3), moved, ended(4), number=17)

    assert [row[0] for row in both.ended] == [17, 19]
    assert [row[0] for row in both.moved] == [18]


@pytest.mark.parametrize("wrap", [live, ended])
def test_a_body_lies_apart_when_it_is_large(wrap: Any) -> None:
    def sized(size: int) -> Plan:
        # One byte says that it is bytes.
        return plan(Write(task_id(1), wrap(1).head, b"x" * (size - 1), None))

    small, large = sized(INLINE_MAX), sized(INLINE_MAX + 1)

    assert small.bodies == []
    assert large.bodies == [(PARTITION, task_id(1), b"\0" + b"x" * INLINE_MAX)]
    assert APART not in (small.new or small.ended)[0][3:]
    assert (large.new or large.ended)[0][-1] == APART
    assert (small.bodiless == [] and large.bodiless == []) == (wrap is live)


def test_unset_is_not_none() -> None:
    (row,) = rows(Write(task_id(1), head(1)))

    assert row.body is UNSET
    assert row.output is UNSET
