import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.codec.pickled import decode_call, decode_value, encode_call, encode_value
from actorq.errors import EncodeError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=5,
)


class Stubborn:
    """It can be pickled and not be built again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ()


def refuse() -> None:
    raise RuntimeError("cannot be built")


@given(st.lists(values).map(tuple), st.dictionaries(st.text(), values))
def test_a_call_arrives_as_it_was_made(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert decode_call(encode_call("job", args, kwargs)) == (args, kwargs)


@given(values)
def test_a_value_arrives_as_it_was_returned(value: object) -> None:
    assert decode_value("job", encode_value("job", value)) == value


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((1, threading.Lock()), {}, "argument 2"),
        ((1,), {"lock": threading.Lock()}, "argument 'lock'"),
        ((lambda: 1, threading.Lock()), {}, "argument 1"),
    ],
)
def test_the_argument_that_cannot_travel_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], named: str
) -> None:
    with pytest.raises(EncodeError, match=f"task job: {named} cannot be sent") as caught:
        encode_call("job", args, kwargs)

    assert caught.value.__cause__ is not None


def test_a_value_that_cannot_leave_its_process_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="the value of task job cannot leave its process"):
        encode_value("job", threading.Lock())


def test_a_value_that_cannot_be_rebuilt_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match=r"the value of task job has left.* cannot be built"):
        decode_value("job", encode_value("job", Stubborn()))


def test_a_value_cut_short_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="cannot be rebuilt"):
        decode_value("job", pickle.dumps("value")[:-3])


def test_arguments_too_deep_to_pickle_are_an_encode_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(EncodeError, match="argument 1 cannot be sent"):
        encode_call("job", (deep,), {})
