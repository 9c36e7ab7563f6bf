from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actorq.codec.records import Records
from actorq.errors import CorruptStore, EncodeError, RemoteError
from actorq.model.options import Limit, Retry, TaskOptions
from actorq.model.records import (
    Cancel,
    Done,
    Follow,
    Head,
    Note,
    Output,
    Pause,
    TrackedHead,
    Window,
)  # fmt: skip
from actorq.model.schedules import Cron, Every, Schedule
from actorq.model.status import FailureKind, TaskStatus
from actorq.testing.samples import NOW, head, task_id

ID = task_id(1)
RECORDS = Records()
ERROR = RemoteError("builtins.ValueError", "bad", "Traceback ...", ("note",), ("a.B", "c.D"))
GROUP = RemoteError("builtins.ExceptionGroup", "several", children=(ERROR, ERROR))
FULL = head(
    1,
    TaskStatus.CANCELLED,
    name="pkg.mod:func",
    key="key",
    pool="process",
    scope="client:1",
    since=NOW + 5,
    rank=NOW - 3600,
    due=NOW + 7,
    fence=3,
    attempts=2,
    deaths=1,
    worker="node.7",
    started_at=NOW + 8,
    completed_at=NOW + 9,
    keep_until=NOW + 10,
    cancel=Cancel("user", "no more"),
    needs=(task_id(2), task_id(3)),
)
SCHEDULE = Schedule(
    "nightly",
    Cron("0 3 * * *", tz="Europe/Zurich"),
    "pkg.mod:report",
    "main",
    TaskOptions(queue="reports"),
    b"call",
    catch_up="all",
    overlap="queue",
    paused=True,
    anchor=NOW,
    cursor=NOW + 60,
    last=ID,
)


def again(state: Head) -> Head:
    return RECORDS.unpack_head(state.id, RECORDS.pack_head(state))


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [head(1), FULL, head(1, TaskStatus.RUNNING, worker="a.1")])
def test_a_head_comes_back_as_it_was(state: Head) -> None:
    assert again(state) == state
    assert type(again(state)) is Head


def test_every_field_of_a_head_is_kept() -> None:
    first = head(1)
    same = [f for f in Head.__struct_fields__ if getattr(FULL, f) == getattr(first, f)]

    assert same == ["id", "submitted_at"], "FULL says something of its own about all the others"


@given(
    st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(allow_nan=False), st.text()
)
def test_times_and_names_are_kept_exactly(a: float, b: float, c: float, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    state = replace(head(1), name=name, submitted_at=a, since=b, due=c, rank=b)

    assert again(state) == state


def test_options_are_kept() -> None:
    options = TaskOptions(
        priority="high", retry=Retry(attempts=3, on=("a.B",)), limit=Limit("a", rate=3, per=60),
        key="key", after=[task_id(7)], timeout=3.0,
    )  # fmt: skip

    assert again(replace(head(1), options=options)).options == options
    assert again(replace(head(1), options=options)).options.given == options.given


@pytest.mark.parametrize(
    "options",
    [
        TaskOptions(meta={"user": 7}),
        TaskOptions(callback=print).with_callback(Follow("f", "main", TaskOptions(), None), None),
    ],
)
def test_a_head_with_objects_of_users_is_tracked(options: TaskOptions) -> None:
    state = again(TrackedHead(**{f: getattr(FULL, f) for f in Head.__struct_fields__}))

    assert type(state) is Head
    assert type(again(replace(head(1), options=options))) is TrackedHead


def test_many_heads_share_what_is_the_same() -> None:
    first, second = again(FULL), again(FULL)

    assert first.name is second.name
    assert first.worker is second.worker
    assert first.scope is second.scope
    assert again(head(1)).options is again(head(2)).options
    assert again(head(1)).due is not None


def test_what_is_shared_is_bounded() -> None:
    records = Records()
    for number in range(25_000):
        state = head(number, name=f"name {number}")
        assert records.unpack_head(state.id, records.pack_head(state)).name == state.name

    assert len(records._shared) <= 10_000


def test_a_usual_head_is_small() -> None:
    assert len(RECORDS.pack_head(head(1))) < 70


# --- bodies and outputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"call", b"\x00", b"\x01" * 1_000])
def test_a_call_comes_back_as_it_was(body: bytes | None) -> None:
    packed = RECORDS.pack_body(body)

    assert RECORDS.unpack_body(packed) == body
    assert packed is None if body is None else len(packed or b"") == len(body) + 1


@pytest.mark.parametrize("output", [None, Output(b"value"), Output(None, ERROR, FailureKind.ERROR)])
@pytest.mark.parametrize("data", [None, {"user": 7}, [1, "two"]])
def test_the_call_of_a_callback_comes_back_as_it_was(output: Output | None, data: Any) -> None:
    done = Done(None, FULL, output, data)

    assert RECORDS.unpack_body(RECORDS.pack_body(done)) == done


@pytest.mark.parametrize(
    "output",
    [
        Output(),
        Output(b""),
        Output(b"value"),
        *(Output(None, GROUP, kind) for kind in FailureKind),
    ],
)
def test_an_outcome_comes_back_as_it_was(output: Output) -> None:
    assert RECORDS.unpack_output(RECORDS.pack_output(output)) == output


def test_only_bytes_can_be_kept() -> None:
    with pytest.raises(EncodeError, match="a call must be bytes to be kept, not object"):
        RECORDS.pack_body(object())
    with pytest.raises(EncodeError, match="a value must be bytes to be kept, not int"):
        RECORDS.pack_output(Output(7))


# --- notes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [
        Note("pause", "images", Pause(NOW)),
        Note("limit", "customer:7", Window((), 0.5)),
        Note("limit", "customer:7", Window(((NOW, 3), (NOW + 0.1, 1)), 60.0)),
        Note("schedule", "nightly", SCHEDULE),
        Note("schedule", "nightly", replace(SCHEDULE, timing=Every(60), last=None, paused=False)),
    ],
)
def test_a_note_comes_back_as_it_was(note: Note) -> None:
    assert RECORDS.unpack_note(note.kind, note.name, RECORDS.pack_note(note)) == note


def test_no_other_notes_can_be_kept() -> None:
    with pytest.raises(EncodeError, match="no value of a note"):
        RECORDS.pack_note(Note("pause", "images", ERROR))  # type: ignore[arg-type]


# --- what cannot be read --------------------------------------------------------------------------

GARBAGE = [b"", b"\xc1", b"\x93\x01\xc2\xc2", b"hello", b"\xff" * 100]


@pytest.mark.parametrize("data", GARBAGE)
def test_bytes_that_are_no_record_are_an_error_that_names_it(data: bytes) -> None:
    with pytest.raises(CorruptStore, match=f"the head of task {ID} cannot be read"):
        RECORDS.unpack_head(ID, data)
    with pytest.raises(CorruptStore, match="an outcome cannot be read"):
        RECORDS.unpack_output(data)
    with pytest.raises(CorruptStore, match="a call cannot be read"):
        RECORDS.unpack_body(data if data[:1] != b"\x00" else b"\x02")
    with pytest.raises(CorruptStore, match="a call cannot be read"):
        RECORDS.unpack_body(b"\x01" + data)
    for kind in ("pause", "limit", "schedule"):
        with pytest.raises(CorruptStore, match=f"the {kind} 'a' cannot be read"):
            RECORDS.unpack_note(kind, "a", data)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_told_from_a_record(data: bytes) -> None:
    for read in (RECORDS.unpack_output, RECORDS.unpack_body, lambda d: RECORDS.unpack_head(ID, d)):
        with suppress(CorruptStore):
            read(data)


def newer(data: bytes) -> bytes:
    """Return the form of a version that has changed everything."""
    return msgspec.msgpack.encode([2, {"all": "new"}, len(data)])


def test_what_a_newer_version_has_written_says_so() -> None:
    upgrade = "was written by a newer one; upgrade"
    with pytest.raises(CorruptStore, match=f"the head of task {ID} has form 2.*{upgrade}"):
        RECORDS.unpack_head(ID, newer(RECORDS.pack_head(FULL)))
    with pytest.raises(CorruptStore, match=f"an outcome has form 2.*{upgrade}"):
        RECORDS.unpack_output(newer(b""))
    with pytest.raises(CorruptStore, match=f"a call has form 2.*{upgrade}"):
        RECORDS.unpack_body(b"\x01" + newer(b""))
    with pytest.raises(CorruptStore, match=f"the pause 'a' has form 2.*{upgrade}"):
        RECORDS.unpack_note("pause", "a", newer(b""))


def test_an_option_of_a_newer_version_says_so_too() -> None:
    form = msgspec.msgpack.decode(RECORDS.pack_head(FULL))
    for option, newer_ in (("colour", True), ("queue", False)):
        form[2] = msgspec.msgpack.encode({option: 3})
        with pytest.raises(CorruptStore, match=option) as caught:
            RECORDS.unpack_head(ID, msgspec.msgpack.encode(form))
        assert caught.value.newer is newer_
        assert ("upgrade" in str(caught.value)) is newer_


def test_of_a_damaged_head_is_left_what_can_be_read() -> None:
    data = RECORDS.pack_head(FULL)
    form = msgspec.msgpack.decode(data)
    form[9], form[16] = "p\0\0ding", "never"  # its status and until when it is kept
    left = RECORDS.salvage_head(ID, msgspec.msgpack.encode(form))

    assert (left.id, left.name, left.pool, left.options) == (ID, FULL.name, "process", FULL.options)
    assert (left.status, left.worker, left.fence) == (TaskStatus.RUNNING, None, FULL.fence + 1)


@pytest.mark.parametrize(("fence", "found"), [(0, 0), (3, 4), (2**64 - 1, 1 << 40), ("", 1 << 40)])
def test_a_fence_that_is_left_is_above_all_grants(fence: Any, found: int) -> None:
    form = msgspec.msgpack.decode(RECORDS.pack_head(FULL))
    form[9], form[10] = "never", fence

    assert RECORDS.salvage_head(ID, msgspec.msgpack.encode(form)).fence == found


@given(st.binary(max_size=60))
def test_whatever_is_there_something_is_left_that_can_be_kept(data: bytes) -> None:
    left = RECORDS.salvage_head(ID, data)

    assert (left.id, left.status, left.worker) == (ID, TaskStatus.RUNNING, None)
    again = RECORDS.unpack_head(ID, RECORDS.pack_head(left))
    assert (again.name, again.options, again.fence) == (left.name, left.options, left.fence)


def test_fields_that_came_later_are_not_asked_of_older_records() -> None:
    form = msgspec.msgpack.decode(RECORDS.pack_head(head(1)))
    older = msgspec.msgpack.encode(form[:-2])

    assert RECORDS.unpack_head(ID, older) == head(1)


def test_a_kind_of_note_that_is_not_known_is_an_error() -> None:
    with pytest.raises(CorruptStore, match="'a' is of a kind that is not known here: 'colour'"):
        RECORDS.unpack_note("colour", "a", b"")  # type: ignore[arg-type]
