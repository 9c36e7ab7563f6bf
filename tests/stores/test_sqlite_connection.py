import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import apsw.aio
import pytest
import trio

from actorq.errors import CorruptStore, Fenced, StoreUnavailable
from actorq.stores.sqlite_connection import Connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
async def connection(path: Path) -> AsyncIterator[Connection]:
    connection = await Connection.open(path, lambda _: "somebody")
    yield connection
    await connection.close()


async def test_a_function_runs_in_the_thread_of_the_connection(connection: Connection) -> None:
    def work(db: apsw.Connection, more: int) -> tuple[object, int]:
        return db.execute("SELECT ?", (more,)).get, threading.get_ident()

    value, thread = await connection.run(work, 7)

    assert value == 7
    assert thread != threading.get_ident()
    assert (await connection.run(work, more=8))[1] == thread


async def test_what_is_raised_there_is_raised_here(connection: Connection) -> None:
    def work(_: apsw.Connection) -> None:
        raise Fenced("over")

    with pytest.raises(Fenced, match="over"):
        await connection.run(work)


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (apsw.CorruptError("malformed"), CorruptStore, "is damaged: malformed"),
        (apsw.NotADBError("no database"), CorruptStore, "is damaged: no database"),
        (apsw.FullError("full"), StoreUnavailable, "full .*: is there room on the disk, and no"),
        (apsw.IOError("odd"), StoreUnavailable, "odd .*: is there room on the disk, and no limit"),
        (apsw.BusyError("locked"), StoreUnavailable, "locked by another .*; the owner is somebody"),
        (apsw.LockedError("it is"), StoreUnavailable, "is locked by another process"),
        (apsw.ReadOnlyError("read only"), StoreUnavailable, r"tasks\.db: read only"),
        (apsw.CantOpenError("unable"), StoreUnavailable, r"tasks\.db: unable"),
    ],
)
async def test_each_error_says_what_it_means(
    connection: Connection, error: apsw.Error, kind: type[Exception], why: str
) -> None:
    def work(_: apsw.Connection) -> None:
        raise error

    with pytest.raises(kind, match=why) as caught:
        await connection.run(work)
    assert caught.value.__cause__ is error


async def test_a_statement_that_is_wrong_is_no_fault_of_the_file(connection: Connection) -> None:
    with pytest.raises(apsw.SQLError, match="no such table: nowhere"):
        await connection.run(lambda db: db.execute("SELECT * FROM nowhere"))
    with pytest.raises(apsw.SQLError, match="too many SQL variables"):
        await connection.run(lambda db: db.execute(f"SELECT {'?, ' * 40_000}1", (1,) * 40_000))


async def test_a_lock_without_an_owner_is_somebody_elses(path: Path) -> None:
    def work(_: apsw.Connection) -> None:
        raise apsw.BusyError("locked")

    for who in (lambda _: None, lambda db: str(db.execute("SELECT 1 FROM owner").get)):
        connection = await Connection.open(path, who)
        try:
            with pytest.raises(StoreUnavailable, match="nobody owns it, so it is no process of"):
                await connection.run(work)
        finally:
            await connection.close()


async def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"nowhere/tasks\.db cannot be opened"):
        await Connection.open(tmp_path / "nowhere" / "tasks.db", lambda _: None)


async def test_what_is_closed_says_so(path: Path) -> None:
    connection = await Connection.open(path, lambda _: None)
    await connection.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        await connection.run(lambda db: db.execute("SELECT 1").get)


async def test_whoever_is_cancelled_waits_no_longer_and_the_thread_goes_on(
    connection: Connection,
) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(_: apsw.Connection) -> None:
        begun.set()
        go_on.wait()
        done.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, work)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
    assert done == []
    go_on.set()
    await connection.run(lambda _: None)

    assert done == [True]


async def test_no_deadline_breaks_a_statement_in_the_middle(connection: Connection) -> None:
    with trio.fail_after(60), trio.CancelScope(shield=True, deadline=trio.current_time() + 50):
        ends = await connection.run(lambda _: apsw.aio._tls.current_call.deadline_monotonic)

    assert ends is None


async def test_it_is_closed_also_where_everything_is_cancelled(path: Path) -> None:
    before = threading.active_count()
    with trio.CancelScope() as scope:
        connection = await Connection.open(path, lambda _: None)
        scope.cancel()
        await connection.close()

    while threading.active_count() > before:  # its last words have been said
        await trio.lowlevel.checkpoint()
