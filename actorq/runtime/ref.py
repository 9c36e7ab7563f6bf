"""The grip on an actor: what others hold of it, over all of its incarnations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

import attrs
import trio
from trio.lowlevel import Task, TrioToken, current_task, current_trio_token, in_trio_run

from actorq.errors import ActorDied, ActorError, MailboxFull
from actorq.runtime.lanes import BURST, Ask, Lanes

M_contra = TypeVar("M_contra", contravariant=True)

ExitReason = Literal["normal", "shutdown", "crash", "killed"]
"""How an incarnation ended: it returned; it was told to stop, and did; it raised; it was told to
stop, did not in time, and was cancelled."""


DeadLetterListener = Callable[[str, object, str], None]
"""Who is told of each dead letter: the actor's name, the message, and why. May not raise."""

_ENDED = "the actor has ended"


class Post:
    """What all actors of a system share when they send: a burst, and the count of dead letters."""

    __slots__ = ("burst", "dead_letters", "on_dead_letter", "token")

    def __init__(self, on_dead_letter: DeadLetterListener) -> None:
        self.burst: int = BURST
        """Messages that may still be sent before the next checkpoint, whoever sends them."""
        self.token: TrioToken = current_trio_token()
        """The program that they live in."""
        self.dead_letters: int = 0
        self.on_dead_letter: DeadLetterListener = on_dead_letter

    def check_where(self, actor: str) -> None:
        """Check that this is the program that the actors live in.

        Raises:
            RuntimeError: It is another one, or a thread; whose calls could wake nobody.
        """
        if not in_trio_run() or current_trio_token() is not self.token:
            raise RuntimeError(
                f"actor {actor!r} lives in another thread or program; "
                "from a thread use trio.from_thread, as in trio.from_thread.run(ref.tell, message)"
            )

    def dead_letter(self, actor: str, message: object, why: str) -> None:
        """Count a message that nobody will handle, or an answer that nobody waits for."""
        self.dead_letters += 1
        self.on_dead_letter(actor, message, why)


class Life(Protocol):
    """What a reference knows of its actor."""

    name: str
    incarnation: int
    task: Task | None
    started_value: object

    @property
    def alive(self) -> bool:
        """Whether it has not ended for good."""
        ...

    def died(self) -> ActorDied:
        """Return the error for those who ask it, once it has ended."""
        ...

    async def stop(self, drain: bool) -> None:
        """See `ActorRef.stop`."""

    async def join(self) -> None:
        """See `ActorRef.join`."""

    def watch(self, key: object, call: Callable[[Down], None]) -> None:
        """Make one call when the present incarnation ends, or at once if there is none to come.

        While the actor waits for its restart, it is about the next one.
        """

    def unwatch(self, key: object) -> None:
        """Do not make the call that was asked for under this key."""


class ActorRef(Generic[M_contra]):
    """A grip on an actor that takes messages of one type; the same over all of its incarnations.

    Order is kept from one sender to one actor. Refs are compared by identity and may be sent in
    messages.
    """

    __slots__ = ("__weakref__", "_lanes", "_life", "_post")

    def __init__(self, life: Life, lanes: Lanes, post: Post) -> None:
        self._life = life
        self._lanes = lanes
        self._post = post

    @property
    def name(self) -> str:
        """The actor's name, unique among those that are alive in its system."""
        return self._life.name

    @property
    def alive(self) -> bool:
        """Whether it has not ended for good; true while it waits for its restart."""
        return self._life.alive

    @property
    def incarnation(self) -> int:
        """How often its function has been started, counted from 1."""
        return self._life.incarnation

    @property
    def started_value(self) -> Any:
        """What the newest incarnation gave to `Mailbox.started`."""
        return self._life.started_value

    # A KeyboardInterrupt in the middle would leave a message of which the reader does not know.
    @trio.lowlevel.enable_ki_protection
    async def tell(self, message: M_contra) -> None:
        """Send a message; wait while the mailbox is full.

        A message to an actor that has ended is a dead letter: counted, reported and dropped. Not
        every call is a checkpoint, but at least every 64th is, and every one that waits. Cancelled,
        the message was not sent.

        Raises:
            MailboxFull: An actor tells itself, and nobody else can make room.
        """
        post, lanes = self._post, self._lanes
        if post.burst > 0 and lanes.open and len(lanes.user) < lanes.capacity:
            post.burst -= 1
            lanes.user.append(message)
            if lanes.reader is not None:
                lanes.wake()
            return
        await self._tell_slowly(message)

    async def _tell_slowly(self, message: object) -> None:
        post, lanes = self._post, self._lanes
        if post.burst <= 0:
            post.burst = BURST
            await trio.lowlevel.checkpoint()
        post.burst -= 1
        if lanes.open and lanes.full:
            if self._life.task is current_task():
                raise MailboxFull(f"{self._full()}, and it tells itself: nobody else makes room")
            if not await lanes.wait_to_put(message):
                self._dead_letter(message, _ENDED)
        elif lanes.open:
            lanes.put(message)
        else:
            self._dead_letter(message, _ENDED)

    def _check_where(self) -> None:
        self._post.check_where(self.name)

    def _full(self) -> str:
        return f"the mailbox of actor {self.name!r} is full ({self._lanes.capacity} messages)"

    def try_tell(self, message: M_contra) -> None:
        """Send a message without waiting.

        Raises:
            MailboxFull: There is no room for it.
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
        """
        self._check_where()
        lanes = self._lanes
        if not lanes.open:
            self._dead_letter(message, _ENDED)
        elif lanes.full:
            raise MailboxFull(
                f"{self._full()}; wait for room with tell(), or spawn it with a larger mailbox="
            )
        else:
            lanes.put(message)

    async def ask(self, message: M_contra) -> Any:
        """Send a message and return what the actor gives to `Mailbox.reply`.

        There is no limit of time but the cancel scopes around it. When one of them cancels it, a
        message that is not in hand yet is never handled, and a late answer is a dead letter.

        Raises:
            ActorDied: The actor has ended, or ends without an answer.
            NoReply: It went on to its next message without an answer, or crashed over this one.
            ActorError: An actor asks itself, and would wait for ever.
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
            Exception: Whatever the actor gave to `Mailbox.refuse`.
        """
        self._check_where()
        life, lanes = self._life, self._lanes
        if life.task is current_task():
            raise ActorError(f"actor {self.name!r} asks itself, and would wait for ever")
        if not lanes.open:
            raise life.died()
        ask = Ask(message)
        if not lanes.full:
            lanes.put(ask)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not await lanes.wait_to_put(ask):
                raise life.died()
        try:
            return await ask.wait()
        except trio.Cancelled:
            ask.set(None)  # nobody waits for it any more
            raise

    async def stop(self, *, drain: bool = False) -> None:
        """Have the actor end for good, whatever its restart type, and wait until it has.

        It is told first: its loop over the mailbox ends after the message in hand, or with
        ``drain`` after all messages that are there. If it has not ended ``shutdown`` seconds later,
        it is cancelled. Messages that it did not handle are dead letters, and those who asked get
        `ActorDied`.

        Cancelling this verb does not take the order back. Stopping an actor that has ended is fine.

        Raises:
            ActorError: An actor stops itself, and would wait for ever: it should return instead.
            RuntimeError: It is called in a thread, or anywhere else outside the actor's trio
                program.
        """
        self._check_where()
        await self._life.stop(drain)

    async def join(self) -> None:
        """Wait until the actor has ended for good; restarts are not the end.

        Cancelling it leaves the actor alone.

        Raises:
            ActorError: An actor waits for its own end.
        """
        await self._life.join()

    def _deliver(self, message: M_contra) -> None:
        """Send a message without regard to the bound: what it tells of has happened already."""
        if self._lanes.open:
            self._lanes.put(message)
        else:
            self._dead_letter(message, _ENDED)

    def _dead_letter(self, message: object, why: str) -> None:
        self._post.dead_letter(self.name, message, why)

    def __repr__(self) -> str:
        state = "" if self.alive else ", ended"
        return f"<ActorRef {self.name}{state}>"


@attrs.frozen
class Down:
    """An incarnation that an actor monitored has ended.

    Attributes:
        ref: The actor.
        incarnation: Which one of its incarnations.
        reason: ``normal`` (it returned), ``shutdown`` (it was told to stop), ``crash`` (it raised)
            or ``killed`` (it had to be cancelled).
        error: What it raised, with ``crash``.
    """

    ref: ActorRef[Any]
    incarnation: int
    reason: ExitReason
    error: BaseException | None = None
