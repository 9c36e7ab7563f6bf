from actorq.model.ids import HOME
from actorq.testing.cluster import Fault
from actorq.testing.history import Happening, History
from actorq.testing.nodes import Setup
from actorq.testing.reading import Reading, holder_of, is_queue, lineage_of
from actorq.testing.workload import Job, Step

STEPS = (
    Step(0.0, 0, "submit", (Job("a"), Job("b"))),
    Step(0.0, 0, "schedule", (Job("s"),)),
)


def reading(
    *events: Happening, setup: Setup | None = None, faults: tuple[Fault, ...] = ()
) -> Reading:
    history = History()
    history.events.extend(events)
    return Reading(history, setup or Setup(), STEPS, faults)


def record(id: str, where: str = "queue", **details: object) -> Happening:
    return Happening(0.0, where, "record", {"id": id, "worker": "worker-0.1", **details})


def test_it_sorts_by_task_and_by_run() -> None:
    asked = Happening(0.0, "client-0", "asked", {"step": 0, "label": "b", "id": "1"})
    written = record("1")
    started = Happening(0.0, "worker-0", "started", {"run": 7, "id": "1", "label": "b"})
    ended = Happening(0.0, "worker-0", "ended", {"run": 7, "label": "b", "how": "returned"})
    told = Happening(0.0, "client-0", "told", {"id": "1"})

    found = reading(asked, written, started, ended, told)

    assert found.jobs == {"1": (STEPS[0], STEPS[0].jobs[1])}
    assert found.records["1"] == [(1, written)]
    assert found.starts["1"] == [(2, started)]
    assert (found.runs, found.ends) == ({7: started}, {7: (3, ended)})
    assert found.told == [(4, told)]
    assert found.name("1") == "task b (1)"


def test_what_a_schedule_submits_is_its_job() -> None:
    assert reading(record("1", schedule="s")).jobs == {"1": (STEPS[1], STEPS[1].jobs[0])}


def test_records_are_told_apart_by_their_lineage() -> None:
    found = reading(record("1", lineage="x"), record("1", "standby", lineage="x"), record("1"))

    assert found.lineages == ["x", "queue"]
    assert lineage_of(record("1", lineage="x")) == "x"


def test_only_a_queue_without_a_disk_loses_its_records() -> None:
    fault = Fault(0.0, "restart queue")

    assert reading(faults=(fault,)).restarted
    assert not reading(faults=(fault,), setup=Setup(store="disk")).restarted
    assert not reading().restarted


def test_the_holder_of_a_task_is_a_process() -> None:
    assert holder_of(record("1")) == "worker-0"
    assert holder_of(record("1", "queue.2", worker=f"{HOME}ab.1")) == "queue.2"
    assert holder_of(record("1", worker=None)) == ""
    assert [is_queue(name) for name in ("queue.2", "standby", "worker-1")] == [True, True, False]
