import os
import platform
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actorq.errors import CorruptStore, Fenced
from actorq.model.records import Ownership
from actorq.stores.locks import OwnerLock
from actorq.stores.sqlite_owners import Owners, owner_in_words, transact
from actorq.stores.sqlite_schema import prepare
from actorq.testing.samples import NOW, PARTITION
from tests.stores.owners import Time

TTL = 60.0
HOUR = 3_600.0


class File:
    """A file as one process has it."""

    def __init__(self, path: Path, clock: Time) -> None:
        self.clock = clock
        self.db = apsw.Connection(str(path))
        prepare(self.db, path, lambda: None)
        self.lock = OwnerLock(path)
        self.owners = Owners(self.db, path, self.lock, 1, **clock.clocks)

    def acquire(self, nonce: str) -> Ownership | None:
        return self.owners.acquire(PARTITION, nonce, TTL)

    def own(self, nonce: str) -> Ownership:
        owner = self.acquire(nonce)
        assert owner is not None
        return owner

    def commit(self, owner: Ownership) -> None:
        transact(self.db, lambda: self.owners.renew(owner, 0.0))

    def watch(self, seconds: float) -> Ownership | None:
        """Look again and again for so long; return what is had."""
        for _ in range(int(seconds)):
            self.acquire("watch")
            self.clock.advance(1.0)
        return self.acquire("watch")

    def close(self) -> None:
        self.owners.free()
        self.db.close()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def file(path: Path, clock: Time) -> Iterator[File]:
    file = File(path, clock)
    yield file
    file.close()


@pytest.fixture
def other(path: Path, clock: Time, file: File) -> Iterator[File]:
    other = File(path, clock)
    yield other
    other.close()


@pytest.fixture
def no_locks(path: Path) -> None:
    """Have it where there are none."""
    path.with_name("tasks.db.lock").mkdir()


# --- what a standby goes by -----------------------------------------------------------------------


def test_a_clock_that_is_set_forward_ends_no_ownership(
    file: File, other: File, clock: Time
) -> None:
    owner = file.own("a")
    assert other.watch(5) is None
    clock.now += HOUR
    assert other.watch(TTL - 6) is None
    file.commit(owner)
    clock.now += HOUR

    assert other.watch(TTL - 1) is None


def test_a_clock_that_is_set_back_delays_no_take_over(file: File, other: File, clock: Time) -> None:
    owner = file.own("a")
    assert other.watch(5) is None
    clock.now -= HOUR

    taken = other.watch(TTL - 5)
    assert taken is not None
    assert taken.epoch == owner.epoch + 1


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_clock_that_is_set_back_delays_none_either(
    file: File, other: File, clock: Time
) -> None:
    file.own("a")
    assert other.acquire("b") is None
    clock.now -= HOUR
    assert other.watch(TTL - 1) is None

    assert other.watch(1) is not None


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_clock_tells_whoever_has_not_looked_for_long(
    file: File, other: File, clock: Time
) -> None:
    file.own("a")
    clock.advance(TTL)

    assert other.acquire("b") is not None


def test_each_commit_begins_the_time_anew(file: File, other: File) -> None:
    owner = file.own("a")
    for _ in range(3):
        assert other.watch(TTL - 1) is None
        file.commit(owner)

    assert other.watch(TTL - 1) is None


def test_whoever_is_slower_does_not_get_it(file: File, other: File) -> None:
    def faster(_: object, sql: str, __: object) -> bool:
        if sql == "BEGIN IMMEDIATE":
            file.own("a")
        return True

    other.db.exec_trace = faster
    assert other.acquire("b") is None
    other.db.exec_trace = None

    assert not other.lock.held
    assert file.acquire("c") is not None


def test_a_commit_puts_its_renewal_off(file: File, clock: Time) -> None:
    owner = file.own("a")
    clock.advance(20.0)
    assert file.owners._mine[PARTITION].step() == TTL / 2 - 20.0
    file.commit(owner)

    assert file.owners._mine[PARTITION].step() == TTL / 2


def test_a_standby_that_was_held_up_itself_looks_again_before_it_takes_over(
    file: File, other: File, clock: Time
) -> None:
    owner = file.own("a")
    assert other.acquire("b") is None
    clock.advance(10 * TTL)  # in which both of them were stopped, say
    assert other.acquire("b") is None
    assert other.watch(TTL / 2) is None
    file.commit(owner)


def test_whoever_begins_anew_need_not_wait_where_there_are_no_locks(
    no_locks: None,
    file: File,
) -> None:
    first = file.own("a")
    second = file.own("b")
    with pytest.raises(Fenced):
        file.commit(first)

    file.commit(second)


def test_a_layout_that_was_brought_forward_meanwhile_is_not_owned(file: File, other: File) -> None:
    owner = file.own("a")
    assert other.acquire("b") is None
    file.owners.release(owner)
    file.db.pragma("user_version", 2)
    with pytest.raises(CorruptStore, match=r"newer version of actorq \(its layout is 2.*: upgrade"):
        other.acquire("b")

    assert not other.lock.held
    assert file.db.execute("SELECT epoch FROM owner").get == owner.epoch


# --- the lock -------------------------------------------------------------------------------------


def test_whoever_does_not_own_keeps_no_lock(file: File, other: File) -> None:
    owner = file.own("a")
    file.owners.release(owner)
    assert not file.lock.held
    with pytest.raises(Fenced):
        other.commit(owner)

    assert not other.lock.held


def test_an_ownership_that_cannot_be_written_is_none(file: File, other: File) -> None:
    def breaks(_: object, sql: str, __: object) -> bool:
        if sql == "COMMIT":
            raise apsw.IOError("odd")
        return True

    file.db.exec_trace = breaks
    with pytest.raises(apsw.IOError):
        file.acquire("a")
    file.db.exec_trace = None

    assert not file.lock.held
    assert other.own("b").epoch == 1


def test_a_release_that_cannot_be_written_lets_go_of_the_lock(file: File, other: File) -> None:
    owner = file.own("a")
    other.db.execute("BEGIN IMMEDIATE")
    file.db.set_busy_timeout(0)
    with pytest.raises(apsw.BusyError):
        file.owners.release(owner)
    other.db.execute("COMMIT")

    assert other.own("b").epoch == owner.epoch + 1


# --- who it is ------------------------------------------------------------------------------------


def test_the_owner_is_told_in_words(file: File) -> None:
    assert owner_in_words(file.db, NOW) is None
    owner = file.own("a")
    me = f"process {os.getpid()} on {platform.node()}"

    assert owner_in_words(file.db, NOW) == me
    assert owner_in_words(file.db, NOW + TTL + 3) == f"{me}, whose time is over"
    assert file.owners.in_use() is None, "it is ours"
    file.owners.release(owner)
    assert owner_in_words(file.db, NOW) is None


def test_a_file_is_in_use_for_as_long_as_its_owner_has_the_lock(
    file: File, other: File, clock: Time
) -> None:
    file.own("a")
    clock.advance(10 * TTL)  # as one that is stopped
    assert str(other.owners.in_use()).startswith(f"process {os.getpid()} on ")
    file.owners.free()

    assert other.owners.in_use() is None


def test_somebody_on_another_machine_is_not_looked_up_here(file: File) -> None:
    file.own("a")
    file.db.execute("UPDATE owner SET host = 'elsewhere', pid = 1")

    assert owner_in_words(file.db, NOW) == "process 1 on elsewhere"


def test_a_check_is_about_the_newest_owner(file: File) -> None:
    former = file.own("a")
    file.owners.check(former)
    owner = file.own("b")
    with pytest.raises(Fenced):
        file.owners.check(former)

    file.owners.check(owner)
