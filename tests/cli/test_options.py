"""How a verb finds the queue, and gets in."""

from pathlib import Path

import pytest
import trio

import actorq
from actorq.cli.exits import Exit, Failure
from actorq.cli.options import ANSWER_SECONDS, Connection, answered


async def test_several_addresses_are_tried_in_turn() -> None:
    async with (
        actorq.open_system(listen="memory://named", concurrency=0, processes=0),
        Connection(url=("memory://nobody,memory://named",)).open() as client,
    ):
        assert (await client.stats()).workers == 0


async def test_a_token_of_the_file_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("worker:the-workers-own\nclient:the-clients-own\n")

    async with (
        actorq.open_system(
            listen="ws://127.0.0.1:0", concurrency=0, processes=0, tokens=file
        ) as system,
        Connection(url=tuple(system.addresses), token_file=file).open() as client,
    ):
        assert (await client.stats()).workers == 0


async def test_an_error_of_the_verb_itself_is_no_wrong_command_line() -> None:
    with pytest.raises(ValueError, match="the verb's own"):
        async with (
            actorq.open_system(listen="memory://verb", concurrency=0, processes=0),
            Connection(url=("memory://verb",)).open(),
        ):
            raise ValueError("the verb's own")


async def test_a_question_that_is_never_answered_is_given_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    with pytest.raises(Failure, match="has not answered in 60 s") as caught:
        await answered(trio.Event().wait())

    assert trio.current_time() == pytest.approx(ANSWER_SECONDS)
    assert caught.value.code is Exit.UNREACHABLE
