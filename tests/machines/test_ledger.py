import pytest
from msgspec import UNSET

from actorq.machines.ledger import Ledger, Live
from actorq.machines.states import BrokenRule, Move
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output, Write
from actorq.model.results import QueueStats
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SCHEDULED, SUCCESS, TaskStatus


def head(
    id: str = "a",
    status: TaskStatus = PENDING,
    queue: str = "default",
    scope: str | None = None,
    key: str | None = None,
) -> Head:
    options = TaskOptions(queue=queue, key=key)
    return Head(id, "job", options, "main", scope, 0.0, 0.0, 0.0, 0.0, status)


def opened(ledger: Ledger, *ids: str, **fields: str) -> list[Live]:
    lives = [ledger.open(head(id, **fields), f"call {id}", None) for id in ids]  # type: ignore[arg-type]
    ledger.changes()
    return lives


def test_a_new_task_is_written_whole() -> None:
    ledger = Ledger()

    ledger.open(head(), "call", 1)

    assert ledger.changes() == [Write("a", head(), "call", UNSET)]
    assert ledger.changes() == []


def test_a_loaded_task_is_not_written_again() -> None:
    ledger = Ledger()

    ledger.open(head(), "call", None, stored=True)

    assert ledger.live["a"].body == "call"
    assert ledger.changes() == []


def test_a_move_writes_only_the_head() -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a")

    ledger.move(live, Move.GRANT, fence=1, worker="w.0")

    (write,) = ledger.changes()
    assert write.head is live.head
    assert (write.body, write.output) == (UNSET, UNSET)
    assert (live.head.status, live.head.fence, live.head.worker) == (RUNNING, 1, "w.0")


def test_several_changes_of_a_task_are_one_write_of_its_last_state() -> None:
    ledger = Ledger()
    live = ledger.open(head(), "call", None)

    ledger.move(live, Move.GRANT)
    ledger.note(live, attempts=1)
    ended = ledger.close(live, Move.FAIL, Output("why"), completed_at=5.0)

    assert ledger.changes() == [Write("a", ended, "call", Output("why"))]
    assert (ended.status, ended.attempts, ended.completed_at) == (FAILURE, 1, 5.0)


def test_a_success_lets_its_call_go() -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a")
    ledger.move(live, Move.GRANT)

    ended = ledger.close(live, Move.SUCCEED, Output(1))

    assert ledger.changes() == [Write("a", ended, None, Output(1))]
    assert ended.status is SUCCESS


def test_a_success_with_a_key_keeps_its_call() -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a", key="k")
    ledger.move(live, Move.GRANT)

    ended = ledger.close(live, Move.SUCCEED, Output(1))

    assert ledger.changes() == [Write("a", ended, UNSET, Output(1))]


def test_a_key_is_that_of_the_live_task_which_had_it_first() -> None:
    ledger = Ledger()
    first, second = opened(ledger, "a", "b", key="k")

    assert ledger.keys == {"k": "a"}
    ledger.close(second, Move.CANCEL, None)
    assert ledger.keys == {"k": "a"}
    ledger.close(first, Move.CANCEL, None)

    assert ledger.keys == {}


def test_a_task_that_has_ended_is_in_no_table() -> None:
    ledger = Ledger()
    first, second = opened(ledger, "a", "b", scope="block", queue="images")

    ledger.close(first, Move.CANCEL, None)
    assert {scope: list(ids) for scope, ids in ledger.scopes.items()} == {"block": ["b"]}
    ledger.close(second, Move.CANCEL, None)
    ledger.changes()

    assert ledger.tables() == dict.fromkeys(ledger.tables(), 0)
    assert ledger.live == {}
    assert ledger.scopes == {}


def test_what_a_store_must_still_be_told_is_counted() -> None:
    ledger = Ledger()

    ledger.open(head(), "call", None)

    assert ledger.tables()["changes"] > 0


@pytest.mark.parametrize("move", [Move.GRANT, Move.REVIVE, Move.FALL_DUE, Move.ACCEPT])
def test_a_move_that_does_not_exist_breaks_a_rule_and_changes_nothing(move: Move) -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a", status="running")
    before = live.head

    with pytest.raises(BrokenRule, match=f"'{move.word}' is no move of a task that is running"):
        ledger.move(live, move)

    assert live.head is before
    assert ledger.stats({}) == {"default": QueueStats(running=1)}
    assert ledger.changes() == []


def test_an_end_that_does_not_exist_breaks_a_rule_and_changes_nothing() -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a")

    with pytest.raises(BrokenRule):
        ledger.close(live, Move.SUCCEED, None)

    assert ledger.live == {"a": live}
    assert ledger.changes() == []


def test_a_terminal_task_comes_to_life_without_its_output_and_with_its_call() -> None:
    ledger = Ledger()
    (live,) = opened(ledger, "a")
    ledger.close(live, Move.CANCEL, None)
    ledger.changes()

    ledger.reopen(head(), "call a")

    assert ledger.changes() == [Write("a", head(), UNSET, None)]
    assert ledger.live["a"].body == "call a"


def test_a_discarded_record_is_deleted() -> None:
    ledger = Ledger()

    ledger.discard("a")

    assert ledger.changes() == [Write("a", None)]


def test_all_but_the_running_tasks_of_a_queue_take_room_in_it() -> None:
    ledger = Ledger()
    opened(ledger, "a", "b", queue="one")
    opened(ledger, "c", queue="one", status="scheduled")
    opened(ledger, "f", queue="one", status="waiting")
    opened(ledger, "d", queue="one", status="running")
    opened(ledger, "e", queue="two")

    assert [ledger.unstarted(queue) for queue in ("one", "two", "three")] == [4, 1, 0]
    assert ledger.running() == 1


def test_stats_name_every_queue_that_holds_or_parks_anything() -> None:
    ledger = Ledger()
    first, _ = opened(ledger, "a", "b", queue="one")
    ledger.move(first, Move.GRANT)

    assert ledger.stats({"one": 2, "two": 1}) == {
        "one": QueueStats(pending=1, running=1, parked=2),
        "two": QueueStats(parked=1),
    }


def test_counts_follow_every_move() -> None:
    ledger = Ledger()
    live = ledger.open(head(status=SCHEDULED), "call", None)
    moves = [Move.FALL_DUE, Move.GRANT, Move.LOSE, Move.GRANT, Move.BACK_OFF]
    seen = []

    for move in moves:
        ledger.move(live, move)
        seen.append((ledger.unstarted("default"), ledger.running()))

    assert seen == [(1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]
    assert ledger.close(live, Move.CANCEL, None).status is CANCELLED
    assert ledger.unstarted("default") == 0


def test_connections_that_have_ended_are_forgotten_where_there_are_many() -> None:
    """A client has another one each time it comes back to a task that takes long."""
    ledger = Ledger()
    live = Live(head(), "call")

    for connection in range(1_000):
        ledger.clients = {7, connection}
        ledger.watch(live, connection)
        assert isinstance(live.watch, int) or len(live.watch) <= 8

    assert isinstance(live.watch, tuple)
    assert {7, 999} <= {*live.watch}


def test_a_connection_watches_a_task_once() -> None:
    ledger = Ledger()
    live = Live(head(), "call")
    seen = []

    for connection in (1, 1, 2, 2, 1, 3, 3):
        ledger.watch(live, connection)
        seen.append(live.watch)

    assert seen == [1, 1, (1, 2), (1, 2), (1, 2), (1, 2, 3), (1, 2, 3)]
