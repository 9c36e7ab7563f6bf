"""A subscriber's end: a bounded buffer that the owner fills and one coroutine reads.

The owner never waits for a reader. When the buffer is full, the oldest event makes room: one that
says that a task has ended is put aside and still delivered, any other is dropped and counted.
"""

from __future__ import annotations

from collections import deque

import trio

from actorq.client.session import Session
from actorq.model import messages as m
from actorq.model.feed import Lagged, Snapshot, TaskEvent, TaskEventKind
from actorq.model.filters import Filter
from actorq.runtime.lanes import BURST, Lanes

ENDED = TaskEventKind.ENDED


class Subscription:
    """What `Client.subscribe` yields: an async iterator of a `Snapshot` and all that follows."""

    __slots__ = (
        "_aside", "_buffer", "_burst", "_error", "_filter", "_items", "_lag", "_late", "_newest",
        "_number", "_reader", "_resumed", "_session", "_told_at", "_told_until",
    )  # fmt: skip

    def __init__(self, session: Session, filter: Filter, buffer: int) -> None:
        self._session = session
        self._filter = filter
        self._buffer = buffer
        self._number = session.number()
        self._aside: deque[Snapshot | TaskEvent | Lagged] = deque()
        """What comes before ``_lag``, and that before ``_items``."""
        self._lag = 0
        self._late = False
        """Whether any of those two is there."""
        self._items: deque[Snapshot | TaskEvent] = deque()
        self._reader = Lanes()
        self._burst = BURST
        self._error: BaseException | None = None
        self._told_until: float | None = None
        self._told_at = 0.0
        """When that was, by our own clock."""
        self._newest: list[TaskEvent] = []
        """The events up to then, of which the owner tells again."""
        self._resumed = False

    def __repr__(self) -> str:
        return f"<Subscription {self._number}, {len(self._items)} events wait>"

    # --- implements `actorq.client.session.Listener` ---------------------------------------------

    def request(self, number: int) -> m.Subscribe:
        """Return the request for what this has not been told yet."""
        away = (
            None if self._told_until is None else max(0.0, self._session.elapsed() - self._told_at)
        )
        return m.Subscribe(number, self._number, self._filter, self._told_until, away)

    def begin(self, standing: m.Standing) -> None:
        """Take how things stand; it comes again on a new connection."""
        tasks = tuple(self._session.result(task) for task in standing.tasks)
        self._items.append(Snapshot(standing.counts, tasks))
        self._resumed = self._told_until is not None
        if not self._resumed:
            self._told_until, self._told_at = standing.at, self._session.elapsed()
        self._reader.wake()

    def tell(self, events: list[TaskEvent]) -> None:
        """Take news."""
        if self._resumed:
            events = self._without_repeats(events)
        self._told_at = self._session.elapsed()
        if not events:
            return
        newest = events[-1].time
        if newest == self._told_until:
            self._newest = [*self._newest, *(event for event in events if event.kind is ENDED)]
        else:
            self._newest, self._told_until = events, newest
        items = self._items
        items += events
        if len(items) > self._buffer:
            self._make_room(len(items) - self._buffer)
        if self._reader.reader is not None:
            self._reader.wake()

    def _without_repeats(self, events: list[TaskEvent]) -> list[TaskEvent]:
        """Leave out the ends that were told before the connection was lost."""
        self._resumed = False
        told = {event.run for event in self._newest if event.kind is ENDED}
        return [event for event in events if event.kind is not ENDED or event.run not in told]

    def fail(self, error: BaseException) -> None:
        """There will be nothing more."""
        self._error = error
        self._reader.wake()

    def _make_room(self, count: int) -> None:
        """Drop the oldest events; what may not be dropped is put aside."""
        self._late = True
        for _ in range(count):
            item = self._items.popleft()
            if isinstance(item, Snapshot):
                if self._lag:
                    self._aside.append(Lagged(self._lag))
                    self._lag = 0
                self._aside.append(item)
            elif item.kind is ENDED:
                self._aside.append(item)
            else:
                self._lag += 1

    # --- reading ---------------------------------------------------------------------------------

    def __aiter__(self) -> Subscription:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Snapshot | TaskEvent | Lagged:
        if self._burst <= 0:
            self._burst = BURST
            await trio.lowlevel.checkpoint()
        while True:
            self._burst -= 1
            if self._late:
                if self._aside:
                    return self._aside.popleft()
                count, self._lag, self._late = self._lag, 0, False
                if count:
                    return Lagged(count)
            if self._items:
                return self._items.popleft()
            if self._error is not None:
                raise self._error.with_traceback(None)  # or each raise would add to it
            if self._reader.arrive():
                await trio.lowlevel.wait_task_rescheduled(self._reader.leave)
            else:
                await trio.lowlevel.checkpoint()
            self._burst = BURST
