"""Tasks that wait for others, and what becomes of them; driven through the whole machine."""

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from actorq.errors import DependencyFailed, SubmitError, TaskNotFound
from actorq.machines.effects import Lookup
from actorq.machines.tables import STEP_MAX
from actorq.model import messages as m
from actorq.model.feed import TaskEventKind
from actorq.model.filters import Filter
from actorq.model.options import Retry, TaskOptions
from actorq.model.records import Follow, Output, Write
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SCHEDULED,
    SUCCESS,
    WAITING,
    FailureKind,
    TaskStatus,
)
from tests.machines.stage import CLIENT, Guest, Stage, Worker, task

MANY = 10_000


def statuses(stage: Stage, ids: str) -> list[TaskStatus]:
    return [stage.status(id) for id in ids]


def why(stage: Stage, id: str) -> str:
    """Return why a task failed for the lack of another one."""
    output = stage.output(id)
    assert output is not None
    assert output.error is not None
    assert output.kind is FailureKind.DEPENDENCY
    assert output.error.matches(DependencyFailed)
    return output.error.message


# --- waiting -------------------------------------------------------------------------------------


def test_a_task_waits_until_all_that_it_comes_after_have_ended() -> None:
    stage = Stage()
    worker = Worker(stage, 5)

    stage.submit(task("a"), task("b"), task("c", after=["a", "b"]))
    assert (worker.log, stage.status("c")) == (["a", "b"], WAITING)
    worker.finish("a")
    assert stage.status("c") is WAITING
    worker.finish("b")

    assert worker.log == ["a", "b", "c"]


def test_it_is_granted_in_the_step_in_which_the_last_of_them_ends() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))

    worker.finish("a")

    ended, granted = (effect for effect in stage.last if isinstance(effect, Write))
    assert (ended.id, granted.id) == ("a", "b")
    assert granted.head is not None
    assert granted.head.status is RUNNING


def test_it_keeps_the_place_in_line_that_it_got_when_it_was_submitted() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]), task("c"))

    worker.finish("a")

    assert worker.log == ["a", "b"]


def test_a_delay_counts_from_the_submission() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(task("a"), task("b", after=["a"], delay=60), task("c", after=["a"], delay=5))

    stage.pass_time(10)
    worker.finish("a")
    assert statuses(stage, "bc") == [SCHEDULED, RUNNING]
    stage.pass_time(49)
    assert stage.status("b") is SCHEDULED
    stage.pass_time(1.1)

    assert stage.status("b") is RUNNING


def test_its_time_to_start_counts_from_when_it_is_due_though_it_waits() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b", after=["a"], delay=10, expires=5))

    stage.pass_time(14)
    assert stage.status("b") is WAITING
    stage.pass_time(1.1)

    assert stage.output("b").kind is FailureKind.EXPIRED  # type: ignore[union-attr]
    assert stage.machine.pinned() == set()


def test_its_deadline_ends_it_while_it_waits() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b", after=["a"], deadline=5))

    stage.pass_time(5.1)

    assert stage.output("b").kind is FailureKind.TIMEOUT  # type: ignore[union-attr]


def test_a_cancel_ends_it_while_it_waits() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))

    cancelled = stage.cancel("b")
    worker.finish("a")

    assert cancelled.value.head.status is CANCELLED
    assert worker.log == ["a"]
    assert stage.left() == {}


def test_the_end_of_its_block_ends_it_while_it_waits() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b", after=["a"], scope="block"))

    stage.ask(m.EndScope, "block", 0.0)

    assert stage.status("b") is CANCELLED


def test_what_waits_takes_room_in_its_queue() -> None:
    stage = Stage(max_pending=2)
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.submit(task("b", after=["a"]), task("c", after=["a"]))

    parked = stage.submit(task("d"))
    assert not parked.answered
    worker.finish("a")

    assert parked.value is None


def test_subscribers_are_told_that_it_waits_and_when_it_is_due() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.ask(m.Subscribe, 1, Filter(names=frozenset({"next"})))

    stage.submit(task("b", name="next", after=["a"]))
    stage.submit(task("c", name="next", after=["a"], delay=10))
    counts = stage.ask(m.Subscribe, 2, Filter()).value.counts
    worker.finish("a")
    stage.pass_time(10.1)

    news = [n for n in stage.inbox[CLIENT] if isinstance(n, m.News) and n.subscription == 1]
    told = [(event.id, event.kind, event.status) for n in news for event in n.events]
    assert counts == {SCHEDULED: 0, WAITING: 2, PENDING: 0, RUNNING: 1}
    assert told == [
        ("b", TaskEventKind.SUBMITTED, WAITING),
        ("c", TaskEventKind.SUBMITTED, WAITING),
        ("b", TaskEventKind.DUE, PENDING),
        ("c", TaskEventKind.DUE, PENDING),
    ]


def test_stats_count_what_waits() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", after=["a"]))

    stats = stage.ask(m.GetStats).value.queues["default"]

    assert (stats.pending, stats.waiting) == (1, 1)


def test_a_name_that_a_worker_tells_more_about_is_resolved_when_its_wait_is_over() -> None:
    stage = Stage()
    worker = Worker(stage, 1, 1, declared={"job": m.Declared("process", task(timeout=9).options)})
    stage.submit(task("a"), task("b", pool="any", after=["a"]))

    worker.finish("a")

    assert (stage.head("b").pool, stage.head("b").options.timeout) == ("process", 9)
    assert worker.log == ["a", "b"]


# --- what it may come after ----------------------------------------------------------------------


@pytest.mark.parametrize("ties", [{"after": ["nobody"]}, {"needs": ("nobody",)}])
def test_a_task_that_comes_after_an_unknown_one_is_refused(ties: dict[str, Any]) -> None:
    stage = Stage()

    refused = stage.submit(task("a"), task("b", **ties))

    assert isinstance(refused.error, TaskNotFound)
    assert refused.error.id == "nobody"
    assert stage.records == {}
    assert stage.left() == {}


def test_there_are_no_circles_as_it_comes_after_what_was_accepted_before_it() -> None:
    stage = Stage()

    later = stage.submit(task("a", after=["b"]), task("b"))
    itself = stage.submit(task("c", after=["c"]))

    assert [later.error.id, itself.error.id] == ["b", "c"]  # type: ignore[union-attr]
    assert stage.records == {}


def test_it_may_come_after_one_that_has_ended_well() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")

    stage.submit(task("b", after=["a"]), task("c", after=["a"], delay=5))

    assert (worker.log, stage.status("c")) == (["a", "b"], SCHEDULED)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_it_is_accepted_and_has_failed_if_what_it_comes_after_had_failed(end: str) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", name="first"))
    worker.fail("a") if end == "failed" else stage.cancel("a", grace=0)
    worker.say(m.Tick())

    submit = stage.submit(task("b", after=["a"]), task("c", after=["b"]))

    assert submit.value is None
    ended = "failure" if end == "failed" else "cancelled"
    assert why(stage, "b") == f"it comes after task first (a), which ended as {ended}"
    assert why(stage, "c") == "it comes after task job (b), which ended as failure"
    assert stage.outcomes()[-2:] == [("b", FAILURE), ("c", FAILURE)]
    assert stage.left().keys() <= {"held"}


def test_it_may_not_come_after_one_whose_result_has_expired() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.pass_time(60)

    refused = stage.submit(task("b", after=["a"]))

    assert isinstance(refused.error, TaskNotFound)


def test_it_may_come_after_one_that_has_expired_and_is_kept_for_another() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("x"), task("b", after=["a", "x"]))
    worker.finish("a")
    stage.pass_time(100)
    stage.purge()

    assert stage.submit(task("c", after=["a"])).value is None
    assert stage.status("c") is RUNNING


def test_who_is_asked_about_and_ends_meanwhile_has_ended() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(task("a"), task("b"))
    worker.finish("b")
    submit = stage.question(m.Submit, (task("c", after=["a", "b"]),))
    grant = worker.grants.pop("a")
    finish = m.Finish("a", grant.head.fence, "ok", Output(), stage.now)

    asking = stage.step(CLIENT, [submit.message])
    stage.do([*asking, *stage.step(worker.connection, [finish])])
    assert submit.value is None
    assert worker.log == ["a", "b", "c"]


def test_who_ends_before_the_answer_is_used_has_ended_too() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(task("a"), task("b"))
    worker.finish("b")
    submit = stage.question(m.Submit, (task("c", after=["a", "b"]),))
    stage.questions.append(submit)

    (lookup,) = stage.step(CLIENT, [submit.message])
    grant = worker.grants.pop("a")
    finish = m.Finish("a", grant.head.fence, "ok", Output(), stage.now)
    finishing = stage.step(worker.connection, [finish])  # whose writes nobody has seen yet
    stage.do(stage.carry_out(lookup))
    stage.do(finishing)

    assert submit.value is None
    assert worker.log == ["a", "b", "c"]
    assert stage.left() == {"live": 1, "counts": 1, "held": 1}


# --- how those have ended ------------------------------------------------------------------------


def test_the_first_failure_ends_it_without_waiting_for_the_others() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a", name="first"), task("b"), task("c", after=["b", "a"]))

    worker.fail("a")

    assert why(stage, "c") == "it comes after task first (a), which ended as failure"
    assert stage.status("b") is RUNNING


def test_a_cancelled_one_is_no_success() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", after=["a"]))

    stage.cancel("a")

    assert why(stage, "b") == "it comes after task job (a), which ended as cancelled"


def test_it_runs_all_the_same_if_that_was_asked_for() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    stage.submit(task("a"), task("b"), task("c", after=["a", "b"], on_dependency_failure="run"))

    worker.fail("a")
    assert stage.status("c") is WAITING
    stage.cancel("b", grace=0)
    stage.tick()
    stage.submit(task("d", after=["a"], on_dependency_failure="run"))

    assert statuses(stage, "cd") == [RUNNING, RUNNING]


@pytest.mark.parametrize("late", [False, True])
def test_without_a_value_that_its_arguments_stand_for_it_cannot_run(late: bool) -> None:
    stage = Stage()
    worker = Worker(stage)
    dependant = task("b", needs=("a",), on_dependency_failure="run")
    stage.submit(task("a"), *(() if late else (dependant,)))

    worker.fail("a")
    if late:
        stage.submit(dependant)

    assert why(stage, "b") == "it needs the result of task job (a), which ended as failure"


class Steps(Stage):
    """Counts what is written in each step."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.sizes: list[int] = []

    def commit(self, writes: list[Write]) -> None:
        super().commit(writes)
        self.sizes.append(len(writes))


@pytest.mark.parametrize("end", ["fail", "cancel", "expire"])
def test_a_long_chain_ends_at_once_in_steps_that_hold_up_nobody(end: str) -> None:
    stage = Steps(max_pending=MANY + 1)
    ids = [f"{n:05}" for n in range(MANY)]
    chain = [task(id, after=[before]) for before, id in pairwise(ids)]
    stage.submit(task("00000", expires=9), *chain)
    stage.sizes.clear()

    if end == "fail":
        Worker(stage).fail("00000")
    elif end == "cancel":
        stage.cancel("00000")
    else:
        stage.pass_time(9)
    stage.tick()

    assert max(stage.sizes) <= STEP_MAX + 1
    assert {record.head.status for record in stage.records.values()} <= {FAILURE, CANCELLED}
    assert len(stage.outcomes()) == MANY
    stage.workers.clear()
    assert stage.left() == {}


@pytest.mark.parametrize("cause", ["ok", "failed"])
def test_a_wide_fan_is_decided_at_once_in_steps_that_hold_up_nobody(cause: m.FinishCause) -> None:
    stage = Steps(max_pending=MANY + 1)
    worker = Worker(stage)
    stage.submit(task("a"), *(task(f"{n:05}", needs=("a",)) for n in range(MANY)))
    stage.sizes.clear()

    worker.finish("a", cause, output=Output("value"))
    stage.tick()

    rest = [record.head.status for id, record in stage.records.items() if id != "a"]
    expected = [RUNNING, *[PENDING] * (MANY - 1)] if cause == "ok" else [FAILURE] * MANY
    assert rest == expected
    assert max(stage.sizes) <= STEP_MAX + 1


def test_what_is_not_decided_yet_when_the_owner_dies_is_decided_by_the_next_one() -> None:
    stage = Stage(max_pending=MANY + 1)
    worker = Worker(stage)
    stage.submit(task("a"), *(task(f"{n:05}", after=["a"]) for n in range(MANY)))

    worker.fail("a")
    assert WAITING in {record.head.status for record in stage.records.values()}
    stage.crash()
    stage.tick()

    assert {record.head.status for record in stage.records.values()} == {FAILURE}
    assert stage.left() == {}


def test_a_task_may_come_after_very_many() -> None:
    stage = Stage(max_pending=MANY + 1)
    ids = [f"{n:05}" for n in range(MANY)]
    stage.submit(*(task(id, scope="block") for id in ids), task("last", after=ids))
    run = task("run", after=ids, on_dependency_failure="run")
    stage.submit(run)

    stage.ask(m.EndScope, "block", 0.0)

    assert why(stage, "last") == "it comes after task job (00000), which ended as cancelled"
    assert Worker(stage).log == ["run"]


def test_what_is_cancelled_as_a_whole_does_not_fail_for_the_lack_of_its_parts() -> None:
    stage = Stage()
    stage.submit(task("a", scope="block"), task("b", scope="block", after=["a"]))
    stage.submit(task("c", after=["b"]))

    stage.ask(m.EndScope, "block", 0.0)

    assert statuses(stage, "abc") == [CANCELLED, CANCELLED, FAILURE]


def test_a_closing_system_cancels_what_waits() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))

    close = stage.ask(m.Close, True, 0.0)
    stage.tick()

    assert statuses(stage, "ab") == [CANCELLED, CANCELLED]
    assert close.answered
    assert stage.left() == {}


def test_whoever_waits_for_quiet_waits_for_what_waits_too() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))

    join = stage.ask(m.Join)
    worker.finish("a")
    assert not join.answered
    worker.finish("b")

    assert join.answered


def test_a_callback_task_waits_for_what_it_comes_after() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"))
    for id, name, before in (("b", "after all", "a"), ("c", "never", "nobody")):
        follow = Follow(name, "main", TaskOptions(after=[before]), "call")
        options = TaskOptions().with_callback(follow, None)
        stage.submit(replace(task(id), options=options))

    worker.finish("b")
    worker.finish("c")
    (waiting,) = (r.head.id for r in stage.records.values() if r.head.name == "after all")
    (lost,) = (r.head.id for r in stage.records.values() if r.head.name == "never")
    assert stage.status(waiting) is WAITING
    assert why(stage, lost) == (
        "it comes after task nobody, of which nothing is left: it has expired or was discarded"
    )
    worker.finish("a")

    assert stage.status(waiting) is RUNNING


# --- values --------------------------------------------------------------------------------------


def test_a_grant_carries_the_values_that_its_arguments_stand_for() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    first, second = object(), object()
    stage.submit(task("a"), task("b"), task("c", needs=("a", "b")), task("d", needs=("a",)))

    worker.finish("a", output=Output(first))
    worker.finish("b", output=Output(second))

    assert worker.grants["c"].inputs == {"a": first, "b": second}
    assert worker.grants["d"].inputs == {"a": first}
    assert worker.grants["d"].head.needs == ("a",)


def test_a_value_of_none_is_a_value() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", needs=("a",)))

    worker.finish("a")

    assert worker.grants["b"].inputs == {"a": None}


def test_a_value_of_long_ago_is_looked_up() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", output=Output(42))

    stage.submit(task("b", needs=("a",)))

    assert worker.grants["b"].inputs == {"a": 42}


def test_who_comes_after_a_task_without_a_need_gets_no_value_of_it() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))

    worker.finish("a", output=Output(42))

    assert worker.grants["b"].inputs == {}


def test_a_value_that_nobody_needed_so_far_is_looked_up() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("x"), task("b", after=["a", "x"]))
    worker.finish("a", output=Output(42))

    stage.submit(task("c", needs=("a", "x")))
    worker.finish("x", output=Output(7))

    assert worker.grants["c"].inputs == {"a": 42, "x": 7}


def test_a_value_that_is_looked_up_again_is_no_failure_to_others() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    stage.submit(task("a"), task("b"), task("x"), task("y"))
    stage.submit(task("c", needs=("a", "b"), after=["y"]), task("d", after=["a", "c"]))
    worker.finish("a", output=Output(42))
    worker.fail("b", retryable=False)

    assert stage.bulk("retry").value == 3  # d comes before c, and needs no value
    assert [stage.status(id) for id in "bcd"] == [RUNNING, WAITING, WAITING]


def test_a_value_is_kept_for_every_attempt() -> None:
    stage = Stage(result_ttl=1)
    worker = Worker(stage)
    retry = Retry(attempts=2, delay=10, jitter=0)
    stage.submit(task("a"), task("b", needs=("a",), retry=retry))
    worker.finish("a", output=Output(42))

    worker.fail("b")
    assert stage.machine.pinned() == {"a"}
    stage.pass_time(10)
    assert worker.grants["b"].inputs == {"a": 42}
    worker.vanish()
    assert worker.grants["b"].inputs == {"a": 42}
    worker.finish("b")

    assert stage.machine.pinned() == set()
    assert stage.left() == {}


# --- a new owner ---------------------------------------------------------------------------------


def test_after_a_restart_it_waits_on() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b"), task("c", after=["a", "b"]))

    stage.crash()
    worker = Worker(stage, 2, name="w.1")
    worker.finish("a")
    assert stage.status("c") is WAITING
    worker.finish("b")

    assert worker.log == ["a", "b", "c"]


def test_after_a_restart_what_had_ended_is_looked_up_before_anything_is_granted() -> None:
    stage = Stage(result_ttl=1)
    worker = Worker(stage, 3)
    stage.submit(
        task("a"), task("b"), task("c", needs=("a",), after=["b"]), task("d", needs=("a",))
    )
    worker.finish("a", output=Output(42))
    worker.fail("d", retryable=False)
    stage.submit(task("e", needs=("a",), delay=5), task("f", needs=("a",)))
    stage.pass_time(2)
    stage.purge()

    stage.crash()
    worker = Worker(stage, 5, name="w.1")

    asked = [effect for effect in stage.last if isinstance(effect, Lookup)]
    assert [lookup.ids for lookup in asked] == [("a",)]
    assert worker.grants["f"].inputs == {"a": 42}
    worker.finish("b")
    stage.pass_time(5)
    assert worker.grants["c"].inputs == {"a": 42}
    assert worker.grants["e"].inputs == {"a": 42}
    assert stage.machine.pinned() == {"a"}


def test_after_a_restart_a_task_that_is_running_somewhere_needs_its_value_again() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"), task("b", needs=("a",)))
    worker.finish("a", output=Output(42))

    stage.crash()
    stage.say(CLIENT, m.ClientHello("me"))
    worker.grants.clear()  # it never arrived
    worker.connect(at=101)

    assert worker.grants["b"].inputs == {"a": 42}


def test_a_new_owner_looks_at_what_waits_though_nobody_comes() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", after=["a"]))
    del stage.records["a"]  # as no store would

    stage.crash()
    stage.tick()

    assert why(stage, "b") == (
        "it comes after task a, of which nothing is left: it has expired or was discarded"
    )
    assert stage.machine.next_deadline() is None
    assert stage.left() == {}


@pytest.mark.parametrize("when", [PENDING, SCHEDULED, RUNNING])
def test_without_a_value_that_is_lost_it_fails_and_does_not_hang(when: TaskStatus) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("x"), task("b", needs=("a",), delay=5))
    worker.finish("a")
    if when is PENDING:
        stage.pass_time(6)
    elif when is RUNNING:
        worker.finish("x")
        stage.pass_time(6)
    assert stage.status("b") is when
    del stage.records["a"]  # as no store would

    stage.crash()
    worker = Worker(stage, 2, name="w.1")
    stage.pass_time(6)

    assert why(stage, "b") == (
        "it needs the result of task a, of which nothing is left: it has expired or was discarded"
    )
    assert "b" not in worker.log
    worker.finish("x") if when is not RUNNING else None
    assert stage.left() == {}


def test_what_is_known_of_very_many_is_asked_for_in_pieces() -> None:
    stage = Stage(max_pending=MANY)
    worker = Worker(stage, 2_500)
    ids = [f"{n:04}" for n in range(2_500)]
    stage.submit(*map(task, ids), task("x"), task("last", after=[*ids, "x"]))
    for id in ids:
        worker.finish(id)

    stage.crash()
    stage.tick()

    lookups = [effect for effect in stage.last if isinstance(effect, Lookup)]
    assert [len(lookup.ids) for lookup in lookups] == [1_000, 1_000, 500]
    worker = Worker(stage, name="w.1")
    worker.finish("x")
    assert worker.log == ["x", "last"]


# --- keeping what is needed ----------------------------------------------------------------------


def test_what_a_live_task_needs_is_pinned() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    stage.submit(task("a"), task("b"), task("c", after=["a", "b"]), task("d", needs=("a", "b")))

    worker.finish("a")
    assert stage.machine.pinned() == {"a"}
    worker.finish("b")
    assert stage.machine.pinned() == {"a", "b"}  # for d alone: c has begun
    worker.finish("d")

    assert stage.machine.pinned() == set()


def test_what_is_pinned_cannot_be_discarded() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("x"), task("b", needs=("a",), after=["x"]))
    worker.finish("a", output=Output(42))

    assert stage.bulk("discard", dry_run=True).value == 0
    assert stage.bulk("discard").value == 0
    worker.finish("x")
    assert worker.grants["b"].inputs == {"a": 42}
    worker.finish("b")

    assert stage.bulk("discard").value == 3


# --- retry ---------------------------------------------------------------------------------------


def test_a_retried_task_waits_again_for_a_retried_one() -> None:
    """The newest are looked at first, page by page, and nothing is decided before the last."""
    stage = Stage()
    worker = Worker(stage)
    chain = [task(f"{n}", after=[f"{n - 1}"] if n else []) for n in range(7)]
    stage.submit(*chain)
    worker.fail("0", retryable=False)

    assert stage.bulk("retry").value == 7
    assert statuses(stage, "0123456") == [RUNNING, *[WAITING] * 6]
    for n in range(7):
        worker.finish(f"{n}")

    assert set(statuses(stage, "0123456")) == {SUCCESS}
    assert stage.left() == {}


def test_a_retried_task_waits_for_one_that_is_retried_many_pages_later() -> None:
    stage = Stage()
    worker = Worker(stage, 9)
    stage.submit(*(task(f"{n}") for n in range(8)), task("8", after=["0"]))
    for n in range(8):
        worker.fail(f"{n}", retryable=False)

    assert stage.bulk("retry").value == 9
    assert (stage.status("0"), stage.status("8")) == (RUNNING, WAITING)
    worker.finish("0")

    assert stage.status("8") is RUNNING


def test_who_is_told_meanwhile_decides_nothing_before_the_last_page() -> None:
    """What it comes after is known to have failed, as another task waits for it too."""
    stage = Stage()
    worker = Worker(stage, 9)
    stage.submit(*(task(f"{n}") for n in range(8)), task("8", after=["0"]))
    stage.submit(task("x"), task("9", after=["0", "x"], on_dependency_failure="run"))
    for n in range(8):
        worker.fail(f"{n}", retryable=False)

    stage.bulk("retry")
    assert [stage.status(id) for id in "089"] == [RUNNING, WAITING, WAITING]
    worker.finish("x")
    assert stage.status("9") is WAITING
    worker.finish("0")

    assert [stage.status(id) for id in "89"] == [RUNNING, RUNNING]


def test_a_retried_task_fails_again_as_long_as_what_it_comes_after_has_failed() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))
    worker.fail("a", retryable=False)

    assert stage.bulk("retry", Filter(ids=frozenset({"b"}))).value == 1

    assert why(stage, "b") == "it comes after task job (a), which ended as failure"
    assert stage.left() == {}


def test_a_task_that_has_failed_stays_so_when_what_it_comes_after_is_retried() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]))
    worker.fail("a", retryable=False)

    stage.bulk("retry", Filter(ids=frozenset({"a"})))
    worker.finish("a")

    assert statuses(stage, "ab") == [SUCCESS, FAILURE]
    assert worker.log == ["a", "a"]


def test_a_retried_task_gets_its_values_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", needs=("a",)))
    worker.finish("a", output=Output(42))
    worker.fail("b", retryable=False)

    stage.bulk("retry")

    assert (worker.log, worker.grants["b"].inputs) == (["a", "b", "b"], {"a": 42})


def test_who_waits_and_may_run_all_the_same_waits_for_a_new_run_too() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("x"), task("b", after=["a", "x"], on_dependency_failure="run"))
    worker.fail("a", retryable=False)

    stage.bulk("retry")
    worker.finish("x")
    assert stage.status("b") is WAITING
    worker.finish("a")

    assert stage.status("b") is RUNNING


def test_a_retried_task_that_had_begun_does_not_need_what_it_came_after_any_more() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a", result_ttl=1), task("b", after=["a"]))
    stage.submit(task("c", result_ttl=1), task("d", after=["c"]))
    worker.finish("a")
    worker.fail("b", retryable=False)
    worker.fail("c", retryable=False)
    stage.pass_time(2)
    stage.purge()

    stage.bulk("retry")

    assert stage.status("b") is RUNNING
    assert "nothing is left" in why(stage, "d")


def test_that_it_had_begun_is_known_after_any_number_of_retries_and_crashes() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a", result_ttl=1), task("b", after=["a"]))
    worker.finish("a")
    worker.fail("b", retryable=False)
    stage.pass_time(2)
    stage.purge()
    stage.disconnect(worker.connection)

    stage.bulk("retry")
    stage.cancel("b")
    stage.bulk("retry")
    revived = stage.records["b"]
    stage.crash()
    stage.tick()
    assert stage.status("b") is PENDING
    stage.records["b"].head = replace(revived.head, status=WAITING)  # it had not got further
    stage.crash()
    stage.tick()

    assert stage.status("b") is PENDING


def test_a_retried_task_fails_if_a_value_that_it_needs_is_gone() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a", result_ttl=1), task("b", needs=("a",)))
    worker.finish("a")
    worker.fail("b", retryable=False)
    stage.pass_time(2)
    stage.purge()

    stage.bulk("retry")

    assert "it needs the result of task a, of which nothing is left" in why(stage, "b")


def test_a_bulk_retry_that_a_crash_cuts_short_leaves_nobody_waiting() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]), task("c", after=["b"]))
    worker.fail("a", retryable=False)
    retry = stage.question(m.Bulk, "retry", Filter(), False)

    (search,) = stage.step(CLIENT, [retry.message])
    effects = stage.carry_out(search)  # the first page: b and c
    stage.commit([effect for effect in effects if isinstance(effect, Write)])
    assert statuses(stage, "abc") == [FAILURE, WAITING, WAITING]
    stage.crash()
    stage.tick()
    assert statuses(stage, "abc") == [FAILURE] * 3
    stage.say(CLIENT, retry.message)

    assert retry.value == 3
    assert statuses(stage, "abc") == [PENDING, WAITING, WAITING]


def test_a_system_that_closes_in_the_middle_of_a_bulk_retry_leaves_nothing_behind() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", after=["a"]), task("c", after=["b"]))
    worker.fail("a", retryable=False)
    retry = stage.question(m.Bulk, "retry", Filter(), False)
    close = stage.question(m.Close, False, 0.0)

    (search,) = stage.step(CLIENT, [retry.message])
    page = stage.carry_out(search)
    closing = stage.step(CLIENT, [close.message])
    stage.do([*page, *closing])

    assert statuses(stage, "abc") == [FAILURE] * 3
    assert stage.left() == {}


# --- submits about which the store is asked ------------------------------------------------------


def asked(stage: Stage, *tasks: m.Submission, origin: int = CLIENT) -> tuple[Any, list[Any]]:
    """Submit, and return what the store is asked, which it has not answered yet."""
    submit = stage.question(m.Submit, tasks)
    return submit, stage.step(origin, [submit.message])


def ended(stage: Stage, id: str = "a") -> None:
    stage.submit(task(id))
    worker = Worker(stage, name="old.0", at=90)
    worker.finish(id)
    stage.disconnect(90)


def test_a_submit_that_is_withdrawn_while_the_store_is_asked_never_runs() -> None:
    stage = Stage()
    ended(stage)

    submit, effects = asked(stage, task("b", after=["a"]))
    withdraw = stage.ask(m.Withdraw, submit.message.request, ("b",), 0.0)
    stage.do(effects)

    assert withdraw.answered
    assert not submit.answered
    assert stage.left() == {}
    assert "b" not in stage.records


def test_a_submit_whose_block_ends_while_the_store_is_asked_is_refused() -> None:
    stage = Stage()
    ended(stage)

    submit, effects = asked(stage, task("b", after=["a"], scope="block"))
    stage.ask(m.EndScope, "block", 0.0)
    stage.do(effects)

    assert isinstance(submit.error, SubmitError)
    assert "b" not in stage.records
    assert stage.left() == {}


def test_a_submit_whose_client_leaves_while_the_store_is_asked_is_forgotten() -> None:
    stage = Stage()
    ended(stage)
    guest = Guest(stage)

    submit, effects = asked(stage, task("b", after=["a"]), origin=guest.connection)
    guest.leave()
    stage.do(effects)

    assert not submit.answered
    assert "b" not in stage.records


def test_whoever_waits_for_quiet_waits_for_a_submit_about_which_the_store_is_asked() -> None:
    stage = Stage()
    ended(stage)

    _, effects = asked(stage, task("b", after=["nobody"]))
    join = stage.ask(m.Join)
    assert not join.answered
    stage.do(effects)

    assert join.answered


def test_a_submit_that_waits_for_room_is_looked_at_again_when_there_is_some() -> None:
    stage = Stage(max_pending=2, result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.submit(task("x"), task("y"))
    parked = stage.submit(task("b", after=["a"]))
    late = stage.submit(task("c"))

    worker.finish("a", output=Output(42))
    assert parked.value is None
    assert not late.answered
    stage.pass_time(100)
    worker.finish("x")

    assert late.value is None


def test_a_submit_keeps_its_place_in_line_while_the_store_is_asked_about_it() -> None:
    stage = Stage(max_pending=1)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.submit(task("x"))
    stage.submit(task("y"))
    first = stage.submit(task("b", needs=("a",)))
    second = stage.submit(task("c"))

    worker.finish("x")
    assert first.value is None
    assert not second.answered
    worker.finish("y")

    assert worker.log == ["a", "x", "y", "b"]
    assert second.value is None


def test_what_it_comes_after_may_expire_while_it_waits_for_room() -> None:
    stage = Stage(max_pending=1, result_ttl=10)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.submit(task("x"))
    stage.submit(task("y"))
    parked = stage.submit(task("b", after=["a"]))

    stage.pass_time(11)
    worker.finish("x")

    assert isinstance(parked.error, TaskNotFound)
    worker.finish("y")
    assert stage.left() == {}


def test_a_task_that_was_discarded_meanwhile_is_not_found() -> None:
    stage = Stage()
    ended(stage)

    submit, effects = asked(stage, task("b", after=["a"]))
    record = stage.records["a"]
    stage.bulk("discard")
    stage.records["a"] = record  # it was fetched before that was written
    stage.do(effects)

    assert isinstance(submit.error, TaskNotFound)
