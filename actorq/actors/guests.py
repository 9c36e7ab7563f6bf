"""Who stands for a node elsewhere: a peer of the queue actor that outlives its connections.

A *guest* is a client's session, a worker's node, or a worker's parent. The queue actor knows it as
a peer like any other: a cut is an `Away`, and a return another hello from the same peer. What a
client must not miss, answers and outcomes, is kept here until it says that they came, and sent
again first when it is back: whatever it asks again then, it asks with all answers in hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import trio
from msgspec.structs import replace

from actorq.codec.envelope import encode
from actorq.contracts.link import Port
from actorq.errors import EncodeError, OwnedElsewhere, PayloadTooLarge, RemoteError, readable
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.options import TaskOptions
from actorq.model.records import Head, Output
from actorq.model.status import FailureKind, TaskStatus
from actorq.runtime.exchange import Exchange
from actorq.runtime.wire import BACKLOG_MAX, Wire, message_max

_BRIEF_MAX = 200
"""Characters that are left of an error where all of them are too many."""

Kind = Literal["client", "worker", "parent"]
Hello = m.ClientHello | m.WorkerHello

_ENDLESS = (m.Forget, m.Unsubscribe, m.Subscribe)
"""What a client may say again though it was understood: two have no answer, and who subscribes
again wants what it missed."""


class Guest:
    """Implements `actorq.contracts.link.Peer` for a node elsewhere."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        max_message: int,
        leave: Callable[[Guest], None],
        renew: Callable[[Guest], Port | None],
    ) -> None:
        self.kind: Kind = kind
        self.name: str = name
        self.wire: Wire | None = None
        self.parted: trio.Event = trio.Event()
        """Set when that connection has ended."""
        self.number: int = 0
        """That of its newest connection; 0 before the first."""
        self.heard_by_beat: bool = False
        """Whether its process was heard of, while its loop stands still."""
        self._max_message = max_message
        self._most = message_max(max_message)
        self._leave = leave
        self._renew = renew
        self._port: Port | None = None
        self._why_not: str | None = None
        """Why the queue actor stays down for some time."""
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._got = 0
        self._open: set[int] = set()
        """The requests that are being worked on: asked again, they are not worked on twice."""

    # --- implements `actorq.contracts.link.Peer` -------------------------------------------------

    def connected(self, port: Port) -> None:
        """The queue actor is up; the node, if this is not its first time, has yet to come back."""
        self._port = port
        self._why_not = None
        if self.number and self.kind == "worker":
            self._leave(self)  # only the node knows what it runs
        elif self.number:
            port.send(m.ClientHello(self.name, leased=True), m.Away())

    def disconnected(self, error: BaseException | None) -> None:
        """The queue actor is down, for a moment or for ever: the node must say hello again."""
        self._port = None
        self._open.clear()
        if self.wire is not None:
            if error is None:
                self.wire.close(w.Close.AGAIN, "the queue starts again", flush=True)
            else:
                self.wire.close(w.Close.GOING_AWAY, str(error), flush=True)

    def suspended(self, error: Exception) -> None:
        """The queue actor stays down for some time: the node is told why each time it asks.

        If that is because somebody else owns the store, the node is that one's guest from now on.
        """
        if isinstance(error, OwnedElsewhere):
            self._leave(self)
            return
        self._why_not = str(error)
        if self.wire is not None:
            self.wire.close(w.Close.UNAVAILABLE, self._why_not, flush=True)

    def received(self, message: Any) -> None:
        """Take what the queue actor says to the node."""
        kind = type(message)
        if kind is m.Reply:
            self._answer(message)
        elif kind is m.Outcome:
            self._keep(self._outcome(message))
        elif kind is m.News:
            self._tell(message)
        elif kind is m.Lost:
            if self.wire is not None:
                self.wire.close(w.Close.LOST, "out of reach for too long", flush=True)
            self._leave(self)
        elif self.wire is not None:
            data = encode(message)
            if kind is m.Grant and len(data) > self._most:
                # Enough for the worker to say that it cannot take it.
                head = _bare(message.head)
                data = encode(replace(message, head=head, body=None, inputs={}))
            self.wire.send(data)

    # --- the node's connection -------------------------------------------------------------------

    def bind(self, wire: Wire, about: w.Hello, hello: Hello) -> None:
        """Go on over a new connection."""
        if about.max_message is not None:
            self._most = message_max(min(self._max_message, about.max_message))
        if self.wire is not None:
            self.wire.close(w.Close.SUPERSEDED, "the same peer has a newer connection")
        self.wire = wire
        self.parted = trio.Event()
        if self.kind == "worker" and self.number and self._port is not None:
            # A grant that is still being written is one that this hello does not list: it is
            # granted anew, and must not come as well.
            self._port = self._renew(self)
        self.number = about.number
        self._got = 0
        for data in self._kept:
            wire.send(data)
        if self._why_not is not None:
            wire.close(w.Close.UNAVAILABLE, self._why_not, flush=True)
        elif self._port is None:  # what the node says in one breath with its hello would be lost
            wire.close(w.Close.AGAIN, "the queue starts again", flush=True)
        else:
            self._port.send(replace(hello, leased=True))

    def unbind(self, wire: Wire) -> None:
        """This connection has ended."""
        if self.wire is wire:
            self.wire = None
            self.parted.set()
            if self._port is not None:
                self._port.send(m.Away())

    def say(self, messages: list[Any]) -> None:
        """Hand what the node has sent together to the queue actor."""
        if self._port is None:
            return  # the connection is being closed, and all of it will be said again
        if self.kind != "worker":
            messages = [message for message in messages if self._is_new(message)]
        if messages:
            self._port.send(*messages)

    def _is_new(self, message: Any) -> bool:
        """Say whether a client's message is not being worked on already."""
        kind = type(message)
        if kind is m.Forget:
            self._open.discard(message.request)
        elif kind not in _ENDLESS:
            if message.request in self._open:
                return False
            self._open.add(message.request)
            if kind is m.Withdraw:
                self._open.discard(message.submit)  # which has no other answer
        return True

    def got(self, count: int) -> None:
        """The node has received ``count`` durable messages on this connection."""
        while self._got < count and self._kept:
            self._got += 1
            self._kept_bytes -= len(self._kept.popleft())

    # --- what is too large -----------------------------------------------------------------------

    def _outcome(self, outcome: m.Outcome) -> bytes:
        """Encode an outcome; one that the node cannot take becomes one that says so."""
        data = encode(outcome)
        if len(data) <= self._most:
            return data
        why = f"its outcome takes {len(data)} bytes, and this client takes {self._most}"
        error = RemoteError.made_of(PayloadTooLarge, why)
        head = replace(_bare(outcome.head), status=TaskStatus.FAILURE)
        return encode(m.Outcome(head, Output(error=error, kind=FailureKind.ERROR)))

    def _tell(self, news: m.News) -> None:
        if self.wire is None:
            return  # the node subscribes again, with what it missed
        data = encode(news)
        if len(data) <= self._most:
            self.wire.send(data)
        elif len(news.events) > 1:
            middle = len(news.events) // 2
            self._tell(replace(news, events=news.events[:middle]))
            self._tell(replace(news, events=news.events[middle:]))
        else:
            (event,) = news.events
            event = replace(event, head=_bare(event.head))
            self.wire.send(encode(replace(news, events=[event])))

    # --- what is kept ----------------------------------------------------------------------------

    def _answer(self, reply: m.Reply) -> None:
        try:
            data = encode(reply)
        except Exception as error:  # noqa: BLE001 - an actor's name that is no text, say
            data = encode(m.Reply(reply.request, error=EncodeError(readable(str(error)))))
        if len(data) > self._most:
            page = reply.value
            if isinstance(page, m.FoundPage) and page.asked is not None and len(page.tasks) > 1:
                # Half as many may fit; the node sees a short page and where it goes on.
                if self._port is not None:
                    self._port.send(replace(page.asked, limit=len(page.tasks) // 2))
                return
            if isinstance(page, m.Standing):
                data = encode(replace(reply, value=_brief(page)))
        if len(data) > self._most:
            why = f"the answer takes {len(data)} bytes, over max_message: ask for less at a time"
            data = encode(m.Reply(reply.request, error=PayloadTooLarge(why)))
        self._open.discard(reply.request)
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Send a durable message, and keep it until it is acknowledged."""
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self.wire is not None:
            self.wire.send(data)
        if self._kept_bytes > BACKLOG_MAX:
            if self.wire is not None:
                self.wire.close(w.Close.TOO_SLOW, f"{self._kept_bytes} bytes wait to be read")
            self._kept.clear()
            self._kept_bytes = 0
            if self._port is not None:
                self._port.send(m.GiveUp())

    def tables(self) -> dict[str, int]:
        """Return the size of every table; all are 0 when nothing is under way."""
        return {"kept": len(self._kept), "open": len(self._open)}


def _bare(head: Head) -> Head:
    """Return the head of a task without what may be large."""
    options = TaskOptions(queue=head.options.queue, priority=head.options.priority)
    return replace(head, options=options, needs=())


def _brief(standing: m.Standing) -> m.Standing:
    """Return how things stand without what events do not have either, or may be long."""
    tasks = []
    for task in standing.tasks:
        output = task.output
        if output is not None:
            error = output.error
            if error is not None:
                error = RemoteError(error.type, error.message[:_BRIEF_MAX], mro=error.mro)
            output = replace(output, value=None, error=error)
        tasks.append(replace(task, head=_bare(task.head), output=output, progress=None))
    return replace(standing, tasks=tuple(tasks))


class Guests:
    """All guests of one exchange."""

    def __init__(self, exchange: Exchange, max_message: int) -> None:
        self._exchange = exchange
        self._max_message = max_message
        self._all: dict[tuple[Kind, str], Guest] = {}

    def find(self, kind: Kind, name: str) -> Guest | None:
        """Return the guest of that name, if there is one."""
        return self._all.get((kind, name))

    def take_in(
        self, kind: Kind, name: str, wire: Wire, about: w.Hello, hello: Hello
    ) -> Guest | None:
        """Bind a connection to its guest, a new one if need be; None if it is an old connection."""
        guest = self.find(kind, name)
        if guest is None:
            guest = self._all[kind, name] = Guest(
                kind, name, self._max_message, self.leave, self._exchange.renew
            )
            self._exchange.attach(guest)
        if about.number <= guest.number:
            return None
        guest.bind(wire, about, hello)
        return guest

    def leave(self, guest: Guest) -> None:
        """The node is gone for good; twice is once."""
        if self._all.get((guest.kind, guest.name)) is guest:
            del self._all[guest.kind, guest.name]
            self._exchange.detach(guest)

    def __iter__(self) -> Iterator[Guest]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)
