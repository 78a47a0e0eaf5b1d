"""Units of a meter for one run: some reserved before it begins, more while it runs, the unused ones given back."""

import asyncio
from dataclasses import dataclass

from tovuk_kit.errors import TovukError
from tovuk_kit.holding import Lease
from tovuk_kit.leases import Meters, UsageSettling
from tovuk_kit.meters import MeterName
from tovuk_sqlite.limits import FIRST_UNIT_ENTRIES, UNLIMITED_ENTRIES
from tovuk_sqlite.store.base import Charge, Database

#: The one store of this process.
STORE = 0
#: How much more than before a run reserves when its units do not suffice.
_GROWTH = 8


@dataclass(slots=True)
class _Reserved:
    lease: Lease
    units: int


class Units:
    """What one run holds of one meter. Ends in exactly one of `count`, `spend` and `give_back`.

    One that does not wait is told UsageSettling where units may come back: it gives its own back, so that nobody waits
    for what it holds, and begins again with more.
    """

    def __init__(self, meters: Meters, account_id: str, meter: MeterName, *, waits: bool) -> None:
        self._meters = meters
        self._account_id = account_id
        self._meter = meter
        self._waits = waits
        self._reserved: list[_Reserved] = []
        #: Why there are no more.
        self.refusal: TovukError | None = None

    @property
    def held(self) -> int:
        """Units reserved."""
        return sum(reserved.units for reserved in self._reserved)

    @property
    def epochs(self) -> set[int]:
        """The epochs they would be charged to."""
        return {reserved.lease.epoch for reserved in self._reserved}

    async def begin(self, least: int = 1) -> None:
        """Reserve what a common run needs. Raises what Meters.acquire raises when there are not as many as `least`."""
        if self._take(max(FIRST_UNIT_ENTRIES, least)) < least:
            self.give_back()
            self._keep(await self._meters.acquire(STORE, self._account_id, self._meter, least), least)

    def begin_at_once(self, units: int) -> bool:
        """Reserve so many, if they are in hand."""
        lease = self._meters.take(STORE, self._account_id, self._meter, units)
        if lease is None:
            return False
        self._keep(lease, units)
        return True

    async def extend(self, used: int) -> int:
        """Reserve more than `used` in all; how many came. 0, with `refusal`, when none is left with anyone."""
        before = self.held
        try:
            if not self._take(max(1, used + 1 - before, before * (_GROWTH - 1))):
                await self._ask()
        except TovukError as error:
            self.refusal = error
        return self.held - before

    async def _ask(self) -> None:
        """Ask metering for at least one unit. Raises what Meters.acquire raises."""
        # Refused is this only when not even one unit would be there if all others gave theirs back: what this run
        # holds already is left, too.
        double = self.held + 1
        try:
            lease = await self._meters.acquire(STORE, self._account_id, self._meter, double, wait=False)
            self._keep(lease, double)
        except UsageSettling:
            lease = await self._meters.acquire(STORE, self._account_id, self._meter, wait=self._waits)
            self._keep(lease, 1)
            self._take(double)

    def charges(self, store: str, used: int) -> list[Charge]:
        """Whom `used` units are charged to."""
        charges = []
        for reserved in self._reserved:
            units = min(used, reserved.units)
            if units:
                charges.append(Charge(store, reserved.lease.epoch, reserved.lease.id, units))
                used -= units
        return charges

    def spend(self, used: int) -> None:
        """`used` units stand in the store's usage rows, or may do so."""
        for reserved in self._reserved:
            units = min(used, reserved.units)
            if units:
                self._meters.spent(reserved.lease, units)
            self._release(reserved, units)
            used -= units
        self._reserved.clear()

    def count(self, database: Database, used: int) -> None:
        """`used` units were used; they reach the store with the next flush."""
        for reserved in self._reserved:
            units = min(used, reserved.units)
            if units:
                self._meters.count(reserved.lease, database.service_id, database.id, units)
            self._release(reserved, units)
            used -= units
        self._reserved.clear()

    def give_back(self) -> None:
        """None was used."""
        self.spend(0)

    def _take(self, wanted: int) -> int:
        spare = self._meters.spare(STORE, self._account_id, self._meter)
        # Where no limit binds, one reservation is enough for any run.
        units = UNLIMITED_ENTRIES if spare > UNLIMITED_ENTRIES else min(spare, wanted)
        lease = self._meters.take(STORE, self._account_id, self._meter, units) if units else None
        if lease is None:
            return 0
        self._keep(lease, units)
        return units

    def _keep(self, lease: Lease, units: int) -> None:
        for reserved in self._reserved:
            if reserved.lease is lease:
                reserved.units += units
                return
        self._reserved.append(_Reserved(lease, units))

    def _release(self, reserved: _Reserved, used: int) -> None:
        if reserved.units > used:
            self._meters.release(reserved.lease, reserved.units - used)


def extend_from_thread(units: Units, used: int, loop: asyncio.AbstractEventLoop, within_s: float) -> int:
    """`extend`, waited for on a thread that runs a query."""
    future = asyncio.run_coroutine_threadsafe(units.extend(used), loop)
    try:
        return future.result(max(0.0, within_s))
    except TimeoutError:
        future.cancel()
        return 0
