"""Slots and windows by themselves, then what they do to tasks; at random: test_limits_model.py."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.machines.limits import BUCKETS, Gates, Starts, add_start
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import Limit, Retry
from actorq.model.records import Note, Window
from actorq.model.status import FAILURE, PENDING, RUNNING, SCHEDULED, TaskStatus
from tests.machines.stage import MORNING, Stage, Worker, task


class Clock:
    """Says what time it is to be."""

    def __init__(self, now: float = MORNING) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def limited(id: str = "a", limit: Limit | None = None, **options: Any) -> m.Submission:
    return task(id, limit=limit or Limit("k", concurrency=1), **options)


def statuses(stage: Stage, *ids: str) -> list[TaskStatus]:
    return [stage.status(id) for id in ids]


# --- windows -------------------------------------------------------------------------------------


def test_as_many_starts_as_there_are_buckets_are_kept_exactly() -> None:
    starts: Starts = []

    for n in range(BUCKETS):
        add_start(starts, float(n))

    assert starts == [(float(n), 1) for n in range(BUCKETS)]


def test_starts_of_one_moment_share_a_bucket() -> None:
    starts: Starts = []

    for _ in range(1_000):
        add_start(starts, 7.0)

    assert starts == [(7.0, 1_000)]


@given(st.lists(st.floats(0, 10), max_size=100))
def test_no_start_is_forgotten_or_kept_as_earlier_than_it_was(gaps: list[float]) -> None:
    starts: Starts = []
    times: list[float] = []
    for gap in gaps:
        times.append(gap + (times[-1] if times else 0.0))
        add_start(starts, times[-1])

    assert len(starts) <= BUCKETS
    assert sum(number for _, number in starts) == len(times)
    for when in times:
        kept = sum(number for at, number in starts if at >= when)
        assert kept >= sum(at >= when for at in times)


@given(
    rate=st.integers(1, 60),
    per=st.sampled_from([0.5, 1.0, 60.0]),
    waits=st.lists(st.floats(0, 3), min_size=1, max_size=150),
)
def test_no_window_ever_holds_more_than_the_rate(rate: int, per: float, waits: list[float]) -> None:
    clock = Clock()
    gates = Gates[str](clock)
    limit = Limit("k", rate=rate, per=per)
    times: list[float] = []

    for wait in waits:
        clock.now += wait * per / rate
        if not gates.closed(limit):
            gates.enter(limit, str(len(times)))
            times.append(clock.now)

    for first, last in zip(times, times[rate:], strict=False):
        assert last >= first + per


@pytest.mark.parametrize("spacing", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("rate", [1, 10, 16, 100, 1_000])
def test_a_steady_stream_gets_nearly_all_of_its_rate(rate: int, spacing: float) -> None:
    clock = Clock()
    gates = Gates[str](clock)
    limit = Limit("k", rate=rate, per=10)
    started = 0

    while clock.now < MORNING + 100:
        if gates.closed(limit):
            clock.now = gates.opens(limit)
        gates.enter(limit, str(started))
        started += 1
        clock.now += spacing * 10 / rate

    assert started >= (10 if rate <= BUCKETS else 9) * rate


def test_a_start_is_over_just_when_the_alarm_says_so() -> None:
    clock = Clock(1_700_000_000.1)
    gates = Gates[str](clock)
    limit = Limit("k", rate=1, per=0.3)
    gates.enter(limit, "a")
    assert gates.closed(limit)

    gates.wait(limit, "somebody")
    alarm = gates.alarms.next()
    assert alarm is not None
    clock.now = alarm

    assert gates.due() == ["somebody"]


def test_a_clock_that_is_set_back_closes_a_window_for_no_longer_than_it_is() -> None:
    clock = Clock()
    gates = Gates[str](clock)
    limit = Limit("k", rate=2, per=60)
    gates.load("k", Window(((MORNING, 1), (MORNING + 5, 1)), 60.0))
    clock.now = MORNING - 10_000

    assert gates.opens(limit) == clock.now + 60
    assert gates.notes() == [Note("limit", "k", Window(((clock.now, 2),), 60.0))]
    clock.now += 60
    assert not gates.closed(limit)


def test_a_clock_that_jumps_ahead_takes_the_windows_along() -> None:
    clock = Clock()
    gates = Gates[str](clock)
    limit = Limit("k", rate=1, per=60)
    gates.enter(limit, "a")
    clock.now += 3_600

    gates.shift(3_600)

    assert gates.opens(limit) == clock.now + 60
    assert gates.notes() == [Note("limit", "k", Window(((clock.now, 1),), 60.0))]


# --- slots ---------------------------------------------------------------------------------------


def test_no_more_tasks_of_a_key_run_than_its_limit_says() -> None:
    stage = Stage()
    two = Limit("k", concurrency=2)
    stage.submit(*(limited(id, two) for id in "abcd"))

    worker = Worker(stage, 10)
    assert worker.log == ["a", "b"]

    worker.finish("b")
    assert worker.log == ["a", "b", "c"]
    worker.finish("a")
    worker.finish("c")
    assert worker.log == ["a", "b", "c", "d"]


def test_a_limit_holds_across_workers_queues_and_names() -> None:
    stage = Stage()
    workers = [Worker(stage, 5, 5, name=f"{n}.0", at=100 + n) for n in range(3)]

    stage.submit(
        limited("a"), limited("b", name="other"), limited("c", queue="other"),
        limited("d", pool="process"), limited("e", priority="high"),
    )  # fmt: skip

    assert [worker.log for worker in workers if worker.log] == [["e"]]
    assert sorted(s for s in statuses(stage, *"abcde")) == [PENDING] * 4 + [RUNNING]


def test_keys_are_apart() -> None:
    stage = Stage()
    worker = Worker(stage, 5)

    stage.submit(*(limited(id, Limit(f"k{n}", concurrency=1)) for n, id in enumerate("abc")))

    assert worker.log == ["a", "b", "c"]


def test_a_lone_submit_waits_for_its_limit_too() -> None:
    stage = Stage()
    worker = Worker(stage, 5)

    for id in "ab":
        stage.submit(limited(id))

    assert worker.log == ["a"]


def test_tasks_that_wait_for_their_limit_hold_up_nobody() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    stage.submit(*(limited(f"a{n}") for n in range(100)))

    stage.submit(task("b"), limited("c", Limit("other", rate=5)))
    stage.submit(task("d", name="other"))

    assert worker.log == ["a0", "b", "c"]
    worker.finish("b")
    assert worker.log == ["a0", "b", "c", "d"]


@pytest.mark.parametrize(
    ("cause", "left"),
    [
        ("ok", "success"), ("failed", "failure"), ("later", "scheduled"),
        ("handed back", "pending"), ("lost", "pending"),
    ],
)  # fmt: skip
def test_a_slot_is_free_when_its_grant_has_ended_however(cause: m.FinishCause, left: str) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(limited("a", priority="low"), limited("b"), limited("c"))
    assert worker.log == ["b"]

    worker.finish("b", cause, delay=5.0)

    assert worker.log == ["b", "b" if left == "pending" else "c"]
    running = [id for id in "abc" if stage.status(id) is RUNNING]
    assert running == worker.log[-1:]


def test_a_lost_worker_frees_the_slots_of_its_tasks_once() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a", max_deliveries=1), limited("b"), limited("c"))
    assert worker.log == ["a"]

    worker.vanish()

    assert stage.status("a") is FAILURE
    assert worker.log == ["a", "b"]
    worker.finish("b")
    assert worker.log == ["a", "b", "c"]


def test_a_task_that_is_delivered_once_at_most_frees_its_slot_when_its_worker_is_lost() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(limited("a", at_most_once=True), limited("b"))

    worker.vanish()

    assert worker.log == ["a", "b"]


def test_a_grant_that_never_arrived_frees_its_slot() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(limited("a"), limited("b"))
    worker.grants.clear()

    worker.connect(101)

    assert worker.log == ["a", "a"]
    worker.finish("a")
    assert worker.log == ["a", "a", "b"]


def test_a_cancelled_task_keeps_its_slot_until_it_has_stopped() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a"), limited("b"))

    stage.cancel("a", grace=10)
    assert worker.log == ["a"]
    worker.finish("a", "cancelled")

    assert worker.log == ["a", "b"]


def test_a_cancelled_task_whose_worker_says_nothing_keeps_its_slot_for_its_grace() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a"), limited("b"))
    stage.cancel("a", grace=10)

    stage.pass_time(10)

    assert worker.log == ["a", "b"]


def test_slots_survive_a_restart_of_the_owner() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a"), limited("b"))
    stage.crash()

    worker.connect(101)
    assert worker.log == ["a"]

    worker.finish("a")
    assert worker.log == ["a", "b"]


def test_a_task_that_backs_off_holds_no_slot_and_waits_for_one_again() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a", retry=Retry(attempts=2, delay=5, jitter=0)), limited("b"))

    worker.fail("a")
    assert (worker.log, stage.status("a")) == (["a", "b"], SCHEDULED)
    stage.pass_time(6)
    assert worker.log == ["a", "b"]

    worker.finish("b")
    assert worker.log == ["a", "b", "a"]


def test_each_task_of_a_key_is_judged_by_its_own_numbers() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    one, three = Limit("k", concurrency=1), Limit("k", concurrency=3)

    stage.submit(limited("a", one), limited("b", one), limited("c", three), limited("d", three))
    assert worker.log == ["a", "c", "d"]
    stage.submit(limited("e", three))

    worker.finish("a")
    assert worker.log == ["a", "c", "d", "e"]
    for id in "cde":
        assert stage.status("b") is PENDING
        worker.finish(id)
    assert worker.log == ["a", "c", "d", "e", "b"]


def test_a_task_that_is_cancelled_while_it_waits_for_its_limit_leaves_nothing() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(limited("a"), limited("b"))

    stage.cancel("b")
    worker.finish("a")

    assert stage.left() == {}


def test_a_task_that_is_too_late_frees_the_way_for_the_next_of_its_limit() -> None:
    stage = Stage()
    stage.submit(limited("a", expires=5), limited("b", expires=5), limited("c"))
    stage.now += 6  # and no alarm yet

    worker = Worker(stage, 2)

    assert worker.log == ["c"]
    assert statuses(stage, "a", "b") == [FAILURE, FAILURE]


def test_a_name_alone_waits_for_its_limit_once_it_is_known_what_it_is() -> None:
    stage = Stage()
    stage.submit(*(limited(id, name="f", pool="any") for id in "ab"))

    worker = Worker(stage, 3, tasks=["f"])

    assert worker.log == ["a"]
    worker.finish("a")
    assert worker.log == ["a", "b"]


def test_a_decorators_limit_holds_for_a_name_alone() -> None:
    stage = Stage()
    declared = {"f": m.Declared("main", limited().options)}
    stage.submit(*(task(id, name="f", pool="any") for id in "ab"))

    worker = Worker(stage, 3, tasks=["f"], declared=declared)

    assert worker.log == ["a"]


# --- rates ---------------------------------------------------------------------------------------


def test_no_more_tasks_of_a_key_start_in_any_window_than_its_rate() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    rate = Limit("k", rate=2, per=10)

    stage.submit(limited("a", rate))
    stage.pass_time(6)
    stage.submit(*(limited(id, rate) for id in "bcde"))
    assert worker.log == ["a", "b"]

    stage.pass_time(3.9)
    assert worker.log == ["a", "b"]
    stage.pass_time(0.1)
    assert worker.log == ["a", "b", "c"]
    stage.pass_time(6)
    assert worker.log == ["a", "b", "c", "d"]
    stage.pass_time(4)
    assert worker.log == ["a", "b", "c", "d", "e"]


def test_an_end_gives_nothing_back_to_a_window() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    stage.submit(*(limited(id, Limit("k", rate=1, per=60)) for id in "ab"))

    worker.finish("a")
    stage.pass_time(59)
    assert worker.log == ["a"]

    stage.pass_time(1)
    assert worker.log == ["a", "b"]


def test_a_retry_is_a_start_as_any_other() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    rate = Limit("k", rate=1, per=60)
    stage.submit(limited("a", rate, retry=Retry(attempts=2, delay=0, jitter=0)))

    worker.fail("a")
    stage.pass_time(59)
    assert worker.log == ["a"]

    stage.pass_time(1)
    assert worker.log == ["a", "a"]


def test_the_window_of_a_key_is_stored_with_the_grant() -> None:
    stage = Stage()
    Worker(stage, 10)

    stage.submit(*(limited(id, Limit("k", rate=5, per=60)) for id in "ab"))

    notes = [effect for effect in stage.last if isinstance(effect, Note)]
    assert notes == [Note("limit", "k", Window(((MORNING, 2),), 60.0))]


def test_a_window_survives_a_restart_of_the_owner() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    rate = Limit("k", rate=1, per=60)
    stage.submit(limited("a", rate))
    worker.finish("a")
    stage.crash()

    worker.connect(101)
    stage.submit(limited("b", rate))
    stage.pass_time(59)
    assert worker.log == ["a"]

    stage.pass_time(1)
    assert worker.log == ["a", "b"]


def test_a_window_that_is_over_is_forgotten_when_nothing_of_its_key_is_live() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    stage.submit(limited("a", Limit("k", rate=1, per=60)))
    worker.finish("a")
    assert stage.notes.keys() == {("limit", "k")}

    stage.pass_time(60)

    assert stage.notes == {}
    assert stage.left() == {}
    assert stage.machine.next_deadline() is None


def test_a_window_that_is_over_is_forgotten_after_a_restart_too() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    stage.submit(limited("a", Limit("k", rate=1, per=60)))
    worker.finish("a")
    stage.crash()

    stage.pass_time(60)

    assert stage.notes == {}
    assert stage.left() == {}


def test_a_window_that_is_over_is_forgotten_when_the_last_task_of_its_key_ends() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    stage.submit(limited("a", Limit("k", rate=1, per=60)))
    stage.pass_time(100)
    assert stage.notes.keys() == {("limit", "k")}

    worker.finish("a")

    assert stage.notes == {}
    assert stage.left() == {}


def test_a_stall_of_the_owner_lets_no_more_start_than_the_rate() -> None:
    stage = Stage()
    worker = Worker(stage, 10, leased=True)
    stage.submit(*(limited(id, Limit("k", rate=1, per=60)) for id in "ab"))

    stage.stall(60)  # or its clock was set
    worker.beat()
    stage.tick()

    assert worker.log == ["a"]


@pytest.mark.parametrize("leased", [False, True])
def test_a_clock_that_is_set_ahead_lets_no_more_start_than_the_rate(*, leased: bool) -> None:
    stage = Stage()
    worker = Worker(stage, 10, leased=leased)
    stage.submit(*(limited(id, Limit("k", rate=1, per=60)) for id in "ab"))

    stage.set_ahead(3_600)
    stage.tick()
    stage.submit(limited("c", Limit("k", rate=1, per=60)))
    assert worker.log == ["a"]

    until = stage.now + 60
    while stage.now < until - 0.5:
        stage.pass_time(1)
        worker.beat()
        assert worker.log == (["a"] if stage.now < until else ["a", "b"])
    assert worker.log == ["a", "b"]


def test_a_clock_that_is_set_ahead_is_told_where_somebody_may_run_out_of_time() -> None:
    alone, watched = Stage(), Stage()
    Worker(alone, 1)
    worker = Worker(watched, 1, leased=True)
    watched.submit(task("a"))

    for stage in (alone, watched):
        stage.set_ahead(3_600)
        stage.say(0, m.Tick())

    assert alone.told(EventKind.OWNER_STALLED) == []
    assert watched.told(EventKind.OWNER_STALLED) == [{"seconds": 3_600}]
    watched.pass_time(14)
    assert watched.told(EventKind.WORKER_LOST) == []
    worker.beat()
    watched.pass_time(16)
    assert len(watched.told(EventKind.WORKER_LOST)) == 1


def test_a_limit_may_have_both_numbers() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    both = Limit("k", concurrency=1, rate=2, per=60)
    stage.submit(*(limited(id, both) for id in "abc"))
    assert worker.log == ["a"]

    worker.finish("a")
    assert worker.log == ["a", "b"]
    worker.finish("b")
    assert worker.log == ["a", "b"]
    stage.pass_time(60)
    assert worker.log == ["a", "b", "c"]


def test_a_task_without_a_rate_is_no_start_for_those_that_have_one() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    stage.submit(limited("a", Limit("k", concurrency=5)))

    stage.submit(limited("b", Limit("k", rate=1, per=60)))

    assert worker.log == ["a", "b"]


def test_a_rate_of_a_longer_time_sees_what_one_of_a_shorter_time_has_started() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    short, long = Limit("k", rate=5, per=1), Limit("k", rate=1, per=60)
    stage.submit(limited("a", long), limited("b", short))
    stage.pass_time(30)

    stage.submit(limited("c", short), limited("d", long))
    assert worker.log == ["a", "b", "c"]

    stage.pass_time(59)
    assert worker.log == ["a", "b", "c"]
    stage.pass_time(1)
    assert worker.log == ["a", "b", "c", "d"]


def test_starts_are_kept_for_as_long_as_matters_to_anybody_who_waits() -> None:
    stage = Stage()
    worker = Worker(stage, 10)
    short = Limit("k", rate=5, per=1, concurrency=1)
    long = Limit("k", rate=2, per=60, concurrency=1)
    stage.submit(limited("a", short))
    stage.pass_time(10)
    stage.submit(limited("b", short, priority="high"), limited("c", long))
    worker.finish("a")
    stage.pass_time(10)

    worker.finish("b")

    assert worker.log == ["a", "b"]
    stage.pass_time(39)
    assert worker.log == ["a", "b"]
    stage.pass_time(1)
    assert worker.log == ["a", "b", "c"]


# --- many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [{"concurrency": 1}, {"rate": 1, "per": 1_000.0}])
def test_thousands_of_closed_limits_are_not_looked_at_by_each_grant(
    numbers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count()
    closed = Gates.closed

    def counting(gates: Gates[Any], limit: Limit) -> bool:
        next(looks)
        return closed(gates, limit)

    monkeypatch.setattr(Gates, "closed", counting)
    stage = Stage()
    worker = Worker(stage, 2_001)
    stage.submit(*(limited(f"{n:04}", Limit(f"k{n % 2_000}", **numbers)) for n in range(4_000)))
    assert len(worker.log) == 2_000
    before = next(looks)

    for n in range(100):
        stage.submit(task(f"free{n}"))
        worker.finish(f"free{n}")

    assert len(worker.log) == 2_100
    assert next(looks) == before + 1


def test_a_window_that_has_run_out_is_dropped_by_itself() -> None:
    """Nobody has to submit anything for that; its note goes too."""
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a", limit=Limit("key", rate=2, per=60)))
    worker.finish("a")
    assert stage.left() == {"gates": 1}

    stage.pass_time(60)

    assert (stage.left(), stage.notes) == ({}, {})
