"""From a URL to a store."""

import pytest

import actorq
from actorq.stores.memory import MemoryStore
from actorq.system.backends import open_store


def test_memory_is_a_store_of_its_own_each_time() -> None:
    first, second = open_store("memory://"), open_store("memory://")

    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize("url", ["", "memory", "memory:", "oracle://host", "MEMORY://", "://"])
def test_a_url_that_names_no_store_is_refused_with_the_choice(url: str) -> None:
    with pytest.raises(ValueError, match=r"store: no store for .*; there is memory://"):
        open_store(url)


def test_a_memory_store_has_nothing_to_say_about_where_it_is() -> None:
    with pytest.raises(ValueError, match="memory:// takes nothing after it"):
        open_store("memory://somewhere")


async def test_a_wrong_url_is_an_error_of_open_system() -> None:
    with pytest.raises(ValueError, match="no store for 'oracle://'"):
        async with actorq.open_system("oracle://"):
            pytest.fail("it must not open")
