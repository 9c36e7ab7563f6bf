"""Chapter four: which tasks are accepted, and where the others wait for room.

What a submit has to do with other tasks is decided here, once: by its `key` it may stand for one
that is there, and what it comes after must be there. Where the ledger is not enough the store is
asked first; whatever ends meanwhile is remembered (``lately``), as the answer may not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from actorq.errors import QueueFull, RowRefused, SubmitError, TaskNotFound
from actorq.machines.effects import Found, Send
from actorq.machines.granting import Granting
from actorq.machines.keys import Holder, conflict
from actorq.machines.parking import Parked
from actorq.machines.subscriptions import is_kept
from actorq.machines.tables import closing
from actorq.model import messages as m
from actorq.model.records import Cancel, Pool, Record, alias
from actorq.model.status import PENDING

_NOTHING: Mapping[str, Record] = {}


class Plan(Struct):
    """What is to become of the tasks of a submit.

    Attributes:
        found: What the store has said.
        known: The ids that have been accepted before.
        new: What is to be accepted, in order.
        ids: The ids of that.
        keys: Its keys.
        instead: By the id of what is not accepted, the id of the task that has its key.
        stored: The records of ended tasks that matter here.
        stale: Those that had such a key, and whose time is over.
    """

    found: Found
    known: dict[str, None] = {}
    new: list[m.Submission] = []
    ids: set[str] = set()
    keys: dict[str, Holder] = {}
    instead: dict[str, str] = {}
    stored: dict[str, Record] = {}
    stale: list[Record] = []


class Accepting(Granting):
    """Submits and their withdrawal."""

    def _submit(self, origin: int, submit: m.Submit) -> None:
        if not submit.resent:
            for task in submit.tasks:
                options = task.options
                if options.key is not None or options.after or task.needs:
                    break
            else:
                self._admit(origin, submit)
                return
        if not self._ask(Parked(origin, submit)):
            self._sort_out(origin, submit, Found(submit, {}))

    def _ask(self, parked: Parked) -> bool:
        """Ask the store for what must be known of a submit, if there is anything to ask."""
        submit = parked.submit
        live, ids, keys = self._live, dict[str, None](), dict[str, None]()
        before: set[str] = set()
        for task in submit.tasks:
            if submit.resent and task.id not in live:  # it may be stored already, and even over
                ids[task.id] = None
            for id in (*task.options.after, *task.needs):
                if id not in live and id not in before:
                    ids[id] = None
            key = task.options.key
            if key is not None and key not in self._ledger.keys:
                keys[key] = None
            before.add(task.id)
        if ids or keys:
            self._parking.ask(parked)
            self._out.lookup(parked.origin, submit, *ids, keys=tuple(keys))
        return bool(ids or keys)

    def _answered(self, origin: int, found: Found) -> None:
        """Go on with a submit about which the store was asked, unless it was taken back."""
        submit = found.message
        parked = self._parking.answer((origin, submit.request))
        if parked is not None and self._parking.fits(parked, self._room):
            if parked.needs:
                self._parking.remove(parked)
            self._sort_out(origin, submit, found, fits=bool(parked.needs))
        if not self._parking.asked:
            self._lately.clear()
            self._lately_keyed.clear()
        if self._joins or self._closes:
            self._answer_who_waits_for_quiet()

    def _sort_out(self, origin: int, submit: m.Submit, found: Found, *, fits: bool = False) -> None:
        """Decide what becomes of each task of a submit by what is known of all others."""
        plan = Plan(found)
        for task in submit.tasks:
            if task.id in self._live or (submit.resent and self._stored(task.id, plan)):
                plan.known[task.id] = None
                continue
            error = self._place(task, plan)
            if error is not None:
                self._out.reply(origin, submit, error=error)
                return
        self._admit(origin, submit, plan, fits=fits)

    def _place(self, task: m.Submission, plan: Plan) -> Exception | None:
        """Add a task to a plan: as new, or as one that another one stands for."""
        key = task.options.key
        if key is not None and task.id not in plan.ids:
            holder = self._holder(key, plan)
            if holder is not None:
                if holder.id == task.id:
                    plan.known[task.id] = None
                else:
                    plan.instead[task.id] = holder.id
                return conflict(key, task.name, task.body, holder)
            plan.keys[key] = Holder(task.id, task.name, task.body, new=True)
        if task.options.after or task.needs:
            for id in (*task.options.after, *task.needs):
                if not self._is_there(plan.instead.get(id, id), plan):
                    return TaskNotFound(id)
            if plan.instead:
                task = _redirected(task, plan.instead)
        plan.ids.add(task.id)
        plan.new.append(task)
        return None

    def _stored(self, id: str, plan: Plan) -> Record | None:
        """Return the record of a task that is not live, if there is one."""
        found = plan.found.records.get(id)
        record = self._lately.get(id, found) if self._lately else found
        if record is not None:
            plan.stored[id] = record
        return record

    def _holder(self, key: str, plan: Plan) -> Holder | None:
        """Return the task that has a key: a live one, a kept one, or one of the same submit."""
        if (id := self._ledger.keys.get(key)) is not None:
            live = self._live[id]
            return Holder(id, live.head.name, live.body)
        record = plan.found.keyed.get(key)
        if self._lately:
            id = self._lately_keyed.get(key) or (record and record.head.id) or ""
            record = self._lately.get(id, record)
        if record is not None and record.head.status.terminal:
            if is_kept(record, self._now):
                plan.stored[record.head.id] = record
                return Holder(record.head.id, record.head.name, record.body)
            plan.stale.append(record)
        return plan.keys.get(key)

    def _is_there(self, id: str, plan: Plan) -> bool:
        """Say whether a task may come after this one: it is live, or its result is kept."""
        if id in self._live or id in plan.known or id in plan.ids or id in plan.stored:
            return True
        record = self._stored(id, plan)
        return record is not None and (is_kept(record, self._now) or id in self._bonds.pinned())

    def _admit(
        self, origin: int, submit: m.Submit, plan: Plan | None = None, *, fits: bool = False
    ) -> None:
        """Accept what is new of a submit, once there is room, and answer it."""
        known: dict[str, None]
        new: Sequence[m.Submission]
        if plan is None:
            known = {task.id: None for task in submit.tasks if task.id in self._live}
            new = [x for x in submit.tasks if x.id not in known] if known else submit.tasks
        else:
            known, new = plan.known, plan.new
        if new:
            refusal = self._refusal(new)
            if refusal is None and submit.resent:
                refusal = self._doubt(origin, submit, new)
            if refusal is not None:
                self._out.reply(origin, submit, error=refusal)
                return
            needs = _needs(new)
            full = self._full_queue(needs, fits=fits)
            if full is not None:
                parked = Parked(origin, submit, needs, plan is not None)
                self._wait_for_room(parked, new, full)
                return
        if plan is None:
            self._let_in(origin, submit, known, new, _NOTHING)
            return
        for record in plan.stale:
            if record.head.id not in self._bonds.pinned():
                self._discard(record)
        self._let_in(origin, submit, known, new, plan.stored, plan.instead)

    def _let_in(
        self,
        origin: int,
        submit: m.Submit,
        known: dict[str, None],
        new: Sequence[m.Submission],
        stored: Mapping[str, Record],
        instead: dict[str, str] | None = None,
    ) -> None:
        """Accept the ``new`` tasks of a submit, and tell its client of all others.

        How those end that stand for its own is told last: by then it knows which they are.
        """
        for id in known:
            self._watch(origin, id, stored)
        for task in new:
            if task.id in self._live:  # twice in one submit
                known[task.id] = None
            else:
                self._accept(origin, task, stored, alone=len(new) == 1)
        answer = m.Admitted(tuple(known), instead or {}) if known or instead else None
        self._out.append(Send(origin, m.Reply(submit.request, answer)))
        for id in dict.fromkeys(instead.values()) if instead else ():
            self._watch(origin, id, stored)

    def _watch(self, origin: int, id: str, stored: Mapping[str, Record]) -> None:
        """Tell a client how a task ends, or has ended."""
        live = self._live.get(id)
        if live is not None:
            self._ledger.watch(live, origin)
        else:
            self._out.send(origin, m.Outcome(stored[id].head, stored[id].output))

    def _wait_for_room(self, parked: Parked, new: Sequence[m.Submission], full: str) -> None:
        origin, submit = parked.origin, parked.submit
        if any(task.options.when_full == "raise" for task in new):
            self._out.reply(origin, submit, error=self._queue_full(full))
        elif origin in self._remote and self._parking.count(origin) >= (
            most := self._limits.max_parked
        ):
            why = f"{most} submits of this client wait for room already (max_parked)"
            self._out.reply(origin, submit, error=QueueFull(why))
        else:
            self._parking.park(parked)

    def _refusal(self, tasks: Sequence[m.Submission]) -> Exception | None:
        if self._closing:
            return closing()
        if len(tasks) > self._limits.max_pending:
            return QueueFull(
                f"{len(tasks)} tasks at once never fit: max_pending is {self._limits.max_pending}"
            )
        for task in tasks if self._ending or self._refused else ():
            if task.scope in self._ending:
                return SubmitError(
                    f"task {task.name} ({task.id}): the block that owns it has ended"
                )
            if task.id in self._refused:
                return RowRefused(self._refused[task.id], id=task.id)
        return None

    def _doubt(
        self, origin: int, submit: m.Submit, new: Sequence[m.Submission]
    ) -> Exception | None:
        """Refuse what may have run, of which nothing is left by now, and must not run twice."""
        if submit.lineage == self._welcome_for(origin):
            return None  # had it been accepted, the answer would have come before it was sent again
        stamp, records = submit.stamp, (submit.lineage or "").partition("/")[0]
        if stamp is not None and self._forgotten_until and stamp <= self._forgotten_until:
            return SubmitError(
                f"task {new[0].name} ({new[0].id}) was handed over before the connection was lost, "
                "and results of that time are forgotten by now (result_ttl, max_results): nobody "
                "knows whether it has run, so it is not run now"
            )
        if records not in ("", self._lineage_for(origin)):
            for task in new:
                if task.options.at_most_once:
                    return SubmitError(
                        f"task {task.name} ({task.id}) was handed over before the connection was "
                        "lost for long, or the queue itself, and nobody knows whether it has run: "
                        "at_most_once, so it is not run now"
                    )
        return None

    def _full_queue(self, needs: dict[str, int], *, fits: bool) -> str | None:
        """Return a queue that has not the room that is needed, or a line before it."""
        for queue, count in needs.items():
            if count > self._room(queue) or (queue in self._parking.lines and not fits):
                return queue
        return None

    def _room(self, queue: str) -> int:
        return self._limits.max_pending - self._ledger.unstarted(queue)

    def _queue_full(self, queue: str) -> QueueFull:
        return QueueFull(
            f"queue {queue!r} is full: {self._limits.max_pending} tasks wait in it (max_pending); "
            "wait for room with when_full='wait', or run more workers"
        )

    def _accept(
        self, origin: int, task: m.Submission, stored: Mapping[str, Record], *, alone: bool
    ) -> None:
        if task.options.after or task.needs:
            live = self._open_after(task, origin, stored)
        else:
            live = self._open(task, origin)
        if live.head.status is not PENDING:
            return
        pool, options = task.pool, task.options
        if alone and options.limit is None and self._may_grant_at_once(pool, options.queue):
            worker = self._fleet.freest(pool, task.name)
            if worker is not None:  # it would be taken out again at once
                self._grant(worker, live)
                return
        self._make_ready(live)

    def _may_grant_at_once(self, pool: Pool, queue: str) -> bool:
        return (
            pool != "any"
            and self._fleet.free[pool] > 0
            and self._ready.empty(pool)
            and queue not in self._ready.paused
            and not self._closing
        )

    def _unpark(self) -> bool:
        """Let in what waits for room, oldest first, as far as it fits; say whether any did."""
        some = False
        while (parked := self._parking.next(self._room)) is not None:
            if parked.asks and self._ask(parked):
                continue  # it keeps its places until the store has answered
            some = True
            self._parking.remove(parked)
            origin, submit = parked.origin, parked.submit
            if parked.asks:
                self._sort_out(origin, submit, Found(submit, {}), fits=True)
            else:
                self._admit(origin, submit, fits=True)
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


def _redirected(task: m.Submission, instead: Mapping[str, str]) -> m.Submission:
    """Return a task that comes after others as one that comes after those that stand for them."""
    options = task.options
    if not instead.keys().isdisjoint(options.after):
        options = options.with_after(tuple(instead.get(id, id) for id in options.after))
    needs = tuple(alias(id, instead[id]) if id in instead else id for id in task.needs)
    return replace(task, options=options, needs=needs)
