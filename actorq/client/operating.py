"""The verbs of those who keep a system running: pausing, asking why, and schedules."""

from __future__ import annotations

from typing import Any, cast

from actorq.client.base import BaseClient, _task_id
from actorq.client.handle import TaskHandle
from actorq.model import messages as m
from actorq.model.checks import name as check_name
from actorq.model.results import CatchUp, Overlap, ScheduleInfo
from actorq.model.schedules import Schedule, Timing, check_schedule
from actorq.runtime.ref import ActorRef
from actorq.tasks import TaskMessage, new_id


class OperatingClient(BaseClient):
    """The part of a `actorq.Client` that is about queues and schedules, not about tasks.

    Cancelling one of these verbs does not take it back: what acts is asked until the owner has it.
    """

    # --- queues ----------------------------------------------------------------------------------

    async def pause(self, queue: str) -> None:
        """Start no task of this queue from now on; what runs goes on, and submits are accepted.

        It stays paused, also when the system is closed and opened again on the same store, until
        `resume`. The queue need not have any task.

        Raises:
            ValueError: It cannot be the name of a queue.
            ActorDied: The system has failed or is closed.
        """
        await self._pause(queue, paused=True)

    async def resume(self, queue: str) -> None:
        """Start tasks of this queue again; nothing happens if it was not paused.

        Raises:
            ValueError: It cannot be the name of a queue.
            ActorDied: The system has failed or is closed.
        """
        await self._pause(queue, paused=False)

    async def _pause(self, queue: str, *, paused: bool) -> None:
        await self.ask(m.PauseQueue(self.session.number(), check_name("queue", queue), paused))

    async def why(self, id: str) -> str:
        """Return in words why a task is not running, or that it is, or how it has ended.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        return cast(str, await self.ask(m.Why(self.session.number(), _task_id(id))))

    # --- schedules -------------------------------------------------------------------------------

    async def schedule(
        self,
        message: TaskMessage[Any],
        timing: Timing,
        *,
        name: str,
        catch_up: CatchUp = "last",
        overlap: Overlap = "skip",
    ) -> None:
        """Have a task submitted again and again, by the owner itself, until `remove_schedule`.

        The owner keeps it, and how far it got, in its store: a tick is submitted at most once,
        whoever is alive, and its id is made of the schedule's name and its nominal time. Ask for it
        as often as you like, as at every start of a program: the same timing goes on as it was, and
        stays paused if it was paused; another timing counts from now. What is submitted, and the
        other arguments, are those of the last call.

        A tick's ``meta`` has ``schedule`` (the name) and ``tick`` (the nominal time, ISO 8601, UTC)
        besides its own. It is never refused by ``max_pending``.

        Args:
            message: What to submit, ``task.message(...)``; its id does not count, and its callback
                must be a task.
            timing: A `Cron` or an `Every`.
            name: Names the schedule, up to 200 characters.
            catch_up: What becomes of the ticks for which nobody was there: only the ``"last"`` is
                submitted; ``"skip"`` forgets them; ``"all"`` submits every one.
            overlap: What becomes of a tick while the task of the one before is live: ``"skip"``
                drops it, ``"queue"`` submits it all the same.

        Raises:
            TypeError: An argument of the wrong type; the message names it.
            ValueError: One that is out of range, or an option that cannot be one of a schedule.
            SubmitError: The task would not be accepted; the subclass says why.
            ActorDied: The system has failed or is closed.
        """
        if not isinstance(message, TaskMessage):
            raise TypeError(f"schedule takes a message, as of task.message(...), not {message!r}")
        if isinstance(message.task.settings.callback, ActorRef):
            raise TypeError(
                f"schedule {name!r}: the callback of a schedule must be a task: nobody submits its "
                "ticks whose actor could be told"
            )
        submission = self._submission(message, None)
        schedule = Schedule(
            name,
            timing,
            submission.name,
            submission.pool,
            submission.options,
            submission.body,
            catch_up,
            overlap,
        )
        check_schedule(schedule)
        if submission.needs:
            raise ValueError(
                f"schedule {name!r}: an argument stands for the output of another task, of which "
                "there is one, and of these there will be many; submit a task that submits both"
            )
        await self.ask(m.Declare(self.session.number(), schedule))

    async def schedules(self) -> list[ScheduleInfo]:
        """Return every schedule, by name.

        Raises:
            ActorDied: The system has failed or is closed.
        """
        found: dict[str, ScheduleInfo] = await self.ask(m.GetSchedules(self.session.number()))
        return list(found.values())

    async def run_schedule(self, name: str) -> TaskHandle[Any]:
        """Submit the task of a schedule now, and return its handle; its ticks go on as they would.

        Also of a schedule that is paused, and while the task of its last tick is live.

        Raises:
            ScheduleNotFound: There is none of that name; the message lists those that there are.
            ActorDied: The system has failed or is closed.
        """
        id = new_id()
        ending = self.session.ending(id)
        found = await self._control(name, "run", id)
        return TaskHandle(self, id, found[1], ending)

    async def pause_schedule(self, name: str) -> None:
        """Submit no tick of a schedule until `resume_schedule`; nobody makes up for those later.

        Raises:
            ScheduleNotFound: There is none of that name; the message lists those that there are.
            ActorDied: The system has failed or is closed.
        """
        await self._control(name, "pause")

    async def resume_schedule(self, name: str) -> None:
        """Go on with a schedule that was paused, from its next tick on.

        Raises:
            ScheduleNotFound: There is none of that name; the message lists those that there are.
            ActorDied: The system has failed or is closed.
        """
        await self._control(name, "resume")

    async def remove_schedule(self, name: str) -> None:
        """Forget a schedule; what it has submitted stays.

        One of a decorator (``@task(schedule=...)``) comes back with the next worker that has the
        task: pause it, or take it out of the decorator first.

        Raises:
            ScheduleNotFound: There is none of that name; the message lists those that there are.
            ActorDied: The system has failed or is closed.
        """
        await self._control(name, "remove")

    async def _control(self, name: str, verb: m.ScheduleVerb, id: str | None = None) -> Any:
        request = m.ControlSchedule(self.session.number(), check_name("name", name), verb, id)
        return await self.ask(request)
