from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.codec.records import Records
from actorq.errors import CorruptStore
from actorq.model.filters import Filter
from actorq.model.records import Record, Write
from actorq.model.status import TaskStatus
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite_batch import pack
from actorq.stores.sqlite_owners import Owners
from actorq.stores.sqlite_rows import Reader
from actorq.stores.sqlite_schema import STEPS, prepare
from actorq.stores.sqlite_writes import Writer
from actorq.testing.samples import EVERYTHING, PARTITION, ended, head, live, record, task_id

CODEC = Records()
STATUSES = list(TaskStatus)


@contextmanager
def filled(path: Path, *writes: Write) -> Generator[apsw.Connection, None, None]:
    """Make a file that has these records."""
    db = apsw.Connection(str(path))
    try:
        prepare(db, path, lambda: None)
        db.pragma("synchronous", "off")
        owners = Owners(db, path, OwnerLock(path), len(STEPS))
        owner = owners.acquire(PARTITION, "a", 60.0)
        assert owner is not None
        Writer(db, CODEC, owners).commit(owner, pack(CODEC, writes, ()))
        owners.free()
        yield db
    finally:
        db.close()


def written(number: int, status: TaskStatus, queue: str = "default") -> Write:
    if status.terminal:
        return ended(number, status, queue=queue)
    return live(number, status=status, queue=queue)


def numbers(records: list[Record]) -> list[int]:
    return [int(record.head.id[2:15], 16) for record in records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def test_a_piece_goes_on_after_the_one_before(path: Path) -> None:
    with filled(path, *(live(n) for n in range(5)), ended(5)) as db:
        reader = Reader(db, CODEC)
        assert reader.load(PARTITION, "", 3) == [record(live(n)) for n in range(3)]
        assert numbers(reader.load(PARTITION, task_id(2), 3)) == [3, 4]
        assert reader.load(PARTITION, task_id(4), 3) == []


def test_a_search_takes_a_rest_after_many_records_and_says_where(path: Path) -> None:
    count = 5_000
    with filled(path, *(live(n) for n in range(count))) as db:
        pages, cursor = 0, None
        seen = 0
        while True:
            page = Reader(db, CODEC).find(PARTITION, Filter(queue="other"), cursor, 10)
            assert page.records == []
            pages += 1
            seen += page.scanned
            if page.next is None:
                break
            assert cursor is None or page.next < cursor
            cursor = page.next

    assert seen == count
    assert 1 < pages < 10


def test_what_has_not_ended_well_is_found_without_looking_at_the_rest(path: Path) -> None:
    writes = [ended(n) for n in range(3_000)]
    writes[7] = ended(7, TaskStatus.FAILURE, queue="a")
    writes[2_900] = ended(2_900, TaskStatus.CANCELLED, queue="b")
    wanted = frozenset({TaskStatus.FAILURE, TaskStatus.CANCELLED})
    with filled(path, *writes, live(3_000)) as db:
        page = Reader(db, CODEC).find(PARTITION, Filter(statuses=wanted), None, 10)
        assert numbers(page.records) == [2_900, 7]
        assert (page.next, page.scanned) == (None, 2)
        page = Reader(db, CODEC).find(PARTITION, Filter(statuses=wanted, queue="a"), None, 10)

        assert numbers(page.records) == [7]


def test_a_key_is_found_without_looking_at_what_has_ended(path: Path) -> None:
    writes = [ended(n) for n in range(3_000)] + [ended(3_000, key="a"), live(3_001, key="a")]
    with filled(path, *writes) as db:
        page = Reader(db, CODEC).find(PARTITION, Filter(key="a"), None, 10)

    assert numbers(page.records) == [3_001, 3_000]
    assert (page.next, page.scanned) == (None, 2)


def test_many_ids_are_asked_for_in_pages(path: Path) -> None:
    with filled(path, live(1), ended(2_500)) as db:
        ids = frozenset(task_id(n) for n in range(3_000))
        first = Reader(db, CODEC).find(PARTITION, Filter(ids=ids), None, 10)
        assert (numbers(first.records), first.scanned) == ([2_500], 2_000)
        assert first.next == task_id(1_000)
        second = Reader(db, CODEC).find(PARTITION, Filter(ids=ids), first.next, 10)

        assert (numbers(second.records), second.next, second.scanned) == ([1], None, 1_000)


def test_what_is_damaged_is_named(path: Path) -> None:
    with filled(path, live(1), ended(2), live(3)) as db:
        reader = Reader(db, CODEC)
        db.execute("UPDATE live SET body = x'77' WHERE id = ?", (task_id(1),))
        db.execute("UPDATE done SET output = x'77' WHERE id = ?", (task_id(2),))
        db.execute("UPDATE live SET head = x'77' WHERE id = ?", (task_id(3),))
        for number in (1, 2, 3):
            with pytest.raises(CorruptStore, match=f"task {task_id(number)}"):
                reader.fetch(PARTITION, [task_id(number)])
        with pytest.raises(CorruptStore, match=f"task {task_id(3)}"):
            reader.find(PARTITION, EVERYTHING, None, 10)
        assert not db.in_transaction


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from("ab")), max_size=30),
    st.frozensets(st.sampled_from(STATUSES), min_size=1) | st.none(),
    st.sampled_from([None, "a", "b"]),
    st.none() | st.integers(-1, 31),
    st.integers(1, 12),
)
def test_it_finds_what_a_filter_lets_through(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[TaskStatus, str]],
    statuses: frozenset[TaskStatus] | None,
    queue: str | None,
    cursor: int | None,
    limit: int,
) -> None:
    filter = Filter(statuses=statuses, queue=queue)
    writes = [written(n, status, queue) for n, (status, queue) in enumerate(tasks)]
    path = tmp_path_factory.mktemp("found") / "tasks.db"
    start = None if cursor is None else task_id(cursor) if cursor >= 0 else ""
    fitting = [
        n for n, w in enumerate(writes)
        if w.head is not None and filter.matches(w.head) and (start is None or w.id < start)
    ][::-1]  # fmt: skip
    with filled(path, *writes) as db:
        page = Reader(db, CODEC).find(PARTITION, filter, start, limit)

    assert numbers(page.records) == fitting[:limit]
    assert (page.next is None) == (len(fitting) <= limit)
    assert page.scanned <= len(writes)


def test_a_body_that_is_lost_is_a_call_of_no_bytes(path: Path) -> None:
    large = [Write(task_id(n), head(n), b"x" * 5_000) for n in (1, 2)]
    with filled(path, *large, Write(task_id(3), head(3), None)) as db:
        db.execute("DELETE FROM body WHERE id = ?", (task_id(1),))
        records = Reader(db, CODEC).load(PARTITION, "", 10)

        assert [record.body for record in records] == [b"", b"x" * 5_000, None]


def test_a_body_that_lies_apart_is_read_with_its_record(path: Path) -> None:
    large = Write(task_id(1), head(1), b"x" * 5_000)
    with filled(path, large, live(2)) as db:
        reader = Reader(db, CODEC)
        assert reader.load(PARTITION, "", 10) == [Record(head(1), b"x" * 5_000), record(live(2))]
        assert reader.find(PARTITION, EVERYTHING, None, 10).records[1].body == b"x" * 5_000
