"""Who runs in a system, who supervises whom, and what each is doing: a snapshot to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from actorq.model.results import WorkerInfo

ActorState = Literal["starting", "idle", "busy", "restarting", "stopping"]


@attrs.frozen
class TaskNode:
    """A task that runs in a worker actor.

    Attributes:
        id: The task's id.
        name: Its name.
        attempt: Which attempt, counted from 1.
        seconds: How long it has been running.
    """

    id: str
    name: str
    attempt: int
    seconds: float

    def __str__(self) -> str:
        return f"task {self.name} {self.id}, attempt {self.attempt}, {self.seconds:.1f} s"


@attrs.frozen
class ActorNode:
    """An actor.

    Attributes:
        name: Unique among the actors that are alive.
        state: ``idle`` (it waits for mail), ``busy``, ``starting``, ``restarting`` (it crashed, and
            waits before it is started again) or ``stopping``.
        incarnation: How often its function has been started.
        restarts: How many of these starts followed a crash or an end.
        mailbox: How many messages wait.
        tasks: The tasks that it runs, if it is a worker.
        children: The supervisors that it has opened.
    """

    name: str
    state: ActorState
    incarnation: int
    restarts: int
    mailbox: int
    tasks: tuple[TaskNode, ...] = ()
    children: tuple[SupervisorNode, ...] = ()

    def __str__(self) -> str:
        mail = f", {self.mailbox} in its mailbox" if self.mailbox else ""
        again = f", restarts {self.restarts}" if self.restarts else ""
        return f"{self.name}: {self.state}{mail}{again}"


@attrs.frozen
class SupervisorNode:
    """A supervisor.

    Attributes:
        name: What it was called when it was opened.
        strategy: Who goes down with an actor that crashes; ``apart`` if each actor has a private
            supervisor, as those of `System.spawn` do.
        children: Its actors, in the order in which they were first started.
    """

    name: str
    strategy: str
    children: tuple[ActorNode, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.strategy})"


@attrs.frozen
class ActorTree:
    """All of a system; ``print`` draws it.

    Attributes:
        name: The system's node.
        dead_letters: How many messages have found no reader so far.
        supervisors: Those that no actor has opened: actorq's own first, then `System.spawn`'s.
        workers: The workers in other processes.
    """

    name: str
    dead_letters: int
    supervisors: tuple[SupervisorNode, ...]
    workers: tuple[WorkerInfo, ...] = ()

    def actors(self) -> Iterator[ActorNode]:
        """Yield every actor, from the top down."""
        todo = list(reversed(self.supervisors))
        while todo:
            for actor in todo.pop().children:
                yield actor
                todo += reversed(actor.children)

    def find(self, name: str) -> ActorNode:
        """Return the actor of that name.

        Raises:
            KeyError: There is none.
        """
        for actor in self.actors():
            if actor.name == name:
                return actor
        raise KeyError(name)

    def __str__(self) -> str:
        plural = "" if self.dead_letters == 1 else "s"
        dead = f", {self.dead_letters} dead letter{plural}" if self.dead_letters else ""
        lines = [f"system {self.name}{dead}"]
        _draw(self.supervisors, "", lines)
        for worker in self.workers:
            away = "" if worker.connected else ", out of reach"
            lines.append(
                f"worker {worker.worker}: {worker.running} of {worker.slots} slots busy{away}"
            )
        return "\n".join(lines)


Nodes = tuple[SupervisorNode | ActorNode | TaskNode, ...]


def _draw(nodes: Nodes, indent: str, lines: list[str]) -> None:
    for place, node in enumerate(nodes, 1):
        last = place == len(nodes)
        lines.append(f"{indent}{'└── ' if last else '├── '}{node}")
        if isinstance(node, TaskNode):
            continue
        below: Nodes = node.children
        if isinstance(node, ActorNode):
            below = (*node.tasks, *node.children)
        _draw(below, f"{indent}{'    ' if last else '│   '}", lines)
