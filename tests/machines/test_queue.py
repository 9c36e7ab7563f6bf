"""The queue's machine from outside: its steps, its restarts, and the questions that it answers.

The rules have their tests in test_accepting.py, test_granting.py and test_ending.py; all of it at
once, against a model, is in test_queue_model.py.
"""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from actorq.errors import TaskNotFound
from actorq.machines.effects import Found, Lookup, Search, Send
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import Limit, Retry
from actorq.model.records import Cancel, Note, Output, Record, Write
from actorq.model.results import PoolStats, Progress, QueueStats, TaskInfo, WorkerInfo
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SUCCESS
from actorq.model.status import FailureKind as Kind
from tests.machines.stage import BOOM, CLIENT, MORNING, Stage, Worker, task

FAILED = Filter(statuses=frozenset({FAILURE}))

# --- a step --------------------------------------------------------------------------------------


def test_nothing_leaves_before_what_it_rests_on_is_written() -> None:
    stage = Stage()
    Worker(stage)

    stage.submit(task("a"), task("b"))

    kinds = [type(effect) for effect in stage.last]
    assert kinds == [Write, Write, Send, Send]


def test_a_commit_has_each_record_once_with_its_last_state() -> None:
    stage = Stage()
    Worker(stage)

    stage.submit(task("a"))

    (write,) = [effect for effect in stage.last if isinstance(effect, Write)]
    assert write.head is not None
    assert (write.head.status, write.head.fence) == (RUNNING, 1)


def test_a_hello_of_a_client_is_answered_and_changes_nothing() -> None:
    stage = Stage()

    stage.say(CLIENT, m.ClientHello("session"))

    assert [type(effect.message) for effect in stage.last] == [m.ClientWelcome]
    assert stage.left() == {}
    assert stage.machine.next_deadline() is None


def test_a_message_that_the_machine_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError):
        Stage().say(CLIENT, "nonsense")


# --- a restart of the owner ----------------------------------------------------------------------


def test_pending_and_scheduled_tasks_survive_a_crash_of_the_owner() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", delay=10), task("c", expires=5))
    stage.crash()

    stage.pass_time(6)
    worker = Worker(stage, 3)
    stage.pass_time(10)

    assert worker.log == ["a", "b"]
    assert stage.output("c").kind is Kind.EXPIRED


def test_a_running_task_survives_a_crash_of_the_owner_on_its_worker() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.crash()

    worker.connect(at=101)
    worker.finish("a", output=Output(1))

    assert worker.log == ["a"]
    assert worker.revoked == []
    assert stage.output("a") == Output(1)


def test_a_grant_that_died_with_the_owner_is_granted_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    del stage.workers[worker.connection]
    stage.submit(task("a"), task("b"))
    stage.crash()

    worker.connect(at=101)

    assert worker.log == ["a"]
    assert (stage.head("a").fence, stage.head("a").deaths) == (2, 0)


def test_what_an_older_incarnation_held_before_the_crash_is_lost() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b", at_most_once=True))
    stage.crash()

    worker.vanish()

    assert (stage.status("a"), stage.head("a").deaths) == (RUNNING, 1)
    assert stage.output("b").kind is Kind.LOST


def test_what_runs_is_not_granted_to_another_worker_after_a_crash() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"))
    stage.crash()

    other = Worker(stage, name="v.0", at=200)

    assert other.log == []


def test_a_room_that_is_full_is_full_after_a_crash() -> None:
    stage = Stage(max_pending=2)
    stage.submit(task("a"), task("b", delay=10))

    stage.crash()

    assert not stage.submit(task("c")).answered


def test_a_scope_ends_after_a_crash_too() -> None:
    stage = Stage()
    stage.submit(task("a", scope="block"), task("b"))
    stage.crash()

    stage.ask(m.EndScope, "block", 10.0)

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, PENDING)


# --- one task ------------------------------------------------------------------------------------


def test_a_watch_of_a_live_task_is_told_how_it_ends() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    watch = stage.ask(m.Watch, ("a",), origin=7)
    assert watch.value == ()

    worker.finish("a")
    assert stage.outcomes(7) == [("a", SUCCESS)]


def test_a_watch_of_an_ended_task_is_told_at_once() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))
    worker.finish("a", output=Output(1))

    watch = stage.ask(m.Watch, ("a", "b"), origin=7)

    assert isinstance(stage.last[0], Lookup)
    assert stage.last[0].ids == ("a",)
    assert watch.value == ()
    assert stage.inbox[7] == [m.Outcome(stage.head("a"), Output(1))]


def test_a_watch_says_which_ids_are_unknown() -> None:
    stage = Stage()
    stage.submit(task("a"))

    assert stage.ask(m.Watch, ("x", "a", "y")).value == ("x", "y")


@pytest.mark.parametrize("verb", ["inspect", "cancel"])
def test_an_unknown_id_is_not_found(verb: str) -> None:
    stage = Stage()

    asked = stage.cancel("x") if verb == "cancel" else stage.ask(m.Inspect, "x")

    assert isinstance(asked.error, TaskNotFound)
    assert asked.error.id == "x"
    assert stage.left() == {}


def test_an_outcome_past_its_time_is_not_found() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")

    stage.pass_time(59)
    assert stage.ask(m.Inspect, "a").value.head.status is SUCCESS

    stage.pass_time(1)
    assert isinstance(stage.ask(m.Inspect, "a").error, TaskNotFound)
    assert isinstance(stage.cancel("a").error, TaskNotFound)
    assert stage.ask(m.Watch, ("a",)).value == ("a",)


def test_who_waited_before_a_crash_is_told_even_past_the_time_of_the_outcome() -> None:
    stage = Stage(result_ttl=0)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")

    assert stage.ask(m.Watch, ("a",), origin=7).value == ("a",)
    assert stage.ask(m.Watch, ("a",), True, origin=8).value == ()
    assert (stage.outcomes(7), stage.outcomes(8)) == ([], [("a", SUCCESS)])


def test_a_look_at_a_live_task_shows_its_attempt_and_progress() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.pass_time(1)
    worker.start("a")
    worker.say(m.Report("a", 1, Progress(1, 2, "half")))

    snapshot = stage.ask(m.Inspect, "a").value

    assert (snapshot.head.attempts, snapshot.head.started_at) == (1, MORNING + 1)
    assert snapshot.progress == Progress(1, 2, "half")
    assert snapshot.output is None
    assert stage.head("a").attempts == 0  # a start is not stored


def test_a_look_at_an_ended_task_shows_its_output() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.fail("a")

    assert stage.ask(m.Inspect, "a").value == m.Snapshot(stage.head("a"), BOOM, None)


def test_an_answer_of_the_store_that_is_out_of_date_does_not_count() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.cancel("a")
    old = stage.records["a"]
    stage.bulk("retry")
    stage.inbox.clear()
    questions = [
        m.Watch(0, ("a",)), m.Inspect(0, "a"),
    ]  # fmt: skip
    stage.questions[0].replies.clear()

    for question in questions:
        stage.machine.step(CLIENT, [question], stage.now)
        answer = stage.machine.step(CLIENT, [found(question, old)], stage.now)
        for effect in answer:
            stage.carry_out(effect)

    assert stage.outcomes() == []
    _, inspected = stage.questions[0].replies
    assert inspected.value.head.status is PENDING


def found(message: object, record: Record) -> Found:
    return Found(message, {record.head.id: record})


# --- many tasks ----------------------------------------------------------------------------------


def test_a_find_is_answered_with_what_the_store_finds() -> None:
    stage = Stage()
    stage.submit(*(task(id) for id in "abc"))
    filter = Filter(names=frozenset({"job"}))

    find = stage.ask(m.Find, filter, "c", 1)

    assert isinstance(stage.last[0], Search)
    assert (stage.last[0].filter, stage.last[0].cursor, stage.last[0].limit) == (filter, "c", 1)
    assert [found.head.id for found in find.value.tasks] == ["b"]
    assert (find.value.next, find.value.scanned) == ("b", 2)


def test_a_find_does_not_show_an_outcome_past_its_time() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"), task("b"))
    worker.fail("a")
    stage.pass_time(60)

    assert [t.head.id for t in stage.ask(m.Find, Filter(), None, 10).value.tasks] == ["b"]
    assert stage.bulk("retry").value == 0
    assert stage.status("a") is FAILURE


def test_a_bulk_cancel_ends_every_live_task_that_fits() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(*(task(id) for id in "abcde"), task("other", name="other"))
    worker.finish("a")

    bulk = stage.bulk("cancel", Filter(names=frozenset({"job"})))

    assert bulk.value == 4
    assert [stage.status(id) for id in "acde"] == [SUCCESS] + 3 * [CANCELLED]
    assert stage.status("other") is PENDING
    assert worker.interrupts[0].id == "b"


def test_a_bulk_retry_starts_failed_and_cancelled_tasks_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(*(task(id) for id in "abcd"))
    worker.fail("a")
    worker.finish("b")
    worker.fail("c")
    stage.cancel("d")
    worker.finish("d", "cancelled")

    bulk = stage.bulk("retry")

    assert bulk.value == 3
    assert stage.status("b") is SUCCESS
    assert sorted(worker.log[4:]) == ["d"]
    assert {stage.status("a"), stage.status("c")} == {PENDING}


def test_a_retry_begins_everything_again_but_the_fence() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", scope="block", deadline=50, retry=Retry(attempts=2, delay=0)))
    worker.vanish()
    for _ in range(2):
        worker.fail("a")
        stage.pass_time(0)
    before = stage.head("a")
    stage.pass_time(100)

    stage.bulk("retry", FAILED)

    head = stage.head("a")
    assert (before.attempts, before.deaths) == (2, 1)
    assert (head.attempts, head.deaths, head.status) == (0, 0, RUNNING)
    assert head.fence == before.fence + 1
    assert (head.scope, head.cancel, head.started_at) == (None, None, None)
    assert (head.completed_at, head.keep_until) == (None, None)
    assert (head.submitted_at, head.since) == (MORNING, stage.now)
    assert worker.grants["a"].remaining == 50
    assert worker.grants["a"].body == "call"


def test_a_retried_task_loses_its_old_output_and_joins_the_end_of_the_line() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), task("b"), task("c"))
    worker.fail("a")

    stage.bulk("retry", FAILED)
    assert stage.output("a") is None
    worker.finish("b")
    worker.finish("c")

    assert worker.log == ["a", "b", "c", "a"]


def test_a_finish_of_the_run_before_a_retry_is_refused() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    late = worker.fail("a")
    stage.bulk("retry")

    worker.say(late)

    assert worker.answers[-1] == m.Finished("a", 1, False)
    assert stage.status("a") is RUNNING


def test_who_saw_the_first_outcome_is_not_told_a_second_one() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.fail("a")
    stage.bulk("retry")

    worker.finish("a")

    assert stage.outcomes() == [("a", FAILURE)]


def test_a_bulk_discard_forgets_ended_tasks_and_leaves_live_ones() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(*(task(id) for id in "abcd"))
    worker.fail("a")
    worker.finish("b")

    bulk = stage.bulk("discard")

    assert bulk.value == 2
    assert stage.records.keys() == {"c", "d"}
    assert isinstance(stage.ask(m.Inspect, "a").error, TaskNotFound)


@pytest.mark.parametrize(("verb", "count"), [("cancel", 2), ("retry", 1), ("discard", 2)])
def test_a_dry_run_counts_and_changes_nothing(verb: m.Verb, count: int) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(*(task(id) for id in "abcd"))
    worker.finish("a")
    worker.fail("b")
    before = {id: record.head for id, record in stage.records.items()}

    bulk = stage.bulk(verb, dry_run=True)

    assert bulk.value == count
    assert {id: record.head for id, record in stage.records.items()} == before


def test_a_bulk_verb_goes_through_all_pages() -> None:
    stage = Stage()
    stage.submit(*(task(f"{n:02}") for n in range(9)))

    bulk = stage.bulk("cancel")

    assert bulk.value == 9
    assert sum(isinstance(effect, Search) for effect in stage.last) > 1
    assert stage.left() == {}


def test_a_bulk_cancel_goes_by_the_status_of_now() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"), task("b"))

    bulk = stage.bulk("cancel", Filter(statuses=frozenset({PENDING})))

    assert bulk.value == 1
    assert (stage.status("a"), stage.status("b")) == (RUNNING, CANCELLED)


def test_a_cancel_by_nobody_in_particular_is_the_users() -> None:
    stage = Stage()
    stage.submit(task("a"))

    stage.ask(m.Bulk, "cancel", Filter(), False)

    assert stage.head("a").cancel == Cancel("user")
    assert stage.status("a") is CANCELLED


# --- figures -------------------------------------------------------------------------------------


def test_stats_count_live_tasks_by_queue_and_status() -> None:
    stage = Stage(max_pending=3)
    Worker(stage)
    stage.submit(task("a", queue="one"))
    stage.submit(task("b", queue="one"), task("c", queue="one", delay=9), task("d", queue="two"))
    stage.submit(task("e", queue="one"), task("f", queue="one"))

    stats = stage.ask(m.GetStats).value

    assert {queue: evolve(counts, oldest=None) for queue, counts in stats.queues.items()} == {
        "one": QueueStats(scheduled=1, pending=1, running=1, parked=1),
        "two": QueueStats(pending=1),
    }


def test_stats_say_since_when_the_oldest_pending_task_of_a_queue_is_there() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("running", queue="one"))
    for n, queue in enumerate(["one", "two", "one"]):
        stage.pass_time(10)
        stage.submit(task(f"{n}", queue=queue, limit=Limit("k", concurrency=5)))
    stage.submit(task("delayed", queue="three", delay=9), task("due", queue="four", delay=5))
    stage.pass_time(8)

    queues = stage.ask(m.GetStats).value.queues

    assert {queue: stats.oldest for queue, stats in queues.items()} == {
        "one": datetime.fromtimestamp(MORNING + 10, UTC),
        "two": datetime.fromtimestamp(MORNING + 20, UTC),
        "three": None,
        "four": datetime.fromtimestamp(MORNING + 35, UTC),
    }


def test_stats_name_paused_queues_also_when_nothing_is_in_them() -> None:
    stage = Stage()
    stage.submit(task("a", queue="one"))
    for queue in ("one", "two"):
        stage.ask(m.PauseQueue, queue, True)

    queues = stage.ask(m.GetStats).value.queues

    assert (queues["one"].pending, queues["one"].paused) == (1, True)
    assert queues["two"] == QueueStats(paused=True)
    stage.ask(m.PauseQueue, "two", False)
    assert stage.ask(m.GetStats).value.queues.keys() == {"one"}


def test_a_note_of_nothing_that_is_known_is_an_error() -> None:
    with pytest.raises(AssertionError, match="nothing is noted"):
        Stage().machine.load_note(Note("pause", "one", Cancel("user")))


def test_a_damaged_note_is_told_and_a_queue_stays_paused() -> None:
    stage = Stage()
    stage.submit(task("a", queue="one"), task("b", limit=Limit("key", rate=1)))
    for kind, name in (("pause", "one"), ("limit", "key"), ("schedule", "nightly")):
        stage.notes[kind, name] = Note(kind, name, None)  # type: ignore[arg-type]
    stage.crash()
    worker = Worker(stage, 2)

    assert worker.log == ["b"]
    assert [details["id"] for details in stage.told(EventKind.RECORD_DAMAGED)] == [
        "pause one", "limit key", "schedule nightly",
    ]  # fmt: skip
    assert stage.ask(m.GetStats).value.queues["one"].paused


def test_a_retried_task_lives_by_the_time_of_day_after_a_clock_was_set_back() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", deadline=60))
    worker.fail("a", retryable=False)
    stage.disconnect(worker.connection)
    stage.now -= 1e6
    stage.crash()

    stage.bulk("retry")
    stage.pass_time(59.0)
    assert stage.status("a") is PENDING
    stage.pass_time(1.0)

    assert stage.status("a") is FAILURE


def test_stats_count_slots_and_outcomes() -> None:
    stage = Stage()
    worker = Worker(stage, 3, 2)
    Worker(stage, 1, name="v.0", at=200)
    stage.submit(*(task(id, retry=Retry(attempts=2, delay=9)) for id in "ab"))
    for id in list(worker.grants):
        worker.fail(id)
    stage.submit(task("c"), task("d", pool="process", at_most_once=True))
    worker.finish("d", "lost")
    stage.cancel("a")
    for holder in stage.workers.values():
        if "c" in holder.grants:
            holder.finish("c")

    stats = stage.ask(m.GetStats).value

    assert stats.workers == 2
    assert stats.pools["process"] == PoolStats(slots=2, free=2)
    assert stats.pools["main"].slots == 4
    assert (stats.success, stats.failure, stats.cancelled, stats.lost) == (1, 1, 1, 1)
    assert stats.retries >= 1


def test_stats_of_nothing_are_empty() -> None:
    stats = Stage().ask(m.GetStats).value

    assert (stats.queues, stats.workers) == ({}, 0)


def test_what_no_worker_knows_is_seen_everywhere() -> None:
    stage = Stage()
    worker = Worker(stage, 1, tasks=["f"])
    stage.submit(task("a", name="f"), task("b", name="f"))
    stage.submit(task("c", name="g"), task("d", name="g"), task("e", name="g", delay=9))

    snapshots = {id: stage.ask(m.Inspect, id).value for id in "abcde"}
    page = stage.ask(m.Find, Filter(statuses=frozenset({PENDING})), None, 10).value

    assert [id for id, snapshot in snapshots.items() if snapshot.unknown] == ["c", "d"]
    assert {found.head.id: found.unknown for found in page.tasks} == {"d": True, "c": True}
    assert stage.ask(m.GetStats).value.unknown == {"g": 2}

    worker.learn("g")
    assert not stage.ask(m.Inspect, "c").value.unknown
    assert stage.ask(m.GetStats).value.unknown == {}

    worker.cut()
    assert stage.ask(m.GetStats).value.unknown == {"f": 1, "g": 2}


def test_the_names_of_tasks_are_told_with_who_knows_them() -> None:
    stage = Stage()
    Worker(stage, 0, name="u.0", at=100, tasks=["f", "g"])
    newer = Worker(stage, 0, name="v.0", at=200, tasks=["g"])
    assert newer.tasks is not None
    newer.tasks["g"] = "another digest"
    newer.learn("h")
    stage.submit(task("a", name="g"), task("b", name="x"), task("c", name="x", pool="process"))

    assert stage.ask(m.GetTasks).value == [
        TaskInfo("f", workers=1, waiting=0, versions=1),
        TaskInfo("g", workers=2, waiting=1, versions=2),
        TaskInfo("h", workers=1, waiting=0, versions=1),
        TaskInfo("x", workers=0, waiting=2, versions=0),
    ]


def test_a_worker_that_runs_anything_counts_for_every_name() -> None:
    stage = Stage()
    Worker(stage, 0)
    Worker(stage, 0, name="v.0", at=200, tasks=["f"])
    stage.submit(task("a", name="x"))

    assert stage.ask(m.GetTasks).value == [
        TaskInfo("f", workers=2, waiting=0, versions=1),
        TaskInfo("x", workers=1, waiting=1, versions=0),
    ]


def test_people_see_the_workers_that_are_away_too() -> None:
    stage = Stage()
    worker = Worker(stage, 2, 1, leased=True)
    stage.submit(task("a"))
    assert stage.machine.workers() == [WorkerInfo("w.0", True, True, 3, 1)]

    worker.cut()
    assert stage.machine.workers() == [WorkerInfo("w.0", False, True, 3, 1)]

    stage.pass_time(6)
    assert stage.machine.workers() == []


# --- when to look --------------------------------------------------------------------------------


def test_nobody_has_to_look_at_an_idle_queue() -> None:
    stage = Stage()
    Worker(stage)
    stage.say(CLIENT, m.ClientHello("local"))
    assert stage.machine.next_deadline() is None

    stage.submit(task("a", deadline=60))
    assert stage.machine.next_deadline() == MORNING + 60 + stage.limits.grace


def test_somebody_looks_now_and_then_while_a_peer_elsewhere_is_waited_for() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    looks = 0

    while stage.machine.workers():
        deadline = stage.machine.next_deadline()
        assert deadline is not None
        assert stage.now < deadline <= stage.now + stage.limits.beat
        stage.pass_time(deadline - stage.now)
        looks += 1

    assert looks <= 30
    assert worker.lost == 1
    assert stage.machine.next_deadline() is None


def test_an_alarm_of_a_task_is_not_missed_for_that() -> None:
    stage = Stage()
    Worker(stage, leased=True)

    stage.submit(task("a", delay=0.25))

    assert stage.machine.next_deadline() == stage.head("a").due


def test_a_bulk_verb_that_is_asked_again_after_a_crash_does_nothing_twice() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b"))
    worker.fail("a", retryable=False)
    worker.fail("b", retryable=False)
    stage.disconnect(worker.connection)
    assert stage.bulk("retry", FAILED).value == 2
    stage.pass_time(1)
    stage.crash()

    assert stage.bulk("retry", FAILED, resent=True).value == 0
    again = Worker(stage, 2, name="v.0", at=200)
    assert sorted(again.log) == ["a", "b"]
    again.finish("a")
    again.fail("b", retryable=False)  # once more, before it is asked again

    assert stage.bulk("retry", FAILED, resent=True).value == 0
    assert (stage.status("a"), stage.status("b")) == (SUCCESS, FAILURE)
    stage.disconnect(again.connection)
    assert stage.bulk("retry", FAILED).value == 1
    for verb in ("cancel", "discard", "discard"):
        stage.bulk(verb)  # type: ignore[arg-type]
    assert stage.records == {}
