from typing import Any

from actorq.contracts.link import Port
from actorq.runtime.exchange import Exchange


class Peer:
    """Says hello when it is connected, and remembers what happens to it."""

    def __init__(self, name: str = "peer") -> None:
        self.name = name
        self.port: Port | None = None
        self.log: list[Any] = []

    def connected(self, port: Port) -> None:
        self.port = port
        self.log.append("connected")
        port.send(f"hello of {self.name}")

    def received(self, message: Any) -> None:
        self.log.append(message)

    def disconnected(self, error: BaseException | None) -> None:
        self.port = None
        self.log.append(error or "disconnected")

    def suspended(self, error: Exception) -> None:
        self.log.append(("suspended", error))


class Actor:
    """Takes mail."""

    def __init__(self) -> None:
        self.mail: list[tuple[int, tuple[Any, ...]]] = []

    def post(self, connection: int, messages: tuple[Any, ...]) -> None:
        self.mail.append((connection, messages))


def test_a_peer_is_connected_when_the_actor_is_open() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.attach(peer)
    assert peer.log == []
    exchange.open(actor.post)

    assert peer.log == ["connected"]
    assert actor.mail == [(1, ("hello of peer",))]
    assert exchange.connected == {1: peer}


def test_a_peer_that_comes_later_is_connected_at_once() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.open(actor.post)
    exchange.attach(peer)

    assert actor.mail == [(1, ("hello of peer",))]


def test_peers_are_connected_in_the_order_in_which_they_came() -> None:
    exchange, actor = Exchange(ended="gone"), Actor()
    for name in ("a", "b", "c"):
        exchange.attach(Peer(name))
    exchange.open(actor.post)

    assert [messages for _, messages in actor.mail] == [
        ("hello of a",),
        ("hello of b",),
        ("hello of c",),
    ]


def test_messages_that_are_sent_together_arrive_together() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.open(actor.post)
    exchange.attach(peer)
    assert peer.port is not None
    peer.port.send(1, 2, 3)

    assert actor.mail[-1] == (1, (1, 2, 3))


def test_every_opening_gives_new_connection_numbers() -> None:
    exchange, a, b = Exchange(ended="gone"), Peer("a"), Peer("b")
    exchange.attach(a)
    exchange.attach(b)
    first, second = Actor(), Actor()
    exchange.open(first.post)
    exchange.close()
    exchange.open(second.post)

    assert [number for number, _ in first.mail + second.mail] == [1, 2, 3, 4]
    assert exchange.connected == {3: a, 4: b}


def test_what_is_sent_on_a_connection_that_has_ended_is_dropped() -> None:
    exchange, peer, first, second = Exchange(ended="gone"), Peer(), Actor(), Actor()
    exchange.attach(peer)
    exchange.open(first.post)
    old = peer.port
    assert old is not None
    exchange.close()
    exchange.open(second.post)
    old.send("late")

    assert [messages for _, messages in first.mail + second.mail] == [("hello of peer",)] * 2


def test_closing_ends_every_connection_before_anybody_can_send() -> None:
    exchange, a, b = Exchange(ended="gone"), Peer("a"), Peer("b")
    actor = Actor()
    exchange.open(actor.post)
    exchange.attach(a)
    exchange.attach(b)
    exchange.close()

    assert a.log[-1] == b.log[-1] == "disconnected"
    assert exchange.connected == {}


def test_a_peer_that_leaves_is_reported_to_the_actor_on_its_connection() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.open(actor.post)
    exchange.attach(peer)
    port = peer.port
    assert port is not None
    exchange.detach(peer)
    port.send("late")

    assert actor.mail[1:] == [(1, ("gone",))]
    assert exchange.connected == {}


def test_a_peer_that_left_is_not_connected_again() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.attach(peer)
    exchange.detach(peer)
    exchange.detach(peer)
    exchange.open(actor.post)

    assert (peer.log, actor.mail) == ([], [])


def test_a_peer_that_leaves_while_the_actor_is_down_is_nobodys_business() -> None:
    exchange, peer, actor = Exchange(ended="gone"), Peer(), Actor()
    exchange.open(actor.post)
    exchange.attach(peer)
    exchange.close()
    exchange.detach(peer)

    assert actor.mail == [(1, ("hello of peer",))]


def test_an_exchange_that_is_closed_for_ever_tells_everybody_why() -> None:
    exchange, early, late, why = Exchange(ended="gone"), Peer(), Peer(), RuntimeError("over")
    exchange.attach(early)
    exchange.close(why)
    exchange.attach(late)

    assert early.log == late.log == [why]


def test_an_actor_that_crashes_while_it_opens_is_offered_to_nobody_else() -> None:
    exchange, first, second = Exchange(ended="gone"), Peer("first"), Peer("second")
    exchange.attach(first)
    exchange.attach(second)
    exchange.open(lambda connection, messages: exchange.close())

    assert first.log == ["connected", "disconnected"]
    assert "connected" not in second.log


def test_while_the_actor_cannot_open_every_peer_is_told_why_also_who_comes_later() -> None:
    exchange, peer, late, actor = Exchange(ended="gone"), Peer("a"), Peer("b"), Actor()
    error = ValueError("no disk")
    exchange.attach(peer)
    exchange.suspend(error)
    exchange.attach(late)
    assert peer.log == late.log == [("suspended", error)]
    exchange.open(actor.post)

    assert exchange.suspended is None
    assert late.log[1:] == ["connected"]
