"""A history as judges read it: by task, and by run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from actorq.model.ids import HOME
from actorq.testing.cluster import Fault
from actorq.testing.history import Happening, History
from actorq.testing.nodes import QUEUES, Setup
from actorq.testing.workload import Job, Step

TERMINAL = frozenset({"success", "failure", "cancelled"})

Indexed = tuple[int, Happening]
"""Something that has happened, and its place in the history."""


class Reading:
    """Reads a history once.

    Attributes:
        history: All of it.
        setup: The cluster.
        steps: What was to be done.
        faults: What was to go wrong.
        jobs: The job of each task that was asked for, or that a schedule has submitted, and its
            step; by id.
        records: What was written of each task.
        starts: Its runs.
        runs: The start of each run, by its number.
        ends: The end of each run.
        told: How tasks ended, as clients were told.
        lineages: What the records are called that there were, one after the other.
        durable: Whether they outlive a queue node.
        restarted: Whether the queue may have lost them.
    """

    def __init__(
        self, history: History, setup: Setup, steps: Sequence[Step], faults: Sequence[Fault]
    ) -> None:
        self.history: History = history
        self.setup: Setup = setup
        self.steps: Sequence[Step] = steps
        self.faults: Sequence[Fault] = faults
        self.jobs: dict[str, tuple[Step, Job]] = {}
        self.records: dict[str, list[Indexed]] = defaultdict(list)
        self.starts: dict[str, list[Indexed]] = defaultdict(list)
        self.runs: dict[int, Happening] = {}
        self.ends: dict[int, Indexed] = {}
        self.told: list[Indexed] = []
        self.lineages: list[str] = []
        self.durable: bool = setup.store == "disk"
        restarted = any(fault.kind == "restart queue" for fault in faults)
        self.restarted: bool = restarted and not self.durable
        for index, event in enumerate(history.events):
            self._read(index, event)

    def _read(self, index: int, event: Happening) -> None:
        details = event.details
        if event.what == "asked":
            step = self.steps[details["step"]]
            job = next(job for job in step.jobs if job.label == details["label"])
            self.jobs[details["id"]] = step, job
        elif event.what == "record":
            self.records[details["id"]].append((index, event))
            if lineage_of(event) not in self.lineages:
                self.lineages.append(lineage_of(event))
            if "schedule" in details and details["id"] not in self.jobs:
                self.jobs[details["id"]] = self.scheduled(details["schedule"])
        elif event.what == "started":
            self.starts[details["id"]].append((index, event))
            self.runs[details["run"]] = event
        elif event.what == "ended":
            self.ends[details["run"]] = (index, event)
        elif event.what == "told":
            self.told.append((index, event))

    def scheduled(self, name: str) -> tuple[Step, Job]:
        """Return the step, and the job, of a schedule."""
        return next(
            (step, step.jobs[0])
            for step in self.steps
            if step.verb == "schedule" and step.jobs[0].label == name
        )

    def name(self, id: str) -> str:
        """Return what a task is called in complaints."""
        return f"task {self.jobs[id][1].label} ({id})"


def lineage_of(record: Happening) -> str:
    """Return what the records are called of which this is one."""
    return str(record.details.get("lineage", record.where))


def holder_of(record: Happening) -> str:
    """Return the process of the worker that a record names."""
    worker = str(record.details["worker"] or "")
    return record.where if worker.startswith(HOME) else worker.rpartition(".")[0]


def is_queue(name: object) -> bool:
    """Say whether a process is a queue node."""
    return str(name).partition(".")[0] in QUEUES
