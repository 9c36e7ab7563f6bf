import pytest
import trio

from actorq.testing.clock import VirtualClock, current_clock


def test_time_jumps_when_nobody_has_anything_to_do() -> None:
    async def main() -> tuple[float, float]:
        began = trio.current_time()
        await trio.sleep(10_000)  # virtual
        return began, trio.current_time()

    assert trio.run(main, clock=VirtualClock()) == (0.0, 10_000.0)


def test_what_is_on_the_timetable_happens_at_its_time_and_in_order() -> None:
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        clock = current_clock()
        for name, when in (("later", 2.0), ("first", 1.0), ("second", 1.0)):
            clock.at(when, lambda name=name: seen.append((name, trio.current_time())))
        await trio.sleep(3)  # virtual

    trio.run(main, clock=VirtualClock())

    assert seen == [("first", 1.0), ("second", 1.0), ("later", 2.0)]


def test_what_happens_may_wake_a_task() -> None:
    async def main() -> float:
        event = trio.Event()
        current_clock().at(5.0, event.set)
        await event.wait()
        return trio.current_time()

    assert trio.run(main, clock=VirtualClock()) == 5.0


async def test_another_clock_is_refused() -> None:
    with pytest.raises(TypeError, match="VirtualClock"):
        current_clock()
