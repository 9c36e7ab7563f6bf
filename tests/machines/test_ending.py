"""How a task ends, who may end it, and who is told; driven through the whole machine."""

import pytest

from actorq.errors import ActorDied, SubmitError
from actorq.machines.effects import Lookup
from actorq.machines.tables import STEP_MAX
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import Retry
from actorq.model.records import Cancel, Output
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SCHEDULED, SUCCESS
from actorq.model.status import FailureKind as Kind
from tests.machines.stage import BOOM, CLIENT, Guest, Stage, Worker, task

STEADY = Retry(attempts=3, delay=10, factor=2, jitter=0)

# --- one task ------------------------------------------------------------------------------------


def test_a_cancelled_pending_task_never_runs() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b"))

    cancel = stage.cancel("a", "not needed")

    head = stage.head("a")
    assert (head.status, head.cancel) == (CANCELLED, Cancel("user", "not needed"))
    assert cancel.value == m.Snapshot(head, None, None)
    assert Worker(stage, 2).log == ["b"]


def test_a_cancelled_scheduled_task_never_runs() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", delay=10))

    assert stage.cancel("a").value.head.status is CANCELLED

    stage.pass_time(20)
    assert worker.log == []
    assert stage.left() == {}


def test_a_cancel_while_a_task_backs_off_ends_it() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    worker.fail("a")

    stage.cancel("a")

    assert stage.status("a") is CANCELLED
    assert stage.machine.next_deadline() is None


def test_a_cancel_of_a_running_task_asks_its_worker() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    cancel = stage.cancel("a", "enough", grace=5)

    assert worker.interrupts == [m.Interrupt("a", 1, Cancel("user", "enough"), 5)]
    assert stage.status("a") is RUNNING
    assert not cancel.answered


def test_a_confirmed_cancel_ends_the_task_and_answers_everybody() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancels = [stage.cancel("a", "first"), stage.cancel("a", "second", origin=7)]

    worker.finish("a", "cancelled")

    assert [cancel.value.head.status for cancel in cancels] == [CANCELLED, CANCELLED]
    assert stage.head("a").cancel == Cancel("user", "first")
    assert stage.outcomes() == [("a", CANCELLED)]
    assert worker.answers == [m.Finished("a", 1, True)]
    assert stage.left() == {}


def test_a_cancel_that_is_asked_for_again_is_answered_once() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancel = stage.cancel("a")

    stage.say(CLIENT, cancel.message)
    worker.finish("a", "cancelled")

    assert len(cancel.replies) == 1
    assert len(worker.interrupts) == 1


def test_a_success_wins_over_a_cancel() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancel = stage.cancel("a")

    worker.finish("a", output=Output("done"))

    assert cancel.value == m.Snapshot(stage.head("a"), Output("done"), None)
    assert stage.status("a") is SUCCESS


@pytest.mark.parametrize("cause", ["failed", "timeout", "deadline", "later", "lost"])
def test_a_cancel_wins_over_any_other_end(cause: m.FinishCause) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    stage.cancel("a")

    worker.finish("a", cause, output=BOOM, retryable=True)

    assert stage.status("a") is CANCELLED
    assert stage.output("a") is None
    assert worker.log == ["a"]


def test_a_cancel_wins_over_the_death_of_the_worker() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancel = stage.cancel("a")

    worker.vanish()

    assert cancel.value.head.status is CANCELLED
    assert worker.log == ["a"]


def test_a_cancelled_task_whose_grant_never_arrived_is_not_granted_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    del stage.workers[worker.connection]
    stage.submit(task("a"))
    cancel = stage.cancel("a")

    worker.connect(at=101)

    assert cancel.value.head.status is CANCELLED
    assert worker.log == []


def test_a_cancel_that_is_not_confirmed_in_time_ends_the_task_and_raises_the_fence() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    cancel = stage.cancel("a", grace=5)

    stage.pass_time(5)

    assert cancel.value.head.status is CANCELLED
    assert stage.head("a").fence == 2
    (event,) = stage.events
    assert event.kind is EventKind.CANCEL_UNCONFIRMED
    assert event.details == {"id": "a", "name": "job", "worker": "w.0"}
    worker.finish("a", output=Output("too late"))
    assert worker.answers == [m.Finished("a", 1, False)]
    assert stage.output("a") is None


def test_an_unconfirmed_cancel_frees_the_slot_only_by_the_workers_word() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))
    stage.cancel("a", grace=5)

    stage.pass_time(5)
    assert worker.log == ["a"]

    worker.finish("a", "cancelled")
    assert worker.log == ["a", "b"]


def test_a_second_cancel_can_shorten_the_grace_and_never_prolongs_it() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"))
    stage.cancel("a", grace=20)

    stage.cancel("a", grace=5)
    stage.cancel("a", grace=60)
    stage.pass_time(5)

    assert stage.status("a") is CANCELLED


def test_a_cancel_reaches_a_worker_that_was_away() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.disconnect(worker.connection)
    stage.cancel("a", "why", grace=10)
    stage.pass_time(4)

    worker.connect(at=101)

    assert worker.interrupts == [m.Interrupt("a", 1, Cancel("user", "why"), 6)]


def test_a_recorded_cancel_is_carried_out_after_a_crash_of_the_owner() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.cancel("a", "why")
    worker.interrupts.clear()
    stage.crash()

    worker.connect(at=101)

    (interrupt,) = worker.interrupts
    assert interrupt.cancel == Cancel("user", "why")
    stage.pass_time(60)
    assert stage.status("a") is CANCELLED


def test_a_cancel_of_an_ended_task_changes_nothing_and_gives_its_result() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", output=Output(1))

    cancel = stage.cancel("a")

    assert isinstance(stage.last[0], Lookup)
    assert cancel.value == m.Snapshot(stage.head("a"), Output(1), None)
    assert stage.status("a") is SUCCESS


# --- too late -------------------------------------------------------------------------------------


def test_a_task_that_is_not_started_in_time_expires() -> None:
    stage = Stage()
    stage.submit(task("a", expires=10))

    stage.pass_time(11)

    assert stage.status("a") is FAILURE
    assert stage.output("a").kind is Kind.EXPIRED
    assert stage.outcomes() == [("a", FAILURE)]
    assert Worker(stage).log == []


def test_expires_counts_from_when_the_task_is_due() -> None:
    stage = Stage()
    stage.submit(task("a", delay=100, expires=10))

    stage.pass_time(105)
    assert stage.status("a") is PENDING

    stage.pass_time(10)
    assert stage.output("a").kind is Kind.EXPIRED


def test_a_task_that_has_started_does_not_expire_while_it_waits_for_its_next_attempt() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", expires=5, retry=STEADY), task("b", expires=5))
    worker.fail("a")
    worker.finish("b", "later", delay=20)
    stage.submit(task("c"))

    stage.pass_time(100)

    assert (stage.status("a"), stage.status("b")) == (PENDING, PENDING)


def test_a_task_that_was_lost_before_it_started_can_still_expire() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    stage.submit(task("a", expires=5))
    stage.disconnect(worker.connection)
    worker.grants.clear()
    worker.slots = {"main": 0, "process": 0}

    worker.connect(at=101)
    stage.pass_time(6)

    assert stage.output("a").kind is Kind.EXPIRED


def test_a_deadline_bounds_the_wait_for_a_slot() -> None:
    stage = Stage()
    stage.submit(task("a", deadline=10))

    stage.pass_time(11)

    assert stage.status("a") is FAILURE
    assert stage.output("a").kind is Kind.TIMEOUT


def test_a_deadline_bounds_the_wait_between_attempts() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", deadline=12, retry=STEADY))
    worker.fail("a")
    stage.submit(task("b"))

    stage.pass_time(13)

    assert stage.output("a").kind is Kind.TIMEOUT


def test_a_delay_beyond_the_deadline_is_a_timeout_at_the_deadline() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a", delay=100, deadline=10))

    stage.pass_time(10)

    assert stage.output("a").kind is Kind.TIMEOUT


# --- scopes --------------------------------------------------------------------------------------


def test_a_scope_ends_in_one_step_so_that_none_of_its_tasks_starts_afterwards() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    stage.submit(*(task(id, scope="block") for id in "abc"), task("other"))

    end = stage.ask(m.EndScope, "block", 10.0)
    worker.finish("a", "cancelled")

    assert worker.log == ["a", "other"]
    assert [stage.status(id) for id in "abc"] == [CANCELLED] * 3
    assert stage.head("b").cancel == Cancel("scope")
    assert end.answered


def test_a_large_scope_ends_in_steps_that_hold_up_nobody_and_none_of_it_starts() -> None:
    """Those that run are told first; a dependant of one of them is cancelled too, not failed."""
    stage = Stage()
    worker = Worker(stage, 1)
    many = [f"{n:04}" for n in range(4 * STEP_MAX)]
    stage.submit(*(task(id, scope="block") for id in many), task("last", scope="other"))
    stage.submit(task("after", scope="block", after=[many[-1], "0001"]))
    sizes: list[int] = []
    commit = stage.commit
    stage.commit = lambda writes: (sizes.append(len(writes)), commit(writes))[1]  # type: ignore[method-assign, func-returns-value, return-value]

    end = stage.ask(m.EndScope, "block", 10.0)
    assert [interrupt.id for interrupt in worker.interrupts] == ["0000"]
    worker.finish("0000", "cancelled")
    assert not end.answered
    stage.tick()

    assert worker.log == ["0000", "last"]
    assert {stage.status(id) for id in (*many, "after")} == {CANCELLED}
    assert max(sizes) <= 2 * STEP_MAX
    assert end.answered
    worker.finish("last")
    assert stage.left() == {}


def test_what_a_large_scope_has_left_is_cancelled_when_its_owner_dies_meanwhile() -> None:
    stage = Stage()
    many = [f"{n:04}" for n in range(3 * STEP_MAX)]
    stage.submit(*(task(id, scope="main:1") for id in many))

    stage.ask(m.EndScope, "main:1", 10.0)
    stage.crash()
    end = stage.ask(m.EndScope, "main:1", 10.0)  # as its client asks again, before all else
    worker = Worker(stage, 1)
    stage.tick()

    assert ({stage.status(id) for id in many}, worker.log) == ({CANCELLED}, [])
    assert end.answered


def test_what_has_ended_and_is_retried_before_its_turn_is_not_cancelled() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    many = [f"{n:04}" for n in range(3 * STEP_MAX)]
    stage.submit(*(task(id, scope="block") for id in many))

    end = stage.ask(m.EndScope, "block", 10.0)
    stage.cancel("1400")
    stage.bulk("retry", Filter(ids=frozenset({"1400"})))
    stage.tick()
    worker.finish("0000", "cancelled")

    assert end.answered
    assert (worker.log, stage.status("1400")) == (["0000", "1400"], RUNNING)


def test_the_end_of_a_scope_is_answered_when_all_its_tasks_are_terminal() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(*(task(id, scope="block") for id in "abc"))
    ends = [stage.ask(m.EndScope, "block", 10.0), stage.ask(m.EndScope, "block", 10.0)]

    worker.finish("a", "cancelled")
    assert [end.answered for end in ends] == [False, False]

    worker.finish("b")
    assert [end.answered for end in ends] == [True, True]
    assert stage.left() == {}


def test_the_end_of_a_scope_waits_no_longer_than_the_grace() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a", scope="block"))
    end = stage.ask(m.EndScope, "block", 3.0)

    stage.pass_time(3)

    assert end.answered


def test_the_end_of_an_empty_scope_is_answered_at_once() -> None:
    stage = Stage()

    assert stage.ask(m.EndScope, "never seen", 10.0).answered
    assert stage.left() == {}


def test_the_end_of_a_scope_refuses_its_submits_that_wait_for_room() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b", scope="block"))

    end = stage.ask(m.EndScope, "block", 10.0)

    assert isinstance(parked.error, SubmitError)
    assert end.answered
    assert stage.records.keys() == {"a"}


def test_scopes_do_not_touch_each_other() -> None:
    stage = Stage()
    stage.submit(task("a", scope="one"), task("b", scope="two"), task("c"))

    stage.ask(m.EndScope, "one", 10.0)

    assert [stage.status(id) for id in "abc"] == [CANCELLED, PENDING, PENDING]


def test_a_task_that_left_its_scope_by_a_retry_survives_its_end() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", scope="block"))
    worker.fail("a", retryable=False)
    stage.bulk("retry")

    stage.ask(m.EndScope, "block", 10.0)

    assert stage.status("a") is RUNNING


# --- closing -------------------------------------------------------------------------------------


def test_a_close_that_drains_lets_what_runs_end_and_starts_nothing() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))

    close = stage.ask(m.Close, False, 10.0)
    assert not close.answered

    worker.finish("a")
    assert close.answered
    assert (stage.status("a"), stage.status("b"), worker.log) == (SUCCESS, PENDING, ["a"])


def test_a_close_that_drains_is_answered_at_once_if_nothing_runs() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", delay=10))

    assert stage.ask(m.Close, False, 10.0).answered


@pytest.mark.parametrize("cause", ["failed", "later", "lost"])
def test_a_close_that_drains_does_not_wait_for_another_attempt(cause: m.FinishCause) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    close = stage.ask(m.Close, False, 10.0)

    worker.finish("a", cause, retryable=True, delay=5)

    assert close.answered
    assert worker.log == ["a"]


def test_a_close_that_cancels_ends_everything() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"), task("c", delay=10))

    close = stage.ask(m.Close, True, 10.0)
    assert not close.answered
    worker.finish("a", "cancelled")

    assert close.answered
    assert [stage.status(id) for id in "abc"] == [CANCELLED] * 3
    assert stage.head("b").cancel == Cancel("shutdown", "its system was closed")
    assert stage.left() == {}


def test_a_close_that_cancels_waits_no_longer_than_the_grace() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"))
    drain = stage.ask(m.Close, False, 60.0)
    close = stage.ask(m.Close, True, 2.0)

    stage.pass_time(2)

    assert (drain.answered, close.answered) == (True, True)


def test_a_close_refuses_what_waits_for_room() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b"))

    stage.ask(m.Close, False, 10.0)

    assert isinstance(parked.error, ActorDied)


def test_a_closing_owner_grants_nothing_to_a_worker_that_comes() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.ask(m.Close, False, 10.0)

    assert Worker(stage).log == []


def test_a_closing_owner_revives_nothing() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b"))
    worker.fail("a", retryable=False)
    close = stage.ask(m.Close, True, 10.0)

    retry = stage.bulk("retry")
    worker.finish("b", "cancelled")

    assert isinstance(retry.error, ActorDied)
    assert stage.status("a") is FAILURE
    assert close.answered


# --- joining -------------------------------------------------------------------------------------


def test_a_join_is_answered_when_nothing_is_live() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b", delay=5))
    join = stage.ask(m.Join)

    worker.finish("a")
    assert not join.answered

    stage.pass_time(6)
    worker.finish("b")
    assert join.answered
    assert stage.left() == {}


def test_a_join_is_answered_at_once_if_nothing_is_live() -> None:
    assert Stage().ask(m.Join).answered


def test_a_join_waits_for_what_waits_for_room() -> None:
    stage = Stage(max_pending=1)
    worker = Worker(stage)
    for id in "abc":
        stage.submit(task(id))
    join = stage.ask(m.Join)

    for id in "ab":
        worker.finish(id)
        assert not join.answered
    worker.finish("c")

    assert join.answered


def test_a_join_is_answered_when_the_last_one_in_line_gives_up() -> None:
    stage = Stage(max_pending=2)
    stage.submit(task("a", queue="one"), task("b", queue="one"), origin=7)
    parked = stage.submit(task("c", queue="one"), task("d", queue="two"), origin=8)
    join = stage.ask(m.Join)
    stage.ask(m.Withdraw, parked.message.request, ("c", "d"), 10.0, origin=8)

    stage.cancel("a")
    assert not join.answered
    stage.cancel("b")

    assert join.answered
    assert not parked.answered


def test_a_question_that_is_forgotten_leaves_no_entry_and_gets_no_answer() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    asked = stage.ask(m.Join)

    stage.say(CLIENT, m.Forget(asked.message.request))
    assert "joins" not in stage.left()
    worker.finish("a")

    assert not asked.answered


def test_only_who_asked_can_forget() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    asked = [stage.ask(m.Join), stage.cancel("a")]

    for question in asked:
        stage.say(7, m.Forget(question.message.request))
    stage.say(CLIENT, m.Forget(999))
    worker.finish("a", "cancelled")

    assert all(question.answered for question in asked)


# --- the outcome, once and to everybody ----------------------------------------------------------


def test_an_outcome_goes_to_the_client_that_submitted() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), origin=7)

    worker.finish("a", output=Output("value"))

    (outcome,) = stage.inbox[7]
    assert outcome == m.Outcome(stage.head("a"), Output("value"))
    assert stage.outcomes(CLIENT) == []


def test_an_outcome_carries_the_original_exception() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    boom = ValueError("boom")

    worker.finish("a", "failed", output=BOOM, exception=boom)

    assert stage.inbox[CLIENT][-1].cause is boom
    assert stage.output("a") == BOOM


def test_an_outcome_is_told_once_to_each_who_waits_for_it() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    for origin in (CLIENT, 7, 8, 7):
        stage.ask(m.Watch, ("a",), origin=origin)

    worker.finish("a")

    assert [stage.outcomes(origin) for origin in (CLIENT, 7, 8)] == [[("a", SUCCESS)]] * 3


def test_a_quarantined_task_is_told_as_lost() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", at_most_once=True))

    worker.vanish()

    (outcome,) = stage.inbox[CLIENT]
    assert (outcome.head.status, outcome.output.kind) == (FAILURE, Kind.LOST)


def test_an_ended_task_leaves_no_alarm_behind() -> None:
    stage = Stage()
    worker = Worker(stage, 1)
    stage.submit(task("a", deadline=50, expires=5, delay=1, retry=STEADY))
    stage.pass_time(1)
    worker.fail("a")
    assert stage.status("a") is SCHEDULED

    stage.bulk("cancel", Filter(ids=("a",)))

    assert stage.machine.next_deadline() is None
    assert stage.left() == {}


def test_a_task_that_its_worker_cannot_stop_is_over_when_its_deadline_and_grace_are() -> None:
    stage = Stage(grace=5.0)
    worker = Worker(stage, 1)
    stage.submit(task("a", deadline=10))

    stage.pass_time(15.0)

    head = stage.head()
    assert (head.status, head.fence) == ("failure", 2)
    worker.finish("a")
    assert stage.machine.tables()["live"] == 0


def test_a_cancel_of_a_task_past_its_deadline_has_its_own_grace_and_its_own_end() -> None:
    stage = Stage(grace=1.0)
    Worker(stage, 1)
    stage.submit(task("a", deadline=1))
    stage.ask(m.CancelTask, "a", Cancel("user"), 100.0)

    stage.pass_time(50.0)
    assert stage.head().status == RUNNING
    stage.pass_time(60.0)

    assert stage.head().status == CANCELLED


def test_an_alarm_of_a_running_task_does_not_outlive_its_run() -> None:
    stage = Stage(grace=1.0)
    worker = Worker(stage, 1)
    stage.submit(task("a", timeout=1, deadline=100))
    worker.start("a")
    worker.finish("a", "lost")

    stage.pass_time(50.0)

    assert stage.head().fence == 2
    assert stage.head().status == RUNNING


# --- an owner that leaves what waits to the next one ---------------------------------------------


def test_leaving_a_durable_store_starts_nothing_more_and_ends_nothing() -> None:
    stage = Stage()
    stage.submit(task("a"))

    assert stage.ask(m.Close, False, 0.0, True).value is None
    assert Worker(stage, 2).log == []
    assert stage.status("a") is PENDING


def test_what_clients_elsewhere_want_then_is_left_unanswered_for_the_next_owner() -> None:
    stage = Stage(max_pending=1)
    guest = Guest(stage)
    guest.submit(task("a"))
    parked = guest.submit(task("b"))
    stage.ask(m.Close, False, 0.0, True)

    assert (parked.replies, guest.submit(task("c")).replies) == ([], [])
    assert isinstance(stage.submit(task("d")).error, ActorDied)
