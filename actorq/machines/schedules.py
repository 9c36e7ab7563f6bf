"""What is submitted without anybody asking: which ticks of a schedule, and when.

It decides about every nominal time once, in order: the cursor, which is kept with what the decision
led to, says how far that is. So a tick comes at most once, whoever is the owner and whatever was
forgotten meanwhile; its id says so too. What a nominal time is, is its timing's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from msgspec.structs import replace

from actorq.errors import RowRefused, ScheduleNotFound, SubmitError
from actorq.machines.effects import Outbox
from actorq.machines.timers import Timers
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.options import TaskOptions
from actorq.model.records import Note
from actorq.model.results import ScheduleInfo
from actorq.model.schedules import Schedule, moment, tick_id, time_in

LATE_MAX = 10.0
"""Seconds after which a tick is late for its schedule's ``catch_up``; as long as an ownership lasts
that nobody gives back, so that its successor misses nothing."""

SCHEDULES_MAX = 10_000
"""Schedules of one partition."""

TICKS_MAX = 100
"""Ticks that are submitted in one step; they take some 8 ms."""

ROOM_WAIT = 1.0
"""Seconds after which those who make up for a lot look again whether their queue has room."""

SET_BACK_MAX = 86_400.0
"""Seconds by which the clock may be set back for a new schedule to wait until it is as late again:
another one of its name may have been removed."""

_LISTED_MAX = 20


class Schedules:
    """All schedules of one partition."""

    def __init__(
        self,
        out: Outbox,
        live: Container[str],
        submit: Callable[[m.Submission], None],
        room: Callable[[str], int],
        refused: Mapping[str, str],
    ) -> None:
        """Know none.

        Args:
            out: Takes what is to be kept.
            live: The ids of the tasks that are live.
            submit: Accepts a task, whether there is room or not.
            room: Says how many tasks fit into a queue.
            refused: The tasks, by their ids, and the schedules that the store cannot keep, and why.
        """
        self._out = out
        self._live = live
        self._submit = submit
        self._room = room
        self._refused = refused
        self._by_name: dict[str, Schedule] = {}
        self._begun_behind: dict[str, None] = {}
        """Those that began when the clock was far behind the newest task."""
        self.timers: Timers = Timers()
        """When each that ticks is to be looked at, by name."""

    def __len__(self) -> int:
        return len(self._by_name)

    def load(self, schedule: Schedule) -> None:
        """Take in what an earlier owner has kept."""
        self._by_name[schedule.name] = schedule
        self._arm(schedule)

    def declare(self, schedule: Schedule, now: float, stamp: float) -> Exception | None:
        """Keep a schedule from now on, or return why not.

        What was known of it stays; but another timing counts from now. Not from before ``stamp``,
        the time of the newest task: one of the same name may have ticked until then; but if that
        is more than `SET_BACK_MAX` ahead, a clock had been wrong.
        """
        note = f"schedule {schedule.name}"
        if note in self._refused:
            return RowRefused(self._refused[note], id=note)
        former = self._by_name.get(schedule.name)
        start = stamp if now < stamp < now + SET_BACK_MAX else now
        if former is None:
            if len(self._by_name) >= SCHEDULES_MAX:
                return SubmitError(
                    f"schedule {schedule.name!r}: there are {SCHEDULES_MAX} already, and no room "
                    "for more; remove some by remove_schedule()"
                )
            kept = replace(schedule, paused=False, anchor=now, cursor=start, last=None)
            if stamp >= now + SET_BACK_MAX:
                self._begun_behind[schedule.name] = None
        elif former.timing == schedule.timing:
            kept = _like(schedule, former, former.anchor, former.cursor)
        else:
            kept = _like(schedule, former, now, max(start, former.cursor))
        if former is None or not _are_same(former, kept):
            self._keep(kept)
        return None

    def learn(self, declared: dict[str, m.Declared], now: float, stamp: float) -> None:
        """Keep the schedules that a worker's tasks have, as far as they can be."""
        full = False
        for said in declared.values():
            if said.schedule is not None:
                refusal = self.declare(said.schedule, now, stamp)
                no_room = isinstance(refusal, SubmitError)  # for none of the others that are new
                if refusal is not None and not (no_room and full):
                    self._tell_of_dropped(said.schedule.name, now, str(refusal))
                full = full or no_room

    def look_at_clock(self, now: float) -> None:
        """Say which schedules stand still, as they have ticked far ahead of the clock.

        Whether the clock was wrong then, or is now, nobody can know: a tick comes at most once.
        """
        for name, schedule in self._by_name.items():
            if schedule.cursor > now + SET_BACK_MAX:
                days = (schedule.cursor - now) / 86_400
                why = (
                    f"the clock is {days:.1f} days behind the last tick, and none comes twice: if "
                    "it was wrong then, remove the schedule and declare it again"
                )
                self._tell_of_dropped(name, now, why)

    def clock_was_set(self, now: float, stamp: float) -> None:
        """Have those begin anew that began by a clock which was behind, and is right by now.

        All the time in between, in which nobody had declared them, would be made up for.
        """
        if self._begun_behind and stamp < now + SET_BACK_MAX:
            for name in self._begun_behind.keys() & self._by_name.keys():
                schedule = self._by_name[name]
                start = max(now, stamp, schedule.cursor)
                self._keep(replace(schedule, anchor=now, cursor=start))
            self._begun_behind.clear()

    # --- what is asked ---------------------------------------------------------------------------

    def control(self, request: m.ControlSchedule, now: float) -> ScheduleNotFound | None:
        """Pause, resume or remove a schedule, or return why not; ``run`` is not done here."""
        name = request.name
        schedule = self._by_name.get(name)
        if schedule is None:
            if request.verb == "remove" and request.resent:
                return None
            return self._unknown(name)
        match request.verb:
            case "pause" if not schedule.paused:
                self._keep(replace(schedule, paused=True))
            case "resume" if schedule.paused:
                cursor = max(schedule.cursor, now)
                self._keep(replace(schedule, paused=False, cursor=cursor))
            case "remove":
                del self._by_name[name]
                self._begun_behind.pop(name, None)
                self.timers.clear(name)
                self._out.append(Note("schedule", name, None))
            case _:
                pass
        return None

    def run(self, request: m.ControlSchedule, id: str) -> m.Submission | ScheduleNotFound:
        """Return what `run` submits, or why there is nothing."""
        schedule = self._by_name.get(request.name)
        if schedule is None:
            return self._unknown(request.name)
        options = _with_meta(schedule, {"schedule": schedule.name})
        return m.Submission(id, schedule.task, schedule.pool, options, None, schedule.body)

    def _unknown(self, name: str) -> ScheduleNotFound:
        names = sorted(self._by_name)
        listed = ", ".join(map(repr, names[:_LISTED_MAX])) or "none"
        if len(names) > _LISTED_MAX:
            listed += f" and {len(names) - _LISTED_MAX} more"
        return ScheduleNotFound(f"no schedule {name!r}; there are: {listed}", name=name)

    def infos(self) -> dict[str, ScheduleInfo]:
        """Return what people see of the schedules, by name, in order."""
        return {name: self._info(schedule) for name, schedule in sorted(self._by_name.items())}

    def _info(self, schedule: Schedule) -> ScheduleInfo:
        upcoming = self.timers.armed.get(schedule.name)
        return ScheduleInfo(
            name=schedule.name,
            task=schedule.task,
            timing=str(schedule.timing),
            next_at=None if upcoming is None else moment(upcoming),
            last_at=None if schedule.last is None else time_in(schedule.last),
            last_id=schedule.last,
            paused=schedule.paused,
            catch_up=schedule.catch_up,
            overlap=schedule.overlap,
        )

    # --- ticks -----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Decide about the nominal times that have come; of many, about some of them."""
        left = TICKS_MAX
        while left > 0 and (name := self.timers.pop(now)) is not None:
            schedule = self._by_name[name]
            if schedule.catch_up == "all":
                left -= self._decide_each(schedule, now, left)
            else:
                self._decide_last(schedule, now)
                left -= 1

    def _decide_last(self, schedule: Schedule, now: float) -> None:
        """Decide about all nominal times until now by what becomes of the newest."""
        first = self._next(schedule)
        assert first is not None  # as its time has come
        newest = max(schedule.timing.last(now, schedule.anchor) or first, first)
        if first < newest:
            self._tell_of_dropped(schedule.name, first, "nobody was there in time for it")
        schedule = replace(schedule, cursor=newest)
        if schedule.catch_up == "skip" and newest < now - LATE_MAX:
            self._tell_of_dropped(schedule.name, newest, "nobody was there in time for it")
        else:
            schedule = self._submit_tick(schedule, newest)
        self._keep(schedule)

    def _decide_each(self, schedule: Schedule, now: float, most: int) -> int:
        """Decide about one nominal time after the other; return how many that were."""
        count = 0
        wait: float | None = None
        upcoming = self._next(schedule)
        while upcoming is not None and upcoming <= now and count < most:
            nominal = upcoming
            later = schedule.timing.next(nominal, schedule.anchor)
            missed = nominal < now - LATE_MAX or (later is not None and later <= now)
            if missed and self._room(schedule.options.queue) <= 0:
                wait = now + ROOM_WAIT
                break
            schedule = self._submit_tick(replace(schedule, cursor=nominal), nominal, missed=missed)
            count, upcoming = count + 1, later
        if count:
            self._keep(schedule)
        if wait is not None:
            self.timers.set(schedule.name, wait)
        return max(count, 1)

    def _submit_tick(self, schedule: Schedule, nominal: float, *, missed: bool = False) -> Schedule:
        """Submit one tick, if its time does not belong to the task of the one before."""
        id = tick_id(schedule.name, nominal)
        if id in self._live:
            return schedule
        if id in self._refused:
            self._tell_of_dropped(schedule.name, nominal, self._refused[id])
            return schedule
        after: tuple[str, ...] = ()
        if schedule.overlap == "skip" and schedule.last is not None and schedule.last in self._live:
            if not missed:
                self._tell_of_dropped(schedule.name, nominal, f"{schedule.last} is still live")
                return schedule
            after = (schedule.last,)
        when = moment(nominal).isoformat()
        options = _with_meta(schedule, {"schedule": schedule.name, "tick": when})
        if after:
            options = options.merge(TaskOptions(after=after, on_dependency_failure="run"))
        self._submit(m.Submission(id, schedule.task, schedule.pool, options, None, schedule.body))
        return replace(schedule, last=id)

    # --- the table -------------------------------------------------------------------------------

    def _keep(self, schedule: Schedule) -> None:
        self._by_name[schedule.name] = schedule
        self._arm(schedule)
        self._out.append(Note("schedule", schedule.name, schedule))

    def _arm(self, schedule: Schedule) -> None:
        upcoming = None if schedule.paused else self._next(schedule)
        if upcoming is None:
            self.timers.clear(schedule.name)
        else:
            self.timers.set(schedule.name, upcoming)

    def _next(self, schedule: Schedule) -> float | None:
        return schedule.timing.next(schedule.cursor, schedule.anchor)

    def _tell_of_dropped(self, name: str, nominal: float, why: str) -> None:
        when = moment(nominal).isoformat()
        self._out.tell(EventKind.TICK_DROPPED, schedule=name, tick=when, why=why)


def _like(schedule: Schedule, former: Schedule, anchor: float, cursor: float) -> Schedule:
    """Return a schedule as it goes on from another one of its name."""
    paused, last = former.paused, former.last
    return replace(schedule, paused=paused, anchor=anchor, cursor=cursor, last=last)


def _are_same(one: Schedule, other: Schedule) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - arguments in this process are users' objects
        return False


def _with_meta(schedule: Schedule, meta: dict[str, Any]) -> TaskOptions:
    options = schedule.options
    return options.merge(TaskOptions(meta={**options.meta, **meta}))
