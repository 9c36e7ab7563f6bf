"""Draws up the tree of a system's actors."""

from __future__ import annotations

from collections.abc import Callable

from actorq.model.tree import ActorNode, ActorState, ActorTree, SupervisorNode, TaskNode
from actorq.runtime.cell import Cell
from actorq.runtime.engine import Engine
from actorq.runtime.supervisor import Supervisor

Tasks = Callable[[Cell], tuple[TaskNode, ...] | None]


def take_tree(engine: Engine, supervisors: list[Supervisor], name: str, tasks: Tasks) -> ActorTree:
    """Return the tree of ``supervisors``; ``tasks`` says what a worker runs."""

    def supervisor_node(supervisor: Supervisor) -> SupervisorNode:
        cells = tuple(actor_node(cell) for cell in supervisor.cells.values())
        return SupervisorNode(supervisor.name, supervisor.strategy, cells)

    def actor_node(cell: Cell) -> ActorNode:
        opened = tuple(supervisor_node(s) for s in supervisors if s.owner is cell)
        running = tasks(cell)
        return ActorNode(
            cell.name,
            _state(cell, idle=cell.lanes.reader is not None if running is None else not running),
            cell.incarnation,
            max(0, cell.incarnation - 1),
            len(cell.lanes),
            running or (),
            opened,
        )

    roots = tuple(supervisor_node(s) for s in supervisors if s.owner is None)
    return ActorTree(name, engine.post.dead_letters, roots)


def _state(cell: Cell, *, idle: bool) -> ActorState:
    if cell.down is not None:
        return "restarting"
    if cell.stopping:
        return "stopping"
    if not cell.is_ready:
        return "starting"
    return "idle" if idle else "busy"
