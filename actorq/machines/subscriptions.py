"""Who is told what happens to tasks, and from which moment on.

A subscriber gets one snapshot and then every event that fits its filter, with no gap. Where the
store has to be asked for the snapshot, events are held back until it has answered. A subscriber
that comes back after a lost connection says until when it was told, and is told anew of every task
that has ended since.

Subscriptions are found by what they filter for: one that is about other tasks costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from actorq.errors import RemoteError
from actorq.machines.effects import Outbox, Searched, Send
from actorq.machines.ledger import Ledger, snapshot
from actorq.model import messages as m
from actorq.model.feed import TaskEvent, TaskEventKind, TrackedEvent
from actorq.model.filters import Filter
from actorq.model.records import Head, Record
from actorq.model.results import Progress
from actorq.model.status import PENDING, RUNNING, SCHEDULED, WAITING, TaskStatus

REPLAY_CHUNK = 1_000
"""Ended tasks that are looked at in one step for a subscriber that has come back."""


_CLOCKS_DIFFER = 1.0
"""Seconds by which a subscriber may have been told of later times than we know of; if it is more,
the owner's clock was ahead then, and only how long it was away is to be relied on."""

_IN_FLIGHT = 10.0
"""Seconds for which news may have been on their way when it was told for the last time."""

_ANY = ""
"""The only key of the table of those that are about any task."""

_LIVE: tuple[TaskStatus, ...] = (SCHEDULED, WAITING, PENDING, RUNNING)


class Subscription(Struct, eq=False):
    """One subscriber's filter, and what it has not been told yet."""

    origin: int
    request: int
    number: int
    filter: Filter
    simple: bool
    """Whether its filter is no more than what it is found by."""
    news: list[TaskEvent] = []
    standing: m.Standing | None = None
    """The snapshot, while the store is asked for the rest of it; meanwhile ``news`` are held."""
    missed: list[TaskEvent] = []
    """What has ended while it was away, as far as it was found."""


class Subscriptions:
    """Implements `Subscribe` and `Unsubscribe`; the rule book tells it what happens."""

    def __init__(self, ledger: Ledger, out: Outbox) -> None:
        self._ledger = ledger
        self._out = out
        self._all: dict[tuple[int, int], Subscription] = {}
        self._about_any: dict[str, list[Subscription]] = {}
        self._by_id: dict[str, list[Subscription]] = {}
        self._by_name: dict[str, list[Subscription]] = {}
        self._by_queue: dict[str, list[Subscription]] = {}
        self._told: list[Subscription] = []
        self._indexed = False
        self.any: bool = False
        """Whether there is a subscriber at all."""

    def __len__(self) -> int:
        return len(self._all)

    # --- coming and going ------------------------------------------------------------------------

    def subscribe(self, origin: int, request: m.Subscribe, now: float) -> None:
        """Answer with how things stand, and tell everything from now on."""
        self._drop(origin, request.subscription)
        if request.since is not None and request.away is not None:
            left = now - request.away
            if request.since > left + _CLOCKS_DIFFER:
                request = replace(request, since=max(0.0, left - _IN_FLIGHT))
        filter = request.filter
        number = request.subscription
        subscription = Subscription(origin, request.request, number, filter, _simple(filter))
        self._all[origin, number] = subscription
        table, keys = self._place(filter)
        for key in keys:
            table.setdefault(key, []).append(subscription)
        self._note_who_is_there()
        subscription.standing = m.Standing(now, self._counts(filter), self._live_of(filter))
        unknown = [id for id in filter.ids or () if id not in self._ledger.live]
        if unknown:
            self._out.lookup(origin, request, *unknown)
        elif filter.ids is None and request.since is not None:
            self._search(origin, request, None)
        else:
            self._begin(subscription, request)

    def found(self, origin: int, request: m.Subscribe, records: list[Record], now: float) -> None:
        """Go on with a subscription to ids of which some were not live."""
        subscription = self._waiting(origin, request)
        if subscription is not None and subscription.standing is not None:
            standing = subscription.standing
            # What was live at that moment is in there; what has come to life since is news.
            ended = [r for r in records if r.head.keep_until is not None]
            tasks = [m.Snapshot(r.head, r.output, None) for r in ended if is_kept(r, now)]
            subscription.standing = replace(standing, tasks=(*standing.tasks, *tasks))
            self._note_missed(subscription, ended, request.since)
            self._begin(subscription, request)

    def searched(self, origin: int, searched: Searched) -> None:
        """Go on with a subscription whose subscriber was away."""
        request = searched.message
        subscription = self._waiting(origin, request)
        if subscription is not None:
            self._note_missed(subscription, searched.records, request.since)
            if searched.next is None:
                self._begin(subscription, request)
            else:
                self._search(origin, request, searched.next)

    def unsubscribe(self, origin: int, request: m.Unsubscribe) -> None:
        """Tell no more."""
        self._drop(origin, request.subscription)

    def gone(self, origin: int) -> None:
        """A connection has ended, and its subscriptions with it."""
        for connection, number in [key for key in self._all if key[0] == origin]:
            self._drop(connection, number)

    def _waiting(self, origin: int, request: m.Subscribe) -> Subscription | None:
        """Return the subscription if it is this request's, and has not begun yet."""
        subscription = self._all.get((origin, request.subscription))
        if subscription is None or subscription.request != request.request:
            return None
        return subscription if subscription.standing is not None else None

    def _drop(self, origin: int, number: int) -> None:
        subscription = self._all.pop((origin, number), None)
        if subscription is None:
            return
        table, keys = self._place(subscription.filter)
        for key in keys:
            table[key].remove(subscription)
            if not table[key]:
                del table[key]
        self._told = [told for told in self._told if told is not subscription]
        self._note_who_is_there()

    def _note_who_is_there(self) -> None:
        self.any = bool(self._all)
        self._indexed = bool(self._by_id or self._by_name or self._by_queue)

    def _place(self, filter: Filter) -> tuple[dict[str, list[Subscription]], Iterable[str]]:
        """Return the table by which a subscription is found, and under which of its keys."""
        if filter.ids is not None:
            return self._by_id, filter.ids
        if filter.names is not None:
            return self._by_name, filter.names
        if filter.queue is not None:
            return self._by_queue, (filter.queue,)
        return self._about_any, (_ANY,)

    # --- how things stand ------------------------------------------------------------------------

    def _counts(self, filter: Filter) -> dict[TaskStatus, int]:
        """Return how many live tasks fit, by status; by looking at each unless they are counted."""
        counts = dict.fromkeys(_LIVE, 0)
        if filter == Filter(queue=filter.queue):
            for queue, stats in self._ledger.stats({}).items():
                if filter.queue in (None, queue):
                    counts[SCHEDULED] += stats.scheduled
                    counts[WAITING] += stats.waiting
                    counts[PENDING] += stats.pending
                    counts[RUNNING] += stats.running
            return counts
        if filter.statuses is not None and filter.statuses.isdisjoint(_LIVE):
            return counts  # without a look at a million of them
        live = self._ledger.live
        ids = live.keys() if filter.ids is None else filter.ids & live.keys()
        for id in ids:
            head = live[id].head
            if filter.matches(head):
                counts[head.status] += 1
        return counts

    def _live_of(self, filter: Filter) -> tuple[m.Snapshot, ...]:
        live = self._ledger.live
        return tuple(snapshot(live[id]) for id in filter.ids or () if id in live)

    def _search(self, origin: int, request: m.Subscribe, cursor: str | None) -> None:
        ended = replace(request.filter, ended_since=request.since)
        self._out.search(origin, request, ended, cursor, REPLAY_CHUNK)

    def _note_missed(
        self, subscription: Subscription, records: list[Record], since: float | None
    ) -> None:
        if since is None:
            return
        for record in records:
            head, at = record.head, record.head.completed_at
            if at is not None and at >= since and subscription.filter.matches(head):
                error = None if record.output is None else record.output.error
                made = TaskEvent if type(head) is Head else TrackedEvent
                subscription.missed.append(made(TaskEventKind.ENDED, head, at, None, error))

    def _begin(self, subscription: Subscription, request: m.Subscribe) -> None:
        """Send the snapshot, then what was missed, then what was held back."""
        assert subscription.standing is not None
        self._out.reply(subscription.origin, request, subscription.standing)
        subscription.standing = None
        held = {event.run for event in subscription.news if event.kind is TaskEventKind.ENDED}
        missed = [event for event in subscription.missed if event.run not in held]
        missed.sort(key=lambda event: event.time)
        subscription.news[:0] = missed
        subscription.missed = []
        if subscription.news and subscription not in self._told:
            self._told.append(subscription)

    # --- what happens ----------------------------------------------------------------------------

    def publish(
        self,
        kind: TaskEventKind,
        head: Head,
        now: float,
        progress: Progress | None = None,
        error: RemoteError | None = None,
    ) -> None:
        """Tell those whom it concerns; only worth a call if there is ``any``."""
        whom: Iterable[Subscription] = self._about_any.get(_ANY, ())
        if self._indexed:
            whom = chain(
                whom,
                self._by_id.get(head.id, ()),
                self._by_name.get(head.name, ()),
                self._by_queue.get(head.options.queue, ()),
            )
        event = None
        for subscription in whom:
            if subscription.simple or subscription.filter.matches(head):
                if event is None:
                    made = TaskEvent if type(head) is Head else TrackedEvent
                    event = made(kind, head, now, progress, error)
                news = subscription.news
                if not news and subscription.standing is None:
                    self._told.append(subscription)
                news.append(event)

    def flush(self) -> None:
        """Send what was published since the last time."""
        told = self._told
        if told:
            for subscription in told:
                news, subscription.news = subscription.news, []
                self._out.append(Send(subscription.origin, m.News(subscription.number, news)))
            told.clear()


def is_kept(record: Record, now: float) -> bool:
    """Say whether a record may still be seen; the store forgets them only now and then."""
    return record.head.keep_until is None or record.head.keep_until > now


def _simple(filter: Filter) -> bool:
    """Say whether a filter has at most one keyword, by which its subscription is found."""
    return filter in (
        Filter(ids=filter.ids), Filter(names=filter.names), Filter(queue=filter.queue)
    )  # fmt: skip
