"""`kill -9` of the sqlite service under writes and batches: nothing acknowledged is missing, usage is what was done."""

import asyncio
import contextlib
import random

import pytest
from composition import Composition
from load import Load
from row_writers import RowWriters, create_table, problems, stored_rows
from tenant import Tenant
from tenant_database import TenantDatabase

_KILLS, _KILLS_FULL = 5, 10
_CONNECTIONS = 16
_DATABASES = 3


@pytest.mark.seeds(short=1, full=10)
async def test_nothing_acknowledged_is_lost_when_the_service_is_killed(
    composition: Composition, tenant: Tenant, seed: int, rng: random.Random, pytestconfig: pytest.Config
) -> None:
    with contextlib.ExitStack() as held:
        databases = [TenantDatabase(tenant, f"DB{number}") for number in range(_DATABASES)]
        for database in databases:
            held.callback(database.close)
            database.query(create_table(pad_bytes=500))
        load, writers = Load(tenant.url, tenant.token, rng), RowWriters(databases, rng, rows_max=60)
        for kill in range(_KILLS_FULL if pytestconfig.getoption("--full") else _KILLS):
            await _killed_in_traffic(composition, load, writers, rng)
            stored = stored_rows(databases)
            assert problems(load, stored) == [], f"kill {kill}"
            for database in databases:
                assert database.rows("PRAGMA integrity_check") == [["ok"]], f"kill {kill}"
    tenant.wait_until_metered("sqlite_rows_written", stored.total())
    assert tenant.in_breakdown("sqlite_rows_written") == stored.total()


async def _killed_in_traffic(composition: Composition, load: Load, writers: RowWriters, rng: random.Random) -> None:
    enough = load.done + rng.randint(100, 2_000)
    killed = asyncio.Event()
    traffic = asyncio.create_task(load.run(writers, connections=_CONNECTIONS, enough=killed.is_set))
    while load.done < enough and not traffic.done():  # noqa: ASYNC110 -- the load tells nobody
        await asyncio.sleep(0.002)
    shard = rng.choice(composition.shards)
    composition.kill(shard)
    killed.set()
    composition.start(shard)
    await traffic
    composition.wait_until_ready()
