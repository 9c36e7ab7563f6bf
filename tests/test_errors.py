import inspect
import pickle
import re

import pytest

from actorq import errors
from actorq.errors import (
    ActorqError,
    GiveUp,
    InvalidArguments,
    RemoteError,
    RestartIntensityExceeded,
    RetryLater,
    SubmitError,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
    qualified_name,
)

CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, Exception) and cls.__module__ == errors.__name__
}
STEERING = {"RetryLater", "GiveUp"}


class Custom(ValueError):
    """An error of a user."""


def remote(error: BaseException, *children: RemoteError) -> RemoteError:
    mro = tuple(qualified_name(cls) for cls in type(error).__mro__[:-1])
    return RemoteError(mro[0], str(error), mro=mro, children=children)


# --- the tree ------------------------------------------------------------------------------------


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^    ([ │├└─]*)(\w+)", str(errors.__doc__), re.MULTILINE)
    path: list[str] = []
    parents = {}
    for indent, name in drawn:
        depth = len(indent) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else "Exception"

    assert parents == {
        name: cls.__bases__[0].__name__ for name, cls in CLASSES.items() if name not in STEERING
    }


@pytest.mark.parametrize("name", CLASSES)
def test_whatever_actorq_raises_on_its_own_account_is_an_actorq_error(name: str) -> None:
    assert issubclass(CLASSES[name], ActorqError) is (name not in STEERING)
    assert CLASSES[name].__doc__


def test_a_task_timeout_is_a_timeout_and_wrong_arguments_are_a_type_error() -> None:
    assert issubclass(TaskTimeout, TimeoutError)
    assert issubclass(InvalidArguments, TypeError)


# --- what they hold ------------------------------------------------------------------------------


def test_a_task_error_knows_its_task() -> None:
    error = TaskFailed("said", id="a", name="job", error=remote(ValueError("boom")))

    assert (str(error), error.id, error.name) == ("said", "a", "job")
    assert error.matches(ValueError)
    assert not TaskFailed("said").matches(ValueError)


def test_a_cancelled_task_knows_by_whom_and_why() -> None:
    error = TaskCancelled("said", id="a", by="user", reason="not needed")

    assert (error.by, error.reason, error.error) == ("user", "not needed", None)


def test_a_missing_task_says_why_it_may_be_missing() -> None:
    error = TaskNotFound("a")

    assert error.id == "a"
    assert re.search(r"no task 'a'.*result_ttl.*discarded", str(error))


def test_nothing_was_accepted_before_an_error_unless_it_says_so() -> None:
    assert SubmitError("said").accepted == ()


def test_a_supervisor_that_gives_up_shows_the_crashes() -> None:
    crashes = [ValueError("first"), ValueError("second")]

    assert RestartIntensityExceeded("said", crashes).failures == tuple(crashes)


# --- steering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1.5, 3600])
def test_retry_later_has_its_delay(delay: float) -> None:
    assert RetryLater(delay).delay == delay


@pytest.mark.parametrize("delay", [-1, "soon", None, True, float("nan"), float("inf"), 1e10])
def test_retry_later_refuses_what_is_no_delay(delay: float) -> None:
    with pytest.raises(ValueError, match="RetryLater: delay must be seconds, 0 or more"):
        RetryLater(delay)


def test_steering_survives_the_way_out_of_a_process() -> None:
    later = pickle.loads(pickle.dumps(RetryLater(5)))
    reason = pickle.loads(pickle.dumps(GiveUp("no use")))

    assert (later.delay, str(reason)) == (5.0, "no use")


# --- remote errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Custom, True),
        (ValueError, True),
        (Exception, True),
        ("builtins.ValueError", True),
        (KeyError, False),
        ("ValueError", False),
    ],
)
def test_a_remote_error_matches_by_the_names_of_its_classes(
    wanted: type[BaseException] | str, found: bool
) -> None:
    assert remote(Custom("boom")).matches(wanted) is found
    assert remote(Custom("boom")).matches(KeyError, wanted) is found


def test_a_group_matches_what_its_members_match() -> None:
    inner = remote(ExceptionGroup("inner", [OSError()]), remote(Custom("boom")))
    group = remote(ExceptionGroup("outer", [OSError()]), inner)

    assert group.matches(Custom)
    assert group.matches(ExceptionGroup)
    assert not group.matches(KeyError)
    assert not group.matches()


def test_a_remote_error_shows_what_is_short() -> None:
    error = RemoteError(
        "builtins.ValueError", "boom", "Traceback ...", mro=("builtins.ValueError",)
    )

    assert repr(error) == (
        "RemoteError(type='builtins.ValueError', message='boom', notes=(), children=())"
    )


def test_a_qualified_name_has_the_module_and_the_way_to_the_class() -> None:
    assert qualified_name(ValueError) == "builtins.ValueError"
    assert qualified_name(TaskError) == "actorq.errors.TaskError"
