"""Schedules on the wire, where nothing is believed, and in stores."""

from typing import Any

import msgspec
import pytest

from actorq.codec.envelope import Malformed, WireError, decode_to_owner
from actorq.codec.options import pack_options
from actorq.codec.records import Records
from actorq.codec.schedules import (
    ScheduleForm,
    pack_schedule,
    pack_timing,
    unpack_schedule,
    unpack_timing,
)
from actorq.errors import CorruptStore, EncodeError, SubmitError
from actorq.model import messages as m
from actorq.model.options import NO_OPTIONS, TaskOptions
from actorq.model.records import Note
from actorq.model.schedules import Cron, Every, Schedule, Timing
from tests.codec.wires import CRON, EVERY, batch

pack = msgspec.msgpack.encode
OPTIONS = pack_options(NO_OPTIONS)


def form(**fields: Any) -> ScheduleForm:
    usual: dict[str, Any] = {
        "name": "nightly",
        "timing": ("every", 60.0),
        "task": "task",
        "pool": "main",
        "options": OPTIONS,
        "body": b"call",
    }
    return ScheduleForm(**usual | fields)


# --- both ways -----------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", [Cron("0 3 * * *"), CRON.timing, Every(7)])
def test_a_timing_comes_back_as_it_was(timing: Timing) -> None:
    assert unpack_timing(pack_timing(timing)) == timing


@pytest.mark.parametrize("schedule", [CRON, EVERY])
def test_a_schedule_comes_back_as_it_was(schedule: Schedule) -> None:
    assert unpack_schedule(pack_schedule(schedule)) == schedule


def test_how_far_it_got_does_not_travel() -> None:
    far = msgspec.structs.replace(CRON, paused=True, anchor=1.0, cursor=2.0, last="id")

    assert unpack_schedule(pack_schedule(far)) == CRON


def test_a_call_that_is_not_encoded_does_not_travel() -> None:
    with pytest.raises(EncodeError, match="a call must be bytes"):
        pack_schedule(msgspec.structs.replace(CRON, body=object()))


def test_what_a_newer_version_adds_is_ignored() -> None:
    assert unpack_timing(("every", 5.0, "jitter", 3.0)) == Every(5)
    assert unpack_timing(("cron", "0 3 * * *", "UTC", "more")) == Cron("0 3 * * *")


# --- what a peer could send ----------------------------------------------------------------------

NONSENSE = pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"timing": ("cron", "0 0 30 2 *", "UTC")}, "bad day-of-month"),
        ({"timing": ("cron", "0 3 * * *", "Europe/Atlantis")}, "no time zone"),
        ({"timing": ("cron", "0 3 * * *")}, "knows no timing"),
        ({"timing": ("every", -1.0)}, "at least 0.01"),
        ({"timing": ("every", float("nan"))}, "at least 0.01"),
        ({"timing": ("every", "60")}, "knows no timing"),
        ({"timing": ("moon", 3.0)}, "knows no timing"),
        ({"timing": ()}, "knows no timing"),
        ({"name": "a\0b"}, "without NUL"),
        ({"options": pack_options(TaskOptions(key="k"))}, "option 'key' makes no sense"),
        ({"options": b"\xc1"}, "does not understand the options"),
    ],
)


@NONSENSE
def test_a_schedule_that_makes_no_sense_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(SubmitError, match=why):
        unpack_schedule(form(**fields))


@NONSENSE
def test_who_declares_one_is_answered_and_stays_connected(fields: dict[str, Any], why: str) -> None:
    (malformed,) = decode_to_owner(pack([["declare", 7, form(**fields)]]))

    assert isinstance(malformed, Malformed)
    assert malformed.request == 7
    with pytest.raises(SubmitError, match=why):
        raise malformed.error


def test_a_worker_that_declares_one_is_not_let_in() -> None:
    (hello,) = msgspec.msgpack.decode(batch(_knows()))
    hello[2]["task"][2][1] = ["cron", "0 0 30 2 *", "UTC"]

    with pytest.raises(WireError, match="bad day-of-month"):
        decode_to_owner(pack([hello]))


def _knows() -> m.Knows:
    return m.Knows({"task": "digest"}, {"task": m.Declared("main", NO_OPTIONS, CRON)})


@pytest.mark.parametrize(
    "fields",
    [{"catch_up": "never"}, {"overlap": "drop"}, {"pool": "sea"}, {"name": ""}, {"body": None}],
)
def test_what_has_not_the_form_of_one_is_no_message(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_to_owner(pack([["declare", 7, form(**fields)]]))


# --- in stores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [CRON, EVERY])
def test_a_store_keeps_how_far_it_got(schedule: Schedule) -> None:
    records = Records()
    far = msgspec.structs.replace(schedule, paused=True, anchor=1.5, cursor=2.5, last="id")
    note = Note("schedule", schedule.name, far)

    assert records.unpack_note("schedule", schedule.name, records.pack_note(note)) == note


def test_what_is_damaged_is_a_corrupt_store_that_says_which() -> None:
    with pytest.raises(CorruptStore, match="the schedule 'nightly' cannot be read"):
        Records().unpack_note("schedule", "nightly", b"\xc1")


def test_a_zone_that_is_not_known_any_more_is_named() -> None:
    data = Records().pack_note(Note("schedule", "nightly", CRON))

    with pytest.raises(CorruptStore, match="no time zone 'Europe/Zuruck'"):
        Records().unpack_note("schedule", "nightly", data.replace(b"Zurich", b"Zuruck"))
