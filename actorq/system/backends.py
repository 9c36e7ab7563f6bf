"""From a URL to the class that serves it; a driver is imported only when its URL is used."""

from __future__ import annotations

from actorq.contracts.store import Store


def open_store(url: str) -> Store:
    """Return the store that ``url`` names.

    Raises:
        ValueError: An unknown scheme, or a URL that its store does not understand.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator:
        if rest:
            raise ValueError(f"store: memory:// takes nothing after it, not {url!r}")
        from actorq.stores.memory import MemoryStore

        return MemoryStore()
    raise ValueError(f"store: no store for {url!r}; there is memory://")
