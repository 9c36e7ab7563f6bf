import tracemalloc
from collections.abc import Collection
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from actorq.machines.ready import Ready
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Pool
from actorq.model.status import CANCELLED, PENDING, TaskPriority


@dataclass(eq=False)
class Item:
    """The least that can be kept in `Ready`."""

    head: Head

    def end(self) -> None:
        self.head = replace(self.head, status=CANCELLED)


def item(
    id: str = "a",
    rank: float = 0.0,
    pool: Pool = "main",
    *,
    name: str = "job",
    queue: str = "default",
    priority: TaskPriority = TaskPriority.NORMAL,
) -> Item:
    options = TaskOptions(queue=queue, priority=priority)
    return Item(Head(id, name, options, pool, None, rank, rank, rank, rank, PENDING))


def ready_with(*items: Item) -> Ready[Item]:
    ready = Ready[Item](lambda: 0.0)
    for one in items:
        ready.add(one)
    return ready


def drain(ready: Ready[Item], pool: Pool = "main", knows: Collection[str] | None = None) -> str:
    ids = []
    while (taken := ready.take(pool, knows)) is not None:
        ids.append(taken.head.id)
    return "".join(ids)


def test_nothing_comes_out_of_nothing() -> None:
    ready = Ready[Item](lambda: 0.0)

    assert ready.empty("main")
    assert ready.take("main") is None
    assert len(ready) == 0


def test_what_came_first_comes_out_first() -> None:
    ready = ready_with(*(item(id, rank) for rank, id in enumerate("dacb")))

    assert drain(ready) == "dacb"
    assert ready.empty("main")


def test_the_lowest_rank_comes_out_first_whenever_it_came() -> None:
    ready = ready_with(item("c", 3), item("a", 1), item("d", 4), item("b", 2))

    assert drain(ready) == "abcd"


def test_lanes_are_merged_by_rank() -> None:
    ready = ready_with(
        item("a", 1, name="x"), item("c", 3, name="x"), item("b", 2, name="y"),
        item("d", 4, queue="other"), item("e", 5, priority=TaskPriority.LOW),
    )  # fmt: skip

    assert drain(ready) == "abcde"


def test_pools_are_apart() -> None:
    ready = ready_with(item("a", 1), item("p", 2, pool="process"), item("b", 3))

    assert drain(ready, "process") == "p"
    assert ready.empty("process")
    assert not ready.empty("main")
    assert drain(ready, "main") == "ab"


def test_a_worker_gets_only_what_it_knows() -> None:
    ready = ready_with(item("a", 1, name="x"), item("b", 2, name="y"), item("c", 3, name="x"))

    assert drain(ready, knows={"y"}) == "b"
    assert drain(ready, knows={"z"}) == ""
    assert drain(ready, knows={"x", "y"}) == "ac"


def test_what_waits_is_counted_by_name() -> None:
    items = [
        item("a", 1, name="x"), item("b", 2, name="y"), item("c", 3, name="x", queue="other"),
        item("d", 4, name="x", pool="process"), item("e", 5, name="z"), item("f", 6, name="x"),
        item("g", 7, name="w", pool="any"),
    ]  # fmt: skip
    ready = ready_with(*items)
    assert ready.waiting() == {"w": 1, "x": 4, "y": 1, "z": 1}

    for ended in (items[4], items[5]):
        ended.end()
        ready.forget(ended)
    assert ready.take("main", {"y"}) is items[1]

    assert ready.waiting() == {"w": 1, "x": 3}


def test_what_nobody_knows_does_not_keep_a_worker_from_what_it_knows() -> None:
    unknown = [item(f"{n}", n, name=f"unknown {n}") for n in range(100)]
    ready = ready_with(*unknown, item("a", 500, name="x"), item("b", 501, name="x"))

    assert drain(ready, knows={"x"}) == "ab"
    assert drain(ready, knows={"unknown 7", "unknown 3"}) == "37"
    assert len(ready) == 98


def test_what_comes_back_takes_its_old_place() -> None:
    ready = ready_with(*(item(id, rank) for rank, id in enumerate("abcd")))
    first = ready.take("main")
    assert first is not None
    ready.take("main")

    ready.add(first)

    assert drain(ready) == "acd"


def test_what_has_ended_in_here_never_comes_out() -> None:
    items = [item(id, rank) for rank, id in enumerate("abcde")]
    ready = ready_with(*items)

    for one in (items[0], items[2], items[4]):
        one.end()
        ready.forget(one)

    assert len(ready) == 2
    assert drain(ready) == "bd"


def test_what_is_in_a_paused_queue_is_in_nobodys_way() -> None:
    ready = ready_with(
        item("a", 1, queue="one"), item("b", 2, queue="two"), item("p", 3, "process", queue="one")
    )

    ready.pause("one", 5.0)
    ready.add(item("c", 4, queue="one"))
    ready.add(item("d", 5, name="other", queue="one"))
    ready.add(item("e", 6, queue="two"))

    assert ready.empty("process")
    assert drain(ready) == "be"
    assert ready.empty("main")
    assert (len(ready), ready.paused) == (4, {"one": 5.0})


def test_a_queue_that_is_resumed_goes_on_where_it_was() -> None:
    ready = ready_with(item("a", 1, queue="one"), item("b", 2, queue="two"))
    ready.pause("one", 5.0)
    ready.add(item("c", 3, queue="one"))
    ready.add(item("d", 0, queue="one"))

    ready.resume("one")

    assert drain(ready) == "dabc"
    assert ready.paused == {}


def test_what_ends_in_a_paused_queue_is_gone_when_it_is_resumed() -> None:
    items = [item("a", 1), item("b", 2)]
    ready = ready_with(*items)
    ready.pause("default", 5.0)
    for one in items:
        one.end()
        ready.forget(one)
    ready.add(item("c", 3))

    ready.resume("default")

    assert drain(ready) == "c"


def test_a_name_alone_is_settled_also_in_a_paused_queue() -> None:
    ready = ready_with(item("a", 1, pool="any"))

    ready.pause("default", 5.0)
    ready.add(item("b", 2, pool="any"))

    assert drain(ready, "any") == "ab"


def test_the_oldest_of_each_queue_is_known() -> None:
    items = [
        item("a", 3, queue="one"), item("b", 1, queue="one", priority=TaskPriority.LOW),
        item("c", 7, queue="two"), item("d", 5, queue="two", name="other"),
        item("e", 6, queue="two", name="other"),
    ]  # fmt: skip
    ready = ready_with(*items)
    assert ready.oldest() == {"one": 1, "two": 5}

    items[3].end()
    ready.forget(items[3])
    assert ready.oldest() == {"one": 1, "two": 6}

    drain(ready)
    assert ready.oldest() == {}


def test_what_could_start_is_named() -> None:
    ready = ready_with(item("a", 1, name="x"), item("b", 2, name="y", queue="two"))

    assert ready.idle("process", None) is None
    assert ready.idle("main", {"z"}) is None
    assert ready.idle("main", {"y", "z"}) == "y"
    ready.pause("two", 5.0)
    assert ready.idle("main", {"y", "z"}) is None
    assert ready.idle("main", None) == "x"
    drain(ready)
    assert ready.idle("main", None) is None


def test_a_pool_whose_last_task_has_ended_is_empty() -> None:
    one = item()
    ready = ready_with(one)

    one.end()
    ready.forget(one)

    assert (len(ready), ready.empty("main")) == (0, True)


@pytest.mark.parametrize("order", [1, -1])
def test_what_has_ended_does_not_pile_up(order: int) -> None:
    ready = ready_with(item("keep", -1e9))
    tracemalloc.start()
    for n in range(10_000):
        one = item("x", n * order)
        ready.add(one)
        one.end()
        ready.forget(one)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(ready) == 1
    assert held < 200_000  # bytes; 10 000 of them would be several millions


def test_names_that_come_and_go_do_not_pile_up() -> None:
    ready = ready_with(item("keep", -1, name="keep"))
    tracemalloc.start()
    for n in range(10_000):
        ready.add(item("x", n, name=f"name {n}"))
        assert ready.take("main", {f"name {n}"}) is not None
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 200_000  # bytes


def test_tasks_that_overtake_others_leave_nothing_in_the_heap() -> None:
    ready = ready_with(item("low", 1e6, priority=TaskPriority.LOW))

    for n in range(10_000):
        ready.add(item("x", n))
        assert ready.take("main") is not None

    assert len(ready.heaps["main"]) < 200
    assert drain(ready) == "low"


@given(st.lists(st.integers(0, 20)))
def test_any_order_in_is_sorted_out(ranks: list[int]) -> None:
    ready = ready_with(*(item(f"{n:03}", rank) for n, rank in enumerate(ranks)))
    out = []

    while (taken := ready.take("main")) is not None:
        out.append(taken.head.rank)

    assert out == sorted(ranks)


class ReadyBesideAList(RuleBasedStateMachine):
    """`Ready` gives what the smallest of a plain list would be."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready[Item](lambda: 0.0)
        self.items: list[Item] = []
        self.number = 0

    @rule(
        rank=st.integers(0, 1000),
        name=st.sampled_from("xyz"),
        pool=st.sampled_from(["main", "process"]),
        priority=st.sampled_from(TaskPriority),
        many=st.sampled_from([1, 1, 50]),
    )
    def add(self, rank: int, name: str, pool: Pool, priority: TaskPriority, many: int) -> None:
        for _ in range(many):
            self.number += 1  # ranks are unique, as the stamps of the owner make them
            one = item(
                str(self.number), rank + self.number / 1e6, name=name, pool=pool, priority=priority
            )
            self.items.append(one)
            self.ready.add(one)

    @rule(
        pool=st.sampled_from(["main", "process"]),
        knows=st.none() | st.sets(st.sampled_from("xyz")),
        many=st.sampled_from([1, 1, 40]),
    )
    def take(self, pool: Pool, knows: set[str] | None, many: int) -> None:
        for _ in range(many):
            fit = [
                one
                for one in self.items
                if one.head.pool == pool and (knows is None or one.head.name in knows)
            ]
            best = min(fit, key=lambda one: one.head.rank, default=None)
            assert self.ready.take(pool, knows) is best
            if best is not None:
                self.items.remove(best)

    @precondition(lambda self: self.items)
    @rule(data=st.data(), many=st.sampled_from([1, 1, 70]))
    def end(self, data: st.DataObject, many: int) -> None:
        at = data.draw(st.integers(0, len(self.items) - 1))
        for one in self.items[at : at + many]:
            one.end()
            self.ready.forget(one)
        del self.items[at : at + many]

    @invariant()
    def counts_what_is_there(self) -> None:
        assert len(self.ready) == len(self.items)
        assert sum(self.ready.waiting().values()) == len(self.items)
        for pool in ("main", "process"):
            if any(one.head.pool == pool for one in self.items):
                assert not self.ready.empty(pool)


TestReadyBesideAList = ReadyBesideAList.TestCase
