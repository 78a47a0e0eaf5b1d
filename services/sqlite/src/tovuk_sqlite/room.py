"""Room for a database to grow: what its plan allows one file, and what the account's level leaves."""

from tovuk_kit.errors import TovukError
from tovuk_kit.leases import Meters, PaymentRequired, UsageCapReached
from tovuk_kit.meters import MeterName
from tovuk_kit.usage import UNLIMITED
from tovuk_sqlite.errors import DatabaseFull
from tovuk_sqlite.limits import DATABASE_BYTES_MAX, FIRST_ROOM_BYTES, PAGE_BYTES
from tovuk_sqlite.store.base import Database
from tovuk_sqlite.store.usage import FolderUsage
from tovuk_sqlite.units import STORE

STORAGE: MeterName = "sqlite_storage_bytes"


class Room:
    """What one write may add to its file. Nothing is held until `begin`; `end` gives it back."""

    def __init__(self, usage: FolderUsage, meters: Meters, database: Database, plan: str) -> None:
        self._usage = usage
        self._meters = meters
        self._database = database
        self._plan = plan
        #: The most bytes the file may have at all.
        self.file_bytes_max = DATABASE_BYTES_MAX.get(plan, DATABASE_BYTES_MAX["free"])
        #: Bytes it may grow by.
        self.bytes = 0
        self._wanted = FIRST_ROOM_BYTES
        self._held = 0
        self._refusal: TovukError | None = None

    async def begin(self) -> None:
        """Hold some room, all that is left where that is little. Raises what Meters.make_room raises but refusals."""
        if self._is_bound and self._free() < self._wanted:
            await self._ask()
        self._hold()

    @property
    def _is_bound(self) -> bool:
        return self._usage.allowance(self._database.account_id) < UNLIMITED // 2

    def _hold(self) -> None:
        if not self._is_bound:
            self.bytes = self.file_bytes_max
            return
        free = self._free()
        self.bytes = max(0, min(free, max(self._wanted, free // 4), self.file_bytes_max))
        self._held = self.bytes
        self._usage.held[self._database.account_id] += self._held

    def begin_at_once(self) -> bool:
        """Hold some room, if what a common write needs is there without asking anyone."""
        if self._is_bound and self._free() < self._wanted:
            return False
        self._hold()
        return True

    async def hold(self, size: int) -> None:
        """Hold exactly what a file of so many bytes needs in this one's place.

        Raises DatabaseFull, UsageCapReached, PaymentRequired, and what else Meters.make_room raises.
        """
        if size > self.file_bytes_max:
            raise DatabaseFull(plan=self._plan, limit_bytes=self.file_bytes_max)
        account_id = self._database.account_id
        growth = max(0, size - self._usage.size(self._database))
        while growth > self._free():
            await self._meters.make_room(STORE, account_id, STORAGE, self._taken() + growth)
        self.bytes = self._held = growth
        self._usage.held[account_id] += growth

    async def _ask(self) -> None:
        """Raise the allowance by what is wanted, or by as many pages as the limit leaves."""
        account_id = self._database.account_id
        taken = self._taken()
        step = self._wanted
        while step >= PAGE_BYTES:
            try:
                await self._meters.make_room(STORE, account_id, STORAGE, taken + step)
            except (UsageCapReached, PaymentRequired) as refusal:
                self._refusal = refusal
            else:
                taken += step
                if self._refusal is None:
                    return
            step //= 2

    async def grow(self) -> None:
        """The room did not suffice: hold more. Raises DatabaseFull, UsageCapReached, PaymentRequired, …"""
        if self._usage.size(self._database) + self.bytes >= self.file_bytes_max:
            raise DatabaseFull(plan=self._plan, limit_bytes=self.file_bytes_max)
        if self._refusal is not None:
            raise self._refusal
        self.end()
        self._wanted *= 8
        await self.begin()

    def end(self) -> None:
        """Give back what is held."""
        self._usage.held[self._database.account_id] -= self._held
        self._held = 0

    def _free(self) -> int:
        return self._usage.allowance(self._database.account_id) - self._taken()

    def _taken(self) -> int:
        """Bytes of the account's files, and those held for their growth."""
        account_id = self._database.account_id
        return self._usage.account_bytes(account_id) + self._usage.held[account_id]
