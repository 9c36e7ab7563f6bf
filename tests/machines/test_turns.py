"""Limits that take turns: within their lane, and beside others."""

from collections import Counter
from heapq import heappop, heappush, heapreplace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from actorq.machines.ready import Ready
from actorq.model.options import Limit, TaskOptions
from actorq.model.records import Head
from actorq.model.status import CANCELLED, PENDING, TaskPriority
from tests.machines.stage import Stage, Worker, task
from tests.machines.test_ready import Item

NEVER_FULL = 1_000_000


def tenant(key: str) -> Limit:
    return Limit(key, concurrency=NEVER_FULL)


def item(
    id: str,
    rank: float,
    limit: Limit | None = None,
    *,
    name: str = "job",
    priority: TaskPriority = TaskPriority.NORMAL,
) -> Item:
    options = TaskOptions(limit=limit or tenant(id[0]), priority=priority)
    return Item(Head(id, name, options, "main", None, rank, rank, rank, rank, PENDING))


def free(id: str, rank: float) -> Item:
    head = Head(id, "free", TaskOptions(), "main", None, rank, rank, rank, rank, PENDING)
    return Item(head)


def ready_with(*items: Item) -> Ready[Item]:
    ready = Ready[Item](lambda: 0.0)
    for one in items:
        ready.add(one)
    return ready


def drain(ready: Ready[Item]) -> list[str]:
    ids = []
    while (taken := ready.take("main")) is not None:
        ids.append(taken.head.id)
    return ids


# --- turns ---------------------------------------------------------------------------------------


def test_keys_take_turns_and_tasks_of_one_key_keep_their_order() -> None:
    ready = ready_with(
        item("a1", 1), item("a2", 2), item("a3", 3), item("b1", 4), item("c1", 5), item("b2", 6)
    )

    assert drain(ready) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_tenant_with_a_hundred_thousand_tasks_does_not_starve_nine_with_a_hundred() -> None:
    stage = Stage(max_pending=200_000)
    worker = Worker(stage, 10)
    for start in range(0, 100_000, 1_000):
        big = range(start, start + 1_000)
        stage.submit(*(task(f"big {n:06}", limit=tenant("big")) for n in big))
    for n in range(9):
        stage.submit(*(task(f"small {n} {i}", limit=tenant(f"small {n}")) for i in range(100)))

    while sum(id.startswith("small") for id in worker.log) < 900:
        worker.finish(next(iter(worker.grants)))

    assert len(worker.log) < 2_000


def test_a_key_that_comes_late_waits_for_one_round() -> None:
    ready = ready_with(*(item(f"{key}{n}", n) for n in range(10) for key in "abc"))
    for _ in range(4):
        ready.take("main")

    ready.add(item("d", 1_000.0))

    assert drain(ready).index("d") == 3


def test_a_key_whose_task_comes_back_has_no_turn_more() -> None:
    ready = ready_with(item("a1", 1), item("a2", 2), item("b1", 3), item("b2", 4))
    first = ready.take("main")
    assert first is not None

    ready.add(first)

    assert drain(ready) == ["b1", "a1", "b2", "a2"]


def test_a_task_that_comes_back_takes_its_old_place_among_those_of_its_key() -> None:
    items = [item(f"a{n}", n) for n in range(5)]
    ready = ready_with(*items)
    taken = [ready.take("main") for _ in range(3)]

    ready.add(items[1])
    ready.add(items[0])

    assert taken == items[:3]
    assert drain(ready) == ["a0", "a1", "a3", "a4"]


def test_a_higher_level_comes_first_whose_turn_ever_it_is() -> None:
    high = TaskPriority.HIGH
    ready = ready_with(
        item("a1", 1), item("b1", 2),
        item("a2", 3 - 3600, priority=high), item("a3", 4 - 3600, priority=high),
        item("b2", 5 - 3600, priority=high),
    )  # fmt: skip

    assert drain(ready) == ["a2", "b2", "a3", "a1", "b1"]


def test_an_hour_of_waiting_outweighs_a_level_here_too() -> None:
    ready = ready_with(
        item("a1", 1), item("b1", 4_000 - 3600, priority=TaskPriority.HIGH), item("a2", 500)
    )

    assert drain(ready) == ["a1", "b1", "a2"]


def test_names_take_no_turns() -> None:
    ready = ready_with(
        item("a1", 1), item("a2", 2), item("a3", 3), item("b1", 4, name="other"), item("a4", 5)
    )

    assert drain(ready) == ["a1", "a2", "a3", "b1", "a4"]


# --- beside others -------------------------------------------------------------------------------


def test_turns_within_a_lane_do_not_change_when_it_is_its_own_turn() -> None:
    ready = ready_with(
        item("a1", 1), item("a2", 2), free("f1", 3), item("a3", 4), item("b1", 5), free("f2", 6),
        item("b2", 7),
    )  # fmt: skip

    assert drain(ready) == ["a1", "b1", "f1", "a2", "b2", "f2", "a3"]


def test_a_long_line_does_not_wait_longer_since_newcomers_take_turns_with_it() -> None:
    ready = ready_with(*(item(f"a{n:02}", n) for n in range(50)))
    for n in range(50):
        ready.add(free(f"f{n}", 100 + n))
    order = []
    for n in range(100):
        ready.add(item(f"b{n}", 1_000 + n))  # one for each task that is granted
        taken = ready.take("main")
        assert taken is not None
        order.append(taken.head.id[0])

    # Fifty places were before those of the others; the newcomers got half of them.
    assert "f" not in order[:50]
    assert Counter(order[:50]) == {"a": 25, "b": 25}
    assert order[50:] == ["f"] * 50


def test_the_places_of_a_key_that_waits_for_its_limit_are_nobody_elses() -> None:
    ready = ready_with(*(item(f"a{n}", n, Limit("a", concurrency=1)) for n in range(5)))
    first = ready.take("main")
    assert first is not None
    ready.enter(first.head)
    ready.add(free("f", 10))
    ready.add(item("b", 11))

    assert drain(ready) == ["f", "b"]

    ready.add(free("g", 12))
    ready.leave(first.head)
    assert drain(ready)[:2] == ["a1", "a2"]


# --- limits that open and close ------------------------------------------------------------------


def test_a_key_that_waits_for_its_limit_is_in_nobodys_way() -> None:
    one = Limit("a", concurrency=1)
    ready = ready_with(*(item(f"a{n}", n, one) for n in range(3)))
    taken = ready.take("main")
    assert taken is not None
    ready.enter(taken.head)

    assert ready.take("main") is None
    assert ready.empty("main")
    assert len(ready) == 2

    ready.leave(taken.head)
    assert not ready.empty("main")
    assert drain(ready) == ["a1", "a2"]


def test_what_is_added_to_a_key_that_waits_does_not_come_out_either() -> None:
    one = Limit("a", concurrency=1)
    ready = ready_with(item("a1", 1, one), item("a2", 2, one))
    taken = ready.take("main")
    assert taken is not None
    ready.enter(taken.head)
    assert ready.take("main") is None

    ready.add(item("a3", 3, one))
    ready.add(item("a0", 0, one))
    assert ready.empty("main")
    assert ready.take("main") is None

    ready.leave(taken.head)
    assert drain(ready) == ["a0", "a2", "a3"]


def test_keys_that_come_and_go_leave_nothing_in_the_heaps() -> None:
    one = Limit("a", concurrency=1)
    ready = ready_with()
    for n in range(1_000):
        ready.add(item(f"a{n}", n, one))
        ready.add(item(f"late{n}", 1e9 + n))
        ready.add(free(f"f{n}", 1e6 + n))

    for _ in range(450):
        taken = [one for one in (ready.take("main"), ready.take("main")) if one is not None]
        assert sorted(one.head.name for one in taken) == ["job", "job"]
        for some in taken:
            ready.enter(some.head)
        between = ready.take("main")  # the first key has to wait, and the other one comes late
        assert between is not None
        assert between.head.name == "free"
        for some in taken:
            ready.leave(some.head)

    assert len(ready.heaps["main"]) < 200


# --- at random -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=60))
def test_no_key_gets_two_turns_while_another_one_waits(tasks: list[tuple[str, int]]) -> None:
    ready = ready_with(*(item(f"{key}{n}", rank) for n, (key, rank) in enumerate(tasks)))
    left = Counter(key for key, _ in tasks)
    since: dict[str, int] = dict.fromkeys(left, 0)

    for id in drain(ready):
        key = id[0]
        left[key] -= 1
        for other in left:
            if other != key and left[other]:
                since[other] += 1
                assert since[other] <= len(left)
        since[key] = 0

    assert not any(left.values())


class TurnsBesideALists(RuleBasedStateMachine):
    """The lane gives what a plain list of lists does that exchanges places in the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready[Item](lambda: 0.0)
        self.lines: dict[Limit, list[Item]] = {}
        """By rank."""
        self.places: dict[Limit, list[float]] = {}
        """Heaps: which of its later places is gone with a cancelled task is free to choose."""
        self.passed_over: dict[Limit, int] = {}
        """How many others had their turn since a line that may go on had one."""
        self.others: list[Item] = []
        self.running: list[Item] = []
        self.number = 0

    def closed(self, limit: Limit) -> bool:
        of_key = [x for x in self.running if x.head.options.limit.key == limit.key]  # type: ignore[union-attr]
        return len(of_key) >= (limit.concurrency or 0)

    @rule(
        rank=st.integers(0, 1000),
        key=st.sampled_from("abc"),
        most=st.sampled_from([1, 2, NEVER_FULL]),
        many=st.sampled_from([1, 1, 30]),
    )
    def add(self, rank: int, key: str, most: int, many: int) -> None:
        limit = Limit(key, concurrency=most)
        for _ in range(many):
            self.number += 1
            one = item(str(self.number), rank + self.number / 1e6, limit)
            self.put(one, limit)

    def put(self, one: Item, limit: Limit) -> None:
        self.ready.add(one)
        line = self.lines.setdefault(limit, [])
        line.append(one)
        line.sort(key=lambda other: other.head.rank)
        heappush(self.places.setdefault(limit, []), one.head.rank)

    @rule(rank=st.integers(0, 1000))
    def add_another(self, rank: int) -> None:
        self.number += 1
        one = free(str(self.number), rank + self.number / 1e6)
        self.others.append(one)
        self.ready.add(one)

    @rule(many=st.sampled_from([1, 1, 20]))
    def take(self, many: int) -> None:
        for _ in range(many):
            taken = self.ready.take("main")
            if taken is not None and taken.head.name == "job":
                self.ready.enter(taken.head)
            self.check(taken)

    def check(self, taken: Item | None) -> None:
        able = [limit for limit, line in self.lines.items() if line and not self.closed(limit)]
        self.passed_over = {x: self.passed_over.get(x, 0) for x in able}
        oldest = min(able, key=lambda limit: self.places[limit][0], default=None)
        other = min(self.others, key=lambda x: x.head.rank, default=None)
        if oldest is None or (other and other.head.rank < self.places[oldest][0]):
            assert taken is other
            if other is not None:
                self.others.remove(other)
            return
        assert taken is not None
        limit = taken.head.options.limit
        assert limit in able, "it may not start"
        assert taken is self.lines[limit].pop(0), "out of order within its key"
        own = heappop(self.places[limit])
        if limit != oldest:
            heapreplace(self.places[oldest], own)
        self.running.append(taken)
        self.passed_over = {x: n + 1 for x, n in self.passed_over.items() if x != limit}
        assert max(self.passed_over.values(), default=0) < 9, "others had two turns"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), comes_back=st.booleans())
    def leave(self, data: st.DataObject, comes_back: bool) -> None:
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.ready.leave(one.head)
        limit = one.head.options.limit
        assert limit is not None
        if comes_back:
            self.put(one, limit)

    @precondition(lambda self: any(self.lines.values()))
    @rule(data=st.data(), many=st.sampled_from([1, 1, 80]))
    def end(self, data: st.DataObject, many: int) -> None:
        for _ in range(many):
            full = [limit for limit, line in self.lines.items() if line]
            if not full:
                return
            limit = data.draw(st.sampled_from(full)) if many == 1 else full[0]
            line = self.lines[limit]
            one = line.pop(data.draw(st.integers(0, len(line) - 1)) if many == 1 else -1)
            one.head = replace(one.head, status=CANCELLED)
            self.ready.forget(one)
            self.places[limit].pop()

    @invariant()
    def counts_what_is_there(self) -> None:
        assert len(self.ready) == sum(map(len, self.lines.values())) + len(self.others)
        if not len(self.ready) and not self.running:
            assert len(self.ready.gates) == 0


TestTurnsBesideALists = TurnsBesideALists.TestCase
