from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio

from actorq.errors import StoreUnavailable
from actorq.system.system import System, open_system
from actorq.testing.clock import VirtualClock
from actorq.testing.history import Happening, History
from actorq.testing.processes import Process
from actorq.testing.workload import (
    QUEUE,
    TASKS,
    Doer,
    Job,
    Step,
    Verb,
    World,
    message_of,
    set_world,
)


def play(body: Callable[[System, History], Awaitable[None]]) -> History:
    """Run in a local system; there is nobody to kill in it."""
    history = History()

    def kill(process: Process) -> None:
        raise AssertionError(f"nothing here kills {process}")

    async def main() -> None:
        set_world(World(history, kill))
        async with open_system(tasks=TASKS, processes=0, encode=True) as system:
            await body(system, history)

    trio.run(main, clock=VirtualClock())
    return history


def result_of(job: Job) -> tuple[Any, int]:
    """The status and the error or the value of a job, and how often it ran."""
    found: list[Any] = []

    async def body(system: System, _: History) -> None:
        result = await (await system.submit(message_of(job))).wait()
        error = result.error
        found.append((str(result.status), error.type.rpartition(".")[2] if error else result.value))

    history = play(body)
    return found[0], len(list(history.of("started", label=job.label)))


@pytest.mark.parametrize(
    ("job", "status", "error", "runs"),
    [
        (Job("a", "fail"), "failure", "Broken", 1),
        (Job("a", "flaky", times=2, options={"retry": 2}), "failure", "Broken", 2),
        (Job("a", "give up", options={"retry": 5}), "failure", "GiveUp", 1),
        (Job("a", seconds=9.0, options={"timeout": 1.0}), "failure", "TaskTimeout", 1),
    ],
)
def test_jobs_fail_as_they_say(job: Job, status: str, error: str, runs: int) -> None:
    assert result_of(job) == ((status, error), runs)


@pytest.mark.parametrize(
    ("job", "runs"),
    [
        (Job("a", seconds=2.0), 1),
        (Job("a", "flaky", times=2, options={"retry": 3}), 3),
        (Job("a", "later", times=2), 3),
        (Job("a", "linger"), 1),
    ],
)
def test_jobs_succeed_as_they_say(job: Job, runs: int) -> None:
    (status, value), ran = result_of(job)

    assert status == "success"
    assert value.split(" ")[0] == "a"
    assert value.split(" ")[2] == str(runs)
    assert ran == runs


def test_a_value_is_as_long_as_its_argument() -> None:
    (_, value), _ = result_of(Job("a", size=5_000))

    assert len(value) == 5_000


def done(step: Step) -> list[Happening]:
    async def body(system: System, history: History) -> None:
        with trio.fail_after(60):
            await Doer(system, history).do(0, step)

    return play(body).events


VERBS: list[Verb] = ["submit", "many", "call", "map", "by id"]


@pytest.mark.parametrize("verb", VERBS)
def test_whoever_submits_is_told_how_it_ended(verb: Verb) -> None:
    events = done(Step(1.0, 0, verb, (Job("a"), Job("b", seconds=1.0)), 5.0))

    asked = {e.details["id"] for e in events if e.what == "asked"}
    told = {e.details["id"]: e.details["status"] for e in events if e.what == "told"}
    assert told == dict.fromkeys(asked, "success")
    assert events[-1].what == "done"
    assert events[0].at >= 1.0


@pytest.mark.parametrize("verb", ["call", "map", "nursery"])
def test_who_loses_patience_leaves_a_block(verb: Verb) -> None:
    events = done(Step(0.0, 0, verb, (Job("a", seconds=30.0),), 2.0))

    assert [e.details["how"] for e in events if e.what == "ended"] == ["cancelled"]
    assert [e.what for e in events][-2:] == ["left", "done"]
    assert events[-1].at < 3


def test_a_task_is_cancelled_by_its_handle() -> None:
    events = done(Step(0.0, 0, "cancel", (Job("a", "linger", seconds=30.0),), 2.0))

    assert [e.details["status"] for e in events if e.what == "told"] == ["cancelled"]
    assert [e.at for e in events if e.what == "ended"] == [3.0]


def test_a_subscriber_sees_its_tasks_end() -> None:
    events = done(Step(0.0, 0, "subscribe", (Job("a"), Job("b", "fail")), 9.0))

    assert [e.details["kind"] for e in events if e.what == "news"].count("ended") == 2
    assert events[-1].at < 9


def test_what_a_step_raises_is_noted() -> None:
    events = done(Step(0.0, 0, "nursery", (Job("a", "fail"),), 9.0))

    assert [e.details["error"] for e in events if e.what == "error"] == ["TaskFailed"]


def test_a_task_comes_after_those_that_it_names() -> None:
    step = Step(0.0, 0, "many", (Job("a", seconds=2.0), Job("b", after=("a",))), 9.0)
    events = done(step)

    assert [e.details["label"] for e in events if e.what == "started"] == ["a", "b"]
    assert [e.at for e in events if e.what == "started"] == [0.0, 2.0]
    [a, b] = [e.details for e in events if e.what == "asked"]
    assert (a.get("sources"), b["sources"]) == (None, [a["id"]])


@pytest.mark.parametrize("verb", ["submit", "many", "call", "map"])
def test_a_task_is_given_the_values_that_it_needs(verb: Verb) -> None:
    step = Step(0.0, 0, verb, (Job("a"), Job("b"), Job("c", needs=("b", "a"))), 9.0)
    events = done(step)

    given = [e.details["given"] for e in events if e.what == "started" and "given" in e.details]
    assert [[value.split(" ")[0] for value in values] for values in given] == [["b", "a"]]


def test_a_job_that_names_one_that_is_not_there_does_without() -> None:
    events = done(Step(0.0, 0, "submit", (Job("b", after=("a",), needs=("a",)),), 9.0))

    assert [e.details["status"] for e in events if e.what == "told"] == ["success"]


def test_the_same_call_under_one_key_is_one_task() -> None:
    twin = Job("a", options={"key": "k"})
    events = done(Step(0.0, 0, "submit", (twin, twin), 9.0))

    told = [e.details["id"] for e in events if e.what == "told"]
    assert len(told) == 2
    assert len(set(told)) == 1
    assert len([e for e in events if e.what == "started"]) == 1


def test_a_callback_is_told_how_its_task_has_ended() -> None:
    step = Step(0.0, 0, "submit", (Job("a", "fail", options={"callback": True}),), 9.0)
    events = done(step)

    (asked,) = [e.details["id"] for e in events if e.what == "asked"]
    (collected,) = [e.details for e in events if e.what == "collected"]
    assert (collected["id"], collected["status"], collected["label"]) == (asked, "failure", "a")
    assert collected["by"] != asked


def test_limits_hold() -> None:
    jobs = tuple(Job(name, seconds=1.0, options={"limit": "single"}) for name in "abc")
    events = done(Step(0.0, 0, "many", jobs, 9.0))

    assert [e.at for e in events if e.what == "started"] == [0.0, 1.0, 2.0]


def test_a_schedule_ticks_until_patience_is_over() -> None:
    events = done(Step(0.0, 0, "schedule", (Job("a"),), 5.0, every=2.0))

    assert [e.at for e in events if e.what == "started"] == pytest.approx([2.0, 4.0])
    assert [e.what for e in events if e.what.startswith(("sched", "unsched"))] == [
        "scheduling", "scheduled", "unscheduling",
    ]  # fmt: skip


def test_a_queue_is_paused_until_patience_is_over() -> None:
    async def body(system: System, history: History) -> None:
        doer = Doer(system, history)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doer.do, 0, Step(0.0, 0, "pause", (), 3.0))
            job = Job("a", options={"queue": QUEUE})
            nursery.start_soon(doer.do, 1, Step(1.0, 0, "submit", (job,), 9.0))

    events = play(body).events

    assert [e.at for e in events if e.what == "started"] == [3.0]
    assert [e.what for e in events if e.at in (0.0, 3.0)][:3] == ["pausing", "paused", "resuming"]


def test_who_pauses_insists() -> None:
    history = History()
    asked: list[str] = []

    class Client:
        async def pause(self, queue: str) -> None:
            asked.append("pause")
            if len(asked) < 3:
                raise StoreUnavailable("full")

        async def resume(self, queue: str) -> None:
            asked.append("resume")

    trio.run(
        Doer(cast(Any, Client()), history).do, 0, Step(0.0, 0, "pause", (), 1.0),
        clock=VirtualClock(),
    )  # fmt: skip

    assert asked == ["pause", "pause", "pause", "resume"]
