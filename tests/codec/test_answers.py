"""What the owner answers: of each kind one, and errors that are still what they were."""

from typing import Any

import msgspec
import pytest

from actorq import errors
from actorq.codec.answers import (
    HeadForm,
    ReplyForm,
    checked,
    pack_head,
    pack_reply,
    unpack_head,
    unpack_reply,
)
from actorq.errors import ActorqError
from actorq.model import messages as m
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output, TrackedHead
from actorq.model.status import TaskStatus
from tests.codec.wires import ANSWERS, FAILED, head

pack = msgspec.msgpack.encode


def there_and_back(answer: m.Reply) -> m.Reply:
    return unpack_reply(msgspec.msgpack.decode(pack(pack_reply(answer)), type=ReplyForm))


def again(made: Head) -> Head:
    return unpack_head(msgspec.msgpack.decode(pack(pack_head(made)), type=HeadForm))


@pytest.mark.parametrize("answer", ANSWERS[:-1], ids=range(len(ANSWERS) - 1))
def test_an_answer_comes_back_as_it_was(answer: m.Reply) -> None:
    assert there_and_back(answer) == answer


def test_none_is_an_answer() -> None:
    assert there_and_back(m.Reply(7)) == m.Reply(7)


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownTask("no such task"),
        errors.InvalidArguments("not like this"),
        errors.EncodeError("cannot travel"),
        errors.PayloadTooLarge("too large"),
        errors.QueueFull("no room"),
        errors.SubmitError("no"),
        errors.KeyConflict("taken"),
        errors.ActorDied("closing"),
        errors.StoreUnavailable("not now"),
        errors.StoreError("it cannot"),
        errors.TaskNotFound("id 1"),
        errors.ScheduleNotFound("no schedule 'x'", name="x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_is_the_same_error_there(error: Exception) -> None:
    back = there_and_back(m.Reply(1, error=error)).error

    assert back is not None
    assert (type(back), str(back)) == (type(error), str(error))


def test_who_asks_for_an_unknown_schedule_is_told_which() -> None:
    refusal = errors.ScheduleNotFound("no schedule 'x'", name="x")

    back = there_and_back(m.Reply(1, error=refusal)).error

    assert isinstance(back, errors.ScheduleNotFound)
    assert back.name == "x"


def test_who_asks_for_an_unknown_id_is_told_which() -> None:
    back = there_and_back(m.Reply(1, error=errors.TaskNotFound("id 1"))).error

    assert isinstance(back, errors.TaskNotFound)
    assert back.id == "id 1"


@pytest.mark.parametrize(
    "error",
    [
        errors.CorruptStore("no"),
        errors.RowRefused("no", id="id 1"),
        errors.Fenced("no"),
        errors.OwnedElsewhere("no"),
        errors.StoreError("no"),
    ],
)
def test_any_other_trouble_with_the_store_is_what_it_is_everywhere(
    error: errors.StoreError,
) -> None:
    back = there_and_back(m.Reply(1, error=error)).error

    assert (type(back), str(back)) == (type(error), "no")
    assert getattr(back, "id", None) == getattr(error, "id", None)


@pytest.mark.parametrize(
    "type_", ["KeyError", "RemoteError", "leaves", "__doc__", "TaskFailed", "nobody's", ""]
)
def test_an_error_that_is_no_refusal_of_ours_is_told_in_words(type_: str) -> None:
    """Nothing is built, or called, because a peer has named it."""
    back = unpack_reply(ReplyForm(1, "error", msgspec.Raw(pack([type_, "why"])))).error

    assert type(back) is ActorqError
    assert str(back) == f"{type_}: why"


def test_each_kind_of_answer_has_a_word_of_its_own() -> None:
    kinds = [pack_reply(answer)[2] for answer in ANSWERS]

    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("status", TaskStatus)
def test_a_head_comes_back_as_it_was(status: TaskStatus) -> None:
    made = head(status=status, started_at=None, cancel=None)

    back = again(made)

    assert back == made
    assert type(back) is Head


def test_every_field_of_a_head_travels() -> None:
    assert HeadForm.__struct_fields__ == Head.__struct_fields__


def test_a_head_with_meta_is_tracked() -> None:
    assert type(again(head(options=TaskOptions(meta={"a": 1})))) is TrackedHead


@pytest.mark.parametrize("output", [None, Output(), Output(b"value"), FAILED])
def test_an_output_comes_back_as_it_was(output: Output | None) -> None:
    back = msgspec.msgpack.decode(pack(output), type=Output | None)

    assert checked(back) == output


@pytest.mark.parametrize("value", [7, "text", [b"value"], {}, True])
def test_an_output_whose_value_is_not_encoded_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"a value must be bytes, not {type(value).__name__}"):
        checked(Output(value))
