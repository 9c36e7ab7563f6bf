"""Each promise with a history that breaks it, and no more than that."""

from typing import Any

import pytest

from actorq.testing.cluster import Fault
from actorq.testing.history import Happening, History
from actorq.testing.nodes import Setup
from actorq.testing.promises import broken
from actorq.testing.workload import Job, Step

ID = "id-a"
SETUP = Setup(slots=1)
DURABLE = Setup(slots=1, store="disk", standby=True)


class Telling:
    """A history that is told by hand: one task ``a``, whose id is ``ID``."""

    def __init__(
        self, job: Job | None = None, verb: Any = "submit", *faults: Fault, setup: Setup = SETUP
    ) -> None:
        self.history = History()
        self.setup = setup
        self.steps = (Step(0.0, 0, verb, (job or Job("a"),), 1.0),)
        self.faults = faults
        self.at = 0.0
        self("asked", "client-0", step=0, label="a", id=ID)

    def __call__(self, what: str, where: str = "queue", **details: Any) -> "Telling":
        self.at += 1.0
        self.history.events.append(Happening(self.at, where, what, details))
        return self

    def record(self, status: str, id: str = ID, where: str = "queue", **changes: Any) -> "Telling":
        usual = {"fence": 1, "attempts": 0, "deaths": 0, "worker": "worker-0.1", "cancel": None}
        usual["lineage"] = where if self.setup.store == "memory" else "disk"
        return self("record", where, id=id, status=status, **(usual | changes))

    def run(self, run: int, where: str = "worker-0", how: str = "returned") -> "Telling":
        self("started", where, run=run, label="a", id=ID, attempt=1)
        return self("ended", where, run=run, label="a", how=how)

    def told(self, status: str = "success", **changes: Any) -> "Telling":
        value = f"a {ID} 1" if status == "success" else None
        usual = {"id": ID, "about": ID, "status": status, "value": value, "error": None}
        usual |= {"worker": "worker-0.1", "attempts": 1}
        return self("told", "client-0", **(usual | changes))

    def lived(self) -> "Telling":
        """A life without trouble, but for its end."""
        return self.record("running")("accepted", "client-0", id=ID).run(1)

    @property
    def complaints(self) -> list[str]:
        return broken(self.history, self.setup, self.steps, self.faults)


def test_a_life_without_trouble_breaks_nothing() -> None:
    assert Telling().lived().record("success").told()("done", step=0).complaints == []


RESTART = Fault(0.0, "restart queue")
CRASH: dict[str, Any] = {"kind": "restart queue", "whom": "queue"}


@pytest.mark.parametrize(
    ("telling", "said"),
    [
        (Telling()("hangs", role="client-0", steps=[0]), "hangs"),
        (Telling()("leak", live=1), "leak"),
        (Telling()("accepted", id=ID), "was accepted, and was not recorded"),
        (Telling()("accepted", id=ID).record("success"), "was accepted, and was not recorded"),
        (Telling().lived(), "was accepted and has not ended"),
        (Telling().lived().told().record("success"), "and that was not recorded"),
        (
            Telling().lived().record("success")("asking", id=ID)
            ("seen", id=ID, about=ID, status="running"),
            "was seen running at 8.0000, and had ended",
        ),
        (
            Telling().lived().record("success")("event", kind="stale_result", id=ID, fence=1),
            "its end was refused at 7.0000, and is recorded",
        ),
        (
            Telling(setup=DURABLE).lived().record("success")
            .record("running", where="standby", fence=2),
            "was success, and is running",
        ),
        (
            Telling(None, "submit", RESTART, setup=DURABLE).lived(),
            "was accepted and has not ended",
        ),
        (
            Telling(None, "submit", RESTART, setup=DURABLE)("fault", "", **CRASH).lived()
            .record("pending", deaths=1),
            "nothing had happened to worker-0",
        ),
        (
            Telling(None, "submit", RESTART, setup=DURABLE)("fault", "", **CRASH).lived()
            .record("pending").record("running", fence=2).run(2),
            "is run again at",
        ),
        (
            Telling(Job("a", "flaky")).record("running").run(1, how="raised").record("pending")
            .record("running", fence=2).run(2),
            "is run again at",
        ),
        (Telling().lived().record("success").record("failure"), "was success, and is failure"),
        (Telling().lived().record("success", fence=0), "has gone back"),
        (Telling().lived().record("pending", deaths=1), "nothing had happened to worker-0"),
        (
            Telling().lived().record("running", cancel="user").record("running", fence=2),
            "was cancelled by user, and is granted again",
        ),
        (
            Telling().lived().record("running", cancel="user").record("failure"),
            "was cancelled by user, and is a failure",
        ),
        (Telling().record("running").record("running", id="b"), "holds 2 tasks"),
        (Telling().record("running").run(1).run(2), "started 2 times on 1 grants"),
        (
            Telling(Job("a", options={"at_most_once": True}))
            .record("running").run(1).record("running", fence=2).run(2),
            "at_most_once and started 2 times",
        ),
        (Telling().lived().record("success").told(about="id-b"), "was told about id-b"),
        (
            Telling().lived().record("success").told(value=f"b {ID} 1"),
            "has the value 'b id-a 1' of another task",
        ),
        (
            Telling().record("running").run(1, how="raised").record("success").told(),
            "which did not return one",
        ),
        (
            Telling().record("running").run(1, "worker-1").record("success").told(),
            "has the value of worker-1, and is said to be of worker-0.1",
        ),
        (
            Telling().record("running").run(1).record("running", fence=2).record("success", fence=2)
            .told(),
            "which was before grant 2",
        ),
        (
            Telling().lived().record("success").told().told("failure", error="WorkerLost"),
            "told ('success'",
        ),
        (Telling().lived().record("failure").told("failure", error="Broken"), "it does not do"),
        (Telling().lived().record("failure").told("failure", error="GiveUp"), "gave up"),
        (
            Telling().lived().record("failure").told("failure", error="TaskTimeout"),
            "timed out without a time",
        ),
        (
            Telling().lived().record("failure").told("failure", error="TaskExpired"),
            "expired without a time",
        ),
        (Telling().lived().record("failure").told("failure", error="Odd"), "failure with Odd"),
        (Telling().lived().record("cancelled").told("cancelled"), "nobody asked for that"),
        (
            Telling(None, "submit", Fault(2.0, "crash", "worker-0")).record("running")
            ("fault", "", kind="crash", whom="worker-0")("late")("late")("late")("late")("late")
            ("late")("late").record("pending", deaths=1),
            "was missed only at 11.0",
        ),
        (Telling()("error", step=0, error="TaskNotFound", said="no task"), "got TaskNotFound"),
        (Telling()("error", step=0, error="ActorDied", said="closed"), "got ActorDied"),
        (Telling(None, "nursery").lived()("left", ids=[ID]), "goes on after its block was left"),
        (
            Telling(None, "nursery").record("running")
            ("started", "worker-0", run=1, label="a", id=ID, attempt=1).record("cancelled")
            ("left", ids=[ID]),
            "still ran when its block was left",
        ),
        (
            Telling(None, "nursery").record("running").record("cancelled")("left", ids=[ID]).run(1),
            "started after its block was left",
        ),
    ],
)  # fmt: skip
def test_a_broken_promise_is_told(telling: Telling, said: str) -> None:
    assert [complaint for complaint in telling.complaints if said in complaint], telling.complaints


@pytest.mark.parametrize(
    "telling",
    [
        Telling(None, "submit", RESTART).lived(),
        Telling(None, "submit", RESTART)("error", step=0, error="TaskNotFound", said="no task"),
        Telling()("fault", "", kind="crash", whom="worker-0").lived()
        .record("pending", deaths=1).record("running", fence=2, deaths=1)
        .record("success", fence=2, deaths=1),
        Telling()("poisoned", "worker-0", run=9).lived().record("failure", deaths=1),
        Telling(None, "submit", RESTART, setup=DURABLE)("fault", "", told=False, **CRASH).lived()
        .record("pending", deaths=1).record("running", fence=2, deaths=1).run(2)
        .record("success", fence=2, deaths=1),
        Telling(Job("a", "flaky", options={"retry": 2})).record("running").run(1, how="raised")
        .record("pending").record("running", fence=2).run(2).record("success", fence=2),
        Telling().lived().record("success", fence=2)
        ("event", kind="stale_result", id=ID, fence=1),
        Telling(setup=DURABLE)("error", step=0, error="StoreUnavailable", said="the disk is full"),
        Telling().lived()("asking", id=ID)("seen", id=ID, about=ID, status="running")
        .record("success"),
        Telling(Job("a", "fail")).lived().record("failure").told("failure", error="Broken"),
        Telling(Job("a", options={"timeout": 1})).lived().record("failure")
        .told("failure", error="TaskTimeout"),
        Telling(None, "cancel").lived().record("cancelled").told("cancelled"),
        Telling(Job("a", options={"result_ttl": 0}), "cancel")
        ("error", step=0, error="TaskNotFound", said="no task"),
        Telling(None, "nursery")("event", kind="cancel_unconfirmed", id=ID).record("running")
        ("started", "worker-0", run=1, label="a", id=ID, attempt=1).record("cancelled")
        ("left", ids=[ID]),
    ],
)  # fmt: skip
def test_what_has_a_reason_breaks_nothing(telling: Telling) -> None:
    assert telling.complaints == []
