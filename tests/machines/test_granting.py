"""Who is granted what, and what a worker's word means; driven through the whole machine."""

from datetime import UTC, datetime

import pytest

from actorq.machines.effects import Send
from actorq.machines.states import Move
from actorq.machines.tables import STEP_MAX
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import NO_OPTIONS, Limit, Retry, TaskOptions
from actorq.model.records import Note, Output, Pause, Write
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SCHEDULED, SUCCESS
from actorq.model.status import FailureKind as Kind
from tests.machines.stage import BOOM, MORNING, Stage, Worker, task

STEADY = Retry(attempts=3, delay=10, factor=2, jitter=0)

# --- order ---------------------------------------------------------------------------------------


def test_tasks_of_one_level_are_granted_in_the_order_of_their_submission() -> None:
    stage = Stage()
    for id in "cab":
        stage.submit(task(id))

    assert Worker(stage, 3).log == ["c", "a", "b"]


def test_a_batch_keeps_its_own_order() -> None:
    stage = Stage()
    stage.submit(*(task(id) for id in "dbca"))

    assert Worker(stage, 4).log == ["d", "b", "c", "a"]


def test_order_holds_across_queues_and_task_names() -> None:
    stage = Stage()
    stage.submit(task("a", queue="one"), task("b", name="other"), task("c", queue="two"), task("d"))

    assert Worker(stage, 4).log == ["a", "b", "c", "d"]


def test_a_higher_level_is_granted_first() -> None:
    stage = Stage()
    levels = ["low", "normal", "critical", "high"]
    stage.submit(*(task(level, priority=level) for level in levels))

    assert Worker(stage, 4).log == ["critical", "high", "normal", "low"]


def test_an_hour_of_waiting_outweighs_a_level() -> None:
    stage = Stage()
    stage.submit(task("old"))
    stage.pass_time(3599)
    stage.submit(task("early", priority="high"))
    stage.pass_time(2)
    stage.submit(task("late", priority="high"))

    assert Worker(stage, 3).log == ["early", "old", "late"]


def test_a_retry_keeps_its_place() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    worker.fail("a")
    stage.submit(task("b"), task("c"))
    stage.pass_time(10)

    worker.finish("b")

    assert worker.log == ["a", "b", "a"]


def test_a_delayed_task_takes_its_place_by_its_due_time() -> None:
    stage = Stage()
    stage.submit(task("late", delay=10))
    stage.pass_time(5)
    stage.submit(task("early"))
    stage.pass_time(10)
    stage.submit(task("last"))

    assert Worker(stage, 3).log == ["early", "late", "last"]


def test_order_survives_a_restart_of_the_owner() -> None:
    stage = Stage()
    stage.submit(
        task("x"), task("low", priority="low"), task("b"), task("a"), task("late", delay=5)
    )
    stage.crash()
    stage.pass_time(6)

    assert Worker(stage, 5).log == ["x", "b", "a", "late", "low"]


# --- credits --------------------------------------------------------------------------------------


def test_nothing_is_granted_beyond_the_credit() -> None:
    stage = Stage()
    worker = Worker(stage, 2)

    stage.submit(*(task(id) for id in "abcde"))

    assert worker.log == ["a", "b"]


def test_the_two_pools_have_credits_of_their_own() -> None:
    stage = Stage()
    worker = Worker(stage, main=1, process=1)

    stage.submit(task("a"), task("b"), task("c", pool="process"), task("d", pool="process"))

    assert worker.log == ["a", "c"]
    worker.finish("c")
    assert worker.log == ["a", "c", "d"]


def test_a_finish_alone_gives_no_credit() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))

    worker.say(m.Finish("a", 1, "ok", Output(), stage.now))
    assert worker.log == ["a"]

    worker.grants.clear()
    worker.say(worker.ready("main"))
    assert worker.log == ["a", "b"]


def test_a_repeated_word_of_credit_counts_once() -> None:
    stage = Stage()
    worker = Worker(stage, 2)

    worker.say(worker.ready("main"), worker.ready("main"))
    stage.submit(*(task(id) for id in "abc"))

    assert worker.log == ["a", "b"]


def test_an_old_word_of_credit_does_not_hide_the_slot_of_another_worker() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b"))

    worker.say(m.Ready("main", 1))
    other = Worker(stage, 1, name="v.0", at=200)
    stage.submit(task("c"))

    assert other.log == ["c"]


def test_credit_begins_anew_with_each_connection() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b"))
    worker.finish("a")

    stage.disconnect(worker.connection)
    worker.connect(at=101)
    stage.submit(task("c"), task("d"))

    assert worker.log == ["a", "b", "c"]


def test_credit_goes_with_its_connection() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.disconnect(worker.connection)

    stage.submit(task("a"))

    assert stage.status("a") is PENDING


def test_work_is_shared_evenly() -> None:
    stage = Stage()
    left, right = Worker(stage, 2, name="l.0", at=100), Worker(stage, 2, name="r.0", at=200)

    stage.submit(*(task(id) for id in "abcd"))

    assert (len(left.log), len(right.log)) == (2, 2)


def test_one_task_at_a_time_is_shared_evenly_too() -> None:
    stage = Stage()
    workers = [Worker(stage, 2, name=f"w{n}.0", at=100 + n) for n in range(3)]

    for n in range(30):
        stage.submit(task(f"{n}"))
        for worker in workers:
            for id in list(worker.grants):
                worker.finish(id)

    assert [len(worker.log) for worker in workers] == [10, 10, 10]


def test_a_slow_worker_is_not_flooded() -> None:
    stage = Stage()
    slow, quick = Worker(stage, 2, name="s.0", at=100), Worker(stage, 2, name="q.0", at=200)

    for n in range(20):
        stage.submit(task(f"{n}"))
        for id in list(quick.grants):
            quick.finish(id)

    assert len(slow.log) <= 2
    assert len(quick.log) == 20 - len(slow.log)


def test_what_the_owner_takes_away_gives_no_credit() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    stage.submit(task("a"), task("b"))

    stage.cancel("a", grace=0)
    stage.pass_time(1)
    assert worker.log == ["a"]

    worker.grants.clear()  # now it has really stopped
    worker.say(worker.ready("main"))
    assert worker.log == ["a", "b"]


def test_credit_from_a_stranger_is_ignored() -> None:
    stage = Stage()
    stage.submit(task("a"))

    stage.say(666, m.Ready("main", 5))

    assert stage.status("a") is PENDING


# --- grants and fences ---------------------------------------------------------------------------


def test_a_delayed_task_starts_when_it_is_due_and_not_before() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", delay=10))

    stage.pass_time(9.9)
    assert (stage.status("a"), worker.log) == (SCHEDULED, [])

    stage.pass_time(0.2)
    assert (stage.status("a"), worker.log) == (RUNNING, ["a"])


def test_at_is_a_moment_on_the_owners_clock() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", at=datetime.fromtimestamp(MORNING + 60, UTC)))

    assert stage.machine.next_deadline() == MORNING + 60
    stage.pass_time(61)

    assert worker.log == ["a"]


def test_a_grant_says_what_is_left_of_the_deadline() -> None:
    stage = Stage()
    stage.submit(task("a", deadline=10), task("b"))
    stage.pass_time(4)

    worker = Worker(stage, 2)

    assert worker.grants["a"].remaining == 6
    assert worker.grants["b"].remaining is None


def test_a_grant_raises_the_fence_and_names_the_worker() -> None:
    stage = Stage()
    worker = Worker(stage)

    stage.submit(task("a", body="call"))

    grant = worker.grants["a"]
    assert grant.head == stage.head("a")
    assert (grant.head.fence, grant.head.worker, grant.body) == (1, "w.0", "call")


def test_every_grant_has_a_higher_fence() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    fences = [worker.grants["a"].head.fence]
    worker.fail("a")
    stage.pass_time(10)
    fences.append(worker.grants["a"].head.fence)
    worker.vanish()
    fences.append(worker.grants["a"].head.fence)

    assert fences == sorted(set(fences))


def test_a_success_is_stored_with_its_value_and_without_its_call() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.pass_time(5)

    worker.finish("a", output=Output(42), started_at=MORNING + 1)

    record, head = stage.records["a"], stage.head("a")
    assert (head.status, record.output, record.body) == (SUCCESS, Output(42), None)
    assert (head.attempts, head.started_at) == (1, MORNING + 1)
    assert (head.completed_at, head.keep_until) == (MORNING + 5, MORNING + 65)
    assert stage.left() == {}


def test_a_task_may_say_how_long_its_outcome_is_kept() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a", result_ttl=5))

    worker.finish("a")

    assert stage.head("a").keep_until == MORNING + 5


def test_a_finish_is_answered_once_it_is_recorded() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    worker.finish("a")

    assert worker.answers == [m.Finished("a", 1, True)]
    assert isinstance(stage.last[0], Write)


@pytest.mark.parametrize(
    ("cause", "status"),
    [("ok", SUCCESS), ("failed", SCHEDULED), ("later", SCHEDULED), ("handed back", PENDING),
     ("lost", PENDING), ("deadline", FAILURE)],
)  # fmt: skip
def test_a_repeated_finish_is_accepted_and_changes_nothing(
    cause: m.FinishCause, status: object
) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    grant = worker.grants.pop("a")
    finish = m.Finish("a", grant.head.fence, cause, Output(), stage.now, True, 30.0)

    worker.say(finish)  # (its slot is not free yet, so nothing is granted to it)
    before = stage.head("a")
    worker.say(finish)

    assert worker.answers == 2 * [m.Finished("a", 1, True)]
    assert stage.head("a") is before
    assert (before.status, stage.told(EventKind.STALE_RESULT)) == (status, [])


def test_a_finish_that_comes_again_when_its_retry_is_due_is_accepted() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    finish = worker.fail("a")
    stage.disconnect(worker.connection)
    stage.pass_time(10)
    assert stage.status("a") is PENDING

    stage.say(worker.connection, finish)

    assert stage.last == [Send(worker.connection, m.Finished("a", 1, True))]


def lose(stage: Stage, worker: Worker) -> m.Finish:
    """Have the owner give up a worker; return what it says too late."""
    grant = worker.grants["a"]
    stage.disconnect(worker.connection)
    return m.Finish("a", grant.head.fence, "ok", Output("late"), stage.now)


def test_a_finish_between_a_loss_and_the_next_grant_is_refused() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    worker.say(lose(stage, worker))

    assert stage.last[0] == Send(worker.connection, m.Finished("a", 1, False))
    assert stage.status("a") is PENDING
    assert stage.told(EventKind.STALE_RESULT) == [{"id": "a", "fence": 1, "cause": "ok"}]


@pytest.mark.parametrize("why", ["at most once", "last delivery", "cancelled", "cancelled later"])
def test_a_late_finish_is_refused_where_the_loss_ended_the_task(why: str) -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(
        task(
            "a", at_most_once=why == "at most once",
            max_deliveries=1 if why == "last delivery" else 3,
        )
    )  # fmt: skip
    if why == "cancelled":
        stage.cancel("a")

    late = lose(stage, worker)
    if why == "cancelled later":
        stage.cancel("a")
    ended = stage.head("a")
    worker.say(late)

    assert ended.status.terminal
    assert stage.last[-2] == Send(worker.connection, m.Finished("a", 1, False))
    assert (stage.head("a"), stage.output("a") == Output("late")) == (ended, False)
    assert stage.told(EventKind.STALE_RESULT) == [{"id": "a", "fence": 1, "cause": "ok"}]


def test_a_finish_of_an_unknown_task_is_accepted() -> None:
    stage = Stage()
    worker = Worker(stage)

    worker.say(m.Finish("forgotten", 3, "ok", Output(), None))

    assert worker.answers == [m.Finished("forgotten", 3, True)]
    assert stage.events == []


def test_a_finish_with_an_old_fence_is_refused_and_reported() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    worker.fail("a")
    stage.pass_time(10)

    worker.say(m.Finish("a", 1, "ok", Output("late"), None))

    assert worker.answers[-1] == m.Finished("a", 1, False)
    assert stage.status("a") is RUNNING
    (event,) = stage.events
    assert event.kind is EventKind.STALE_RESULT
    assert event.details == {"id": "a", "fence": 1, "cause": "ok"}


def test_a_finish_with_an_old_fence_is_refused_after_the_end_too() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    worker.fail("a")
    stage.pass_time(10)
    worker.finish("a", output=Output("winner"))

    worker.say(m.Finish("a", 1, "ok", Output("late"), None))

    assert worker.answers[-1] == m.Finished("a", 1, False)
    assert stage.output("a") == Output("winner")


def test_only_the_holder_can_finish() -> None:
    stage = Stage()
    worker = Worker(stage)
    Worker(stage, 0, name="v.0", at=200)
    stage.submit(task("a"))

    for origin in (200, 666):
        stage.say(origin, m.Finish("a", 1, "ok", Output("stolen"), None))
        assert stage.status("a") is RUNNING

    worker.finish("a", output=Output("mine"))
    assert stage.output("a") == Output("mine")


def test_a_finish_that_is_not_the_holders_is_refused() -> None:
    stage = Stage()
    worker = Worker(stage)
    thief = Worker(stage, 0, name="v.0", at=200)
    stage.submit(task("a"))

    thief.say(m.Finish("a", 1, "ok", Output("stolen"), None))
    assert thief.answers == [m.Finished("a", 1, False)]
    assert stage.status("a") is RUNNING

    worker.finish("a", output=Output("mine"))
    assert stage.output("a") == Output("mine")


def test_a_start_or_progress_of_an_old_fence_is_ignored() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    worker.fail("a")
    stage.pass_time(10)

    worker.say(m.Started("a", 1, MORNING), m.Report("a", 1, "old"))

    snapshot = stage.ask(m.Inspect, "a").value
    assert (snapshot.head.attempts, snapshot.progress) == (1, None)


# --- failures and retries ------------------------------------------------------------------------


def test_a_failure_without_a_retry_ends_the_task() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    worker.fail("a")

    assert stage.status("a") is FAILURE
    assert stage.output("a") == BOOM
    assert stage.records["a"].body == "call"  # somebody may want to run it again
    assert stage.left() == {}


def test_a_retry_waits_for_its_backoff_and_holds_no_slot_meanwhile() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY), task("b"))

    worker.fail("a")

    assert (stage.status("a"), stage.head("a").due) == (SCHEDULED, MORNING + 10)
    assert worker.log == ["a", "b"]
    assert stage.outcomes() == []


def test_backoff_grows_with_each_attempt_until_they_are_spent() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    waits = []

    for _ in range(2):
        worker.fail("a")
        waits.append(stage.head("a").due - stage.now)
        stage.pass_time(waits[-1])
    worker.fail("a")

    assert waits == [10, 20]
    assert (stage.status("a"), stage.head("a").attempts) == (FAILURE, 3)


def test_an_error_that_the_policy_does_not_cover_ends_the_task() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))

    worker.fail("a", retryable=False)

    assert (stage.status("a"), stage.head("a").attempts) == (FAILURE, 1)


def test_a_timeout_is_retried_where_the_policy_covers_it() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY), task("b", retry=STEADY))

    worker.finish("a", "timeout", retryable=True)
    worker.finish("b", "timeout", output=Output(kind=Kind.TIMEOUT))

    assert (stage.status("a"), stage.status("b")) == (SCHEDULED, FAILURE)
    assert stage.output("b").kind is Kind.TIMEOUT


def test_a_passed_deadline_is_never_retried() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY, deadline=60))

    worker.finish("a", "deadline", output=Output(kind=Kind.TIMEOUT), retryable=True)

    assert stage.status("a") is FAILURE
    assert stage.output("a").kind is Kind.TIMEOUT


def test_an_attempt_that_would_begin_after_the_deadline_is_not_waited_for() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY, deadline=10))

    worker.fail("a")

    assert (stage.status("a"), stage.output("a")) == (FAILURE, BOOM)


def test_retry_later_spends_no_attempt() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    for _ in range(5):
        worker.finish("a", "later", delay=30)
        assert stage.head("a").due == stage.now + 30
        stage.pass_time(30)

    assert (stage.status("a"), stage.head("a").attempts) == (RUNNING, 0)


def test_attempts_count_starts() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))

    worker.finish("a", "failed", started_at=None, retryable=True)

    assert (stage.head("a").attempts, stage.head("a").fence) == (0, 1)


# --- what is handed back -------------------------------------------------------------------------


def test_what_is_handed_back_spends_neither_attempt_nor_death_and_runs_elsewhere() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a", max_deliveries=1), task("b", max_deliveries=1))
    worker.start("a")
    for id, started_at in (("a", stage.now), ("b", None)):
        finish = m.Finish(id, 1, "handed back", Output(), started_at)
        worker.say(finish)  # a worker that stops has no free slot

    other = Worker(stage, 2, name="v.0", at=200)

    assert other.log == ["a", "b"]
    assert [(stage.head(id).attempts, stage.head(id).deaths) for id in "ab"] == [(0, 0), (0, 0)]
    assert worker.answers == [m.Finished("a", 1, True), m.Finished("b", 1, True)]
    assert stage.events == []


def test_what_is_handed_back_takes_its_old_place() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))

    worker.finish("a", "handed back")

    assert worker.log == ["a", "a"]


def test_a_started_at_most_once_task_that_is_handed_back_ends() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a", at_most_once=True), task("b", at_most_once=True))

    worker.finish("a", "handed back")
    worker.finish("b", "handed back", started_at=None)

    assert stage.output("a").kind is Kind.LOST
    assert "stopped in the middle" in stage.output("a").error.message
    assert worker.log == ["a", "b", "b"]


@pytest.mark.parametrize("cause", ["handed back", "failed", "lost", "later", "timeout"])
def test_a_cancel_has_no_other_end_but_success(cause: m.FinishCause) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    cancel = stage.cancel("a")

    worker.finish("a", cause, retryable=True, delay=1.0)

    assert cancel.value.head.status is CANCELLED
    assert worker.log == ["a"]


def test_what_succeeds_despite_a_cancel_has_succeeded() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancel = stage.cancel("a")

    worker.finish("a", output=Output(1))

    assert (cancel.value.head.status, cancel.value.output) == (SUCCESS, Output(1))


# --- who can run it ------------------------------------------------------------------------------


def test_a_worker_is_granted_only_what_it_knows() -> None:
    stage = Stage()
    left = Worker(stage, 5, name="l.0", at=100, tasks=["f", "g"])
    right = Worker(stage, 5, name="r.0", at=200, tasks=["g", "h"])

    stage.submit(task("f1", name="f"), task("h1", name="h"), task("x", name="unknown"))
    stage.submit(task("f2", name="f"))
    stage.submit(task("h2", name="h"))

    assert (left.log, right.log) == (["f1", "f2"], ["h1", "h2"])
    assert stage.status("x") is PENDING


def test_a_task_that_nobody_free_knows_does_not_hold_up_the_others() -> None:
    stage = Stage()
    stage.submit(task("a", name="f"), task("b", name="g"), task("c", name="f"), task("d", name="g"))

    worker = Worker(stage, 2, tasks=["g"])

    assert worker.log == ["b", "d"]


def test_a_task_that_nobody_knows_runs_when_a_worker_joins_that_does() -> None:
    stage = Stage()
    Worker(stage, 5, tasks=["f"])
    stage.submit(task("a", name="g"))

    joined = Worker(stage, name="v.0", at=200, tasks=["g"])

    assert joined.log == ["a"]


def test_a_task_that_nobody_knows_runs_when_a_worker_has_learnt_it() -> None:
    stage = Stage()
    worker = Worker(stage, 5, tasks=["f"])
    stage.submit(task("a", name="g"))

    worker.learn("g")

    assert worker.log == ["a"]


def test_a_worker_that_knows_everything_gets_everything() -> None:
    stage = Stage()
    Worker(stage, 0, tasks=["f"])
    worker = Worker(stage, 2, name="v.0", at=200)

    stage.submit(task("a", name="g"), task("b", name="f"))

    assert worker.log == ["a", "b"]


def test_a_lost_task_waits_for_one_who_knows_it() -> None:
    stage = Stage()
    worker = Worker(stage, tasks=["f"], leased=True)
    other = Worker(stage, 5, name="v.0", at=200, tasks=["g"])
    stage.submit(task("a", name="f"))

    stage.disconnect(worker.connection)

    assert (other.log, stage.status("a")) == ([], PENDING)


# --- what was submitted by its name alone --------------------------------------------------------

DECLARED = m.Declared("process", TaskOptions(timeout=7, priority="high"))


def test_what_is_submitted_by_name_gets_what_its_decorator_says() -> None:
    stage = Stage()
    worker = Worker(stage, 1, 1, tasks=["f"], declared={"f": DECLARED})

    stage.submit(task("a", name="f", pool="any"), task("b", name="f", pool="any", timeout=9))
    first = worker.grants["a"].head
    worker.finish("a")
    second = worker.grants["b"].head

    assert (first.pool, first.options.timeout, first.options.priority) == ("process", 7, 2)
    assert (second.options.timeout, second.options.priority) == (9, 2)  # what was given wins


def test_what_is_submitted_by_name_waits_until_somebody_knows_the_name() -> None:
    stage = Stage()
    other = Worker(stage, 5, 5, tasks=["g"], declared={"g": DECLARED})
    stage.submit(task("a", name="f", pool="any"))
    stage.submit(task("b", name="f", pool="any", delay=5))
    assert (other.log, stage.ask(m.Inspect, "a").value.unknown) == ([], True)

    other.declared |= {"f": DECLARED}
    other.learn("f")
    stage.pass_time(6)

    assert other.log == ["a", "b"]


def test_what_is_submitted_by_name_takes_its_place_by_its_priority() -> None:
    stage = Stage()
    for n, name in enumerate(["low", "normal", "high"]):
        stage.submit(task(name, name=name, pool="any"), task(f"{n}", pool="process"))
    names = ["low", "normal", "high"]
    declared = {name: m.Declared("process", TaskOptions(priority=name)) for name in names}
    worker = Worker(stage, 0, 6, tasks=[*names, "job"], declared=declared)

    assert worker.log == ["high", "0", "normal", "1", "2", "low"]


def test_what_is_submitted_by_name_goes_to_the_queue_that_its_decorator_names() -> None:
    stage = Stage()
    stage.submit(task("a", name="f", pool="any"), task("b", queue="default"))

    worker = Worker(
        stage, 0, tasks=["f"], declared={"f": m.Declared("main", TaskOptions(queue="images"))}
    )
    assert stage.ask(m.GetStats).value.queues.keys() == {"default", "images"}

    worker.slots["main"] = 2
    worker.say(worker.ready("main"))
    worker.finish("a")
    stage.cancel("b")
    assert stage.left() == {}


def test_what_is_submitted_by_name_has_the_deadline_that_its_decorator_says() -> None:
    stage = Stage()
    stage.submit(task("a", name="f", pool="any"))
    Worker(stage, 0, tasks=["f"], declared={"f": m.Declared("main", TaskOptions(deadline=60))})

    stage.pass_time(60)

    assert stage.output("a").kind is Kind.TIMEOUT


def test_what_is_submitted_by_name_has_only_the_key_and_the_sources_that_were_given() -> None:
    stage = Stage()
    options = TaskOptions(key="k", after=("x",), timeout=7)
    stage.submit(*(task(id, name="f", pool="any") for id in "ab"))
    stage.submit(task("c", name="f", pool="any", key="mine"))

    worker = Worker(stage, 3, tasks=["f"], declared={"f": m.Declared("main", options)})

    heads = [worker.grants[id].head for id in "abc"]
    assert [head.options.key for head in heads] == [None, None, "mine"]
    assert {head.options.after for head in heads} == {()}
    assert {head.options.timeout for head in heads} == {7}


def test_what_was_submitted_by_name_is_still_what_it_is_after_a_crash() -> None:
    stage = Stage()
    stage.submit(task("a", name="f", pool="any"), task("b", name="g", pool="any"))
    Worker(stage, 0, tasks=["f"], declared={"f": DECLARED})
    stage.crash()

    worker = Worker(stage, 5, 5, tasks=["f", "g"], declared={"g": m.Declared("main", NO_OPTIONS)})

    assert [worker.grants[id].head.pool for id in "ab"] == ["process", "main"]


def test_a_worker_that_declares_no_pool_does_not_hold_up_the_owner() -> None:
    stage = Stage()
    stage.submit(task("a", name="f", pool="any"))

    worker = Worker(stage, 1, 1, tasks=["f"], declared={"f": m.Declared("any", NO_OPTIONS)})

    assert worker.grants["a"].head.pool == "main"


def test_a_name_that_is_known_and_not_declared_runs_on_the_loop() -> None:
    stage = Stage()
    worker = Worker(stage, 1, 1, tasks=["f"])

    stage.submit(task("a", name="f", pool="any"))

    assert worker.log == ["a"]
    assert worker.grants["a"].head.pool == "main"


def test_a_name_under_which_a_lot_waits_is_learned_in_steps_that_hold_up_nobody() -> None:
    many = [f"{n:05}" for n in range(3 * STEP_MAX)]
    stage = Stage(max_pending=len(many))
    stage.submit(*(task(id, name="f", pool="any") for id in many))

    worker = Worker(stage, 0, 1, tasks=["f"], declared={"f": DECLARED})
    sizes = [len(stage.last)]
    assert worker.log == [many[0]]
    while stage.machine.next_deadline() is not None:
        stage.say(0, m.Tick())
        sizes.append(len(stage.last))

    assert {stage.head(id).pool for id in many} == {"process"}
    assert len(sizes) <= 5
    assert max(sizes) <= STEP_MAX + 5
    assert stage.machine.stuck() is None
    worker.finish(many[0])
    assert worker.log == many[:2]


def test_a_name_that_is_unknown_again_before_all_of_it_is_learned_waits() -> None:
    many = [f"{n:05}" for n in range(2 * STEP_MAX)]
    stage = Stage(max_pending=len(many))
    stage.submit(*(task(id, name="f", pool="any") for id in many))
    worker = Worker(stage, 0, tasks=["f"], declared={"f": DECLARED})

    stage.disconnect(worker.connection)
    stage.tick()

    pools = [stage.head(id).pool for id in many]
    assert pools == ["process"] * STEP_MAX + ["any"] * STEP_MAX
    assert stage.machine.next_deadline() is None


# --- lost workers --------------------------------------------------------------------------------


def test_a_task_whose_worker_died_is_granted_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    worker.vanish()

    head = stage.head("a")
    assert worker.log == ["a", "a"]
    assert (head.attempts, head.deaths) == (0, 1)
    assert head.fence > 1
    assert head.worker == "w.1"
    assert stage.events[0].kind is EventKind.DELIVERY_LOST
    assert stage.events[0].details == {"id": "a", "name": "job", "deaths": 1}


def test_a_dead_process_is_a_lost_delivery_and_not_a_failure_of_the_task() -> None:
    stage = Stage()
    worker = Worker(stage, 0, 1)
    stage.submit(task("a", pool="process"))

    worker.finish("a", "lost")

    assert (stage.head("a").deaths, stage.head("a").attempts) == (1, 1)
    assert worker.log == ["a", "a"]


def test_a_task_under_which_workers_keep_dying_is_given_up() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", max_deliveries=3))

    for at in (101, 102, 103):
        worker.vanish(at)

    assert worker.log == ["a", "a", "a"]
    assert (stage.status("a"), stage.head("a").deaths) == (FAILURE, 3)
    assert stage.output("a").kind is Kind.LOST
    assert "max_deliveries is 3" in stage.output("a").error.message
    assert stage.outcomes() == [("a", FAILURE)]


def test_no_worker_holds_two_tasks_that_have_their_last_chance() -> None:
    stage = Stage()
    worker = Worker(stage, 4)
    stage.submit(*(task(id, max_deliveries=3) for id in "abc"))

    worker.vanish(101)
    assert worker.log == [*"abc", *"abc"]
    worker.vanish(102)
    assert worker.log[6:] == ["a"]
    stage.submit(task("d", max_deliveries=3), task("e", max_deliveries=1))
    assert worker.log[6:] == ["a", "d", "e"]
    assert stage.machine.stuck() is None
    assert stage.ask(m.Why, "b").value == (
        "pending: 2 workers died under it: it waits for one that runs no other task of which that "
        "is true"
    )
    Worker(stage, 2, name="other.0", at=200)
    assert [id for id in "bc" if stage.status(id) is RUNNING] == ["b"]
    worker.finish("a")
    assert worker.log[6:] == ["a", "d", "e", "c"]


def test_one_task_that_kills_its_workers_takes_none_with_it_that_came_together_with_it() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    harmless = [f"{n}" for n in range(30)]
    stage.submit(*(task(id) for id in harmless[:15]), task("poison"))
    stage.submit(*(task(id) for id in harmless[15:]))

    at = 101
    while worker.grants:
        if "poison" in worker.grants:
            worker.vanish(at)
            at += 1
        else:
            worker.finish(next(iter(worker.grants)))

    assert (stage.status("poison"), stage.output("poison").kind) == (FAILURE, Kind.LOST)
    assert {stage.status(id) for id in harmless} == {SUCCESS}
    assert stage.left() == {}


def test_a_new_owner_knows_who_holds_what_has_its_last_chance() -> None:
    stage = Stage()
    worker = Worker(stage, 4, leased=True)
    stage.submit(*(task(id, max_deliveries=2) for id in "ab"))
    worker.vanish(101)
    assert worker.log == [*"ab", "a"]

    stage.crash()
    worker.back()

    assert worker.log == [*"ab", "a"]
    worker.finish("a")
    assert worker.log == [*"ab", "a", "b"]


def test_what_waits_apart_can_be_cancelled_and_paused_like_all_else() -> None:
    stage = Stage()
    worker = Worker(stage, 4)
    limit = Limit("k", concurrency=4)
    stage.submit(
        *(task(id, max_deliveries=2) for id in "ab"), task("c", max_deliveries=2, limit=limit)
    )
    worker.vanish(101)
    stage.ask(m.PauseQueue, "default", True)

    worker.finish("a")
    stage.cancel("b")
    assert worker.log == [*"abc", "a"]
    stage.ask(m.PauseQueue, "default", False)
    assert worker.log == [*"abc", "a", "c"]
    worker.finish("c")

    assert [stage.status(id) for id in "abc"] == [SUCCESS, CANCELLED, SUCCESS]
    assert stage.left() == {}


def test_deaths_are_not_counted_on_the_fence_or_the_attempts() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", max_deliveries=2, retry=Retry(attempts=9, delay=0)))
    for _ in range(5):
        worker.fail("a")
        stage.pass_time(0)

    worker.vanish()

    head = stage.head("a")
    assert (head.status, head.attempts, head.deaths) == (RUNNING, 5, 1)
    assert head.fence > 6


def test_an_at_most_once_task_is_not_delivered_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", at_most_once=True))

    worker.vanish()

    assert worker.log == ["a"]
    assert stage.output("a").kind is Kind.LOST
    assert "at_most_once" in stage.output("a").error.message


def test_a_lost_delivery_that_had_started_spends_an_attempt() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.start("a")

    worker.vanish()

    assert (stage.head("a").attempts, stage.head("a").started_at) == (1, MORNING)


def test_two_starts_at_one_instant_are_two_attempts() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=Retry(attempts=5, delay=0)))
    worker.start("a")
    worker.fail("a")
    stage.pass_time(0)
    worker.start("a")

    worker.vanish()

    assert stage.head("a").attempts == 2


def test_a_lost_task_keeps_its_place() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))

    worker.vanish()

    assert worker.log == ["a", "a"]


def test_a_worker_that_is_away_keeps_what_it_holds() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    stage.disconnect(worker.connection)
    other = Worker(stage, name="v.0", at=200)
    worker.connect(at=101)
    worker.finish("a", output=Output("kept"))

    assert (worker.log, other.log) == (["a"], [])
    assert stage.output("a") == Output("kept")


def test_a_grant_that_never_arrived_is_put_back_and_spends_nothing() -> None:
    stage = Stage()
    worker = Worker(stage)
    del stage.workers[worker.connection]  # what is sent to it from now on is lost
    stage.submit(task("a", at_most_once=True, max_deliveries=1))

    worker.connect(at=101)

    head = stage.head("a")
    assert worker.log == ["a"]
    assert (head.fence, head.attempts, head.deaths) == (2, 0, 0)


def test_an_unanswered_finish_is_accepted_on_the_next_connection() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    del stage.workers[worker.connection]
    worker.finish("a", output=Output(1))

    worker.connect(at=101)

    assert worker.unanswered == {}
    assert (stage.output("a"), stage.head("a").deaths) == (Output(1), 0)
    assert stage.events == []


def test_a_finish_on_a_connection_that_is_over_is_settled_by_the_hello() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.disconnect(worker.connection)
    grant = worker.grants.pop("a")
    worker.unanswered["a", 1] = m.Finish("a", grant.head.fence, "ok", Output(1), None)

    worker.connect(at=101)

    assert stage.output("a") == Output(1)
    assert worker.answers == [m.Finished("a", 1, True)]


def test_a_worker_is_told_which_of_its_grants_are_no_longer_its_own() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.disconnect(worker.connection)
    stage.cancel("a", grace=1)
    stage.pass_time(2)

    worker.connect(at=101)

    assert worker.revoked == [("a", 1)]


def test_a_second_hello_on_a_new_connection_retires_the_old_one() -> None:
    stage = Stage()
    worker = Worker(stage)

    worker.connect(at=101)
    stage.submit(task("a"), task("b"))
    stage.say(100, m.Ready("main", 5))

    assert worker.log == ["a"]


# --- paused queues --------------------------------------------------------------------------------


def pause(stage: Stage, queue: str = "default", *, paused: bool = True) -> None:
    assert stage.ask(m.PauseQueue, queue, paused).value is None


def test_nothing_of_a_paused_queue_is_granted_until_it_is_resumed() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", name="other"), task("c", pool="process"))
    pause(stage)

    worker = Worker(stage, 3, 3)
    stage.submit(task("d"), task("e"))
    stage.submit(task("f"))
    assert worker.log == []

    pause(stage, paused=False)
    assert worker.log == ["a", "b", "d", "c"]


def test_a_paused_queue_takes_submits_and_lets_go_on_what_runs() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"))
    pause(stage)

    assert stage.submit(task("b")).answered
    assert not worker.interrupts
    worker.finish("a")

    assert (stage.status("a"), stage.status("b")) == (SUCCESS, PENDING)
    assert worker.log == ["a"]


def test_other_queues_go_on_while_one_is_paused() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    stage.submit(task("a", queue="one"))
    pause(stage, "one")

    stage.submit(task("b", queue="one"), task("c", queue="two"))
    stage.submit(task("d", queue="two"))

    assert worker.log == ["a", "c", "d"]


def test_what_comes_back_into_a_paused_queue_waits_there() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(task("a", retry=STEADY), task("b"), task("c"), task("later", delay=5))
    pause(stage)

    worker.fail("a")
    worker.finish("b", "handed back")
    worker.finish("c", "lost")
    stage.pass_time(20)

    assert worker.log == ["a", "b", "c"]
    pause(stage, paused=False)
    assert worker.log == ["a", "b", "c", "a", "b", "c", "later"]


def test_tasks_are_cancelled_and_expire_in_a_paused_queue() -> None:
    stage = Stage()
    pause(stage)
    stage.submit(task("a"), task("b", expires=5), task("c"))

    stage.cancel("a")
    stage.pass_time(6)
    pause(stage, paused=False)

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, FAILURE)
    assert Worker(stage, 3).log == ["c"]


def test_limits_wait_in_a_paused_queue_too() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    one = Limit("k", concurrency=1)
    stage.submit(task("a", limit=one), task("b", limit=one), task("c", limit=one, queue="other"))
    pause(stage)

    worker.finish("a")
    assert worker.log == ["a", "c"]
    worker.finish("c")
    assert worker.log == ["a", "c"]

    pause(stage, paused=False)
    assert worker.log == ["a", "c", "b"]


def test_a_pause_is_stored_and_so_is_its_end() -> None:
    stage = Stage()

    pause(stage, "one")
    assert [effect for effect in stage.last if isinstance(effect, Note)] == [
        Note("pause", "one", Pause(MORNING))
    ]

    pause(stage, "one", paused=False)
    assert stage.notes == {}


def test_to_pause_what_is_paused_changes_nothing() -> None:
    stage = Stage()
    pause(stage)
    stage.now += 5

    pause(stage)
    assert stage.notes["pause", "default"].value == Pause(MORNING)

    pause(stage, paused=False)
    pause(stage, paused=False)
    assert not [effect for effect in stage.last if isinstance(effect, Note)]


def test_a_pause_survives_a_restart_of_the_owner() -> None:
    stage = Stage()
    stage.submit(task("a"))
    pause(stage)
    stage.crash()

    worker = Worker(stage, 3)
    stage.submit(task("b"))
    assert worker.log == []

    pause(stage, paused=False)
    assert worker.log == ["a", "b"]


def test_a_name_alone_is_settled_in_a_paused_queue_and_waits_there() -> None:
    stage = Stage()
    stage.submit(task("a", name="f", pool="any"))
    pause(stage)

    worker = Worker(stage, 3, tasks=["f"])

    assert (worker.log, stage.head("a").pool) == ([], "main")


# --- what would be a bug --------------------------------------------------------------------------


def test_nothing_is_stuck_that_waits_for_a_reason() -> None:
    stage = Stage()
    assert stage.machine.stuck() is None
    stage.submit(task("a"), task("b", queue="paused"), task("c", name="unknown"))
    pause(stage, "paused")
    assert stage.machine.stuck() is None

    worker = Worker(stage, 3, tasks=["job"])
    one, rate = Limit("k", concurrency=1), Limit("r", rate=1, per=60)
    stage.submit(*(task(f"l{n}", limit=one) for n in range(3)))
    stage.submit(*(task(f"r{n}", limit=rate) for n in range(3)))
    assert worker.log == ["a", "l0", "r0"]
    assert stage.machine.stuck() is None

    worker.finish("r0")
    assert worker.free("main") == 1
    assert stage.machine.stuck() is None


def test_ready_work_beside_a_free_slot_is_stuck() -> None:
    stage = Stage()
    Worker(stage, 2)
    stage.submit(task("a", name="f"))

    stage.machine._ready.add(stage.machine._live["a"])

    assert stage.machine.stuck() == "0 tasks are pending, and 1 of them are in a line"
    stage.machine._ledger.move(stage.machine._live["a"], Move.HAND_BACK)
    assert stage.machine.stuck() == "1 slots of pool 'main' are free, and a task 'f' waits for one"
    stage.ask(m.Close, False, 0.0)
    assert stage.machine.stuck() is None


def test_a_limit_that_is_open_beside_a_free_slot_is_stuck() -> None:
    stage = Stage()
    one = Limit("k", concurrency=1)
    Worker(stage, 2)
    stage.submit(task("a", limit=one), task("b", limit=one))
    assert stage.machine.stuck() is None

    stage.machine._gates.leave(one, "a")

    assert stage.machine.stuck() is not None
