from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from actorq.codec.records import Records
from actorq.errors import RowRefused
from actorq.model.records import Head, Note, Output, Ownership, Record, Write
from actorq.model.status import TaskStatus
from actorq.stores.locks import OwnerLock
from actorq.stores.memory import MemoryStore
from actorq.stores.sqlite_batch import pack
from actorq.stores.sqlite_owners import Owners
from actorq.stores.sqlite_rows import Reader
from actorq.stores.sqlite_schema import STEPS, prepare
from actorq.stores.sqlite_writes import Writer
from actorq.testing.samples import (
    EVERYTHING,
    NOW,
    PARTITION,
    at_once,
    deleted,
    ended,
    everything,
    head,
    keyed,
    live,
    loaded_records,
    own,
    record,
    task_id,
)  # fmt: skip

CODEC = Records()
TTL = 60.0


class File:
    """A file with its writer, in this thread."""

    def __init__(self, path: Path) -> None:
        self.db = apsw.Connection(str(path))
        prepare(self.db, path, lambda: None)
        self.db.pragma("synchronous", "off")
        self.owners = Owners(self.db, path, OwnerLock(path), len(STEPS))
        self.writer = Writer(self.db, CODEC, self.owners)

    def own(self, nonce: str = "a") -> Ownership:
        owner = self.owners.acquire(PARTITION, nonce, TTL)
        assert owner is not None
        return owner

    def commit(self, owner: Ownership, *writes: Write, notes: tuple[Note, ...] = ()) -> None:
        self.writer.commit(owner, pack(CODEC, writes, notes))

    def fetch(self, *numbers: int) -> list[Record | None]:
        return Reader(self.db, CODEC).fetch(PARTITION, [task_id(n) for n in numbers])

    def count(self, table: str) -> Any:
        return self.db.execute(f"SELECT count(*) FROM {table}").get

    def close(self) -> None:
        self.owners.free()
        self.db.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "tasks.db")
    yield file
    file.close()


def statements(file: File, work: Callable[[], object]) -> list[str]:
    """Return the first words of the statements that something takes."""
    done: list[str] = []

    def note(_: object, sql: str, __: object) -> bool:
        done.append(" ".join(sql.split()[:3]))
        return True

    file.db.exec_trace = note
    try:
        work()
    finally:
        file.db.exec_trace = None
    return done


# --- commits --------------------------------------------------------------------------------------


def test_the_usual_ways_take_one_statement_a_record(file: File) -> None:
    owner = file.own()
    file.commit(owner, *(live(n) for n in range(10)))
    taken = statements(
        file, lambda: file.commit(owner, *(ended(n) for n in range(5)), live(10), live(11))
    )

    assert taken.count("INSERT INTO live(partition,") == 2
    assert taken.count("INSERT INTO done(number,") == 5
    assert taken.count("DELETE FROM live") == 5
    assert len(taken) == 12 + len(["BEGIN", "UPDATE owner", "COMMIT"])


def test_a_large_body_is_not_written_again_when_its_task_changes(file: File) -> None:
    owner = file.own()
    file.commit(owner, Write(task_id(1), head(1), b"x" * 5_000))
    taken = statements(
        file, lambda: file.commit(owner, Write(task_id(1), head(1, TaskStatus.RUNNING)))
    )

    assert [sql for sql in taken if "body" in sql] == []


def test_what_lies_apart_goes_with_its_record(file: File) -> None:
    owner = file.own()
    large = [Write(task_id(n), head(n), b"x" * 5_000) for n in range(6)]
    file.commit(owner, *large)
    assert file.count("body") == 6
    file.commit(owner, deleted(0), ended(1), Write(task_id(2), head(2), b"small"))
    assert file.count("body") == 3
    keeps = [
        Write(task_id(n), ended(n, TaskStatus.FAILURE).head, output=Output(None)) for n in (3, 4)
    ]
    file.commit(owner, *keeps)
    assert file.count("body") == 3
    file.commit(owner, deleted(3))
    file.writer.purge(owner, NOW * 2, 0, ())
    assert file.count("body") == 1

    assert [found and found.body for found in file.fetch(2, 5)] == [b"small", b"x" * 5_000]


def test_a_new_owner_knows_of_bodies_that_lie_apart(file: File) -> None:
    file.commit(file.own("a"), Write(task_id(1), head(1), b"x" * 5_000))
    file.commit(file.own("b"), ended(1))

    assert file.count("body") == 0


def test_whoever_owns_it_again_knows_what_others_did_meanwhile(tmp_path: Path) -> None:
    file, other = File(tmp_path / "tasks.db"), File(tmp_path / "tasks.db")
    former = file.own("a")
    file.commit(former, live(1), ended(2))
    assert file.writer.purge(former, 0.0, 9, ()).left == 1
    file.owners.release(former)
    second = other.own("b")
    other.commit(second, ended(7), Write(task_id(8), head(8), b"x" * 5_000))
    other.owners.release(second)
    owner = file.own("c")
    file.commit(owner, live(7), ended(8))

    assert file.count("body") == 0
    assert file.fetch(7, 8) == [record(live(7)), record(ended(8))]
    assert file.writer.purge(owner, 0.0, 9, ()).left == 2
    other.close()
    file.close()


def test_a_task_that_is_new_may_be_older_than_one_that_has_ended(file: File) -> None:
    owner = file.own()
    file.commit(owner, ended(5))
    file.commit(owner, live(3), live(4))
    file.commit(owner, live(5), ended(3))

    assert file.fetch(3, 4, 5) == [record(ended(3)), record(live(4)), record(live(5))]
    assert (file.count("live"), file.count("done")) == (2, 1)


def test_a_commit_that_comes_again_changes_nothing(file: File) -> None:
    owner = file.own()
    file.commit(owner, live(1), live(2))
    failed = head(2, TaskStatus.FAILURE, completed_at=NOW, keep_until=NOW + 60)
    keeps = Write(task_id(2), failed, output=Output(b"v"))
    for _ in range(3):
        file.commit(owner, ended(1), keeps, live(3), live(4), deleted(9))
        assert file.fetch(1, 2, 3) == [
            record(ended(1)),
            Record(failed, b"body 2", Output(b"v")),
            record(live(3)),
        ]  # fmt: skip
        assert file.writer.purge(owner, 0.0, 9, ()).left == 2


def test_one_bad_row_undoes_all_of_its_commit(file: File) -> None:
    owner = file.own()
    file.commit(owner, live(1))
    bad = Write(task_id(3), head(3, keep_until=float("nan")), None, None)
    with pytest.raises(RowRefused) as caught:
        file.commit(owner, ended(1), live(2), bad)

    assert caught.value.id == task_id(3)
    assert not file.db.in_transaction
    assert file.fetch(1, 2) == [record(live(1)), None]
    assert file.writer.purge(owner, 0.0, 9, ()).left == 0


def test_a_row_that_is_too_large_is_named(file: File) -> None:
    owner = file.own()
    file.db.limit(apsw.SQLITE_LIMIT_LENGTH, 10_000)
    with pytest.raises(RowRefused, match="too big") as caught:
        file.commit(owner, live(1), Write(task_id(2), head(2), b"x" * 20_000), live(3))

    assert caught.value.id == task_id(2)
    file.commit(owner, live(1), live(3))


def test_an_error_in_the_middle_leaves_no_transaction(file: File) -> None:
    owner = file.own()

    def breaks(_: object, sql: str, __: object) -> bool:
        if sql == "COMMIT":
            raise apsw.IOError("odd")
        return True

    file.db.exec_trace = breaks
    with pytest.raises(apsw.IOError):
        file.commit(owner, live(1), ended(2))
    file.db.exec_trace = None
    assert not file.db.in_transaction
    file.commit(owner, live(1), ended(2), ended(3))

    assert file.writer.purge(owner, 0.0, 9, ()).left == 2


# --- purge ----------------------------------------------------------------------------------------


def test_a_purge_is_bounded(file: File) -> None:
    owner = file.own()
    file.commit(owner, *(ended(n, keep_until=NOW) for n in range(2_500)))
    purged = [file.writer.purge(owner, NOW, 0, ()) for _ in range(3)]

    assert [(p.left, p.more) for p in purged] == [(1_500, True), (500, True), (0, False)]


def test_a_purge_does_not_look_again_at_what_it_never_takes(file: File) -> None:
    owner = file.own()
    file.commit(owner, *(ended(n, key=str(n)) for n in range(500)))
    file.commit(owner, *(ended(n) for n in range(500, 503)))
    assert file.writer.purge(owner, 0.0, 2, ()).left == 2
    known = file.writer._known[PARTITION]
    assert known.evict_from == 501
    file.commit(owner, ended(600))
    assert file.writer.purge(owner, 0.0, 0, ()).left == 0
    file.commit(owner, ended(601))
    assert file.writer.purge(owner, 0.0, 0, ()).left == 0
    file.commit(owner, ended(7))  # of which there is no key any more
    assert file.writer.purge(owner, 0.0, 0, ()).left == 0

    assert file.count("done") == 499


# --- beside the store in memory -------------------------------------------------------------------


BODIES = [UNSET, UNSET, None, b"", b"small", b"x" * 600, b"y" * 5_000]
OUTPUTS = [UNSET, None, Output(b"v"), Output(None)]


@st.composite
def changes(draw: st.DrawFn) -> Write:
    """Return any write of a few tasks."""
    number = draw(st.integers(0, 5))
    kind = draw(st.sampled_from(["live", "live", "ended", "ended", "deleted"]))
    if kind == "deleted":
        return deleted(number)
    body, output = draw(st.sampled_from(BODIES)), draw(st.sampled_from(OUTPUTS))
    key = f"key {number % 2}" if number > 2 else None  # a task keeps its key
    if kind == "live":
        state: Head | None = head(number, draw(st.sampled_from(LIVE)), key=key)
    else:
        state = ended(number, key=key, keep_until=NOW + draw(st.integers(0, 3))).head
    return Write(task_id(number), state, body, output)


LIVE = [TaskStatus.PENDING, TaskStatus.RUNNING]
ACTIONS = st.one_of(
    st.lists(changes(), max_size=6, unique_by=lambda write: write.id),
    st.tuples(st.integers(0, 3), st.integers(0, 4)),
    st.just("own"),
    st.just("twice"),
)


@settings(max_examples=60)
@given(st.lists(ACTIONS, max_size=12))
def test_it_keeps_what_the_store_in_memory_keeps(steps: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        file, memory = File(Path(folder, "tasks.db")), MemoryStore()
        reader = Reader(file.db, CODEC)
        owner, other = file.own(), at_once(own(memory))
        writes: list[Write] = []
        for step in steps:
            if step == "own":
                owner, other = file.own("b"), at_once(own(memory, "b"))
                told = (owner.stamp, owner.forgotten_until)
                assert told == (other.stamp, other.forgotten_until)
            elif isinstance(step, tuple):
                before, keep = NOW + step[0], step[1]
                purged = file.writer.purge(owner, before, keep, [task_id(1)])
                assert purged == at_once(memory.purge(other, before, keep, [task_id(1)]))
            else:
                writes = writes if step == "twice" else step
                file.commit(owner, *writes)
                at_once(memory.commit(other, writes))
            found = reader.find(PARTITION, EVERYTHING, None, 10).records
            assert found == at_once(everything(memory))
            live = reader.load(PARTITION, "", 10)
            assert live == at_once(loaded_records(memory, other))
            keys = reader.fetch_keyed(PARTITION, ["key 0", "key 1"])
            assert keys == at_once(keyed(memory, "key 0", "key 1"))
        file.close()
