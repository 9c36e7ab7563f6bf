import trio

from actorq.model.events import Event, EventKind
from actorq.testing.clock import VirtualClock
from actorq.testing.history import History
from actorq.testing.processes import Process


def play(*names: str) -> History:
    history = History()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                process = Process(name)

                async def speak(process: Process = process) -> None:
                    history.note("said", by=process.name)
                    process.dead = True
                    history.note("said", by="its ghost")

                nursery.start_soon(process.run, speak)

    trio.run(main, clock=VirtualClock())
    return history


def test_the_dead_are_not_heard() -> None:
    (event,) = play("alice").events

    assert (event.where, event.details) == ("alice", {"by": "alice"})


def test_happenings_are_found_by_kind_and_details() -> None:
    history = play("alice", "bob")

    assert [event.where for event in history.of("said", by="bob")] == ["bob"]
    assert list(history.of("sung")) == []


def test_connections_are_told_apart_from_what_matters() -> None:
    history = History()

    async def main() -> None:
        history.event(Event(EventKind.CONNECTED, {"peer": "x"}))
        history.event(Event(EventKind.WORKER_LOST, {"worker": "w", "exception": ValueError()}))

    trio.run(main, clock=VirtualClock())

    assert [event.what for event in history.events] == ["connection", "event"]
    assert history.events[1].details == {"kind": "worker_lost", "worker": "w"}


def test_a_closed_history_notes_nothing() -> None:
    history = History()
    history.open = False

    history.note("said")

    assert history.story() == ""
