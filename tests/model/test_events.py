import inspect
import re

import attrs
import pytest

from actorq.model import events
from actorq.model.events import Event, EventKind


@pytest.mark.parametrize("kind", EventKind)
def test_an_event_is_named_as_it_is_spelled(kind: EventKind) -> None:
    assert kind == kind.name.lower()


def test_every_kind_says_what_its_details_hold() -> None:
    source = inspect.getsource(events)

    described = re.findall(r'\n    ([A-Z_]+) = "[a-z_]+"\n    """[^:]+: .+\."""', source)

    assert described == [kind.name for kind in EventKind]


def test_an_event_is_a_fact_that_nobody_changes() -> None:
    event = Event(EventKind.DELIVERY_LOST, {"id": "a"})

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.kind = EventKind.ACTOR_DIED  # type: ignore[misc]
