"""A pipeline that heals itself: a stage crashes over bad input, and goes on behind it.

    python examples/self_healing.py

Each stage sends to the next, so the next is started first: sink, parser, source. With
``rest_for_one`` a stage that crashes takes down those that were started after it, which are those
that send to it. Mailboxes outlive that; what is lost is the message in hand, which was the cause.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass

import trio

import actorq
from actorq import ActorRef, Event, EventKind, Mailbox

AHEAD_MAX = 8  # lines that wait for the parser; the source waits with the others
WORK_SECONDS = 0.03  # of the parser, for each line
MELTING = 60.0

PLACES = ["basel", "bern", "chur", "sion", "zug"]
LINES = [f"{PLACES[number % 5]} {number / 2}" for number in range(50)]
LINES[10] = "basel mild"  # not a number: a crash of the parser
LINES[25] = "basel"  # nor is this
LINES[37] = "chur 451"  # a number, but a crash of the sink


@dataclass(frozen=True)
class Reading:
    place: str
    celsius: float


@dataclass(frozen=True)
class Flush:
    """Asked of a stage, which answers when it has handled all that was sent before."""


async def sink(inbox: Mailbox[Reading | Flush], readings: list[Reading]) -> None:
    print(f"  sink, incarnation {inbox.ref.incarnation}")
    async for message in inbox:
        match message:
            case Reading(place=place, celsius=celsius):
                if celsius > MELTING:
                    raise OverflowError(f"the thermometer of {place} has melted")
                readings.append(message)
            case Flush():
                inbox.reply()


async def parser(inbox: Mailbox[str | Flush], sink: ActorRef[Reading]) -> None:
    print(f"  parser, incarnation {inbox.ref.incarnation}")
    async for message in inbox:
        match message:
            case str():
                await trio.sleep(WORK_SECONDS)
                place, celsius = message.split()
                await sink.tell(Reading(place, float(celsius)))
            case Flush():
                inbox.reply()


async def source(inbox: Mailbox[Flush], lines: deque[str], parser: ActorRef[str]) -> None:
    print(f"  source, incarnation {inbox.ref.incarnation}")
    inbox.started()  # it reads no mail before its work is done, which would say so too
    while lines:
        await parser.tell(lines[0])  # cancelled here, this line was not sent
        lines.popleft()
    async for _ in inbox:
        inbox.reply()


class Crashes:
    """Prints each of them; who goes down with a stage says so when it is up again."""

    def event(self, event: Event) -> None:
        if event.kind == EventKind.ACTOR_RESTARTED:
            print(f"{event.details['actor']} crashed: {event.details['error']}")


async def main() -> list[Reading]:
    # A restart calls a stage again with the same arguments: what is to outlive it goes in there.
    lines, readings = deque(LINES), list[Reading]()
    async with (
        actorq.open_system(instruments=[Crashes()]) as system,
        system.supervise("rest_for_one", name="pipeline") as supervisor,
    ):
        end = await supervisor.spawn(sink, readings)
        middle = await supervisor.spawn(parser, end, mailbox=AHEAD_MAX)
        # The source does not look at its mail while it works: told to stop, it is cancelled.
        start = await supervisor.spawn(source, lines, middle, shutdown=0)
        print(await system.tree())

        for stage in (start, middle, end):  # a question in a mailbox outlives restarts, too
            await stage.ask(Flush())
        print(await system.tree())

    arrived = [f"{reading.place} {reading.celsius}" for reading in readings]
    print(f"{len(LINES)} lines, {len(readings)} readings; lost:")
    print(*(f"  {line!r}" for line in LINES if line not in arrived), sep="\n")
    return readings


def run() -> int:
    try:
        trio.run(main)
        return 0
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(run())
