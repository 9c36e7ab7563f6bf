from actorq.machines.fleet import Fleet

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
