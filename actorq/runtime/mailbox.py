"""An actor's own end of its mail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import trio

from actorq.errors import ActorDied, NoReply
from actorq.runtime.lanes import BURST, EMPTY, STOP, Ask, Lanes
from actorq.runtime.ref import ActorRef, Down, Post

M = TypeVar("M")

_FRESH = -1
"""The burst of an incarnation that has not read yet."""


class TakesDown(Protocol):
    """A mailbox whose messages may be `Down`."""

    @property
    def ref(self) -> ActorRef[Down]:
        """The actor's own ref."""
        ...


class Owner(Protocol):
    """What a mailbox tells the actor that it belongs to."""

    name: str

    def ready(self, value: object) -> None:
        """It has started."""


class Monitor:
    """Watches one incarnation of an actor for another; made by `Mailbox.monitor`."""

    __slots__ = ("_by", "_lanes", "_ref")

    def __init__(self, ref: ActorRef[Any], lanes: Lanes, by: set[Monitor]) -> None:
        self._ref = ref
        self._lanes = lanes
        self._by = by
        by.add(self)
        ref._life.watch(self, self._tell)

    def cancel(self) -> None:
        """Stop watching; a `Down` that is in the mailbox already stays there."""
        if self in self._by:
            self._by.discard(self)
            self._ref._life.unwatch(self)

    def _tell(self, down: Down) -> None:
        self._by.discard(self)
        self._lanes.put_first(down)


class Deferred:
    """An ask that will be answered later; made by `Mailbox.defer`."""

    __slots__ = ("_ask", "_mailbox")

    def __init__(self, mailbox: Mailbox[Any], ask: Ask | None) -> None:
        self._mailbox = mailbox
        self._ask = ask

    def reply(self, value: Any = None) -> bool:
        """Answer; return whether somebody still waited for it. See `Mailbox.reply`.

        Raises:
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
        """
        answered = self._mailbox._answer(self._ask, value, None)
        self._ask = None
        return answered

    def refuse(self, error: Exception | type[Exception]) -> bool:
        """Have ``error`` raised where the message was asked. See `Mailbox.refuse`.

        Raises:
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
            TypeError: ``error`` is no exception.
        """
        answered = self._mailbox._answer(self._ask, None, _as_error(error))
        self._ask = None
        return answered


def _as_error(error: Exception | type[Exception]) -> Exception:
    """Return an exception, as ``raise`` does, here where a wrong one is to blame."""
    if isinstance(error, type) and issubclass(error, Exception):
        error = error()
    if not isinstance(error, Exception):
        raise TypeError(f"refuse takes an exception, not {error!r}")
    return error


class Mailbox(Generic[M]):
    """The messages to one actor, as its function reads them: ``async for message in inbox``.

    The loop ends when the actor is to stop. Messages come in the order in which each sender sent
    them, `Down` before all others. A restart goes on with the same mail, but for the message that
    was in hand.

    Attributes:
        ref: The actor itself, for others to send to.
    """

    __slots__ = ("_burst", "_deferred", "_in_hand", "_lanes", "_monitors", "_owner", "_post", "ref")

    def __init__(self, owner: Owner, lanes: Lanes, ref: ActorRef[M], post: Post) -> None:
        self.ref: ActorRef[M] = ref
        self._owner = owner
        self._lanes = lanes
        self._post = post
        self._burst = _FRESH
        self._in_hand: Ask | None = None
        self._deferred: set[Ask] | None = None
        self._monitors: set[Monitor] | None = None

    # --- reading ---------------------------------------------------------------------------------

    def __aiter__(self) -> Mailbox[M]:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> M:
        # One coroutine, as each more would cost every idle actor 400 bytes.
        message: Any = self._take() if self._burst > 0 else EMPTY
        if message is EMPTY:
            if self._burst == _FRESH:
                self._owner.ready(None)
                self._burst = BURST
            elif self._burst <= 0:
                self._burst = BURST
                await trio.lowlevel.checkpoint()
            lanes = self._lanes
            while (message := self._take()) is EMPTY:
                if lanes.arrive():
                    await trio.lowlevel.wait_task_rescheduled(lanes.leave)
                else:
                    await trio.lowlevel.checkpoint()
                self._burst = BURST
        self._burst -= 1
        if message is STOP:
            raise StopAsyncIteration
        taken: M = message
        return taken

    async def receive(self) -> M:
        """Return the next message. A checkpoint when it has to wait, and at least every 64 calls.

        Cancelled, no message is lost.

        Raises:
            trio.EndOfChannel: The actor is to stop. Unless it is caught, the actor ends by it, and
                that is no crash.
            trio.BusyResourceError: Another coroutine waits for the next message already.
        """
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise trio.EndOfChannel from None

    def _take(self) -> Any:
        """Return the next message, `EMPTY` or `STOP`; the one before it has had its time."""
        ask = self._in_hand
        if ask is not None:
            self._in_hand = None
            ask.fail(self._no_reply(ask, "went on to its next message"))
        while type(message := self._lanes.take()) is Ask:
            if not message.done:  # if it is, its sender was cancelled meanwhile
                self._in_hand = message
                return message.message
            self._post.dead_letter(self._owner.name, message.message, "its sender gave up waiting")
        return message

    def started(self, value: object = None) -> None:
        """Say that the actor is ready, before it reads its first message, which says so too.

        ``value`` is then `ActorRef.started_value`. Only the first call of an incarnation counts.
        """
        self._owner.ready(value)

    # --- answering -------------------------------------------------------------------------------

    def reply(self, value: Any = None) -> bool:
        """Answer the message in hand; return whether somebody still waited for that.

        False after a tell, after a first answer, and when the sender was cancelled meanwhile (then
        the answer is a dead letter). Never waits.

        Raises:
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
        """
        answered = self._answer(self._in_hand, value, None)
        self._in_hand = None
        return answered

    def refuse(self, error: Exception | type[Exception]) -> bool:
        """Have ``error`` raised where the message in hand was asked; otherwise like `reply`.

        Raises:
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
            TypeError: ``error`` is no exception.
        """
        answered = self._answer(self._in_hand, None, _as_error(error))
        self._in_hand = None
        return answered

    def defer(self) -> Deferred:
        """Take the message in hand along, to answer it after others.

        Whoever asked waits until it is answered, or this incarnation ends.
        """
        ask, self._in_hand = self._in_hand, None
        if ask is not None:
            if self._deferred is None:
                self._deferred = set()
            self._deferred.add(ask)
            ask.call_when_done(partial(self._deferred.discard, ask))
        return Deferred(self, ask)

    def _answer(self, ask: Ask | None, value: Any, error: Exception | None) -> bool:
        if ask is None:
            return False
        self._post.check_where(self._owner.name)
        if ask.done:
            answer = value if error is None else error
            why = "nobody waits for this answer any more"
            self._post.dead_letter(self._owner.name, answer, why)
            return False
        if error is None:
            ask.set(value)
        else:
            ask.fail(error)
        return True

    # --- watching --------------------------------------------------------------------------------

    def monitor(self: TakesDown, ref: ActorRef[Any]) -> Monitor:
        """Have exactly one `Down` sent here when the present incarnation of ``ref`` ends.

        While that actor waits for its restart, it is about the next incarnation. It comes at once
        if the actor has ended for good. The monitor ends with this actor's own incarnation.

        Raises:
            RuntimeError: It is called in a thread, or that actor lives in another trio program.
            TypeError: ``ref`` is no `ActorRef`.
        """
        assert isinstance(self, Mailbox)
        if not isinstance(ref, ActorRef):
            raise TypeError(f"monitor takes an ActorRef, not {ref!r}; system.actor(name) finds one")
        ref._check_where()
        if self._monitors is None:
            self._monitors = set()
        return Monitor(ref, self._lanes, self._monitors)

    # --- the engine's part -----------------------------------------------------------------------

    def close_incarnation(self, error: BaseException | None) -> None:
        """Everybody whom this incarnation has kept waiting is told; a new one begins afresh."""
        self._burst = _FRESH
        asks = {self._in_hand} if self._in_hand is not None else set()
        if self._deferred is not None:
            asks |= self._deferred  # each discards itself from there when it is done
        for ask in asks:
            failure = self._no_reply(ask, "ended" if error is None else "crashed")
            failure.__cause__ = error
            ask.fail(failure)
        self._in_hand = self._deferred = None
        if self._monitors is not None:
            for monitor in list(self._monitors):
                monitor.cancel()
            self._monitors = None
        self._lanes.reopen()

    def close(self, died: Callable[[], ActorDied]) -> None:
        """The actor has ended for good: nobody is kept waiting, and what is left is dead."""
        lanes = self._lanes
        lanes.close()
        while lanes.user:
            message = lanes.user.popleft()
            if type(message) is Ask:
                message.fail(died())
            else:
                self._post.dead_letter(self._owner.name, message, "the actor has ended")

    def _no_reply(self, ask: Ask, what: str) -> NoReply:
        kind = type(ask.message).__name__
        return NoReply(f"actor {self._owner.name!r} {what} without an answer to this {kind}")
