from tovuk_control.store import services as table
from tovuk_control.store.services import Service
from tovuk_kit.database import Database, Tx

API = Service(
    "service_00000000000000000000", "account_00000000000000000000", "api", "rust_worker", frozenset({"kv"}), 1
)


async def test_only_a_deleted_service_whose_time_is_over_is_purged(database: Database) -> None:
    def work(tx: Tx) -> list[bool]:
        table.insert(tx, API)
        while_living = table.purge(tx, API.id, 100)
        table.delete(tx, API.id, 5, 50)
        too_early = table.purge(tx, API.id, 49)
        # Another instance whose clock is behind, after this one listed the service as due.
        table.restore(tx, API.id, 49)
        after_restore = table.purge(tx, API.id, 50)
        table.delete(tx, API.id, 5, 50)
        return [while_living, too_early, after_restore, table.purge(tx, API.id, 50), table.purge(tx, API.id, 50)]

    assert await database.write(work) == [False, False, False, True, False]


async def test_only_a_service_whose_time_is_not_over_is_restored(database: Database) -> None:
    def work(tx: Tx) -> list[bool]:
        table.insert(tx, API)
        table.delete(tx, API.id, 5, 50)
        return [table.restore(tx, API.id, 50), table.restore(tx, API.id, 49), table.restore(tx, API.id, 49)]

    assert await database.write(work) == [False, True, False]
    assert await database.read(lambda tx: table.living_by_id(tx, API.account_id, API.id)) == API
