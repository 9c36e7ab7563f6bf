"""Who is there, and what is lost with those who are not; driven through the whole machine."""

import pytest
from msgspec.structs import replace

from actorq.machines.attending import LOSSES_MAX
from actorq.machines.effects import Send
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter
from actorq.model.options import Retry, TaskOptions
from actorq.model.records import Cancel, Follow, Output
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SCHEDULED, SUCCESS
from actorq.model.status import FailureKind as Kind
from tests.machines.stage import CLIENT, Guest, Stage, Worker, task

LEASE, WINDOW, BEAT = 15.0, 5.0, 3.0
LONG = 10_000.0

STEADY = Retry(attempts=3, delay=10, factor=2, jitter=0)


def healthy(*workers: Worker, seconds: float) -> None:
    """Let time pass while these workers beat."""
    stage = workers[0].stage
    end = stage.now + seconds
    while stage.now < end:
        stage.pass_time(min(1.0, end - stage.now))
        for worker in workers:
            worker.beat()


# --- clients that are cut ------------------------------------------------------------------------


def test_a_client_is_told_on_which_records_its_owner_rests() -> None:
    stage = Stage()

    guest, other = Guest(stage), Guest(stage, "other", at=51)
    first = guest.welcome
    guest.cut()
    guest.back()

    assert "records" in first.lineage
    assert first == guest.welcome == other.welcome


def test_a_client_that_is_back_within_its_window_has_lost_nothing() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"))

    guest.cut()
    stage.pass_time(WINDOW - 0.1)
    guest.back()
    stage.pass_time(LONG)

    assert (stage.status("a"), guest.lost, guest.welcome.losses) == (PENDING, 0, 0)


def test_every_cut_has_a_whole_window() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"))

    for _ in range(5):
        guest.cut()
        stage.pass_time(WINDOW - 0.1)
        guest.back()

    assert stage.status("a") is PENDING


def test_what_the_blocks_of_a_lost_client_own_is_cancelled() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"), task("b", scope="guest:2", delay=1_000), task("c"))
    stage.submit(task("d", scope="guest2:1"), task("e", scope="my:guest:1"))

    guest.cut()
    stage.pass_time(WINDOW + 0.1)

    assert [stage.status(id) for id in "ab"] == 2 * [CANCELLED]
    assert [stage.status(id) for id in "cde"] == 3 * [PENDING]
    cancel = stage.head("a").cancel
    assert cancel is not None
    assert (cancel.by, "out of reach" in str(cancel.reason)) == ("scope", True)
    assert stage.told(EventKind.CLIENT_LOST) == [{"session": "guest", "tasks": 2}]


def test_what_runs_for_a_lost_client_is_interrupted_and_has_its_grace() -> None:
    stage = Stage(grace=10)
    worker, guest = Worker(stage, 2), Guest(stage)
    guest.submit(task("a", scope="guest:1"), task("b", scope="guest:1"))

    guest.cut()
    stage.pass_time(WINDOW + 0.1)
    assert sorted(interrupt.id for interrupt in worker.interrupts) == ["a", "b"]
    worker.finish("a", "cancelled")
    stage.pass_time(11)

    assert [stage.status(id) for id in "ab"] == [CANCELLED, CANCELLED]
    assert [event["id"] for event in stage.told(EventKind.CANCEL_UNCONFIRMED)] == ["b"]


def test_a_lost_client_is_told_so_at_once_and_when_it_is_back() -> None:
    stage = Stage()
    guest = Guest(stage)

    for losses in (1, 2):
        guest.cut()
        stage.pass_time(WINDOW + 0.1)
        assert guest.lost == losses
        guest.back()
        assert guest.welcome.losses == losses


def test_a_client_that_is_given_up_for_another_reason_is_lost_at_once_and_once() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"), task("b"))

    stage.say(guest.connection, m.GiveUp())
    stage.say(guest.connection, m.Away())
    stage.disconnect(guest.connection)
    stage.pass_time(LONG)

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, PENDING)
    assert guest.lost == 1
    assert Guest(stage, at=51).welcome.losses == 1
    assert stage.told(EventKind.CLIENT_LOST) == [{"session": "guest", "tasks": 1}]


def test_nobody_is_given_up_on_the_word_of_a_stranger() -> None:
    stage = Stage()

    stage.say(666, m.GiveUp())

    assert stage.last == []


def test_a_lost_client_that_is_back_owns_tasks_again() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.cut()
    stage.pass_time(WINDOW + 0.1)

    guest.back()
    guest.submit(task("a", scope="guest:7"))
    stage.pass_time(LONG)
    assert stage.status("a") is PENDING

    guest.cut()
    stage.pass_time(WINDOW + 0.1)
    assert stage.status("a") is CANCELLED


def test_a_scope_of_which_nobody_has_heard_is_alive() -> None:
    stage = Stage()

    stage.submit(task("a", scope="unheard:1"))
    stage.pass_time(LONG)

    assert stage.status("a") is PENDING


def test_a_client_that_is_away_keeps_its_place_in_line() -> None:
    stage = Stage(max_pending=1)
    guest = Guest(stage)
    stage.submit(task("a"))
    parked = guest.submit(task("b"))
    later = stage.submit(task("c"))

    guest.cut()
    stage.pass_time(1)
    guest.back()
    stage.cancel("a")

    assert (parked.answered, later.answered) == (True, False)


def test_a_lost_client_leaves_the_line() -> None:
    stage = Stage(max_pending=1)
    guest = Guest(stage)
    stage.submit(task("a"))
    guest.submit(task("b"))
    later = stage.submit(task("c"))

    guest.cut()
    stage.pass_time(WINDOW + 0.1)
    stage.cancel("a")

    assert "b" not in stage.records
    assert later.answered


def test_a_watch_survives_a_cut() -> None:
    stage = Stage()
    worker, guest = Worker(stage), Guest(stage)
    guest.submit(task("a"))

    guest.cut()
    worker.finish("a")

    assert stage.outcomes(guest.connection) == [("a", SUCCESS)]  # for whoever stands for it to keep


def test_a_client_that_is_back_on_another_connection_is_not_lost_with_the_old_one() -> None:
    stage = Stage(max_pending=1)
    guest = Guest(stage, at=50)
    guest.submit(task("a", scope="guest:1"))
    parked = guest.submit(task("b"))
    guest.cut()

    guest.connect(at=51)
    stage.disconnect(50)
    stage.pass_time(LONG)
    stage.cancel("a")

    assert stage.status("a") is CANCELLED
    assert stage.head("a").cancel == Cancel("user")
    assert not parked.answered  # it is asked for again
    assert (guest.welcome.losses, "b" in stage.records) == (0, False)


def test_a_subscription_ends_with_a_cut_and_is_made_anew_once() -> None:
    stage = Stage()
    guest = Guest(stage)
    subscribe = m.Subscribe(stage.question(m.Join).message.request, 7, Filter())
    guest.stage.say(guest.connection, subscribe)

    guest.cut()
    guest.back()
    assert stage.left() == {}

    stage.say(guest.connection, subscribe)
    stage.submit(task("a"))
    news = [x for x in stage.inbox[guest.connection] if isinstance(x, m.News)]
    assert [len(one.events) for one in news] == [1]


def test_who_left_for_good_no_longer_waits_for_quiet() -> None:
    stage = Stage()
    guest = Guest(stage)
    stage.submit(task("a"))
    join = stage.ask(m.Join, origin=guest.connection)

    guest.leave()
    stage.cancel("a")

    assert not join.answered
    assert stage.left() == {}


def test_a_goodbye_ends_the_blocks_of_a_client_at_once() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"), task("b"))

    guest.leave()

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, PENDING)


def test_a_goodbye_with_nothing_left_is_no_loss() -> None:
    stage = Stage()
    guest, worker = Guest(stage), Worker(stage, leased=True)
    guest.submit(task("a", scope="guest:1"))
    worker.finish("a")

    guest.leave()
    stage.disconnect(worker.connection)

    assert stage.events == []
    assert Guest(stage, at=51).welcome.losses == 0


def test_a_client_in_this_process_is_there_until_it_leaves() -> None:
    stage = Stage()
    stage.say(CLIENT, m.ClientHello("local"))
    stage.submit(task("a", scope="local:1"))

    stage.pass_time(LONG)
    assert stage.machine.next_deadline() is None

    stage.disconnect(CLIENT)
    assert stage.status("a") is PENDING  # leaving its blocks is its own affair


def test_the_losses_that_are_remembered_are_bounded_and_the_oldest_goes_first() -> None:
    stage = Stage()
    first = Guest(stage, "first", at=50)
    first.cut()
    stage.pass_time(WINDOW + 0.1)

    for n in range(LOSSES_MAX):
        Guest(stage, f"guest {n}", at=60).cut()
        stage.pass_time(WINDOW + 0.1)

    assert Guest(stage, "first", at=50).welcome.losses == 0
    assert Guest(stage, "guest 0", at=60).welcome.losses == 1
    assert len(stage.machine._losses) == LOSSES_MAX


# --- workers that are not heard of ---------------------------------------------------------------


def test_a_worker_that_is_silent_for_a_lease_is_given_up() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.pass_time(LEASE - 0.1)
    assert (stage.status("a"), worker.lost) == (RUNNING, 0)

    stage.pass_time(0.2)

    head = stage.head("a")
    assert (head.status, head.attempts, head.deaths) == (PENDING, 0, 1)
    assert worker.lost == 1
    assert stage.told(EventKind.WORKER_LOST) == [{"worker": "w.0", "tasks": 1}]
    assert stage.told(EventKind.DELIVERY_LOST) == [{"id": "a", "name": "job", "deaths": 1}]


def test_a_beat_renews_the_lease() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    for _ in range(10):
        stage.pass_time(LEASE - 0.1)
        worker.beat()

    assert (stage.status("a"), stage.head("a").fence) == (RUNNING, 1)


def test_a_task_much_longer_than_the_lease_runs_once_on_a_healthy_worker() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    healthy(worker, seconds=10 * LEASE)
    worker.finish("a", output=Output(1))

    assert (worker.log, stage.output("a")) == (["a"], Output(1))
    assert stage.events == []


@pytest.mark.parametrize(("lag", "status"), [(60.0, RUNNING), (60.1, PENDING)])
def test_a_loop_that_stands_still_keeps_its_tasks_up_to_max_block(
    lag: float, status: object
) -> None:
    stage = Stage(max_block=60)
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    stage.pass_time(LEASE - 1)
    worker.beat(lag)
    stage.pass_time(2)

    assert stage.status("a") is status


def test_a_worker_whose_loop_stands_still_is_offered_nothing_and_then_again() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    worker.beat(BEAT + 0.1)
    stage.submit(task("a"))
    worker.say(worker.ready("main"))
    assert worker.log == []
    assert stage.ask(m.GetStats).value.pools["main"].free == 0

    worker.beat(0.5)

    assert worker.log == ["a"]
    assert stage.ask(m.GetStats).value.pools["main"].free == 1


def test_a_lag_of_one_beat_is_nothing() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)

    worker.beat(BEAT)
    stage.submit(task("a"))

    assert worker.log == ["a"]


def test_others_get_what_a_worker_that_stands_still_is_not_offered() -> None:
    stage = Stage()
    slow = Worker(stage, 5, name="slow.0", at=100, leased=True)
    quick = Worker(stage, 1, name="quick.0", at=200, leased=True)
    slow.beat(20.0)

    stage.submit(task("a"), task("b"))

    assert (slow.log, quick.log) == ([], ["a"])


def test_a_worker_that_comes_back_does_not_stand_still() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    worker.beat(20.0)
    worker.cut()
    stage.submit(task("a"))

    worker.back()

    assert worker.log == ["a"]
    assert stage.ask(m.GetStats).value.pools["main"].free == 1


def test_a_worker_that_was_granted_and_then_stands_still_keeps_its_credit() -> None:
    stage = Stage()
    worker = Worker(stage, 3, leased=True)
    stage.submit(task("a"))

    for _ in range(3):
        worker.beat(20.0)
        worker.beat(20.0)
        worker.finish(worker.log[-1])
        worker.beat()
        stage.submit(task(f"b{len(worker.log)}"))

    assert stage.ask(m.GetStats).value.pools["main"].free == 2


def test_a_worker_in_this_process_has_no_lease() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    worker.beat()
    assert stage.machine.next_deadline() is None
    stage.pass_time(LONG)
    assert stage.status("a") is RUNNING

    worker.say(m.Beat(20.0))
    worker.finish("a")
    stage.submit(task("b"))
    assert worker.log == ["a", "b"]  # it is the very loop of the owner that it runs in


def test_a_beat_of_a_stranger_is_ignored() -> None:
    stage = Stage()

    stage.say(666, m.Beat(0.0))

    assert (stage.last, stage.machine.next_deadline()) == ([], None)


# --- workers that are cut ------------------------------------------------------------------------


def test_a_worker_that_is_back_within_its_window_keeps_what_runs() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    worker.cut()
    stage.pass_time(WINDOW - 0.1)
    worker.back()
    stage.pass_time(WINDOW)
    worker.finish("a", output=Output(1))

    assert (worker.log, worker.revoked) == (["a"], [])
    assert stage.output("a") == Output(1)
    assert stage.events == []


def test_the_tasks_of_a_worker_that_is_cut_for_too_long_run_elsewhere_once() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    stage.submit(task("a"), task("b"))
    other = Worker(stage, 5, name="v.0", at=200)

    worker.cut()
    assert other.log == []
    stage.pass_time(WINDOW + 0.1)
    stage.pass_time(10 * LEASE)

    assert other.log == ["a", "b"]
    assert [stage.head(id).deaths for id in "ab"] == [1, 1]
    assert stage.told(EventKind.WORKER_LOST) == [{"worker": "w.0", "tasks": 2}]


def test_a_worker_that_is_cut_gets_nothing() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)

    worker.cut()
    stage.submit(task("a"))
    assert (stage.status("a"), stage.ask(m.GetStats).value.workers) == (PENDING, 0)

    worker.back()
    assert worker.log == ["a"]


def test_a_cut_does_not_extend_the_lease() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.pass_time(LEASE - 1)

    worker.cut()
    stage.pass_time(1.1)

    assert stage.status("a") is PENDING


def test_a_hello_renews_the_lease() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.pass_time(LEASE - 1)

    worker.cut()
    worker.back()
    stage.pass_time(LEASE - 0.1)

    assert stage.status("a") is RUNNING


def test_a_worker_that_is_away_can_not_beat() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    worker.cut()
    stage.pass_time(WINDOW - 1)
    worker.beat()
    stage.pass_time(1.1)

    assert stage.status("a") is PENDING


@pytest.mark.parametrize("at_most_once", [False, True])
def test_a_grant_that_was_lost_in_a_cut_spends_nothing(at_most_once: bool) -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    del stage.workers[worker.connection]  # what is sent to it from now on is lost
    stage.submit(task("a", at_most_once=at_most_once, max_deliveries=1))

    worker.cut()
    worker.back()

    head = stage.head("a")
    assert worker.log == ["a"]
    assert (head.attempts, head.deaths) == (0, 0)
    assert stage.events == []


def test_a_finish_that_was_lost_in_a_cut_counts_when_it_comes_again() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.cut()
    grant = worker.grants.pop("a")
    worker.unanswered["a", 1] = m.Finish("a", grant.head.fence, "ok", Output(1), None)

    worker.back()

    assert (stage.output("a"), stage.head("a").deaths) == (Output(1), 0)
    assert (worker.revoked, worker.unanswered) == ([], {})


def test_a_cancel_that_was_lost_in_a_cut_is_said_again_with_the_time_that_is_left() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.cut()
    stage.cancel("a", "enough", grace=10)
    stage.pass_time(4)

    worker.back()

    assert stage.last[:2] == [
        Send(worker.connection, m.Welcome(())),
        Send(worker.connection, m.Interrupt("a", 1, Cancel("user", "enough"), 6.0)),
    ]


def test_a_cancel_ends_a_task_whose_grant_was_lost_in_a_cut() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    del stage.workers[worker.connection]
    stage.submit(task("a"))
    cancel = stage.cancel("a")
    worker.cut()

    worker.back()

    assert (cancel.value.head.status, worker.log) == (CANCELLED, [])


def test_a_cancel_wins_over_a_lost_worker() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    cancel = stage.cancel("a", grace=60)

    worker.cut()
    stage.pass_time(WINDOW + 0.1)

    assert cancel.value.head.status is CANCELLED
    assert stage.left() == {}


def test_a_worker_is_told_what_it_has_lost_meanwhile() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    other = Worker(stage, 2, name="v.0", at=200)
    stage.submit(*(task(id) for id in "abcd"))
    mine = worker.log[:]
    worker.cut()
    stage.pass_time(WINDOW + 0.1)

    worker.back()

    assert sorted(id for id, _ in worker.revoked) == sorted(mine)
    assert all(stage.head(id).deaths == 0 for id in other.log)
    assert all(stage.head(id).deaths == 1 for id in mine)
    assert sorted(worker.grants) == sorted(mine)  # the new grants of what it had lost


def test_a_hello_answers_for_each_grant_keep_cancel_or_revoke() -> None:
    stage = Stage()
    worker = Worker(stage, 4, leased=True)
    stage.submit(*(task(id) for id in "abcd"))
    worker.cut()
    stage.cancel("b", grace=60)
    stage.cancel("c", grace=1)
    stage.pass_time(2)
    del worker.grants["d"]  # whose grant never came

    worker.back()

    assert worker.revoked == [("c", 1)]
    assert [interrupt.id for interrupt in worker.interrupts] == ["b"]
    assert sorted(worker.grants) == ["a", "b", "d"]
    assert (stage.head("a").fence, stage.head("d").fence) == (1, 2)


def test_a_goodbye_of_a_worker_delivers_again_at_once_what_it_still_held() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    other = Worker(stage, 0, name="v.0", at=200)
    stage.submit(task("a"))

    stage.disconnect(worker.connection)
    assert stage.status("a") is PENDING

    other.slots["main"] = 1
    other.say(other.ready("main"))
    assert other.log == ["a"]


# --- workers that die ----------------------------------------------------------------------------


def test_what_a_dead_process_held_is_delivered_again_at_once() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    other = Worker(stage, 1, name="v.0", at=200)
    stage.submit(task("a"))
    holder, free = (worker, other) if worker.log else (other, worker)
    holder.leased = True
    stage.workers.pop(holder.connection)

    died = stage.ask(m.WorkerDied, holder.node, origin=7)

    assert died.value is None
    assert free.log == ["a"]
    assert (stage.head("a").deaths, stage.head("a").worker) == (1, free.name)


def test_a_process_that_nobody_knows_may_die_too() -> None:
    stage = Stage()

    assert stage.ask(m.WorkerDied, "unknown").value is None
    assert stage.events == []


def test_a_process_dies_once() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    for _ in range(2):
        stage.ask(m.WorkerDied, worker.node)
    stage.say(worker.connection, m.Away())
    stage.pass_time(LONG)
    stage.disconnect(worker.connection)

    assert stage.head("a").deaths == 1
    assert len(stage.told(EventKind.WORKER_LOST)) == 1


def test_a_process_that_died_while_it_was_away_is_not_waited_for() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.cut()

    stage.ask(m.WorkerDied, worker.node)

    assert stage.status("a") is PENDING
    assert stage.machine.next_deadline() is None


def test_a_death_is_one_whether_the_task_had_started_or_not() -> None:
    stage = Stage()
    worker = Worker(stage, 2, leased=True)
    stage.submit(task("a"), task("b"))
    worker.start("a")

    stage.ask(m.WorkerDied, worker.node)

    assert [(stage.head(id).deaths, stage.head(id).attempts) for id in "ab"] == [(1, 1), (1, 0)]


def test_a_task_that_kills_its_process_again_and_again_is_dead_with_the_reason() -> None:
    stage = Stage()
    stage.submit(task("a", max_deliveries=3))

    for n in range(5):
        worker = Worker(stage, name=f"w{n}.0", at=100 + n, leased=True)
        stage.ask(m.WorkerDied, worker.node)

    assert (stage.status("a"), stage.head("a").deaths) == (FAILURE, 3)
    assert "max_deliveries is 3" in stage.output("a").error.message


def test_an_at_most_once_task_ends_with_its_worker() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a", at_most_once=True))

    stage.ask(m.WorkerDied, worker.node)

    assert stage.output("a").kind is Kind.LOST


def test_nobody_can_declare_a_worker_of_this_process_dead() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))

    stage.ask(m.WorkerDied, worker.node, origin=7)
    worker.finish("a")
    stage.submit(task("b"))

    assert (worker.log, stage.head("a").deaths) == (["a", "b"], 0)


# --- incarnations --------------------------------------------------------------------------------


def test_the_next_incarnation_on_the_same_connection_is_not_told_that_the_last_is_lost() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))

    worker.restart(worker.connection)

    assert (worker.lost, worker.log) == (0, ["a", "a"])
    assert (stage.head("a").worker, stage.head("a").deaths) == ("w.1", 1)
    healthy(worker, seconds=LONG / 100)
    assert stage.head("a").deaths == 1


def test_the_next_incarnation_after_a_cut_does_not_wait_for_the_window() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    worker.cut()

    worker.restart(worker.connection)

    assert (worker.lost, worker.log) == (0, ["a", "a"])


def test_whoever_speaks_for_the_last_incarnation_is_told_that_it_is_lost() -> None:
    stage = Stage()
    old = Worker(stage, name="w.0", at=100, leased=True)
    stage.submit(task("a"))

    new = Worker(stage, name="w.1", at=101, leased=True)
    stage.disconnect(old.connection)

    assert (old.lost, new.lost) == (1, 0)
    assert (new.log, stage.status("a")) == (["a"], RUNNING)


def test_a_worker_that_is_given_up_can_come_back_and_work() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.pass_time(LEASE + 0.1)

    worker.back()

    assert worker.revoked == [("a", 1)]
    assert worker.log == ["a", "a"]
    worker.finish("a", output=Output("second"))
    assert stage.output("a") == Output("second")


def test_a_late_result_of_a_worker_that_was_given_up_is_refused_and_reported() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    grant = worker.grants["a"]
    stage.pass_time(LEASE + 0.1)
    other = Worker(stage, name="v.0", at=200)
    worker.unanswered["a", 1] = m.Finish("a", grant.head.fence, "ok", Output("late"), None)
    del worker.grants["a"]

    worker.back()
    other.finish("a", output=Output("winner"))

    assert stage.output("a") == Output("winner")
    assert worker.revoked == [("a", 1)]
    assert stage.told(EventKind.STALE_RESULT) == [{"id": "a", "fence": 1, "cause": "ok"}]


# --- a new owner ---------------------------------------------------------------------------------


def test_after_a_restart_a_worker_has_a_window_to_come_back_in() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.crash()
    stage.tick()

    stage.say(CLIENT, m.ClientHello("local"))
    stage.pass_time(WINDOW - 0.1)
    assert stage.status("a") is RUNNING
    worker.connect(at=101)
    worker.finish("a", output=Output(1))

    assert (worker.log, stage.output("a")) == (["a"], Output(1))


def test_after_a_restart_a_worker_that_does_not_come_is_given_up_after_a_window() -> None:
    stage = Stage()
    Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.crash()

    stage.say(CLIENT, m.ClientHello("local"))
    stage.pass_time(WINDOW + 0.1)

    assert (stage.status("a"), stage.head("a").deaths) == (PENDING, 1)


def test_after_a_restart_a_worker_that_does_not_come_is_reported() -> None:
    stage = Stage()
    Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.crash()

    stage.pass_time(WINDOW + 0.1)

    assert stage.told(EventKind.WORKER_LOST) == [{"worker": "w.0", "tasks": 1}]


def test_after_a_restart_a_client_has_a_window_to_come_back_in() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"))
    stage.crash()

    stage.say(CLIENT, m.ClientHello("local"))
    stage.pass_time(WINDOW - 0.1)
    guest.connect(at=51)
    stage.pass_time(LONG)

    assert (stage.status("a"), guest.welcome.losses) == (PENDING, 0)


def test_after_a_restart_a_client_that_does_not_come_is_given_up_after_a_window() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"), task("b"))
    stage.crash()

    stage.say(CLIENT, m.ClientHello("local"))
    stage.pass_time(WINDOW + 0.1)

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, PENDING)
    assert Guest(stage, at=51).welcome.losses == 1


def test_after_a_restart_a_client_of_this_process_is_not_waited_for() -> None:
    stage = Stage()
    stage.say(CLIENT, m.ClientHello("local"))
    stage.submit(task("a", scope="local:1"))
    stage.crash()

    stage.say(CLIENT, m.ClientHello("local"))
    assert stage.machine.next_deadline() is None
    stage.pass_time(LONG)

    assert stage.status("a") is PENDING


def test_whoever_is_expected_after_a_restart_is_waited_for_even_if_nobody_comes() -> None:
    stage = Stage()
    Worker(stage, leased=True)
    stage.submit(task("a"), task("b", scope="guest:1"))

    stage.crash()
    stage.pass_time(WINDOW + 0.1)

    assert (stage.status("a"), stage.status("b")) == (PENDING, CANCELLED)


def test_a_client_that_is_away_when_the_owner_is_new_has_a_window() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"))
    guest.cut()
    stage.crash()

    guest.connect(at=51)  # whoever stands for it says that it is known, and that it is away
    guest.cut()
    stage.pass_time(WINDOW - 0.1)
    guest.back()
    stage.pass_time(LONG)

    assert (stage.status("a"), guest.welcome.losses) == (PENDING, 0)


def test_a_worker_died_while_the_owner_was_down() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.crash()

    stage.ask(m.WorkerDied, worker.node)

    assert (stage.status("a"), stage.head("a").deaths) == (PENDING, 1)


# --- an owner that stood still -------------------------------------------------------------------


def test_a_stall_of_the_owner_expires_nobody() -> None:
    stage = Stage()
    worker, guest = Worker(stage, leased=True), Guest(stage)
    guest.submit(task("a"), task("b", scope="guest:1"))
    guest.cut()
    stage.pass_time(1)

    stage.stall(1_000)
    stage.tick()

    assert (stage.status("a"), stage.status("b")) == (RUNNING, PENDING)
    assert (worker.lost, guest.lost) == (0, 0)
    (event,) = stage.told(EventKind.OWNER_STALLED)
    assert event["seconds"] == pytest.approx(1_000, abs=BEAT)


def test_a_stall_right_after_the_first_hello_expires_nobody() -> None:
    stage = Stage()
    stage.submit(task("a"))
    worker = Worker(stage, leased=True)

    stage.stall(LEASE + 5)
    stage.tick()

    assert (stage.status("a"), worker.lost) == (RUNNING, 0)


def test_a_stall_as_long_as_the_window_expires_nobody() -> None:
    stage = Stage()
    guest = Guest(stage)
    guest.submit(task("a", scope="guest:1"))
    guest.cut()

    stage.stall(WINDOW + 0.5)
    stage.tick()
    guest.back()
    stage.pass_time(LONG)

    assert (stage.status("a"), guest.lost) == (PENDING, 0)


def test_a_stall_extends_the_lease_and_does_not_begin_it_anew() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    stage.pass_time(LEASE - 5)

    stage.stall(1_000)
    stage.tick()
    stage.pass_time(1)
    assert stage.status("a") is RUNNING
    stage.pass_time(5 + BEAT)

    assert (stage.status("a"), worker.lost) == (PENDING, 1)


@pytest.mark.parametrize("awake", [0.5, 2.0])
def test_repeated_stalls_do_not_keep_a_dead_worker_for_ever(awake: float) -> None:
    stage = Stage()
    Worker(stage, leased=True)
    stage.submit(task("a"))

    for _ in range(20):
        stage.pass_time(awake)
        stage.stall(7)
        stage.tick()

    assert (stage.status("a"), stage.head("a").deaths) == (PENDING, 1)


def test_what_was_said_during_a_stall_counts_before_anybody_is_given_up() -> None:
    stage = Stage()
    worker, guest = Worker(stage, leased=True), Guest(stage)
    guest.submit(task("a"), task("b", scope="guest:1"))
    guest.cut()

    stage.stall(1_000)
    worker.beat()
    guest.back()
    stage.tick()
    stage.pass_time(LEASE - 0.1)

    assert (stage.status("a"), stage.status("b")) == (RUNNING, PENDING)


def test_an_owner_that_is_in_time_has_not_stalled() -> None:
    stage = Stage()
    worker, guest = Worker(stage, leased=True), Guest(stage)

    healthy(worker, seconds=100)
    guest.cut()
    stage.pass_time(100)

    assert stage.told(EventKind.OWNER_STALLED) == []


def test_idleness_without_leased_peers_is_no_stall() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.pass_time(1)
    stage.disconnect(worker.connection)

    stage.stall(LONG)  # nobody asked to be woken
    stage.submit(task("a"))
    stage.tick()

    assert stage.told(EventKind.OWNER_STALLED) == []


# --- nothing is left -----------------------------------------------------------------------------


def test_nobody_has_to_be_looked_after_without_leased_peers() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.say(CLIENT, m.ClientHello("local"))
    stage.submit(task("a"))
    assert stage.machine.next_deadline() is None

    guest, remote = Guest(stage), Worker(stage, name="r.0", at=200, leased=True)
    assert stage.machine.next_deadline() is not None

    guest.leave()
    stage.disconnect(remote.connection)
    assert stage.machine.next_deadline() is None
    worker.finish("a")


def test_a_connected_client_alone_needs_no_looking_after() -> None:
    stage = Stage()

    Guest(stage)

    assert stage.machine.next_deadline() is None


def test_nothing_is_left_of_peers_that_have_gone() -> None:
    stage = Stage(max_pending=1)
    for n in range(20):
        guest = Guest(stage, f"guest{n}", at=1_000 + n)
        worker = Worker(stage, name=f"w{n}.0", at=2_000 + n, tasks=["job"], leased=True)
        guest.submit(task(f"a{n}", scope=f"guest{n}:1", deadline=60))
        guest.submit(task(f"b{n}", name="other", scope=f"guest{n}:1"))
        guest.submit(task(f"c{n}", name="other", scope=f"guest{n}:2"))
        stage.ask(m.Join, origin=guest.connection)
        stage.cancel(f"a{n}", origin=guest.connection)
        stage.question(m.Join)
        if n % 2:
            guest.cut()
            worker.cut()
        else:
            guest.leave()
            stage.disconnect(worker.connection)
        stage.pass_time(WINDOW + 0.1)

    stage.pass_time(LONG)

    assert stage.left() == {}
    assert stage.machine.next_deadline() is None
    assert stage.machine.workers() == []


def test_a_client_in_this_process_that_leaves_leaves_nothing() -> None:
    stage = Stage()

    for n in range(10):
        stage.say(n, m.ClientHello(f"local {n}"))
        stage.disconnect(n)

    assert (stage.machine._sessions, stage.machine._session_of) == ({}, {})


def test_a_session_on_a_new_connection_leaves_nothing_of_the_old_one() -> None:
    stage = Stage()
    guest = Guest(stage, at=50)

    for at in range(51, 60):
        guest.connect(at)
    stage.disconnect(50)
    guest.leave()

    assert stage.machine._remote == set()
    assert (stage.machine._sessions, stage.machine._session_of) == ({}, {})


@pytest.mark.parametrize("status", [PENDING, RUNNING, SCHEDULED])
def test_a_task_is_held_by_at_most_one_worker_whatever_happens_to_them(status: object) -> None:
    stage = Stage()
    workers = [Worker(stage, name=f"w{n}.0", at=100 + n, leased=True) for n in range(3)]
    stage.submit(task("a", retry=STEADY, max_deliveries=100))
    if status is SCHEDULED:
        next(worker for worker in workers if worker.grants).fail("a")
    elif status is PENDING:
        for worker in workers:
            worker.cut()
        stage.pass_time(WINDOW + 0.1)

    for n in range(12):
        worker = workers[n % 3]
        worker.cut() if worker.connected else worker.back()
        stage.pass_time(2.0)
        running = stage.status("a") is RUNNING
        assert stage.machine.tables()["held"] == running
        assert sum(w.connected and "a" in w.grants for w in workers) <= running


# --- what is loaded and damaged ------------------------------------------------------------------


def damage(stage: Stage, *ids: str) -> None:
    """Have another owner load these, whose calls are lost."""
    for id in ids:
        record = stage.records[id]
        record.body, record.damage = b"", f"the record of task {id} is damaged"
    stage.crash()
    stage.tick()


def why(stage: Stage, id: str) -> str:
    output = stage.output(id)
    assert output is not None
    assert output.error is not None
    return output.error.message


def test_a_damaged_task_ends_before_anybody_can_be_granted_it_whatever_it_waited_for() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", delay=60), task("c", after=["a"]), task("d", key="k"))
    damage(stage, "b", "c", "d")
    worker = Worker(stage, 9)

    assert worker.log == ["a"]
    for id in "bcd":
        assert stage.status(id) is FAILURE
        assert why(stage, id) == f"it cannot be run: the record of task {id} is damaged"
        assert stage.output(id).kind is Kind.STORE  # type: ignore[union-attr]
    told = stage.told(EventKind.RECORD_DAMAGED)
    assert [details["id"] for details in told] == ["b", "c", "d"]
    worker.finish("a")
    assert stage.left() == {}


def test_who_comes_after_a_damaged_task_has_an_end_and_who_waits_for_it_is_told() -> None:
    stage = Stage()
    follow = Follow("done", "main", TaskOptions(), "call")
    options = TaskOptions().with_callback(follow, None)
    stage.submit(replace(task("a"), options=options))
    stage.submit(task("b", after=["a"]), task("c", after=["a"], on_dependency_failure="run"))
    damage(stage, "a")
    stage.ask(m.Watch, ("a",))
    worker = Worker(stage, 9)

    assert (stage.status("a"), stage.status("b")) == (FAILURE, FAILURE)
    assert "which ended as failure" in why(stage, "b")
    assert ("a", FAILURE) in stage.outcomes()
    assert sorted(grant.head.name for grant in worker.grants.values()) == ["done", "job"]


def test_a_damaged_task_that_a_worker_runs_is_not_lost() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    damage(stage, "a")
    worker.connect(101)
    worker.finish("a", output=Output(42))

    assert (stage.status("a"), stage.output("a")) == (SUCCESS, Output(42))
    assert len(stage.told(EventKind.RECORD_DAMAGED)) == 1


def test_what_is_left_of_a_task_without_its_head_is_ended_and_no_late_word_changes_that() -> None:
    stage = Stage()
    worker = Worker(stage, leased=True)
    stage.submit(task("a"))
    head = replace(
        stage.head("a"), status=RUNNING, worker=None, fence=9, submitted_at=0, since=0, rank=0
    )
    stage.records["a"].head = head
    damage(stage, "a")
    worker.connect(101)
    assert worker.revoked == [("a", 1)]
    worker.say(m.Finish("a", 1, "ok", Output(42), stage.now))

    assert stage.status("a") is FAILURE
    assert worker.answers[-1] == m.Finished("a", 1, accepted=False)
    assert stage.head("a").submitted_at == stage.now
    assert stage.bulk("retry").value == 1
    assert stage.head("a").fence >= 9
