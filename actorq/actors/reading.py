"""What the machine asks of the store, and what is answered about records that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actorq.actors.owner import PEOPLE_WAIT, Owner
from actorq.errors import CorruptStore, RemoteError, StoreUnavailable
from actorq.machines.effects import Effect, Found, Lookup, Search, Searched, Send
from actorq.model import messages as m
from actorq.model.ids import PARTITION
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output, Record
from actorq.model.status import FAILURE, FailureKind

_ANSWERED_ANYWAY = m.Submit | m.Resolve | m.Watch | m.Finish


class Reading:
    """Answers `Lookup` and `Search`; what it returns is what the machine makes of the answers."""

    def __init__(
        self,
        owner: Owner,
        step: Callable[[int, Any], list[Effect]],
        refuse: Callable[[str, str], None],
    ) -> None:
        """Read for an owner; ``step`` and ``refuse`` are its machine's."""
        self._owner = owner
        self._step = step
        self._refuse = refuse

    async def fetch(self, lookups: list[Lookup]) -> list[Effect]:
        """Answer what the machine has asked the store for; return what comes of that."""
        try:
            records, keyed = await self._ask(lookups)
        except CorruptStore as error:
            return await self._fetch_apart(lookups, error)
        effects: list[Effect] = []
        for lookup in lookups:
            answer = Found(
                lookup.message,
                {id: records[id] for id in lookup.ids if id in records},
                {key: keyed[key] for key in lookup.keys if key in keyed},
            )
            effects += self._step(lookup.to, answer)
        return effects

    async def _fetch_apart(self, lookups: list[Lookup], error: CorruptStore) -> list[Effect]:
        """Refuse what is asked about a damaged record, which is nobody else's trouble."""
        if len(lookups) > 1:
            return [effect for lookup in lookups for effect in await self.fetch([lookup])]
        (lookup,) = lookups
        several = len(lookup.ids) + len(lookup.keys) > 1
        if several or isinstance(lookup.message, _ANSWERED_ANYWAY):
            return await self._fetch_singly(lookup)
        request = getattr(lookup.message, "request", None)
        if request is None:
            return []
        return [Send(lookup.to, m.Reply(request, error=CorruptStore(str(error))))]

    async def _fetch_singly(self, lookup: Lookup) -> list[Effect]:
        """Answer with all that can be read; what cannot is not there, and not to be replaced."""
        records: dict[str, Record] = {}
        keyed: dict[str, Record] = {}
        told: list[Effect] = []
        watches = isinstance(lookup.message, m.Watch)
        for id in lookup.ids:
            try:
                records |= (await self._ask([Lookup(0, None, (id,))]))[0]
            except CorruptStore as error:
                self._refuse(id, str(error))
                if watches:  # or it would wait for ever
                    told.append(Send(lookup.to, _unreadable(id, error)))
        for key in lookup.keys:
            try:
                keyed |= (await self._ask([Lookup(0, None, (), (key,))]))[1]
            except CorruptStore as error:
                for task in lookup.message.tasks:  # keys are asked for by a `Submit`
                    if task.options.key == key:
                        self._refuse(task.id, f"whether it has run already is lost: {error}")
        return told + self._step(lookup.to, Found(lookup.message, records, keyed))

    async def _ask(self, lookups: list[Lookup]) -> tuple[dict[str, Record], dict[str, Record]]:
        """Return records by id, and ended ones by key."""
        ids = list(dict.fromkeys(id for lookup in lookups for id in lookup.ids))
        keys = list(dict.fromkeys(key for lookup in lookups for key in lookup.keys))
        records: dict[str, Record] = {}
        keyed: dict[str, Record] = {}
        if ids:
            found = await self._owner.insist(lambda: self._owner.store.fetch(PARTITION, ids))
            records = {record.head.id: record for record in found if record is not None}
        if keys:
            ended = await self._owner.insist(lambda: self._owner.store.fetch_keyed(PARTITION, keys))
            keyed = {key: r for key, r in zip(keys, ended, strict=True) if r is not None}
        return records, keyed

    async def search(self, search: Search) -> list[Effect]:
        """Look for one page; return what comes of it."""
        find, which = self._owner.store.find, (search.filter, search.cursor, search.limit)
        try:
            page = await self._owner.insist(lambda: find(PARTITION, *which), patience=PEOPLE_WAIT)
        except (CorruptStore, StoreUnavailable) as error:
            if self._owner.store.immediate and isinstance(error, StoreUnavailable):
                raise
            why = type(error)(str(error))
            return self._step(search.to, Searched(search.message, [], None, 0, search.total, why))
        searched = Searched(search.message, page.records, page.next, page.scanned, search.total)
        return self._step(search.to, searched)


def _unreadable(id: str, error: CorruptStore) -> m.Outcome:
    """Return what is told of a task that has ended, when how it did cannot be read."""
    head = Head(id, "?", TaskOptions(), "any", None, 0, 0, 0, 0, FAILURE)
    how = RemoteError.made_of(CorruptStore, f"how it has ended is lost: {error}")
    return m.Outcome(head, Output(error=how, kind=FailureKind.STORE))
