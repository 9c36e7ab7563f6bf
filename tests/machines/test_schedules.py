from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.errors import ScheduleNotFound, SubmitError
from actorq.machines import schedules as module
from actorq.machines.effects import Outbox
from actorq.machines.schedules import LATE_MAX, TICKS_MAX, Schedules
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import TaskOptions
from actorq.model.records import Note, Write
from actorq.model.results import CatchUp, Overlap, ScheduleInfo
from actorq.model.schedules import Cron, Every, Schedule, moment, tick_id
from actorq.model.status import TaskStatus
from tests.machines.stage import MORNING, Stage, Worker, task

MINUTE = 60.0


def schedule(name: str = "nightly", **fields: Any) -> Schedule:
    usual: dict[str, Any] = {
        "timing": Every(MINUTE),
        "task": "job",
        "pool": "main",
        "options": TaskOptions(),
        "body": b"call",
    }
    return Schedule(name, **usual | fields)


def declare(stage: Stage, name: str = "nightly", **fields: Any) -> None:
    assert stage.ask(m.Declare, schedule(name, **fields)).value is None


def control(stage: Stage, verb: m.ScheduleVerb, name: str = "nightly", **fields: Any) -> Any:
    return stage.ask(lambda number: m.ControlSchedule(number, name, verb, **fields)).value


def infos(stage: Stage) -> dict[str, ScheduleInfo]:
    found: dict[str, ScheduleInfo] = stage.ask(m.GetSchedules).value
    return found


def minute(number: int, name: str = "nightly") -> str:
    """Return the id of the tick so many minutes after the beginning."""
    return tick_id(name, MORNING + number * MINUTE)


def submitted(stage: Stage) -> list[str]:
    """Return the ids of all records, in order."""
    return sorted(stage.records)


def minutes(*numbers: int) -> list[str]:
    return [minute(number) for number in numbers]


def away(stage: Stage, seconds: float) -> None:
    """Have no owner for some time."""
    stage.crash()
    stage.stall(seconds)
    stage.tick()


# --- ticks ---------------------------------------------------------------------------------------


def test_a_task_is_submitted_at_each_nominal_time() -> None:
    stage = Stage()
    declare(stage, overlap="queue")

    stage.pass_time(59.0)
    assert submitted(stage) == []
    stage.pass_time(1.0)
    assert submitted(stage) == minutes(1)
    stage.pass_time(120.0)
    assert submitted(stage) == minutes(1, 2, 3)


def test_a_tick_is_what_was_declared_and_says_what_it_is() -> None:
    stage = Stage()
    worker = Worker(stage, process=1)
    options = TaskOptions(queue="nights", priority="high", meta={"by": "me"})
    declare(stage, pool="process", options=options, body=b"body")

    stage.pass_time(MINUTE)

    grant = worker.grants[minute(1)]
    head = grant.head
    assert (head.name, head.pool, grant.body) == ("job", "process", b"body")
    assert (head.options.queue, head.options.priority) == ("nights", 2)
    when = datetime.fromtimestamp(MORNING + MINUTE, UTC).isoformat()
    assert head.options.meta == {"by": "me", "schedule": "nightly", "tick": when}
    assert options.meta == {"by": "me"}


def test_a_tick_and_the_cursor_are_one_commit() -> None:
    stage = Stage()
    declare(stage)

    stage.pass_time(MINUTE)

    (write,) = [effect for effect in stage.last if isinstance(effect, Write)]
    (note,) = [effect for effect in stage.last if isinstance(effect, Note)]
    assert write.id == minute(1)
    assert isinstance(note.value, Schedule)
    assert (note.value.cursor, note.value.last) == (MORNING + MINUTE, minute(1))


def test_a_cron_ticks_at_its_times() -> None:
    stage = Stage()  # at 22:13:20
    declare(stage, timing=Cron("30 22 * * *"))

    stage.pass_time(86_400.0)

    (found,) = submitted(stage)
    assert found == tick_id("nightly", datetime(2023, 11, 14, 22, 30, tzinfo=UTC).timestamp())


def test_schedules_do_not_mind_each_other() -> None:
    stage = Stage()
    declare(stage, "a", timing=Every(60))
    declare(stage, "b", timing=Every(90))

    stage.pass_time(90.0)

    assert submitted(stage) == [tick_id("a", MORNING + 60), tick_id("b", MORNING + 90)]


def test_a_tick_needs_no_room() -> None:
    stage = Stage(max_pending=1)
    declare(stage, overlap="queue")
    stage.submit(task("a"))

    stage.pass_time(3 * MINUTE)

    assert submitted(stage) == [*minutes(1, 2, 3), "a"]


def test_nothing_ticks_while_the_system_closes() -> None:
    stage = Stage()
    declare(stage)
    stage.ask(lambda number: m.Close(number, cancel=True, grace=0.0))

    stage.pass_time(5 * MINUTE)

    assert submitted(stage) == []
    assert stage.machine.next_deadline() is None


def test_a_schedule_takes_no_space_among_the_tables() -> None:
    stage = Stage()
    worker = Worker(stage)
    declare(stage)
    stage.pass_time(MINUTE)

    worker.finish(minute(1))

    assert stage.left() == {}


def test_a_tick_that_the_store_cannot_keep_is_dropped_and_no_other() -> None:
    stage = Stage()
    declare(stage, overlap="queue")
    stage.machine.refuse(minute(1), "its call is too large")

    stage.pass_time(2 * MINUTE)

    assert submitted(stage) == minutes(2)
    (dropped,) = stage.told(EventKind.TICK_DROPPED)
    assert dropped["why"] == "its call is too large"


def learnt(stage: Stage, *schedules: Schedule) -> None:
    Worker(stage, declared={s.name: m.Declared(s.pool, s.options, s) for s in schedules})


def test_a_schedule_of_a_worker_that_the_store_cannot_keep_hides_no_other() -> None:
    stage = Stage()
    stage.machine.refuse("schedule b", "its call is too large")

    learnt(stage, schedule("a"), schedule("b"), schedule("c"))

    assert list(infos(stage)) == ["a", "c"]
    assert [(event["schedule"], event["why"]) for event in stage.told(EventKind.TICK_DROPPED)] == [
        ("b", "its call is too large")
    ]


def test_where_there_is_no_room_for_schedules_of_a_worker_those_that_are_there_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SCHEDULES_MAX", 2)
    stage = Stage()
    declare(stage, "a")
    declare(stage, "z")
    stage.machine.refuse("schedule y", "its call is too large")

    names = ("b", "y", "c", "z")
    learnt(stage, *(schedule(name, timing=Every(30.0)) for name in names))

    assert {name: info.timing for name, info in infos(stage).items()} == {
        "a": str(Every(MINUTE)), "z": str(Every(30.0)),
    }  # fmt: skip
    told = stage.told(EventKind.TICK_DROPPED)
    assert [event["schedule"] for event in told] == ["b", "y"]
    assert "no room for more" in told[0]["why"]


# --- overlap -------------------------------------------------------------------------------------


def test_a_tick_is_dropped_while_the_task_of_the_last_one_is_live() -> None:
    stage = Stage()
    worker = Worker(stage)
    declare(stage, overlap="skip")
    stage.pass_time(3 * MINUTE)
    assert submitted(stage) == minutes(1)

    worker.finish(minute(1))
    stage.pass_time(MINUTE)

    assert submitted(stage) == minutes(1, 4)
    dropped = stage.told(EventKind.TICK_DROPPED)
    assert [event["tick"] for event in dropped] == [
        moment(MORNING + number * MINUTE).isoformat() for number in (2, 3)
    ]
    assert dropped[0]["schedule"] == "nightly"
    assert dropped[0]["why"] == f"{minute(1)} is still live"


def test_a_tick_is_dropped_while_the_last_one_is_live_after_a_crash_too() -> None:
    stage = Stage()
    declare(stage)
    stage.pass_time(MINUTE)

    stage.crash()
    stage.pass_time(MINUTE)

    assert submitted(stage) == minutes(1)


def test_ticks_overlap_if_they_may() -> None:
    stage = Stage()
    declare(stage, overlap="queue")

    stage.pass_time(3 * MINUTE)

    assert submitted(stage) == minutes(1, 2, 3)


# --- catching up ---------------------------------------------------------------------------------


def test_only_the_last_tick_is_made_up_for() -> None:
    stage = Stage()
    declare(stage, overlap="queue")

    away(stage, 3 * MINUTE + 30)

    assert submitted(stage) == minutes(3)
    stage.pass_time(30.0)
    assert submitted(stage) == minutes(3, 4)


def test_no_tick_is_made_up_for() -> None:
    stage = Stage()
    declare(stage, overlap="queue", catch_up="skip")

    away(stage, 3 * MINUTE + 30)

    assert submitted(stage) == []
    assert stage.told(EventKind.TICK_DROPPED)
    stage.pass_time(30.0)
    assert submitted(stage) == minutes(4)


@pytest.mark.parametrize(("late", "expected"), [(LATE_MAX, 1), (LATE_MAX + 0.1, 0)])
def test_a_tick_is_not_missed_that_is_only_as_late_as_an_owner_may_be(
    late: float, expected: int
) -> None:
    stage = Stage()
    declare(stage, catch_up="skip")

    away(stage, MINUTE + late)

    assert len(submitted(stage)) == expected


def test_every_tick_is_made_up_for() -> None:
    stage = Stage()
    declare(stage, overlap="queue", catch_up="all")

    away(stage, 3 * MINUTE + 30)

    assert submitted(stage) == minutes(1, 2, 3)


def test_ticks_that_are_made_up_for_do_not_overlap_if_they_may_not() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    declare(stage, catch_up="all", overlap="skip")
    away(stage, 3 * MINUTE + 30)
    worker.restart(101)
    assert submitted(stage) == minutes(1, 2, 3)
    assert worker.grants.keys() == {minute(1)}

    worker.fail(minute(1))
    assert worker.grants.keys() == {minute(2)}
    worker.finish(minute(2))
    worker.finish(minute(3))

    stage.pass_time(30.0)
    assert worker.grants.keys() == {minute(4)}


def test_a_long_absence_is_made_up_for_in_many_steps() -> None:
    stage = Stage()
    declare(stage, overlap="queue", catch_up="all")
    stage.crash()
    stage.stall(2.5 * TICKS_MAX * MINUTE)

    counts = []
    while (deadline := stage.machine.next_deadline()) is not None and deadline <= stage.now:
        stage.say(0, m.Tick())
        counts.append(len(submitted(stage)))

    assert counts[:3] == [TICKS_MAX, 2 * TICKS_MAX, int(2.5 * TICKS_MAX)]
    assert submitted(stage) == minutes(*range(1, counts[2] + 1))


def test_what_is_made_up_for_waits_for_room() -> None:
    stage = Stage(max_pending=2)
    worker = Worker(stage)
    declare(stage, overlap="queue", catch_up="all")
    away(stage, 4 * MINUTE + 30)
    assert submitted(stage) == minutes(1, 2)

    worker.restart(101)
    stage.pass_time(1.0)

    assert submitted(stage) == minutes(1, 2, 3)
    worker.finish(minute(1))
    worker.finish(minute(2))
    stage.pass_time(1.0)
    assert submitted(stage) == minutes(1, 2, 3, 4)


# --- rule 11: what survives ----------------------------------------------------------------------


def test_a_tick_does_not_come_twice_though_its_record_is_forgotten() -> None:
    stage = Stage()
    worker = Worker(stage)
    declare(stage)
    stage.pass_time(MINUTE)
    worker.finish(minute(1))

    stage.records.clear()
    stage.crash()
    declare(stage)
    stage.tick()

    assert submitted(stage) == []
    stage.pass_time(MINUTE)
    assert submitted(stage) == minutes(2)


def test_a_tick_does_not_come_twice_though_its_commit_was_lost() -> None:
    stage = Stage()
    declare(stage)
    stage.stall(MINUTE)
    stage.step(0, [m.Tick()])  # and what comes of it is never carried out

    stage.crash()
    stage.tick()

    assert submitted(stage) == minutes(1)


def test_what_is_declared_again_goes_on_as_it_was() -> None:
    stage = Stage()
    declare(stage, overlap="queue")
    stage.pass_time(90.0)

    declare(stage, overlap="queue", body=b"other")
    stage.pass_time(30.0)

    assert submitted(stage) == minutes(1, 2)
    assert stage.records[minute(2)].body == b"other"


def test_what_is_declared_again_as_it_was_is_not_written_again() -> None:
    stage = Stage()
    declare(stage)

    declare(stage)

    assert [effect for effect in stage.last if isinstance(effect, Note)] == []


def test_another_timing_counts_from_now() -> None:
    stage = Stage()
    declare(stage)
    stage.pass_time(90.0)

    declare(stage, timing=Every(7), overlap="queue")
    stage.pass_time(14.0)

    later = [tick_id("nightly", MORNING + 90 + seconds) for seconds in (7, 14)]
    assert submitted(stage) == [minute(1), *later]


def test_a_schedule_that_is_declared_anew_does_not_tick_where_one_of_its_name_has() -> None:
    """Also if the clock was set back: the newest task is as old as the newest tick at least."""
    daily = Cron("0 3 * * *")
    three = daily.next(MORNING)
    assert three is not None
    schedules = Schedules(Outbox(), {}, lambda _: None, lambda _: 1, {})

    schedules.declare(schedule(timing=daily), now=three - 3_600, stamp=three + 0.1)

    assert schedules.timers.next() == three + 86_400


@pytest.mark.parametrize("days", [0.5, 3_650])
def test_after_a_clock_was_far_ahead_a_schedule_says_that_it_stands_still_and_how_it_goes_on(
    days: float,
) -> None:
    """It ticks nothing twice, as nobody knows which of the clocks was wrong; a new one ticks."""
    stage = Stage()
    declare(stage, overlap="queue")
    stage.pass_time(60.0)
    stage.submit(task("newest"))
    before = set(stage.records)
    stage.now -= days * 86_400

    stage.crash()
    stage.tick()
    declare(stage, overlap="queue")
    stage.pass_time(61.0)
    assert set(stage.records) == before
    told = [d["why"] for d in stage.told(EventKind.TICK_DROPPED)]
    assert [why.partition(",")[0] for why in told] == (
        ["the clock is 3650.0 days behind the last tick"] if days > 1 else []
    )

    control(stage, "remove")
    declare(stage, overlap="queue")
    stage.pass_time(61.0)
    assert len(stage.records.keys() - before) == (days > 1)


@pytest.mark.parametrize(("given", "found"), [({}, {"by": "decorator"}), ({"own": 1}, {"own": 1})])
def test_a_tick_by_name_has_the_meta_of_its_decorator_unless_another_was_given(
    given: dict[str, Any], found: dict[str, Any]
) -> None:
    stage = Stage()
    options = TaskOptions(meta={"by": "decorator"}, timeout=9)
    Worker(stage, tasks=["job"], declared={"job": m.Declared("main", options)})
    declare(stage, pool="any", options=TaskOptions(meta=given) if given else TaskOptions())

    stage.pass_time(60.0)

    said = stage.head(minute(1)).options
    when = moment(MORNING + MINUTE).isoformat()
    assert dict(said.meta) == found | {"schedule": "nightly", "tick": when}
    assert said.timeout == 9


def test_a_schedule_stays_paused() -> None:
    stage = Stage()
    declare(stage)
    control(stage, "pause")
    stage.crash()

    declare(stage)
    declare(stage, timing=Every(7))
    stage.pass_time(5 * MINUTE)

    assert submitted(stage) == []
    assert infos(stage)["nightly"].paused


@pytest.mark.parametrize("catch_up", ["last", "skip", "all"])
def test_nobody_makes_up_for_what_was_paused(catch_up: CatchUp) -> None:
    stage = Stage()
    declare(stage, catch_up=catch_up, overlap="queue")
    stage.pass_time(30.0)
    control(stage, "pause")
    away(stage, 5 * MINUTE)

    control(stage, "resume")
    stage.tick()

    assert submitted(stage) == []
    stage.pass_time(30.0)
    assert submitted(stage) == minutes(6)


def test_pausing_and_resuming_twice_is_nothing_new() -> None:
    stage = Stage()
    declare(stage, overlap="queue")
    control(stage, "pause")
    control(stage, "pause")
    assert [effect for effect in stage.last if isinstance(effect, Note)] == []

    stage.pass_time(90.0)
    control(stage, "resume")
    control(stage, "resume")

    assert [effect for effect in stage.last if isinstance(effect, Note)] == []
    stage.pass_time(30.0)
    assert submitted(stage) == minutes(2)


def test_what_was_removed_is_gone_for_good() -> None:
    stage = Stage()
    declare(stage)
    stage.pass_time(MINUTE)

    control(stage, "remove")
    stage.crash()
    stage.pass_time(5 * MINUTE)

    assert submitted(stage) == minutes(1)
    assert infos(stage) == {}
    assert stage.notes == {}


# --- at most once, whoever is alive --------------------------------------------------------------


class History(Stage):
    """A stage that remembers what was ever submitted, forgotten or not."""

    worker: Worker

    def __init__(self) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()

    def commit(self, writes: list[Write]) -> None:
        for write in writes:
            if write.head is not None and write.id not in self.records:
                self.opened[write.id] += 1
        super().commit(writes)

    def live(self, kind: Any, seconds: float) -> None:
        match kind:
            case "pass":
                self.pass_time(seconds)
            case "stall":
                self.stall(seconds)
            case "crash":
                self.fall()
            case "half":  # a step whose commit is lost
                self.step(0, [m.Tick()])
                self.fall()
            case "forget":
                for id, record in list(self.records.items()):
                    if record.head.status.terminal:
                        del self.records[id]
            case "finish":
                for id in list(self.worker.grants):
                    self.worker.finish(id)
            case _:
                control(self, kind)

    def fall(self) -> None:
        self.crash()
        self.worker.restart(self.worker.connection + 1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.5, 7.0, 31.0, 200.0])),
        st.tuples(st.just("stall"), st.sampled_from([3.0, 60.0, 400.0])),
        st.tuples(st.sampled_from(["crash", "half", "forget", "declare", "finish"]), st.just(0.0)),
        st.tuples(st.sampled_from(["pause", "resume"]), st.just(0.0)),
    ),
    max_size=25,
)
TIMINGS = st.sampled_from([Every(20), Every(0.3), Cron("* * * * *"), Cron("*/10 * * * * *")])


@settings(max_examples=80, deadline=None)
@given(STEPS, TIMINGS, st.sampled_from(["last", "skip", "all"]), st.sampled_from(["skip", "queue"]))
def test_each_tick_comes_at_most_once_whoever_is_alive(
    steps: list[tuple[str, float]], timing: Cron | Every, catch_up: CatchUp, overlap: Overlap
) -> None:
    stage = History()
    stage.worker = Worker(stage, 3)
    same = {"timing": timing, "catch_up": catch_up, "overlap": overlap}
    declare(stage, **same)
    for kind, seconds in steps:
        if kind == "declare":
            declare(stage, **same)
        else:
            stage.live(kind, seconds)
    stage.pass_time(0.0)

    assert set(stage.opened.values()) <= {1}
    expected, nominal = [], timing.next(MORNING, MORNING)
    while nominal is not None and nominal <= stage.now:
        expected.append(tick_id("nightly", nominal))
        nominal = timing.next(nominal, MORNING)
    assert stage.opened.keys() <= set(expected)
    if catch_up == "all" and overlap == "queue" and ("pause", 0.0) not in steps:
        assert list(stage.opened) == expected


# --- what is asked -------------------------------------------------------------------------------


def test_people_see_what_there_is() -> None:
    stage = Stage()
    declare(stage, "b", timing=Cron("0 3 * * *", "Europe/Zurich"), catch_up="all")
    declare(stage, "a", overlap="queue")
    declare(stage, "c")
    control(stage, "pause", "c")
    stage.pass_time(MINUTE)

    found = infos(stage)

    assert list(found) == ["a", "b", "c"]
    assert found["a"] == ScheduleInfo(
        name="a",
        task="job",
        timing="every 60 s",
        next_at=moment(MORNING + 2 * MINUTE),
        last_at=moment(MORNING + MINUTE),
        last_id=minute(1, "a"),
        paused=False,
        catch_up="last",
        overlap="queue",
    )
    assert found["b"].timing == "cron 0 3 * * * (Europe/Zurich)"
    assert found["b"].next_at == datetime(2023, 11, 15, 2, tzinfo=UTC)
    assert (found["b"].last_at, found["b"].last_id, found["b"].catch_up) == (None, None, "all")
    assert (found["c"].paused, found["c"].next_at) == (True, None)


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "remove"])
def test_an_unknown_name_is_told_with_those_that_there_are(verb: m.ScheduleVerb) -> None:
    stage = Stage()
    declare(stage, "a")
    declare(stage, "b")

    with pytest.raises(ScheduleNotFound) as caught:
        control(stage, verb, "c")

    assert str(caught.value) == "no schedule 'c'; there are: 'a', 'b'"
    assert caught.value.name == "c"


def test_of_very_many_names_some_are_told() -> None:
    stage = Stage()
    with pytest.raises(ScheduleNotFound, match="there are: none"):
        control(stage, "pause", "x")
    for number in range(25):
        declare(stage, f"s{number:02}")

    with pytest.raises(ScheduleNotFound, match=r"'s19' and 5 more$"):
        control(stage, "pause", "x")


def test_a_remove_that_is_sent_again_has_done_its_work() -> None:
    stage = Stage()
    declare(stage)
    control(stage, "remove")

    assert control(stage, "remove", resent=True) is None


def test_there_is_a_bound_on_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEDULES_MAX", 2)
    stage = Stage()
    declare(stage, "a")
    declare(stage, "b")

    with pytest.raises(SubmitError, match="schedule 'c': there are 2 already"):
        declare(stage, "c")

    declare(stage, "a", timing=Every(5))
    control(stage, "remove", "b")
    declare(stage, "c")


def test_run_submits_it_now_and_moves_nothing() -> None:
    stage = Stage()
    declare(stage, overlap="skip", options=TaskOptions(meta={"by": "me"}))
    control(stage, "pause")

    assert control(stage, "run", id="x") == ("x", "job")
    control(stage, "resume")
    stage.pass_time(MINUTE)

    assert submitted(stage) == [minute(1), "x"]
    assert stage.head("x").options.meta == {"by": "me", "schedule": "nightly"}
    assert stage.status("x") is TaskStatus.PENDING


@pytest.mark.parametrize("catch_up", ["all", "last"])
def test_what_is_declared_while_the_clock_is_far_behind_makes_up_for_nothing_when_it_is_right(
    catch_up: CatchUp,
) -> None:
    stage = Stage()
    stage.submit(task("a"))
    stage.now -= 30 * 86_400
    stage.crash()
    declare(stage, catch_up=catch_up, overlap="queue")
    declare(stage, "removed", catch_up=catch_up, overlap="queue")
    control(stage, "remove", "removed")

    stage.set_ahead(30 * 86_400 + 5)
    stage.tick()
    right = stage.now
    assert submitted(stage) == ["a"]
    stage.pass_time(2.5 * MINUTE)

    ticks = [tick_id("nightly", right + n * MINUTE) for n in (1, 2)]
    assert submitted(stage) == sorted(["a", *ticks])


def test_what_ticked_before_the_clock_was_set_back_and_right_again_goes_on_as_it_was() -> None:
    stage = Stage()
    declare(stage, catch_up="all", overlap="queue")
    stage.pass_time(MINUTE)
    stage.now -= 30 * 86_400
    stage.crash()

    stage.pass_time(1)
    stage.set_ahead(30 * 86_400 + 3 * MINUTE)
    stage.tick()

    assert submitted(stage) == minutes(1, 2, 3, 4)
