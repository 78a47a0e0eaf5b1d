"""A power cut takes what was not synced, in pieces: nothing acknowledged is missing, and usage is what was done."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import apsw
import pytest
from composition import Composition
from load import Attempt, Load, Outcome
from power_cut import HEADER, Record, cuts, read_records
from row_writers import SHOW, RowWriters, create_table, problems, stored_rows
from shard_operator import Operator
from tenant import Tenant
from tenant_database import TenantDatabase

_SOURCE = Path(__file__).parent.parent / "support" / "disk_trace.c"
_CUTS = 5
_CONNECTIONS = 16
#: So much that logs are copied back in mid-traffic.
_ROWS = 6_000
_PAD_BYTES = 2_000


@pytest.fixture(scope="session")
def disk_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records what a process does to its files."""
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI") == "true":
            pytest.fail("cc is missing: apt-get install gcc libc6-dev")
        pytest.skip("cc is missing: apt-get install gcc libc6-dev")
    made = tmp_path_factory.mktemp("disk_trace") / "disk_trace.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, _SOURCE, "-ldl", "-lpthread"], check=True)
    return made


#: What the cut left is another folder, which takes the shard over when the claim has ended.
_OWNED_BRIEFLY = {"TOVUK_SQLITE_OWNERSHIP_SECONDS": "3"}


class _Run:
    """A product whose sqlite service is recorded, and what its callers heard at which place of the record."""

    def __init__(self, folder: Path, disk_trace: Path, engine: str, **settings: str) -> None:
        self.data = folder / "sqlite"
        self.data.mkdir(mode=0o700)
        self.trace = folder / "trace"
        self.settings = {
            "LD_PRELOAD": str(disk_trace),
            "TRACE_BELOW": str(self.data),
            "TRACE_TO": str(self.trace),
            "TOVUK_SQLITE_ENGINE": engine,
            **_OWNED_BRIEFLY,
            **settings,
        }
        self._heard: list[int] = []

    def hear(self, _attempt: Attempt) -> None:
        """Whatever made the answer possible stands in the record before this place."""
        self._heard.append(self.trace.stat().st_size)

    def records(self) -> list[Record]:
        """The record, with an A of the attempt's number where each was heard."""
        merged: list[Record] = []
        place, number = 0, 0
        for record in read_records(self.trace.read_bytes()):
            while number < len(self._heard) and self._heard[number] <= place:
                merged.append(Record(b"A", number=number))
                number += 1
            merged.append(record)
            place += HEADER.size + len(record.data)
        return [*merged, *(Record(b"A", number=rest) for rest in range(number, len(self._heard)))]


def _losses(folder: Path, databases: dict[str, str], load: Load, told: set[int]) -> list[str]:
    """What is wrong with the databases in a folder, `told` being the attempts that were heard of before the cut."""
    found: list[str] = []
    for database_id, path in databases.items():
        heard = Load(load.url, load.token, load.rng)
        for number, attempt in enumerate(load.attempts):
            if attempt.request.path == path and (number in told or attempt.outcome is not Outcome.DONE):
                heard.attempts.append(attempt)
            elif attempt.request.path == path:
                heard.attempts.append(Attempt(attempt.request, Outcome.UNKNOWN, attempt.began, attempt.ended))
        files = list(folder.rglob(f"{database_id}/*.sqlite"))
        if len(files) != 1:
            found.append(f"{database_id} has {len(files)} files")
            continue
        try:
            file = apsw.Connection(str(files[0]))
            found += [f"{database_id}: {row[0]}" for row in file.execute("PRAGMA integrity_check") if row[0] != "ok"]
            rows: dict[str, int] = dict(file.execute(SHOW))
            used = file.execute("SELECT coalesce(sum(units), 0) FROM _tovuk_used").get
        except apsw.Error as error:
            found.append(f"{database_id}: {error!r}")
            continue
        found += problems(heard, rows)
        if used != sum(rows.values()):
            found.append(f"{database_id} has {sum(rows.values())} rows, and usage of {used}")
    return found


class _Traffic:
    """What was done to three databases of a tenant before the service was killed."""

    def __init__(self, run: _Run, house: Composition, rng: random.Random) -> None:
        self._house = house
        self.tenant = Tenant.made(house.url, house.token)
        self.databases = [TenantDatabase(self.tenant, f"DB{number}") for number in range(3)]
        for database in self.databases:
            database.query(create_table(_PAD_BYTES))
        answer = self.tenant.request("GET", f"/v1/services/{self.tenant.service}/resources")
        paths = {database.name: database.path for database in self.databases}
        #: Paths of queries by the database's id.
        self.paths = {found["id"]: paths[found["name"]] for found in answer.json()["sqliteDatabases"]}
        self.load = Load(house.url, self.tenant.token, rng, heard=run.hear)
        self._writers = RowWriters(self.databases, rng, rows_max=60)

    async def gathered(self) -> None:
        """Those that are placed at another shard move to the one that is recorded."""
        operator = Operator(self._house.url, self._house.token)
        for database_id in self.paths:
            if operator.shard_of(database_id) != "sqlite":
                await operator.moved(database_id, "sqlite")
        operator.close()

    async def until_killed(self) -> None:
        # Without a pipe nothing is confirmed: all usage stays where the effect is.
        self._house.kill("nats")
        await self.load.run(self._writers, connections=_CONNECTIONS, enough=lambda: self.load.done >= _ROWS)
        self._house.kill("sqlite")

    def close(self) -> None:
        for database in self.databases:
            database.close()


@pytest.mark.seeds(short=1, full=10)
async def test_nothing_acknowledged_is_lost_in_a_power_cut(
    disk_trace: Path, engine: str, seed: int, rng: random.Random, tmp_path: Path
) -> None:
    run = _Run(tmp_path, disk_trace, engine)
    settings = {"sqlite": run.settings, "sqlite-2": {"TOVUK_SQLITE_ENGINE": engine}}
    with Composition.started(tmp_path, own_settings=settings, shards=2) as house:
        traffic = _Traffic(run, house, rng)
        await traffic.gathered()
        await traffic.until_killed()
        for number, (disk, told) in enumerate(cuts(run.records(), {}, rng, _CUTS)):
            after = tmp_path / f"cut-{number}"
            after.mkdir(mode=0o700)
            disk.after_cut(rng, after)
            assert _losses(after, traffic.paths, traffic.load, told) == [], f"cut {number}"

        # The service itself goes on with what the last of them left.
        shutil.rmtree(run.data)
        after.rename(run.data)
        house.own_settings["sqlite"] = {"TOVUK_SQLITE_ENGINE": engine, **_OWNED_BRIEFLY}
        house.start("nats")
        house.start("sqlite")
        house.wait_until_ready()
        stored = stored_rows(traffic.databases)
        assert problems(traffic.load, stored) == []
        traffic.tenant.wait_until_metered("sqlite_rows_written", stored.total())
        traffic.close()


async def test_the_power_cuts_find_a_service_that_does_not_sync(
    disk_trace: Path, engine: str, rng: random.Random, tmp_path: Path
) -> None:
    run = _Run(tmp_path, disk_trace, engine, TRACE_SYNCS="none")
    with Composition.started(tmp_path, own_settings={"sqlite": run.settings}) as house:
        traffic = _Traffic(run, house, rng)
        await traffic.until_killed()
        traffic.close()
    disk, told = list(cuts(run.records(), {}, rng, 2))[-1]
    after = tmp_path / "cut"
    after.mkdir()
    disk.after_cut(rng, after)
    assert _losses(after, traffic.paths, traffic.load, told)
