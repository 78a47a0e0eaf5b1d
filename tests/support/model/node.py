"""Metering's own code as one process of the world: its servicers over a database in memory, killed and restarted."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import apsw

from model.world import LoopClock, Network
from tovuk.metering.v1 import metering_pb2 as wire
from tovuk_kit import migrations
from tovuk_kit.database import Tx
from tovuk_kit.errors import TovukError
from tovuk_kit.sqlite_apsw import ApswLibrary
from tovuk_kit.sqlite_tx import SqliteTx
from tovuk_metering.api import Leases, UsageApi
from tovuk_metering.clients.reports import LeaseTotals, LevelTotals, Report
from tovuk_metering.meter import heartbeats, reports
from tovuk_metering.meter.prices import PriceBook
from tovuk_metering.meter.turn import Turns
from tovuk_metering.store import holders, levels

T = TypeVar("T")

_BOOK = PriceBook.load()
_MIGRATIONS = migrations.load("tovuk_metering.store")


class MemoryDatabase:
    """The `Database` port over one connection, on the caller's thread: virtual time knows no threads."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")

    async def write(self, work: Callable[[Tx], T]) -> T:
        with self._connection:
            return work(SqliteTx(self._connection, ApswLibrary()))

    async def read(self, work: Callable[[Tx], T]) -> T:
        return work(SqliteTx(self._connection, ApswLibrary()))

    async def close(self) -> None:
        self._connection.close()


class MeteringNode:
    """What holders call (`LeaseService`), what the pipe delivers to, and what an account's owner sets."""

    def __init__(self, network: Network, clock: LoopClock) -> None:
        self._network = network
        self._clock = clock
        self._database = MemoryDatabase()
        self._turns: Turns
        self._leases: Leases
        self._usage: UsageApi
        #: Called with each notice's subject, as NATS would carry it.
        self.noticed: Callable[[str], None] = lambda subject: None

    async def begin(self, account_id: str) -> None:
        """First start: an empty database, and one account without limits of its plan."""
        await self._database.write(lambda tx: migrations.apply(tx, _MIGRATIONS))
        await self.restart()
        request = wire.SetPlanRequest(account_id=account_id, plan="self_hosted", revision=1)
        await self._usage.SetPlan(request, _NO_CONTEXT)

    async def restart(self) -> None:
        """A new incarnation over what the last one had made durable."""
        self._turns = Turns(self._database, self._clock, _BOOK, self._publish)
        await self._turns.begin()
        self._leases = Leases(self._turns)
        self._usage = UsageApi(self._turns)

    def _publish(self, subject: str) -> None:
        self.noticed(subject)

    async def give_up_silent(self) -> None:
        """What upkeep does twice a second."""
        gone = await self._turns.read(heartbeats.lapsed)
        if gone:
            await self._turns.write(lambda turn: heartbeats.give_up(turn, gone))

    async def deliver(self, payload: bytes) -> None:
        """A report has come through the pipe."""
        report = wire.UsageReport.FromString(payload)
        totals = [LeaseTotals(t.lease_id, t.epoch, t.seq, t.final, _lines(t.lines)) for t in report.leases]
        levels = [LevelTotals(t.account_id, t.meter, t.seq, t.bytes, _lines(t.lines)) for t in report.levels]
        await self._turns.write(lambda turn: reports.apply(turn, [Report(report.store, totals, levels)]))

    async def put_cap(self, account_id: str, meter: str, units: int) -> bool:
        """Whether the cap is in force; stored it is in any case."""
        request = wire.PutCapRequest(
            account_id=account_id, meter=meter, period="day", cap_value=units, hard_stop=True, notify_at_percent=80
        )
        try:
            await self._usage.PutCap(request, _NO_CONTEXT)
        except TovukError:
            return False
        return True

    async def lift_cap(self, account_id: str, meter: str) -> None:
        """Let no cap bind any more."""
        await self._usage.DeleteCap(
            wire.DeleteCapRequest(account_id=account_id, meter=meter, period="day"), _NO_CONTEXT
        )

    async def level_bytes(self, account_id: str, meter: str) -> dict[str, int]:
        """Bytes by store, as metering knows them."""
        found = await self._database.read(lambda tx: levels.of_account(tx, account_id, meter))
        return {level.store: level.bytes for level in found}

    async def living(self) -> set[tuple[str, int]]:
        """Store and epoch of every holder that is not given up."""
        found = await self._database.read(lambda tx: holders.in_state(tx, "live"))
        return {(holder.store, holder.epoch) for holder in found}

    async def billed(self) -> dict[str, int]:
        """Units in the ledger by UTC day."""
        rows = await self._database.read(lambda tx: tx.execute("SELECT day, sum(units) FROM ledger GROUP BY day"))
        return dict(rows)

    async def sync(self, request: wire.SyncRequest) -> wire.SyncReply:
        return await self._network.call(lambda: self._leases.Sync(request, _NO_CONTEXT))

    async def acquire(self, request: wire.AcquireRequest) -> wire.AcquireReply:
        return await self._network.call(lambda: self._leases.Acquire(request, _NO_CONTEXT))

    async def trim(self, request: wire.TrimRequest) -> wire.LeaseState:
        return await self._network.call(lambda: self._leases.Trim(request, _NO_CONTEXT))

    async def allow(self, request: wire.AllowRequest) -> wire.AllowReply:
        return await self._network.call(lambda: self._leases.Allow(request, _NO_CONTEXT))

    async def trim_level(self, request: wire.TrimLevelRequest) -> wire.TrimLevelReply:
        return await self._network.call(lambda: self._leases.TrimLevel(request, _NO_CONTEXT))


#: The servicers take no look at it.
_NO_CONTEXT: Any = None


def _lines(lines: Sequence[wire.UsageLine]) -> dict[tuple[str, str], int]:
    return {(line.service_id, line.resource_id): line.units for line in lines}
