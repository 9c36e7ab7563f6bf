"""One message of every kind that travels, and what a peer could make of their bytes."""

from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st

from actorq.codec.envelope import encode, join
from actorq.errors import RemoteError, TaskNotFound
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.feed import TaskEvent, TaskEventKind
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS, Retry, TaskOptions
from actorq.model.records import Cancel, Done, Head, Output, TrackedHead
from actorq.model.results import (
    PoolStats,
    Progress,
    QueueStats,
    ScheduleInfo,
    Stats,
    TaskInfo,
    WorkerInfo,
)
from actorq.model.schedules import Cron, Every, Schedule
from actorq.model.status import PENDING, RUNNING, SUCCESS, FailureKind
from actorq.model.tree import ActorNode, ActorTree, SupervisorNode, TaskNode

NOW = 1_700_000_000.0
OPTIONS = TaskOptions(
    queue="images", priority="high", retry=Retry(attempts=3, on=("builtins.OSError",))
)
ERROR = RemoteError(
    "mine.Bad", "no", "Traceback", ("a note",), ("mine.Bad", "builtins.Exception"),
    (RemoteError("builtins.OSError", "inside"),),
)  # fmt: skip
FAILED = Output(error=ERROR, kind=FailureKind.TIMEOUT)


def head(**fields: Any) -> Head:
    made = Head(
        "id 1", "task", OPTIONS, "main", None, NOW, NOW + 1, NOW - 5, NOW + 2, RUNNING, 3, 2, 1,
        "node.1", NOW + 3, NOW + 4, NOW + 5, Cancel("user", "why"),
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


def bare_grant_head(options: TaskOptions = OPTIONS) -> Head:
    """All that a worker gets to know."""
    return TrackedHead(
        "id 1", "task", options, "main", None, 0.0, 0.0, 0.0, 0.0, RUNNING, 3, 2
    )  # fmt: skip


SNAPSHOT = m.Snapshot(head(status=SUCCESS), Output(b"value"), Progress(1.0, 2.0, "half"), True)
FILTER = Filter(
    statuses=frozenset({PENDING, SUCCESS}), names=frozenset({"a", "b"}), queue="q",
    ids=frozenset({"id 1"}), before=NOW, after=NOW - 1, ended_since=NOW - 2,
)  # fmt: skip
STATS = Stats(
    {"images": QueueStats(1, 2, 3, 4, 5, True, datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC))},
    {"main": PoolStats(10, 9)},
    1,
    2,
    3,
    4,
    5,
    6,
    {"task": 7},
)
TREE = ActorTree(
    "node", 1,
    (SupervisorNode("actorq", "one_for_one", (
        ActorNode("worker actor", "busy", 1, 0, 2, (TaskNode("id 1", "task", 1, 0.5),)),
    )),),
    (WorkerInfo("node.1", True, True, 10, 3),),
)  # fmt: skip

CRON = Schedule(
    "nightly", Cron("0 3 * * *", "Europe/Zurich"), "task", "main", OPTIONS, b"call", "all", "queue"
)
EVERY = Schedule("task", Every(2.5), "task", "process", NO_OPTIONS, b"")

SCHEDULED = ScheduleInfo(
    "nightly",
    "task",
    "every 60 s",
    datetime(2026, 1, 1, tzinfo=UTC),
    None,
    None,
    True,
    "last",
    "skip",
)

DONE = Done(None, head(status=SUCCESS), Output(b"value"), {"user": 7})

TO_OWNER: list[Any] = [
    w.Hello((1, 2), 3, "node", "0.1", 4_096, ("later",)),
    w.BeatHello("node"),
    w.ParentHello("session"),
    w.Ping(3),
    w.Got(4),
    w.Bye(),
    m.ClientHello("session", True),
    m.Submit(
        1,
        (
            m.Submission("id 1", "task", "main", OPTIONS, "me:1", b"call"),
            m.Submission("id 2", "task", "any", NO_OPTIONS, None, b"", ("id 0", "id 1")),
        ),
        True,
        "lineage",
        NOW,
    ),
    m.Withdraw(1, 2, ("id 1",), 3.0),
    m.Forget(1),
    m.Watch(1, ("id 1", "id 2"), True),
    m.CancelTask(1, "id 1", Cancel("user", "why"), 3.0),
    m.EndScope(1, "me:1", 3.0),
    m.Inspect(1, "id 1"),
    m.Find(1, FILTER, "cursor", 100),
    m.Bulk(1, "cancel", FILTER, True, Cancel("user"), 3.0),
    m.Subscribe(1, 2, FILTER, NOW),
    m.Subscribe(1, 2, FILTER, NOW, 3.5),
    m.Unsubscribe(2),
    m.GetStats(1),
    m.GetTasks(1),
    m.GetTree(1),
    m.Join(1),
    m.Why(1, "id 1"),
    m.PauseQueue(1, "images", True),
    m.Declare(1, CRON),
    m.Declare(1, EVERY),
    m.ControlSchedule(1, "nightly", "run", "id 1", True),
    m.GetSchedules(1),
    m.WorkerHello(
        "node.1", "node", (("id 1", 3),), {"main": 10, "process": 2}, {"task": "digest"},
        declared={"task": m.Declared("process", OPTIONS)},
    ),
    m.Knows({"task": "digest"}, {"task": m.Declared("main", NO_OPTIONS)}),
    m.Knows({"task": "digest"}, {"task": m.Declared("process", NO_OPTIONS, EVERY)}),
    m.Ready("process", 7),
    m.Beat(0.5),
    m.Started("id 1", 3, NOW),
    m.Report("id 1", 3, Progress(1.0, 2.0, "half")),
    m.Finish("id 1", 3, "later", FAILED, NOW, True, 2.5),
    m.WorkerDied(1, "node"),
]  # fmt: skip

ANSWERS: list[Any] = [
    m.Reply(1),
    m.Reply(1, 7),
    m.Reply(1, ("id 1", "id 2")),
    m.Reply(1, m.Admitted(("id 1",), {"id 2": "id 0"})),
    m.Reply(1, SNAPSHOT),
    m.Reply(1, m.FoundPage(None, [SNAPSHOT, SNAPSHOT], "next", 9)),
    m.Reply(1, m.Standing(NOW, {PENDING: 3}, (SNAPSHOT,))),
    m.Reply(1, STATS),
    m.Reply(1, [TaskInfo("task", 1, 2, 3)]),
    m.Reply(1, TREE),
    m.Reply(1, "its queue is paused"),
    m.Reply(1, {"nightly": SCHEDULED, "paused": attrs.evolve(SCHEDULED, next_at=None)}),
    m.Reply(1, error=TaskNotFound("id 1")),
]

FROM_OWNER: list[Any] = [
    w.Accepted(1, "node", "0.1", 4_096, 15.0, 5.0, 1_000, ("later",)),
    w.Pong(),
    m.ClientWelcome("lineage", 2, NOW),
    *ANSWERS,
    m.Outcome(head(status=SUCCESS), Output(b"value")),
    m.Outcome(head(needs=("id 0",)), None),
    m.News(2, [TaskEvent(TaskEventKind.RETRYING, head(), NOW, Progress(1.0), ERROR)]),
    m.Welcome((("id 1", 3),)),
    m.Grant(bare_grant_head(), b"call", 4.5),
    m.Grant(bare_grant_head(), DONE, None),
    m.Grant(bare_grant_head(), b"call", None, {"id 0": b"value"}),
    m.Interrupt("id 1", 3, Cancel("user", "why"), 3.0),
    m.Finished("id 1", 3, True),
]  # fmt: skip


def batch(*messages: Any) -> bytes:
    """Return the bytes of these together."""
    return join([encode(message) for message in messages])


# --- what a peer could send ----------------------------------------------------------------------

things: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=6,
)


def forms(messages: list[Any]) -> list[list[Any]]:
    """Return the arrays that messages travel as, to be tampered with."""
    made = [msgspec.msgpack.decode(encode(message)) for message in messages]
    assert all(isinstance(form, list) for form in made)
    return made


@st.composite
def tampered(draw: st.DrawFn, messages: list[Any]) -> bytes:
    """Draw a batch of honest messages of which some bytes, or some fields, are others."""
    chosen = draw(st.lists(st.sampled_from(messages), min_size=1, max_size=4))
    if draw(st.booleans()):
        data = bytearray(batch(*chosen))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(data) - 1))
            data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
            if not data:
                break
        return bytes(data)
    made = forms(chosen)
    for form in made:
        place: Any = form
        while True:  # go down into one of its fields
            at = draw(st.integers(0, len(place) - 1))
            inner = place[at]
            if not isinstance(inner, list) or not inner or draw(st.booleans()):
                break
            place = inner
        place[at] = draw(things)
    return msgspec.msgpack.encode(made)
