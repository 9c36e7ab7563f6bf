import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from actorq.model.records import Ownership
from actorq.stores.sqlite_renewal import BLOCKED_MAX, Renewal
from actorq.stores.sqlite_schema import prepare
from actorq.testing.samples import NOW, PARTITION
from tests.stores.owners import Time

TTL = 10.0
ROW = (
    "INSERT INTO owner VALUES('00', 3, 'a', 'lineage', 0.0, 0.0, ?, ?, 1, 1, 'here'),"
    " ('01', 3, 'a', 'lineage', 0.0, 0.0, ?, ?, 1, 1, 'here')"
)


class File:
    """A file whose owner says nothing, with the connection of somebody else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Time()
        self.alive_at = 0.0
        self.db = apsw.Connection(str(path))
        prepare(self.db, path, lambda: None)
        self.db.execute(ROW, (NOW + TTL, TTL) * 2)
        self.renewal = self.renewed_by("a")

    def renewed_by(self, nonce: str) -> Renewal:
        owner = Ownership(PARTITION, 3, nonce)
        return Renewal(self.path, owner, TTL, alive_at=lambda: self.alive_at, **self.clock.clocks)

    def lasts(self) -> float:
        """Return for how long the row says that it is owned."""
        until = self.db.execute("SELECT expires_at FROM owner WHERE partition = '00'").get
        return float(until) - self.clock.now

    def row(self) -> Any:
        return self.db.execute("SELECT * FROM owner WHERE partition = '00'").fetchone()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "tasks.db")
    yield file
    file.renewal.stop()
    file.db.close()


def test_nothing_is_written_while_the_owner_does_it(file: File) -> None:
    before = file.row()
    assert file.renewal.step() == TTL / 2
    for _ in range(10):
        file.clock.advance(TTL / 2 - 1)
        assert file.renewal.step() == 1.0
        file.renewal.renewed_at = file.clock.passed

    assert file.row() == before


def test_it_is_renewed_after_half_its_time_again_and_again(file: File) -> None:
    for _ in range(5):
        file.clock.advance(TTL / 2)
        assert file.renewal.step() == TTL / 2
        assert file.lasts() == TTL


def test_only_the_time_changes_and_only_that_of_its_partition(file: File) -> None:
    before, others = file.row(), "SELECT * FROM owner WHERE partition = '01'"
    other = file.db.execute(others).fetchone()
    file.clock.advance(TTL / 2)
    file.renewal.step()

    assert file.row() == (*before[:6], before[6] + TTL / 2, *before[7:])
    assert file.db.execute(others).fetchone() == other


def test_a_loop_that_says_nothing_for_too_long_is_given_up(file: File) -> None:
    file.clock.advance(BLOCKED_MAX)
    file.renewal.step()
    assert file.lasts() == TTL
    file.clock.advance(TTL / 2)
    assert file.renewal.step() == TTL / 2
    assert file.lasts() == TTL / 2

    file.alive_at = file.clock.passed  # here it is again
    file.renewal.step()
    assert file.lasts() == TTL


def test_nobody_is_waited_for(file: File) -> None:
    file.clock.advance(TTL / 2)
    file.db.execute("BEGIN IMMEDIATE")
    assert file.renewal.step() < 1.0
    assert file.lasts() == TTL / 2
    file.db.execute("COMMIT")
    assert file.renewal.step() == TTL / 2

    assert file.lasts() == TTL


@pytest.mark.parametrize("change", ["epoch = 4", "nonce = 'b'", "nonce = '', expires_at = 0"])
def test_an_ownership_of_somebody_else_is_never_renewed(file: File, change: str) -> None:
    file.db.execute(f"UPDATE owner SET {change}")
    before = file.row()
    file.clock.advance(TTL / 2)
    file.renewal.start()  # it finds that out by itself
    file.renewal._thread.join()

    assert file.row() == before


def test_it_ends_when_it_is_stopped_and_leaves_nothing(file: File) -> None:
    before = threading.active_count()
    file.clock.advance(TTL)
    file.renewal.start()
    while file.lasts() != TTL:
        assert file.renewal._thread.is_alive()
    assert threading.active_count() == before + 1
    file.renewal.stop()
    file.renewal.stop()

    assert threading.active_count() == before
    file.db.close()  # which was the last one
    assert [found.name for found in file.path.parent.iterdir()] == ["tasks.db"]


def test_a_program_is_not_kept_from_ending(file: File) -> None:
    file.renewal.start()

    assert file.renewal._thread.daemon


def test_a_file_that_is_gone_is_not_made_again(file: File) -> None:
    moved = file.path.rename(file.path.with_name("moved.db"))
    file.clock.advance(TTL)
    assert file.renewal.step() < 1.0

    assert not file.path.exists()
    moved.rename(file.path)
    assert file.renewal.step() == TTL / 2
