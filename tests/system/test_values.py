"""Values as they are read: by the annotation of a task that is known, or as plain data."""

import attrs
import pytest

import actorq
from actorq.codec.payload import encode_plain
from actorq.errors import EncodeError
from actorq.registry import Registry
from actorq.system.values import decoder
from actorq.tasks import NamedTask


@attrs.frozen
class Point:
    x: int
    y: int


@actorq.task(name="locate")
async def locate() -> Point:
    return Point(1, 2)


DATA = locate.signature.encode_value(Point(1, 2))


def test_the_value_of_a_known_task_is_what_its_annotation_says() -> None:
    assert decoder(Registry([locate]))("locate", DATA) == Point(1, 2)


def test_the_value_of_any_other_task_is_plain_data() -> None:
    assert decoder(Registry())("locate", DATA) == {"x": 1, "y": 2}


def test_the_value_of_a_task_of_which_only_the_name_is_known_is_plain_data() -> None:
    registry = Registry([NamedTask.called("locate")])

    assert decoder(registry)("locate", DATA) == {"x": 1, "y": 2}


def test_a_task_that_is_learnt_later_is_known_from_then_on() -> None:
    registry = Registry()
    decode = decoder(registry)

    registry.learn(locate)

    assert decode("locate", DATA) == Point(1, 2)


def test_nothing_is_nothing() -> None:
    assert decoder(Registry([locate]))("locate", None) is None


def test_a_value_of_an_older_version_of_a_task_that_does_not_fit_says_so() -> None:
    with pytest.raises(EncodeError, match="task locate: its value"):
        decoder(Registry([locate]))("locate", encode_plain({"x": "one"}, "a value"))
