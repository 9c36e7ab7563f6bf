"""What must be true of several tasks together: keys, dependencies, limits, pauses, schedules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby, pairwise

from actorq.testing.history import Happening
from actorq.testing.reading import TERMINAL, Reading, lineage_of
from actorq.testing.workload import LIMITS, QUEUE, Step

_ON_THE_WAY = 0.1
"""Seconds by which two starts may come closer than they were granted, if nothing is slow."""
_SUDDEN = frozenset(
    {"cut", "half close", "refuse", "crash", "restart queue", "crash actor", "die in commit"}
)
"""Faults that make nothing slow."""


def broken_relations(reading: Reading) -> Iterator[str]:
    """Iterate over the promises of this kind that a history breaks."""
    if reading.restarted:
        return  # the records are gone that all of this rests on
    yield from _keys(reading)
    yield from _dependencies(reading)
    yield from _concurrency(reading)
    yield from _rates(reading)
    yield from _pauses(reading)
    yield from _schedules(reading)
    yield from _callbacks(reading)


def _keys(reading: Reading) -> Iterator[str]:
    """A key stands for one task, as results with a key are kept longer than any plan lasts."""
    holders: dict[str, set[str]] = defaultdict(set)
    for id, (_, job) in reading.jobs.items():
        if "key" in job.options and reading.records[id]:
            holders[job.options["key"]].add(id)
    for key, ids in holders.items():
        if len(ids) > 1:
            names = " and ".join(reading.name(id) for id in sorted(ids))
            yield f"key {key} stands for {names}"


def _dependencies(reading: Reading) -> Iterator[str]:
    for event in reading.history.of("asked"):
        id, sources = event.details["id"], event.details.get("sources", ())
        if not sources or not reading.records[id]:
            continue
        job = reading.jobs[id][1]
        lenient = job.options.get("on_dependency_failure") == "run" and not job.needs
        granted = [e.at for _, e in reading.records[id] if e.details["status"] == "running"]
        for source in sources if granted else ():
            ends = [
                e.details["status"]
                for _, e in reading.records[source]
                if e.at <= granted[0] and e.details["status"] in TERMINAL
            ]
            if not ends:
                yield f"{reading.name(id)} was granted before {reading.name(source)} had ended"
            elif ends != ["success"] and not lenient:
                yield f"{reading.name(id)} was granted though {reading.name(source)} was {ends[0]}"
        yield from _given(reading, id, sources)
    for _, told in reading.told:
        if told.details.get("error") == "DependencyFailed":
            yield from _blamed(reading, told.details["id"])


def _given(reading: Reading, id: str, sources: list[str]) -> Iterator[str]:
    """Whoever needs values gets those of the right tasks, in order."""
    needs = reading.jobs[id][1].needs
    for _, start in reading.starts[id]:
        given = [value.split(" ")[:2] for value in start.details.get("given", ())]
        asked = [[reading.jobs[s][1].label, s] for s in sources[len(sources) - len(needs) :]]
        if needs and given != asked:
            yield f"{reading.name(id)} needs {asked}, and was given {given}"


def _blamed(reading: Reading, id: str) -> Iterator[str]:
    """A task that a dependency is blamed for has one that did not succeed."""
    asked = next(reading.history.of("asked", id=id))
    ends = [
        reading.records[source][-1][1].details["status"]
        for source in asked.details.get("sources", ())
        if reading.records[source]
    ]
    if not set(ends) & {"failure", "cancelled"}:
        yield f"{reading.name(id)} has failed for a dependency, and they were {ends}"


def _concurrency(reading: Reading) -> Iterator[str]:
    """No limit has more slots than it says, when a commit is over."""
    running: dict[str, str] = {}
    records = reading.history.of("record")
    for at, events in groupby(records, lambda e: (lineage_of(e), e.at)):
        touched = set()
        for event in events:
            id = event.details["id"]
            running.pop(id, None)
            limit = _option(reading, id, "limit")
            if event.details["status"] == "running" and limit is not None:
                running[id] = limit
                touched.add(limit)
        for limit in sorted(touched):
            most, count = LIMITS[limit].concurrency, list(running.values()).count(limit)
            if most is not None and count > most:
                yield f"{count} tasks with the limit {limit!r} run at {at[1]:.4f}"


def _rates(reading: Reading) -> Iterator[str]:
    """In no window start more than may; where nothing comes late that was granted in time."""
    if reading.setup.skew or any(fault.kind not in _SUDDEN for fault in reading.faults):
        return
    starts: dict[str, list[float]] = defaultdict(list)
    for event in reading.history.of("started"):
        limit = _option(reading, event.details["id"], "limit")
        if limit is not None and LIMITS[limit].rate is not None:
            starts[limit].append(event.at)
    for limit, times in starts.items():
        rate, per = LIMITS[limit].rate or 0, LIMITS[limit].per
        for first, last in zip(times, times[rate:], strict=False):
            if last - first < per - _ON_THE_WAY:
                yield f"{rate + 1} tasks with the limit {limit!r} start until {last:.4f}"


def _pauses(reading: Reading) -> Iterator[str]:
    """Of a queue that is paused nothing is granted; at most one client does that, once."""
    paused = False
    fences: dict[str, int] = {}
    for event in reading.history.events:
        if event.what in ("paused", "resuming", "calm"):
            paused = event.what == "paused"
        if event.what != "record":
            continue
        id, fence = event.details["id"], event.details["fence"]
        granted = event.details["status"] == "running" and fence > fences.get(id, 0)
        fences[id] = fence
        if paused and granted and _option(reading, id, "queue") == QUEUE:
            yield f"{reading.name(id)} was granted at {event.at:.4f}: its queue is paused"


def _schedules(reading: Reading) -> Iterator[str]:
    """Ticks come at their times; where all must come, none is left out."""
    ticks: dict[str, dict[str, Happening]] = defaultdict(dict)
    for event in reading.history.of("record"):
        if "schedule" in event.details:
            ticks[event.details["schedule"]].setdefault(event.details["id"], event)
    for name, events in ticks.items():
        step = reading.scheduled(name)[0]
        times = sorted(int(id[2:15], 16) / 1_000_000 for id in events)
        for former, later in pairwise(times):
            count = (later - former) / step.every
            if abs(count - round(count)) > 1e-4:
                yield f"schedule {name} ticks {later - former} s after its last tick"
            elif round(count) > 1 and _has_all(step):
                yield f"schedule {name} leaves out {round(count) - 1} ticks"


def _callbacks(reading: Reading) -> Iterator[str]:
    """Whoever is to be called back is, about each end, and by one task only."""
    collected: dict[str, list[Happening]] = defaultdict(list)
    for event in reading.history.of("collected"):
        collected[event.details["id"]].append(event)
    for id, (_, job) in reading.jobs.items():
        ends = [e.details["status"] for _, e in reading.records[id]][-1:]
        if "callback" not in job.options or not TERMINAL.issuperset(ends or ["none"]):
            continue
        said = {(e.details["status"], e.details["label"]) for e in collected[id]}
        if said != {(ends[0], job.label)}:
            yield f"{reading.name(id)} was {ends[0]}, and its callback was told {sorted(said)}"
        if len({e.details["by"] for e in collected[id]}) > 1:
            yield f"{reading.name(id)} has several callbacks"


def _option(reading: Reading, id: str, option: str) -> str | None:
    """Return an option of a task's job; None, too, if nobody knows of one."""
    if id not in reading.jobs:
        return None
    value: str | None = reading.jobs[id][1].options.get(option)
    return value


def _has_all(step: Step) -> bool:
    return step.catch_up == "all" and step.overlap == "queue"
