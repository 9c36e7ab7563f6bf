"""What the chapters of the rule book share: stamps, alarms, and tables that end up empty."""

from actorq.model.status import PENDING
from tests.machines.stage import MORNING, Stage, Worker, task


def test_stamps_grow_even_if_the_clock_stands_still_or_was_set_back_before_a_restart() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b"))
    stage.crash()
    stage.now = MORNING - 60

    stage.submit(task("c"))

    stamps = [stage.head(id).submitted_at for id in "abc"]
    assert stamps == sorted(set(stamps))


def test_time_wakes_the_machine_only_for_what_it_changes() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a", deadline=10, expires=5, timeout=1), task("b"))

    # The worker watches over what runs; only if it cannot stop it is time a matter of the queue's.
    assert stage.machine.next_deadline() == MORNING + 10 + stage.limits.grace

    worker.finish("a")
    worker.finish("b")
    assert stage.machine.next_deadline() is None


def test_a_tick_too_early_does_nothing() -> None:
    stage = Stage()
    stage.submit(task("a", delay=10, expires=5, deadline=100))

    stage.pass_time(10)
    assert stage.status("a") is PENDING
    stage.pass_time(4.5)
    assert stage.status("a") is PENDING
    assert stage.machine.next_deadline() == stage.head("a").due + 5


def test_tables_are_empty_when_nothing_is_live() -> None:
    stage = Stage(max_pending=4)
    worker = Worker(stage, 2)
    waits = [stage.submit(task(f"{n}", queue=f"q{n % 2}", scope=f"s{n % 3}")) for n in range(20)]
    assert stage.left().keys() >= {"live", "ready", "scopes", "parked", "held", "counts"}

    while worker.grants:
        worker.finish(next(iter(worker.grants)))

    assert all(wait.answered for wait in waits)
    assert stage.left() == {}
