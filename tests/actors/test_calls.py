"""What a worker makes of a grant, and what an outcome carries."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import actorq
from actorq.actors.calls import Direct, Encoded
from actorq.codec import pickled
from actorq.codec.payload import encode_call, encode_plain
from actorq.codec.references import Blank
from actorq.errors import EncodeError, PayloadTooLarge, StoreError, UnknownTask
from actorq.model.messages import Grant
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Done, Head, Output
from actorq.model.results import TaskDone
from actorq.model.status import RUNNING, SUCCESS, FailureKind
from actorq.registry import Registry
from actorq.tasks import Call, EncodedCall, EncodedValue, Task

MAX = 4_096
FAILED = Output(error=actorq.RemoteError("a.B", "no"), kind=FailureKind.ERROR)


@attrs.frozen
class Point:
    x: int
    y: int


@actorq.task(name="move")
async def move(point: Point, by: int = 1) -> Point:
    return Point(point.x + by, point.y)


@actorq.task(name="noted")
async def noted(done: TaskDone) -> None: ...


@actorq.task(name="crunch", run_in="process")
def crunch(point: Point) -> Point:
    return point


@actorq.task(name="noted aside", run_in="process")
def noted_aside(done: TaskDone) -> None: ...


def head(name: str, **fields: Any) -> Head:
    return Head(
        "id", name, NO_OPTIONS, "main", None, 1.0, 1.0, 1.0, 1.0, fields.pop("status", RUNNING)
    )  # fmt: skip


def grant(task: str, body: Any, **inputs: Any) -> Grant:
    return Grant(head(task), body, None, inputs)


def done(name: str, output: Output | None) -> Done:
    return Done(None, head(name, status=SUCCESS), output, {"user": 7})


@pytest.fixture
def encoded() -> Encoded:
    return Encoded(Registry([move, noted, crunch, noted_aside]), MAX)


def opened(calls: Any, granted: Grant) -> Call[Any]:
    call = calls.open(granted)
    assert isinstance(call, Call)
    return call


# --- by reference --------------------------------------------------------------------------------


def test_in_a_closed_system_a_call_is_itself() -> None:
    call = Call(move, (object(),), {})

    assert Direct().open(grant("move", call)) is call


def test_in_a_closed_system_a_value_is_itself() -> None:
    value = object()

    assert Direct().close(move, value) is value


def test_in_a_closed_system_a_callback_gets_the_value_itself() -> None:
    value = object()
    body = Done(Call(noted, (), {}), head("move", status=SUCCESS), Output(value), {"user": 7})

    call = opened(Direct(), grant("noted", body))

    (told,) = call.args
    assert call.task is noted
    assert told.result.value is value
    assert told.data == {"user": 7}


def test_in_a_closed_system_a_call_gets_the_values_that_it_needs_themselves() -> None:
    value = object()
    body = Call(move, (Blank("a"), [1, Blank("b")]), {"by": (Blank("a"),)})

    call = opened(Direct(), grant("move", body, a=value, b=None))

    assert (call.args, call.kwargs) == ((value, [1, None]), {"by": (value,)})
    assert call.args[0] is value
    assert body.args[0] == Blank("a")  # for the next attempt


def test_a_process_of_a_closed_system_gets_them_pickled() -> None:
    body = EncodedCall(crunch, pickled.encode_call("crunch", (Blank("a"),), {"more": [1]}))

    call = Direct().open(grant("crunch", body, a=Point(1, 2)))

    assert isinstance(call, EncodedCall)
    assert pickled.decode_call(call.call) == ((Point(1, 2),), {"more": [1]})


def test_a_value_that_cannot_go_to_a_process_is_refused_by_its_argument() -> None:
    body = EncodedCall(crunch, pickled.encode_call("crunch", (1, Blank("a")), {}))

    with pytest.raises(EncodeError, match="task crunch: argument 2 cannot be sent"):
        Direct().open(grant("crunch", body, a=lambda: None))


def test_a_call_whose_values_have_not_come_is_refused() -> None:
    with pytest.raises(EncodeError, match="task move: the value of task b"):
        Direct().open(grant("move", Call(move, (Blank("b"),), {}), a=1))


# --- by bytes ------------------------------------------------------------------------------------


def test_arguments_arrive_as_what_the_annotations_say(encoded: Encoded) -> None:
    body = move.signature.encode_call((Point(1, 2),), {"by": 3})

    call = opened(encoded, grant("move", body))

    assert (call.task, call.args, call.kwargs) == (move, (Point(1, 2),), {"by": 3})


def test_arguments_of_one_who_knew_only_the_name_do_so_too(encoded: Encoded) -> None:
    body = encode_call("move", ({"x": 1, "y": 2},), {"by": 3})

    assert opened(encoded, grant("move", body)).args == (Point(1, 2),)


def test_values_that_it_needs_are_what_the_annotations_of_the_call_say(encoded: Encoded) -> None:
    body = move.signature.encode_call((Blank("a"),), {"by": Blank("b")})
    point, number = move.signature.encode_value(Point(1, 2)), encode_plain(3, "it")

    call = opened(encoded, grant("move", body, a=point, b=number))

    assert (call.args, call.kwargs) == ((Point(1, 2),), {"by": 3})


def test_a_value_of_another_type_is_refused_by_its_argument(encoded: Encoded) -> None:
    body = move.signature.encode_call((Point(1, 2),), {"by": Blank("a")})

    with pytest.raises(EncodeError, match="task move: argument 'by' must be int, not str"):
        encoded.open(grant("move", body, a=encode_plain("three", "it")))


def test_a_process_gets_a_call_that_is_whole(encoded: Encoded) -> None:
    body = crunch.signature.encode_call((Blank("a"),), {})

    call = encoded.open(grant("crunch", body, a=move.signature.encode_value(Point(1, 2))))

    assert isinstance(call, EncodedCall)
    assert call.wire
    assert crunch.signature.decode_call(call.call) == ((Point(1, 2),), {})


def test_arguments_for_a_process_are_not_looked_into(encoded: Encoded) -> None:
    assert encoded.open(grant("crunch", b"\xc1")) == EncodedCall(crunch, b"\xc1", wire=True)


def test_a_task_that_this_worker_has_not_is_refused(encoded: Encoded) -> None:
    with pytest.raises(UnknownTask, match="this worker has no task 'other'"):
        encoded.open(grant("other", b""))


@pytest.mark.parametrize("body", [b"\xc1", b"\x90"])
def test_arguments_that_make_no_sense_are_refused(encoded: Encoded, body: bytes) -> None:
    with pytest.raises(EncodeError, match="task move"):
        encoded.open(grant("move", body))


def test_a_call_that_was_lost_says_so(encoded: Encoded) -> None:
    for task in ("move", "crunch", "noted"):
        with pytest.raises(StoreError, match=f"task {task}: its arguments are lost, as the store"):
            encoded.open(grant(task, b"", x=b"1"))


def test_a_call_that_did_not_fit_is_refused(encoded: Encoded) -> None:
    with pytest.raises(PayloadTooLarge, match=r"task move: its call, .*, is over the max_message"):
        encoded.open(grant("move", None))


@pytest.mark.parametrize("task", [move, crunch])
def test_a_value_is_encoded_as_the_annotation_says(encoded: Encoded, task: Task[..., Any]) -> None:
    data = encoded.close(task, Point(1, 2))

    assert task.signature.decode_value(data) == Point(1, 2)


def test_a_value_that_was_encoded_in_its_process_is_left_as_it_is(encoded: Encoded) -> None:
    assert encoded.close(crunch, EncodedValue(b"bytes")) == b"bytes"


def test_a_value_that_cannot_travel_is_refused(encoded: Encoded) -> None:
    with pytest.raises(EncodeError, match="task move: its value"):
        encoded.close(move, object())


@pytest.mark.parametrize("value", [Point(1, 2), EncodedValue(b"x" * 3)])
def test_a_value_that_is_too_large_is_refused(value: object) -> None:
    calls = Encoded(Registry([move]), 2)

    with pytest.raises(PayloadTooLarge, match=r"the value of task move takes \d+ bytes"):
        calls.close(move, value)


def test_the_bound_of_the_queue_holds_too_and_none_is_raised(encoded: Encoded) -> None:
    encoded.limit(10 * MAX)
    with pytest.raises(PayloadTooLarge, match=f"max_message={MAX}"):
        encoded.close(crunch, EncodedValue(b"x" * (MAX + 1)))

    encoded.limit(10)
    with pytest.raises(PayloadTooLarge, match="max_message=10"):
        encoded.close(crunch, EncodedValue(b"x" * 11))


# --- callbacks -----------------------------------------------------------------------------------


def test_a_callback_gets_the_value_as_its_task_has_returned_it(encoded: Encoded) -> None:
    output = Output(move.signature.encode_value(Point(1, 2)))

    (told,) = opened(encoded, grant("noted", done("move", output))).args

    assert told.result.value == Point(1, 2)
    assert told.data == {"user": 7}


def test_a_callback_gets_the_value_of_a_task_that_is_not_here_as_plain_data(
    encoded: Encoded,
) -> None:
    output = Output(encode_plain({"x": 1}, "a value"))

    (told,) = opened(encoded, grant("noted", done("elsewhere", output))).args

    assert told.result.value == {"x": 1}


@pytest.mark.parametrize(
    "output",
    [None, Output(), Output(error=actorq.RemoteError("a.B", "no"), kind=FailureKind.ERROR)],
)
def test_a_callback_gets_an_outcome_without_a_value(
    encoded: Encoded, output: Output | None
) -> None:
    (told,) = opened(encoded, grant("noted", done("move", output))).args

    assert told.result.value is None
    assert told.result.error == (output.error if output else None)


def test_a_callback_in_a_process_is_sent_there(encoded: Encoded) -> None:
    output = Output(encode_plain(7, "a value"))

    call = encoded.open(grant("noted aside", done("elsewhere", output)))

    assert isinstance(call, EncodedCall)
    assert (call.task, call.wire) == (noted_aside, False)


def test_a_callback_whose_task_has_a_value_that_makes_no_sense_is_refused(
    encoded: Encoded,
) -> None:
    with pytest.raises(EncodeError):
        encoded.open(grant("noted", done("move", Output(b"\xc1"))))
