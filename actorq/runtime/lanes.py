"""What was sent to one actor and not yet taken: two lanes, a bound, and who waits at either end.

The control lane is bounded by construction (one message per monitor), goes first and is never
refused. The user lane is bounded by ``capacity``; whoever sends more waits, in order.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import inf
from typing import Any, Final

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule

from actorq.runtime.future import Future

BURST = 64
"""Messages that one coroutine sends, or takes, before it lets the rest of the program run."""


class Mark:
    """What `Lanes.take` returns when there is no message."""


EMPTY: Final = Mark()
"""There is no mail."""
STOP: Final = Mark()
"""There is none that should still be handled: the actor is to end."""


class Waiting:
    """A message whose sender waits for room."""

    __slots__ = ("message", "taken")

    def __init__(self, message: object) -> None:
        self.message: object = message
        self.taken: bool = False


class Ask(Future[Any]):
    """A message whose sender waits for an answer; done once it was answered or given up."""

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        super().__init__()
        self.message: object = message


class Lanes:
    """The mail of one actor, with one reader."""

    __slots__ = (
        "_woken", "capacity", "control", "draining", "open", "reader", "senders", "stopping", "user"
    )  # fmt: skip

    def __init__(self, capacity: float = inf) -> None:
        self.capacity: float = capacity
        self.user: deque[Any] = deque()
        self.control: deque[Any] | None = None
        self.open: bool = True
        """Whether it takes messages of users; control messages it takes as long as it has a
        reader."""
        self.stopping: bool = False
        self.draining: bool = False
        self.reader: Task | None = None
        """Who waits for mail."""
        self.senders: OrderedDict[Task, Waiting] | None = None
        self._woken = False

    def __len__(self) -> int:
        return len(self.user) + len(self.control or ())

    # --- the senders' end ------------------------------------------------------------------------

    def post(self, message: object) -> None:
        """Add a message without waking the reader, and without regard to the bound."""
        self.user.append(message)

    @trio.lowlevel.enable_ki_protection
    def put(self, message: object) -> None:
        """Add a message and wake the reader; the caller has seen to the bound."""
        self.user.append(message)
        if self.reader is not None:
            self.wake()

    def put_first(self, message: object) -> None:
        """Add a message to the control lane and wake the reader, unless it is to end."""
        if self.stopping:
            return
        if self.control is None:
            self.control = deque()
        self.control.append(message)
        self.wake()

    @property
    def full(self) -> bool:
        """Whether a sender has to wait."""
        return len(self.user) >= self.capacity

    @trio.lowlevel.enable_ki_protection
    async def wait_to_put(self, message: object) -> bool:
        """Wait for room and add the message; return False if it will not be taken any more.

        Cancelled, the message was not added.
        """
        task = current_task()
        if self.senders is None:
            self.senders = OrderedDict()  # whose first is found in no time
        self.senders[task] = waiting = Waiting(message)

        def abort(_: RaiseCancelT) -> Abort:
            assert self.senders is not None
            del self.senders[task]
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return waiting.taken

    # --- the reader's end ------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def take(self) -> Any:
        """Remove and return the next message, or `EMPTY`, or `STOP`."""
        if self.control:
            return self.control.popleft()
        if self.stopping and not (self.draining and self.user):
            return STOP
        if not self.user:
            return EMPTY
        message = self.user.popleft()
        if self.senders:
            self._let_in()
        return message

    def take_many(self, most: int) -> list[Any]:
        """Remove and return the oldest ``most`` messages of the user lane."""
        mail = self.user
        if not mail:
            return []
        if len(mail) <= most:
            taken = list(mail)
            mail.clear()
            return taken
        return [mail.popleft() for _ in range(most)]

    def _let_in(self) -> None:
        assert self.senders is not None
        while self.senders and not self.full:
            task, waiting = self.senders.popitem(last=False)
            self.user.append(waiting.message)
            waiting.taken = True
            reschedule(task)

    # Between waking and forgetting who waited a KeyboardInterrupt would have it woken twice.
    @trio.lowlevel.enable_ki_protection
    def wake(self) -> None:
        """End the reader's `wait`, the present one or the next."""
        if self.reader is not None:
            reschedule(self.reader)  # raises in a thread that is not ours: then nobody is forgotten
            self.reader = None
        else:
            self._woken = True

    def arrive(self) -> bool:
        """Make this coroutine the reader that is woken next; return False if it is woken already.

        Raises:
            trio.BusyResourceError: There is a reader already.
        """
        if self._woken:
            self._woken = False
            return False
        if self.reader is not None:
            raise trio.BusyResourceError("somebody else is reading this already")
        self.reader = current_task()
        return True

    def leave(self, _: RaiseCancelT) -> Abort:
        """Take the waiting reader away; for `trio.lowlevel.wait_task_rescheduled`."""
        self.reader = None
        return Abort.SUCCEEDED

    @trio.lowlevel.enable_ki_protection
    async def park(self) -> None:
        """Wait for a message or `wake`; always a checkpoint.

        Raises:
            trio.BusyResourceError: There is a reader already.
        """
        if self.arrive():
            await trio.lowlevel.wait_task_rescheduled(self.leave)
        else:
            await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    async def wait(self, seconds: float | None = None) -> None:
        """Wait for mail, `wake`, or at most ``seconds``. Always a checkpoint."""
        if self.user or self._woken or (seconds is not None and seconds <= 0):
            await trio.lowlevel.checkpoint()
        elif seconds is None:
            await self.park()
        else:
            with trio.move_on_after(seconds):
                await self.park()
        self._woken = False

    # --- the end ---------------------------------------------------------------------------------

    def stop(self, *, drain: bool) -> None:
        """Let the reader see `STOP`: now, or with ``drain`` when all mail has been taken."""
        self.stopping, self.draining = True, drain
        self.wake()

    def close(self) -> None:
        """Take no more messages; those who wait for room are told."""
        self.open = False
        if self.senders:
            for task in self.senders:
                reschedule(task)
            self.senders = None

    def reopen(self) -> None:
        """Begin again for a new reader, with the messages that are here."""
        self.stopping = self.draining = self._woken = False
        self.control = None
