"""A queue machine and all that it needs around it: a store, a clock, clients and workers.

The store is a dictionary, the clock a number, a client a list of what it was told, and a worker
keeps the books that a real one keeps. A cut is what it is for the machine: an `Away`, and another
hello. Whatever is said is carried out as the queue actor does it:
the writes first, then the rest in order, the answers of the store at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from actorq.errors import RemoteError
from actorq.machines.effects import (
    Complete,
    Effect,
    Found,
    Lookup,
    Search,
    Searched,
    Send,
    Tell,
)
from actorq.machines.queue import Limits, QueueMachine
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Cancel, Head, Note, Output, Ownership, Pool, Record, Write
from actorq.model.status import FailureKind, TaskStatus

CLIENT = 1
MORNING = 1_700_000_000.0
PAGE = 2
"""What one search finds, so that several are needed."""

BOOM = Output(error=RemoteError("builtins.ValueError", "boom"), kind=FailureKind.ERROR)


def task(
    id: str = "a",
    *,
    name: str = "job",
    pool: Pool = "main",
    scope: str | None = None,
    body: Any = "call",
    needs: tuple[str, ...] = (),
    **options: Any,
) -> m.Submission:
    return m.Submission(id, name, pool, TaskOptions(**options), scope, body, needs)


class Question:
    """A request that was made, and what was answered to it."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.replies: list[m.Reply] = []

    @property
    def answered(self) -> bool:
        return bool(self.replies)

    @property
    def value(self) -> Any:
        (reply,) = self.replies
        if reply.error is not None:
            raise reply.error
        return reply.value

    @property
    def error(self) -> Exception | None:
        (reply,) = self.replies
        return reply.error


class Stage:
    """The machine under test, and the world around it."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.lineage = "records"
        self.forgotten_until = 0.0
        self.notes: dict[tuple[str, str], Note] = {}
        self.crashes = 0
        self.machine = QueueMachine(self.limits)
        self.now = MORNING
        self.machine.own(self.ownership(), self.now)
        self.records: dict[str, Record] = {}
        self.events: list[Tell] = []
        self.workers: dict[int, Worker] = {}
        self.inbox: dict[int, list[Any]] = defaultdict(list)
        self.questions: list[Question] = []
        self.last: list[Effect] = []
        """What came of the last thing that was said, in order."""

    def ownership(self) -> Ownership:
        """What the store says of itself; it forgets what it is told to, and no more."""
        return Ownership("00", self.crashes + 1, "nonce", self.lineage, self.forgotten_until)

    # --- saying ----------------------------------------------------------------------------------

    def say(self, origin: int, *messages: Any) -> None:
        self.last = []
        self.do(self.step(origin, messages))

    def do(self, effects: list[Effect]) -> None:
        while effects:
            self.last += effects
            self.commit([effect for effect in effects if isinstance(effect, Write)])
            effects = [more for effect in effects for more in self.carry_out(effect)]

    def step(self, origin: int, messages: Sequence[Any]) -> list[Effect]:
        return self.machine.step(origin, messages, self.now)

    def commit(self, writes: list[Write]) -> None:
        for write in writes:
            if write.head is None:
                self.records.pop(write.id, None)
                continue
            old = self.records.get(write.id)
            body, output = (old.body, old.output) if old else (None, None)
            self.records[write.id] = Record(
                write.head,
                body if write.body is UNSET else write.body,
                output if write.output is UNSET else write.output,
            )

    def carry_out(self, effect: Effect) -> list[Effect]:
        match effect:
            case Send(to, message):
                self.deliver(to, message)
            case Tell():
                self.events.append(effect)
            case Note(kind, name, value):
                if value is None:
                    self.notes.pop((kind, name), None)
                else:
                    self.notes[kind, name] = effect
            case Complete(to, request, stats):
                self.deliver(to, m.Reply(request, stats))
            case Lookup(to, message, ids, keys):
                found = {id: self.records[id] for id in ids if id in self.records}
                keyed = {key: r for key in keys if (r := self.ended_under(key)) is not None}
                return self.step(to, [Found(message, found, keyed)])
            case Search(to, message, filter, cursor, limit, total):
                answer = Searched(message, *self.search(filter, cursor, min(limit, PAGE)), total)
                return self.step(to, [answer])
        return []

    def ended_under(self, key: str) -> Record | None:
        ended = [
            record
            for _, record in sorted(self.records.items())
            if record.head.options.key == key and record.head.status.terminal
        ]
        return ended[-1] if ended else None

    def search(
        self, filter: Filter, cursor: str | None, limit: int
    ) -> tuple[list[Record], str | None, int]:
        ids = sorted((id for id in self.records if cursor is None or id < cursor), reverse=True)
        fit = [self.records[id] for id in ids if filter.matches(self.records[id].head)]
        return fit[:limit], fit[limit - 1].head.id if len(fit) > limit else None, len(ids)

    def deliver(self, to: int, message: Any) -> None:
        if isinstance(message, m.Reply):
            self.questions[message.request].replies.append(message)
        elif to in self.workers:
            self.workers[to].received(message)
        else:
            self.inbox[to].append(message)

    def purge(self) -> None:
        """Forget every ended record whose time is over, but for those that are needed."""
        for id, record in list(self.records.items()):
            keep = record.head.keep_until
            if keep is not None and keep <= self.now and id not in self.machine.pinned():
                del self.records[id]
                self.forgotten_until = max(self.forgotten_until, record.head.submitted_at)
                self.machine.forgot(self.forgotten_until)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, with a tick whenever the machine has asked for one."""
        end = self.now + seconds
        while (deadline := self.machine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.say(0, m.Tick())
        self.now = end

    def stall(self, seconds: float) -> None:
        """Have the owner stand still: time passes and it sees nothing, not even its alarm."""
        self.now += seconds

    def set_ahead(self, seconds: float) -> None:
        """Have somebody set the clock; the owner is told of that before it hears the time."""
        self.now += seconds
        self.machine.move_along(seconds)

    def tick(self) -> None:
        """Have the owner look at its alarm, as it does when all mail is read."""
        self.pass_time(0.0)

    def disconnect(self, connection: int) -> None:
        self.workers.pop(connection, None)
        self.say(connection, m.Gone())

    def crash(self) -> None:
        """End the machine and every connection; a new one takes over what is stored."""
        self.crashes += 1
        self.machine = QueueMachine(self.limits, f"{self.crashes:016x}")
        self.machine.own(self.ownership(), self.now)
        for note in self.notes.values():
            self.machine.load_note(note)
        self.workers.clear()
        for _, record in sorted(self.records.items()):
            if not record.head.status.terminal:
                self.machine.load(record)

    # --- what clients ask for --------------------------------------------------------------------

    def question(self, verb: Callable[..., Any], *args: Any) -> Question:
        """Make a request, which is not sent."""
        question = Question(verb(len(self.questions), *args))
        self.questions.append(question)
        return question

    def ask(self, verb: Callable[..., Any], *args: Any, origin: int = CLIENT) -> Question:
        question = self.question(verb, *args)
        self.say(origin, question.message)
        return question

    def submit(
        self,
        *tasks: m.Submission,
        origin: int = CLIENT,
        resent: bool = False,
        lineage: str | None = None,
        stamp: float | None = None,
    ) -> Question:
        return self.ask(m.Submit, tasks, resent, lineage, stamp, origin=origin)

    def cancel(
        self, id: str = "a", reason: str | None = None, *, grace: float = 10.0, origin: int = CLIENT
    ) -> Question:
        return self.ask(m.CancelTask, id, Cancel("user", reason), grace, origin=origin)

    def bulk(
        self,
        verb: m.Verb,
        filter: Filter = Filter(),  # noqa: B008 - frozen
        *,
        dry_run: bool = False,
        resent: bool = False,
    ) -> Question:
        return self.ask(m.Bulk, verb, filter, dry_run, Cancel("user"), 10.0, resent)

    # --- what is known ---------------------------------------------------------------------------

    def head(self, id: str = "a") -> Head:
        return self.records[id].head

    def status(self, id: str = "a") -> TaskStatus:
        return self.head(id).status

    def output(self, id: str = "a") -> Output | None:
        return self.records[id].output

    def outcomes(self, origin: int = CLIENT) -> list[tuple[str, TaskStatus]]:
        return [(o.head.id, o.head.status) for o in self.inbox[origin] if isinstance(o, m.Outcome)]

    def told(self, kind: EventKind) -> list[dict[str, Any]]:
        """Return the details of every event of this kind."""
        return [event.details for event in self.events if event.kind is kind]

    def left(self) -> dict[str, int]:
        """Return the tables that are not empty."""
        return {table: size for table, size in self.machine.tables().items() if size}


class Worker:
    """A worker's side of the protocol: what it holds, and the credit that it has to give."""

    def __init__(
        self,
        stage: Stage,
        main: int = 1,
        process: int = 0,
        *,
        name: str = "w.0",
        at: int = 100,
        tasks: Iterable[str] | None = None,
        declared: Mapping[str, m.Declared] | None = None,
        leased: bool = False,
    ) -> None:
        self.stage = stage
        self.name = name
        self.leased = leased
        self.declared = dict(declared or {})
        self.tasks = None if tasks is None else dict.fromkeys(tasks, "digest")
        self.slots: dict[Pool, int] = {"main": main, "process": process}
        self.grants: dict[str, m.Grant] = {}
        self.unanswered: dict[tuple[str, int], m.Finish] = {}
        self.log: list[str] = []
        """The ids of all grants, in order."""
        self.interrupts: list[m.Interrupt] = []
        self.answers: list[m.Finished] = []
        self.revoked: list[tuple[str, int]] = []
        self.lost = 0
        """How often it was told that it is given up."""
        self.connect(at)

    @property
    def node(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def connected(self) -> bool:
        return self.connection in self.stage.workers

    def hello(self) -> m.WorkerHello:
        held = [(id, grant.head.fence) for id, grant in self.grants.items()]
        return m.WorkerHello(
            self.name,
            self.node,
            (*held, *self.unanswered),
            self.slots,
            self.tasks,
            self.leased,
            self.declared,
        )

    def connect(self, at: int) -> None:
        """Say hello on a new connection, and all that was not answered on the old one."""
        self.connection = at
        self.stage.workers[at] = self
        self.got: dict[Pool, int] = {"main": 0, "process": 0}
        revoked = len(self.revoked)
        self.say(self.hello(), *self.unanswered.values(), *map(self.ready, self.slots))
        if len(self.revoked) > revoked:  # what was revoked is stopped, so its slot is free
            self.say(*map(self.ready, self.slots))

    def cut(self) -> None:
        """Lose the connection, for now."""
        self.stage.workers.pop(self.connection, None)
        self.say(m.Away())

    def back(self) -> None:
        """Come back; to the machine it is the same peer as before."""
        self.connect(self.connection)

    def beat(self, lag: float = 0.0) -> None:
        self.say(m.Beat(lag))

    def learn(self, *names: str) -> None:
        assert self.tasks is not None
        self.tasks |= dict.fromkeys(names, "digest")
        self.say(m.Knows(self.tasks, self.declared))

    def say(self, *messages: Any) -> None:
        self.stage.say(self.connection, *messages)

    def ready(self, pool: Pool) -> m.Ready:
        return m.Ready(pool, self.got[pool] + self.free(pool))

    def free(self, pool: Pool) -> int:
        return self.slots[pool] - sum(g.head.pool == pool for g in self.grants.values())

    def received(self, message: Any) -> None:
        match message:
            case m.Grant():
                pool = message.head.pool
                assert self.free(pool) > 0, "granted beyond its credit"
                self.got[pool] += 1
                self.grants[message.head.id] = message
                self.log.append(message.head.id)
            case m.Interrupt():
                self.interrupts.append(message)
            case m.Finished():
                self.answers.append(message)
                self.unanswered.pop((message.id, message.fence), None)
            case m.Lost():
                self.lost += 1
                self.stage.workers.pop(self.connection, None)
            case m.Welcome():
                self.revoked += message.revoked
                for id, fence in message.revoked:
                    self.unanswered.pop((id, fence), None)
                    if id in self.grants and self.grants[id].head.fence == fence:
                        del self.grants[id]

    def start(self, id: str = "a") -> None:
        self.say(m.Started(id, self.grants[id].head.fence, self.stage.now))

    def finish(self, id: str = "a", cause: m.FinishCause = "ok", **fields: Any) -> m.Finish:
        """Say how an attempt ended, and that its slot is free."""
        grant = self.grants.pop(id)
        fields = {"output": Output(), "started_at": self.stage.now} | fields
        finish = m.Finish(id, grant.head.fence, cause, **fields)
        self.unanswered[id, finish.fence] = finish
        self.say(finish, self.ready(grant.head.pool))
        return finish

    def fail(self, id: str = "a", *, retryable: bool = True) -> m.Finish:
        return self.finish(id, "failed", output=BOOM, retryable=retryable)

    def vanish(self, at: int = 101) -> None:
        """Die, and come back as the next incarnation."""
        self.stage.disconnect(self.connection)
        self.restart(at)

    def restart(self, at: int) -> None:
        """Come as the next incarnation, which knows nothing of what the last one held."""
        self.name = f"{self.node}.{int(self.name.rpartition('.')[2]) + 1}"
        self.grants.clear()
        self.unanswered.clear()
        self.connect(at)


class Guest:
    """A client elsewhere: its session and its connection."""

    def __init__(self, stage: Stage, session: str = "guest", *, at: int = 50) -> None:
        self.stage = stage
        self.session = session
        self.connect(at)

    def connect(self, at: int) -> None:
        self.connection = at
        self.stage.say(at, m.ClientHello(self.session, leased=True))

    def cut(self) -> None:
        self.stage.say(self.connection, m.Away())

    def back(self) -> None:
        """Come back; to the machine it is the same peer as before."""
        self.connect(self.connection)

    def leave(self) -> None:
        self.stage.disconnect(self.connection)

    def submit(self, *tasks: m.Submission, **how: Any) -> Question:
        return self.stage.submit(*tasks, origin=self.connection, **how)

    @property
    def welcome(self) -> m.ClientWelcome:
        """The newest."""
        return [x for x in self.stage.inbox[self.connection] if isinstance(x, m.ClientWelcome)][-1]

    @property
    def lost(self) -> int:
        """How often it was told that it is given up."""
        return sum(isinstance(x, m.Lost) for x in self.stage.inbox[self.connection])
