from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.codec.records import Records
from actorq.errors import CorruptStore
from actorq.model.filters import Filter
from actorq.model.records import Note, Record, Write
from actorq.model.status import TaskStatus
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite_batch import pack
from actorq.stores.sqlite_owners import Owners
from actorq.stores.sqlite_rows import LOST, Reader
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


def test_a_page_ends_where_it_would_take_much_memory(path: Path) -> None:
    large = bytes(3_000_000)
    with filled(path, *(Write(task_id(n), live(n).head, large) for n in range(8))) as db:
        reader, ids = Reader(db, CODEC), frozenset(task_id(n) for n in range(8))
        for filter in (EVERYTHING, Filter(ids=ids)):
            cursor: str | None = None
            pages = []
            while True:
                found = reader.find(PARTITION, filter, cursor, 10)
                pages.append(numbers(found.records))
                cursor = found.next
                if cursor is None:
                    break

            assert pages == [[7, 6, 5], [4, 3, 2], [1, 0]]


def damage(db: apsw.Connection, table: str, number: int, column: str) -> None:
    db.execute(f"UPDATE {table} SET {column} = x'77' WHERE id = ?", (task_id(number),))


def test_what_is_damaged_is_named(path: Path) -> None:
    with filled(path, ended(2), live(3)) as db:
        reader = Reader(db, CODEC)
        damage(db, "done", 2, "output")
        damage(db, "live", 3, "head")
        for number in (2, 3):
            with pytest.raises(CorruptStore, match=f"task {task_id(number)}"):
                reader.fetch(PARTITION, [task_id(number)])


def test_a_damaged_call_is_lost_and_the_outcome_is_not(path: Path) -> None:
    with filled(path, ended(1)) as db:
        damage(db, "done", 1, "body")
        [record] = Reader(db, CODEC).fetch(PARTITION, [task_id(1)])

    assert record is not None
    assert (record.head, record.body, record.output) == (ended(1).head, LOST, ended(1).output)


def test_damaged_live_records_are_loaded_with_what_is_left_of_them(path: Path) -> None:
    with filled(path, *(live(n, key=f"k{n}") for n in range(4))) as db:
        damage(db, "live", 1, "head")
        damage(db, "live", 2, "body")
        whole, headless, callless, last = Reader(db, CODEC).load(PARTITION, "", 10)

    assert [whole, last] == [record(live(0, key="k0")), record(live(3, key="k3"))]
    assert (headless.head.id, headless.head.status) == (task_id(1), TaskStatus.RUNNING)
    assert headless.body == live(1).body
    assert "if it had a key, that is lost with it" in str(headless.damage)
    assert (callless.head, callless.body) == (live(2, key="k2").head, LOST)
    assert task_id(2) in str(callless.damage)


def test_a_damaged_note_is_known_by_its_name(path: Path) -> None:
    with filled(path) as db:
        db.execute("INSERT INTO note VALUES(?, 'pause', 'images', x'77')", (PARTITION,))

        assert Reader(db, CODEC).notes(PARTITION) == [Note("pause", "images", None)]


NEWER = msgspec.msgpack.encode([2])


@pytest.mark.parametrize(("column", "data"), [("head", NEWER), ("body", b"\x01" + NEWER)])
def test_what_a_newer_version_has_written_is_not_taken_for_damaged(
    path: Path, column: str, data: bytes
) -> None:
    with filled(path, live(1)) as db:
        db.execute(f"UPDATE live SET {column} = ?", (data,))
        reader = Reader(db, CODEC)
        with pytest.raises(CorruptStore, match="newer one; upgrade"):
            reader.load(PARTITION, "", 10)
        with pytest.raises(CorruptStore, match="newer one; upgrade"):
            reader.find(PARTITION, EVERYTHING, None, 10)


def test_a_note_of_a_newer_version_is_not_taken_for_damaged(path: Path) -> None:
    with filled(path) as db:
        db.execute("INSERT INTO note VALUES(?, 'pause', 'images', ?)", (PARTITION, NEWER))
        with pytest.raises(CorruptStore, match="newer one; upgrade"):
            Reader(db, CODEC).notes(PARTITION)


def test_a_search_finds_what_is_left_of_damaged_records(path: Path) -> None:
    """By what lies beside the head, so that it can be seen, discarded, and not run by mistake."""
    with filled(path, ended(1, key="a", queue="q"), ended(2), ended(3), live(4)) as db:
        damage(db, "done", 1, "head")
        damage(db, "done", 2, "output")
        damage(db, "live", 4, "head")
        reader = Reader(db, CODEC)
        page = reader.find(PARTITION, EVERYTHING, None, 10).records
        by_key = reader.find(PARTITION, Filter(key="a", queue="q"), None, 10).records
        by_id = reader.find(PARTITION, Filter(ids=frozenset({task_id(1)})), None, 10).records
        others = reader.find(PARTITION, Filter(queue="other"), None, 10).records

    assert numbers(page) == [4, 3, 2, 1]
    lost, whole, outcomeless, headless = page
    assert whole == record(ended(3))
    assert [lost.head.status, headless.head.status] == [TaskStatus.RUNNING, TaskStatus.SUCCESS]
    known = ended(1, key="a", queue="q").head
    assert known is not None
    for field in ("name", "submitted_at", "completed_at", "keep_until"):
        assert getattr(headless.head, field) == getattr(known, field)
    assert outcomeless.head == ended(2).head
    for found in (headless, outcomeless, lost):
        assert found.output is not None
        assert found.output.error is not None
        assert found.output.error.matches("actorq.errors.CorruptStore")
    assert by_key == by_id == [headless]
    assert others == []


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
