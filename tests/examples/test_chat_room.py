"""`examples/chat_room.py` from its first line to its last, in virtual time."""

import io
from contextlib import redirect_stdout

import pytest
import trio
from trio.testing import MockClock

import actorq
from examples.chat_room import Join, Line, Remark, WhoIsHere, main, room


@pytest.fixture(scope="module")
def transcript() -> list[str]:
    with redirect_stdout(io.StringIO()) as printed:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return printed.getvalue().splitlines()


def screen(transcript: list[str], name: str) -> list[str]:
    head = f"{name:>5} | "
    return [line.removeprefix(head) for line in transcript if line.startswith(head)]


def test_everybody_reads_the_same_lines_in_the_same_order(transcript: list[str]) -> None:
    assert screen(transcript, "ada") == [
        "ada comes in",
        "bob comes in",
        "ada: hello, bob",
        "eve comes in",
        "bob: 4 for each",
        "eve leaves (crash)",
        "ada: what happened to eve?",
        "bob leaves (shutdown)",
    ]
    assert screen(transcript, "bob") == screen(transcript, "ada")[1:-1]
    assert screen(transcript, "eve") == ["eve comes in", "bob: 4 for each"]


def test_the_room_knows_who_is_there(transcript: list[str]) -> None:
    assert [line for line in transcript if line.startswith("here:")] == [
        "here: ada bob eve",
        "here: ada",
    ]


def test_a_name_is_given_once(transcript: list[str]) -> None:
    assert "no second ada" in transcript


async def test_a_slow_reader_misses_lines_and_holds_up_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def asleep(inbox: actorq.Mailbox[Line], lobby: actorq.ActorRef[Join]) -> None:
        await lobby.ask(Join("tom", inbox.ref))
        inbox.started()
        await trio.sleep_forever()

    async with actorq.open_system() as system:
        lobby = await system.spawn(room)
        await system.spawn(asleep, lobby, mailbox=1, shutdown=0)  # full since "tom comes in"
        await lobby.tell(Remark("ada", "anybody here?"))

        assert await lobby.ask(WhoIsHere()) == ["tom"]

    assert "tom misses a line" in capsys.readouterr().out
