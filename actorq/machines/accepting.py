"""Chapter three: which tasks are accepted, and where the others wait for room."""

from __future__ import annotations

from collections.abc import Sequence

from actorq.errors import QueueFull, SubmitError
from actorq.machines.effects import Send
from actorq.machines.granting import Granting
from actorq.machines.ledger import add_watch
from actorq.machines.parking import Parked
from actorq.machines.tables import closing
from actorq.model import messages as m
from actorq.model.records import Cancel, Pool, Record
from actorq.model.status import SCHEDULED


class Accepting(Granting):
    """Submits and their withdrawal."""

    def _submit(self, origin: int, submit: m.Submit) -> None:
        if submit.resent:  # it may be stored already, and even over
            unknown = tuple(task.id for task in submit.tasks if task.id not in self._live)
            if unknown:
                self._out.lookup(origin, submit, *unknown)
                return
        self._admit(origin, submit, {})

    def _admit(
        self, origin: int, submit: m.Submit, stored: dict[str, Record], *, fits: bool = False
    ) -> None:
        """Accept what is new of a submit, once there is room, and answer it."""
        tasks = submit.tasks
        known = stored.keys() | [task.id for task in tasks if task.id in self._live]
        new = [task for task in tasks if task.id not in known] if known else tasks
        if new:
            refusal = self._refusal(new) or self._doubt(origin, submit, new)
            if refusal is not None:
                self._out.reply(origin, submit, error=refusal)
                return
            needs = _needs(new)
            full = None if fits else self._full_queue(needs)
            if full is not None:
                if any(task.options.when_full == "raise" for task in new):
                    self._out.reply(origin, submit, error=self._queue_full(full))
                elif origin in self._remote and self._parking.count(origin) >= (
                    most := self._limits.max_parked
                ):
                    why = f"{most} submits of this client wait for room already (max_parked)"
                    self._out.reply(origin, submit, error=QueueFull(why))
                else:
                    self._parking.park(Parked(origin, submit, stored, needs))
                return
        for id in known:
            if id in self._live:
                add_watch(self._live[id], origin)
            else:
                self._out.send(origin, m.Outcome(stored[id].head, stored[id].output))
        for task in new:
            if task.id in self._live:  # twice in one submit
                known |= {task.id}
            else:
                self._accept(origin, task, alone=len(new) == 1)
        self._out.append(Send(origin, m.Reply(submit.request, tuple(known) if known else None)))

    def _refusal(self, tasks: Sequence[m.Submission]) -> Exception | None:
        if self._closing:
            return closing()
        if len(tasks) > self._limits.max_pending:
            return QueueFull(
                f"{len(tasks)} tasks at once never fit: max_pending is {self._limits.max_pending}"
            )
        for task in tasks if self._ending else ():
            if task.scope in self._ending:
                return SubmitError(
                    f"task {task.name} ({task.id}): the block that owns it has ended"
                )
        return None

    def _doubt(
        self, origin: int, submit: m.Submit, new: Sequence[m.Submission]
    ) -> Exception | None:
        """Refuse what may have run among other records, and must not run twice."""
        if submit.resent and submit.lineage not in (None, self._lineage_for(origin)):
            for task in new:
                if task.options.at_most_once:
                    return SubmitError(
                        f"task {task.name} ({task.id}) was handed over before the connection was "
                        "lost for long, or the queue itself, and nobody knows whether it has run: "
                        "at_most_once, so it is not run now"
                    )
        return None

    def _full_queue(self, needs: dict[str, int]) -> str | None:
        """Return a queue that has not the room that is needed, or a line before it."""
        for queue, count in needs.items():
            if count > self._room(queue) or queue in self._parking.lines:
                return queue
        return None

    def _room(self, queue: str) -> int:
        return self._limits.max_pending - self._ledger.waiting(queue)

    def _queue_full(self, queue: str) -> QueueFull:
        return QueueFull(
            f"queue {queue!r} is full: {self._limits.max_pending} tasks wait in it (max_pending); "
            "wait for room with when_full='wait', or run more workers"
        )

    def _accept(self, origin: int, task: m.Submission, *, alone: bool) -> None:
        live = self._open(task, origin)
        if live.head.status is SCHEDULED:
            return
        pool = task.pool
        if alone and self._may_grant_at_once(pool):
            worker = self._fleet.freest(pool, task.name)
            if worker is not None:  # it would be taken out again at once
                self._grant(worker, live)
                return
        self._make_ready(live)

    def _may_grant_at_once(self, pool: Pool) -> bool:
        return (
            pool != "any"
            and self._fleet.free[pool] > 0
            and self._ready.empty(pool)
            and not self._closing
        )

    def _unpark(self) -> bool:
        """Let in what waits for room, oldest first, as far as it fits; say whether any did."""
        some = False
        while (parked := self._parking.leave(self._room)) is not None:
            self._admit(parked.origin, parked.submit, parked.stored, fits=True)
            some = True
        return some

    def _withdraw(self, origin: int, withdraw: m.Withdraw) -> None:
        self._parking.withdraw(origin, withdraw.submit)
        self._answer_who_waits_for_quiet()
        cancel = Cancel("user", "its submit was cancelled before it was answered")
        for id in withdraw.ids:
            if id in self._live:
                self._cancel(id, cancel, withdraw.grace)
        self._out.reply(origin, withdraw)


def _needs(tasks: Sequence[m.Submission]) -> dict[str, int]:
    """Return how much room in which queue these need."""
    needs: dict[str, int] = {}
    for task in tasks:
        queue = task.options.queue
        needs[queue] = needs.get(queue, 0) + 1
    return needs
