"""Small tasks to fill a store with, and short words for what a test asks of it."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, TypeVar

from msgspec import UnsetType
from msgspec.structs import replace

from actorq.contracts.store import Store
from actorq.errors import Fenced, RowRefused
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Note, Output, Ownership, Pause, Purged, Record, Window, Write
from actorq.model.status import TaskStatus

T = TypeVar("T")

PARTITION = "00"
TTL = 60.0
NOW = 1_700_000_000.0
EVERYTHING = Filter()


def task_id(number: int) -> str:
    """Return an id; a higher number is a newer one."""
    return f"{PARTITION}{number:013x}{0:016x}"


def head(
    number: int,
    status: TaskStatus = TaskStatus.PENDING,
    *,
    name: str = "task",
    queue: str = "default",
    key: str | None = None,
    **fields: Any,
) -> Head:
    """Return the head of a task that was submitted so many seconds after a certain moment."""
    at = NOW + number
    options = TaskOptions(queue=queue) if key is None else TaskOptions(queue=queue, key=key)
    first = Head(task_id(number), name, options, "main", None, at, at, at, at, status)
    return replace(first, **fields)


def live(number: int, **fields: Any) -> Write:
    """Return the write of a new task that waits."""
    return Write(task_id(number), head(number, **fields), f"body {number}".encode(), None)


def ended(
    number: int,
    status: TaskStatus = TaskStatus.SUCCESS,
    *,
    queue: str = "default",
    key: str | None = None,
    keep_until: float = NOW + 3_600,
) -> Write:
    """Return the write of a task that has ended."""
    state = head(number, status, queue=queue, key=key, completed_at=NOW, keep_until=keep_until)
    return Write(state.id, state, None, Output(f"value {number}".encode()))


def deleted(number: int) -> Write:
    """Return the write that forgets a task."""
    return Write(task_id(number), None)


def pause(queue: str, at: float = NOW) -> Note:
    """Return the note that a queue is paused."""
    return paused(queue, Pause(at))


def paused(queue: str, value: Pause | None) -> Note:
    """Return the note about a queue; None deletes it."""
    return Note("pause", queue, value)


def limit(key: str, *starts: tuple[float, int]) -> Note:
    """Return the note of the recent starts under a limit's key."""
    return Note("limit", key, Window(starts, 60.0))


def record(write: Write) -> Record:
    """Return what a write that says everything leaves in an empty store."""
    assert write.head is not None
    assert not isinstance(write.output, UnsetType)
    return Record(write.head, write.body, write.output)


async def own(store: Store, nonce: str = "nonce", ttl: float = TTL) -> Ownership:
    """Become the owner, which must succeed."""
    ownership = await store.acquire(PARTITION, nonce, ttl)
    assert ownership is not None, "nobody else owns it, so it should be had"
    return ownership


async def fenced(call: Awaitable[object]) -> bool:
    """Say whether the call raises `Fenced`."""
    try:
        await call
    except Fenced:
        return True
    return False


async def refused(call: Awaitable[object]) -> str | None:
    """Return the id of the record for which the call raises `RowRefused`, or None."""
    try:
        await call
    except RowRefused as error:
        return error.id
    return None


async def loaded(store: Store, ownership: Ownership) -> list[Head]:
    """Return the heads of what `load` yields, in the order of the ids."""
    return [record.head for record in await loaded_records(store, ownership)]


async def loaded_records(store: Store, ownership: Ownership) -> list[Record]:
    """Return what `load` yields, in the order of the ids."""
    records = [record async for piece in store.load(ownership) for record in piece]
    return sorted(records, key=lambda record: record.head.id)


async def fetched(store: Store, *numbers: int) -> list[Record | None]:
    """Return the records of these tasks."""
    return await store.fetch(PARTITION, [task_id(number) for number in numbers])


async def noted(store: Store, ownership: Ownership) -> list[Note]:
    """Return every note, by kind and name."""
    return sorted(await store.notes(ownership), key=lambda note: (note.kind, note.name))


async def keyed(store: Store, *keys: str) -> list[Record | None]:
    """Return the ended records with these keys."""
    return await store.fetch_keyed(PARTITION, keys)


async def purged(
    store: Store, ownership: Ownership, before: float, keep: int, spare: Collection[str] = ()
) -> Purged:
    """Purge until there is nothing more to forget."""
    done = await store.purge(ownership, before, keep, spare)
    while done.more:
        done = await store.purge(ownership, before, keep, spare)
    return done


async def found(store: Store, filter: Filter = EVERYTHING, cursor: str | None = None) -> list[int]:
    """Return the numbers of the tasks on this page and all that follow."""
    return [int(record.head.id[2:15], 16) for record in await _found(store, filter, cursor)]


async def everything(store: Store) -> list[Record]:
    """Return every record, newest first."""
    return await _found(store, EVERYTHING, None)


async def _found(store: Store, filter: Filter, cursor: str | None) -> list[Record]:
    records: list[Record] = []
    while True:
        page = await store.find(PARTITION, filter, cursor, 1_000)
        records += page.records
        if page.next is None:
            return records
        cursor = page.next


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Run a call that may not suspend."""
    try:
        call.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    call.close()
    raise AssertionError("it says that it is immediate, but it suspends")
