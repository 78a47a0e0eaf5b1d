import asyncio

from tovuk_control.project.account import Accounts
from tovuk_control.store.accounts import Account
from tovuk_kit import migrations
from tovuk_kit.database import Database, open_database

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
