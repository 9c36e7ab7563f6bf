"""A client's side of its connection: what it asked, what it waits for, and how both survive a cut.

Everything a client has asked stays here until it is answered. On a new connection it says hello and
asks again, which is safe because every request is bound to ids. Callers only ever wait for a
`Future`; they do not see connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

import msgspec
import trio

from actorq.contracts.link import Port
from actorq.errors import (
    ActorDied,
    AuthenticationFailed,
    IncompatiblePeer,
    OwnedElsewhere,
    StoreUnavailable,
    SubmitError,
    TaskNotFound,
    readable,
)
from actorq.model import messages as m
from actorq.model.feed import TaskEvent
from actorq.model.ids import ID_MAX, can_be_id
from actorq.model.outcomes import task_result
from actorq.model.records import Output
from actorq.model.results import TaskResult
from actorq.runtime.future import Future

WATCH_MAX = 1_000
"""Ids in one `Watch`."""


_STAMP_MARGIN = 1.0
_STAMP_PACE = 0.999
"""A stamp is so many seconds behind what we take for the owner's time, and falls back further."""

_QUESTIONS = (m.Inspect, m.Find, m.GetStats, m.Why, m.GetSchedules)

_ENDURING = (m.Withdraw, m.EndScope, m.Watch, m.Subscribe, m.Close)
"""Requests that are kept while the owner is away for long: nobody waits for their answer, or
without end."""

Ending = m.Outcome
"""How a task ended, as the owner told it."""


class _Awaited(ref["Future[Ending]"]):
    """A weak reference that knows the id of its task."""

    __slots__ = ("id",)

    id: str


class Listener(Protocol):
    """A subscription: what it wants, and who takes what comes of it. All calls return at once."""

    def request(self, number: int) -> m.Subscribe:
        """Return the request for what it has not been told yet."""
        ...

    def begin(self, standing: m.Standing) -> None:
        """Take the answer."""

    def tell(self, events: list[TaskEvent]) -> None:
        """Take news."""

    def fail(self, error: BaseException) -> None:
        """There will be nothing more."""


Decode = Callable[[str, Any], Any]
"""From a task's name and what its outcome carries to its value."""


class Session:
    """Implements `actorq.contracts.link.Peer` for a client."""

    def __init__(
        self,
        name: str,
        decode: Decode = lambda _, value: value,
        *,
        leased: bool = False,
        hello: Any = None,
    ) -> None:
        """Be a client called ``name``.

        Args:
            name: Unique among all clients.
            decode: How values are read.
            leased: Whether the owner is elsewhere.
            hello: What to say first, for one that is no ordinary client.
        """
        self._hello = hello or m.ClientHello(name, leased)
        self.name = name
        self.decode = decode
        self._leased = leased
        self._scopes = 0
        self._lost_scopes = 0
        """Those up to this number were given up by the owner, and all of their tasks."""
        self._losses = 0
        self.lineage: str | None = None
        """The records that the owner rests on, while it is connected."""
        self.begun: float | None = None
        """The owner's time when it was first heard of, before which nothing was sent."""
        self._clock: Callable[[], float] | None = None
        self._ahead: float = 0.0
        """What makes a stamp of our time, slowed down."""
        self._suspended: Exception | None = None
        """Why nothing can be asked for some time."""
        self._port: Port | None = None
        self._greeting: Port | None = None
        """A connection on which the owner has been greeted."""
        self._error: BaseException | None = None
        self._requests = 0
        self._unanswered: dict[int, tuple[m.Request, Future[Any]]] = {}
        self._outlived: set[int] = set()
        """Questions that were put to an owner which died over them, or beside them."""
        # Weak, so that a task whose handle nobody keeps costs the client nothing. (A
        # WeakValueDictionary does the same four times slower.)
        self._endings: dict[str, _Awaited] = {}
        self._kept: set[Future[Ending]] = set()
        """The ends that are waited for though nobody keeps a handle."""
        self._listeners: dict[int, Listener] = {}

    def result(
        self, ending: m.Outcome | m.Snapshot, read: Callable[[Any], Any] | None = None
    ) -> TaskResult[Any]:
        """Return what people see of a task; ``read`` knows its value's type, if the name does not.

        Raises:
            EncodeError: Its value cannot be rebuilt here.
        """
        output = ending.output
        if output is not None and output.value is not None:
            value = read(output.value) if read else self.decode(ending.head.name, output.value)
            output = Output(value, output.error, output.kind)
        if isinstance(ending, m.Outcome):
            return task_result(ending.head, output, ending.cause)
        return task_result(ending.head, output, unknown=ending.unknown)

    def new_scope(self) -> str:
        """Return the name of a new scope, unique for this client."""
        self._scopes += 1
        return f"{self.name}:{self._scopes}"

    def is_lost(self, scope: str | None) -> bool:
        """Say whether the owner has given up this scope."""
        if scope is None or not self._lost_scopes:
            return False
        return int(scope.rpartition(":")[2]) <= self._lost_scopes

    def number(self) -> int:
        """Return the number of the next request."""
        self._requests += 1
        return self._requests

    def owner_time(self) -> float | None:
        """Return what the owner's clock shows now, if the last welcome was not long ago."""
        stamp = self.stamp()
        return None if stamp is None else stamp + _STAMP_MARGIN

    def elapsed(self) -> float:
        """Return what a clock shows that nobody sets; 0.0 until there was a welcome."""
        return 0.0 if self._clock is None else self._clock()

    def stamp(self) -> float | None:
        """Return a time that the owner's clock has passed, or None if that was never heard of.

        Our clock has run beside the owner's since the last welcome, and may be somewhat faster.
        """
        clock = self._clock
        return None if clock is None else clock() * _STAMP_PACE + self._ahead

    def ask(
        self, request: m.Request, done: Callable[[Future[Any]], None] | None = None
    ) -> Future[Any]:
        """Send a request; the future is set to its answer, or fails with its refusal.

        ``done`` is called with it then, before anything that the owner says after its answer.
        """
        future: Future[Any] = Future()
        if done is not None:
            future.call_when_done(lambda: done(future))
        if self._error is not None:
            future.fail(_again(self._error))
            return future
        if self._suspended is not None and not _endures(request, self._suspended):
            future.fail(_again(self._suspended))
            return future
        self._unanswered[request.request] = (request, future)
        if self._port is not None:
            self._port.send(request)
        return future

    def withdraw(self, submit: m.Submit, ids: tuple[str, ...], grace: float) -> None:
        """Stop waiting for the answer to a `Submit`, and have these of its tasks cancelled."""
        self._unanswered.pop(submit.request, None)
        self.ask(m.Withdraw(self.number(), submit.request, ids, grace))

    def withdraw_all(self, ids: tuple[str, ...], grace: float) -> None:
        """Have these accepted tasks cancelled, as a part of what was cancelled as a whole."""
        for start in range(0, len(ids), WATCH_MAX):
            self.ask(m.Withdraw(self.number(), 0, ids[start : start + WATCH_MAX], grace))

    def forget(self, request: m.Request) -> None:
        """Stop waiting for the answer to a request; what it asked for is not taken back.

        One that acts is still sent again until the owner has it.
        """
        if not isinstance(request, (*_QUESTIONS, m.Join)):
            return
        if self._unanswered.pop(request.request, None) is not None and self._port is not None:
            self._port.send(m.Forget(request.request))

    def ending(self, id: str) -> Future[Ending]:
        """Return the future that is set when the task ends, if the owner is watching it for us.

        One that is set belongs to the handles that have it: the task may have a new run since.
        """
        future = self._awaited(id)
        if future is None or future.done:
            future = Future()
            self._endings[id] = awaited = _Awaited(future, self._drop)
            awaited.id = id
            if self._error is not None:
                future.fail(_again(self._error))
        return future

    def keep(self, ending: Future[Ending]) -> None:
        """Go on waiting for a task's end though nobody keeps a handle of it."""
        self._kept.add(ending)
        ending.call_when_done(lambda: self._kept.discard(ending))

    def listen(self, listener: Listener) -> int:
        """Subscribe; again on every new connection. Return the number of the subscription."""
        request = listener.request(self.number())
        self._listeners[request.subscription] = listener
        self._subscribe(request)
        return request.subscription

    def _subscribe(self, request: m.Subscribe) -> None:
        def begin(answer: Future[Any]) -> None:
            listener = self._listeners.get(request.subscription)
            if listener is None:
                return
            try:
                listener.begin(answer.peek())
            except Exception as error:  # noqa: BLE001 - the reader's to raise
                listener.fail(error)

        self.ask(request, begin)

    def stop_listening(self, subscription: int) -> None:
        """Unsubscribe."""
        listener = self._listeners.pop(subscription, None)
        if listener is not None:
            listener.fail(trio.ClosedResourceError("this subscription was left"))
        for number, (request, _) in list(self._unanswered.items()):
            if isinstance(request, m.Subscribe) and request.subscription == subscription:
                del self._unanswered[number]
        if self._port is not None:
            self._port.send(m.Unsubscribe(subscription))

    def _awaited(self, id: str) -> Future[Ending] | None:
        awaited = self._endings.get(id)
        return None if awaited is None else awaited()

    def _drop(self, awaited: ref[Future[Ending]]) -> None:
        """Forget a future that nobody has any more."""
        if isinstance(awaited, _Awaited) and self._endings.get(awaited.id) is awaited:
            del self._endings[awaited.id]

    def _open_endings(self) -> dict[str, Future[Ending]]:
        """Return the futures that are not set yet."""
        # A list of values allocates nothing more: a garbage collection in the middle of it could
        # end a future, and `_drop` change the table.
        found = [(awaited.id, awaited()) for awaited in list(self._endings.values())]
        return {id: future for id, future in found if future is not None and not future.done}

    def tables(self) -> dict[str, int]:
        """Return the size of every table."""
        return {
            "unanswered": len(self._unanswered),
            "awaited": len(self._open_endings()),
            "kept": len(self._kept),
            "listeners": len(self._listeners),
        }

    # --- the connection --------------------------------------------------------------------------

    def connected(self, port: Port) -> None:
        """Say hello; nothing is asked before the owner has answered that, but to close.

        (The worker of this system may be next, and must not be granted what is to be ended.)
        """
        self._greeting = port
        if not self._leased:
            self._suspended = None  # (elsewhere, nobody knows yet whether it will be let in)
        closing = [asked for asked, _ in self._unanswered.values() if isinstance(asked, m.Close)]
        port.send(self._hello, *closing)

    def _welcome(self, port: Port, welcome: m.ClientWelcome) -> None:
        """Ask again for all that was not answered, and for every awaited end."""
        self._port = port
        self._suspended = None
        if welcome.losses > self._losses:
            self._lost_scopes = self._scopes
        self._losses = welcome.losses
        self.lineage = welcome.lineage
        if welcome.at:
            self._clock = trio.lowlevel.current_clock().current_time
            self._ahead = max(0.0, welcome.at - _STAMP_MARGIN) - self._clock() * _STAMP_PACE
            self.begun = self.begun or welcome.at
        self._subscribe_again(port)
        for request, future in list(self._unanswered.values()):
            if isinstance(request, m.Submit):
                if self.is_lost(request.tasks[0].scope):
                    del self._unanswered[request.request]
                    future.fail(lost_scope())
                    continue
                if request.lineage is None:  # it has not been sent yet
                    first = msgspec.structs.replace(
                        request, lineage=self.lineage, stamp=self.stamp()
                    )
                    self._unanswered[request.request] = (first, future)
                    port.send(first)
                else:
                    # The clock of another owner may be behind.
                    stamps = [s for s in (request.stamp, self.stamp()) if s is not None]
                    stamp = min(stamps, default=None)
                    again = msgspec.structs.replace(request, resent=True, stamp=stamp)
                    self._unanswered[request.request] = (again, future)
                    port.send(again)
            elif isinstance(request, m.ControlSchedule | m.Bulk):
                port.send(msgspec.structs.replace(request, resent=True))
            elif not isinstance(request, m.Subscribe | m.Close):
                port.send(request)
        submits = [asked for asked, _ in self._unanswered.values() if isinstance(asked, m.Submit)]
        not_yet = {task.id for submit in submits for task in submit.tasks}
        ids = [id for id in self._open_endings() if id not in not_yet]
        for start in range(0, len(ids), WATCH_MAX):
            self.watch(tuple(ids[start : start + WATCH_MAX]), resent=True)

    def _subscribe_again(self, port: Port) -> None:
        """Before all else, so that no listener misses what comes of the rest."""
        asked = [r for r, _ in self._unanswered.values() if isinstance(r, m.Subscribe)]
        for request in asked:  # anew, as it says for how long it was away
            port.send(self._listeners[request.subscription].request(request.request))
        for number in self._listeners.keys() - {request.subscription for request in asked}:
            self._subscribe(self._listeners[number].request(self.number()))

    def _count_deaths(self) -> None:
        """Fail the questions that two incarnations of the owner did not live to answer.

        A question takes no time to answer, so it may be what they died of. What acts is asked for
        ever: its effect may be there already.
        """
        for number, (request, future) in list(self._unanswered.items()):
            if isinstance(request, _QUESTIONS):
                if number in self._outlived:
                    del self._unanswered[number]
                    future.fail(ActorDied(f"the queue actor crashed twice over {request!r}"))
                self._outlived.add(number)
        self._outlived &= self._unanswered.keys()

    def watch(self, ids: tuple[str, ...], *, resent: bool = False) -> None:
        """Have the owner tell us how these tasks end; those it does not know fail at once."""
        for id in [id for id in ids if not can_be_id(id)]:
            ids = tuple(other for other in ids if other != id)
            if (future := self._awaited(id)) is not None:
                future.fail(TaskNotFound(readable(id[:ID_MAX])))
        answer = self.ask(m.Watch(self.number(), ids, resent))

        def mark_unknown() -> None:
            try:
                unknown = answer.peek()
            except Exception:  # noqa: BLE001 - the session is over, and they were told
                return
            for id in unknown:
                future = self._awaited(id)
                if future is not None:
                    future.fail(TaskNotFound(id))

        answer.call_when_done(mark_unknown)

    def disconnected(self, error: BaseException | None) -> None:
        """Keep everything for the next connection; without one, everybody who waits is told."""
        if self._port is not None and not self._leased:
            self._count_deaths()  # (a connection of a wire has many ways to end)
        self._port = self._greeting = self.lineage = None
        if error is None:
            return
        self._error = error
        waiting = [future for _, future in self._unanswered.values()]
        self._unanswered.clear()
        for future in [*waiting, *self._open_endings().values()]:
            future.fail(_again(error))
        for listener in self._listeners.values():
            listener.fail(_again(error))

    def suspended(self, error: Exception) -> None:
        """Refuse what is asked until the owner is back; what was accepted is still waited for.

        But not if that is somebody else, who does not know this client.
        """
        self._suspended = error
        for number, (request, future) in list(self._unanswered.items()):
            if not _endures(request, error):
                # (Whoever was told of the one before may have taken this one back.)
                self._unanswered.pop(number, None)
                future.fail(_again(error))
        if isinstance(error, OwnedElsewhere):
            for ending in self._open_endings().values():
                ending.fail(_again(error))

    def received(self, message: Any) -> None:
        """Take an answer or the end of a task."""
        if type(message) is m.Outcome:
            future = self._awaited(message.head.id)
            if future is not None:
                future.set(message)
        elif type(message) is m.News:
            listener = self._listeners.get(message.subscription)
            if listener is not None:
                listener.tell(message.events)
        elif type(message) is m.Reply:
            asked = self._unanswered.pop(message.request, None)
            if asked is not None:
                if message.error is None:
                    asked[1].set(message.value)
                else:
                    asked[1].fail(message.error)
        elif type(message) is m.ClientWelcome and self._greeting is not None:
            self._welcome(self._greeting, message)


def _endures(request: m.Request, error: Exception) -> bool:
    """Say whether a request is kept though the owner is away for long.

    Another owner ends by itself what a client has open that does not come.
    """
    kind = type(request)
    if isinstance(error, OwnedElsewhere) and kind in (m.Withdraw, m.EndScope):
        return False
    return kind in _ENDURING


def lost_scope() -> SubmitError:
    """Return the refusal of a task whose block was given up by the owner."""
    return SubmitError(
        "the block that owns this task was out of the queue's reach for too long: its tasks were "
        "cancelled, and it takes no more of them"
    )


def _again(error: BaseException) -> BaseException:
    """Return a fresh copy for one waiter: a traceback belongs to one raise."""
    alike = isinstance(
        error, ActorDied | AuthenticationFailed | IncompatiblePeer | StoreUnavailable
    )
    return type(error)(str(error)) if alike else error
