"""From what a grant carries to a call, and from a value to what its outcome carries.

In a closed system both are the objects themselves. Everywhere else they are bytes, which only who
submits, who runs and who asks ever look into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from actorq.codec.payload import decode_plain
from actorq.codec.pickled import decode_call, encode_call
from actorq.codec.references import filled, spliced
from actorq.errors import PayloadTooLarge, StoreError, UnknownTask
from actorq.model.messages import Grant
from actorq.model.outcomes import task_result
from actorq.model.records import Done, Output
from actorq.model.results import TaskDone
from actorq.registry import Registry
from actorq.tasks import Call, EncodedCall, EncodedValue, Task


class Calls(Protocol):
    """How a worker reads its grants."""

    def open(self, grant: Grant) -> Call[Any] | EncodedCall:
        """Return the call that is granted.

        Raises:
            SubmitError: It cannot be made here; the subclass says why.
        """
        ...

    def close(self, task: Task[..., Any], value: Any) -> Any:
        """Return what an outcome carries for ``value``.

        Raises:
            EncodeError: It cannot travel.
            PayloadTooLarge: It is over ``max_message``.
        """
        ...


class Direct:
    """Implements `Calls` by reference."""

    def open(self, grant: Grant) -> Call[Any] | EncodedCall:
        """Return the call itself, with what it needs.

        That of a callback gets the outcome that it is about.
        """
        body: Any = grant.body
        if type(body) is not Done:
            call: Call[Any] | EncodedCall = body
            return _complete(call, grant.inputs) if grant.inputs else call
        done = TaskDone(task_result(body.head, body.output), body.data)
        return _callback(body.call.task, done)

    def close(self, task: Task[..., Any], value: Any) -> Any:  # noqa: ARG002 - see `Calls`
        """Return the value itself."""
        return value


class Encoded:
    """Implements `Calls` for what has been encoded, by the tasks that this worker was given."""

    def __init__(self, registry: Registry, max_message: int) -> None:
        self._registry = registry
        self._max_message = max_message

    def limit(self, max_message: int) -> None:
        """Let no value be larger than this either."""
        self._max_message = min(self._max_message, max_message)

    def open(self, grant: Grant) -> Call[Any] | EncodedCall:
        """Decode the arguments, but for a process, which does that itself."""
        name = grant.head.name
        task = self._registry.get(name)
        if task is None:  # it was granted by mistake, or by what has been unlearnt
            raise UnknownTask(f"this worker has no task {name!r}")
        body: Any = grant.body
        if body is None:
            raise PayloadTooLarge(
                f"task {name}: its call, with the results that it needs, is over the max_message "
                f"of this worker ({self._max_message} bytes)"
            )
        if not body:  # no call is of no bytes
            raise StoreError(f"task {name}: its arguments are lost, as the store was damaged")
        if type(body) is Done:
            return _callback(task, TaskDone(self._result(body), body.data))
        if grant.inputs:
            body = spliced(name, body, grant.inputs)
        if task.run_in == "process":
            return EncodedCall(task, body, wire=True)
        args, kwargs = task.signature.decode_call(body)
        return Call(task, args, kwargs)

    def _result(self, done: Done) -> Any:
        output = done.output
        if output is not None and output.value is not None:
            task = self._registry.get(done.head.name)
            read = decode_plain if task is None else task.signature.decode_value
            output = Output(read(output.value), output.error, output.kind)
        return task_result(done.head, output)

    def close(self, task: Task[..., Any], value: Any) -> bytes:
        """Encode the value."""
        # What comes from a process has been encoded there.
        data = value.data if type(value) is EncodedValue else task.signature.encode_value(value)
        if len(data) > self._max_message:
            raise PayloadTooLarge(
                f"the value of task {task.name} takes {len(data)} bytes, over max_message="
                f"{self._max_message}: return a path or a key to large data instead"
            )
        return data


def _complete(call: Call[Any] | EncodedCall, inputs: Mapping[str, Any]) -> Call[Any] | EncodedCall:
    """Return a call with values for the blanks that it has."""
    task = call.task
    if isinstance(call, Call):
        return Call(task, *filled(task.name, call.args, call.kwargs, inputs))
    args, kwargs = filled(task.name, *decode_call(call.call), inputs)
    return EncodedCall(task, encode_call(task.name, args, kwargs))


def _callback(task: Task[..., Any], done: TaskDone) -> Call[Any] | EncodedCall:
    """Return the call of a callback task.

    Raises:
        EncodeError: It runs in a process, and the outcome cannot go there.
    """
    if task.run_in == "process":
        return EncodedCall(task, encode_call(task.name, (done,), {}))
    return Call(task, (done,), {})
