"""Erlang/OTP's rules for supervisors, one test each; test_supervision_model.py mixes them."""

from collections.abc import Callable
from math import inf

import pytest

from actorq.machines.restarts import Backoff
from actorq.machines.supervision import (
    RESTART_TYPES,
    Died,
    Effect,
    GaveUp,
    Remove,
    Restarting,
    RestartType,
    Start,
    Stop,
    Strategy,
    Supervision,
)

STEADY = Backoff(first=1, most=1, jitter=0)
AT_ONCE = Backoff(first=0, most=0, jitter=0)
BOOM = ValueError("boom")
GROUPS: tuple[Strategy, ...] = ("one_for_all", "rest_for_one")


def word(effect: Effect) -> str:
    match effect:
        case Start(id):
            return f"start {id}"
        case Stop(id, final):
            return f"{'end' if final else 'stop'} {id}"
        case Restarting(id):
            return f"restarting {id}"
        case Died(id):
            return f"died {id}"
        case Remove(id):
            return f"removed {id}"
        case GaveUp(id):
            return f"gave up over {id}"


class Family:
    """A machine, its clock, and what it wants in words; ``names`` are up at once.

    "stop" is with another child, "end" is for good.
    """

    def __init__(
        self,
        names: str = "",
        strategy: Strategy = "one_for_one",
        *,
        restart: RestartType = "permanent",
        intensity: int = 3,
        period: float = 5.0,
        backoff: Backoff = STEADY,
        apart: bool = False,
    ) -> None:
        self.machine = Supervision(
            strategy, intensity=intensity, period=period, backoff=backoff, apart=apart
        )
        self.now = 100.0
        self.gave_up: GaveUp | None = None
        for name in names:
            self.adopt(name, restart)
            self.up(name)

    def say(self, effects: list[Effect]) -> list[str]:
        for effect in effects:
            if isinstance(effect, GaveUp):
                self.gave_up = effect
        return [word(effect) for effect in effects]

    def adopt(self, name: str, restart: RestartType = "permanent") -> list[str]:
        return self.say(self.machine.adopt(name, restart, self.now))

    def up(self, name: str) -> list[str]:
        return self.say(self.machine.started(name, self.now))

    def returns(self, name: str) -> list[str]:
        return self.say(self.machine.exited(name, self.now, None))

    def crash(self, name: str, error: Exception = BOOM, spread: float = 0.0) -> list[str]:
        return self.say(self.machine.exited(name, self.now, error, spread))

    def stop(self, name: str) -> list[str]:
        return self.say(self.machine.stop(name, self.now))

    def close(self) -> list[str]:
        return self.say(self.machine.close(self.now))

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.say(self.machine.tick(self.now))

    def restarts(self, *names: str) -> None:
        """Have these crash, wait and be up again, one after the other."""
        for name in names:
            self.crash(name)
            assert self.wait(self.due_in()) == [f"start {name}"]
            self.up(name)

    def due_in(self) -> float:
        """Return in how many seconds there is something to do."""
        deadline = self.machine.next_deadline()
        return inf if deadline is None else deadline - self.now


def without_news(words: list[str]) -> list[str]:
    """Leave out what is only told."""
    return [word for word in words if word.split()[0] in {"start", "stop", "end"}]


# --- one child ------------------------------------------------------------------------------------


def test_a_new_child_is_started_and_nothing_else_happens_when_it_is_up() -> None:
    family = Family()

    assert family.adopt("a") == ["start a"]
    assert family.up("a") == []
    assert len(family.machine) == 1
    assert family.machine.next_deadline() is None


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [
        ("permanent", Family.returns, True),
        ("permanent", Family.crash, True),
        ("permanent", Family.stop, False),
        ("transient", Family.returns, False),
        ("transient", Family.crash, True),
        ("transient", Family.stop, False),
        ("temporary", Family.returns, False),
        ("temporary", Family.crash, False),
        ("temporary", Family.stop, False),
    ],
)
def test_the_restart_type_says_when_a_child_comes_back(
    restart: RestartType, how: Callable[[Family, str], list[str]], again: bool
) -> None:
    family = Family("a", restart=restart)

    if how(family, "a") == ["end a"]:
        family.returns("a")

    assert family.wait(10) == (["start a"] if again else [])
    assert len(family.machine) == again


@pytest.mark.parametrize("restart", RESTART_TYPES)
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_first_start_that_fails_is_nobody_elses_trouble(
    restart: RestartType, strategy: Strategy
) -> None:
    family = Family("a", strategy)
    family.adopt("b", restart)

    assert family.crash("b") == ["removed b"]
    assert family.wait(10) == []
    assert family.machine.next_deadline() is None


def test_a_crash_is_told_before_the_wait() -> None:
    family = Family("a")

    assert family.crash("a") == ["restarting a"]
    assert family.due_in() == 1


def test_a_child_is_started_again_when_its_wait_is_over_and_not_before() -> None:
    family = Family("a")
    family.crash("a")

    assert family.wait(0.9) == []
    assert family.wait(0.1) == ["start a"]
    assert family.wait(10) == []


def test_a_child_that_says_twice_that_it_is_up_is_up_once() -> None:
    family = Family("ab", "one_for_all", backoff=AT_ONCE)
    family.crash("a")

    assert family.returns("b") == ["start a"]
    assert family.up("a") == ["start b"]
    assert family.up("a") == []


def test_a_child_that_is_told_to_end_is_not_told_again() -> None:
    family = Family("a")

    assert family.stop("a") == ["end a"]
    assert family.stop("a") == []


@pytest.mark.parametrize("restart", RESTART_TYPES)
def test_a_child_that_crashes_while_it_ends_for_good_does_not_come_back(
    restart: RestartType,
) -> None:
    family = Family("a", restart=restart, intensity=0)
    family.stop("a")

    assert family.crash("a") == ["removed a"]
    assert family.wait(10) == []


def test_a_child_that_is_stopped_while_it_waits_for_its_restart_is_gone_at_once() -> None:
    family = Family("a")
    family.crash("a")

    assert family.stop("a") == ["removed a"]
    assert family.machine.next_deadline() is None


def test_a_child_that_is_stopped_while_it_starts_again_ends_for_good() -> None:
    family = Family("a")
    family.crash("a")
    family.wait(1)

    assert family.stop("a") == ["end a"]
    assert family.up("a") == []
    assert family.returns("a") == ["removed a"]


def test_a_child_that_is_stopped_while_it_starts_for_the_first_time_ends_for_good() -> None:
    family = Family()
    family.adopt("a")

    assert family.stop("a") == ["end a"]
    assert family.crash("a") == ["removed a"]


# --- one for one ----------------------------------------------------------------------------------


def test_one_for_one_restarts_only_the_child_that_crashed() -> None:
    family = Family("abc", "one_for_one")

    assert family.crash("b") == ["restarting b"]
    assert family.wait(1) == ["start b"]
    assert family.up("b") == []


def test_children_of_one_for_one_wait_side_by_side() -> None:
    family = Family("ab", backoff=Backoff(first=1, jitter=0), intensity=9)
    family.restarts("a", "a")
    family.crash("a")
    family.crash("b")

    assert family.wait(1) == ["start b"]
    assert family.wait(3) == ["start a"]


def test_children_of_one_for_one_whose_waits_are_over_start_together() -> None:
    family = Family("ab")
    family.crash("b")
    family.crash("a")

    assert sorted(family.wait(1)) == ["start a", "start b"]


# --- one for all ----------------------------------------------------------------------------------


def test_one_for_all_stops_everybody_in_reverse_and_starts_everybody_in_order() -> None:
    family = Family("abc", "one_for_all")

    assert family.crash("b") == ["restarting b", "stop c"]
    assert family.returns("c") == ["stop a"]
    assert family.returns("a") == []
    assert family.wait(1) == ["start a"]
    assert family.up("a") == ["start b"]
    assert family.up("b") == ["start c"]
    assert family.up("c") == []


def test_one_for_all_starts_nobody_while_somebody_still_stops() -> None:
    family = Family("ab", "one_for_all")
    family.crash("a")

    assert family.wait(10) == []
    assert family.returns("b") == ["start a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_each_of_a_group_starts_only_when_the_one_before_it_is_up(strategy: Strategy) -> None:
    family = Family("abc", strategy)
    family.crash("a")
    family.returns("c")
    family.returns("b")

    assert family.wait(1) == ["start a"]
    assert family.wait(10) == []
    assert family.up("a") == ["start b"]
    assert family.wait(10) == []
    assert family.up("b") == ["start c"]


def test_a_failed_restart_of_one_for_all_takes_down_those_that_are_up_again() -> None:
    family = Family("abc", "one_for_all", backoff=AT_ONCE)
    family.crash("c")
    family.returns("b")
    family.returns("a")
    family.up("a")

    assert family.crash("b") == ["restarting b", "stop a"]
    assert family.returns("a") == ["start a"]


def test_a_crash_during_a_restart_of_one_for_all_begins_it_again() -> None:
    family = Family("abc", "one_for_all", backoff=AT_ONCE)
    family.crash("c")
    family.returns("b")
    family.returns("a")
    family.up("a")

    assert family.crash("a") == ["restarting a", "stop b"]
    assert family.up("b") == []
    assert family.returns("b") == ["start a"]
    assert family.up("a") == ["start b"]


# --- rest for one ---------------------------------------------------------------------------------


def test_rest_for_one_restarts_those_that_were_started_after_it() -> None:
    family = Family("abcd", "rest_for_one")

    assert family.crash("b") == ["restarting b", "stop d"]
    assert family.returns("d") == ["stop c"]
    assert family.returns("c") == []
    assert family.wait(1) == ["start b"]
    assert family.up("b") == ["start c"]
    assert family.up("c") == ["start d"]
    assert family.up("d") == []


def test_rest_for_one_leaves_the_others_alone_when_the_last_one_crashes() -> None:
    family = Family("abc", "rest_for_one")

    assert family.crash("c") == ["restarting c"]
    assert family.wait(1) == ["start c"]


def test_a_failed_restart_of_rest_for_one_takes_down_only_those_behind() -> None:
    family = Family("abc", "rest_for_one", backoff=AT_ONCE)
    family.crash("a")
    family.returns("c")
    family.returns("b")
    family.up("a")

    assert family.crash("b") == ["restarting b", "start b"]
    assert family.up("b") == ["start c"]


def test_an_earlier_child_that_crashes_during_a_restart_of_rest_for_one_begins_it_again() -> None:
    family = Family("abc", "rest_for_one")
    family.crash("b")
    family.returns("c")
    family.wait(1)

    assert family.crash("a") == ["restarting a", "stop b"]
    assert family.returns("b") == []
    assert family.wait(1) == ["start a"]
    assert family.up("a") == ["start b"]
    assert family.up("b") == ["start c"]


def test_an_earlier_child_that_crashes_while_the_rest_stops_goes_first_again() -> None:
    family = Family("abc", "rest_for_one", backoff=AT_ONCE)
    family.crash("b")

    assert family.crash("a") == ["restarting a"]
    assert family.returns("c") == ["start a"]
    assert family.up("a") == ["start b"]


def test_the_longest_wait_holds_for_all_that_it_takes_down() -> None:
    family = Family("ab", "rest_for_one", backoff=Backoff(first=1, jitter=0), intensity=9)
    family.restarts("b", "b")
    family.crash("b")

    assert family.crash("a") == ["restarting a"]
    assert family.wait(1) == ["start a"]
    assert family.up("a") == []
    assert family.wait(3) == ["start b"]


# --- those that go down with another --------------------------------------------------------------


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_temporary_bystander_ends_with_the_others_and_does_not_come_back(
    strategy: Strategy,
) -> None:
    family = Family("a", strategy, backoff=AT_ONCE)
    family.adopt("b", "temporary")
    family.up("b")

    assert family.crash("a") == ["restarting a", "end b"]
    assert family.returns("b") == ["removed b", "start a"]
    assert family.up("a") == []


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("how", [Family.returns, Family.crash])
def test_a_temporary_bystander_that_ends_by_itself_does_not_come_back(
    strategy: Strategy, how: Callable[[Family, str], list[str]]
) -> None:
    family = Family("a", strategy, backoff=AT_ONCE)
    for name, restart in {"b": "temporary", "c": "permanent"}.items():
        family.adopt(name, restart)
        family.up(name)
    family.crash("a")

    assert "removed b" in how(family, "b")
    assert family.returns("c") == ["start a"]
    assert family.up("a") == ["start c"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_transient_bystander_that_has_finished_is_not_restarted(strategy: Strategy) -> None:
    family = Family("abc", strategy, restart="transient", backoff=AT_ONCE)
    family.crash("a")

    assert family.returns("b") == ["removed b"]
    assert family.returns("c") == ["start a"]
    assert family.up("a") == ["start c"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_transient_bystander_that_was_stopped_is_restarted(strategy: Strategy) -> None:
    family = Family("ab", strategy, restart="transient", backoff=AT_ONCE)
    family.crash("a")

    assert family.returns("b") == ["start a"]
    assert family.up("a") == ["start b"]


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("who", ["b", "c"])
def test_a_bystander_that_crashes_while_it_goes_down_spends_no_restart(
    strategy: Strategy, who: str
) -> None:
    family = Family("abc", strategy, intensity=1, backoff=AT_ONCE)
    family.crash("a")

    assert without_news(family.crash(who)) == (["stop b"] if who == "c" else [])
    assert family.returns("bc".replace(who, ""))[-1] == "start a"


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_bystander_that_crashes_before_its_turn_to_go_down_is_told_of(strategy: Strategy) -> None:
    family = Family("abc", strategy, intensity=1)
    family.crash("a")

    assert family.crash("b") == ["restarting b"]
    assert family.returns("c") == []
    assert family.wait(1) == ["start a"]


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("how", [Family.returns, Family.crash])
def test_a_temporary_child_that_ends_takes_nobody_down(
    strategy: Strategy, how: Callable[[Family, str], list[str]]
) -> None:
    family = Family("", strategy, intensity=0)
    for name, restart in {"a": "temporary", "b": "permanent"}.items():
        family.adopt(name, restart)
        family.up(name)

    assert without_news(how(family, "a")) == []
    assert len(family.machine) == 1


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_transient_child_that_finishes_takes_nobody_down(strategy: Strategy) -> None:
    family = Family("ab", strategy, restart="transient", intensity=0)

    assert family.returns("a") == ["removed a"]


# --- somebody comes or goes during a restart ------------------------------------------------------


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_comes_during_a_restart_starts_at_once_and_holds_nobody_up(
    strategy: Strategy,
) -> None:
    """It may be a child in its start that wants it, and waits for it."""
    family = Family("ab", strategy, backoff=AT_ONCE)
    family.crash("a")

    assert family.adopt("c") == ["start c"]
    assert family.returns("b") == ["start a"]
    assert family.up("a") == ["start b"]
    assert family.up("c") == []


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_starts_for_the_first_time_during_a_crash_is_restarted_once_it_is_up(
    strategy: Strategy,
) -> None:
    family = Family("a", strategy, backoff=AT_ONCE)
    family.adopt("b")

    assert family.crash("a") == ["restarting a", "start a"]
    assert family.up("a") == []
    assert family.up("b") == ["stop b"]
    assert family.returns("b") == ["start b"]


@pytest.fixture(params=GROUPS)
def latecomer(request: pytest.FixtureRequest) -> Family:
    """Return a family in which a waits for 4 seconds, and b, which came meanwhile, for 1."""
    family = Family("a", request.param, backoff=Backoff(first=1, jitter=0), intensity=9)
    family.restarts("a", "a")
    family.crash("a")
    family.adopt("b")
    family.up("b")
    assert family.crash("b") == ["restarting b"]
    return family


def test_a_child_that_came_during_a_restart_and_crashes_waits_for_those_before_it(
    latecomer: Family,
) -> None:
    assert latecomer.wait(2) == []
    assert latecomer.wait(2) == ["start a"]
    assert latecomer.up("a") == ["start b"]


def test_a_child_that_only_waits_for_one_that_is_stopped_starts_at_once(latecomer: Family) -> None:
    assert latecomer.wait(2) == []
    assert latecomer.stop("a") == ["removed a", "start b"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_first_start_that_fails_during_a_restart_is_gone(strategy: Strategy) -> None:
    family = Family("a", strategy)
    family.adopt("b")
    family.crash("a")

    assert family.crash("b") == ["removed b"]
    assert family.wait(1) == ["start a"]
    assert family.up("a") == []


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_is_stopped_before_its_turn_to_go_down_does_not_come_back(
    strategy: Strategy,
) -> None:
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.crash("a")

    assert family.stop("b") == ["end b"]
    assert family.returns("c") == []
    assert family.returns("b") == ["removed b", "start a"]
    assert family.up("a") == ["start c"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_is_stopped_while_it_goes_down_does_not_come_back(strategy: Strategy) -> None:
    family = Family("ab", strategy, backoff=AT_ONCE)
    family.crash("a")

    assert family.stop("b") == ["end b"]
    assert family.returns("b") == ["removed b", "start a"]
    assert family.up("a") == []


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_is_stopped_while_it_is_down_does_not_hold_up_the_others(
    strategy: Strategy,
) -> None:
    family = Family("ab", strategy, backoff=AT_ONCE)
    family.crash("a")
    family.returns("b")

    assert family.stop("b") == ["removed b"]
    assert family.up("a") == []


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_is_stopped_while_it_starts_again_does_not_hold_up_the_others(
    strategy: Strategy,
) -> None:
    family = Family("ab", strategy, backoff=AT_ONCE)
    family.crash("a")
    family.returns("b")

    words = family.stop("a") + family.returns("a")

    assert words[0] == "end a"
    assert sorted(words) == ["end a", "removed a", "start b"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_the_child_that_crashed_may_be_stopped_while_the_others_go_down(
    strategy: Strategy,
) -> None:
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.crash("a")

    assert family.stop("a") == ["removed a"]
    assert family.returns("c") == ["stop b"]
    assert family.returns("b") == ["start b"]
    assert family.up("b") == ["start c"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_restart_waits_for_a_child_behind_that_is_ending_for_good(strategy: Strategy) -> None:
    """It was started before, and would meet the new ones; OTP would not even see the crash yet."""
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.stop("c")

    assert family.crash("a") == ["restarting a"]
    assert family.returns("c") == ["removed c", "stop b"]
    assert family.returns("b") == ["start a"]


# --- the budget -----------------------------------------------------------------------------------


def test_more_crashes_than_the_intensity_end_the_family_in_reverse() -> None:
    family = Family("abc", intensity=1)
    family.restarts("b")

    assert family.crash("b") == ["died b", "removed b", "end c"]
    assert family.returns("c") == ["removed c", "end a"]
    assert family.returns("a") == ["removed a", "gave up over b"]
    assert len(family.machine) == 0


def test_giving_up_names_the_crashes_within_the_period() -> None:
    family = Family("a", intensity=1, period=5)
    errors = [ValueError(n) for n in range(3)]
    for error, wait in zip(errors, (6, 2, 0), strict=True):
        family.crash("a", error)
        family.wait(wait)

    assert family.gave_up == GaveUp("a", tuple(errors[1:]))


def test_an_intensity_of_zero_allows_no_restart() -> None:
    family = Family("a", intensity=0)

    assert family.crash("a") == ["died a", "removed a", "gave up over a"]


def test_the_intensity_counts_the_crashes_of_all_children() -> None:
    family = Family("abc", intensity=2)
    family.crash("a")
    family.crash("b")

    assert family.crash("c")[0] == "died c"


def test_the_period_slides() -> None:
    family = Family("a", intensity=2, period=5)
    family.crash("a")
    family.wait(3)
    family.crash("a")
    family.wait(3)

    assert family.crash("a") == ["restarting a"]
    assert family.wait(1) == ["start a"]
    assert family.crash("a")[0] == "died a"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_restart_that_fails_counts_as_a_crash(strategy: Strategy) -> None:
    family = Family("a", strategy, intensity=2)
    family.crash("a")
    family.wait(1)
    family.crash("a")
    family.wait(1)

    assert family.crash("a") == ["died a", "removed a", "gave up over a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_crash_counts_once_however_many_it_takes_down(strategy: Strategy) -> None:
    family = Family("abc", strategy, intensity=1, backoff=AT_ONCE)
    family.crash("a")
    for name in "cb":
        family.returns(name)
    for name in "abc":
        family.up(name)

    assert family.machine.closing is False
    assert len(family.machine) == 3


def test_what_never_comes_back_spends_no_restart() -> None:
    family = Family("a", intensity=0)
    for name, restart in {"b": "temporary", "c": "transient"}.items():
        family.adopt(name, restart)
        family.up(name)

    assert without_news(family.crash("b") + family.returns("c")) == []
    assert family.machine.closing is False


def test_a_crash_that_is_not_followed_by_a_restart_is_told() -> None:
    family = Family("ab", intensity=0, restart="temporary")

    assert family.crash("a") == ["died a", "removed a"]
    assert family.returns("b") == ["removed b"]


def test_giving_up_forgets_those_that_wait_for_their_restart() -> None:
    family = Family("abc", intensity=1)
    family.crash("a")

    assert family.crash("b") == ["died b", "removed b", "removed a", "end c"]
    assert family.machine.next_deadline() is None


def test_a_child_that_crashes_after_giving_up_is_gone() -> None:
    family = Family("abc", intensity=0)
    family.crash("c")

    assert family.crash("a") == ["died a", "removed a"]
    assert family.crash("b") == ["removed b", "gave up over c"]


def test_giving_up_is_said_once() -> None:
    family = Family("a", intensity=0)
    family.crash("a")

    assert family.close() == []


# --- apart ----------------------------------------------------------------------------------------


def test_apart_each_child_has_a_budget_of_its_own() -> None:
    family = Family("ab", apart=True, intensity=1)
    family.restarts("a")

    assert family.crash("b") == ["restarting b"]
    assert family.crash("a") == ["died a", "removed a"]


def test_apart_only_the_child_that_crashes_too_often_is_lost() -> None:
    family = Family("ab", apart=True, intensity=0)
    family.crash("a")

    assert family.machine.closing is False
    assert family.adopt("c") == ["start c"]
    assert len(family.machine) == 2


def test_a_private_supervisor_is_called_apart() -> None:
    assert Supervision(apart=True).policy == "apart"
    assert Supervision("rest_for_one").policy == "rest_for_one"


# --- closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_closing_ends_the_children_in_reverse_one_after_the_other(strategy: Strategy) -> None:
    family = Family("abc", strategy)

    assert family.close() == ["end c"]
    assert family.returns("c") == ["removed c", "end b"]
    assert family.crash("b") == ["removed b", "end a"]
    assert family.returns("a") == ["removed a"]


def test_closing_without_children_has_nothing_to_do() -> None:
    assert Family().close() == []


def test_closing_waits_for_a_child_that_was_told_to_end_before() -> None:
    family = Family("ab")
    family.stop("b")

    assert family.close() == []
    assert family.returns("b") == ["removed b", "end a"]


def test_closing_twice_tells_nobody_twice() -> None:
    family = Family("ab")
    family.close()

    assert family.close() == []
    assert family.returns("b") == ["removed b", "end a"]


def test_closing_forgets_those_that_wait_for_their_restart() -> None:
    family = Family("ab")
    family.crash("b")

    assert family.close() == ["removed b", "end a"]
    assert family.machine.next_deadline() is None


def test_closing_ends_a_child_that_starts() -> None:
    family = Family("a")
    family.adopt("b")

    assert family.close() == ["end b"]
    assert family.up("b") == []
    assert family.returns("b") == ["removed b", "end a"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_closing_while_the_others_go_down_ends_them_for_good(strategy: Strategy) -> None:
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.crash("a")

    assert family.close() == ["removed a", "end c"]
    assert family.returns("c") == ["removed c", "end b"]
    assert family.returns("b") == ["removed b"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_child_that_fails_while_it_goes_down_in_a_closing_family_is_not_told_of_twice(
    strategy: Strategy,
) -> None:
    """Whoever runs it tells of a failure to stop, as of any other."""
    family = Family("ab", strategy)
    family.adopt("c")
    family.crash("a")
    assert family.close() == ["removed a", "end c"]

    assert family.crash("b") == ["removed b"]
    assert family.returns("c") == ["removed c"]


@pytest.mark.parametrize("strategy", GROUPS)
def test_closing_while_the_others_come_up_starts_nobody_else(strategy: Strategy) -> None:
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.crash("a")
    family.returns("c")
    family.returns("b")

    assert family.close() == ["removed b", "removed c", "end a"]
    assert family.up("a") == []
    assert family.returns("a") == ["removed a"]


@pytest.mark.parametrize("restart", RESTART_TYPES)
def test_a_child_that_crashes_before_its_turn_to_end_is_gone(restart: RestartType) -> None:
    family = Family("ab", restart=restart, intensity=0)
    family.close()

    assert family.crash("a") == ["died a", "removed a"]
    assert family.returns("b") == ["removed b"]


@pytest.mark.parametrize("apart", [False, True])
def test_all_children_may_be_told_to_end_at_once(apart: bool) -> None:
    family = Family("abc", apart=apart)
    family.crash("b")

    assert family.say(family.machine.close(family.now, at_once=True)) == [
        "removed b", "end a", "end c",
    ]  # fmt: skip
    assert family.returns("a") == ["removed a"]
    assert family.crash("c") == ["removed c"]


def test_a_child_may_be_stopped_before_its_turn_to_end() -> None:
    family = Family("abc")
    family.close()

    assert family.stop("a") == ["end a"]
    assert family.returns("c") == ["removed c", "end b"]
    assert family.returns("b") == ["removed b"]


# --- retiring, and ends of the whole program ------------------------------------------------------


def test_a_retired_family_lives_on_and_starts_nothing_more() -> None:
    family = Family("abc", intensity=0)
    family.machine.retire()

    assert family.crash("a") == ["died a", "removed a"]
    assert family.returns("b") == ["removed b"]
    assert family.machine.closing is False
    assert len(family.machine) == 1


def test_retiring_forgets_those_that_wait_for_their_restart() -> None:
    family = Family("ab")
    family.crash("a")

    assert family.say(family.machine.retire()) == ["removed a"]
    assert family.machine.next_deadline() is None


@pytest.mark.parametrize("strategy", GROUPS)
def test_retiring_while_the_others_go_down_does_not_start_them(strategy: Strategy) -> None:
    family = Family("abc", strategy, backoff=AT_ONCE)
    family.crash("a")
    family.machine.retire()

    assert family.returns("c") == ["removed c"]
    assert family.wait(10) == []
    assert len(family.machine) == 1


def test_what_ends_the_whole_program_spends_no_restart_and_takes_nobody_down() -> None:
    family = Family("abc", "one_for_all", intensity=0)

    assert family.say(family.machine.abandoned("b", family.now)) == ["removed b"]
    assert family.close() == ["end c"]


def test_closing_goes_on_past_a_child_that_ended_the_whole_program() -> None:
    family = Family("ab")
    family.close()

    assert family.say(family.machine.abandoned("b", family.now)) == ["removed b", "end a"]


# --- waits ----------------------------------------------------------------------------------------


def test_waits_grow_with_each_crash_in_a_row_up_to_a_bound() -> None:
    family = Family("a", backoff=Backoff(first=1, most=5, jitter=0), intensity=99)
    waits = []
    for _ in range(5):
        family.crash("a")
        waits.append(family.due_in())
        family.wait(family.due_in())

    assert waits == [1, 2, 4, 5, 5]


def test_waits_of_one_child_are_not_those_of_another() -> None:
    family = Family("ab", backoff=Backoff(first=1, jitter=0), intensity=99)
    family.restarts("a", "a", "a")
    family.crash("b")

    assert family.due_in() == 1


def test_a_child_that_ran_for_long_waits_as_if_it_were_the_first_time() -> None:
    family = Family("a", backoff=Backoff(first=1, jitter=0, reset=60))
    family.restarts("a", "a")
    family.wait(60)
    family.crash("a")

    assert family.due_in() == 1


def test_the_time_before_a_restart_is_no_running_time() -> None:
    family = Family("a", backoff=Backoff(first=40, most=80, jitter=0, reset=60))
    family.restarts("a")
    family.wait(59)
    family.crash("a")

    assert family.due_in() == 80


@pytest.mark.parametrize(("spread", "wait"), [(-1, 0.8), (0, 1), (1, 1.2)])
def test_jitter_moves_a_wait_by_its_share(spread: float, wait: float) -> None:
    family = Family("a", backoff=Backoff(first=1, jitter=0.2))
    family.crash("a", spread=spread)

    assert family.due_in() == pytest.approx(wait)


def test_the_next_deadline_is_the_earliest_restart() -> None:
    family = Family("ab", backoff=Backoff(first=1, jitter=0), intensity=9)
    family.restarts("a")
    family.crash("a")
    family.crash("b")

    assert family.due_in() == 1
    family.wait(1)
    assert family.due_in() == 1
    family.wait(1)
    assert family.machine.next_deadline() is None


@pytest.mark.parametrize("strategy", GROUPS)
def test_the_next_deadline_of_a_group_is_when_its_wait_is_over(strategy: Strategy) -> None:
    family = Family("ab", strategy)
    family.crash("a")
    family.returns("b")

    assert family.due_in() == 1
    assert family.wait(1) == ["start a"]
    assert family.machine.next_deadline() is None


@pytest.mark.parametrize("strategy", GROUPS)
def test_a_group_that_took_longer_to_stop_than_its_wait_has_no_deadline(strategy: Strategy) -> None:
    family = Family("ab", strategy)
    family.crash("a")
    family.now += 10

    assert family.returns("b") == ["start a"]
    assert family.up("a") == ["start b"]
    assert family.machine.next_deadline() is None
