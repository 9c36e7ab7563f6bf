"""Who is told what, and from which moment on; driven through the whole machine.

A follower is a subscriber that keeps what it was told, as words: ``"ended a"``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from actorq.machines.effects import Effect, Lookup, Search, Send, Write
from actorq.model import messages as m
from actorq.model.feed import TaskEvent
from actorq.model.filters import Filter, build_filter
from actorq.model.options import Retry
from actorq.model.records import Head, Output
from actorq.model.results import Progress
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SCHEDULED,
    SUCCESS,
    WAITING,
    TaskStatus,
)
from tests.machines.stage import BOOM, CLIENT, MORNING, PAGE, Question, Stage, Worker, task

STEADY = Retry(attempts=2, delay=10, jitter=0)
NOBODY = {SCHEDULED: 0, WAITING: 0, PENDING: 0, RUNNING: 0}


class Follower:
    """A subscriber, and everything that it was told."""

    def __init__(
        self,
        stage: Stage,
        number: int = 1,
        *,
        at: int = CLIENT,
        since: float | None = None,
        away: float | None = None,
        **which: Any,
    ) -> None:
        self.stage = stage
        self.number = number
        self.at = at
        self.filter = build_filter(**which)
        self.question: Question = stage.ask(
            m.Subscribe, number, self.filter, since, away, origin=at
        )

    @property
    def standing(self) -> m.Standing:
        standing: m.Standing = self.question.value
        return standing

    @property
    def news(self) -> list[m.News]:
        mail = self.stage.inbox[self.at]
        return [x for x in mail if isinstance(x, m.News) and x.subscription == self.number]

    @property
    def events(self) -> list[TaskEvent]:
        return [event for news in self.news for event in news.events]

    @property
    def told(self) -> list[str]:
        return [f"{event.kind} {event.id}" for event in self.events]

    def leave(self) -> None:
        self.stage.say(self.at, m.Unsubscribe(self.number))


class SlowStore(Stage):
    """A stage whose store answers when it is told to."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.asked: list[Lookup | Search] = []

    def carry_out(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Lookup | Search):
            self.asked.append(effect)
            return []
        return super().carry_out(effect)

    def answer(self, number: int = 0) -> None:
        """Answer the oldest question, or another one of those that are open."""
        self.do(super().carry_out(self.asked.pop(number)))

    def answer_all(self) -> None:
        while self.asked:
            self.answer()


def indexes(stage: Stage) -> list[object]:
    """Return everything that is kept for subscribers."""
    kept = stage.machine._news
    lines = kept._about_any, kept._by_id, kept._by_name, kept._by_queue
    return [line for line in (kept._all, kept._told, *lines) if line]


def end(stage: Stage, id: str) -> None:
    """Have a task that waits end at a time of its own."""
    stage.pass_time(1)
    stage.cancel(id)


# --- the snapshot --------------------------------------------------------------------------------


def test_a_snapshot_counts_live_tasks_by_status_at_its_moment() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(*map(task, "abcd"), task("later", delay=10))
    worker.finish("a")
    stage.pass_time(3)

    follower = Follower(stage)

    counts = {SCHEDULED: 1, WAITING: 0, PENDING: 1, RUNNING: 2}
    assert follower.standing == m.Standing(MORNING + 3, counts, ())
    assert follower.told == []


FILTERS: list[dict[str, Any]] = [
    {},
    {"task": "f"},
    {"task": ["f", "h"]},
    {"queue": "one"},
    {"status": "running"},
    {"status": ["scheduled", "pending"]},
    {"ids": ["a", "c", "e", "unknown"]},
    {"task": "f", "queue": "one"},
    {"task": "f", "status": "pending"},
    {"queue": "two", "status": "scheduled"},
    {"ids": ["a", "b", "c"], "queue": "one"},
    {"ids": ["a", "b"], "task": "f", "queue": "one", "status": "running"},
    {"task": "none of them"},
    {"queue": "none of them"},
    {"status": "failure"},
    {"task": []},
    {"ids": []},
]


def a_crowd() -> list[m.Submission]:
    """Two running, two pending and two scheduled tasks of two names in two queues."""
    return [
        task("a", name="f", queue="one"), task("b", name="g", queue="one"),
        task("c", name="f", queue="two"), task("d", name="g", queue="one"),
        task("e", name="f", queue="one", delay=4), task("x", name="h", queue="two", delay=4),
    ]  # fmt: skip


@pytest.mark.parametrize("which", FILTERS, ids=str)
def test_a_snapshot_counts_what_fits(which: dict[str, Any]) -> None:
    stage = Stage()
    Worker(stage, 2)
    stage.submit(*a_crowd())

    follower = Follower(stage, **which)

    heads = [r.head for r in stage.records.values() if follower.filter.matches(r.head)]
    assert follower.standing.counts == NOBODY | Counter(head.status for head in heads)


def test_a_snapshot_of_ids_has_what_is_known_of_each() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("ended"), task("runs"), task("beside it"))
    worker.finish("ended", output=Output(7))

    standing = Follower(stage, ids=["ended", "runs", "unknown"]).standing

    assert sorted(standing.tasks, key=lambda known: known.head.id) == [
        m.Snapshot(stage.head("ended"), Output(7), None),
        m.Snapshot(stage.head("runs"), None, None),
    ]
    assert standing.counts == NOBODY | {RUNNING: 1}


def test_a_snapshot_of_ids_says_what_is_known_of_a_running_attempt() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.start("a")
    worker.say(m.Report("a", 1, Progress(1, 2)))

    [known] = Follower(stage, ids=["a"]).standing.tasks

    assert known == stage.ask(m.Inspect, "a").value
    assert (known.head.attempts, known.progress) == (1, Progress(1, 2))


def test_a_snapshot_leaves_out_a_result_whose_time_is_over() -> None:
    stage = Stage(result_ttl=5)
    stage.submit(task("a"))
    stage.cancel("a")
    stage.pass_time(5)

    assert Follower(stage, ids=["a"]).standing.tasks == ()


def test_a_snapshot_without_ids_has_no_tasks_and_asks_no_store() -> None:
    stage = SlowStore()
    stage.submit(task("a"))

    follower = Follower(stage, task="job")

    assert stage.asked == []
    assert follower.standing.tasks == ()


# --- what happens --------------------------------------------------------------------------------


def test_a_task_is_submitted_when_it_is_accepted() -> None:
    stage = Stage()
    follower = Follower(stage)
    stage.pass_time(4)

    stage.submit(task("now"), task("later", delay=5))

    assert follower.told == ["submitted now", "submitted later"]
    assert [event.status for event in follower.events] == [PENDING, SCHEDULED]
    assert {event.time for event in follower.events} == {MORNING + 4}


def test_a_task_that_was_accepted_before_is_not_submitted_again() -> None:
    stage = Stage()
    stage.submit(task("a"))
    follower = Follower(stage)

    stage.submit(task("a"), resent=True)

    assert follower.told == []


def test_a_task_that_is_refused_was_never_submitted() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    follower = Follower(stage)

    stage.submit(task("b", when_full="raise"))

    assert follower.told == []


def test_a_task_that_waits_for_room_is_submitted_when_it_gets_in() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    follower = Follower(stage)
    stage.submit(task("b"))
    assert follower.told == []

    stage.cancel("a")

    assert follower.told == ["ended a", "submitted b"]


def test_a_task_is_due_when_its_time_has_come() -> None:
    stage = Stage()
    follower = Follower(stage)
    stage.submit(task("a", delay=5))

    stage.pass_time(4.9)
    assert follower.told == ["submitted a"]
    stage.pass_time(0.2)

    [_, due] = follower.events
    assert (due.kind, due.status, due.time) == ("due", PENDING, MORNING + 5)


def test_an_attempt_has_started_when_its_worker_says_so() -> None:
    stage = Stage()
    follower = Follower(stage)
    worker = Worker(stage)
    stage.submit(task("a"))
    assert follower.told == ["submitted a"]

    worker.start("a")

    [_, started] = follower.events
    assert (started.kind, started.status, started.attempts) == ("started", RUNNING, 1)
    assert started.worker == "w.0"


def test_each_attempt_has_its_own_number() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    follower = Follower(stage)

    worker.start("a")
    worker.fail("a")
    stage.pass_time(10)
    worker.start("a")

    assert follower.told == ["started a", "retrying a", "due a", "started a"]
    assert [event.attempts for event in follower.events] == [1, 1, 1, 2]


def test_progress_is_told_as_it_is_reported() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.start("a")
    follower = Follower(stage)

    worker.say(m.Report("a", 1, Progress(1, 3)), m.Report("a", 1, Progress(2, 3, "soon")))

    assert follower.told == ["progress a", "progress a"]
    assert [event.progress for event in follower.events] == [Progress(1, 3), Progress(2, 3, "soon")]
    assert {(event.status, event.attempts) for event in follower.events} == {(RUNNING, 1)}


@pytest.mark.parametrize(
    "message", [m.Started("a", 1, MORNING), m.Report("a", 1, Progress(1))], ids=["start", "report"]
)
def test_what_an_older_grant_says_is_not_told(message: Any) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", "lost")
    follower = Follower(stage)

    worker.say(message)

    assert follower.told == []


def test_a_task_that_will_be_tried_again_says_what_went_wrong() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    follower = Follower(stage)

    worker.fail("a")

    [event] = follower.events
    assert (event.kind, event.status, event.error) == ("retrying", SCHEDULED, BOOM.error)


def test_a_task_that_asked_to_run_later_is_retrying_too() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    follower = Follower(stage)

    worker.finish("a", "later", delay=3.0, output=BOOM)

    assert follower.told == ["retrying a"]
    assert follower.events[0].head.due == MORNING + 3


def test_a_task_whose_worker_died_is_lost() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    follower = Follower(stage)
    worker.start("a")

    worker.vanish()

    [_, lost] = follower.events
    assert (lost.kind, lost.status, lost.attempts, lost.head.deaths) == ("lost", PENDING, 1, 1)


def test_a_grant_that_never_arrived_is_not_lost() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    follower = Follower(stage)
    worker.grants.clear()

    worker.connect(101)

    assert (follower.told, stage.head("a").fence) == ([], 2)


def test_a_task_whose_last_worker_died_has_ended_and_is_not_lost() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", max_deliveries=1))
    follower = Follower(stage)

    worker.vanish()

    assert follower.told == ["ended a"]


def finishes(stage: Stage, worker: Worker) -> None:
    worker.finish("a")


def fails(stage: Stage, worker: Worker) -> None:
    worker.fail("a")


def is_cancelled(stage: Stage, worker: Worker) -> None:
    stage.cancel("a")
    worker.finish("a", "cancelled")


def is_abandoned(stage: Stage, worker: Worker) -> None:
    stage.cancel("a", grace=5)
    stage.pass_time(5)


def runs_past_its_deadline(stage: Stage, worker: Worker) -> None:
    worker.finish("a", "deadline", output=BOOM)


@pytest.mark.parametrize(
    ("ends", "status", "error"),
    [
        (finishes, SUCCESS, None),
        (fails, FAILURE, BOOM.error),
        (is_cancelled, CANCELLED, None),
        (is_abandoned, CANCELLED, None),
        (runs_past_its_deadline, FAILURE, BOOM.error),
    ],
)
def test_a_task_that_runs_has_ended_however_it_ends(
    ends: Callable[[Stage, Worker], None], status: TaskStatus, error: object
) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    follower = Follower(stage)

    ends(stage, worker)

    [ended] = follower.events
    assert (ended.kind, ended.status, ended.error) == ("ended", status, error)
    assert (ended.head, ended.time) == (stage.head("a"), stage.now)
    follower.leave()
    assert stage.left() == {}


@pytest.mark.parametrize("option", ["deadline", "expires"])
def test_a_task_that_waited_too_long_has_ended(option: str) -> None:
    stage = Stage()
    follower = Follower(stage)
    stage.submit(task("a", **{option: 5}))

    stage.pass_time(5)

    assert follower.told == ["submitted a", "ended a"]
    assert follower.events[1].error == stage.output("a").error  # type: ignore[union-attr]


def test_a_task_that_is_retried_is_submitted_anew() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.cancel("a")
    follower = Follower(stage)

    stage.bulk("retry", build_filter(ids=["a"]))

    assert follower.told == ["submitted a"]
    assert follower.events[0].status is PENDING


def test_a_task_that_cannot_be_retried_is_not_submitted() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    follower = Follower(stage)

    stage.bulk("retry", build_filter(ids=["a"]))

    assert follower.told == []


def test_the_story_of_a_task_is_told_in_order() -> None:
    stage = Stage()
    follower = Follower(stage, ids=["a"])
    worker = Worker(stage)
    stage.submit(task("a", delay=1, retry=STEADY))
    stage.pass_time(1)
    worker.start("a")
    worker.fail("a")
    stage.pass_time(10)
    worker.start("a")
    worker.vanish()
    worker.start("a")
    worker.say(m.Report("a", worker.grants["a"].head.fence, Progress(1)))
    worker.finish("a")

    assert [event.kind for event in follower.events] == [
        "submitted", "due", "started", "retrying", "due", "started", "lost",
        "started", "progress", "ended",
    ]  # fmt: skip


def test_a_start_that_is_said_again_after_a_cut_is_told_once() -> None:
    stage = Stage()
    follower, worker = Follower(stage, ids=["a"]), Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.start("a")

    worker.cut()
    worker.back()
    worker.start("a")

    assert follower.told == ["submitted a", "started a"]


def test_a_step_in_which_nothing_happens_is_not_news() -> None:
    stage = Stage()
    follower = Follower(stage)

    stage.ask(m.GetStats)
    stage.say(0, m.Tick())

    assert follower.news == []


def test_what_happens_in_one_step_is_one_message() -> None:
    stage = Stage()
    follower, other = Follower(stage), Follower(stage, 2, queue="other")

    stage.submit(*map(task, "abc"))

    assert [len(news.events) for news in follower.news] == [3]
    assert other.news == []


def test_news_leave_after_the_writes_that_they_tell_of() -> None:
    stage = Stage()
    Follower(stage)

    stage.submit(task("a"))

    kinds = [type(e) if isinstance(e, Write) else type(e.message) for e in stage.last]  # type: ignore[union-attr]
    assert kinds.index(Write) < kinds.index(m.News)


# --- whom it concerns ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", FILTERS, ids=str)
def test_a_filter_lets_through_what_fits_and_nothing_else(which: dict[str, Any]) -> None:
    stage = Stage()
    everything, follower = Follower(stage, 1), Follower(stage, 2, **which)
    worker = Worker(stage, 2)

    stage.submit(*a_crowd())
    for id in "ab":
        worker.start(id)
    stage.pass_time(5)
    for id in "cde":
        stage.cancel(id)
    worker.finish("a")
    worker.fail("b")

    expected = [event for event in everything.events if follower.filter.matches(event.head)]
    assert follower.events == expected
    kinds = Counter(event.kind for event in everything.events)
    assert kinds == {"submitted": 6, "due": 2, "started": 2, "ended": 5}


@pytest.mark.parametrize("leaves", ["unsubscribes", "is gone"])
@pytest.mark.parametrize("which", FILTERS, ids=str)
def test_a_subscriber_that_has_left_leaves_nothing(which: dict[str, Any], leaves: str) -> None:
    stage = Stage()
    follower = Follower(stage, at=7, **which)
    assert stage.left() == {"subscriptions": 1}

    if leaves == "unsubscribes":
        follower.leave()
    else:
        stage.disconnect(7)
    stage.submit(*a_crowd())

    assert follower.told == []
    assert "subscriptions" not in stage.left()
    assert indexes(stage) == []


@pytest.mark.parametrize("which", FILTERS, ids=str)
def test_a_subscriber_that_leaves_takes_no_other_with_it(which: dict[str, Any]) -> None:
    stage = Stage()
    goes, stays, everything = Follower(stage, 1, **which), Follower(stage, 2, **which), None
    goes.leave()
    everything = Follower(stage, 3)

    stage.submit(*a_crowd())

    assert goes.told == []
    assert stays.events == [e for e in everything.events if stays.filter.matches(e.head)]


def test_several_subscribers_of_one_connection_are_told_apart() -> None:
    stage = Stage()
    all_of_it, some_of_it = Follower(stage, 1), Follower(stage, 2, task="f")

    stage.submit(task("a", name="f"), task("b", name="g"))

    assert all_of_it.told == ["submitted a", "submitted b"]
    assert some_of_it.told == ["submitted a"]


def test_two_connections_may_use_the_same_number() -> None:
    stage = Stage()
    one, other = Follower(stage, at=7), Follower(stage, at=8)
    stage.disconnect(7)

    stage.submit(task("a"))

    assert (one.told, other.told) == ([], ["submitted a"])


def test_one_who_leaves_in_the_step_in_which_something_happens_is_told_nothing() -> None:
    stage = Stage()
    goes, stays = Follower(stage, 1), Follower(stage, 2)
    submit = stage.question(m.Submit, (task("a"),)).message

    stage.say(CLIENT, submit, m.Unsubscribe(1))

    assert (goes.news, stays.told) == ([], ["submitted a"])


def test_leaving_twice_or_without_having_come_is_fine() -> None:
    stage = Stage()
    follower = Follower(stage)

    follower.leave()
    follower.leave()
    stage.say(9, m.Unsubscribe(4), m.Gone())

    assert stage.left() == {}


def test_a_subscription_that_comes_again_replaces_the_first() -> None:
    stage = Stage()
    follower = Follower(stage, 1, task="f")
    again = Follower(stage, 1, task="g")

    stage.submit(task("a", name="f"), task("b", name="g"))

    assert (again.told, len(follower.news)) == (["submitted b"], 1)
    again.leave()
    assert indexes(stage) == []


def test_a_task_and_a_subscription_of_one_step_meet_in_the_order_in_which_they_came() -> None:
    stage = Stage()
    submits = [stage.question(m.Submit, (task(id),)).message for id in "ab"]
    subscribe = stage.question(m.Subscribe, 1, Filter())

    stage.say(CLIENT, submits[0], subscribe.message, submits[1])

    sent = [e.message for e in stage.last if isinstance(e, Send)]
    [news] = [message for message in sent if isinstance(message, m.News)]
    assert subscribe.value.counts == NOBODY | {PENDING: 1}
    assert [event.id for event in news.events] == ["b"]
    assert sent.index(subscribe.replies[0]) < sent.index(news)


# --- while the store is asked --------------------------------------------------------------------


def test_what_happens_while_the_store_is_asked_is_told_after_the_snapshot() -> None:
    stage = SlowStore()
    stage.submit(task("a"), task("b"))
    stage.cancel("a")
    follower = Follower(stage, ids=["a", "b"])

    end(stage, "b")
    assert (follower.question.answered, follower.news) == (False, [])
    stage.answer()

    assert follower.standing.counts == NOBODY | {PENDING: 1}
    assert {known.head.status for known in follower.standing.tasks} == {CANCELLED, PENDING}
    assert follower.told == ["ended b"]


def test_what_happens_after_the_answer_is_told_at_once() -> None:
    stage = SlowStore()
    follower = Follower(stage, ids=["a"])
    stage.answer()

    stage.submit(task("a"))

    assert follower.told == ["submitted a"]


def test_a_task_that_came_while_the_store_was_asked_is_told_once() -> None:
    stage = SlowStore()
    follower = Follower(stage, ids=["a"])

    stage.submit(task("a"))
    stage.answer()

    assert follower.told == ["submitted a"]
    assert follower.standing.counts == NOBODY
    assert follower.standing.tasks == (), "it was not known at the moment of the snapshot"


@pytest.mark.parametrize("since", [None, MORNING])
def test_one_who_leaves_while_the_store_is_asked_is_told_nothing(since: float | None) -> None:
    stage = SlowStore()
    stage.submit(task("a"))
    which = {"ids": ["unknown"]} if since is None else {}
    follower = Follower(stage, since=since, **which)

    follower.leave()
    end(stage, "a")
    stage.answer_all()

    assert (follower.question.answered, follower.news) == (False, [])
    assert indexes(stage) == []


def test_one_who_is_gone_while_the_store_is_asked_is_told_nothing() -> None:
    stage = SlowStore()
    follower = Follower(stage, at=7, ids=["unknown"])

    stage.disconnect(7)
    stage.answer()

    assert not follower.question.answered
    assert stage.left() == {}


def test_a_subscription_that_arrives_twice_while_the_store_is_asked_is_answered_once() -> None:
    stage = SlowStore()
    follower = Follower(stage, ids=["unknown"])

    stage.say(CLIENT, follower.question.message)
    stage.answer_all()
    stage.submit(task("unknown"))

    assert follower.standing.tasks == ()
    assert follower.told == ["submitted unknown"]


def test_an_answer_to_a_subscription_that_was_replaced_begins_no_other() -> None:
    stage = SlowStore()
    stage.submit(task("a"), task("b"))
    stage.cancel("a")
    stage.cancel("b")
    old, new = Follower(stage, ids=["a"]), Follower(stage, ids=["b"])

    stage.answer_all()

    assert [known.head.id for known in new.standing.tasks] == ["b"]
    assert not old.question.answered


# --- after a time away ---------------------------------------------------------------------------


def test_one_who_was_away_is_told_what_has_ended_meanwhile_in_order() -> None:
    stage = Stage()
    stage.submit(*map(task, "abcdefg"))
    end(stage, "g")
    stage.pass_time(1)
    since = stage.now
    for id in "ecafd":
        end(stage, id)

    follower = Follower(stage, since=since)

    assert len("ecafd") > 2 * PAGE, "several pages"
    assert follower.told == [f"ended {id}" for id in "ecafd"]
    assert [event.time - since for event in follower.events] == [1, 2, 3, 4, 5]
    assert follower.standing.counts == NOBODY | {PENDING: 1}


def test_one_who_was_away_is_told_how_and_why_they_ended() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(task("a"), task("b"))
    worker.fail("a")
    worker.finish("b")

    events = {event.id: event for event in Follower(stage, since=MORNING).events}

    assert (events["a"].status, events["a"].error) == (FAILURE, BOOM.error)
    assert (events["b"].status, events["b"].error) == (SUCCESS, None)
    assert events["a"].head == stage.head("a")


@pytest.mark.parametrize("days", [-1, 0, 1, 4_000])
def test_one_who_was_away_misses_no_end_though_the_owners_clock_was_set(days: int) -> None:
    stage = Stage()
    stage.submit(*(task(id) for id in "abc"))
    stage.cancel("a")
    stage.pass_time(100)
    told_until = stage.now + days * 86_400.0
    for id in "bc":
        stage.pass_time(20)
        stage.cancel(id)
    stage.pass_time(5)

    follower = Follower(stage, since=told_until, away=45.0)

    assert follower.told[-2:] == ["ended b", "ended c"]
    assert ("ended a" in follower.told) == (days < 0)


def test_what_ended_at_the_very_moment_is_told_again_rather_than_not_at_all() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.cancel("a")

    assert Follower(stage, 1, since=stage.now).told == ["ended a"]
    assert Follower(stage, 2, since=stage.now + 0.001).told == []
    assert Follower(stage, 3, since=stage.now + 0.001, away=0.0).told == []


@pytest.mark.parametrize("which", FILTERS, ids=str)
def test_one_who_was_away_is_told_what_fits(which: dict[str, Any]) -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(*a_crowd())
    for id in "cd":
        stage.cancel(id)
    worker.fail("a")
    worker.finish("b")

    follower = Follower(stage, since=MORNING, **which)

    fit = {id for id in "abcd" if follower.filter.matches(stage.head(id))}
    assert set(follower.told) == {f"ended {id}" for id in fit}
    assert len(follower.told) == len(fit)


def test_one_who_follows_ids_is_told_of_their_ends_and_sees_them_in_the_snapshot() -> None:
    stage = Stage()
    stage.submit(task("before"), task("meanwhile"), task("beside"), task("live"))
    end(stage, "before")
    stage.pass_time(1)
    since = stage.now
    end(stage, "meanwhile")
    end(stage, "beside")

    follower = Follower(stage, since=since, ids=["before", "meanwhile", "live", "unknown"])

    assert follower.told == ["ended meanwhile"]
    known = {known.head.id for known in follower.standing.tasks}
    assert known == {"before", "meanwhile", "live"}


@pytest.mark.parametrize("which", [{}, {"ids": ["a"]}], ids=str)
def test_one_who_was_away_is_told_of_an_end_however_short_a_time_results_are_kept(
    which: dict[str, Any],
) -> None:
    stage = Stage(result_ttl=0)
    stage.submit(task("a"))
    stage.cancel("a")

    assert Follower(stage, since=MORNING, **which).told == ["ended a"]


def test_missed_ends_come_after_the_snapshot_and_before_what_was_held() -> None:
    stage = SlowStore()
    stage.submit(*map(task, "abcde"))
    for id in "ab":
        end(stage, id)

    follower = Follower(stage, since=MORNING)
    end(stage, "c")
    stage.submit(task("new"))
    while stage.asked:
        stage.answer()
        if stage.asked:
            assert not follower.question.answered

    assert follower.told == ["ended a", "ended b", "ended c", "submitted new"]
    assert follower.standing.counts == NOBODY | {PENDING: 3}
    end(stage, "d")
    assert follower.told[4:] == ["ended d"]


def test_what_ends_between_two_pages_is_told_once() -> None:
    stage = SlowStore()
    stage.submit(*map(task, "abcdef"))
    for id in "def":
        end(stage, id)

    follower = Follower(stage, since=MORNING)
    end(stage, "a")
    stage.answer()
    end(stage, "b")
    stage.answer_all()

    assert sorted(follower.told) == [f"ended {id}" for id in "abdef"]


def test_an_end_that_was_missed_is_told_though_the_task_has_a_new_run_in_the_same_instant() -> None:
    stage = SlowStore()
    stage.submit(*map(task, "abc"))
    for id in "abc":
        stage.cancel(id)
    follower = Follower(stage, since=MORNING)
    stage.answer()  # finds c and b; a is on the next page

    stage.bulk("retry", build_filter(ids=["c"]))
    stage.answer(1)
    stage.answer()

    assert sorted(follower.told) == ["ended a", "ended b", "ended c", "submitted c"]


def test_a_task_that_has_a_new_run_has_not_ended() -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.cancel("a")
    stage.pass_time(1)
    stage.bulk("retry", build_filter(ids=["a"]))

    follower = Follower(stage, since=MORNING)

    assert follower.told == []
    assert follower.standing.counts == NOBODY | {PENDING: 1}


def test_a_new_owner_tells_who_comes_back_what_it_has_missed() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b"))
    first = Follower(stage)
    end(stage, "a")
    since = first.events[-1].time
    stage.pass_time(1)
    stage.disconnect(CLIENT)
    stage.cancel("b", origin=2)
    stage.crash()

    again = Follower(stage, at=3, since=since)

    assert (first.told, again.told) == (["ended a"], ["ended a", "ended b"])


# --- all of it, in any order ---------------------------------------------------------------------


class Bookkeeper(Follower):
    """A follower that counts along, as somebody would who draws a dashboard.

    A snapshot has no ids, so that it has to look up once what it counts.
    """

    def __init__(self, stage: Stage, number: int, **which: Any) -> None:
        super().__init__(stage, number, at=50 + stage.crashes, **which)
        self.statuses = {head.id: head.status for head in live_heads(stage, self.filter)}
        self.counts = Counter(self.standing.counts)
        self.read = 0

    def count_along(self) -> None:
        for event in self.events[self.read :]:
            self.read += 1
            if event.id in self.statuses:
                self.counts[self.statuses.pop(event.id)] -= 1
            if not event.status.terminal:
                self.counts[event.status] += 1
                self.statuses[event.id] = event.status


def live_heads(stage: Stage, filter: Filter = Filter()) -> list[Head]:  # noqa: B008 - frozen
    heads = [record.head for record in stage.records.values()]
    return [head for head in heads if not head.status.terminal and filter.matches(head)]


def comes(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    options = {
        "name": rng.choice("fg"),
        "queue": rng.choice(["one", "two"]),
        "delay": rng.choice([None, None, 2]),
        "deadline": rng.choice([None, None, 9]),
        "expires": rng.choice([None, None, 3]),
        "max_deliveries": rng.randint(1, 2),
        "retry": Retry(attempts=2, delay=rng.choice([0, 2]), jitter=0),
        "scope": rng.choice([None, "s"]),
    }
    stage.submit(*[task(f"{id}.{n}", **options) for n in range(rng.randint(1, 3))])


def works(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    for worker in workers:
        for held in list(worker.grants):
            cause = rng.choice(["ok", "failed", "later", "lost", None, None])
            if cause == "failed":
                worker.fail(held, retryable=rng.random() < 0.5)
            elif cause is not None:
                worker.finish(held, cause, delay=rng.choice([0.0, 2.0]))


def dies(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    worker = rng.choice(workers)
    worker.vanish(max(max(stage.workers, default=0), 100) + 1)


def cancels(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    heads = live_heads(stage)
    if heads:
        stage.cancel(rng.choice(heads).id, grace=rng.choice([0.0, 1.0]))


def ends_scope(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    stage.ask(m.EndScope, "s", 1.0)


def retries(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    stage.bulk("retry", build_filter(task=rng.choice("fg")))


def waits(stage: Stage, workers: list[Worker], rng: Random, id: str) -> None:
    stage.pass_time(rng.choice([0.5, 1.0, 4.0]))


STEPS = [comes, comes, comes, works, works, works, dies, cancels, ends_scope, retries, waits]
WATCHED: list[dict[str, Any]] = [{}, {"queue": "one"}, {"task": "f"}, {"task": "f", "queue": "two"}]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), max_size=30))
def test_counting_along_from_the_snapshot_gives_what_the_queue_counts_itself(
    history: list[tuple[Callable[..., None], int]],
) -> None:
    stage = Stage(max_pending=8)
    workers = [Worker(stage, 2, name=f"{node}.0", at=at) for node, at in (("u", 100), ("v", 101))]
    keepers: list[Bookkeeper] = []
    for number, (step, seed) in enumerate(history):
        if number % 5 == 0:
            which = WATCHED[number // 5 % len(WATCHED)]
            keepers.append(Bookkeeper(stage, number, **which))
        note(f"{step.__name__} {seed}")
        step(stage, workers, Random(seed), str(number))
        for worker in workers:
            for id in worker.grants:  # what is granted is not told, so it starts at once
                worker.start(id)

        for keeper in keepers:
            keeper.count_along()
            heads = live_heads(stage, keeper.filter)
            assert keeper.counts == NOBODY | Counter(head.status for head in heads)
        queues = stage.ask(m.GetStats).value.queues.values()
        if keepers:
            assert keepers[0].counts == {
                SCHEDULED: sum(queue.scheduled for queue in queues),
                WAITING: sum(queue.waiting for queue in queues),
                PENDING: sum(queue.pending for queue in queues),
                RUNNING: sum(queue.running for queue in queues),
            }


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), max_size=30))
def test_every_run_of_every_task_is_told_from_submitted_to_ended(
    history: list[tuple[Callable[..., None], int]],
) -> None:
    stage = Stage(max_pending=8)
    follower = Follower(stage, at=50)
    workers = [Worker(stage, 2)]
    for number, (step, seed) in enumerate(history):
        note(f"{step.__name__} {seed}")
        step(stage, workers, Random(seed), str(number))
    stage.ask(m.Close, True, 0.0)
    stage.pass_time(20)

    told = Counter((event.kind, event.id, event.head.since) for event in follower.events)
    began = {(id, since): n for (kind, id, since), n in told.items() if kind == "submitted"}
    ended = {(id, since): n for (kind, id, since), n in told.items() if kind == "ended"}
    assert began == ended
    assert set(began.values()) <= {1}
    assert {id for id, _ in began} == set(stage.records)
    follower.leave()
    assert stage.left() == {}
