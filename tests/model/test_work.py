"""What workers say is a part of all messages, under one name."""

import inspect

from actorq.model import messages as m
from actorq.model import work


def test_every_message_of_work_is_one_of_the_messages() -> None:
    own = {
        name: cls
        for name, cls in inspect.getmembers(work, inspect.isclass)
        if cls.__module__ == work.__name__
    }

    assert len(own) > 10
    assert {name: getattr(m, name) for name in own} == own
