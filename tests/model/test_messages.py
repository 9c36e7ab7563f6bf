import inspect
import math
from collections import Counter
from typing import Any, get_args

import pytest
from msgspec import Struct, ValidationError
from msgspec.msgpack import decode, encode

from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model import work
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS

MESSAGES = [
    cls
    for _, cls in inspect.getmembers(m, inspect.isclass)
    if cls.__module__ in (m.__name__, work.__name__)
]
TASK = m.Submission("a", "job", "main", NO_OPTIONS, None, "call")


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_message_cannot_be_changed_once_it_is_sent(cls: type[Struct]) -> None:
    assert cls.__struct_config__.frozen


@pytest.mark.parametrize("cls", get_args(m.Request))
def test_a_request_begins_with_the_number_that_its_reply_names(cls: type[Struct]) -> None:
    assert cls.__struct_fields__[0] == "request"
    assert m.Reply.__struct_fields__[0] == "request"


def test_every_verb_that_has_an_answer_is_a_request() -> None:
    with_answer = {
        cls
        for cls in MESSAGES
        if "request" in cls.__struct_fields__ and cls not in {m.Reply, m.Forget}
    }

    assert with_answer == set(get_args(m.Request))


@pytest.mark.parametrize(
    ("message", "field", "default"),
    [
        (m.Submit(1, (TASK,)), "resent", False),
        (m.Submit(1, (TASK,)), "lineage", None),
        (m.Submit(1, (TASK,)), "stamp", None),
        (m.Watch(1, ("a",)), "resent", False),
        (m.Reply(1), "error", None),
        (m.ClientHello("session"), "leased", False),
        (m.WorkerHello("w.0", "w", (), {}), "leased", False),
        (m.WorkerHello("w.0", "w", (), {}), "tasks", None),
        (m.Subscribe(1, 2, Filter()), "since", None),
    ],
)  # fmt: skip
def test_a_message_is_the_usual_one_unless_it_says_otherwise(
    message: Any, field: str, default: object
) -> None:
    assert getattr(message, field) is default


TAGGED = [cls for cls in MESSAGES if cls.__struct_config__.tag is not None]


@pytest.mark.parametrize("cls", TAGGED)
def test_a_message_that_is_its_own_form_is_an_array_which_later_versions_may_extend(
    cls: type[Struct],
) -> None:
    assert cls.__struct_config__.array_like
    assert not cls.__struct_config__.forbid_unknown_fields


def test_no_two_messages_begin_with_the_same_tag() -> None:
    wire = [cls for _, cls in inspect.getmembers(w, inspect.isclass) if issubclass(cls, Struct)]
    tags = Counter(
        cls.__struct_config__.tag for cls in [*TAGGED, *wire] if cls.__struct_config__.tag
    )

    assert [tag for tag, times in tags.items() if times > 1] == []
    assert len(tags) > 30


@pytest.mark.parametrize(
    ("message", "form"),
    [
        (m.Beat(0.5), ["beat", 0.5]),
        (m.Ready("main", 3), ["ready", "main", 3]),
        (m.Welcome((("a", 1),)), ["welcome", [["a", 1]]]),
        (m.ClientWelcome("records", 2, 1.5), ["hail", "records", 2, 1.5]),
        (m.Finished("a", 2, True), ["finished", "a", 2, True]),
        (m.WorkerDied(7, "w"), ["died", 7, "w"]),
    ],
)
def test_the_form_of_a_message_is_what_other_versions_rely_on(
    message: Struct, form: list[Any]
) -> None:
    assert decode(encode(message)) == form
    assert decode(encode([*form, "from a later version"]), type=type(message)) == message


@pytest.mark.parametrize(
    ("cls", "form"),
    [
        (m.Beat, ["beat", math.nan]),
        (m.Beat, ["beat", math.inf]),
        (m.Beat, ["beat", -1.0]),
        (m.Ready, ["ready", "main", -1]),
        (m.Ready, ["ready", "main", 10**12]),
        (m.Ready, ["ready", "other", 1]),
        (m.Started, ["started", "a", 1, math.nan]),
        (m.WorkerDied, ["died", 1, ""]),
        (m.WorkerDied, ["died", 1, "x" * 201]),
        (m.CancelTask, ["cancel", 1, "a", ["user", None], -1.0]),
        (m.CancelTask, ["cancel", 1, "a", ["user", None], math.inf]),
    ],
)
def test_numbers_and_names_that_no_node_would_say_are_refused(
    cls: type[Struct], form: list[Any]
) -> None:
    with pytest.raises(ValidationError):
        decode(encode(form), type=cls)
