import pytest

from actorq.stores.memory import MemoryStore
from actorq.testing.store_contract import (
    StoreContract,
)  # fmt: skip


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
