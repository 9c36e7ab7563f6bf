"""Chapter six: who may say what is to be run again and again, and the verbs on that."""

from __future__ import annotations

from actorq.errors import RowRefused
from actorq.machines.attending import Attending
from actorq.machines.schedules import Schedules
from actorq.machines.tables import Limits, closing
from actorq.model import messages as m
from actorq.model.records import Record


class Scheduling(Attending):
    """Schedules of clients and of workers' tasks."""

    def __init__(self, limits: Limits, tail: str, home: str) -> None:
        super().__init__(limits, tail, home)
        self._clock_was_set = False
        self._schedules = Schedules(self._out, self._live, self._take_in, self._room, self._refused)

    def move_along(self, seconds: float) -> None:
        """See the chapter before; and look at once which schedules began by a wrong clock."""
        super().move_along(seconds)
        self._clock_was_set = True

    def _tick(self, origin: int, tick: m.Tick) -> None:
        super()._tick(origin, tick)
        if self._clock_was_set:
            self._clock_was_set = False
            self._schedules.clock_was_set(self._now, self._stamp)
        if self._schedules.timers.armed and not self._closing:
            self._schedules.tick(self._now)

    def _meet(self) -> None:
        self._schedules.look_at_clock(self._now)
        super()._meet()

    def _worker_hello(self, origin: int, hello: m.WorkerHello) -> None:
        super()._worker_hello(origin, hello)
        self._schedules.learn(hello.declared, self._now, self._stamp)

    def _worker_knows(self, origin: int, knows: m.Knows) -> None:
        super()._worker_knows(origin, knows)
        self._schedules.learn(knows.declared, self._now, self._stamp)

    def _declare(self, origin: int, request: m.Declare) -> None:
        refusal: Exception | None = closing() if self._closing else None
        refusal = refusal or self._schedules.declare(request.schedule, self._now, self._stamp)
        self._out.reply(origin, request, error=refusal)

    def _get_schedules(self, origin: int, request: m.GetSchedules) -> None:
        self._out.reply(origin, request, self._schedules.infos())

    def _control_schedule(self, origin: int, request: m.ControlSchedule) -> None:
        if request.verb != "run":
            refusal = self._schedules.control(request, self._now)
            self._out.reply(origin, request, error=refusal)
        elif request.resent and request.id is not None and request.id not in self._live:
            self._out.lookup(origin, request, request.id)  # it may be over already
        else:
            self._run_schedule(origin, request, None)

    def _run_schedule(self, origin: int, request: m.ControlSchedule, stored: Record | None) -> None:
        id = request.id or self._ids.next()
        if id in self._live:
            live = self._live[id]
            self._ledger.watch(live, origin)
            name = live.head.name
        elif stored is not None:
            self._out.send(origin, m.Outcome(stored.head, stored.output))
            name = stored.head.name
        elif self._closing:
            self._out.reply(origin, request, error=closing())
            return
        elif id in self._refused:
            self._out.reply(origin, request, error=RowRefused(self._refused[id], id=id))
            return
        else:
            task = self._schedules.run(request, id)
            if isinstance(task, Exception):
                self._out.reply(origin, request, error=task)
                return
            self._take_in(task, origin)
            name = task.name
        self._out.reply(origin, request, (id, name))
