"""Submissions under a key; the rules are driven through the whole machine."""

from typing import Any

import pytest
from msgspec.structs import replace

from actorq.codec.payload import encode_call
from actorq.errors import KeyConflict, SubmitError, TaskNotFound
from actorq.machines.effects import Lookup
from actorq.machines.keys import Holder, conflict, same_call
from actorq.model import messages as m
from actorq.model.filters import Filter
from actorq.model.options import TaskOptions
from actorq.model.records import Follow, Output, Write, alias, needs_of
from actorq.model.status import CANCELLED, FAILURE, PENDING, RUNNING, SUCCESS, WAITING
from tests.machines.stage import CLIENT, Guest, Stage, Worker, task


class Odd:
    """An argument that cannot be compared."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    __hash__ = object.__hash__


def keyed(id: str, key: str = "k", **fields: Any) -> m.Submission:
    return task(id, key=key, **fields)


# --- the same call -------------------------------------------------------------------------------


def test_calls_are_the_same_if_they_say_so() -> None:
    assert same_call(b"call", b"call")
    assert not same_call(b"call", b"other")
    assert not same_call(None, b"call")


CALL = (1, [2, {"a": 1, "b": 2}]), {"n": 1, "m": {"c", "d"}}
REORDERED = (1, [2, {"b": 2, "a": 1}]), {"m": {"d", "c"}, "n": 1}


def test_encoded_calls_are_the_same_whatever_the_order_of_keywords_and_keys() -> None:
    one, other = encode_call("job", *CALL), encode_call("job", *REORDERED)

    assert one != other
    assert same_call(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], [2, 1]), ({"a": 1, "b": 2}, {"a": 2, "b": 1}), (1, True), (0.0, -0.0), (1, 1.0)],
)
def test_encoded_calls_of_which_more_than_the_order_differs_are_not_the_same(
    one: object, other: object
) -> None:
    assert not same_call(encode_call("job", (one,), {}), encode_call("job", (other,), {}))


@pytest.mark.parametrize(
    ("one", "other"), [(b"\xc1a", b"\xc1b"), (b"\x91" * 20_000, b"\x90" * 20_000)]
)
def test_bytes_that_are_no_calls_are_not_the_same(one: bytes, other: bytes) -> None:
    assert not same_call(one, other)


def test_a_large_call_is_not_looked_through() -> None:
    large = "x" * 70_000
    one, other = ({"a": large, "b": 1}, {"b": 1, "a": large})

    assert not same_call(encode_call("job", (one,), {}), encode_call("job", (other,), {}))


@pytest.mark.parametrize("answer", [ValueError("which?"), RecursionError(), [True], None, "yes"])
def test_calls_that_do_not_say_so_in_one_word_are_not_the_same(answer: Any) -> None:
    assert not same_call(Odd(answer), "call")


def test_a_conflict_names_the_key_and_who_has_it() -> None:
    holder = Holder("a", "job", "call")

    assert conflict("k", "job", "call", holder) is None
    assert str(conflict("k", "other", "call", holder)) == (
        "key 'k' is that of task job (a), so it cannot stand for task other too: use another key, "
        "or wait until that task's result has expired or discard it"
    )
    assert "with other arguments" in str(conflict("k", "job", "other", holder))


# --- while it is live ----------------------------------------------------------------------------


def test_the_same_call_under_a_key_that_is_live_is_that_task() -> None:
    stage = Stage()
    worker = Worker(stage, 5)
    stage.submit(keyed("a"), origin=7)

    again = stage.submit(keyed("b"), origin=8)
    worker.finish("a", output=Output(42))

    assert again.value == m.Admitted((), {"b": "a"})
    assert worker.log == ["a"]
    assert stage.outcomes(8) == [("a", SUCCESS)]
    assert list(stage.records) == ["a"]
    assert stage.left() == {}


@pytest.mark.parametrize("other", [{"name": "other"}, {"body": "other"}])
def test_another_call_under_a_key_is_a_conflict(other: dict[str, Any]) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    live = stage.submit(keyed("b", **other))
    worker.finish("a")
    ended = stage.submit(keyed("c", **other))

    for refused in (live, ended):
        assert isinstance(refused.error, KeyConflict)
        assert "'k' is that of task job (a)" in str(refused.error)
    assert list(stage.records) == ["a"]


def test_one_conflict_refuses_the_whole_submit() -> None:
    stage = Stage()
    stage.submit(keyed("a"))

    refused = stage.submit(task("b"), keyed("c"), keyed("d", body="other"), task("e"))

    assert isinstance(refused.error, KeyConflict)
    assert list(stage.records) == ["a"]


def test_two_equal_keys_in_one_submit_are_one_task() -> None:
    stage = Stage()
    worker = Worker(stage, 5)

    both = stage.submit(keyed("a"), keyed("b"), keyed("c", key="other"))
    odd = stage.submit(keyed("d", key="new"), keyed("e", key="new", body="other"))

    assert both.value == m.Admitted((), {"b": "a"})
    assert isinstance(odd.error, KeyConflict)
    assert str(odd.error) == (
        "key 'new' is also that of another task of the same submit, job, which was submitted with "
        "other arguments: use another key"
    )
    assert worker.log == ["a", "c"]


def test_other_options_are_no_conflict() -> None:
    stage = Stage()
    stage.submit(keyed("a", timeout=5))

    assert stage.submit(keyed("b", timeout=6, queue="other")).value.instead == {"b": "a"}


def test_a_key_outlives_its_owner() -> None:
    stage = Stage()
    stage.submit(keyed("a"))

    stage.crash()

    assert stage.submit(keyed("b")).value.instead == {"b": "a"}
    assert isinstance(stage.submit(keyed("c", body="other")).error, KeyConflict)


def test_a_submit_for_which_nothing_is_new_needs_no_room() -> None:
    stage = Stage(max_pending=1)
    stage.submit(keyed("a"))

    assert stage.submit(keyed("b"), keyed("c")).value.instead == {"b": "a", "c": "a"}


def test_a_key_that_is_free_is_asked_for_and_no_other() -> None:
    stage = Stage()
    stage.submit(keyed("a"))

    question = stage.question(m.Submit, (keyed("b"), keyed("c", key="free"), task("d")))
    (lookup,) = stage.step(CLIENT, [question.message])

    assert lookup == Lookup(CLIENT, question.message, (), ("free",))
    stage.do([lookup])
    assert question.value.instead == {"b": "a"}


def test_two_submits_under_one_key_at_the_same_time_are_one_task() -> None:
    stage = Stage()
    one, two = (stage.question(m.Submit, (keyed(id),)) for id in "ab")

    stage.do(stage.step(CLIENT, [one.message, two.message]))

    assert (one.value, two.value.instead) == (None, {"b": "a"})


def test_a_task_that_the_owner_itself_submits_leaves_a_key_to_its_holder() -> None:
    stage = Stage()
    worker = Worker(stage, 3)
    follow = Follow("after", "main", TaskOptions(key="k"), "call")
    first = replace(task("x"), options=TaskOptions().with_callback(follow, None))
    stage.submit(keyed("a"), first)

    worker.finish("x")
    (after,) = (id for id in worker.grants if id != "a")
    worker.finish(after)

    assert stage.submit(keyed("b")).value.instead == {"b": "a"}


# --- after its end -------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [SUCCESS, FAILURE, CANCELLED])
def test_the_same_call_under_a_key_whose_result_is_kept_is_that_task(end: Any) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"), origin=7)
    if end is SUCCESS:
        worker.finish("a", output=Output(42))
    elif end is FAILURE:
        worker.fail("a", retryable=False)
    else:
        stage.cancel("a", grace=0)
        stage.tick()

    again = stage.submit(keyed("b"), origin=8)

    assert again.value == m.Admitted((), {"b": "a"})
    assert stage.outcomes(8) == [("a", end)]
    assert worker.log == ["a"]


def test_its_client_knows_which_task_it_is_before_it_is_told_how_that_has_ended() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.finish("a")

    stage.submit(keyed("b"))

    reply, outcome = (effect.message for effect in stage.last if not isinstance(effect, Lookup))
    assert reply.value.instead == {"b": "a"}
    assert outcome.head.id == "a"


def test_the_call_of_a_keyed_task_is_kept_with_its_result() -> None:
    stage = Stage()
    worker = Worker(stage, 2)
    stage.submit(keyed("a"), task("b"))

    worker.finish("a")
    worker.finish("b")

    assert (stage.records["a"].body, stage.records["b"].body) == ("call", None)


def test_when_its_result_has_expired_a_key_is_free_and_the_old_record_goes() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.finish("a")
    submitted_at = stage.head("a").submitted_at
    stage.pass_time(60)

    assert stage.submit(keyed("b", body="other")).value is None

    deleted = [e.id for e in stage.last if isinstance(e, Write) and e.head is None]
    assert (deleted, list(stage.records), worker.log) == (["a"], ["b"], ["a", "b"])
    resent = stage.submit(task("c"), resent=True, stamp=submitted_at)
    assert isinstance(resent.error, SubmitError)


def test_an_expired_record_that_is_needed_stays_when_its_key_goes_to_another() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage, 2)
    stage.submit(keyed("a"), task("x"), task("need", needs=("a",), after=["x"]))
    worker.finish("a", output=Output(42))
    stage.pass_time(60)

    stage.submit(keyed("b", body="other"))
    assert "a" in stage.records
    worker.finish("x")
    worker.finish("b")

    assert worker.grants["need"].inputs == {"a": 42}
    assert isinstance(stage.submit(keyed("c")).error, KeyConflict)


def test_a_discarded_task_leaves_its_key() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.finish("a")

    stage.bulk("discard", Filter(key="k"))

    assert stage.submit(keyed("b", body="other")).value is None


def test_a_retried_task_has_its_key_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.fail("a", retryable=False)

    stage.bulk("retry", Filter(key="k"))

    assert stage.submit(keyed("b")).value.instead == {"b": "a"}
    assert stage.machine.tables()["keys"] == 1


def test_a_task_whose_key_is_another_ones_by_now_is_not_retried() -> None:
    stage = Stage(result_ttl=60)
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.fail("a", retryable=False)
    old = stage.records["a"]
    stage.pass_time(60)
    stage.submit(keyed("b"))
    stage.records["a"] = replace(old, head=replace(old.head, keep_until=1e12))

    assert stage.bulk("retry").value == 0
    assert stage.status("b") is RUNNING


def test_live_tasks_are_found_by_their_key() -> None:
    stage = Stage()
    stage.submit(keyed("a"), keyed("b", key="other"), task("c"))

    cancelled = stage.bulk("cancel", Filter(key="k"))

    assert cancelled.value == 1
    assert [stage.status(id) for id in "abc"] == [CANCELLED, PENDING, PENDING]


# --- what happens while the store is asked -------------------------------------------------------


def test_who_ends_while_the_store_is_asked_has_its_key_still() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    submit = stage.question(m.Submit, (keyed("b"), keyed("c", key="free")))

    (lookup,) = stage.step(CLIENT, [submit.message])
    grant = worker.grants.pop("a")
    finish = m.Finish("a", grant.head.fence, "ok", Output(42), stage.now)
    finishing = stage.step(worker.connection, [finish])  # whose writes nobody has seen yet
    stage.do(stage.carry_out(lookup))
    stage.do(finishing)

    assert submit.value.instead == {"b": "a"}
    assert stage.status("c") is PENDING


def test_who_is_discarded_while_the_store_is_asked_has_no_key_any_more() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.finish("a")
    submit = stage.question(m.Submit, (keyed("b", body="other"),))

    effects = stage.step(CLIENT, [submit.message])
    record = stage.records["a"]
    stage.bulk("discard")
    stage.records["a"] = record  # it was fetched before that was written
    stage.do(effects)

    assert submit.value is None
    assert worker.log == ["a", "b"]


# --- with what comes after -----------------------------------------------------------------------


@pytest.mark.parametrize("over", [False, True])
def test_who_comes_after_a_task_comes_after_the_one_that_has_its_key(over: bool) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    if over:
        worker.finish("a")

    submit = stage.submit(keyed("b"), task("c", after=["b"]))

    assert submit.value.instead == {"b": "a"}
    assert stage.head("c").options.after == ("a",)
    assert stage.status("c") is (RUNNING if over else WAITING)
    if not over:
        worker.finish("a")
    assert worker.log == ["a", "c"]


@pytest.mark.parametrize("over", [False, True])
def test_a_value_comes_under_the_name_that_its_call_has_for_it(over: bool) -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    if over:
        worker.finish("a", output=Output(42))

    stage.submit(keyed("b"), task("c", needs=("b",)))
    if not over:
        stage.crash()
        worker = Worker(stage, name="w.1")
        worker.finish("a", output=Output(42))

    assert worker.grants["c"].inputs == {"b": 42}
    assert stage.machine.pinned() == {"a"}


def test_an_alias_is_read_as_it_was_written() -> None:
    submission = task("c", needs=("x", alias("b", "a")))

    assert needs_of(submission) == {"x": "x", "b": "a"}


def test_a_key_does_not_make_a_later_task_an_earlier_one() -> None:
    stage = Stage()

    refused = stage.submit(task("c", after=["b"]), keyed("a"), keyed("b"))

    assert isinstance(refused.error, TaskNotFound)


# --- sent again ----------------------------------------------------------------------------------


def test_a_submit_that_is_sent_again_is_the_same_task_again() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"), keyed("b"))

    live = stage.submit(keyed("a"), keyed("b"), resent=True)
    worker.finish("a")
    ended = stage.submit(keyed("a"), keyed("b"), resent=True)

    assert live.value == ended.value == m.Admitted(("a",), {"b": "a"})
    assert worker.log == ["a"]


def test_a_submit_that_is_made_again_under_its_own_id_is_known() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(keyed("a"))
    worker.finish("a")

    assert stage.submit(keyed("a")).value == m.Admitted(("a",))


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_was_sent_before_the_newest_that_is_forgotten_is_not_run_again(
    forgotten: bool,
) -> None:
    stage = Stage(result_ttl=60)
    guest, worker = Guest(stage), Worker(stage)
    stamp = guest.welcome.at
    guest.submit(task("a"), stamp=stamp)
    worker.finish("a")
    stage.pass_time(100)
    if forgotten:
        stage.purge()
        stage.crash()
        worker.connect(at=101)
    guest.connect(at=51)

    again = guest.submit(task("a"), resent=True, stamp=stamp)
    new = guest.submit(task("b"), resent=True, stamp=guest.welcome.at)

    if forgotten:
        assert isinstance(again.error, SubmitError)
        assert "nobody knows whether it has run" in str(again.error)
    else:
        assert again.value == m.Admitted(("a",))
    assert new.value is None
    assert worker.log == ["a", "b"]


def test_what_is_sent_for_the_first_time_is_never_in_doubt() -> None:
    stage = Stage()
    worker = Worker(stage)
    stage.submit(task("a"))
    worker.finish("a")
    stage.bulk("discard")

    assert stage.submit(task("b"), stamp=0.0).value is None
    assert stage.submit(task("c"), resent=True).value is None
    assert isinstance(stage.submit(task("d"), resent=True, stamp=0.0).error, SubmitError)


def test_a_client_is_told_the_time_from_which_on_all_is_new() -> None:
    stage = Stage()
    stage.submit(task("a"), task("b"))
    stage.crash()
    stage.now -= 60

    guest = Guest(stage)

    assert guest.welcome.at >= stage.head("b").submitted_at
    guest.submit(task("c"))
    assert stage.head("c").submitted_at >= guest.welcome.at
