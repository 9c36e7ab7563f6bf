"""Who may say what is to be run again and again: clients by a verb, workers by their hello."""

from typing import Any

import pytest
from msgspec.structs import replace

from actorq.errors import ActorDied, RowRefused, ScheduleNotFound
from actorq.machines import schedules as module
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import NO_OPTIONS
from actorq.model.schedules import Every, Schedule, Timing, tick_id
from actorq.model.status import TaskStatus
from tests.machines.stage import CLIENT, MORNING, Guest, Question, Stage, Worker

SCHEDULE = Schedule("job", Every(60), "job", "main", NO_OPTIONS, b"call")
OTHER_CLIENT = 2


def declared(timing: Timing = Every(60), name: str = "job") -> dict[str, m.Declared]:  # noqa: B008 - frozen
    schedule = Schedule(name, timing, name, "main", NO_OPTIONS, b"call")
    return {name: m.Declared("main", NO_OPTIONS, schedule)}


def names(stage: Stage) -> list[str]:
    return list(stage.ask(m.GetSchedules).value)


def run(stage: Stage, id: str | None = None, *, origin: int = CLIENT, **fields: Any) -> Question:
    return stage.ask(
        lambda number: m.ControlSchedule(number, "job", "run", id, **fields), origin=origin
    )


# --- workers -------------------------------------------------------------------------------------


def test_a_workers_hello_declares_what_its_tasks_say() -> None:
    stage = Stage()

    Worker(stage, declared=declared(), tasks=["job"])
    stage.pass_time(60.0)

    assert names(stage) == ["job"]
    assert stage.status(tick_id("job", MORNING + 60)) is TaskStatus.RUNNING


def test_so_does_a_worker_that_gets_to_know_more_tasks() -> None:
    stage = Stage()
    worker = Worker(stage, tasks=["other"])
    assert names(stage) == []

    worker.declared = declared()
    worker.learn("job")

    assert names(stage) == ["job"]


def test_each_worker_that_comes_changes_nothing() -> None:
    stage = Stage()
    Worker(stage, declared=declared(), tasks=["job"])
    stage.pass_time(90.0)

    for number in range(1, 4):
        Worker(stage, name=f"w{number}.0", at=100 + number, declared=declared(), tasks=["job"])
        assert ("schedule", "job") not in [(e.kind, e.name) for e in stage.last if is_note(e)]
    stage.pass_time(30.0)

    assert len(stage.records) == 1  # as the first is still live


def is_note(effect: object) -> bool:
    return type(effect).__name__ == "Note"


def test_a_schedule_outlives_the_workers_that_declared_it() -> None:
    stage = Stage()
    worker = Worker(stage, declared=declared(), tasks=["job"])
    stage.disconnect(worker.connection)

    stage.pass_time(60.0)

    assert stage.status(tick_id("job", MORNING + 60)) is TaskStatus.PENDING


def test_one_schedule_too_many_costs_that_one_and_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SCHEDULES_MAX", 1)
    stage = Stage()

    Worker(stage, declared=declared(name="a") | declared(name="b") | declared(name="c"), tasks=[])

    assert names(stage) == ["a"]
    (told,) = stage.told(EventKind.TICK_DROPPED)
    assert told["schedule"] == "b"
    assert "no room" in told["why"]


# --- clients -------------------------------------------------------------------------------------


def test_a_closing_system_takes_no_schedules() -> None:
    stage = Stage()
    stage.ask(m.Declare, SCHEDULE)
    stage.ask(lambda number: m.Close(number, cancel=False, grace=0.0))

    assert isinstance(stage.ask(m.Declare, SCHEDULE).error, ActorDied)
    assert isinstance(run(stage, "x").error, ActorDied)


def test_a_task_that_was_run_is_its_clients_to_wait_for() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.ask(m.Declare, SCHEDULE)

    assert run(stage, "x").value == ("x", "job")
    worker.finish("x")

    assert stage.outcomes() == [("x", TaskStatus.SUCCESS)]


def test_a_run_without_an_id_gets_one() -> None:
    stage = Stage()
    stage.ask(m.Declare, SCHEDULE)

    id, name = run(stage).value

    assert list(stage.records) == [id]
    assert name == "job"


@pytest.mark.parametrize("resent", [True, False])
def test_a_run_that_is_asked_for_again_is_the_same_one(resent: bool) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.ask(m.Declare, SCHEDULE)
    run(stage, "x")

    assert run(stage, "x", origin=OTHER_CLIENT, resent=resent).value == ("x", "job")
    worker.finish("x")

    assert worker.log == ["x"]
    assert stage.outcomes(OTHER_CLIENT) == [("x", TaskStatus.SUCCESS)]


def test_a_run_that_is_over_when_it_is_asked_for_again_is_not_run_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.ask(m.Declare, SCHEDULE)
    run(stage, "x")
    worker.finish("x")
    stage.crash()

    assert run(stage, "x", resent=True).value == ("x", "job")

    assert worker.log == ["x"]
    assert stage.outcomes()[-1] == ("x", TaskStatus.SUCCESS)


def test_a_run_that_never_arrived_is_run_when_it_is_asked_for_again() -> None:
    stage = Stage()
    stage.ask(m.Declare, SCHEDULE)

    assert run(stage, "x", resent=True).value == ("x", "job")

    assert stage.status("x") is TaskStatus.PENDING


def test_a_run_of_what_is_not_there_is_refused_also_when_it_is_asked_for_again() -> None:
    stage = Stage()

    assert isinstance(run(stage, "x").error, ScheduleNotFound)
    assert isinstance(run(stage, "x", resent=True).error, ScheduleNotFound)


def test_a_schedule_that_the_store_cannot_keep_is_refused_and_no_other() -> None:
    stage = Stage()
    stage.machine.refuse("schedule job", "its call is too large")

    assert isinstance(stage.ask(m.Declare, SCHEDULE).error, RowRefused)
    assert stage.ask(m.Declare, replace(SCHEDULE, name="other")).value is None
    assert names(stage) == ["other"]


def test_a_run_that_the_store_cannot_keep_is_refused() -> None:
    stage = Stage()
    stage.ask(m.Declare, SCHEDULE)
    stage.machine.refuse("x", "its call is too large")

    assert isinstance(run(stage, "x").error, RowRefused)


def test_a_client_elsewhere_that_is_lost_takes_no_run_with_it() -> None:
    stage = Stage()
    guest = Guest(stage)
    stage.ask(m.Declare, SCHEDULE)
    run(stage, "x", origin=guest.connection)

    guest.leave()

    assert stage.status("x") is TaskStatus.PENDING
