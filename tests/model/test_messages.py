import inspect
from typing import Any, get_args

import pytest
from msgspec import Struct

from actorq.model import messages as m
from actorq.model.options import NO_OPTIONS

MESSAGES = [
    cls for _, cls in inspect.getmembers(m, inspect.isclass) if cls.__module__ == m.__name__
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
        (m.Watch(1, ("a",)), "resent", False),
        (m.Reply(1), "error", None),
    ],
)  # fmt: skip
def test_a_message_is_the_usual_one_unless_it_says_otherwise(
    message: Any, field: str, default: object
) -> None:
    assert getattr(message, field) is default
