"""The gateway actor: lets other nodes in, and hands what they say to the queue actor.

It checks who may be here (the transport has asked for the token's role before), that the first
batch is a hello, and that a node says only what a node of its kind may. All it knows of the
messages is their types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from actorq.actors.guests import Guest, Guests, Kind
from actorq.codec.envelope import Malformed, decode_to_owner
from actorq.contracts.transport import Authorize, Connection, Transport
from actorq.errors import leaves
from actorq.machines.silence import Silence
from actorq.machines.tables import Limits
from actorq.model import messages as m
from actorq.model import wire as w
from actorq.model.events import EventKind
from actorq.model.ids import HOME
from actorq.model.tree import ActorTree
from actorq.runtime.mailbox import Mailbox
from actorq.runtime.wire import Wire

_CLIENT_MAY = (
    m.Submit, m.Withdraw, m.Forget, m.Watch, m.CancelTask, m.EndScope, m.Inspect, m.Find, m.Bulk,
    m.Subscribe, m.Unsubscribe, m.GetStats, m.GetTasks, m.Join, m.Why, m.PauseQueue, m.Declare,
    m.ControlSchedule, m.GetSchedules,
)  # fmt: skip
_WORKER_MAY = (m.Knows, m.Ready, m.Started, m.Report, m.Finish)
_MAY: dict[Kind, frozenset[type]] = {
    "client": frozenset(_CLIENT_MAY),
    "worker": frozenset(_WORKER_MAY),
    "parent": frozenset({m.WorkerDied}),
}
_ROLES: dict[type, tuple[str, ...]] = {
    m.ClientHello: ("client", "admin"),
    m.WorkerHello: ("worker", "admin"),
    w.BeatHello: ("worker", "admin"),
    w.ParentHello: ("worker", "admin"),
}


class Gateway:
    """Serves connections; `run` it under a supervisor."""

    def __init__(
        self,
        transports: Sequence[Transport],
        authorize: Authorize,
        guests: Guests,
        *,
        node: str,
        library: str,
        limits: Limits,
        max_message: int,
        chunk: int,
        tree: Callable[[], ActorTree],
        tell: Callable[..., None],
    ) -> None:
        """See `run`.

        Args:
            transports: Where to listen.
            authorize: See `actorq.contracts.transport.Authorize`.
            guests: Those who are known; they outlive this actor.
            node: This node's name.
            library: The version of this library.
            limits: The owner's bounds.
            max_message: Its bound on one call or value, in bytes.
            chunk: The most tasks that it takes in one step.
            tree: Answers `GetTree`.
            tell: Reports events.
        """
        self._transports = transports
        self._authorize = authorize
        self._guests = guests
        self._node = node
        self._limits = limits
        self._tree = tree
        self._tell = tell
        self._accepted = w.Accepted(
            w.PROTOCOL, node, library, max_message, limits.lease, limits.window, chunk
        )
        self.addresses: list[str] = []
        """Where it listens."""

    async def run(self, inbox: Mailbox[Any]) -> None:
        """Listen until cancelled.

        Raises:
            OSError: An address cannot be had.
        """
        async with trio.open_nursery() as nursery:
            addresses: list[str] = []
            for transport in self._transports:
                url: str = await nursery.start(transport.listen, self._serve, self._authorize)
                addresses.append(url)
                self._tell(EventKind.LISTENING, url=url)
            self.addresses = addresses
            inbox.started()

    async def _serve(self, connection: Connection) -> None:
        door = _Door(self, connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.listen_for_silence)
                code, reason = await door.wire.run()
                nursery.cancel_scope.cancel("the connection has ended")
        except Exception as error:  # noqa: BLE001 - a bug of ours over one peer's words
            code, reason = w.Close.BROKEN, repr(next(leaves(error)))
        finally:
            door.close()
        if door.guest is not None or door.beats:
            self._tell(
                EventKind.DISCONNECTED,
                peer=connection.peer, node=door.node, code=code, reason=reason,
            )  # fmt: skip
        if door.refused:
            self._tell(EventKind.REFUSED, peer=connection.peer, code=code, reason=reason)


class _Door:
    """One connection: first its hello, then what its node says."""

    def __init__(self, gateway: Gateway, connection: Connection) -> None:
        self._gateway = gateway
        self._role = connection.role
        self.wire: Wire = Wire(connection, self._decode, self._receive)
        self.guest: Guest | None = None
        self.beats: str | None = None
        """The worker whose beats this connection carries."""
        self.node = ""
        self.refused = False
        self._hello: w.Hello | None = None
        self._introduced = trio.Event()
        self._may: frozenset[type] = frozenset()
        """What this node may say to the queue actor."""

    def close(self) -> None:
        """The connection has ended."""
        if self.guest is not None:
            self.guest.unbind(self.wire)

    def _refuse(self, code: w.Close, reason: str) -> None:
        self.refused = True
        self.wire.close(code, reason, flush=True)

    async def listen_for_silence(self) -> None:
        """Close the connection if its hello does not come, or nothing more after that."""
        with trio.move_on_after(w.HELLO_SECONDS):
            await self._introduced.wait()
        if not self._introduced.is_set():
            self._refuse(w.Close.HELLO_TIMEOUT, f"no hello within {w.HELLO_SECONDS:g} s")
            return
        heard = trio.current_time()
        most = w.SILENCE_AT_LISTENER
        if self.beats is not None:
            most = max(most, 3 * self._gateway._limits.beat)
        silence = Silence(most, w.PING_SECONDS, heard)
        while True:
            await trio.sleep(silence.every)
            await trio.lowlevel.checkpoint()  # what has come meanwhile is read first
            newest = self.wire.heard_at
            if self.guest is not None and self.guest.heard_by_beat:
                self.guest.heard_by_beat = False
                newest = trio.current_time()
            if newest > heard:
                heard = newest
                silence.heard(heard)
            if silence.too_long(trio.current_time()):
                self.wire.close(w.Close.SILENT, f"nothing came for {silence.limit:g} s")

    def _decode(self, batch: bytes) -> list[Any]:
        return decode_to_owner(batch)

    def _receive(self, messages: list[Any]) -> None:
        said: list[Any] = []
        for message in messages:
            if self.refused:
                break
            if self.guest is not None:
                if type(message) in self._may:
                    said.append(message)
                else:
                    self._say(said)  # in the order in which it came: this may be its goodbye
                    self._hear(self.guest, message)
            elif self.beats is not None:
                self._hear_beat(self.beats, message)
            else:
                self._introduce(message)
        self._say(said)

    def _say(self, said: list[Any]) -> None:
        if said and self.guest is not None and self.guest.wire is self.wire:
            self.guest.say(said)
        said.clear()

    def _introduce(self, message: Any) -> None:
        """Take the two messages that a connection begins with."""
        if self._hello is None:
            self._check_hello(message)
            return
        roles = _ROLES.get(type(message))
        if roles is None:
            self._refuse(w.Close.BAD_MESSAGE, "a hello says first who is there")
        elif self._role not in roles:
            why = f"a token for the role {self._role!r} is not one for {roles[0]!r}"
            self._refuse(w.Close.FORBIDDEN, why)
        elif isinstance(message, w.BeatHello):
            self.beats = message.node
            self._introduced.set()
            self.wire.send_first(self._gateway._accepted)
        else:
            self._take_in(message, self._hello)

    def _check_hello(self, message: Any) -> None:
        if not isinstance(message, w.Hello):
            self._refuse(w.Close.BAD_MESSAGE, "the first message must be a hello")
            return
        least, most = message.versions
        if not least <= w.PROTOCOL <= most:
            why = f"this node speaks version {w.PROTOCOL} of the protocol, not {least} to {most}"
            self._refuse(w.Close.VERSION, why)
        self._hello = message
        self.node = message.node

    def _take_in(self, message: Any, about: w.Hello) -> None:
        self._introduced.set()
        if isinstance(message, m.WorkerHello) and (
            message.worker.rpartition(".")[0] != message.node or message.node.startswith(HOME)
        ):
            self._refuse(w.Close.BAD_MESSAGE, "a worker is called after its node")
            return
        self.wire.send_first(self._gateway._accepted)
        take_in = self._gateway._guests.take_in
        if isinstance(message, m.WorkerHello):
            self.guest = take_in("worker", message.node, self.wire, about, message)
        elif isinstance(message, w.ParentHello):
            hello = m.ClientHello(message.session)
            self.guest = take_in("parent", message.session, self.wire, about, hello)
        else:
            self.guest = take_in("client", message.session, self.wire, about, message)
        if self.guest is None:
            self._refuse(w.Close.SUPERSEDED, "the same peer has a newer connection")
            return
        self._may = _MAY[self.guest.kind]
        self._gateway._tell(
            EventKind.CONNECTED, peer=self.wire.peer, node=self.node, library=about.library
        )

    def _hear(self, guest: Guest, message: Any) -> None:
        kind = type(message)
        if guest.wire is not self.wire:
            return  # a newer connection has taken its place
        if kind is w.Ping:
            self.wire.send_first(w.Pong())
            guest.got(message.got)
            if guest.kind == "worker":
                guest.say([m.Beat(0.0)])
        elif kind is w.Got:
            guest.got(message.got)
        elif kind is w.Bye:
            self._gateway._guests.leave(guest)
        elif kind is Malformed:
            guest.received(m.Reply(message.request, error=message.error))
        elif kind is m.GetTree and guest.kind == "client":
            guest.received(m.Reply(message.request, self._gateway._tree()))
        else:
            self._refuse(w.Close.BAD_MESSAGE, f"{kind.__name__} is not for a {guest.kind}")

    def _hear_beat(self, node: str, message: Any) -> None:
        if isinstance(message, m.Beat):
            guest = self._gateway._guests.find("worker", node)
            if guest is not None:
                guest.say([message])
                limits = self._gateway._limits
                if limits.beat < message.lag <= limits.max_block:
                    guest.heard_by_beat = True
        elif not isinstance(message, w.Ping):
            self._refuse(w.Close.BAD_MESSAGE, "a beat connection carries beats")
            return
        self.wire.send_first(w.Pong())
