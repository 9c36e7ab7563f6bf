"""The submitter's grip on one task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from actorq.client.session import Ending, Session
from actorq.codec.references import Reference
from actorq.model.messages import Snapshot
from actorq.model.results import Progress, TaskResult
from actorq.model.status import FAILURE, SUCCESS, TaskStatus
from actorq.runtime.future import Future

R_co = TypeVar("R_co", covariant=True)


class ById(Protocol):
    """What a handle asks its client: the verbs by id."""

    @property
    def session(self) -> Session:
        """The client's side of its connection."""
        ...

    async def result(self, id: str) -> TaskResult[Any]:
        """See `Client.result`."""
        ...

    async def snapshot(self, id: str) -> Snapshot:
        """Return the owner's own view of a task."""
        ...

    async def cancel(
        self, id: str, reason: str | None = None, *, grace: float | None = None
    ) -> TaskResult[Any]:
        """See `Client.cancel`."""
        ...


class TaskHandle(Generic[R_co]):
    """A typed grip on one task; cheap to keep, and to throw away: the task goes on without it.

    It keeps how the task ended, once it has seen that, whatever becomes of the stored result.

    Attributes:
        id: The task's id.
        name: Its name.
        existing: Whether the task had been accepted before: by an earlier submit of its message,
            or another message with its ``key``. Leaving a block does not cancel such a task, and
            only the first submit's options count.
    """

    __slots__ = ("__weakref__", "_client", "_ending", "_read", "_watched", "existing", "id", "name")

    def __init__(
        self,
        client: ById,
        id: str,
        name: str,
        ending: Future[Ending],
        *,
        existing: bool = False,
        watched: bool = True,
        read: Callable[[Any], Any] | None = None,
    ) -> None:
        self._client = client
        self._ending = ending
        self._watched = watched
        self._read = read
        self.id: str = id
        self.name: str = name
        self.existing: bool = existing

    @property
    def output(self) -> R_co:
        """The value that the task will have, as an argument for other tasks.

        What stands here is no value yet. Submit it as an argument, or inside of one: in a list, a
        tuple or a dict (as a value), up to three deep. The task that gets it starts when this one
        has succeeded, with the value in its place; if this one ends without a value, that one fails
        as `DependencyFailed`.
        """
        return cast(R_co, Reference(self.id, self.name))

    async def wait(self) -> TaskResult[R_co]:
        """Wait until the task has ended, however it ends; a failed task is a result too.

        Cancelling it does not touch the task.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        await self._wait()
        return self.peek()

    async def value(self) -> R_co:
        """Wait until the task has ended and return its value.

        Cancelling it does not touch the task.

        Raises:
            TaskError: The subclass that says how it ended without a value.
            TaskNotFound: The id is unknown or its result has expired.
            ActorDied: The system has failed or is closed.
        """
        await self._wait()
        return self.peek_value()

    def peek_value(self) -> R_co:
        """Return the value of a task that is known to have ended, or raise as `value` does."""
        ending = self._ending.peek()
        if ending.output is not None and ending.head.status is SUCCESS:  # nearly always
            value = ending.output.value
            if self._read is not None and value is not None:
                return cast(R_co, self._read(value))
            return cast(R_co, self._client.session.decode(ending.head.name, value))
        return self.peek().unwrap()

    async def _wait(self) -> Ending:
        self.watch()
        return await self._ending.wait()

    def watch(self) -> Future[Ending]:
        """Return the future of the task's end, and see to it that it is set one day."""
        if not self._watched:
            self._watched = True
            if not self._ending.done:
                self._client.session.watch((self.id,))
        return self._ending

    def peek(self) -> TaskResult[R_co]:
        """Return the result of a task that is known to have ended."""
        return self._client.session.result(self._ending.peek(), self._read)

    def failure(self) -> Exception | None:
        """Return what `value` would raise if the task has failed; None if it has not, or yet."""
        if not self._ending.done:
            return None
        try:
            if self._ending.peek().head.status is FAILURE:
                self.peek().unwrap()
        except Exception as error:  # noqa: BLE001 - it is the answer
            return error
        return None

    async def status(self) -> TaskStatus:
        """Ask for the task's status.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
        """
        return (await self._client.result(self.id)).status

    async def progress(self) -> Progress | None:
        """Ask for the newest progress that the running task has reported, if any.

        Raises:
            TaskNotFound: The id is unknown or its result has expired.
        """
        return (await self._client.snapshot(self.id)).progress

    async def cancel(
        self, reason: str | None = None, *, grace: float | None = None
    ) -> TaskResult[R_co]:
        """Cancel the task and return its terminal result; see `Client.cancel`."""
        result: TaskResult[Any] = await self._client.cancel(self.id, reason, grace=grace)
        return result

    def __repr__(self) -> str:
        return f"<TaskHandle {self.name} {self.id}>"
