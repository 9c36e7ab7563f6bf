"""A callback task: submitted in the step that ends the first, and then a task like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from actorq.machines.effects import Effect, Send, Write
from actorq.machines.queue import QueueMachine
from actorq.model import messages as m
from actorq.model.filters import Filter, build_filter
from actorq.model.ids import derived
from actorq.model.options import Retry, TaskOptions
from actorq.model.records import Done, Follow, Head, Output
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SCHEDULED, SUCCESS, TaskStatus
from tests.machines.stage import BOOM, CLIENT, Stage, Worker, task

STEADY = Retry(attempts=2, delay=10, jitter=0)
REPORT = Follow("report", "main", TaskOptions(), "call of report")


def with_callback(
    id: str = "a", *, follow: Follow = REPORT, data: object = None, scope: str | None = None,
    **options: Any,
) -> m.Submission:  # fmt: skip
    first = task(id, scope=scope, callback_data=data, **options)
    return replace(first, options=first.options.with_callback(follow, data))


def reporting(**options: Any) -> Follow:
    return replace(REPORT, options=TaskOptions(**options))


class Ledgered(Stage):
    """A stage that remembers its commits, by the ids of their writes."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.commits: list[dict[str, Head | None]] = []
        self.dones: dict[str, Done] = {}

    def commit(self, writes: list[Write]) -> None:
        if writes:
            self.commits.append({write.id: write.head for write in writes})
        self.dones |= {write.id: write.body for write in writes if isinstance(write.body, Done)}
        super().commit(writes)

    def callbacks(self) -> list[Head]:
        """Return the heads of all callback tasks, oldest first."""
        return [self.head(id) for id in self.dones]

    @property
    def callback(self) -> Head:
        (head,) = self.callbacks()
        return head

    def done(self, head: Head) -> Done:
        return self.dones[head.id]


# --- every end -----------------------------------------------------------------------------------


def succeeds(stage: Stage) -> None:
    Worker(stage).finish("a", output=Output(42))


def fails(stage: Stage) -> None:
    Worker(stage).fail("a")


def times_out(stage: Stage) -> None:
    Worker(stage).finish("a", "timeout", output=BOOM)


def overruns_its_deadline(stage: Stage) -> None:
    Worker(stage).finish("a", "deadline", output=BOOM)


def waits_beyond_its_deadline(stage: Stage) -> None:
    stage.pass_time(100)


def expires(stage: Stage) -> None:
    stage.pass_time(50)


def is_cancelled_before_it_runs(stage: Stage) -> None:
    stage.cancel("a")


def is_cancelled_while_it_runs(stage: Stage) -> None:
    worker = Worker(stage)
    stage.cancel("a")
    worker.finish("a", "cancelled")


def does_not_confirm_its_cancel(stage: Stage) -> None:
    Worker(stage)
    stage.cancel("a", grace=5)
    stage.pass_time(5)


def loses_its_worker(stage: Stage) -> None:
    Worker(stage).vanish()


def is_withdrawn(stage: Stage) -> None:
    stage.ask(m.Withdraw, 0, ("a",), 0.0)


def is_one_of_many_that_are_cancelled(stage: Stage) -> None:
    stage.bulk("cancel", build_filter(ids=["a"]))


def ends_with_its_block(stage: Stage) -> None:
    stage.ask(m.EndScope, "block", 0.0)


ENDS = [
    (succeeds, SUCCESS),
    (fails, FAILURE),
    (times_out, FAILURE),
    (overruns_its_deadline, FAILURE),
    (waits_beyond_its_deadline, FAILURE),
    (expires, FAILURE),
    (is_cancelled_before_it_runs, CANCELLED),
    (is_cancelled_while_it_runs, CANCELLED),
    (does_not_confirm_its_cancel, CANCELLED),
    (loses_its_worker, FAILURE),
    (is_withdrawn, CANCELLED),
    (is_one_of_many_that_are_cancelled, CANCELLED),
    (ends_with_its_block, CANCELLED),
]


@pytest.mark.parametrize(("ends", "status"), ENDS)
def test_a_callback_is_submitted_in_the_commit_that_ends_its_task(
    ends: Callable[[Stage], None], status: TaskStatus
) -> None:
    stage, data = Ledgered(), object()
    deadline = {"deadline": 100} if ends is waits_beyond_its_deadline else {"expires": 50}
    stage.submit(with_callback("a", data=data, scope="block", max_deliveries=1, **deadline))

    ends(stage)

    done = stage.done(stage.callback)
    assert stage.status("a") is status
    assert (done.call, done.head, done.output) == ("call of report", stage.head(), stage.output())
    assert done.data is data
    commit = next(commit for commit in stage.commits if stage.callback.id in commit)
    assert commit["a"] == stage.head("a")


def test_a_task_that_will_run_again_calls_nobody_back() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback(retry=STEADY))

    worker.fail()
    stage.pass_time(10)
    worker.vanish()
    worker.finish("a", "later", output=BOOM)

    assert stage.status() is SCHEDULED
    assert stage.callbacks() == []


def test_a_task_without_a_callback_is_followed_by_nothing() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(task("a", callback_data="nobody's"))

    worker.finish("a")

    assert stage.records.keys() == {"a"}


# --- a task like any other -----------------------------------------------------------------------


def test_a_callback_gets_a_free_slot_in_the_step_that_submits_it() -> None:
    stage = Ledgered()
    worker = Worker(stage, 2)
    stage.submit(with_callback())

    worker.finish("a")

    assert worker.log == ["a", stage.callback.id]
    grant = worker.grants[stage.callback.id]
    assert (grant.head.name, grant.body) == ("report", stage.done(stage.callback))


def test_a_callback_waits_for_its_turn_behind_what_was_there_before() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback("a"), task("b"), task("c", priority="low"))

    worker.finish("a")
    worker.finish("b")

    assert worker.log == ["a", "b", stage.callback.id]


def test_a_callback_has_its_own_options_and_pool() -> None:
    stage = Ledgered()
    worker = Worker(stage, 1, 1)
    follow = replace(reporting(queue="reports", priority="high", timeout=5), pool="process")
    stage.submit(with_callback(follow=follow, queue="images"))

    worker.finish("a")

    callback = stage.callback
    assert (callback.options, callback.pool, callback.status) == (
        follow.options,
        "process",
        RUNNING,
    )


def test_a_callback_with_a_delay_is_scheduled() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback(follow=reporting(delay=5)))
    worker.finish("a")
    assert stage.callback.status is SCHEDULED

    stage.pass_time(5.1)

    assert stage.callback.status is RUNNING


def test_a_callback_that_expires_ends_like_any_task() -> None:
    stage = Ledgered()
    stage.submit(with_callback(follow=reporting(expires=5)))
    stage.cancel()

    stage.pass_time(5.1)

    assert stage.callback.status is FAILURE
    assert stage.left() == {}


def test_a_callback_needs_no_room_in_a_full_queue() -> None:
    stage = Ledgered(max_pending=1)
    worker = Worker(stage)
    stage.submit(with_callback("a"))
    stage.submit(task("b", delay=5))
    parked = stage.submit(task("c"))

    worker.finish("a")

    assert stage.callback.status is RUNNING
    assert not parked.answered


def test_a_callback_is_owned_by_no_block() -> None:
    stage = Ledgered()
    stage.submit(with_callback(scope="block"))

    leaving = stage.ask(m.EndScope, "block", 5.0)

    assert leaving.answered
    assert (stage.callback.scope, stage.callback.status) == (None, PENDING)


def test_nobody_is_told_how_a_callback_ends_who_did_not_ask() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    worker.finish("a")

    worker.finish(stage.callback.id)

    assert stage.outcomes() == [("a", SUCCESS)]


def test_joining_waits_for_callbacks_too() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    join = stage.ask(m.Join)

    worker.finish("a")
    assert not join.answered
    worker.finish(stage.callback.id)

    assert join.answered
    assert stage.left() == {}


def test_a_callback_is_retried_as_its_own_policy_says() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback(follow=reporting(retry=STEADY)))
    worker.finish("a", output=Output(42))

    worker.fail(stage.callback.id)
    stage.pass_time(10)
    worker.finish(stage.callback.id)

    assert (stage.callback.status, stage.callback.attempts) == (SUCCESS, 2)


def test_a_callback_that_fails_leaves_the_first_task_as_it_was() -> None:
    stage = Ledgered()
    worker = Worker(stage, 2)
    stage.submit(with_callback("a"), with_callback("b"))
    worker.finish("a", output=Output(42))
    worker.finish("b")
    before = replace(stage.records["a"])
    failing, other = stage.callbacks()

    worker.fail(failing.id)
    worker.finish(other.id)

    assert stage.records["a"] == before
    assert [head.status for head in stage.callbacks()] == [FAILURE, SUCCESS]


def test_the_callback_of_a_callback_gets_the_outcome_of_the_callback() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    last = replace(REPORT, name="last", call="call of last")
    options = TaskOptions().with_callback(last, "inner")
    stage.submit(with_callback(follow=replace(REPORT, options=options), data="outer"))
    worker.finish("a")
    middle = stage.callback

    worker.fail(middle.id)

    [done] = [stage.done(head) for head in stage.callbacks() if head.name == "last"]
    assert (done.call, done.data, done.output) == ("call of last", "inner", BOOM)
    assert done.head == stage.head(middle.id)
    assert done.head.status is FAILURE


def test_subscribers_are_told_of_the_end_and_then_of_the_callback() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    stage.ask(m.Subscribe, 1, Filter())

    worker.finish("a")

    [news] = [message for message in stage.inbox[CLIENT] if isinstance(message, m.News)]
    told = [(event.kind, event.id) for event in news.events]
    assert told == [("ended", "a"), ("submitted", stage.callback.id)]


def test_the_outcome_reaches_its_waiter_in_the_same_step() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    grant = worker.grants["a"]

    effects: Sequence[Effect] = stage.step(
        worker.connection, [m.Finish("a", grant.head.fence, "ok", Output(), stage.now)]
    )

    assert {effect.id for effect in effects if isinstance(effect, Write)} > {"a"}
    assert any(isinstance(e, Send) and isinstance(e.message, m.Outcome) for e in effects)


# --- ids -----------------------------------------------------------------------------------------


def test_every_callback_has_an_id_of_its_own() -> None:
    stage = Ledgered()
    stage.submit(*(with_callback(f"{number:03}") for number in range(100)))
    stage.bulk("cancel")
    stage.pass_time(0.001)
    stage.submit(*(with_callback(f"{number:03}") for number in range(100, 200)))
    stage.bulk("cancel", build_filter(task="job"))

    assert len(stage.callbacks()) == 200


def test_whoever_is_the_owner_the_callback_of_one_run_has_one_id() -> None:
    """So a record of it that was refused, or written with an unknown outcome, is known again."""
    ids = set()
    for tail in ("1" * 16, "2" * 16):
        machine = QueueMachine(tail=tail)
        machine.step(1, [m.Submit(1, (with_callback("a"),))], 100.0)
        effects = machine.step(1, [m.Withdraw(2, 1, ("a",), 0.0)], 100.0)
        ids |= {effect.id for effect in effects if isinstance(effect, Write)}

    assert len(ids) == 2


def test_a_callback_that_cannot_be_kept_does_not_cost_the_outcome() -> None:
    stage = Ledgered()
    stage.submit(with_callback("a"))
    head = stage.head("a")
    stage.machine.refuse(derived(f"callback of a {head.since!r}", head.since), "no")
    stage.cancel("a")

    assert stage.head("a").status is TaskStatus.CANCELLED
    assert stage.callbacks() == []


def test_a_callback_that_waits_survives_the_owner() -> None:
    stage = Ledgered()
    stage.submit(with_callback(data="data"))
    stage.cancel()
    first = stage.callback

    stage.crash()
    worker = Worker(stage, at=200)

    assert worker.log == [first.id]
    assert worker.grants[first.id].body == stage.done(first)
    worker.finish(first.id)
    assert stage.callbacks() == [stage.head(first.id)]


def test_an_end_that_was_recorded_is_not_followed_up_again_by_the_next_owner() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    finish = worker.finish("a")

    stage.crash()
    worker.unanswered["a", finish.fence] = finish  # its answer was lost
    worker.connect(200)

    assert len(stage.callbacks()) == 1


# --- the retry verb ------------------------------------------------------------------------------


def test_a_failed_callback_can_be_retried_with_the_same_outcome() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    worker.finish("a", output=Output(42))
    id, done = stage.callback.id, stage.done(stage.callback)
    worker.fail(id)

    assert stage.bulk("retry", build_filter(task="report")).value == 1

    assert worker.grants[id].body == done
    worker.finish(id)
    assert stage.callback.status is SUCCESS


def test_a_task_that_is_retried_calls_back_at_the_end_of_each_run() -> None:
    stage = Ledgered()
    worker = Worker(stage, 2)
    stage.submit(with_callback())
    worker.fail("a")

    stage.bulk("retry", build_filter(ids=["a"]))
    worker.finish("a")

    statuses = [stage.done(head).head.status for head in stage.callbacks()]
    assert statuses == [FAILURE, SUCCESS]


# --- closing -------------------------------------------------------------------------------------


def nested(depth: int) -> Follow:
    follow = REPORT
    for _ in range(depth):
        follow = replace(REPORT, options=TaskOptions().with_callback(follow, None))
    return follow


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_callbacks_of_what_is_ended_by_closing_are_ended_too(depth: int) -> None:
    stage = Ledgered()
    stage.submit(with_callback("a", follow=nested(depth)), with_callback("b"))

    close = stage.ask(m.Close, True, 5.0)

    assert len(close.replies) == 1
    assert {head.status for head in stage.callbacks()} == {CANCELLED}
    assert len(stage.callbacks()) == depth + 2
    assert {head.cancel.by for head in stage.callbacks() if head.cancel} == {"shutdown"}
    assert stage.left() == {}


def test_a_callback_of_what_is_still_running_when_the_system_closes_is_ended_too() -> None:
    stage = Ledgered()
    worker = Worker(stage, 2)
    stage.submit(with_callback())
    close = stage.ask(m.Close, True, 5.0)
    assert not close.answered

    worker.finish("a", output=Output(42))

    assert len(close.replies) == 1
    assert (stage.status("a"), stage.callback.status) == (SUCCESS, CANCELLED)
    assert worker.log == ["a"]


def test_draining_starts_no_callback_and_does_not_wait_for_one() -> None:
    stage = Ledgered()
    worker = Worker(stage)
    stage.submit(with_callback())
    drain = stage.ask(m.Close, False, 0.0)

    worker.finish("a")

    assert drain.answered
    assert (stage.callback.status, worker.log) == (PENDING, ["a"])
    assert stage.ask(m.Close, True, 0.0).answered
    assert stage.left() == {}
