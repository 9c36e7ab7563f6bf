"""Every message comes back as it was, and whatever else comes is refused, whoever sent it."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actorq.codec import envelope
from actorq.codec.envelope import (
    MESSAGES_MAX,
    Malformed,
    WireError,
    decode_from_owner,
    decode_to_owner,
    encode,
    join,
)
from actorq.codec.options import pack_options
from actorq.errors import SubmitError
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent, TaskEventKind, TrackedEvent
from actorq.model.filters import SEVERAL_MAX, Filter
from actorq.model.options import AFTER_MAX, TaskOptions
from actorq.model.records import Cancel, Done, Output, TrackedHead
from actorq.model.results import Progress
from actorq.model.status import SUCCESS
from tests.codec.wires import (
    FAILED,
    FROM_OWNER,
    NOW,
    TO_OWNER,
    bare_grant_head,
    batch,
    forms,
    head,
    tampered,
    things,
)

Decode = Callable[[bytes], list[Any]]
WAYS = pytest.mark.parametrize(
    ("decode", "messages"),
    [(decode_to_owner, TO_OWNER), (decode_from_owner, FROM_OWNER)],
    ids=["to owner", "from owner"],
)
pack = msgspec.msgpack.encode
TASK = ["id 1", "task", "main", pack({}), None, b""]
"""As a version sent it that knew of no needs."""


def each(messages: list[Any]) -> pytest.MarkDecorator:
    ids = [f"{type(message).__name__}-{number}" for number, message in enumerate(messages)]
    return pytest.mark.parametrize("message", messages, ids=ids)


# --- honest peers --------------------------------------------------------------------------------


@each(TO_OWNER)
def test_what_nodes_say_comes_back_as_it_was(message: Any) -> None:
    assert decode_to_owner(batch(message)) == [message]


@each(FROM_OWNER)
def test_what_the_owner_says_comes_back_as_it_was(message: Any) -> None:
    (back,) = decode_from_owner(batch(message))

    if isinstance(message, m.Reply) and message.error is not None:
        assert (type(back.error), str(back.error)) == (type(message.error), str(message.error))
    else:
        assert back == message


@WAYS
def test_a_batch_comes_back_in_order(decode: Decode, messages: list[Any]) -> None:
    back = decode(batch(*messages))

    assert [type(message) for message in back] == [type(message) for message in messages]


def test_there_is_a_sample_of_every_message() -> None:
    """Or the tests of this file would say less than they seem to."""
    for union, messages in ((envelope._TO_OWNER, TO_OWNER), (envelope._FROM_OWNER, FROM_OWNER)):
        tags = {form.__struct_config__.tag for form in get_args(union)}
        assert tags == {form[0] for form in forms(messages)}


@pytest.mark.parametrize("count", [0, 1, 15, 16, 256, MESSAGES_MAX])
def test_a_batch_has_any_number_of_messages_up_to_a_bound(count: int) -> None:
    assert decode_to_owner(join([encode(w.Bye())] * count)) == [w.Bye()] * count


def test_a_batch_of_very_many_messages_is_still_one_array() -> None:
    assert len(msgspec.msgpack.decode(join([b"\x00"] * 70_000))) == 70_000


def test_a_workers_grant_tells_it_no_more_than_it_needs() -> None:
    """Neither who submitted a task nor how it fared before."""
    (grant,) = decode_from_owner(batch(m.Grant(head(), b"call", None)))

    assert grant == m.Grant(bare_grant_head(), b"call", None)


def test_what_a_peer_of_an_earlier_version_leaves_out_is_as_usual() -> None:
    (submit,) = decode_to_owner(pack([["submit", 1, [TASK], False, None]]))
    form = ["grant", "id 1", "task", pack({}), "main", 1, 0, None, b"call"]
    welcome, grant = decode_from_owner(pack([["hail", "records", 2], form]))

    assert (submit.stamp, submit.tasks[0].needs) == (None, ())
    assert welcome.at == 0.0
    assert grant.inputs == {}


def test_the_exception_itself_does_not_travel() -> None:
    finish = m.Finish("id 1", 3, "failed", FAILED, NOW, exception=ValueError("here only"))
    outcome = m.Outcome(head(status=SUCCESS), FAILED, ValueError("here only"))

    assert decode_to_owner(batch(finish))[0].exception is None
    assert decode_from_owner(batch(outcome))[0].cause is None


def test_what_may_hold_users_objects_is_known_to_the_garbage_collector() -> None:
    tracked = head(options=TaskOptions(meta={"a": [1]}))
    events = [TaskEvent(TaskEventKind.STARTED, each, NOW) for each in (tracked, head())]

    outcome, news = decode_from_owner(batch(m.Outcome(tracked, None), m.News(1, events)))

    assert type(outcome.head) is TrackedHead
    assert [type(event) for event in news.events] == [TrackedEvent, TaskEvent]


def test_a_worker_that_runs_anything_here_knows_nothing_elsewhere() -> None:
    """By reference, a worker takes any call; over a wire only what it has."""
    (hello,) = decode_to_owner(batch(m.WorkerHello("node.1", "node", (), {"main": 1}, None)))

    assert hello.tasks == {}


def test_whether_a_worker_is_elsewhere_is_not_for_it_to_say() -> None:
    hello = m.WorkerHello("node.1", "node", (), {"main": 1}, {}, leased=True)

    assert not decode_to_owner(batch(hello))[0].leased


# --- peers of another version --------------------------------------------------------------------


@WAYS
def test_fields_that_are_not_known_are_ignored(decode: Decode, messages: list[Any]) -> None:
    longer = [[*form, "a later field"] for form in forms(messages)]

    assert len(decode(pack(longer))) == len(messages)


@pytest.mark.parametrize(
    "form",
    [
        ["hello", [1, 1], 1],
        ["client", "session"],
        ["watch", 1, []],
        ["bulk", 1, "retry", {}, False],
        ["subscribe", 1, 2, {}],
        ["worker", "node.1", "node", [], {}, {}],
        ["knows", {}],
        ["submit", 1, [TASK], False, None],
        ["ping"],
    ],
)
def test_fields_of_a_later_version_may_be_missing(form: list[Any]) -> None:
    assert len(decode_to_owner(pack([form]))) == 1


@WAYS
def test_a_message_of_an_extension_is_ignored_and_the_others_are_not(
    decode: Decode, messages: list[Any]
) -> None:
    known = forms(messages)
    mixed = [["x-later"], *known[:2], ["x-trace", {"any": [1, 2]}], *known[2:], ["x-"]]

    assert len(decode(pack(mixed))) == len(messages)


@WAYS
def test_a_message_of_another_kind_is_refused(decode: Decode, messages: list[Any]) -> None:
    with pytest.raises(WireError):
        decode(pack([*forms(messages), ["y-later"]]))


@each(FROM_OWNER)
def test_no_node_says_what_only_the_owner_may(message: Any) -> None:
    with pytest.raises(WireError):
        decode_to_owner(batch(message))


@each(TO_OWNER)
def test_no_owner_says_what_only_nodes_may(message: Any) -> None:
    with pytest.raises(WireError):
        decode_from_owner(batch(message))


def test_closing_is_for_nobody_elsewhere_to_ask_for() -> None:
    with pytest.raises(WireError):
        decode_to_owner(join([pack(["close", 1, True, 0.0])]))


def test_an_answer_of_a_kind_that_is_not_known_is_an_error_of_that_request_alone() -> None:
    known, unknown = decode_from_owner(pack([["reply", 1, "count", 7], ["reply", 2, "later", {}]]))

    assert known == m.Reply(1, 7)
    assert unknown.request == 2
    assert "'later', which this version does not know" in str(unknown.error)


# --- a submission whose content makes no sense ---------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (b"", "truncated"),
        (pack([]), "object"),
        (pack({"colour": "red"}), "unknown option 'colour'"),
        (pack({"timeout": -1}), "'timeout' must be more than 0"),
        (pack({"meta": b"\xc1"}), "this value"),
        (pack({"callback": ["name", "main"]}), "not enough values"),
        (pack({"callback": ["name", "cellar", pack({})]}), "no callback"),
    ],
)
def test_a_submit_with_options_that_make_no_sense_is_answered_and_no_more(
    options: bytes, why: str
) -> None:
    task = ["id 1", "task", "main", options, None, b""]

    malformed, after = decode_to_owner(pack([["submit", 7, [task], False, None], ["bye"]]))

    assert isinstance(malformed, Malformed)
    assert malformed.request == 7
    assert isinstance(malformed.error, SubmitError)
    assert why in str(malformed.error)
    assert after == w.Bye()


@pytest.mark.parametrize(
    "form",
    [
        ["worker", "n.1", "n", [], {}, {"task": "d"}, {"task": ["main", pack({"colour": 1})]}],
        ["knows", {"task": "d"}, {"task": ["main", pack({"timeout": "soon"})]}],
    ],
)
def test_a_worker_that_declares_what_makes_no_sense_is_refused(form: list[Any]) -> None:
    with pytest.raises(WireError, match="makes no sense"):
        decode_to_owner(pack([form]))


# --- hostile peers -------------------------------------------------------------------------------

NOT_AT_ALL: dict[Any, Any] = {1: {2: 3}}
"""Fits no field of any message."""


@each(TO_OWNER)
def test_a_field_of_the_wrong_type_is_refused(message: Any) -> None:
    (form,) = forms([message])
    for place in range(1, len(form)):
        wrong = [*form[:place], NOT_AT_ALL, *form[place + 1 :]]
        with pytest.raises(WireError):
            decode_to_owner(pack([wrong]))


@each(FROM_OWNER)
def test_a_field_of_the_owner_of_the_wrong_type_is_refused(message: Any) -> None:
    (form,) = forms([message])
    for place in range(1, len(form)):
        wrong = [*form[:place], NOT_AT_ALL, *form[place + 1 :]]
        if form[0] != "reply" or form[2]:  # an answer that says nothing is not looked into
            with pytest.raises(WireError):
                decode_from_owner(pack([wrong]))


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e11, 1e300])
@pytest.mark.parametrize(
    "make",
    [
        lambda seconds: m.Withdraw(1, 2, (), seconds),
        lambda seconds: m.CancelTask(1, "id 1", Cancel("user"), seconds),
        lambda seconds: m.EndScope(1, "me:1", seconds),
        lambda seconds: m.Bulk(1, "cancel", Filter(queue="q"), False, Cancel("user"), seconds),
        m.Beat,
        lambda seconds: m.Finish("id 1", 1, "later", Output(), None, delay=seconds),
    ],
    ids=["withdraw", "cancel", "end", "bulk", "beat", "finish"],
)
def test_a_duration_that_is_none_is_refused(make: Any, seconds: float) -> None:
    with pytest.raises(WireError):
        decode_to_owner(batch(make(seconds)))


@pytest.mark.parametrize("moment", [math.nan, math.inf, -1.0, 1e15, 1e300])
@pytest.mark.parametrize(
    "make",
    [
        lambda moment: m.Started("id 1", 1, moment),
        lambda moment: m.Finish("id 1", 1, "ok", Output(b""), moment),
        lambda moment: m.Subscribe(1, 2, Filter(), moment),
    ],
    ids=["started", "finish", "subscribe"],
)
def test_a_time_that_is_none_is_refused(make: Any, moment: float) -> None:
    with pytest.raises(WireError):
        decode_to_owner(batch(make(moment)))


@pytest.mark.parametrize(
    "form",
    [
        ["find", 1, {}, None, 0],
        ["find", 1, {}, None, -1],
        ["find", 1, {}, None, 1_001],
        ["find", 1, {"before": math.nan}, None, 1],
        ["ready", "main", -1],
        ["ready", "cellar", 1],
        ["ready", "main", 2**40],
        ["worker", "n.1", "n", [], {"main": -1}, {}],
        ["worker", "n.1", "n", [], {"main": 1}, {}, {"task": ["any", pack({})]}],
        ["hello", [1, 1], 1, "", "", -1],
        ["hello", [1, 1], 1, "", "", 0],
        ["hello", [1, 1], 0],
        ["hello", [1, 1], -1],
        ["hello", [1], 1],
        ["bulk", 1, "explode", {}, False],
        ["bulk", 1, "retry", {"names": list(map(str, range(SEVERAL_MAX + 1)))}, False],
        ["find", 1, {"ids": list(map(str, range(SEVERAL_MAX + 1)))}, None, 1],
        ["finish", "id 1", 1, "rich", [None], None, False, 0.0],
        ["submit", 1, [[*TASK, ["x" * 201]]], False, None],
        ["submit", 1, [[*TASK, [""]]], False, None],
        ["submit", 1, [[*TASK, ["id 0"] * (AFTER_MAX + 1)]], False, None],
        ["submit", 1, [TASK], False, None, math.nan],
        ["submit", 1, [TASK], False, None, -1.0],
    ],
)
def test_a_word_or_a_number_out_of_range_is_refused(form: list[Any]) -> None:
    with pytest.raises(WireError):
        decode_to_owner(pack([form]))


@WAYS
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x90\x90",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\x94\xa5watch\x01\xdd\xff\xff\xff\xff",
        b"\x91\x93\xa5knows\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x91\x92\xa7x-later" + b"\x91" * 100_000,
        b"\x91\x94\xa5reply\x01\xa0" + b"\x91" * 100_000,
        b"\x91\x94\xa5reply\x01\xa4tree" + b"\x91" * 100_000,
        b"\x91\x91\xa1\xff",
        b"\x81\xa5hello\x01",
    ],
    ids=range(15),
)
def test_a_batch_that_is_none_is_refused(decode: Decode, messages: list[Any], data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


@WAYS
@pytest.mark.parametrize("header", [b"\xdc\x10\x01", b"\xdc\xff\xff", b"\xdd\x00\x10\x00\x00"])
def test_a_batch_of_too_many_messages_is_refused_unread(
    decode: Decode, messages: list[Any], header: bytes
) -> None:
    with pytest.raises(WireError, match="more than 4096 messages"):
        decode(header)


@pytest.mark.parametrize("depth", [10, 1_000, 100_000])
def test_callbacks_of_callbacks_end_in_an_answer(depth: int) -> None:
    options = pack({})
    for _ in range(depth):
        options = pack({"callback": ["name", "main", options]})
        if len(options) > 200_000:
            break
    task = ["id 1", "task", "main", options, None, b""]

    (message,) = decode_to_owner(pack([["submit", 7, [task], False, None]]))

    assert isinstance(message, m.Submit if depth == 10 else Malformed)


@WAYS
def test_arbitrary_bytes_are_refused_or_read_and_nothing_else(
    decode: Decode, messages: list[Any]
) -> None:
    @settings(max_examples=200)
    @given(st.binary(max_size=200) | tampered(messages) | st.lists(things, max_size=3).map(pack))
    @example(b"\x90")
    def check(data: bytes) -> None:
        with suppress(WireError):
            decode(data)

    check()


@WAYS
def test_the_fields_of_a_known_message_may_be_anything(decode: Decode, messages: list[Any]) -> None:
    tags = sorted({form[0] for form in forms(messages)})

    @settings(max_examples=100)
    @given(st.sampled_from(tags), st.lists(things, max_size=9))
    def check(tag: str, fields: list[Any]) -> None:
        with suppress(WireError):
            decode(pack([[tag, *fields]]))

    check()


@given(things)
def test_the_options_of_a_submission_may_be_anything(options: Any) -> None:
    task = ["id 1", "task", "main", pack(options), None, b""]

    (message,) = decode_to_owner(pack([["submit", 7, [task], False, None]]))

    assert isinstance(message, Malformed) == (options != {})


def test_progress_that_is_no_number_is_still_a_report() -> None:
    """It is shown, not counted with."""
    report = m.Report("id 1", 1, Progress(math.inf, None, None))

    assert decode_to_owner(batch(report)) == [report]


def test_a_callback_gets_its_data_as_it_was_given() -> None:
    data = {"user": 7, "at": (1, 2.5, None)}
    done = Done(None, head(status=SUCCESS), None, data)

    (grant,) = decode_from_owner(batch(m.Grant(bare_grant_head(), done, None)))

    assert grant.body.data == data


def test_options_travel_with_every_head() -> None:
    options = TaskOptions(timeout=5, meta={"trace": "abc"})

    (outcome,) = decode_from_owner(batch(m.Outcome(head(options=options), None)))

    assert outcome.head.options == options
    assert outcome.head.options.given == options.given
    assert pack_options(outcome.head.options) == pack_options(options)
