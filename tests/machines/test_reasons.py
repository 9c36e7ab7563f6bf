"""What people are told when they ask why a task is not running."""

import pytest
from msgspec.structs import replace

from actorq.errors import TaskNotFound
from actorq.machines.effects import Send
from actorq.model import messages as m
from actorq.model.options import Limit, Retry
from actorq.model.records import Output
from actorq.model.status import SUCCESS
from tests.machines.stage import BOOM, Stage, Worker, task


def why(stage: Stage, id: str = "a") -> str:
    value = stage.ask(m.Why, id).value
    assert isinstance(value, str)
    return value


# --- ready ---------------------------------------------------------------------------------------


def test_no_worker_is_connected() -> None:
    stage = Stage()
    stage.submit(task("a"))

    assert why(stage) == "pending: no worker is connected"


def test_no_worker_knows_it() -> None:
    stage = Stage()
    Worker(stage, tasks=["other"])
    stage.submit(task("a", name="f"))
    assert why(stage) == "pending: no worker knows 'f' (one worker is connected)"

    Worker(stage, tasks=["more"], name="v.0", at=200)
    assert why(stage) == "pending: no worker knows 'f' (2 workers are connected)"


def test_nobody_declares_what_was_submitted_by_its_name() -> None:
    stage = Stage()
    Worker(stage, tasks=["other"])
    stage.submit(task("a", name="f", pool="any"))

    assert why(stage) == (
        "pending: no worker knows 'f', and only its name is known (one worker is connected)"
    )


def test_no_slot_is_free() -> None:
    stage = Stage()
    Worker(stage, 2)
    stage.submit(*(task(id) for id in "xyab"))

    assert why(stage) == (
        "pending: no slot is free: all 2 slots are taken in pool 'main'; "
        "tasks pending in queue 'default': 2"
    )


def test_the_only_slot_is_taken() -> None:
    stage = Stage()
    Worker(stage, 1)
    stage.submit(task("x"), task("a"))

    assert why(stage).startswith("pending: no slot is free: the only slot is taken in pool 'main'")


def test_it_starts_in_this_moment() -> None:
    stage = Stage()
    Worker(stage, 2)
    submit = stage.question(m.Submit, (task("a"), task("b"))).message

    stage.say(1, submit, stage.question(m.Why, "a").message)

    assert stage.questions[-1].value == "pending: it is about to start"


def test_there_are_no_slots_for_its_kind() -> None:
    stage = Stage()
    Worker(stage, 2, 0)
    stage.submit(task("a", name="f", pool="process"))

    assert why(stage) == "pending: no worker that knows 'f' has a slot in pool 'process'"


def test_every_worker_stands_still() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    worker.beat(30.0)
    stage.submit(task("a", name="f"))

    assert why(stage) == (
        "pending: every worker that knows 'f' stands still: none of their loops runs"
    )


def test_its_queue_is_paused() -> None:
    stage = Stage()
    Worker(stage, 2)
    stage.ask(m.PauseQueue, "images", True)
    stage.submit(task("a", queue="images"))

    assert why(stage) == "pending: its queue 'images' is paused since 2023-11-14 22:13:20 UTC"


def test_its_limit_is_held_by_others() -> None:
    stage = Stage()
    Worker(stage, 10)
    two, five = Limit("customer:7", concurrency=2), Limit("x", concurrency=5)
    stage.submit(*(task(id, limit=two) for id in "xya"))
    stage.submit(*(task(f"{n}", limit=five) for n in range(5)), task("b", limit=five))

    assert why(stage) == "pending: its limit 'customer:7' (2 at once) is held by tasks x, y"
    assert why(stage, "b") == (
        "pending: its limit 'x' (5 at once) is held by tasks 0, 1, 2 and 2 more"
    )


def test_one_task_holds_its_limit() -> None:
    stage = Stage()
    Worker(stage, 10)
    one = Limit("k", concurrency=1)
    stage.submit(task("x", limit=one), task("a", limit=one))

    assert why(stage) == "pending: its limit 'k' (1 at once) is held by task x"


def test_its_limit_lets_the_next_one_start_later() -> None:
    stage = Stage()
    Worker(stage, 10)
    rate = Limit("k", rate=1, per=60)
    stage.submit(task("x", limit=rate), task("a", limit=rate))

    assert why(stage) == (
        "pending: its limit 'k' (1 starts in 60 s) lets the next one start at "
        "2023-11-14 22:14:20 UTC"
    )


def test_everything_that_must_go_is_named() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    both = Limit("k", concurrency=1, rate=1, per=60)
    stage.submit(task("x", limit=both), task("a", limit=both))
    stage.ask(m.PauseQueue, "default", True)
    stage.ask(m.Close, False, 0.0)

    said = why(stage).split("; ")
    assert [words.split(" ")[:3] for words in said] == [
        ["pending:", "the", "system"], ["its", "queue", "'default'"], ["its", "limit", "'k'"],
        ["its", "limit", "'k'"], ["no", "slot", "is"], ["tasks", "pending", "in"],
    ]  # fmt: skip
    worker.finish("x")
    assert "no slot" not in why(stage)


def test_a_system_that_closes_starts_nothing() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    stage.submit(task("x"), task("a"))
    stage.ask(m.Close, False, 0.0)
    worker.finish("x")

    assert why(stage) == "pending: the system is closing, and starts nothing"


# --- not ready -----------------------------------------------------------------------------------


def test_it_is_due_later() -> None:
    stage = Stage()
    stage.submit(task("a", delay=90))

    assert why(stage) == "scheduled: it is due at 2023-11-14 22:14:50 UTC"


def test_it_backs_off_between_two_attempts() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=Retry(attempts=3, delay=10, jitter=0)))
    worker.fail("a")

    assert why(stage) == "scheduled: it is due at 2023-11-14 22:13:30 UTC, after attempt 1"


def test_it_comes_after_other_tasks() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(*(task(id) for id in "vwxyz"))
    stage.submit(task("a", after=["w", "v"]), task("b", after=["v", "w", "x", "y", "z"]))

    assert why(stage) == "waiting: it comes after tasks w (pending), v (running)"
    assert why(stage, "b").endswith("tasks v (running), w (pending), x (pending) and 2 more")


def test_its_submit_waits_for_room() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("x", queue="images"))
    stage.submit(task("a", queue="images"))

    assert why(stage) == (
        "not accepted yet: its submit waits for room in queue 'images' (max_pending)"
    )


def test_its_submit_waits_for_an_answer_of_the_store() -> None:
    stage = Stage()
    submit = stage.question(m.Submit, (task("a", after=["x"]),)).message
    effects = stage.step(1, [submit])

    assert why(stage) == (
        "not accepted yet: its submit waits for the store, which is asked about its key or what "
        "it comes after"
    )
    stage.do(effects)
    with pytest.raises(TaskNotFound):
        why(stage)


def test_the_store_is_asked_how_what_it_comes_after_has_ended() -> None:
    stage = Stage()
    stage.submit(task("x"), task("a", after=["x"]))
    x = stage.records["x"]
    x.head = replace(x.head, status=SUCCESS)  # as when an owner dies that forgot to tell
    stage.crash()
    effects = stage.step(0, [stage.question(m.Why, "a").message])

    stage.do([effect for effect in effects if isinstance(effect, Send)])

    assert stage.questions[-1].value == (
        "waiting: the tasks that it comes after have ended; the store is asked how"
    )


# --- running or ended ----------------------------------------------------------------------------


def test_it_is_running() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    assert why(stage) == "running: it was granted to worker w.0, and no start is known of yet"

    worker.start("a")
    assert why(stage) == "running: on worker w.0 since 2023-11-14 22:13:20 UTC, attempt 1"


def test_its_worker_is_out_of_reach() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.start("a")
    worker.cut()

    assert why(stage).endswith(
        "attempt 1; that worker is out of reach: unless it comes back, another one gets it"
    )


def test_its_cancellation_waits_for_it_to_end() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.start("a")
    stage.cancel("a")

    assert why(stage).endswith("attempt 1; cancelled by user, not ended yet")


def test_it_has_ended_well() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")

    assert why(stage) == "success: it has ended at 2023-11-14 22:13:20 UTC, on attempt 1"


def test_it_has_failed() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", "failed", output=BOOM)

    assert why(stage) == (
        "failure: it has ended at 2023-11-14 22:13:20 UTC: builtins.ValueError: boom"
    )


def test_it_was_cancelled() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.cancel("a", "not needed")

    assert why(stage) == (
        "cancelled: it has ended at 2023-11-14 22:13:20 UTC: cancelled by user: not needed"
    )


def test_what_nobody_knows_is_not_found() -> None:
    stage = Stage()
    stage.submit(task("a", result_ttl=5))
    stage.cancel("a")
    stage.pass_time(10)

    for id in "ab":
        with pytest.raises(TaskNotFound):
            why(stage, id)


def test_a_task_that_came_to_life_meanwhile_is_told_of_as_it_is() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", "failed", output=Output(error=BOOM.error, kind=BOOM.kind))
    effects = stage.step(1, [stage.question(m.Why, "a").message])
    stage.bulk("retry")

    stage.do(effects)

    assert str(stage.questions[-2].value).startswith("running:")
