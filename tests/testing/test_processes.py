import gc

import trio
from trio._core import _run as trio_run

from actorq.system import house
from actorq.testing.clock import VirtualClock
from actorq.testing.processes import Process, here, seeded


async def ticking(seen: list[float]) -> None:
    while True:
        seen.append(trio.current_time())
        await trio.sleep(1)  # virtual


def test_a_held_process_does_nothing_and_finds_what_has_come_when_it_goes_on() -> None:
    seen: list[float] = []

    async def main() -> None:
        process = Process("alice")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run, lambda: ticking(seen))
            await trio.sleep(1.5)  # virtual
            process.hold()
            await trio.sleep(5)  # virtual
            process.go_on()
            await trio.sleep(1.2)  # virtual
            await process.bury()

    trio.run(main, clock=VirtualClock())

    assert seen == [0.0, 1.0, 6.5, 7.5]


def test_tasks_that_stand_apart_go_on() -> None:
    main_loop: list[float] = []
    thread: list[float] = []

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticking, main_loop)
            nursery.start_soon(ticking, thread, name="thread")

    async def main() -> None:
        process = Process("alice")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run, both)
            await trio.sleep(0.5)  # virtual
            process.hold(lambda task: task.name == "thread")
            await trio.sleep(2)  # virtual
            await process.bury()

    trio.run(main, clock=VirtualClock())

    assert len(main_loop) == 1
    assert thread[:3] == [0.0, 1.0, 2.0]


def test_the_dead_do_not_even_clean_up_until_they_are_buried() -> None:
    seen: list[str] = []

    async def life() -> None:
        try:
            await trio.sleep(1)  # virtual
        finally:
            seen.append("cleaned up")

    async def main() -> None:
        process = Process("alice")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run, life)
            await trio.sleep(0.5)  # virtual
            process.die()
            process.go_on()
            await trio.sleep(10)  # virtual
            assert seen == []
            await process.bury()
            assert seen == ["cleaned up"]

    trio.run(main, clock=VirtualClock())


def test_a_task_knows_in_which_process_it_is() -> None:
    async def main() -> None:
        process = Process("alice")
        found: list[Process | None] = []

        async def look() -> None:
            found.append(here())

        await process.run(look)
        assert found == [process]

    trio.run(main)
    assert here() is None


def order(seed: int) -> tuple[list[int], str, float]:
    """The order in which trio runs tasks, a name, and what another source draws."""
    ran: list[int] = []

    async def run(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            ran.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(run, number)

    with seeded(seed) as random:
        trio.run(main, clock=VirtualClock())
        return ran, house.token_hex(8), random.random()


def test_all_chance_comes_from_the_seed() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)


def test_everything_is_put_back() -> None:
    before = (house.token_hex, trio_run._r.getstate(), gc.isenabled(), house.__dict__.copy())

    order(1)

    assert (house.token_hex, trio_run._r.getstate(), gc.isenabled(), house.__dict__) == before
