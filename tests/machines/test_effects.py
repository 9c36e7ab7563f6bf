from actorq.errors import TaskNotFound
from actorq.machines.effects import Lookup, Outbox, Search, Send, Tell
from actorq.model import messages as m
from actorq.model.events import EventKind
from actorq.model.filters import Filter


def test_an_outbox_keeps_effects_in_their_order() -> None:
    out, filter = Outbox(), Filter(queue="images")

    out.send(1, "message")
    out.lookup(2, "question", "a", "b")
    out.search(3, "question", filter, "cursor", 10, 7)
    out.tell(EventKind.ACTOR_DIED, actor="queue")

    assert out == [
        Send(1, "message"),
        Lookup(2, "question", ("a", "b")),
        Search(3, "question", filter, "cursor", 10, 7),
        Tell(EventKind.ACTOR_DIED, {"actor": "queue"}),
    ]


def test_a_reply_names_the_request_that_it_answers() -> None:
    out, error = Outbox(), TaskNotFound("a")

    out.reply(1, m.Join(41), "value")
    out.reply(1, m.Inspect(42, "a"), error=error)

    assert out == [Send(1, m.Reply(41, "value", None)), Send(1, m.Reply(42, None, error))]


def test_a_search_begins_with_a_count_of_nothing() -> None:
    out = Outbox()

    out.search(1, "question", Filter(), None, 10)

    assert out == [Search(1, "question", Filter(), None, 10, 0)]
