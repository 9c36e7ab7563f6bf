import pytest

from actorq.model.records import Write
from actorq.stores.memory import MemoryStore
from actorq.testing.store_contract import (
    PARTITION, StoreContract, at_once, deleted, ended, fenced, found, head, live, own, task_id,
)  # fmt: skip


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
