import pickle
from collections import deque
from datetime import UTC, datetime
from math import inf, nan
from typing import Any

import attrs
import pytest

from actorq.model.options import NO_OPTIONS, OptionsDict, Retry, TaskOptions
from actorq.model.status import TaskPriority

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = [field.name for field in attrs.fields(TaskOptions) if field.name != "given"]

# --- options -------------------------------------------------------------------------------------


def test_nothing_given_is_every_default() -> None:
    options = TaskOptions()

    assert (options.queue, options.priority, options.when_full) == ("default", 1, "wait")
    assert (options.timeout, options.deadline, options.delay, options.at) == (None,) * 4
    assert (options.retry.attempts, options.max_deliveries, options.at_most_once) == (1, 3, False)
    assert options.given == frozenset()
    assert options == NO_OPTIONS


def test_users_can_write_every_option() -> None:
    assert OptionsDict.__annotations__.keys() == set(FIELDS)


@pytest.mark.parametrize(
    ("option", "given", "stored"),
    [
        ("queue", "images", "images"),
        ("queue", "q" * 200, "q" * 200),
        ("priority", "critical", TaskPriority.CRITICAL),
        ("priority", TaskPriority.LOW, TaskPriority.LOW),
        ("timeout", 5, 5.0),
        ("deadline", 0.5, 0.5),
        ("delay", 0, 0.0),
        ("at", MOMENT, MOMENT),
        ("expires", 1, 1.0),
        ("at_most_once", True, True),
        ("max_deliveries", 1, 1),
        ("when_full", "raise", "raise"),
        ("result_ttl", 0, 0.0),
        ("meta", {"user": 7}, {"user": 7}),
    ],
)
def test_an_option_is_checked_stored_and_remembered(
    option: str, given: object, stored: object
) -> None:
    options = TaskOptions(**{option: given})

    assert getattr(options, option) == stored
    assert type(getattr(options, option)) is type(stored)
    assert options.given == {option}


@pytest.mark.parametrize("option", ["timeout", "deadline", "delay", "at", "expires", "result_ttl"])
def test_none_takes_an_option_back(option: str) -> None:
    assert getattr(TaskOptions(**{option: None}), option) is None
    assert TaskOptions(**{option: None}).given == {option}


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("queue", 7, TypeError),
        ("queue", "", ValueError),
        ("queue", "q" * 201, ValueError),
        ("queue", "a\0b", ValueError),
        ("queue", "\ud800", ValueError),
        ("priority", 2, TypeError),
        ("priority", "High", ValueError),
        ("priority", "urgent", ValueError),
        ("timeout", 0, ValueError),
        ("timeout", "5", TypeError),
        ("timeout", True, TypeError),
        ("timeout", nan, ValueError),
        ("deadline", inf, ValueError),
        ("delay", -1, ValueError),
        ("at", 5.0, TypeError),
        ("at", datetime(2026, 1, 1), ValueError),  # noqa: DTZ001
        ("expires", 0, ValueError),
        ("retry", 3, TypeError),
        ("at_most_once", 1, TypeError),
        ("max_deliveries", 0, ValueError),
        ("max_deliveries", 1.5, TypeError),
        ("max_deliveries", True, TypeError),
        ("when_full", "drop", ValueError),
        ("when_full", None, ValueError),
        ("result_ttl", -1, ValueError),
        ("meta", [1], TypeError),
        ("meta", {1: 2}, TypeError),
    ],
)
def test_a_wrong_option_is_named(option: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"option '{option}'"):
        TaskOptions(**{option: value})


def test_an_unknown_option_is_named_with_those_that_exist() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'prio'; the options are queue, priority"):
        TaskOptions(prio="high")


def test_delay_and_at_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="'delay' and 'at' exclude each other"):
        TaskOptions(delay=5, at=MOMENT)


def test_meta_is_copied() -> None:
    meta = {"user": 7}
    options = TaskOptions(meta=meta)

    meta["user"] = 8

    assert options.meta == {"user": 7}


def test_options_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        NO_OPTIONS.queue = "other"  # type: ignore[misc]


def test_options_show_what_was_given() -> None:
    assert (
        repr(TaskOptions(timeout=9, queue="images")) == "TaskOptions(queue='images', timeout=9.0)"
    )
    assert repr(NO_OPTIONS) == "TaskOptions()"


def test_options_are_equal_by_value_and_can_be_pickled() -> None:
    options = TaskOptions(timeout=9, retry=Retry(on=(ValueError,)), meta={"a": 1})
    same = pickle.loads(pickle.dumps(options))

    assert same == options
    assert same.given == options.given
    assert hash(same) == hash(options)
    assert TaskOptions(queue="default") == TaskOptions()


# --- merging -------------------------------------------------------------------------------------


def test_given_options_win_and_others_stay() -> None:
    decorator = TaskOptions(queue="images", timeout=30, priority="low")
    call = TaskOptions(timeout=9, delay=1)

    merged = decorator.merge(call)

    assert (merged.queue, merged.priority) == ("images", TaskPriority.LOW)
    assert (merged.timeout, merged.delay) == (9, 1)
    assert merged.given == {"queue", "timeout", "priority", "delay"}


def test_a_default_that_was_given_wins_over_another_value() -> None:
    merged = TaskOptions(timeout=30, queue="images").merge(
        TaskOptions(timeout=None, queue="default")
    )

    assert (merged.timeout, merged.queue) == (None, "default")


def test_merging_nothing_changes_nothing() -> None:
    options = TaskOptions(timeout=9)

    assert options.merge(NO_OPTIONS) is options
    assert NO_OPTIONS.merge(options) is options


def test_call_beats_preset_beats_decorator() -> None:
    decorator = TaskOptions(timeout=1, retry=Retry(attempts=9), queue="images")

    merged = decorator.merge(TaskOptions.reliable()).merge(TaskOptions(timeout=9))

    assert (merged.timeout, merged.retry.attempts, merged.queue) == (9, 5, "images")


def test_a_later_moment_replaces_an_earlier_delay_and_the_other_way_round() -> None:
    delayed, moment = TaskOptions(delay=5), TaskOptions(at=MOMENT)

    assert (delayed.merge(moment).delay, delayed.merge(moment).at) == (None, MOMENT)
    assert (moment.merge(delayed).delay, moment.merge(delayed).at) == (5, None)


@pytest.mark.parametrize(
    ("preset", "attempts", "timeout", "priority"),
    [
        (TaskOptions.high_priority(), 1, 60, TaskPriority.HIGH),
        (TaskOptions.reliable(), 5, 600, TaskPriority.NORMAL),
        (TaskOptions.quick(), 1, 30, TaskPriority.NORMAL),
    ],
)
def test_presets_are_ordinary_options(
    preset: TaskOptions, attempts: int, timeout: float, priority: TaskPriority
) -> None:
    assert (preset.retry.attempts, preset.timeout, preset.priority) == (attempts, timeout, priority)
    assert preset.given >= {"retry", "timeout"}


# --- retry ---------------------------------------------------------------------------------------


def test_one_attempt_is_the_default() -> None:
    retry = Retry()

    assert (retry.attempts, retry.delay, retry.factor) == (1, 1, 2)
    assert (retry.max_delay, retry.jitter) == (300, 0.1)
    assert retry.on_names == {"builtins.Exception"}
    assert retry.never_names == frozenset()


def test_exceptions_are_given_as_classes_or_qualified_names() -> None:
    retry = Retry(on=(ValueError, "pkg.Strange"), never=[KeyError])  # type: ignore[arg-type]

    assert retry.on_names == {"builtins.ValueError", "pkg.Strange"}
    assert retry.never_names == {"builtins.KeyError"}


def test_a_single_exception_needs_no_tuple() -> None:
    assert Retry(on=OSError).on == (OSError,)  # type: ignore[arg-type]
    assert Retry(on="pkg.Strange").on == ("pkg.Strange",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("attempts", 0, ValueError),
        ("attempts", 1.5, TypeError),
        ("attempts", True, TypeError),
        ("delay", -1, ValueError),
        ("delay", "1", TypeError),
        ("factor", 0.5, ValueError),
        ("factor", 1001, ValueError),
        ("max_delay", -1, ValueError),
        ("jitter", 1.1, ValueError),
        ("jitter", nan, ValueError),
        ("on", ValueError(), TypeError),
        ("on", (int,), TypeError),
        ("never", 7, TypeError),
    ],
)
def test_a_wrong_field_of_a_retry_is_named(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Retry: {field}"):
        Retry(**{field: value})


def test_what_a_task_comes_after_may_be_in_any_collection() -> None:
    for ids in (["a", "b"], ("a", "b"), deque(["a", "b"]), {"a": 1, "b": 2}.keys()):
        assert TaskOptions(after=ids).after == ("a", "b")
    assert set(TaskOptions(after={"a", "b"}).after) == {"a", "b"}


def test_what_a_task_comes_after_can_be_replaced_by_who_stands_for_it() -> None:
    options = TaskOptions(after=["a", "b"], key="k", timeout=5)

    other = options.with_after(("c",))

    assert (other.after, other.key, other.timeout, other.given) == (("c",), "k", 5, options.given)
    assert options.after == ("a", "b")
