import asyncio

from tovuk_control.project.account import Accounts
from tovuk_control.store.accounts import Account
from tovuk_kit import migrations
from tovuk_kit.database import Database
from tovuk_kit.engines import open_database

STEPS = migrations.load("tovuk_control.store")


async def tables(database: Database, url: str) -> set[str]:
    catalogue = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if url.startswith("sqlite")
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return {row[0] for row in await database.read(lambda tx: tx.execute(catalogue))}


async def test_the_schema_goes_down_to_nothing_and_up_again(
    database: Database, database_url: str, accounts: Accounts
) -> None:
    await accounts.create("ada", "", "free")
    full = await tables(database, database_url)
    assert {"accounts", "tokens", "services", "resources", "activity"} <= full
    assert await migrations.migrate(database, STEPS, 0) == 0
    assert await tables(database, database_url) == {"schema_migrations"}
    assert await migrations.migrate(database, STEPS) == len(STEPS)
    assert await tables(database, database_url) == full
    assert await accounts.page(10, "") == ([], "")
    await accounts.create("ada", "", "free")


async def test_databases_from_before_there_were_shards_lie_at_the_first_one(database: Database) -> None:
    await migrations.migrate(database, STEPS, 1)
    claim = "INSERT INTO resources VALUES (?, 'account_1', 'service_1', ?, ?, ?, 0, 0)"
    await database.write(lambda tx: tx.execute(claim, ("sqlite_1", "sqlite_database", "DB", "DB")))
    await database.write(lambda tx: tx.execute(claim, ("kv_1", "kv_namespace", "CACHE", "CACHE")))
    await database.write(lambda tx: tx.execute("INSERT INTO tombstones VALUES ('sqlite', 'service_2', 5)"))
    await migrations.migrate(database, STEPS)
    placed = "SELECT database_id, shard, moving_to FROM placements"
    assert await database.read(lambda tx: tx.execute(placed)) == [("sqlite_1", "shard-1", "")]
    owners = "SELECT owner, service_id FROM tombstones"
    assert await database.read(lambda tx: tx.execute(owners)) == [("sqlite/shard-1", "service_2")]
    await database.write(lambda tx: tx.execute("INSERT INTO tombstones VALUES ('sqlite/shard-2', 'service_2', 6)"))
    await migrations.migrate(database, STEPS, 1)
    assert await database.read(lambda tx: tx.execute(owners)) == [("sqlite", "service_2")]


async def test_a_restart_finds_what_was_written(database: Database, database_url: str, ada: Account) -> None:
    await database.close()
    reopened = await open_database(database_url, STEPS)
    rows = await reopened.read(lambda tx: tx.execute("SELECT id FROM accounts"))
    await reopened.close()
    assert rows == [(ada.id,)]


async def test_instances_that_migrate_at_once_do_so_one_after_the_other(postgres_url: str) -> None:
    opened = await asyncio.gather(*(open_database(postgres_url, STEPS) for _ in range(3)))
    for database in opened:
        await database.close()
