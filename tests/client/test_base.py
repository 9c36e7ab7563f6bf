"""What every verb rests on: accepting tasks, scopes, and questions by id."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actorq
from actorq.client.session import Session
from actorq.codec.packed import pack
from actorq.codec.pickled import decode_call
from actorq.codec.references import Blank, spliced
from actorq.model import messages as m
from actorq.model.options import NO_OPTIONS
from actorq.model.records import Head, Output
from actorq.model.status import SUCCESS
from actorq.registry import Registry
from actorq.tasks import TaskMessage


@actorq.task
async def echo(value: object) -> object:
    return value


@actorq.task
async def forever() -> None:
    await trio.sleep_forever()


@actorq.task(run_in="process")
def join_aside(left: Any, right: str) -> str:
    return f"{left}{right}"


@pytest.fixture
async def system(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    async with actorq.open_system(processes=0) as system:
        yield system


@pytest.fixture
async def idle(autojump_clock: trio.abc.Clock) -> AsyncIterator[actorq.System]:
    """A system without a worker, so that whatever is accepted stays pending."""
    async with actorq.open_system(concurrency=0, max_pending=3) as system:
        yield system


def nothing_is_left(system: actorq.System) -> bool:
    return not any(system.tables().values())


# --- accepting ------------------------------------------------------------------------------


async def test_a_submit_cancelled_before_it_began_submits_nothing(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await idle.submit(echo, 1)

    assert scope.cancelled_caught
    assert nothing_is_left(idle)


async def test_a_submit_cancelled_while_it_waits_for_room_is_never_accepted(
    autojump_clock: trio.abc.Clock,
    idle: actorq.System,
) -> None:
    await idle.submit_many(echo.message(number) for number in range(3))
    message = echo.message(4)

    with trio.move_on_after(1) as scope:
        await idle.submit(message)

    assert scope.cancelled_caught
    assert (await idle.stats()).queues["default"].parked == 0
    with pytest.raises(actorq.TaskNotFound):
        await idle.result(message.id)


async def test_a_submit_cancelled_once_its_task_is_accepted_returns_the_handle(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    with trio.CancelScope() as scope:

        async def cancel_the_submitter() -> str:
            scope.cancel()
            return "done"

        handle = await system.submit(cancel_the_submitter)

    assert not scope.cancelled_caught
    assert await handle.value() == "done"


async def test_a_cancelled_question_leaves_no_entry_behind(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    async def slow_to_leave() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # virtual

    handle = await system.submit(slow_to_leave)
    await wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await handle.cancel()

    await handle.wait()

    assert nothing_is_left(system)


# --- scopes ---------------------------------------------------------------------------------


async def test_ending_a_scope_cancels_its_tasks_and_no_other(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    mine, other = system.session.new_scope(), system.session.new_scope()
    (doomed,) = await system.submit_chunk([forever.message()], mine)
    (spared,) = await system.submit_chunk([forever.message()], other)

    await system.end_scope(mine)

    assert (await doomed.wait()).status == "cancelled"
    assert await spared.status() == "running"


async def test_ending_a_scope_is_not_cut_short_by_a_cancellation(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    scope = system.session.new_scope()
    (handle,) = await system.submit_chunk([forever.message()], scope)
    await wait_all_tasks_blocked()

    with trio.CancelScope() as outer:
        outer.cancel()
        await system.end_scope(scope)

    assert (await handle.wait()).status == "cancelled"
    assert nothing_is_left(system)


# --- by id ----------------------------------------------------------------------------------


async def test_a_handle_by_id_gets_the_result(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    submitted = await system.submit(echo, 1)
    await submitted.wait()

    handle = system.handle(submitted.id, echo)

    assert handle.name == echo.name
    assert await handle.value() == 1


async def test_a_result_is_a_snapshot_and_never_waits(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    handle = await system.submit(forever)
    await wait_all_tasks_blocked()

    result = await system.result(handle.id)

    assert (result.status, result.attempts, result.completed_at) == ("running", 1, None)
    assert result.started_at is not None
    with pytest.raises(ValueError, match="is running, so it has no value"):
        result.unwrap()


@pytest.mark.parametrize("verb", ["result", "cancel", "status", "wait", "value", "progress"])
async def test_an_unknown_id_is_task_not_found_everywhere(
    autojump_clock: trio.abc.Clock, system: actorq.System, verb: str
) -> None:
    handle = system.handle("nobody")
    calls = {
        "result": lambda: system.result("nobody"),
        "cancel": handle.cancel,
        "status": handle.status,
        "wait": handle.wait,
        "value": handle.value,
        "progress": handle.progress,
    }

    with pytest.raises(actorq.TaskNotFound, match="'nobody'"):
        await calls[verb]()


async def test_what_is_no_id_is_a_type_error(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    with pytest.raises(TypeError, match="id must be a task's id"):
        await system.result(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reason must be a string"):
        await system.cancel("nobody", 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace must be at least 0"):
        await system.cancel("nobody", grace=-1)


async def test_a_cancelled_pending_task_never_runs(
    autojump_clock: trio.abc.Clock, idle: actorq.System
) -> None:
    handle = await idle.submit(echo, 1)

    result = await handle.cancel("not needed")

    assert (result.status, result.attempts) == ("cancelled", 0)
    with pytest.raises(actorq.TaskCancelled, match="by user: not needed") as caught:
        await handle.value()
    assert (caught.value.by, caught.value.reason) == ("user", "not needed")


async def test_a_cancelled_running_task_runs_its_finally_before_cancel_returns(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    steps = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            steps.append("finally")

    handle = await system.submit(careful)
    await wait_all_tasks_blocked()

    result = await handle.cancel()

    assert steps == ["finally"]
    assert (result.status, result.attempts) == ("cancelled", 1)


async def test_a_finished_task_keeps_its_result_when_it_is_cancelled(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    handle = await system.submit(echo, 1)
    await handle.wait()

    assert (await handle.cancel()).unwrap() == 1


async def test_a_task_that_ends_by_itself_while_it_is_cancelled_keeps_its_value(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)  # virtual
        return "done"

    handle = await system.submit(stubborn)
    await wait_all_tasks_blocked()

    assert (await handle.cancel()).value == "done"


async def test_a_failing_task_that_was_cancelled_is_cancelled_and_not_retried(
    autojump_clock: trio.abc.Clock,
    system: actorq.System,
) -> None:
    async def rude() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ValueError("no") from None

    handle = await system.submit(actorq.task(retry=actorq.Retry(attempts=5))(rude))
    await wait_all_tasks_blocked()

    result = await handle.cancel()

    assert (result.status, result.attempts) == ("cancelled", 1)


async def test_a_cancel_that_is_cancelled_is_not_taken_back(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    async def slow_to_leave() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # virtual

    handle = await system.submit(slow_to_leave)
    await wait_all_tasks_blocked()

    with trio.move_on_after(1) as scope:
        await handle.cancel()

    assert scope.cancelled_caught
    assert (await handle.wait()).status == "cancelled"
    assert nothing_is_left(system)


async def test_a_task_that_ignores_its_cancel_is_cancelled_unconfirmed_after_its_grace(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)  # virtual
        return "too late"

    async with actorq.open_system(processes=0, instruments=()) as system:
        handle = await system.submit(stubborn)
        await wait_all_tasks_blocked()

        result = await handle.cancel(grace=2)

        assert trio.current_time() == pytest.approx(2)
        assert result.status == "cancelled"
        await trio.sleep(30)  # virtual
        assert (await system.result(handle.id)).status == "cancelled"


# --- what the owner may answer --------------------------------------------------------------


class Owner:
    """Remembers what one client asks, and answers as a test says."""

    def __init__(self, *, encode: bool = False) -> None:
        self.asked: list[Any] = []
        self.session = Session("me", lambda _, value: value)
        self.client = actorq.Client(
            self.session, Registry(), grace=1.0, max_message=4_096, chunk=10, encode=encode
        )
        self.session.connected(self)
        self.session.received(m.ClientWelcome("here", 0, 5_000.0))

    def send(self, *messages: object) -> None:
        self.asked += messages

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.asked if isinstance(message, kind)]

    async def accept(
        self,
        messages: Sequence[TaskMessage[Any]],
        value: m.Admitted | None = None,
        error: Exception | None = None,
    ) -> list[actorq.TaskHandle[Any]]:
        """Submit these, and answer."""
        handles: list[actorq.TaskHandle[Any]] = []

        async def submit() -> None:
            handles.extend(await self.client.submit_chunk(messages, None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await wait_all_tasks_blocked()
            request = self.of(m.Submit)[-1].request
            self.session.received(m.Reply(request, value, error))
        return handles


def ended(id: str, value: object) -> m.Outcome:
    head = Head(id, "task", NO_OPTIONS, "main", None, 0.0, 0.0, 0.0, 0.0, SUCCESS)
    return m.Outcome(head, Output(value))


async def test_a_message_whose_key_is_taken_gets_the_handle_of_the_task_that_has_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    messages = [echo.message(number) for number in range(3)]
    ids = [message.id for message in messages]

    handles = await owner.accept(messages, m.Admitted((), {ids[1]: "other id"}))

    assert [handle.id for handle in handles] == [ids[0], "other id", ids[2]]
    assert [handle.existing for handle in handles] == [False, True, False]
    assert [watch.ids for watch in owner.of(m.Watch)] == [("other id",)]
    owner.session.received(ended("other id", 7))
    assert await handles[1].value() == 7


async def test_several_messages_of_one_key_are_watched_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    first, second, third = (echo.message(1) for _ in range(3))
    instead = {second.id: first.id, third.id: first.id}

    handles = await owner.accept([first, second, third], m.Admitted((), instead))

    assert {handle.id for handle in handles} == {first.id}
    assert [handle.existing for handle in handles] == [False, True, True]
    owner.session.received(ended(first.id, 7))
    assert [await handle.value() for handle in handles] == [7, 7, 7]


async def test_a_message_for_which_another_task_stands_may_be_submitted_as_if_for_the_first_time(
    autojump_clock: trio.abc.Clock,
) -> None:
    """When the key is free again; the owner has never known its id."""
    owner = Owner()
    message = echo.message(1)
    await owner.accept([message], m.Admitted((), {message.id: "other id"}))

    (handle,) = await owner.accept([message])

    assert [submit.resent for submit in owner.of(m.Submit)] == [False, False]
    assert (handle.id, handle.existing) == (message.id, False)


async def test_an_actor_is_not_told_how_the_task_of_somebody_else_ends(
    autojump_clock: trio.abc.Clock, system: actorq.System
) -> None:
    told = []

    async def listen(inbox: actorq.Mailbox[actorq.TaskDone]) -> None:
        told.append(await inbox.receive())

    ref = await system.spawn(listen)
    owner = Owner()
    message = echo.options(callback=ref).message(1)

    await owner.accept([message], m.Admitted((), {message.id: "other id"}))
    owner.session.received(ended("other id", 7))
    await wait_all_tasks_blocked()

    assert told == []
    assert not owner.session.tables()["kept"]


async def test_a_message_keeps_the_time_at_which_it_was_first_sent(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    message = echo.message(1)
    await owner.accept([message])
    await trio.sleep(100)  # virtual

    await owner.accept([message], m.Admitted((message.id,)))
    await owner.accept([echo.message(2)])

    first, again, later = owner.of(m.Submit)
    assert (first.resent, again.resent, later.resent) == (False, True, False)
    assert 4_998 < first.stamp < 5_000
    assert again.stamp == first.stamp
    assert 5_098 < later.stamp < 5_100


async def test_a_batch_has_the_time_of_its_oldest_message(autojump_clock: trio.abc.Clock) -> None:
    owner = Owner()
    old, older = echo.message(1), echo.message(2)
    await owner.accept([older])
    await trio.sleep(100)  # virtual
    await owner.accept([old])
    await trio.sleep(100)  # virtual

    await owner.accept([old, older, echo.message(3)], m.Admitted((old.id, older.id)))

    assert owner.of(m.Submit)[-1].stamp == owner.of(m.Submit)[0].stamp


async def test_a_message_that_was_sent_when_the_time_was_not_known_has_that_of_the_first_welcome(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    session = owner.session
    message = echo.message(1)
    await owner.accept([message])
    message.stamp = None  # as when it waited for the first connection
    await trio.sleep(100)  # virtual
    session.disconnected(None)
    session.connected(owner)
    session.received(m.ClientWelcome("here", 0, 5_100.0))

    await owner.accept([message], m.Admitted((message.id,)))

    assert owner.of(m.Submit)[-1].stamp == 5_000


@pytest.mark.parametrize("error", [actorq.KeyConflict("taken"), actorq.TaskNotFound("id 0")])
async def test_what_was_refused_may_be_submitted_as_if_for_the_first_time(
    autojump_clock: trio.abc.Clock, error: Exception
) -> None:
    owner = Owner()
    message = echo.message(1)
    with pytest.raises(ExceptionGroup) as caught:
        await owner.accept([message], error=error)
    assert caught.value.exceptions == (error,)

    await owner.accept([message])

    assert [submit.resent for submit in owner.of(m.Submit)] == [False, False]


async def test_what_nobody_knows_the_fate_of_is_submitted_again_as_such(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    message = echo.message(1)
    with pytest.raises(ExceptionGroup):
        await owner.accept([message], error=actorq.StoreUnavailable("not now"))

    await owner.accept([message])

    assert [submit.resent for submit in owner.of(m.Submit)] == [False, True]


async def test_a_chunk_that_is_refused_says_what_was_accepted_before(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner()
    owner.client.chunk = 2
    unknown = owner.client.handle("x" * 201)

    async def submit() -> None:
        with pytest.raises(actorq.TaskNotFound) as caught:
            await owner.client.submit_many(
                [echo.message(1), echo.message(2), echo.message(unknown.output)]
            )
        assert len(caught.value.accepted) == 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        await wait_all_tasks_blocked()
        owner.session.received(m.Reply(owner.of(m.Submit)[-1].request))


# --- outputs as arguments -------------------------------------------------------------------


@pytest.mark.parametrize("encode", [False, True])
async def test_a_submission_says_whose_values_its_arguments_stand_for(
    autojump_clock: trio.abc.Clock, encode: bool
) -> None:
    owner = Owner(encode=encode)
    first, second = await owner.accept([echo.message(1), echo.message(2)])
    message = echo.message([first.output, {"a": (second.output, first.output)}])

    await owner.accept([message])
    await owner.accept([echo.message(3)])

    *_, merge, plain = owner.of(m.Submit)
    assert merge.tasks[0].needs == (first.id, second.id)
    assert plain.tasks[0].needs == ()
    inputs = {first.id: pack("a"), second.id: pack("b")}
    if encode:
        call = spliced(echo.name, merge.tasks[0].body, inputs)
        assert echo.signature.decode_call(call) == ((["a", {"a": ("b", "a")}],), {})
    else:
        blanks = Blank(first.id), Blank(second.id)
        assert merge.tasks[0].body.args == ([blanks[0], {"a": (blanks[1], blanks[0])}],)
    assert message.args[0][0] == first.output  # it may be submitted again


@pytest.mark.parametrize("encode", [False, True])
async def test_an_output_where_none_can_be_is_refused(
    autojump_clock: trio.abc.Clock, encode: bool
) -> None:
    owner = Owner(encode=encode)
    (handle,) = await owner.accept([echo.message(1)])

    with pytest.raises(actorq.EncodeError, match=r"\[0\]\[0\]\[0\]\[0\] is the output of a task"):
        await owner.client.submit(echo, [[[[handle.output]]]])
    with pytest.raises(actorq.TaskNotFound):
        await owner.client.submit(echo, owner.client.handle("x" * 201).output)

    assert len(owner.of(m.Submit)) == 1


@pytest.mark.parametrize("encode", [False, True])
async def test_the_call_of_a_process_may_have_outputs_too(
    autojump_clock: trio.abc.Clock, encode: bool
) -> None:
    owner = Owner(encode=encode)
    (handle,) = await owner.accept([echo.message(1)])

    await owner.accept([join_aside.message(handle.output, "b")])

    (submission,) = owner.of(m.Submit)[-1].tasks
    assert submission.needs == (handle.id,)
    if not encode:
        assert decode_call(submission.body.call) == ((Blank(handle.id), "b"), {})
    with pytest.raises(actorq.EncodeError, match=r"is the output of a task|stands for a value"):
        await owner.client.submit(join_aside, [[[[handle.output]]]], "b")


async def test_the_ids_of_very_many_outputs_count_as_part_of_the_call(
    autojump_clock: trio.abc.Clock,
) -> None:
    owner = Owner(encode=True)
    outputs = [owner.client.handle(f"{number:032}").output for number in range(100)]

    with pytest.raises(actorq.PayloadTooLarge):
        await owner.client.submit(echo, outputs)
