"""What must be true of every history, whatever went wrong in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise

from actorq.client.base import CANCEL_SLACK
from actorq.model.ids import HOME
from actorq.testing.cluster import Fault
from actorq.testing.history import Happening, History
from actorq.testing.nodes import GRACE, Setup
from actorq.testing.reading import TERMINAL, Reading, holder_of, is_queue, lineage_of
from actorq.testing.relations import broken_relations
from actorq.testing.workload import Job, Step

_WINDOW = 5.0
_PATIENCE = GRACE + CANCEL_SLACK + _WINDOW - 0.5
"""Seconds after which a client has gone on, though nobody has told it that its block is empty."""
_REPORTED, _SEEN = 1.0, 6.5
"""Seconds within which the death of a worker is known: from its parent, or from its connection."""
_MEMORY = 20.0
"""Seconds for which a fault may be the reason of something: longer than any lease."""


def _fails(job: Job) -> bool:
    attempts = 1 if "deadline" in job.options else job.options.get("retry", 1)
    return job.kind == "fail" or (job.kind == "flaky" and bool(attempts <= job.times))


def _depends(job: Job) -> bool:
    return bool(job.after or job.needs)


_REASONS: dict[str, tuple[Callable[[Job], bool], str]] = {
    "Broken": (_fails, "failed, which it does not do"),
    "GiveUp": (lambda job: job.kind == "give up", "gave up, which it does not do"),
    "TaskTimeout": (
        lambda job: bool({"timeout", "deadline"} & job.options.keys()),
        "timed out without a time",
    ),
    "TaskExpired": (lambda job: "expires" in job.options, "expired without a time"),
    "DependencyFailed": (_depends, "blames a dependency, and has none"),
    "RetryLater": (lambda job: "deadline" in job.options, "failure with RetryLater"),
    "WorkerLost": (lambda _: True, ""),
}
"""Errors of tasks, who may have them, and what to say of others."""


def broken(
    history: History, setup: Setup, steps: Sequence[Step], faults: Sequence[Fault]
) -> list[str]:
    """Return every promise that this history breaks, in words."""
    return list(dict.fromkeys(_Judge(history, setup, steps, faults).complaints()))


class _Judge(Reading):
    """Goes through the promises."""

    def complaints(self) -> Iterator[str]:
        """Iterate over what is broken."""
        for event in self.history.events:
            if event.what in ("hangs", "leak"):
                yield f"{event.what}: {event.details}"
        yield from broken_relations(self)
        for id in self.jobs:
            yield from self._of_records(id)
            yield from self._of_runs(id)
            yield from self._runs_again(id)
        yield from self._accepted_is_kept()
        yield from self._bookings()
        yield from self._recovery()
        yield from self._results()
        yield from self._answers_are_true()
        yield from self._winners()
        yield from self._errors()
        yield from self._blocks()

    # --- the record ------------------------------------------------------------------------------

    def _of_records(self, id: str) -> Iterator[str]:
        """One terminal status; fences grow one by one; what is cancelled is not granted again."""
        for lineage in self.lineages:
            ended: str | None = None
            fence, deaths, cancel, holder = 0, 0, None, ""
            for index, event in self.records[id]:
                if lineage_of(event) != lineage:
                    continue
                now = event.details
                if ended is not None:
                    yield f"{self.name(id)} was {ended}, and is {now['status']} at {event.at:.4f}"
                granted = now["status"] == "running" and now["fence"] > fence
                if granted and cancel is not None:
                    yield f"{self.name(id)} was cancelled by {cancel}, and is granted again"
                if now["fence"] < fence or now["deaths"] < deaths:
                    yield f"{self.name(id)} has gone back at {event.at:.4f}"
                if now["deaths"] > deaths:
                    yield from self._death(id, holder, index, event)
                unasked = "deadline" not in self.jobs[id][1].options
                if now["status"] == "failure" and cancel is not None and unasked:
                    yield f"{self.name(id)} was cancelled by {cancel}, and is a failure"
                fence, deaths, cancel = now["fence"], now["deaths"], now["cancel"]
                holder = holder_of(event)
                ended = now["status"] if now["status"] in TERMINAL else None

    def _death(self, id: str, holder: str, index: int, event: Happening) -> Iterator[str]:
        """A death has a reason: something happened to the worker or to the way to it."""
        for earlier in self.history.events[:index]:
            lasting = earlier.what == "poisoned" or earlier.details.get("kind") == "crash"
            if not lasting and event.at - earlier.at > _MEMORY + self._longest():
                continue
            if self._harms(earlier, holder):
                return
        yield f"{self.name(id)} was lost at {event.at:.4f}: nothing had happened to {holder}"

    def _harms(self, event: Happening, worker: str) -> bool:
        """Say whether this is a reason to give up a worker that may have done nothing wrong."""
        if event.what == "poisoned":
            return event.where == worker
        if event.what != "fault":
            return False
        if event.details["whom"] == worker:
            return True
        if is_queue(event.details["whom"]):
            # Another owner knows whom the former one had, and waits for them.
            gone = event.details["kind"] in (
                "restart queue", "drain", "crash actor", "die in commit",
            )  # fmt: skip
            return not (self.durable and gone and event.details.get("told", True))
        return False

    def _longest(self) -> float:
        return max((fault.seconds for fault in self.faults), default=0.0)

    def _bookings(self) -> Iterator[str]:
        """No worker is granted more than it has slots for, when a commit is over."""
        held: dict[str, str] = {}
        commits = groupby(self.history.of("record"), lambda e: (lineage_of(e), e.at))
        for (lineage, at), events in commits:
            for event in events:
                held.pop(event.details["id"], None)
                if event.details["status"] == "running":
                    held[event.details["id"]] = holder_of(event)
            for worker, count in Counter(held.values()).items():
                if count > (self.setup.home if is_queue(worker) else self.setup.slots):
                    yield f"{worker} holds {count} tasks at {at:.4f}"
            if lineage != self.lineages[-1]:
                held.clear()

    def _recovery(self) -> Iterator[str]:
        """What a dead worker held is taken from it soon, if nothing else goes wrong."""
        if len(self.faults) != 1 or any(self.history.of("poisoned")):
            return
        for index, crash in enumerate(self.history.events):
            if crash.details.get("kind") != "crash" or is_queue(crash.details["whom"]):
                continue
            reported = "reported" in crash.details and self.setup.parent
            if not reported and crash.details.get("told") is False:
                continue
            soon = crash.at + (_REPORTED if reported else _SEEN)
            for id in self.jobs:
                before = [e.details for i, e in self.records[id] if i < index]
                after = [e.at for i, e in self.records[id] if i > index]
                if before and before[-1]["status"] == "running":
                    worker = str(before[-1]["worker"]).rpartition(".")[0]
                    if worker == crash.details["whom"] and after and after[0] > soon:
                        yield f"{self.name(id)} was missed only at {after[0]:.4f}"

    # --- runs ------------------------------------------------------------------------------------

    def _of_runs(self, id: str) -> Iterator[str]:
        starts, (_, job) = self.starts[id], self.jobs[id]
        if job.options.get("at_most_once") and len(starts) > 1:
            yield f"{self.name(id)} is at_most_once and started {len(starts)} times"
        grants = sum(len(self._grants(id, lineage)) for lineage in self.lineages)
        if len(starts) > grants:
            yield f"{self.name(id)} started {len(starts)} times on {grants} grants"

    def _runs_again(self, id: str) -> Iterator[str]:
        """Nothing is run again without a reason: how it ended, or what happened to its worker."""
        job = self.jobs[id][1]
        for (_, former), (index, start) in pairwise(self.starts[id]):
            end = self.ends.get(former.details["run"])
            how = "" if end is None else end[1].details["how"]
            if how == "raised" and (job.kind == "later" or job.options.get("retry", 1) > 1):
                continue
            if how == "cancelled" and "timeout" in job.options and job.options.get("retry", 1) > 1:
                continue
            since = former.at - _MEMORY - self._longest()
            earlier = (e for e in self.history.events[:index] if e.at >= since)
            if not self.restarted and not any(self._harms(e, former.where) for e in earlier):
                yield (
                    f"{self.name(id)} is run again at {start.at:.4f}: nothing had happened to "
                    f"{former.where}"
                )

    def _grants(self, id: str, lineage: str) -> set[int]:
        """Return the fences of its grants."""
        return {
            event.details["fence"]
            for _, event in self.records[id]
            if lineage_of(event) == lineage and event.details["status"] == "running"
        }

    # --- what clients were told ------------------------------------------------------------------

    def _accepted_is_kept(self) -> Iterator[str]:
        for index, event in enumerate(self.history.events):
            if event.what != "accepted":
                continue
            id = event.details["id"]
            records = self.records[id]
            if not records or records[0][0] > index:
                yield f"{self.name(id)} was accepted, and was not recorded"
            elif not self.restarted and records[-1][1].details["status"] not in TERMINAL:
                yield f"{self.name(id)} was accepted and has not ended"

    def _results(self) -> Iterator[str]:
        said: dict[str, tuple[object, ...]] = {}
        for index, event in self.told:
            id, now = event.details["id"], event.details
            if now["about"] != id:
                yield f"{self.name(id)}: the client was told about {now['about']}"
            if now["status"] == "success":
                yield from self._success(id, index, now)
            else:
                yield from self._no_success(id, now)
            word = (now["status"], now["value"])
            if not self.restarted and said.setdefault(id, word) != word:
                yield f"{self.name(id)}: told {said[id]} and then {word}"

    def _answers_are_true(self) -> Iterator[str]:
        """Nobody is told what is not stored, or is not so any more; whoever answers."""
        asked: dict[str, int] = {}
        for index, event in enumerate(self.history.events):
            id = event.details.get("id", "")
            if event.what == "asking":
                asked[id] = index
            if event.what not in ("told", "seen") or self.restarted:
                continue
            status = event.details["status"]
            before = [e.details["status"] for i, e in self.records[id] if i < index]
            if status in TERMINAL and status not in before:
                yield f"{self.name(id)}: the client was told {status}, and that was not recorded"
            if event.what == "seen" and status not in TERMINAL:
                ended = {e.details["status"] for i, e in self.records[id] if i < asked[id]}
                if ended & TERMINAL:
                    yield f"{self.name(id)} was seen {status} at {event.at:.4f}, and had ended"

    def _winners(self) -> Iterator[str]:
        """Nobody whose word was recorded is told that it comes too late."""
        for index, event in enumerate(self.history.events):
            if event.details.get("kind") != "stale_result":
                continue
            id, fence = event.details["id"], event.details["fence"]
            for i, record in self.records[id]:
                now = record.details
                if i < index and now["status"] in TERMINAL and now["fence"] == fence:
                    yield f"{self.name(id)}: its end was refused at {event.at:.4f}, and is recorded"

    def _success(self, id: str, index: int, told: dict[str, object]) -> Iterator[str]:
        label, about, run = str(told["value"]).split(" ")
        if (label, about) != (self.jobs[id][1].label, id):
            yield f"{self.name(id)} has the value {told['value']!r} of another task"
            return
        start, end = self.runs[int(run)], self.ends.get(int(run))
        if end is None or end[0] > index or end[1].details["how"] != "returned":
            yield f"{self.name(id)} has the value of run {run}, which did not return one"
        worker = told.get("worker")
        at_home = worker is not None and str(worker).startswith(HOME)
        if at_home and is_queue(start.where):
            worker = None
        if worker is not None and str(worker).rpartition(".")[0] != start.where:
            yield f"{self.name(id)} has the value of {start.where}, and is said to be of {worker}"
        grants = [
            (i, e) for i, e in self.records[id] if e.details["status"] == "running" and i < index
        ]
        newest = max((e.details["fence"] for _, e in grants), default=0)
        began = [i for i, e in grants if e.details["fence"] == newest]
        started = next(i for i, e in self.starts[id] if e.details["run"] == int(run))
        if not self.restarted and began and started < began[0]:
            yield f"{self.name(id)} has the value of run {run}, which was before grant {newest}"

    def _no_success(self, id: str, told: dict[str, object]) -> Iterator[str]:
        step, job = self.jobs[id]
        status, error = told["status"], str(told.get("error"))
        name = f"{self.name(id)}, {job.kind}, {job.options}"
        if status == "cancelled":
            scoped = step.verb in ("call", "map", "nursery")
            if not scoped and step.verb != "cancel":
                yield f"{name}: cancelled, and nobody asked for that"
        elif error not in _REASONS:
            yield f"{name}: {status} with {error}"
        elif not _REASONS[error][0](job):
            yield f"{name}: {_REASONS[error][1]}"

    def _errors(self) -> Iterator[str]:
        for event in self.history.of("error"):
            error = event.details["error"]
            fine = error in (
                "TaskFailed", "TaskTimeout", "TaskCancelled", "TaskExpired", "WorkerLost",
                "SubmitError", "QueueFull",
            )  # fmt: skip
            step = self.steps[event.details["step"]]
            fine = fine or (error == "StoreUnavailable" and self.durable)
            fine = fine or (error == "KeyConflict" and any("key" in j.options for j in step.jobs))
            fine = fine or (error == "DependencyFailed" and any(map(_depends, step.jobs)))
            gone = error == "TaskNotFound" and self._may_be_gone(step)
            if not fine and not gone:
                yield f"step {event.details['step']} got {error}: {event.details['said']}"

    def _may_be_gone(self, step: Step) -> bool:
        """Say whether the queue may have forgotten what this step asks for by its id."""
        if any(map(_depends, step.jobs)):
            return True  # which may not have been accepted
        brief = any("result_ttl" in job.options for job in step.jobs)
        few = self.setup.max_results < len(self.jobs)
        return self.restarted or few or (step.verb == "cancel" and brief)

    # --- blocks ----------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[str]:
        """Whoever has left a block has left nothing running behind."""
        for index, event in enumerate(self.history.events):
            if event.what != "left" or "ids" not in event.details:
                continue
            for id in event.details["ids"]:
                if event.at - self._leaving(event) >= _PATIENCE or self.restarted:
                    continue
                before = [e for i, e in self.records[id] if i < index]
                if before and before[-1].details["status"] not in TERMINAL:
                    yield f"{self.name(id)} goes on after its block was left"
                yield from self._left_running(id, index)

    def _leaving(self, left: Happening) -> float:
        """Return when a block began to be left: its patience was over, or a task has failed."""
        ids = left.details["ids"]
        step = self.jobs[ids[0]][0]
        failed = [
            record.at
            for id in ids
            for _, record in self.records[id]
            if record.details["status"] in ("failure", "cancelled") or record.details["cancel"]
        ]
        return min([step.at + step.patience, *failed])

    def _left_running(self, id: str, index: int) -> Iterator[str]:
        for i, start in self.starts[id]:
            if i > index:
                if start.at <= self.history.events[index].at + 0.1:
                    continue  # the cancel was on its way
                if not self._excused(id, start.where, i):
                    yield f"{self.name(id)} started after its block was left"
                continue
            end = self.ends.get(start.details["run"])
            if end is not None and end[0] < index:
                continue
            if not self._excused(id, start.where, index):
                yield f"{self.name(id)} still ran when its block was left"

    def _excused(self, id: str, worker: str, until: int) -> bool:
        """Say whether its worker was out of reach, so that it could not be stopped in time."""
        for event in self.history.events[:until]:
            if event.what == "fault" and (
                event.details["whom"] == worker or is_queue(event.details["whom"])
            ):
                return True
            if event.what == "poisoned" and event.where == worker:
                return True
            told = event.details
            if told.get("kind") == "cancel_unconfirmed" and told["id"] == id:
                return True
        return False
