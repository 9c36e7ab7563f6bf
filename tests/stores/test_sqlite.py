import pytest
from actorq.codec.records import Records
from actorq.stores.sqlite import SqliteStore
from actorq.testing.store_contract import StoreContract
class TestSqlite(StoreContract):
    notes_uses = False

    @pytest.fixture
    async def store(self, tmp_path):
        s=SqliteStore(tmp_path/"t.db", Records())
        await s.open()
        yield s
        await s.close()
