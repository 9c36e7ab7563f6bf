"""The desk alone; what it answers inside the queue's machine is in test_queue.py."""

from typing import Any

import pytest
from msgspec.structs import replace

from actorq.errors import TaskNotFound
from actorq.machines.desk import BULK_CHUNK, Desk
from actorq.machines.effects import Lookup, Outbox, Search, Searched, Send
from actorq.machines.fleet import Fleet, Worker
from actorq.machines.ledger import Ledger, Run
from actorq.model import messages as m
from actorq.model.filters import Filter
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Cancel, Head, Output, Record
from actorq.model.results import Progress
from actorq.model.status import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SUCCESS,
    FailureKind,
    TaskStatus,
)

BOOM = Output(kind=FailureKind.ERROR)


def head(id: str = "a", status: TaskStatus = PENDING) -> Head:
    return Head(id, "job", NO_OPTIONS, "main", None, 0.0, 0.0, 0.0, 0.0, status)


class Office:
    """A desk, its tables, and a list of what it asked the machine to do."""

    def __init__(self, *live: Head) -> None:
        self.ledger, self.out, self.fleet = Ledger(), Outbox(), Fleet()
        self.fleet.connect(2, "w", "w.0", {})
        self.done: list[tuple[Any, ...]] = []
        self.pinned: set[str] = set()
        for one in live:
            self.ledger.open(one, "call", None, stored=True)
        self.desk = Desk(
            self.ledger,
            self.fleet,
            self.out,
            lambda *cancel: self.done.append(("cancel", *cancel)),
            lambda record: self.done.append(("revive", record.head.id)),
            lambda record: self.done.append(("discard", record.head.id)),
            self.pinned,
            lambda: 0.0,
        )

    def replies(self) -> list[Any]:
        return [e.message.value for e in self.out if isinstance(e, Send)]

    def searched(self, bulk: m.Bulk, *heads: Head, more: str | None = None, total: int = 0) -> None:
        records = [Record(one) for one in heads]
        self.desk.searched(1, Searched(bulk, records, more, len(records), total))


def test_a_live_task_is_shown_without_asking_the_store() -> None:
    office = Office(head("a"))

    office.desk.inspect(1, m.Inspect(5, "a"))

    assert office.out == [Send(1, m.Reply(5, m.Snapshot(head("a"), None, None)))]


def test_a_running_task_is_shown_with_what_is_not_stored() -> None:
    office = Office(head("a", RUNNING))
    run = Run(Worker("w", "w.0"), started=7.0, progress=Progress(1))
    office.ledger.live["a"].run = run

    office.desk.inspect(1, m.Inspect(5, "a"))

    (snapshot,) = office.replies()
    assert (snapshot.head.started_at, snapshot.head.attempts) == (7.0, 1)
    assert snapshot.progress == Progress(1)


def test_what_is_not_live_is_looked_up() -> None:
    office = Office(head("live"))
    inspect, watch = m.Inspect(5, "a"), m.Watch(6, ("live", "a", "b"))

    office.desk.inspect(1, inspect)
    office.desk.watch(1, watch)

    assert office.out == [Lookup(1, inspect, ("a",)), Lookup(1, watch, ("a", "b"))]
    assert office.ledger.live["live"].watch == 1


def test_a_watch_is_answered_with_outcomes_and_the_unknown_ids() -> None:
    office = Office(head("live"))
    ended = Record(head("a", SUCCESS), None, Output(1))

    office.desk.found(1, m.Watch(6, ("live", "a", "b")), {"a": ended})

    assert office.out == [
        Send(1, m.Outcome(ended.head, Output(1))),
        Send(1, m.Reply(6, ("b",))),
    ]


@pytest.mark.parametrize("question", [m.Inspect(5, "a"), m.CancelTask(5, "a", Cancel("user"), 1.0)])
def test_a_record_of_the_store_answers_what_was_asked_of_it(question: Any) -> None:
    office = Office()
    ended = Record(head("a", SUCCESS), None, Output(1))

    office.desk.found(1, question, {"a": ended})
    office.desk.found(1, question, {})

    known, unknown = office.out
    assert known == Send(1, m.Reply(5, m.Snapshot(ended.head, Output(1), None)))
    assert isinstance(unknown, Send)
    assert isinstance(unknown.message.error, TaskNotFound)


def test_a_task_that_came_to_life_meanwhile_is_shown_as_it_is() -> None:
    office = Office(head("a"))

    office.desk.found(1, m.Inspect(5, "a"), {"a": Record(head("a", FAILURE))})

    (snapshot,) = office.replies()
    assert snapshot.head.status is PENDING


def test_a_question_that_nobody_looks_up_is_a_broken_rule() -> None:
    with pytest.raises(AssertionError, match="nothing looks up"):
        Office().desk.found(1, m.Join(5), {})


def test_a_find_is_a_search_and_its_answer_the_page() -> None:
    office = Office()
    find = m.Find(5, Filter(queue="images"), "cursor", 10)

    office.desk.find(1, find)
    office.desk.searched(1, Searched(find, [Record(head(), "call", BOOM)], "next", 3, 0))

    page = m.FoundPage(find, [m.Snapshot(head(), BOOM, None)], "next", 3)
    assert office.out == [Search(1, find, find.filter, "cursor", 10), Send(1, m.Reply(5, page))]


def test_what_waits_for_a_worker_that_knows_it_says_so() -> None:
    known, unknown = head("known"), replace(head("unknown"), name="other")
    office = Office(known, unknown)
    office.fleet.learn(office.fleet.by_connection[2], {"job": "digest"}, {})
    records = [Record(known), Record(unknown), Record(replace(unknown, status=SUCCESS))]

    for id in ("known", "unknown"):
        office.desk.inspect(1, m.Inspect(5, id))
    office.desk.searched(1, Searched(m.Find(6, Filter(), None, 10), records, None, 3, 0))

    *inspected, page = office.replies()
    assert [snapshot.unknown for snapshot in inspected] == [False, True]
    assert [snapshot.unknown for snapshot in page.tasks] == [False, True, False]


def test_without_any_worker_whatever_waits_is_unknown() -> None:
    office = Office(head("a"), head("b", RUNNING))
    office.fleet.forget(office.fleet.by_connection[2])

    for id in ("a", "b"):
        office.desk.inspect(1, m.Inspect(5, id))

    assert [snapshot.unknown for snapshot in office.replies()] == [True, False]


def test_a_bulk_verb_searches_chunk_by_chunk_and_sums_up() -> None:
    office = Office(head("a"), head("b"), head("c"))
    bulk = m.Bulk(5, "cancel", Filter(), False)

    office.desk.bulk(1, bulk)
    office.searched(bulk, head("c"), head("b"), more="b")
    office.searched(bulk, head("a"), total=2)

    assert office.out == [
        Search(1, bulk, Filter(), None, BULK_CHUNK),
        Search(1, bulk, Filter(), "b", BULK_CHUNK, 2),
        Send(1, m.Reply(5, 3)),
    ]
    assert [done[:2] for done in office.done] == [("cancel", "c"), ("cancel", "b"), ("cancel", "a")]


def test_a_bulk_cancel_says_who_and_for_how_long() -> None:
    office = Office(head("a"))

    office.searched(m.Bulk(5, "cancel", Filter(), False, Cancel("user", "why"), 7.0), head("a"))
    office.searched(m.Bulk(6, "cancel", Filter(), False), head("a"))

    assert office.done == [
        ("cancel", "a", Cancel("user", "why"), 7.0),
        ("cancel", "a", Cancel("user"), 0.0),
    ]


@pytest.mark.parametrize(
    ("verb", "fitting"),
    [("cancel", ["live"]), ("retry", ["failed", "cancelled"]),
     ("discard", ["done", "failed", "cancelled"])],
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_bulk_verb_acts_on_what_it_fits(verb: m.Verb, fitting: list[str], dry_run: bool) -> None:
    office = Office(head("live"))
    bulk = m.Bulk(5, verb, Filter(), dry_run)

    office.searched(
        bulk, head("live"), head("done", SUCCESS), head("failed", FAILURE),
        head("cancelled", CANCELLED),
    )  # fmt: skip

    acted = [done[1] for done in office.done]
    assert office.replies() == [len(fitting)]
    assert acted == ([] if dry_run else fitting)


def test_what_live_tasks_need_is_not_discarded() -> None:
    office = Office()
    office.pinned.add("needed")

    office.searched(m.Bulk(5, "discard", Filter(), False), head("needed", SUCCESS))

    assert (office.replies(), office.done) == ([0], [])


def test_the_ledger_is_believed_and_not_an_old_page() -> None:
    office = Office(head("revived"))

    for verb in ("retry", "discard"):
        office.searched(m.Bulk(5, verb, Filter(), False), head("revived", FAILURE))
    statuses = Filter(statuses=frozenset({RUNNING}))
    office.searched(m.Bulk(5, "cancel", statuses, False), head("revived", RUNNING))
    office.searched(m.Bulk(5, "cancel", Filter(), False), head("ended", RUNNING))

    assert office.replies() == [0, 0, 0, 0]
    assert office.done == []
