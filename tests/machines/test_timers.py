import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from actorq.machines.timers import Timers

KEYS = st.sampled_from("abcde")
TIMES = st.integers(0, 9).map(float)
ACTIONS = st.lists(
    st.tuples(st.just("set"), KEYS, TIMES)
    | st.tuples(st.just("clear"), KEYS)
    | st.tuples(st.just("due"), TIMES)
)


def test_no_alarm_is_ever_due() -> None:
    timers = Timers()

    assert timers.next() is None
    assert timers.due(1e12) == []
    assert len(timers) == 0


def test_alarms_ring_once_and_the_earliest_first() -> None:
    timers = Timers()
    for key, when in [("b", 2.0), ("c", 3.0), ("a", 1.0)]:
        timers.set(key, when)

    assert timers.next() == 1.0
    assert timers.due(2.0) == ["a", "b"]
    assert timers.due(2.0) == []
    assert timers.next() == 3.0


def test_an_alarm_is_moved_by_setting_it_again() -> None:
    timers = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)

    assert timers.due(4.0) == []
    assert timers.due(5.0) == ["a"]


def test_a_cleared_alarm_does_not_ring() -> None:
    timers = Timers()
    timers.set("a", 1.0)
    timers.clear("a")
    timers.clear("never set")

    assert timers.next() is None
    assert timers.due(9.0) == []


def test_an_alarm_set_to_the_same_time_again_rings_once() -> None:
    timers = Timers()
    for _ in range(3):
        timers.set("a", 1.0)
        timers.clear("a")
        timers.set("a", 1.0)

    assert timers.due(1.0) == ["a"]
    assert timers.due(1.0) == []


def test_cleared_and_moved_alarms_do_not_pile_up() -> None:
    timers = Timers()
    tracemalloc.start()
    for n in range(10_000):
        timers.set("moved", float(n))
        timers.set(f"cleared {n}", float(n))
        timers.clear(f"cleared {n}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(timers) == 1
    assert held < 50_000  # bytes; 20 000 entries would be more than a million


@given(ACTIONS)
def test_timers_are_a_dictionary_of_times(actions: list[tuple]) -> None:
    timers, model = Timers(), dict[str, float]()

    for verb, *args in actions:
        match verb, args:
            case "set", [key, when]:
                timers.set(key, when)
                model[key] = when
            case "clear", [key]:
                timers.clear(key)
                model.pop(key, None)
            case "due", [now]:
                due = sorted((when, key) for key, when in model.items() if when <= now)
                assert timers.due(now) == [key for _, key in due]
                for _, key in due:
                    del model[key]
        assert timers.armed == model
        assert timers.next() == min(model.values(), default=None)
