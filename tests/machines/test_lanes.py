"""One lane by itself; how lanes are chosen among, and all of it at random: test_ready.py."""

from math import inf

from actorq.machines.lanes import Lane
from actorq.model.status import TaskPriority
from tests.machines.test_ready import Item, item


def lane_with(*items: Item) -> Lane[Item]:
    lane = Lane[Item](("main", "default", "job"), 1)
    for one in items:
        assert lane.add(one) == one.head.rank
    return lane


def test_an_empty_lane_has_no_rank() -> None:
    lane = lane_with()

    assert (lane.best(), lane.alive, lane.idle(), lane.first()) == (inf, 0, False, [])
    assert lane.pop(1.0) == (None, inf)


def test_the_best_comes_out_with_the_rank_of_the_next() -> None:
    a, b, c = items = [item("a", 1), item("b", 5), item("c", 3)]
    lane = lane_with(*items)

    assert lane.pop(1) == (a, 3)
    assert lane.pop(3) == (c, 5)
    assert lane.pop(5) == (b, inf)
    assert lane.size == 0


def test_nothing_comes_out_for_a_rank_that_is_no_longer_the_best() -> None:
    a, b = items = [item("a", 1), item("b", 2)]
    lane = lane_with(*items)
    a.end()
    lane.bury(a)

    assert lane.pop(1) == (None, 2)
    assert lane.pop(2) == (b, inf)


def test_the_first_of_each_line_are_alive() -> None:
    low = TaskPriority.LOW
    items = [item("a", 1), item("b", 2), item("c", 9, priority=low), item("d", 0.5)]
    lane = lane_with(*items)
    items[0].end()
    lane.bury(items[0])

    assert {one.head.id for one in lane.first()} == {"b", "c", "d"}
    assert (lane.alive, lane.idle()) == (3, True)


def test_the_dead_are_swept_out_once_they_are_the_majority() -> None:
    items = [item(str(n), n) for n in range(200)]
    lane = lane_with(*items)

    for one in items[50:]:
        one.end()
        lane.bury(one)

    assert lane.alive == 50
    assert lane.size < 150
