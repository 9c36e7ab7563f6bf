"""Which tasks a node knows, and what stands for one."""

import functools
import sys
from typing import Any

import pytest

import actorq
from actorq.registry import Registry, check_installed
from actorq.tasks import AsyncTask, Call, EncodedCall, NamedTask


@actorq.task
async def fetch(url: str, *, retries: int = 0) -> bytes:
    """Get a page."""
    return url.encode()


def plain(number: int) -> int:
    return number


class Callable:
    """An object that can be called."""

    async def __call__(self, value: int) -> int:
        return value

    def method(self, value: int) -> int:
        return value


def test_any_callable_becomes_a_task_once() -> None:
    registry = Registry()

    assert registry.resolve(plain) is registry.resolve(plain)
    assert registry.resolve(fetch) is fetch


def test_an_unhashable_callable_can_be_submitted_too() -> None:
    class Unhashable(Callable):
        __hash__ = None  # type: ignore[assignment]

    assert isinstance(Registry().resolve(Unhashable()), AsyncTask)


def test_a_stream_of_fresh_lambdas_does_not_stay() -> None:
    registry = Registry()

    for _ in range(5_000):
        registry.resolve(lambda: None)

    assert len(registry._made) <= 1_000


@pytest.mark.parametrize("what", [7, None, ["fetch"]])
def test_what_cannot_be_called_cannot_be_submitted(what: object) -> None:
    with pytest.raises(TypeError, match="submit a task, a callable, a name or a message"):
        Registry().resolve(what)


def test_where_nobody_else_can_know_it_an_unknown_name_is_refused() -> None:
    with pytest.raises(actorq.UnknownTask, match="no task 'other' in this system"):
        Registry([fetch]).find("other")


def test_elsewhere_an_unknown_name_may_be_known() -> None:
    registry = Registry([fetch], closed=False)

    assert registry.find(fetch.name) is fetch
    assert isinstance(registry.resolve("other"), NamedTask)


def test_a_task_that_was_submitted_is_known_from_then_on_and_that_is_told() -> None:
    registry, told = Registry(closed=False), []
    registry.on_change = lambda: told.append(registry.digests().keys())

    registry.learn(fetch)
    registry.learn(fetch.options(priority="high"))

    assert registry.get(fetch.name) is fetch
    assert told == [{fetch.name}]


def test_another_function_of_the_same_name_is_not_learnt() -> None:
    registry = Registry([fetch])

    with pytest.raises(actorq.DuplicateTask, match=fetch.name):
        registry.learn(actorq.task(name=fetch.name)(plain))


@pytest.mark.parametrize(
    "function", [lambda: None, functools.partial(plain, 1)], ids=["lambda", "partial"]
)
def test_what_nobody_could_find_by_its_name_is_not_learnt(function: Any) -> None:
    with pytest.raises(actorq.UnknownTask, match="cannot be found by its name"):
        Registry().learn(actorq.task(function))


def test_a_name_alone_teaches_nothing() -> None:
    registry, told = Registry(closed=False), []
    registry.on_change = lambda: told.append("changed")

    registry.learn(NamedTask.called("other"))

    assert registry.get("other") is None
    assert not told


def test_digests_tell_signatures_apart() -> None:
    def one(a: int) -> int: ...

    def other(a: str) -> int: ...

    registries = [Registry([actorq.task(name="same")(function)]) for function in (one, other, one)]
    first, second, third = (registry.digests()["same"] for registry in registries)

    assert first == third != second


def test_what_a_decorator_says_is_declared() -> None:
    crunch = actorq.task(name="crunch", priority="high", timeout=5)(plain)

    declared = Registry([crunch]).declared()

    assert declared["crunch"].pool == "main"
    assert declared["crunch"].options.given == {"priority", "timeout"}


def test_a_callback_of_the_decorator_is_declared_as_a_task_and_not_as_code() -> None:
    after = actorq.task(name="after", timeout=5)(plain)
    registry = Registry([actorq.task(name="first", callback=after, callback_data={"a": 1})(plain)])

    options = registry.declared()["first"].options

    assert (options.callback.name, options.callback.pool) == ("after", "main")
    assert options.callback.options.timeout == 5
    assert options.callback_data == {"a": 1}


def beat(times: int = 1) -> int:
    return times


def test_a_schedule_is_declared_with_an_encoded_call() -> None:
    task = actorq.task(name="beat", schedule=actorq.Every(60), timeout=5)(beat)
    registry = Registry([task, fetch])

    declared = registry.declared()

    assert declared[fetch.name].schedule is None
    schedule = declared["beat"].schedule
    assert schedule is not None
    assert (schedule.name, schedule.task, schedule.timing) == ("beat", "beat", actorq.Every(60))
    assert schedule.options == declared["beat"].options
    assert task.signature.decode_call(schedule.body) == ((), {})
    assert registry.scheduled().keys() == {"beat"}


@pytest.mark.parametrize(("run_in", "kind"), [("thread", Call), ("process", EncodedCall)])
def test_in_a_closed_system_its_call_is_one_like_any_other(run_in: Any, kind: type) -> None:
    task = actorq.task(name="beat", schedule=actorq.Every(60), run_in=run_in)(beat)

    schedule = Registry([task]).scheduled()["beat"].schedule

    assert schedule is not None
    assert type(schedule.body) is kind
    assert schedule.body.task is task
    assert schedule.pool == task.pool


def test_what_a_task_in_a_process_needs_is_looked_for_where_it_is_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aside = actorq.task(name="aside", run_in="process")(plain)
    check_installed(aside)

    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    Registry([aside, fetch])
    with pytest.raises(actorq.SubmitError, match=r"aside: .* pip install 'actorq\[process\]'$"):
        check_installed(aside)
    check_installed(fetch)
