"""What must be true of a chaos run, whatever was killed: from its notes, and what is stored."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import attrs

SETTLE_SECONDS = 15.0
"""After the end of a run, a kill of its worker may still be the reason of another run: nobody could
take its outcome so long."""

_WRONG_EVENTS = frozenset({"actor_restarted", "actor_died", "actor_killed", "unkillable", "stuck"})


@attrs.frozen
class Note:
    """A line that a process has noted; ``at`` is by the clock that all of a machine share."""

    at: float
    node: str
    what: str
    details: dict[str, Any]

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.at:12.4f}  {self.node:<12} {self.what:<9} {said}"


class Notes:
    """Reads the notes of all processes while they write them."""

    def __init__(self, folder: Path) -> None:
        self.all: list[Note] = []
        self._folder = folder
        self._read: dict[Path, int] = {}

    def read(self) -> list[Note]:
        """Return those that are new, the oldest first; a torn line is none."""
        new: list[Note] = []
        for path in self._folder.glob("*.notes"):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read[path] = start + len(whole) + len(newline)
            new += [Note(**json.loads(line)) for line in whole.splitlines()]
        new.sort(key=lambda note: note.at)
        self.all += new
        return new


@attrs.define
class _Run:
    """One run of a task."""

    id: str
    name: str
    node: str
    began: float
    ended: float | None = None
    how: str = ""


@attrs.define
class _Story:
    """What the notes say of one task."""

    sent: dict[str, Any]
    client: str
    accepted: bool = False
    left: bool = False
    """Whether its client has cancelled it, or has left the block that owned it."""
    told: list[Note] = attrs.field(factory=list)
    runs: list[_Run] = attrs.field(factory=list)


def broken(notes: Sequence[Note], stored: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return every promise that was broken, in words.

    Args:
        notes: All of them.
        stored: By the id of each task, what `chaos_nodes.told` says of it at the end.
    """
    return list(dict.fromkeys(_Judge(notes, stored).complaints()))


class _Judge:
    """Reads the notes once, and goes through the promises."""

    def __init__(self, notes: Sequence[Note], stored: Mapping[str, Mapping[str, Any]]) -> None:
        self._notes = sorted(notes, key=lambda note: note.at)
        self._stored = stored
        self._killed: dict[str, float] = {}
        """When each node was killed that was."""
        self._stories: dict[str, _Story] = {}
        self._runs: dict[str, _Run] = {}
        for note in self._notes:
            self._read(note)

    def _read(self, note: Note) -> None:
        details = note.details
        if note.what == "killed":
            self._killed[details["whom"]] = note.at
        elif note.what == "sent":
            self._stories[details["id"]] = _Story(details, note.node)
        elif note.what == "accepted":
            self._stories[details["id"]].accepted = True
        elif note.what == "left":
            self._stories[details["id"]].left = True
        elif note.what == "told":
            self._stories[details["id"]].told.append(note)
        elif note.what == "began":
            run = _Run(details["id"], details["run"], note.node, note.at)
            self._runs[run.name] = run
            self._stories[run.id].runs.append(run)
        elif note.what == "ended":
            run = self._runs[details["run"]]
            run.ended, run.how = note.at, details["how"]

    def complaints(self) -> Iterator[str]:
        """Iterate over what is broken."""
        for note in self._notes:
            if self._is_wrong(note):
                yield f"{note.node}: {note.what} {note.details}"
        for id in self._stored.keys() - self._stories.keys():
            yield f"task {id} is stored, and nobody has sent it"
        for id, story in self._stories.items():
            for said in (*self._kept(id, story), *self._ran(id, story)):
                yield f"task {id} of {story.client}: {said}"
        yield from self._keys()
        yield from self._limit()

    @staticmethod
    def _is_wrong(note: Note) -> bool:
        if note.what != "event":
            return note.what in ("crashed", "error")
        # An owner that was stopped for long finds that it has been succeeded.
        succeeded = str(note.details.get("error")).startswith("Fenced(")
        return note.details["kind"] in _WRONG_EVENTS and not succeeded

    # --- what is stored and told -----------------------------------------------------------------

    def _kept(self, id: str, story: _Story) -> Iterator[str]:
        """What was accepted is stored, has ended once, and in the right way."""
        stored = self._stored.get(id)
        if stored is None:
            if story.accepted or story.told or (story.runs and story.sent["key"] is None):
                yield "is not stored, though it was accepted"
            return
        if stored["status"] not in ("success", "failure", "cancelled"):
            yield f"is {stored['status']} at the end"
        for note in story.told:
            different = {
                name: (value, stored[name])
                for name, value in note.details.items()
                if value != stored[name]
            }
            if different:
                yield f"was told and is stored: {different}"
        if stored["status"] == "success":
            yield from self._success(story, stored)
        elif stored["status"] == "cancelled":
            if not story.left and not (story.sent["scoped"] and story.client in self._killed):
                yield "is cancelled, and nobody has asked for that"
        elif stored["status"] == "failure":
            may_be_lost = story.sent["once"] and self._killed
            if stored["error"] != "WorkerLost" or not may_be_lost:
                yield f"has failed: {stored['error']}"

    def _success(self, story: _Story, stored: Mapping[str, Any]) -> Iterator[str]:
        value, name = stored["value"]
        run = self._runs.get(name)
        if value != story.sent["value"]:
            yield f"has the value {value}, not {story.sent['value']}"
        if run is None or run not in story.runs or run.how != "returned":
            yield f"has a value of {name}, which is no run of it that has returned one"

    # --- how often and when it ran ---------------------------------------------------------------

    def _ran(self, id: str, story: _Story) -> Iterator[str]:
        """Each run but the first has a reason: a kill that hit the one before, or a retry."""
        del id
        if story.sent["once"] and len(story.runs) > 1:
            yield f"is at_most_once and began {len(story.runs)} times"
        for run, following in pairwise(story.runs):
            killed = self._killed.get(run.node, inf)
            hit = run.began <= killed <= following.began
            if hit and run.ended is not None:
                hit = killed - run.ended < SETTLE_SECONDS
            if not hit and run.how != "raised":
                yield f"began as {following.name}, though nothing had hit {run.name} ({run.how})"
        for run in story.runs:
            if run.ended is None and run.node not in self._killed:
                yield f"never ended as {run.name}"
            if any(note.at < run.began for note in story.told):
                yield f"began as {run.name} when its end was known"
            for need in story.sent.get("needs", ()):
                if not any(self._is_before(one, run) for one in self._stories[need].runs):
                    yield f"began as {run.name} before {need}, which it needs"

    @staticmethod
    def _is_before(one: _Run, other: _Run) -> bool:
        return one.ended is not None and one.how == "returned" and one.ended <= other.began

    def _keys(self) -> Iterator[str]:
        """Of those with the same key only one is stored."""
        stored: Counter[str] = Counter()
        for id in self._stored.keys() & self._stories.keys():
            key = self._stories[id].sent["key"]
            if key is not None:
                stored[key] += 1
        for key, count in stored.items():
            if count > 1:
                yield f"{count} tasks are stored under the key {key!r}"

    def _limit(self) -> Iterator[str]:
        """Never do more tasks run under a limit than it says."""
        steps: dict[float, int] = defaultdict(int)
        for story in self._stories.values():
            for run in story.runs if story.sent["limited"] else ():
                killed = self._killed.get(run.node, inf)
                steps[run.began] += 1
                steps[killed if run.ended is None else run.ended] -= 1
        at_once = 0
        for at in sorted(steps):
            at_once += steps[at]
            if at_once > 2:
                yield f"{at_once} tasks run under a limit of 2 at {at:.4f}"
