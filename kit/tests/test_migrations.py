import asyncio
import dataclasses

import pytest

from tovuk_kit.engines import open_database
from tovuk_kit.migrations import Migration, MigrationChanged, MigrationError, SchemaTooNew, load, migrate

FIRST = Migration(1, "one", "CREATE TABLE one (k TEXT); INSERT INTO one VALUES ('a?');", "DROP TABLE one;")
SECOND = Migration(2, "two", "CREATE TABLE two (k TEXT)", "DROP TABLE two")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def db(url):
    db = await open_database(url, [])
    yield db
    await db.close()


async def has(db, table):
    try:
        await db.read(lambda tx: tx.execute(f"SELECT * FROM {table}"))
    except Exception:  # noqa: BLE001 -- each engine in its own words
        return False
    return True


async def test_migrations_go_up_and_down(db):
    assert await migrate(db, [FIRST, SECOND]) == 2
    assert (await has(db, "one"), await has(db, "two")) == (True, True)
    assert await migrate(db, [FIRST, SECOND], 1) == 1
    assert (await has(db, "one"), await has(db, "two")) == (True, False)
    assert await migrate(db, [FIRST, SECOND], 0) == 0
    assert await has(db, "one") is False
    assert await migrate(db, [FIRST, SECOND]) == 2


async def test_what_was_applied_is_not_applied_again(url, db):
    await db.close()
    for migrations in ([FIRST], [FIRST], [FIRST, SECOND]):
        again = await open_database(url, migrations)
        assert await again.read(lambda tx: tx.execute("SELECT k FROM one")) == [("a?",)]
        await again.close()


async def test_a_migration_that_fails_leaves_nothing(db):
    bad = Migration(2, "bad", "CREATE TABLE two (k TEXT); CREATE TABLE one (k TEXT);", "DROP TABLE two")
    for _ in range(2):
        with pytest.raises(Exception, match="one"):
            await migrate(db, [FIRST, bad])
        assert (await has(db, "one"), await has(db, "two")) == (False, False)
    assert await migrate(db, [FIRST]) == 1


async def test_a_database_newer_than_the_code_is_refused(url, db):
    await migrate(db, [FIRST, SECOND])
    await db.close()
    with pytest.raises(SchemaTooNew):
        await open_database(url, [FIRST])


async def test_a_migration_changed_after_its_use_is_refused(db):
    await migrate(db, [FIRST])
    with pytest.raises(MigrationChanged):
        await migrate(db, [dataclasses.replace(FIRST, up="CREATE TABLE one (k TEXT, more TEXT)"), SECOND])
    assert await has(db, "two") is False


@pytest.mark.parametrize("target", [-1, 3])
async def test_a_version_that_does_not_exist_is_refused(db, target):
    with pytest.raises(MigrationError):
        await migrate(db, [FIRST, SECOND], target)


async def test_two_processes_that_migrate_at_once_do_it_once(postgres_url):
    databases = await asyncio.gather(*(open_database(postgres_url, [FIRST, SECOND]) for _ in range(4)))
    assert await databases[0].read(lambda tx: tx.execute("SELECT count(*) FROM one")) == [(1,)]
    for database in databases:
        await database.close()


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "some_service" / "migrations"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    import sys

    sys.modules.pop("some_service", None)


def test_files_are_loaded_in_the_order_of_their_numbers(package):
    for name in ("0002_two", "0001_one"):
        (package / f"{name}.up.sql").write_text(f"up {name}")
        (package / f"{name}.down.sql").write_text(f"down {name}")
    one, two = load("some_service")
    assert (one.version, one.name, one.up, two.version, two.down) == (1, "one", "up 0001_one", 2, "down 0002_two")


@pytest.mark.parametrize(
    "names",
    [
        ["0001_one.up.sql"],
        ["0002_two.up.sql", "0002_two.down.sql"],
        ["1_one.up.sql", "1_one.down.sql"],
        ["0001_one.up.sql", "0001_one.down.sql", "0001_other.up.sql", "0001_other.down.sql"],
    ],
    ids=["half", "gap", "name", "number twice"],
)
def test_files_that_make_no_sequence_are_refused(package, names):
    for name in names:
        (package / name).write_text("")
    with pytest.raises(MigrationError):
        load("some_service")
