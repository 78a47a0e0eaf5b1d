"""Metering over both engines, with a clock that stands still."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tovuk_kit import migrations
from tovuk_kit.clock import FakeClock
from tovuk_kit.database import Database
from tovuk_kit.engines import open_database
from tovuk_metering.meter import heartbeats, leases, limiting, reports
from tovuk_metering.meter.bounds import Refused, Wait
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store.holders import Holder

#: 2027-01-15T08:00:00Z, the fake clock's beginning.
DAY, MONTH = "2027-01-15", "2027-01"


@pytest.fixture(scope="session")
def book() -> PriceBook:
    return PriceBook.load()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/metering.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, migrations.load("tovuk_metering.store"))
    yield database
    await database.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> list[str]:
    """Subjects of the notices published so far."""
    return []


@pytest_asyncio.fixture
async def turns(database: Database, clock: FakeClock, book: PriceBook, told: list[str]) -> Turns:
    turns = Turns(database, clock, book, told.append)
    await turns.begin()
    return turns


@dataclass
class Replica:
    """One holder, its leases and its level, driven by hand."""

    turns: Turns
    holder: Holder
    account: str = "account_1"
    held: dict[str, leases.State] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)

    async def beat(self, **said: object) -> heartbeats.Orders:
        beat = heartbeats.Beat([self.holder], leases=frozenset(s.lease_id for s in self.held.values()), **said)  # type: ignore[arg-type]
        return await heartbeats.answer(self.turns, beat)

    async def acquire(self, meter: str, want: int = 1) -> leases.State | Wait | Refused:
        has = self.held.get(meter, leases.State(0))
        ask = leases.Ask(self.holder, self.account, meter, has.lease_id, has.version, want)
        answer = await self.turns.write(lambda turn: leases.acquire(turn, ask))
        if isinstance(answer, leases.State):
            self.held[meter] = answer
        return answer

    async def use(self, meter: str, units: int, *, final: bool = False) -> None:
        """Use units of the lease and report them."""
        state = self.held[meter]
        total = self.used[state.lease_id] = self.used.get(state.lease_id, 0) + units
        lines = {("service_1", "kv_1"): total}
        report = reports.Report(
            self.holder.store, [reports.LeaseTotals(state.lease_id, self.holder.epoch, total, final, lines)]
        )
        await self.turns.write(lambda turn: reports.apply(turn, [report]))

    async def trim(self, meter: str) -> leases.State:
        state = self.held[meter]
        keep = self.used.get(state.lease_id, 0)
        self.held[meter] = await self.turns.write(
            lambda turn: leases.trim(turn, self.holder, state.lease_id, state.version, keep)
        )
        return self.held[meter]


@pytest_asyncio.fixture
async def first(turns: Turns) -> Replica:
    return await _replica(turns, "kv/one/0", 1)


@pytest_asyncio.fixture
async def second(turns: Turns) -> Replica:
    return await _replica(turns, "kv/two/0", 1)


@pytest_asyncio.fixture
async def neighbour(turns: Turns) -> Replica:
    """Another process at the first one's store."""
    return await _replica(turns, "kv/one/0", 2)


async def _replica(turns: Turns, store: str, epoch: int) -> Replica:
    await turns.write(lambda turn: limiting.set_plan(turn, "account_1", "self_hosted", 1))
    replica = Replica(turns, Holder(store, epoch))
    await replica.beat()
    return replica
