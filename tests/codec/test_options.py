"""The options of a submission, on their way to the queue and to whoever looks at them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.codec import options as module
from actorq.codec.options import pack_options, unpack_options
from actorq.errors import EncodeError, SubmitError
from actorq.model.options import NO_OPTIONS, Limit, Retry, TaskOptions
from actorq.model.records import Follow
from actorq.model.status import TaskPriority

pack = msgspec.msgpack.encode

EVERY = TaskOptions(
    queue="images",
    priority="high",
    timeout=1.5,
    deadline=2.5,
    delay=3.5,
    expires=4.5,
    retry=Retry(5, 0.5, 3.0, 60.0, 0.0, ("builtins.OSError", "mine.Flaky"), ("mine.Fatal",)),
    at_most_once=True,
    max_deliveries=7,
    key="order 7",
    after=["id 1", "id 2"],
    on_dependency_failure="run",
    limit=Limit("customer:7", concurrency=2, rate=10, per=60),
    when_full="raise",
    callback=None,
    callback_data=None,
    result_ttl=60,
    meta={"trace": "abc", "user": 7, "tags": {"a", "b"}, "at": (1, 2)},
)


def again(options: TaskOptions) -> TaskOptions:
    return unpack_options(pack_options(options))


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    module._packed.clear()
    module._unpacked.clear()


def test_every_option_arrives() -> None:
    assert again(EVERY) == EVERY
    assert again(EVERY).given == EVERY.given
    assert EVERY.given | {"at"} == module.TaskOptions.__annotations__.keys() - {"given"}


def test_what_was_not_given_does_not_travel_and_is_not_given_there() -> None:
    """Or a caller's defaults would beat those of the decorator that a worker knows."""
    assert len(pack_options(NO_OPTIONS)) == 1
    assert again(TaskOptions(timeout=None)).given == {"timeout"}
    assert again(NO_OPTIONS).given == frozenset()


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-5, minutes=-30))])
def test_a_moment_is_the_same_moment_everywhere(zone: timezone) -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=zone)

    assert again(TaskOptions(at=at)).at == at


@pytest.mark.parametrize("year", [1, 1969, 9_000])
def test_the_first_and_the_last_moment_travel_too(year: int) -> None:
    at = datetime(year, 6, 1, tzinfo=UTC)

    assert again(TaskOptions(at=at)).at == at


def test_exceptions_travel_by_their_names() -> None:
    retry = again(TaskOptions(retry=Retry(on=(OSError, ValueError), never=(KeyError,)))).retry

    assert retry.on_names == {"builtins.OSError", "builtins.ValueError"}
    assert retry.never_names == {"builtins.KeyError"}


def test_a_callback_travels_with_its_own_options() -> None:
    inner = Follow("log", "main", TaskOptions(queue="logs"), None)
    follow = Follow("tell", "process", TaskOptions(timeout=5).with_callback(inner, None), "a call")
    options = TaskOptions(callback=print, callback_data="x").with_callback(follow, {"user": 7})

    back = again(options)

    assert back.callback_data == {"user": 7}
    assert (back.callback.name, back.callback.pool, back.callback.call) == ("tell", "process", None)
    assert back.callback.options.timeout == 5


def test_an_actor_as_callback_stays_where_it_is() -> None:
    options = TaskOptions(callback=print, callback_data={"user": 7}).with_callback(None, None)

    assert again(options).callback is None
    assert again(options).callback_data is None


class Unknown:
    def __repr__(self) -> str:
        return "<unknown>"


@pytest.mark.parametrize(
    ("options", "which"),
    [
        (TaskOptions(meta={"a": Unknown()}), "'meta'"),
        (
            TaskOptions(callback=print).with_callback(Follow("f", "main", NO_OPTIONS, None), None),
            "",
        ),
        (TaskOptions(callback=print, callback_data=Unknown()), "'callback_data'"),
    ],
    ids=["meta", "nothing", "callback_data"],
)
def test_what_cannot_travel_is_refused_by_its_name(options: TaskOptions, which: str) -> None:
    options = options.with_callback(None, options.callback_data)
    if not which:
        assert again(options).callback is None
        return
    with pytest.raises(EncodeError, match=which):
        pack_options(options)


options_: st.SearchStrategy[TaskOptions] = st.builds(
    lambda **given: TaskOptions(**{name: value for name, value in given.items() if value != ()}),
    queue=st.just(()) | st.sampled_from(["q", "a queue", "\u00fc" * 200]),
    priority=st.just(()) | st.sampled_from(TaskPriority),
    timeout=st.just(()) | st.none() | st.floats(1e-3, 1e9),
    delay=st.just(()) | st.none() | st.integers(0, 10**9),
    retry=st.just(()) | st.builds(Retry, st.integers(1, 9), st.floats(0, 9), on=st.just(("a.B",))),
    at_most_once=st.just(()) | st.booleans(),
    key=st.just(()) | st.none() | st.sampled_from(["k", "order 7"]),
    after=st.just(()) | st.lists(st.sampled_from(["id 1", "id 2", "id 3"]), min_size=1),
    on_dependency_failure=st.just(()) | st.sampled_from(["fail", "run"]),
    limit=st.just(())
    | st.none()
    | st.builds(Limit, st.just("k"), concurrency=st.none() | st.just(3), rate=st.integers(1, 9)),
    result_ttl=st.just(()) | st.none() | st.floats(0, 1e9),
    meta=st.just(()) | st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
)


@given(options_)
def test_options_come_back_equal_and_as_given(options: TaskOptions) -> None:
    back = again(options)

    assert back == options
    assert back.given == options.given


def test_equal_options_are_equal_bytes_in_every_process() -> None:
    """Or what is known by its bytes would be known once for every caller; sets have no order."""
    names = sorted(EVERY.given)
    one, other = (
        TaskOptions(**{n: getattr(EVERY, n) for n in given}) for given in (names, names[::-1])
    )

    assert list(msgspec.msgpack.decode(pack_options(one))) == names
    assert pack_options(one) == pack_options(other)


# --- what is no options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"\xc1", "malformed"),
        (b"\x90", "object"),
        (pack({1: 2}), "str"),
        (pack({"colour": "red"}), "unknown option 'colour'"),
        (pack({"given": []}), "unknown option 'given'"),
        (pack({"timeout": "soon"}), "option 'timeout' must be a number"),
        (pack({"timeout": float("nan")}), "option 'timeout' must be"),
        (pack({"deadline": 1e300}), "option 'deadline' must be"),
        (pack({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}), "exclude each other"),
        (pack({"at": "tomorrow"}), "option 'at' must be an aware datetime"),
        (pack({"priority": 9}), "9 is not a valid"),
        (pack({"priority": "high"}), "not a valid"),
        (pack({"priority": [1]}), "not a valid"),
        (pack({"retry": 3}), "iterable"),
        (pack({"retry": [1, 2, 3, 4, 5, 6, 7, 8, 9]}), "positional"),
        (pack({"retry": [0]}), "Retry: attempts"),
        (pack({"retry": [1, 1.0, 1.0, 1.0, 0.0, [1]]}), "Retry: on"),
        (pack({"key": 7}), "option 'key' must be a string"),
        (pack({"key": ""}), "option 'key' must be 1 to 200"),
        (pack({"after": "id 1"}), "option 'after' must be several"),
        (pack({"after": [7]}), "option 'after' must hold"),
        (pack({"after": [""]}), "option 'after' must be 1 to 200"),
        (pack({"on_dependency_failure": "skip"}), "'on_dependency_failure' must be"),
        (pack({"limit": 3}), "unpack"),
        (pack({"limit": ["k", 1]}), "not enough values"),
        (pack({"limit": ["k", None, None, 1.0]}), "give a concurrency, or a rate"),
        (pack({"limit": ["k", 0, None, 1.0]}), "Limit: concurrency must be"),
        (pack({"limit": ["k", None, 3, -1.0]}), "Limit: per must be"),
        (pack({"callback": 3}), "unpack"),
        (pack({"callback": [1, "main", b""]}), "no callback"),
        (pack({"callback": ["f", ["main"], b""]}), "no callback"),
        (pack({"callback": ["f", "main", 3]}), "options"),
        (pack({"callback": ["f", "main", b"\xc1"]}), "malformed"),
        (pack({"meta": 3}), "this value"),
        (pack({"meta": pack([1])}), "option 'meta' must be a mapping"),
        (pack({"callback_data": b"\xc1"}), "this value"),
        (pack({"queue": "x" * 201}), "option 'queue' must be"),
        (b"\x81\xa4meta" + b"\x91" * 100_000, "options"),
    ],
)
def test_what_is_no_options_is_a_submit_error_that_says_why(data: bytes, why: str) -> None:
    with pytest.raises(SubmitError, match=why):
        unpack_options(data)


# --- what is remembered --------------------------------------------------------------------------


def test_equal_bytes_are_one_object_of_options() -> None:
    first = unpack_options(pack({"timeout": 5}))

    assert unpack_options(pack({"timeout": 5})) is first


def test_large_options_are_not_kept() -> None:
    """A few hundred of them, of one caller, would be all of the memory."""
    large = TaskOptions(meta={"text": "x" * 100_000})

    assert again(large) == large
    assert not module._packed
    assert not module._unpacked


def test_options_that_differ_each_time_are_kept_up_to_a_bound() -> None:
    for number in range(3_000):
        again(TaskOptions(meta={"trace": number}))

    assert len(module._packed) <= 1_024
    assert len(module._unpacked) <= 1_024


def test_what_is_remembered_is_not_what_somebody_has_changed_since() -> None:
    meta: dict[str, Any] = {"a": 1}
    options = TaskOptions(meta=meta)
    before = pack_options(options)
    meta["a"] = 2

    assert pack_options(options) == before
    assert again(options).meta == {"a": 1}
