"""A network in memory that loses what it is told to lose: for tests in virtual time.

Streams behave as TCP's do, with what goes wrong there: bytes take time, a peer that does not read
stops its writer, a connection breaks after any byte, one direction falls silent without a word, a
dial is refused or never answered. All chance comes from one `random.Random`, and all time from
trio's clock, so a run can be repeated.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import count
from operator import index
from random import Random
from typing import Literal

import trio

from actorq.testing.clock import current_clock

Side = Literal["near", "far"]
"""The end that dialled, and the one that listened."""

Door = Literal["open", "refusing", "silent"]
"""What happens to those who dial: they get through, are refused, or are not answered."""

WINDOW = 64 * 1024
"""Bytes on their way, or arrived and not read, that one direction takes before its writer waits."""

_SPLIT = 0.05  # of all arrivals: a part of it comes first


class Internet:
    """All hosts and the links between them.

    Attributes:
        links: Every connection that at least one end still holds, oldest first.
    """

    def __init__(self, random: Random, latency: tuple[float, float] = (0.0005, 0.004)) -> None:
        """Draw all chance from ``random``; bytes take between the two ``latency`` seconds.

        With any latency, the run must have a `VirtualClock`.
        """
        self.links: list[Link] = []
        self._random = random
        self._latency = latency
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._doors: dict[tuple[str, str], Door] = {}
        self._door_moved = trio.Event()
        self._numbers = count(1)

    def host(self, name: str) -> Host:
        """Return a new host; one of the same name that was before is not it."""
        return Host(self, name)

    def between(self, one: str, other: str | None = None) -> list[Link]:
        """Return the links of a host, or those between two."""
        return [
            link
            for link in self.links
            if one in link.hosts and (other is None or other in link.hosts)
        ]

    def door(self, dialler: str, listener: str, door: Door) -> None:
        """Say what happens from now on to dials of one host at another."""
        self._doors[dialler, listener] = door
        moved, self._door_moved = self._door_moved, trio.Event()
        moved.set()

    def heal(self) -> None:
        """Open every door and let every link that still stands go on."""
        for pair in list(self._doors):
            self.door(*pair, "open")
        for link in list(self.links):
            link.release()

    def delay(self) -> float:
        """Draw how long something takes."""
        least, most = self._latency
        return self._random.uniform(least, most) if most else 0.0

    def pieces(self, data: bytes) -> Sequence[bytes]:
        """Split what arrives, now and then, as any stream may be split."""
        if len(data) > 1 and self._latency[1] and self._random.random() < _SPLIT:
            middle = self._random.randrange(1, len(data))
            return data[:middle], data[middle:]
        return (data,)

    async def _connect(self, host: Host, name: str, port: int) -> trio.abc.Stream:
        await trio.sleep(2 * self.delay())
        while (door := self._doors.get((host.name, name), "open")) == "silent" or not host.alive:
            await self._door_moved.wait()
        listener = self._listeners.get((name, port))
        if listener is None or door == "refusing":
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {name}:{port}")
        link = Link(self, next(self._numbers), host, listener.host)
        self.links.append(link)
        listener.backlog.append(link.far)
        listener.arrived.unpark_all()
        return link.near

    def _listen(self, host: Host, port: int) -> Listener:
        if not host.alive or (host.name, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{host.name}:{port} is taken")
        listener = self._listeners[host.name, port] = Listener(self, host, port)
        return listener

    def _forget(self, listener: Listener) -> None:
        key = listener.host.name, listener.port
        if self._listeners.get(key) is listener:
            del self._listeners[key]


class Host:
    """Implements `actorq.transports.network.Network` for everything on one machine.

    Attributes:
        alive: Whether anything it sends leaves it.
    """

    def __init__(self, internet: Internet, name: str) -> None:
        self.name: str = name
        self.alive: bool = True
        self._internet = internet

    async def open(self, host: str, port: int) -> trio.abc.Stream:
        """See `Network.open`."""
        return await self._internet._connect(self, host, port)

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """See `Network.listen`; a host listens at its own name only."""
        await trio.lowlevel.checkpoint()
        if host != self.name:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not {self.name}")
        return [self._internet._listen(self, port)]

    def kill(self, *, silently: bool = False) -> None:
        """End everything on it; its peers are told, unless the machine is lost with it."""
        self.alive = False
        for key, listener in list(self._internet._listeners.items()):
            if listener.host is self:
                del self._internet._listeners[key]
        for link in list(self._internet.links):
            for end in (link.near, link.far):
                if end.host is self:
                    link.lose(end.side, told=not silently)


class Listener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts those who dial a host at one port."""

    def __init__(self, internet: Internet, host: Host, port: int) -> None:
        self.host = host
        self.port = port
        self.backlog: deque[End] = deque()
        self.arrived: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self._internet = internet
        self._closed = False

    async def accept(self) -> trio.abc.Stream:
        """See `trio.abc.Listener`."""
        await trio.lowlevel.checkpoint()
        while not self._closed and not self.backlog:
            await self.arrived.park()
        if self._closed:
            raise trio.ClosedResourceError("this listener is closed")
        return self.backlog.popleft()

    async def aclose(self) -> None:
        """See `trio.abc.Listener`."""
        self._closed = True
        self._internet._forget(self)
        while self.backlog:
            self.backlog.popleft().link.reset()
        self.arrived.unpark_all()
        await trio.lowlevel.checkpoint()


class Link:
    """One connection: two ends, and a direction from each to the other.

    Attributes:
        name: For people: who dialled whom, and the number of the link.
        hosts: The names of the two.
        near: The end that dialled.
        far: The end that listened.
        bytes: How many have arrived so far, at either end.
    """

    def __init__(self, internet: Internet, number: int, dialler: Host, listener: Host) -> None:
        self.name: str = f"{dialler.name}>{listener.name}#{number}"
        self.hosts: tuple[str, str] = dialler.name, listener.name
        self.bytes: int = 0
        up, down = Pipe(internet, self), Pipe(internet, self)
        self.near: End = End(self, "near", dialler, up, down)
        self.far: End = End(self, "far", listener, down, up)
        self._internet = internet
        self._over = 0

    def _from(self, side: Side) -> Pipe:
        return (self.near if side == "near" else self.far).outbound

    def cut(self, side: Side, after: int = 0) -> None:
        """Break it once so many more bytes from that side have arrived."""
        self._from(side).break_after(after)

    def hold(self, side: Side) -> None:
        """Let nothing of what that side sends arrive, and nobody know: it is half open."""
        self._from(side).held = True

    def release(self) -> None:
        """Let everything that is held, in either direction, arrive now."""
        for side in ("near", "far"):
            self._from(side).go_on()

    def half_close(self, side: Side) -> None:
        """End the direction from that side only, in order; what it still sends is refused."""
        self._from(side).finish()
        self._from(side).break_writer()

    def slow_down(self, side: Side, seconds: float) -> None:
        """Let everything from that side take so much longer from now on."""
        self._from(side).extra = seconds

    def reset(self) -> None:
        """Break it: both ends see that when they have read what has arrived."""
        for side in ("near", "far"):
            self._from(side).reset()

    def lose(self, side: Side, *, told: bool) -> None:
        """That end is gone; the other one sees the link break, or (not ``told``) nothing at all."""
        other: Side = "far" if side == "near" else "near"
        if told:
            self.reset()
        else:
            self._from(side).lost = self._from(other).lost = True
        self._from(other).close_reader()
        self._from(side).break_writer()

    def closed(self) -> None:
        """One end is closed; with the second the link is forgotten."""
        self._over += 1
        if self._over == 2 and self in self._internet.links:
            self._internet.links.remove(self)

    def __repr__(self) -> str:
        return f"<Link {self.name}>"


class Pipe:
    """One direction of a link."""

    def __init__(self, internet: Internet, link: Link) -> None:
        self.held: bool = False
        self.lost: bool = False
        """Whether what is sent goes nowhere."""
        self.extra: float = 0.0
        self._internet = internet
        self._link = link
        self._buffer = bytearray()
        self._unread = 0
        """Bytes that the writer has got rid of, and the reader has not read."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._last = 0.0
        self._break_after: int | None = None
        self._finished = self._broken = self._refused = self._reader_gone = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    # --- the writer ------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise if nothing more can be sent."""
        if self._refused:
            raise trio.BrokenResourceError("the connection is broken")

    async def room(self) -> None:
        """Wait until something can be sent."""
        self.check_writable()
        while self._unread >= WINDOW:
            await self._writers.park()
            self.check_writable()

    def put(self, data: bytes) -> int:
        """Send as much as there is room for; return how much that was."""
        part = data[: WINDOW - self._unread]
        self._unread += len(part)
        if not self.lost:
            self._carry(lambda: self._arrive(part))
        return len(part)

    def finish(self, *, unread: bool = False) -> None:
        """Send the end; as TCP does, a hard one if something was left ``unread``."""
        self._carry(self._link.reset if unread else self._end)

    def break_writer(self) -> None:
        """Whoever writes learns that it is over."""
        self._refused = True
        self._writers.unpark_all()

    # --- on the way ------------------------------------------------------------------------------

    def _carry(self, act: Callable[[], None]) -> None:
        """Have it happen at the other end, after all that was sent before."""
        delay = self._internet.delay() + self.extra
        now = trio.current_time()
        self._last = when = max(self._last, now + delay)
        if when <= now and not self.held and not self._waiting:
            act()
            return
        self._waiting.append(act)
        current_clock().at(when, self._land)

    def _land(self) -> None:
        if self._waiting and not self.held:
            self._waiting.popleft()()

    def go_on(self) -> None:
        """Hold nothing any more."""
        if self.held:
            self.held = False
            while self._waiting and not self.held:
                self._waiting.popleft()()

    def break_after(self, count: int) -> None:
        """Break the link when so many more bytes have arrived here."""
        if count == 0:
            self._link.reset()
        else:
            self._break_after = count

    def _arrive(self, data: bytes) -> None:
        left = self._break_after
        for piece in self._internet.pieces(data if left is None else data[:left]):
            self._link.bytes += len(piece)
            if not self._reader_gone:
                self._buffer += piece
            self._readers.unpark_all()
        if self._reader_gone:
            self._link.reset()  # as a TCP peer does that has nobody left to read
        if left is not None:
            self._break_after = left - len(data)
            if self._break_after <= 0:
                self._link.reset()

    def reset(self) -> None:
        """Break this direction at both of its ends; what was on its way is lost."""
        self._waiting.clear()
        self.held = False
        self._broken = True
        self.break_writer()
        self._readers.unpark_all()

    def _end(self) -> None:
        self._finished = True
        self._readers.unpark_all()

    # --- the reader ------------------------------------------------------------------------------

    async def take(self, most: int) -> bytes:
        """Wait for bytes and return up to ``most`` of them; none at the end. A checkpoint."""
        if self._buffer or self._finished or self._broken:
            await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._reader_gone:
                raise trio.ClosedResourceError("this end is closed")
            if self._finished:
                return b""
            if self._broken:
                raise trio.BrokenResourceError("the connection is broken")
            await self._readers.park()
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._unread -= len(data)
        self._writers.unpark_all()
        return data

    def close_reader(self) -> bool:
        """Read nothing more; say whether there was something left."""
        left = bool(self._buffer)
        self._reader_gone = True
        self._buffer.clear()
        self._readers.unpark_all()
        return left


class End(trio.abc.Stream):
    """One end of a link, with its stream's manners."""

    def __init__(self, link: Link, side: Side, host: Host, outbound: Pipe, inbound: Pipe) -> None:
        self.link = link
        self.side: Side = side
        self.host = host
        self.outbound = outbound
        self.inbound = inbound
        self._closed = False
        self._sending = self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        with self._alone("_sending"):
            await trio.lowlevel.checkpoint()
            left = bytes(data)
            self._check_open()
            self.outbound.check_writable()
            while left:
                await self._wait_for_room()
                left = left[self.outbound.put(left) :]

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        with self._alone("_sending"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        try:
            await self.outbound.room()
        except trio.BrokenResourceError:
            self._check_open()
            raise

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        with self._alone("_receiving"):
            most = WINDOW if max_bytes is None else index(max_bytes)
            if most < 1:
                raise ValueError("max_bytes must be at least 1")
            self._check_open()
            return await self.inbound.take(most)

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        if not self._closed:
            self._closed = True
            self.outbound.finish(unread=self.inbound.close_reader())
            self.outbound.break_writer()
            self.link.closed()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")

    @contextmanager
    def _alone(self, what: Literal["_sending", "_receiving"]) -> Generator[None, None, None]:
        if getattr(self, what):
            raise trio.BusyResourceError(f"another coroutine is {what[1:]}")
        setattr(self, what, True)
        try:
            yield
        finally:
            setattr(self, what, False)

    def __repr__(self) -> str:
        return f"<End {self.side} of {self.link.name}>"
