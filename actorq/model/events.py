"""What the system tells its operator: facts that no caller is waiting for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs


class EventKind(StrEnum):
    """Every kind of event, with what its ``details`` hold."""

    STALE_RESULT = "stale_result"
    """A late finisher was refused: id, fence, cause."""
    CANCEL_UNCONFIRMED = "cancel_unconfirmed"
    """A task that was cancelled, or out of time, did not end within its grace: id, name, worker."""
    THREAD_ABANDONED = "thread_abandoned"
    """A thread did not look at ``current().cancelled`` within its grace: id, name."""
    TASK_KILLED = "task_killed"
    """A coroutine swallowed its cancellation beyond its grace and was thrown away: id, name."""
    UNKILLABLE = "unkillable"
    """A task (id, name) or an actor (actor) ignores its cancellation for ever: stack."""
    DELIVERY_LOST = "delivery_lost"
    """A worker died under a task: id, name, deaths."""
    WORKER_LOST = "worker_lost"
    """A worker elsewhere was given up, and what it held is delivered again: worker, tasks."""
    CLIENT_LOST = "client_lost"
    """A client elsewhere was given up, and what its blocks own is cancelled: session, tasks."""
    OWNER_STALLED = "owner_stalled"
    """The queue's process stood still, or its clock was set ahead; leases move along: seconds."""
    OWNING = "owning"
    """This process owns the store now, and has loaded what waits: epoch, tasks, seconds."""
    STANDING_BY = "standing_by"
    """This process waits for the store, which somebody else owns, or which cannot be had: why."""
    ROW_REFUSED = "row_refused"
    """The store cannot keep this record; the others of its commit are written again: id, why."""
    STORE_UNSAFE = "store_unsafe"
    """The store had better not be where it is, as what is kept there may be lost: why."""
    RECORD_DAMAGED = "record_damaged"
    """What the store has cannot be read: id of the task (or kind and name of a note), name, why."""
    STORE_UNAVAILABLE = "store_unavailable"
    """A commit has failed, and is tried again for a while: error."""
    TICK_DROPPED = "tick_dropped"
    """Nothing was submitted for the nominal time of a schedule: schedule, tick (when), why."""
    STUCK = "stuck"
    """Something could start by all rules, and does not, which is a bug of actorq's: why."""
    LISTENING = "listening"
    """Other nodes can connect: url."""
    CONNECTED = "connected"
    """A node has connected to this one, or this one to another: peer, node, library."""
    DISCONNECTED = "disconnected"
    """Such a connection has ended: peer, node, code, reason."""
    CONNECT_FAILED = "connect_failed"
    """Another node cannot be reached; it is tried again: url, error, attempts."""
    REFUSED = "refused"
    """A node was refused, or cut for what it sent: peer, code, reason."""
    ACTOR_RESTARTED = "actor_restarted"
    """An actor has ended by itself and is started again: actor, incarnation, error, exception."""
    ACTOR_DIED = "actor_died"
    """An actor has crashed and is not started again: actor, error, exception."""
    ACTOR_KILLED = "actor_killed"
    """An actor did not stop in time and is cancelled: actor, seconds, left (messages), stack."""
    SLOW_START = "slow_start"
    """An actor has neither read its mailbox nor called ``started()`` yet: actor, seconds."""
    DEAD_LETTER = "dead_letter"
    """A message that no actor will handle, or an answer that is late: actor, message, why."""


@attrs.frozen
class Event:
    """One fact."""

    kind: EventKind
    details: Mapping[str, Any]
