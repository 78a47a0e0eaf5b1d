"""The schema goes up and down again on both engines."""

from tovuk_kit import migrations
from tovuk_kit.engines import open_database

STEPS = migrations.load("tovuk_metering.store")


async def test_the_schema_goes_down_to_nothing_and_up_again(database_url: str) -> None:
    database = await open_database(database_url, STEPS)
    try:
        assert await migrations.migrate(database, STEPS, 0) == 0
        assert await migrations.migrate(database, STEPS) == len(STEPS)
        assert await database.read(lambda tx: tx.execute("SELECT * FROM leases")) == []
    finally:
        await database.close()
