import pytest

from actorq.machines.states import BrokenRule, Move, target
from actorq.model.status import TaskStatus

EVERYWHERE = [None, *TaskStatus]
TERMINAL = {status for status in TaskStatus if status.terminal}


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("status", EVERYWHERE)
def test_a_move_is_in_the_table_or_breaks_a_rule(move: Move, status: TaskStatus | None) -> None:
    if status in move.targets:
        assert target(move, status) is move.targets[status]
    else:
        with pytest.raises(BrokenRule, match=f"'{move.word}' is no move of a task that is"):
            target(move, status)


def test_nothing_but_a_retry_leaves_a_terminal_status() -> None:
    leaving = {move for move in Move if TERMINAL & move.targets.keys()}

    assert leaving == {Move.REVIVE, Move.REVIVE_TO_WAIT}


def test_a_success_is_never_left() -> None:
    assert not any(TaskStatus.SUCCESS in move.targets for move in Move)


def test_only_a_grant_starts_a_task_and_only_of_a_pending_one() -> None:
    starts = {
        (move, status)
        for move in Move
        for status, to in move.targets.items()
        if to is TaskStatus.RUNNING
    }

    assert starts == {(Move.GRANT, TaskStatus.PENDING)}


def test_only_what_runs_can_succeed() -> None:
    assert Move.SUCCEED.targets == {TaskStatus.RUNNING: TaskStatus.SUCCESS}
    assert [m for m in Move if TaskStatus.SUCCESS in m.targets.values()] == [Move.SUCCEED]


def test_every_live_task_can_be_cancelled() -> None:
    assert Move.CANCEL.targets.keys() == set(TaskStatus) - TERMINAL
    assert set(Move.CANCEL.targets.values()) == {TaskStatus.CANCELLED}


def test_a_new_task_is_pending_or_scheduled_or_waits() -> None:
    first = {to for move in Move for status, to in move.targets.items() if status is None}

    assert first == {TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.WAITING}


def test_what_waits_for_others_is_never_granted_before_it_is_released() -> None:
    left = {move: to for move in Move if (to := move.targets.get(TaskStatus.WAITING))}

    assert TaskStatus.RUNNING not in left.values()
    assert {move for move, to in left.items() if not to.terminal} == {
        Move.RELEASE, Move.RELEASE_EARLY,
    }  # fmt: skip


def test_every_status_is_reached_and_every_live_one_is_left() -> None:
    reached = {to for move in Move for to in move.targets.values()}
    left = {status for move in Move for status in move.targets}

    assert reached == set(TaskStatus)
    assert left >= set(TaskStatus) - TERMINAL


def test_every_move_has_a_word_of_its_own() -> None:
    assert len({move.word for move in Move}) == len(Move)
