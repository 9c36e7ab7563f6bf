"""A chat room: an actor for the room, one for each member, and monitors that see who is gone.

    python examples/chat_room.py

Each member prints the lines of its screen. Nobody says good-bye: the room monitors every member,
and gets a `Down` however that one has ended.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import trio

import actorq
from actorq import ActorRef, Down, Mailbox

PAUSE = 0.3  # seconds between two remarks, for those who read along


# --- What is said ------------------------------------------------------------------------


@dataclass(frozen=True)
class Join:
    """Asked by a member: is it in? Refused with `NameTaken`."""

    name: str
    ref: ActorRef[Line]


@dataclass(frozen=True)
class Remark:
    name: str
    text: str


@dataclass(frozen=True)
class WhoIsHere:
    """Asked by anybody: the names, sorted."""


@dataclass(frozen=True)
class Line:
    """A line for a member's screen."""

    text: str


@dataclass(frozen=True)
class Typed:
    """What the user in front of a member's screen types."""

    text: str


class NameTaken(Exception):
    pass


# --- Who says it -------------------------------------------------------------------------


async def room(inbox: Mailbox[Join | Remark | WhoIsHere | Down]) -> None:
    members: dict[str, ActorRef[Line]] = {}

    def show(text: str) -> None:
        for name, ref in members.items():
            try:
                ref.try_tell(Line(text))  # nobody waits for one who reads slowly
            except actorq.MailboxFull:
                print(f"      ({name} misses a line)")

    async for message in inbox:
        match message:
            case Join(name=name) if name in members:
                inbox.refuse(NameTaken(name))
            case Join(name=name, ref=ref):
                inbox.monitor(ref)
                members[name] = ref
                inbox.reply()
                show(f"{name} comes in")
            case Remark(name=name, text=text):
                show(f"{name}: {text}")
            case WhoIsHere():
                inbox.reply(sorted(members))
            case Down(ref=ref, reason=reason):
                name = next(name for name in members if members[name] is ref)
                del members[name]
                show(f"{name} leaves ({reason})")


async def member(inbox: Mailbox[Line | Typed], name: str, lobby: ActorRef[Join | Remark]) -> None:
    await lobby.ask(Join(name, inbox.ref))  # before it reads: if this fails, so does spawn()
    async for message in inbox:
        match message:
            case Line(text=text):
                print(f"{name:>5} | {text}")
            case Typed(text=text) if text.startswith("/share "):
                cake, heads = text.removeprefix("/share ").split("/")
                await lobby.tell(Remark(name, f"{int(cake) / int(heads):g} for each"))
            case Typed(text=text):
                await lobby.tell(Remark(name, text))


# --- What happens ------------------------------------------------------------------------


async def main() -> None:
    async with actorq.open_system(instruments=[]) as system:  # crashes show in the room, not a log
        lobby = await system.spawn(room)

        async def enter(name: str) -> ActorRef[Line | Typed]:
            # Who crashes is out, and may come in again: nothing is restarted here.
            return await system.spawn(member, name, lobby, name=name, restart="temporary")

        async def says(who: ActorRef[Typed], text: str) -> None:
            await who.tell(Typed(text))
            await trio.sleep(PAUSE)

        ada = await enter("ada")
        bob = await enter("bob")
        await says(ada, "hello, bob")
        eve = await enter("eve")
        await says(bob, "/share 12/3")
        print("here:", *await lobby.ask(WhoIsHere()))

        try:
            await system.spawn(member, "ada", lobby)
        except NameTaken as error:
            print("no second", error)

        await says(eve, "/share 12/0")  # a bug in member(): it crashes, and is out of the room
        await says(ada, "what happened to eve?")
        await bob.stop()
        await trio.sleep(PAUSE)
        print("here:", *await lobby.ask(WhoIsHere()))


def run() -> int:
    try:
        trio.run(main)
        return 0
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(run())
