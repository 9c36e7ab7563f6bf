"""From a URL to the class that serves it; a driver is imported only when its URL is used."""

from __future__ import annotations

from actorq.contracts.store import Store


def open_store(url: str | Store) -> Store:
    """Return the store that ``url`` names, or the store that it is.

    Raises:
        TypeError: Neither a URL nor a store.
        ValueError: An unknown scheme, or a URL that its store does not understand.
    """
    if not isinstance(url, str):
        if not hasattr(url, "immediate"):
            raise TypeError(f"store: must be a URL or a Store, not {url!r}")
        return url
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator:
        if rest:
            raise ValueError(f"store: memory:// takes nothing after it, not {url!r}")
        from actorq.stores.memory import MemoryStore

        return MemoryStore()
    raise ValueError(f"store: no store for {url!r}; there is memory://")
