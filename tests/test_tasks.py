"""Tasks: functions that can be submitted, and are still functions."""

import functools
import pickle
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import actorq
from actorq.tasks import (
    AsyncTask,
    Call,
    EncodedCall,
    NamedTask,
    StreamTask,
    SyncTask,
    import_path,
    import_task,
)


@actorq.task
async def fetch(url: str, *, retries: int = 0) -> bytes:
    """Get a page."""
    return url.encode()


@actorq.task(priority="high", timeout=30)
def thumbnail(path: str, width: int = 256) -> str:
    return f"{path}@{width}"


@actorq.task
async def tail(path: str) -> AsyncIterator[str]:
    yield path


def plain(number: int) -> int:
    return number


class Callable:
    """An object that can be called."""

    async def __call__(self, value: int) -> int:
        return value

    def method(self, value: int) -> int:
        return value


# --- decorating -----------------------------------------------------------------------------


def test_the_kind_of_a_task_follows_from_its_function() -> None:
    assert (type(fetch), fetch.run_in, fetch.pool) == (AsyncTask, "loop", "main")
    assert (type(thumbnail), thumbnail.run_in, thumbnail.pool) == (SyncTask, "thread", "main")
    assert (type(tail), tail.run_in, tail.pool) == (StreamTask, "loop", "main")
    process = actorq.task(run_in="process")(plain)
    assert (type(process), process.run_in, process.pool) == (SyncTask, "process", "process")


async def test_a_task_is_still_called_like_its_function() -> None:
    assert thumbnail("a", width=8) == "a@8"
    assert await fetch("u") == b"u"
    assert [line async for line in tail("p")] == ["p"]


def test_a_task_looks_like_its_function() -> None:
    assert fetch.__doc__ == "Get a page."
    assert fetch.__name__ == "fetch"
    assert repr(fetch) == f"<AsyncTask {__name__}:fetch>"


def test_a_name_is_where_the_function_is_unless_it_is_given() -> None:
    assert fetch.name == f"{__name__}:fetch"
    assert actorq.task(name="mine")(plain).name == "mine"


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\ud800"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name must be"):
        actorq.task(name=name)(plain)


def test_options_are_checked_where_they_are_written() -> None:
    with pytest.raises(TypeError, match="unknown option 'time_out'"):
        actorq.task(time_out=3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="option 'timeout' must be more"):
        actorq.task(timeout=0)
    with pytest.raises(TypeError, match="option 'queue' must be a string"):
        thumbnail.options(queue=7)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("function", "run_in"),
    [(fetch.function, "thread"), (fetch.function, "process"), (plain, "loop"), (plain, "moon")],
)
def test_a_function_runs_only_where_it_can(function: object, run_in: str) -> None:
    with pytest.raises(ValueError, match="run_in must be"):
        actorq.task(run_in=run_in)(function)


def test_a_process_wants_a_function_that_it_can_import() -> None:
    def local() -> None: ...

    for function in (local, lambda: None, functools.partial(plain, 1)):
        with pytest.raises(ValueError, match="at the top of a module"):
            actorq.task(run_in="process")(function)


def test_who_only_names_a_task_in_a_process_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)

    task = actorq.task(run_in="process")(plain)

    assert (task.run_in, task.name) == ("process", f"{__name__}:plain")


def test_what_is_no_function_is_no_task() -> None:
    with pytest.raises(TypeError, match="made of a function, not 7"):
        actorq.task(7)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is a task already"):
        actorq.task(fetch)


# --- options --------------------------------------------------------------------------------


def test_options_make_a_copy() -> None:
    urgent = thumbnail.options(priority="critical", delay=5)

    assert urgent.settings.priority == actorq.TaskPriority.CRITICAL
    assert urgent.settings.timeout == 30
    assert thumbnail.settings.priority == actorq.TaskPriority.HIGH
    assert (urgent.name, urgent.function) == (thumbnail.name, thumbnail.function)


def test_call_beats_preset_beats_decorator_beats_default() -> None:
    settings = thumbnail.options(actorq.TaskOptions.reliable(), timeout=9).settings

    assert settings.timeout == 9
    assert settings.retry.attempts == 5
    assert settings.priority == actorq.TaskPriority.HIGH
    assert settings.queue == "default"


def test_a_later_preset_beats_an_earlier_one() -> None:
    reliable, quick = actorq.TaskOptions.reliable(), actorq.TaskOptions.quick()

    assert thumbnail.options(reliable, quick).settings.timeout == 30
    assert thumbnail.options(quick, reliable).settings.timeout == 600


def test_what_is_no_preset_is_refused() -> None:
    with pytest.raises(TypeError, match="a preset must be a TaskOptions"):
        thumbnail.options({"timeout": 3})  # type: ignore[arg-type]


# --- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'url'"),
        (("u", 1), {}, "too many positional arguments"),
        (("u",), {"width": 1}, "unexpected keyword argument 'width'"),
        (("u",), {"url": "v"}, "multiple values for argument 'url'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    args: tuple[object, ...], kwargs: dict[str, object], said: str
) -> None:
    with pytest.raises(actorq.InvalidArguments, match=said) as caught:
        fetch.message(*args, **kwargs)

    assert fetch.name in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (lambda: None, (), (1,)),
        (lambda a, /: None, (1,), ()),
        (lambda a, b=0: None, (1, 2), (1, 2, 3)),
        (lambda *args: None, (1,) * 50, None),
        (lambda a, *args: None, (1,), ()),
        (lambda **kwargs: None, (), (1,)),
        (lambda a, *, b: None, None, (1,)),
        (Callable(), (1,), ()),
        (Callable().method, (1,), ()),
        (functools.partial(plain, 1), (), (1,)),
        (len, ([],), ()),
    ],
)
def test_arity_is_checked_for_every_kind_of_callable(
    function: object, good: tuple[object, ...] | None, bad: tuple[object, ...] | None
) -> None:
    task = actorq.task(function)

    if good is not None:
        assert task.message(*good).args == good
    if bad is not None:
        with pytest.raises(actorq.InvalidArguments):
            task.message(*bad)


def test_a_builtin_without_a_signature_takes_anything_until_it_is_called() -> None:
    assert actorq.task(max).message(1, 2, 3).args == (1, 2, 3)


def test_messages_have_ids_of_their_own_in_the_order_in_which_they_are_made() -> None:
    ids = [fetch.message("u").id for _ in range(1_000)]

    assert ids == sorted(set(ids))


# --- by reference ---------------------------------------------------------------------------


def test_a_task_travels_by_reference() -> None:
    assert pickle.loads(pickle.dumps(fetch)) is fetch
    assert import_path(fetch.function) == f"{__name__}:fetch"
    assert import_task(f"{__name__}:Callable.method") is Callable.method


def test_the_path_of_an_object_is_that_of_its_class() -> None:
    assert import_path(Callable()) == f"{__name__}:Callable"
    assert import_path(functools.partial(plain, 1)) == f"{__name__}:plain"


def test_attributes_of_a_function_are_not_those_of_its_task() -> None:
    def function() -> None:
        pass

    function.name = "mine"  # type: ignore[attr-defined]
    function.pool = object()  # type: ignore[attr-defined]

    made = actorq.task(function)

    assert made.name.endswith("function")
    assert made.pool == "main"


# --- elsewhere --------------------------------------------------------------------------------


def test_a_task_of_which_only_the_name_is_known_can_be_submitted_and_not_run() -> None:
    named = NamedTask.called("pkg.mod:func")

    assert (named.name, named.pool) == ("pkg.mod:func", "any")
    with pytest.raises(actorq.UnknownTask, match=r"task 'pkg\.mod:func' is not in this process"):
        named.function(1, 2)


def test_it_takes_any_arguments_and_any_options() -> None:
    named = NamedTask.called("elsewhere")

    message = named.options(priority="high").message(1, two=2)

    assert type(message.task) is NamedTask
    assert (message.task.name, message.task.pool) == ("elsewhere", "any")
    assert message.task.settings.given == {"priority"}
    assert (message.args, message.kwargs) == ((1,), {"two": 2})


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\udcff"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="task name must be"):
        NamedTask.called(name)


# --- schedules -----------------------------------------------------------------------------------


def test_a_schedule_is_the_tasks_and_that_of_its_copies() -> None:
    @actorq.task(schedule=actorq.Every(60))
    async def beat(times: int = 1) -> None: ...

    assert beat.schedule == beat.options(priority="high").schedule == actorq.Every(60)
    assert fetch.schedule is None


def test_what_is_scheduled_must_need_no_arguments() -> None:
    with pytest.raises(TypeError, match=r"schedule= calls it without arguments.*'number'"):

        @actorq.task(schedule=actorq.Every(60))
        def needs(number: int) -> None: ...


def test_what_is_no_timing_is_refused_where_it_is_written() -> None:
    schedule: Any = "0 3 * * *"
    with pytest.raises(TypeError, match="schedule must be a Cron or an Every"):
        actorq.task(schedule=schedule)(sorted)


def test_an_option_that_no_schedule_can_have_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="option 'key' makes no sense"):

        @actorq.task(schedule=actorq.Every(60), key="k")
        def beat() -> None: ...


# --- calls that are the same ----------------------------------------------------------------


class Evasive:
    """An argument that does not say whether it is the same."""

    def __eq__(self, other: object) -> Any:
        return ["perhaps"]

    __hash__ = object.__hash__


def test_calls_of_a_task_with_equal_arguments_are_equal_whatever_its_options_are() -> None:
    other = fetch.options(timeout=5)

    assert Call(fetch, ("u", [1]), {"n": 2}) == Call(other, ("u", [1]), {"n": 2})
    assert EncodedCall(fetch, b"call") == EncodedCall(other, b"call")


@pytest.mark.parametrize(
    "other",
    [
        Call(thumbnail, ("u",), {}),
        Call(fetch, ("v",), {}),
        Call(fetch, ("u", 1), {}),
        Call(fetch, ("u",), {"n": 1}),
        EncodedCall(fetch, b"call"),
        None,
    ],
)
def test_other_calls_are_not_equal(other: object) -> None:
    assert Call(fetch, ("u",), {}) != other
    assert Call(fetch, (), {"n": 1}) != Call(fetch, (), {"n": 2})
    assert EncodedCall(fetch, b"call") != EncodedCall(fetch, b"other")
    assert EncodedCall(fetch, b"call") != EncodedCall(fetch, b"call", wire=True)


def test_an_argument_is_the_same_if_it_is_the_same_object_or_says_so_in_one_word() -> None:
    one, other = Evasive(), Evasive()

    assert Call(fetch, (one,), {}) == Call(fetch, (one,), {})
    assert Call(fetch, (one,), {}) != Call(fetch, (other,), {})
    assert Call(fetch, (), {"n": one}) != Call(fetch, (), {"n": other})
