import tracemalloc

from actorq.machines.fleet import Fleet, Worker
from actorq.model.messages import Declared
from actorq.model.options import NO_OPTIONS
from actorq.model.results import WorkerInfo

SLOTS = {"main": 2, "process": 1}


def test_a_worker_that_connects_offers_nothing_yet() -> None:
    fleet = Fleet()

    worker = fleet.connect(1, "w", "w.0", SLOTS)

    assert (worker.name, worker.connection) == ("w.0", 1)
    assert fleet.free == {"main": 0, "process": 0}
    assert (fleet.slots("main"), fleet.slots("process")) == (2, 1)


def test_credit_is_what_was_granted_and_what_is_free() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", SLOTS)

    fleet.offer(worker, "main", 2)
    fleet.charge(worker, "main", "a")
    assert fleet.free["main"] == 1

    fleet.offer(worker, "main", 3)
    assert fleet.free["main"] == 2
    assert fleet.held() == 1


def test_the_same_credit_again_changes_nothing() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", SLOTS)

    for _ in range(3):
        fleet.offer(worker, "main", 2)

    assert fleet.free["main"] == 2


def test_credit_below_what_was_granted_is_none_and_takes_none_from_others() -> None:
    fleet = Fleet()
    left, right = fleet.connect(1, "l", "l.0", SLOTS), fleet.connect(2, "r", "r.0", SLOTS)
    fleet.offer(left, "main", 2)
    fleet.charge(left, "main", "a")
    fleet.charge(left, "main", "b")

    fleet.offer(left, "main", 0)
    fleet.offer(right, "main", 1)

    assert fleet.free["main"] == 1
    assert fleet.freest("main", "job") is right


def test_a_disconnected_worker_takes_its_credit_along_and_keeps_what_it_holds() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", SLOTS)
    fleet.offer(worker, "main", 2)
    fleet.charge(worker, "main", "a")

    fleet.disconnect(worker)
    fleet.disconnect(worker)

    assert fleet.free["main"] == 0
    assert fleet.by_connection == {}
    assert (list(worker.held), fleet.held()) == (["a"], 1)
    assert fleet.known("w") is worker


def test_the_same_incarnation_that_comes_again_is_the_same_worker() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", SLOTS)
    fleet.offer(worker, "main", 2)
    fleet.charge(worker, "main", "a")

    again = fleet.connect(2, "w", "w.0", SLOTS)

    assert again is worker
    assert (again.connection, list(again.held)) == (2, ["a"])
    assert fleet.by_connection == {2: worker}
    assert fleet.free["main"] == 0
    fleet.offer(again, "main", 1)
    assert fleet.free["main"] == 1


def test_a_new_incarnation_is_another_worker() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", SLOTS)
    fleet.disconnect(worker)

    new = fleet.connect(2, "w", "w.1", SLOTS)

    assert new is not worker
    assert fleet.known("w") is new


def test_a_worker_of_a_loaded_task_is_expected_by_its_name() -> None:
    fleet = Fleet()

    expected = fleet.expect("my.node.3")

    assert fleet.expect("my.node.3") is expected
    assert fleet.known("my.node") is expected
    assert expected.connection is None
    assert fleet.connect(1, "my.node", "my.node.3", SLOTS) is expected


def test_the_freest_is_the_one_with_most_free_slots() -> None:
    fleet = Fleet()
    workers = [fleet.connect(n, f"{n}", f"{n}.0", SLOTS) for n in range(3)]
    for worker, credit in zip(workers, (1, 3, 2), strict=True):
        fleet.offer(worker, "main", credit)

    order = []
    while fleet.free["main"]:
        worker = fleet.freest("main", "job")
        assert worker is not None
        fleet.charge(worker, "main", str(len(order)))
        order.append(workers.index(worker))

    assert order[:2] == [1, 1] or order[:2] == [1, 2]
    assert sorted(order) == [0, 1, 1, 1, 2, 2]


def joined(fleet: Fleet, at: int, *names: str, free: int = 1, everything: bool = False) -> Worker:
    """Connect a worker that knows these names and has so many free slots."""
    worker = fleet.connect(at, f"w{at}", f"w{at}.0", {"main": free, "process": 0})
    fleet.learn(worker, None if everything else dict.fromkeys(names, "digest"), {})
    fleet.offer(worker, "main", free)
    return worker


def test_only_equals_take_turns() -> None:
    fleet = Fleet()
    large, small = joined(fleet, 1, "job", free=3), joined(fleet, 2, "job", free=1)

    for id in "ab":
        assert fleet.freest("main", "job") is large
        fleet.charge(large, "main", id)

    assert fleet.freest("main", "job") is small


def test_equals_take_turns() -> None:
    fleet = Fleet()
    workers = [joined(fleet, n, "job") for n in range(3)]
    order = []

    for n in range(6):
        worker = fleet.freest("main", "job")
        assert worker is not None
        order.append(workers.index(worker))
        fleet.charge(worker, "main", str(n))
        fleet.offer(worker, "main", worker.granted["main"] + 1)

    assert order == [0, 1, 2, 0, 1, 2]


def test_credit_of_a_pool_that_does_not_exist_is_ignored() -> None:
    fleet = Fleet()
    worker = fleet.connect(1, "w", "w.0", {"main": 1, "any": 5})

    fleet.offer(worker, "any", 5)

    assert fleet.free == {"main": 0, "process": 0}
    assert worker.slots == {"main": 1, "process": 0}


# --- what they know ------------------------------------------------------------------------------


def test_nobody_knows_anything_in_an_empty_fleet() -> None:
    fleet = Fleet()

    assert not fleet.knows("f")
    assert fleet.freest("main", "f") is None
    assert fleet.declared("f") is None


def test_the_freest_is_one_that_knows_the_name() -> None:
    fleet = Fleet()
    f, g = joined(fleet, 1, "f", free=1), joined(fleet, 2, "g", free=5)

    assert (fleet.freest("main", "f"), fleet.freest("main", "g")) == (f, g)
    assert fleet.freest("main", "h") is None
    assert (fleet.knows("f"), fleet.knows("h")) == (True, False)


def test_what_a_fleet_can_run_is_what_those_with_free_slots_know() -> None:
    fleet = Fleet()
    joined(fleet, 1, "f", "g")
    busy = joined(fleet, 2, "h", free=0)
    joined(fleet, 3, "g", "f")
    assert fleet.able("main") == {"f", "g"}

    fleet.offer(busy, "main", 1)
    assert fleet.able("main") == {"f", "g", "h"}

    joined(fleet, 4, everything=True)
    assert fleet.able("main") is None


def test_a_lone_worker_is_all_that_a_fleet_can_do() -> None:
    fleet = Fleet()
    worker = joined(fleet, 1, "f")
    assert fleet.able("main") == {"f"}

    fleet.learn(worker, None, {})
    assert fleet.able("main") is None


def test_what_is_learnt_counts_from_then_on() -> None:
    fleet = Fleet()
    first, _ = joined(fleet, 1, "f"), joined(fleet, 2, "g")
    assert fleet.able("main") == {"f", "g"}

    fleet.learn(first, {"f": "digest", "h": "digest"}, {})

    assert fleet.able("main") == {"f", "g", "h"}
    assert fleet.freest("main", "h") is first


def test_who_is_away_knows_nothing_that_counts() -> None:
    fleet = Fleet()
    worker, _ = joined(fleet, 1, "f"), joined(fleet, 2, "g")
    fleet.learn(worker, {"f": "digest"}, {"f": Declared("main", NO_OPTIONS)})
    assert fleet.declared("f") is not None

    fleet.disconnect(worker)

    assert not fleet.knows("f")
    assert fleet.able("main") == {"g"}
    assert fleet.declared("f") is None


def test_sets_of_names_that_nobody_has_any_more_are_forgotten() -> None:
    fleet = Fleet()
    old, other = joined(fleet, 1), joined(fleet, 2, "other")
    names: dict[str, str] = {}
    tracemalloc.start()

    for n in range(1_000):
        names[f"name {n}"] = "digest"
        fleet.learn(old, names, {})
        fleet.able("main")
    for n in range(1_000):
        fleet.learn(joined(fleet, 3, *(f"{n} {k}" for k in range(50))), {}, {})
        fleet.able("main")
        fleet.forget(fleet.by_connection[3])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert fleet.able("main") == names.keys() | {"other"}
    assert other.connection == 2
    assert held < 1_000_000  # bytes; all that was ever known would be many millions


# --- those that stand still ----------------------------------------------------------------------


def test_a_worker_that_is_suspended_is_offered_nothing() -> None:
    fleet = Fleet()
    slow, other = joined(fleet, 1, "f", "g", free=5), joined(fleet, 2, "f", free=1)

    for _ in range(2):
        fleet.suspend(slow)
    assert (fleet.free["main"], fleet.freest("main", "f"), fleet.able("main")) == (1, other, {"f"})
    assert fleet.freest("main", "g") is None
    assert fleet.knows("g")  # it will run, though not now

    for _ in range(2):
        fleet.resume(slow)
    assert (fleet.free["main"], fleet.freest("main", "f")) == (6, slow)


def test_credit_that_comes_while_it_is_suspended_counts_afterwards() -> None:
    fleet = Fleet()
    worker = joined(fleet, 1, free=1)
    fleet.suspend(worker)

    fleet.offer(worker, "main", 3)
    assert fleet.free["main"] == 0

    fleet.resume(worker)
    assert fleet.free["main"] == 3


def test_a_suspended_worker_that_is_disconnected_takes_along_what_it_has() -> None:
    fleet = Fleet()
    worker, _ = joined(fleet, 1, free=3), joined(fleet, 2, free=2)
    fleet.suspend(worker)

    fleet.disconnect(worker)
    assert fleet.free["main"] == 2

    fleet.suspend(worker)
    fleet.resume(worker)
    assert fleet.free["main"] == 2
    assert not worker.suspended


# --- those that are given up ---------------------------------------------------------------------


def test_a_worker_that_is_forgotten_is_not_known() -> None:
    fleet = Fleet()
    worker = joined(fleet, 1)

    for _ in range(2):
        fleet.forget(worker)

    assert (fleet.known("w1"), fleet.by_connection, fleet.free["main"]) == (None, {}, 0)
    assert (fleet.infos(), fleet.held()) == ([], 0)


def test_an_old_incarnation_that_is_forgotten_leaves_the_new_one_alone() -> None:
    fleet = Fleet()
    old = fleet.connect(1, "w", "w.0", SLOTS)
    fleet.disconnect(old)
    new = fleet.connect(2, "w", "w.1", SLOTS)

    fleet.forget(old)

    assert (fleet.known("w"), fleet.by_connection) == (new, {2: new})


def test_people_see_every_worker_that_is_known() -> None:
    fleet = Fleet()
    here, there = joined(fleet, 1, free=2), joined(fleet, 2, free=1)
    there.leased = True
    fleet.charge(there, "main", "a")
    fleet.disconnect(there)

    assert fleet.infos() == [
        WorkerInfo(worker="w1.0", connected=True, remote=False, slots=2, running=0),
        WorkerInfo(worker="w2.0", connected=False, remote=True, slots=1, running=1),
    ]
    assert here.connection == 1
