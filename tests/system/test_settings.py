"""Every bound of a system is checked when it opens, and the message names it."""

import sys
from typing import Any

import pytest

import actorq
from actorq.system.settings import Settings

GOOD: dict[str, Any] = {
    "concurrency": 100,
    "processes": None,
    "max_pending": 10,
    "max_results": 10,
    "result_ttl": 60.0,
    "max_message": 4_096,
    "drain": 10.0,
    "grace": 10.0,
    "lease": 15.0,
}


@pytest.mark.parametrize(
    ("bound", "value"),
    [
        ("concurrency", -1),
        ("concurrency", 100_001),
        ("processes", -1),
        ("processes", 1_001),
        ("max_pending", 0),
        ("max_results", -1),
        ("result_ttl", -0.1),
        ("result_ttl", float("nan")),
        ("max_message", 1_023),
        ("drain", -1),
        ("grace", float("inf")),
        ("lease", 0.9),
        ("lease", 3_601),
    ],
)
def test_a_bound_out_of_range_is_a_value_error_that_names_it(bound: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{bound} must be"):
        Settings.checked(**GOOD | {bound: value})


@pytest.mark.parametrize("bound", GOOD)
def test_a_bound_of_the_wrong_type_is_a_type_error_that_names_it(bound: str) -> None:
    for value in ("10", True):
        with pytest.raises(TypeError, match=f"^{bound} must be a"):
            Settings.checked(**GOOD | {bound: value})


def test_zero_is_a_value() -> None:
    zeros = dict.fromkeys(GOOD, 0) | {"max_pending": 1, "max_message": 1_024, "lease": 1}

    settings = Settings.checked(**zeros)

    assert (settings.concurrency, settings.drain, settings.max_results) == (0, 0.0, 0)


def test_there_is_a_process_for_each_cpu_by_default_and_none_without_a_worker() -> None:
    assert Settings.checked(**GOOD).processes >= 1
    assert Settings.checked(**GOOD | {"concurrency": 0}).processes == 0


async def test_open_system_checks_its_bounds_before_it_does_anything() -> None:
    with pytest.raises(ValueError, match="concurrency must be 0 to 100000, not -1"):
        async with actorq.open_system(concurrency=-1):
            pytest.fail("it must not open")


async def never() -> None: ...


def aside(done: object = None) -> None: ...


@pytest.mark.parametrize("where", [{}, {"listen": "ws://127.0.0.1:0"}])
async def test_a_system_whose_tasks_need_an_extra_that_is_missing_does_not_open(
    where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    tasks = [actorq.task(never), actorq.task(name="aside", run_in="process")(aside)]

    with pytest.raises(actorq.SubmitError, match=r"aside: .*actorq\[process\]'.* processes=0 "):
        async with actorq.open_system(tasks=tasks, **where):
            pytest.fail("it must not open")
    others_run_it: list[dict[str, Any]] = [{"processes": 0}, {"concurrency": 0}]
    for elsewhere in others_run_it:
        async with actorq.open_system(tasks=tasks, **elsewhere, **where) as system:
            assert (await system.stats()).pools["process"].slots == 0


@pytest.mark.parametrize("encode", [False, True])
async def test_a_task_that_nobody_can_run_for_want_of_an_extra_is_refused(
    encode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    task = actorq.task(name="aside", run_in="process")(aside)

    async with actorq.open_system(encode=encode) as system:
        for submit in (
            system.submit(task),
            system.submit_many([task.message()]),
            system.schedule(task.message(), actorq.Every(60), name="nightly"),
            system.submit(actorq.task(never).options(callback=task)),
        ):
            with pytest.raises(actorq.SubmitError, match=r"aside: .*actorq\[process\]'$"):
                await submit


async def test_without_the_extra_a_system_has_no_processes_and_says_so_if_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actorq.system.settings.find_spec", lambda name: None)

    async with actorq.open_system() as system:
        assert (await system.stats()).pools["process"].slots == 0
    with pytest.raises(ValueError, match=r"^processes: .*actorq\[process\]"):
        async with actorq.open_system(processes=2):
            pass
