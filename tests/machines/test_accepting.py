"""Which tasks are accepted, and how the others wait for room; driven through the whole machine."""

from datetime import UTC, datetime

from actorq.errors import ActorDied, QueueFull, SubmitError
from actorq.machines.effects import Lookup, Send
from actorq.model import messages as m
from actorq.model.options import Retry
from actorq.model.records import Output, Write
from actorq.model.status import CANCELLED, PENDING, SCHEDULED, SUCCESS
from tests.machines.stage import CLIENT, MORNING, Guest, Stage, Worker, task

STEADY = Retry(attempts=3, delay=10, factor=2, jitter=0)

# --- accepting -----------------------------------------------------------------------------------


def test_a_submit_is_answered_after_its_task_is_written() -> None:
    stage = Stage()

    submit = stage.submit(task("a", body="call"))

    write, sent = stage.last
    assert isinstance(write, Write)
    assert (write.id, write.body) == ("a", "call")
    assert sent == Send(CLIENT, m.Reply(submit.message.request))


def test_a_task_is_stamped_by_the_owner_when_it_is_accepted() -> None:
    stage = Stage()

    stage.submit(task("a", name="job", queue="images", scope="block"))

    head = stage.head("a")
    assert (head.name, head.options.queue, head.scope) == ("job", "images", "block")
    assert head.submitted_at == head.since == head.due == head.rank == MORNING
    assert (head.fence, head.attempts, head.deaths) == (0, 0, 0)


def test_a_resent_submit_of_a_live_task_is_accepted_again_and_runs_once() -> None:
    stage = Stage()
    stage.submit(task("a"))

    again = stage.submit(task("a"), resent=True)

    worker = Worker(stage, 5)
    assert again.value == m.Admitted(("a",))
    assert worker.log == ["a"]


def test_a_resent_submit_is_told_the_outcome_on_its_new_connection() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"), origin=7)

    stage.submit(task("a"), resent=True, origin=8)
    worker.finish("a")

    assert stage.outcomes(8) == [("a", SUCCESS)]


def test_a_resent_submit_of_an_ended_task_gets_its_outcome_from_the_store() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a", output=Output(42))
    stage.inbox.clear()

    again = stage.submit(task("a"), resent=True)

    assert isinstance(stage.last[0], Lookup)
    assert again.value == m.Admitted(("a",))
    (outcome,) = stage.inbox[CLIENT]
    assert (outcome.head.status, outcome.output.value) == (SUCCESS, 42)
    assert worker.log == ["a"]


def test_a_resent_submit_that_never_arrived_is_accepted_now() -> None:
    stage = Stage()

    again = stage.submit(task("a"), resent=True)

    assert again.value is None
    assert stage.status("a") is PENDING


def test_a_resent_submit_gets_what_the_store_still_has_even_past_its_time() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.pass_time(61)

    again = stage.submit(task("a"), resent=True)

    assert again.value == m.Admitted(("a",))
    assert worker.log == ["a"]


def test_a_resent_batch_takes_only_what_is_new() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(task("a"))
    worker.finish("a")
    stage.submit(task("b"))

    again = stage.submit(task("a"), task("b"), task("c"), resent=True)

    assert again.value == m.Admitted(("a", "b"))
    assert worker.log == ["a", "b", "c"]


def test_a_moment_in_the_past_is_now() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b", at=datetime.fromtimestamp(MORNING - 60, UTC)), task("c"))

    assert Worker(stage, 3).log == ["a", "b", "c"]


def test_a_delay_of_zero_is_no_delay() -> None:
    stage = Stage()

    stage.submit(task("a", delay=0))

    assert stage.status("a") is PENDING
    assert stage.machine.next_deadline() is None


# --- a full queue --------------------------------------------------------------------------------


def test_a_submit_to_a_full_queue_waits_for_room() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b"))
    assert not parked.answered

    worker = Worker(stage)

    assert parked.value is None
    assert (worker.log, stage.status("b")) == (["a"], PENDING)


def test_room_is_made_by_a_grant_in_the_same_step() -> None:
    stage = Stage(max_pending=1)
    worker = Worker(stage)
    stage.submit(task("a"))
    stage.submit(task("b"))
    parked = stage.submit(task("c"))

    worker.finish("a")

    assert worker.log == ["a", "b"]
    assert parked.answered


def test_room_is_made_by_a_cancel() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b"))

    stage.cancel("a")

    assert parked.value is None
    assert stage.status("b") is PENDING


def test_parked_submits_get_in_in_the_order_of_their_arrival() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = [stage.submit(task(id)) for id in "dbc"]

    worker = Worker(stage)
    for id in "adbc":
        worker.finish(id)

    assert worker.log == ["a", "d", "b", "c"]
    assert all(len(question.replies) == 1 for question in parked)


def test_a_small_submit_does_not_overtake_a_large_one_that_waits() -> None:
    stage = Stage(max_pending=2)
    stage.submit(task("a"))
    large = stage.submit(task("b"), task("c"))
    small = stage.submit(task("d"))
    assert not large.answered

    stage.cancel("a")

    assert large.answered
    assert not small.answered


def test_a_batch_is_accepted_as_a_whole_or_not_at_all() -> None:
    stage = Stage(max_pending=2)
    stage.submit(task("a"))

    parked = stage.submit(task("b"), task("c"))

    assert not parked.answered
    assert stage.records.keys() == {"a"}


def test_a_batch_that_can_never_fit_is_refused() -> None:
    stage = Stage(max_pending=2)

    refused = stage.submit(*(task(id) for id in "abc"))

    assert isinstance(refused.error, QueueFull)
    assert stage.records == {}


def test_a_full_queue_raises_where_that_is_asked_for() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))

    refused = stage.submit(task("b", when_full="raise"))

    assert isinstance(refused.error, QueueFull)
    assert "'default'" in str(refused.error)
    assert stage.records.keys() == {"a"}


def test_a_queue_with_a_line_before_it_is_full() -> None:
    stage = Stage(max_pending=2)
    stage.submit(task("a"))
    stage.submit(task("b"), task("c"))

    refused = stage.submit(task("d", when_full="raise"))

    assert isinstance(refused.error, QueueFull)


def test_every_queue_has_room_of_its_own() -> None:
    stage = Stage(max_pending=1)

    stage.submit(task("a", queue="one"))

    assert stage.submit(task("b", queue="two")).answered
    assert not stage.submit(task("c", queue="one")).answered


def test_delayed_tasks_take_room_and_running_ones_do_not() -> None:
    stage = Stage(max_pending=1)
    Worker(stage)
    stage.submit(task("a"))

    assert stage.submit(task("b", delay=60)).answered
    assert not stage.submit(task("c")).answered


def test_a_retry_is_never_refused_for_lack_of_room() -> None:
    stage = Stage(max_pending=1)
    worker = Worker(stage)
    stage.submit(task("a", retry=STEADY))
    stage.submit(task("b"))

    worker.fail("a")

    assert stage.status("a") is SCHEDULED
    assert worker.log == ["a", "b"]


def test_lines_that_wait_for_each_others_queues_all_get_in() -> None:
    stage = Stage(max_pending=2)
    stage.submit(*(task(f"1{n}", queue="one", scope="x") for n in range(2)))
    stage.submit(*(task(f"2{n}", queue="two", scope="x") for n in range(2)))
    first = stage.submit(task("a", queue="one"), task("b", queue="two"))
    second = stage.submit(task("c", queue="two"), task("d", queue="one"))

    stage.ask(m.EndScope, "x", 10.0)

    assert (first.answered, second.answered) == (True, True)
    assert Worker(stage, 4).log == ["a", "b", "c", "d"]


def test_nothing_waits_for_room_that_is_there() -> None:
    stage = Stage(max_pending=2)
    stage.submit(*(task(f"1{n}", queue="one", scope="x") for n in range(2)))
    stage.submit(*(task(f"2{n}", queue="two", scope="x") for n in range(2)))
    both = stage.submit(task("a", queue="one"), task("b", queue="two"))
    single = stage.submit(task("c", queue="two"))

    stage.ask(m.EndScope, "x", 10.0)

    assert (both.answered, single.answered) == (True, True)


def test_a_parked_submit_goes_with_its_connection() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b"), origin=7)
    kept = stage.submit(task("c"))

    stage.disconnect(7)
    stage.cancel("a")

    assert (parked.answered, kept.answered) == (False, True)
    assert "b" not in stage.records


def test_a_resent_submit_that_parks_does_not_run_again_what_is_over() -> None:
    stage = Stage(max_pending=1)
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.submit(task("b"))
    stage.submit(task("c"))

    again = stage.submit(task("a"), task("new"), resent=True)
    for id in ("b", "c", "new"):
        worker.finish(id)

    assert again.value == m.Admitted(("a",))
    assert worker.log == ["a", "b", "c", "new"]


def test_a_withdrawn_submit_leaves_the_line() -> None:
    stage = Stage(max_pending=1)
    stage.submit(task("a"))
    parked = stage.submit(task("b"))

    withdraw = stage.ask(m.Withdraw, parked.message.request, ("b",), 10.0)
    stage.cancel("a")

    assert (parked.answered, withdraw.answered) == (False, True)
    assert stage.records.keys() == {"a"}
    assert stage.left() == {}


def test_a_withdrawn_submit_that_was_accepted_is_cancelled() -> None:
    stage = Stage()
    submit = stage.submit(task("a"), task("b"))

    stage.ask(m.Withdraw, submit.message.request, ("a", "b", "unknown"), 10.0)

    assert (stage.status("a"), stage.status("b")) == (CANCELLED, CANCELLED)


# --- clients elsewhere ---------------------------------------------------------------------------


def test_the_submits_of_a_client_elsewhere_that_wait_for_room_are_bounded() -> None:
    stage = Stage(max_pending=2, max_parked=2)
    guest, other = Guest(stage, at=50), Guest(stage, "other", at=51)
    stage.submit(task("a"), task("z"))

    parked = [guest.submit(task("b", queue="two"), task("c")), guest.submit(task("d"))]
    refused = guest.submit(task("e"))
    local = [stage.submit(task(f"{n}")) for n in range(5)]

    assert isinstance(refused.error, QueueFull)
    assert "max_parked" in str(refused.error)
    assert not any(question.answered for question in [*parked, *local, other.submit(task("f"))])

    stage.cancel("a")
    assert parked[0].answered
    assert not guest.submit(task("g")).answered


def test_a_submit_that_is_asked_for_again_stands_in_line_once() -> None:
    stage = Stage(max_pending=1)
    guest = Guest(stage)
    stage.submit(task("a"))
    parked = guest.submit(task("b"))
    guest.submit(task("c"))

    stage.say(guest.connection, parked.message)
    stage.cancel("a")
    stage.cancel("b")

    assert (len(parked.replies), stage.status("c")) == (1, PENDING)


def test_an_at_most_once_submit_that_is_sent_again_to_other_records_is_refused() -> None:
    stage = Stage()
    guest = Guest(stage)
    lineage = guest.welcome.lineage
    stage.lineage = "others"
    stage.crash()
    guest.connect(at=51)
    assert guest.welcome.lineage != lineage

    once = guest.submit(task("a", at_most_once=True), resent=True, lineage=lineage)
    batch = guest.submit(task("b"), task("c", at_most_once=True), resent=True, lineage=lineage)
    often = guest.submit(task("d"), resent=True, lineage=lineage)

    assert isinstance(once.error, SubmitError)
    assert "nobody knows whether it has run" in str(once.error)
    assert isinstance(batch.error, SubmitError)
    assert often.value is None
    assert stage.records.keys() == {"d"}


def test_an_at_most_once_submit_that_is_sent_again_to_the_same_records_is_taken() -> None:
    stage = Stage()
    guest, worker = Guest(stage), Worker(stage, 5)
    lineage = guest.welcome.lineage
    guest.submit(task("a", at_most_once=True), lineage=lineage)
    stage.crash()
    guest.connect(at=51)
    worker.connect(at=101)

    known = guest.submit(task("a", at_most_once=True), resent=True, lineage=lineage)
    new = guest.submit(task("b", at_most_once=True), resent=True, lineage=lineage)

    assert (known.value, new.value) == (m.Admitted(("a",)), None)
    assert worker.log == ["a", "b"]


def test_a_first_submit_is_taken_whatever_its_client_knew_of_the_owner() -> None:
    stage = Stage()
    guest = Guest(stage)

    assert guest.submit(task("a", at_most_once=True), lineage="gone").value is None
    assert guest.submit(task("b", at_most_once=True), resent=True).value is None


def test_an_at_most_once_submit_sent_again_after_its_session_was_lost_is_refused() -> None:
    stage = Stage(result_ttl=1)
    guest, worker = Guest(stage), Worker(stage)
    lineage = guest.welcome.lineage
    guest.submit(task("a", at_most_once=True), lineage=lineage)
    worker.finish("a")
    guest.cut()
    stage.pass_time(10)
    del stage.records["a"]  # its time is over, and nobody is there for whom it is kept

    guest.back()
    again = guest.submit(task("a", at_most_once=True), resent=True, lineage=lineage)

    assert isinstance(again.error, SubmitError)
    assert worker.log == ["a"]


# --- refusals ------------------------------------------------------------------------------------


def test_a_scope_that_is_ending_takes_no_new_task() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a", scope="block"))
    stage.ask(m.EndScope, "block", 10.0)

    refused = stage.submit(task("b", scope="block"))

    assert isinstance(refused.error, SubmitError)
    assert "b" not in stage.records


def test_a_closing_owner_takes_no_new_task() -> None:
    stage = Stage()
    Worker(stage)
    stage.submit(task("a"))
    stage.ask(m.Close, False, 10.0)

    refused = stage.submit(task("b"))

    assert isinstance(refused.error, ActorDied)
    assert "b" not in stage.records


def test_what_is_sent_again_after_a_cut_alone_is_taken_whatever_was_forgotten_since() -> None:
    """Had it been accepted, the answer would have been kept for the client, and come first."""
    stage = Stage()
    guest = Guest(stage)
    lineage = guest.welcome.lineage
    stage.machine.forgot(stage.now + 100)

    taken = guest.submit(task("a"), resent=True, lineage=lineage, stamp=stage.now)
    stage.crash()
    stage.machine.forgot(stage.now + 100)
    guest.connect(at=51)
    refused = guest.submit(task("b"), resent=True, lineage=lineage, stamp=stage.now)

    assert taken.value is None
    assert isinstance(refused.error, SubmitError)
