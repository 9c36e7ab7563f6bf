"""The public face: what is there on purpose, and nothing else."""

import inspect
from typing import Literal, get_origin

import pytest

import actorq
from actorq import errors

NAMES = {
    "ActorDied", "ActorError", "ActorNode", "ActorRef", "ActorTree", "ActorqError", "AsyncTask",
    "AuthenticationFailed", "Backoff", "Client", "ConnectFailed", "ConnectionLost", "CorruptStore",
    "Cron", "Current", "Deferred", "DependencyFailed", "Down", "DuplicateTask", "EncodeError",
    "Event", "EventKind", "Every", "ExitReason", "Fenced", "GiveUp", "IncompatiblePeer",
    "Instrument", "InvalidArguments", "KeyConflict", "Lagged", "Limit", "Mailbox", "MailboxFull",
    "Monitor", "NoReply", "OwnedElsewhere", "Page", "PayloadTooLarge", "PoolStats", "Progress",
    "QueueFull", "QueueStats", "RemoteError", "RestartIntensityExceeded", "RestartType", "Retry",
    "RetryLater", "RowRefused", "ScheduleInfo", "ScheduleNotFound", "Snapshot", "Stats",
    "StoreError", "StoreStats", "StoreUnavailable", "Strategy", "StreamTask", "SubmitError",
    "Subscription", "Supervisor", "SupervisorNode", "SyncTask", "System", "Task", "TaskCancelled",
    "TaskDone", "TaskError", "TaskEvent", "TaskEventKind", "TaskExpired", "TaskFailed",
    "TaskHandle", "TaskInfo", "TaskMessage", "TaskNode", "TaskNotFound", "TaskNursery",
    "TaskOptions", "TaskPriority", "TaskResult", "TaskStatus", "TaskTimeout", "Tokens",
    "TransportError", "UnknownTask", "WorkerInfo", "WorkerLost", "WorkerNode", "connect", "current",
    "open_system", "open_worker", "task",
}  # fmt: skip


def public_names() -> set[str]:
    """Return all but submodules, which become attributes when they are imported."""
    return {
        name
        for name, value in vars(actorq).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def test_the_public_names_are_these() -> None:
    assert public_names() == NAMES


def test_all_lists_every_public_name_if_there_is_one() -> None:
    assert set(getattr(actorq, "__all__", NAMES)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = getattr(actorq, name)

    assert get_origin(value) is Literal or inspect.getdoc(value)


def test_every_public_method_has_a_docstring() -> None:
    bare = [
        f"{name}.{member}"
        for name in sorted(NAMES)
        if inspect.isclass(cls := getattr(actorq, name)) and cls.__module__.startswith("actorq")
        for member, value in vars(cls).items()
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property))
        and not inspect.getdoc(value)
    ]

    assert bare == []


def test_every_error_is_in_the_tree_of_the_docstring_and_public() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }

    assert {name for name in found if name not in (errors.__doc__ or "")} == set()
    assert found <= NAMES


def test_every_error_but_the_two_that_steer_retries_has_one_root() -> None:
    strays = {
        name
        for name in NAMES
        if inspect.isclass(value := getattr(actorq, name))
        and issubclass(value, Exception)
        and not issubclass(value, actorq.ActorqError)
    }

    assert strays == {"GiveUp", "RetryLater"}
