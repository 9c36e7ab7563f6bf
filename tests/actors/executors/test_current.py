"""What a running task can ask about itself."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.actors.executors.current import Current
from actorq.model.results import Progress


def facts() -> tuple[object, ...]:
    current = actorq.current()
    return current.id, current.name, current.attempt, current.meta, current.deadline


async def async_facts() -> tuple[object, ...]:
    return facts()


@pytest.mark.parametrize("function", [facts, async_facts])
async def test_a_task_knows_its_id_name_attempt_and_meta(function: object) -> None:
    task = actorq.task(name="who", meta={"user": 7})(function)
    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(task)

        assert await handle.value() == (handle.id, "who", 1, {"user": 7}, None)


async def test_the_deadline_of_an_attempt_is_the_earlier_of_its_two_bounds(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with actorq.open_system(processes=0) as system:
        for options, deadline in [
            ({"timeout": 5}, 5),
            ({"deadline": 7}, 7),
            ({"timeout": 5, "deadline": 3}, 3),
        ]:
            *_, found = await system.call(actorq.task(**options)(async_facts))
            assert found == pytest.approx(deadline)


async def test_a_cancelled_coroutine_sees_the_flag_too(autojump_clock: trio.abc.Clock) -> None:
    seen = []

    async def careful() -> None:
        seen.append(actorq.current().cancelled)
        try:
            await trio.sleep_forever()
        finally:
            seen.append(actorq.current().cancelled)

    async with actorq.open_system(processes=0) as system:
        handle = await system.submit(careful)
        await wait_all_tasks_blocked()
        await handle.cancel()

    assert seen == [False, True]


async def test_code_that_a_task_calls_and_its_child_coroutines_see_it_too(
    autojump_clock: trio.abc.Clock,
) -> None:
    names = []

    async def child() -> None:
        names.append(actorq.current().name)

    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        await trio.to_thread.run_sync(lambda: names.append(actorq.current().name))

    async with actorq.open_system(processes=0) as system:
        await system.call(actorq.task(name="parent")(parent))

    assert names == ["parent", "parent"]


async def test_outside_of_a_task_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no task is running here"):
        actorq.current()

    async with actorq.open_system(processes=0) as system:
        await system.call(async_facts)
        with pytest.raises(RuntimeError, match="no task is running here"):
            actorq.current()


async def test_without_a_lifespan_there_are_no_resources(autojump_clock: trio.abc.Clock) -> None:
    async def resources() -> object:
        return actorq.current().resources

    async with actorq.open_system(processes=0) as system:
        assert await system.call(resources) is None


def test_progress_is_a_plain_call_that_reports() -> None:
    reports: list[Progress] = []
    current = Current("id", "name", 1, None, {}, report=reports.append)

    current.progress(1)
    current.progress(2, 4, "half")

    assert reports == [Progress(1), Progress(2, 4, "half")]


def test_the_flag_can_be_set_from_any_thread() -> None:
    current = Current("id", "name", 1, None, {})
    assert not current.cancelled

    thread = threading.Thread(target=current.cancel)
    thread.start()
    thread.join()

    assert current.cancelled


def test_in_a_process_there_are_neither_resources_nor_progress() -> None:
    current = Current("id", "name", 1, None, {})

    with pytest.raises(RuntimeError, match="there are no resources"):
        _ = current.resources
    with pytest.raises(RuntimeError, match="cannot report progress"):
        current.progress(1)
