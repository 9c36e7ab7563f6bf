"""The tables of who comes after whom."""

import pytest
from msgspec.structs import replace

from actorq.machines.bonds import Bonds
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output, Record, alias
from actorq.model.status import FAILURE, PENDING, SUCCESS, WAITING, TaskStatus


def head(id: str, *after: str, needs: tuple[str, ...] = (), status: TaskStatus = WAITING) -> Head:
    options = TaskOptions(after=after)
    return Head(id, "job", options, "main", None, 0.0, 0.0, 0.0, 0.0, status, needs=needs)


def bonds_of(*live: str) -> tuple[Bonds, dict[str, object]]:
    living: dict[str, object] = dict.fromkeys(live)
    return Bonds(living), living


def over(id: str, status: TaskStatus = SUCCESS, value: object = None) -> Record:
    return Record(head(id, status=status), None, Output(value))


def test_nothing_is_kept_of_nobody() -> None:
    bonds, _ = bonds_of("a")

    bonds.ended(head("a", status=SUCCESS), None)

    assert not any(bonds.tables().values())


def test_what_is_live_is_open_until_it_ends() -> None:
    bonds, living = bonds_of("a", "b", "c")
    bond = bonds.tie(head("c", "a", "b"))
    assert (bond.ties, bond.open) == (("a", "b"), {"a", "b"})

    del living["a"]
    bonds.ended(head("a", status=SUCCESS), Output(1))

    assert list(bonds.news) == ["a"]
    assert bonds.sources["a"].good
    assert bonds.pinned() == {"a"}
    assert bond.open == {"a", "b"}  # until somebody has looked at it


def test_what_is_neither_live_nor_known_is_asked_for_once() -> None:
    bonds, _ = bonds_of("b", "c")

    for id in ("b", "c"):
        bonds.tie(head(id, "a"))

    assert bonds.ask() == ["a"]
    assert bonds.ask() == []
    assert bonds.pinned() == {"a"}
    bonds.learn("a", None)
    assert (bonds.sources["a"].over, bonds.sources["a"].good) == (True, False)


def test_what_was_loaded_after_those_that_come_after_it_is_not_asked_for() -> None:
    bonds, living = bonds_of("b")
    bonds.tie(head("b", "a"))

    living["a"] = None

    assert bonds.ask() == []
    assert bonds.pinned() == set()


def test_nobody_asks_for_those_who_need_nothing_any_more() -> None:
    bonds, living = bonds_of("b")
    bonds.tie(head("b", "a"))

    del living["b"]
    bonds.ended(head("b", "a", status=FAILURE), None)

    assert bonds.ask() == []
    assert not any(bonds.tables().values())


def test_what_is_known_is_neither_open_nor_asked_for() -> None:
    bonds, _ = bonds_of("b")

    bond = bonds.tie(head("b", "a"), {"a": over("a")})

    assert (bond.open, bonds.ask()) == (set(), [])


@pytest.mark.parametrize("wanted", [False, True])
def test_a_value_is_kept_only_for_those_who_need_it(wanted: bool) -> None:
    bonds, living = bonds_of("a", "b")
    dependant = head("b", needs=("a",)) if wanted else head("b", "a")
    bonds.tie(dependant)

    del living["a"]
    bonds.ended(head("a", status=SUCCESS), Output(42))

    assert (bonds.sources["a"].output == Output(42)) is wanted


def test_a_value_that_was_not_kept_is_asked_for_and_holds_up_nobody_else() -> None:
    bonds, living = bonds_of("a", "b", "c")
    first = bonds.tie(head("b", "a"))
    del living["a"]
    bonds.ended(head("a", status=SUCCESS), Output(42))
    first.open.clear()

    second = bonds.tie(head("c", needs=("a",)))

    assert bonds.ask() == ["a"]
    assert (first.open, second.open) == (set(), {"a"})
    bonds.learn("a", over("a", value=42))
    assert bonds.inputs(head("c", needs=("a",))) == {"a": 42}


def test_inputs_go_by_the_names_that_the_call_has() -> None:
    bonds, _ = bonds_of("c")
    dependant = head("c", needs=("a", alias("x", "b")))

    bonds.tie(dependant, {"a": over("a", value=1), "b": over("b", value=2)})

    assert bonds.inputs(dependant) == {"a": 1, "x": 2}
    assert bonds.lacks(dependant) is None


def test_a_value_is_lacking_if_its_task_did_not_succeed_or_is_not_known() -> None:
    bonds, _ = bonds_of("c")
    dependant = head("c", needs=("a", "b"))

    assert bonds.lacks(dependant) == "a"
    bonds.tie(dependant, {"a": over("a"), "b": over("b", FAILURE)})

    assert bonds.lacks(dependant) == "b"


def test_who_is_released_holds_on_to_the_values_that_it_needs() -> None:
    bonds, _ = bonds_of("c", "d")
    for dependant in (head("c", "a", needs=("b",)), head("d", "a")):
        bonds.tie(dependant, {"a": over("a"), "b": over("b", value=2)})

        bonds.released(dependant)

    assert list(bonds.sources) == ["b"]
    assert bonds.pinned() == {"b"}
    assert list(bonds.bonds) == ["c"]


def test_who_was_released_before_is_tied_to_its_values_alone() -> None:
    bonds, _ = bonds_of("c")

    bond = bonds.tie(head("c", "a", needs=("b",), status=PENDING))

    assert (bond.ties, bonds.ask()) == (("b",), ["b"])


def test_who_waits_comes_after_a_new_run_too() -> None:
    bonds, living = bonds_of("c", "x")
    bond = bonds.tie(head("c", "a", "x"), {"a": over("a", FAILURE)})

    living["a"] = None
    bonds.reopened("a")
    bonds.reopened("nobody")

    assert bond.open == {"a", "x"}
    assert (bonds.pinned(), bonds.sources["a"].over) == (set(), False)


def test_nothing_is_left_when_all_have_ended() -> None:
    bonds, living = bonds_of("a", "b", "c")
    chain = [head("a", "x"), head("b", "a", needs=("x",)), head("c", "a", "b")]
    for one in chain:
        bonds.tie(one, {"x": over("x", value=1)})

    for one in chain:
        del living[one.id]
        bonds.ended(replace(one, status=SUCCESS), Output())
    bonds.news.clear()

    assert not any(bonds.tables().values())
