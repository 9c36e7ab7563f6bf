"""Pausing queues, asking why, and schedules: in this process, and from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import actorq
from actorq import Cron, Every
from actorq.model.events import EventKind
from tests.nodes import Ears, cut, open_client, open_hand, open_queue, until


class Notes:
    """What a task writes down."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.meta: list[Any] = []

        @actorq.task(name="note")
        async def note(line: Any = "nothing") -> int:
            self.lines.append(line)
            self.meta.append(dict(actorq.current().meta))
            return len(self.lines)

        @actorq.task(name="hang")
        async def hang() -> None:
            await trio.sleep_forever()

        self.note = note
        self.hang = hang


@asynccontextmanager
async def node(place: str, notes: Notes) -> AsyncGenerator[actorq.Client]:
    """Open a queue node and a client of it, which are one in a closed system."""
    tasks = [notes.note, notes.hang]
    if place == "here":
        async with actorq.open_system(processes=0, tasks=tasks, instruments=()) as system:
            yield system
    else:
        async with open_queue(concurrency=2, tasks=tasks), open_client() as client:
            yield client


PLACES = pytest.mark.parametrize("place", ["here", "elsewhere"])


# --- queues --------------------------------------------------------------------------------------


@PLACES
async def test_a_paused_queue_starts_nothing_until_it_is_resumed(
    autojump_clock: MockClock, place: str
) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        await client.pause("default")
        handle = await client.submit(notes.note, "a")
        await trio.sleep(60)  # virtual
        assert notes.lines == []
        assert (await client.stats()).queues["default"].paused

        await client.resume("default")

        assert await handle.value() == 1
        assert not (await client.stats()).queues.get("default", actorq.QueueStats()).paused


@PLACES
async def test_why_says_what_a_task_waits_for(autojump_clock: MockClock, place: str) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        await client.pause("default")
        handle = await client.submit(notes.note, "a")

        assert "paused" in await client.why(handle.id)
        with pytest.raises(actorq.TaskNotFound):
            await client.why("nobody")


@pytest.mark.parametrize("queue", ["", "q" * 201, "a\0b"])
async def test_what_cannot_be_a_queue_is_not_paused(autojump_clock: MockClock, queue: str) -> None:
    async with actorq.open_system(concurrency=0, processes=0) as system:
        with pytest.raises(ValueError, match="queue must be 1 to 200 characters"):
            await system.pause(queue)
        with pytest.raises(ValueError, match="queue must be 1 to 200 characters"):
            await system.resume(queue)


# --- schedules -----------------------------------------------------------------------------------


@PLACES
async def test_a_schedule_submits_its_message_again_and_again(
    autojump_clock: MockClock, place: str
) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        message = notes.note.options(meta={"by": "me"}).message("tick")
        await client.schedule(message, Every(60), name="minutely")

        await trio.sleep(150)  # virtual

        assert notes.lines == ["tick", "tick"]
        assert [(meta["by"], meta["schedule"]) for meta in notes.meta] == [("me", "minutely")] * 2
        (info,) = await client.schedules()
        assert (info.name, info.task, info.timing) == ("minutely", "note", "every 60 s")
        assert info.last_id is not None
        assert (await client.result(info.last_id)).value == 2
        assert info.last_at is not None
        assert info.last_at.isoformat() == notes.meta[-1]["tick"]
        assert info.next_at is not None
        assert (info.next_at - info.last_at).total_seconds() == pytest.approx(60, abs=1e-5)


@PLACES
async def test_a_schedule_can_be_run_paused_resumed_and_removed(
    autojump_clock: MockClock, place: str
) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        await client.schedule(notes.note.message("tick"), Every(60), name="minutely")

        await client.pause_schedule("minutely")
        handle = await client.run_schedule("minutely")
        assert await handle.value() == 1
        assert (handle.name, handle.existing) == ("note", False)
        await trio.sleep(90)  # virtual
        assert len(notes.lines) == 1
        assert [info.paused for info in await client.schedules()] == [True]

        await client.resume_schedule("minutely")
        await trio.sleep(60)  # virtual
        assert len(notes.lines) == 2

        await client.remove_schedule("minutely")
        await trio.sleep(600)  # virtual
        assert len(notes.lines) == 2
        assert await client.schedules() == []


@PLACES
async def test_an_unknown_schedule_is_an_error_that_lists_the_others(
    autojump_clock: MockClock, place: str
) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        await client.schedule(notes.note.message(), Every(60), name="minutely")
        for verb in (
            client.run_schedule,
            client.pause_schedule,
            client.resume_schedule,
            client.remove_schedule,
        ):
            with pytest.raises(actorq.ScheduleNotFound, match=r"'hourly'.*: 'minutely'") as caught:
                await verb("hourly")
            assert caught.value.name == "hourly"


@PLACES
async def test_a_task_can_be_scheduled_by_its_name_alone(
    autojump_clock: MockClock, place: str
) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        message = client.message("note", ("by name",), {})
        await client.schedule(message, Every(60), name="minutely")

        await trio.sleep(61)  # virtual

        assert notes.lines == ["by name"]


async def test_a_cron_ticks_at_the_owners_wall_clock(autojump_clock: MockClock) -> None:
    notes = Notes()
    async with node("here", notes) as client:
        await client.schedule(notes.note.message(), Cron("*/5 * * * *"), name="often")

        await trio.sleep(3_600)  # virtual

        assert len(notes.lines) == 12
        assert {meta["tick"][14:] for meta in notes.meta} == {
            f"{minute:02}:00+00:00" for minute in range(0, 60, 5)
        }


async def test_a_tick_that_is_dropped_is_told(autojump_clock: MockClock) -> None:
    ears, notes = Ears(), Notes()
    async with actorq.open_system(processes=0, instruments=[ears]) as system:
        await system.schedule(notes.hang.message(), Every(60), name="minutely")

        await trio.sleep(130)  # virtual

        (dropped,) = ears.of(EventKind.TICK_DROPPED)
        assert dropped.details["schedule"] == "minutely"
        assert "is still live" in dropped.details["why"]


async def test_a_schedule_survives_the_queue_actor(autojump_clock: MockClock) -> None:
    notes = Notes()
    async with actorq.open_system(processes=0, instruments=()) as system:
        await system.schedule(notes.note.message("tick"), Every(60), name="minutely")
        await trio.sleep(90)  # virtual

        crash(system)
        await trio.sleep(60)  # virtual

        assert notes.lines == ["tick", "tick"]


async def test_a_schedule_in_a_file_survives_the_system(tmp_path: Path) -> None:
    notes, url = Notes(), f"sqlite:///{tmp_path / 'tasks.db'}"
    timing = Cron("0 3 * * *", "Europe/Zurich")
    async with actorq.open_system(url, tasks=[notes.note], processes=0) as system:
        message = notes.note.options(meta={"by": "me"}).message("kept")
        await system.schedule(message, timing, name="nightly", catch_up="all", overlap="queue")
        await system.schedule(notes.note.message(), Every(3_600), name="hourly")
        await system.pause_schedule("hourly")
        before = await system.schedules()

    async with actorq.open_system(url, tasks=[notes.note], processes=0) as system:
        assert await system.schedules() == before
        assert [info.paused for info in before] == [True, False]
        handle = await system.run_schedule("nightly")
        assert (await handle.wait()).meta == {"by": "me", "schedule": "nightly"}
        assert notes.lines == ["kept"]
        await system.remove_schedule("hourly")

    async with actorq.open_system(url, tasks=[notes.note], processes=0) as system:
        assert await system.schedules() == before[1:]


def crash(system: actorq.System) -> None:
    queue = system._house.queue
    assert queue is not None
    queue._crash(RuntimeError("a test says so"))


async def test_a_run_that_is_asked_for_again_runs_once(autojump_clock: MockClock) -> None:
    runs: list[str] = []
    waiting: list[int] = []

    @actorq.task(name="cutter")
    async def cutter() -> int:
        cut(client)
        runs.append(actorq.current().id)
        waiting.append(len(client.session._unanswered))
        return len(runs)

    async with open_queue(concurrency=2, tasks=[cutter]), open_client() as client:
        await client.schedule(cutter.message(), Every(3_600), name="hourly")

        handle = await client.run_schedule("hourly")

        assert await handle.value() == 1
        assert runs == [handle.id]
        assert waiting == [1]  # so it was asked for again


@PLACES
async def test_each_verb_is_a_checkpoint(autojump_clock: MockClock, place: str) -> None:
    notes = Notes()
    async with node(place, notes) as client:
        for verb in (
            lambda: client.pause("q"),
            lambda: client.resume("q"),
            lambda: client.schedule(notes.note.message(), Every(60), name="a"),
            client.schedules,
            lambda: client.run_schedule("a"),
            lambda: client.pause_schedule("a"),
            lambda: client.resume_schedule("a"),
            lambda: client.remove_schedule("a"),
        ):
            with assert_checkpoints():
                await verb()


# --- what cannot be one --------------------------------------------------------------------------


async def test_what_is_no_schedule_is_an_error_where_it_is_written(
    autojump_clock: MockClock,
) -> None:
    notes = Notes()
    async with node("here", notes) as client:
        message, minutely = notes.note.message(), Every(60)
        with pytest.raises(TypeError, match="takes a message"):
            await client.schedule(notes.note, minutely, name="a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="timing must be a Cron or an Every"):
            await client.schedule(message, "0 3 * * *", name="a")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="name must be 1 to 200"):
            await client.schedule(message, minutely, name="")
        with pytest.raises(ValueError, match="catch_up must be"):
            await client.schedule(message, minutely, name="a", catch_up="no")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="option 'key' makes no sense"):
            await client.schedule(notes.note.options(key="k").message(), minutely, name="a")
        other = await client.submit(notes.note)
        with pytest.raises(ValueError, match="the output of another task"):
            await client.schedule(notes.note.message(other.output), minutely, name="a")
        assert await client.schedules() == []


async def test_an_actor_is_no_callback_of_a_schedule(autojump_clock: MockClock) -> None:
    async def listen(inbox: actorq.Mailbox[actorq.TaskDone]) -> None:
        async for _ in inbox:
            pass

    notes = Notes()
    async with actorq.open_system(processes=0) as system:
        ref = await system.spawn(listen)
        message = notes.note.options(callback=ref).message()

        with pytest.raises(TypeError, match="callback of a schedule must be a task"):
            await system.schedule(message, Every(60), name="a")


async def test_a_callback_task_is_submitted_for_each_tick(autojump_clock: MockClock) -> None:
    notes, done = Notes(), []

    async def note_down(one: actorq.TaskDone) -> None:
        done.append((one.result.value, one.data))

    async with actorq.open_system(processes=0, tasks=[notes.note]) as system:
        task = actorq.task(name="done")(note_down)
        message = notes.note.options(callback=task, callback_data="tick").message()
        await system.schedule(message, Every(60), name="a")

        await trio.sleep(130)  # virtual

    assert done == [(1, "tick"), (2, "tick")]


async def test_arguments_that_cannot_travel_are_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    notes = Notes()
    async with node("elsewhere", notes) as client:
        with pytest.raises(actorq.EncodeError):
            await client.schedule(notes.note.message(object()), Every(60), name="a")
        assert await client.schedules() == []


# --- on the decorator ----------------------------------------------------------------------------


def beating(beats: list[float], **options: Any) -> actorq.Task[[], Any]:
    @actorq.task(name="beat", schedule=Every(60), **options)
    async def beat() -> None:
        beats.append(trio.current_time())

    return beat


@pytest.mark.parametrize("encode", [False, True])
async def test_a_task_with_a_schedule_runs_by_itself_where_it_is_hosted(
    autojump_clock: MockClock, encode: bool
) -> None:
    beats: list[float] = []
    task = beating(beats, queue="beats", meta={"a": 1})
    async with actorq.open_system(processes=0, tasks=[task], encode=encode) as system:
        await trio.sleep(130)  # virtual

        assert len(beats) == 2
        (info,) = await system.schedules()
        assert (info.name, info.task) == ("beat", "beat")
        assert info.last_id is not None
        result = await system.result(info.last_id)
        assert result.queue == "beats"
        assert result.meta["a"] == 1
        assert result.meta["schedule"] == "beat"


async def test_a_task_that_is_only_submitted_somewhere_has_no_schedule_there(
    autojump_clock: MockClock,
) -> None:
    beats: list[float] = []
    async with actorq.open_system(processes=0) as system:
        await system.call(beating(beats))

        assert await system.schedules() == []


async def test_a_worker_elsewhere_brings_the_schedules_of_its_tasks(
    autojump_clock: MockClock,
) -> None:
    beats: list[float] = []
    async with open_queue() as system:
        assert await system.schedules() == []
        async with open_hand(tasks=[beating(beats)], concurrency=1) as worker:
            await worker.wait_connected()
            await until(lambda: beats)
            worker_went = trio.current_time()
        await trio.sleep(90)  # virtual: its schedule stays, and its tick waits
        async with open_hand(tasks=[beating(beats)], concurrency=1) as worker:
            await worker.wait_connected()
            await until(lambda: len(beats) == 2)

    assert beats[1] - worker_went > 60


async def test_a_schedule_of_a_decorator_can_be_paused_for_good(
    autojump_clock: MockClock,
) -> None:
    beats: list[float] = []
    async with open_queue() as system:
        for _ in range(2):
            async with open_hand(tasks=[beating(beats)], concurrency=1) as worker:
                await worker.wait_connected()
                await wait_all_tasks_blocked()
                await system.pause_schedule("beat")
                await trio.sleep(120)  # virtual

    assert beats == []
