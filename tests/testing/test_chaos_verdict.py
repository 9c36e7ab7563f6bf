"""Each promise is missed when it is broken: by notes that nobody has written but these tests."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from actorq.testing.chaos_verdict import Note, Notes, broken


class Story:
    """Notes and records of a run in which all goes well, until a test says otherwise."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.stored: dict[str, dict[str, Any]] = {}
        self._clock: Iterator[int] = count(1)
        self._runs = count(1)

    def note(self, what: str, node: str = "client-0", **details: Any) -> None:
        self.notes.append(Note(float(next(self._clock)), node, what, details))

    def send(self, id: str, **options: Any) -> None:
        sent = {"value": 4, "scoped": False, "once": False, "limited": False, "key": None}
        self.note("sent", id=id, **sent | options)
        self.note("accepted", id=id)

    def run(self, id: str, node: str = "worker-0", how: str = "returned") -> str:
        name = self.begin(id, node)
        self.end(name, node, how)
        return name

    def begin(self, id: str, node: str = "worker-0") -> str:
        name = f"{node}.{next(self._runs)}"
        self.note("began", node, id=id, run=name)
        return name

    def end(self, name: str, node: str = "worker-0", how: str = "returned") -> None:
        self.note("ended", node, run=name, how=how)

    def keep(self, id: str, run: str, **other: Any) -> None:
        self.stored[id] = {
            "id": id, "status": "success", "value": [4, run], "error": None, "completed": "1",
        } | other  # fmt: skip

    def tell(self, id: str, **other: Any) -> None:
        self.note("told", **self.stored[id] | other)

    def kill(self, node: str) -> None:
        self.note("killed", "chaos", whom=node)

    def all_of(self, id: str, **options: Any) -> str:
        self.send(id, **options)
        name = self.run(id)
        self.keep(id, name)
        self.tell(id)
        return name

    @property
    def complaints(self) -> str:
        return "\n".join(broken(self.notes, self.stored))


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_run_without_a_fault_breaks_nothing(story: Story) -> None:
    story.all_of("a")
    story.all_of("b", key="k")
    story.all_of("c", limited=True)
    story.send("d", once=True)
    story.keep("d", "", status="failure", value=None, error="WorkerLost")
    story.kill("worker-1")

    assert story.complaints == ""


def test_an_accepted_task_that_is_not_stored_is_lost(story: Story) -> None:
    story.all_of("a")
    del story.stored["a"]

    assert "is not stored" in story.complaints


def test_a_task_that_nobody_was_told_of_may_be_missing(story: Story) -> None:
    story.note("sent", id="a", value=4, scoped=False, once=False, limited=False, key=None)

    assert story.complaints == ""


def test_a_task_that_nobody_has_sent_is_told(story: Story) -> None:
    story.keep("a", "")

    assert "nobody has sent it" in story.complaints


@pytest.mark.parametrize("status", ["pending", "running", "scheduled", "waiting"])
def test_a_task_that_has_not_ended_is_told(story: Story, status: str) -> None:
    story.all_of("a")
    story.stored["a"]["status"] = status

    assert f"is {status} at the end" in story.complaints


def test_a_wrong_value_is_told(story: Story) -> None:
    name = story.all_of("a")
    story.stored["a"]["value"] = [5, name]

    assert "has the value 5, not 4" in story.complaints


def test_a_value_of_a_run_that_did_not_return_it_is_told(story: Story) -> None:
    story.send("a")
    first = story.run("a", how="raised")
    story.run("a")
    story.keep("a", first)

    assert "no run of it that has returned one" in story.complaints


def test_two_ends_are_told(story: Story) -> None:
    story.all_of("a")
    story.stored["a"]["completed"] = "2"

    assert "was told and is stored: {'completed': ('1', '2')}" in story.complaints


def test_a_failure_without_a_reason_is_told(story: Story) -> None:
    story.send("a")
    story.keep("a", "", status="failure", value=None, error="StoreError")

    assert "has failed: StoreError" in story.complaints


def test_a_cancelled_task_that_nobody_cancelled_is_told(story: Story) -> None:
    story.send("a")
    story.keep("a", "", status="cancelled", value=None)
    assert "nobody has asked for that" in story.complaints

    story.note("left", id="a")
    assert story.complaints == ""


def test_a_scoped_task_of_a_client_that_was_killed_may_be_cancelled(story: Story) -> None:
    story.send("a", scoped=True)
    story.keep("a", "", status="cancelled", value=None)
    story.kill("client-0")

    assert story.complaints == ""


def test_a_second_run_that_nothing_had_hit_is_told(story: Story) -> None:
    story.send("a")
    story.run("a")
    story.keep("a", story.run("a", "worker-1"))

    assert "though nothing had hit worker-0.1" in story.complaints


@pytest.mark.parametrize("ended", [True, False])
def test_a_second_run_after_a_kill_of_the_first_is_right(story: Story, ended: bool) -> None:
    story.send("a")
    first = story.begin("a")
    if ended:
        story.end(first)
    story.kill("worker-0")
    story.keep("a", story.run("a", "worker-1"))

    assert story.complaints == ""


def test_a_kill_that_came_long_after_a_run_is_no_reason_for_another(story: Story) -> None:
    story.send("a")
    story.run("a")
    for _ in range(20):
        story.note("event", kind="connected")
    story.kill("worker-0")
    story.keep("a", story.run("a", "worker-1"))

    assert "though nothing had hit" in story.complaints


def test_one_kill_is_a_reason_for_one_run_more(story: Story) -> None:
    story.send("a")
    story.begin("a")
    story.kill("worker-0")
    story.run("a", "worker-1")
    story.keep("a", story.run("a", "worker-1"))

    assert "though nothing had hit worker-1.2" in story.complaints


def test_a_run_after_one_that_raised_is_a_retry(story: Story) -> None:
    story.send("a")
    story.run("a", how="raised")
    story.keep("a", story.run("a"))

    assert story.complaints == ""


def test_a_second_run_of_at_most_once_is_told_whatever_was_killed(story: Story) -> None:
    story.send("a", once=True)
    story.begin("a")
    story.kill("worker-0")
    story.keep("a", story.run("a", "worker-1"))

    assert "at_most_once and began 2 times" in story.complaints


def test_a_run_after_the_end_was_told_is_told(story: Story) -> None:
    story.all_of("a")
    story.kill("worker-0")
    story.run("a", "worker-1")

    assert "began as worker-1.2 when its end was known" in story.complaints


def test_a_run_that_never_ends_is_told(story: Story) -> None:
    story.all_of("a")
    story.send("b")
    story.begin("b")
    story.keep("b", "", status="cancelled", value=None)
    story.note("left", id="b")

    assert "never ended as worker-0.2" in story.complaints


def test_a_run_before_what_it_needs_is_told(story: Story) -> None:
    story.send("a")
    first = story.begin("a")
    story.send("b", needs=["a"])
    story.keep("b", story.run("b"))
    story.end(first)
    story.keep("a", first)

    assert "before a, which it needs" in story.complaints


def test_two_tasks_under_one_key_are_told(story: Story) -> None:
    story.all_of("a", key="k")
    story.all_of("b", key="k")

    assert "2 tasks are stored under the key 'k'" in story.complaints


def test_too_many_at_once_under_a_limit_are_told(story: Story) -> None:
    runs = {}
    for id in "abc":
        story.send(id, limited=True)
        runs[id] = story.begin(id)
    for id, name in runs.items():
        story.end(name)
        story.keep(id, name)

    assert "3 tasks run under a limit of 2" in story.complaints


def test_a_slot_under_a_limit_ends_with_its_worker(story: Story) -> None:
    for id in "ab":
        story.send(id, limited=True)
        story.begin(id)
    story.kill("worker-0")
    for id in "ab":
        story.keep(id, story.run(id, "worker-1"))

    assert story.complaints == ""


@pytest.mark.parametrize(
    ("what", "details"),
    [
        ("crashed", {"error": "a traceback"}),
        ("error", {"error": "ActorDied"}),
        ("event", {"kind": "actor_restarted"}),
        ("event", {"kind": "stuck"}),
    ],
)
def test_what_should_not_happen_is_told(story: Story, what: str, details: dict[str, Any]) -> None:
    story.note(what, **details)

    assert f"client-0: {what}" in story.complaints


def test_an_owner_may_find_that_it_was_succeeded(story: Story) -> None:
    story.note("event", "queue-0", kind="actor_restarted", error="Fenced('epoch 1')")

    assert story.complaints == ""


def test_notes_are_read_as_they_come_and_a_torn_line_is_none(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    line = json.dumps({"at": 2.0, "node": "a", "what": "began", "details": {"id": "x"}}).encode()
    other = line.replace(b"2.0", b"1.0").replace(b'"a"', b'"b"')

    (tmp_path / "a.notes").write_bytes(line + b"\n" + line[:20])
    (tmp_path / "b.notes").write_bytes(other + b"\n")
    assert [note.node for note in notes.read()] == ["b", "a"]
    assert notes.read() == []

    (tmp_path / "a.notes").write_bytes(line + b"\n" + line + b"\n")
    assert notes.read() == [Note(2.0, "a", "began", {"id": "x"})]
    assert len(notes.all) == 3
    assert "began" in str(notes.all[0])
