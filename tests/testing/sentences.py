"""Runs the sentences of the store's contract against stores that break some of them."""

from actorq.errors import Fenced
from actorq.stores.memory import MemoryStore
from actorq.testing import StoreContract

SENTENCES = [name for name in dir(StoreContract) if name.startswith("test_")]


async def broken_sentences(store: type[MemoryStore]) -> list[str]:
    """Run the whole suite, with a fresh store for each test; return those that fail."""
    failed = []
    for sentence in SENTENCES:
        try:
            await getattr(StoreContract(), sentence)(store())
        except (AssertionError, AttributeError, Fenced, ExceptionGroup, KeyError, ValueError):
            failed.append(sentence)
    return failed


async def breaks(store: type[MemoryStore], sentence: str) -> None:
    """Prove that the suite finds what is wrong with a store, by this sentence."""
    broken = await broken_sentences(store)

    assert f"test_{sentence}" in broken
    assert len(broken) < len(SENTENCES) / 2, "the other sentences hold"
